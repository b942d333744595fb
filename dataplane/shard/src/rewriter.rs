//! Renumbers one subscription (the MSC's "munger"): whatever layers feed it, one continuous stream comes out.
//!
//! ```text
//! layer A: 100 101 102 103                    out: 500 501 502 503
//! layer B:                 k=7 8 (9 padding) 10 …              504 505 506
//! ```
//! A [`Mapping`] is what is added to the numbers of one source. The one before it is kept, so that packets which were
//! under way at the switch still find their own number. No number is ever given to two packets: within a mapping the
//! source's numbers differ (SRTP accepts each once), and a new mapping starts above everything sent.

mod mapping;
mod picture;
#[cfg(test)]
mod tests;
mod thinning;

use std::time::Instant;

use weir_wire::{ExtSeq, RtpTime};

use crate::layers::{Opens, Sublayer};
use crate::publisher::SourceId;
use mapping::Mapping;
pub(crate) use picture::Picture;

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
    pub(crate) sublayer: Sublayer,
    pub(crate) opens: Opens,
    /// The last packet of its frame, which may be one spatial layer of a picture.
    pub(crate) frame_end: bool,
    /// Picture ids stay without gaps when pictures are left out.
    pub(crate) counted: bool,
    pub(crate) arrival: Instant,
}

/// The numbers a packet goes out with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) seq: ExtSeq,
    pub(crate) timestamp: RtpTime,
    pub(crate) picture: Picture,
    /// It may be set where the picture's own end is left out.
    pub(crate) marker: bool,
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
    /// Of a spatial or temporal layer above what goes out; the numbers close up.
    LeftOut,
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

/// The state of one subscription's numbers.
#[derive(Debug)]
pub(crate) struct Rewriter {
    first_seq: ExtSeq,
    last: Option<Last>,
    current: Option<Mapping>,
    previous: Option<Mapping>,
    /// The sublayers that go out at most after the next switch.
    next_limit: Sublayer,
}

impl Rewriter {
    /// The first packet will go out with `first_seq`.
    pub(crate) fn new(first_seq: ExtSeq) -> Self {
        Self {
            first_seq,
            last: None,
            current: None,
            previous: None,
            next_limit: Sublayer::ALL,
        }
    }

    /// Sets which sublayers of `source` go out at most: as soon as that can be decoded if it feeds the subscription now, else
    /// from the switch to it on.
    pub(crate) fn limit(&mut self, source: SourceId, limit: Sublayer) {
        self.next_limit = limit;
        if let Some(current) = &mut self.current
            && current.source == source
        {
            current.thinning.want(limit);
        }
    }

    /// Whether spatial layers of `source` are let through that do not flow: where nothing else opens them, a keyframe must.
    pub(crate) fn lacks_layers(&self, source: SourceId) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|of| of.source == source && of.thinning.lacks_spatial())
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
        let out = Outgoing {
            seq: ExtSeq(seq),
            timestamp,
            picture,
            marker: packet.marker,
        };
        let mapping = Mapping::new(packet, &out, self.next_limit);
        self.previous = self.current.replace(mapping);
    }

    /// The numbers that `packet` goes out with.
    pub(crate) fn rewrite(&mut self, packet: &Incoming) -> Result<Outgoing, Refused> {
        let (mapping, late_only) = match (&mut self.current, &mut self.previous) {
            (Some(current), _) if current.source == packet.source => (current, false),
            (_, Some(previous)) if previous.source == packet.source => (previous, true),
            _ => return Err(Refused::OtherSource),
        };
        let late = packet.seq < mapping.highest;
        let out = mapping.map(packet, late_only)?;
        self.sent(packet, out, late);
        Ok(out)
    }

    fn sent(&mut self, packet: &Incoming, out: Outgoing, late: bool) {
        let last = self.last.get_or_insert(Last {
            seq: out.seq,
            media_seq: out.seq,
            timestamp: out.timestamp,
            marker: out.marker,
            picture: out.picture,
            in_order: (out.timestamp, packet.arrival),
        });
        last.seq = last.seq.max(out.seq);
        // Padding belongs to no frame: it neither ends one nor starts one.
        if packet.padding || out.seq < last.media_seq {
            return;
        }
        last.media_seq = out.seq;
        last.marker = out.marker;
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
