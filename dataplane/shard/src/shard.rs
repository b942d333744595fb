//! The shard itself: its tables, and the calls that the runtime makes. What the calls do is in the files below this one.
//!
//! ```text
//! handle_datagram ─ receive ─┬─ checks                      STUN: answered at once, or an answer
//!                            ├─ event                       DTLS, for control
//!                            ├─ media ─ bind ─ forward ─┐   RTP
//!                            └─ rtcp ── resend ─────────┤
//! handle_timeout ── timers ── checks, reports           │
//! flush ─────────── egress ◄────────────────────────────┘
//! ```

mod bandwidth;
mod bind;
mod checks;
mod commands;
mod egress;
mod forward;
mod look;
mod media;
mod quality;
mod receive;
mod reports;
mod resend;
mod rtcp;
mod timers;
mod voices;

pub use media::Opened;

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::allocate::Ask;
use crate::buffer::{ReceiveBuffer, SendBuffer, Transmit};
use crate::command::Command;
use crate::config::Config;
use crate::counters::{Counters, DropReason};
use crate::event::Event;
use crate::ids::{ConferenceId, SubscriptionId, TrackId, TransportId};
use crate::kept::Kept;
use crate::limits::{
    EVENTS_MAX, LAYERS_MAX, PACKETS_PER_BATCH_MAX, PATHS_PER_TRANSPORT, PICTURES_MAX, REPEATS_MAX,
    TICK,
};
use crate::packet::Packets;
use crate::path::Path;
use crate::publisher::{Source, Track};
use crate::reason::Stage;
use crate::room;
use crate::speaker::{Selection, Voices};
use crate::subscription::Subscription;
use crate::table::{Numbers, SeededHash, Table};
use crate::transport::Transport;
use crate::tx::Tx;

/// All state of one core. See the crate's documentation for the order of calls.
#[derive(Debug)]
pub struct Shard {
    counters: Arc<Counters>,
    epoch: Instant,
    unix_time: Duration,
    numbers: Numbers,
    next_source: u32,

    transports: Table<Transport>,
    tracks: Table<Track>,
    sources: Table<Source>,
    subscriptions: Table<Subscription>,
    /// The microphones of each conference that has any.
    conferences: Table<Voices>,
    conference_ids: HashMap<ConferenceId, u32, SeededHash>,
    selection: Selection,
    tracks_max: usize,
    transport_ids: HashMap<TransportId, u32, SeededHash>,
    track_ids: HashMap<TrackId, u32, SeededHash>,
    subscription_ids: HashMap<SubscriptionId, u32, SeededHash>,
    /// Local user name fragments.
    ufrags: HashMap<Box<str>, u32, SeededHash>,
    /// Paths that authenticated checks came on, or answers to checks.
    paths: HashMap<Path, u32, SeededHash>,
    /// Paths that transports check, at most [`crate::limits::REMOTES_MAX`] each. Changed by commands, and when one has answered.
    asked: HashMap<Path, u32, SeededHash>,
    /// Sockets of each address family to call others from, besides the one to listen on.
    calling_sockets: u8,

    packets: Packets,
    kept: Kept,
    tx: Tx,
    events: VecDeque<Event>,
    /// Sources that want a keyframe request now, for `flush`.
    keyframes_wanted: Vec<u32>,
    /// Packets that are to be sent again unasked, in order of time.
    repeats: VecDeque<resend::Repeat>,
    scratch: Box<[u8; egress::SCRATCH_BYTES]>,
    /// Room for one subscriber's pictures while its bandwidth is given out.
    asks: Vec<Ask>,

    /// When subscriptions and layers are looked at next.
    look_at: Option<Instant>,
    wakeup: Option<Instant>,
    last_tick: Instant,
    batch_began: BatchBegan,
}

/// One of many paths, each another.
fn numbered(number: usize) -> Path {
    let address = Ipv4Addr::from_bits(number as u32);
    Path::listening(SocketAddr::from((address, 0)))
}

impl Shard {
    /// A shard without transports. Allocates what it will ever need for the packet path.
    pub fn new(config: Config, counters: Arc<Counters>, now: Instant) -> Self {
        let mut numbers = Numbers::new(config.seed);
        let hash = SeededHash(numbers.next());
        let paths = config.transports_max * PATHS_PER_TRANSPORT;
        Self {
            counters,
            epoch: now,
            unix_time: config.unix_time,
            numbers,
            next_source: 0,
            transports: Table::new(config.transports_max),
            tracks: Table::new(config.tracks_max),
            sources: Table::new(config.tracks_max * LAYERS_MAX),
            subscriptions: Table::new(config.subscriptions_max),
            conferences: Table::new(config.tracks_max),
            conference_ids: HashMap::with_hasher(hash),
            selection: Selection {
                all_up_to: config.voices_all_up_to,
                loudest: config.voices_loudest,
            },
            tracks_max: config.tracks_max,
            transport_ids: HashMap::with_hasher(hash),
            track_ids: HashMap::with_hasher(hash),
            subscription_ids: HashMap::with_hasher(hash),
            ufrags: HashMap::with_hasher(hash),
            paths: room::map(paths, hash, |number| (numbered(number), 0)),
            asked: HashMap::with_hasher(hash),
            calling_sockets: config.calling_sockets,
            packets: Packets::new(config.history_packets_max + PACKETS_PER_BATCH_MAX),
            kept: Kept::new(config.history_packets_max),
            tx: Tx::new(config.send_buffers, config.transports_max),
            events: room::queue(EVENTS_MAX),
            keyframes_wanted: room::list(KEYFRAMES_WANTED_MAX),
            repeats: room::queue(REPEATS_MAX),
            scratch: Box::new([0; egress::SCRATCH_BYTES]),
            look_at: None,
            asks: room::list(PICTURES_MAX),
            wakeup: None,
            last_tick: now,
            batch_began: BatchBegan::default(),
        }
    }

