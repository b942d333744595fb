//! Signs of life on the data channel: when to give one, and when the focus has given none for too long.
//!
//! In the late dialect the focus asks at least every 30 s. In the early one both sides say `alive` by themselves, and the text does
//! not say how often.

use std::time::{Duration, Instant};

use crate::channel::Dialect;

/// Half of what the late text allows, so that one may be lost.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// A focus that was heard before and is silent for so long is gone: two of its pings are missing, at their rarest.
const SILENCE_MAX: Duration = Duration::from_secs(65);

/// The signs of life of one call.
#[derive(Debug)]
pub(crate) struct Alive {
    /// When the next one is given that nobody asked for; never in the late dialect.
    due: Option<Instant>,
    /// The focus's last one; `None` for one that gives none.
    heard: Option<Instant>,
}

impl Alive {
    /// In the early dialect the first one is due at once: the focus learns from it what is spoken.
    pub(crate) fn new(dialect: Dialect, now: Instant) -> Alive {
        Alive {
            due: (dialect == Dialect::Early).then_some(now),
            heard: None,
        }
    }

    pub(crate) fn handle_ping(&mut self, now: Instant) {
        self.heard = Some(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let silent = self.heard.map(|heard| heard + SILENCE_MAX);
        self.due.into_iter().chain(silent).min()
    }

    /// Whether one is to be given now.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = Some(now + ALIVE_EVERY);
        }
        is_due
    }

    /// Whether the focus is gone.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| heard + SILENCE_MAX <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_early_dialect_says_alive_at_once_and_every_15_s() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut alive = Alive::new(Dialect::Early, start);
        assert!(alive.take_due(start));
        assert!(!alive.take_due(at(14)));
        assert_eq!(alive.poll_timeout(), Some(at(15)));
        assert!(alive.take_due(at(15)));

        let mut alive = Alive::new(Dialect::Late, start);
        assert!(!alive.take_due(at(3600)), "only when it is asked");
        assert_eq!(alive.poll_timeout(), None);
    }

    #[test]
    fn a_focus_that_was_heard_and_falls_silent_is_gone() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut alive = Alive::new(Dialect::Late, start);
        assert!(!alive.is_silent(at(3600)), "it has never pinged");
        alive.handle_ping(at(30));
        assert_eq!(alive.poll_timeout(), Some(at(95)));
        assert!(!alive.is_silent(at(94)));
        alive.handle_ping(at(94));
        assert!(!alive.is_silent(at(158)));
        assert!(alive.is_silent(at(159)));
    }
}
