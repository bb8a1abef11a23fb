//! What the keys of the file are, and what they may be. No value that is a secret is ever shown.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use bcrypt::HashParts;
use hyper::header::{HeaderName, HeaderValue};

use crate::config::Fault;

use super::{
    Clients, Tls, Versions, WebConfig,
    yaml::{self, Entry, Node, Value},
};

/// The dearest hash that is allowed: each further step doubles the time of a core that one password takes, which is some
/// 2 s at 15. And how many users.
const COST: u32 = 15;
const USERS: usize = 1000;
/// How much of a value is shown.
const SHOWN: usize = 60;

/// Headers that may be set; those of the exporter-toolkit.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "X-XSS-Protection",
    "Strict-Transport-Security",
];

/// What else the exporter-toolkit knows in `tls_server_config`. To leave out what was to be a restriction would be worse
/// than not to start.
const NOT_SERVED: [&str; 6] =
    ["cert", "key", "client_ca", "client_allowed_sans", "curve_preferences", "rate_limit"];

pub fn parse(text: &str, directory: &Path) -> (WebConfig, Vec<Fault>) {
    let mut walk = Walk { directory, faults: Vec::new() };
    let mut config = WebConfig::default();
    match yaml::parse(text) {
        Ok(None) => {}
        Ok(Some(root)) => walk.root(&root, &mut config),
        Err(fault) => walk.faults.push(fault),
    }
    (config, walk.faults)
}

struct Walk<'d> {
    directory: &'d Path,
    faults: Vec<Fault>,
}

