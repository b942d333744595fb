//! Session descriptions as text: what the participant offers, how it answers, and what it reads in a focus's description.
//!
//! Written and read by hand, line by line, and on purpose not with the parser that the focus uses.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::publish::Ssrcs;
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
    /// What else is negotiated.
    pub terms: Terms,
}

/// What a participant wants of a transport besides its tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The simulcast layers of the camera; with less than two it is sent without simulcast, and named by its SSRC.
    pub rids: Vec<String>,
    /// Transport-wide sequence numbers, in both directions.
    pub transport_cc: bool,
    /// Retransmissions on a stream of their own (RFC 4588) for what is received. What is sent is repeated as it was.
    pub rtx: bool,
}

impl Default for Terms {
    /// Three layers and everything else.
    fn default() -> Terms {
        Terms {
            rids: ["f", "h", "q"].map(str::to_owned).to_vec(),
            transport_cc: true,
            rtx: true,
        }
    }
}

/// Whether a section is to be sent to.
#[derive(Clone, Copy)]
struct Receives(bool);

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
    /// Payload type to format parameters.
    pub parameters: BTreeMap<u8, String>,
    /// Extension id to name.
    pub extensions: BTreeMap<u8, String>,
    /// Stream id and track id of `a=msid`, or of an `a=ssrc` line where a server says it only there.
    pub msid: Option<(String, String)>,
    /// In their order, each once; without those of retransmissions.
    pub ssrcs: Vec<u32>,
    /// Media SSRC to the SSRC of its retransmissions (`a=ssrc-group:FID`).
    pub rtx_ssrcs: BTreeMap<u32, u32>,
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

    /// The payload type of retransmissions of another one.
    pub fn rtx_of(&self, payload_type: u8) -> Option<u8> {
        let apt = format!("apt={payload_type}");
        let of_that = |number: &u8| {
            let parameters = self.parameters.get(number);
            parameters.is_some_and(|all| all.split(';').any(|pair| pair.trim() == apt))
        };
        let rtx = |name: &str| name.to_ascii_lowercase().starts_with("rtx/");
        self.codecs
            .iter()
            .filter(|(_, name)| rtx(name))
            .map(|(number, _)| *number)
            .find(of_that)
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
            "fmtp" => {
                let payload_type = first.parse().ok();
                self.parameters
                    .extend(payload_type.map(|number: u8| (number, rest.to_owned())));
            }
            "ssrc-group" if first == "FID" => {
                let numbers: Vec<u32> = rest
                    .split(' ')
                    .filter_map(|ssrc| ssrc.parse().ok())
                    .collect();
                if let [media, rtx] = numbers[..] {
                    self.rtx_ssrcs.insert(media, rtx);
                    self.ssrcs.retain(|ssrc| *ssrc != rtx);
                }
            }
            "ssrc" => self.ssrc(first, rest),
            "rid" if rest.starts_with("recv") => self.rids_received.push(first.to_owned()),
            _ => {}
        }
        self.attributes.push(attribute.to_owned());
    }

    fn ssrc(&mut self, ssrc: &str, attribute: &str) {
        let Ok(ssrc) = ssrc.parse() else { return };
        let retransmits = self.rtx_ssrcs.values().any(|rtx| *rtx == ssrc);
        if !retransmits && !self.ssrcs.contains(&ssrc) {
            self.ssrcs.push(ssrc);
        }
        if let Some((stream, track)) = attribute
            .strip_prefix("msid:")
            .and_then(|msid| msid.split_once(' '))
        {
            self.msid
                .get_or_insert_with(|| (stream.to_owned(), track.to_owned()));
        }
    }
}

impl Local {
    /// The offer of an invite: audio, video with its simulcast layers, and the data channel.
    pub fn offer(&self, ssrcs: &Ssrcs) -> String {
        let mut sdp = self.session_lines("0 1 2");
        self.media_lines(&mut sdp, "audio", "0", "111", "actpass");
        sdp.push_str(direction(self.audio_track.is_some(), true));
        self.own_msid(&mut sdp, self.audio_track.as_deref());
        sdp.push_str(
            "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1;usedtx=1\r\n",
        );
        self.transport_cc_lines(&mut sdp, "111");
        let _ = write!(sdp, "a=extmap:1 {AUDIO_LEVEL}\r\na=extmap:4 {MID}\r\n");
        if self.audio_track.is_some() {
            let _ = write!(sdp, "a=ssrc:{} cname:{}\r\n", ssrcs.audio, self.stream_id);
        }
        self.offered_video(&mut sdp, "1", ssrcs, Receives(true));
        self.channel_lines(&mut sdp, "2", "actpass");
        sdp
    }

