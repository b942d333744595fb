//! A participant's receiving side that behaves as Chromium's: transport-wide feedback, NACKs at once and again, RTX unwrapped,
//! frames put together, decoded when what they are made from is decoded, and shown when due; a keyframe asked for when nothing
//! can be decoded. It counts what a person would see.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::media::Identity;
use super::nack::{self, Came, Nacks};
use super::oracle::{Descriptor, read};
use super::vp8_order::{Frame, Order};
use super::wide::Wide;
use super::{MS, Received, Rng, SECOND};

/// The header extension id of transport-wide numbers at subscribers.
const WIDE_ID: u8 = 6;

/// Without a frame for this long, a keyframe is asked for.
const FRAME_WAIT: Duration = Duration::from_secs(3);
/// And again this often, or at the start.
const KEYFRAME_WAIT: Duration = Duration::from_millis(200);
/// A stream without packets for this long is not asked for anything.
const ACTIVE: Duration = Duration::from_secs(5);
/// How long frames wait so that late ones still come in order.
const PLAYOUT: Duration = Duration::from_millis(40);

/// What the browser wants to tell the focus.
#[derive(Clone, Debug)]
pub enum Say {
    Nack(u32, Vec<u16>),
    Pli(u32),
    /// The first number, and when each from there on arrived, in microseconds.
    Feedback(u16, Vec<Option<u64>>),
}

#[derive(Clone, Debug)]
pub struct Browser {
    /// Retransmission SSRC to media SSRC.
    pub rtx: BTreeMap<u32, u32>,
    pub pictures: BTreeMap<u32, Pictures>,
    pub sounds: BTreeMap<u32, Sound>,
    pub counts: Reports,
    wide: Wide,
    rng: Rng,
    /// Retransmissions without content.
    pub probes: u64,
    /// Whether arrivals are reported, and losses.
    pub feedback: bool,
    pub nacks: bool,
    pub takes_rtx: bool,
}

/// What is needed for receiver reports, by SSRC: first, highest, received, and the first two at the last report.
pub type Reports = BTreeMap<u32, Reception>;

#[derive(Clone, Copy, Debug, Default)]
pub struct Reception {
    pub first: u64,
    pub highest: u64,
    pub received: u64,
    pub reported: (u64, u64),
}

impl Reception {
    /// Of 256, since it was asked last (RFC 3550 §6.4.1).
    pub fn fraction_lost(&mut self) -> u8 {
        let (highest, received) =
            std::mem::replace(&mut self.reported, (self.highest, self.received));
        let before = if highest == 0 {
            self.first - 1
        } else {
            highest
        };
        let expected = self.highest - before;
        let lost = expected.saturating_sub(self.received - received);
        (lost * 256).checked_div(expected).unwrap_or(0).min(255) as u8
    }

    pub fn lost(&self) -> i32 {
        (self.highest + 1 - self.first) as i32 - self.received as i32
    }
}

impl Browser {
    pub fn new(seed: u64) -> Self {
        Self {
            rtx: BTreeMap::new(),
            pictures: BTreeMap::new(),
            sounds: BTreeMap::new(),
            counts: Reports::new(),
            wide: Wide::default(),
            rng: Rng::new(seed),
            probes: 0,
            feedback: true,
            nacks: true,
            takes_rtx: true,
        }
    }

