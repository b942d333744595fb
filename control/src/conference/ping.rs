//! When to ping a participant, and when to give it up.
//!
//! In the late dialect the focus asks and the participant answers. In the early one both say that they live, by themselves.

use std::time::Instant;

use super::Timing;

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing.
    Nothing,
    /// A ping goes out now.
    Ping,
    /// The participant has not answered in time.
    Dead,
}

/// The liveness of one participant, from the opening of its data channel on. One that has said nothing yet is asked.
#[derive(Debug)]
pub(super) enum Ping {
    /// The last ping was answered.
    Idle { due: Instant },
    /// A ping is out.
    Waiting {
        next_due: Instant,
        deadline: Instant,
    },
    /// The participant is not asked, but must be heard of.
    Listening { due: Instant, deadline: Instant },
}

impl Ping {
    pub(super) fn new(timing: &Timing, now: Instant) -> Self {
        Self::Idle {
            due: now + timing.ping_interval,
        }
    }

    /// The participant turns out to speak the early dialect.
    pub(super) fn listen(&mut self, timing: &Timing, now: Instant) {
        let due = match *self {
            Self::Idle { due } | Self::Listening { due, .. } => due,
            Self::Waiting { next_due, .. } => next_due,
        };
        *self = Self::Listening {
            due,
            deadline: now + timing.alive_timeout,
        };
    }

    /// Whatever the participant says is a sign of life, where it is only listened to.
    pub(super) fn handle_heard(&mut self, timing: &Timing, now: Instant) {
        if let Self::Listening { deadline, .. } = self {
            *deadline = now + timing.alive_timeout;
        }
    }

    /// Any pong answers the ping that is out. One that nobody asked for changes nothing.
    pub(super) fn handle_pong(&mut self) {
        if let Self::Waiting { next_due, .. } = *self {
            *self = Self::Idle { due: next_due };
        }
    }

    pub(super) fn handle_timeout(&mut self, timing: &Timing, now: Instant) -> Due {
        match *self {
            Self::Idle { due } if due <= now => {
                *self = Self::Waiting {
                    next_due: now + timing.ping_interval,
                    deadline: now + timing.ping_timeout,
                };
                Due::Ping
            }
            Self::Waiting { deadline, .. } | Self::Listening { deadline, .. }
                if deadline <= now =>
            {
                Due::Dead
            }
            Self::Listening { due, deadline } if due <= now => {
                *self = Self::Listening {
                    due: now + timing.ping_interval,
                    deadline,
                };
                Due::Ping
            }
            Self::Idle { .. } | Self::Waiting { .. } | Self::Listening { .. } => Due::Nothing,
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        match *self {
            Self::Idle { due } => due,
            Self::Waiting { deadline, .. } => deadline,
            Self::Listening { due, deadline } => due.min(deadline),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn pings_at_the_interval_however_long_the_pong_takes() {
        let timing = Timing::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ping = Ping::new(&timing, start);

        assert_eq!(ping.handle_timeout(&timing, at(14)), Due::Nothing);
        assert_eq!(ping.handle_timeout(&timing, at(15)), Due::Ping);
        ping.handle_pong();
        ping.handle_pong();
        assert_eq!(ping.poll_timeout(), at(30));
        assert_eq!(ping.handle_timeout(&timing, at(30)), Due::Ping);
        assert_eq!(ping.handle_timeout(&timing, at(44)), Due::Nothing);
        assert_eq!(ping.handle_timeout(&timing, at(45)), Due::Dead);
    }

    #[test]
    fn who_says_alive_by_itself_is_listened_to_and_told_the_same() {
        let timing = Timing::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut ping = Ping::new(&timing, start);

        // The question that is out needs no answer any more.
        assert_eq!(ping.handle_timeout(&timing, at(15)), Due::Ping);
        ping.listen(&timing, at(20));
        assert_eq!(ping.poll_timeout(), at(30));
        for seconds in [30, 45, 60] {
            assert_eq!(ping.handle_timeout(&timing, at(seconds)), Due::Ping);
        }
        ping.handle_heard(&timing, at(61));
        assert_eq!(ping.handle_timeout(&timing, at(134)), Due::Ping);
        assert_eq!(ping.handle_timeout(&timing, at(135)), Due::Nothing);
        assert_eq!(ping.poll_timeout(), at(136));
        assert_eq!(ping.handle_timeout(&timing, at(136)), Due::Dead);
    }
}
