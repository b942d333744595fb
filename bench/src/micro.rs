//! The steps of the packet path one by one, through the public APIs of the crates that have them.
//!
//! An own harness and not a benchmark crate: most steps consume what they are given (a sealed packet opens once, a shard takes a
//! number once), so that every sample needs fresh input made outside the clock; and samples of all steps are taken in turn, so that
//! a machine that changes its speed changes it for all.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use weir_shard::{
    AddTrack, Command, ConferenceId, Config, Counters, ExtensionIds, Path, Profile, Purpose,
    ReceiveBuffer, Shard, Size, Subscribe, SubscriptionId, TrackId,
};
use weir_srtp::{Receiver, Sender};
use weir_wire::extension::Element;
use weir_wire::{ExtSeq, RtpTime, Seq, rtp, vp8};

use crate::participant::Participant;
use crate::report::Micro;
use crate::source::Medium;
use weir_bench::statistics::{median, spread};

/// Packets that are made ready for one pass.
const BATCH: usize = 256;
/// How long one sample takes at least.
const SAMPLE: Duration = Duration::from_millis(2);
/// Passes before the first sample.
const WARM_UP: usize = 10;
/// Payloads of a voice and of a picture.
const SIZES: [usize; 2] = [100, 1200];
/// Packets of one frame, which the shard gets in one batch, and who gets them.
const FRAME: usize = 7;
const SUBSCRIBERS: u32 = 100;
const KEYFRAME_EVERY: u64 = 30;
/// Frames until every subscriber gets all: three seconds, after which one that sends no feedback is not limited.
const SETTLING: usize = 90;
/// Frames between two connectivity checks, without which consent ends after 30 s.
const CHECKED_EVERY: u64 = 300;

/// One step: prepares a pass, and says how long the pass took and how many times the step was done.
struct Step {
    name: String,
    bytes: usize,
    pass: Box<dyn FnMut() -> Result<(Duration, u64)>>,
}

/// Takes `samples` samples of each step whose name contains `only`.
pub(crate) fn run(samples: usize, only: &str) -> Result<Vec<Micro>> {
    let mut steps = all_steps()?;
    steps.retain(|step| step.name.contains(only));
    let mut found = vec![Vec::new(); steps.len()];
    for sample in 0..samples + 1 {
        for (step, found) in steps.iter_mut().zip(&mut found) {
            // Of the passes the one in the middle: a pass that was interrupted does not count.
            let (mut time, mut passes) = (Duration::ZERO, Vec::new());
            while time < SAMPLE || (sample == 0 && passes.len() < WARM_UP) {
                let (took, count) = (step.pass)()?;
                time += took;
                passes.push(took.as_nanos() as f64 / count as f64);
            }
            found.push(median(&passes));
        }
    }
    let result = steps.into_iter().zip(&found).map(|(step, found)| Micro {
        name: step.name,
        bytes: step.bytes,
        // The first one was the warm-up.
        ns: median(&found[1..]),
        spread: spread(&found[1..]),
    });
    Ok(result.collect())
}

fn all_steps() -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    for bytes in SIZES {
        steps.push(parse(bytes)?);
    }
    for profile in Profile::ALL {
        for bytes in SIZES {
            steps.push(unprotect("", profile, bytes, Receiver::new)?);
            steps.push(seal("", profile, bytes, Sender::new)?);
            if profile != Profile::Aes128CmHmacSha1_80 {
                steps.push(unprotect(
                    ", no kernel",
                    profile,
                    bytes,
                    Receiver::portable,
                )?);
                steps.push(seal(", no kernel", profile, bytes, Sender::portable)?);
            }
        }
    }
    for bytes in SIZES {
        for part in [Part::Route, Part::Rewrite, Part::Flush] {
            steps.push(shard(part, bytes)?);
        }
    }
    Ok(steps)
}

// ── Packets ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────

