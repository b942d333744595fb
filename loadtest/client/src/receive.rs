//! The receiving side, without I/O: binds SSRCs to tracks as the descriptions say, runs the checks, and says what is to be
//! fed back (receiver reports, transport-wide feedback, NACKs, picture loss indications).
//!
//! What holds for one stream is in `receive/stream.rs`, retransmissions in `receive/rtx.rs`, one-way delays in `receive/delay.rs`.

mod delay;
mod rtx;
mod stream;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use rtcp::receiver_report::ReceiverReport;
use rtcp::sender_report::SenderReport;
use rtp::packet::Packet;

use crate::checks::Allowed;
use crate::clips::Clips;
use crate::encryption::MediaKeys;
use crate::participant::{Decode, TransportFeedback};
use crate::pictures::DecodeThread;
use crate::report::{Kind, StreamReport};
use crate::sdp::{Remote, RemoteMedia};
use crate::twcc::TransportArrivals;
pub(crate) use stream::frames_off;
use stream::{Environment, Stream};

/// Whose track it is: from the metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Matrix user id, or whatever else names a publisher.
    pub user_id: String,
    /// Matrix device id.
    pub device_id: String,
    /// `m.usermedia` or `m.screenshare`.
    pub purpose: String,
    /// Whether it says that the track is muted.
    pub muted: bool,
}

/// An RTCP packet to be sent.
pub type Feedback = Box<dyn rtcp::packet::Packet + Send + Sync>;

/// Receiver reports are this far apart.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Without a packet for this long nothing is on its way, and nothing can be missing.
const QUIET_AFTER: Duration = Duration::from_secs(2);

/// How a receiver looks at what it gets.
#[derive(Debug, Clone, Copy)]
pub struct Inspection {
    /// What is decoded.
    pub decode: Decode,
    /// What the other side is told.
    pub feedback: TransportFeedback,
}

impl Default for Inspection {
    /// Everything is decoded, and there is no transport-wide feedback.
    fn default() -> Inspection {
        Inspection {
            decode: Decode::ALL,
            feedback: TransportFeedback::None,
        }
    }
}

/// Everything that one transport receives.
#[derive(Debug)]
pub struct Receiver {
    streams: Vec<Stream>,
    by_ssrc: HashMap<u32, Feeds>,
    /// SSRCs that a later description has replaced.
    retired: HashSet<u32>,
    unbound: u64,
    own_ssrc: u32,
    environment: Environment,
    arrivals: TransportArrivals,
    feedback: TransportFeedback,
    feedbacks_sent: u64,
    sampled: bool,
    first_packet_at: Option<Instant>,
    last_packet_at: Option<Instant>,
    report_next: Instant,
}

/// What an SSRC carries: a stream by its index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feeds {
    Media(usize),
    Rtx(usize),
}

impl Receiver {
    /// Receives nothing yet; `own_ssrc` names the participant in feedback.
    pub fn new(decoder: DecodeThread, clips: Clips, own_ssrc: u32, now: Instant) -> Receiver {
        let decode = Decode::ALL;
        Receiver {
            streams: Vec::new(),
            by_ssrc: HashMap::new(),
            retired: HashSet::new(),
            unbound: 0,
            own_ssrc,
            environment: Environment {
                decoder,
                clips,
                decode,
                keys: None,
            },
            arrivals: TransportArrivals::new(own_ssrc, now),
            feedback: TransportFeedback::None,
            feedbacks_sent: 0,
            sampled: false,
            first_packet_at: None,
            last_packet_at: None,
            report_next: now + REPORT_EVERY,
        }
    }

    /// Looks so at what it gets.
    pub fn inspecting(mut self, inspection: Inspection) -> Receiver {
        self.environment.decode = inspection.decode;
        self.feedback = inspection.feedback;
        self
    }

    /// Decrypts what it gets, if others encrypt it.
    pub fn decrypting(mut self, keys: Option<MediaKeys>) -> Receiver {
        self.environment.keys = keys;
        self
    }

    /// From here on only a sample of the packets arrives.
    pub fn sample(&mut self) {
        self.sampled = true;
        self.streams.iter_mut().for_each(Stream::sample);
    }

