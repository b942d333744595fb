//! Who is in which call, what they publish, and who gets what.
//!
//! ```text
//!  to-device ──► calls ─────┐              ┌► streams ──► board ──► snapshots
//!                           ├► leg ────────┤                 │
//!  data channel ► requests ─┘  (session,   └► subscriptions ◄┘ ──► offers, commands for the shard
//!                               offer, ping)
//!  rosters ─────► cascade ──► trunk: a leg whose other end is a focus; remote: whom that focus announces ──► board
//! ```
//! Pure: to-device messages, data channel messages, transport events and the time in; to-device messages, commands for
//! shards and data channel messages out. No I/O, no clock, no locks; random numbers come from the seed in [`Settings`].
//!
//! Not here: who may call (`authorise`), DTLS and SCTP (`weir_transport`), SDP (`weir_signal`), media (`weir_shard`).

mod board;
mod calls;
mod cascade;
#[allow(clippy::module_inception)]
mod conference;
mod ended;
mod happened;
mod ids;
mod leg;
pub mod limits;
mod live_call;
mod mapping;
mod output;
mod overview;
mod ping;
mod rate;
mod remote;
mod requests;
mod settings;
mod shared;
mod slots;
mod streams;
mod subscriptions;
#[cfg(test)]
mod tests;
mod told;
mod trunk;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Instant,
};

use weir_shard::TransportId;

pub use cascade::Roster;
pub use happened::{CallEnd, Happened, InviteResult, OfferReceived, OfferSent, TrunkEvent};
pub use ids::ParticipantId;
pub use limits::Limits;
pub use live_call::LiveCall;
pub use output::{
    DtlsRole, Fingerprint, HangupReason, Output, Protection, Refusal, Sender, TransportInput,
};
pub use overview::{ConferenceOverview, Connected, Overview, Tracks, TrunkState};
pub(crate) use rate::Bucket;
pub use settings::{Settings, Timing};

use conference::Conference;
use ended::Ended;
use rate::Rates;
use shared::Shared;

/// All conferences of one focus.
///
/// Calls are of three kinds. `handle_*`, `refuse_call` and `hang_up_all` put something in. `poll_output` takes out what is
/// to be done because of it. `poll_timeout` says when `handle_timeout` is due.
///
/// **After every call that puts something in, `poll_output` is called until it gives `None`.**
pub struct Conferences {
    shared: Shared,
    conferences: BTreeMap<String, Conference>,
    transports: BTreeMap<TransportId, (String, ParticipantId)>,
    ended: Ended,
    user_rates: Rates,
    homeserver_rates: Rates,
    /// Calls to other foci, by their homeserver.
    trunk_rates: Rates,
    /// When to look again at the trunks of which conference.
    cascade_deadlines: BTreeSet<(Instant, String)>,
    draining: bool,
}

impl fmt::Debug for Conferences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conferences")
            .field("conferences", &self.conferences.len())
            .field("participants", &self.transports.len())
            .finish_non_exhaustive()
    }
}

impl Conferences {
    /// Makes a focus without conferences.
    ///
    /// # Panics
    /// If `settings.shards` is empty: there is nowhere to place a conference.
    pub fn new(settings: Settings) -> Self {
        assert!(
            !settings.shards.is_empty(),
            "a focus has at least one shard"
        );
        Self {
            shared: Shared::new(settings),
            conferences: BTreeMap::new(),
            transports: BTreeMap::new(),
            ended: Ended::default(),
            user_rates: Rates::default(),
            homeserver_rates: Rates::default(),
            trunk_rates: Rates::default(),
            cascade_deadlines: BTreeSet::new(),
            draining: false,
        }
    }

    /// Takes what happened on a transport. About a transport that is gone it does nothing.
    pub fn handle_transport(&mut self, id: TransportId, input: TransportInput, now: Instant) {
        let Some((conf_id, participant)) = self.transports.get(&id).cloned() else {
            return;
        };
        let Some(conference) = self.conferences.get_mut(&conf_id) else {
            return;
        };
        let Some(leg) = conference.legs.get_mut(&participant) else {
            return;
        };
        let shared = &mut self.shared;
        match input {
            // The handshake follows: a participant begins it, and the end of a trunk that has called.
            TransportInput::IceConnected => leg.handle_ice_connected(shared),
            TransportInput::ChannelOpen { channel, .. } => {
                if leg.handle_channel_open(channel, shared, now) {
                    if leg.trunk.is_some() {
                        shared.push(Output::Happened(Happened::Trunk(TrunkEvent::Up)));
                    }
                    conference.tell_newcomer(&participant, shared);
                } else {
                    shared.refuse(Refusal::SecondChannel);
                }
            }
            TransportInput::ChannelClosed { channel } => {
                leg.handle_channel_closed(channel, shared, now)
            }
            TransportInput::Binary { .. } => shared.refuse(Refusal::BinaryMessage),
            TransportInput::Text { channel, text } => {
                if leg.is_signalling(channel) {
                    conference.handle_text(&participant, &text, shared, now);
                } else {
                    shared.refuse(Refusal::SecondChannel);
                }
            }
            // Who closes in good order leaves: its `m.call.hangup` takes the longer way, through homeservers.
            TransportInput::Closed => {
                self.remove_leg(&conf_id, &participant, None, now);
                return;
            }
            TransportInput::ConsentLost | TransportInput::Failed { .. } => {
                self.remove_leg(&conf_id, &participant, Some(HangupReason::IceFailed), now);
                return;
            }
        }
        conference.settle(&participant, shared, now);
        self.connect(&conf_id, now);
    }

