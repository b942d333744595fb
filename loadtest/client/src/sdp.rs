//! Session descriptions as text: what the participant offers, how it answers, and what it reads in a focus's description.
//!
//! Written and read by hand, line by line, and on purpose not with the parser that the focus uses.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::report::Kind;

/// Header extension ids of one m-line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    pub rid: Option<u8>,
    /// Transport-wide sequence numbers.
    pub transport_cc: Option<u8>,
    /// RFC 6464.
    pub audio_level: Option<u8>,
}

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// The participant's own end.
#[derive(Debug, Clone)]
pub struct Local {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// SHA-256 of the certificate, in `AB:CD:…` form.
    pub fingerprint: String,
    /// `o=` line.
    pub session_id: u64,
    /// MSC3077 stream id of what it publishes.
    pub stream_id: String,
    /// Track id of the microphone; `None` publishes none (the m-line is there but only receives).
    pub audio_track: Option<String>,
    /// Track id of the camera.
    pub video_track: Option<String>,
}

/// The other side's description.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remote {
    /// ICE user name fragment.
    pub ufrag: String,
    /// ICE password.
    pub pwd: String,
    /// Algorithm and value as written.
    pub fingerprint: Option<(String, String)>,
    /// `active`, `passive` or `actpass`.
    pub setup: String,
    /// Whether it says `a=ice-lite`.
    pub ice_lite: bool,
    /// Candidates without `candidate:`.
    pub candidates: Vec<String>,
    /// In their order.
    pub media: Vec<RemoteMedia>,
}

/// One m-line of the other side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteMedia {
    /// `audio`, `video` or `application`.
    pub kind: String,
    /// Port 0 outside of a bundle: rejected.
    pub rejected: bool,
    /// `a=mid`
    pub mid: String,
    /// `sendrecv`, `sendonly`, `recvonly` or `inactive`, from its point of view.
    pub direction: String,
    /// Payload type to codec, e.g. `VP8/90000`.
    pub codecs: BTreeMap<u8, String>,
    /// Extension id to name.
    pub extensions: BTreeMap<u8, String>,
    /// Stream id and track id of `a=msid`.
    pub msid: Option<(String, String)>,
    /// In their order, each once.
    pub ssrcs: Vec<u32>,
    /// `a=rid:… recv`
    pub rids_received: Vec<String>,
    /// Everything else of the section, for tests: attribute lines without `a=`.
    pub attributes: Vec<String>,
}

impl RemoteMedia {
    /// Whether media flows from it to us.
    pub fn sends(&self) -> bool {
        !self.rejected && matches!(self.direction.as_str(), "sendrecv" | "sendonly")
    }

    /// Whether media may flow from us to it.
    pub fn receives(&self) -> bool {
        !self.rejected && matches!(self.direction.as_str(), "sendrecv" | "recvonly")
    }

    /// The payload type of a codec, by its name in any case.
    pub fn payload_type(&self, codec: &str) -> Option<u8> {
        let same = |name: &str| {
            name.split('/')
                .next()
                .is_some_and(|name| name.eq_ignore_ascii_case(codec))
        };
        self.codecs
            .iter()
            .find(|(_, name)| same(name))
            .map(|(payload_type, _)| *payload_type)
    }

    /// The ids of the extensions that this crate knows.
    pub fn extension_ids(&self) -> ExtensionIds {
        let id = |name: &str| {
            self.extensions
                .iter()
                .find(|(_, uri)| *uri == name)
                .map(|(id, _)| *id)
        };
        ExtensionIds {
            mid: id(MID),
            rid: id(RID),
            transport_cc: id(TRANSPORT_CC),
            audio_level: id(AUDIO_LEVEL),
        }
    }

    /// Audio or video, `None` for the data channel.
    pub fn media_kind(&self) -> Option<Kind> {
        match self.kind.as_str() {
            "audio" => Some(Kind::Audio),
            "video" => Some(Kind::Video),
            _ => None,
        }
    }
}

