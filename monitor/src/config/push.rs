//! `[push]`: to whom violations are sent, and by what it is known who sends them.

use std::{path::PathBuf, time::Duration};

use hyper::Uri;

use crate::check::Severity;

use super::walk::{Place, Walk};

/// What a receiver understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Alertmanager's API, version 2.
    Alertmanager,
    /// Each line as it is on stdout, by itself.
    Webhook,
}

/// How the sender is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A user, and the file with the password.
    Basic { user: String, password_file: PathBuf },
    /// The file with the token.
    Bearer(PathBuf),
}

/// Where violations are pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    pub kind: Kind,
    pub url: Uri,
    /// What is less than that is not pushed.
    pub severity: Severity,
    /// How often it is told again what stands.
    pub resend: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whose certificates the receiver may have; `None`: those that the system trusts.
    pub ca_file: Option<PathBuf>,
    pub credentials: Option<Credentials>,
    /// What the path of a check's page is put behind.
    pub runbooks: String,
}

const KEYS: [&str; 10] = [
    "kind",
    "url",
    "severity",
    "resend_seconds",
    "timeout_seconds",
    "ca_file",
    "user",
    "password_file",
    "bearer_file",
    "runbooks",
];
const FILE: &str = "the absolute path of a file";

pub(super) fn parse(section: &Place<'_, '_>, walk: &mut Walk<'_>) -> Option<Push> {
    let (mut kind, mut url, mut severity) = (Some(Kind::Alertmanager), None, Some(Severity::Warning));
    let (mut resend, mut timeout) = (Some(60), Some(10));
    let (mut ca_file, mut user, mut password_file, mut bearer_file) = (None, None, None, None);
    let mut runbooks = None;
    let table = walk.table(section)?;
    for (key, value) in table {
        let place = Place::new(&section.path, key.get_ref(), value);
        match key.get_ref().as_ref() {
            "kind" => {
                kind = walk.word(&place, "\"alertmanager\" or \"webhook\"", |text| match text {
                    "alertmanager" => Some(Kind::Alertmanager),
                    "webhook" => Some(Kind::Webhook),
                    _ => None,
                });
            }
            "url" => {
                url = walk.word(
                    &place,
                    "a URL without a user, as in \"https://alerts.example.com:9093\"",
                    address,
                )
            }
            "severity" => {
                severity = walk.word(&place, "\"critical\", \"warning\" or \"info\"", Severity::named);
            }
            "resend_seconds" => resend = walk.number(&place, (1, 24 * 60 * 60)),
            "timeout_seconds" => timeout = walk.number(&place, (1, 300)),
            "ca_file" => ca_file = walk.path(&place, FILE),
            "user" => {
                let fits = |text: &str| {
                    let fits = !text.is_empty() && !text.contains(|c: char| c == ':' || c.is_control());
                    fits.then(|| text.to_owned())
                };
                user = walk.word(&place, "a user, without a colon", fits);
            }
            "password_file" => password_file = walk.path(&place, FILE),
            "bearer_file" => bearer_file = walk.path(&place, FILE),
            "runbooks" => {
                let is_url = |text: &str| address(text).map(|_| text.to_owned());
                runbooks = walk.word(&place, "a URL, as in \"https://runbooks.example.com/\"", is_url);
            }
            _ => walk.unknown(&section.path, key, &KEYS),
        }
    }
    // A key that is there and wrong was told already.
    let has = |name: &str| table.iter().any(|(key, _)| key.get_ref() == name);
    let mut wrong = |what: &str| walk.fault(section.value.span().start, format!("{}{what}", section.path));
    if !has("url") {
        wrong(".url is missing: whom violations are pushed to, as in \"https://alerts.example.com:9093\"");
    }
    let basic = [has("user"), has("password_file")];
    if basic[0] != basic[1] {
        wrong(" needs both of user and password_file, or none");
    }
    if basic.contains(&true) && has("bearer_file") {
        wrong(" takes user and password_file, or bearer_file, and not both");
    }
    if let Some(url) = &url {
        let plain = url.scheme_str() == Some("http");
        if plain && has("ca_file") {
            wrong(".ca_file is for https alone");
        }
        if plain && (basic.contains(&true) || has("bearer_file")) && !is_loopback(url) {
            wrong(" has a password or a token, which goes by https, or to the host itself");
        }
    }
    let credentials = match (user, password_file, bearer_file) {
        (Some(user), Some(password_file), _) => Some(Credentials::Basic { user, password_file }),
        (_, _, bearer_file) => bearer_file.map(Credentials::Bearer),
    };
    Some(Push {
        kind: kind?,
        url: url?,
        severity: severity?,
        resend: Duration::from_secs(resend?),
        timeout: Duration::from_secs(timeout?),
        ca_file,
        credentials,
        runbooks: runbooks.unwrap_or_default(),
    })
}

