//! VP8 over RTP (RFC 7741): the payload descriptor, and a payloader that cuts a frame into packets.

use bytes::{BufMut, Bytes, BytesMut};

/// The payload descriptor, with the fields that a packet has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// N: no other frame depends on this one.
    pub non_reference: bool,
    /// S: the packet starts a partition.
    pub start_of_partition: bool,
    /// PID: index of the partition.
    pub partition: u8,
    /// The picture id and whether it is 15 bits wide.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX.
    pub tl0_index: Option<u8>,
    /// TID and Y.
    pub temporal: Option<(u8, bool)>,
    /// KEYIDX, 5 bits.
    pub key_index: Option<u8>,
}

/// A picture id with its width on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// 7 or 15 bits.
    pub value: u16,
    /// The M bit: 15 bits.
    pub wide: bool,
}

/// The descriptor ends before its fields do, or nothing follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("payload descriptor cut short")]
pub struct Truncated;

impl Descriptor {
    /// Whether it is in front of a frame's first bytes (RFC 7741 §4.2: the start of partition 0).
    pub fn begins_frame(&self) -> bool {
        self.start_of_partition && self.partition == 0
    }

    /// Reads the descriptor at the start of `payload`; gives it and the bytes after it.
    pub fn parse(payload: &[u8]) -> Result<(Descriptor, &[u8]), Truncated> {
        let mut rest = payload;
        let mut next = || {
            let (&byte, after) = rest.split_first().ok_or(Truncated)?;
            rest = after;
            Ok::<u8, Truncated>(byte)
        };
        let first = next()?;
        let mut descriptor = Descriptor {
            non_reference: first & 0x20 != 0,
            start_of_partition: first & 0x10 != 0,
            partition: first & 0x07,
            ..Descriptor::default()
        };
        if first & 0x80 != 0 {
            let present = next()?;
            if present & 0x80 != 0 {
                let byte = next()?;
                descriptor.picture_id = Some(if byte & 0x80 == 0 {
                    PictureId {
                        value: u16::from(byte),
                        wide: false,
                    }
                } else {
                    PictureId {
                        value: u16::from(byte & 0x7f) << 8 | u16::from(next()?),
                        wide: true,
                    }
                });
            }
            if present & 0x40 != 0 {
                descriptor.tl0_index = Some(next()?);
            }
            if present & 0x30 != 0 {
                let byte = next()?;
                descriptor.temporal =
                    (present & 0x20 != 0).then_some((byte >> 6, byte & 0x20 != 0));
                descriptor.key_index = (present & 0x10 != 0).then_some(byte & 0x1f);
            }
        }
        if rest.is_empty() {
            Err(Truncated)
        } else {
            Ok((descriptor, rest))
        }
    }

    /// Appends the descriptor to `out`.
    pub fn emit(&self, out: &mut BytesMut) {
        let mut present = 0;
        present |= if self.picture_id.is_some() { 0x80 } else { 0 };
        present |= if self.tl0_index.is_some() { 0x40 } else { 0 };
        present |= if self.temporal.is_some() { 0x20 } else { 0 };
        present |= if self.key_index.is_some() { 0x10 } else { 0 };
        let bit = |set: bool, mask: u8| if set { mask } else { 0 };
        out.put_u8(
            bit(present != 0, 0x80)
                | bit(self.non_reference, 0x20)
                | bit(self.start_of_partition, 0x10)
                | self.partition & 0x07,
        );
        if present == 0 {
            return;
        }
        out.put_u8(present);
        match self.picture_id {
            Some(PictureId { value, wide: true }) => out.put_u16(0x8000 | value & 0x7fff),
            Some(PictureId { value, wide: false }) => out.put_u8(value as u8 & 0x7f),
            None => {}
        }
        if let Some(index) = self.tl0_index {
            out.put_u8(index);
        }
        if present & 0x30 != 0 {
            let (tid, sync) = self.temporal.unwrap_or((0, false));
            out.put_u8(tid << 6 | bit(sync, 0x20) | self.key_index.unwrap_or(0) & 0x1f);
        }
    }
}

/// Numbers the frames of one encoding and cuts them into payloads.
///
/// All frames are of the one temporal layer 0, so TL0PICIDX grows with every frame and KEYIDX with every keyframe.
#[derive(Debug, Clone)]
pub struct Payloader {
    picture_id: u16,
    tl0_index: u8,
    key_index: u8,
    payload_bytes_max: usize,
}

impl Payloader {
    /// The first frame will carry the numbers after these.
    pub fn new(
        picture_id: u16,
        tl0_index: u8,
        key_index: u8,
        payload_bytes_max: usize,
    ) -> Payloader {
        Payloader {
            picture_id,
            tl0_index,
            key_index,
            payload_bytes_max,
        }
    }

