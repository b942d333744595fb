//! One section of a session: what both sides last said about it.

use super::codec::{Chosen, choose};
use super::{
    CodecMapping, Direction, ExtMap, MediaKind, PublishedRid, Receives, SdpError, Section,
    SectionKind, SendOrReceive, Sends, extension,
};

/// What a section is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Media(MediaKind),
    DataChannel,
    /// Something that the focus does not speak; always rejected.
    Foreign,
}

/// Who made a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Maker {
    Participant,
    Focus,
}

/// One section.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) mid: String,
    pub(super) purpose: Purpose,
    pub(super) maker: Maker,
    /// Port 0: out of the bundle; the place may be taken by a new section of the participant.
    pub(super) rejected: bool,
    /// As on the m-line, to be repeated.
    pub(super) media: String,
    pub(super) protocol: String,
    pub(super) first_format: String,
    pub(super) codecs: Vec<Chosen>,
    pub(super) extmaps: Vec<ExtMap>,
    /// What the participant does here.
    pub(super) remote: RemoteMedia,
    /// The track that this section is reserved for, by its key.
    pub(super) bound: Option<u32>,
    /// The source that the participant was last told of; `None` if it was last told that nothing is sent.
    pub(super) proposed: Option<u32>,
    /// Both sides agree that the focus sends.
    pub(super) sending: bool,
    /// The track that lost the section by the participant's rejection, until the session has taken note.
    pub(super) thrown_out: Option<u32>,
}

/// What the participant said about its own media in a section.
#[derive(Debug, Clone, Default)]
pub(super) struct RemoteMedia {
    pub(super) sends: bool,
    pub(super) receives: bool,
    /// It has sent here at some time.
    pub(super) has_sent: bool,
    pub(super) stream_id: String,
    pub(super) track_id: String,
    pub(super) rids: Vec<PublishedRid>,
    pub(super) ssrcs: Vec<u32>,
    pub(super) rtx_ssrcs: Vec<u32>,
}

/// Whether a section is in the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bundled(pub(super) bool);

impl Line {
    /// A section that the participant offers.
    pub(super) fn offered(section: &Section, mid: &str, bundled: Bundled) -> Line {
        let purpose = match section.kind {
            SectionKind::Audio => Purpose::Media(MediaKind::Audio),
            SectionKind::Video => Purpose::Media(MediaKind::Video),
            SectionKind::Application => Purpose::DataChannel,
            SectionKind::Other => Purpose::Foreign,
        };
        let mut line = Line {
            mid: mid.to_owned(),
            purpose,
            maker: Maker::Participant,
            rejected: false,
            media: section.media.clone(),
            protocol: section.protocol.clone(),
            first_format: section
                .formats
                .first()
                .cloned()
                .unwrap_or_else(|| "0".to_owned()),
            codecs: Vec::new(),
            extmaps: Vec::new(),
            remote: RemoteMedia::default(),
            bound: None,
            proposed: None,
            sending: false,
            thrown_out: None,
        };
        line.take_offer(section, bundled);
        line
    }

    /// A section that the focus makes for one of its tracks.
    pub(super) fn own(
        mid: String,
        kind: MediaKind,
        codecs: Vec<Chosen>,
        extmaps: Vec<ExtMap>,
    ) -> Line {
        Line {
            mid,
            purpose: Purpose::Media(kind),
            maker: Maker::Focus,
            rejected: false,
            media: kind.as_str().to_owned(),
            protocol: "UDP/TLS/RTP/SAVPF".to_owned(),
            first_format: "0".to_owned(),
            codecs,
            extmaps,
            remote: RemoteMedia::default(),
            bound: None,
            proposed: None,
            sending: false,
            thrown_out: None,
        }
    }

    /// The section of the data channel on the side that makes the first offer.
    pub(super) fn data_channel(mid: String) -> Line {
        Line {
            purpose: Purpose::DataChannel,
            media: "application".to_owned(),
            protocol: "UDP/DTLS/SCTP".to_owned(),
            first_format: "webrtc-datachannel".to_owned(),
            ..Line::own(mid, MediaKind::Video, Vec::new(), Vec::new())
        }
    }

