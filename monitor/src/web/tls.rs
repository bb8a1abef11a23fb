//! TLS, by rustls with the cryptography of ring: what the web configuration says of it as a server's configuration.

use std::{io, path::Path, sync::Arc};

use rustls::{
    CipherSuite, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    server::WebPkiClientVerifier,
    version::{TLS12, TLS13},
};

use crate::config::contents;

use super::config::{Tls, Versions};

/// A certificate, or what the server is made of, that can't be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Read { path: String, source: io::Error },
    #[error("{path}: no {wanted} in it, as PEM; begin it with -----BEGIN {begin}-----")]
    Lacks { path: String, wanted: &'static str, begin: &'static str },
    #[error("{path}: no PEM: {source:?}")]
    Pem { path: String, source: pem::Error },
    #[error("{path}: {source}; it is not for this use, or damaged")]
    Refused { path: String, source: rustls::Error },
    #[error("{key} is not the key of the certificate in {cert}: name the two that were issued together")]
    Pair { cert: String, key: String },
    #[error("{path}: {source}")]
    Clients { path: String, source: rustls::client::VerifierBuilderError },
}

/// The server as it is configured, with its files as they are now.
pub fn server(tls: &Tls) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(provider(tls.suites.as_deref()));
    let clients = match &tls.clients {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(clients) => {
            let roots = roots(&clients.ca)?;
            let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
            let builder = if clients.required { builder } else { builder.allow_unauthenticated() };
            builder.build().map_err(|source| Error::Clients { path: told(&clients.ca), source })?
        }
    };
    let chain = certificates(&tls.cert)?;
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(tls.versions))
        .map_err(|source| refused(&tls.cert, source))?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key(&tls.key)?)
        .map_err(|source| match source {
            rustls::Error::InconsistentKeys(_) => Error::Pair { cert: told(&tls.cert), key: told(&tls.key) },
            source => refused(&tls.cert, source),
        })?;
    server.alpn_protocols = vec![b"http/1.1".into()];
    Ok(Arc::new(server))
}

/// Those who are trusted by this file.
pub fn roots(ca: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|source| refused(ca, source))?;
    }
    Ok(roots)
}

/// The suites of TLS 1.2 that there are, by name.
pub fn suites() -> Vec<String> {
    ring::ALL_CIPHER_SUITES
        .iter()
        .map(|suite| suite.suite())
        .filter(|suite| !is_13(*suite))
        .map(name)
        .collect()
}

fn provider(suites: Option<&[String]>) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if let Some(wanted) = suites {
        provider.cipher_suites.retain(|suite| is_13(suite.suite()) || wanted.contains(&name(suite.suite())));
    }
    provider
}

fn is_13(suite: CipherSuite) -> bool {
    name(suite).starts_with("TLS13_")
}

fn name(suite: CipherSuite) -> String {
    format!("{suite:?}")
}

fn versions(versions: Versions) -> Vec<&'static SupportedProtocolVersion> {
    match versions {
        Versions::From12 => vec![&TLS13, &TLS12],
        Versions::Only12 => vec![&TLS12],
        Versions::Only13 => vec![&TLS13],
    }
}

pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let found = found.map_err(|source| Error::Pem { path: told(path), source })?;
    if found.is_empty() {
        return Err(Error::Lacks { path: told(path), wanted: "certificate", begin: "CERTIFICATE" });
    }
    Ok(found)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(read(path)?.as_bytes()).map_err(|source| match source {
        pem::Error::NoItemsFound => Error::Lacks {
            path: told(path),
            wanted: "private key without a passphrase",
            begin: "PRIVATE KEY",
        },
        source => Error::Pem { path: told(path), source },
    })
}

fn read(path: &Path) -> Result<String, Error> {
    contents(path).map_err(|source| Error::Read { path: told(path), source })
}

fn refused(path: &Path, source: rustls::Error) -> Error {
    Error::Refused { path: told(path), source }
}

fn told(path: &Path) -> String {
    path.display().to_string()
}
