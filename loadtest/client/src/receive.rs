//! The receiving side, without I/O: binds SSRCs to tracks as the descriptions say, runs the checks, and says what is to be
//! fed back (receiver reports, NACKs, picture loss indications).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::receiver_report::ReceiverReport;
use rtcp::reception_report::ReceptionReport;
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};
use rtp::packet::Packet;

use crate::checks::{Allowed, Arrival, Sequence, Timeline, Violations};
use crate::clips::Clips;
use crate::frames::Assembler;
use crate::pictures::{DecodeThread, Pictures};
use crate::report::{AudioReport, Kind, StreamReport, VideoReport, Violation};
use crate::sdp::{Remote, RemoteMedia};

/// Whose track it is: from the metadata.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Matrix user id.
    pub user_id: String,
    /// Matrix device id.
    pub device_id: String,
    /// `m.usermedia` or `m.screenshare`.
    pub purpose: String,
}

/// An RTCP packet to be sent.
pub type Feedback = Box<dyn rtcp::packet::Packet + Send + Sync>;

/// PLI if there is no keyframe this long after the first packet.
const PLI_FIRST: Duration = Duration::from_millis(200);
/// PLI again after this long without a keyframe.
const PLI_AGAIN: Duration = Duration::from_millis(500);
/// Receiver reports are this far apart.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Everything that one transport receives.
#[derive(Debug)]
pub struct Receiver {
    streams: Vec<Stream>,
    by_ssrc: HashMap<u32, usize>,
    /// SSRCs that a later description has replaced.
    retired: HashSet<u32>,
    unbound: u64,
    own_ssrc: u32,
    decoder: DecodeThread,
    clips: Clips,
    report_next: Instant,
}

#[derive(Debug)]
struct Stream {
    kind: Kind,
    track: (String, String),
    owner: Owner,
    /// The m-line is active.
    active: bool,
    /// The metadata lists the track.
    listed: bool,
    allowed: Allowed,
    ssrc: Option<u32>,
    sequence: Sequence,
    timeline: Timeline,
    violations: Violations,
    packets: u64,
    bytes: u64,
    last_arrival: Option<Instant>,
    longest_gap: Duration,
    /// Arrival and size of the packets, and arrival of the frames, of the last second.
    recent_packets: VecDeque<(Instant, usize)>,
    recent_frames: VecDeque<Instant>,
    video: VideoReport,
    audio: AudioReport,
    assembler: Assembler,
    pictures: Arc<Pictures>,
    last_frame: Option<Instant>,
    pli_next: Option<Instant>,
}