    /// Takes a decrypted packet; returns it as the media packet that it is or wraps, if it is new, and what to say at once.
    pub fn receive(
        &mut self,
        packet: Received,
        since_start: Duration,
        now: Instant,
    ) -> (Option<Received>, Vec<Say>) {
        if let Some((_, number)) = packet.extensions.iter().find(|(id, _)| *id == WIDE_ID) {
            self.wide
                .record(u16::from_be_bytes([number[0], number[1]]), since_start);
        }
        if let Some(sound) = self.sounds.get_mut(&packet.ssrc) {
            sound.receive(&packet, now);
            count(&mut self.counts, &packet);
            return (Some(packet), Vec::new());
        }
        let (came, packet) = match self.rtx.get(&packet.ssrc) {
            Some(media) => (Came::Again, unwrap(packet, *media)),
            None => {
                count(&mut self.counts, &packet);
                (Came::Directly, Some(packet))
            }
        };
        let Some(packet) = packet else {
            self.probes += 1;
            return (None, Vec::new());
        };
        let Some(pictures) = self.pictures.get_mut(&packet.ssrc) else {
            return (Some(packet), Vec::new());
        };
        let (new, say) = pictures.receive(&packet, came, now);
        let say = if self.nacks { say } else { Vec::new() };
        (new.then_some(packet), say)
    }

    /// What is due by time alone. To be called every [`nack::INTERVAL`].
    pub fn due(&mut self, since_start: Duration, now: Instant) -> Vec<Say> {
        let mut say = Vec::new();
        if self.feedback {
            let pause = MS * (50 + self.rng.below(50) as u32);
            say.extend(
                self.wide
                    .due(pause, since_start)
                    .map(|(base, arrivals)| Say::Feedback(base, arrivals)),
            );
        }
        for (ssrc, pictures) in &mut self.pictures {
            let missing = pictures.nacks.due(now);
            if self.nacks && !missing.is_empty() {
                pictures.nacked += missing.len() as u64;
                say.push(Say::Nack(
                    *ssrc,
                    missing.iter().map(|seq| *seq as u16).collect(),
                ));
            }
            pictures.show(now);
            say.extend(pictures.keyframe_due(now).then_some(Say::Pli(*ssrc)));
        }
        say
    }
}

fn count(counts: &mut Reports, packet: &Received) {
    let first = 0x1_0000 + u64::from(packet.seq);
    let new = Reception {
        first,
        highest: first,
        ..Reception::default()
    };
    let of = counts.entry(packet.ssrc).or_insert(new);
    let step = packet.seq.wrapping_sub(of.highest as u16) as i16;
    of.highest = of.highest.max((of.highest as i64 + i64::from(step)) as u64);
    of.received += 1;
}

/// The packet in a retransmission (RFC 4588 §4); `None` for one that only probes.
fn unwrap(packet: Received, media: u32) -> Option<Received> {
    assert_eq!(
        packet.payload_type, 101,
        "the payload type of retransmissions"
    );
    let (number, payload) = packet.payload.split_first_chunk::<2>()?;
    Some(Received {
        ssrc: media,
        seq: u16::from_be_bytes(*number),
        payload_type: 100,
        payload: payload.to_vec(),
        sealed: Vec::new(),
        ..packet
    })
}

/// A packet that waits for the rest of its frame.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    timestamp: u32,
    marker: bool,
    content: Option<(Descriptor, Identity)>,
}

/// One frame on the screen.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    pub at: Instant,
    pub identity: Identity,
}

/// A video stream from its packets to the screen.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    pub shown: Vec<Shown>,
    pub nacks: Nacks,
    /// Numbers asked for, and how many packets came by RTX.
    pub nacked: u64,
    pub again: u64,
    pub duplicates: u64,
    pub plis: Vec<Instant>,
    /// Frames decoded although what they are made from was not: what a decoder shows as rubble.
    pub broken: Vec<Identity>,
    highest: Option<u64>,
    parts: BTreeMap<u64, Part>,
    order: Order,
    /// Decoded frames by source and number.
    truth: BTreeMap<(u32, u32), ()>,
    keyframe_required: Option<Instant>,
    last_packet: Option<Instant>,
    last_keyframe_packet: Option<Instant>,
    last_decoded: Option<Instant>,
    waits_since: Option<Instant>,
    /// The quickest way from capture to here, in milliseconds of RTP time and of arrival.
    quickest: Option<i64>,
    epoch: Option<Instant>,
    timestamps: Option<(u32, i64)>,
}

