//! As much of AV1 payloads (the AOMedia RTP payload format) as says "keyframe" and its size.
//!
//! Whether a keyframe begins is said by the aggregation header, which stays readable in encrypted streams; the size needs the
//! sequence header (AV1 specification §5.5), and may be missing.

use crate::bits::Bits;
use crate::cursor::Reader;

const SEQUENCE_HEADER: u8 = 1;

/// Whether a packet is the first of a coded video sequence: the N bit of its aggregation header (§4.4).
pub fn starts_keyframe(payload: &[u8]) -> bool {
    payload.first().is_some_and(|header| header & 0x08 != 0)
}

/// The largest width and height of the sequence's frames by the sequence header, if the payload begins with it.
pub fn keyframe_size(payload: &[u8]) -> Option<(u16, u16)> {
    let mut reader = Reader::new(payload);
    let aggregation = reader.u8()?;
    if aggregation & 0x80 != 0 {
        // The rest of a unit whose beginning is elsewhere.
        return None;
    }
    let only_one = aggregation >> 4 & 3 == 1;
    let len = if only_one {
        reader.rest().len()
    } else {
        leb128(&mut reader)?
    };
    let mut unit = Reader::new(reader.take(len)?);
    let header = unit.u8()?;
    let (kind, has_extension, has_size) =
        (header >> 3 & 0x0f, header & 0x04 != 0, header & 0x02 != 0);
    if kind != SEQUENCE_HEADER {
        return None;
    }
    if has_extension {
        unit.u8()?;
    }
    if has_size {
        leb128(&mut unit)?;
    }
    read_size(&mut Bits::new(unit.rest()))
}

/// A number in groups of seven bits, the lowest first (AV1 specification §4.10.5).
fn leb128(reader: &mut Reader<'_>) -> Option<usize> {
    let mut value = 0;
    for group in 0..4 {
        let byte = reader.u8()?;
        value |= usize::from(byte & 0x7f) << (7 * group);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The fields of a sequence header up to the size.
fn read_size(bits: &mut Bits<'_>) -> Option<(u16, u16)> {
    // Profile and "still picture".
    bits.skip(4)?;
    let reduced = bits.flag()?;
    if reduced {
        bits.skip(5)?;
    } else {
        skip_operating_points(bits)?;
    }
    let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
    let width = u16::try_from(bits.take(width_bits)? + 1).ok()?;
    let height = u16::try_from(bits.take(height_bits)? + 1).ok()?;
    Some((width, height))
}

fn skip_operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.skip(64)?;
        if bits.flag()? {
            skip_variable(bits)?;
        }
        if bits.flag()? {
            delay_bits = Some(bits.take(5)? as usize + 1);
            bits.skip(32 + 5 + 5)?;
        }
    }
    let has_display_delays = bits.flag()?;
    for _ in 0..=bits.take(5)? {
        bits.skip(12)?;
        let level = bits.take(5)?;
        if level > 7 {
            bits.skip(1)?;
        }
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(2 * delay_bits + 1)?;
        }
        if has_display_delays && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}

/// `uvlc()` (AV1 specification §4.10.3).
fn skip_variable(bits: &mut Bits<'_>) -> Option<()> {
    let mut zeros = 0;
    while !bits.flag()? {
        zeros += 1;
        if zeros == 32 {
            return Some(());
        }
    }
    bits.skip(zeros)
}
