//! A client as the focus meets it: sections, metadata, subscriptions, and the habits of the reference client.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::{Value, json};
use weir_shard::TransportId;
use weir_signal::{
    channel::{
        Description, DescriptionKind, Dialect, ErrorReply, FromClient, Size, ToClient, TrackName,
        TrackRequest,
    },
    metadata::{MediaKind, Purpose, Stream, StreamMetadata, Track},
    sdp,
};

use crate::conference::{ParticipantId, Protection};

/// What a section is for, from the client's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Media {
    Data,
    Audio,
    Video,
}

#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) mid: String,
    pub(super) media: Media,
    /// (stream, track) that the client sends.
    pub(super) sends: Option<(String, String)>,
    pub(super) simulcast: bool,
    /// (stream, track) that the focus sends, by its last description.
    pub(super) receives: Option<(String, String)>,
}

pub(super) struct Client {
    pub(super) id: ParticipantId,
    pub(super) conf_id: String,
    pub(super) call_id: String,
    pub(super) session_id: String,
    pub(super) protection: Protection,
    /// What it speaks, and all that it understands.
    pub(super) dialect: Dialect,
    pub(super) transport: Option<TransportId>,
    pub(super) sections: Vec<Section>,
    pub(super) metadata: StreamMetadata,
    pub(super) ufrag: String,
    /// The others' streams, as last told.
    pub(super) feeds: Option<StreamMetadata>,
    /// How often it was told.
    pub(super) snapshots: usize,
    /// Keeps only the newest snapshot, and reads it when it is looked at: in a crowd, reading is most of the work.
    pub(super) reads_late: bool,
    pub(super) unread: Option<String>,
    /// An offer of its own is out: the reference client drops what crosses it.
    pub(super) making_offer: bool,
    /// Answers pings, answers offers.
    pub(super) lively: bool,
    /// Subscribes to everything it is told about, at this size.
    pub(super) wants: Option<Size>,
    pub(super) offers_seen: usize,
    pub(super) answers_seen: usize,
    pub(super) last_sdp: String,
    pub(super) pings: usize,
    pub(super) errors: Vec<ErrorReply>,
    /// Who speaks, which layers are needed, what it gets.
    pub(super) told: Vec<ToClient>,
    pub(super) to_device: Vec<(&'static str, Value)>,
}

impl Client {
    /// `name` in `conf`, with a camera and a microphone.
    pub(super) fn new(name: &str, conf_id: &str) -> Self {
        let mut client = Self {
            id: ParticipantId::new(format!("@{name}:example.org"), name.to_uppercase()),
            conf_id: conf_id.to_owned(),
            call_id: format!("{name}-call-1"),
            session_id: format!("{name}-session"),
            protection: Protection::Plain,
            dialect: Dialect::Late,
            transport: None,
            sections: Vec::new(),
            metadata: StreamMetadata::default(),
            ufrag: format!("{name}Ufrag"),
            feeds: None,
            snapshots: 0,
            reads_late: false,
            unread: None,
            making_offer: false,
            lively: true,
            wants: Some(Size {
                width: 1280,
                height: 720,
            }),
            offers_seen: 0,
            answers_seen: 0,
            last_sdp: String::new(),
            pings: 0,
            errors: Vec::new(),
            told: Vec::new(),
            to_device: Vec::new(),
        };
        let stream = format!("{name}-stream");
        client.push_section(Media::Audio, Some((&stream, &format!("{name}-mic"))), false);
        client.push_section(Media::Video, Some((&stream, &format!("{name}-cam"))), true);
        client.push_section(Media::Data, None, false);
        client.announce(&stream, Purpose::Usermedia);
        client.announce_track(&stream, &format!("{name}-mic"), MediaKind::Audio);
        client.announce_track(&stream, &format!("{name}-cam"), MediaKind::Video);
        client
    }