const EXTENSIONS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    transport_cc: Some(3),
    rid: None,
    repaired_rid: None,
    audio_level: None,
    abs_send_time: None,
    video_orientation: None,
    dependency_descriptor: None,
};

fn participant(number: u32, profile: Profile) -> Participant {
    Participant { number, profile }
}

/// Header and payload of a camera's packet: frames of [`FRAME`] packets, every [`KEYFRAME_EVERY`]th a keyframe.
fn plain(index: ExtSeq, bytes: usize) -> Result<(Vec<u8>, Vec<u8>)> {
    let (frame, packet) = (index.0 / FRAME as u64, index.0 as usize % FRAME);
    let header = rtp::Outgoing {
        marker: packet + 1 == FRAME,
        payload_type: Medium::Camera.codec().payload_type,
        sequence_number: index.seq(),
        timestamp: RtpTime((frame as u32).wrapping_mul(3000)),
        ssrc: Medium::SSRC,
        has_padding: false,
    };
    let wide = index.seq().0.to_be_bytes();
    let elements = [
        Element { id: 3, data: &wide },
        Element { id: 4, data: b"0" },
    ];
    let mut head = [0; 64];
    let len = header.emit(&elements, &mut head)?;
    let mut payload = vec![0x01; bytes];
    let descriptor = vp8::Descriptor {
        start_of_partition: packet == 0,
        picture_id: Some(vp8::PictureId::Fifteen((frame & 0x7fff) as u16)),
        tl0_picture_index: Some(frame as u8),
        key_index: Some(1),
        ..vp8::Descriptor::default()
    };
    let at = descriptor.emit(&mut payload)?;
    if packet == 0 && frame.is_multiple_of(KEYFRAME_EVERY) {
        payload[at..at + 10].copy_from_slice(&[0, 0, 0, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02]);
    }
    Ok((head[..len].to_vec(), payload))
}

fn sealed(sender: &mut Sender, index: ExtSeq, bytes: usize) -> Result<Vec<u8>> {
    let (header, payload) = plain(index, bytes)?;
    let mut out = vec![0; 1500];
    let len = sender.protect_rtp(&header, &payload, index, &mut out)?;
    out.truncate(len);
    Ok(out)
}

// ── Steps ───────────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn parse(bytes: usize) -> Result<Step> {
    let packets: Result<Vec<Vec<u8>>> = (0..BATCH as u64)
        .map(|at| plain(ExtSeq(at), bytes).map(|(header, payload)| [header, payload].concat()))
        .collect();
    let packets = packets?;
    let pass = move || {
        let start = Instant::now();
        for packet in &packets {
            let packet = rtp::Packet::parse(black_box(packet))?;
            let mut mid = None;
            for element in packet.extensions() {
                if element.id == 4 {
                    mid = Some(element.data);
                }
            }
            let descriptor = vp8::Descriptor::parse(packet.payload())?;
            black_box((packet.header().ssrc, mid, descriptor));
        }
        Ok((start.elapsed(), BATCH as u64))
    };
    Ok(Step {
        name: "parse header, extensions, descriptor".to_owned(),
        bytes,
        pass: Box::new(pass),
    })
}

fn unprotect(
    suffix: &str,
    profile: Profile,
    bytes: usize,
    new: fn(&weir_shard::MasterKey, usize) -> Receiver,
) -> Result<Step> {
    let of = participant(0, profile);
    let mut sender = Sender::new(&of.own_key()?);
    let packets: Result<Vec<Vec<u8>>> = (0..BATCH as u64)
        .map(|at| sealed(&mut sender, ExtSeq(at), bytes))
        .collect();
    let (packets, key) = (packets?, of.own_key()?);
    let pass = move || {
        let mut receiver = new(&key, 4);
        let mut packets = packets.clone();
        let start = Instant::now();
        for packet in &mut packets {
            black_box(receiver.unprotect_rtp(black_box(packet))?);
        }
        Ok((start.elapsed(), BATCH as u64))
    };
    Ok(Step {
        name: format!("unprotect {profile:?}{suffix}"),
        bytes,
        pass: Box::new(pass),
    })
}

