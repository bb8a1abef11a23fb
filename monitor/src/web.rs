//! The daemon's HTTP pages. They show what a [`Source`] says and know nothing of where it has it from.
//!
//! Whoever asks is taken for hostile: few connections at a time, small requests, short patience.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};

/// Connections served at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 32;
/// How long a client may take to send the head of its request, and a connection may live.
const HEAD: Duration = Duration::from_secs(5);
const LIFE: Duration = Duration::from_secs(60);
/// The head of a request at most, in bytes.
const BUFFER: usize = 16 << 10;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What the pages show.
pub trait Source: Send + Sync {
    /// `Err` with the reason while the daemon can't vouch for what it shows.
    fn ready(&self) -> Result<(), String>;
    /// The Prometheus text format.
    fn metrics(&self) -> Result<String, String>;
    /// A JSON array of the groups.
    fn groups(&self) -> String;
    /// How the IOMMU drivers kept the rules of the API so far, as JSON.
    fn conformance(&self) -> String;
    /// A JSON array of the violations that stand.
    fn violations(&self) -> String;
}

/// Where the listener could not be had.
#[derive(Debug, thiserror::Error)]
#[error("--web.listen-address {address}: {source}; give another address, or stop what listens there")]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, source: Arc<dyn Source>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of descriptors, or a client that left: neither ends the service.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let source = source.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&request, source.as_ref());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .max_buf_size(BUFFER)
                .serve_connection(TokioIo::new(stream), service);
            // A client that breaks off or dawdles harms only itself.
            let _ = tokio::time::timeout(LIFE, connection).await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, source: &dyn Source) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".into());
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/" => page(StatusCode::OK, HTML, LANDING.into()),
        "/-/healthy" => page(StatusCode::OK, TEXT, "healthy\n".into()),
        "/-/ready" => match source.ready() {
            Ok(()) => page(StatusCode::OK, TEXT, "ready\n".into()),
            Err(reason) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {reason}\n")),
        },
        "/metrics" => match source.metrics() {
            Ok(text) => page(StatusCode::OK, PROMETHEUS, text),
            Err(reason) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{reason}\n")),
        },
        "/api/v1/groups" => page(StatusCode::OK, JSON, source.groups()),
        "/api/v1/conformance" => page(StatusCode::OK, JSON, source.conformance()),
        "/api/v1/violations" => page(StatusCode::OK, JSON, source.violations()),
        _ => page(StatusCode::NOT_FOUND, TEXT, "no such page; see /\n".into()),
    }
}

fn page(status: StatusCode, kind: HeaderValue, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

const LANDING: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>iommu-watch</title></head>
<body><h1>iommu-watch</h1><p>Runtime invariant monitor for the Linux IOMMU.</p>
<ul>
<li><a href=\"/metrics\">/metrics</a></li>
<li><a href=\"/-/healthy\">/-/healthy</a></li>
<li><a href=\"/-/ready\">/-/ready</a></li>
<li><a href=\"/api/v1/groups\">/api/v1/groups</a></li>
<li><a href=\"/api/v1/conformance\">/api/v1/conformance</a></li>
<li><a href=\"/api/v1/violations\">/api/v1/violations</a></li>
</ul></body></html>
";

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    struct Fixed {
        ready: bool,
    }

    impl Source for Fixed {
        fn ready(&self) -> Result<(), String> {
            if self.ready { Ok(()) } else { Err("still attaching".into()) }
        }

        fn metrics(&self) -> Result<String, String> {
            Ok("iommu_watch_groups 1\n".into())
        }

        fn groups(&self) -> String {
            "[]".into()
        }

        fn conformance(&self) -> String {
            "{}".into()
        }

        fn violations(&self) -> String {
            "[]".into()
        }
    }

    /// What the server says to these bytes, until it closes the connection.
    async fn say(ready: bool, request: &str) -> String {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = tokio::spawn(serve(listener, Arc::new(Fixed { ready })));
        let mut stream = TcpStream::connect(address).await.expect("the server");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        server.abort();
        answer
    }

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    }

    #[tokio::test]
    async fn metrics_are_served_as_prometheus_text() {
        let answer = say(true, &get("/metrics")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("version=0.0.4") && answer.ends_with("iommu_watch_groups 1\n"), "{answer}");
    }

    #[tokio::test]
    async fn readiness_says_why_it_is_not_given() {
        assert!(say(true, &get("/-/ready")).await.starts_with("HTTP/1.1 200"));
        let answer = say(false, &get("/-/ready")).await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("still attaching"), "{answer}");
    }

    #[tokio::test]
    async fn a_page_that_is_not_there_and_a_write_are_refused() {
        assert!(say(true, &get("/etc/passwd")).await.starts_with("HTTP/1.1 404"));
        let post = "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert!(say(true, post).await.starts_with("HTTP/1.1 405"));
    }

    #[tokio::test]
    async fn nonsense_and_a_huge_head_are_refused() {
        assert!(say(true, "\u{1}\u{2}\u{3}\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let huge = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(20 << 10));
        assert!(say(true, &huge).await.starts_with("HTTP/1.1 431"));
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let taken = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let error = bind(taken.local_addr().expect("an address")).await.expect_err("it is taken");
        assert!(error.to_string().contains("--web.listen-address 127.0.0.1:"), "{error}");
    }
}
