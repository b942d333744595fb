//! What a client says in to-device messages: invites, and what belongs to them.

use std::time::{Duration, Instant};

use weir_shard::Command;
use weir_signal::{
    call::{Body, Envelope, Invite, Message},
    sdp::{SdpError, Session},
};

use super::{
    CallEnd, Conferences, DtlsRole, Happened, InviteResult, Output, ParticipantId, Refusal, Sender,
    TrunkEvent,
    conference::Conference,
    ids,
    leg::{Leg, NewLeg},
    mapping, slots,
    trunk::{Phase, Trunk},
};

impl Conferences {
    /// Takes a to-device message whose sender may use its conference.
    ///
    /// An invite is answered at once; the candidates are in the answer, and nothing waits for the client's own.
    pub fn handle_call(&mut self, sender: Sender<'_>, message: Message, now: Instant) {
        let Message { envelope, body } = message;
        if let Err(reason) = check_envelope(sender, &envelope) {
            self.shared.refuse(reason);
            return;
        }
        match body {
            Body::Invite(invite) => match self.handle_invite(sender, &envelope, &invite, now) {
                Ok(()) => self.count_invite(InviteResult::Accepted),
                Err(reason) => self.refuse_invite(sender, &envelope, reason),
            },
            // An ICE-lite end learns where the client is from its checks.
            Body::Candidates(_) => {
                self.expect_call(sender, &envelope, |_| false, now);
            }
            Body::SelectAnswer { selected_party_id } => {
                self.expect_call(
                    sender,
                    &envelope,
                    |leg| leg.party_id() != Some(selected_party_id.as_str()),
                    now,
                );
            }
            Body::Reject { .. } => {
                let rejects = |leg: &Leg| leg.is_calling();
                if self.expect_call(sender, &envelope, rejects, now) {
                    self.shared.refuse(Refusal::TrunkRefused);
                }
            }
            Body::Hangup { .. } => {
                self.expect_call(sender, &envelope, |_| true, now);
            }
            // Participants call; only other foci are called.
            Body::Answer(answer) => self.handle_answer(sender, &envelope, answer, now),
        }
        self.connect(&envelope.conf_id, now);
    }

    /// Refuses a message instead of handing it to [`Conferences::handle_call`]. The sender of an invite is told, unless it
    /// sends more of them than it may.
    pub fn refuse_call(
        &mut self,
        sender: Sender<'_>,
        message: &Message,
        reason: Refusal,
        now: Instant,
    ) {
        let is_invite = matches!(message.body, Body::Invite(_));
        match check_envelope(sender, &message.envelope).and_then(|()| self.take_rate(sender, now)) {
            Ok(()) if is_invite => self.refuse_invite(sender, &message.envelope, reason),
            Ok(()) => self.shared.refuse(reason),
            Err(reason) => {
                if is_invite {
                    self.count_invite(InviteResult::Ignored);
                }
                self.shared.refuse(reason);
            }
        }
    }

    /// Finds the leg that a message is about; ends it, without a word, if `ends` says so. Whether it did.
    fn expect_call(
        &mut self,
        sender: Sender<'_>,
        envelope: &Envelope,
        ends: impl FnOnce(&Leg) -> bool,
        now: Instant,
    ) -> bool {
        let participant = ParticipantId::new(sender.user_id, &envelope.device_id);
        let leg = self
            .conferences
            .get(&envelope.conf_id)
            .and_then(|conference| conference.legs.get(&participant))
            .filter(|leg| leg.call_id() == envelope.call_id);
        match leg {
            // What crosses the end of a call, or comes after its transport was closed, is nobody's fault.
            None if self.ended.contains(&participant, &envelope.call_id) => {}
            None => self.shared.refuse(Refusal::UnknownCall),
            Some(leg) if ends(leg) => {
                self.remove_leg(&envelope.conf_id, &participant, None, now);
                return true;
            }
            Some(_) => {}
        }
        false
    }

