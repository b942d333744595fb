//! One received stream: what is checked of each packet and of each frame, and what is counted.

mod report;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rtp::packet::Packet;
use weir_sframe::{ParticipantId, Refused};

use super::Owner;
use super::delay::Delay;
use super::rtx::Rtx;
use crate::catalogue::Known;
use crate::checks::{Allowed, Arrival, Sequence, Timeline, Violations};
use crate::clips::{CLIP_FRAMES, Clips};
use crate::encryption::MediaKeys;
use crate::frames::{Assembler, Frame};
use crate::health::{HEALTH, Health};
use crate::participant::{Decode, DecodedFrames};
use crate::pictures::{DecodeThread, Pictures};
use crate::report::{AudioReport, Kind, SampleReport, UndecryptedReport, VideoReport, Violation};
use crate::vp8::Descriptor;

/// What all streams of a receiver share.
#[derive(Debug)]
pub(super) struct Environment {
    pub(super) decoder: DecodeThread,
    pub(super) clips: Clips,
    pub(super) decode: Decode,
    pub(super) keys: Option<MediaKeys>,
}

/// PLI if there is no keyframe this long after the first packet.
const PLI_FIRST: Duration = Duration::from_millis(200);
/// Both a NACK and ten PLIs have had no effect by then.
const REPAIRED_WITHIN: Duration = Duration::from_secs(5);
/// Three packets of 20 ms.
const AUDIO_GAP: Duration = Duration::from_millis(60);
/// Times between two packets of sound, in ticks of 48 kHz, that mean that something is missing. A focus that forwards only the loudest
/// leaves somebody out for 300 ms at least.
const AUDIO_HOLE: std::ops::Range<u32> = 3 * 960..48 * 250;

/// A packet whose number is this near, and whose time is within a second, goes on with the stream: by chance one in a billion does.
const CONTINUED_NUMBERS: u16 = 100;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) kind: Kind,
    pub(super) track: (String, String),
    owner: Owner,
    /// The owner, for whom keys are kept.
    sender: ParticipantId,
    locked: Locked,
    undecrypted: UndecryptedReport,
    /// The m-line is active.
    pub(super) active: bool,
    /// The metadata lists the track.
    pub(super) listed: bool,
    pub(super) allowed: Allowed,
    pub(super) pictures: Arc<Pictures>,
    pub(super) first_frame_at: Option<Instant>,
    ssrc: Option<u32>,
    sequence: Sequence,
    timeline: Timeline,
    rtx: Rtx,
    delay: Delay,
    /// The middle of the newest sender report's NTP time, and when it came.
    sender_reported: Option<(u32, Instant)>,
    violations: Violations,
    packets: u64,
    bytes: u64,
    first_packet_at: Option<Instant>,
    last_arrival: Option<Instant>,
    longest_gap: Duration,
    /// Arrival and size of the packets, and arrival of the frames, of the last second.
    recent_packets: VecDeque<(Instant, usize)>,
    recent_frames: VecDeque<Instant>,
    pub(super) video: VideoReport,
    audio: AudioReport,
    assembler: Assembler,
    decoded: Option<DecodedFrames>,
    /// Frames were left out before the decoder: it needs a keyframe.
    decoder_waits: bool,
    last_frame: Option<Instant>,
    last_known: Option<(Known, u32)>,
    last_audio: Option<LastAudio>,
    pli_next: Option<Instant>,
    broken_since: Option<Instant>,
    sample: Option<Sample>,
}

/// Whether frames can be read, and go on with those before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Locked {
    #[default]
    Open,
    /// The newest one could not be decrypted. A keyframe would be of no use.
    WithoutKey,
    /// The newest one was, and needs some that were not.
    WithoutKeyframe,
}

/// The newest audio packet.
#[derive(Debug, Clone, Copy)]
struct LastAudio {
    number: u64,
    timestamp: u32,
    recognised: bool,
}

/// What is known of a stream of which only a sample arrives.
#[derive(Debug, Default)]
struct Sample {
    report: SampleReport,
    first: Option<u64>,
    highest: Option<u64>,
}

