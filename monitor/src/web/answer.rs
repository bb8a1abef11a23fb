//! What is answered to a request.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{
        ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName,
        HeaderValue, REFERRER_POLICY, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
        X_FRAME_OPTIONS,
    },
};
use ring::digest::{SHA256, digest};
use rustix::time::{ClockId, clock_gettime};

use crate::lock::lock;

use super::{
    Page, Source,
    budget::Budget,
    current::Settings,
    gate::{Gate, Verdict},
    negotiate::prefers_open_metrics,
};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROMETHEUS: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// On every answer, unless the web configuration says otherwise. What is shown is nobody's to keep, to frame or to take for
/// something else; nothing of it runs, and nothing is loaded.
const HEADERS: [(HeaderName, HeaderValue); 5] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (CONTENT_SECURITY_POLICY, NOTHING),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];
const NOTHING: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"iommu-watch\", charset=\"UTF-8\"");

type Answer = Response<Full<Bytes>>;

pub struct Answers {
    source: Arc<dyn Source>,
    /// What the status page may do.
    policy: HeaderValue,
    gate: Gate,
    made: Mutex<Made>,
}

/// Each page as it was made last, or why it could not be.
struct Made {
    budget: Budget,
    pages: [Option<Result<Bytes, String>>; Page::ALL.len()],
}

impl Answers {
    pub fn new(source: Arc<dyn Source>, gate: Gate) -> Answers {
        let made = Made { budget: Budget::new(Instant::now()), pages: Default::default() };
        Answers { policy: policy(source.style()), source, gate, made: Mutex::new(made) }
    }

    pub async fn answer<B>(&self, request: &Request<B>, settings: &Settings) -> Answer {
        let mut answer = match self.gate.admit(&settings.users, request.headers().get(AUTHORIZATION)).await {
            Verdict::Admitted => self.page(request),
            Verdict::Refused => {
                let mut refusal =
                    text(StatusCode::UNAUTHORIZED, "who are you? user and password are wanted\n");
                refusal.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
                refusal
            }
            Verdict::Busy => {
                let mut refusal =
                    text(StatusCode::SERVICE_UNAVAILABLE, "too many passwords to look at; try again\n");
                refusal.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
                refusal
            }
        };
        for (name, value) in HEADERS {
            answer.headers_mut().entry(name).or_insert(value);
        }
        for (name, value) in &settings.headers {
            answer.headers_mut().insert(name, value.clone());
        }
        answer
    }

    fn page<B>(&self, request: &Request<B>) -> Answer {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match request.uri().path() {
            "/" => {
                let mut answer = self.shown(Page::Status, HTML);
                answer.headers_mut().insert(CONTENT_SECURITY_POLICY, self.policy.clone());
                answer
            }
            "/-/healthy" => match self.source.healthy() {
                Ok(()) => text(StatusCode::OK, "healthy\n"),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not healthy: {reason}\n")),
            },
            "/-/ready" => match self.source.ready() {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")),
            },
            "/metrics" => {
                let mut answer = match prefers_open_metrics(request.headers().get_all(ACCEPT)) {
                    true => self.shown(Page::OpenMetrics, OPEN_METRICS),
                    false => self.shown(Page::Metrics, PROMETHEUS),
                };
                answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
                answer
            }
            "/api/v1/groups" => self.shown(Page::Groups, JSON),
            "/api/v1/conformance" => self.shown(Page::Conformance, JSON),
            "/api/v1/violations" => self.shown(Page::Violations, JSON),
            _ => text(StatusCode::NOT_FOUND, "no such page; see /\n"),
        }
    }

    fn shown(&self, page: Page, kind: HeaderValue) -> Answer {
        match self.made(page) {
            Ok(body) => respond(StatusCode::OK, kind, body),
            Err(reason) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")),
        }
    }

    /// The page as it is now, or as it was made last.
    fn made(&self, page: Page) -> Result<Bytes, String> {
        let mut made = lock(&self.made);
        let Made { budget, pages } = &mut *made;
        let last = &mut pages[page as usize];
        if !budget.allows(Instant::now())
            && let Some(last) = last
        {
            return last.clone();
        }
        let start = cpu_time();
        let rendered = self.source.render(page).map(Bytes::from);
        budget.spend(cpu_time().saturating_sub(start));
        *last = Some(rendered.clone());
        rendered
    }
}

/// What this thread has taken so far: not the time that it waits for what the watching holds, which costs that nothing.
fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// This style sheet, by its digest, and nothing else.
fn policy(style: &str) -> HeaderValue {
    let digest = BASE64_STANDARD.encode(digest(&SHA256, style.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(NOTHING)
}

fn text(status: StatusCode, text: impl Into<String>) -> Answer {
    respond(status, TEXT, Bytes::from(text.into()))
}

fn respond(status: StatusCode, kind: HeaderValue, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
