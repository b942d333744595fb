//! Puts RTCP packets together into one datagram.

use super::feedback::{REMB_IDENTIFIER, nack_pairs, remb_rate};
use super::report::SDES_CNAME;
use super::{ReportBlock, SenderInfo, kind, twcc};
use crate::cursor::{self, NoRoom};
use crate::seq::Seq;

/// Report blocks, SSRCs or chunks that the five bits of a header can count.
pub const COUNT_MAX: usize = 31;

/// Appends packets to a buffer. One that does not fit is left out whole, and those before it stay.
#[derive(Debug)]
pub struct Writer<'a> {
    inner: cursor::Writer<'a>,
}

impl<'a> Writer<'a> {
    /// Starts a datagram at the front of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self {
            inner: cursor::Writer::new(out),
        }
    }

    /// Bytes so far, always a multiple of four.
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether nothing has been written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends a sender report with at most [`COUNT_MAX`] report blocks.
    pub fn sender_report(
        &mut self,
        ssrc: u32,
        info: &SenderInfo,
        reports: &[ReportBlock],
    ) -> Result<(), NoRoom> {
        self.packet(kind::SENDER_REPORT, count(reports.len())?, |writer| {
            writer.u32(ssrc)?;
            writer.u64(info.ntp)?;
            writer.u32(info.rtp_time.0)?;
            writer.u32(info.packet_count)?;
            writer.u32(info.octet_count)?;
            put_reports(reports, writer)
        })
    }

    /// Appends a receiver report with at most [`COUNT_MAX`] report blocks; without any it only begins a compound.
    pub fn receiver_report(&mut self, ssrc: u32, reports: &[ReportBlock]) -> Result<(), NoRoom> {
        self.packet(kind::RECEIVER_REPORT, count(reports.len())?, |writer| {
            writer.u32(ssrc)?;
            put_reports(reports, writer)
        })
    }

    /// Appends a source description with the name of one source; at most 255 bytes.
    pub fn cname(&mut self, ssrc: u32, name: &str) -> Result<(), NoRoom> {
        let len = u8::try_from(name.len()).map_err(|_| NoRoom)?;
        self.packet(kind::SDES, 1, |writer| {
            writer.u32(ssrc)?;
            writer.put(&[SDES_CNAME, len])?;
            writer.put(name.as_bytes())?;
            // At least one zero ends the items, and more fill the word.
            let used = 2 + name.len();
            writer.zeros((used + 1).next_multiple_of(4) - used)
        })
    }

    /// Appends a goodbye of at most [`COUNT_MAX`] sources.
    pub fn bye(&mut self, ssrcs: &[u32]) -> Result<(), NoRoom> {
        self.packet(kind::BYE, count(ssrcs.len())?, |writer| {
            ssrcs.iter().try_for_each(|&ssrc| writer.u32(ssrc))
        })
    }

    /// Appends a request for the `missing` packets, given in order. Nothing is written when none are missing.
    pub fn nack(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        missing: &[Seq],
    ) -> Result<(), NoRoom> {
        if missing.is_empty() {
            return Ok(());
        }
        self.packet(kind::TRANSPORT_FEEDBACK, kind::FORMAT_NACK, |writer| {
            writer.u32(sender_ssrc)?;
            writer.u32(media_ssrc)?;
            nack_pairs(missing).try_for_each(|(first, mask)| {
                writer.u16(first.0)?;
                writer.u16(mask)
            })
        })
    }

    /// Appends a request for a keyframe.
    pub fn pli(&mut self, sender_ssrc: u32, media_ssrc: u32) -> Result<(), NoRoom> {
        self.packet(kind::PAYLOAD_FEEDBACK, kind::FORMAT_PLI, |writer| {
            writer.u32(sender_ssrc)?;
            writer.u32(media_ssrc)
        })
    }

    /// Appends a request for a keyframe in the older way, for senders that did not negotiate PLI. `sequence_number` grows with
    /// each new request.
    pub fn fir(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        sequence_number: u8,
    ) -> Result<(), NoRoom> {
        self.packet(kind::PAYLOAD_FEEDBACK, kind::FORMAT_FIR, |writer| {
            writer.u32(sender_ssrc)?;
            writer.u32(0)?;
            writer.u32(media_ssrc)?;
            writer.put(&[sequence_number, 0, 0, 0])
        })
    }

    /// Appends an estimate of what can be received from at most 255 sources together; the rate is rounded down to 18 bits.
    pub fn remb(
        &mut self,
        sender_ssrc: u32,
        bitrate_bps: u64,
        ssrcs: &[u32],
    ) -> Result<(), NoRoom> {
        let count = u8::try_from(ssrcs.len()).map_err(|_| NoRoom)?;
        self.packet(kind::PAYLOAD_FEEDBACK, kind::FORMAT_APPLICATION, |writer| {
            writer.u32(sender_ssrc)?;
            writer.u32(0)?;
            writer.put(REMB_IDENTIFIER)?;
            writer.u32(u32::from(count) << 24 | remb_rate(bitrate_bps))?;
            ssrcs.iter().try_for_each(|&ssrc| writer.u32(ssrc))
        })
    }

    /// Appends transport-wide feedback: for each packet from `feedback.base` on its arrival in microseconds of any clock that does
    /// not go back, or `None`. Says how many of them the packet covers; the others belong in the next feedback. Nothing is written
    /// for an empty list.
    pub fn transport_feedback(
        &mut self,
        feedback: &twcc::Feedback,
        arrivals: &[Option<u64>],
    ) -> Result<usize, NoRoom> {
        if arrivals.is_empty() {
            return Ok(0);
        }
        let mut covered = 0;
        self.packet(
            kind::TRANSPORT_FEEDBACK,
            kind::FORMAT_TRANSPORT_WIDE,
            |writer| {
                covered = twcc::emit_body(feedback, arrivals, writer)?;
                Ok(())
            },
        )?;
        Ok(covered)
    }

    /// Writes a header, lets `body` write the rest, pads to whole words and fills in the length. Takes everything back on an error.
    fn packet(
        &mut self,
        packet_type: u8,
        count: u8,
        body: impl FnOnce(&mut cursor::Writer<'a>) -> Result<(), NoRoom>,
    ) -> Result<(), NoRoom> {
        let start = self.inner.len();
        let result = self.try_packet(packet_type, count, body);
        if result.is_err() {
            self.inner.truncate(start);
        }
        result
    }

    fn try_packet(
        &mut self,
        packet_type: u8,
        count: u8,
        body: impl FnOnce(&mut cursor::Writer<'a>) -> Result<(), NoRoom>,
    ) -> Result<(), NoRoom> {
        let writer = &mut self.inner;
        let start = writer.len();
        writer.put(&[0x80 | count, packet_type, 0, 0])?;
        body(writer)?;
        let padding = writer.len().next_multiple_of(4) - writer.len();
        if padding > 0 {
            // Only transport-wide feedback ends within a word. The padding bit and count are how libwebrtc ends it too.
            writer.zeros(padding)?;
            writer.patch(start, &[0xa0 | count]);
            let end = writer.len();
            writer.patch(end - 1, &[padding as u8]);
        }
        let words = u16::try_from((writer.len() - start) / 4 - 1).map_err(|_| NoRoom)?;
        writer.patch(start + 2, &words.to_be_bytes());
        Ok(())
    }
}

fn count(n: usize) -> Result<u8, NoRoom> {
    u8::try_from(n)
        .ok()
        .filter(|_| n <= COUNT_MAX)
        .ok_or(NoRoom)
}

fn put_reports(reports: &[ReportBlock], writer: &mut cursor::Writer<'_>) -> Result<(), NoRoom> {
    reports.iter().try_for_each(|report| {
        let lost = report.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        writer.u32(report.ssrc)?;
        writer.u32(u32::from(report.fraction_lost) << 24 | lost)?;
        writer.u32(report.highest_sequence)?;
        writer.u32(report.jitter)?;
        writer.u32(report.last_sr)?;
        writer.u32(report.delay_since_last_sr)
    })
}
