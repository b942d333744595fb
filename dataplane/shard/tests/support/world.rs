//! Virtual time, the network, and the runtime's part: it does to the shard what the ring runtime does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_shard::{
    AddTrack, Codec, CodecMapping, Command, ConferenceId, Config, Counters, Event, ExtensionIds,
    MediaKind, Path, Purpose, ReceiveBuffer, Shard, Size, Subscribe, SubscriptionId, TrackId,
};

use super::browser::{Browser, Pictures, Sound};
use super::link::{Link, Way};
use super::media::{AudioSource, Plain, VideoSource};
use super::peer::{PROFILE, Peer, credentials, keys};
use super::tap::Tap;
use super::{MS, Rng, SECOND};

/// A subscription as the test made it.
#[derive(Clone, Copy, Debug)]
pub struct Subscribed {
    pub id: SubscriptionId,
    pub peer: usize,
    pub track: u8,
    pub ssrc: u32,
    pub mid: &'static str,
}

pub(super) enum InFlight {
    ToShard(Path, Vec<u8>),
    ToPeer(usize, Vec<u8>),
    Frame {
        peer: usize,
        video: usize,
        layer: usize,
    },
    Audio {
        peer: usize,
        audio: usize,
    },
    Reports {
        peer: usize,
    },
    Check {
        peer: usize,
    },
    AskAgain {
        peer: usize,
    },
    Browse {
        peer: usize,
    },
}

/// One participant's way to the focus and back.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    pub up: Way,
    pub down: Way,
    /// Instead of the world's.
    pub up_link: Option<Link>,
    pub down_link: Option<Link>,
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub shard: Shard,
    pub counters: Arc<Counters>,
    pub rng: Rng,
    pub peers: Vec<Peer>,
    /// By participant.
    pub ways: Vec<Ways>,
    pub up: Link,
    pub down: Link,
    pub events: Vec<Event>,
    /// Segments of each transmit, with the peer's address.
    pub transmits: Vec<(Instant, SocketAddr, Vec<usize>)>,
    /// Datagrams to addresses of no participant, until somebody takes them.
    pub outside: Vec<(Instant, Path, Vec<u8>)>,
    pub wakeups: u64,
    /// Whether the way down has never lost anything.
    pub lossless_down: bool,
    pub worst_jitter: Duration,
    /// Whether peers keep checking and reporting by themselves.
    pub alive: bool,
    /// Whether subscribers report losses.
    pub nacks: bool,
    /// Called before the shard handles what is part of the packet path, and after.
    pub watch: Option<fn(Watch)>,
    queue: BTreeMap<(Instant, u64), InFlight>,
    order: u64,
    buffers: Vec<ReceiveBuffer>,
    pub history_packets_max: usize,
    buffers_out: BTreeSet<u16>,
}

/// Where a watched call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    Begins,
    Ends,
}

/// Between the SSRC of a subscription and that of its retransmissions.
pub const RTX: u32 = 0x0800_0000;

/// Buffers of the runtime besides those of the history; the shard's bound is below it.
pub const BUFFERS: usize = 1500;

impl World {
    /// A world with little room.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    /// A world whose shard is configured otherwise.
    pub fn with(seed: u64, configure: impl FnOnce(&mut Config)) -> Self {
        let start = Instant::now();
        let counters = Arc::new(Counters::default());
        let mut config = Config {
            seed,
            transports_max: 32,
            tracks_max: 64,
            subscriptions_max: 512,
            history_packets_max: 1500,
            send_buffers: 256,
            ..Config::default()
        };
        configure(&mut config);
        let history_packets_max = config.history_packets_max;
        Self {
            start,
            now: start,
            shard: Shard::new(config, counters.clone(), start),
            counters,
            rng: Rng::new(seed),
            peers: Vec::new(),
            ways: vec![Ways::default(); 64],
            up: Link::PERFECT,
            down: Link::PERFECT,
            events: Vec::new(),
            transmits: Vec::new(),
            outside: Vec::new(),
            wakeups: 0,
            lossless_down: true,
            worst_jitter: Duration::ZERO,
            alive: true,
            nacks: false,
            watch: None,
            queue: BTreeMap::new(),
            order: 0,
            buffers: (0..history_packets_max + BUFFERS)
                .map(|id| ReceiveBuffer::new(id as u16))
                .collect(),
            history_packets_max,
            buffers_out: BTreeSet::new(),
        }
    }

