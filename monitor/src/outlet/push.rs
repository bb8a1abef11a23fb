//! Violations that are pushed: to Alertmanager, or line by line to whoever takes them. A thread of its own sends them, tries
//! again after a failure, and tells again what stands. What can't be sent waits within bounds, and the watching never does.

mod alert;
mod client;
mod queue;

use std::{
    hash::{BuildHasher, RandomState},
    io,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    aside::say,
    check::Violation,
    config,
    lock::lock,
    report::Context,
    watcher::{Pushed, Report},
};

use client::Client;
use queue::Queue;

/// How soon it is tried again after a failure; doubled each time, up to the longest.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_LONGEST: Duration = Duration::from_secs(60);

/// Where violations are left to be pushed.
pub struct Push {
    shared: Arc<Shared>,
    /// Ends with the thread.
    ended: mpsc::Receiver<()>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Notify,
}

impl Push {
    /// `pages`: where this daemon's pages are, for whoever gets an alert.
    pub fn start(config: config::Push, pages: &str) -> io::Result<Push> {
        let queue = Mutex::new(Queue::new(&config, pages));
        let shared = Arc::new(Shared { queue, changed: Notify::new() });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Names are looked up there, one at a time.
            .max_blocking_threads(1)
            .build()?;
        let (theirs, (end, ended)) = (Arc::clone(&shared), mpsc::channel::<()>());
        thread::Builder::new().name("push".into()).spawn(move || {
            runtime.block_on(send_all(&theirs, &Client::new(config)));
            // A name that is being looked up is not waited for.
            runtime.shutdown_background();
            drop(end);
        })?;
        Ok(Push { shared, ended })
    }

    /// Takes in what is told. Of what is no violation nothing is pushed.
    pub fn note(&self, report: &Report, context: &Context<'_>) {
        lock(&self.shared.queue).note(report, context, Instant::now());
        self.shared.changed.notify_one();
    }

    /// It was told of before, by another process.
    pub fn stands(&self, violation: &Violation, context: &Context<'_>) {
        lock(&self.shared.queue).stands(violation, context, Instant::now());
        self.shared.changed.notify_one();
    }

    pub fn counts(&self) -> Pushed {
        lock(&self.shared.queue).counts(Instant::now())
    }

    /// What waits is tried once more, for so long at most. What stands is not taken for resolved.
    pub fn close(self, patience: Duration) {
        lock(&self.shared.queue).closed = true;
        self.shared.changed.notify_one();
        // It ends without a word, or not in time.
        let _ = self.ended.recv_timeout(patience);
    }
}

/// Sends what is due, until nothing more comes.
async fn send_all(shared: &Shared, client: &Client) {
    let mut failures = 0_u32;
    loop {
        let (batch, due, closed) = {
            let mut queue = lock(&shared.queue);
            let now = Instant::now();
            (queue.due(now), queue.next_due(), queue.closed)
        };
        let Some(batch) = batch else {
            if closed {
                return;
            }
            let idle = due.map_or(AGAIN_LONGEST, |due| due.saturating_duration_since(Instant::now()));
            // It is looked again whatever ended the wait.
            let _ = tokio::time::timeout(idle, shared.changed.notified()).await;
            continue;
        };
        let outcome = client.post(batch.body.clone()).await;
        lock(&shared.queue).settle(&batch, &outcome, Instant::now());
        match outcome {
            Ok(()) => {
                if failures > 0 {
                    say(&format!("iommu-watch: push: {} is reached again", client.target()));
                }
                failures = 0;
            }
            Err(failure) => {
                if failures == 0 {
                    say(&format!("iommu-watch: push: {failure}; it is tried again"));
                }
                if closed {
                    return;
                }
                failures = failures.saturating_add(1);
                wait_again(shared, pause(failures, RandomState::new().hash_one(failures))).await;
            }
        }
    }
}

/// Waits before the next try, whatever comes in meanwhile; the end alone is not waited for.
async fn wait_again(shared: &Shared, pause: Duration) {
    let until = tokio::time::Instant::now() + pause;
    while tokio::time::timeout_at(until, shared.changed.notified()).await.is_ok() {
        if lock(&shared.queue).closed {
            return;
        }
    }
}

/// How long to wait after so many failures: between half and all of the longest, so that a fleet doesn't come all at once.
fn pause(failures: u32, random: u64) -> Duration {
    let longest = AGAIN.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(AGAIN_LONGEST);
    let half = longest / 2;
    half + half.mul_f64(random as f64 / u64::MAX as f64)
}

#[cfg(test)]
mod tests;
