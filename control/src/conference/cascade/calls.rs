//! When other foci are called, and when trunks are hung up.

use std::time::Instant;

use weir_shard::Command;
use weir_signal::{
    call::{Answer, Body, Envelope, FOCUS_SESSION_ID, Invite},
    sdp::Session,
};

use super::{Roster, Trunk};
use crate::conference::{
    Conferences, HangupReason, Happened, Output, ParticipantId, Protection, Refusal, Sender,
    TrunkEvent,
    leg::{Leg, NewLeg},
    limits, mapping,
    trunk::Phase,
};

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
    pub(in crate::conference) fn connect(&mut self, conf_id: &str, now: Instant) {
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
    pub(in crate::conference) fn remove_conference(&mut self, conf_id: &str) {
        if let Some(conference) = self.conferences.remove(conf_id) {
            self.unschedule(conf_id, conference.cascade.scheduled);
        }
    }

    /// Looks again at the conferences whose time has come.
    pub(in crate::conference) fn handle_cascade_timeout(&mut self, now: Instant) {
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
                protection: Protection::Plain,
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
    pub(in crate::conference) fn handle_answer(
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
        self.shared.command(
            shard,
            Command::AddTransport {
                id,
                ice,
                is_trunk: true,
            },
        );
        self.shared
            .command(shard, Command::CheckRemotes { id, remotes });
    }
}
