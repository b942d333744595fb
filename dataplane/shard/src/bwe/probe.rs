//! Probes: short bursts of padding above the estimate, whose arrival tells whether more would fit.
//!
//! ```text
//! sent:      ▮▮▮▮▮  ▮▮▮▮▮  ▮▮▮▮▮  ▮▮▮▮▮        each tick what the probed rate gives; media in between counts
//! arrives:   ▮▮▮▮▮  ▮▮▮▮▮  ▮▮▮▮▮  ▮▮▮▮▮        as fast as sent: the rate fits
//!            ▮ ▮ ▮ ▮ ▮ ▮ ▮ ▮ ▮ ▮ ▮ ▮ ▮ ▮       slower: what arrives a second is what fits
//! ```
//! The first burst only marks the time: what is counted came behind it.

use weir_wire::ExtSeq;

use super::flight::Packet;
use crate::limits::{PROBE_BYTES_MIN, PROBE_DURATION, PROBE_GIVEN_UP, PROBE_INTERVAL, PROBE_STEP};

/// What arrives at least at this part of the rate at which it was sent, was not held up.
const UNHINDERED: f64 = 0.9;

/// Of what came through a full way, the part that is believed: probes are short, and jitter may flatter them.
const BELIEVED: f64 = 0.95;

/// A probe that showed at least this part of its rate is followed by the next one at once.
const GO_ON: f64 = 0.7;

/// If less than this part of it arrives, a probe shows nothing.
const ARRIVED_MIN: f64 = 0.4;

/// Losses that were there before the probe, up to this part, are the way's own, and made up for.
const LOSS_MADE_UP: f64 = 0.15;

/// Bursts that arrive in less time than this came in one piece; how fast they came before that is not known.
const SPAN_MIN_US: u64 = 1_000;

/// One probe on its way.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    bps: f64,
    began_us: u64,
    /// Bytes that have been sent, and of those the bytes of the first burst.
    bytes: u64,
    first: Option<ExtSeq>,
    last: Option<ExtSeq>,
    last_sent_us: u64,
    ended: bool,
    lost_before: f64,
    arrived: Arrived,
}

/// What the feedback said about a cluster so far.
#[derive(Clone, Copy, Debug, Default)]
struct Arrived {
    packets: u32,
    lost: u32,
    first_burst_us: Option<u64>,
    last_us: u64,
    bytes: u64,
    sent_bytes: u64,
}

/// What a probe has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) bps: f64,
    /// More was sent than the way carries.
    pub(crate) full: bool,
}

/// When to probe, at which rate, and what came of it.
#[derive(Debug)]
pub(crate) struct Prober {
    cluster: Option<Cluster>,
    next_at_us: Option<u64>,
    /// The last probe fitted, so the next one is about to follow.
    rising: bool,
}

impl Prober {
    pub(crate) fn new() -> Self {
        Self {
            cluster: None,
            next_at_us: None,
            rising: false,
        }
    }

    /// Whether padding is being sent.
    pub(crate) fn is_active(&self) -> bool {
        self.cluster.is_some_and(|cluster| !cluster.ended)
    }

    /// Whether more has just been found to fit, and still more is about to be tried.
    pub(crate) fn is_rising(&self) -> bool {
        self.rising
    }

    /// Whether a probe is about to show something: it began less than `within_us` ago.
    pub(crate) fn is_concluding(&self, now_us: u64, within_us: u64) -> bool {
        self.cluster
            .is_some_and(|cluster| now_us.saturating_sub(cluster.began_us) < within_us)
    }

