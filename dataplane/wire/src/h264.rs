//! As much of H.264 payloads (RFC 6184) as says "keyframe" and its size.
//!
//! Whether a keyframe begins needs the unit headers only, which stay readable in encrypted streams; the size needs the sequence
//! parameter set itself (ITU-T H.264 §7.3.2.1), and may be missing.

use crate::bits::Bits;
use crate::cursor::Reader;

const SPS: u8 = 7;
const STAP_A: u8 = 24;

/// The unit that a payload begins with, if that is one that a decoder can start from: a sequence parameter set, alone or first in
/// an aggregate. Decoders need it before the picture itself.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    sps(payload).is_some()
}

/// Width and height by the sequence parameter set at the start of a payload; `None` when there is none or it cannot be read.
pub fn keyframe_size(payload: &[u8]) -> Option<(u16, u16)> {
    let mut plain = [0; SPS_BYTES_MAX];
    let len = unescape(sps(payload)?, &mut plain);
    Sps::read(&mut Bits::new(plain.get(..len)?))?.size()
}

/// Bytes of a sequence parameter set that are looked at: the size lies in front of everything that can be long.
const SPS_BYTES_MAX: usize = 256;

/// The sequence parameter set that a payload begins with, without its header byte.
fn sps(payload: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(payload);
    let unit = match reader.u8()? & 0x1f {
        SPS => return Some(reader.rest()),
        STAP_A => {
            let len = reader.u16()?;
            // A length that is cut off is no reason to lose the keyframe; encrypted payloads say anything.
            let rest = reader.rest();
            rest.get(..usize::from(len)).unwrap_or(rest)
        }
        _ => return None,
    };
    let (header, body) = unit.split_first()?;
    (header & 0x1f == SPS).then_some(body)
}

/// Takes out the bytes that keep a unit from looking like the start of another (H.264 §7.4.1).
fn unescape(unit: &[u8], out: &mut [u8; SPS_BYTES_MAX]) -> usize {
    let (mut len, mut zeros) = (0, 0);
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        let Some(place) = out.get_mut(len) else { break };
        *place = byte;
        len += 1;
    }
    len
}

/// What a picture's size is computed from.
struct Sps {
    chroma_format: u32,
    width_in_blocks: u32,
    height_in_units: u32,
    frames_only: bool,
    crop: [u32; 4],
}

impl Sps {
    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let profile = bits.take(8)?;
        bits.take(16)?;
        bits.golomb()?;
        let chroma_format = match profile {
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135 => {
                read_high_profile(bits)?
            }
            _ => 1,
        };
        bits.golomb()?;
        match bits.golomb()? {
            0 => drop(bits.golomb()?),
            1 => skip_picture_order(bits)?,
            _ => {}
        }
        bits.golomb()?;
        bits.take(1)?;
        let (width_in_blocks, height_in_units) = (bits.golomb()? + 1, bits.golomb()? + 1);
        let frames_only = bits.flag()?;
        if !frames_only {
            bits.take(1)?;
        }
        bits.take(1)?;
        let mut crop = [0; 4];
        if bits.flag()? {
            for side in &mut crop {
                *side = bits.golomb()?;
            }
        }
        Some(Self {
            chroma_format,
            width_in_blocks,
            height_in_units,
            frames_only,
            crop,
        })
    }

    fn size(&self) -> Option<(u16, u16)> {
        let fields = if self.frames_only { 1 } else { 2 };
        let (unit_x, unit_y) = match self.chroma_format {
            1 => (2, 2 * fields),
            2 => (2, fields),
            _ => (1, fields),
        };
        let [left, right, top, bottom] = self.crop;
        let cropped = |whole: u32, first: u32, last: u32, unit: u32| {
            let cut = first.checked_add(last)?.checked_mul(unit)?;
            let side = u16::try_from(whole.checked_sub(cut)?).ok()?;
            (side > 0).then_some(side)
        };
        let width = self.width_in_blocks.checked_mul(16)?;
        let height = self.height_in_units.checked_mul(16 * fields)?;
        Some((
            cropped(width, left, right, unit_x)?,
            cropped(height, top, bottom, unit_y)?,
        ))
    }
}

/// Reads the fields that only the higher profiles have, and returns the chroma format.
fn read_high_profile(bits: &mut Bits<'_>) -> Option<u32> {
    let chroma_format = bits.golomb()?;
    if chroma_format == 3 {
        bits.take(1)?;
    }
    bits.golomb()?;
    bits.golomb()?;
    bits.take(1)?;
    if bits.flag()? {
        let lists = if chroma_format == 3 { 12 } else { 8 };
        for list in 0..lists {
            if bits.flag()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma_format)
}

/// H.264 §7.3.2.1.1.1.
fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8i64, 8i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + i64::from(bits.signed_golomb()?)).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

fn skip_picture_order(bits: &mut Bits<'_>) -> Option<()> {
    bits.take(1)?;
    bits.golomb()?;
    bits.golomb()?;
    // At most 255 by the standard; more cannot be meant.
    let count = bits.golomb()?;
    (0..count.min(256)).try_for_each(|_| bits.golomb().map(drop))
}