    /// Takes that a user (or one device of it) is no longer a member of the conference: its legs are hung up.
    pub fn handle_member_gone(
        &mut self,
        conf_id: &str,
        user_id: &str,
        device_id: Option<&str>,
        now: Instant,
    ) {
        let Some(conference) = self.conferences.get(conf_id) else {
            return;
        };
        let gone: Vec<ParticipantId> = conference
            .legs
            .keys()
            .filter(|leg| {
                leg.user_id == user_id
                    && device_id.is_none_or(|device_id| leg.device_id == device_id)
            })
            .cloned()
            .collect();
        for participant in gone {
            self.remove_leg(conf_id, &participant, Some(HangupReason::UserHangup), now);
        }
    }

    /// Does what is due. Early or late calls do no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.handle_cascade_timeout(now);
        while let Some(&(deadline, transport)) = self.shared.deadlines.first() {
            if deadline > now {
                return;
            }
            self.shared.deadlines.pop_first();
            let Some((conf_id, participant)) = self.transports.get(&transport).cloned() else {
                continue;
            };
            let Some(conference) = self.conferences.get_mut(&conf_id) else {
                continue;
            };
            let Some(leg) = conference.legs.get_mut(&participant) else {
                continue;
            };
            leg.disarm();
            match leg.handle_timeout(&mut self.shared, now) {
                Ok(()) => conference.settle(&participant, &mut self.shared, now),
                Err(reason) => self.remove_leg(&conf_id, &participant, Some(reason), now),
            }
        }
    }

    /// When `handle_timeout` is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let legs = self.shared.deadlines.first().map(|&(deadline, _)| deadline);
        let cascade = self
            .cascade_deadlines
            .first()
            .map(|&(deadline, _)| deadline);
        legs.into_iter().chain(cascade).min()
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.shared.poll_output()
    }

    /// Hangs up every call, and refuses new ones from now on with [`Refusal::Draining`].
    pub fn hang_up_all(&mut self, reason: HangupReason, _now: Instant) {
        self.draining = true;
        self.transports.clear();
        self.cascade_deadlines.clear();
        // Nobody is told that the others leave: all do.
        for (_, leg) in std::mem::take(&mut self.conferences)
            .into_values()
            .flat_map(|conference| conference.legs)
        {
            self.ended.push(leg.participant(), leg.call_id());
            let ended = ended(&leg, Some(reason));
            leg.close(Some(reason), &mut self.shared);
            self.shared.push(Output::Happened(ended));
        }
    }

    /// The calls that are up, so that the next process can hang up those that this one leaves behind.
    pub fn live_calls(&self) -> Vec<LiveCall> {
        self.conferences
            .values()
            .flat_map(|conference| conference.legs.values())
            .map(leg::Leg::live_call)
            .collect()
    }

    /// Whether there is such a conference.
    pub fn has(&self, conf_id: &str) -> bool {
        self.conferences.contains_key(conf_id)
    }

    /// How many conferences there are.
    pub fn conference_count(&self) -> usize {
        self.conferences.len()
    }

    /// How many participants there are, over all conferences; those of other foci are not among them.
    pub fn participant_count(&self) -> usize {
        self.transports.len() - self.trunk_count()
    }

    /// How many trunks there are, over all conferences: up, or on the way to it.
    pub fn trunk_count(&self) -> usize {
        let trunks = self.conferences.values().map(|of| of.trunks().count());
        trunks.sum()
    }

    /// How many participants hold no more than a slot, over all conferences.
    pub fn slot_count(&self) -> usize {
        self.shared.slots.len()
    }

    /// How many participants publish anything, over all conferences.
    pub fn publisher_count(&self) -> usize {
        let legs = self
            .conferences
            .values()
            .flat_map(|conference| conference.legs.values());
        legs.filter(|leg| leg.streams().tracks().next().is_some())
            .count()
    }

    /// How many participants the largest conference has.
    pub fn largest_conference(&self) -> usize {
        let sizes = self
            .conferences
            .values()
            .map(|conference| conference.participants().count());
        sizes.max().unwrap_or(0)
    }

    /// Ends a leg, tells the others, and ends the conference with its last leg.
    fn remove_leg(
        &mut self,
        conf_id: &str,
        participant: &ParticipantId,
        reason: Option<HangupReason>,
        now: Instant,
    ) {
        let Some(conference) = self.conferences.get_mut(conf_id) else {
            return;
        };
        let Some(leg) = conference.legs.get(participant) else {
            return;
        };
        self.transports.remove(&leg.transport());
        self.ended.push(participant, leg.call_id());
        let (phase, ended) = (leg.phase(), ended(leg, reason));
        conference.remove(participant, reason, &mut self.shared);
        self.shared.push(Output::Happened(ended));
        if let Some(phase) = phase {
            conference.handle_trunk_ended(participant, phase, now);
        }
        conference.settle(participant, &mut self.shared, now);
        if conference.legs.is_empty() {
            self.remove_conference(conf_id);
        } else {
            self.connect(conf_id, now);
        }
    }
}

/// How the end of a leg is counted.
fn ended(leg: &leg::Leg, reason: Option<HangupReason>) -> Happened {
    match leg.trunk {
        Some(_) => Happened::Trunk(TrunkEvent::Ended),
        None => Happened::CallEnded(reason.into()),
    }
}
