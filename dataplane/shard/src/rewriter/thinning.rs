//! Which pictures of a source go out when not all its layers do, and how many of them are left out.
//!
//! Decided once for each picture, when its first packet comes: up only where what was left out before is not needed, down only
//! from one picture to the next. What was decided is kept for the packets of the picture that come late.

use weir_wire::{ExtSeq, RtpTime};

use super::Incoming;
use crate::layers::{Opens, Sublayer};
use crate::limits::{SPATIAL_LAYERS_MAX, TEMPORAL_LAYERS_MAX};

/// Pictures whose decision is remembered: about a second. A packet that is later than that is of no use to a decoder.
const PICTURES_MAX: usize = 32;

/// What was decided for one picture.
#[derive(Clone, Copy, Debug, Default)]
struct Picture {
    timestamp: RtpTime,
    /// Of the packet that it was decided for.
    seq: ExtSeq,
    /// What of it goes out.
    limit: Sublayer,
    /// Pictures that were left out before it.
    before: u16,
    /// Whether nothing of it goes out, so that it counts for those behind it.
    counts: bool,
}

/// The thinning of one source for one subscription.
#[derive(Debug)]
pub(super) struct Thinning {
    /// What is wanted at most.
    wanted: Sublayer,
    /// What flows now.
    flows: Sublayer,
    /// The last pictures; the newest at `count - 1`, round about.
    pictures: [Picture; PICTURES_MAX],
    count: usize,
    left_out: u16,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes out.
    Goes {
        /// Pictures that were left out before its own.
        before: u16,
        /// The highest layers of the picture that go out.
        limit: Sublayer,
    },
    /// It belongs to a layer that does not.
    LeftOut,
    /// Nobody knows any more.
    TooLate,
}

impl Thinning {
    /// Begins at a keyframe, where everything that is wanted may flow.
    pub(super) fn new(wanted: Sublayer) -> Self {
        Self {
            wanted,
            flows: wanted,
            pictures: [Picture::default(); PICTURES_MAX],
            count: 0,
            left_out: 0,
        }
    }

    /// What may go out from the next opportunity on.
    pub(super) fn want(&mut self, wanted: Sublayer) {
        self.wanted = wanted;
    }

    /// Whether a spatial layer is wanted that does not flow.
    pub(super) fn lacks_spatial(&self) -> bool {
        self.flows.spatial < self.wanted.spatial
    }

    /// Decides for a packet of media. `newest` is whether its number is above all before it.
    pub(super) fn judge(&mut self, packet: &Incoming, newest: bool) -> Verdict {
        let picture = if self.newest() == Some(packet.timestamp) {
            self.open(packet)
        } else if newest || self.count == 0 {
            self.begin(packet)
        } else {
            match self.remembered(packet) {
                Some(picture) => picture,
                None => return Verdict::TooLate,
            }
        };
        self.verdict(packet, picture)
    }

    fn verdict(&self, packet: &Incoming, picture: Picture) -> Verdict {
        let (of, limit) = (packet.sublayer, picture.limit);
        if of.spatial > limit.spatial || of.temporal > limit.temporal {
            return Verdict::LeftOut;
        }
        Verdict::Goes {
            before: picture.before,
            limit,
        }
    }

    fn newest(&self) -> Option<RtpTime> {
        let at = self.count.checked_sub(1)?;
        Some(self.pictures.get(at % PICTURES_MAX)?.timestamp)
    }

    /// The first packet of a new picture.
    fn begin(&mut self, packet: &Incoming) -> Picture {
        self.flows.spatial = self.flows.spatial.min(self.wanted.spatial);
        self.flows.temporal = self.flows.temporal.min(self.wanted.temporal);
        self.raise(packet);
        let counts = packet.counted && packet.sublayer.temporal > self.flows.temporal;
        let picture = Picture {
            timestamp: packet.timestamp,
            seq: packet.seq,
            limit: self.flows,
            before: self.left_out,
            counts,
        };
        self.pictures[self.count % PICTURES_MAX] = picture;
        self.count += 1;
        self.left_out = self.left_out.wrapping_add(u16::from(counts));
        picture
    }

    /// Another packet of the newest picture: a frame of a higher spatial layer may begin with it.
    fn open(&mut self, packet: &Incoming) -> Picture {
        self.raise(packet);
        let at = (self.count - 1) % PICTURES_MAX;
        let picture = &mut self.pictures[at];
        if !picture.counts {
            picture.limit = self.flows.max(picture.limit);
        }
        *picture
    }

    /// Lets more flow if this packet says that it can be decoded.
    fn raise(&mut self, packet: &Incoming) {
        let (of, flows, wanted) = (packet.sublayer, self.flows, self.wanted);
        let is_part = of.spatial <= flows.spatial && of.temporal <= flows.temporal;
        match packet.opens {
            Opens::Nothing => {}
            Opens::Everything => self.flows = wanted,
            Opens::Own => {
                if of.temporal == flows.temporal + 1 && of.spatial <= flows.spatial {
                    self.flows.temporal = of.temporal.min(wanted.temporal);
                }
                if of.spatial == flows.spatial + 1 && of.temporal <= self.flows.temporal {
                    self.flows.spatial = of.spatial.min(wanted.spatial);
                }
            }
            Opens::UpTo(temporal) => {
                if is_part {
                    self.raise_to(temporal);
                }
            }
        }
    }

    /// To the highest spatial layer that is open with at least as many temporal layers as flow now.
    fn raise_to(&mut self, open: [Option<u8>; SPATIAL_LAYERS_MAX]) {
        let least = self.flows.temporal.min(self.wanted.temporal);
        for spatial in (self.flows.spatial..=self.wanted.spatial).rev() {
            let temporal = open.get(usize::from(spatial)).copied().flatten();
            if let Some(temporal) = temporal.filter(|temporal| *temporal >= least) {
                let temporal = temporal.min(self.wanted.temporal);
                self.flows = Sublayer { spatial, temporal };
                return;
            }
        }
    }

    /// What was decided for the picture of a late packet, or what holds for one of which nothing came before. `None` when that
    /// is forgotten.
    fn remembered(&self, packet: &Incoming) -> Option<Picture> {
        let pictures = &self.pictures[..self.count.min(PICTURES_MAX)];
        let own = pictures
            .iter()
            .find(|picture| picture.timestamp == packet.timestamp);
        if own.is_some() {
            return own.copied();
        }
        let before = pictures.iter().filter(|picture| picture.seq < packet.seq);
        match before.max_by_key(|picture| picture.seq) {
            Some(before) => Some(Picture {
                timestamp: packet.timestamp,
                before: before.before.wrapping_add(u16::from(before.counts)),
                counts: false,
                ..*before
            }),
            // When none was ever left out, there is nothing to remember.
            None if self.left_out == 0 => Some(Picture {
                limit: self.flows,
                ..Picture::default()
            }),
            None => None,
        }
    }
}

const _: () = assert!(
    SPATIAL_LAYERS_MAX <= 8 && TEMPORAL_LAYERS_MAX <= 8,
    "a layer's number is added to in a byte"
);