impl Pictures {
    fn nearest(&mut self, seq: u16) -> u64 {
        let highest = *self.highest.get_or_insert(0x1_0000 + u64::from(seq));
        let step = seq.wrapping_sub(highest as u16) as i16;
        (highest as i64 + i64::from(step)) as u64
    }

    /// Whether the packet is new, and what to say at once.
    fn receive(&mut self, packet: &Received, came: Came, now: Instant) -> (bool, Vec<Say>) {
        let seq = self.nearest(packet.seq);
        self.highest = self.highest.max(Some(seq));
        self.last_packet = Some(now);
        self.waits_since.get_or_insert(now);
        self.again += u64::from(came == Came::Again);
        let content = (!packet.payload.is_empty()).then(|| read(&packet.payload));
        let keyframe = content.is_some_and(|(_, identity)| identity.keyframe);
        if keyframe {
            self.last_keyframe_packet = Some(now);
        }
        let ask = self.nacks.received(seq, keyframe, came, now);
        let part = Part {
            timestamp: packet.timestamp,
            marker: packet.marker,
            content,
        };
        let before = self.parts.insert(seq, part);
        if let Some(before) = &before {
            assert_eq!(*before, self.parts[&seq], "one number, two contents");
            self.duplicates += 1;
        }
        while self.parts.len() > 2048 {
            self.parts.pop_first();
        }
        if let Some(frame) = self.complete(seq).filter(|_| before.is_none()) {
            self.order.insert(frame);
            self.show(now);
        }
        let say = match ask {
            Ok(missing) if missing.is_empty() => Vec::new(),
            Ok(missing) => {
                self.nacked += missing.len() as u64;
                vec![Say::Nack(
                    packet.ssrc,
                    missing.iter().map(|seq| *seq as u16).collect(),
                )]
            }
            Err(nack::KeyframeNeeded) => {
                self.plis.push(now);
                vec![Say::Pli(packet.ssrc)]
            }
        };
        (before.is_none(), say)
    }

    /// The frame that the packet with this number completes.
    fn complete(&self, seq: u64) -> Option<Frame> {
        let timestamp = self.parts[&seq].timestamp;
        let mut first = seq;
        let (descriptor, identity) = loop {
            let part = self
                .parts
                .get(&first)
                .filter(|part| part.timestamp == timestamp)?;
            let (descriptor, identity) = part.content?;
            if descriptor.start {
                break (descriptor, identity);
            }
            first -= 1;
        };
        let mut last = seq;
        while !self
            .parts
            .get(&last)
            .filter(|part| part.timestamp == timestamp)?
            .marker
        {
            last += 1;
        }
        Some(Frame {
            descriptor,
            identity,
            timestamp,
            last_seq: last,
        })
    }

    /// Decodes and shows what can be.
    fn show(&mut self, now: Instant) {
        while let Some((id, frame, follows)) = self.order.next() {
            let (timestamp, keyframe) = (frame.timestamp, frame.identity.keyframe);
            let due = self.due_at(timestamp, now);
            // A frame before it may still come; when its time is there, it goes without.
            if !follows && !keyframe && due > now {
                break;
            }
            let frame = self.order.decode(id);
            self.nacks.clear_up_to(frame.last_seq);
            self.check_truth(frame.identity);
            let at = self
                .shown
                .last()
                .map_or(due.max(now), |last| due.max(now).max(last.at));
            self.shown.push(Shown {
                at,
                identity: frame.identity,
            });
            (self.last_decoded, self.keyframe_required) = (Some(now), None);
        }
    }