    /// Takes over what a description of the focus says that it sends.
    pub fn apply(&mut self, remote: &Remote) {
        for media in &remote.media {
            if !media.sends() {
                let of_section = |stream: &&mut Stream| stream.allowed.mid == media.mid;
                self.streams
                    .iter_mut()
                    .filter(of_section)
                    .for_each(|stream| stream.active = false);
                continue;
            }
            let Some(kind) = media.media_kind() else {
                continue;
            };
            let track = track_of(media);
            let known = |stream: &Stream| stream.allowed.mid == media.mid && stream.track == track;
            let decode = self.environment.decode;
            let index = self.streams.iter().position(known).unwrap_or_else(|| {
                let mut stream = Stream::new(kind, track.clone(), decode);
                if self.sampled {
                    stream.sample();
                }
                self.streams.push(stream);
                self.streams.len() - 1
            });
            // The section may carry another track than before.
            let others = self
                .streams
                .iter_mut()
                .filter(|stream| stream.allowed.mid == media.mid && stream.track != track);
            others.for_each(|stream| stream.active = false);
            let stream = &mut self.streams[index];
            if !stream.active
                && let Some(ended) = stream.resume(&media.ssrcs)
            {
                self.retire(ended, index);
            }
            let stream = &mut self.streams[index];
            stream.active = true;
            stream.allowed = allowed(media, kind);
            let of_media = media.ssrcs.iter().map(|ssrc| (*ssrc, Feeds::Media(index)));
            self.by_ssrc.extend(of_media);
            let of_rtx = media
                .rtx_ssrcs
                .values()
                .map(|ssrc| (*ssrc, Feeds::Rtx(index)));
            self.by_ssrc.extend(of_rtx);
        }
    }

    /// An SSRC has ended, and its retransmissions with it; the last packets of both may still be on their way.
    fn retire(&mut self, ended: u32, index: usize) {
        let rtx = self
            .by_ssrc
            .iter()
            .filter(|(_, feeds)| **feeds == Feeds::Rtx(index));
        let rtx: Vec<u32> = rtx.map(|(ssrc, _)| *ssrc).collect();
        for ssrc in rtx.into_iter().chain([ended]) {
            self.by_ssrc.remove(&ssrc);
            self.retired.insert(ssrc);
        }
    }

    /// Takes over whose tracks they are; `owner` is `None` for a track that the metadata does not list.
    pub fn set_owners(&mut self, owner: impl Fn(&str, &str) -> Option<Owner>) {
        for stream in &mut self.streams {
            let owner = owner(&stream.track.0, &stream.track.1);
            stream.listed = owner.is_some();
            if let Some(owner) = owner {
                stream.set_owner(owner);
            }
        }
    }

    /// Takes one decrypted packet.
    pub fn handle_rtp(&mut self, packet: &Packet, now: Instant) {
        self.first_packet_at.get_or_insert(now);
        self.last_packet_at = Some(now);
        let ssrc = packet.header.ssrc;
        if self.retired.contains(&ssrc) {
            return;
        }
        let feeds = self.by_ssrc.get(&ssrc).copied();
        let bound = feeds.or_else(|| self.bind_by_mid(packet));
        let Some(feeds) = bound.or_else(|| self.bind_by_place(packet)) else {
            self.unbound += 1;
            return;
        };
        let (Feeds::Media(index) | Feeds::Rtx(index)) = feeds;
        let stream = &mut self.streams[index];
        if self.feedback == TransportFeedback::Sent
            && let Some(id) = stream.allowed.transport_extension
            && let Some([high, low]) = packet.header.get_extension(id).as_deref()
        {
            let number = u16::from_be_bytes([*high, *low]);
            self.arrivals.handle(number, ssrc, now);
        }
        match feeds {
            Feeds::Media(_) => stream.handle(packet, &self.environment, now),
            Feeds::Rtx(_) => stream.handle_rtx(packet, &self.environment, now),
        }
    }

    /// Takes what a sender report says of the clocks of its stream.
    pub fn handle_sender_report(&mut self, report: &SenderReport, now: Instant) {
        if let Some(Feeds::Media(index)) = self.by_ssrc.get(&report.ssrc) {
            self.streams[*index].handle_sender_report(report.ntp_time, report.rtp_time, now);
        }
    }