    fn handle_invite(
        &mut self,
        sender: Sender<'_>,
        envelope: &Envelope,
        invite: &Invite,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.take_rate(sender, now)?;
        let participant = ParticipantId::new(sender.user_id, &envelope.device_id);
        self.check_invite(sender, &participant, envelope, invite)?;

        let shard = self.place(&envelope.conf_id);
        let transport = self.shared.transport_id();
        let local = self.shared.local_parameters(transport, shard);
        let mut session = if invite.trunk {
            Session::called_by_focus(local)
        } else {
            Session::new(local)
        };
        let offered = session
            .handle_offer(&invite.sdp)
            .map_err(|_: SdpError| Refusal::BadSdp)?;
        let remote = session.remote().cloned().ok_or(Refusal::BadSdp)?;
        let ice = mapping::ice_credentials(session.local_ice(), &remote.ice);
        let is_slot = !invite.trunk && slots::is_slot(&session, invite.metadata.as_ref());
        if is_slot {
            self.check_slot(&envelope.conf_id, &participant)?;
        }

        // From here on nothing can fail: the older leg of this device gives way.
        self.replace(&envelope.conf_id, &participant);
        self.shared.command(
            shard,
            Command::AddTransport {
                id: transport,
                ice,
                is_trunk: invite.trunk,
            },
        );
        self.shared.push(Output::OpenTransport {
            id: transport,
            shard,
            role: DtlsRole::Server,
            remote_fingerprint: remote.fingerprint.into(),
        });
        if invite.trunk {
            let accepted = Happened::Trunk(TrunkEvent::Accepted);
            self.shared.push(Output::Happened(accepted));
        }

        let mut leg = Leg::new(
            NewLeg {
                participant: participant.clone(),
                envelope: envelope.reply_from(&self.shared.settings.focus.device_id),
                protection: sender.protection,
                transport,
                shard,
                session,
                trunk: invite.trunk.then(|| Trunk::new(Phase::Connecting, now)),
            },
            &self.shared,
            now,
        );
        if let Some(metadata) = invite.metadata.clone() {
            leg.handle_metadata(metadata);
        }
        if is_slot {
            leg.hold_slot(&mut self.shared, now);
        }
        self.transports
            .insert(transport, (envelope.conf_id.clone(), participant.clone()));
        let conference = self
            .conferences
            .entry(envelope.conf_id.clone())
            .or_insert_with(|| Conference::new(self.shared.conference_id(), shard, now));
        conference.add(leg, offered.answer, &mut self.shared);
        conference.settle(&participant, &mut self.shared, now);
        Ok(())
    }

    fn take_rate(&mut self, sender: Sender<'_>, now: Instant) -> Result<(), Refusal> {
        let limits = &self.shared.settings.limits;
        if !self
            .user_rates
            .take(sender.user_id, limits.invites_per_user_per_second, now)
        {
            return Err(Refusal::TooManyInvitesOfUser);
        }
        let server_name = ids::server_name(sender.user_id);
        if !self
            .homeserver_rates
            .take(server_name, limits.invites_per_homeserver_per_second, now)
        {
            return Err(Refusal::TooManyInvitesOfHomeserver);
        }
        Ok(())
    }

    fn check_invite(
        &self,
        sender: Sender<'_>,
        participant: &ParticipantId,
        envelope: &Envelope,
        invite: &Invite,
    ) -> Result<(), Refusal> {
        let conference = self.conferences.get(&envelope.conf_id);
        let older = conference.and_then(|conference| conference.legs.get(participant));
        if older.is_some_and(|leg| leg.call_id() == envelope.call_id)
            || self.ended.contains(participant, &envelope.call_id)
        {
            return Err(Refusal::Duplicate);
        }
        if sender.age >= Duration::from_millis(invite.lifetime_ms) {
            return Err(Refusal::Expired);
        }
        if self.draining {
            return Err(Refusal::Draining);
        }
        if invite.trunk {
            self.check_trunk(participant, conference, older)?;
        }
        let limits = &self.shared.settings.limits;
        match conference {
            None if self.conferences.len() >= limits.conferences_max => {
                Err(Refusal::TooManyConferences)
            }
            None => Ok(()),
            Some(_) if older.is_some() || invite.trunk => Ok(()),
            Some(conference)
                if conference.participants().count() >= limits.participants_per_conference_max =>
            {
                Err(Refusal::TooManyParticipants)
            }
            Some(conference) => {
                let devices = conference
                    .legs
                    .keys()
                    .filter(|other| other.user_id == participant.user_id)
                    .count();
                if devices >= limits.participants_per_user_max {
                    Err(Refusal::TooManyDevicesOfUser)
                } else {
                    Ok(())
                }
            }
        }
    }

