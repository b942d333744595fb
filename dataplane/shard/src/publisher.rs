//! Published tracks: their layers, and the sources (SSRCs) that feed the layers.

use std::time::Instant;

use weir_wire::ExtSeq;
use weir_wire::vp8::PictureId;

use crate::codec::{Dependencies, Sizes};
use crate::command::AddTrack;
use crate::history::History;
use crate::ids::{CodecMapping, ConferenceId, LayerSet, MediaKind, Purpose, Size, TrackId};
use crate::keyframe::KeyframeRequests;
use crate::layers::{LayerState, LayerStates, Rates, Sublayer};
use crate::limits::{
    HISTORY_AUDIO_PACKETS, HISTORY_VIDEO_PACKETS, KEYFRAME_INTERVAL, KEYFRAME_INTERVAL_LOWEST,
    LAYER_SILENT, LAYERS_MAX, SPATIAL_LAYERS_MAX,
};
use crate::nack::Missing;
use crate::rate::RateMeter;
use crate::reports::Reception;
use crate::table::Table;
use crate::timing::ReportedTime;

/// One SSRC of one publisher for as long as it lives; never used twice in a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SourceId(pub(crate) u32);

/// A short text in place: mid or rid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tag {
    bytes: [u8; crate::limits::MID_BYTES_MAX],
    len: u8,
}

impl Tag {
    /// `None` when it is too long.
    pub(crate) fn new(text: &[u8]) -> Option<Self> {
        let mut tag = Self {
            len: u8::try_from(text.len()).ok()?,
            ..Self::default()
        };
        tag.bytes.get_mut(..text.len())?.copy_from_slice(text);
        Some(tag)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// One simulcast layer.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Empty when the track has no rids.
    pub(crate) rid: Tag,
    /// The table index of the source that feeds it.
    pub(crate) source: Option<u32>,
    pub(crate) last_arrival: Option<Instant>,
    /// When a subscriber last needed it.
    pub(crate) needed: Instant,
    /// From the last keyframe; by spatial layer.
    pub(crate) sizes: Sizes,
}

/// A track's place among the voices of its conference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VoicePlace {
    /// Table index.
    pub(crate) conference: u32,
    pub(crate) place: u32,
}

/// One published track.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) id: TrackId,
    /// The publisher's table index.
    pub(crate) transport: u32,
    pub(crate) conference: ConferenceId,
    pub(crate) purpose: Purpose,
    /// Set for microphones.
    pub(crate) voice: Option<VoicePlace>,
    pub(crate) mid: Tag,
    pub(crate) kind: MediaKind,
    pub(crate) codecs: Vec<CodecMapping>,
    /// `a=ssrc` numbers that are not yet bound: media first, then its retransmissions.
    pub(crate) ssrcs: Vec<u32>,
    /// Highest quality first.
    pub(crate) layers: Vec<Layer>,
    pub(crate) signalled: Option<Size>,
    pub(crate) muted: bool,
    /// Table indices.
    pub(crate) subscriptions: Vec<u32>,
    pub(crate) layers_checked: Instant,
    /// The layers that control was told to be in use.
    pub(crate) told_in_use: Option<LayerSet>,
}

impl Track {
    /// `None` when mid or rids are longer, or the rids more, than a browser's.
    pub(crate) fn new(add: AddTrack, transport: u32, now: Instant) -> Option<Self> {
        let layer = |rid: &str| {
            Some(Layer {
                rid: Tag::new(rid.as_bytes())?,
                source: None,
                last_arrival: None,
                needed: now,
                sizes: [None; SPATIAL_LAYERS_MAX],
            })
        };
        let layers = match add.rids.as_slice() {
            [] => vec![layer("")?],
            rids if rids.len() <= LAYERS_MAX => rids
                .iter()
                .map(|rid| layer(rid))
                .collect::<Option<Vec<_>>>()?,
            _ => return None,
        };
        Some(Self {
            id: add.track,
            transport,
            conference: add.conference,
            purpose: add.purpose,
            voice: None,
            mid: Tag::new(add.mid.as_bytes())?,
            kind: add.kind,
            codecs: add.codecs,
            ssrcs: add.ssrcs,
            layers,
            signalled: add.size,
            muted: false,
            subscriptions: Vec::new(),
            layers_checked: now,
            told_in_use: None,
        })
    }

