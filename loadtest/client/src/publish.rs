//! The sending side, without I/O: which packet is due when, and what a NACK or a picture loss indication changes.
//!
//! The clip's frame number follows the clock, in every layer alike, muted or not; RTP time follows the frame number. So a
//! receiver may hold any two pictures of one track against each other by number and by time.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rtp::header::Header;
use rtp::packet::Packet;

use crate::clips::{CLIP_FRAMES, Clips, Layer, is_keyframe};
use crate::encryption::MediaKeys;
use crate::health::{HEALTH, Late};
use crate::histogram::Histogram;
use crate::participant::{Camera, LayerRate};
use crate::report::{Kind, SentReport};
use crate::schedule::Announced;
use crate::sdp::ExtensionIds;
use crate::vp8::Payloader;

/// More would need fragments once SRTP, UDP and IPv6 headers are added to a 1280 byte path.
const PAYLOAD_BYTES_MAX: usize = 1150;
/// One second of the highest layer is under 200 packets; twice that answers every NACK that still helps.
const HISTORY_PACKETS: usize = 400;
/// The first packets of a stream carry mid and rid, as browsers do until they know that they are understood.
const NAMED_PACKETS: u64 = 100;
/// When late (a busy machine), frames go out this fast until the clock is caught up: at most three times the normal rate.
const CATCH_UP: Duration = Duration::from_millis(11);

/// What the answer negotiated for one m-line that the participant sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendParameters {
    /// The m-line.
    pub mid: String,
    /// VP8 or Opus.
    pub payload_type: u8,
    /// Header extensions that the focus accepted.
    pub extensions: ExtensionIds,
}

/// SSRCs, fixed for the life of a call; the layers in the order of [`Clips::layers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ssrcs {
    /// The microphone.
    pub audio: u32,
    /// The simulcast layers.
    pub layers: [u32; 3],
}

impl Ssrcs {
    /// Random ones, all different.
    pub fn random() -> Ssrcs {
        Ssrcs::from_rng(&mut rand::rng())
    }

    pub(crate) fn from_rng(rng: &mut impl rand::Rng) -> Ssrcs {
        let base = rng.random::<u32>() & 0x7fff_ff00;
        Ssrcs {
            audio: base | 1,
            layers: [base | 2, base | 3, base | 4],
        }
    }
}

/// Sends the clips.
#[derive(Debug)]
pub struct Publisher {
    video: Option<Video>,
    audio: Option<Audio>,
    /// Transport-wide sequence number of the next packet (shared by all streams of the transport).
    transport_sequence: u16,
    /// Packets to go out before anything new: the rest of a frame, retransmissions.
    ready: VecDeque<Packet>,
    start: Instant,
    announced: Option<Announced>,
    keys: Option<MediaKeys>,
}

impl Publisher {
    /// Starts at the clip's first frame, in all layers as they are, with random first numbers; an absent kind is not sent.
    pub fn new(
        clips: Clips,
        ssrcs: Ssrcs,
        video: Option<SendParameters>,
        audio: Option<SendParameters>,
        now: Instant,
    ) -> Publisher {
        let rates = Camera::THREE_LAYERS;
        let video = video.map(|parameters| (parameters, rates));
        Publisher::from_rng(&mut rand::rng(), clips, ssrcs, video, audio, now)
    }

    /// The same with some of the layers, larger than they are, and with first numbers that follow from the random numbers.
    pub fn from_rng(
        rng: &mut impl rand::Rng,
        clips: Clips,
        ssrcs: Ssrcs,
        video: Option<(SendParameters, Camera)>,
        audio: Option<SendParameters>,
        now: Instant,
    ) -> Publisher {
        Publisher {
            video: video.map(|(parameters, camera)| {
                let layers = clips.layers.iter().zip(camera.layers);
                // One layer alone has the first SSRC, which its offer names.
                let sent = layers.filter_map(|(layer, rate)| rate.map(|rate| (layer, rate)));
                let layers = sent.zip(ssrcs.layers);
                Video {
                    parameters,
                    layers: layers
                        .map(|((layer, rate), ssrc)| LayerSender::new(rng, layer, rate, ssrc))
                        .collect(),
                    frame: 0,
                    due: now,
                    timestamp_base: rng.random(),
                    muted: false,
                }
            }),
            audio: audio.map(|parameters| Audio {
                parameters,
                clips: clips.clone(),
                packet: 0,
                due: now,
                timestamp_base: rng.random(),
                muted: false,
                talk_spurt: true,
                stream: Stream::new(Kind::Audio, None, ssrcs.audio, rng.random()),
            }),
            transport_sequence: rng.random(),
            ready: VecDeque::new(),
            start: now,
            announced: None,
            keys: None,
        }
    }

