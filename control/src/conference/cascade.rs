//! With which other foci a conference is connected, and when.
//!
//! ```text
//!  rooms: who publishes where ─► roster ─┐
//!                                        ├► wishes ─► calls, with back-off ─► trunks ─► hung up when nobody needs them
//!  participants: m.call.connect_to_focus ┘
//! ```
//! Of two foci that want each other, the one with the lower (user, device) calls, as MSC3401 has it for two clients; the other one
//! waits a little, and then calls too: it may be the only one that knows. Calls that cross are settled by the same order.
//!
//! A member's event can name anything as a focus. So calls are few: for each conference, for each target, and with growing pauses
//! where they fail.

mod calls;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use weir_signal::channel::ConnectToFocus;

use super::{
    ParticipantId, Refusal,
    conference::Conference,
    leg::Leg,
    limits,
    overview::TrunkState,
    rate::Bucket,
    shared::Shared,
    trunk::{self, Phase, Trunk},
};

/// Who is in a conference, and at which foci, as far as rooms say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The foci that members publish to.
    pub foci: BTreeSet<ParticipantId>,
    /// The devices that are in the conference, each with the foci that it names; `None` where nothing can be known, and other foci
    /// are believed.
    pub members: Option<BTreeMap<ParticipantId, Vec<ParticipantId>>>,
}

impl Roster {
    /// Whether `owner` may be announced by `focus`. A device that names no focus may be at any.
    fn vouches(&self, owner: &ParticipantId, focus: &ParticipantId) -> bool {
        self.members.as_ref().is_none_or(|members| {
            members
                .get(owner)
                .is_some_and(|foci| foci.is_empty() || foci.contains(focus))
        })
    }
}

/// The foci that one conference wants to be connected with.
#[derive(Debug)]
pub(super) struct Cascade {
    roster: Roster,
    wishes: BTreeMap<ParticipantId, Wish>,
    calls: Bucket,
    /// When it is looked at again.
    scheduled: Option<Instant>,
    /// Whether anybody has ever been here. Without, another focus has come first, and somebody may follow.
    inhabited: bool,
}

#[derive(Debug)]
struct Wish {
    /// Participants here who have asked for it.
    asked_by: BTreeSet<ParticipantId>,
    /// Whether the roster names it.
    noticed: bool,
    /// Calls in a row that came to nothing.
    failures: u32,
    /// Whether there has been a call or a trunk.
    tried: bool,
    not_before: Instant,
}

impl Cascade {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            // Before anything is known, nobody is believed.
            roster: Roster {
                members: Some(BTreeMap::new()),
                ..Roster::default()
            },
            wishes: BTreeMap::new(),
            calls: Bucket::new(limits::TRUNK_CALLS_BURST, now),
            scheduled: None,
            inhabited: false,
        }
    }

    pub(super) fn vouches(&self, owner: &ParticipantId, focus: &ParticipantId) -> bool {
        self.roster.vouches(owner, focus)
    }

    /// A participant has left: it wants nothing any more.
    pub(super) fn forget(&mut self, participant: &ParticipantId) {
        for wish in self.wishes.values_mut() {
            wish.asked_by.remove(participant);
        }
        self.drop_unwanted();
    }

    /// The foci that are wanted and have no leg.
    pub(super) fn unconnected(
        &self,
        legs: &BTreeMap<ParticipantId, Leg>,
    ) -> impl Iterator<Item = (&ParticipantId, TrunkState)> {
        let wishes = self.wishes.iter();
        let without = wishes.filter(|(focus, _)| !legs.contains_key(*focus));
        without.map(|(focus, wish)| match wish.tried {
            true => (focus, TrunkState::Lost),
            false => (focus, TrunkState::Wanted),
        })
    }

    /// A trunk has ended, by whatever. It is called again after a while, if it is still wanted.
    fn handle_ended(&mut self, focus: &ParticipantId, phase: Phase, now: Instant) {
        let Some(wish) = self.wishes.get_mut(focus) else {
            return;
        };
        let lasted = matches!(phase, Phase::Up(since) if now - since >= limits::TRUNK_STABLE);
        wish.failures = if lasted { 0 } else { wish.failures + 1 };
        wish.tried = true;
        let doublings = wish.failures.saturating_sub(1).min(16);
        let pause = limits::TRUNK_RETRY_FIRST * 2_u32.pow(doublings);
        wish.not_before = now + pause.min(limits::TRUNK_RETRY_MAX);
    }

    fn set_roster(&mut self, roster: Roster, own: &ParticipantId, now: Instant) {
        for wish in self.wishes.values_mut() {
            wish.noticed = false;
        }
        for focus in roster.foci.iter().filter(|focus| *focus != own) {
            if let Some(wish) = self.wish(focus, own, now) {
                wish.noticed = true;
            }
        }
        self.roster = roster;
        self.drop_unwanted();
    }

    /// The wish for a focus, a new one if need be; `None` if there are too many.
    fn wish(
        &mut self,
        focus: &ParticipantId,
        own: &ParticipantId,
        now: Instant,
    ) -> Option<&mut Wish> {
        let room = self.wishes.len() < limits::FOCI_PER_CONFERENCE_MAX;
        if !room && !self.wishes.contains_key(focus) {
            return None;
        }
        let patience = if own < focus {
            Duration::ZERO
        } else {
            limits::TRUNK_PATIENCE
        };
        Some(self.wishes.entry(focus.clone()).or_insert_with(|| Wish {
            asked_by: BTreeSet::new(),
            noticed: false,
            failures: 0,
            tried: false,
            not_before: now + patience,
        }))
    }

    fn drop_unwanted(&mut self) {
        self.wishes
            .retain(|_, wish| wish.noticed || !wish.asked_by.is_empty());
    }
}

