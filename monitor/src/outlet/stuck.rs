//! Whoever takes the lines, and takes none: since when, and what is told of it. Once when it is noticed, once when nothing more
//! can be kept on the disk, and once when he is back.

use std::{
    io,
    time::{Duration, Instant},
};

#[derive(Debug)]
pub(super) struct Stuck {
    /// Where the lines go.
    name: &'static str,
    since: Option<Instant>,
    told: bool,
    told_full: bool,
    /// Lines that were dropped before that.
    dropped: u64,
}

impl Stuck {
    pub fn new(name: &'static str) -> Stuck {
        Stuck { name, since: None, told: false, told_full: false, dropped: 0 }
    }

    /// Nothing was taken now. Gives for how long that has been so.
    pub fn waits(&mut self, dropped: u64) -> Duration {
        if self.since.is_none() {
            self.dropped = dropped;
        }
        self.since.get_or_insert_with(Instant::now).elapsed()
    }

    /// What there is to tell of that, if it is news. `spool`: what waits goes there.
    pub fn noticed(&mut self, spool: bool) -> Option<String> {
        let news = self.since.is_some() && !std::mem::replace(&mut self.told, true);
        let place = if spool { "go to the spool" } else { "are kept in memory, which holds 8 MiB of them" };
        news.then(|| format!("{} takes no more lines: they {place}, and the watching goes on", self.name))
    }

    /// The spool took no more: it has reached its bound, or the disk refused it.
    pub fn full(&mut self, why: Option<&io::Error>) -> Option<String> {
        let news = self.since.is_some() && !std::mem::replace(&mut self.told_full, true);
        let why = why.map_or_else(|| "it has what it may hold".to_owned(), ToString::to_string);
        news.then(|| {
            format!(
                "the spool takes no more ({why}): further lines are kept in memory, which holds 8 MiB of them; what \
                 comes then is dropped"
            )
        })
    }

    /// Something was taken. Nothing is told of a wait of which nothing was told.
    pub fn taken(&mut self, dropped: u64) -> Option<String> {
        let Stuck { name, told, dropped: before, .. } = std::mem::replace(self, Stuck::new(self.name));
        let lost = match dropped.saturating_sub(before) {
            0 => "none was dropped".to_owned(),
            lines => format!("{lines} were dropped"),
        };
        told.then(|| format!("{name} takes lines again: what waited comes in order, {lost}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_told_once_and_anew_the_next_time() {
        let mut stuck = Stuck::new("stdout");
        for dropped in [7, 9] {
            assert_eq!(stuck.noticed(true), None, "nothing waits");
            stuck.waits(dropped);
            assert!(
                stuck
                    .noticed(true)
                    .is_some_and(|said| said.starts_with("stdout takes no more lines: they go to the spool"))
            );
            assert_eq!(stuck.noticed(true), None);
            let full = io::Error::from(io::ErrorKind::StorageFull);
            assert!(stuck.full(Some(&full)).is_some_and(|said| said.contains("no storage space")));
            assert_eq!(stuck.full(None), None);
            stuck.waits(dropped + 1);
            assert!(stuck.taken(dropped + 2).is_some_and(|said| said.contains("2 were dropped")));
        }
    }

    #[test]
    fn a_reader_who_is_only_slow_is_not_told_of() {
        let mut stuck = Stuck::new("stdout");
        stuck.waits(0);
        assert_eq!(stuck.taken(0), None);
    }
}
