//! A connection that speaks TLS; who speaks plain HTTP instead is told so.

use std::sync::Arc;

use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

const PLAIN: &str = "this port speaks TLS: ask with https://\n";
/// How much of such a request is read, so that the answer isn't lost with what was not.
const READ: usize = 4 << 10;

pub struct Secured(pub TlsStream<TcpStream>);

/// `None` where there is no such connection. It waits for the client as long as that takes.
pub async fn secured(mut stream: TcpStream, tls: Arc<ServerConfig>) -> Option<Secured> {
    let mut first = [0];
    stream.peek(&mut first).await.ok()?;
    // A method's first letter; a TLS record begins with 22.
    if first[0].is_ascii_uppercase() {
        let _ = stream.read(&mut [0; READ]).await;
        let length = PLAIN.len();
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n{PLAIN}"
        );
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
        return None;
    }
    TlsAcceptor::from(tls).accept(stream).await.ok().map(Secured)
}