    /// What is to be sent now.
    pub fn poll_feedback(&mut self, now: Instant) -> Vec<Feedback> {
        let mut out: Vec<Feedback> = Vec::new();
        for stream in self.streams.iter_mut().filter(|stream| stream.live()) {
            stream.handle_timeout(&self.environment, now);
            stream.feedback(self.own_ssrc, now, &mut out);
        }
        if let Some(feedback) = self.arrivals.poll(now) {
            self.feedbacks_sent += 1;
            out.push(Box::new(feedback));
        }
        if now >= self.report_next {
            self.report_next = now + REPORT_EVERY;
            let reports: Vec<_> = self
                .streams
                .iter()
                .filter(|s| s.live())
                .filter_map(|stream| stream.reception_report(now))
                .collect();
            for chunk in reports.chunks(31) {
                let report = ReceiverReport {
                    ssrc: self.own_ssrc,
                    reports: chunk.to_vec(),
                    ..Default::default()
                };
                out.push(Box::new(report));
            }
        }
        let quiet = |at: &mut Instant| now.saturating_duration_since(*at) > QUIET_AFTER;
        self.last_packet_at.take_if(quiet);
        out
    }

    /// Whether packets arrived lately, so that there is something to ask for.
    pub fn is_receiving(&self) -> bool {
        self.last_packet_at.is_some()
    }

    /// Whether so many streams have begun, and all that there are: a first frame of video, a first packet of audio, both
    /// readable.
    pub fn has_started(&self, expected: usize) -> bool {
        let live = self.streams.iter().filter(|stream| stream.live());
        let (mut count, mut all) = (0, true);
        for stream in live {
            count += 1;
            all &= stream.has_started();
        }
        all && count > 0 && count >= expected
    }

    /// All that is known about each stream; `since` is when the invite was sent.
    pub fn report(&self, now: Instant, since: Instant) -> Vec<StreamReport> {
        self.streams
            .iter()
            .map(|stream| stream.report(now, since))
            .collect()
    }

    /// Packets of nobody.
    pub fn unbound_packets(&self) -> u64 {
        self.unbound
    }

    /// Transport-wide feedback packets that were handed out.
    pub fn feedbacks_sent(&self) -> u64 {
        self.feedbacks_sent
    }

    /// When the first packet of any stream arrived.
    pub fn first_packet_at(&self) -> Option<Instant> {
        self.first_packet_at
    }

    /// When the first frame of any stream was complete.
    pub fn first_frame_at(&self) -> Option<Instant> {
        self.streams
            .iter()
            .filter_map(|stream| stream.first_frame_at)
            .min()
    }

    /// When the first picture of any stream was decoded.
    pub fn first_picture_at(&self) -> Option<Instant> {
        self.streams
            .iter()
            .filter_map(|stream| stream.pictures.seen().first_at)
            .min()
    }

    /// A description without `a=ssrc` binds by the mid in the packet.
    fn bind_by_mid(&mut self, packet: &Packet) -> Option<Feeds> {
        let header = &packet.header;
        let index = self.streams.iter().position(|stream| {
            let mid = stream
                .allowed
                .mid_extension
                .and_then(|id| header.get_extension(id));
            stream.active && mid.is_some_and(|mid| mid == stream.allowed.mid.as_bytes())
        })?;
        let rtx = self.streams[index].allowed.rtx_payload_type == Some(header.payload_type);
        let feeds = if rtx {
            Feeds::Rtx(index)
        } else {
            Feeds::Media(index)
        };
        self.by_ssrc.insert(header.ssrc, feeds);
        Some(feeds)
    }

    /// An SSRC of nobody that goes on where a stream stands is that stream, which has changed its SSRC.
    fn bind_by_place(&mut self, packet: &Packet) -> Option<Feeds> {
        let continued = |stream: &Stream| stream.is_continued_by(packet);
        let index = self.streams.iter().position(continued)?;
        let feeds = Feeds::Media(index);
        self.by_ssrc.insert(packet.header.ssrc, feeds);
        Some(feeds)
    }
}

/// A server without `a=msid` names its tracks by their m-lines.
fn track_of(media: &RemoteMedia) -> (String, String) {
    let by_mid = || (String::new(), media.mid.clone());
    media.msid.clone().unwrap_or_else(by_mid)
}