    /// The participant's offer speaks of this section (again).
    pub(super) fn take_offer(&mut self, section: &Section, bundled: Bundled) {
        let acceptable = match self.purpose {
            Purpose::Media(kind) => {
                self.codecs = choose(kind, &section.codecs);
                self.extmaps = extension::accepted(&section.extmaps);
                !self.codecs.is_empty()
                    && section.rtcp_mux
                    && section.protocol.ends_with("TLS/RTP/SAVPF")
            }
            Purpose::DataChannel => section
                .formats
                .iter()
                .any(|format| format == "webrtc-datachannel"),
            Purpose::Foreign => false,
        };
        if section.is_rejected() || !acceptable || !bundled.0 {
            self.reject();
        } else {
            self.rejected = false;
            self.take_media(section);
        }
    }

    /// The participant's answer speaks of this section. What was offered stays, except what the participant does not take.
    pub(super) fn take_answer(&mut self, section: &Section) {
        if section.port == 0 {
            self.reject();
            return;
        }
        if self.maker == Maker::Focus && matches!(self.purpose, Purpose::Media(_)) {
            let taken = |number: u8| {
                section
                    .codecs
                    .iter()
                    .any(|codec| codec.payload_type == number)
            };
            self.codecs
                .retain(|codec| taken(codec.mapping.payload_type));
            for codec in &mut self.codecs {
                codec.mapping.rtx_payload_type = codec
                    .mapping
                    .rtx_payload_type
                    .filter(|number| taken(*number));
            }
            self.extmaps.retain(|own| section.extmaps.contains(own));
            if self.codecs.is_empty() {
                self.reject();
                return;
            }
        }
        self.take_media(section);
        self.sending = self.proposed.is_some() && self.remote.receives;
    }

    fn take_media(&mut self, section: &Section) {
        if !matches!(self.purpose, Purpose::Media(_)) {
            return;
        }
        let remote = &mut self.remote;
        remote.sends = section.direction.sends();
        remote.receives = section.direction.receives();
        if let (true, Some(msid)) = (remote.sends || remote.has_sent, &section.msid) {
            remote.stream_id = msid.stream_id.clone();
            remote.track_id = msid.track_id.clone().unwrap_or_else(|| self.mid.clone());
        }
        if remote.sends {
            remote.has_sent = true;
            if remote.track_id.is_empty() {
                // Media without any name can still be published, under the one name that is sure to be there.
                remote.stream_id = "-".to_owned();
                remote.track_id = self.mid.clone();
            }
            remote.rids = sent_rids(section);
            let groups = section
                .ssrc_groups
                .iter()
                .filter(|group| group.semantics == "FID");
            remote.rtx_ssrcs = groups
                .filter_map(|group| group.ssrcs.get(1))
                .copied()
                .collect();
            remote.ssrcs = section
                .ssrcs
                .iter()
                .filter(|ssrc| !remote.rtx_ssrcs.contains(ssrc))
                .copied()
                .collect();
        }
    }

    /// Takes the section out of use, by either side's word.
    pub(super) fn reject(&mut self) {
        self.rejected = true;
        self.remote.sends = false;
        self.remote.receives = false;
        self.thrown_out = self.bound.take();
        self.proposed = None;
        self.sending = false;
    }

    /// The direction of a description in which the focus sends as said.
    pub(super) fn direction(&self, sends: Sends) -> Direction {
        Direction::new(sends, Receives(self.remote.sends))
    }

    /// Codecs without their text.
    pub(super) fn mappings(&self) -> Vec<CodecMapping> {
        self.codecs.iter().map(|codec| codec.mapping).collect()
    }

    /// Whether another track can have this section.
    pub(super) fn is_free_for(&self, kind: MediaKind) -> bool {
        let idle =
            self.bound.is_none() && !self.sending && self.proposed.is_none() && !self.remote.sends;
        self.maker == Maker::Focus && !self.rejected && self.purpose == Purpose::Media(kind) && idle
    }

    /// Whether a section of the participant's description can be this one.
    pub(super) fn check_kind(&self, section: &Section) -> Result<(), SdpError> {
        if self.media == section.media {
            Ok(())
        } else {
            Err(SdpError::Sections)
        }
    }
}

/// The layers that the participant sends, in the order of `a=simulcast`, which is from the best to the worst in browsers.
fn sent_rids(section: &Section) -> Vec<PublishedRid> {
    let described = |id: &str| {
        section
            .rids
            .iter()
            .any(|rid| rid.direction == SendOrReceive::Send && rid.id == id)
    };
    let mut rids: Vec<PublishedRid> = Vec::new();
    for layer in section
        .simulcast_send
        .iter()
        .filter(|layer| described(&layer.rid))
    {
        if rids.iter().all(|known| known.id != layer.rid) {
            rids.push(PublishedRid {
                id: layer.rid.clone(),
                paused: layer.paused,
            });
        }
    }
    rids
}