    /// The offer of a slot: the data channel alone. With a video track there is one more section, which only sends, so that the way
    /// can be measured with packets.
    pub fn offer_slot(&self, ssrcs: &Ssrcs) -> String {
        let sends = self.video_track.is_some();
        let mut sdp = self.session_lines(if sends { "0 1" } else { "0" });
        self.channel_lines(&mut sdp, "0", "actpass");
        if sends {
            self.offered_video(&mut sdp, "1", ssrcs, Receives(false));
        }
        sdp
    }

    fn offered_video(
        &self,
        sdp: &mut String,
        mid: &str,
        ssrcs: &Ssrcs,
        Receives(receives): Receives,
    ) {
        let numbers = if self.terms.rtx { "96 97" } else { "96" };
        self.media_lines(sdp, "video", mid, numbers, "actpass");
        sdp.push_str(direction(self.video_track.is_some(), receives));
        self.own_msid(sdp, self.video_track.as_deref());
        sdp.push_str(VP8_LINES_96);
        if self.terms.rtx {
            sdp.push_str("a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n");
        }
        self.transport_cc_lines(sdp, "96");
        let _ = write!(sdp, "a=extmap:4 {MID}\r\na=extmap:10 {RID}\r\n");
        match &self.terms.rids[..] {
            _ if self.video_track.is_none() => {}
            rids @ [_, _, ..] => {
                for rid in rids {
                    let _ = write!(sdp, "a=rid:{rid} send\r\n");
                }
                let _ = write!(sdp, "a=simulcast:send {}\r\n", rids.join(";"));
            }
            _ => {
                let _ = write!(
                    sdp,
                    "a=ssrc:{} cname:{}\r\n",
                    ssrcs.layers[0], self.stream_id
                );
            }
        }
    }

    fn transport_cc_lines(&self, sdp: &mut String, payload_type: &str) {
        if self.terms.transport_cc {
            let _ = write!(
                sdp,
                "a=rtcp-fb:{payload_type} transport-cc\r\na=extmap:3 {TRANSPORT_CC}\r\n"
            );
        }
    }

    /// The answer to an offer of the focus: takes what it sends (VP8 and Opus), goes on sending what it was sending, and is the
    /// DTLS client.
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
        let rtx = media.rtx_of(payload_type).filter(|_| self.terms.rtx);
        let numbers = match rtx {
            Some(rtx) => format!("{payload_type} {rtx}"),
            None => payload_type.to_string(),
        };
        self.media_lines(sdp, &media.kind, &media.mid, &numbers, "active");
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
        if let Some(rtx) = rtx {
            let _ = write!(
                sdp,
                "a=rtpmap:{rtx} {}\r\na=fmtp:{rtx} apt={payload_type}\r\n",
                media.codecs[&rtx]
            );
        }
        let feedback: &[&str] = match kind {
            Kind::Audio => &["transport-cc"],
            Kind::Video => &["transport-cc", "ccm fir", "nack", "nack pli"],
        };
        let wanted = |feedback: &&&str| self.terms.transport_cc || **feedback != "transport-cc";
        for feedback in feedback.iter().filter(wanted) {
            let _ = write!(sdp, "a=rtcp-fb:{payload_type} {feedback}\r\n");
        }
        if kind == Kind::Audio {
            let _ = write!(
                sdp,
                "a=fmtp:{payload_type} minptime=10;usedtx=1;useinbandfec=1;usedtx=1\r\n"
            );
        }
        for (id, uri) in &media.extensions {
            let known = [MID, RID, AUDIO_LEVEL].contains(&uri.as_str());
            if known || self.terms.transport_cc && uri == TRANSPORT_CC {
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

const VP8_LINES_96: &str = "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\n\
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
            terms: Terms::default(),
        }
    }

    const SSRCS: Ssrcs = Ssrcs {
        audio: 99,
        layers: [5, 6, 7],
    };

    #[test]
    fn an_offer_reads_back_as_what_was_meant() {
        let remote = Remote::parse(&local().offer(&SSRCS)).unwrap();
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
        assert_eq!(remote.media[1].rtx_of(96), Some(97));
    }

