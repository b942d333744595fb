//! One end of a trunk: a leg whose other end is a focus.
//!
//! Both ends are alike once the channel is open: each announces those who are connected to it, asks for the tracks that somebody
//! here wants, and offers what the other one asks for. Only one makes the call, the connectivity checks and the DTLS handshake.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use weir_shard::Size;
use weir_signal::channel::{self, FromClient, TrackName, TrackRequest};

use super::remote::RemoteStreams;

/// Requests to the other focus are at least this far apart: what many participants ask for at once is said together.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

/// How far a trunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// This focus has called, and waits for the answer.
    Calling,
    /// The other end is known: its address is being found, by this focus's checks or by the other's.
    Connecting,
    /// This focus has found an address, and has begun the handshake.
    Handshaking,
    /// The channel was open then for the first time.
    Up(Instant),
}

/// What a leg has beside when its other end is a focus.
#[derive(Debug)]
pub(super) struct Trunk {
    pub(super) phase: Phase,
    pub(super) remote: RemoteStreams,
    /// What the other focus was last asked for, by its names.
    asked: BTreeMap<TrackName, Option<Size>>,
    /// When it may be asked again, if there is something to ask.
    ask: Option<Instant>,
    ask_earliest: Instant,
    /// Since when nobody needs it.
    pub(super) idle_since: Option<Instant>,
}

impl Trunk {
    pub(super) fn new(phase: Phase, now: Instant) -> Self {
        Self {
            phase,
            remote: RemoteStreams::default(),
            asked: BTreeMap::new(),
            ask: None,
            ask_earliest: now,
            idle_since: None,
        }
    }

    /// The channel is open: for the first time, or in place of another. Nothing has been asked over it.
    pub(super) fn handle_channel_open(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Up(_)) {
            self.phase = Phase::Up(now);
        }
        self.asked.clear();
        self.handle_demand_changed();
    }

    /// What is wanted here, or what is announced there, may have changed.
    pub(super) fn handle_demand_changed(&mut self) {
        if matches!(self.phase, Phase::Up(_)) {
            self.ask.get_or_insert(self.ask_earliest);
        }
    }

    /// When [`Trunk::ask_if_due`] has something to look at.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.ask
    }

    /// The request that makes the other focus send what is wanted here, by the names of the board; `None` if it does so already.
    pub(super) fn ask_if_due(
        &mut self,
        wanted: &BTreeMap<TrackName, Option<Size>>,
        now: Instant,
    ) -> Option<FromClient> {
        self.ask.take_if(|at| *at <= now)?;
        let asks: BTreeMap<TrackName, Option<Size>> = wanted
            .iter()
            .filter_map(|(name, size)| Some((self.remote.theirs(name)?, *size)))
            .collect();
        let subscribe: Vec<TrackRequest> = asks
            .iter()
            .filter(|(name, size)| self.asked.get(*name) != Some(*size))
            .map(|(name, size)| TrackRequest {
                name: name.clone(),
                size: size.map(channel_size),
            })
            .collect();
        let unsubscribe: Vec<TrackName> = self
            .asked
            .keys()
            .filter(|name| !asks.contains_key(*name))
            .cloned()
            .collect();
        self.asked = asks;
        if subscribe.is_empty() && unsubscribe.is_empty() {
            return None;
        }
        self.ask_earliest = now + ASK_INTERVAL;
        Some(FromClient::Subscription {
            subscribe,
            unsubscribe,
        })
    }
}

fn channel_size(size: Size) -> channel::Size {
    channel::Size {
        width: size.width.into(),
        height: size.height.into(),
    }
}

/// The larger of two wishes for one track. Without a size, the lowest layer is enough.
pub(super) fn larger(one: Option<Size>, other: Option<Size>) -> Option<Size> {
    let area = |size: &Size| u32::from(size.width) * u32::from(size.height);
    [one, other].into_iter().flatten().max_by_key(area)
}
