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

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use weir_shard::Command;
use weir_signal::{
    call::{Answer, Body, Envelope, FOCUS_SESSION_ID, Invite},
    channel::ConnectToFocus,
    sdp::Session,
};

use super::{
    Conferences, HangupReason, Happened, Output, ParticipantId, Refusal, Sender, TrunkEvent,
    conference::Conference,
    leg::{Leg, NewLeg},
    limits, mapping,
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

    /// A trunk has ended, by whatever. It is called again after a while, if it is still wanted.
    fn handle_ended(&mut self, focus: &ParticipantId, phase: Phase, now: Instant) {
        let Some(wish) = self.wishes.get_mut(focus) else {
            return;
        };
        let lasted = matches!(phase, Phase::Up(since) if now - since >= limits::TRUNK_STABLE);
        wish.failures = if lasted { 0 } else { wish.failures + 1 };
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
            not_before: now + patience,
        }))
    }

    fn drop_unwanted(&mut self) {
        self.wishes
            .retain(|_, wish| wish.noticed || !wish.asked_by.is_empty());
    }
}

impl Conferences {
    /// Takes who is in a conference as rooms say it now. Of a conference that is not here nothing is kept: the roster is to be
    /// given again after its first invite.
    pub fn handle_roster(&mut self, conf_id: &str, roster: Roster, now: Instant) {
        let own = self.shared.settings.focus.clone();
        let Some(conference) = self.conferences.get_mut(conf_id) else {
            return;
        };
        if conference.cascade.roster == roster {
            return;
        }
        conference.cascade.set_roster(roster, &own, now);
        conference.refresh_trunks(&mut self.shared);
        conference.settle_all(&mut self.shared, now);
        self.connect(conf_id, now);
    }

    /// Calls the foci that are wanted, and hangs up trunks that nobody needs; then says when to look again.
    pub(super) fn connect(&mut self, conf_id: &str, now: Instant) {
        self.end_idle_trunks(conf_id, now);
        let Some(conference) = self.conferences.get_mut(conf_id) else {
            return;
        };
        let due = if conference.is_inhabited() {
            conference.due_calls(now)
        } else {
            Vec::new()
        };
        for focus in due {
            match self.allow_call(conf_id, &focus, now) {
                Ok(()) => self.call_focus(conf_id, &focus, now),
                Err(reason) => {
                    self.shared.refuse(reason);
                    if let Some(conference) = self.conferences.get_mut(conf_id) {
                        let cascade = &mut conference.cascade;
                        cascade.handle_ended(&focus, Phase::Calling, now);
                    }
                }
            }
        }
        self.schedule(conf_id, now);
    }

    /// Ends trunks that nobody needs: all of them with the last participant, and the others after a while.
    fn end_idle_trunks(&mut self, conf_id: &str, now: Instant) {
        let Some(conference) = self.conferences.get_mut(conf_id) else {
            return;
        };
        let deserted = !conference.is_inhabited();
        let at_once = deserted && conference.cascade.inhabited;
        conference.cascade.inhabited |= !deserted;
        let mut over = Vec::new();
        for (focus, leg) in &mut conference.legs {
            let Some(trunk) = &mut leg.trunk else {
                continue;
            };
            let wanted = conference.cascade.wishes.contains_key(focus);
            let needed = !deserted && (wanted || trunk.remote.announces());
            if needed {
                trunk.idle_since = None;
            } else if at_once
                || now - *trunk.idle_since.get_or_insert(now) >= limits::TRUNK_IDLE_MAX
            {
                over.push(focus.clone());
            }
        }
        for focus in over {
            self.remove_leg(conf_id, &focus, Some(HangupReason::UserHangup), now);
        }
    }

    fn schedule(&mut self, conf_id: &str, now: Instant) {
        let Some(conference) = self.conferences.get_mut(conf_id) else {
            return;
        };
        let retries = conference.cascade.wishes.iter();
        let retries = retries
            .filter(|(focus, _)| !conference.legs.contains_key(*focus))
            .map(|(_, wish)| wish.not_before);
        let trunks = conference
            .legs
            .values()
            .filter_map(|leg| leg.trunk.as_ref());
        let idle = trunks.filter_map(|trunk| Some(trunk.idle_since? + limits::TRUNK_IDLE_MAX));
        let next = retries.chain(idle).filter(|at| *at > now).min();
        let scheduled = std::mem::replace(&mut conference.cascade.scheduled, next);
        if scheduled != next {
            self.unschedule(conf_id, scheduled);
            self.cascade_deadlines
                .extend(next.map(|next| (next, conf_id.to_owned())));
        }
    }

    fn unschedule(&mut self, conf_id: &str, scheduled: Option<Instant>) {
        if let Some(at) = scheduled {
            self.cascade_deadlines.remove(&(at, conf_id.to_owned()));
        }
    }

