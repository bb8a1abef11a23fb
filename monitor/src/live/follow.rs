//! Following a kernel until told to stop.

use std::{
    future::Future,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::signal::unix::{SignalKind, signal};

use super::{Error, Live};
use crate::watcher::Report;

/// How often what no record tells is looked after.
const TICK: Duration = Duration::from_millis(200);

/// The live kernel, for one at a time. Who panics while he holds it leaves it as it is.
pub fn lock(live: &Mutex<Live>) -> MutexGuard<'_, Live> {
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives every report to `sink`, until `stop` ends; then what is in the ring still, and returns.
pub async fn follow(
    live: &Mutex<Live>,
    stop: impl Future<Output = ()>,
    mut sink: impl FnMut(&mut Live, &[Report]) -> io::Result<()>,
) -> Result<(), Error> {
    let ring = lock(live).wakeups()?;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(stop);
    loop {
        let stopped = tokio::select! {
            ready = ring.readable() => {
                let mut ready = ready?;
                // Cleared first: what arrives while we drain wakes us again.
                ready.clear_ready();
                false
            }
            _ = ticks.tick() => {
                let mut live = lock(live);
                let reports = live.tick()?;
                sink(&mut live, &reports)?;
                false
            }
            () = &mut stop => true,
        };
        while take_batch(live, &mut sink)? {
            // In a storm others have their turn between two batches.
            tokio::task::yield_now().await;
        }
        if stopped {
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