    /// Lets receivers in this process know the schedule, by the names under which they know the publisher: they measure exact
    /// one-way delays then.
    pub fn announce(&mut self, user_id: &str, device_id: &str) {
        self.announced = Some(Announced::new(user_id, device_id, self.start));
    }

    /// Encrypts every frame from here on, before it is cut into packets.
    pub fn encrypt_with(&mut self, keys: MediaKeys) {
        self.keys = Some(keys);
    }

    /// The next packet that is due, until `None`.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Packet> {
        if self.ready.is_empty() {
            if let Some(audio) = self.audio.as_mut().filter(|audio| audio.due <= now) {
                let planned = planned(self.start, audio.packet, 50);
                if audio.emit(self.keys.as_ref(), &mut self.ready) {
                    let late = now.saturating_duration_since(planned);
                    HEALTH.late(Late::Send, late);
                    audio.stream.report.late.record(late);
                }
                audio.due = next_due(self.start, audio.packet, 50, now);
            }
            if let Some(video) = self.video.as_mut().filter(|video| video.due <= now) {
                let planned = planned(self.start, video.frame, 30);
                if video.emit(self.keys.as_ref(), &mut self.ready) {
                    let late = now.saturating_duration_since(planned);
                    HEALTH.late(Late::Send, late);
                    let layers = video.layers.iter_mut();
                    layers.for_each(|layer| layer.stream.report.late.record(late));
                }
                video.due = next_due(self.start, video.frame, 30, now);
            }
        }
        let mut packet = self.ready.pop_front()?;
        self.number(&mut packet.header);
        Some(packet)
    }

    /// When [`poll_packet`](Self::poll_packet) has something again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let (video, audio) = (
            self.video.as_ref().map(|v| v.due),
            self.audio.as_ref().map(|a| a.due),
        );
        video.into_iter().chain(audio).min()
    }

    /// Repeats the packets that are still in the history.
    pub fn handle_nack(&mut self, ssrc: u32, numbers: &[u16]) {
        let Some(stream) =
            streams(&mut self.video, &mut self.audio).find(|stream| stream.ssrc == ssrc)
        else {
            return;
        };
        for number in numbers {
            let Some(packet) = stream
                .history
                .iter()
                .find(|packet| packet.header.sequence_number == *number)
            else {
                continue;
            };
            stream.report.retransmitted += 1;
            self.ready.push_back(packet.clone());
        }
    }

    /// Sends a keyframe of that layer as soon as the clip has one (at most ten frames later).
    pub fn handle_pli(&mut self, ssrc: u32) {
        let Some(video) = &mut self.video else { return };
        for layer in video
            .layers
            .iter_mut()
            .filter(|layer| layer.stream.ssrc == ssrc)
        {
            layer.stream.report.plis += 1;
            layer.keyframe_wanted = true;
        }
    }

    /// Stops or resumes one kind; the clip goes on meanwhile, and video resumes with a keyframe.
    pub fn set_muted(&mut self, kind: Kind, muted: bool) {
        match (kind, &mut self.video, &mut self.audio) {
            (Kind::Video, Some(video), _) => {
                video.muted = muted;
                video
                    .layers
                    .iter_mut()
                    .for_each(|layer| layer.chain = Chain::Paused);
            }
            (Kind::Audio, _, Some(audio)) => (audio.muted, audio.talk_spurt) = (muted, true),
            _ => {}
        }
    }

    /// One sender report for each stream that has sent something.
    pub fn sender_reports(&self, now: Instant) -> Vec<rtcp::sender_report::SenderReport> {
        let elapsed = now.saturating_duration_since(self.start);
        let ntp_time = ntp_now();
        let report = |stream: &Stream, base: u32, rate: u64| {
            let ticks = (elapsed.as_nanos() as u64 / 1000).wrapping_mul(rate) / 1_000_000;
            rtcp::sender_report::SenderReport {
                ssrc: stream.ssrc,
                ntp_time,
                rtp_time: base.wrapping_add(ticks as u32),
                packet_count: stream.report.packets as u32,
                octet_count: stream.report.bytes as u32,
                ..Default::default()
            }
        };
        let audio = self
            .audio
            .iter()
            .map(|audio| report(&audio.stream, audio.timestamp_base, 48_000));
        let video = self.video.iter().flat_map(|video| {
            video
                .layers
                .iter()
                .map(|layer| report(&layer.stream, video.timestamp_base, 90_000))
        });
        audio
            .chain(video)
            .filter(|report| report.packet_count > 0)
            .collect()
    }

    /// What was sent so far.
    pub fn sent(&self) -> Vec<SentReport> {
        let audio = self.audio.iter().map(|audio| audio.stream.report.clone());
        let video = self
            .video
            .iter()
            .flat_map(|video| video.layers.iter().map(|layer| layer.stream.report.clone()));
        audio.chain(video).collect()
    }

    /// Gives a packet its transport-wide number, which is new for a retransmission too.
    fn number(&mut self, header: &mut Header) {
        let parameters = [
            self.video.as_ref().map(|v| &v.parameters),
            self.audio.as_ref().map(|a| &a.parameters),
        ];
        let same = parameters
            .into_iter()
            .flatten()
            .find(|p| p.payload_type == header.payload_type);
        if let Some(id) = same.and_then(|parameters| parameters.extensions.transport_cc) {
            set_extension(
                header,
                id,
                Bytes::copy_from_slice(&self.transport_sequence.to_be_bytes()),
            );
            self.transport_sequence = self.transport_sequence.wrapping_add(1);
        }
    }
}