impl Stream {
    pub(super) fn new(kind: Kind, track: (String, String), decode: Decode) -> Stream {
        static STREAMS: AtomicU32 = AtomicU32::new(0);
        let one_in = decode.one_stream_in;
        let chosen = kind == Kind::Video
            && one_in > 0
            && STREAMS
                .fetch_add(1, Ordering::Relaxed)
                .is_multiple_of(one_in);
        Stream {
            kind,
            track,
            owner: Owner::default(),
            sender: ParticipantId::default(),
            locked: Locked::default(),
            undecrypted: UndecryptedReport::default(),
            active: false,
            listed: true,
            allowed: Allowed::default(),
            pictures: Arc::new(Pictures::new(decode.frames)),
            first_frame_at: None,
            ssrc: None,
            sequence: Sequence::default(),
            timeline: Timeline::default(),
            rtx: Rtx::default(),
            delay: Delay::default(),
            sender_reported: None,
            violations: Violations::default(),
            packets: 0,
            bytes: 0,
            first_packet_at: None,
            last_arrival: None,
            longest_gap: Duration::ZERO,
            recent_packets: VecDeque::new(),
            recent_frames: VecDeque::new(),
            video: VideoReport::default(),
            audio: AudioReport::default(),
            assembler: Assembler::default(),
            decoded: chosen.then_some(decode.frames),
            decoder_waits: false,
            last_frame: None,
            last_known: None,
            last_audio: None,
            pli_next: None,
            broken_since: None,
            sample: None,
        }
    }

    /// The m-line sends again after a pause. What comes is measured from its own beginning, and if another SSRC was
    /// announced for it, it is a stream of its own. Gives the SSRC that ended then: its last packets may still be on their way.
    pub(super) fn resume(&mut self, announced: &[u32]) -> Option<u32> {
        (self.last_arrival, self.last_frame, self.last_audio) = (None, None, None);
        self.timeline = Timeline::default();
        let ended = |ssrc: &mut u32| !announced.is_empty() && !announced.contains(ssrc);
        let ended = self.ssrc.take_if(ended)?;
        self.restart();
        Some(ended)
    }

    /// By the metadata it is this one's track.
    pub(super) fn set_owner(&mut self, owner: Owner) {
        self.sender = ParticipantId::new(&owner.user_id, &owner.device_id);
        self.owner = owner;
    }

    /// From here on only a sample arrives.
    pub(super) fn sample(&mut self) {
        self.sample = Some(Sample::default());
        self.timeline = Timeline::default();
    }

    pub(super) fn live(&self) -> bool {
        self.active && self.listed
    }

    /// Whether the first of what it carries was seen whole.
    pub(super) fn has_started(&self) -> bool {
        match self.kind {
            // Those that could not be decrypted are among them.
            Kind::Audio => self.packets > self.undecrypted.frames,
            Kind::Video => self.video.frames > 0,
        }
    }

    pub(super) fn handle_sender_report(&mut self, ntp_time: u64, rtp_time: u32, now: Instant) {
        self.delay.handle_sender_report(ntp_time, rtp_time);
        // The middle of it, as receiver reports name it (RFC 3550 §6.4.1).
        self.sender_reported = Some(((ntp_time >> 16) as u32, now));
    }

    /// Takes a packet of the stream itself.
    pub(super) fn handle(&mut self, packet: &Packet, environment: &Environment, now: Instant) {
        self.violations.at(now);
        let header = &packet.header;
        if self.ssrc.is_none() {
            // The first keyframe may take a few packets; no need to ask for one meanwhile.
            self.pli_next = Some(now + PLI_FIRST);
        }
        self.first_packet_at.get_or_insert(now);
        let ssrc = *self.ssrc.get_or_insert(header.ssrc);
        if ssrc != header.ssrc {
            self.violations.add(Violation::SsrcChanged, || {
                format!("{} after {ssrc}", header.ssrc)
            });
            self.ssrc = Some(header.ssrc);
            if !self.is_continued_by(packet) {
                self.restart();
            }
        }
        self.packets += 1;
        self.bytes += packet.payload.len() as u64;
        self.allowed.check(packet, &mut self.violations);
        if self.sample.is_some() {
            self.handle_sampled(packet, &environment.clips, now);
            return;
        }
        let arrival = self.sequence.handle(packet, &mut self.violations, now);
        self.sort(arrival, packet, environment, now);
        self.assemble(environment, now);
    }

