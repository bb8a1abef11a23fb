//! The daemon's reports on their way out: held within the bounds, written as lines, pushed, and what became of them counted.

use std::{io, path::PathBuf, time::Duration};

use crate::{
    config::Config,
    kernel::{clock, names},
    live::Live,
    outlet::{
        journal::{self, Journal},
        limit::{Limiter, Limits},
        marks,
        push::Push,
        sink::{Descriptor, Sink},
        spool::Spool,
        stdout::{Opener, Outlet},
    },
    report::Context,
    watcher::{Report, Suppressed, SuppressedBy, Told},
};

use super::{
    Global,
    output::{Output, context},
};

/// How long is gathered what was dropped, in ns, before a line tells of it.
const GATHERED_NS: u64 = 10_000_000_000;
/// What a spool may hold, if nobody says otherwise, in MiB.
const SPOOL_MIB: u64 = 64;
/// Where systemd says that state may be kept (`StateDirectory=`): several directories have colons between them.
const STATE_DIRECTORY: &str = "STATE_DIRECTORY";

pub struct Teller {
    output: Output,
    outlet: Outlet,
    limiter: Limiter,
    push: Option<Push>,
    /// What stood before this process is known to whoever is pushed to.
    caught_up: bool,
    /// What was dropped, and damaged in the spool, as far as a line told of it; and when one did.
    dropped: Missing,
    damaged: Missing,
}

/// Lines that are missing, as far as that was told.
struct Missing {
    by: SuppressedBy,
    told: u64,
    told_ns: Option<u64>,
}

impl Teller {
    /// `to`: where lines go; `address`: where the pages are, for whoever is pushed to.
    pub fn start(
        output: Output,
        to: Box<dyn Sink>,
        config: &Config,
        address: &str,
        live: &Live,
    ) -> io::Result<Teller> {
        names::look_up_plainly();
        let push = config.push.as_ref().map(|push| Push::start(push.clone(), address));
        // What the process after this one need not tell again.
        let told = live.teller().map(|journal| Box::new(move |before| journal.told(before)) as marks::Told);
        Ok(Teller {
            output,
            outlet: Outlet::start(to, spool(&config.output), told)?,
            limiter: Limiter::new(Limits::new(&config.output), clock::monotonic_ns()),
            push: push.transpose()?,
            caught_up: false,
            dropped: Missing::new(SuppressedBy::Output),
            damaged: Missing::new(SuppressedBy::Spool),
        })
    }

    /// To be called every now and then, with no reports as well. An error: nobody reads stdout any more.
    pub fn tell(&mut self, live: &mut Live, reports: &[Report]) -> io::Result<()> {
        let now_ns = clock::monotonic_ns();
        let context = context(live.watcher.options(), live.stacks());
        self.put(reports, &context, now_ns)?;
        if let Some(missing) = self.limiter.untold(now_ns, false) {
            self.put(&[missing], &context, now_ns)?;
        }
        let (dropped, damaged) = (self.outlet.dropped(), self.outlet.damaged());
        let missing = [self.dropped.untold(dropped, now_ns), self.damaged.untold(damaged, now_ns)];
        for missing in missing.into_iter().flatten() {
            self.put(&[missing], &context, now_ns)?;
        }
        self.outlet.mark(live.given_out());
        self.catch_up(live, &context);
        live.watcher.told(self.told());
        Ok(())
    }

    /// Once what stands is known: what another process told of, nobody tells again, but an alert has to be kept up.
    fn catch_up(&mut self, live: &Live, context: &Context<'_>) {
        if self.caught_up || live.ready().is_err() {
            return;
        }
        self.caught_up = true;
        if let Some(push) = &self.push {
            live.watcher.violations().for_each(|violation| push.stands(violation, context));
        }
    }

    fn put(&mut self, reports: &[Report], context: &Context<'_>, now_ns: u64) -> io::Result<()> {
        let mut lines = String::new();
        for report in reports {
            if self.limiter.lets_through(report, now_ns) {
                lines += &self.output.line(report, context);
                lines.push('\n');
                if let Some(push) = &self.push {
                    push.note(report, context);
                }
            }
        }
        self.outlet.send(lines)
    }

    fn told(&self) -> Told {
        Told {
            dropped: self.outlet.dropped() + self.outlet.damaged(),
            suppressed: self.limiter.counts().clone(),
            spool: self.outlet.spooled(),
            push: self.push.as_ref().map(Push::counts),
        }
    }

    /// The last lines may take so long; `Err`: so many are not written.
    pub fn close(mut self, live: &Live, patience: Duration) -> Result<(), u64> {
        let now_ns = clock::monotonic_ns();
        if let Some(missing) = self.limiter.untold(now_ns, true) {
            // That nobody reads is told by what comes next.
            let _ = self.put(&[missing], &context(live.watcher.options(), live.stacks()), now_ns);
        }
        if let Some(push) = self.push {
            push.close(patience);
        }
        self.outlet.close(patience)
    }
}

impl Missing {
    fn new(by: SuppressedBy) -> Missing {
        Missing { by, told: 0, told_ns: None }
    }

    /// The line that tells of what is missing by now, if it is time for one.
    fn untold(&mut self, lines: u64, now_ns: u64) -> Option<Report> {
        let more = lines.checked_sub(self.told).filter(|&more| more > 0)?;
        if self.told_ns.is_some_and(|told| now_ns.saturating_sub(told) < GATHERED_NS) {
            return None;
        }
        (self.told, self.told_ns) = (lines, Some(now_ns));
        let Missing { by, .. } = *self;
        Some(Report::Suppressed(Suppressed {
            mono_ns: now_ns,
            by,
            lines: more,
            total: lines,
            checks: Vec::new(),
        }))
    }
}

/// Where the daemon's lines go: to stdout. Where that is the journal, and nobody asked for a format, they become its entries.
pub fn outlet(global: &Global) -> io::Result<Box<dyn Sink>> {
    if global.format.is_none() && journal::is_stdout() {
        match Journal::open(journal::SOCKET.as_ref()) {
            Ok(journal) => return Ok(Box::new(journal)),
            Err(error) => eprintln!("iommu-watch: {}: {error}; lines go to stdout", journal::SOCKET),
        }
    }
    Ok(Box::new(Descriptor::stdout()?))
}

/// The spool, as it is configured; else below the directory that systemd gives.
fn spool(output: &crate::config::Output) -> Option<Opener> {
    let given = std::env::var_os(STATE_DIRECTORY).and_then(|all| std::env::split_paths(&all).next());
    let directory = output.spool.clone().or(given.map(|state| state.join("spool")))?;
    opener(directory, output.spool_mib.unwrap_or(SPOOL_MIB))
}

fn opener(directory: PathBuf, mib: u64) -> Option<Opener> {
    let open = move || Spool::open(&directory, mib << 20);
    (mib > 0).then(|| Box::new(open) as Opener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_at_once_and_then_every_ten_seconds() {
        let mut missing = Missing::new(SuppressedBy::Output);
        let told = |report: Option<Report>| match report {
            Some(Report::Suppressed(told)) => Some((told.lines, told.total)),
            _ => None,
        };
        assert_eq!(told(missing.untold(0, 1)), None);
        assert_eq!(told(missing.untold(5, 2)), Some((5, 5)));
        assert_eq!(told(missing.untold(9, GATHERED_NS)), None);
        assert_eq!(told(missing.untold(9, GATHERED_NS + 2)), Some((4, 9)));
        assert_eq!(told(missing.untold(9, 5 * GATHERED_NS)), None);
    }
}
