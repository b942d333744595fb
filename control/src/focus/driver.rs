//! The loop that carries messages between Matrix, the conferences, the associations and the shards.
//!
//! **After every wake-up everything is drained: shards, associations, conferences, in a circle until nobody has more to
//! say.** It decides nothing about calls; who may call is `authorise`'s, what happens then is `conference`'s.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use weir_matrix::{Device, Incoming, RoomCount};
use weir_shard::Event;

use super::{
    associations::{Associations, Outcome},
    invites::{PendingInvite, PendingInvites},
    kept::Kept,
    metrics::{Metrics, SendResult},
    overview::OverviewTeller,
    shards::Shard,
};
use crate::{
    authorise::Authoriser,
    conference::{
        Conferences, HangupReason, Happened, LiveCall, Output, ParticipantId, Protection, Refusal,
        Sender, TransportInput,
    },
    http::Readiness,
};
use weir_signal::call::{Body, Message};

/// Events of one shard handled before the others get their turn.
const EVENTS_PER_TURN: usize = 256;

/// How long messages may still be sent after the focus was told to stop: hang-ups that are lost cost their clients half a
/// minute of a frozen picture; an operator waits this long for a homeserver that is gone.
const FAREWELL: Duration = Duration::from_secs(5);

/// How often a command is offered again to a shard whose ring was full.
const RETRY: Duration = Duration::from_millis(1);

/// How often levels are counted anew, the list of live calls is kept, and who is connected where is told.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);

/// All that the driver owns.
pub(super) struct Driver {
    pub(super) conferences: Conferences,
    pub(super) authoriser: Authoriser,
    pub(super) device: Device,
    pub(super) incoming: mpsc::Receiver<Incoming>,
    pub(super) shards: Vec<Shard>,
    pub(super) wake: Arc<Notify>,
    pub(super) associations: Associations,
    pub(super) pending: PendingInvites,
    pub(super) live_calls: Kept<Vec<LiveCall>>,
    pub(super) rooms_of_calls: Kept<BTreeMap<String, String>>,
    pub(super) readiness: Readiness,
    pub(super) metrics: Metrics,
    /// Only where it is asked for.
    pub(super) overview: Option<OverviewTeller>,
    pub(super) sending: JoinSet<Sent>,
}

