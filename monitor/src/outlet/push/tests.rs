use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
};

use serde_json::Value;

use crate::{
    check::{Severity, Violation},
    config::Kind,
    outlet::testing::{raised, resolved, violation},
    report::{Clock, NoStacks},
};

use super::*;

mod secure;

const SOON: Duration = Duration::from_secs(20);

fn context() -> Context<'static> {
    let clock = Clock { offset_ns: 1_795_353_000_000_000_000 };
    Context { host: "node7", kernel: "6.12", synthetic: false, clock, stacks: &NoStacks }
}

fn config(address: SocketAddr, kind: Kind) -> config::Push {
    config::Push {
        kind,
        url: format!("http://{address}").parse().expect("a URL"),
        severity: Severity::Warning,
        resend: Duration::from_secs(60),
        timeout: Duration::from_secs(5),
        ca_file: None,
        credentials: None,
        runbooks: "https://runbooks.example.com/".into(),
    }
}

/// A request, as a receiver gets it: its head in lower case, and its body.
struct Got {
    head: String,
    body: Value,
}

fn receive(stream: impl Read) -> Got {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("a head") > 0, "{head}");
    }
    let head = head.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.expect("a length")];
    reader.read_exact(&mut body).expect("a body");
    Got { head, body: serde_json::from_slice(&body).expect("JSON") }
}

