//! Transport-wide feedback: when each packet of a transport arrived (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
//!
//! ```text
//! sender SSRC · media SSRC · base sequence · status count · reference time (24 bit, 64 ms) · feedback count
//! chunks: run length (one symbol, up to 8191 times) or vector (14 one-bit or 7 two-bit symbols)
//! deltas: for each received packet 1 byte (0 to 63.75 ms) or 2 bytes (signed), in 250 µs
//! ```

use super::Error;
use crate::cursor::{NoRoom, Reader, Writer};
use crate::seq::Seq;

/// One tick of a delta.
pub const TICK_US: u64 = 250;
/// One unit of the reference time, in ticks: 64 ms.
const REFERENCE_TICKS: i64 = 256;
/// Statuses that one feedback of ours covers at most. More make fewer packets, and lose more when one is lost; at 100 ms a
/// feedback this is 10 000 packets a second.
pub const STATUSES_MAX: usize = 1024;

const RUN_MAX: usize = 0x1fff;
const VECTOR_ONE_BIT: usize = 14;
const VECTOR_TWO_BITS: usize = 7;

/// Two-bit symbols.
const NOT_RECEIVED: u16 = 0;
const SMALL_DELTA: u16 = 1;
const LARGE_DELTA: u16 = 2;

/// A feedback whose chunks and deltas have been checked against its status count.
#[derive(Clone, Copy, Debug)]
pub struct TransportFeedback<'a> {
    /// Who received.
    pub sender_ssrc: u32,
    /// A source of the transport; the feedback is about all of them.
    pub media_ssrc: u32,
    /// The transport-wide number of the first status.
    pub base: Seq,
    /// How many packets the feedback is about.
    pub status_count: u16,
    /// When the deltas begin, in units of 64 ms of the receiver's clock; 24 bits with a sign.
    pub reference_time: i32,
    /// Counts feedbacks, so that a lost one is noticed.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let mut feedback = Self::read_head(&mut reader).ok_or(Error::TooShort)?;
        let after_head = reader.rest();
        let mut left = usize::from(feedback.status_count);
        let mut deltas_len = 0;
        while left > 0 {
            let chunk = Chunk(reader.u16().ok_or(Error::BadFeedback)?);
            deltas_len += chunk.deltas_len(left).ok_or(Error::BadFeedback)?;
            left -= chunk.symbols(left).len();
        }
        feedback.chunks = &after_head[..after_head.len() - reader.rest().len()];
        feedback.deltas = reader.take(deltas_len).ok_or(Error::BadFeedback)?;
        Ok(feedback)
    }

    fn read_head(reader: &mut Reader<'a>) -> Option<Self> {
        Some(Self {
            sender_ssrc: reader.u32()?,
            media_ssrc: reader.u32()?,
            base: Seq(reader.u16()?),
            status_count: reader.u16()?,
            // The shifts extend the sign bit of the 24-bit number.
            reference_time: ((reader.u24()? << 8) as i32) >> 8,
            feedback_count: reader.u8()?,
            chunks: &[],
            deltas: &[],
        })
    }

    /// Each packet's transport-wide number, and when it arrived in microseconds of the receiver's clock (which wraps with the
    /// reference time, every 12 days); `None` for packets that have not arrived.
    pub fn arrivals(&self) -> impl Iterator<Item = (Seq, Option<i64>)> + use<'a> {
        let mut ticks = i64::from(self.reference_time) * REFERENCE_TICKS;
        let mut deltas = Reader::new(self.deltas);
        let (base, mut number) = (self.base, 0u16);
        symbols(self.chunks, usize::from(self.status_count)).map_while(move |symbol| {
            let seq = base.add(number);
            number = number.wrapping_add(1);
            ticks += match symbol {
                NOT_RECEIVED => return Some((seq, None)),
                SMALL_DELTA => i64::from(deltas.u8()?),
                _ => i64::from(deltas.u16()? as i16),
            };
            Some((seq, Some(ticks * TICK_US as i64)))
        })
    }
}

/// All symbols of a list of chunks.
fn symbols(chunks: &[u8], count: usize) -> impl Iterator<Item = u16> + use<'_> {
    let mut reader = Reader::new(chunks);
    let mut left = count;
    let chunks = std::iter::from_fn(move || {
        let symbols = Chunk(reader.u16()?).symbols(left);
        left -= symbols.len();
        Some(symbols)
    });
    chunks.flatten()
}

/// Bytes of the delta that belongs to a symbol; `None` for the reserved one.
const fn delta_len(symbol: u16) -> Option<usize> {
    match symbol {
        NOT_RECEIVED => Some(0),
        SMALL_DELTA => Some(1),
        LARGE_DELTA => Some(2),
        _ => None,
    }
}

/// Sixteen bits that stand for many symbols.
#[derive(Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    /// Bytes of the deltas of the first `left` symbols, without walking through a run; `None` when one is reserved.
    fn deltas_len(self, left: usize) -> Option<usize> {
        let mut symbols = self.symbols(left);
        if self.0 >> 15 == 0 {
            return symbols.next().map_or(Some(0), |symbol| {
                Some(delta_len(symbol)? * (symbols.len() + 1))
            });
        }
        symbols.try_fold(0, |sum, symbol| Some(sum + delta_len(symbol)?))
    }

    /// The symbols, but not more than are `left`: the last chunk may be longer than needed.
    fn symbols(self, left: usize) -> impl ExactSizeIterator<Item = u16> {
        let (len, bits) = match self.0 >> 14 {
            0 | 1 => (usize::from(self.0) & RUN_MAX, 0),
            2 => (VECTOR_ONE_BIT, 1),
            _ => (VECTOR_TWO_BITS, 2),
        };
        (0..len.min(left)).map(move |index| match bits {
            0 => self.0 >> 13 & 3,
            1 => self.0 >> (13 - index) & 1,
            _ => self.0 >> (12 - 2 * index) & 3,
        })
    }
}

