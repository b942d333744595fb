//! A focus, its clients, and a model of its shards that holds every command against what is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use serde_json::Value;
use weir_shard::{Command, IceCredentials, Subscribe, SubscriptionId, TrackId, TransportId};
use weir_signal::{
    call::Message,
    channel::{DescriptionKind, Dialect, Frame, FromClient, ToClient},
};

use super::client::Client;
use crate::conference::{
    Conferences, DtlsRole, Fingerprint, HangupReason, Happened, Limits, Output, ParticipantId,
    Protection, Refusal, Sender, Settings, Timing, TransportInput,
};

pub(super) struct World {
    pub(super) focus: Conferences,
    pub(super) now: Instant,
    pub(super) clients: Vec<Client>,
    pub(super) shards: Vec<Shard>,
    pub(super) opened: BTreeSet<TransportId>,
    pub(super) refused: Vec<Refusal>,
    pub(super) happened: Vec<Happened>,
    /// Messages of the focus in a dialect that the client does not speak.
    pub(super) not_understood: usize,
    /// What goes to other foci.
    pub(super) outside: Outside,
    inbox: Vec<(TransportId, ToClient)>,
    /// Offers of the focus that wait for an answer.
    outstanding: BTreeMap<TransportId, Instant>,
    newest: Option<TransportId>,
}

