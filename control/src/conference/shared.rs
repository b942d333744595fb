//! What all conferences share: settings, ids that are never used twice, random numbers, and the list of what is to be done.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

use rand::{Rng, SeedableRng, distr::Alphanumeric, rngs::StdRng};
use weir_shard::{Command, ConferenceId, SubscriptionId, TrackId, TransportId};
use weir_signal::sdp;

use super::{Output, Refusal, Settings, slots::Slots};

/// A password of 24 characters has 142 bits; RFC 8445 §5.3 asks for 128.
const ICE_PASSWORD_CHARACTERS: usize = 24;

/// What names a call: 95 bits, so that nobody else can be in it.
const CALL_ID_CHARACTERS: usize = 16;

/// Behind the transport's number, which makes the fragment unique: 47 bits, so that it cannot be guessed either.
const ICE_FRAGMENT_CHARACTERS: usize = 8;

pub(super) struct Shared {
    pub(super) settings: Settings,
    /// When each leg has something to do, so that the next deadline is found without looking at all legs.
    pub(super) deadlines: BTreeSet<(Instant, TransportId)>,
    pub(super) slots: Slots,
    outputs: VecDeque<Output>,
    rng: StdRng,
    next_conference: u32,
    next_transport: u32,
    next_track: u32,
    next_subscription: u32,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            rng: StdRng::from_seed(settings.seed),
            settings,
            deadlines: BTreeSet::new(),
            slots: Slots::default(),
            outputs: VecDeque::new(),
            next_conference: 1,
            next_transport: 1,
            next_track: 1,
            next_subscription: 1,
        }
    }

    pub(super) fn push(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(super) fn command(&mut self, shard: usize, command: Command) {
        self.push(Output::Shard { shard, command });
    }

    pub(super) fn refuse(&mut self, reason: Refusal) {
        self.push(Output::Refused { reason });
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    // Four thousand million ids at a thousand a second last seven weeks of a load no focus has; a wrap would need a leg of
    // that age to do harm.
    pub(super) fn conference_id(&mut self) -> ConferenceId {
        ConferenceId(next(&mut self.next_conference))
    }

    pub(super) fn transport_id(&mut self) -> TransportId {
        TransportId(next(&mut self.next_transport))
    }

    pub(super) fn track_id(&mut self) -> TrackId {
        TrackId(next(&mut self.next_track))
    }

    pub(super) fn subscription_id(&mut self) -> SubscriptionId {
        SubscriptionId(next(&mut self.next_subscription))
    }

    pub(super) fn ice_credentials(&mut self, transport: TransportId) -> sdp::IceCredentials {
        sdp::IceCredentials {
            ufrag: format!(
                "{:x}{}",
                transport.0,
                self.characters(ICE_FRAGMENT_CHARACTERS)
            ),
            pwd: self.characters(ICE_PASSWORD_CHARACTERS),
        }
    }

    /// What a session says about this end of a transport on a shard.
    pub(super) fn local_parameters(
        &mut self,
        transport: TransportId,
        shard: usize,
    ) -> sdp::LocalParameters {
        sdp::LocalParameters {
            session_id: self.session_id(),
            ice: self.ice_credentials(transport),
            fingerprint: self.settings.fingerprint.clone().into(),
            addresses: self.settings.shards[shard].clone(),
        }
    }

    /// For a call that this focus makes.
    pub(super) fn call_id(&mut self) -> String {
        self.characters(CALL_ID_CHARACTERS)
    }

    /// For the `o=` line: a number that fits the signed 64 bits of those who read it so.
    fn session_id(&mut self) -> u64 {
        self.rng.random::<u64>() >> 2
    }

    /// Zero is left out: some receivers take it for "none".
    pub(super) fn ssrc(&mut self) -> u32 {
        self.rng.random_range(1..=u32::MAX)
    }

    fn characters(&mut self, count: usize) -> String {
        (&mut self.rng)
            .sample_iter(Alphanumeric)
            .take(count)
            .map(char::from)
            .collect()
    }
}

fn next(counter: &mut u32) -> u32 {
    let id = *counter;
    *counter = counter.wrapping_add(1);
    id
}