    /// Whether another focus may have a trunk. Of two calls that cross, that of the lower (user, device) goes on: the other focus
    /// ends its own when it gets this one's.
    fn check_trunk(
        &self,
        focus: &ParticipantId,
        conference: Option<&Conference>,
        older: Option<&Leg>,
    ) -> Result<(), Refusal> {
        let settings = &self.shared.settings;
        let trunks_max = settings.limits.trunks_per_conference_max;
        if *focus == settings.focus {
            Err(Refusal::TrunkToSelf)
        } else if trunks_max == 0 {
            Err(Refusal::Trunk)
        } else if older.is_some_and(Leg::is_calling) && settings.focus < *focus {
            Err(Refusal::TrunkCrossed)
        } else if older.is_none()
            && conference.is_some_and(|conference| conference.trunks().count() >= trunks_max)
        {
            Err(Refusal::TooManyTrunks)
        } else {
            Ok(())
        }
    }

    /// Whether the participant may hold a slot, instead of what it has in this conference.
    fn check_slot(&self, conf_id: &str, participant: &ParticipantId) -> Result<(), Refusal> {
        let conference = self.conferences.get(conf_id);
        let older = conference.and_then(|conference| conference.legs.get(participant));
        let limits = &self.shared.settings.limits;
        self.shared
            .slots
            .check(&participant.user_id, older.map(Leg::transport), limits)
    }

    /// The shard of a conference: where it is, or the one with the least to do.
    fn place(&self, conf_id: &str) -> usize {
        if let Some(conference) = self.conferences.get(conf_id) {
            return conference.shard;
        }
        let mut load = vec![(0usize, 0usize); self.shared.settings.shards.len()];
        for conference in self.conferences.values() {
            load[conference.shard].0 += conference.legs.len();
            load[conference.shard].1 += 1;
        }
        load.iter()
            .enumerate()
            .min_by_key(|(_, load)| **load)
            .map_or(0, |(shard, _)| shard)
    }

    /// Ends the older leg of a device that calls again. It is not told: it has given that call up.
    fn replace(&mut self, conf_id: &str, participant: &ParticipantId) {
        let Some(conference) = self.conferences.get_mut(conf_id) else {
            return;
        };
        let Some(leg) = conference.legs.get(participant) else {
            return;
        };
        self.transports.remove(&leg.transport());
        self.ended.push(participant, leg.call_id());
        let ended = match leg.trunk {
            Some(_) => Happened::Trunk(TrunkEvent::Ended),
            None => Happened::CallEnded(CallEnd::Replaced),
        };
        conference.remove(participant, None, &mut self.shared);
        self.shared.push(Output::Happened(ended));
    }

    fn count_invite(&mut self, result: InviteResult) {
        self.shared.push(Output::Happened(Happened::Invite(result)));
    }

    /// Counts a refused invite and tells its sender, where that helps.
    fn refuse_invite(&mut self, sender: Sender<'_>, envelope: &Envelope, reason: Refusal) {
        self.shared.refuse(reason);
        match reason {
            // A live call must not be disturbed, and nobody waits for an old one.
            Refusal::Duplicate | Refusal::Expired => self.count_invite(InviteResult::Ignored),
            // An answer to a flood is a flood.
            Refusal::TooManyInvitesOfUser | Refusal::TooManyInvitesOfHomeserver => {
                self.count_invite(InviteResult::Ignored)
            }
            _ => {
                self.count_invite(InviteResult::Refused);
                let to = ParticipantId::new(sender.user_id, &envelope.device_id);
                let envelope = envelope.reply_from(&self.shared.settings.focus.device_id);
                let message = Message {
                    envelope,
                    body: Body::Reject {
                        reason: Some(reason.label().to_owned()),
                    },
                };
                self.shared.push(Output::ToDevice {
                    to,
                    event_type: message.event_type(),
                    content: message.content(),
                    protection: sender.protection,
                });
            }
        }
    }
}

/// What must hold for every message, whatever it says.
fn check_envelope(sender: Sender<'_>, envelope: &Envelope) -> Result<(), Refusal> {
    if !envelope.is_for_focus() {
        return Err(Refusal::NotForFocus);
    }
    if sender
        .device_id
        .is_some_and(|device_id| device_id != envelope.device_id)
    {
        return Err(Refusal::WrongDevice);
    }
    Ok(())
}