impl Remote {
    /// Reads a description; `None` if it has no ICE credentials (all else is up to whoever uses it).
    pub fn parse(sdp: &str) -> Option<Remote> {
        let mut remote = Remote::default();
        for line in sdp.lines().map(str::trim_end) {
            if let Some(media) = line.strip_prefix("m=") {
                let mut words = media.split(' ');
                let kind = words.next().unwrap_or_default().to_owned();
                let rejected = words.next() == Some("0");
                // Without a direction attribute an m-line is sendrecv (RFC 8866 §6.7).
                remote.media.push(RemoteMedia {
                    kind,
                    rejected,
                    direction: "sendrecv".into(),
                    ..Default::default()
                });
            } else if let Some(attribute) = line.strip_prefix("a=") {
                remote.attribute(attribute);
            }
        }
        (!remote.ufrag.is_empty() && !remote.pwd.is_empty()).then_some(remote)
    }

    fn attribute(&mut self, attribute: &str) {
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        match name {
            "ice-ufrag" => self.ufrag = value.to_owned(),
            "ice-pwd" => self.pwd = value.to_owned(),
            "ice-lite" => self.ice_lite = true,
            "setup" => self.setup = value.to_owned(),
            "candidate" => self.candidates.push(value.to_owned()),
            "fingerprint" => {
                self.fingerprint = value
                    .split_once(' ')
                    .map(|(algorithm, hash)| (algorithm.into(), hash.into()));
            }
            _ => {}
        }
        if let Some(media) = self.media.last_mut() {
            media.attribute(attribute, name, value);
        }
    }
}

impl RemoteMedia {
    fn attribute(&mut self, attribute: &str, name: &str, value: &str) {
        let (first, rest) = value.split_once(' ').unwrap_or((value, ""));
        match name {
            "mid" => self.mid = value.to_owned(),
            "sendrecv" | "sendonly" | "recvonly" | "inactive" => self.direction = name.to_owned(),
            "msid" => self.msid = Some((first.to_owned(), rest.to_owned())),
            "rtpmap" => {
                self.codecs.extend(
                    first
                        .parse()
                        .ok()
                        .map(|payload_type: u8| (payload_type, rest.to_owned())),
                );
            }
            "extmap" => {
                // The id may carry a direction: `3/recvonly`.
                let id = first.split('/').next().and_then(|id| id.parse().ok());
                self.extensions.extend(
                    id.map(|id: u8| (id, rest.split(' ').next().unwrap_or_default().to_owned())),
                );
            }
            "ssrc" => match first.parse() {
                Ok(ssrc) if !self.ssrcs.contains(&ssrc) => self.ssrcs.push(ssrc),
                _ => {}
            },
            "rid" if rest.starts_with("recv") => self.rids_received.push(first.to_owned()),
            _ => {}
        }
        self.attributes.push(attribute.to_owned());
    }
}

impl Local {
    /// The offer of an invite: audio, video with three simulcast layers, and the data channel.
    pub fn offer(&self, audio_ssrc: u32) -> String {
        let mut sdp = self.session_lines("0 1 2");
        self.media_lines(&mut sdp, "audio", "0", "111", "actpass");
        sdp.push_str(direction(self.audio_track.is_some(), true));
        self.own_msid(&mut sdp, self.audio_track.as_deref());
        sdp.push_str(
            "a=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1;usedtx=1\r\n",
        );
        let _ = write!(
            sdp,
            "a=extmap:1 {AUDIO_LEVEL}\r\na=extmap:3 {TRANSPORT_CC}\r\na=extmap:4 {MID}\r\n"
        );
        if self.audio_track.is_some() {
            let _ = write!(sdp, "a=ssrc:{audio_ssrc} cname:{}\r\n", self.stream_id);
        }
        self.media_lines(&mut sdp, "video", "1", "96", "actpass");
        sdp.push_str(direction(self.video_track.is_some(), true));
        self.own_msid(&mut sdp, self.video_track.as_deref());
        sdp.push_str(VP8_LINES_96);
        let _ = write!(
            sdp,
            "a=extmap:3 {TRANSPORT_CC}\r\na=extmap:4 {MID}\r\na=extmap:10 {RID}\r\n"
        );
        if self.video_track.is_some() {
            sdp.push_str(
                "a=rid:f send\r\na=rid:h send\r\na=rid:q send\r\na=simulcast:send f;h;q\r\n",
            );
        }
        self.channel_lines(&mut sdp, "2", "actpass");
        sdp
    }