    /// The same with another dialect.
    pub(super) fn speaking(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// As it was made with.
    pub(super) fn name(&self) -> String {
        self.id.device_id.to_lowercase()
    }

    pub(super) fn push_section(
        &mut self,
        media: Media,
        sends: Option<(&str, &str)>,
        simulcast: bool,
    ) {
        self.sections.push(Section {
            mid: self.sections.len().to_string(),
            media,
            sends: sends.map(|(stream, track)| (stream.to_owned(), track.to_owned())),
            simulcast,
            receives: None,
        });
    }

    pub(super) fn announce(&mut self, stream_id: &str, purpose: Purpose) {
        let stream = Stream {
            purpose,
            ..Stream::default()
        };
        self.metadata.streams.insert(stream_id.to_owned(), stream);
    }

    pub(super) fn announce_track(&mut self, stream_id: &str, track_id: &str, kind: MediaKind) {
        let size = (kind == MediaKind::Video).then_some((1280, 720));
        let track = Track {
            kind: Some(kind),
            width: size.map(|size| size.0),
            height: size.map(|size| size.1),
        };
        if let Some(stream) = self.metadata.streams.get_mut(stream_id) {
            stream.tracks.insert(track_id.to_owned(), track);
        }
    }

    /// Starts a screen share: a new section, a new stream.
    pub(super) fn share(&mut self, stream_id: &str, track_id: &str) {
        self.push_section(Media::Video, Some((stream_id, track_id)), true);
        self.announce(stream_id, Purpose::Screenshare);
        self.announce_track(stream_id, track_id, MediaKind::Video);
    }

    pub(super) fn unshare(&mut self, stream_id: &str) {
        self.metadata.streams.remove(stream_id);
        for section in &mut self.sections {
            section.sends.take_if(|(stream, _)| stream == stream_id);
        }
    }

    // ── Messages ───────────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn content(&self, more: Value) -> Value {
        let mut content = json!({
            "version": "1", "call_id": self.call_id, "party_id": self.id.device_id, "conf_id": self.conf_id,
            "device_id": self.id.device_id, "sender_session_id": self.session_id, "dest_session_id": "sfu", "seq": 0,
        });
        if let (Some(content), Value::Object(more)) = (content.as_object_mut(), more) {
            content.extend(more);
        }
        content
    }

    pub(super) fn invite(&mut self) -> Value {
        let sdp = self.describe("actpass");
        self.content(json!({
            "offer": {"type": "offer", "sdp": sdp}, "lifetime": 60000,
            "org.matrix.msc3077.sdp_stream_metadata": self.metadata.to_value(),
        }))
    }

    pub(super) fn offer(&mut self) -> FromClient {
        self.making_offer = true;
        self.negotiate(DescriptionKind::Offer, "actpass")
    }

    fn negotiate(&self, kind: DescriptionKind, setup: &str) -> FromClient {
        FromClient::Negotiate {
            description: Description {
                kind,
                sdp: self.describe(setup),
            },
            metadata: Some(self.metadata.clone()),
        }
    }

    pub(super) fn metadata_changed(&self) -> FromClient {
        FromClient::MetadataChanged(self.metadata.clone())
    }

    /// Everything that it knows of, at the size it wants.
    pub(super) fn subscription(&self) -> FromClient {
        let feeds = self.feeds.iter().flat_map(|feeds| &feeds.streams);
        let subscribe = feeds.flat_map(|(stream_id, stream)| {
            stream
                .tracks
                .iter()
                .map(move |(track_id, track)| TrackRequest {
                    name: name(stream_id, track_id),
                    size: (track.kind == Some(MediaKind::Video))
                        .then_some(self.wants)
                        .flatten(),
                })
        });
        FromClient::Subscription {
            subscribe: subscribe.collect(),
            unsubscribe: Vec::new(),
        }
    }

    /// Does what the reference client does, and gives what it says.
    pub(super) fn react(&mut self, message: ToClient) -> Vec<FromClient> {
        match message {
            ToClient::MetadataChanged(metadata) => {
                self.see(metadata);
                self.wants
                    .map(|_| self.subscription())
                    .into_iter()
                    .collect()
            }
            ToClient::Negotiate {
                description,
                metadata,
            } => match description.kind {
                DescriptionKind::Offer if self.making_offer => Vec::new(),
                DescriptionKind::Offer => {
                    self.see(metadata);
                    self.offers_seen += 1;
                    self.take(&description.sdp);
                    vec![self.negotiate(DescriptionKind::Answer, "active")]
                }
                DescriptionKind::Answer => {
                    self.see(metadata);
                    self.answers_seen += 1;
                    self.making_offer = false;
                    self.take(&description.sdp);
                    Vec::new()
                }
            },
            ToClient::Ping => {
                self.pings += 1;
                vec![FromClient::Pong]
            }
            ToClient::Error(error) => {
                self.errors.push(error);
                Vec::new()
            }
            ToClient::ActiveSpeaker(_) | ToClient::LayersInUse(_) | ToClient::Status(_) => {
                self.told.push(message);
                Vec::new()
            }
            ToClient::Pong | ToClient::Unknown { .. } => Vec::new(),
        }
    }

    /// Puts a text aside if it is a snapshot that may be read later; whether it was.
    pub(super) fn put_aside(&mut self, text: &str) -> bool {
        const SNAPSHOT: &str = r#""type":"m.call.sdp_stream_metadata_changed"}"#;
        let later = self.reads_late && text.ends_with(SNAPSHOT);
        if later {
            self.unread = Some(text.to_owned());
        }
        later
    }

    /// Reads what was put aside.
    pub(super) fn read_unread(&mut self) {
        if let Some(text) = self.unread.take() {
            let message = ToClient::parse(&text).expect("the focus's message");
            assert!(self.react(message).is_empty(), "it wants nothing");
        }
    }

