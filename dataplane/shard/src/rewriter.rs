//! Renumbers one subscription (the MSC's "munger"): whatever layers feed it, one continuous stream comes out.
//!
//! ```text
//! layer A: 100 101 102 103                    out: 500 501 502 503
//! layer B:                 k=7 8 (9 padding) 10 …              504 505 506
//! ```
//! A [`Mapping`] is what is added to the numbers of one source. The one before it is kept, so that packets which were
//! under way at the switch still find their own number. No number is ever given to two packets: within a mapping the
//! source's numbers differ (SRTP accepts each once), and a new mapping starts above everything sent.

use std::time::Instant;

use weir_wire::{ExtSeq, RtpTime};

use crate::publisher::SourceId;

/// Removed packets that a mapping remembers, to number late packets from before them.
const REMOVED_MAX: usize = 32;

/// What the rewriter reads of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming {
    pub(crate) source: SourceId,
    pub(crate) seq: ExtSeq,
    pub(crate) timestamp: RtpTime,
    pub(crate) marker: bool,
    /// Nothing but padding.
    pub(crate) padding: bool,
    pub(crate) picture: Picture,
    pub(crate) arrival: Instant,
}

/// The VP8 fields that must be continuous. Zero where the descriptor has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// 15 bits; a source's 7-bit ids are extended before they get here.
    pub(crate) id: u16,
    pub(crate) tl0: u8,
    /// 5 bits.
    pub(crate) key: u8,
}

/// The numbers a packet goes out with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) seq: ExtSeq,
    pub(crate) timestamp: RtpTime,
    pub(crate) picture: Picture,
}

/// Why a packet does not go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not from the current source, nor due to the one before.
    OtherSource,
    /// From before the packet that the mapping starts at.
    BeforeStart,
    /// So late that its number is no longer known.
    TooLate,
    /// Padding that was removed; the numbers close up.
    Removed,
}

/// What has been sent at the highest number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Last {
    pub(crate) seq: ExtSeq,
    /// The highest number that was not padding; what follows is of that packet.
    media_seq: ExtSeq,
    pub(crate) timestamp: RtpTime,
    marker: bool,
    picture: Picture,
    /// The newest timestamp of a packet that came in order, and when: one that was sent again says nothing about time.
    pub(crate) in_order: (RtpTime, Instant),
}

/// What is added to the numbers of one source.
#[derive(Debug)]
struct Mapping {
    source: SourceId,
    first: ExtSeq,
    /// The highest number seen of the source.
    highest: ExtSeq,
    /// The same without padding. After a switch nothing above it goes out any more: it may be of a newer picture than the
    /// last that was counted.
    highest_media: ExtSeq,
    /// Added to sequence numbers, modulo 2^64, before removed packets are taken off.
    seq: u64,
    timestamp: u32,
    picture: Picture,
    removed: [ExtSeq; REMOVED_MAX],
    removed_count: u64,
}

/// The state of one subscription's numbers.
#[derive(Debug)]
pub(crate) struct Rewriter {
    first_seq: ExtSeq,
    last: Option<Last>,
    current: Option<Mapping>,
    previous: Option<Mapping>,
}

impl Rewriter {
    /// The first packet will go out with `first_seq`.
    pub(crate) fn new(first_seq: ExtSeq) -> Self {
        Self {
            first_seq,
            last: None,
            current: None,
            previous: None,
        }
    }

    /// The source that feeds the subscription.
    pub(crate) fn source(&self) -> Option<SourceId> {
        self.current.as_ref().map(|mapping| mapping.source)
    }

    /// What was sent at the highest number.
    pub(crate) fn last(&self) -> Option<&Last> {
        self.last.as_ref()
    }

    /// What the current mapping adds to timestamps.
    pub(crate) fn timestamp_offset(&self) -> Option<u32> {
        self.current.as_ref().map(|mapping| mapping.timestamp)
    }

