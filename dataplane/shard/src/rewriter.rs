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
    pub(crate) timestamp: RtpTime,
    pub(crate) marker: bool,
    pub(crate) picture: Picture,
    pub(crate) arrival: Instant,
}

/// What is added to the numbers of one source.
#[derive(Debug)]
struct Mapping {
    source: SourceId,
    first: ExtSeq,
    /// The highest number seen of the source.
    highest: ExtSeq,
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
        Self { first_seq, last: None, current: None, previous: None }
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
        if late_only && packet.seq > mapping.highest {
            return Err(Refused::OtherSource);
        }
        if packet.padding && packet.seq.0 == mapping.highest.0 + 1 {
            mapping.remove(packet.seq);
            return Err(Refused::Removed);
        }
        let seq = mapping.number(packet.seq).ok_or(Refused::TooLate)?;
        mapping.highest = mapping.highest.max(packet.seq);
        let out = Outgoing {
            seq,
            timestamp: RtpTime(packet.timestamp.0.wrapping_add(mapping.timestamp)),
            picture: packet.picture.plus(mapping.picture),
        };
        self.sent(packet, out);
        Ok(out)
    }

    fn sent(&mut self, packet: &Incoming, out: Outgoing) {
        let last = self.last.get_or_insert(Last {
            seq: out.seq,
            timestamp: out.timestamp,
            marker: packet.marker,
            picture: out.picture,
            arrival: packet.arrival,
        });
        if out.seq < last.seq {
            return;
        }
        last.seq = out.seq;
        if packet.padding {
            // Padding belongs to no frame: it neither ends one nor starts one.
            return;
        }
        last.marker = packet.marker;
        if out.timestamp.0.wrapping_sub(last.timestamp.0) as i32 > 0 {
            last.timestamp = out.timestamp;
            last.arrival = packet.arrival;
        }
        last.picture = out.picture;
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
        self.plus(Self { id: 1, tl0: 1, key: 1 })
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
