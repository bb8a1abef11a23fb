//! Following a kernel until told to stop.

use std::{future::Future, io, sync::Mutex, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use super::{Error, Live};
use crate::{lock::lock, watcher::Report};

/// How often what no record tells is looked after, while records come and for a while after.
const BUSY: Duration = Duration::from_millis(200);
const BUSY_FOR: Duration = Duration::from_secs(3);
/// The same on a host where nothing happens, which is to cost next to nothing.
const IDLE: Duration = Duration::from_secs(1);

/// Gives every report to `sink`, until `stop` ends; then what is in the ring still, and returns.
pub async fn follow(
    live: &Mutex<Live>,
    stop: impl Future<Output = ()>,
    mut sink: impl FnMut(&mut Live, &[Report]) -> io::Result<()>,
) -> Result<(), Error> {
    let ring = lock(live).wakeups()?;
    let mut busy_until = Instant::now() + BUSY_FOR;
    let mut next_tick = Instant::now() + BUSY;
    tokio::pin!(stop);
    loop {
        let stopped = tokio::select! {
            ready = ring.readable() => {
                let mut ready = ready?;
                // Cleared first: what arrives while we drain wakes us again.
                ready.clear_ready();
                let now = Instant::now();
                busy_until = now + BUSY_FOR;
                next_tick = next_tick.min(now + BUSY);
                false
            }
            () = tokio::time::sleep_until(next_tick) => {
                let mut live = lock(live);
                let reports = live.tick()?;
                sink(&mut live, &reports)?;
                let now = Instant::now();
                next_tick = now + if now < busy_until || live.busy() { BUSY } else { IDLE };
                false
            }
            () = &mut stop => true,
        };
        while take_batch(live, &mut sink)? {
            // In a storm others have their turn between two batches.
            tokio::task::yield_now().await;
        }
        if stopped {
            let mut live = lock(live);
            let reports = live.drain_out()?;
            sink(&mut live, &reports)?;
            return Ok(());
        }
    }
}

/// One batch from the ring to the sink; says whether there is more.
fn take_batch(
    live: &Mutex<Live>,
    sink: &mut impl FnMut(&mut Live, &[Report]) -> io::Result<()>,
) -> Result<bool, Error> {
    let mut live = lock(live);
    let (reports, more) = live.drain()?;
    sink(&mut live, &reports)?;
    Ok(more)
}

/// Ends when the process is asked to stop: SIGTERM or SIGINT.
pub fn stop_requested() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The same, or when the time is over, if there is one.
pub fn stop_requested_within(duration: Option<Duration>) -> io::Result<impl Future<Output = ()>> {
    let signal = stop_requested()?;
    Ok(async move {
        match duration {
            Some(duration) => drop(tokio::time::timeout(duration, signal).await),
            None => signal.await,
        }
    })
}