    /// When a frame is to be shown: later than the quickest would be by the playout delay, and by a round trip when packets
    /// get lost.
    fn due_at(&mut self, timestamp: u32, now: Instant) -> Instant {
        let epoch = *self.epoch.get_or_insert(now);
        let (last, extended) = *self.timestamps.get_or_insert((timestamp, 0));
        let extended = extended + i64::from(timestamp.wrapping_sub(last) as i32);
        if timestamp != last {
            self.timestamps = Some((timestamp, extended));
        }
        let captured = extended / 90;
        let way = (now - epoch).as_millis() as i64 - captured;
        let quickest = self.quickest.map_or(way, |quickest| quickest.min(way));
        self.quickest = Some(quickest);
        let for_losses = if self.nacked >= 3 {
            nack::ROUND_TRIP
        } else {
            Duration::ZERO
        };
        let due = captured + quickest + (PLAYOUT + for_losses).as_millis() as i64;
        epoch + MS * due.max(0) as u32
    }

    fn check_truth(&mut self, of: Identity) {
        let made_from = of
            .references
            .iter()
            .filter(|back| **back > 0 && !of.keyframe);
        let whole = made_from.clone().all(|back| {
            self.truth
                .contains_key(&(of.source, of.frame - u32::from(*back)))
        });
        if !whole || (!of.keyframe && made_from.count() == 0) {
            self.broken.push(of);
        }
        self.truth.insert((of.source, of.frame), ());
        if self.truth.len() > 500 {
            self.truth
                .retain(|(source, frame), ()| *source == of.source && *frame + 100 > of.frame);
        }
    }

    /// Whether to ask for a keyframe now.
    fn keyframe_due(&mut self, now: Instant) -> bool {
        let Some(since) = self.waits_since else {
            return false;
        };
        let active = self.last_packet.is_some_and(|at| now - at < ACTIVE);
        let coming = self
            .last_keyframe_packet
            .is_some_and(|at| now - at < KEYFRAME_WAIT);
        let wait = match (self.keyframe_required, self.last_decoded) {
            (Some(asked), _) => (asked, KEYFRAME_WAIT),
            (None, Some(decoded)) => (decoded, FRAME_WAIT),
            (None, None) => (since, KEYFRAME_WAIT),
        };
        if now - wait.0 < wait.1 {
            return false;
        }
        self.keyframe_required = Some(now);
        let ask = active && !coming;
        if ask {
            self.plis.push(now);
        }
        ask
    }
}

/// What a person saw of a stream between two instants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watched {
    pub shown: u64,
    /// Frames of the sources that were shown, from the first to the last.
    pub captured: u64,
    /// The longest time that one picture stood.
    pub longest: Duration,
    /// Pictures that stood for longer than 250 ms.
    pub freezes: u64,
}

impl Pictures {
    pub fn watched(&self, from: Instant, to: Instant) -> Watched {
        let mut watched = Watched::default();
        let mut before: Option<&Shown> = None;
        for shown in self
            .shown
            .iter()
            .filter(|shown| shown.at >= from && shown.at <= to)
        {
            let stood = shown.at - before.map_or(from, |before| before.at);
            watched.captured += match before {
                Some(before) if before.identity.source == shown.identity.source => {
                    u64::from(shown.identity.frame - before.identity.frame)
                }
                _ => 1,
            };
            watched.note(stood);
            watched.shown += 1;
            before = Some(shown);
        }
        watched.note(to - before.map_or(from, |before| before.at));
        watched
    }
}

impl Watched {
    fn note(&mut self, stood: Duration) {
        self.longest = self.longest.max(stood);
        self.freezes += u64::from(stood > 250 * MS);
    }
}

/// An audio stream.
#[derive(Clone, Debug, Default)]
pub struct Sound {
    pub packets: u64,
    pub longest_gap: Duration,
    /// When each packet came, by the number that its payload carries.
    pub came: Vec<(Instant, u32)>,
}

impl Sound {
    fn receive(&mut self, packet: &Received, now: Instant) {
        if let Some((last, _)) = self.came.last() {
            self.longest_gap = self.longest_gap.max(now - *last);
        }
        self.packets += 1;
        let number = u32::from_be_bytes(packet.payload[2..6].try_into().unwrap());
        self.came.push((now, number));
    }
}