    pub(crate) fn is_simulcast(&self) -> bool {
        self.layers.len() > 1
    }

    /// The layer with this rid; a track without rids has one layer for whatever comes.
    pub(crate) fn layer_of(&self, rid: Option<&[u8]>) -> Option<usize> {
        if !self.is_simulcast() {
            return Some(0);
        }
        let rid = rid?;
        self.layers
            .iter()
            .position(|layer| layer.rid.as_bytes() == rid)
    }

    /// What is known about the layers now. A layer lives while it is not silent for longer than the others: silence of
    /// the whole track is a mute or a network, and no reason to move anyone.
    pub(crate) fn layer_states(&self, sources: &Table<Source>) -> LayerStates {
        let newest = self
            .layers
            .iter()
            .filter_map(|layer| layer.last_arrival)
            .max();
        let mut states = LayerStates::default();
        for (index, (state, layer)) in states.iter_mut().zip(&self.layers).enumerate() {
            let behind = newest
                .zip(layer.last_arrival)
                .map(|(newest, last)| newest.saturating_duration_since(last));
            let live = layer.source.is_some() && behind.is_some_and(|behind| behind < LAYER_SILENT);
            let source = layer.source.and_then(|source| sources.get(source));
            let mut sizes = layer.sizes;
            let top = source.map_or(Sublayer::default(), |source| source.top);
            if let Some(size) = sizes.get_mut(usize::from(top.spatial)) {
                *size = size.or(self.signalled_size(index));
            }
            *state = LayerState {
                live,
                sizes,
                top,
                rates: source.map_or(Rates::default(), |source| source.rates),
            };
        }
        states
    }

    /// A guess for payloads that cannot be read: each layer halves the one above, as browsers do by default.
    fn signalled_size(&self, index: usize) -> Option<Size> {
        let Size { width, height } = self.signalled?;
        Some(Size::new((width >> index).max(1), (height >> index).max(1)))
    }

    pub(crate) fn codec(&self, payload_type: u8) -> Option<&CodecMapping> {
        self.codecs
            .iter()
            .find(|codec| codec.payload_type == payload_type)
    }

    pub(crate) fn codec_of_rtx(&self, payload_type: u8) -> Option<&CodecMapping> {
        self.codecs
            .iter()
            .find(|codec| codec.rtx_payload_type == Some(payload_type))
    }
}

/// One media SSRC that feeds one layer.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) id: SourceId,
    pub(crate) ssrc: u32,
    /// Table index.
    pub(crate) track: u32,
    pub(crate) layer: usize,
    pub(crate) clock_rate: u32,
    pub(crate) history: History,
    pub(crate) reception: Reception,
    pub(crate) missing: Missing,
    pub(crate) keyframes: KeyframeRequests,
    pub(crate) sender_report: Option<ReportedTime>,
    pub(crate) last_arrival: Instant,
    pub(crate) picture_ids: PictureIds,
    pub(crate) dependencies: Dependencies,
    /// The highest sublayer that came so far.
    pub(crate) top: Sublayer,
    /// What each sublayer takes.
    pub(crate) rates: Rates,
    pub(crate) meter: RateMeter,
}