fn seal(
    suffix: &str,
    profile: Profile,
    bytes: usize,
    new: fn(&weir_shard::MasterKey) -> Sender,
) -> Result<Step> {
    // One payload to many subscribers, each with a key and a place of its own, as egress does it.
    let mut senders = Vec::new();
    for number in 0..64 {
        senders.push(new(&participant(number, profile).focus_key()?));
    }
    let (mut header, payload) = plain(ExtSeq(0), bytes)?;
    let mut outs = vec![[0_u8; 1500]; senders.len()];
    let mut index = ExtSeq(0);
    let pass = move || {
        let start = Instant::now();
        for _ in 0..4 {
            index = index.add(1);
            header[2..4].copy_from_slice(&index.seq().0.to_be_bytes());
            for (sender, out) in senders.iter_mut().zip(&mut outs) {
                black_box(sender.protect_rtp(black_box(&header), &payload, index, out)?);
            }
        }
        Ok((start.elapsed(), 4 * senders.len() as u64))
    };
    Ok(Step {
        name: format!("seal {profile:?}{suffix}"),
        bytes,
        pass: Box::new(pass),
    })
}

/// Which part of the shard's work is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// `handle_datagram` without subscribers: by address to the transport, unprotect, by SSRC to the layer, into the history.
    Route,
    /// What each subscriber adds to it: who takes the packet, and with which numbers.
    Rewrite,
    /// `flush` and `poll_transmit`: header and seal, per forwarded packet.
    Flush,
}

fn shard(part: Part, bytes: usize) -> Result<Step> {
    let subscribers = if part == Part::Route { 0 } else { SUBSCRIBERS };
    let mut world = World::new(subscribers, bytes)?;
    let mut alone = World::new(0, bytes)?;
    let pass = move || {
        let (handled, flushed) = world.frame()?;
        let each = u64::from(SUBSCRIBERS) * FRAME as u64;
        Ok(match part {
            Part::Route => (handled, FRAME as u64),
            Part::Rewrite => (handled.saturating_sub(alone.frame()?.0), each),
            Part::Flush => (flushed, each),
        })
    };
    let name = match part {
        Part::Route => "shard: route, unprotect, keep",
        Part::Rewrite => "shard: select and rewrite",
        Part::Flush => "shard: header and seal",
    };
    Ok(Step {
        name: name.to_owned(),
        bytes,
        pass: Box::new(pass),
    })
}

/// A shard without a ring, and whoever feeds it.
struct World {
    shard: Shard,
    counters: Arc<Counters>,
    sender: Sender,
    now: Instant,
    next: ExtSeq,
    subscribers: u32,
    bytes: usize,
    buffers: Vec<ReceiveBuffer>,
    publisher: SocketAddr,
}

impl World {
    fn new(subscribers: u32, bytes: usize) -> Result<Self> {
        let profile = Profile::AeadAes128Gcm;
        let (config, now) = (Config::default(), Instant::now());
        let counters = Arc::new(Counters::default());
        let buffers = (0..config.history_packets_max + 64).map(|id| ReceiveBuffer::new(id as u16));
        let mut world = Self {
            buffers: buffers.collect(),
            shard: Shard::new(config, Arc::clone(&counters), now),
            counters,
            sender: Sender::new(&participant(0, profile).own_key()?),
            now,
            next: ExtSeq::new(0, Seq(0)),
            subscribers,
            bytes,
            publisher: address(0),
        };
        for number in 0..=subscribers {
            world.join(participant(number, profile))?;
        }
        world.command(Command::AddTrack(track()));
        for number in 1..=subscribers {
            world.command(Command::Subscribe(subscription(participant(
                number, profile,
            ))));
        }
        for _ in 0..SETTLING {
            world.frame()?;
        }
        let before = world.counters.rtp_forwarded.get();
        world.frame()?;
        let forwarded = world.counters.rtp_forwarded.get() - before;
        ensure!(
            forwarded == u64::from(subscribers) * FRAME as u64,
            "the shard forwarded {forwarded} packets of a frame to {subscribers} subscribers"
        );
        Ok(world)
    }

