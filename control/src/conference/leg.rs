//! One participant's end of the call at the focus: its transport, its session, its data channel. The participant can be another
//! focus: then the leg is a trunk's end.

use std::time::{Duration, Instant};

use serde_json::Value;
use weir_shard::{Command, TransportId};
use weir_signal::{
    call::{Body, Envelope, Message},
    channel::{
        Description, DescriptionKind, Dialect, ErrorReply, FromClient, MessageName, Snapshot,
        Status, ToClient,
    },
    metadata::StreamMetadata,
    sdp::Session,
};

use super::{
    DtlsRole, HangupReason, Happened, LiveCall, OfferSent, Output, ParticipantId, Protection,
    board::{Board, Viewer},
    limits,
    ping::{Due, Ping},
    rate::Bucket,
    shared::Shared,
    slots,
    streams::Streams,
    subscriptions::{Place, Subscriptions},
    told::StatusTeller,
    trunk::{Phase, Trunk},
};

/// A participant that calls, from its invite to its end. A new invite makes a new leg.
#[derive(Debug)]
pub(super) struct Leg {
    participant: ParticipantId,
    /// Of everything that the focus says in this call.
    envelope: Envelope,
    protection: Protection,
    transport: TransportId,
    shard: usize,
    pub(super) session: Session,
    channel: Channel,
    /// That of its first message. Until then it is told everything in both: it may wait for a word that it understands.
    dialect: Option<Dialect>,
    offer: Offer,
    pub(super) streams: Streams,
    /// What there is beside, if the other end is a focus.
    pub(super) trunk: Option<Trunk>,
    pub(super) subscriptions: Subscriptions,
    told: Told,
    pub(super) status: StatusTeller,
    messages: Bucket,
    /// Until when media must have followed; `None` once it has.
    slot: Option<Instant>,
    armed: Option<Instant>,
}

/// The data channel that carries signalling.
#[derive(Debug)]
enum Channel {
    Waiting { deadline: Instant },
    Open { channel: u16, ping: Ping },
}

/// The own offer.
#[derive(Debug, Default)]
struct Offer {
    /// When it is taken back if no answer has come.
    deadline: Option<Instant>,
    /// How many in a row were not answered.
    unanswered: u32,
}

/// What the participant has been told about the others.
#[derive(Debug)]
struct Told {
    snapshot: Option<Snapshot>,
    /// Not before this, so that many changes become one message.
    earliest: Instant,
    /// Whether the board has changed since it was last looked at.
    stale: bool,
}

/// What a leg needs to come to be.
pub(super) struct NewLeg {
    pub(super) participant: ParticipantId,
    pub(super) envelope: Envelope,
    pub(super) protection: Protection,
    pub(super) transport: TransportId,
    pub(super) shard: usize,
    pub(super) session: Session,
    pub(super) trunk: Option<Trunk>,
}

impl Leg {
    pub(super) fn new(new: NewLeg, shared: &Shared, now: Instant) -> Self {
        Self {
            participant: new.participant,
            envelope: new.envelope,
            protection: new.protection,
            transport: new.transport,
            shard: new.shard,
            session: new.session,
            channel: Channel::Waiting {
                deadline: now + shared.settings.timing.channel_timeout,
            },
            // Foci speak late among themselves.
            dialect: new.trunk.as_ref().map(|_| Dialect::Late),
            offer: Offer::default(),
            streams: Streams::default(),
            trunk: new.trunk,
            subscriptions: Subscriptions::default(),
            told: Told {
                snapshot: None,
                earliest: now,
                stale: false,
            },
            status: StatusTeller::default(),
            messages: Bucket::new(limits::MESSAGES_BURST, now),
            slot: None,
            armed: None,
        }
    }

    pub(super) fn participant(&self) -> &ParticipantId {
        &self.participant
    }

    pub(super) fn transport(&self) -> TransportId {
        self.transport
    }

    pub(super) fn shard(&self) -> usize {
        self.shard
    }

    pub(super) fn call_id(&self) -> &str {
        &self.envelope.call_id
    }

    pub(super) fn conf_id(&self) -> &str {
        &self.envelope.conf_id
    }

