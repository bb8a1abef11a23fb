//! What is answered where, and as what.

use std::sync::atomic::Ordering;

use monitor::web;

use crate::rig::{Directory, Server, body, get, status};

#[test]
fn metrics_are_served_in_the_format_that_is_asked_for() {
    let server = Server::plain();
    let answer = server.get("/metrics");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    assert!(answer.contains("vary: accept\r\n") && body(&answer).starts_with("Metrics "), "{answer}");
    let answer = server
        .say(&get("/metrics", "accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n"));
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(answer.contains(kind) && body(&answer).starts_with("OpenMetrics "), "{answer}");
}

#[test]
fn readiness_says_why_it_is_not_given() {
    let server = Server::plain();
    assert_eq!(status(&server.get("/-/ready")), "200");
    server.source.not_ready.store(true, Ordering::Relaxed);
    let answer = server.get("/-/ready");
    assert!(status(&answer) == "503" && body(&answer) == "not ready: still attaching\n", "{answer}");
    // It waits with a good reason, so nobody need restart it; one that hangs is another matter.
    assert_eq!(body(&server.get("/-/healthy")), "healthy\n");
    server.source.hangs.store(true, Ordering::Relaxed);
    let answer = server.get("/-/healthy");
    let reason = "not healthy: it has not come around for 31 s\n";
    assert!(status(&answer) == "503" && body(&answer) == reason, "{answer}");
}

#[test]
fn a_page_that_is_not_there_and_a_write_are_refused() {
    let server = Server::plain();
    for path in ["/etc/passwd", "/../etc/passwd", "//", "/metrics/", "/api/v1/"] {
        assert_eq!(status(&server.get(path)), "404", "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let request = get("/metrics", "content-length: 0\r\n").replace("GET", method);
        let answer = server.say(&request);
        assert!(status(&answer) == "405" && answer.contains("allow: GET, HEAD\r\n"), "{answer}");
    }
    let answer = server.say(&get("/metrics", "").replace("GET", "HEAD"));
    assert!(status(&answer) == "200" && body(&answer).is_empty(), "{answer}");
}

#[test]
fn what_cannot_be_told_is_an_error_and_no_page() {
    let server = Server::plain();
    server.source.broken.store(true, Ordering::Relaxed);
    let answer = server.get("/metrics");
    assert!(status(&answer) == "500" && body(&answer) == "the map can't be read\n", "{answer}");
}

#[test]
fn every_answer_forbids_to_keep_frame_or_run_it() {
    let server = Server::plain();
    for path in ["/", "/metrics", "/api/v1/groups", "/no-such-page"] {
        let answer = server.get(path);
        for header in [
            "cache-control: no-store",
            "content-security-policy: default-src 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
        ] {
            assert!(answer.contains(header), "{header}: {answer}");
        }
    }
}

/// `printf 'p { color: red }' | openssl dgst -sha256 -binary | base64`
#[test]
fn the_status_page_may_use_its_own_style_and_nothing_else() {
    let answer = Server::plain().get("/");
    let policy = "content-security-policy: default-src 'none'; style-src 'sha256-ngewhhP73WDIbgwseeu52VAAJgKdGUsu1IUQQsAm8m4='; base-uri 'none'; \
                  form-action 'none'; frame-ancestors 'none'\r\n";
    assert!(
        answer.contains(policy) && answer.contains("content-type: text/html; charset=utf-8\r\n"),
        "{answer}"
    );
}

#[test]
fn the_web_configuration_sets_headers() {
    let directory = Directory::new();
    let file = "http_server_config:\n  headers:\n    X-Frame-Options: SAMEORIGIN\n    Strict-Transport-Security: max-age=60\n";
    let server = Server::start(Some(&directory.write("web.yml", file)));
    let answer = server.get("/");
    assert!(answer.contains("x-frame-options: SAMEORIGIN\r\n") && !answer.contains("DENY"), "{answer}");
    assert!(answer.contains("strict-transport-security: max-age=60\r\n"), "{answer}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = web::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let error = web::bind(taken.local_addr().expect("an address")).expect_err("it is taken");
    assert!(error.to_string().contains("--web.listen-address 127.0.0.1:"), "{error}");
}
