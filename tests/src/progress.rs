//! Tells a waiting person what is going on, on stderr.

use std::fmt::Display;
use std::time::Instant;

/// Says `what` before `work`, and how long it took after it.
pub fn step<T>(what: impl Display, work: impl FnOnce() -> T) -> T {
    eprintln!("testbed: {what} …");
    let start = Instant::now();
    let done = work();
    eprintln!("testbed: {what}: {:.1} s", start.elapsed().as_secs_f64());
    done
}
