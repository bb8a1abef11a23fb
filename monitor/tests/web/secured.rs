//! TLS: who gets a connection, and who doesn't.

use monitor::web::Current;
use rustls::version::{TLS12, TLS13};

use crate::rig::{Ca, Directory, Server, body, get, status};

const FILE: &str = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n";

/// A server of this CA, by these further lines.
fn server(ca: &Ca, directory: &Directory, lines: &str) -> Server {
    let identity = ca.sign();
    directory.write("cert.pem", &identity.cert);
    directory.write("key.pem", &identity.key);
    directory.write("ca.pem", &ca.pem);
    Server::start(Some(&directory.write("web.yml", &format!("{FILE}{lines}"))))
}

#[test]
fn pages_are_served_over_tls_of_both_versions() {
    let (ca, directory) = (Ca::new(), Directory::new());
    let server = server(&ca, &directory, "");
    for version in [&TLS12, &TLS13] {
        let answer = server.secured(ca.client_of(None, &[version]), &get("/-/healthy", "")).expect("TLS");
        assert_eq!((status(&answer), body(&answer)), ("200", "healthy\n"), "{answer}");
    }
    // Who doesn't trust the CA hangs up.
    assert!(server.secured(Ca::new().client(None), &get("/", "")).is_err());
}

#[test]
fn plain_http_to_a_tls_port_is_told_so_and_gets_nothing() {
    let (ca, directory) = (Ca::new(), Directory::new());
    let server = server(&ca, &directory, "");
    let answer = server.get("/metrics");
    assert_eq!((status(&answer), body(&answer)), ("400", "this port speaks TLS: ask with https://\n"));
    // And nonsense gets an alert, or nothing.
    let _ = server.say("\u{1}\u{2}nonsense\r\n\r\n");
    assert!(server.secured(ca.client(None), &get("/-/healthy", "")).is_ok());
}

#[test]
fn an_older_version_than_is_allowed_gets_no_connection() {
    let (ca, directory) = (Ca::new(), Directory::new());
    let server = server(&ca, &directory, "  min_version: TLS13\n");
    assert!(server.secured(ca.client_of(None, &[&TLS12]), &get("/", "")).is_err());
    assert!(server.secured(ca.client_of(None, &[&TLS13]), &get("/", "")).is_ok());
}

#[test]
fn without_a_suite_in_common_there_is_no_connection() {
    let (ca, directory) = (Ca::new(), Directory::new());
    let suite = "  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n";
    let server = server(&ca, &directory, suite);
    let only = |name: &str| {
        let mut client = ca.client_of(None, &[&TLS12]);
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()) == name);
        client = {
            let mut roots = rustls::RootCertStore::empty();
            let pem = rustls::pki_types::pem::PemObject::from_pem_slice(ca.pem.as_bytes()).expect("a CA");
            roots.add(pem).expect("a CA");
            drop(client);
            rustls::ClientConfig::builder_with_provider(provider.into())
                .with_protocol_versions(&[&TLS12])
                .expect("versions")
                .with_root_certificates(roots)
                .with_no_client_auth()
        };
        server.secured(client, &get("/-/healthy", ""))
    };
    assert!(only("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384").is_ok());
    assert!(only("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256").is_err());
}

#[test]
fn only_who_shows_a_certificate_of_the_ca_gets_in() {
    let (ca, directory) = (Ca::new(), Directory::new());
    let lines = "  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n";
    let server = server(&ca, &directory, lines);
    let ask = |identity: Option<&_>| server.secured(ca.client(identity), &get("/-/healthy", ""));
    assert_eq!(status(&ask(Some(&ca.sign())).expect("one of ours")), "200");
    assert!(ask(None).is_err());
    assert!(ask(Some(&Ca::new().sign())).is_err());
}

#[test]
fn a_certificate_that_need_not_be_shown_must_be_right_all_the_same() {
    let (ca, directory) = (Ca::new(), Directory::new());
    let lines = "  client_ca_file: ca.pem\n  client_auth_type: VerifyClientCertIfGiven\n";
    let server = server(&ca, &directory, lines);
    let ask = |identity: Option<&_>| server.secured(ca.client(identity), &get("/-/healthy", ""));
    assert!(ask(None).is_ok() && ask(Some(&ca.sign())).is_ok());
    assert!(ask(Some(&Ca::new().sign())).is_err());
}

#[test]
fn files_that_do_not_fit_are_refused_with_what_to_do() {
    let (ca, directory) = (Ca::new(), Directory::new());
    let (one, other) = (ca.sign(), ca.sign());
    let refused = |cert: &str, key: &str| {
        directory.write("cert.pem", cert);
        directory.write("key.pem", key);
        let file = directory.write("web.yml", FILE);
        Current::open(Some(&file)).err().expect("it is wrong").to_string()
    };
    assert!(refused(&one.cert, &other.key).contains("name the two that were issued together"));
    assert!(refused(&one.key, &one.key).contains("cert.pem: no certificate in it"));
    assert!(refused(&one.cert, &one.cert).contains("key.pem: no private key"));
    let broken = one.cert.replace("-----END", "-----NO");
    assert!(refused(&broken, &one.key).contains("cert.pem: no PEM"));
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(refused(nonsense, &one.key).contains("cert.pem: "));
    directory.remove("key.pem");
    let told = Current::open(Some(&directory.write("web.yml", FILE))).err().expect("it is wrong").to_string();
    assert!(told.contains("key.pem: No such file"), "{told}");
}
