//! The real shard on its real ring: one publisher, many subscribers, keys installed without a handshake.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use weir_shard::metrics::{Family, HistogramView, Labels, Sink};
use weir_shard::{
    AddTrack, Command, ConferenceId, Counters, DropReason, ExtensionIds, MasterKey, Profile,
    Purpose, Size, Subscribe, SubscriptionId, TrackId,
};
use weir_srtp::Sender;
use weir_uring::{Config, ShardHandle};
use weir_wire::extension::Element;
use weir_wire::rtcp::{SenderInfo, Writer};
use weir_wire::{RtpTime, rtp};

use crate::audience::{Audience, Heard, Reader};
use crate::participant::Participant;
use crate::source::{Frame, Medium, SETTLING_FRAMES, Source};
use weir_bench::machine::{Cores, CpuTime};
use weir_bench::network::Network;
use weir_bench::statistics::percentile;

/// How fast the publisher sends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pace {
    /// So many times as fast as a camera or microphone does.
    Times(f64),
    /// As fast as the shard takes it: at most so many frames are sent that it has not received yet.
    Saturated { frames_ahead: usize },
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) subscribers: usize,
    pub(crate) medium: Medium,
    pub(crate) pace: Pace,
    pub(crate) profile: Profile,
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

/// What was counted between two moments.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub(crate) frames: u64,
    pub(crate) received: u64,
    pub(crate) forwarded: u64,
    pub(crate) sends: u64,
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
    pub(crate) wakeups: u64,
}

/// What came out of one run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) cpu: CpuTime,
    pub(crate) wall: Duration,
    /// Delays at the subscribers that were read: 50 %, 90 %, 99 %, and the longest.
    pub(crate) delays_us: [f64; 4],
    /// Mean payload of the published packets, in bytes.
    pub(crate) payload_bytes: f64,
}

const MID: &str = "0";
const PUBLISHER_EXTENSIONS: ExtensionIds = ExtensionIds {
    mid: Some(4),
    transport_cc: Some(3),
    rid: None,
    repaired_rid: None,
    audio_level: None,
    abs_send_time: None,
    video_orientation: None,
    dependency_descriptor: None,
};

/// How long the shard may take until it has received what was sent.
const STALLED: Duration = Duration::from_secs(2);

/// Runs one load against a new shard. `audience` hears it, and has been verified when this returns.
pub(crate) fn run(
    network: &Network,
    cores: &Cores,
    load: &Load,
    audience: &mut Audience,
) -> Result<Outcome> {
    let mut config = Config::new(0, vec![SocketAddr::new(network.near_ip(), 0)]);
    config.core = Some(cores.measured);
    let mut shard = network.near(|| Ok(weir_uring::spawn(config)?))?;
    let address = shard.addresses()[0];
    let publisher = Publisher::open(network, address, load)?;
    set_up(&mut shard, load, audience.len())?;
    publisher
        .participant
        .check(&publisher.socket, address)
        .context("the publisher")?;
    audience.check(load.profile, address)?;
    subscribe(&mut shard, load, audience.len())?;
    settle(&mut shard);
    audience.begin(network)?;
    let (outcome, sent, heard) = measure(&mut shard, cores, load, publisher, audience)?;
    audience
        .verify(network, sent, shard.counters().resends.get(), &heard)
        .with_context(|| format!("the shard counted: {}", counted(&shard)))?;
    shard.shutdown()?;
    Ok(outcome)
}