    pub fn command(&mut self, command: Command) {
        self.shard.handle_command(command, self.now);
        self.turn();
    }

    /// A participant whose transport is up: checked, keyed.
    pub fn join(&mut self) -> usize {
        let peer = self.join_without_keys();
        self.install_keys(peer);
        peer
    }

    pub fn join_without_keys(&mut self) -> usize {
        let number = self.peers.len() as u8 + 1;
        let mut peer = Peer::new(number);
        self.command(Command::AddTransport {
            id: peer.id,
            ice: credentials(number, 0),
            is_trunk: false,
        });
        let (address, check) = (peer.address, peer.check(0, true));
        self.peers.push(peer);
        self.datagram(address, &check);
        let at = self.peers.len() - 1;
        self.schedule(SECOND, InFlight::Check { peer: at });
        self.schedule(SECOND / 2, InFlight::Reports { peer: at });
        self.schedule(SECOND / 30, InFlight::AskAgain { peer: at });
        at
    }

    pub fn install_keys(&mut self, peer: usize) {
        let (local, remote) = keys(self.peers[peer].number);
        self.command(Command::InstallKeys {
            id: self.peers[peer].id,
            profile: PROFILE,
            local,
            remote,
        });
    }

    /// From now on the participant receives as a browser does.
    pub fn browse(&mut self, peer: usize) {
        self.peers[peer].browser = Some(Browser::new(self.rng.next()));
        self.peers[peer].tap = Some(Tap::new(self.peers[peer].number));
        let first = MS * self.rng.below(20) as u32;
        self.schedule(first, InFlight::Browse { peer });
    }

    /// The numbers of a publisher's media sections.
    pub fn publisher_extensions() -> ExtensionIds {
        ExtensionIds {
            mid: Some(4),
            rid: Some(10),
            repaired_rid: Some(11),
            transport_cc: Some(3),
            audio_level: Some(1),
            abs_send_time: Some(2),
            ..ExtensionIds::default()
        }
    }

    /// Other numbers at subscribers, so that a leak shows.
    pub fn subscriber_extensions() -> ExtensionIds {
        ExtensionIds {
            mid: Some(9),
            transport_cc: Some(6),
            audio_level: Some(5),
            abs_send_time: Some(7),
            ..ExtensionIds::default()
        }
    }

    pub fn add_video(&self, peer: usize, of: &VideoSource) -> AddTrack {
        let rtx_payload_type = of.rtx.then_some(97);
        let (codec, clock_rate) = (Codec::Vp8, 90_000);
        AddTrack {
            track: TrackId(of.track.into()),
            transport: self.peers[peer].id,
            conference: ConferenceId(1),
            purpose: Purpose::UserMedia,
            mid: of.mid.into(),
            kind: MediaKind::Video,
            codecs: vec![CodecMapping {
                payload_type: 96,
                codec,
                clock_rate,
                rtx_payload_type,
            }],
            extensions: Self::publisher_extensions(),
            rids: of
                .layers
                .iter()
                .filter_map(|layer| layer.rid)
                .map(Into::into)
                .collect(),
            ssrcs: Vec::new(),
            size: Some(Size::new(of.layers[0].width, of.layers[0].height)),
        }
    }

    pub fn publish_video(&mut self, peer: usize, of: VideoSource) {
        self.command(Command::AddTrack(self.add_video(peer, &of)));
        self.start_video(peer, of);
    }

    /// Starts the camera without telling the shard of a track.
    pub fn start_video(&mut self, peer: usize, of: VideoSource) {
        let video = self.peers[peer].video.len();
        for layer in 0..of.layers.len() {
            let first = MS * self.rng.below(30) as u32;
            self.schedule(first, InFlight::Frame { peer, video, layer });
        }
        self.peers[peer].video.push(of);
    }

    pub fn publish_audio(&mut self, peer: usize, of: AudioSource) {
        self.command(Command::AddTrack(AddTrack {
            track: TrackId(of.track.into()),
            transport: self.peers[peer].id,
            conference: ConferenceId(1),
            purpose: Purpose::UserMedia,
            mid: of.mid.into(),
            kind: MediaKind::Audio,
            codecs: vec![CodecMapping {
                payload_type: 111,
                codec: Codec::Opus,
                clock_rate: 48_000,
                rtx_payload_type: None,
            }],
            extensions: Self::publisher_extensions(),
            rids: Vec::new(),
            ssrcs: vec![of.ssrc],
            size: None,
        }));
        let audio = self.peers[peer].audio.len();
        self.peers[peer].audio.push(of);
        self.schedule(MS, InFlight::Audio { peer, audio });
    }