    fn command(&mut self, command: Command) {
        self.shard.handle_command(command, self.now);
        self.drain();
    }

    fn join(&mut self, of: Participant) -> Result<()> {
        for command in of.commands()? {
            self.command(command);
        }
        self.datagram(&of.request()?, address(of.number));
        self.drain();
        Ok(())
    }

    fn datagram(&mut self, datagram: &[u8], from: SocketAddr) {
        let Some(mut buffer) = self.buffers.pop() else {
            return;
        };
        buffer.fill(datagram);
        self.shard
            .handle_datagram(buffer, Path::listening(from), self.now);
    }

    /// One frame through the shard: how long receiving took, and how long sealing.
    fn frame(&mut self) -> Result<(Duration, Duration)> {
        self.now += Medium::Camera.interval();
        if self.next.0.is_multiple_of(CHECKED_EVERY * FRAME as u64) {
            for number in 0..=self.subscribers {
                let of = participant(number, Profile::AeadAes128Gcm);
                self.datagram(&of.request()?, address(number));
                self.drain();
            }
        }
        self.shard.handle_timeout(self.now);
        let mut frame = Vec::with_capacity(FRAME);
        for _ in 0..FRAME {
            let mut buffer = self.buffers.pop().ok_or_else(|| {
                anyhow::anyhow!("the shard keeps more receive buffers than it says")
            })?;
            buffer.fill(&sealed(&mut self.sender, self.next, self.bytes)?);
            self.next = self.next.add(1);
            frame.push(buffer);
        }
        let start = Instant::now();
        for buffer in frame {
            let path = Path::listening(self.publisher);
            self.shard.handle_datagram(buffer, path, self.now);
        }
        let handled = start.elapsed();
        self.send_all();
        let flushed = start.elapsed() - handled;
        let kept = self.counters.rtp_received.get();
        ensure!(
            kept == self.next.0,
            "the shard received {kept} packets of {}",
            self.next.0
        );
        self.drain();
        Ok((handled, flushed))
    }

    /// Seals what waits and forgets it, as if the kernel were infinitely fast.
    fn send_all(&mut self) {
        self.shard.flush(self.now);
        while let Some(transmit) = self.shard.poll_transmit() {
            self.shard.handle_sent(transmit.buffer);
        }
    }

    /// The runtime's steps after a batch, without sending anything.
    fn drain(&mut self) {
        self.send_all();
        while let Some(buffer) = self.shard.poll_free() {
            self.buffers.push(buffer);
        }
        while self.shard.poll_event().is_some() {}
    }
}

fn address(number: u32) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 10_000 + number as u16))
}

fn track() -> AddTrack {
    AddTrack {
        track: TrackId(1),
        transport: participant(0, Profile::AeadAes128Gcm).transport(),
        conference: ConferenceId(1),
        purpose: Purpose::UserMedia,
        mid: "0".to_owned(),
        kind: Medium::Camera.kind(),
        codecs: vec![Medium::Camera.codec()],
        extensions: EXTENSIONS,
        rids: vec![],
        ssrcs: vec![Medium::SSRC],
        size: Some(Size::new(1280, 720)),
    }
}

fn subscription(of: Participant) -> Subscribe {
    Subscribe {
        id: SubscriptionId(of.number),
        transport: of.transport(),
        track: TrackId(1),
        mid: "s0".to_owned(),
        ssrc: 0xf000_0000 | of.number,
        rtx_ssrc: None,
        cname: "publisher".to_owned(),
        codecs: vec![Medium::Camera.codec()],
        extensions: EXTENSIONS,
        wanted: Some(Size::new(1280, 720)),
    }
}