/// Which of a layer's two encodings is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chain {
    Rare,
    Often,
    /// Nothing up to the next keyframe of either.
    Paused,
}

#[derive(Debug)]
struct Video {
    parameters: SendParameters,
    layers: Vec<LayerSender>,
    /// Counted from the start without wrapping.
    frame: u64,
    due: Instant,
    timestamp_base: u32,
    muted: bool,
}

#[derive(Debug)]
struct LayerSender {
    layer: Layer,
    chain: Chain,
    keyframe_wanted: bool,
    payloader: Payloader,
    stream: Stream,
    rate: LayerRate,
    /// Bytes that the rate allows more than were sent.
    spare_bytes: i64,
}

impl Video {
    /// False if nothing was due because it is muted.
    fn emit(&mut self, keys: Option<&MediaKeys>, ready: &mut VecDeque<Packet>) -> bool {
        let number = (self.frame % u64::from(CLIP_FRAMES)) as usize;
        let timestamp = self
            .timestamp_base
            .wrapping_add((self.frame as u32).wrapping_mul(3000));
        self.frame += 1;
        if self.muted {
            return false;
        }
        for sender in &mut self.layers {
            let Some(frame) = sender.frame(number) else {
                continue;
            };
            let frame = sender.filled(frame);
            let Some(frame) = encrypted(keys, Kind::Video, frame) else {
                continue;
            };
            let payloads = sender.payloader.packetize(&frame);
            let last = payloads.len() - 1;
            for (index, payload) in payloads.into_iter().enumerate() {
                let mut header = sender.stream.header(&self.parameters, timestamp);
                header.marker = index == last;
                ready.push_back(sender.stream.record(Packet { header, payload }));
            }
        }
        true
    }
}

impl LayerSender {
    fn new(rng: &mut impl rand::Rng, layer: &Layer, rate: LayerRate, ssrc: u32) -> LayerSender {
        let (picture_id, tl0_index, key_index) = (rng.random(), rng.random(), rng.random());
        LayerSender {
            layer: layer.clone(),
            chain: Chain::Rare,
            keyframe_wanted: false,
            payloader: Payloader::new(picture_id, tl0_index, key_index, PAYLOAD_BYTES_MAX),
            stream: Stream::new(Kind::Video, Some(layer.rid), ssrc, rng.random()),
            rate,
            spare_bytes: 0,
        }
    }

    /// The frame with what is missing to the rate behind it. A VP8 frame's last partition ends where the frame does, and its decoder
    /// stops when the picture is complete, so nobody looks at the rest.
    fn filled(&mut self, frame: Bytes) -> Bytes {
        if self.rate.kbps == 0 {
            return frame;
        }
        self.spare_bytes += i64::from(self.rate.kbps) * 1000 / 8 / 30 - frame.len() as i64;
        let Ok(fill @ 1..) = usize::try_from(self.spare_bytes) else {
            return frame;
        };
        self.spare_bytes = 0;
        let mut filled = Vec::with_capacity(frame.len() + fill);
        filled.extend_from_slice(&frame);
        filled.resize(frame.len() + fill, 0);
        filled.into()
    }