    /// Forgets a conference that has no legs any more.
    pub(super) fn remove_conference(&mut self, conf_id: &str) {
        if let Some(conference) = self.conferences.remove(conf_id) {
            self.unschedule(conf_id, conference.cascade.scheduled);
        }
    }

    /// Looks again at the conferences whose time has come.
    pub(super) fn handle_cascade_timeout(&mut self, now: Instant) {
        while let Some((at, _)) = self.cascade_deadlines.first() {
            if *at > now {
                return;
            }
            let Some((_, conf_id)) = self.cascade_deadlines.pop_first() else {
                return;
            };
            if let Some(conference) = self.conferences.get_mut(&conf_id) {
                conference.cascade.scheduled = None;
            }
            self.connect(&conf_id, now);
        }
    }

    /// Whether one more call may go out now.
    fn allow_call(
        &mut self,
        conf_id: &str,
        focus: &ParticipantId,
        now: Instant,
    ) -> Result<(), Refusal> {
        let limits = &self.shared.settings.limits;
        let Some(conference) = self.conferences.get_mut(conf_id) else {
            return Err(Refusal::UnknownCall);
        };
        if self.draining {
            return Err(Refusal::Draining);
        }
        if conference.trunks().count() >= limits.trunks_per_conference_max {
            return Err(Refusal::TooManyTrunks);
        }
        let per_conference = conference.cascade.calls.take(
            limits::TRUNK_CALLS_PER_SECOND,
            limits::TRUNK_CALLS_BURST,
            now,
        );
        let target = focus.server_name();
        if !per_conference
            || !self.trunk_rates.take_of(
                target,
                limits::TRUNK_CALLS_PER_SECOND,
                limits::TRUNK_CALLS_BURST,
                now,
            )
        {
            return Err(Refusal::TooManyTrunkCalls);
        }
        Ok(())
    }

    /// Calls another focus.
    fn call_focus(&mut self, conf_id: &str, focus: &ParticipantId, now: Instant) {
        let Some(conference) = self.conferences.get_mut(conf_id) else {
            return;
        };
        let shared = &mut self.shared;
        let transport = shared.transport_id();
        let mut session = Session::calling(shared.local_parameters(transport, conference.shard));
        let Some(sdp) = session.create_offer() else {
            return;
        };
        let envelope = Envelope::of_focus(
            &shared.call_id(),
            conf_id,
            &shared.settings.focus.device_id,
            FOCUS_SESSION_ID,
        );
        let mut leg = Leg::new(
            NewLeg {
                participant: focus.clone(),
                envelope,
                protection: super::Protection::Plain,
                transport,
                shard: conference.shard,
                session,
                trunk: Some(Trunk::new(Phase::Calling, now)),
            },
            shared,
            now,
        );
        let invite = Invite {
            sdp,
            lifetime_ms: limits::TRUNK_INVITE_LIFETIME.as_millis() as u64,
            invitee: Some(focus.user_id.clone()),
            metadata: None,
            trunk: true,
        };
        leg.send_call(Body::Invite(invite), shared);
        leg.arm(shared);
        shared.push(Output::Happened(Happened::Trunk(TrunkEvent::Called)));
        self.transports
            .insert(transport, (conf_id.to_owned(), focus.clone()));
        conference.legs.insert(focus.clone(), leg);
    }

    /// Takes the answer of a focus that this one has called: its checks begin.
    pub(super) fn handle_answer(
        &mut self,
        sender: Sender<'_>,
        envelope: &Envelope,
        answer: Answer,
        now: Instant,
    ) {
        let focus = ParticipantId::new(sender.user_id, &envelope.device_id);
        let leg = self
            .conferences
            .get_mut(&envelope.conf_id)
            .and_then(|conference| conference.legs.get_mut(&focus))
            .filter(|leg| leg.call_id() == envelope.call_id);
        let Some(leg) = leg.filter(|leg| leg.is_calling()) else {
            self.shared.refuse(Refusal::UnknownCall);
            return;
        };
        let taken = leg.session.handle_answer(&answer.sdp).ok();
        let Some(remote) = taken.and_then(|()| leg.session.remote().cloned()) else {
            self.shared.refuse(Refusal::BadSdp);
            let reason = Some(HangupReason::UnknownError);
            self.remove_leg(&envelope.conf_id, &focus, reason, now);
            return;
        };
        leg.handle_answered();
        // Who answers may be called as often as there is reason to.
        self.trunk_rates
            .give_of(focus.server_name(), limits::TRUNK_CALLS_BURST);
        let ice = mapping::ice_credentials(leg.session.local_ice(), &remote.ice);
        let (id, shard) = (leg.transport(), leg.shard());
        let remotes = remote.candidates.iter();
        let remotes = remotes.map(|candidate| candidate.address).collect();
        self.shared
            .command(shard, Command::AddTransport { id, ice });
        self.shared
            .command(shard, Command::CheckRemotes { id, remotes });
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