/// The head of a feedback to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// Who received: ourselves.
    pub sender_ssrc: u32,
    /// Any source of the transport.
    pub media_ssrc: u32,
    /// Counts the feedbacks of the transport.
    pub feedback_count: u8,
    /// The transport-wide number of the first status.
    pub base: Seq,
}

/// Writes the body of a feedback (what follows the RTCP header), and says how many statuses it covers.
///
/// It covers fewer than were given when there are more than [`STATUSES_MAX`], or when two arrivals are more than 8.19 s apart, which
/// no delta can say: the rest belongs in the next feedback. Trailing `None`s are covered too.
pub(super) fn emit_body(
    feedback: &Feedback,
    arrivals: &[Option<u64>],
    writer: &mut Writer<'_>,
) -> Result<usize, NoRoom> {
    let arrivals = &arrivals[..arrivals.len().min(STATUSES_MAX)];
    let first = arrivals
        .iter()
        .flatten()
        .next()
        .map_or(0, |&arrival_us| arrival_us / TICK_US);
    let reference_time = first / REFERENCE_TICKS as u64;
    let start_ticks = reference_time * REFERENCE_TICKS as u64;
    let covered = coverable(arrivals, start_ticks);
    let arrivals = &arrivals[..covered];

    writer.u32(feedback.sender_ssrc)?;
    writer.u32(feedback.media_ssrc)?;
    writer.u16(feedback.base.0)?;
    writer.u16(covered as u16)?;
    writer.u32((reference_time as u32) << 8 | u32::from(feedback.feedback_count))?;

    let mut symbols = [0u8; STATUSES_MAX];
    for (symbol, delta) in symbols.iter_mut().zip(deltas(arrivals, start_ticks)) {
        *symbol = symbol_of(delta);
    }
    emit_chunks(&symbols[..covered], writer)?;
    for delta in deltas(arrivals, start_ticks).flatten() {
        match u8::try_from(delta) {
            Ok(small) => writer.u8(small)?,
            Err(_) => writer.u16(delta as i16 as u16)?,
        }
    }
    Ok(covered)
}

/// For each status the ticks since the last arrival before it, `None` for packets that have not arrived.
fn deltas(
    arrivals: &[Option<u64>],
    start_ticks: u64,
) -> impl Iterator<Item = Option<i64>> + use<'_> {
    let mut last = start_ticks;
    arrivals.iter().map(move |arrival| {
        let ticks = (*arrival)? / TICK_US;
        let delta = ticks.wrapping_sub(last) as i64;
        last = ticks;
        Some(delta)
    })
}

/// How many statuses from the front have deltas that fit in 16 bits.
fn coverable(arrivals: &[Option<u64>], start_ticks: u64) -> usize {
    let too_far = |delta: Option<i64>| delta.is_some_and(|delta| i16::try_from(delta).is_err());
    deltas(arrivals, start_ticks)
        .position(too_far)
        .unwrap_or(arrivals.len())
}

fn symbol_of(delta: Option<i64>) -> u8 {
    match delta {
        None => NOT_RECEIVED as u8,
        Some(0..=255) => SMALL_DELTA as u8,
        Some(_) => LARGE_DELTA as u8,
    }
}

/// Writes the symbols in as few chunks as going through once can: a run where one is longer than the vector would be, else a
/// vector, of one-bit symbols where they suffice.
fn emit_chunks(symbols: &[u8], writer: &mut Writer<'_>) -> Result<(), NoRoom> {
    let mut rest = symbols;
    while let Some(&first) = rest.first() {
        let run = rest
            .iter()
            .take(RUN_MAX)
            .take_while(|&&symbol| symbol == first)
            .count();
        let narrow = rest
            .iter()
            .take(VECTOR_ONE_BIT)
            .take_while(|&&symbol| u16::from(symbol) != LARGE_DELTA)
            .count();
        // A vector of one-bit symbols must be full, or end the list: its unused places would be read as "not received".
        let one_bit = narrow == VECTOR_ONE_BIT.min(rest.len());
        let vector = if one_bit {
            narrow
        } else {
            VECTOR_TWO_BITS.min(rest.len())
        };
        let (chunk, taken) = if run >= vector {
            (u16::from(first) << 13 | run as u16, run)
        } else if one_bit {
            (0x8000 | pack(&rest[..vector], 13, 1), vector)
        } else {
            (0xc000 | pack(&rest[..vector], 12, 2), vector)
        };
        writer.u16(chunk)?;
        rest = &rest[taken..];
    }
    Ok(())
}

/// Puts symbols side by side, the first one `first_shift` bits up.
fn pack(symbols: &[u8], first_shift: usize, bits: usize) -> u16 {
    symbols
        .iter()
        .enumerate()
        .fold(0, |packed, (index, &symbol)| {
            packed | u16::from(symbol) << (first_shift - bits * index)
        })
}
