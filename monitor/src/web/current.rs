//! What of the web configuration is in force: the file and those that it names, read again when they change. One that
//! can't be read changes nothing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use hyper::header::{HeaderName, HeaderValue};
use rustls::ServerConfig;

use crate::{
    config::{Fault, Faults},
    lock::lock,
};

use super::{config::WebConfig, tls};

/// How often the files are looked at, at most.
const LOOK: Duration = Duration::from_secs(1);

/// How the server deals with whoever asks.
#[derive(Default)]
pub struct Settings {
    pub tls: Option<Arc<ServerConfig>>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub users: BTreeMap<String, String>,
    /// What it comes to, in a few words.
    pub summary: String,
}

impl Settings {
    /// All that is wrong with the file is told; of the files that it names, the first that is wrong.
    fn of(config: WebConfig) -> Result<Settings, Faults> {
        let summary = config.summary();
        let tls = config.tls.as_ref().map(tls::server).transpose();
        let tls = tls.map_err(|error| Faults(vec![Fault { line: None, what: error.to_string() }]))?;
        Ok(Settings { tls, headers: config.headers, users: config.users, summary })
    }
}

/// A file as it was seen; `None` where it couldn't be.
type Stamp = Option<[i64; 5]>;

struct State {
    settings: Arc<Settings>,
    /// The files that what is in force comes from, or was last tried to come from.
    seen: Vec<(PathBuf, Stamp)>,
    look: Instant,
}

pub struct Current {
    file: Option<PathBuf>,
    state: Mutex<State>,
}

impl Current {
    /// Without a file it is plain HTTP for everybody.
    pub fn open(file: Option<&Path>) -> Result<Current, Faults> {
        let (settings, seen) = match file {
            None => (Settings::default(), Vec::new()),
            Some(file) => {
                let (settings, seen) = read(file);
                (settings?, seen)
            }
        };
        let state = State { settings: Arc::new(settings), seen, look: Instant::now() + LOOK };
        Ok(Current { file: file.map(Path::to_owned), state: Mutex::new(state) })
    }

    /// What is in force now.
    pub fn settings(&self) -> Arc<Settings> {
        lock(&self.state).settings.clone()
    }

    /// Reads the files again if one of them changed since; says how that went if it did.
    pub fn look(&self, now: Instant) -> Option<Result<Arc<Settings>, Faults>> {
        let file = self.file.as_deref()?;
        let mut state = lock(&self.state);
        if now < state.look {
            return None;
        }
        state.look = now + LOOK;
        if state.seen.iter().all(|(path, seen)| stamp(path) == *seen) {
            return None;
        }
        let (settings, seen) = read(file);
        state.seen = seen;
        Some(settings.map(|settings| {
            state.settings = Arc::new(settings);
            state.settings.clone()
        }))
    }
}

/// What the file says now, and the files that this came from: stamped before they are read, so that what changes meanwhile
/// is read once more.
fn read(file: &Path) -> (Result<Settings, Faults>, Vec<(PathBuf, Stamp)>) {
    let mut seen = vec![(file.to_owned(), stamp(file))];
    let settings = WebConfig::read(file).and_then(|config| {
        seen.extend(config.files().map(|path| (path.to_owned(), stamp(path))));
        Settings::of(config)
    });
    (settings, seen)
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some([
        found.ino().cast_signed(),
        found.size().cast_signed(),
        found.mtime(),
        found.mtime_nsec(),
        found.ctime_nsec(),
    ])
}
