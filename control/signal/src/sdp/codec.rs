//! The codecs that the focus forwards, and how a section's payload types are narrowed to them.

use std::collections::BTreeSet;

use super::{CodecDescription, MediaKind};

/// A codec that the focus forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// RFC 7587
    Opus,
    /// Redundant audio, RFC 2198
    Red,
    /// RFC 7741
    Vp8,
    /// RFC 9628, profile 0
    Vp9,
    /// RFC 6184, baseline, packetisation mode 1
    H264,
    /// Profile 0
    Av1,
}

/// One codec of a section with its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodecMapping {
    /// Payload type of the codec itself.
    pub payload_type: u8,
    /// Which.
    pub codec: Codec,
    /// Hz.
    pub clock_rate: u32,
    /// Payload type of its retransmissions (RFC 4588).
    pub rtx_payload_type: Option<u8>,
}

/// A codec as it is written into a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) mapping: CodecMapping,
    /// `VP8/90000`
    pub(super) rtpmap: String,
    pub(super) fmtp: String,
    pub(super) rtcp_fb: Vec<String>,
}

/// The feedback that the focus gives or takes. `goog-remb` is left out: Chromium then estimates by transport-wide feedback alone.
const FEEDBACK: [&str; 4] = ["transport-cc", "ccm fir", "nack", "nack pli"];

/// A codec with Chromium's numbers for it.
struct Forwarded {
    codec: Codec,
    payload_type: u8,
    rtx_payload_type: Option<u8>,
    rtpmap: &'static str,
    fmtp: &'static str,
}

/// All codecs that foci forward; Opus and VP8, which every browser knows, first of their kind.
const FORWARDED: [Forwarded; 6] = [
    Forwarded {
        codec: Codec::Opus,
        payload_type: 111,
        rtx_payload_type: None,
        rtpmap: "opus/48000/2",
        fmtp: "minptime=10;useinbandfec=1",
    },
    Forwarded {
        codec: Codec::Red,
        payload_type: 63,
        rtx_payload_type: None,
        rtpmap: "red/48000/2",
        fmtp: "111/111",
    },
    Forwarded {
        codec: Codec::Vp8,
        payload_type: 96,
        rtx_payload_type: Some(97),
        rtpmap: "VP8/90000",
        fmtp: "",
    },
    Forwarded {
        codec: Codec::Vp9,
        payload_type: 98,
        rtx_payload_type: Some(99),
        rtpmap: "VP9/90000",
        fmtp: "profile-id=0",
    },
    Forwarded {
        codec: Codec::H264,
        payload_type: 102,
        rtx_payload_type: Some(103),
        rtpmap: "H264/90000",
        fmtp: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    },
    Forwarded {
        codec: Codec::Av1,
        payload_type: 45,
        rtx_payload_type: Some(46),
        rtpmap: "AV1/90000",
        fmtp: "level-idx=5;profile=0;tier=0",
    },
];

impl Forwarded {
    fn chosen(&self, payload_type: u8, rtx_payload_type: Option<u8>) -> Chosen {
        let (clock_rate, feedback) = match self.codec.kind() {
            MediaKind::Audio => (48000, &FEEDBACK[..1]),
            MediaKind::Video => (90000, &FEEDBACK[..]),
        };
        Chosen {
            mapping: CodecMapping {
                payload_type,
                codec: self.codec,
                clock_rate,
                rtx_payload_type,
            },
            rtpmap: self.rtpmap.to_owned(),
            fmtp: self.fmtp.to_owned(),
            rtcp_fb: feedback
                .iter()
                .map(|feedback| (*feedback).to_owned())
                .collect(),
        }
    }
}

impl Codec {
    fn kind(self) -> MediaKind {
        match self {
            Codec::Opus | Codec::Red => MediaKind::Audio,
            Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::Av1 => MediaKind::Video,
        }
    }

    /// What a described codec is, if the focus forwards it. Of codecs with profiles it is the one that all browsers decode, so that
    /// one payload type per codec and session is enough.
    fn of(description: &CodecDescription) -> Option<Codec> {
        let parameter = |name: &str| {
            let named = |pair: &str| {
                pair.split_once('=')
                    .filter(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_owned())
            };
            description.fmtp.split(';').find_map(named)
        };
        let is = |name: &str, clock_rate| {
            description.name.eq_ignore_ascii_case(name) && description.clock_rate == clock_rate
        };
        let profile_0 = |name| parameter(name).is_none_or(|profile| profile == "0");
        if is("opus", 48000) {
            Some(Codec::Opus)
        } else if is("red", 48000) {
            Some(Codec::Red)
        } else if is("VP8", 90000) {
            Some(Codec::Vp8)
        } else if is("VP9", 90000) && profile_0("profile-id") {
            Some(Codec::Vp9)
        } else if is("AV1", 90000) && profile_0("profile") {
            Some(Codec::Av1)
        } else if is("H264", 90000)
            && parameter("packetization-mode").as_deref() == Some("1")
            && parameter("profile-level-id").is_none_or(|level| level.starts_with("42"))
        {
            Some(Codec::H264)
        } else {
            None
        }
    }
}