    /// The answer to an offer of the focus: takes what it sends (VP8 and Opus, without RTX), goes on sending what it was
    /// sending, and is the DTLS client.
    pub fn answer(&self, offer: &Remote) -> String {
        let mids: Vec<_> = offer
            .media
            .iter()
            .filter(|m| !m.rejected)
            .map(|media| media.mid.as_str())
            .collect();
        let mut sdp = self.session_lines(&mids.join(" "));
        for media in &offer.media {
            match media.media_kind() {
                None => self.channel_lines(&mut sdp, &media.mid, "active"),
                Some(kind) => self.answer_media(&mut sdp, media, kind),
            }
        }
        sdp
    }

    fn answer_media(&self, sdp: &mut String, media: &RemoteMedia, kind: Kind) {
        let codec = if kind == Kind::Audio { "opus" } else { "VP8" };
        let Some(payload_type) = media.payload_type(codec).filter(|_| !media.rejected) else {
            let _ = write!(
                sdp,
                "m={} 0 UDP/TLS/RTP/SAVPF 0\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\na=inactive\r\n",
                media.kind, media.mid
            );
            return;
        };
        self.media_lines(
            sdp,
            &media.kind,
            &media.mid,
            &payload_type.to_string(),
            "active",
        );
        // Only the m-lines of its own offer carry what it sends.
        let track = match media.mid.as_str() {
            "0" => self.audio_track.as_deref(),
            "1" => self.video_track.as_deref(),
            _ => None,
        };
        let sends = track.is_some() && media.receives();
        sdp.push_str(direction(sends, media.sends()));
        if sends {
            self.own_msid(sdp, track);
        }
        let _ = write!(
            sdp,
            "a=rtpmap:{payload_type} {}\r\n",
            media.codecs[&payload_type]
        );
        let feedback: &[&str] = match kind {
            Kind::Audio => &["transport-cc"],
            Kind::Video => &["transport-cc", "ccm fir", "nack", "nack pli"],
        };
        for feedback in feedback {
            let _ = write!(sdp, "a=rtcp-fb:{payload_type} {feedback}\r\n");
        }
        if kind == Kind::Audio {
            let _ = write!(
                sdp,
                "a=fmtp:{payload_type} minptime=10;usedtx=1;useinbandfec=1;usedtx=1\r\n"
            );
        }
        for (id, uri) in &media.extensions {
            if [MID, RID, TRANSPORT_CC, AUDIO_LEVEL].contains(&uri.as_str()) {
                let _ = write!(sdp, "a=extmap:{id} {uri}\r\n");
            }
        }
        if sends && !media.rids_received.is_empty() {
            for rid in &media.rids_received {
                let _ = write!(sdp, "a=rid:{rid} send\r\n");
            }
            let _ = write!(
                sdp,
                "a=simulcast:send {}\r\n",
                media.rids_received.join(";")
            );
        }
    }

    fn session_lines(&self, mids: &str) -> String {
        format!(
            "v=0\r\no=- {} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {mids}\r\na=extmap-allow-mixed\r\n\
             a=msid-semantic: WMS\r\n",
            self.session_id
        )
    }

    fn transport_lines(&self, sdp: &mut String, mid: &str, setup: &str) {
        let _ = write!(
            sdp,
            "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\na=mid:{mid}\r\n",
            self.ufrag, self.pwd, self.fingerprint
        );
    }

    fn media_lines(
        &self,
        sdp: &mut String,
        kind: &str,
        mid: &str,
        payload_types: &str,
        setup: &str,
    ) {
        let _ = write!(sdp, "m={kind} 9 UDP/TLS/RTP/SAVPF {payload_types}\r\n");
        self.transport_lines(sdp, mid, setup);
        sdp.push_str("a=rtcp:9 IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=rtcp-rsize\r\n");
    }

