//! Asking the kernel for the state of groups, of those that are unknown above all.

use super::{Error, Live};
use crate::{
    input::{Input, Resync},
    kernel::snapshot::{self, Answer},
    watcher::Report,
};

/// Groups asked for their state before the answers are taken: they must fit the ring.
pub(super) const ASKED: usize = 16;
/// How soon a group that stays unknown is asked again, in ns; doubled each time, up to the longest.
pub(super) const ASK_AGAIN: u64 = 500_000_000;
const ASK_AGAIN_LONGEST: u64 = 60_000_000_000;

impl Live {
    /// Asks groups whose state isn't known: at once when there is a new one, else ever more rarely.
    pub(super) fn ask_unknown(&mut self, now: u64) -> Result<Vec<Report>, Error> {
        let unknown = self.unknown_groups()?;
        if unknown.iter().any(|group| !self.asked.contains(group)) {
            self.ask_after = ASK_AGAIN;
        } else if unknown.is_empty() || now < self.ask_at {
            self.asked.retain(|group| unknown.contains(group));
            return Ok(Vec::new());
        }
        self.ask_at = now + self.ask_after;
        self.ask_after = (self.ask_after * 2).min(ASK_AGAIN_LONGEST);
        self.asked.clone_from(&unknown);
        let reason = if std::mem::take(&mut self.lossy) { Resync::Loss } else { Resync::Start };
        self.resync(&unknown, reason)
    }

    /// The groups whose state isn't known. After a loss that may be some whose coming was lost.
    fn unknown_groups(&self) -> Result<Vec<u32>, Error> {
        let mut unknown = self.watcher.unknown_groups();
        if self.lossy {
            let there = self.groups_in_sysfs()?;
            let host = self.watcher.host();
            unknown.extend(there.into_iter().filter(|&group| host.group_by_id(group).is_none()));
        }
        Ok(unknown)
    }

    pub(super) fn resync_all(&mut self, reason: Resync) -> Result<Vec<Report>, Error> {
        let groups = self.groups_in_sysfs()?;
        self.resync(&groups, reason)
    }

    pub(super) fn groups_in_sysfs(&self) -> Result<Vec<u32>, Error> {
        snapshot::groups(&self.sysfs.groups()).map_err(|source| self.sysfs_error(source))
    }

    /// Asks the kernel for the state of these groups, and counts that.
    pub(super) fn resync(&mut self, groups: &[u32], reason: Resync) -> Result<Vec<Report>, Error> {
        let mut reports = self.tell(Input::Resync(reason));
        reports.extend(self.ask(groups)?);
        Ok(reports)
    }

    /// Asks the kernel for the state of these groups. The answers are in the ring; so that they fit, it is
    /// emptied now and then.
    pub(super) fn ask(&mut self, groups: &[u32]) -> Result<Vec<Report>, Error> {
        let mut reports = Vec::new();
        for asked in groups.chunks(ASKED) {
            let (before, mut answers) = (self.heard(), None);
            for &group in asked {
                // A group that can't be read stays unknown, which is shown and asked again.
                match snapshot::request(&self.sysfs.groups(), group) {
                    Ok(Answer::Asked) => answers = Some(group),
                    Ok(Answer::Gone) => {
                        // What it reported before it went is in the ring still.
                        reports.extend(self.drain()?.0);
                        reports.extend(self.tell(Input::Gone(group)));
                    }
                    Err(_) => {}
                }
            }
            reports.extend(self.drain()?.0);
            if let Some(group) = answers {
                reports.extend(self.listen(group, before)?);
            }
        }
        Ok(reports)
    }
}