    /// Takes a received datagram. The buffer comes back by [`Shard::poll_free`], at once or when it has left the history.
    pub fn handle_datagram(&mut self, buffer: ReceiveBuffer, path: Path, now: Instant) {
        if let Some(opened) = self.open(buffer, path, now) {
            self.route(opened, now);
        }
    }

    /// The first half of [`Shard::handle_datagram`], for a runtime that measures both: sorts, authenticates and decrypts. Media
    /// comes back, for [`Shard::route`] before anything else is called; everything else is done with.
    pub fn open(&mut self, buffer: ReceiveBuffer, path: Path, now: Instant) -> Option<Opened> {
        self.counters.datagrams_received.add(1);
        self.counters
            .bytes_received
            .add(buffer.datagram().len() as u64);
        self.receive(buffer, path, now)
    }

    /// The second half: finds out what the packet is, who takes it, and with which numbers.
    pub fn route(&mut self, opened: Opened, now: Instant) {
        self.rtp(opened, now);
    }

    /// Does what control asks for.
    pub fn handle_command(&mut self, command: Command, now: Instant) {
        self.command(command, now);
        self.look_soon(now);
        self.counters.transports.set(self.transports.len() as u64);
        self.counters.tracks.set(self.tracks.len() as u64);
        self.counters
            .subscriptions
            .set(self.subscriptions.len() as u64);
    }

    /// Does what is due. Harmless when nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.wakeup.is_some_and(|at| at <= now) {
            self.last_tick = now;
            self.wakeup = None;
            self.timers(now);
        }
    }

    /// Ends a batch: what it forwarded may leave. It is sealed as [`Shard::poll_transmit`] asks for it, so that a batch for
    /// thousands of subscribers needs no more send buffers than the runtime has under way at a time.
    pub fn flush(&mut self, now: Instant) {
        self.request_wanted_keyframes(now);
        self.tx.flush(now);
    }

    /// The next send, if any.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        loop {
            if let Some(transmit) = self.tx.poll_transmit() {
                return Some(transmit);
            }
            let flushed = self.tx.flushed()?;
            match self.tx.next_to_seal() {
                Some(transport) => self.seal_transport(transport, flushed),
                None => self.end_batch(),
            }
        }
    }

    /// Takes back a buffer of [`Shard::poll_transmit`] that the kernel is done with, sent or not.
    pub fn handle_sent(&mut self, buffer: SendBuffer) {
        self.tx.give_back(buffer);
    }

    /// The next receive buffer that the shard no longer needs, if any.
    pub fn poll_free(&mut self) -> Option<ReceiveBuffer> {
        self.packets.poll_free()
    }

    /// The next message to control, if any.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Shard::handle_timeout`] wants to be called; `None` means not before the next input.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wakeup
    }

    /// Asks to be woken at `at`, but not before the next tick.
    fn wake_at(&mut self, at: Instant) {
        let at = at.max(self.last_tick + TICK);
        self.wakeup = Some(self.wakeup.map_or(at, |wakeup| wakeup.min(at)));
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push_back(event);
        } else {
            self.counters.count_drop(DropReason::EventsFull);
        }
    }

    /// Everything that waited is sealed. Counts what this batch was, by what has been counted since the last one.
    fn end_batch(&mut self) {
        self.tx.clear();
        self.counters.packets_held.set(self.packets.len() as u64);
        self.counters.send_buffers_out.set(self.tx.out() as u64);
        let datagrams = self.counters.datagrams_received.get();
        let before = std::mem::replace(&mut self.batch_began.datagrams, datagrams);
        if datagrams != before {
            self.counters.batch_datagrams.record(datagrams - before);
        }
        for (at, before) in self.batch_began.stages.iter_mut().enumerate() {
            let packets = self.counters.stages[at].get();
            if packets != *before {
                self.counters.batch_packets[at].record(packets - *before);
                *before = packets;
            }
        }
    }

    /// Drops a datagram for `reason`.
    fn refuse(&mut self, buffer: ReceiveBuffer, reason: DropReason) {
        self.counters.count_drop(reason);
        self.packets.give_back(buffer);
    }

    /// The source that feeds a layer.
    fn source_of(&self, track: u32, layer: usize) -> Option<u32> {
        self.tracks.get(track)?.layers.get(layer)?.source
    }
}

/// What had been counted when a batch began.
#[derive(Debug, Default)]
struct BatchBegan {
    datagrams: u64,
    stages: [u64; Stage::ALL.len()],
}

/// Keyframe requests that leave with the batch that made them wanted; more leave with the next tick.
const KEYFRAMES_WANTED_MAX: usize = 256;
