//! What is to be pushed, and when. To Alertmanager it is a state: the alerts that stand, each told again now and then, and
//! those that are over, until that was told. To a webhook it is a queue of lines.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    check::{Fingerprint, Severity, Violation},
    config::{self, Kind},
    report::{Context, json},
    watcher::{Pushed, Report},
};

use super::{alert::Alert, client::Failure};

/// How many alerts or lines are known at a time: twice as many as violations can be open.
const ROOM: usize = 8192;
/// How many alerts go into one request.
const TOGETHER: usize = 64;

pub struct Queue {
    kind: Kind,
    severity: Severity,
    resend: Duration,
    runbooks: String,
    pages: String,
    alerts: BTreeMap<Id, Standing>,
    lines: VecDeque<String>,
    /// The number of the first of the lines.
    first_line: u64,
    counts: Pushed,
    /// No more will come.
    pub closed: bool,
}

/// By what an alert is known again: its labels differ if one of these does.
type Id = (Fingerprint, Severity);

struct Standing {
    alert: Alert,
    due: Instant,
    /// It is another one than was sent before.
    news: bool,
    /// How often it was changed.
    version: u64,
}

/// What goes into one request.
pub struct Batch {
    pub body: String,
    of: Of,
}

enum Of {
    Alerts(Vec<(Id, u64)>),
    /// By its number.
    Line(u64),
}

impl Queue {
    pub fn new(config: &config::Push, pages: &str) -> Queue {
        Queue {
            kind: config.kind,
            severity: config.severity,
            resend: config.resend,
            runbooks: config.runbooks.clone(),
            pages: pages.to_owned(),
            alerts: BTreeMap::new(),
            lines: VecDeque::new(),
            first_line: 0,
            counts: Pushed::default(),
            closed: false,
        }
    }

    pub fn note(&mut self, report: &Report, context: &Context<'_>, now: Instant) {
        match (self.kind, report) {
            (Kind::Alertmanager, Report::Violation(found) | Report::Restated(found)) => {
                self.note_violation(found, context, now);
            }
            (Kind::Alertmanager, Report::Resolved(over)) => {
                let end = context.clock.rfc3339(over.mono_ns);
                self.end(over.fingerprint, None, &end, now);
            }
            (Kind::Webhook, Report::Violation(found) | Report::Restated(found))
                if found.severity >= self.severity =>
            {
                self.push_line(json::line(report, context));
            }
            (Kind::Webhook, Report::Resolved(over)) if over.severity >= self.severity => {
                self.push_line(json::line(report, context));
            }
            _ => {}
        }
    }

    /// An alert has to be kept up; a line is sent once.
    pub fn stands(&mut self, violation: &Violation, context: &Context<'_>, now: Instant) {
        if self.kind == Kind::Alertmanager {
            self.note_violation(violation, context, now);
        }
    }

    fn note_violation(&mut self, found: &Violation, context: &Context<'_>, now: Instant) {
        let id = (found.fingerprint, found.severity);
        // What is expected pages nobody, and what is told with another severity is another alert.
        let wanted = found.severity >= self.severity && found.expected.is_none();
        let end = jiff::Timestamp::now().to_string();
        self.end(found.fingerprint, wanted.then_some(found.severity), &end, now);
        if !wanted {
            return;
        }
        let alert = Alert::new(found, context, &self.runbooks, &self.pages);
        let full = self.alerts.len() >= ROOM;
        match self.alerts.get_mut(&id) {
            Some(known) => known.change(|known| *known = alert, now),
            None if full => self.counts.dropped += 1,
            None => _ = self.alerts.insert(id, Standing { alert, due: now, news: true, version: 0 }),
        }
    }

    /// The alerts of this violation are over, but for one.
    fn end(&mut self, fingerprint: Fingerprint, but: Option<Severity>, end: &str, now: Instant) {
        let all = (fingerprint, Severity::Info)..=(fingerprint, Severity::Critical);
        for ((_, severity), known) in self.alerts.range_mut(all) {
            if Some(*severity) != but && known.alert.ends_at.is_none() {
                known.change(|alert| alert.ends_at = Some(end.to_owned()), now);
            }
        }
    }

    fn push_line(&mut self, line: String) {
        if self.lines.len() >= ROOM {
            // As everywhere: the first evidence is kept.
            self.counts.dropped += 1;
        } else {
            self.lines.push_back(line);
        }
    }

    /// What is due now.
    pub fn due(&mut self, now: Instant) -> Option<Batch> {
        if let Some(line) = self.lines.front() {
            return Some(Batch { body: line.clone(), of: Of::Line(self.first_line) });
        }
        let due = self.alerts.iter().filter(|(_, known)| known.due <= now).take(TOGETHER);
        let (ids, alerts): (Vec<_>, Vec<_>) =
            due.map(|(id, known)| ((*id, known.version), &known.alert)).unzip();
        let body = serde_json::to_string(&alerts).ok().filter(|_| !ids.is_empty())?;
        Some(Batch { body, of: Of::Alerts(ids) })
    }

    /// When the next one is, if it isn't now.
    pub fn next_due(&self) -> Option<Instant> {
        self.alerts.values().map(|known| known.due).min()
    }

    /// What became of it.
    pub fn settle(&mut self, batch: &Batch, outcome: &Result<(), Failure>, now: Instant) {
        match outcome {
            Ok(()) => self.counts.accepted += 1,
            Err(_) => self.counts.failed += 1,
        }
        let refused = matches!(outcome, Err(Failure::Refused { .. }));
        // Else it is due still.
        if outcome.is_ok() || refused {
            let done = match &batch.of {
                Of::Line(number) => self.settle_line(*number),
                Of::Alerts(ids) => {
                    ids.iter().filter(|(id, version)| self.settle_alert(*id, *version, now)).count()
                }
            };
            self.counts.dropped += if refused { done as u64 } else { 0 };
        }
    }

    fn settle_line(&mut self, number: u64) -> usize {
        if number != self.first_line {
            return 0;
        }
        self.lines.pop_front();
        self.first_line += 1;
        1
    }

    /// Whether it was the one that is known now.
    fn settle_alert(&mut self, id: Id, version: u64, now: Instant) -> bool {
        let Some(known) = self.alerts.get_mut(&id).filter(|known| known.version == version) else {
            return false;
        };
        if known.alert.ends_at.is_some() {
            self.alerts.remove(&id);
        } else {
            (known.due, known.news) = (now + self.resend, false);
        }
        true
    }

    pub fn counts(&self, now: Instant) -> Pushed {
        let waiting =
            self.alerts.values().filter(|known| known.news || known.due <= now).count() + self.lines.len();
        Pushed { waiting: waiting as u64, ..self.counts }
    }
}

impl Standing {
    fn change(&mut self, how: impl FnOnce(&mut Alert), now: Instant) {
        how(&mut self.alert);
        (self.due, self.news) = (now, true);
        self.version += 1;
    }
}
