//! What is said of a file that is right, and of one that isn't.

use std::path::{Path, PathBuf};

use super::*;

/// Of the password "test".
const HASH: &str = "$2y$04$uGRPPRQATdYeYNVJoNRKtOYQAAMFH595HHt/oERxDYp51aJZhncdW";

fn parse(text: &str) -> Result<WebConfig, String> {
    WebConfig::parse(text, Path::new("/etc/x")).map_err(|faults| faults.to_string())
}

#[track_caller]
fn refused(text: &str, told: &str) {
    let faults = parse(text).expect_err("it is wrong");
    assert!(faults.contains(told), "{faults}");
}

fn tls(lines: &str) -> String {
    format!("tls_server_config:\n  cert_file: c.pem\n  key_file: /k.pem\n{lines}")
}

#[test]
fn the_toolkits_own_example_is_read() {
    let text = format!(
        "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n  client_auth_type: RequireAndVerifyClientCert\n  \
         client_ca_file: ca.crt\n  min_version: TLS13\nhttp_server_config:\n  http2: true\n  headers:\n    \
         Strict-Transport-Security: max-age=3600\nbasic_auth_users:\n  alice: {HASH}\n  \"bob\": '{HASH}'\n"
    );
    let config = parse(&text).expect("it is right");
    let tls = config.tls.as_ref().expect("TLS");
    assert_eq!((&tls.cert, &tls.key), (&PathBuf::from("/etc/x/web.crt"), &PathBuf::from("/etc/x/web.key")));
    assert_eq!(tls.clients, Some(Clients { ca: "/etc/x/ca.crt".into(), required: true }));
    assert_eq!(tls.versions, Versions::Only13);
    assert_eq!(config.headers.len(), 1);
    assert_eq!(config.users.keys().collect::<Vec<_>>(), ["alice", "bob"]);
    assert_eq!(config.summary(), "TLS with client certificates, 2 users");
    assert_eq!(config.files().count(), 3);
}

#[test]
fn nothing_is_plain_http_for_everybody() {
    for text in ["", "# nothing\n", "---\n", "{}", "tls_server_config:\nbasic_auth_users:\n"] {
        assert_eq!(parse(text), Ok(WebConfig::default()), "{text}");
    }
}

#[test]
fn what_would_be_less_than_was_asked_for_is_refused() {
    refused("tls_server_config:\n  cert_file: a\n", "line 1: tls_server_config.key_file is missing");
    refused(&tls("  client_ca_file: ca\n"), "nobody would be asked for a certificate");
    refused(&tls("  client_auth_type: RequireAndVerifyClientCert\n"), "client_ca_file is missing");
    refused(&tls("  client_ca_file: ca\n  client_auth_type: NoClientCert\n"), "no effect");
    refused(
        &tls("  client_auth_type: RequireAnyClientCert\n"),
        "line 4: tls_server_config.client_auth_type: RequireAnyClientCert: that takes any certificate",
    );
    refused(&tls("  min_version: TLS10\n"), "TLS12 or TLS13");
    refused(&tls("  min_version: TLS13\n  max_version: TLS12\n"), "below");
    refused(&tls("  client_allowed_sans: [a]\n"), "is not served here; allowed: cert_file");
    refused(&tls("  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n"), "allowed: TLS_ECDHE_ECDSA_WITH");
    refused("basic_auth_user: {}\n", "line 1: basic_auth_user: no such key; allowed: tls_server_config");
    refused(
        "http_server_config:\n  headers:\n    X-Own: 1\n",
        "line 3: http_server_config.headers.X-Own: no such key",
    );
    refused("http_server_config:\n  headers:\n    X-Frame-Options: \"a\\nb\"\n", "printable");
}

#[test]
fn a_hash_that_is_none_or_too_dear_is_refused_and_not_shown() {
    for hash in ["secret", "\"\"", "[secret]", "$2b$99$uGRPPRQATdYeYNVJoNRKtO6Ej3PZZD9SlA4.bfP/TN.mmkAq1.i4a"]
    {
        let faults = parse(&format!("basic_auth_users:\n  alice: {hash}\n")).expect_err("it is wrong");
        assert!(
            faults.starts_with("line 2: basic_auth_users.alice: ") && faults.contains("htpasswd -nB"),
            "{faults}"
        );
        assert!(!faults.contains("secret") && !faults.contains("uGRPP"), "{faults}");
    }
    let dear = HASH.replace("$04$", "$16$");
    refused(&format!("basic_auth_users:\n  alice: {dear}\n"), "cost 16 takes too long");
    refused(&format!("basic_auth_users:\n  \"a:b\": {HASH}\n"), "no colon");
}

#[test]
fn all_that_is_wrong_is_told_each_with_its_line() {
    let text = "tls_server_config:\n  cert_file: [a]\n  key_file: k\n  min_version: 1\nx: 1\n";
    let faults = WebConfig::parse(text, Path::new("")).expect_err("it is wrong");
    let lines: Vec<_> = faults.0.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [Some(2), Some(4), Some(5)], "{faults}");
}

#[test]
fn what_makes_a_small_file_large_or_deep_is_refused() {
    refused("a: &x 1\nb: *x\n", "anchors");
    refused("a: !!binary x\n", "tags");
    refused("? [a]\n: b\n", "a key that is no word");
    refused("a: 1\na: 2\n", "line 2: a: a second time");
    refused("a: 1\n---\nb: 2\n", "a second document");
    refused(&"[".repeat(100), "nested deeper");
    refused("a: [1\nb", "no YAML");
    refused("basic_auth_users: {a: \"\u{1}", "no YAML");
    refused("- a\n", "a mapping of keys to values");
}

#[test]
fn no_bytes_make_it_panic() {
    let text = tls("  client_auth_type: NoClientCert\nbasic_auth_users:\n  a: b\n");
    for end in 0..text.len() {
        let _ = parse(&text[..end]);
        for byte in ["\0", "\u{feff}", ":", "-", "{", "\"", "|", "&", "%", "\t", "\r", "?"] {
            let _ = parse(&format!("{}{byte}{}", &text[..end], &text[end..]));
        }
    }
}
