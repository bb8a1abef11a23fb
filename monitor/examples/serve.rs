//! Serves the pages of a recording, so that they can be looked at where no kernel can be watched:
//!
//!     cargo run --example serve -- RECORDING [ADDRESS:PORT [WEB-CONFIG]]
//!
//! And says what scrapes cost the watching: the recording is replayed over and over, as fast as it goes, first undisturbed,
//! then under 8 clients that scrape 1,000 times a second together, then under as many as they can (`cargo xtask bench --only
//! scrapes`, on a machine that does nothing else):
//!
//!     cargo run --release --example serve -- RECORDING --cost [--json]

use std::{
    error::Error,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use monitor::{
    config::Faults,
    replay::Replay,
    report::{
        json,
        metrics::{self, Build},
        openmetrics,
        status::{self, Recent, View},
    },
    watcher::Options,
    web::{self, Current, Page, Source},
};
use prometheus::TextEncoder;

type Recording = Replay<std::io::Cursor<Vec<u8>>>;

const LISTEN: &str = "127.0.0.1:9436";
const CLIENTS: u32 = 8;
/// Scrapes a second of all clients.
const RATE: u32 = 1000;
/// How long each measurement takes, and how many there are of each; the median counts.
const TIME: Duration = Duration::from_secs(2);
const ROUNDS: usize = 7;

struct Pages {
    bytes: Vec<u8>,
    at: Mutex<(Recording, Recent, u64)>,
}

impl Pages {
    fn open(bytes: Vec<u8>) -> Result<Pages, Box<dyn Error>> {
        let at = Mutex::new((Pages::begin(&bytes)?, Recent::default(), 0));
        Ok(Pages { bytes, at })
    }

    fn begin(bytes: &[u8]) -> Result<Recording, Box<dyn Error>> {
        Ok(Replay::open(std::io::Cursor::new(bytes.to_vec()), Options::default())?)
    }

    fn lock(&self) -> MutexGuard<'_, (Recording, Recent, u64)> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One step; whether there was one.
    fn step(&self) -> Result<bool, Box<dyn Error>> {
        let mut at = self.lock();
        let (replay, recent, now_ns) = &mut *at;
        let Some(reports) = replay.step().transpose()? else { return Ok(false) };
        *now_ns = reports.iter().map(|report| report.mono_ns()).max().unwrap_or_default().max(*now_ns);
        recent.note(&reports);
        Ok(true)
    }
}

impl Source for Pages {
    fn healthy(&self) -> Result<(), String> {
        Ok(())
    }

    fn ready(&self) -> Result<(), String> {
        Ok(())
    }

    fn render(&self, page: Page) -> Result<String, String> {
        let mut at = self.lock();
        let (replay, recent, now_ns) = &mut *at;
        let build = Build { version: env!("CARGO_PKG_VERSION").into(), start_seconds: 0.0 };
        let groups = replay.watcher.groups();
        match page {
            Page::Status => Ok(status::page(&View {
                watcher: &replay.watcher,
                groups: &groups,
                recent,
                build: &build,
                context: &replay.context(),
                now_ns: *now_ns,
            })),
            Page::Metrics => TextEncoder::new()
                .encode_to_string(&metrics::collect(&mut replay.watcher, &build))
                .map_err(|error| error.to_string()),
            Page::OpenMetrics => Ok(openmetrics::encode(&metrics::collect(&mut replay.watcher, &build))),
            Page::Violations => {
                let context = replay.context();
                let found: Vec<_> =
                    replay.watcher.violations().map(|found| json::violation(found, &context)).collect();
                serde_json::to_string(&found).map_err(|error| error.to_string())
            }
            Page::Groups | Page::Conformance => Err("not of a recording".into()),
        }
    }

    fn style(&self) -> &'static str {
        status::STYLE
    }

    fn configured(&self, outcome: Result<&str, &Faults>) {
        println!("web configuration: {outcome:?}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let bytes = std::fs::read(arguments.next().ok_or("which recording?")?)?;
    let pages = Arc::new(Pages::open(bytes)?);
    let first = arguments.next();
    let cost = first.as_deref() == Some("--cost");
    let address = match first {
        Some(address) if !cost => address.parse()?,
        _ if cost => SocketAddr::from(([127, 0, 0, 1], 0)),
        _ => LISTEN.parse()?,
    };
    let last = arguments.next();
    let json = cost && last.as_deref() == Some("--json");
    let current = Current::open(last.as_deref().filter(|_| !cost).map(std::path::Path::new))?;
    let listener = web::bind(address)?;
    let address = listener.local_addr()?;
    web::start([listener], pages.clone(), current)?;
    if cost {
        return measure(&pages, address, json);
    }
    while pages.step()? {}
    println!("serving on {address}");
    loop {
        thread::park();
    }
}

fn measure(pages: &Pages, address: SocketAddr, json: bool) -> Result<(), Box<dyn Error>> {
    let every = Duration::from_secs(1) * CLIENTS / RATE;
    let loads = [
        ("nobody asks", None),
        ("8 clients, 1,000 scrapes a second", Some(every)),
        ("8 clients, as many as they can", Some(Duration::ZERO)),
    ];
    // In turn: what else the machine does weighs on all of them.
    let mut runs: [Vec<Run>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for ((_, every), runs) in loads.iter().zip(&mut runs) {
            runs.push(run(pages, address, *every)?);
        }
    }
    let undisturbed = median(&runs[0], |run| run.events);
    let mut rows = Vec::new();
    for ((what, _), runs) in loads.iter().zip(&runs) {
        let events = median(runs, |run| run.events);
        let scrapes = median(runs, |run| run.scrapes);
        let [p50, p99, slowest] = [0.5, 0.99, 1.0].map(|part| {
            let mut waits: Vec<f64> =
                runs.iter().flat_map(|run| &run.waits).map(Duration::as_secs_f64).collect();
            waits.sort_by(f64::total_cmp);
            let at = ((waits.len() as f64 * part) as usize).min(waits.len().saturating_sub(1));
            waits.get(at).copied().unwrap_or_default() * 1e3
        });
        let share = events / undisturbed;
        let waits: usize = runs.iter().map(|run| run.waits.len()).sum();
        if json {
            rows.push(serde_json::json!({
                "load": what, "events_per_second": events, "share": share, "scrapes_per_second": scrapes,
                "scrape_p50_ms": p50, "scrape_p99_ms": p99, "scrape_slowest_ms": slowest,
            }));
        } else if waits == 0 {
            println!("{what}: {events:.0} events/s");
        } else {
            println!(
                "{what}: {events:.0} events/s ({:.0} %), {scrapes:.0} scrapes/s, half of them in {p50:.1} ms, \
                 99 of 100 in {p99:.1} ms, the slowest in {slowest:.1} ms",
                share * 100.0
            );
        }
    }
    if json {
        println!("{:#}", serde_json::Value::from(rows));
    }
    Ok(())
}

fn median(runs: &[Run], of: fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Run {
    events: f64,
    scrapes: f64,
    /// How long each scrape took.
    waits: Vec<Duration>,
}

/// Replays over and over until the time is over, while clients scrape, each once in so long.
fn run(pages: &Pages, address: SocketAddr, every: Option<Duration>) -> Result<Run, Box<dyn Error>> {
    let start = Instant::now();
    let (events, waits) = thread::scope(|scope| -> Result<(u64, Vec<Duration>), Box<dyn Error>> {
        let clients = every.map(|every| {
            let scrape = move || scrape(address, every, start).map_err(|error| error.to_string());
            (0..CLIENTS).map(|_| scope.spawn(scrape)).collect::<Vec<_>>()
        });
        let mut events = 0;
        while start.elapsed() < TIME {
            if !pages.step()? {
                let mut at = pages.lock();
                events += at.0.events();
                at.0 = Pages::begin(&pages.bytes)?;
            }
        }
        let mut waits = Vec::new();
        for client in clients.into_iter().flatten() {
            waits.extend(client.join().map_err(|_| "a client panicked")??);
        }
        Ok((events, waits))
    })?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(Run { events: events as f64 / seconds, scrapes: waits.len() as f64 / seconds, waits })
}

/// How long each of the scrapes took.
fn scrape(address: SocketAddr, every: Duration, start: Instant) -> std::io::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address)?;
    let (mut waits, mut next) = (Vec::new(), Instant::now());
    let mut buffer = vec![0; 1 << 16];
    while start.elapsed() < TIME {
        let began = Instant::now();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")?;
        let mut answer = Vec::new();
        // The head says how long the answer is.
        let mut whole = usize::MAX;
        while answer.len() < whole {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&buffer[..length]);
            if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&answer[..end]).into_owned();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                whole = end + 4 + length.unwrap_or_default();
            }
        }
        waits.push(began.elapsed());
        next += every;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(waits)
}