/// What a focus does that other foci notice.
#[derive(Default)]
pub(super) struct Outside {
    pub(super) to_device: Vec<(ParticipantId, &'static str, Value)>,
    /// Transports that make checks, with the addresses.
    pub(super) checks: Vec<(TransportId, Vec<SocketAddr>)>,
    /// Transports that begin a handshake.
    pub(super) begins: Vec<TransportId>,
    pub(super) texts: Vec<(TransportId, String)>,
    pub(super) closed: Vec<TransportId>,
}

/// What a shard would have.
#[derive(Default)]
pub(super) struct Shard {
    pub(super) transports: BTreeMap<TransportId, IceCredentials>,
    pub(super) tracks: BTreeMap<TrackId, (TransportId, String, bool)>,
    pub(super) subscriptions: BTreeMap<SubscriptionId, Subscribe>,
    pub(super) restarts: usize,
    /// How many commands have come that start, change or end a subscription.
    pub(super) subscription_commands: usize,
    /// Sources that were ever used on a transport: none may come twice.
    sources: BTreeSet<(TransportId, u32)>,
}

/// What can be said on a data channel: a message, or a text as it is.
pub(super) trait Said {
    fn texts(&self, dialect: Dialect) -> Vec<String>;
}

impl Said for FromClient {
    fn texts(&self, dialect: Dialect) -> Vec<String> {
        self.to_texts(dialect)
    }
}

impl Said for str {
    fn texts(&self, _: Dialect) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl Said for String {
    fn texts(&self, dialect: Dialect) -> Vec<String> {
        self.as_str().texts(dialect)
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(Limits {
            invites_per_user_per_second: 100.0,
            ..Limits::default()
        })
    }

    pub(super) fn with(limits: Limits) -> Self {
        Self::at(
            ParticipantId::new("@focus:example.org", "FOCUS"),
            limits,
            [1; 32],
        )
    }

    /// One of several foci. Its address is told from others' by its credentials alone.
    pub(super) fn at(focus: ParticipantId, limits: Limits, seed: [u8; 32]) -> Self {
        let addresses: Vec<SocketAddr> = vec!["192.0.2.1:7882".parse().expect("an address")];
        let settings = Settings {
            focus,
            shards: vec![addresses.clone(), addresses],
            fingerprint: Fingerprint {
                algorithm: "sha-256".to_owned(),
                bytes: vec![7; 32],
            },
            limits,
            timing: Timing::default(),
            seed,
        };
        Self {
            focus: Conferences::new(settings),
            now: Instant::now(),
            clients: Vec::new(),
            shards: vec![Shard::default(), Shard::default()],
            opened: BTreeSet::new(),
            refused: Vec::new(),
            happened: Vec::new(),
            not_understood: 0,
            outside: Outside::default(),
            inbox: Vec::new(),
            outstanding: BTreeMap::new(),
            newest: None,
        }
    }

    /// A conference with these people, all seeing each other.
    pub(super) fn call(names: &[&str]) -> Self {
        let mut world = Self::new();
        for name in names {
            world.join(Client::new(name, "conf"));
        }
        world
    }

    // ── Joining ────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Invites, opens the channel, lets everybody react; gives the client's index.
    pub(super) fn join(&mut self, client: Client) -> usize {
        let index = self.invite(client);
        self.open(index);
        self.pass(Duration::from_millis(100));
        index
    }

    pub(super) fn invite(&mut self, mut client: Client) -> usize {
        let content = client.invite();
        self.clients.push(client);
        let index = self.clients.len() - 1;
        self.call_event(index, "m.call.invite", &content);
        index
    }

    /// Calls again with a new call id.
    pub(super) fn invite_again(&mut self, index: usize, call_id: &str) {
        self.clients[index].call_id = call_id.to_owned();
        self.clients[index].sections.truncate(3);
        self.clients[index].making_offer = false;
        let content = self.clients[index].invite();
        self.call_event(index, "m.call.invite", &content);
    }

    pub(super) fn open(&mut self, index: usize) {
        let Some(id) = self.clients[index].transport else {
            return;
        };
        self.input(id, TransportInput::IceConnected);
        self.input(
            id,
            TransportInput::ChannelOpen {
                channel: 1,
                label: "datachannel".to_owned(),
            },
        );
        self.settle();
    }

    /// A to-device message from a client, of whatever content.
    pub(super) fn call_event(&mut self, index: usize, event_type: &str, content: &Value) {
        self.call_event_aged(index, event_type, content, Duration::ZERO);
    }

    pub(super) fn call_event_aged(
        &mut self,
        index: usize,
        event_type: &str,
        content: &Value,
        age: Duration,
    ) {
        let Ok(message) = Message::parse(event_type, content) else {
            self.refused.push(Refusal::MalformedCall);
            return;
        };
        let client = &self.clients[index];
        let (user_id, device_id) = (client.id.user_id.clone(), client.id.device_id.clone());
        let protection = client.protection;
        let device_id = (protection == Protection::Olm).then_some(device_id.as_str());
        let sender = Sender {
            user_id: &user_id,
            device_id,
            protection,
            age,
        };
        self.newest = None;
        self.focus.handle_call(sender, message, self.now);
        self.pump();
        if let Some(newest) = self.newest {
            self.clients[index].transport = Some(newest);
        }
        self.settle();
    }

    pub(super) fn hang_up(&mut self, index: usize) {
        let content = self.clients[index].content(serde_json::json!({"reason": "user_hangup"}));
        self.call_event(index, "m.call.hangup", &content);
    }

    // ── Data channel ───────────────────────────────────────────────────────────────────────────────────────────────────

    /// Says a message in the client's dialect, or any text.
    pub(super) fn say(&mut self, index: usize, said: &(impl Said + ?Sized)) {
        self.say_only(index, said);
        self.settle();
    }

    /// Says something and does not let anybody react yet.
    pub(super) fn say_only(&mut self, index: usize, said: &(impl Said + ?Sized)) {
        for text in said.texts(self.clients[index].dialect) {
            self.say_text(index, &text);
        }
    }

    fn say_text(&mut self, index: usize, text: &str) {
        let Some(id) = self.clients[index].transport else {
            return;
        };
        if text.contains(r#""answer""#) {
            self.outstanding.remove(&id);
        }
        self.focus.handle_transport(
            id,
            TransportInput::Text {
                channel: 1,
                text: text.to_owned(),
            },
            self.now,
        );
        self.pump();
    }

    pub(super) fn input(&mut self, id: TransportId, input: TransportInput) {
        self.focus.handle_transport(id, input, self.now);
        self.pump();
    }

    pub(super) fn change_metadata(&mut self, index: usize, change: impl FnOnce(&mut Client)) {
        change(&mut self.clients[index]);
        let said = self.clients[index].metadata_changed();
        self.say(index, &said);
    }

    pub(super) fn renegotiate(&mut self, index: usize, change: impl FnOnce(&mut Client)) {
        change(&mut self.clients[index]);
        let said = self.clients[index].offer();
        self.say(index, &said);
    }

    /// Lets everybody react until nobody has more to say.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.pump();
            if self.inbox.is_empty() {
                return;
            }
            for (transport, message) in std::mem::take(&mut self.inbox) {
                let Some(index) = self.index_of(transport) else {
                    continue;
                };
                if !self.clients[index].lively {
                    continue;
                }
                for said in self.clients[index].react(message) {
                    self.say_only(index, &said);
                }
            }
        }
        panic!("they never stop talking");
    }

