//! What the service manager is told (sd_notify(3)): that the daemon watches, that it still does, that it stops. Without
//! one nobody is told anything.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sd_notify::NotifyState;

use super::pulse::Pulse;

/// What tells the service manager.
pub struct Service {
    /// By which others know that the loop comes around.
    pulse: Arc<Pulse>,
    /// How often it wants to hear that the daemon lives; `None`: it doesn't ask.
    beat: Option<Duration>,
    beaten: Option<Instant>,
    ready: bool,
}

impl Service {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn of_environment(pulse: Arc<Pulse>) -> Service {
        Service {
            pulse,
            // A beat that comes late by as much as that is in time still.
            beat: sd_notify::watchdog_enabled().map(|limit| limit / 3),
            beaten: None,
            ready: false,
        }
    }

    /// To be called by the loop that watches, each time that it has come around: nothing else shows that it does.
    /// `ready`: what is found from now on is judged.
    pub fn comes_around(&mut self, ready: bool) {
        self.pulse.beat();
        if ready && !std::mem::replace(&mut self.ready, true) {
            tell(&[NotifyState::Ready, NotifyState::Status("watching")]);
        }
        if self.beat_is_due(Instant::now()) {
            tell(&[NotifyState::Watchdog]);
        }
    }

    fn beat_is_due(&mut self, now: Instant) -> bool {
        let Some(beat) = self.beat else { return false };
        let due = self.beaten.is_none_or(|last| now.duration_since(last) >= beat);
        if due {
            self.beaten = Some(now);
        }
        due
    }

    /// The daemon ends, as it was asked to.
    pub fn stops() {
        tell(&[NotifyState::Stopping]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // That it can't be told is no reason not to watch; and it will find out.
    let _ = sd_notify::notify(states);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(beat: Option<Duration>) -> Service {
        Service { pulse: Arc::new(Pulse::new()), beat, beaten: None, ready: false }
    }

    #[test]
    fn what_feeds_the_watchdog_is_what_the_health_goes_by() {
        let mut service = service(None);
        let before = service.pulse.last();
        std::thread::sleep(Duration::from_millis(1));
        service.comes_around(false);
        assert!(service.pulse.last() > before);
    }

    #[test]
    fn it_beats_as_often_as_it_is_asked_to_and_no_more() {
        let mut service = service(Some(Duration::from_secs(10)));
        let start = Instant::now();
        let due = [0, 9, 10, 19, 20].map(|seconds| service.beat_is_due(start + Duration::from_secs(seconds)));
        assert_eq!(due, [true, false, true, false, true]);
    }

    #[test]
    fn nobody_who_does_not_ask_hears_a_beat() {
        assert!(!service(None).beat_is_due(Instant::now()));
    }
}