fn address(text: &str) -> Option<Uri> {
    let url: Uri = text.parse().ok()?;
    let known = matches!(url.scheme_str(), Some("http" | "https"));
    let host = url.host().is_some_and(|host| !host.is_empty());
    // A user would be in every log.
    let user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    (known && host && !user).then_some(url)
}

fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Faults};

    use super::*;

    fn push(keys: &str) -> Result<Push, Vec<String>> {
        let config = Config::parse(&format!("[push]\n{keys}"));
        let config =
            config.map_err(|Faults(faults)| faults.iter().map(ToString::to_string).collect::<Vec<_>>());
        config.map(|config| config.push.expect("a receiver"))
    }

    #[test]
    fn an_address_is_enough() {
        let push = push("url = \"http://127.0.0.1:9093/am\"\n").expect("well-formed");
        assert_eq!(
            (push.kind, push.severity, push.credentials),
            (Kind::Alertmanager, Severity::Warning, None)
        );
        assert_eq!(
            (push.resend.as_secs(), push.timeout.as_secs(), push.url.port_u16()),
            (60, 10, Some(9093))
        );
    }

    #[test]
    fn a_password_or_a_token_is_in_a_file_and_leaves_the_host_by_https_alone() {
        let basic = "user = \"watch\"\npassword_file = \"/etc/p\"\n";
        let (bearer, far) = ("bearer_file = \"/etc/t\"\n", "url = \"http://alerts.example.com\"\n");
        let secret = ["line 1: push has a password or a token, which goes by https, or to the host itself"];
        for credentials in [basic, bearer] {
            assert_eq!(push(&format!("{far}{credentials}")).expect_err("refused"), secret);
            for near in
                ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost", "https://alerts.example.com"]
            {
                let push = push(&format!("url = \"{near}\"\n{credentials}")).expect("well-formed");
                assert!(push.credentials.is_some());
            }
        }
        let https = "url = \"https://alerts.example.com\"\n";
        let told = push(&format!("{https}{basic}{bearer}")).expect_err("refused");
        assert_eq!(told, ["line 1: push takes user and password_file, or bearer_file, and not both"]);
        let told = push(&format!("{https}user = \"watch\"\n")).expect_err("refused");
        assert_eq!(told, ["line 1: push needs both of user and password_file, or none"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_is_allowed() {
        let told = push(
            "kind = \"mail\"\nurl = \"alerts:9093\"\nseverity = 1\nresend_seconds = 0\ntimeout_seconds = 301\n\
             ca_file = \"ca.pem\"\nuser = \"a:b\"\ncolor = 1\n",
        );
        let expected = [
            "line 1: push needs both of user and password_file, or none",
            "line 2: push.kind = \"mail\": \"alertmanager\" or \"webhook\"",
            "line 3: push.url = \"alerts:9093\": a URL without a user, as in \"https://alerts.example.com:9093\"",
            "line 4: push.severity = 1: \"critical\", \"warning\" or \"info\"",
            "line 5: push.resend_seconds = 0: a whole number from 1 to 86400",
            "line 6: push.timeout_seconds = 301: a whole number from 1 to 300",
            "line 7: push.ca_file = \"ca.pem\": the absolute path of a file",
            "line 8: push.user = \"a:b\": a user, without a colon",
            "line 9: push.color: no such key; allowed: kind, url, severity, resend_seconds, timeout_seconds, ca_file, \
             user, password_file, bearer_file, runbooks",
        ];
        assert_eq!(told.expect_err("refused"), expected);
        let missing = [
            "line 1: push.url is missing: whom violations are pushed to, as in \"https://alerts.example.com:9093\"",
        ];
        assert_eq!(push("").expect_err("refused"), missing);
        for url in ["ftp://x", "http://", "https://u:p@x/", "/api", ""] {
            assert!(push(&format!("url = \"{url}\"\n")).is_err(), "{url}");
        }
        let told = push("url = \"http://x\"\nca_file = \"/ca\"\n").expect_err("refused");
        assert_eq!(told, ["line 1: push.ca_file is for https alone"]);
    }
}