    /// What waits for a client, not yet seen by it.
    pub(super) fn take_inbox(&mut self, index: usize) -> Vec<ToClient> {
        let transport = self.clients[index].transport;
        let (theirs, others) = std::mem::take(&mut self.inbox)
            .into_iter()
            .partition(|(to, _)| Some(*to) == transport);
        self.inbox = others;
        theirs
            .into_iter()
            .map(|(_, message): (_, ToClient)| message)
            .collect()
    }

    fn index_of(&self, transport: TransportId) -> Option<usize> {
        self.clients
            .iter()
            .position(|client| client.transport == Some(transport))
    }

    // ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Jumps from deadline to deadline.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.focus.poll_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.focus.handle_timeout(self.now);
            assert!(
                self.focus.poll_timeout().is_none_or(|next| next > self.now),
                "a deadline is not left behind"
            );
            self.settle();
        }
        self.now = end;
    }

    pub(super) fn hang_up_all(&mut self) {
        self.focus.hang_up_all(HangupReason::Restarting, self.now);
        self.pump();
    }

    /// How often something happened that is counted.
    pub(super) fn count(&self, happened: Happened) -> usize {
        self.happened
            .iter()
            .filter(|other| **other == happened)
            .count()
    }

    // ── Outputs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn pump(&mut self) {
        while let Some(output) = self.focus.poll_output() {
            match output {
                Output::ToDevice {
                    to,
                    event_type,
                    content,
                    protection,
                } => {
                    self.deliver(&to, event_type, content, protection);
                }
                Output::Shard {
                    shard,
                    command: Command::CheckRemotes { id, remotes },
                } => {
                    assert!(self.shards[shard].transports.contains_key(&id));
                    self.outside.checks.push((id, remotes));
                }
                Output::Shard { shard, command } => self.shards[shard].apply(command),
                Output::OpenTransport {
                    id,
                    shard,
                    role,
                    remote_fingerprint,
                } => {
                    if role == DtlsRole::Client {
                        self.outside.begins.push(id);
                    }
                    assert!(
                        self.shards[shard].transports.contains_key(&id),
                        "the shard knows the transport already"
                    );
                    assert!([vec![0xab; 32], vec![7; 32]].contains(&remote_fingerprint.bytes));
                    self.opened.insert(id);
                    self.newest = Some(id);
                }
                Output::SendText { id, channel, text } => self.send_text(id, channel, &text),
                Output::CloseTransport { id } => {
                    let opened = self.opened.remove(&id);
                    // The end of a trunk that has called has an association only when it has an address.
                    assert!(opened || self.index_of(id).is_none());
                    self.outside.closed.push(id);
                    self.outstanding.remove(&id);
                    if let Some(index) = self.index_of(id) {
                        self.clients[index].transport = None;
                    }
                }
                Output::Refused { reason } => self.refused.push(reason),
                Output::Happened(happened) => self.happened.push(happened),
            }
        }
    }

    fn send_text(&mut self, id: TransportId, channel: u16, text: &str) {
        assert!(
            self.opened.contains(&id),
            "a text for a transport that is gone"
        );
        assert_eq!(channel, 1);
        if let Some(index) = self.index_of(id)
            && self.clients[index].put_aside(text)
        {
            return;
        }
        let frame = Frame::open(text).expect("the focus's frame");
        // Who has just called does not know its transport yet, and is not spoken to.
        let Some(index) = self.index_of(id) else {
            self.outside.texts.push((id, text.to_owned()));
            return;
        };
        let message = ToClient::read(&frame).expect("the focus's message");
        if frame.dialect() != self.clients[index].dialect {
            self.not_understood += 1;
            return;
        }
        if let ToClient::Negotiate { description, .. } = &message {
            if description.kind == DescriptionKind::Offer {
                let since = self.outstanding.insert(id, self.now);
                let waited = since.is_none_or(|since| self.now - since >= Duration::from_secs(10));
                assert!(waited, "a second offer is outstanding");
            } else {
                // The participant's own offer has taken its place.
                self.outstanding.remove(&id);
            }
        }
        self.inbox.push((id, message));
    }

    fn deliver(
        &mut self,
        to: &ParticipantId,
        event_type: &'static str,
        content: Value,
        protection: Protection,
    ) {
        let Some(client) = self.clients.iter_mut().rfind(|client| client.id == *to) else {
            let to = to.clone();
            self.outside.to_device.push((to, event_type, content));
            return;
        };
        assert_eq!(
            client.protection, protection,
            "an answer travels as the invite did"
        );
        if event_type == "m.call.answer" && content["call_id"] == client.call_id.as_str() {
            let sdp = content["answer"]["sdp"]
                .as_str()
                .expect("an answer")
                .to_owned();
            client.take(&sdp);
        }
        client.to_device.push((event_type, content));
    }

    /// Nothing is left of anybody.
    pub(super) fn assert_empty(&self) {
        assert!(self.opened.is_empty(), "associations");
        for shard in &self.shards {
            assert!(
                shard.transports.is_empty()
                    && shard.tracks.is_empty()
                    && shard.subscriptions.is_empty(),
                "shard"
            );
        }
        assert!(
            self.focus.conferences.is_empty() && self.focus.transports.is_empty(),
            "tables"
        );
        assert_eq!(self.focus.poll_timeout(), None, "deadlines");
        assert_eq!(self.focus.slot_count(), 0, "slots");
        assert_eq!(self.focus.live_calls(), Vec::new());
    }
}

