//! How the numbers of one source become those of a subscription.

use weir_wire::{ExtSeq, RtpTime};

use super::thinning::{Thinning, Verdict};
use super::{Incoming, Outgoing, Picture, Refused};
use crate::layers::Sublayer;
use crate::publisher::SourceId;

/// Runs of left out packets that a mapping remembers, to number late packets from before them: with every second picture left
/// out, about two seconds.
const REMOVED_MAX: usize = 32;

/// What is added to the numbers of one source.
#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) source: SourceId,
    first: ExtSeq,
    /// The highest number seen of the source.
    pub(super) highest: ExtSeq,
    /// The same without padding and what is left out. After a switch nothing above it goes out any more: it may be of a newer
    /// picture than the last that was counted.
    highest_media: ExtSeq,
    /// The picture of the packet with the highest number, if that was left out.
    leaving_out: Option<RtpTime>,
    /// Added to sequence numbers, modulo 2^64, before removed packets are taken off.
    seq: u64,
    pub(super) timestamp: u32,
    picture: Picture,
    removed: Removed,
    pub(super) thinning: Thinning,
}

impl Mapping {
    /// A mapping that begins with `packet`, which goes out with these numbers.
    pub(super) fn new(packet: &Incoming, out: &Outgoing, wanted: Sublayer) -> Self {
        Self {
            source: packet.source,
            first: packet.seq,
            highest: packet.seq,
            highest_media: packet.seq,
            leaving_out: None,
            seq: out.seq.0.wrapping_sub(packet.seq.0),
            timestamp: out.timestamp.0.wrapping_sub(packet.timestamp.0),
            picture: out.picture.minus(packet.picture),
            removed: Removed::default(),
            thinning: Thinning::new(wanted),
        }
    }

    /// The numbers that `packet` goes out with. `late_only` lets pass what was under way when the mapping ended.
    pub(super) fn map(&mut self, packet: &Incoming, late_only: bool) -> Result<Outgoing, Refused> {
        if packet.seq < self.first {
            return Err(Refused::BeforeStart);
        }
        if late_only && packet.seq > self.highest_media {
            return Err(Refused::OtherSource);
        }
        let (before, marker) = if packet.padding {
            if packet.seq.0 == self.highest.0 + 1 {
                self.remove(packet.seq.0, packet.seq);
                return Err(Refused::Removed);
            }
            (0, packet.marker)
        } else {
            match self.thinning.judge(packet, packet.seq > self.highest) {
                Verdict::Goes { before, limit } => {
                    // Of a picture that is cut off above this layer, this is the end.
                    let ends = packet.frame_end && packet.sublayer.spatial == limit.spatial;
                    (before, packet.marker || ends)
                }
                Verdict::LeftOut => return Err(self.leave_out(packet)),
                Verdict::TooLate => return Err(Refused::TooLate),
            }
        };
        let seq = self.number(packet.seq).ok_or(Refused::TooLate)?;
        if packet.seq > self.highest {
            self.highest = packet.seq;
            self.leaving_out = None;
        }
        if !packet.padding {
            self.highest_media = self.highest_media.max(packet.seq);
        }
        let mut picture = packet.picture.plus(self.picture);
        picture.id = picture.id.wrapping_sub(before) & 0x7fff;
        Ok(Outgoing {
            seq,
            timestamp: RtpTime(packet.timestamp.0.wrapping_add(self.timestamp)),
            picture,
            marker,
        })
    }

    /// Notes a packet that is left out. The numbers close up behind it if it is the newest; the number of a late one has been
    /// kept free for it, and stays unused.
    fn leave_out(&mut self, packet: &Incoming) -> Refused {
        if packet.seq > self.highest {
            // What is missing between two packets of one picture, both left out, belongs to it.
            let from = if self.leaving_out == Some(packet.timestamp) {
                self.highest.0 + 1
            } else {
                packet.seq.0
            };
            self.remove(from, packet.seq);
            self.leaving_out = Some(packet.timestamp);
        }
        Refused::LeftOut
    }

    /// Leaves out everything from `from` to the newest packet: all behind it move up.
    fn remove(&mut self, from: u64, newest: ExtSeq) {
        self.removed.push(from, newest.0 + 1);
        self.highest = newest;
    }

    fn number(&self, seq: ExtSeq) -> Option<ExtSeq> {
        let before = self.removed.before(seq.0)?;
        Some(ExtSeq(seq.0.wrapping_add(self.seq).wrapping_sub(before)))
    }
}

/// The numbers that were left out, as runs.
#[derive(Debug, Default)]
struct Removed {
    /// First and behind the last; the newest at `count - 1`, round about.
    runs: [(u64, u64); REMOVED_MAX],
    count: usize,
    total: u64,
}

impl Removed {
    /// Adds numbers above all others.
    fn push(&mut self, from: u64, to: u64) {
        self.total += to - from;
        if let Some(last) = self.count.checked_sub(1)
            && let Some(run) = self.runs.get_mut(last % REMOVED_MAX)
            && run.1 == from
        {
            run.1 = to;
            return;
        }
        self.runs[self.count % REMOVED_MAX] = (from, to);
        self.count += 1;
    }

    /// How many numbers below `seq` were left out. `None` when that is not known any more, or `seq` is one of them.
    fn before(&self, seq: u64) -> Option<u64> {
        let mut before = self.total;
        for step in 1..=self.count.min(REMOVED_MAX) {
            let (from, to) = self.runs[(self.count - step) % REMOVED_MAX];
            if to <= seq {
                return Some(before);
            }
            if from <= seq {
                return None;
            }
            before -= to - from;
        }
        // From before all that are remembered: fine if those are all there were.
        (self.count <= REMOVED_MAX).then_some(before)
    }
}
