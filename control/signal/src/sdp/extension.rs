//! RTP header extensions by meaning instead of URI.

use std::collections::BTreeMap;

use super::{ExtMap, MediaKind};

/// Ids of the header extensions that the focus reads, writes or forwards, in one section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    pub repaired_rid: Option<u8>,
    /// Transport-wide sequence numbers.
    pub transport_cc: Option<u8>,
    /// RFC 6464
    pub audio_level: Option<u8>,
    /// Absolute send time.
    pub abs_send_time: Option<u8>,
    /// `urn:3gpp:video-orientation`
    pub video_orientation: Option<u8>,
    /// Playout delay.
    pub playout_delay: Option<u8>,
    /// AV1's dependency descriptor, also sent with VP8.
    pub dependency_descriptor: Option<u8>,
    /// Video layers allocation.
    pub video_layers_allocation: Option<u8>,
}

/// The URIs that the focus knows, and the ids that Chromium gives them, which are also this focus's own where the participant has
/// not said any.
const KNOWN: [(&str, u8); 10] = [
    (MID, 4),
    (RID, 10),
    (REPAIRED_RID, 11),
    (TRANSPORT_CC, 3),
    (AUDIO_LEVEL, 1),
    (ABS_SEND_TIME, 2),
    (VIDEO_ORIENTATION, 13),
    (PLAYOUT_DELAY, 5),
    (DEPENDENCY_DESCRIPTOR, 12),
    (VIDEO_LAYERS_ALLOCATION, 9),
];
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const VIDEO_ORIENTATION: &str = "urn:3gpp:video-orientation";
const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
const DEPENDENCY_DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
const VIDEO_LAYERS_ALLOCATION: &str =
    "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00";

/// What own sections offer: what a forwarded stream can carry, without what only a publisher says of itself (rid, allocation).
const SENT_AUDIO: [&str; 4] = [AUDIO_LEVEL, ABS_SEND_TIME, TRANSPORT_CC, MID];
const SENT_VIDEO: [&str; 6] = [
    ABS_SEND_TIME,
    VIDEO_ORIENTATION,
    TRANSPORT_CC,
    PLAYOUT_DELAY,
    MID,
    DEPENDENCY_DESCRIPTOR,
];

impl ExtensionIds {
    /// The ids in a section's list.
    pub fn of(extmaps: &[ExtMap]) -> ExtensionIds {
        let id = |uri| {
            extmaps
                .iter()
                .find(|extmap| extmap.uri == uri)
                .map(|extmap| extmap.id)
        };
        ExtensionIds {
            mid: id(MID),
            rid: id(RID),
            repaired_rid: id(REPAIRED_RID),
            transport_cc: id(TRANSPORT_CC),
            audio_level: id(AUDIO_LEVEL),
            abs_send_time: id(ABS_SEND_TIME),
            video_orientation: id(VIDEO_ORIENTATION),
            playout_delay: id(PLAYOUT_DELAY),
            dependency_descriptor: id(DEPENDENCY_DESCRIPTOR),
            video_layers_allocation: id(VIDEO_LAYERS_ALLOCATION),
        }
    }
}

/// The part of a participant's list that the focus takes, each meaning and each id once.
pub(super) fn accepted(offered: &[ExtMap]) -> Vec<ExtMap> {
    let mut accepted: Vec<ExtMap> = Vec::new();
    for extmap in offered
        .iter()
        .filter(|extmap| KNOWN.iter().any(|(uri, _)| *uri == extmap.uri))
    {
        if accepted
            .iter()
            .all(|known| known.id != extmap.id && known.uri != extmap.uri)
        {
            accepted.push(extmap.clone());
        }
    }
    accepted
}

/// The ids of one session: the same id means the same everywhere in a bundle (RFC 8843 §9.2), for good.
#[derive(Debug, Clone, Default)]
pub(super) struct SessionExtensions {
    by_id: BTreeMap<u8, String>,
}

impl SessionExtensions {
    /// Notes what a participant's section uses; what was noted first stays.
    pub(super) fn learn(&mut self, extmaps: &[ExtMap]) {
        for extmap in extmaps {
            if self.by_id.values().all(|uri| *uri != extmap.uri) {
                self.by_id
                    .entry(extmap.id)
                    .or_insert_with(|| extmap.uri.clone());
            }
        }
    }

    /// The list for an own section.
    pub(super) fn for_own_section(&mut self, kind: MediaKind) -> Vec<ExtMap> {
        let uris: &[&str] = match kind {
            MediaKind::Audio => &SENT_AUDIO,
            MediaKind::Video => &SENT_VIDEO,
        };
        uris.iter()
            .filter_map(|uri| {
                self.id_of(uri).map(|id| ExtMap {
                    id,
                    uri: (*uri).to_owned(),
                })
            })
            .collect()
    }

    /// The known id, or else Chromium's where it is free, or else any free one of a one-byte header.
    fn id_of(&mut self, uri: &str) -> Option<u8> {
        if let Some((id, _)) = self.by_id.iter().find(|(_, known)| *known == uri) {
            return Some(*id);
        }
        let preferred = KNOWN
            .iter()
            .find(|(known, _)| *known == uri)
            .map(|(_, id)| *id);
        let id = preferred
            .into_iter()
            .chain(1..=14)
            .find(|id| !self.by_id.contains_key(id))?;
        self.by_id.insert(id, uri.to_owned());
        Some(id)
    }
}