    fn see(&mut self, metadata: StreamMetadata) {
        assert!(
            metadata.streams.values().all(|stream| {
                stream.user_id.as_deref() != Some(&self.id.user_id)
                    || stream.device_id.as_deref() != Some(&self.id.device_id)
            }),
            "a snapshot shows its receiver to itself"
        );
        self.feeds = Some(metadata);
        self.snapshots += 1;
    }

    // ── What it sees ───────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn feed(&self, stream_id: &str) -> Option<&Stream> {
        self.feeds.as_ref()?.streams.get(stream_id)
    }

    pub(super) fn stream_ids(&self) -> Vec<&str> {
        self.feeds
            .iter()
            .flat_map(|feeds| feeds.streams.keys())
            .map(String::as_str)
            .collect()
    }

    /// The tracks that flow to it, by section.
    pub(super) fn receives(&self) -> BTreeMap<&str, &str> {
        let sections = self.sections.iter();
        sections
            .filter_map(|section| {
                Some((section.mid.as_str(), section.receives.as_ref()?.1.as_str()))
            })
            .collect()
    }

    // ── SDP ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Takes a description of the focus.
    pub(super) fn take(&mut self, text: &str) {
        let description = sdp::Description::parse(text).expect("the focus's SDP");
        text.clone_into(&mut self.last_sdp);
        for (index, theirs) in description.sections.iter().enumerate() {
            let mid = theirs.mid.clone().expect("a mid");
            if index == self.sections.len() {
                let media = if theirs.media == "audio" {
                    Media::Audio
                } else {
                    Media::Video
                };
                self.sections.push(Section {
                    mid: mid.clone(),
                    media,
                    sends: None,
                    simulcast: false,
                    receives: None,
                });
            }
            let section = &mut self.sections[index];
            assert_eq!(section.mid, mid, "mids are stable");
            let msid = theirs
                .msid
                .as_ref()
                .filter(|_| theirs.direction.sends() && theirs.port != 0);
            section.receives = msid.map(|msid| {
                (
                    msid.stream_id.clone(),
                    msid.track_id.clone().expect("a track id"),
                )
            });
        }
    }

    pub(super) fn describe(&self, setup: &str) -> String {
        let mut sdp = "v=0\r\no=- 4711 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n".to_owned();
        let mids: Vec<&str> = self
            .sections
            .iter()
            .map(|section| section.mid.as_str())
            .collect();
        let _ = write!(
            sdp,
            "a=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n",
            mids.join(" ")
        );
        for section in &self.sections {
            let formats = match section.media {
                Media::Audio => "audio 9 UDP/TLS/RTP/SAVPF 111 63",
                Media::Video => "video 9 UDP/TLS/RTP/SAVPF 96 97",
                Media::Data => "application 9 UDP/DTLS/SCTP webrtc-datachannel",
            };
            let _ = write!(
                sdp,
                "m={formats}\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaaaa\r\n\
                 a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\na=mid:{}\r\n",
                self.ufrag,
                ["AB"; 32].join(":"),
                section.mid
            );
            sdp.push_str(&section.describe());
        }
        sdp
    }
}

impl Section {
    fn describe(&self) -> String {
        let mut sdp = String::new();
        if self.media == Media::Data {
            return "a=sctp-port:5000\r\na=max-message-size:262144\r\n".to_owned();
        }
        let by_focus = self.mid.starts_with('w');
        let direction = match (&self.sends, by_focus && self.receives.is_none()) {
            (Some(_), _) if by_focus && self.receives.is_some() => "sendrecv",
            (Some(_), _) => "sendonly",
            (None, true) => "inactive",
            (None, false) if by_focus => "recvonly",
            (None, false) => "inactive",
        };
        let _ = write!(sdp, "a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
        if let Some((stream, track)) = &self.sends {
            let _ = write!(sdp, "a=msid:{stream} {track}\r\n");
        }
        sdp.push_str("a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n");
        sdp.push_str("a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n");
        if self.media == Media::Audio {
            sdp.push_str("a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=rtpmap:111 opus/48000/2\r\n");
            sdp.push_str("a=fmtp:111 minptime=10;usedtx=1;useinbandfec=1;usedtx=1\r\na=rtpmap:63 red/48000/2\r\n");
        } else {
            sdp.push_str("a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n");
            sdp.push_str("a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n");
            sdp.push_str("a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 transport-cc\r\n");
            sdp.push_str("a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n");
            if self.simulcast {
                sdp.push_str(
                    "a=rid:f send\r\na=rid:h send\r\na=rid:q send\r\na=simulcast:send f;h;q\r\n",
                );
            }
        }
        sdp
    }
}

pub(super) fn name(stream_id: &str, track_id: &str) -> TrackName {
    TrackName {
        stream_id: stream_id.to_owned(),
        track_id: track_id.to_owned(),
    }
}