    /// Frame `number` from the chain that is due, after a change of chain at a keyframe.
    fn frame(&mut self, number: usize) -> Option<Bytes> {
        if is_keyframe(&self.layer.rare[number]) {
            (self.chain, self.keyframe_wanted) = (Chain::Rare, false);
        } else if (self.keyframe_wanted || self.chain == Chain::Paused)
            && is_keyframe(&self.layer.often[number])
        {
            (self.chain, self.keyframe_wanted) = (Chain::Often, false);
        }
        match self.chain {
            Chain::Rare => Some(self.layer.rare[number].clone()),
            Chain::Often => Some(self.layer.often[number].clone()),
            Chain::Paused => None,
        }
    }
}

#[derive(Debug)]
struct Audio {
    parameters: SendParameters,
    clips: Clips,
    packet: u64,
    due: Instant,
    timestamp_base: u32,
    muted: bool,
    /// The next packet is the first after a silence (marker bit, RFC 3551 §4.1).
    talk_spurt: bool,
    stream: Stream,
}

impl Audio {
    /// False if nothing was due because it is muted.
    fn emit(&mut self, keys: Option<&MediaKeys>, ready: &mut VecDeque<Packet>) -> bool {
        let index = (self.packet % self.clips.audio.len() as u64) as usize;
        let timestamp = self
            .timestamp_base
            .wrapping_add((self.packet as u32).wrapping_mul(960));
        self.packet += 1;
        if self.muted {
            return false;
        }
        let clip = &self.clips.audio[index];
        let Some(payload) = encrypted(keys, Kind::Audio, clip.payload.clone()) else {
            return false;
        };
        let mut header = self.stream.header(&self.parameters, timestamp);
        header.marker = std::mem::take(&mut self.talk_spurt);
        if let Some(id) = self.parameters.extensions.audio_level {
            // The V bit says voice; the hum below it does not count as one.
            let voice = if clip.level < 40 { 0x80 } else { 0 };
            set_extension(
                &mut header,
                id,
                Bytes::copy_from_slice(&[voice | clip.level]),
            );
        }
        ready.push_back(self.stream.record(Packet { header, payload }));
        true
    }
}

/// One SSRC.
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    sequence: u16,
    history: VecDeque<Packet>,
    report: SentReport,
}

impl Stream {
    fn new(kind: Kind, rid: Option<&str>, ssrc: u32, sequence: u16) -> Stream {
        let rid = rid.map(str::to_owned);
        let report = SentReport {
            kind,
            rid,
            ssrc,
            packets: 0,
            bytes: 0,
            retransmitted: 0,
            plis: 0,
            late: Histogram::default(),
        };
        Stream {
            ssrc,
            sequence,
            history: VecDeque::new(),
            report,
        }
    }

    fn header(&mut self, parameters: &SendParameters, timestamp: u32) -> Header {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = Header {
            version: 2,
            payload_type: parameters.payload_type,
            sequence_number: self.sequence,
            timestamp,
            ssrc: self.ssrc,
            ..Header::default()
        };
        if self.report.packets < NAMED_PACKETS {
            if let Some(id) = parameters.extensions.mid {
                set_extension(
                    &mut header,
                    id,
                    Bytes::copy_from_slice(parameters.mid.as_bytes()),
                );
            }
            if let (Some(id), Some(rid)) = (parameters.extensions.rid, &self.report.rid) {
                set_extension(&mut header, id, Bytes::copy_from_slice(rid.as_bytes()));
            }
        }
        header
    }

    fn record(&mut self, packet: Packet) -> Packet {
        self.report.packets += 1;
        self.report.bytes += packet.payload.len() as u64;
        self.history.push_back(packet.clone());
        if self.history.len() > HISTORY_PACKETS {
            self.history.pop_front();
        }
        packet
    }
}

/// The frame as it goes out; `None` when it cannot be encrypted any more.
fn encrypted(keys: Option<&MediaKeys>, kind: Kind, frame: Bytes) -> Option<Bytes> {
    match keys {
        Some(keys) => keys.encrypt(kind, &frame),
        None => Some(frame),
    }
}

fn streams<'a>(
    video: &'a mut Option<Video>,
    audio: &'a mut Option<Audio>,
) -> impl Iterator<Item = &'a mut Stream> {
    let layers = video
        .iter_mut()
        .flat_map(|video| video.layers.iter_mut().map(|layer| &mut layer.stream));
    audio
        .iter_mut()
        .map(|audio| &mut audio.stream)
        .chain(layers)
}

