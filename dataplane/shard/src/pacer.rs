//! Holds back what is sent besides the media: resends make no burst, and are never more than a part of everything.

use std::time::{Duration, Instant};

use crate::limits::{PACED_BURST, RESEND_SHARE, RESEND_SHARE_OVER};

/// A budget that fills at a rate and holds what that rate gives in some time. It may go below zero by one packet.
#[derive(Debug)]
struct Bucket {
    depth: Duration,
    /// In bits.
    level: f64,
    filled_at: Option<Instant>,
}

impl Bucket {
    fn new(depth: Duration) -> Self {
        Self {
            depth,
            level: 0.0,
            filled_at: None,
        }
    }

    fn fill(&mut self, bps: f64, now: Instant) {
        let full = bps * self.depth.as_secs_f64();
        let since = match self.filled_at.replace(now) {
            Some(before) => now.saturating_duration_since(before).as_secs_f64(),
            None => self.depth.as_secs_f64(),
        };
        self.level = (self.level + bps * since).min(full);
    }

    fn has_any(&self) -> bool {
        self.level > 0.0
    }

    fn take(&mut self, bytes: usize) {
        self.level -= bytes as f64 * 8.0;
    }
}

/// Whether a resend may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Now,
    /// With a later tick: it would make a burst.
    Later,
    /// Not at all: resends have had their part.
    Never,
}

/// The resends of one transport.
#[derive(Debug)]
pub(crate) struct Pacer {
    burst: Bucket,
    share: Bucket,
}

impl Pacer {
    pub(crate) fn new() -> Self {
        Self {
            burst: Bucket::new(PACED_BURST),
            share: Bucket::new(RESEND_SHARE_OVER),
        }
    }

    /// Decides about a resend, when `bps` may be sent in all.
    pub(crate) fn judge(&mut self, bps: u64, now: Instant) -> Verdict {
        let bps = bps as f64;
        self.share.fill(bps * RESEND_SHARE, now);
        self.burst.fill(bps, now);
        match (self.share.has_any(), self.burst.has_any()) {
            (false, _) => Verdict::Never,
            (true, false) => Verdict::Later,
            (true, true) => Verdict::Now,
        }
    }

    /// Counts a resend that leaves.
    pub(crate) fn note_resend(&mut self, bytes: usize) {
        self.share.take(bytes);
        self.burst.take(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Asks for as many resends of 1000 bytes as possible, every 5 ms; how many left at each.
    fn resends(bps: u64, ticks: u32) -> Vec<u32> {
        let start = Instant::now();
        let mut pacer = Pacer::new();
        let at_tick = |tick| {
            let mut count = 0;
            while pacer.judge(bps, start + 5 * tick * MS) == Verdict::Now {
                pacer.note_resend(1000);
                count += 1;
            }
            count
        };
        (0..ticks).map(at_tick).collect()
    }

    #[test]
    fn a_flood_leaves_in_bursts_of_five_milliseconds() {
        // 8 Mb/s is 5000 bytes each 5 ms.
        let resends = resends(8_000_000, 20);
        assert!(resends.iter().all(|count| *count <= 6), "{resends:?}");
        assert!(resends[..20].iter().sum::<u32>() >= 95, "{resends:?}");
    }

    #[test]
    fn a_flood_is_at_most_fifteen_percent() {
        // A minute at 1 Mb/s is 7500 packets of 1000 bytes.
        let resends: u32 = resends(1_000_000, 12_000).iter().sum();
        assert!((1120..=1150).contains(&resends), "{resends}");
    }
}