    pub fn subscribe(&mut self, peer: usize, track: u8, wanted: Option<Size>) -> Subscribed {
        let number = self.order as u32 + 1;
        self.order += 1;
        self.subscribe_as(
            peer,
            track,
            wanted,
            SubscriptionId(number),
            0xf000_0000 | number,
        )
    }

    pub fn subscribe_as(
        &mut self,
        peer: usize,
        track: u8,
        wanted: Option<Size>,
        id: SubscriptionId,
        ssrc: u32,
    ) -> Subscribed {
        let rtx_ssrc = self.expect_media(peer, track, ssrc);
        self.command(Command::Subscribe(Subscribe {
            id,
            transport: self.peers[peer].id,
            track: TrackId(track.into()),
            mid: "s7".into(),
            ssrc,
            rtx_ssrc,
            cname: format!("publisher-of-{track}"),
            codecs: [(Codec::Vp8, 100, 90_000), (Codec::Opus, 109, 48_000)]
                .map(|(codec, payload_type, clock_rate)| CodecMapping {
                    payload_type,
                    codec,
                    clock_rate,
                    rtx_payload_type: (codec == Codec::Vp8).then_some(101),
                })
                .into(),
            extensions: Self::subscriber_extensions(),
            wanted,
        }));
        Subscribed {
            id,
            peer,
            track,
            ssrc,
            mid: "s7",
        }
    }

    /// Makes a browser ready to receive a track, and says on which SSRC it takes retransmissions.
    fn expect_media(&mut self, peer: usize, track: u8, ssrc: u32) -> Option<u32> {
        let sound = self
            .peers
            .iter()
            .flat_map(|of| &of.audio)
            .any(|of| of.track == track);
        let browser = self.peers[peer].browser.as_mut()?;
        if sound {
            browser.sounds.insert(ssrc, Sound::default());
            return None;
        }
        browser.pictures.insert(ssrc, Pictures::default());
        let rtx_ssrc = browser.takes_rtx.then_some(ssrc ^ RTX)?;
        browser.rtx.insert(rtx_ssrc, ssrc);
        Some(rtx_ssrc)
    }

    /// What a participant saw of a video subscription.
    pub fn pictures(&self, of: Subscribed) -> &Pictures {
        let browser = self.peers[of.peer].browser.as_ref().expect("it browses");
        &browser.pictures[&of.ssrc]
    }

    /// What a participant heard of an audio subscription.
    pub fn sound(&self, of: Subscribed) -> &Sound {
        let browser = self.peers[of.peer].browser.as_ref().expect("it browses");
        &browser.sounds[&of.ssrc]
    }

    pub fn want(&mut self, of: Subscribed, wanted: Option<Size>) {
        self.command(Command::SetWanted { id: of.id, wanted });
    }

    pub fn unsubscribe(&mut self, of: Subscribed) {
        self.command(Command::Unsubscribe { id: of.id });
    }

    /// Hands one datagram to the shard now, past the network, as it comes to where the shard listens.
    pub fn datagram(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.datagram_on(Path::listening(from), bytes);
    }

    /// The same, on any path.
    pub fn datagram_on(&mut self, path: Path, bytes: &[u8]) {
        self.hand_over(path, bytes);
        self.turn();
    }

    /// Hands several over as one batch.
    pub fn batch(&mut self, datagrams: &[(SocketAddr, Vec<u8>)]) {
        for (from, bytes) in datagrams {
            self.hand_over(Path::listening(*from), bytes);
        }
        self.turn();
    }

    pub(super) fn hand_over(&mut self, path: Path, bytes: &[u8]) {
        let mut buffer = self
            .buffers
            .pop()
            .expect("the shard keeps no more buffers than it said");
        buffer.fill(bytes);
        assert!(self.buffers_out.insert(buffer.id()));
        self.watched(|shard, now| shard.handle_datagram(buffer, path, now));
    }

    fn watched(&mut self, call: impl FnOnce(&mut Shard, Instant)) {
        let watch = self.watch.unwrap_or(|_| {});
        watch(Watch::Begins);
        call(&mut self.shard, self.now);
        watch(Watch::Ends);
    }

