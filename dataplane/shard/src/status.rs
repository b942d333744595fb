//! What a shard tells about its participants when it changes: who speaks, what each can be sent, what each gets.

use std::time::{Duration, Instant};

use crate::ids::{Size, TrackId};
use crate::limits::SPEAKERS_MAX;
use crate::reason::Reason;

/// One voice that is heard now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The track of the voice.
    pub track: TrackId,
    /// How loud it is, smoothed, in -dBov as in RFC 6464: 0 is loudest, 127 silence.
    pub level: u8,
}

/// The voices that are heard now, loudest first; at most [`SPEAKERS_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Speakers {
    of: [Option<Speaker>; SPEAKERS_MAX],
}

impl Speakers {
    /// Adds one behind those that are at least as loud, but not before the first `fixed` ones; the quietest gives way.
    pub(crate) fn insert(&mut self, speaker: Speaker, fixed: usize) {
        let louder = |other: &Option<Speaker>| other.is_some_and(|of| of.level <= speaker.level);
        let behind = self
            .of
            .iter()
            .skip(fixed)
            .take_while(|of| louder(of))
            .count();
        let mut moving = Some(speaker);
        for place in self.of.iter_mut().skip(fixed + behind) {
            std::mem::swap(place, &mut moving);
        }
    }

    /// Whether the first is another one, or others are among them.
    pub(crate) fn differ(&self, from: &Self) -> bool {
        let track = |speaker: Speaker| speaker.track;
        let is_among = |track| from.iter().any(|other| other.track == track);
        self.iter().next().map(track) != from.iter().next().map(track)
            || self.iter().count() != from.iter().count()
            || !self.iter().map(track).all(is_among)
    }

    /// Loudest first.
    pub fn iter(&self) -> impl Iterator<Item = Speaker> {
        self.of.iter().flatten().copied()
    }
}

impl FromIterator<Speaker> for Speakers {
    /// In the order given; those that there is no room for are left out.
    fn from_iter<I: IntoIterator<Item = Speaker>>(speakers: I) -> Self {
        let mut of = [None; SPEAKERS_MAX];
        for (place, speaker) in of.iter_mut().zip(speakers) {
            *place = Some(speaker);
        }
        Self { of }
    }
}

/// What one participant can be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportStatus {
    /// What the way to the participant carries, in bits a second; `None` before anything is known.
    pub estimate_bps: Option<u64>,
    /// What has been given out of it to subscriptions.
    pub allocated_bps: u64,
    /// What everything that the participant asked for would take.
    pub wanted_bps: u64,
}

impl TransportStatus {
    /// Whether a person would call it another number.
    pub(crate) fn differs(&self, from: &Self) -> bool {
        let differ = |a: u64, b: u64| a.abs_diff(b) > a.max(b) / 20;
        self.estimate_bps.is_some() != from.estimate_bps.is_some()
            || differ(
                self.estimate_bps.unwrap_or_default(),
                from.estimate_bps.unwrap_or_default(),
            )
            || differ(self.allocated_bps, from.allocated_bps)
            || differ(self.wanted_bps, from.wanted_bps)
    }
}

/// What has gone over one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// When this was so.
    pub at: Instant,
    /// From the focus to the participant.
    pub sent: Flow,
    /// From the participant to the focus.
    pub received: Flow,
    /// A typical round trip (RFC 6298 §2); `None` before the first report of it.
    pub round_trip: Option<Duration>,
}

/// One direction of a transport, from its beginning: RTP alone, what is sent again and what fills up included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Packets.
    pub packets: u64,
    /// Bytes of the datagrams.
    pub bytes: u64,
    /// What was lost of the worst stream before anything was sent again, as last reported, in 256ths; `None` before any report.
    pub lost: Option<u8>,
}

impl Flow {
    /// One more packet of so many bytes.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// What one subscription gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionStatus {
    /// The layer that is forwarded, by its index in [`AddTrack::rids`](crate::AddTrack::rids); `None` while nothing is.
    pub layer: Option<u8>,
    /// The size of its pictures, where known.
    pub size: Option<Size>,
    /// The highest temporal layer that is forwarded; `None` is all of them.
    pub temporal: Option<u8>,
    /// Why it is not more.
    pub reason: Reason,
}