fn measure(
    shard: &mut ShardHandle,
    cores: &Cores,
    load: &Load,
    mut publisher: Publisher,
    audience: &Audience,
) -> Result<(Outcome, u64, Vec<Heard>)> {
    let (stop, measuring) = (AtomicBool::new(false), AtomicBool::new(false));
    let (published, heard_all) = (AtomicBool::new(false), AtomicBool::new(false));
    let (frames, progress) = (AtomicU64::new(0), Arc::clone(shard.counters()));
    let readers = audience.readers(load.profile, publisher.epoch)?;
    let (heard_all, measuring) = (&heard_all, &measuring);
    std::thread::scope(|scope| {
        let start = |reader| {
            scope.spawn(move || {
                cores.leave_measured()?;
                Reader::run(reader, heard_all, measuring)
            })
        };
        let readers: Vec<_> = readers.into_iter().map(start).collect();
        let sending = scope.spawn(|| {
            let sent = cores
                .leave_measured()
                .and_then(|()| publisher.run(load, &progress, &frames, &stop));
            published.store(true, Ordering::Release);
            sent
        });
        let watched = watch(shard, load, &frames, measuring, &published);
        stop.store(true, Ordering::Release);
        let sent = sending
            .join()
            .map_err(|_| anyhow::anyhow!("the publisher panicked"))?;
        settle(shard);
        heard_all.store(true, Ordering::Release);
        let heard: Result<Vec<Heard>> = readers
            .into_iter()
            .map(|reader| {
                reader
                    .join()
                    .map_err(|_| anyhow::anyhow!("a reader panicked"))?
            })
            .collect();
        let (sent, mut outcome, heard) = (sent?, watched?, heard?);
        no_drops(&progress)?;
        let mut delays: Vec<u64> = heard.iter().flat_map(|of| of.delays_ns.clone()).collect();
        outcome.delays_us =
            [0.5, 0.9, 0.99, 1.0].map(|part| percentile(&mut delays, part) as f64 / 1000.0);
        outcome.payload_bytes = sent.payload_bytes as f64 / sent.packets.max(1) as f64;
        Ok((outcome, sent.packets, heard))
    })
}

/// Waits for the warm-up and the measured time, and counts what happens in the latter.
fn watch(
    shard: &mut ShardHandle,
    load: &Load,
    frames: &AtomicU64,
    measuring: &AtomicBool,
    published: &AtomicBool,
) -> Result<Outcome> {
    pass(shard, load.medium.settling() + load.warm_up, published);
    measuring.store(true, Ordering::Relaxed);
    let before = (
        CpuTime::of(shard.thread_id())?,
        counts(shard, frames),
        Instant::now(),
    );
    pass(shard, load.duration, published);
    let after = (
        CpuTime::of(shard.thread_id())?,
        counts(shard, frames),
        Instant::now(),
    );
    measuring.store(false, Ordering::Relaxed);
    Ok(Outcome {
        counts: after.1.since(before.1),
        cpu: after.0.since(before.0),
        wall: after.2 - before.2,
        delays_us: [0.0; 4],
        payload_bytes: 0.0,
    })
}

/// Lets time pass; what the shard tells is read and thrown away, as control would read it.
fn pass(shard: &mut ShardHandle, duration: Duration, over: &AtomicBool) {
    let end = Instant::now() + duration;
    while Instant::now() < end && !over.load(Ordering::Acquire) {
        while shard.try_recv().is_some() {}
        let left = end.saturating_duration_since(Instant::now());
        std::thread::sleep(left.min(Duration::from_millis(20)));
    }
}

/// Waits until the shard counts nothing new.
fn settle(shard: &mut ShardHandle) {
    let state = |shard: &ShardHandle| {
        let counters = shard.counters();
        (counters.datagrams_sent.get(), counters.subscriptions.get())
    };
    let mut before = None;
    while before != Some(state(shard)) {
        before = Some(state(shard));
        pass(shard, Duration::from_millis(40), &AtomicBool::new(false));
    }
}

fn counts(shard: &ShardHandle, frames: &AtomicU64) -> Counts {
    let counters = shard.counters();
    Counts {
        frames: frames.load(Ordering::Relaxed),
        received: counters.rtp_received.get(),
        forwarded: counters.rtp_forwarded.get(),
        sends: counters.sends.get(),
        datagrams: counters.datagrams_sent.get(),
        bytes: counters.bytes_sent.get(),
        wakeups: shard.ring_counters().wakeups.get(),
    }
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self {
            frames: self.frames - before.frames,
            received: self.received - before.received,
            forwarded: self.forwarded - before.forwarded,
            sends: self.sends - before.sends,
            datagrams: self.datagrams - before.datagrams,
            bytes: self.bytes - before.bytes,
            wakeups: self.wakeups - before.wakeups,
        }
    }
}

/// Everything that a shard and its ring have counted, for an error that says why a measurement is none.
fn counted(shard: &ShardHandle) -> String {
    let mut all = Listed::default();
    shard.counters().export(&mut all);
    shard.ring_counters().export(&mut all);
    all.0.join(", ")
}