    /// What it may see of the others.
    pub(super) fn viewer(&self) -> Viewer<'_> {
        Viewer {
            leg: &self.participant,
            is_trunk: self.trunk.is_some(),
        }
    }

    pub(super) fn party_id(&self) -> Option<&str> {
        self.envelope.party_id.as_deref()
    }

    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    pub(super) fn live_call(&self) -> LiveCall {
        LiveCall {
            conf_id: self.envelope.conf_id.clone(),
            participant: self.participant.clone(),
            call_id: self.envelope.call_id.clone(),
            session_id: self.envelope.dest_session_id.clone(),
            protection: self.protection,
        }
    }

    /// It has come without media, and has a place for so long.
    pub(super) fn hold_slot(&mut self, shared: &mut Shared, now: Instant) {
        let seconds = shared.settings.limits.slot_seconds;
        self.slot = Some(now + Duration::from_secs(seconds.into()));
        shared.slots.hold(self.transport, &self.participant.user_id);
    }

    /// Whether it holds a slot and no more.
    pub(super) fn is_slot(&self) -> bool {
        self.slot.is_some()
    }

    /// Gives the slot back once there is media.
    fn release_slot(&mut self, shared: &mut Shared) {
        if self.slot.is_some() && !slots::is_slot(&self.session, self.streams.said()) {
            self.slot = None;
            shared.slots.release(self.transport);
        }
    }

    // ── To-device ──────────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn send_call(&self, body: Body, shared: &mut Shared) {
        let message = Message {
            envelope: self.envelope.clone(),
            body,
        };
        let (event_type, content): (_, Value) = (message.event_type(), message.content());
        shared.push(Output::ToDevice {
            to: self.participant.clone(),
            event_type,
            content,
            protection: self.protection,
        });
    }

    /// Ends everything that this leg has outside the conference. With a reason, the participant is told.
    pub(super) fn close(self, reason: Option<HangupReason>, shared: &mut Shared) {
        if let Some(reason) = reason {
            self.send_call(
                Body::Hangup {
                    reason: Some(reason.as_str().to_owned()),
                },
                shared,
            );
        }
        shared.slots.release(self.transport);
        // A call that was not answered has no transport yet.
        if !self.is_calling() {
            shared.push(Output::CloseTransport { id: self.transport });
            shared.command(self.shard, Command::RemoveTransport { id: self.transport });
        }
        if let Some(armed) = self.armed {
            shared.deadlines.remove(&(armed, self.transport));
        }
    }

    // ── Data channel ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// Takes a channel for signalling; false if there is one already.
    pub(super) fn handle_channel_open(
        &mut self,
        channel: u16,
        shared: &Shared,
        now: Instant,
    ) -> bool {
        match self.channel {
            Channel::Open { .. } => false,
            Channel::Waiting { .. } => {
                let timing = &shared.settings.timing;
                let mut ping = Ping::new(timing, now);
                // A channel that takes the place of another.
                if self.dialect == Some(Dialect::Early) {
                    ping.listen(timing, now);
                }
                self.channel = Channel::Open { channel, ping };
                if let Some(trunk) = &mut self.trunk {
                    trunk.handle_channel_open(now);
                }
                // Always told, even if there is nothing: the client subscribes because of it.
                self.told = Told {
                    snapshot: None,
                    earliest: now,
                    stale: true,
                };
                true
            }
        }
    }

    /// The participant has as long to open another one as it had for the first.
    pub(super) fn handle_channel_closed(&mut self, channel: u16, shared: &Shared, now: Instant) {
        if self.is_signalling(channel) {
            self.channel = Channel::Waiting {
                deadline: now + shared.settings.timing.channel_timeout,
            };
            self.session.rollback();
            self.offer = Offer::default();
        }
    }

    /// Whether that channel is the one that carries signalling.
    pub(super) fn is_signalling(&self, channel: u16) -> bool {
        matches!(self.channel, Channel::Open { channel: own, .. } if own == channel)
    }

    /// Whether the participant may send one more message now.
    pub(super) fn take_message(&mut self, now: Instant) -> bool {
        self.messages
            .take(limits::MESSAGES_PER_SECOND, limits::MESSAGES_BURST, now)
    }

    /// A message of this dialect has come. The first one decides in which it is answered from now on.
    pub(super) fn handle_heard(&mut self, dialect: Dialect, shared: &Shared, now: Instant) {
        let is_first = self.dialect.is_none();
        let spoken = *self.dialect.get_or_insert(dialect);
        if let Channel::Open { ping, .. } = &mut self.channel {
            let timing = &shared.settings.timing;
            if is_first && spoken == Dialect::Early {
                ping.listen(timing, now);
            }
            ping.handle_heard(timing, now);
        }
    }

    pub(super) fn handle_pong(&mut self) {
        if let Channel::Open { ping, .. } = &mut self.channel {
            ping.handle_pong();
        }
    }

    pub(super) fn send(&self, message: &ToClient, shared: &mut Shared) {
        self.send_texts(|dialect| message.to_text(dialect), shared);
    }

    fn send_texts(&self, text: impl Fn(Dialect) -> String, shared: &mut Shared) {
        let Channel::Open { channel, .. } = self.channel else {
            return;
        };
        let dialects: &[Dialect] = match &self.dialect {
            Some(dialect) => std::slice::from_ref(dialect),
            None => &Dialect::ALL,
        };
        for dialect in dialects {
            shared.push(Output::SendText {
                id: self.transport,
                channel,
                text: text(*dialect),
            });
        }
    }

    pub(super) fn send_error(
        &self,
        errcode: &str,
        error: &str,
        in_reply_to: Option<&MessageName>,
        shared: &mut Shared,
    ) {
        let reply = ErrorReply {
            errcode: errcode.to_owned(),
            error: error.to_owned(),
            in_reply_to: in_reply_to.cloned(),
            details: None,
        };
        self.send(&ToClient::Error(reply), shared);
    }

    /// Sends a description together with the snapshot. That does not count as telling: the client may drop it.
    pub(super) fn send_description(
        &self,
        kind: DescriptionKind,
        sdp: String,
        board: &Board,
        shared: &mut Shared,
    ) {
        let snapshot = board.snapshot_for(self.viewer());
        let description = Description { kind, sdp };
        self.send_texts(
            |dialect| snapshot.to_text_with(dialect, &description),
            shared,
        );
    }

    // ── Trunks ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Whether this focus has called the other end and has not been answered.
    pub(super) fn is_calling(&self) -> bool {
        self.phase() == Some(Phase::Calling)
    }

    /// How far a trunk is; `None` if the leg is a participant's.
    pub(super) fn phase(&self) -> Option<Phase> {
        self.trunk.as_ref().map(|trunk| trunk.phase)
    }

    /// The other focus has answered.
    pub(super) fn handle_answered(&mut self) {
        if let Some(trunk) = &mut self.trunk {
            trunk.phase = Phase::Connecting;
        }
    }

    /// The transport has an address. Where this focus has made the checks, the handshake is its to begin.
    pub(super) fn handle_ice_connected(&mut self, shared: &mut Shared) {
        let Some(trunk) = self.trunk.as_mut() else {
            return;
        };
        if !self.session.is_impolite() || trunk.phase != Phase::Connecting {
            return;
        }
        trunk.phase = Phase::Handshaking;
        if let Some(remote) = self.session.remote() {
            shared.push(Output::OpenTransport {
                id: self.transport,
                shard: self.shard,
                role: DtlsRole::Client,
                remote_fingerprint: remote.fingerprint.clone().into(),
            });
        }
    }

    /// Takes what the other end says about streams: its own, or those of whoever is connected to it.
    pub(super) fn handle_metadata(&mut self, said: StreamMetadata) {
        match &mut self.trunk {
            None => self.streams.handle_metadata(said),
            Some(trunk) => trunk.remote.handle_metadata(said),
        }
    }

    /// Asks the other focus for something.
    pub(super) fn send_to_focus(&self, message: &FromClient, shared: &mut Shared) {
        let Channel::Open { channel, .. } = self.channel else {
            return;
        };
        for text in message.to_texts(Dialect::Late) {
            let id = self.transport;
            shared.push(Output::SendText { id, channel, text });
        }
    }

    // ── Offers ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Whether an own offer waits for its answer.
    pub(super) fn has_offered(&self) -> bool {
        self.offer.deadline.is_some()
    }

    /// The outstanding offer has been answered, or an offer of the participant has taken its place.
    pub(super) fn end_offer(&mut self) {
        self.offer = Offer::default();
    }

    fn make_offer(&mut self, board: &Board, shared: &mut Shared, now: Instant) {
        let open = matches!(self.channel, Channel::Open { .. });
        if !open || self.offer.deadline.is_some() || !self.session.needs_offer() {
            return;
        }
        if let Some(sdp) = self.session.create_offer() {
            self.offer.deadline = Some(now + shared.settings.timing.offer_timeout);
            self.send_description(DescriptionKind::Offer, sdp, board, shared);
        }
    }

    // ── What follows from a change ─────────────────────────────────────────────────────────────────────────────────────

    /// The board has changed.
    pub(super) fn handle_board_changed(&mut self) {
        self.told.stale = true;
    }

    /// A description of the participant has been taken.
    pub(super) fn handle_agreed(&mut self, board: &Board, shared: &mut Shared) {
        let place = Place {
            viewer: Viewer {
                leg: &self.participant,
                is_trunk: self.trunk.is_some(),
            },
            transport: self.transport,
            shard: self.shard,
        };
        self.subscriptions
            .handle_agreed(place, board, &mut self.session, shared);
    }

    /// Does what is left to do after any change: subscriptions, an offer, a snapshot, the next deadline.
    pub(super) fn settle(&mut self, board: &Board, shared: &mut Shared, now: Instant) {
        let place = Place {
            viewer: Viewer {
                leg: &self.participant,
                is_trunk: self.trunk.is_some(),
            },
            transport: self.transport,
            shard: self.shard,
        };
        self.subscriptions
            .reconcile(place, board, &mut self.session, shared);
        self.release_slot(shared);
        self.send_snapshot(board, shared, now);
        self.send_status(board, shared, now);
        self.make_offer(board, shared, now);
        self.arm(shared);
    }

    fn send_snapshot(&mut self, board: &Board, shared: &mut Shared, now: Instant) {
        let open = matches!(self.channel, Channel::Open { .. });
        if !open || !self.told.stale || now < self.told.earliest {
            return;
        }
        self.told.stale = false;
        let snapshot = board.snapshot_for(self.viewer());
        if self.told.snapshot.as_ref() != Some(&snapshot) {
            self.send_texts(|dialect| snapshot.to_text(dialect), shared);
            self.told.snapshot = Some(snapshot);
            self.told.earliest = now + limits::SNAPSHOT_INTERVAL;
        }
    }

    fn send_status(&mut self, board: &Board, shared: &mut Shared, now: Instant) {
        if !self.status.take_due(now) {
            return;
        }
        let transport = self.status.transport;
        let status = Status {
            estimate_bps: transport.estimate_bps,
            allocated_bps: transport.allocated_bps,
            wanted_bps: transport.wanted_bps,
            tracks: self.subscriptions.take_changed(board),
        };
        self.send(&ToClient::Status(status), shared);
    }

    // ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Does what is due; a reason means that the leg must go.
    pub(super) fn handle_timeout(
        &mut self,
        shared: &mut Shared,
        now: Instant,
    ) -> Result<(), HangupReason> {
        let due = match &mut self.channel {
            Channel::Waiting { deadline } if *deadline <= now => Due::Dead,
            Channel::Waiting { .. } => Due::Nothing,
            Channel::Open { ping, .. } => ping.handle_timeout(&shared.settings.timing, now),
        };
        match due {
            Due::Nothing => {}
            Due::Ping => self.send(&ToClient::Ping, shared),
            Due::Dead => return Err(HangupReason::KeepAliveTimeout),
        }
        if self.slot.is_some_and(|deadline| deadline <= now) {
            return Err(HangupReason::SlotExpired);
        }
        if self.offer.deadline.is_some_and(|deadline| deadline <= now) {
            // The reference client drops an offer that crosses its own, and never says so.
            self.session.rollback();
            shared.push(Output::Happened(Happened::OfferSent(OfferSent::Unanswered)));
            self.offer = Offer {
                deadline: None,
                unanswered: self.offer.unanswered + 1,
            };
            if self.offer.unanswered >= limits::OFFER_ATTEMPTS_MAX {
                return Err(HangupReason::UnknownError);
            }
        }
        Ok(())
    }

    /// Its deadline has been taken off the list. It goes on again when the leg is settled.
    pub(super) fn disarm(&mut self) {
        self.armed = None;
    }

    pub(super) fn arm(&mut self, shared: &mut Shared) {
        let channel = match &self.channel {
            Channel::Waiting { deadline } => *deadline,
            Channel::Open { ping, .. } => ping.poll_timeout(),
        };
        let open = matches!(self.channel, Channel::Open { .. });
        let snapshot = (open && self.told.stale).then_some(self.told.earliest);
        let status = self.status.poll_timeout();
        let ask = self.trunk.as_ref().and_then(Trunk::poll_timeout);
        let next = [
            Some(channel),
            self.offer.deadline,
            self.slot,
            snapshot,
            status,
            ask,
        ]
        .into_iter()
        .flatten()
        .min();
        if next != self.armed {
            if let Some(armed) = self.armed {
                shared.deadlines.remove(&(armed, self.transport));
            }
            if let Some(next) = next {
                shared.deadlines.insert((next, self.transport));
            }
            self.armed = next;
        }
    }
}
