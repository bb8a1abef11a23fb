//! How many connections there may be at a time, in all and of one host: no single one gets them all.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::lock::lock;

pub struct Places {
    all: Arc<Semaphore>,
    each: usize,
    taken: Mutex<HashMap<Peer, usize>>,
}

/// A host: of IPv6, the /64 that one host may have to itself.
type Peer = u64;

/// A connection's place, until it is dropped.
pub struct Place {
    places: Arc<Places>,
    peer: Peer,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub fn new(all: usize, each: usize) -> Arc<Places> {
        Arc::new(Places { all: Arc::new(Semaphore::new(all)), each, taken: Mutex::default() })
    }

    /// Waits until there is a place for anybody.
    pub async fn any(&self) -> Option<OwnedSemaphorePermit> {
        self.all.clone().acquire_owned().await.ok()
    }

    /// `None` if this host has as many as it may.
    pub fn take(self: &Arc<Places>, address: IpAddr, permit: OwnedSemaphorePermit) -> Option<Place> {
        let peer = peer(address);
        let mut taken = lock(&self.taken);
        let count = taken.entry(peer).or_default();
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), peer, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

fn peer(address: IpAddr) -> Peer {
    match address.to_canonical() {
        // No /64 that is given to a host begins with 96 zeros.
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &Arc<Places>, address: &str) -> Option<Place> {
        let permit = places.all.clone().try_acquire_owned().ok()?;
        places.take(address.parse().expect("an address"), permit)
    }

    #[test]
    fn one_host_does_not_get_all_places() {
        let places = Places::new(3, 2);
        let first = take(&places, "192.0.2.1");
        let second = take(&places, "::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(take(&places, "192.0.2.1").is_none());
        let other = take(&places, "2001:db8::1");
        assert!(other.is_some());
        // Now all are taken.
        assert!(take(&places, "2001:db8::2").is_none());
        drop(first);
        assert!(take(&places, "192.0.2.1").is_some());
    }

    #[test]
    fn what_was_given_back_is_forgotten() {
        let places = Places::new(1, 1);
        drop(take(&places, "2001:db8::1"));
        assert!(places.taken.lock().expect("nobody panics").is_empty());
    }

    #[test]
    fn a_host_has_its_whole_64() {
        assert_eq!(peer("2001:db8::1".parse().expect("one")), peer("2001:db8::ffff:1".parse().expect("one")));
        assert_ne!(peer("2001:db8::1".parse().expect("one")), peer("2001:db8:0:1::1".parse().expect("one")));
        assert_ne!(peer("192.0.2.1".parse().expect("one")), peer("192.0.2.2".parse().expect("one")));
    }
}