    /// Starts with `packet`, or switches to its source; the packet itself is rewritten next. `timestamp` is what it goes
    /// out with. A video frame that was cut off by the switch leaves a hole in the numbers, so that the decoder sees a
    /// loss instead of two frames spliced together; audio has no frames.
    pub(crate) fn switch(&mut self, packet: &Incoming, timestamp: RtpTime, frames: Frames) {
        let (seq, picture) = match &self.last {
            None => (self.first_seq.0, packet.picture),
            Some(last) => {
                let hole = u64::from(frames == Frames::Marked && !last.marker);
                (last.seq.0 + 1 + hole, last.picture.next())
            }
        };
        let mapping = Mapping {
            source: packet.source,
            first: packet.seq,
            highest: packet.seq,
            highest_media: packet.seq,
            seq: seq.wrapping_sub(packet.seq.0),
            timestamp: timestamp.0.wrapping_sub(packet.timestamp.0),
            picture: picture.minus(packet.picture),
            removed: [ExtSeq(0); REMOVED_MAX],
            removed_count: 0,
        };
        self.previous = self.current.replace(mapping);
    }

    /// The numbers that `packet` goes out with.
    pub(crate) fn rewrite(&mut self, packet: &Incoming) -> Result<Outgoing, Refused> {
        let (mapping, late_only) = match (&mut self.current, &mut self.previous) {
            (Some(current), _) if current.source == packet.source => (current, false),
            (_, Some(previous)) if previous.source == packet.source => (previous, true),
            _ => return Err(Refused::OtherSource),
        };
        if packet.seq < mapping.first {
            return Err(Refused::BeforeStart);
        }
        if late_only && packet.seq > mapping.highest_media {
            return Err(Refused::OtherSource);
        }
        if packet.padding && packet.seq.0 == mapping.highest.0 + 1 {
            mapping.remove(packet.seq);
            return Err(Refused::Removed);
        }
        let seq = mapping.number(packet.seq).ok_or(Refused::TooLate)?;
        let late = packet.seq < mapping.highest;
        mapping.highest = mapping.highest.max(packet.seq);
        if !packet.padding {
            mapping.highest_media = mapping.highest_media.max(packet.seq);
        }
        let out = Outgoing {
            seq,
            timestamp: RtpTime(packet.timestamp.0.wrapping_add(mapping.timestamp)),
            picture: packet.picture.plus(mapping.picture),
        };
        self.sent(packet, out, late);
        Ok(out)
    }

    fn sent(&mut self, packet: &Incoming, out: Outgoing, late: bool) {
        let last = self.last.get_or_insert(Last {
            seq: out.seq,
            media_seq: out.seq,
            timestamp: out.timestamp,
            marker: packet.marker,
            picture: out.picture,
            in_order: (out.timestamp, packet.arrival),
        });
        last.seq = last.seq.max(out.seq);
        // Padding belongs to no frame: it neither ends one nor starts one.
        if packet.padding || out.seq < last.media_seq {
            return;
        }
        last.media_seq = out.seq;
        last.marker = packet.marker;
        last.picture = out.picture;
        if out.timestamp.is_after(last.timestamp) {
            last.timestamp = out.timestamp;
            if !late {
                last.in_order = (out.timestamp, packet.arrival);
            }
        }
    }
}

/// Whether the marker bit ends a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frames {
    /// Video.
    Marked,
    /// Audio.
    Unmarked,
}

impl Mapping {
    /// Leaves the newest packet out: all behind it move up by one.
    fn remove(&mut self, seq: ExtSeq) {
        self.removed[self.removed_count as usize % REMOVED_MAX] = seq;
        self.removed_count += 1;
        self.highest = seq;
    }

    fn number(&self, seq: ExtSeq) -> Option<ExtSeq> {
        let remembered = &self.removed[..(self.removed_count as usize).min(REMOVED_MAX)];
        let later = remembered.iter().filter(|removed| **removed > seq).count();
        if later == REMOVED_MAX && self.removed_count > REMOVED_MAX as u64 {
            // From before the oldest removal that is remembered: how many were removed before it is not known.
            return None;
        }
        let before = self.removed_count - later as u64;
        Some(ExtSeq(seq.0.wrapping_add(self.seq).wrapping_sub(before)))
    }
}