impl Receiver {
    /// Receives nothing yet; `own_ssrc` names the participant in feedback.
    pub fn new(decoder: DecodeThread, clips: Clips, own_ssrc: u32, now: Instant) -> Receiver {
        Receiver {
            streams: Vec::new(),
            by_ssrc: HashMap::new(),
            retired: HashSet::new(),
            unbound: 0,
            own_ssrc,
            decoder,
            clips,
            report_next: now + REPORT_EVERY,
        }
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
            let (Some(kind), Some(track)) = (media.media_kind(), media.msid.clone()) else {
                continue;
            };
            let known = |stream: &Stream| stream.allowed.mid == media.mid && stream.track == track;
            let index = self.streams.iter().position(known).unwrap_or_else(|| {
                self.streams.push(Stream::new(kind, track.clone()));
                self.streams.len() - 1
            });
            // The section may carry another track than before.
            let others = self
                .streams
                .iter_mut()
                .filter(|stream| stream.allowed.mid == media.mid && stream.track != track);
            others.for_each(|stream| stream.active = false);
            let stream = &mut self.streams[index];
            if !stream.active {
                self.retired.extend(stream.resume(&media.ssrcs));
            }
            stream.active = true;
            stream.allowed = allowed(media, kind);
            self.by_ssrc
                .extend(media.ssrcs.iter().map(|ssrc| (*ssrc, index)));
        }
    }

    /// Takes over whose tracks they are; `owner` is `None` for a track that the metadata does not list.
    pub fn set_owners(&mut self, owner: impl Fn(&str, &str) -> Option<Owner>) {
        for stream in &mut self.streams {
            let owner = owner(&stream.track.0, &stream.track.1);
            stream.listed = owner.is_some();
            if let Some(owner) = owner {
                stream.owner = owner;
            }
        }
    }

    /// Takes one decrypted packet.
    pub fn handle_rtp(&mut self, packet: &Packet, now: Instant) {
        if self.retired.contains(&packet.header.ssrc) {
            return;
        }
        let Some(index) = self
            .by_ssrc
            .get(&packet.header.ssrc)
            .copied()
            .or_else(|| self.bind_by_mid(packet))
        else {
            self.unbound += 1;
            return;
        };
        let stream = &mut self.streams[index];
        stream.handle(packet, &self.clips, now);
        stream.assemble(&self.decoder, now);
    }

    /// What is to be sent now.
    pub fn poll_feedback(&mut self, now: Instant) -> Vec<Feedback> {
        let mut out: Vec<Feedback> = Vec::new();
        for stream in self.streams.iter_mut().filter(|stream| stream.live()) {
            stream.sequence.handle_timeout(now);
            stream.assemble(&self.decoder, now);
            stream.feedback(self.own_ssrc, now, &mut out);
        }
        if now >= self.report_next {
            self.report_next = now + REPORT_EVERY;
            let reports: Vec<_> = self
                .streams
                .iter()
                .filter(|s| s.live())
                .filter_map(Stream::reception_report)
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
        out
    }

    /// All that is known about each stream.
    pub fn report(&self, now: Instant) -> Vec<StreamReport> {
        self.streams
            .iter()
            .map(|stream| stream.report(now))
            .collect()
    }

    /// Packets of nobody.
    pub fn unbound_packets(&self) -> u64 {
        self.unbound
    }

    /// When the first picture of any stream was decoded.
    pub fn first_picture_at(&self) -> Option<Instant> {
        self.streams
            .iter()
            .filter_map(|stream| stream.pictures.seen().first_at)
            .min()
    }

    /// A description without `a=ssrc` binds by the mid in the packet.
    fn bind_by_mid(&mut self, packet: &Packet) -> Option<usize> {
        let index = self.streams.iter().position(|stream| {
            let mid = stream
                .allowed
                .mid_extension
                .and_then(|id| packet.header.get_extension(id));
            stream.active && mid.is_some_and(|mid| mid == stream.allowed.mid.as_bytes())
        })?;
        self.by_ssrc.insert(packet.header.ssrc, index);
        Some(index)
    }
}

fn allowed(media: &RemoteMedia, kind: Kind) -> Allowed {
    let ids = media.extension_ids();
    Allowed {
        mid: media.mid.clone(),
        payload_types: media
            .payload_type(if kind == Kind::Audio { "opus" } else { "VP8" })
            .into_iter()
            .collect(),
        extensions: [ids.mid, ids.rid, ids.transport_cc, ids.audio_level]
            .into_iter()
            .flatten()
            .collect(),
        mid_extension: ids.mid,
        rid_extension: ids.rid,
    }
}

impl Stream {
    fn new(kind: Kind, track: (String, String)) -> Stream {
        Stream {
            kind,
            track,
            owner: Owner::default(),
            active: false,
            listed: true,
            allowed: Allowed::default(),
            ssrc: None,
            sequence: Sequence::default(),
            timeline: Timeline::default(),
            violations: Violations::default(),
            packets: 0,
            bytes: 0,
            last_arrival: None,
            longest_gap: Duration::ZERO,
            recent_packets: VecDeque::new(),
            recent_frames: VecDeque::new(),
            video: VideoReport::default(),
            audio: AudioReport::default(),
            assembler: Assembler::default(),
            pictures: Arc::default(),
            last_frame: None,
            pli_next: None,
        }
    }

    /// The m-line sends again after a pause. What comes is measured from its own beginning, and if another SSRC was
    /// announced for it, it is a stream of its own. Gives the SSRC that ended then: its last packets may still be on their way.
    fn resume(&mut self, announced: &[u32]) -> Option<u32> {
        (self.last_arrival, self.last_frame) = (None, None);
        self.timeline = Timeline::default();
        let ended = |ssrc: &mut u32| !announced.is_empty() && !announced.contains(ssrc);
        let ended = self.ssrc.take_if(ended)?;
        self.sequence.restart();
        self.assembler.restart();
        Some(ended)
    }

