//! What a shard tells about its participants when it changes: who speaks, what each can be sent, what each gets.

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
    /// Those of `voices`, loudest first, that there is room for.
    #[allow(dead_code, reason = "made by the choice of speakers")]
    pub(crate) fn new(voices: impl Iterator<Item = Speaker>) -> Self {
        let mut speakers = Self::default();
        for (place, voice) in speakers.of.iter_mut().zip(voices) {
            *place = Some(voice);
        }
        speakers
    }

    /// Loudest first.
    pub fn iter(&self) -> impl Iterator<Item = Speaker> {
        self.of.iter().flatten().copied()
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
