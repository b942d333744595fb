//! Feedback about single sources: NACK and PLI (RFC 4585 §6), FIR (RFC 5104 §4.3.1), REMB (draft-alvestrand-rmcat-remb-03).

use super::{Error, ssrcs};
use crate::cursor::Reader;
use crate::seq::Seq;

/// What marks application feedback as REMB.
pub(super) const REMB_IDENTIFIER: &[u8; 4] = b"REMB";

fn sender_and_media(reader: &mut Reader<'_>) -> Result<(u32, u32), Error> {
    let mut read = || Some((reader.u32()?, reader.u32()?));
    read().ok_or(Error::TooShort)
}

/// A request for packets again.
#[derive(Clone, Copy, Debug)]
pub struct Nack<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    /// The source whose packets are missing.
    pub media_ssrc: u32,
    pairs: &'a [u8],
}

impl<'a> Nack<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let (sender_ssrc, media_ssrc) = sender_and_media(&mut reader)?;
        if reader.is_empty() {
            return Err(Error::TooShort);
        }
        if !reader.rest().len().is_multiple_of(4) {
            return Err(Error::BadLength);
        }
        Ok(Self {
            sender_ssrc,
            media_ssrc,
            pairs: reader.rest(),
        })
    }

    /// The missing packets, in the order that they are listed; at most 17 for each four bytes.
    pub fn seqs(&self) -> impl Iterator<Item = Seq> + use<'a> {
        let mut reader = Reader::new(self.pairs);
        let pairs = std::iter::from_fn(move || Some((Seq(reader.u16()?), reader.u16()?)));
        pairs.flat_map(|(first, mask)| {
            let more = (0..16)
                .filter(move |bit| mask & (1 << bit) != 0)
                .map(move |bit| first.add(bit + 1));
            std::iter::once(first).chain(more)
        })
    }
}

/// Groups missing packets into first ids with bit masks for the 16 that follow. `missing` is in order; out of order it is still
/// right, only longer.
pub(super) fn nack_pairs(missing: &[Seq]) -> impl Iterator<Item = (Seq, u16)> + use<'_> {
    let mut rest = missing;
    std::iter::from_fn(move || {
        let (&first, mut others) = rest.split_first()?;
        let mut mask = 0;
        while let Some((next, after)) = others.split_first() {
            match next.0.wrapping_sub(first.0) {
                0 => {}
                distance @ 1..=16 => mask |= 1 << (distance - 1),
                _ => break,
            }
            others = after;
        }
        rest = others;
        Some((first, mask))
    })
}

/// Picture loss indication: a decoder needs a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pli {
    /// Who asks.
    pub sender_ssrc: u32,
    /// The source that shall send one.
    pub media_ssrc: u32,
}

impl Pli {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        let (sender_ssrc, media_ssrc) = sender_and_media(&mut Reader::new(body))?;
        Ok(Self {
            sender_ssrc,
            media_ssrc,
        })
    }
}

/// Full intra request: the older way to ask for keyframes, of several sources at once.
#[derive(Clone, Copy, Debug)]
pub struct Fir<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    entries: &'a [u8],
}

/// One source of a [`Fir`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirEntry {
    /// The source that shall send a keyframe.
    pub ssrc: u32,
    /// Counts requests; a repetition keeps it.
    pub sequence_number: u8,
}

impl<'a> Fir<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let (sender_ssrc, _) = sender_and_media(&mut reader)?;
        if !reader.rest().len().is_multiple_of(8) {
            return Err(Error::BadLength);
        }
        Ok(Self {
            sender_ssrc,
            entries: reader.rest(),
        })
    }

    /// The sources that are asked.
    pub fn entries(&self) -> impl Iterator<Item = FirEntry> + use<'a> {
        let mut reader = Reader::new(self.entries);
        std::iter::from_fn(move || {
            let entry = FirEntry {
                ssrc: reader.u32()?,
                sequence_number: reader.u8()?,
            };
            reader.u24()?;
            Some(entry)
        })
    }
}

/// Receiver estimated maximum bitrate.
#[derive(Clone, Copy, Debug)]
pub struct Remb<'a> {
    /// Who estimates.
    pub sender_ssrc: u32,
    /// The estimate for all the sources together, in bit/s.
    pub bitrate_bps: u64,
    list: &'a [u8],
}

impl<'a> Remb<'a> {
    /// Reads application feedback; `None` when it is of another application.
    pub(super) fn parse(body: &'a [u8]) -> Result<Option<Self>, Error> {
        let mut reader = Reader::new(body);
        let (sender_ssrc, _) = sender_and_media(&mut reader)?;
        if reader.take(4) != Some(REMB_IDENTIFIER) {
            return Ok(None);
        }
        let count = usize::from(reader.u8().ok_or(Error::TooShort)?);
        let rate = reader.u24().ok_or(Error::TooShort)?;
        let (exponent, mantissa) = (rate >> 18, u64::from(rate & 0x3_ffff));
        // 18 bits shifted by up to 63 need 81: what does not fit is more than anyone has.
        let bitrate_bps = if exponent > 46 && mantissa != 0 {
            u64::MAX
        } else {
            mantissa << exponent
        };
        let list = reader.take(count * 4).ok_or(Error::BadCount)?;
        Ok(Some(Self {
            sender_ssrc,
            bitrate_bps,
            list,
        }))
    }

    /// The sources that the estimate is about.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        ssrcs(self.list)
    }
}

/// The REMB encoding of a rate: six bits of exponent, 18 of mantissa, rounded down.
pub(super) fn remb_rate(bitrate_bps: u64) -> u32 {
    let exponent = (64 - bitrate_bps.leading_zeros()).saturating_sub(18);
    exponent << 18 | (bitrate_bps >> exponent) as u32
}