    fn live(&self) -> bool {
        self.active && self.listed
    }

    fn handle(&mut self, packet: &Packet, clips: &Clips, now: Instant) {
        let header = &packet.header;
        if self.ssrc.is_none() {
            // The first keyframe may take a few packets; no need to ask for one meanwhile.
            self.pli_next = Some(now + PLI_FIRST);
        }
        let ssrc = *self.ssrc.get_or_insert(header.ssrc);
        if ssrc != header.ssrc {
            self.violations.add(Violation::SsrcChanged, || {
                format!("{} after {ssrc}", header.ssrc)
            });
            self.ssrc = Some(header.ssrc);
            self.sequence.restart();
        }
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        if let Some(last) = self.last_arrival.replace(now) {
            self.longest_gap = self.longest_gap.max(now.saturating_duration_since(last));
        }
        remember(
            &mut self.recent_packets,
            (now, packet.payload.len()),
            |entry| entry.0,
            now,
        );
        self.allowed.check(packet, &mut self.violations);
        let number = match self.sequence.handle(packet, &mut self.violations, now) {
            Arrival::Newest(number) => {
                let clock_rate = if self.kind == Kind::Audio {
                    48_000
                } else {
                    90_000
                };
                self.timeline
                    .handle(header.timestamp, clock_rate, &mut self.violations, now);
                number
            }
            Arrival::Late(number) => number,
            Arrival::Duplicate => return,
        };
        match self.kind {
            // Padding-only packets (probes) carry no frame.
            Kind::Video if packet.payload.is_empty() => {}
            Kind::Video => self.assembler.handle(
                number,
                header.timestamp,
                header.marker,
                packet.payload.clone(),
                now,
            ),
            Kind::Audio => {
                self.audio.levels += u64::from(
                    header
                        .extensions
                        .iter()
                        .any(|extension| extension.payload.len() == 1),
                );
                self.audio.recognised += u64::from(
                    clips
                        .audio
                        .iter()
                        .any(|clip| clip.payload == packet.payload),
                );
            }
        }
    }

    fn assemble(&mut self, decoder: &DecodeThread, now: Instant) {
        while let Some(frame) = self.assembler.poll(&mut self.violations, now) {
            self.video.frames += 1;
            self.video.keyframes += u64::from(frame.keyframe);
            if let Some(last) = self.last_frame.replace(now) {
                let gap = now.saturating_duration_since(last).as_millis() as u64;
                self.video.longest_gap_ms = self.video.longest_gap_ms.max(gap);
            }
            remember(&mut self.recent_frames, now, |at| *at, now);
            if decoder.send(&self.pictures, frame).is_err() {
                self.video.skipped += 1;
                self.assembler.skip_to_keyframe();
            }
        }
    }

    fn feedback(&mut self, own_ssrc: u32, now: Instant, out: &mut Vec<Feedback>) {
        let Some(media_ssrc) = self.ssrc.filter(|_| self.kind == Kind::Video) else {
            return;
        };
        let numbers = self.sequence.nacks(now);
        if !numbers.is_empty() {
            self.video.nacks += 1;
            let nacks = nack_pairs_from_sequence_numbers(&numbers);
            out.push(Box::new(TransportLayerNack {
                sender_ssrc: own_ssrc,
                media_ssrc,
                nacks,
            }));
        }
        if !self.assembler.needs_keyframe() && !self.pictures.seen().stuck {
            self.pli_next = None;
        } else if self.pli_next.is_none_or(|next| next <= now) {
            self.pli_next = Some(now + PLI_AGAIN);
            self.video.plis += 1;
            out.push(Box::new(PictureLossIndication {
                sender_ssrc: own_ssrc,
                media_ssrc,
            }));
        }
    }

    fn reception_report(&self) -> Option<ReceptionReport> {
        Some(ReceptionReport {
            ssrc: self.ssrc?,
            total_lost: self.sequence.lost as u32 & 0x7f_ffff,
            // The extended number starts one roll-over high.
            last_sequence_number: self.sequence.highest()?.saturating_sub(1 << 16) as u32,
            ..Default::default()
        })
    }

