//! By TLS, and with what the sender is known by.

use std::{net::TcpStream, path::PathBuf};

use crate::config::Credentials;

use super::*;

/// A receiver with a certificate of a CA of its own, and files for whoever sends.
struct Secure {
    folder: PathBuf,
    server: Arc<rustls::ServerConfig>,
}

impl Secure {
    fn new(name: &str) -> Secure {
        use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
        let folder = std::env::temp_dir().join(format!("iommu-watch-push-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a directory");
        let key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::new(Vec::new()).expect("a CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(folder.join("ca.pem"), ca.self_signed(&key).expect("a CA").pem()).expect("a disk");
        let issuer = Issuer::new(ca, key);
        let key = KeyPair::generate().expect("a key");
        let own = CertificateParams::new(vec!["localhost".into()]).expect("a name");
        let certificate = own.signed_by(&key, &issuer).expect("a certificate");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .expect("a pair");
        Secure { folder, server: Arc::new(server) }
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, content).expect("a disk");
        path
    }

    /// One request, by TLS.
    fn serve(&self, listener: TcpListener) -> mpsc::Receiver<Option<Got>> {
        let (send, got) = mpsc::channel();
        let server = self.server.clone();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let request = talk(stream, server.clone());
                if send.send(request).is_err() {
                    return;
                }
            }
        });
        got
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// `None`: there was no request, since the other side trusts nobody here.
fn talk(mut stream: TcpStream, server: Arc<rustls::ServerConfig>) -> Option<Got> {
    let mut session = rustls::ServerConnection::new(server).expect("a session");
    while session.is_handshaking() {
        session.complete_io(&mut stream).ok()?;
    }
    let mut secure = rustls::Stream::new(&mut session, &mut stream);
    let request = receive(&mut secure);
    let _ = secure.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    Some(request)
}

#[test]
fn by_tls_it_goes_to_whom_the_ca_trusts_with_the_password_of_the_moment() {
    let (secure, (listener, address)) = (Secure::new("trusted"), listener());
    let password = secure.file("password", "first\n");
    let got = secure.serve(listener);
    let config = config::Push {
        url: format!("https://localhost:{}", address.port()).parse().expect("a URL"),
        ca_file: Some(secure.folder.join("ca.pem")),
        credentials: Some(Credentials::Basic { user: "watch".into(), password_file: password.clone() }),
        ..config(address, Kind::Webhook)
    };
    let push = Push::start(config, "").expect("a thread");
    push.note(&raised(1), &context());
    let first = got.recv_timeout(SOON).expect("a connection").expect("a request");
    // base64 of watch:first, in lower case
    assert!(first.head.contains("\r\nauthorization: basic d2f0y2g6zmlyc3q=\r\n"), "{}", first.head);
    secure.file("password", "other");
    push.note(&raised(2), &context());
    let second = got.recv_timeout(SOON).expect("a connection").expect("a request");
    assert!(second.head.contains("\r\nauthorization: basic d2f0y2g6b3rozxi=\r\n"), "{}", second.head);
}

#[test]
fn whoever_is_not_trusted_gets_nothing() {
    let (secure, other, (listener, address)) = (Secure::new("real"), Secure::new("other"), listener());
    let got = secure.serve(listener);
    let config = config::Push {
        url: format!("https://localhost:{}", address.port()).parse().expect("a URL"),
        ca_file: Some(other.folder.join("ca.pem")),
        credentials: Some(Credentials::Bearer(other.file("token", "secret"))),
        ..config(address, Kind::Webhook)
    };
    let push = Push::start(config, "").expect("a thread");
    push.note(&raised(1), &context());
    assert!(got.recv_timeout(SOON).expect("a connection").is_none());
    until(&push, |counts| counts.failed > 0 && counts.accepted == 0 && counts.waiting == 1);
}