/// Counters and levels that are not zero, as text.
#[derive(Default)]
struct Listed(Vec<String>);

impl Sink for Listed {
    fn number(&mut self, family: &'static Family, labels: Labels<'_>, value: u64) {
        if value > 0 {
            let labels: Vec<&str> = labels.iter().map(|label| label.1).collect();
            self.0
                .push(format!("{} {} {value}", family.name, labels.join(" ")));
        }
    }

    fn histogram(&mut self, _: &'static Family, _: Labels<'_>, _: HistogramView<'_>) {}
}

/// A measurement of a shard that drops is none.
fn no_drops(counters: &Counters) -> Result<()> {
    let dropped = |reason: &DropReason| counters.dropped(*reason) > 0;
    match DropReason::ALL.into_iter().find(dropped) {
        None => Ok(()),
        Some(reason) => bail!(
            "the shard dropped {} packets: {}",
            counters.dropped(reason),
            reason.label()
        ),
    }
}

// ── Set-up ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────

fn give(shard: &mut ShardHandle, command: Command) {
    let mut command = command;
    while let Err(back) = shard.send(command) {
        command = back;
        while shard.try_recv().is_some() {}
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn set_up(shard: &mut ShardHandle, load: &Load, subscribers: usize) -> Result<()> {
    for number in 0..=subscribers as u32 {
        let participant = Participant {
            number,
            profile: load.profile,
        };
        for command in participant.commands()? {
            give(shard, command);
        }
    }
    let publisher = Participant {
        number: 0,
        profile: load.profile,
    };
    let track = AddTrack {
        track: TrackId(1),
        transport: publisher.transport(),
        conference: ConferenceId(1),
        purpose: Purpose::UserMedia,
        mid: MID.to_owned(),
        kind: load.medium.kind(),
        codecs: vec![load.medium.codec()],
        extensions: PUBLISHER_EXTENSIONS,
        rids: vec![],
        ssrcs: vec![Medium::SSRC],
        size: Some(Size::new(1280, 720)),
    };
    give(shard, Command::AddTrack(track));
    Ok(())
}

fn subscribe(shard: &mut ShardHandle, load: &Load, subscribers: usize) -> Result<()> {
    for number in 1..=subscribers as u32 {
        let participant = Participant {
            number,
            profile: load.profile,
        };
        let subscription = Subscribe {
            id: SubscriptionId(number),
            transport: participant.transport(),
            track: TrackId(1),
            mid: "s0".to_owned(),
            ssrc: 0xf000_0000 | number,
            rtx_ssrc: None,
            cname: "publisher".to_owned(),
            codecs: vec![load.medium.codec()],
            extensions: PUBLISHER_EXTENSIONS,
            wanted: Some(Size::new(1280, 720)),
        };
        give(shard, Command::Subscribe(subscription));
    }
    let counters = Arc::clone(shard.counters());
    let end = Instant::now() + STALLED;
    while counters.subscriptions.get() < subscribers as u64 {
        ensure!(
            Instant::now() < end && counters.commands_refused.get() == 0,
            "the shard took {} of {subscribers} subscriptions",
            counters.subscriptions.get()
        );
        pass(shard, Duration::from_millis(5), &AtomicBool::new(false));
    }
    Ok(())
}

// ── Publisher ───────────────────────────────────────────────────────────────────────────────────────────────────────────────

struct Publisher {
    participant: Participant,
    socket: UdpSocket,
    sender: Sender,
    wide: u16,
    epoch: Instant,
    sent: Sent,
}

/// What the publisher has sent.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    packets: u64,
    payload_bytes: u64,
}

impl Publisher {
    fn open(network: &Network, shard: SocketAddr, load: &Load) -> Result<Self> {
        let participant = Participant {
            number: 0,
            profile: load.profile,
        };
        let socket = network.far(|| {
            let socket = UdpSocket::bind(SocketAddr::new(network.far_ip(), 0))?;
            socket.connect(shard)?;
            Ok(socket)
        })?;
        let key: MasterKey = participant.own_key()?;
        Ok(Self {
            participant,
            socket,
            sender: Sender::new(&key),
            wide: 0,
            epoch: Instant::now(),
            sent: Sent::default(),
        })
    }

    /// Publishes until `stop`, at a frame's end.
    fn run(
        &mut self,
        load: &Load,
        progress: &Counters,
        frames: &AtomicU64,
        stop: &AtomicBool,
    ) -> Result<Sent> {
        let mut source = Source::new(load.medium);
        let (start, received) = (Instant::now(), progress.rtp_received.get());
        let mut reported = start;
        // Packets up to the ends of the last frames, oldest first.
        let mut ends = std::collections::VecDeque::new();
        while !stop.load(Ordering::Acquire) {
            let frame = source.next_frame();
            let pace = match load.pace {
                Pace::Saturated { .. } if frame.number < SETTLING_FRAMES => Pace::Times(1.0),
                pace => pace,
            };
            match pace {
                Pace::Times(times) => {
                    let at = start + load.medium.due(frame.number, times);
                    std::thread::sleep(at.saturating_duration_since(Instant::now()));
                }
                Pace::Saturated { frames_ahead } => {
                    while ends.len() >= frames_ahead {
                        let end = ends.pop_front().unwrap_or(0);
                        wait_for(progress, received + end)?;
                    }
                }
            }
            if reported.elapsed() >= Duration::from_secs(1) {
                reported = Instant::now();
                self.report(load.medium, &frame)?;
            }
            for packet in 0..frame.payload_lens.len() {
                self.send(load.medium, &frame, packet)?;
            }
            ends.push_back(self.sent.packets);
            if matches!(pace, Pace::Times(_)) {
                ends.clear();
            }
            frames.fetch_add(1, Ordering::Relaxed);
        }
        wait_for(progress, received + self.sent.packets)?;
        Ok(self.sent)
    }

    fn send(&mut self, medium: Medium, frame: &Frame, packet: usize) -> Result<()> {
        let wide = self.wide.to_be_bytes();
        self.wide = self.wide.wrapping_add(1);
        let index = frame.seq(packet);
        let header = rtp::Outgoing {
            marker: medium == Medium::Camera && frame.is_last(packet),
            payload_type: medium.codec().payload_type,
            sequence_number: index.seq(),
            timestamp: RtpTime(frame.timestamp(medium)),
            ssrc: Medium::SSRC,
            has_padding: false,
        };
        let elements = [
            Element { id: 3, data: &wide },
            Element {
                id: 4,
                data: MID.as_bytes(),
            },
        ];
        let (mut head, mut payload, mut out) = ([0; 64], [0; 1400], [0; 1500]);
        let head_len = header.emit(&elements, &mut head)?;
        let sent_ns = self.epoch.elapsed().as_nanos() as u64;
        let len = frame.emit(medium, packet, sent_ns, &mut payload)?;
        let sealed =
            self.sender
                .protect_rtp(&head[..head_len], &payload[..len], index, &mut out)?;
        self.socket.send(&out[..sealed]).context("the publisher")?;
        self.sent.packets += 1;
        self.sent.payload_bytes += len as u64;
        Ok(())
    }

    /// A sender report, as often as browsers send one.
    fn report(&mut self, medium: Medium, frame: &Frame) -> Result<()> {
        let (mut plain, mut out) = ([0; 256], [0; 300]);
        let mut writer = Writer::new(&mut plain);
        let info = SenderInfo {
            ntp: (0x1234_5678_u64 << 32) + (u64::from(frame.timestamp(medium)) << 16),
            rtp_time: RtpTime(frame.timestamp(medium)),
            packet_count: self.sent.packets as u32,
            octet_count: self.sent.payload_bytes as u32,
        };
        writer.sender_report(Medium::SSRC, &info, &[])?;
        writer.cname(Medium::SSRC, "publisher")?;
        let len = writer.len();
        let sealed = self.sender.protect_rtcp(&plain[..len], &mut out)?;
        self.socket.send(&out[..sealed]).context("the publisher")?;
        Ok(())
    }
}

/// Waits until the shard has received so many media packets.
fn wait_for(progress: &Counters, received: u64) -> Result<()> {
    let end = Instant::now() + STALLED;
    while progress.rtp_received.get() < received {
        // The readers have the same core.
        std::thread::yield_now();
        ensure!(
            Instant::now() < end,
            "the shard received {} packets of {received}: the network lost some, or the shard stands still",
            progress.rtp_received.get()
        );
    }
    Ok(())
}