    /// Takes a packet of the stream's retransmissions.
    pub(super) fn handle_rtx(&mut self, packet: &Packet, environment: &Environment, now: Instant) {
        self.violations.at(now);
        let Some(ssrc) = self.ssrc.filter(|_| self.sample.is_none()) else {
            // Padding, or the repetition of what will be asked for anyway.
            return;
        };
        let repaired = self.rtx.handle(
            packet,
            ssrc,
            &self.allowed,
            &mut self.sequence,
            &mut self.violations,
            now,
        );
        if let Some((arrival, original)) = repaired {
            self.sort(arrival, &original, environment, now);
            self.assemble(environment, now);
        }
    }

    /// Gives up what does not come any more.
    pub(super) fn handle_timeout(&mut self, environment: &Environment, now: Instant) {
        if self.sample.is_some() {
            return;
        }
        self.violations.at(now);
        self.sequence.handle_timeout(now);
        self.assemble(environment, now);
        let flows = |at: Instant| now.saturating_duration_since(at) < Duration::from_secs(1);
        if !self.assembler.needs_keyframe() || !self.last_arrival.is_some_and(flows) {
            self.broken_since = None;
        } else if now.saturating_duration_since(*self.broken_since.get_or_insert(now))
            > REPAIRED_WITHIN
        {
            self.broken_since = Some(now);
            if self.kind == Kind::Video {
                self.violations.add(Violation::NotRepaired, || {
                    let seconds = REPAIRED_WITHIN.as_secs();
                    format!("no frame that can be decoded for {seconds} s, though packets arrive")
                });
            }
        }
    }

    /// Whether a packet goes on where the stream stands, whatever its SSRC.
    pub(super) fn is_continued_by(&self, packet: &Packet) -> bool {
        let header = &packet.header;
        let (Some(highest), Some(timestamp)) = (self.sequence.highest(), self.timeline.last())
        else {
            return false;
        };
        let numbers = header.sequence_number.wrapping_sub(highest as u16) as i16;
        let ticks = header.timestamp.wrapping_sub(timestamp) as i32;
        self.live()
            && self.allowed.payload_types.contains(&header.payload_type)
            && numbers.unsigned_abs() < CONTINUED_NUMBERS
            && ticks.unsigned_abs() < self.clock_rate()
    }

    fn restart(&mut self) {
        self.sequence.restart();
        self.assembler.restart();
        self.rtx.restart();
        (self.last_known, self.last_audio) = (None, None);
    }

    fn sort(&mut self, arrival: Arrival, packet: &Packet, environment: &Environment, now: Instant) {
        let header = &packet.header;
        let number = match arrival {
            Arrival::Newest(number) => {
                self.note_arrival(packet, now);
                let rate = self.clock_rate();
                self.timeline
                    .handle(header.timestamp, rate, &mut self.violations, now);
                number
            }
            Arrival::Late(number) => number,
            Arrival::Duplicate => return,
        };
        match self.kind {
            // Padding-only packets (probes) carry no frame.
            Kind::Video if packet.payload.is_empty() => self.assembler.handle_padding(number),
            Kind::Video => self.assembler.handle(
                number,
                header.timestamp,
                header.marker,
                packet.payload.clone(),
                now,
            ),
            Kind::Audio => self.handle_audio(number, packet, environment, now),
        }
    }

    fn clock_rate(&self) -> u32 {
        match self.kind {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        }
    }

    fn note_arrival(&mut self, packet: &Packet, now: Instant) {
        if let Some(last) = self.last_arrival.replace(now) {
            let gap = now.saturating_duration_since(last);
            self.longest_gap = self.longest_gap.max(gap);
            self.audio.gaps += u64::from(gap > AUDIO_GAP && self.kind == Kind::Audio);
        }
        let entry = (now, packet.payload.len());
        remember(&mut self.recent_packets, entry, |entry| entry.0, now);
    }