impl Walk<'_> {
    fn root(&mut self, root: &Node, config: &mut WebConfig) {
        for entry in self.map("the file", root) {
            match entry.key.as_str() {
                "tls_server_config" => config.tls = self.tls(entry),
                "http_server_config" => self.http(entry, config),
                "basic_auth_users" => self.users(entry, config),
                _ => {
                    self.unknown("", entry, &["tls_server_config", "http_server_config", "basic_auth_users"])
                }
            }
        }
    }

    fn tls(&mut self, section: &Entry) -> Option<Tls> {
        let (mut cert, mut key, mut ca, mut clients) = (None, None, None, None);
        let (mut least, mut most, mut suites) = (None, None, None);
        let entries = self.map(&section.key, &section.value);
        if entries.is_empty() {
            return None;
        }
        for entry in entries {
            match entry.key.as_str() {
                "cert_file" => cert = self.path(section, entry),
                "key_file" => key = self.path(section, entry),
                "client_ca_file" => ca = self.path(section, entry),
                "client_auth_type" => clients = self.client_auth(section, entry),
                "min_version" => least = self.version(section, entry),
                "max_version" => most = self.version(section, entry),
                "cipher_suites" => suites = self.suites(section, entry),
                // The server's order counts, always.
                "prefer_server_cipher_suites" => _ = self.flag(section, entry),
                _ => self.unknown(
                    &section.key,
                    entry,
                    &[
                        "cert_file",
                        "key_file",
                        "client_ca_file",
                        "client_auth_type",
                        "min_version",
                        "max_version",
                        "cipher_suites",
                        "prefer_server_cipher_suites",
                    ],
                ),
            }
        }
        let has = |name: &str| entries.iter().any(|entry| entry.key == name);
        for (name, what) in [
            ("cert_file", "the certificate, as PEM, with those that lead to its CA"),
            ("key_file", "its private key, as PEM"),
        ] {
            if !has(name) {
                self.fault(section.line, format!("{}.{name} is missing: {what}", section.key));
            }
        }
        let clients = match (clients, ca) {
            (None, Some(_)) if !has("client_auth_type") => {
                let what = "client_ca_file without client_auth_type: nobody would be asked for a certificate; \
                            say RequireAndVerifyClientCert";
                self.fault(section.line, format!("{}: {what}", section.key));
                None
            }
            (Some(Some(_)), None) if !has("client_ca_file") => {
                let what = "client_ca_file is missing: whose certificates clients may show, as PEM";
                self.fault(section.line, format!("{}.{what}", section.key));
                None
            }
            (Some(Some(required)), Some(ca)) => Some(Clients { ca, required }),
            (Some(None), Some(_)) => {
                let what =
                    "client_ca_file has no effect with client_auth_type NoClientCert: leave out one of them";
                self.fault(section.line, format!("{}: {what}", section.key));
                None
            }
            _ => None,
        };
        let versions = match (least.unwrap_or(12), most.unwrap_or(13)) {
            (12, 13) => Versions::From12,
            (12, 12) => Versions::Only12,
            (13, 13) => Versions::Only13,
            _ => {
                self.fault(section.line, format!("{}: max_version is below min_version", section.key));
                Versions::From12
            }
        };
        Some(Tls { cert: cert?, key: key?, clients, versions, suites })
    }

    /// Whether a certificate is required; `None` within where none is asked for.
    fn client_auth(&mut self, section: &Entry, entry: &Entry) -> Option<Option<bool>> {
        match self.text(section, entry)? {
            "NoClientCert" => Some(None),
            "VerifyClientCertIfGiven" => Some(Some(false)),
            "RequireAndVerifyClientCert" => Some(Some(true)),
            "RequestClientCert" | "RequireAnyClientCert" => {
                let why = "that takes any certificate, and verifies none; say RequireAndVerifyClientCert or \
                           VerifyClientCertIfGiven, or leave it out";
                self.wrong(section, entry, why);
                None
            }
            _ => {
                self.wrong(
                    section,
                    entry,
                    "NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert",
                );
                None
            }
        }
    }

    fn version(&mut self, section: &Entry, entry: &Entry) -> Option<u8> {
        match self.text(section, entry)? {
            "TLS12" => Some(12),
            "TLS13" => Some(13),
            "TLS10" | "TLS11" => {
                self.wrong(
                    section,
                    entry,
                    "TLS12 or TLS13: what is older is broken (RFC 8996), and not spoken",
                );
                None
            }
            _ => {
                self.wrong(section, entry, "TLS12 or TLS13");
                None
            }
        }
    }

    fn suites(&mut self, section: &Entry, entry: &Entry) -> Option<Vec<String>> {
        let Value::List(list) = &entry.value.value else {
            self.wrong(section, entry, "a list of names");
            return None;
        };
        let known = super::super::tls::suites();
        let mut chosen = Vec::new();
        for node in list {
            match &node.value {
                Value::Scalar(name, _) if known.contains(name) => chosen.push(name.clone()),
                Value::Scalar(name, _) => {
                    let names = known.join(", ");
                    let shown = shown(name);
                    self.fault(
                        node.line,
                        format!("{}.cipher_suites: {shown}: allowed: {names}", section.key),
                    );
                }
                Value::List(_) | Value::Map(_) => {
                    self.fault(node.line, format!("{}.cipher_suites: a list of names", section.key))
                }
            }
        }
        Some(chosen).filter(|chosen| !chosen.is_empty())
    }

    fn http(&mut self, section: &Entry, config: &mut WebConfig) {
        for entry in self.map(&section.key, &section.value) {
            match entry.key.as_str() {
                // HTTP/1.1 is spoken, with it and without.
                "http2" => _ = self.flag(section, entry),
                "headers" => self.headers(entry, config),
                _ => self.unknown(&section.key, entry, &["http2", "headers"]),
            }
        }
    }

    fn headers(&mut self, section: &Entry, config: &mut WebConfig) {
        for entry in self.map("http_server_config.headers", &section.value) {
            let Some(name) = HEADERS.into_iter().find(|name| name.eq_ignore_ascii_case(&entry.key)) else {
                self.unknown("http_server_config.headers", entry, &HEADERS);
                continue;
            };
            let Some(text) = self.text(section, entry) else { continue };
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(text)) {
                (Ok(name), Ok(value)) => config.headers.push((name, value)),
                _ => self.wrong(section, entry, "a line of printable ASCII"),
            }
        }
    }

    fn users(&mut self, section: &Entry, config: &mut WebConfig) {
        let entries = self.map(&section.key, &section.value);
        if entries.len() > USERS {
            return self.fault(
                section.line,
                format!("{}: {} users; {USERS} are allowed", section.key, entries.len()),
            );
        }
        for entry in entries {
            let told = format!("{}.{}", section.key, shown(&entry.key));
            if entry.key.is_empty() || entry.key.contains(|c: char| c == ':' || c.is_control()) {
                self.fault(
                    entry.line,
                    format!("{told}: a user's name has no colon in it, and is not empty (RFC 7617)"),
                );
                continue;
            }
            let Value::Scalar(hash, _) = &entry.value.value else {
                self.fault(
                    entry.line,
                    format!("{told}: a bcrypt hash, as `htpasswd -nB USER` prints it behind the colon"),
                );
                continue;
            };
            match HashParts::from_str(hash).map(|parts| parts.get_cost()) {
                Err(_) | Ok(0..4 | 32..) => self.fault(
                    entry.value.line,
                    format!("{told}: no bcrypt hash; `htpasswd -nB USER` prints one behind the colon"),
                ),
                Ok(cost) if cost > COST => self.fault(
                    entry.value.line,
                    format!("{told}: a hash of cost {cost} takes too long; make one of {COST} or less: `htpasswd -nBC 10 USER`"),
                ),
                Ok(_) => _ = config.users.insert(entry.key.clone(), hash.clone()),
            }
        }
    }

    fn map<'n>(&mut self, path: &str, node: &'n Node) -> &'n [Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            _ if node.is_null() => &[],
            _ => {
                self.fault(node.line, format!("{path}: a mapping of keys to values"));
                &[]
            }
        }
    }

    fn text<'n>(&mut self, section: &Entry, entry: &'n Entry) -> Option<&'n str> {
        match &entry.value.value {
            Value::Scalar(text, _) if !entry.value.is_null() && !text.is_empty() => Some(text),
            _ => {
                self.fault(entry.line, format!("{}.{}: a word is wanted", section.key, entry.key));
                None
            }
        }
    }

    fn path(&mut self, section: &Entry, entry: &Entry) -> Option<PathBuf> {
        self.text(section, entry).map(|text| self.directory.join(text))
    }

    fn flag(&mut self, section: &Entry, entry: &Entry) -> Option<bool> {
        match &entry.value.value {
            Value::Scalar(text, false) if text == "true" => Some(true),
            Value::Scalar(text, false) if text == "false" => Some(false),
            _ => {
                self.wrong(section, entry, "true or false");
                None
            }
        }
    }

    fn wrong(&mut self, section: &Entry, entry: &Entry, allowed: &str) {
        let value = match &entry.value.value {
            Value::Scalar(text, _) => format!(": {}", shown(text)),
            Value::List(_) | Value::Map(_) => String::new(),
        };
        self.fault(entry.line, format!("{}.{}{value}: {allowed}", section.key, entry.key));
    }

    fn unknown(&mut self, path: &str, entry: &Entry, allowed: &[&str]) {
        let dot = if path.is_empty() { "" } else { "." };
        let key = shown(&entry.key);
        let what =
            if NOT_SERVED.contains(&entry.key.as_str()) { "is not served here" } else { "no such key" };
        self.fault(entry.line, format!("{path}{dot}{key}: {what}; allowed: {}", allowed.join(", ")));
    }

    fn fault(&mut self, line: usize, what: String) {
        self.faults.push(Fault { line: Some(line), what });
    }
}

/// A value as a part of a line.
fn shown(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