fn allowed(media: &RemoteMedia, kind: Kind) -> Allowed {
    let ids = media.extension_ids();
    let codec = if kind == Kind::Audio { "opus" } else { "VP8" };
    let payload_type = media.payload_type(codec);
    Allowed {
        mid: media.mid.clone(),
        payload_types: payload_type.into_iter().collect(),
        rtx_payload_type: payload_type.and_then(|number| media.rtx_of(number)),
        extensions: [ids.mid, ids.rid, ids.transport_cc, ids.audio_level]
            .into_iter()
            .flatten()
            .collect(),
        mid_extension: ids.mid,
        rid_extension: ids.rid,
        transport_extension: ids.transport_cc,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encryption::tests::{media_keys, share};
    use crate::publish::{Publisher, SendParameters, Ssrcs};
    use crate::sdp::ExtensionIds;

    const OFFER: &str = "v=0\r\na=ice-ufrag:x\r\na=ice-pwd:y\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:3\r\na=sendonly\r\na=msid:s v\r\na=rtpmap:96 VP8/90000\r\na=ssrc:4 cname:x\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:4\r\na=sendonly\r\na=msid:s a\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:1 cname:x\r\n";

    /// A focus that forwards the lowest layer and the sound untouched, without header extensions.
    fn forward(
        seconds: u64,
        change: impl FnMut(&mut Packet) -> bool,
    ) -> (Vec<StreamReport>, Vec<Feedback>) {
        forward_encrypted(None, seconds, change)
    }

    /// The same with the publisher's and the receiver's keys.
    fn forward_encrypted(
        keys: Option<(MediaKeys, MediaKeys)>,
        seconds: u64,
        mut change: impl FnMut(&mut Packet) -> bool,
    ) -> (Vec<StreamReport>, Vec<Feedback>) {
        let (of_publisher, of_receiver) = keys.unzip();
        let start = Instant::now();
        let parameters = |payload_type| {
            let extensions = ExtensionIds::default();
            Some(SendParameters {
                mid: String::new(),
                payload_type,
                extensions,
            })
        };
        let ssrcs = Ssrcs {
            audio: 1,
            layers: [2, 3, 4],
        };
        let mut publisher = Publisher::new(
            Clips::committed(),
            ssrcs,
            parameters(96),
            parameters(111),
            start,
        );
        let receiver = Receiver::new(DecodeThread::start(), Clips::committed(), 9, start);
        let mut receiver = receiver.decrypting(of_receiver);
        receiver.apply(&Remote::parse(OFFER).unwrap());
        if let Some(keys) = of_publisher {
            publisher.encrypt_with(keys);
            receiver.set_owners(|_, _| {
                Some(Owner {
                    user_id: "@a:x".into(),
                    device_id: "A".into(),
                    purpose: String::new(),
                    muted: false,
                })
            });
        }
        let (mut now, mut feedback) = (start, Vec::new());
        while now < start + Duration::from_secs(seconds) {
            while let Some(mut packet) = publisher.poll_packet(now) {
                if [1, 4].contains(&packet.header.ssrc) && change(&mut packet) {
                    receiver.handle_rtp(&packet, now);
                }
            }
            feedback.extend(receiver.poll_feedback(now));
            now = publisher.poll_timeout().unwrap();
        }
        while receiver.streams[0].pictures.seen().decoded < receiver.streams[0].video.frames
            && start.elapsed() < Duration::from_secs(20)
        {
            std::thread::yield_now();
        }
        let report = receiver.report(now, start);
        // Who looks at samples once streams have started must have been able to read something of each.
        let frames = report[0].video.as_ref().map_or(0, |video| video.frames);
        let sounds = report[1].audio.as_ref().map_or(0, |audio| audio.recognised);
        assert_eq!(receiver.has_started(2), frames > 0 && sounds > 0);
        (report, feedback)
    }

    #[test]
    fn an_untouched_stream_breaks_no_rule_and_is_decoded_to_the_last_frame() {
        let (report, _) = forward(3, |_| true);
        let video = report[0].video.as_ref().unwrap();
        assert_eq!(
            (
                report[0].violations.as_slice(),
                report[1].violations.as_slice()
            ),
            (&[][..], &[][..])
        );
        assert_eq!((video.frames, video.decoded, video.numbered), (90, 90, 90));
        assert_eq!(
            (video.width, video.height, video.numbers_missed),
            (320, 180, 0)
        );
        assert!(video.longest_gap_ms <= 34);
        let audio = report[1].audio.as_ref().unwrap();
        assert_eq!((report[1].packets, audio.recognised), (150, 150));
        assert!(audio.longest_gap_ms <= 20);
    }

    #[test]
    fn encrypted_streams_are_decoded_like_clear_ones_and_only_with_their_key() {
        let (a, b, stranger) = (media_keys(), media_keys(), media_keys());
        share(&a, &b);
        let with_key = Some((a.clone(), b));
        let (report, _) = forward_encrypted(with_key, 3, |packet| {
            // What the focus sees is no clip, but where its keyframes begin.
            let clips = Clips::committed();
            if packet.header.ssrc == 4 {
                let (_, frame) = crate::vp8::Descriptor::parse(&packet.payload).unwrap();
                assert_eq!(clips.catalogue().frame(frame), None);
            } else {
                assert!(clips.catalogue().audio(&packet.payload).is_empty());
            }
            true
        });
        let video = report[0].video.as_ref().unwrap();
        assert_eq!(
            (video.frames, video.decoded, video.recognised),
            (90, 90, 90)
        );
        let audio = report[1].audio.as_ref().unwrap();
        assert_eq!(audio.recognised, 150);
        assert!(report.iter().all(|stream| stream.undecrypted.is_none()));
        assert_eq!(
            (report[0].violations.len(), report[1].violations.len()),
            (0, 0)
        );

        let (report, feedback) = forward_encrypted(Some((a.clone(), stranger)), 1, |_| true);
        let video = report[0].video.as_ref().unwrap();
        assert_eq!((video.frames, video.decoded), (0, 0));
        for (stream, frames) in report.iter().zip([30, 50]) {
            let undecrypted = stream.undecrypted.as_ref().unwrap();
            let counts = (undecrypted.frames, undecrypted.unknown_session);
            assert_eq!(counts, (frames, frames));
        }
        assert_eq!(
            (report[0].violations.len(), report[1].violations.len()),
            (0, 0)
        );
        let pli = |packet: &Feedback| format!("{packet:?}").contains("PictureLossIndication");
        assert!(!feedback.iter().any(pli), "a keyframe would be of no use");
    }

    #[test]
    fn a_frame_with_another_key_than_its_senders_is_a_broken_rule() {
        let (a, b, mallory) = (media_keys(), media_keys(), media_keys());
        share(&a, &b);
        let (report, _) = forward_encrypted(Some((mallory, b)), 1, |_| true);
        for stream in report {
            let broken: Vec<_> = stream.violations.iter().map(|of| of.violation).collect();
            assert_eq!(broken, [crate::report::Violation::Undecryptable]);
        }
    }

    #[test]
    fn whoever_gets_the_key_in_the_middle_asks_for_a_keyframe() {
        let (a, b) = (media_keys(), media_keys());
        let keys = (a.clone(), b.clone());
        let mut count = 0;
        let (report, feedback) = forward_encrypted(Some(keys), 1, |_| {
            count += 1;
            if count == 40 {
                share(&a, &b);
            }
            true
        });
        let video = report[0].video.as_ref().unwrap();
        let undecrypted = report[0].undecrypted.as_ref().unwrap();
        assert!(undecrypted.frames > 5 && video.broken > 5, "{report:?}");
        assert_eq!((video.frames, report[0].violations.len()), (0, 0));
        let pli = |packet: &&Feedback| format!("{packet:?}").contains("PictureLossIndication");
        assert!(feedback.iter().filter(pli).count() >= 1);
    }

    #[test]
    fn a_lost_packet_is_asked_for_and_then_a_keyframe() {
        let mut count = 0;
        let (report, feedback) = forward(2, |packet| {
            count += u32::from(packet.header.ssrc == 4);
            packet.header.ssrc != 4 || count != 20
        });
        let video = report[0].video.as_ref().unwrap();
        assert_eq!(report[0].lost, 1);
        assert!(video.nacks >= 1 && video.plis >= 1);
        assert_eq!(report[0].violations, []);
        let is = |name: &str| {
            feedback
                .iter()
                .any(|packet| format!("{packet:?}").contains(name))
        };
        assert!(is("TransportLayerNack") && is("PictureLossIndication") && is("ReceiverReport"));
    }

    #[test]
    fn a_report_names_the_sender_report_and_the_time_since() {
        use rtcp::receiver_report::ReceiverReport;
        let start = Instant::now();
        let mut receiver = Receiver::new(DecodeThread::start(), Clips::committed(), 9, start);
        receiver.apply(&Remote::parse(OFFER).unwrap());
        let header = rtp::header::Header {
            ssrc: 4,
            payload_type: 96,
            ..Default::default()
        };
        let packet = Packet {
            header,
            payload: bytes::Bytes::new(),
        };
        receiver.handle_rtp(&packet, start);
        let said = SenderReport {
            ssrc: 4,
            ntp_time: 0x0123_4567_89ab_cdef,
            ..Default::default()
        };
        receiver.handle_sender_report(&said, start);
        let feedback = receiver.poll_feedback(start + Duration::from_millis(1500));
        let reports = feedback
            .iter()
            .find_map(|packet| packet.as_any().downcast_ref::<ReceiverReport>());
        let block = &reports.unwrap().reports[0];
        let names = (block.ssrc, block.last_sender_report, block.delay);
        assert_eq!(names, (4, 0x4567_89ab, 65536 + 32768));
    }

    #[test]
    fn an_ssrc_that_changes_is_caught_unless_it_was_announced_after_a_pause() {
        let now = Instant::now();
        let offer = |direction: &str, ssrc: &str| {
            let changed = OFFER
                .replacen("sendonly", direction, 1)
                .replacen("ssrc:4", ssrc, 1);
            Remote::parse(&changed).unwrap()
        };
        let packet = |ssrc| {
            let header = rtp::header::Header {
                ssrc,
                payload_type: 96,
                ..Default::default()
            };
            Packet {
                header,
                ..Packet::default()
            }
        };
        let mut receiver = Receiver::new(DecodeThread::start(), Clips::committed(), 9, now);
        let mut handle = |description: Remote, ssrc| {
            receiver.apply(&description);
            receiver.handle_rtp(&packet(ssrc), now);
            receiver.report(now, now)[0].violations.len()
        };
        assert_eq!(handle(offer("sendonly", "ssrc:4"), 4), 0);
        // The last packets of the old one may come after the description that ends it.
        assert_eq!(handle(offer("inactive", "x:4"), 4), 0);
        assert_eq!(handle(offer("sendonly", "ssrc:5"), 5), 0);
        assert_eq!(handle(offer("sendonly", "ssrc:6"), 6), 1);
    }

    #[test]
    fn the_delay_by_the_bytes_is_the_delay_by_the_number_in_the_picture() {
        let (start, late) = (Instant::now(), Duration::from_millis(40));
        let parameters = |payload_type| SendParameters {
            mid: String::new(),
            payload_type,
            extensions: ExtensionIds::default(),
        };
        let ssrcs = Ssrcs {
            audio: 1,
            layers: [2, 3, 4],
        };
        let (clips, names) = (Clips::committed(), ("@cross:x", "D"));
        let video = Some(parameters(96));
        let mut publisher =
            Publisher::new(clips.clone(), ssrcs, video, Some(parameters(111)), start);
        publisher.announce(names.0, names.1);
        let mut receiver = Receiver::new(DecodeThread::start(), clips, 9, start);
        receiver.apply(&Remote::parse(OFFER).unwrap());
        receiver.set_owners(|_, _| {
            Some(Owner {
                user_id: names.0.into(),
                device_id: names.1.into(),
                ..Owner::default()
            })
        });
        let (mut now, mut last_video) = (start, start);
        while now < start + Duration::from_secs(7) {
            while let Some(packet) = publisher.poll_packet(now) {
                if [1, 4].contains(&packet.header.ssrc) {
                    receiver.handle_rtp(&packet, now + late);
                    last_video = if packet.header.ssrc == 4 {
                        now + late
                    } else {
                        last_video
                    };
                }
            }
            now = publisher.poll_timeout().unwrap();
        }
        while receiver.streams[0].pictures.seen().decoded < receiver.streams[0].video.frames
            && start.elapsed() < Duration::from_secs(20)
        {
            std::thread::yield_now();
        }
        for stream in receiver.report(now, start) {
            assert!(stream.delay.count() >= 200, "{:?}", stream.kind);
            let delays = (stream.delay.percentile_ms(0.0), stream.delay.max_ms());
            assert_eq!(delays, (Some(40.0), Some(40.0)), "{:?}", stream.kind);
        }
        // The clip has turned once: 150 frames.
        let seen = receiver.streams[0].pictures.seen();
        let frame = 150 + u32::from(seen.last.unwrap().0.number);
        let by_number = last_video - (start + Duration::from_secs(1) * frame / 30);
        assert!(
            by_number.abs_diff(late) < Duration::from_micros(1),
            "{by_number:?}"
        );
    }

    #[test]
    fn packets_of_an_unknown_ssrc_are_counted_and_change_nothing() {
        let mut receiver =
            Receiver::new(DecodeThread::start(), Clips::committed(), 9, Instant::now());
        receiver.handle_rtp(&Packet::default(), Instant::now());
        assert_eq!(
            (
                receiver.unbound_packets(),
                receiver.report(Instant::now(), Instant::now()).len()
            ),
            (1, 0)
        );
    }
}