    /// Sends media over the network.
    pub fn send(&mut self, peer: usize, mid: &str, plain: &Plain) {
        let bytes = self.peers[peer].seal(mid, plain, self.now);
        self.send_sealed(peer, bytes);
    }

    /// Sends a datagram of a participant over the network.
    pub fn send_sealed(&mut self, peer: usize, bytes: Vec<u8>) {
        let (address, ways) = (self.peers[peer].address, &mut self.ways[peer]);
        let link = ways.up_link.unwrap_or(self.up);
        for after in ways.up.carry(&link, bytes.len(), &mut self.rng, self.now) {
            let path = Path::listening(address);
            self.schedule(after, InFlight::ToShard(path, bytes.clone()));
        }
    }

    /// Sends a datagram of the focus over the network.
    fn send_down(&mut self, peer: usize, bytes: Vec<u8>) {
        let ways = &mut self.ways[peer];
        let (up, down) = (
            ways.up_link.unwrap_or(self.up),
            ways.down_link.unwrap_or(self.down),
        );
        self.worst_jitter = self.worst_jitter.max(down.spread()).max(up.spread());
        self.lossless_down &= down.is_lossless();
        if let Some(tap) = &mut self.peers[peer].tap {
            tap.note(&bytes, self.now);
        }
        for after in ways.down.carry(&down, bytes.len(), &mut self.rng, self.now) {
            self.schedule(after, InFlight::ToPeer(peer, bytes.clone()));
        }
    }

    pub(super) fn schedule(&mut self, after: Duration, what: InFlight) {
        self.order += 1;
        self.queue.insert((self.now + after, self.order), what);
    }

    /// When something happens next.
    pub fn next(&self) -> Option<Instant> {
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        queued.into_iter().chain(self.shard.poll_timeout()).min()
    }

    /// Lets a datagram of nobody in this world arrive at the shard.
    pub fn arrive_from_outside(&mut self, after: Duration, path: Path, bytes: Vec<u8>) {
        self.schedule(after, InFlight::ToShard(path, bytes));
    }

    /// Lets `duration` pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        let mut idle_turns = 0;
        loop {
            let due = self.shard.poll_timeout();
            let Some(next) = self.next().filter(|at| *at <= end) else {
                break;
            };
            idle_turns = if next <= self.now { idle_turns + 1 } else { 0 };
            assert!(idle_turns < 1000, "time stands still");
            self.now = self.now.max(next);
            while self
                .queue
                .first_key_value()
                .is_some_and(|((at, _), _)| *at <= self.now)
            {
                let (_, what) = self.queue.pop_first().unwrap();
                self.happen(what);
            }
            if due.is_some_and(|due| due <= self.now) {
                self.wakeups += 1;
                self.watched(|shard, now| shard.handle_timeout(now));
            }
            self.turn();
        }
        self.now = end;
    }

    /// The runtime's steps after a batch.
    pub fn turn(&mut self) {
        self.watched(|shard, now| shard.flush(now));
        while let Some(transmit) = self.shard.poll_transmit() {
            let datagrams: Vec<Vec<u8>> = transmit.datagrams().map(<[u8]>::to_vec).collect();
            assert_eq!(datagrams.len(), transmit.segments());
            let lens = datagrams.iter().map(Vec::len).collect();
            let path = transmit.path;
            self.transmits.push((self.now, path.remote, lens));
            if let Some(peer) = self
                .peers
                .iter()
                .position(|peer| path == Path::listening(peer.address))
            {
                for bytes in datagrams {
                    self.send_down(peer, bytes);
                }
            } else {
                let outside = datagrams.into_iter();
                self.outside
                    .extend(outside.map(|bytes| (self.now, path, bytes)));
            }
            self.shard.handle_sent(transmit.buffer);
        }
        while let Some(buffer) = self.shard.poll_free() {
            assert!(
                self.buffers_out.remove(&buffer.id()),
                "a buffer came back twice"
            );
            self.buffers.push(buffer);
        }
        while let Some(event) = self.shard.poll_event() {
            self.events.push(event);
        }
    }

    /// What a subscription received, in the order of its numbers.
    pub fn received(&self, of: Subscribed) -> Vec<(u64, &super::Received)> {
        super::oracle::in_order(
            self.peers[of.peer]
                .received
                .iter()
                .filter(|packet| packet.ssrc == of.ssrc),
        )
    }

    pub fn buffers_out(&self) -> usize {
        self.buffers_out.len()
    }
}