impl Source {
    pub(crate) fn new(
        id: SourceId,
        ssrc: u32,
        track: u32,
        layer: usize,
        of: &Track,
        clock_rate: u32,
        now: Instant,
    ) -> Self {
        let capacity = match of.kind {
            MediaKind::Audio => HISTORY_AUDIO_PACKETS,
            MediaKind::Video => HISTORY_VIDEO_PACKETS,
        };
        let lowest = layer + 1 == of.layers.len() && of.is_simulcast();
        Self {
            id,
            ssrc,
            track,
            layer,
            clock_rate,
            history: History::new(capacity),
            reception: Reception::default(),
            missing: Missing::new(),
            keyframes: KeyframeRequests::new(if lowest {
                KEYFRAME_INTERVAL_LOWEST
            } else {
                KEYFRAME_INTERVAL
            }),
            sender_report: None,
            last_arrival: now,
            picture_ids: PictureIds::default(),
            dependencies: Dependencies::default(),
            top: Sublayer::default(),
            rates: Rates::default(),
            meter: RateMeter::new(now),
        }
    }

    /// How many packets behind the newest a packet came.
    pub(crate) fn lateness(&self, seq: ExtSeq) -> u64 {
        self.history
            .newest()
            .map_or(0, |newest| newest.0.saturating_sub(seq.0))
    }
}

/// Extends a source's picture ids to 15 bits, whatever width it uses.
#[derive(Debug, Default)]
pub(crate) struct PictureIds {
    last: Option<(u16, u32)>,
    /// Added to ids as they come, so that a change of width is no jump.
    shift: u16,
}

impl PictureIds {
    /// The extended id of a packet that carries `id`.
    pub(crate) fn extend(&mut self, id: PictureId) -> u16 {
        let bits = match id {
            PictureId::Seven(_) => 7,
            PictureId::Fifteen(_) => 15,
        };
        let Some((last, last_bits)) = self.last else {
            self.last = Some((id.value(), bits));
            return id.value();
        };
        if bits != last_bits {
            let next = last.wrapping_add(1) & 0x7fff;
            self.shift = next.wrapping_sub(id.value());
            self.last = Some((next, bits));
            return next;
        }
        // The distance on the shorter way round; the shift to the top of the i16 and back extends the narrow sign.
        let distance = id.value().wrapping_add(self.shift).wrapping_sub(last);
        let step = ((distance << (16 - bits)) as i16) >> (16 - bits);
        let extended = last.wrapping_add(step as u16) & 0x7fff;
        if step > 0 {
            self.last = Some((extended, bits));
        }
        extended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seven(id: u16) -> PictureId {
        PictureId::Seven((id & 0x7f) as u8)
    }

    #[test]
    fn seven_bit_ids_count_on_over_their_wraps() {
        for start in [0, 1, 127, 128, 255, 32767u16] {
            let mut ids = PictureIds::default();
            let first = ids.extend(seven(start));
            for step in 1..40_000u16 {
                assert_eq!(
                    ids.extend(seven(start.wrapping_add(step))),
                    (first + step) & 0x7fff
                );
            }
        }
    }

    #[test]
    fn late_ids_keep_their_place() {
        let mut ids = PictureIds::default();
        let of: Vec<u16> = [126, 127, 1, 0, 2]
            .into_iter()
            .map(|id| ids.extend(seven(id)))
            .collect();
        assert_eq!(of, [126, 127, 129, 128, 130]);
        let mut ids = PictureIds::default();
        let of: Vec<u16> = [32766, 0, 32767, 1]
            .into_iter()
            .map(|id| ids.extend(PictureId::Fifteen(id)))
            .collect();
        assert_eq!(of, [32766, 0, 32767, 1]);
    }

    #[test]
    fn a_change_of_width_is_no_jump() {
        let mut ids = PictureIds::default();
        assert_eq!(ids.extend(PictureId::Seven(100)), 100);
        assert_eq!(ids.extend(PictureId::Fifteen(5000)), 101);
        assert_eq!(ids.extend(PictureId::Fifteen(5001)), 102);
        assert_eq!(ids.extend(PictureId::Seven(7)), 103);
        assert_eq!(ids.extend(PictureId::Seven(8)), 104);
    }

    #[test]
    fn tags_have_a_limit() {
        assert_eq!(
            Tag::new(b"0123456789abcdef").unwrap().as_bytes(),
            b"0123456789abcdef"
        );
        assert_eq!(Tag::new(b"0123456789abcdefg"), None);
    }
}
