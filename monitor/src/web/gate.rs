//! Who gets in: basic authentication (RFC 7617) against bcrypt hashes.
//!
//! A password takes a core for as long as the hash's cost says, which is what bcrypt is for. So they are looked at one at a
//! time by a thread of a low priority, few wait for it, and who got in once is known again by a keyed digest.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::header::HeaderValue;
use ring::{digest::SHA256_OUTPUT_LEN, hmac, rand::SystemRandom};
use tokio::sync::Semaphore;

use crate::lock::lock;

/// Passwords that may wait to be looked at; whoever comes then is sent away.
const WAITING: usize = 8;
/// Digests that are kept; when there are more, all are forgotten.
const KNOWN: usize = 256;
/// Their priority (setpriority(2)): a tenth of the time of a core that others want, too.
const NICE: i32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Admitted,
    Refused,
    /// Too many passwords wait already.
    Busy,
}

pub struct Gate {
    /// Of this process alone: what is kept tells nothing of a password to whoever reads it elsewhere.
    key: hmac::Key,
    known: Mutex<HashSet<[u8; SHA256_OUTPUT_LEN]>>,
    waiting: Arc<Semaphore>,
    one: Arc<Semaphore>,
}

/// The system has no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("no random numbers can be had from the kernel (getrandom(2))")]
pub struct NoRandomness;

impl Gate {
    pub fn new() -> Result<Gate, NoRandomness> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| NoRandomness)?;
        Ok(Gate {
            key,
            known: Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING)),
            one: Arc::new(Semaphore::new(1)),
        })
    }

    /// Whether someone with this `Authorization` is one of these users. It takes as long for a user that there isn't as for
    /// one with the wrong password, so that names can't be guessed by the time.
    pub async fn admit(
        &self,
        users: &BTreeMap<String, String>,
        authorization: Option<&HeaderValue>,
    ) -> Verdict {
        if users.is_empty() {
            return Verdict::Admitted;
        }
        let Some((user, password)) = authorization.and_then(credentials) else { return Verdict::Refused };
        let user_hash = std::str::from_utf8(&user).ok().and_then(|user| users.get(user));
        // Somebody's hash, if he has none: there is one, or the gate stood open.
        let Some(hash) = user_hash.or(users.values().next()) else { return Verdict::Refused };
        let digest = self.digest(&user, hash, &password);
        if user_hash.is_some() && lock(&self.known).contains(&digest) {
            return Verdict::Admitted;
        }
        let Ok(place) = self.waiting.clone().try_acquire_owned() else { return Verdict::Busy };
        let Ok(turn) = self.one.clone().acquire_owned().await else { return Verdict::Busy };
        let hash = hash.clone();
        // Who leaves meanwhile leaves the work behind: it is given back when that is done, and not before.
        let held = (place, turn);
        let looked = tokio::task::spawn_blocking(move || {
            let right = right(&password, &hash);
            drop(held);
            right
        });
        let looked = looked.await;
        if !looked.unwrap_or(false) || user_hash.is_none() {
            return Verdict::Refused;
        }
        let mut known = lock(&self.known);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(digest);
        Verdict::Admitted
    }

    /// Of the hash as well: with another one, the password has to be looked at again.
    fn digest(&self, user: &[u8], hash: &str, password: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [user, hash.as_bytes(), password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut digest = [0; SHA256_OUTPUT_LEN];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

/// On a thread of its own: the watching goes before.
fn right(password: &[u8], hash: &str) -> bool {
    // On Linux it is the thread's. Where it is refused, it is looked at with the priority that there is.
    let _ = rustix::process::setpriority_process(None, NICE);
    bcrypt::verify(password, hash).unwrap_or(false)
}

/// User and password, as they were sent.
fn credentials(header: &HeaderValue) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, text) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let both = BASE64_STANDARD.decode(text.trim()).ok()?;
    let colon = both.iter().position(|&byte| byte == b':')?;
    Some((both[..colon].to_vec(), both[colon + 1..].to_vec()))
}