/// Answers so many requests, each with its status, and gives what they were.
fn receiver(listener: TcpListener, answers: &[&'static str]) -> mpsc::Receiver<Got> {
    let (send, got) = mpsc::channel();
    let mut answers: VecDeque<_> = answers.iter().copied().collect();
    thread::spawn(move || {
        while let Some(answer) = answers.pop_front() {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let request = receive(&stream);
            let _ = write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 3\r\n\r\nno\n");
            // Told when it is answered.
            if send.send(request).is_err() {
                return;
            }
        }
    });
    got
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[track_caller]
fn until(push: &Push, what: impl Fn(Pushed) -> bool) {
    let start = Instant::now();
    while !what(push.counts()) {
        assert!(start.elapsed() < SOON, "{:?}", push.counts());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_alert_has_the_labels_that_it_is_known_by_and_ends_with_the_violation() {
    let (listener, address) = listener();
    let got = receiver(listener, &["200 OK"; 2]);
    let push = Push::start(config(address, Kind::Alertmanager), "http://node7:9436/").expect("a thread");
    push.note(&raised(0xb0f9), &context());
    let Got { head, body } = got.recv_timeout(SOON).expect("a request");
    assert!(head.starts_with("post /api/v2/alerts http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {address}\r\n")), "{head}");
    let labels = serde_json::json!({
        "alertname": "IommuWatchPasidLeftOnRelease",
        "check": "pasid-left-on-release",
        "severity": "critical",
        "group": "7",
        "host": "node7",
        "fingerprint": "000000000000b0f9",
    });
    assert_eq!((&body[0]["labels"], body.as_array().map(Vec::len)), (&labels, Some(1)));
    let annotations = &body[0]["annotations"];
    assert_eq!(
        annotations["runbook_url"],
        "https://runbooks.example.com/docs/checks/pasid-left-on-release.md"
    );
    assert!(
        annotations["summary"].as_str().is_some_and(|text| text.starts_with("node7: vfio[201] released"))
    );
    assert!(annotations["description"].as_str().is_some_and(|text| text.contains("0000:01:00.0")));
    assert_eq!(body[0]["generatorURL"], "http://node7:9436/");
    assert!(body[0]["startsAt"].as_str().is_some() && body[0].get("endsAt").is_none());
    push.note(&resolved(0xb0f9), &context());
    let over = got.recv_timeout(SOON).expect("a request").body;
    assert_eq!(
        (&over[0]["labels"], over[0]["startsAt"].as_str() < over[0]["endsAt"].as_str()),
        (&labels, true)
    );
    until(&push, |counts| counts == Pushed { accepted: 2, ..Pushed::default() });
    push.close(SOON);
}

#[test]
fn whoever_is_down_gets_it_once_he_is_up() {
    let (listener, address) = listener();
    drop(listener);
    let push = Push::start(config(address, Kind::Alertmanager), "").expect("a thread");
    push.note(&raised(1), &context());
    until(&push, |counts| counts.failed > 0 && counts.waiting == 1);
    let listener = TcpListener::bind(address).expect("the same port");
    let got = receiver(listener, &["503 Later", "200 OK"]);
    got.recv_timeout(SOON).expect("a request");
    got.recv_timeout(SOON).expect("another after the 503");
    until(&push, |counts| counts.accepted == 1 && counts.waiting == 0 && counts.failed >= 2);
}

#[test]
fn what_stands_is_told_again_and_what_is_refused_only_then() {
    let (listener, address) = listener();
    let got = receiver(listener, &["400 Bad Request", "200 OK", "200 OK"]);
    let again = config::Push { resend: Duration::from_secs(1), ..config(address, Kind::Alertmanager) };
    let push = Push::start(again, "").expect("a thread");
    push.note(&raised(1), &context());
    for _ in 0..3 {
        let body = got.recv_timeout(SOON).expect("a request").body;
        assert_eq!(body[0]["labels"]["fingerprint"], "0000000000000001");
    }
    let Pushed { failed, dropped, .. } = push.counts();
    assert_eq!((failed, dropped), (1, 1));
}

#[test]
fn what_is_expected_or_of_no_account_is_not_pushed_and_another_severity_is_another_alert() {
    let mut queue = Queue::new(&config(listener().1, Kind::Alertmanager), "");
    let now = Instant::now();
    let alerts = |queue: &mut Queue| {
        let batch = queue.due(now)?;
        queue.settle(&batch, &Ok(()), now);
        let body: Value = serde_json::from_str(&batch.body).expect("JSON");
        let of = |alert: &Value| {
            (
                alert["labels"]["severity"].as_str().unwrap_or_default().to_owned(),
                alert.get("endsAt").is_some(),
            )
        };
        body.as_array().map(|alerts| alerts.iter().map(of).collect::<Vec<_>>())
    };
    let info = Report::Violation(Box::new(violation(1, Severity::Info)));
    queue.note(&info, &context(), now);
    assert_eq!(alerts(&mut queue), None);
    queue.note(&raised(2), &context(), now);
    assert_eq!(alerts(&mut queue), Some(vec![("critical".into(), false)]));
    let warning = violation(2, Severity::Warning);
    queue.note(&Report::Restated(Box::new(warning.clone())), &context(), now);
    assert_eq!(alerts(&mut queue), Some(vec![("warning".into(), false), ("critical".into(), true)]));
    let expectation = crate::check::Expectation {
        check: "pasid-left-on-release",
        iommu_driver: None,
        group: Some(7),
        device: None,
        reason: "known".into(),
        until: "2027-03-31".parse().expect("a day"),
        until_mono_ns: u64::MAX,
    };
    let expected = Violation { expected: Some(Arc::new(expectation)), ..warning };
    queue.note(&Report::Restated(Box::new(expected)), &context(), now);
    assert_eq!(alerts(&mut queue), Some(vec![("warning".into(), true)]));
    assert_eq!((alerts(&mut queue), queue.next_due()), (None, None), "nothing stands");
}

/// It changed while the request was under way: that is sent as well.
#[test]
fn an_end_that_comes_while_its_beginning_is_sent_is_not_lost() {
    let mut queue = Queue::new(&config(listener().1, Kind::Alertmanager), "");
    let now = Instant::now();
    queue.note(&raised(1), &context(), now);
    let batch = queue.due(now).expect("an alert");
    queue.note(&resolved(1), &context(), now);
    queue.settle(&batch, &Ok(()), now);
    let batch = queue.due(now).expect("its end");
    assert!(batch.body.contains("endsAt"));
    queue.settle(&batch, &Ok(()), now);
    assert!(queue.due(now + SOON * 100).is_none());
}

#[test]
fn a_webhook_gets_each_line_once_in_order() {
    let (listener, address) = listener();
    let got = receiver(listener, &["200 OK", "500 Broken", "200 OK", "202 Accepted"]);
    let push = Push::start(config(address, Kind::Webhook), "").expect("a thread");
    for report in [raised(1), raised(2), resolved(1)] {
        push.note(&report, &context());
    }
    let told: Vec<_> = (0..4)
        .map(|_| {
            let body = got.recv_timeout(SOON).expect("a request").body;
            (body["kind"].as_str().unwrap_or_default().to_owned(), body["fingerprint"].clone())
        })
        .collect();
    let line = |kind: &str, cause: u64| (kind.to_owned(), Value::from(format!("{cause:016x}")));
    let expected = [line("violation", 1), line("violation", 2), line("violation", 2), line("resolved", 1)];
    assert_eq!(told, expected);
    until(&push, |counts| counts == Pushed { accepted: 3, failed: 1, ..Pushed::default() });
}

/// It takes connections and says nothing: whoever has violations never waits for it, and what waits has a bound.
#[test]
fn whoever_never_answers_holds_up_nobody() {
    let (listener, address) = listener();
    let silent = config::Push { timeout: Duration::from_secs(1), ..config(address, Kind::Webhook) };
    let push = Push::start(silent, "").expect("a thread");
    let start = Instant::now();
    for cause in 0..9000 {
        push.note(&raised(cause), &context());
    }
    assert!(start.elapsed() < Duration::from_secs(10));
    let Pushed { waiting, dropped, .. } = push.counts();
    assert_eq!((waiting, dropped), (8192, 9000 - 8192));
    until(&push, |counts| counts.failed > 0);
    let start = Instant::now();
    push.close(Duration::from_millis(100));
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(listener);
}

#[test]
fn a_fleet_does_not_come_back_all_at_once() {
    assert_eq!((pause(1, 0), pause(1, u64::MAX)), (Duration::from_millis(500), Duration::from_secs(1)));
    assert_eq!((pause(4, 0), pause(4, u64::MAX)), (Duration::from_secs(4), Duration::from_secs(8)));
    assert_eq!((pause(u32::MAX, 0), pause(50, u64::MAX)), (AGAIN_LONGEST / 2, AGAIN_LONGEST));
}