    fn report(&self, now: Instant) -> StreamReport {
        let seen = self.pictures.seen();
        let mut violations = self.violations.counts();
        violations.extend(seen.violations.counts());
        let second = now.checked_sub(Duration::from_secs(1));
        let is_recent = |at: Instant| second.is_none_or(|second| at >= second);
        let recent: Vec<_> = self
            .recent_packets
            .iter()
            .filter(|(at, _)| is_recent(*at))
            .collect();
        let video = (self.kind == Kind::Video).then(|| VideoReport {
            broken: self.assembler.broken,
            decoded: seen.decoded,
            width: seen.size.0,
            height: seen.size.1,
            size_changes: seen.size_changes,
            numbered: seen.numbered,
            last_number: seen.last.map(|(code, _)| code.number.into()),
            numbers_missed: seen.numbers_missed,
            fps: self
                .recent_frames
                .iter()
                .filter(|at| is_recent(**at))
                .count() as f32,
            kbps: (recent.iter().map(|(_, bytes)| bytes).sum::<usize>() * 8 / 1000) as u32,
            ..self.video.clone()
        });
        let audio = (self.kind == Kind::Audio).then(|| AudioReport {
            longest_gap_ms: self.longest_gap.as_millis() as u64,
            packets_per_second: recent.len() as f32,
            ..self.audio.clone()
        });
        StreamReport {
            user_id: self.owner.user_id.clone(),
            device_id: self.owner.device_id.clone(),
            purpose: self.owner.purpose.clone(),
            stream_id: self.track.0.clone(),
            track_id: self.track.1.clone(),
            kind: self.kind,
            mid: self.allowed.mid.clone(),
            live: self.live(),
            ssrc: self.ssrc.unwrap_or(0),
            packets: self.packets,
            bytes: self.bytes,
            lost: self.sequence.lost,
            reordered: self.sequence.reordered,
            duplicates: self.sequence.duplicates,
            longest_packet_gap_ms: self.longest_gap.as_millis() as u64,
            violations,
            video,
            audio,
        }
    }
}

/// Keeps the entries of the last second.
fn remember<T>(queue: &mut VecDeque<T>, entry: T, at: impl Fn(&T) -> Instant, now: Instant) {
    queue.push_back(entry);
    while queue
        .front()
        .is_some_and(|first| now.saturating_duration_since(at(first)) > Duration::from_secs(1))
    {
        queue.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::{Publisher, SendParameters, Ssrcs};
    use crate::sdp::ExtensionIds;

    const OFFER: &str = "v=0\r\na=ice-ufrag:x\r\na=ice-pwd:y\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:3\r\na=sendonly\r\na=msid:s v\r\na=rtpmap:96 VP8/90000\r\na=ssrc:4 cname:x\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:4\r\na=sendonly\r\na=msid:s a\r\na=rtpmap:111 opus/48000/2\r\na=ssrc:1 cname:x\r\n";

    /// A focus that forwards the lowest layer and the sound untouched, without header extensions.
    fn forward(
        seconds: u64,
        mut change: impl FnMut(&mut Packet) -> bool,
    ) -> (Vec<StreamReport>, Vec<Feedback>) {
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
        let mut receiver = Receiver::new(DecodeThread::start(), Clips::committed(), 9, start);
        receiver.apply(&Remote::parse(OFFER).unwrap());
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
        (receiver.report(now), feedback)
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
            receiver.report(now)[0].violations.len()
        };
        assert_eq!(handle(offer("sendonly", "ssrc:4"), 4), 0);
        // The last packets of the old one may come after the description that ends it.
        assert_eq!(handle(offer("inactive", "x:4"), 4), 0);
        assert_eq!(handle(offer("sendonly", "ssrc:5"), 5), 0);
        assert_eq!(handle(offer("sendonly", "ssrc:6"), 6), 1);
    }

    #[test]
    fn packets_of_an_unknown_ssrc_are_counted_and_change_nothing() {
        let mut receiver =
            Receiver::new(DecodeThread::start(), Clips::committed(), 9, Instant::now());
        receiver.handle_rtp(&Packet::default(), Instant::now());
        assert_eq!(
            (
                receiver.unbound_packets(),
                receiver.report(Instant::now()).len()
            ),
            (1, 0)
        );
    }
}
