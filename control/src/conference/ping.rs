//! When to ping a participant, and when to give it up.

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

/// The liveness of one participant, from the opening of its data channel on.
#[derive(Debug)]
pub(super) enum Ping {
    /// The last ping was answered.
    Idle { due: Instant },
    /// A ping is out.
    Waiting {
        next_due: Instant,
        deadline: Instant,
    },
}

impl Ping {
    pub(super) fn new(timing: &Timing, now: Instant) -> Self {
        Self::Idle {
            due: now + timing.ping_interval,
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
            Self::Waiting { deadline, .. } if deadline <= now => Due::Dead,
            Self::Idle { .. } | Self::Waiting { .. } => Due::Nothing,
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        match *self {
            Self::Idle { due } => due,
            Self::Waiting { deadline, .. } => deadline,
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
}
