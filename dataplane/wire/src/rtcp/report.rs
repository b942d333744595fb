//! Sender reports, receiver reports, source descriptions and goodbyes (RFC 3550 §6.4 to §6.6).

use super::{Error, records, ssrcs};
use crate::cursor::Reader;
use crate::seq::RtpTime;

/// Bytes of a report block.
const REPORT_BLOCK_BYTES: usize = 24;
/// The description item that names a source for as long as it lives.
pub(super) const SDES_CNAME: u8 = 1;

/// The sender's part of a sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    /// Wall clock of the report: seconds since 1900 in 32.32 fixed point.
    pub ntp: u64,
    /// The same instant on the media clock.
    pub rtp_time: RtpTime,
    /// Packets sent since the start.
    pub packet_count: u32,
    /// Payload bytes sent since the start, without headers and padding.
    pub octet_count: u32,
}

/// How one source is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the start; negative when duplicates outnumber them. 24 bits on the wire, clamped.
    pub cumulative_lost: i32,
    /// Highest sequence number received, with the count of wraps above it.
    pub highest_sequence: u32,
    /// Inter-arrival jitter in media clock ticks.
    pub jitter: u32,
    /// The middle 32 bits of the last sender report's NTP time, or 0.
    pub last_sr: u32,
    /// From its arrival to this report, in 1/65536 s, or 0.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            ssrc: reader.u32()?,
            fraction_lost: reader.u8()?,
            // The shifts extend the sign bit of the 24-bit number.
            cumulative_lost: ((reader.u24()? << 8) as i32) >> 8,
            highest_sequence: reader.u32()?,
            jitter: reader.u32()?,
            last_sr: reader.u32()?,
            delay_since_last_sr: reader.u32()?,
        })
    }

    /// Round-trip time in 1/65536 s, when the report arrives at `now_ntp` by the clock of the sender reports (the middle 32 bits of
    /// its NTP time). `None` when the block answers no sender report, or the clocks disagree.
    pub fn round_trip(&self, now_ntp: u32) -> Option<u32> {
        if self.last_sr == 0 {
            return None;
        }
        let elapsed = now_ntp.wrapping_sub(self.last_sr);
        // Half the range is 9 hours: above it the report comes from the future.
        elapsed
            .checked_sub(self.delay_since_last_sr)
            .filter(|_| elapsed < 1 << 31)
    }
}

/// A sender report.
#[derive(Clone, Copy, Debug)]
pub struct SenderReport<'a> {
    /// The source.
    pub ssrc: u32,
    /// What it has sent.
    pub info: SenderInfo,
    blocks: &'a [u8],
}

impl<'a> SenderReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let mut read = || {
            Some((
                reader.u32()?,
                SenderInfo {
                    ntp: reader.u64()?,
                    rtp_time: RtpTime(reader.u32()?),
                    packet_count: reader.u32()?,
                    octet_count: reader.u32()?,
                },
            ))
        };
        let (ssrc, info) = read().ok_or(Error::TooShort)?;
        Ok(Self {
            ssrc,
            info,
            blocks: records(reader.rest(), count, REPORT_BLOCK_BYTES)?,
        })
    }

    /// How it receives others.
    pub fn reports(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        report_blocks(self.blocks)
    }
}

/// A receiver report.
#[derive(Clone, Copy, Debug)]
pub struct ReceiverReport<'a> {
    /// Who reports.
    pub ssrc: u32,
    blocks: &'a [u8],
}

impl<'a> ReceiverReport<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let ssrc = reader.u32().ok_or(Error::TooShort)?;
        Ok(Self {
            ssrc,
            blocks: records(reader.rest(), count, REPORT_BLOCK_BYTES)?,
        })
    }

    /// How it receives others.
    pub fn reports(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        report_blocks(self.blocks)
    }
}

fn report_blocks(blocks: &[u8]) -> impl Iterator<Item = ReportBlock> + use<'_> {
    let mut reader = Reader::new(blocks);
    std::iter::from_fn(move || ReportBlock::read(&mut reader))
}

/// Source descriptions.
#[derive(Clone, Copy, Debug)]
pub struct Sdes<'a> {
    chunks: &'a [u8],
    count: u8,
}

impl<'a> Sdes<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        for _ in 0..count {
            read_chunk(&mut reader).ok_or(Error::BadDescription)?;
        }
        Ok(Self {
            chunks: body,
            count,
        })
    }

    /// Each source that gives a CNAME, and the name (UTF-8 by the standard, not checked).
    pub fn cnames(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.chunks);
        (0..self.count)
            .map_while(move |_| read_chunk(&mut reader))
            .filter_map(|(ssrc, cname)| Some((ssrc, cname?)))
    }
}

/// Reads an SSRC and its items up to the next multiple of four; gives the first CNAME.
fn read_chunk<'a>(reader: &mut Reader<'a>) -> Option<(u32, Option<&'a [u8]>)> {
    let before = reader.rest().len();
    let ssrc = reader.u32()?;
    let mut cname = None;
    loop {
        let item = reader.u8()?;
        if item == 0 {
            break;
        }
        let len = usize::from(reader.u8()?);
        let text = reader.take(len)?;
        if item == SDES_CNAME && cname.is_none() {
            cname = Some(text);
        }
    }
    let used = before - reader.rest().len();
    reader.take(used.next_multiple_of(4) - used)?;
    Some((ssrc, cname))
}

/// Sources that end.
#[derive(Clone, Copy, Debug)]
pub struct Bye<'a> {
    list: &'a [u8],
}

impl<'a> Bye<'a> {
    pub(super) fn parse(count: u8, body: &'a [u8]) -> Result<Self, Error> {
        Ok(Self {
            list: records(body, count, 4)?,
        })
    }

    /// The sources. The reason that may follow is not read.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        ssrcs(self.list)
    }
}