impl Driver {
    /// Runs until `stop` is used or dropped, then hangs up every call and stops the shards.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let mut count = interval(COUNT_INTERVAL);
        count.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.hang_up_left_behind();
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                _ = &mut stop => break,
                incoming = self.incoming.recv() => match incoming {
                    Some(incoming) => self.handle_incoming(incoming),
                    None => break,
                },
                () = self.wake.notified() => {}
                () = sleep_until(deadline.into()) => self.handle_timeouts(),
                _ = count.tick() => self.every_second(),
                Some(sent) = self.sending.join_next() => self.count_sent(sent.ok()),
            }
            self.pump();
        }
        self.stop().await;
    }

    /// When something is due, at the latest; a minute if nothing is.
    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        let behind = self
            .shards
            .iter()
            .any(Shard::is_behind)
            .then(|| now + RETRY);
        let expiry = self
            .authoriser
            .poll_timeout()
            .map(|at| now + at.saturating_sub(unix_now()));
        [
            self.conferences.poll_timeout(),
            self.associations.poll_timeout(),
            self.pending.poll_timeout(),
            behind,
            expiry,
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(now + Duration::from_secs(60))
    }

    fn handle_timeouts(&mut self) {
        let now = Instant::now();
        self.authoriser.handle_timeout(unix_now());
        self.conferences.handle_timeout(now);
        self.associations.handle_timeout(now);
        for invite in self.pending.take_expired(now) {
            self.refuse(&invite, Refusal::NotAuthorised, now);
        }
    }

    fn handle_incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::ToDevice {
                sender,
                event_type,
                content,
                protection,
                sender_device,
                arrived,
            } => {
                match Message::parse(&event_type, &content) {
                    Ok(message) => self.handle_call(PendingInvite {
                        sender,
                        sender_device,
                        protection: protection.into(),
                        message,
                    }),
                    Err(_) => self.count_refusal(Refusal::MalformedCall),
                }
                self.metrics.to_device_received.add(1);
                self.metrics.to_device_lag.record(micros(arrived.elapsed()));
            }
            Incoming::CallState {
                room_id,
                event_type,
                state_key,
                sender,
                content,
            } => {
                let now = unix_now();
                self.authoriser.handle_call_state(
                    &room_id,
                    &event_type,
                    &state_key,
                    &sender,
                    &content,
                    now,
                );
                self.retry_pending();
            }
            Incoming::Membership {
                room_id,
                user_id,
                joined: true,
            } => {
                self.authoriser.handle_joined(&room_id, &user_id);
                self.retry_pending();
            }
            Incoming::Membership {
                room_id,
                user_id,
                joined: false,
            } => {
                self.authoriser.handle_left(&room_id, &user_id);
            }
            Incoming::SyncUp => {
                tracing::info!("the homeserver answers");
                self.readiness.set(true);
            }
            Incoming::SyncDown { error } => {
                tracing::warn!(%error, "the homeserver does not answer; running calls go on");
                self.readiness.set(false);
            }
        }
    }

    fn handle_call(&mut self, call: PendingInvite) {
        let now = Instant::now();
        if !is_allowed(&self.authoriser, &call) {
            if let Some(refused) = self.pending.push(call, now) {
                self.refuse(&refused, Refusal::NotAuthorised, now);
            }
            return;
        }
        self.take_call(&call, now);
    }

    /// Hands on a message that is allowed. The first invite of a conference brings it here: it is told who is in it.
    fn take_call(&mut self, call: &PendingInvite, now: Instant) {
        self.conferences
            .handle_call(call.sender(), call.message.clone(), now);
        if matches!(call.message.body, Body::Invite(_)) {
            self.tell_roster(&call.message.envelope.conf_id, now);
        }
    }

    fn tell_roster(&mut self, conf_id: &str, now: Instant) {
        if self.conferences.has(conf_id) {
            let roster = self.authoriser.roster(conf_id, unix_now());
            self.conferences.handle_roster(conf_id, roster, now);
        }
    }

    /// Invites may overtake the room state that allows them: they wait a little, and are looked at again on every change.
    fn retry_pending(&mut self) {
        let now = Instant::now();
        let authoriser = &self.authoriser;
        let allowed = self.pending.take_if(|call| is_allowed(authoriser, call));
        for call in allowed {
            self.take_call(&call, now);
        }
    }

    fn refuse(&mut self, call: &PendingInvite, reason: Refusal, now: Instant) {
        self.conferences
            .refuse_call(call.sender(), &call.message, reason, now);
    }

    /// Moves everything that is waiting, until nobody has more to say.
    fn pump(&mut self) {
        let now = Instant::now();
        for index in 0..self.shards.len() {
            self.shards[index].flush();
            self.shards[index].clear_wakeup();
            self.handle_events(index, now);
        }
        while let Some(gone) = self.authoriser.poll_gone() {
            self.conferences.handle_member_gone(
                &gone.conf_id,
                &gone.user_id,
                gone.device_id.as_deref(),
                now,
            );
        }
        while let Some(conf_id) = self.authoriser.poll_changed() {
            self.tell_roster(&conf_id, now);
        }
        self.settle(now);
    }

    /// Takes the events of one shard. A shard that has more than a turn's worth comes again after the others: only an
    /// empty ring arms its next wake-up.
    fn handle_events(&mut self, index: usize, now: Instant) {
        for _ in 0..EVENTS_PER_TURN {
            let Some(event) = self.shards[index].poll_event() else {
                return;
            };
            self.handle_event(event, now);
            self.settle(now);
        }
        self.wake.notify_one();
    }

    /// Lets associations and conferences talk until both are quiet.
    fn settle(&mut self, now: Instant) {
        loop {
            if let Some(outcome) = self.associations.poll_outcome() {
                match outcome {
                    Outcome::Shard { shard, command } => self.shards[shard].send(command),
                    Outcome::Conference { id, input } => {
                        self.conferences.handle_transport(id, input, now)
                    }
                }
            } else if let Some(output) = self.conferences.poll_output() {
                self.carry_out(output, now);
            } else {
                return;
            }
        }
    }

    fn handle_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::IceConnected { id, .. } => {
                self.conferences
                    .handle_transport(id, TransportInput::IceConnected, now);
            }
            Event::RemoteChanged { .. } => {}
            Event::Speakers {
                conference,
                speakers,
            } => self.conferences.handle_speakers(conference, speakers),
            Event::LayersInUse {
                track,
                transport,
                layers,
            } => self
                .conferences
                .handle_layers_in_use(transport, track, layers),
            Event::TransportStatus { id, status } => {
                self.conferences.handle_transport_status(id, status, now);
            }
            Event::SubscriptionStatus {
                id,
                transport,
                status,
            } => {
                let conferences = &mut self.conferences;
                conferences.handle_subscription_status(transport, id, status, now);
            }
            Event::TransportMeasured { id, traffic } => self.note_measured(id, traffic),
            Event::Datagram { id, datagram } => {
                self.associations.handle_datagram(id, &datagram, now)
            }
            Event::ConsentLost { id } => {
                self.conferences
                    .handle_transport(id, TransportInput::ConsentLost, now);
            }
        }
    }

    fn carry_out(&mut self, output: Output, now: Instant) {
        match output {
            Output::ToDevice {
                to,
                event_type,
                content,
                protection,
            } => {
                self.send_to_device(&to, event_type, content, protection);
            }
            Output::Shard { shard, command } => self.shards[shard].send(command),
            Output::OpenTransport {
                id,
                shard,
                role,
                remote_fingerprint,
            } => match weir_transport::Fingerprint::try_from(remote_fingerprint) {
                Ok(fingerprint) => self
                    .associations
                    .open(id, shard, role.into(), fingerprint, now),
                Err(error) => {
                    let input = TransportInput::Failed {
                        reason: error.to_string(),
                    };
                    self.conferences.handle_transport(id, input, now);
                }
            },
            Output::SendText { id, channel, text } => {
                self.associations.send_text(id, channel, &text, now)
            }
            Output::CloseTransport { id } => self.associations.close(id, now),
            Output::Happened(happened) => self.count(happened),
            Output::Refused { reason } => self.count_refusal(reason),
        }
    }

    /// Starts to send; the device keeps the order of the calls to one recipient.
    fn send_to_device(
        &mut self,
        to: &ParticipantId,
        event_type: &'static str,
        content: serde_json::Value,
        protection: Protection,
    ) {
        let sent = self.device.send_to_device(
            &to.user_id,
            &to.device_id,
            event_type,
            content,
            protection.into(),
        );
        let to = to.clone();
        let began = Instant::now();
        self.sending.spawn(async move {
            let result = match sent.await {
                Ok(()) => SendResult::Sent,
                Err(error) => {
                    tracing::warn!(%to, event_type, %error, "a to-device message was not sent");
                    SendResult::Failed
                }
            };
            let took = began.elapsed();
            Sent { result, took }
        });
    }

    /// A task that has panicked has sent nothing.
    fn count_sent(&mut self, sent: Option<Sent>) {
        let result = sent.as_ref().map_or(SendResult::Failed, |sent| sent.result);
        self.metrics.to_device_sent[result as usize].add(1);
        if let Some(sent) = sent.filter(|sent| sent.result == SendResult::Sent) {
            self.metrics.to_device_send_time.record(micros(sent.took));
        }
    }

    fn count_refusal(&self, reason: Refusal) {
        self.metrics.refusals[reason as usize].add(1);
    }

    fn count(&self, happened: Happened) {
        let metrics = &self.metrics;
        let counter = match happened {
            Happened::Invite(result) => &metrics.invites[result as usize],
            Happened::OfferReceived(result) => &metrics.offers_received[result as usize],
            Happened::OfferSent(result) => &metrics.offers_sent[result as usize],
            Happened::CallEnded(reason) => &metrics.calls_ended[reason as usize],
            Happened::Trunk(event) => &metrics.trunk_events[event as usize],
        };
        counter.add(1);
    }

    fn hang_up_left_behind(&mut self) {
        for call in self.live_calls.take_left_behind() {
            let (event_type, content) =
                call.hangup(self.device.device_id(), HangupReason::Restarting);
            self.send_to_device(&call.participant, event_type, content, call.protection);
        }
    }

    fn every_second(&mut self) {
        let (metrics, conferences) = (&self.metrics, &self.conferences);
        let sync_age = self.device.last_sync().elapsed().as_millis() as u64;
        for (gauge, value) in [
            (&metrics.conferences, conferences.conference_count() as u64),
            (
                &metrics.participants,
                conferences.participant_count() as u64,
            ),
            (
                &metrics.participants_max,
                conferences.largest_conference() as u64,
            ),
            (&metrics.slots, conferences.slot_count() as u64),
            (&metrics.publishers, conferences.publisher_count() as u64),
            (&metrics.trunks, conferences.trunk_count() as u64),
            (&metrics.transports, self.associations.len() as u64),
            (&metrics.invites_waiting, self.pending.len() as u64),
            (&metrics.matrix_up, u64::from(self.readiness.get())),
            (&metrics.sync_age, sync_age),
        ] {
            gauge.set(value);
        }
        if let Some(appservice) = self.device.appservice() {
            let RoomCount { known, reading } = appservice.room_count();
            metrics.appservice.rooms.set(known as u64);
            metrics.appservice.rooms_reading.set(reading as u64);
        }
        self.keep();
        self.tell_overview();
    }

    fn keep(&mut self) {
        self.live_calls.save(self.conferences.live_calls());
        self.rooms_of_calls.save(self.authoriser.calls().clone());
    }

    /// Hangs up every call, gives the hang-ups a moment, and stops the shards.
    async fn stop(mut self) {
        self.readiness.set(false);
        self.conferences
            .hang_up_all(HangupReason::Restarting, Instant::now());
        self.pump();
        let farewell = async {
            while let Some(sent) = self.sending.join_next().await {
                if !sent.is_ok_and(|sent| sent.result == SendResult::Sent) {
                    tracing::warn!("a client was not told that its call is over");
                }
            }
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            tracing::warn!("the homeserver did not take all hang-ups in time");
        }
        self.keep();
        self.device.shutdown().await;
        for shard in self.shards {
            shard.shutdown().await;
        }
    }
}

/// Whether a message may be acted on. Only invites begin anything; the others are about calls that are there or are not.
fn is_allowed(authoriser: &Authoriser, call: &PendingInvite) -> bool {
    let conf_id = &call.message.envelope.conf_id;
    match &call.message.body {
        Body::Invite(invite) if invite.trunk => {
            let focus = ParticipantId::new(&call.sender, &call.message.envelope.device_id);
            authoriser.may_trunk(&focus, conf_id, unix_now())
        }
        Body::Invite(_) => authoriser.may(&call.sender, conf_id),
        _ => true,
    }
}

/// What became of a to-device message, and how long that took.
pub(super) struct Sent {
    result: SendResult,
    took: Duration,
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

/// The wall clock; before 1970 it is 1970.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

impl PendingInvite {
    fn sender(&self) -> Sender<'_> {
        Sender {
            user_id: &self.sender,
            device_id: self.sender_device.as_deref(),
            protection: self.protection,
            age: Duration::ZERO,
        }
    }
}
