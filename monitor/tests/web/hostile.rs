//! Whoever asks is taken for hostile: what is malformed, too large or too slow is refused, and holds up nobody.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::rig::{Server, get, status};

/// What is left of the answer; nothing where the connection is cut.
fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn nonsense_is_refused() {
    let server = Server::plain();
    for nonsense in [
        "\u{1}\u{2}\u{3}\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ] {
        let answer = server.say(nonsense);
        assert!(
            answer.is_empty() || status(&answer) == "400" || status(&answer) == "505",
            "{nonsense:?}: {answer}"
        );
    }
}

#[test]
fn a_huge_head_is_refused() {
    let server = Server::plain();
    let long = get("/", &format!("x-long: {}\r\n", "a".repeat(20 << 10)));
    assert_eq!(status(&server.say(&long)), "431");
    let many: String = (0..100).map(|number| format!("x-{number}: 1\r\n")).collect();
    assert_eq!(status(&server.say(&get("/", &many))), "431");
    let mut stream = server.connect();
    let _ = stream.write_all(format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(20 << 10)).as_bytes());
    assert!(matches!(status(&rest(&mut stream)), "414" | "431" | ""), "a huge path");
}

#[test]
fn a_body_that_never_ends_is_not_read() {
    let server = Server::plain();
    let mut stream = server.connect();
    stream
        .write_all(b"GET /-/healthy HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n")
        .expect("a head");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let start = Instant::now();
    // Until nobody takes it any more.
    while stream.write_all(&[b'x'; 4096]).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(20), "it is read");
    }
}

/// A head that comes byte by byte gets 5 s in all.
#[test]
fn a_slow_head_is_cut_and_holds_up_nobody() {
    let server = Server::plain();
    let start = Instant::now();
    let mut slow: Vec<TcpStream> = (0..16).map(|_| server.connect()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HT").expect("the beginning of a head");
    }
    assert_eq!(status(&server.get("/-/healthy")), "200");
    assert!(start.elapsed() < Duration::from_secs(4));
    for stream in &mut slow {
        assert!(matches!(status(&rest(stream)), "408" | ""));
    }
    let took = start.elapsed();
    assert!(took > Duration::from_secs(3) && took < Duration::from_secs(15), "{took:?}");
}

/// All that one host may have: the next is sent away, and has his turn when they are gone.
#[test]
fn one_host_gets_no_more_than_its_connections() {
    let server = Server::plain();
    let held: Vec<TcpStream> = (0..32).map(|_| server.connect()).collect();
    // The server has seen them all when it has turned one away.
    let mut turned_away = server.connect();
    let _ = turned_away.write_all(get("/-/healthy", "").as_bytes());
    assert_eq!(rest(&mut turned_away), "");
    drop(held);
    let start = Instant::now();
    loop {
        let mut stream = server.connect();
        let _ = stream.write_all(get("/-/healthy", "").as_bytes());
        if status(&rest(&mut stream)) == "200" {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the places are not given back");
    }
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let server = Server::plain();
    let mut deaf = server.connect();
    // More answers than fit into the buffers of both sides.
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n".repeat(64);
    deaf.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    for _ in 0..1000 {
        if deaf.write_all(request.as_bytes()).is_err() {
            break;
        }
    }
    assert_eq!(status(&server.get("/-/healthy")), "200");
}
