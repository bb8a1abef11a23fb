//! A flood of scrapes: pages are made anew no more often than the watching can spare.

use std::{
    io::{Read, Write},
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use crate::rig::{Server, get, status};

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n";

/// Scrapes over one connection until the time is over; how many.
fn scrape(server: &Server, time: Duration) -> usize {
    let (start, mut stream, mut count) = (Instant::now(), server.connect(), 0);
    let mut answer = [0; 4096];
    while start.elapsed() < time {
        stream.write_all(SCRAPE).expect("a request");
        let length = stream.read(&mut answer).expect("an answer");
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
        count += 1;
    }
    count
}

#[test]
fn eight_clients_scrape_as_they_like_and_take_a_quarter_of_the_time() {
    let server = Server::plain();
    // A page that takes 10 ms, while nothing else is watched.
    server.source.cost.store(10, Ordering::Relaxed);
    // What was saved up goes first, on a machine that does much else slowly: until a page comes again.
    let page = || server.say(&get("/metrics", ""));
    let mut last = page();
    loop {
        let next = page();
        if next == last {
            break;
        }
        last = next;
    }
    let before = server.source.renders.load(Ordering::Relaxed);
    let time = Duration::from_secs(2);
    let start = Instant::now();
    let served: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| scrape(&server, time))).collect();
        clients.into_iter().map(|client| client.join().expect("it ends")).sum()
    });
    let took = start.elapsed().as_secs_f64();
    let made = server.source.renders.load(Ordering::Relaxed) - before;
    // Its share, and the one that was begun with the last of it.
    let allowed = took / 4.0 / 0.010 + 1.0;
    assert!(made as f64 <= allowed, "{made} pages made in {took:.2} s; {allowed:.1} are allowed");
    assert!(served > 2 * made, "{served} scrapes in {took:.2} s, {made} pages made");
}

#[test]
fn who_comes_now_and_then_sees_what_is_so_now() {
    let server = Server::plain();
    for number in 0..5 {
        let answer = server.say(&get("/metrics", ""));
        assert_eq!(status(&answer), "200");
        assert!(answer.ends_with(&format!("Metrics {number}\n")), "{answer}");
    }
}