    fn handle_audio(
        &mut self,
        number: u64,
        packet: &Packet,
        environment: &Environment,
        now: Instant,
    ) {
        let header = &packet.header;
        let has_level = header.extensions.iter().any(|of| of.payload.len() == 1);
        self.audio.levels += u64::from(has_level);
        let keys = environment.keys.as_ref();
        let decrypted = keys.map(|keys| {
            let decrypted = self.decrypt(keys, &packet.payload, now);
            decrypted.unwrap_or_default()
        });
        let payload = decrypted.as_deref().unwrap_or(&packet.payload);
        let numbers = environment.clips.catalogue().audio(payload);
        let recognised = !numbers.is_empty();
        self.audio.recognised += u64::from(recognised);
        // A payload that comes several times in the clip says less about when it was due.
        let known = match numbers {
            [only] => self.delay.scheduled(self.owner.names(), *only, 50, now),
            _ => false,
        };
        if !known {
            self.delay.reported(header.timestamp, 48_000, now);
        }
        let this = LastAudio {
            number,
            timestamp: header.timestamp,
            recognised,
        };
        let Some(last) = self.last_audio.filter(|last| last.number < number) else {
            self.last_audio = self.last_audio.or(Some(this));
            return;
        };
        self.last_audio = Some(this);
        let ticks = header.timestamp.wrapping_sub(last.timestamp);
        let next = number == last.number + 1 && last.recognised && recognised;
        if next && !header.marker && AUDIO_HOLE.contains(&ticks) {
            self.violations.add(Violation::AudioGap, || {
                let ms = ticks / 48;
                format!("{ms} ms from number {} to the next one", last.number as u16)
            });
        }
    }

    /// One packet of many: its number tells how many there were.
    fn handle_sampled(&mut self, packet: &Packet, clips: &Clips, now: Instant) {
        let Some(sample) = &mut self.sample else {
            return;
        };
        let header = &packet.header;
        let number = header.sequence_number;
        let highest = sample.highest.unwrap_or((1 << 16) | u64::from(number));
        let distance = number.wrapping_sub(highest as u16) as i16;
        let extended = highest.wrapping_add_signed(distance.into());
        sample.highest = Some(highest.max(extended));
        let first = *sample.first.get_or_insert(extended);
        sample.report.packets += 1;
        sample.report.expected = highest.max(extended).saturating_sub(first) + 1;
        if extended < highest {
            return;
        }
        let rate = self.clock_rate();
        self.timeline
            .handle(header.timestamp, rate, &mut self.violations, now);
        let known = match self.kind {
            Kind::Audio => match clips.catalogue().audio(&packet.payload) {
                [only] => Some((*only, 50)),
                _ => None,
            },
            Kind::Video => first_bytes(packet)
                .and_then(|start| clips.catalogue().frame(start))
                .map(|known| (known.number, 30)),
        };
        let names = self.owner.names();
        let scheduled = known.is_some_and(|(number, per_second)| {
            self.delay.scheduled(names, number, per_second, now)
        });
        if !scheduled {
            self.delay.reported(header.timestamp, rate, now);
        }
    }

    fn assemble(&mut self, environment: &Environment, now: Instant) {
        while let Some(mut frame) = self.assembler.poll(&mut self.violations, now) {
            let keys = environment.keys.as_ref();
            if keys.is_some_and(|keys| !self.open(keys, &mut frame, now)) {
                continue;
            }
            self.video.frames += 1;
            self.first_frame_at.get_or_insert(now);
            self.video.keyframes += u64::from(frame.keyframe);
            if let Some(last) = self.last_frame.replace(now) {
                let gap = now.saturating_duration_since(last).as_millis() as u64;
                self.video.longest_gap_ms = self.video.longest_gap_ms.max(gap);
            }
            remember(&mut self.recent_frames, now, |at| *at, now);
            self.recognise(&frame, &environment.clips, now);
            self.decode(frame, &environment.decoder);
        }
        for number in self.assembler.take_unused() {
            self.sequence.never_sent(number);
        }
    }

    /// Decrypts a frame; false if it is of no use.
    fn open(&mut self, keys: &MediaKeys, frame: &mut Frame, now: Instant) -> bool {
        let Some(data) = self.decrypt(keys, &frame.data, now) else {
            self.locked = Locked::WithoutKey;
            return false;
        };
        frame.data = data;
        if self.locked != Locked::Open && !frame.keyframe {
            // It needs frames that could not be read.
            self.locked = Locked::WithoutKeyframe;
            self.video.broken += 1;
            return false;
        }
        frame.after_loss |= std::mem::take(&mut self.locked) != Locked::Open;
        true
    }