/// Narrows what a participant's section lists to what the focus forwards: the offer's order, but VP8 first.
pub(super) fn choose(kind: MediaKind, described: &[CodecDescription]) -> Vec<Chosen> {
    let mut chosen: Vec<Chosen> = Vec::new();
    for description in described {
        let Some(codec) = Codec::of(description).filter(|codec| codec.kind() == kind) else {
            continue;
        };
        if chosen.iter().any(|known| known.mapping.codec == codec) {
            continue;
        }
        let payload_type = description.payload_type;
        let apt = format!("apt={payload_type}");
        let rtx = described.iter().find(|rtx| {
            rtx.name.eq_ignore_ascii_case("rtx") && rtx.fmtp.split(';').any(|pair| pair == apt)
        });
        let channels = if description.channels > 1 {
            format!("/{}", description.channels)
        } else {
            String::new()
        };
        chosen.push(Chosen {
            mapping: CodecMapping {
                payload_type,
                codec,
                clock_rate: description.clock_rate,
                rtx_payload_type: rtx.map(|rtx| rtx.payload_type),
            },
            rtpmap: format!("{}/{}{channels}", description.name, description.clock_rate),
            fmtp: description.fmtp.clone(),
            rtcp_fb: FEEDBACK
                .iter()
                .filter(|feedback| {
                    description
                        .rtcp_fb
                        .iter()
                        .any(|offered| offered == *feedback)
                })
                .map(|feedback| (*feedback).to_owned())
                .collect(),
        });
    }
    // Redundancy of anything but the chosen Opus cannot be forwarded.
    if let Some(opus) = chosen
        .iter()
        .find(|codec| codec.mapping.codec == Codec::Opus)
        .map(|opus| opus.mapping.payload_type.to_string())
    {
        chosen.retain(|codec| {
            codec.mapping.codec != Codec::Red
                || codec
                    .fmtp
                    .split('/')
                    .all(|payload_type| payload_type == opus)
        });
    } else {
        chosen.retain(|codec| codec.mapping.codec != Codec::Red);
    }
    chosen.sort_by_key(|codec| codec.mapping.codec != Codec::Vp8);
    chosen
}

/// The payload types of one session: the same number means the same everywhere in a bundle (RFC 8843 §9.2), for good.
#[derive(Debug, Clone, Default)]
pub(super) struct SessionCodecs {
    known: Vec<Chosen>,
    used: BTreeSet<u8>,
}

impl SessionCodecs {
    /// All that foci forward, under the same numbers on both sides.
    pub(super) fn between_foci() -> SessionCodecs {
        let known = FORWARDED
            .iter()
            .map(|codec| codec.chosen(codec.payload_type, codec.rtx_payload_type));
        let numbers = FORWARDED
            .iter()
            .flat_map(|codec| [Some(codec.payload_type), codec.rtx_payload_type]);
        SessionCodecs {
            known: known.collect(),
            used: numbers.flatten().collect(),
        }
    }

    /// Notes what a participant's section uses; what was noted first stays.
    pub(super) fn learn(&mut self, described: &[CodecDescription], chosen: &[Chosen]) {
        self.used
            .extend(described.iter().map(|description| description.payload_type));
        for codec in chosen {
            if self
                .known
                .iter()
                .all(|known| known.mapping.codec != codec.mapping.codec)
            {
                self.known.push(codec.clone());
            }
        }
    }

    /// The list for an own section: what the participant has shown to know, or else what every browser knows.
    pub(super) fn for_own_section(&mut self, kind: MediaKind) -> Vec<Chosen> {
        if self
            .known
            .iter()
            .all(|codec| codec.mapping.codec.kind() != kind)
        {
            let default = self.default_codec(kind);
            self.known.push(default);
        }
        let mut codecs: Vec<Chosen> = self
            .known
            .iter()
            .filter(|codec| codec.mapping.codec.kind() == kind)
            .cloned()
            .collect();
        codecs.sort_by_key(|codec| codec.mapping.codec != Codec::Vp8);
        codecs
    }

    /// Opus or VP8 under Chromium's numbers where these are free.
    fn default_codec(&mut self, kind: MediaKind) -> Chosen {
        let codec = match kind {
            MediaKind::Audio => &FORWARDED[0],
            MediaKind::Video => &FORWARDED[2],
        };
        let payload_type = self.free(codec.payload_type);
        let rtx_payload_type = codec.rtx_payload_type.map(|number| self.free(number));
        codec.chosen(payload_type, rtx_payload_type)
    }

    /// The preferred number, or another of the dynamic ones. A participant that has used up all of them gets a clash of its own making.
    fn free(&mut self, preferred: u8) -> u8 {
        let mut candidates = std::iter::once(preferred).chain(96..=127).chain(35..=63);
        let free = candidates
            .find(|number| !self.used.contains(number))
            .unwrap_or(preferred);
        self.used.insert(free);
        free
    }
}