    /// When [`Prober::start`] or [`Prober::due_bytes`] may do something.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        match &self.cluster {
            Some(cluster) if cluster.ended => Some(cluster.began_us + given_up_us()),
            Some(cluster) => Some(cluster.began_us),
            None => self.next_at_us,
        }
    }

    /// Asks for the next probe not before `at_us`.
    pub(crate) fn not_before(&mut self, at_us: u64) {
        self.next_at_us = Some(self.next_at_us.map_or(at_us, |next| next.max(at_us)));
        self.rising = false;
    }

    /// Ends what is under way: it would only make the queue longer.
    pub(crate) fn abandon(&mut self, next_at_us: u64) {
        self.cluster = None;
        self.not_before(next_at_us);
    }

    /// Begins a probe if it is time for one: above `estimate`, but not beyond `goal`. `lost` is the share that gets lost
    /// without it.
    pub(crate) fn start(&mut self, estimate: f64, goal: f64, lost: f64, now_us: u64) {
        if let Some(cluster) = &self.cluster
            && now_us.saturating_sub(cluster.began_us) > given_up_us()
        {
            // Nothing was heard of it.
            self.cluster = None;
            self.not_before(now_us + interval_us());
        }
        if estimate >= goal {
            self.rising = false;
        }
        let wait = self.cluster.is_some() || self.next_at_us.is_some_and(|at| at > now_us);
        if wait || estimate >= goal {
            return;
        }
        self.cluster = Some(Cluster {
            bps: (estimate * PROBE_STEP).min(goal * 1.1),
            began_us: now_us,
            bytes: 0,
            first: None,
            last: None,
            last_sent_us: now_us,
            ended: false,
            lost_before: lost,
            arrived: Arrived::default(),
        });
    }

    /// How many bytes of padding to send now. The probe ends when it has lasted and been large enough.
    pub(crate) fn due_bytes(&self, tick_us: u64, now_us: u64) -> u64 {
        let Some(cluster) = self.cluster.as_ref().filter(|cluster| !cluster.ended) else {
            return 0;
        };
        let until_us = now_us.saturating_sub(cluster.began_us) + tick_us;
        let due = (cluster.bps * until_us as f64 / 8e6) as u64;
        due.saturating_sub(cluster.bytes)
    }

    /// Notes a packet that was sent, media or padding, while a probe lasts.
    pub(crate) fn sent(&mut self, number: ExtSeq, bytes: usize, now_us: u64) {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| !cluster.ended) else {
            return;
        };
        cluster.first.get_or_insert(number);
        cluster.last = Some(number);
        cluster.last_sent_us = now_us;
        cluster.bytes += bytes as u64;
    }

    /// Ends the probe if it has lasted and been large enough.
    pub(crate) fn end_when_done(&mut self, now_us: u64) {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| !cluster.ended) else {
            return;
        };
        let lasted = now_us.saturating_sub(cluster.began_us) >= PROBE_DURATION.as_micros() as u64;
        cluster.ended = lasted && cluster.bytes >= PROBE_BYTES_MIN;
    }

    /// Takes what the feedback says about a packet.
    pub(crate) fn told(&mut self, packet: &Packet, arrival_us: Option<u64>) {
        let Some(cluster) = &mut self.cluster else {
            return;
        };
        let part = cluster.first.is_some_and(|first| packet.number >= first)
            && cluster.last.is_some_and(|last| packet.number <= last);
        if !part {
            return;
        }
        let arrived = &mut cluster.arrived;
        let in_first_burst = packet.sent_us <= cluster.began_us;
        if !in_first_burst {
            arrived.sent_bytes += u64::from(packet.bytes);
        }
        let Some(arrival_us) = arrival_us else {
            arrived.lost += 1;
            return;
        };
        arrived.packets += 1;
        if in_first_burst {
            let first = arrived.first_burst_us.get_or_insert(arrival_us);
            *first = (*first).max(arrival_us);
        } else {
            arrived.bytes += u64::from(packet.bytes);
            arrived.last_us = arrived.last_us.max(arrival_us);
        }
    }

    /// What the probe has shown, once feedback has reached its end.
    pub(crate) fn conclude(&mut self, reported: ExtSeq, now_us: u64) -> Option<Shown> {
        let cluster = self.cluster.filter(|cluster| cluster.ended)?;
        if cluster.last.is_none_or(|last| reported < last) {
            return None;
        }
        self.cluster = None;
        let shown = cluster.shown();
        let fits = shown.is_some_and(|shown| shown.bps >= GO_ON * cluster.bps);
        self.rising = fits;
        self.next_at_us = Some(match fits {
            true => now_us,
            false => now_us + interval_us(),
        });
        shown
    }
}

impl Cluster {
    fn shown(&self) -> Option<Shown> {
        let Arrived {
            packets,
            lost,
            first_burst_us,
            last_us,
            bytes,
            sent_bytes,
        } = self.arrived;
        let arrived = f64::from(packets) / f64::from((packets + lost).max(1));
        let sent_for_us = self.last_sent_us.saturating_sub(self.began_us);
        let arrived_for_us = last_us.saturating_sub(first_burst_us?).max(SPAN_MIN_US);
        if arrived < ARRIVED_MIN || sent_for_us == 0 || bytes == 0 {
            return None;
        }
        let lost = (1.0 - arrived).min(self.lost_before).min(LOSS_MADE_UP);
        let sent_bps = sent_bytes as f64 * 8e6 / sent_for_us as f64;
        let arrived_bps = bytes as f64 / (1.0 - lost) * 8e6 / arrived_for_us as f64;
        Some(match arrived_bps >= UNHINDERED * sent_bps {
            true => Shown {
                bps: sent_bps.min(arrived_bps),
                full: false,
            },
            false => Shown {
                bps: BELIEVED * arrived_bps,
                full: true,
            },
        })
    }
}

fn given_up_us() -> u64 {
    PROBE_GIVEN_UP.as_micros() as u64
}

fn interval_us() -> u64 {
    PROBE_INTERVAL.as_micros() as u64
}
