//! A server, files of a web configuration that are gone when the test ends, a CA, and clients with TLS and without.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use monitor::{
    config::Faults,
    web::{self, Current, Page, Source},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::time::{ClockId, clock_gettime};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Of the password "test" and of cost 4, made by another implementation: crypt(3).
pub const HASH: &str = "$2y$04$uGRPPRQATdYeYNVJoNRKtOYQAAMFH595HHt/oERxDYp51aJZhncdW";
/// No answer takes longer, or the test would hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// A source that counts how often it is asked.
#[derive(Default)]
pub struct Counting {
    pub renders: AtomicUsize,
    /// How long it takes to make a page, in ms.
    pub cost: AtomicUsize,
    pub broken: AtomicBool,
    pub not_ready: AtomicBool,
    pub hangs: AtomicBool,
    pub outcomes: Mutex<Vec<Result<String, String>>>,
}

/// Takes so much of a processor.
fn work(time: Duration) {
    let taken = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a time");
    let start = taken();
    while taken() - start < time {}
}

impl Source for Counting {
    fn healthy(&self) -> Result<(), String> {
        if self.hangs.load(Ordering::Relaxed) {
            Err("it has not come around for 31 s".into())
        } else {
            Ok(())
        }
    }

    fn ready(&self) -> Result<(), String> {
        if self.not_ready.load(Ordering::Relaxed) { Err("still attaching".into()) } else { Ok(()) }
    }

    fn render(&self, page: Page) -> Result<String, String> {
        let number = self.renders.fetch_add(1, Ordering::Relaxed);
        work(Duration::from_millis(self.cost.load(Ordering::Relaxed) as u64));
        if self.broken.load(Ordering::Relaxed) {
            return Err("the map can't be read".into());
        }
        Ok(format!("{page:?} {number}\n"))
    }

    fn style(&self) -> &'static str {
        "p { color: red }"
    }

    fn configured(&self, outcome: Result<&str, &Faults>) {
        let outcome = outcome.map(str::to_owned).map_err(Faults::to_string);
        self.outcomes.lock().expect("nobody panics").push(outcome);
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub source: Arc<Counting>,
}

impl Server {
    pub fn plain() -> Server {
        Server::start(None)
    }

    pub fn start(file: Option<&Path>) -> Server {
        let current = Current::open(file).expect("a web configuration that is right");
        let listener = web::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let source = Arc::new(Counting::default());
        web::start([listener], source.clone(), current).expect("it starts");
        Server { address, source }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
    }

    /// What is answered to these bytes, until the connection is closed.
    pub fn say(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    pub fn get(&self, path: &str) -> String {
        self.say(&get(path, ""))
    }

    /// The same over TLS; `Err` where there was no handshake.
    pub fn secured(&self, client: ClientConfig, request: &str) -> io::Result<String> {
        let name = "localhost".try_into().expect("a name");
        let connection = ClientConnection::new(client.into(), name).expect("a client");
        let mut stream = StreamOwned::new(connection, self.connect());
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        match stream.read_to_string(&mut answer) {
            // Not all of those who close a connection say so before.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(answer),
        }
    }
}

/// A request with these further headers, each with its end.
pub fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")
}

pub fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// A directory that is gone when the test ends.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("iommu-watch-web-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Directory(path)
    }

    /// In one piece, as whoever renews a certificate should.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, new) = (self.0.join(name), self.0.join(format!("{name}.new")));
        fs::write(&new, text).expect("written");
        fs::rename(&new, &path).expect("renamed");
        path
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).expect("removed");
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Who signs certificates.
pub struct Ca {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub struct Identity {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new() -> Ca {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("signed").pem();
        Ca { pem, issuer: Issuer::new(params, key) }
    }

    pub fn sign(&self) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".into()]).expect("parameters");
        let cert = params.signed_by(&key, &self.issuer).expect("signed").pem();
        Identity { cert, key: key.serialize_pem() }
    }

    /// A client that trusts this CA.
    pub fn client(&self, identity: Option<&Identity>) -> ClientConfig {
        self.client_of(identity, rustls::DEFAULT_VERSIONS)
    }

    pub fn client_of(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(&self.pem)).expect("a CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some(Identity { cert, key }) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
                builder.with_client_auth_cert(vec![certificate(cert)], key).expect("an identity")
            }
        }
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}
