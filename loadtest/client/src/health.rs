//! How well the generator itself keeps up: whoever judges a focus looks here first.
//!
//! One set of counters for the process, whatever the number of participants: they share its processors. Exact, except that a
//! late packet is late against its schedule, whichever part of the machine made it late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

/// What the generator missed so far, all of it since the process began; differences of two snapshots tell of the time between.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct GeneratorHealth {
    /// How late frames and audio packets were sent, against the schedule of their publisher.
    pub send_late: Histogram,
    /// How late the tasks of participants woke up for their timers.
    pub timer_late: Histogram,
    /// How late the threads that receive came back to their sockets.
    pub socket_late: Histogram,
    /// Datagrams that sockets of participants lost because their buffers were full. For light participants only those that
    /// came while nothing was dropped on purpose: see [`TransportReport::overflowed`](crate::report::TransportReport::overflowed).
    pub socket_overflows: u64,
    /// Received packets that were thrown away because the participant's task did not take them in time.
    pub queue_overflows: u64,
    /// Frames that were not decoded because the decoders were behind.
    pub frames_not_decoded: u64,
    /// Datagrams that the system refused to send.
    pub send_errors: u64,
    /// Participants that are running.
    pub participants: u64,
}

impl GeneratorHealth {
    /// What happened since an earlier snapshot; `participants` is that of now.
    pub fn since(&self, earlier: &GeneratorHealth) -> GeneratorHealth {
        GeneratorHealth {
            send_late: self.send_late.since(&earlier.send_late),
            timer_late: self.timer_late.since(&earlier.timer_late),
            socket_late: self.socket_late.since(&earlier.socket_late),
            socket_overflows: self
                .socket_overflows
                .saturating_sub(earlier.socket_overflows),
            queue_overflows: self.queue_overflows.saturating_sub(earlier.queue_overflows),
            frames_not_decoded: self
                .frames_not_decoded
                .saturating_sub(earlier.frames_not_decoded),
            send_errors: self.send_errors.saturating_sub(earlier.send_errors),
            participants: self.participants,
        }
    }
}

/// The counters behind the snapshot.
#[derive(Debug, Default)]
pub(crate) struct Health {
    send_late: Mutex<Histogram>,
    timer_late: Mutex<Histogram>,
    socket_late: Mutex<Histogram>,
    pub(crate) socket_overflows: AtomicU64,
    pub(crate) queue_overflows: AtomicU64,
    pub(crate) frames_not_decoded: AtomicU64,
    pub(crate) send_errors: AtomicU64,
    pub(crate) participants: AtomicU64,
}

/// Which lateness.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Late {
    Send,
    Timer,
    Socket,
}

pub(crate) static HEALTH: LazyLock<Health> = LazyLock::new(Health::default);

impl Health {
    pub(crate) fn late(&self, what: Late, by: std::time::Duration) {
        let histogram = match what {
            Late::Send => &self.send_late,
            Late::Timer => &self.timer_late,
            Late::Socket => &self.socket_late,
        };
        histogram
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(by);
    }

    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a participant as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted;

impl Counted {
    pub(crate) fn new() -> Counted {
        Health::count(&HEALTH.participants);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        HEALTH.participants.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A snapshot of the process as it is now.
pub fn generator_health() -> GeneratorHealth {
    let histogram =
        |of: &Mutex<Histogram>| of.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let counter = |of: &AtomicU64| of.load(Ordering::Relaxed);
    let health = &*HEALTH;
    GeneratorHealth {
        send_late: histogram(&health.send_late),
        timer_late: histogram(&health.timer_late),
        socket_late: histogram(&health.socket_late),
        socket_overflows: counter(&health.socket_overflows),
        queue_overflows: counter(&health.queue_overflows),
        frames_not_decoded: counter(&health.frames_not_decoded),
        send_errors: counter(&health.send_errors),
        participants: counter(&health.participants),
    }
}