/// The extension ids of an offer are at most 14, so the one-byte form (RFC 8285 §4.2) always does.
fn set_extension(header: &mut Header, id: u8, payload: Bytes) {
    header.extension = true;
    header.extension_profile = 0xbede;
    header.extensions.retain(|extension| extension.id != id);
    header
        .extensions
        .push(rtp::header::Extension { id, payload });
}

fn planned(start: Instant, index: u64, per_second: u64) -> Instant {
    start + Duration::from_nanos(index * 1_000_000_000 / per_second)
}

fn next_due(start: Instant, index: u64, per_second: u64, now: Instant) -> Instant {
    planned(start, index, per_second)
        .max(now + CATCH_UP.min(Duration::from_secs(1) / (3 * per_second as u32)))
}

/// Seconds since 1900 in 32.32 fixed point (RFC 3550 §4).
fn ntp_now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    ((since.as_secs() + 2_208_988_800) << 32) | fraction
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vp8::Descriptor;

    const EXTENSIONS: ExtensionIds = ExtensionIds {
        mid: Some(4),
        rid: Some(10),
        transport_cc: Some(3),
        audio_level: Some(1),
    };
    const SSRCS: Ssrcs = Ssrcs {
        audio: 1,
        layers: [2, 3, 4],
    };

    fn publisher(now: Instant) -> Publisher {
        let parameters = |mid: &str, payload_type| {
            Some(SendParameters {
                mid: mid.into(),
                payload_type,
                extensions: EXTENSIONS,
            })
        };
        Publisher::new(
            Clips::committed(),
            SSRCS,
            parameters("1", 96),
            parameters("0", 111),
            now,
        )
    }

    /// Everything that is sent in `seconds`, with its time.
    fn run(publisher: &mut Publisher, from: Instant, seconds: f64) -> Vec<(Instant, Packet)> {
        let (end, mut now, mut out) = (from + Duration::from_secs_f64(seconds), from, Vec::new());
        while now < end {
            out.extend(
                std::iter::from_fn(|| publisher.poll_packet(now)).map(|packet| (now, packet)),
            );
            now = publisher.poll_timeout().unwrap();
        }
        out
    }

    fn of(packets: &[(Instant, Packet)], ssrc: u32) -> Vec<&Packet> {
        packets
            .iter()
            .map(|(_, packet)| packet)
            .filter(|packet| packet.header.ssrc == ssrc)
            .collect()
    }

    fn keyframes(packets: &[&Packet]) -> Vec<u32> {
        let key = |packet: &&&Packet| {
            let (descriptor, rest) = Descriptor::parse(&packet.payload).unwrap();
            descriptor.start_of_partition && is_keyframe(rest)
        };
        packets
            .iter()
            .filter(key)
            .map(|packet| packet.header.timestamp)
            .collect()
    }

    #[test]
    fn sends_thirty_frames_in_three_layers_and_fifty_audio_packets_a_second() {
        let now = Instant::now();
        let packets = run(&mut publisher(now), now, 2.0);
        assert_eq!(of(&packets, 1).len(), 100);
        for ssrc in SSRCS.layers {
            let stream = of(&packets, ssrc);
            assert_eq!(
                stream.iter().filter(|packet| packet.header.marker).count(),
                60,
                "ssrc {ssrc}"
            );
            for pair in stream.windows(2) {
                assert_eq!(
                    pair[1].header.sequence_number,
                    pair[0].header.sequence_number.wrapping_add(1)
                );
            }
        }
        let numbers = packets
            .iter()
            .map(|(_, packet)| packet.header.get_extension(3).unwrap());
        let numbers: Vec<_> = numbers
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
            .collect();
        assert!(
            numbers
                .windows(2)
                .all(|pair| pair[1] == pair[0].wrapping_add(1)),
            "one transport-wide sequence"
        );
    }

    #[test]
    fn names_its_first_packets_by_mid_and_rid() {
        let now = Instant::now();
        let packets = run(&mut publisher(now), now, 5.0);
        for (ssrc, rid) in [(2, "f"), (3, "h"), (4, "q")] {
            let stream = of(&packets, ssrc);
            assert_eq!(
                stream[0].header.get_extension(10).as_deref(),
                Some(rid.as_bytes())
            );
            assert_eq!(
                stream[99].header.get_extension(4).as_deref(),
                Some(b"1".as_slice())
            );
            assert_eq!(stream[100].header.get_extension(4), None);
        }
        assert_eq!(
            of(&packets, 1)[0].header.get_extension(4).as_deref(),
            Some(b"0".as_slice())
        );
        assert_eq!(of(&packets, 1)[0].header.get_extension(10), None);
    }

    #[test]
    fn a_keyframe_comes_when_it_is_asked_for_and_only_in_that_layer() {
        let now = Instant::now();
        let mut publisher = publisher(now);
        let before = run(&mut publisher, now, 1.05);
        assert_eq!(keyframes(&of(&before, 4)).len(), 1);
        publisher.handle_pli(4);
        let after = run(&mut publisher, now + Duration::from_secs_f64(1.05), 0.45);
        assert_eq!(keyframes(&of(&after, 4)).len(), 1);
        assert_eq!(keyframes(&of(&after, 3)).len(), 0);
        assert_eq!(publisher.sent()[3].plis, 1);
    }

    #[test]
    fn a_nack_repeats_the_packet_with_a_new_transport_wide_number() {
        let now = Instant::now();
        let mut publisher = publisher(now);
        let packets = run(&mut publisher, now, 0.2);
        let lost = of(&packets, 2)[3].clone();
        publisher.handle_nack(
            2,
            &[
                lost.header.sequence_number,
                lost.header.sequence_number.wrapping_sub(2000),
            ],
        );
        let again = publisher.poll_packet(now).unwrap();
        assert_eq!(
            (again.header.sequence_number, &again.payload),
            (lost.header.sequence_number, &lost.payload)
        );
        assert_ne!(again.header.get_extension(3), lost.header.get_extension(3));
        assert_eq!(publisher.sent()[1].retransmitted, 1);
    }

    #[test]
    fn a_layer_is_filled_up_to_its_rate_and_still_decodes_to_the_same_pictures() {
        let now = Instant::now();
        let parameters = SendParameters {
            mid: "1".into(),
            payload_type: 96,
            extensions: EXTENSIONS,
        };
        let camera = Camera {
            layers: [None, Some(LayerRate { kbps: 900 }), None],
        };
        let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(7);
        let clips = Clips::committed();
        let video = Some((parameters, camera));
        let mut publisher = Publisher::from_rng(&mut rng, clips, SSRCS, video, None, now);
        let packets = run(&mut publisher, now, 5.0);
        let bytes: usize = packets.iter().map(|(_, packet)| packet.payload.len()).sum();
        let kbps = bytes * 8 / 5000;
        assert!((880..=930).contains(&kbps), "{kbps} kb/s");
        let (mut decoder, mut frame, mut numbers) =
            (crate::decode::Decoder::new(), Vec::new(), Vec::new());
        for (_, packet) in &packets {
            assert_eq!(packet.header.ssrc, SSRCS.layers[0]);
            frame.extend_from_slice(Descriptor::parse(&packet.payload).unwrap().1);
            if packet.header.marker {
                let picture = decoder
                    .decode(&std::mem::take(&mut frame))
                    .unwrap()
                    .unwrap();
                let code = crate::pattern::read(&picture.planes[0], 640, 640, 360).unwrap();
                numbers.push(code.number);
            }
        }
        assert_eq!(numbers, (0..150).collect::<Vec<_>>());
    }

    #[test]
    fn says_how_late_it_is() {
        let now = Instant::now();
        let mut publisher = publisher(now);
        while publisher
            .poll_packet(now + Duration::from_millis(80))
            .is_some()
        {}
        for sent in publisher.sent() {
            assert_eq!((sent.late.count(), sent.late.max_ms()), (1, Some(80.0)));
        }
    }

    #[test]
    fn after_a_mute_the_numbers_have_gone_on_and_a_keyframe_comes_first() {
        let now = Instant::now();
        let mut publisher = publisher(now);
        let before = run(&mut publisher, now, 1.0);
        publisher.set_muted(Kind::Video, true);
        let muted = run(&mut publisher, now + Duration::from_secs(1), 1.0);
        assert_eq!(of(&muted, 2).len(), 0);
        publisher.set_muted(Kind::Video, false);
        let after = run(&mut publisher, now + Duration::from_secs(2), 1.0);
        let (before, after) = (of(&before, 2), of(&after, 2));
        assert_eq!(keyframes(&after)[0], after[0].header.timestamp);
        let gap = after[0]
            .header
            .timestamp
            .wrapping_sub(before.last().unwrap().header.timestamp);
        assert!(
            (90_000..=120_000).contains(&gap),
            "{gap} ticks of a 90 kHz clock"
        );
    }
}
