//! What a receiver report says about one source (RFC 3550 §6.4.1, Appendix A.3 and A.8).

use std::time::Instant;

use weir_wire::rtcp::ReportBlock;
use weir_wire::{ExtSeq, RtpTime};

use crate::timing::{self, ReportedTime};

/// Losses and jitter of one source, as its receiver sees them.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    first: Option<ExtSeq>,
    highest: ExtSeq,
    received: u64,
    expected_before: u64,
    received_before: u64,
    /// In sixteenths of RTP units, as in Appendix A.8.
    jitter: u32,
    last_transit: Option<(i64, u32)>,
    /// As last reported, in 256ths.
    fraction_lost: u8,
}

impl Reception {
    /// Counts a packet; `since_epoch` is its arrival in RTP units of the source's clock.
    pub(crate) fn count(&mut self, seq: ExtSeq, timestamp: RtpTime, since_epoch: i64) {
        let first = *self.first.get_or_insert(seq);
        self.first = Some(first.min(seq));
        self.highest = self.highest.max(seq);
        self.received += 1;
        let transit = (since_epoch, timestamp.0);
        if let Some((arrival, sent)) = self.last_transit.replace(transit) {
            let step = (since_epoch - arrival) - i64::from(timestamp.0.wrapping_sub(sent) as i32);
            let step = u32::try_from(step.unsigned_abs())
                .unwrap_or(u32::MAX >> 5)
                .min(u32::MAX >> 5);
            self.jitter = self
                .jitter
                .wrapping_add(step)
                .wrapping_sub((self.jitter + 8) >> 4);
        }
    }

    fn expected(&self) -> u64 {
        self.first.map_or(0, |first| self.highest.0 - first.0 + 1)
    }

    /// Packets that were expected and have not come.
    pub(crate) fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    /// Lost of what was expected, as last reported, in 256ths.
    pub(crate) fn fraction_lost(&self) -> u8 {
        self.fraction_lost
    }

    /// In RTP time units.
    pub(crate) fn jitter(&self) -> u32 {
        self.jitter >> 4
    }

    /// Whether anything came since the last report.
    pub(crate) fn is_due(&self) -> bool {
        self.received != self.received_before
    }

    /// The block for a report that goes out now.
    pub(crate) fn report(
        &mut self,
        ssrc: u32,
        sender_report: Option<ReportedTime>,
        now: Instant,
    ) -> ReportBlock {
        let expected = self.expected();
        let expected_now = expected - self.expected_before.min(expected);
        let received_now = self.received - self.received_before;
        self.expected_before = expected;
        self.received_before = self.received;
        let lost = expected_now.saturating_sub(received_now);
        self.fraction_lost = (lost << 8).checked_div(expected_now).unwrap_or(0).min(255) as u8;
        let (last_report, delay) = sender_report.map_or((0, 0), |report| {
            let waited = timing::ntp(now.saturating_duration_since(report.arrival));
            ((report.ntp >> 16) as u32, (waited >> 16) as u32)
        });
        ReportBlock {
            ssrc,
            fraction_lost: self.fraction_lost,
            cumulative_lost: self.lost().clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_sequence: self.highest.0 as u32,
            jitter: self.jitter(),
            last_sr: last_report,
            delay_since_last_sr: delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn counts_losses_of_the_interval_and_of_all_time() {
        let now = Instant::now();
        let mut reception = Reception::default();
        for seq in (65_530..65_530 + 100).filter(|seq| seq % 4 != 0) {
            reception.count(ExtSeq(seq), RtpTime(0), 0);
        }
        let report = ReportedTime {
            ntp: 0x0000_1234_5678_0000,
            rtp: RtpTime(0),
            arrival: now,
        };
        let block = reception.report(9, Some(report), now + Duration::from_millis(500));
        // 100 numbers up to 65629, of which 25 are missing; the last (65628 is missing, 65629 came).
        assert_eq!(block.fraction_lost, 64);
        assert_eq!(
            (block.cumulative_lost, block.highest_sequence),
            (25, 65_629)
        );
        assert_eq!(
            (block.last_sr, block.delay_since_last_sr),
            (0x1234_5678, 0x8000)
        );
        assert!(!reception.is_due());
        reception.count(ExtSeq(65_630), RtpTime(0), 0);
        let block = reception.report(9, None, now);
        assert_eq!(
            (block.fraction_lost, block.cumulative_lost, block.last_sr),
            (0, 25, 0)
        );
    }

    #[test]
    fn duplicates_count_as_negative_loss() {
        let mut reception = Reception::default();
        for _ in 0..3 {
            reception.count(ExtSeq(7), RtpTime(0), 0);
        }
        assert_eq!(
            reception.report(9, None, Instant::now()).cumulative_lost,
            -2
        );
    }

    #[test]
    fn jitter_is_the_smoothed_change_of_transit_time() {
        let mut reception = Reception::default();
        for packet in 0..500i64 {
            // Every second packet comes 160 units late.
            reception.count(
                ExtSeq(packet as u64),
                RtpTime(packet as u32 * 960),
                packet * 960 + (packet % 2) * 160,
            );
        }
        let jitter = reception.report(9, None, Instant::now()).jitter;
        assert!((150..=160).contains(&jitter), "{jitter}");
    }
}
