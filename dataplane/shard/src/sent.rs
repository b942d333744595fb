//! What one subscription sent: from an outgoing number back to the source's packet and the numbers that went out with it.
//!
//! A resend repeats exactly what is recorded here. That is more than politeness: the packet is sealed under its number
//! again, and another text under the same number would break the cipher.

use std::time::{Duration, Instant};

use weir_wire::{ExtSeq, RtpTime, Seq};

use crate::limits::{RESEND_INTERVAL_MAX, RESEND_INTERVAL_MIN, RESENDS_MAX};
use crate::publisher::SourceId;
use crate::rewriter::{Outgoing, Picture};

/// One packet that went out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) seq: ExtSeq,
    pub(crate) source: SourceId,
    pub(crate) source_seq: ExtSeq,
    pub(crate) timestamp: RtpTime,
    pub(crate) picture: Picture,
    /// What it was sealed with; `None` before that.
    pub(crate) sealed: Option<Sealed>,
    resends: u8,
    /// Milliseconds since the ring's epoch.
    last_ms: u32,
}

/// What a packet got when it was sealed, and has for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The transport-wide number.
    pub(crate) wide: Option<Seq>,
    /// Bytes of padding that were added.
    pub(crate) padding: u8,
}

impl Sent {
    pub(crate) fn numbers(&self) -> Outgoing {
        Outgoing {
            seq: self.seq,
            timestamp: self.timestamp,
            picture: self.picture,
        }
    }
}

/// The last packets that went out, by number.
#[derive(Debug)]
pub(crate) struct SentRing {
    places: Vec<Option<Sent>>,
    epoch: Instant,
}

/// Why a packet is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAgain {
    /// Never sent, or too long ago.
    Unknown,
    /// Sent a moment ago.
    TooSoon,
    /// Sent often enough.
    TooOften,
}

impl SentRing {
    /// Allocates room for `capacity` packets, a power of two.
    pub(crate) fn new(capacity: usize, epoch: Instant) -> Self {
        Self {
            places: vec![None; capacity.next_power_of_two()],
            epoch,
        }
    }

    fn ms(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.epoch).as_millis() as u32
    }

    fn place(&mut self, seq: Seq) -> &mut Option<Sent> {
        let mask = self.places.len() - 1;
        &mut self.places[usize::from(seq.0) & mask]
    }

    /// Notes that `out` went out for the source's packet `source_seq`.
    pub(crate) fn record(
        &mut self,
        out: Outgoing,
        source: SourceId,
        source_seq: ExtSeq,
        now: Instant,
    ) {
        let Outgoing {
            seq,
            timestamp,
            picture,
        } = out;
        let last_ms = self.ms(now);
        *self.place(seq.seq()) = Some(Sent {
            seq,
            source,
            source_seq,
            timestamp,
            picture,
            sealed: None,
            resends: 0,
            last_ms,
        });
    }

    /// The record of an outgoing number.
    pub(crate) fn get(&mut self, seq: ExtSeq) -> Option<&mut Sent> {
        self.place(seq.seq())
            .as_mut()
            .filter(|sent| sent.seq == seq)
    }

    /// Whether the packet with this number may be sent again now; if so, that counts as done.
    pub(crate) fn take_resend(
        &mut self,
        seq: Seq,
        rtt: Option<Duration>,
        now: Instant,
    ) -> Result<Sent, NotAgain> {
        let now_ms = self.ms(now);
        let sent = self
            .place(seq)
            .as_mut()
            .filter(|sent| sent.seq.seq() == seq)
            .ok_or(NotAgain::Unknown)?;
        let interval = rtt
            .unwrap_or(RESEND_INTERVAL_MIN)
            .min(RESEND_INTERVAL_MAX)
            .max(RESEND_INTERVAL_MIN);
        if now_ms.wrapping_sub(sent.last_ms) < interval.as_millis() as u32 {
            return Err(NotAgain::TooSoon);
        }
        if sent.resends >= RESENDS_MAX {
            return Err(NotAgain::TooOften);
        }
        sent.resends += 1;
        sent.last_ms = now_ms;
        Ok(*sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ring(from: u64, to: u64, start: Instant) -> SentRing {
        let mut ring = SentRing::new(64, start);
        for seq in from..to {
            let out = Outgoing {
                seq: ExtSeq(seq),
                timestamp: RtpTime(seq as u32 * 3),
                picture: Picture::default(),
            };
            ring.record(out, SourceId(1), ExtSeq(seq + 1000), start);
        }
        ring
    }

    #[test]
    fn sends_again_what_was_recorded_at_most_three_times_and_not_too_soon() {
        let start = Instant::now();
        let mut ring = ring(65_500, 65_540, start);
        let mut again = |ms, rtt| {
            ring.take_resend(Seq(3), rtt, start + ms * MS)
                .map(|sent| sent.source_seq.0)
        };
        assert_eq!(again(9, None), Err(NotAgain::TooSoon));
        assert_eq!(again(10, None), Ok(66_539));
        assert_eq!(again(50, Some(60 * MS)), Err(NotAgain::TooSoon));
        assert_eq!(again(70, Some(60 * MS)), Ok(66_539));
        assert_eq!(again(169, Some(900 * MS)), Err(NotAgain::TooSoon));
        assert_eq!(again(170, Some(900 * MS)), Ok(66_539));
        assert_eq!(again(9000, None), Err(NotAgain::TooOften));
    }

    #[test]
    fn does_not_know_what_was_never_sent_or_left_the_ring() {
        let start = Instant::now();
        let mut ring = ring(100, 200, start);
        assert_eq!(
            ring.take_resend(Seq(135), None, start + 50 * MS).err(),
            Some(NotAgain::Unknown)
        );
        assert_eq!(
            ring.take_resend(Seq(200), None, start + 50 * MS).err(),
            Some(NotAgain::Unknown)
        );
        assert_eq!(
            ring.take_resend(Seq(136), None, start + 50 * MS).err(),
            None
        );
    }
}
