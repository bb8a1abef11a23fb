//! The server: connections taken in, and ended when they take too long.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};

use super::{
    Error, Source,
    answer::Answers,
    current::Current,
    gate::Gate,
    places::{Place, Places},
    secure::{Secured, secured},
};

/// Connections at a time, in all and of one host. Whoever comes when all are taken waits in the kernel's queue; whoever
/// has too many is sent away.
const CONNECTIONS: usize = 64;
const EACH: usize = 32;
/// How long a client may take for the handshake, and for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// How long a connection may live, and what is left then to the answer that is under way.
const LIFE: Duration = Duration::from_secs(60);
const LAST: Duration = Duration::from_secs(5);
/// The head of a request at most: bytes, and headers.
const BUFFER: usize = 16 << 10;
const HEADERS: usize = 64;

pub struct Server {
    shared: Arc<Shared>,
    places: Arc<Places>,
}

struct Shared {
    current: Current,
    source: Arc<dyn Source>,
    answers: Answers,
}

impl Server {
    pub fn new(source: Arc<dyn Source>, current: Current) -> Result<Server, Error> {
        let answers = Answers::new(source.clone(), Gate::new()?);
        Ok(Server {
            shared: Arc::new(Shared { current, source, answers }),
            places: Places::new(CONNECTIONS, EACH),
        })
    }

    /// Serves whoever comes there; places are given out for all listeners together.
    pub async fn serve(self: Arc<Server>, listener: TcpListener) {
        loop {
            let Some(permit) = self.places.any().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                // Out of descriptors, or a client that left: neither ends the service.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            self.shared.look();
            let Some(place) = self.places.take(peer.ip(), permit) else { continue };
            tokio::spawn(self.shared.clone().connection(stream, place));
        }
    }
}

impl Shared {
    /// Takes in a web configuration that changed.
    fn look(&self) {
        if let Some(outcome) = self.current.look(Instant::now()) {
            self.source.configured(outcome.as_ref().map(|settings| settings.summary.as_str()));
        }
    }

    async fn connection(self: Arc<Shared>, stream: TcpStream, _place: Place) {
        // An answer is written in one piece: there is nothing to wait for.
        let _ = stream.set_nodelay(true);
        match self.current.settings().tls.clone() {
            None => self.http(stream).await,
            Some(tls) => {
                // What is said of a handshake that fails would be the client's to fill a journal with.
                if let Ok(Some(Secured(stream))) = tokio::time::timeout(HEAD, secured(stream, tls)).await {
                    self.http(stream).await;
                }
            }
        }
    }

    async fn http(self: Arc<Shared>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let service = service_fn(|request: Request<Incoming>| {
            let shared = self.clone();
            // At each request: a user who is no more in the file is none, also on a connection of before.
            shared.look();
            async move {
                let settings = shared.current.settings();
                Ok::<_, Infallible>(shared.answers.answer(&request, &settings).await)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_buf_size(BUFFER)
            .max_headers(HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // A client that breaks off or dawdles harms only itself.
        if tokio::time::timeout(LIFE, connection.as_mut()).await.is_err() {
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(LAST, connection).await;
        }
    }
}
