//! One request to whom it may concern: HTTP/1.1, a connection for each, by TLS where the URL says so. Certificates,
//! passwords and tokens are read for each request, so that a new one counts at once.

use std::{io, path::Path, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    client::conn::http1,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::{
    config::{self, Credentials, Kind, contents},
    web::tls,
};

/// Where distributions keep the certificates that the system trusts.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];
/// How much is read of an answer.
const ANSWER: usize = 64 << 10;
/// How much of an answer is shown.
const SHOWN: usize = 200;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{url}: {source}")]
    Connect { url: Uri, source: io::Error },
    #[error("{url}: {source}")]
    Http { url: Uri, source: hyper::Error },
    #[error("{url}: no answer within {}", .limit.as_secs())]
    TimedOut { url: Uri, limit: Duration },
    #[error("{path}: {source}")]
    Secret { path: String, source: io::Error },
    #[error("push.bearer_file: what it holds is no token, which is a word of one line")]
    Token,
    #[error(transparent)]
    Trust(#[from] tls::Error),
    #[error("push.ca_file: say whom to trust, since the system doesn't: there is none of {}", SYSTEM.join(", "))]
    NoTrust,
    #[error("{url}: {status}")]
    Later { url: Uri, status: StatusCode },
    /// It is not to be tried again as it is.
    #[error("{url}: {status}: {answer}")]
    Refused { url: Uri, status: StatusCode, answer: String },
}

pub struct Client {
    config: config::Push,
    url: Uri,
}

impl Client {
    pub fn new(config: config::Push) -> Client {
        let url = match config.kind {
            Kind::Webhook => config.url.clone(),
            Kind::Alertmanager => below(&config.url, "/api/v2/alerts"),
        };
        Client { config, url }
    }

    pub fn target(&self) -> &Uri {
        &self.url
    }

    pub async fn post(&self, body: String) -> Result<(), Failure> {
        let limit = self.config.timeout;
        let timed_out = |_| Failure::TimedOut { url: self.url.clone(), limit };
        let answer = tokio::time::timeout(limit, self.exchange(body)).await.map_err(timed_out)??;
        let (status, url) = (answer.0, self.url.clone());
        match status {
            _ if status.is_success() => Ok(()),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(Failure::Later { url, status })
            }
            // What has moved, and who isn't let in, is for a person to set right, and may be by the next time.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                Err(Failure::Later { url, status })
            }
            _ if status.is_client_error() => Err(Failure::Refused { url, status, answer: answer.1 }),
            _ => Err(Failure::Later { url, status }),
        }
    }

    async fn exchange(&self, body: String) -> Result<(StatusCode, String), Failure> {
        let request = self.request(body)?;
        let failed = |source| Failure::Connect { url: self.url.clone(), source };
        let host = self.url.host().unwrap_or_default().trim_matches(['[', ']']);
        let secure = self.url.scheme_str() == Some("https");
        let port = self.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let connector = if secure { Some(self.connector()?) } else { None };
        let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
        let Some(connector) = connector else { return self.talk(stream, request).await };
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        self.talk(connector.connect(name, stream).await.map_err(failed)?, request).await
    }

    async fn talk(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, String), Failure> {
        let failed = |source| Failure::Http { url: self.url.clone(), source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let answer = async move {
            let answer = sender.send_request(request).await?;
            Ok((answer.status(), words(answer).await))
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer.map_err(failed),
            ended = connection => {
                ended.map_err(failed)?;
                answer.await.map_err(failed)
            }
        }
    }

    fn request(&self, body: String) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = hyper::Method::POST;
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().unwrap_or_default();
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let headers = request.headers_mut();
        // What is parsed as a URL is a header's value.
        headers.extend(HeaderValue::from_str(authority).ok().map(|host| (HOST, host)));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("iommu-watch/", env!("CARGO_PKG_VERSION"))));
        if let Some(credentials) = &self.config.credentials {
            headers.insert(AUTHORIZATION, authorization(credentials)?);
        }
        Ok(request)
    }

    fn connector(&self) -> Result<TlsConnector, Failure> {
        let roots = match &self.config.ca_file {
            Some(file) => tls::roots(file)?,
            None => system_roots()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|source| tls::Error::Refused { path: "TLS".into(), source })?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

fn system_roots() -> Result<RootCertStore, Failure> {
    let file = SYSTEM.iter().map(Path::new).find(|path| path.is_file()).ok_or(Failure::NoTrust)?;
    let mut roots = RootCertStore::empty();
    // A system may trust some that rustls knows nothing of.
    roots.add_parsable_certificates(tls::certificates(file)?);
    Ok(roots)
}

fn authorization(credentials: &Credentials) -> Result<HeaderValue, Failure> {
    let value = match credentials {
        Credentials::Basic { user, password_file } => {
            let pair = format!("{user}:{}", secret(password_file)?);
            HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(pair)))
        }
        Credentials::Bearer(file) => HeaderValue::from_str(&format!("Bearer {}", secret(file)?)),
    };
    let mut value = value.map_err(|_| Failure::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

fn secret(file: &Path) -> Result<String, Failure> {
    let text =
        contents(file).map_err(|source| Failure::Secret { path: file.display().to_string(), source })?;
    // An editor ends a file with a newline.
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// The first words of an answer, on one line.
async fn words(answer: Response<Incoming>) -> String {
    let Ok(body) = Limited::new(answer.into_body(), ANSWER).collect().await else { return String::new() };
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect()
}

/// A path below that of a URL.
fn below(url: &Uri, path: &str) -> Uri {
    let mut parts = url.clone().into_parts();
    let below = format!("{}{path}", url.path().trim_end_matches('/'));
    parts.path_and_query = below.parse().ok();
    Uri::from_parts(parts).unwrap_or_else(|_| url.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_below_the_address() {
        for (url, target) in [
            ("http://am:9093", "http://am:9093/api/v2/alerts"),
            ("http://am:9093/", "http://am:9093/api/v2/alerts"),
            ("https://am/prefix/", "https://am/prefix/api/v2/alerts"),
        ] {
            assert_eq!(below(&url.parse().expect("a URL"), "/api/v2/alerts").to_string(), target);
        }
    }
}