    /// The payloads of the next frame, descriptor and part of the frame each, as equal in size as they can be.
    pub fn packetize(&mut self, frame: &[u8]) -> Vec<Bytes> {
        self.picture_id = self.picture_id.wrapping_add(1) & 0x7fff;
        self.tl0_index = self.tl0_index.wrapping_add(1);
        if crate::clips::is_keyframe(frame) {
            self.key_index = self.key_index.wrapping_add(1) & 0x1f;
        }
        // 6 is the length of the descriptor with all its fields.
        let part_bytes_max = self.payload_bytes_max - 6;
        let count = frame.len().div_ceil(part_bytes_max).max(1);
        let part_bytes = frame.len().div_ceil(count).max(1);
        let payload = |(index, part): (usize, &[u8])| {
            let descriptor = Descriptor {
                start_of_partition: index == 0,
                picture_id: Some(PictureId {
                    value: self.picture_id,
                    wide: true,
                }),
                tl0_index: Some(self.tl0_index),
                temporal: Some((0, false)),
                key_index: Some(self.key_index),
                ..Descriptor::default()
            };
            let mut out = BytesMut::with_capacity(6 + part.len());
            descriptor.emit(&mut out);
            out.extend_from_slice(part);
            out.freeze()
        };
        frame.chunks(part_bytes).enumerate().map(payload).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_and_emits_the_descriptors_of_the_rfc() {
        let (descriptor, rest) = Descriptor::parse(&[0xd0, 0x80, 0x11, 0x00]).unwrap();
        let short = Some(PictureId {
            value: 17,
            wide: false,
        });
        assert_eq!(
            (descriptor.picture_id, descriptor.start_of_partition),
            (short, true)
        );
        assert_eq!(rest, [0x00]);
        let (descriptor, _) =
            Descriptor::parse(&[0x90, 0xf0, 0xff, 0xfe, 0x07, 0x64, 0x00]).unwrap();
        assert_eq!(
            descriptor.picture_id,
            Some(PictureId {
                value: 0x7ffe,
                wide: true
            })
        );
        assert_eq!(descriptor.tl0_index, Some(7));
        assert_eq!(descriptor.temporal, Some((1, true)));
        assert_eq!(descriptor.key_index, Some(4));
        let mut out = BytesMut::new();
        descriptor.emit(&mut out);
        assert_eq!(out[..], [0x90, 0xf0, 0xff, 0xfe, 0x07, 0x64]);
    }

    #[test]
    fn refuses_a_truncated_descriptor_of_every_length() {
        let whole = [0x90, 0xf0, 0xff, 0xfe, 0x07, 0x64];
        for length in 0..=whole.len() {
            assert_eq!(Descriptor::parse(&whole[..length]), Err(Truncated));
        }
    }

    #[test]
    fn numbers_grow_and_wrap_frame_by_frame() {
        let mut payloader = Payloader::new(0x7ffe, 254, 31, 100);
        let mut numbers = |frame: &[u8]| {
            let payloads = payloader.packetize(frame);
            let (descriptor, _) = Descriptor::parse(&payloads[0]).unwrap();
            let id = descriptor.picture_id.unwrap().value;
            (
                id,
                descriptor.tl0_index.unwrap(),
                descriptor.key_index.unwrap(),
            )
        };
        assert_eq!(numbers(&[0x11]), (0x7fff, 255, 31));
        assert_eq!(numbers(&[0x10]), (0, 0, 0));
        assert_eq!(numbers(&[0x11]), (1, 1, 0));
    }

    #[test]
    fn starts_anywhere() {
        for first in [0, 31, 32, 127, 254, 255] {
            let payloads = Payloader::new(u16::MAX, 255, first, 100).packetize(&[0x10]);
            let (descriptor, _) = Descriptor::parse(&payloads[0]).unwrap();
            assert_eq!(descriptor.picture_id.unwrap().value, 0);
            assert!(descriptor.key_index.unwrap() < 32);
        }
    }

    #[test]
    fn cuts_a_frame_into_parts_that_join_to_the_frame() {
        let frame: Vec<u8> = (0..250).map(|byte| byte as u8).collect();
        let payloads = Payloader::new(0, 0, 0, 106).packetize(&frame);
        let parts: Vec<_> = payloads
            .iter()
            .map(|payload| Descriptor::parse(payload).unwrap())
            .collect();
        assert_eq!(
            parts.iter().map(|(_, part)| part.len()).collect::<Vec<_>>(),
            [84, 84, 82]
        );
        assert_eq!(
            parts
                .iter()
                .map(|(d, _)| d.start_of_partition)
                .collect::<Vec<_>>(),
            [true, false, false]
        );
        assert_eq!(parts.concat_parts(), frame);
    }

    trait ConcatParts {
        fn concat_parts(&self) -> Vec<u8>;
    }

    impl ConcatParts for Vec<(Descriptor, &[u8])> {
        fn concat_parts(&self) -> Vec<u8> {
            self.iter()
                .flat_map(|(_, part)| part.iter().copied())
                .collect()
        }
    }
}