    fn own_msid(&self, sdp: &mut String, track: Option<&str>) {
        if let Some(track) = track {
            let _ = write!(sdp, "a=msid:{} {track}\r\n", self.stream_id);
        }
    }

    fn channel_lines(&self, sdp: &mut String, mid: &str, setup: &str) {
        sdp.push_str("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n");
        self.transport_lines(sdp, mid, setup);
        sdp.push_str("a=sctp-port:5000\r\na=max-message-size:262144\r\n");
    }
}

const VP8_LINES_96: &str = "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\na=rtcp-fb:96 transport-cc\r\n\
    a=rtcp-fb:96 ccm fir\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n";

fn direction(sends: bool, receives: bool) -> &'static str {
    match (sends, receives) {
        (true, true) => "a=sendrecv\r\n",
        (true, false) => "a=sendonly\r\n",
        (false, true) => "a=recvonly\r\n",
        (false, false) => "a=inactive\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local() -> Local {
        Local {
            ufrag: "abcd".into(),
            pwd: "0123456789012345678901".into(),
            fingerprint: "AA:BB".into(),
            session_id: 7,
            stream_id: "stream".into(),
            audio_track: Some("mic".into()),
            video_track: Some("cam".into()),
        }
    }

    #[test]
    fn an_offer_reads_back_as_what_was_meant() {
        let remote = Remote::parse(&local().offer(99)).unwrap();
        assert_eq!(
            (remote.ufrag.as_str(), remote.setup.as_str()),
            ("abcd", "actpass")
        );
        assert_eq!(remote.fingerprint, Some(("sha-256".into(), "AA:BB".into())));
        let kinds: Vec<_> = remote
            .media
            .iter()
            .map(|media| (media.kind.as_str(), media.mid.as_str()))
            .collect();
        assert_eq!(
            kinds,
            [("audio", "0"), ("video", "1"), ("application", "2")]
        );
        assert_eq!(remote.media[0].msid, Some(("stream".into(), "mic".into())));
        assert_eq!(remote.media[0].ssrcs, [99]);
        assert!(
            remote.media[1].ssrcs.is_empty(),
            "simulcast is bound by mid and rid alone"
        );
        assert!(
            remote.media[1]
                .attributes
                .contains(&"simulcast:send f;h;q".to_owned())
        );
        assert_eq!(remote.media[1].payload_type("vp8"), Some(96));
        assert_eq!(remote.media[1].extension_ids().rid, Some(10));
    }

    const FOCUS_OFFER: &str = "v=0\r\no=- 1 3 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE 0 1 2 3 4\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:x\r\na=ice-pwd:y\r\na=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\na=rid:f recv\r\na=rid:h recv\r\na=rid:q recv\r\na=simulcast:recv f;h;q\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:3\r\na=sendonly\r\na=msid:their cam2\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n\
        a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=ssrc:1234 cname:x\r\na=ssrc:1234 msid:their cam2\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:4\r\na=inactive\r\na=msid:their mic2\r\na=rtpmap:111 opus/48000/2\r\n";

    #[test]
    fn an_answer_keeps_sending_takes_new_tracks_and_keeps_simulcast() {
        let offer = Remote::parse(FOCUS_OFFER).unwrap();
        assert!(offer.ice_lite);
        assert_eq!(offer.media[3].ssrcs, [1234]);
        let answer = Remote::parse(&local().answer(&offer)).unwrap();
        let directions: Vec<_> = answer
            .media
            .iter()
            .map(|media| media.direction.as_str())
            .collect();
        assert_eq!(
            directions,
            ["sendonly", "sendonly", "sendrecv", "recvonly", "inactive"]
        );
        assert_eq!(answer.setup, "active");
        assert!(
            answer.media[1]
                .attributes
                .contains(&"simulcast:send f;h;q".to_owned())
        );
        assert_eq!(answer.media[3].codecs.len(), 1, "RTX is not taken");
        assert_eq!(answer.media[3].extension_ids().mid, Some(4));
    }

    #[test]
    fn a_description_without_credentials_is_none() {
        assert_eq!(Remote::parse("v=0\r\nm=audio 9 x 0\r\n"), None);
        assert_eq!(Remote::parse(""), None);
    }
}