impl Conference {
    /// Takes a participant's wish that this focus connect to another one.
    ///
    /// # Errors
    /// The refusal, and what to tell the participant.
    pub(super) fn handle_connect(
        &mut self,
        participant: &ParticipantId,
        connect: &ConnectToFocus,
        shared: &Shared,
        now: Instant,
    ) -> Result<(), (Refusal, &'static str, &'static str)> {
        let own = &shared.settings.focus;
        let focus = ParticipantId::new(&connect.user_id, &connect.device_id);
        let limit = shared.settings.limits.trunks_per_conference_max;
        if limit == 0 {
            let error = "this focus does not connect to others";
            return Err((Refusal::UnknownMessage, "M_UNRECOGNIZED", error));
        }
        let leg = self.legs.get(participant);
        if leg.is_none_or(|leg| leg.conf_id() != connect.conf_id) {
            let error = "not the conference of this call";
            return Err((Refusal::OtherConference, "M_FORBIDDEN", error));
        }
        if focus == *own {
            return Err((
                Refusal::TrunkToSelf,
                "M_INVALID_PARAM",
                "this is that focus",
            ));
        }
        match self.cascade.wish(&focus, own, now) {
            Some(wish) => {
                wish.asked_by.insert(participant.clone());
                Ok(())
            }
            None => {
                let error = "the conference has all the foci that it may have";
                Err((Refusal::TooManyTrunks, "M_LIMIT_EXCEEDED", error))
            }
        }
    }

    /// The legs of other foci.
    pub(super) fn trunks(&self) -> impl Iterator<Item = (&ParticipantId, &Trunk)> {
        self.legs
            .iter()
            .filter_map(|(focus, leg)| Some((focus, leg.trunk.as_ref()?)))
    }

    /// The legs of those who are here themselves.
    pub(super) fn participants(&self) -> impl Iterator<Item = (&ParticipantId, &Leg)> {
        self.legs.iter().filter(|(_, leg)| leg.trunk.is_none())
    }

    /// Whether somebody is here who is in the call. Those who hold a slot may yet choose another focus.
    fn is_inhabited(&self) -> bool {
        self.participants().any(|(_, leg)| !leg.is_slot())
    }

    /// The foci that are wanted, not connected, and due.
    fn due_calls(&self, now: Instant) -> Vec<ParticipantId> {
        let wishes = self.cascade.wishes.iter();
        let due = wishes
            .filter(|(focus, wish)| wish.not_before <= now && !self.legs.contains_key(*focus));
        due.map(|(focus, _)| focus.clone()).collect()
    }

    /// Looks again at what all trunks announce: whom they may, depends on who is here, and on each other.
    pub(super) fn refresh_trunks(&mut self, shared: &mut Shared) {
        let trunks: Vec<ParticipantId> = self.trunks().map(|(focus, _)| focus.clone()).collect();
        for focus in trunks {
            self.refresh_streams(&focus, None, shared);
        }
    }

    /// Takes that a trunk is gone: its focus is called again after a while, if it is still wanted.
    pub(super) fn handle_trunk_ended(&mut self, focus: &ParticipantId, phase: Phase, now: Instant) {
        self.cascade.handle_ended(focus, phase, now);
    }

    /// Asks the other foci for what is wanted here, where that has changed.
    pub(super) fn ask_trunks(&mut self, shared: &mut Shared, now: Instant) {
        let asks = |(_, trunk): (_, &Trunk)| trunk.poll_timeout().is_some();
        if !self.trunks().any(asks) {
            return;
        }
        let mut wanted = BTreeMap::new();
        for (_, leg) in self.legs.iter().filter(|(_, leg)| leg.trunk.is_none()) {
            for (name, size) in leg.subscriptions.wanted() {
                let largest = wanted.entry(name.clone()).or_insert(size);
                *largest = trunk::larger(*largest, size);
            }
        }
        for leg in self.legs.values_mut() {
            let Some(trunk) = &mut leg.trunk else {
                continue;
            };
            if let Some(ask) = trunk.ask_if_due(&wanted, now) {
                leg.send_to_focus(&ask, shared);
            }
            leg.arm(shared);
        }
    }

    /// What is wanted here may have changed.
    pub(super) fn handle_demand_changed(&mut self) {
        for leg in self.legs.values_mut() {
            if let Some(trunk) = &mut leg.trunk {
                trunk.handle_demand_changed();
            }
        }
    }
}