    /// A frame or a packet of sound as it was before its encryption.
    fn decrypt(&mut self, keys: &MediaKeys, frame: &[u8], now: Instant) -> Option<Vec<u8>> {
        let refused = match keys.decrypt(&self.sender, self.kind, frame, now) {
            Ok(decrypted) => return Some(decrypted),
            Err(refused) => refused,
        };
        let undecrypted = &mut self.undecrypted;
        undecrypted.last_at_ms = crate::clock::unix_ms_of(now);
        if undecrypted.frames == 0 {
            undecrypted.first_at_ms = undecrypted.last_at_ms;
        }
        undecrypted.frames += 1;
        match refused {
            // Who comes or goes has no key for what is on its way; who was away for long comes too late.
            Refused::UnknownSession => undecrypted.unknown_session += 1,
            Refused::BeforeKey => undecrypted.before_key += 1,
            Refused::TooLate => undecrypted.too_late += 1,
            Refused::Header(_)
            | Refused::CounterTooLarge
            | Refused::Replayed
            | Refused::WrongKey => {
                self.violations
                    .add(Violation::Undecryptable, || refused.to_string());
            }
        }
        None
    }

    /// What the bytes of a frame tell without decoding.
    fn recognise(&mut self, frame: &Frame, clips: &Clips, now: Instant) {
        let Some(known) = clips.catalogue().frame(&frame.data) else {
            self.delay.reported(frame.timestamp, 90_000, now);
            self.last_known = None;
            return;
        };
        if clips.catalogue().is_whole(&frame.data) {
            self.video.recognised += 1;
        } else {
            self.violations.add(Violation::ContentChanged, || {
                format!("frame {} of layer {}", known.number, known.layer)
            });
        }
        if !self
            .delay
            .scheduled(self.owner.names(), known.number, 30, now)
        {
            self.delay.reported(frame.timestamp, 90_000, now);
        }
        let Some((before, time)) = self.last_known.replace((known, frame.timestamp)) else {
            return;
        };
        let switched = before.layer != known.layer;
        self.video.switches += u64::from(switched);
        if !frame.keyframe && !known.continues(&before) {
            self.violations.add(Violation::SwitchWithoutKeyframe, || {
                let (from, to) = (before.layer, known.layer);
                format!(
                    "frame {} of layer {to} after {} of layer {from}",
                    known.number, before.number
                )
            });
        }
        let off = frames_off(
            known.number,
            before.number,
            frame.timestamp.wrapping_sub(time),
        );
        let tolerance = if switched || frame.after_loss { 2 } else { 0 };
        if off.abs() > tolerance {
            self.violations.add(Violation::NumberJump, || {
                format!(
                    "{} after {}, {off} frames more than time",
                    known.number, before.number
                )
            });
        }
    }

    fn decode(&mut self, mut frame: Frame, decoder: &DecodeThread) {
        let wanted = match self.decoded {
            None => false,
            Some(DecodedFrames::Keyframes) => frame.keyframe,
            Some(DecodedFrames::All) => frame.keyframe || !self.decoder_waits,
        };
        if !wanted {
            self.video.skipped += u64::from(self.decoder_waits);
            return;
        }
        frame.after_skip = self.decoder_waits;
        self.decoder_waits = decoder.send(&self.pictures, frame).is_err();
        if self.decoder_waits {
            // The generator is too slow, and no focus is to blame: decoding goes on at the next keyframe.
            self.video.skipped += 1;
            Health::count(&HEALTH.frames_not_decoded);
        }
    }
}

impl Owner {
    fn names(&self) -> (&str, &str) {
        (&self.user_id, &self.device_id)
    }
}

/// How many frames the number in the clip moved more than the time stamp did.
pub(crate) fn frames_off(number: u16, before: u16, ticks: u32) -> i64 {
    let turn = i64::from(CLIP_FRAMES);
    let moved = i64::from(number) - i64::from(before);
    let due = (i64::from(ticks as i32) + 1500).div_euclid(3000);
    (moved - due + turn / 2).rem_euclid(turn) - turn / 2
}

/// The first bytes of a frame, if the packet has them.
fn first_bytes(packet: &Packet) -> Option<&[u8]> {
    let (descriptor, rest) = Descriptor::parse(&packet.payload).ok()?;
    descriptor.begins_frame().then_some(rest)
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) <= Duration::from_secs(1)
}

/// Keeps the entries of the last second.
fn remember<T>(queue: &mut VecDeque<T>, entry: T, at: impl Fn(&T) -> Instant, now: Instant) {
    queue.push_back(entry);
    while queue
        .front()
        .is_some_and(|first| !is_recent(at(first), now))
    {
        queue.pop_front();
    }
}