impl Shard {
    fn apply(&mut self, command: Command) {
        match command {
            Command::AddTransport { id, ice, .. } => {
                assert!(
                    self.transports
                        .values()
                        .all(|other| other.local_ufrag != ice.local_ufrag)
                );
                assert!(
                    ice.local_pwd.len() >= 22 && ice.local_ufrag.len() >= 4,
                    "RFC 8445 §5.3"
                );
                assert!(self.transports.insert(id, ice).is_none());
            }
            Command::RestartIce { id, ice } => {
                let old = self
                    .transports
                    .insert(id, ice.clone())
                    .expect("a transport");
                assert!(
                    old.local_ufrag != ice.local_ufrag && old.local_pwd != ice.local_pwd,
                    "new credentials"
                );
                self.restarts += 1;
            }
            Command::RemoveTransport { id } => {
                assert!(self.transports.remove(&id).is_some());
                self.subscriptions
                    .retain(|_, subscription| subscription.transport != id);
                let tracks: Vec<TrackId> = self
                    .tracks
                    .iter()
                    .filter(|(_, (transport, ..))| *transport == id)
                    .map(|(track, _)| *track)
                    .collect();
                tracks
                    .into_iter()
                    .for_each(|track| self.remove_track(track));
            }
            Command::AddTrack(track) => {
                assert!(self.transports.contains_key(&track.transport));
                let mids = self
                    .tracks
                    .values()
                    .filter(|(transport, ..)| *transport == track.transport);
                assert!(
                    mids.into_iter().all(|(_, mid, _)| *mid != track.mid),
                    "one track for each section"
                );
                assert!(
                    self.tracks
                        .insert(track.track, (track.transport, track.mid, false))
                        .is_none()
                );
            }
            Command::UpdateTrack { track, muted, .. } => {
                self.tracks.get_mut(&track).expect("a track").2 = muted
            }
            Command::RemoveTrack { track } => {
                assert!(self.tracks.contains_key(&track));
                self.remove_track(track);
            }
            Command::Subscribe(subscribe) => {
                self.subscription_commands += 1;
                let (owner, ..) = self.tracks.get(&subscribe.track).expect("a track");
                assert_ne!(*owner, subscribe.transport, "nobody hears itself");
                assert!(
                    self.sources.insert((subscribe.transport, subscribe.ssrc)),
                    "a source is used once"
                );
                assert!(!subscribe.codecs.is_empty());
                let doubled = self.subscriptions.values().any(|other| {
                    other.transport == subscribe.transport
                        && (other.mid == subscribe.mid || other.track == subscribe.track)
                });
                assert!(
                    !doubled,
                    "one track for each section, one section for each track"
                );
                self.subscriptions.insert(subscribe.id, subscribe);
            }
            Command::SetWanted { id, wanted } => {
                self.subscription_commands += 1;
                self.subscriptions
                    .get_mut(&id)
                    .expect("a subscription")
                    .wanted = wanted;
            }
            Command::Unsubscribe { id } => {
                self.subscription_commands += 1;
                assert!(self.subscriptions.remove(&id).is_some());
            }
            Command::CheckRemotes { .. } => panic!("taken out before"),
            Command::InstallKeys { .. }
            | Command::SendDatagram { .. }
            | Command::MeasureTransport { .. } => panic!("the driver's"),
        }
    }

    fn remove_track(&mut self, track: TrackId) {
        self.tracks.remove(&track);
        self.subscriptions
            .retain(|_, subscription| subscription.track != track);
    }
}