    const FOCUS_OFFER: &str = "v=0\r\no=- 1 3 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\na=group:BUNDLE 0 1 2 3 4\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:x\r\na=ice-pwd:y\r\na=setup:actpass\r\na=mid:0\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\na=rid:f recv\r\na=rid:h recv\r\na=rid:q recv\r\na=simulcast:recv f;h;q\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:3\r\na=sendonly\r\na=msid:their cam2\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
        a=ssrc-group:FID 1234 1235\r\na=ssrc:1235 cname:x\r\na=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=ssrc:1234 cname:x\r\na=ssrc:1234 msid:their cam2\r\n\
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
        assert_eq!(offer.media[3].rtx_ssrcs, BTreeMap::from([(1234, 1235)]));
        assert_eq!(answer.media[3].rtx_of(96), Some(97));
        assert_eq!(answer.media[3].extension_ids().mid, Some(4));
    }

    #[test]
    fn a_slot_is_a_data_channel_and_one_more_section_to_measure_by() {
        let kinds = |local: &Local| {
            let slot = Remote::parse(&local.offer_slot(&SSRCS)).unwrap();
            let media = slot.media.into_iter();
            media
                .map(|media| (media.kind, media.mid, media.direction, media.ssrcs))
                .collect::<Vec<_>>()
        };
        let section = |kind: &str, mid: &str, direction: &str, ssrcs: &[u32]| {
            (
                kind.to_owned(),
                mid.to_owned(),
                direction.to_owned(),
                ssrcs.to_vec(),
            )
        };
        let mut local = local();
        local.terms.rids.clear();
        let channel = section("application", "0", "sendrecv", &[]);
        let burst = section("video", "1", "sendonly", &[SSRCS.layers[0]]);
        assert_eq!(kinds(&local), [channel.clone(), burst]);
        assert!(local.offer_slot(&SSRCS).contains("a=group:BUNDLE 0 1\r\n"));
        local.video_track = None;
        assert_eq!(kinds(&local), [channel]);
    }

    #[test]
    fn what_the_terms_leave_out_is_not_negotiated() {
        let mut own = local();
        own.terms = Terms {
            rids: vec!["h".into()],
            transport_cc: false,
            rtx: false,
        };
        let sent = Remote::parse(&own.offer(&SSRCS)).unwrap();
        assert_eq!(sent.media[1].ssrcs, [5], "one layer is named by its SSRC");
        let offer = Remote::parse(FOCUS_OFFER).unwrap();
        let answer = Remote::parse(&own.answer(&offer)).unwrap();
        assert_eq!(answer.media[3].codecs.len(), 1);
        for media in sent.media.iter().chain(&answer.media) {
            let named = |attribute: &String| attribute.contains("transport");
            assert!(!media.attributes.iter().any(named), "{media:?}");
        }
    }

    /// What Janus 1.1 offers a subscriber, shortened: full ICE, its own numbers, no rid, the track in an `a=ssrc` line.
    const JANUS_OFFER: &str = "v=0\r\no=- 17 1 IN IP4 10.0.0.1\r\ns=VideoRoom 1234\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
        a=ice-options:trickle\r\na=fingerprint:sha-256 AB:CD\r\na=msid-semantic: WMS *\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendonly\r\na=mid:0\r\na=rtcp-mux\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=setup:actpass\r\n\
        a=rtpmap:111 opus/48000/2\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=msid:janus janus0\r\na=ssrc:7 cname:janus\r\n\
        a=candidate:1 1 udp 2015363327 10.0.0.1 41234 typ host\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 100 101\r\na=sendonly\r\na=mid:1\r\na=rtcp-mux\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\na=setup:actpass\r\n\
        a=rtpmap:100 vp8/90000\r\na=rtcp-fb:100 nack\r\na=rtpmap:101 RTX/90000\r\na=fmtp:101 apt=100\r\n\
        a=ssrc:8 cname:janus\r\na=ssrc:8 msid:janus janus1\r\na=ssrc:9 cname:janus\r\na=ssrc-group:FID 8 9\r\n";

    #[test]
    fn reads_and_answers_what_other_servers_offer() {
        let offer = Remote::parse(JANUS_OFFER).unwrap();
        let video = &offer.media[1];
        assert!(!offer.ice_lite);
        assert_eq!(offer.candidates.len(), 1);
        assert_eq!(video.msid, Some(("janus".into(), "janus1".into())));
        assert_eq!(
            (video.ssrcs.as_slice(), &video.rtx_ssrcs),
            (&[8][..], &BTreeMap::from([(8, 9)]))
        );
        assert_eq!(
            (video.payload_type("VP8"), video.rtx_of(100)),
            (Some(100), Some(101))
        );
        let spectator = Local {
            audio_track: None,
            video_track: None,
            ..local()
        };
        let answer = Remote::parse(&spectator.answer(&offer)).unwrap();
        let directions: Vec<_> = answer
            .media
            .iter()
            .map(|media| media.direction.as_str())
            .collect();
        assert_eq!(directions, ["recvonly", "recvonly"], "and no data channel");
    }

    #[test]
    fn a_description_without_credentials_is_none() {
        assert_eq!(Remote::parse("v=0\r\nm=audio 9 x 0\r\n"), None);
        assert_eq!(Remote::parse(""), None);
    }
}