impl Picture {
    fn next(self) -> Self {
        self.plus(Self {
            id: 1,
            tl0: 1,
            key: 1,
        })
    }

    fn plus(self, other: Self) -> Self {
        Self {
            id: self.id.wrapping_add(other.id) & 0x7fff,
            tl0: self.tl0.wrapping_add(other.tl0),
            key: self.key.wrapping_add(other.key) & 0x1f,
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            id: self.id.wrapping_sub(other.id) & 0x7fff,
            tl0: self.tl0.wrapping_sub(other.tl0),
            key: self.key.wrapping_sub(other.key) & 0x1f,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SourceId = SourceId(1);
    const B: SourceId = SourceId(2);

    fn packet(source: SourceId, seq: u64) -> Incoming {
        let picture = Picture::default();
        Incoming {
            source,
            seq: ExtSeq(seq),
            timestamp: RtpTime((seq as u32).wrapping_mul(3000)),
            marker: true,
            padding: false,
            picture,
            arrival: Instant::now(),
        }
    }

    fn padding(source: SourceId, seq: u64) -> Incoming {
        Incoming {
            padding: true,
            marker: false,
            ..packet(source, seq)
        }
    }

    fn seq(rewriter: &mut Rewriter, packet: Incoming) -> Result<u64, Refused> {
        rewriter.rewrite(&packet).map(|out| out.seq.0)
    }

    /// A rewriter whose first packet was `first`, going out under the same numbers.
    fn started(first: Incoming) -> Rewriter {
        let mut rewriter = Rewriter::new(first.seq);
        rewriter.switch(&first, first.timestamp, Frames::Marked);
        rewriter.rewrite(&first).unwrap();
        rewriter
    }

    #[test]
    fn numbers_close_up_behind_removed_padding_and_late_packets_keep_theirs() {
        let mut rewriter = started(packet(A, 65_533));
        assert_eq!(
            seq(&mut rewriter, packet(A, 65_537)),
            Ok(65_537),
            "over the wrap"
        );
        assert_eq!(
            seq(&mut rewriter, padding(A, 65_538)),
            Err(Refused::Removed)
        );
        assert_eq!(seq(&mut rewriter, packet(A, 65_540)), Ok(65_539));
        assert_eq!(
            seq(&mut rewriter, padding(A, 65_541)),
            Err(Refused::Removed)
        );
        assert_eq!(seq(&mut rewriter, packet(A, 65_543)), Ok(65_541));
        assert_eq!(seq(&mut rewriter, packet(A, 65_542)), Ok(65_540), "late");
        assert_eq!(
            seq(&mut rewriter, packet(A, 65_539)),
            Ok(65_538),
            "late, from before the second padding"
        );
        assert_eq!(
            seq(&mut rewriter, packet(A, 65_534)),
            Ok(65_534),
            "late, from before both"
        );
    }

    #[test]
    fn padding_after_a_gap_goes_out_as_padding() {
        let mut rewriter = started(packet(A, 100));
        assert_eq!(seq(&mut rewriter, padding(A, 102)), Ok(102));
        assert_eq!(seq(&mut rewriter, packet(A, 101)), Ok(101));
        assert_eq!(seq(&mut rewriter, packet(A, 103)), Ok(103));
    }

    #[test]
    fn a_packet_from_before_more_removals_than_are_remembered_is_too_late() {
        let mut rewriter = started(packet(A, 100));
        for number in 102..102 + 33 {
            let late = seq(&mut rewriter, packet(A, number * 2));
            assert!(late.is_ok());
            assert_eq!(
                seq(&mut rewriter, padding(A, number * 2 + 1)),
                Err(Refused::Removed)
            );
        }
        assert_eq!(seq(&mut rewriter, packet(A, 150)), Err(Refused::TooLate));
    }

    #[test]
    fn a_switch_continues_numbers_and_pictures() {
        // LiveKit's case: the last packet out was 23338 with picture 13469; the new source's keyframe is 123 with picture 45.
        let last = Incoming {
            picture: Picture {
                id: 13_469,
                tl0: 234,
                key: 23,
            },
            ..packet(A, 23_338)
        };
        let mut rewriter = started(last);
        let keyframe = Incoming {
            picture: Picture {
                id: 45,
                tl0: 12,
                key: 30,
            },
            ..packet(B, 123)
        };
        rewriter.switch(&keyframe, RtpTime(last.timestamp.0 + 3000), Frames::Marked);
        let out = rewriter.rewrite(&keyframe).unwrap();
        assert_eq!(out.seq, ExtSeq(23_339));
        assert_eq!(
            out.picture,
            Picture {
                id: 13_470,
                tl0: 235,
                key: 24
            }
        );
        assert_eq!(out.timestamp, RtpTime(last.timestamp.0 + 3000));
    }

    #[test]
    fn a_frame_cut_off_by_the_switch_leaves_a_hole() {
        let mut rewriter = started(Incoming {
            marker: false,
            ..packet(A, 500)
        });
        rewriter.switch(&packet(B, 7), RtpTime(9_000_000), Frames::Marked);
        assert_eq!(seq(&mut rewriter, packet(B, 7)), Ok(502));
        let mut audio = started(Incoming {
            marker: false,
            ..packet(A, 500)
        });
        audio.switch(&packet(B, 7), RtpTime(9_000_000), Frames::Unmarked);
        assert_eq!(
            seq(&mut audio, packet(B, 7)),
            Ok(501),
            "audio has no frames"
        );
    }

    #[test]
    fn late_packets_of_the_old_layer_find_their_number_and_of_the_new_one_are_dropped() {
        let mut rewriter = started(packet(A, 100));
        assert_eq!(seq(&mut rewriter, packet(A, 103)), Ok(103));
        rewriter.switch(&packet(B, 50), RtpTime(9_000_000), Frames::Marked);
        assert_eq!(seq(&mut rewriter, packet(B, 50)), Ok(104));
        assert_eq!(
            seq(&mut rewriter, packet(A, 102)),
            Ok(102),
            "under way at the switch"
        );
        assert_eq!(
            seq(&mut rewriter, packet(A, 104)),
            Err(Refused::OtherSource),
            "after it"
        );
        assert_eq!(seq(&mut rewriter, packet(B, 49)), Err(Refused::BeforeStart));
        assert_eq!(seq(&mut rewriter, packet(B, 51)), Ok(105));
    }

    #[test]
    fn a_frame_lost_before_padding_does_not_come_back_after_the_switch() {
        // Found by simulation: 101 is the next picture, as is the keyframe that the switch starts with.
        let mut rewriter = started(packet(A, 100));
        assert_eq!(seq(&mut rewriter, padding(A, 102)), Ok(102));
        rewriter.switch(&packet(B, 50), RtpTime(9_000_000), Frames::Marked);
        assert_eq!(seq(&mut rewriter, packet(B, 50)), Ok(103));
        assert_eq!(
            seq(&mut rewriter, packet(A, 101)),
            Err(Refused::OtherSource)
        );
    }

    #[test]
    fn a_frame_that_comes_late_behind_padding_counts_at_the_switch() {
        // Found by simulation (seed 4001).
        let picture = |id| Picture { id, tl0: 0, key: 0 };
        let mut rewriter = started(Incoming {
            picture: picture(5),
            ..packet(A, 100)
        });
        assert_eq!(seq(&mut rewriter, padding(A, 102)), Ok(102));
        assert_eq!(
            seq(
                &mut rewriter,
                Incoming {
                    picture: picture(6),
                    ..packet(A, 101)
                }
            ),
            Ok(101)
        );
        rewriter.switch(&packet(B, 50), RtpTime(9_000_000), Frames::Marked);
        assert_eq!(rewriter.rewrite(&packet(B, 50)).unwrap().picture.id, 7);
    }

    #[test]
    fn numbers_pictures_and_times_continue_from_every_start() {
        const STARTS: [u16; 9] = [0, 1, 127, 128, 255, 32767, 32768, 65534, 65535];
        for out_start in STARTS {
            for in_start in STARTS {
                continues(out_start.into(), in_start.into());
            }
        }
        continues(u64::from(u32::MAX), 7);
        continues(7, u64::from(u32::MAX));
    }

    /// Three packets of one source, five of another in mixed order, with one lost, wrap where they may.
    fn continues(out_start: u64, in_start: u64) {
        let of = |source, start: u64, step: u64| Incoming {
            timestamp: RtpTime(
                (start as u32)
                    .wrapping_mul(65_537)
                    .wrapping_sub(3)
                    .wrapping_add(step as u32 * 3000),
            ),
            picture: Picture {
                id: (start as u16 & 0x7fff).wrapping_add(step as u16) & 0x7fff,
                tl0: (start as u8).wrapping_add(step as u8),
                key: (start as u8) & 0x1f,
            },
            ..packet(source, start + step)
        };
        let mut rewriter = Rewriter::new(ExtSeq(out_start));
        rewriter.switch(
            &of(A, in_start, 0),
            of(A, in_start, 0).timestamp,
            Frames::Marked,
        );
        let mut out: Vec<Outgoing> = (0..3)
            .map(|step| rewriter.rewrite(&of(A, in_start, step)).unwrap())
            .collect();
        let next = RtpTime(out[2].timestamp.0.wrapping_add(3000));
        rewriter.switch(&of(B, out_start, 0), next, Frames::Marked);
        let steps = [0, 2, 1, 4, 5];
        out.extend(steps.map(|step| rewriter.rewrite(&of(B, out_start, step)).unwrap()));
        let offsets = [0, 1, 2, 3, 5, 4, 7, 8];
        let first = out[0];
        for (out, offset) in out.iter().zip(offsets) {
            assert_eq!(out.seq.0, out_start + offset);
            assert_eq!(
                out.timestamp.0,
                first.timestamp.0.wrapping_add(offset as u32 * 3000)
            );
            assert_eq!(out.picture.id, (first.picture.id + offset as u16) & 0x7fff);
            assert_eq!(
                out.picture.tl0,
                first.picture.tl0.wrapping_add(offset as u8)
            );
            assert_eq!(
                out.picture.key,
                (first.picture.key + u8::from(offset > 2)) & 0x1f
            );
        }
    }

    #[test]
    fn random_order_within_64_packets_never_gives_a_number_twice() {
        let mut numbers = crate::table::Numbers::new(1);
        for round in 0..200 {
            let mut rewriter = started(packet(A, 1000));
            let mut used = std::collections::BTreeSet::from([1000]);
            let mut source = A;
            let mut seqs: Vec<u64> = (1001..3000).collect();
            for at in 0..seqs.len() {
                let other = at + (numbers.next() % 64) as usize;
                if other < seqs.len() {
                    seqs.swap(at, other);
                }
            }
            for (at, number) in seqs.into_iter().enumerate() {
                let kind = numbers.next() % 10;
                if at % 500 == 499 {
                    source = SourceId(source.0 + 1);
                    rewriter.switch(
                        &packet(source, number),
                        RtpTime(number as u32),
                        Frames::Marked,
                    );
                }
                // The packet may still come from the source before.
                let from = if kind == 1 && at > 500 {
                    SourceId(source.0 - 1)
                } else {
                    source
                };
                let packet = if kind == 0 {
                    padding(from, number)
                } else {
                    packet(from, number)
                };
                if let Ok(out) = rewriter.rewrite(&packet) {
                    assert!(used.insert(out.seq.0), "round {round}: {} twice", out.seq.0);
                }
            }
        }
    }
}
