//! The file of `--web.config.file`, in the format of Prometheus' exporter-toolkit: TLS, client certificates, users with
//! bcrypt hashes, headers. <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>

mod parse;
mod yaml;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use hyper::header::{HeaderName, HeaderValue};

use crate::config::{Fault, Faults, contents};

/// What the file says. Without one: plain HTTP, and nobody has to say who he is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebConfig {
    pub tls: Option<Tls>,
    /// Headers that every answer gets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The bcrypt hash of each user's password; whoever asks has to be one of them, if there are any.
    pub users: BTreeMap<String, String>,
}

/// How this server proves itself, and whether its clients have to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    /// Whose certificates clients may show, if they are looked at.
    pub clients: Option<Clients>,
    pub versions: Versions,
    /// The suites of TLS 1.2 by their names, if not all; those of 1.3 can't be chosen, as in Go.
    pub suites: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    pub ca: PathBuf,
    /// Without a certificate nobody gets in; else only a wrong one is refused.
    pub required: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    #[default]
    From12,
    Only12,
    Only13,
}

impl WebConfig {
    pub fn read(path: &Path) -> Result<WebConfig, Faults> {
        let text =
            contents(path).map_err(|error| Faults(vec![Fault { line: None, what: error.to_string() }]))?;
        WebConfig::parse(&text, path.parent().unwrap_or(Path::new("")))
    }

    /// Paths are taken from this directory on.
    pub fn parse(text: &str, directory: &Path) -> Result<WebConfig, Faults> {
        let (config, faults) = parse::parse(text, directory);
        Faults::none_of(faults).map(|()| config)
    }

    /// Every file that it names.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let tls = self.tls.iter().flat_map(|tls| {
            [Some(&tls.cert), Some(&tls.key), tls.clients.as_ref().map(|clients| &clients.ca)]
        });
        tls.flatten().map(PathBuf::as_path)
    }

    /// What it says, in a few words.
    pub fn summary(&self) -> String {
        let tls = match &self.tls {
            None => "plain HTTP",
            Some(Tls { clients: None, .. }) => "TLS",
            Some(Tls { clients: Some(Clients { required: false, .. }), .. }) => {
                "TLS, client certificates verified if given"
            }
            Some(Tls { clients: Some(Clients { required: true, .. }), .. }) => "TLS with client certificates",
        };
        format!("{tls}, {} users", self.users.len())
    }
}

#[cfg(test)]
mod tests;
