//! Several foci that call each other, with the rooms and the network between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::Value;
use weir_shard::TransportId;
use weir_signal::call::Message;

use super::{client::Client, world::World};
use crate::conference::{Limits, ParticipantId, Protection, Roster, Sender, TransportInput};

/// All clients of these tests are in this call.
pub(super) const CONF: &str = "conf";

pub(super) struct Foci {
    pub(super) worlds: Vec<World>,
    /// Transports whose datagrams reach each other, both ways.
    links: BTreeMap<(usize, TransportId), (usize, TransportId)>,
    /// Foci that nobody reaches, and that reach nobody.
    pub(super) cut_off: Vec<usize>,
    /// How many trunks have been linked in all.
    pub(super) linked: usize,
    /// To-device messages between foci, by event type.
    pub(super) sent: BTreeMap<&'static str, usize>,
}

impl Foci {
    pub(super) fn new(count: usize, seed: u8) -> Self {
        let limits = Limits {
            invites_per_user_per_second: 100.0,
            ..Limits::default()
        };
        let now = Instant::now();
        let world = |index: usize| {
            let seed = [seed, index as u8].repeat(16).try_into().expect("32 bytes");
            let mut world = World::at(id(index), limits.clone(), seed);
            world.now = now;
            world
        };
        Self {
            worlds: (0..count).map(world).collect(),
            links: BTreeMap::new(),
            cut_off: Vec::new(),
            linked: 0,
            sent: BTreeMap::new(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.worlds[0].now
    }

    /// A client joins at a focus: the room says so, and then it calls.
    pub(super) fn join(&mut self, focus: usize, name: &str) -> usize {
        self.join_as(focus, Client::new(name, CONF))
    }

    pub(super) fn join_as(&mut self, focus: usize, client: Client) -> usize {
        let index = self.worlds[focus].invite(client);
        self.tell_rosters();
        self.worlds[focus].open(index);
        self.settle();
        index
    }

    /// A client hangs up, and the room says that it is gone.
    pub(super) fn leave(&mut self, focus: usize, index: usize) {
        self.worlds[focus].hang_up(index);
        self.tell_rosters();
        self.settle();
    }

    /// All foci hear who is in the call and where.
    pub(super) fn tell_rosters(&mut self) {
        let roster = self.roster();
        for world in &mut self.worlds {
            let now = world.now;
            world.focus.handle_roster(CONF, roster.clone(), now);
        }
        self.settle();
    }

    pub(super) fn roster(&self) -> Roster {
        let mut members = BTreeMap::new();
        for (focus, world) in self.worlds.iter().enumerate() {
            for client in world.clients.iter().filter(|of| of.transport.is_some()) {
                members.insert(client.id.clone(), vec![id(focus)]);
            }
        }
        Roster {
            foci: members.values().flatten().cloned().collect(),
            members: Some(members),
        }
    }

    // ── The network ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Lets everybody react until nobody has more to say.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut moved = false;
            for focus in 0..self.worlds.len() {
                self.worlds[focus].settle();
                moved |= self.carry(focus);
            }
            if !moved {
                return;
            }
        }
        panic!("they never stop talking");
    }

    fn reaches(&self, one: usize, other: usize) -> bool {
        !self.cut_off.contains(&one) && !self.cut_off.contains(&other)
    }

    /// Moves what one focus says to the others; whether there was anything.
    fn carry(&mut self, focus: usize) -> bool {
        let outside = std::mem::take(&mut self.worlds[focus].outside);
        let moved = !outside.to_device.is_empty()
            || !outside.checks.is_empty()
            || !outside.begins.is_empty()
            || !outside.texts.is_empty()
            || !outside.closed.is_empty();
        for (to, event_type, content) in outside.to_device {
            *self.sent.entry(event_type).or_default() += 1;
            if let Some(target) = (0..self.worlds.len()).find(|other| id(*other) == to)
                && self.reaches(focus, target)
            {
                self.deliver(focus, target, event_type, &content);
            }
        }
        for (transport, remotes) in outside.checks {
            assert!(!remotes.is_empty(), "an address to check");
            self.check(focus, transport);
        }
        for transport in outside.begins {
            let other = self.links.get(&(focus, transport)).copied();
            for (focus, transport) in [Some((focus, transport)), other].into_iter().flatten() {
                let label = "datachannel".to_owned();
                self.input(
                    focus,
                    transport,
                    TransportInput::ChannelOpen { channel: 1, label },
                );
            }
        }
        for (transport, text) in outside.texts {
            if let Some((other, theirs)) = self.other_end(focus, transport) {
                self.input(other, theirs, TransportInput::Text { channel: 1, text });
            }
        }
        for transport in outside.closed {
            if let Some((other, theirs)) = self.other_end(focus, transport) {
                self.links.remove(&(focus, transport));
                self.links.remove(&(other, theirs));
                self.input(other, theirs, TransportInput::Closed);
            }
        }
        moved
    }

    fn other_end(&self, focus: usize, transport: TransportId) -> Option<(usize, TransportId)> {
        let (other, theirs) = *self.links.get(&(focus, transport))?;
        self.reaches(focus, other).then_some((other, theirs))
    }

    fn input(&mut self, focus: usize, transport: TransportId, input: TransportInput) {
        self.worlds[focus].input(transport, input);
    }

    /// A to-device message from one focus to another.
    pub(super) fn deliver(&mut self, from: usize, to: usize, event_type: &str, content: &Value) {
        let message = Message::parse(event_type, content).expect("a focus's message");
        let sender = id(from);
        let sender = Sender {
            user_id: &sender.user_id,
            device_id: None,
            protection: Protection::Plain,
            age: Duration::ZERO,
        };
        let roster = self.roster();
        let world = &mut self.worlds[to];
        let now = world.now;
        world.focus.handle_call(sender, message, now);
        world.focus.handle_roster(CONF, roster, now);
        world.pump();
    }

    /// The checks of a calling end find the transport that has the fragment they name.
    fn check(&mut self, focus: usize, transport: TransportId) {
        let ice = |world: &World, id: TransportId| {
            let shards = world.shards.iter();
            shards
                .filter_map(|shard| shard.transports.get(&id))
                .next()
                .cloned()
        };
        let own = ice(&self.worlds[focus], transport).expect("a transport");
        let found = self.worlds.iter().enumerate().find_map(|(other, world)| {
            let transports = world.shards.iter().flat_map(|shard| &shard.transports);
            let mut matching = transports.filter(|(_, theirs)| {
                theirs.local_ufrag == own.remote_ufrag
                    && theirs.local_pwd == own.remote_pwd
                    && theirs.remote_ufrag == own.local_ufrag
            });
            matching.next().map(|(id, _)| (other, *id))
        });
        let Some((other, theirs)) = found.filter(|(other, _)| self.reaches(focus, *other)) else {
            return;
        };
        self.links.insert((focus, transport), (other, theirs));
        self.links.insert((other, theirs), (focus, transport));
        self.linked += 1;
        self.input(other, theirs, TransportInput::IceConnected);
        self.input(focus, transport, TransportInput::IceConnected);
    }

    /// The way between all foci and this one is gone, both in the room and on the network, and its ends notice.
    pub(super) fn cut(&mut self, focus: usize) {
        self.cut_off.push(focus);
        let lost: Vec<(usize, TransportId)> = self
            .links
            .iter()
            .filter(|((one, _), (other, _))| *one == focus || *other == focus)
            .map(|(end, _)| *end)
            .collect();
        for (focus, transport) in lost {
            self.links.remove(&(focus, transport));
            self.input(focus, transport, TransportInput::ConsentLost);
        }
        self.settle();
    }

    pub(super) fn mend(&mut self, focus: usize) {
        self.cut_off.retain(|other| *other != focus);
    }

    // ── Time ───────────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Jumps from deadline to deadline of all foci.
    pub(super) fn pass(&mut self, time: Duration) {
        self.settle();
        let end = self.now() + time;
        loop {
            let next = self
                .worlds
                .iter()
                .filter_map(|world| world.focus.poll_timeout())
                .min();
            let at = next.filter(|next| *next <= end);
            for world in &mut self.worlds {
                world.now = at.unwrap_or(end).max(world.now);
            }
            let Some(_) = at else { break };
            for world in &mut self.worlds {
                let now = world.now;
                world.focus.handle_timeout(now);
                assert!(
                    world.focus.poll_timeout().is_none_or(|next| next > now),
                    "a deadline is not left behind"
                );
                world.pump();
            }
            self.settle();
        }
    }

    // ── What must always be true ───────────────────────────────────────────────────────────────────────────────────────

    /// The other focus of a trunk's transport.
    fn is_trunk(&self, focus: usize, transport: TransportId) -> bool {
        let world = &self.worlds[focus];
        let of = world.focus.transports.get(&transport);
        of.is_some_and(|(_, participant)| participant.user_id.starts_with("@focus"))
    }

    /// How many trunks are up or on the way to it, each counted at both ends.
    pub(super) fn trunk_ends(&self) -> usize {
        self.worlds
            .iter()
            .map(|world| world.focus.trunk_count())
            .sum()
    }

    /// What has come over a trunk goes over no other: so no packet reaches a focus twice.
    pub(super) fn assert_no_loop(&self) {
        for (focus, world) in self.worlds.iter().enumerate() {
            for shard in &world.shards {
                for subscription in shard.subscriptions.values() {
                    let (origin, ..) = &shard.tracks[&subscription.track];
                    assert!(
                        !self.is_trunk(focus, subscription.transport)
                            || !self.is_trunk(focus, *origin),
                        "focus {focus} hands on what it was handed"
                    );
                }
            }
        }
    }

    /// The names of those who are connected anywhere.
    pub(super) fn present(&self) -> Vec<(usize, usize)> {
        let clients = self.worlds.iter().enumerate().flat_map(|(focus, world)| {
            let up = world.clients.iter().enumerate();
            up.filter(|(_, client)| client.transport.is_some())
                .map(move |(index, _)| (focus, index))
        });
        clients.collect()
    }

    /// Whoever wants a track of somebody who is there gets it, and nobody gets anything else. `wanted` are names by who wants them.
    pub(super) fn assert_wanted_arrives(&self, wanted: &BTreeMap<ParticipantId, Vec<String>>) {
        let present = self.present();
        let clients: Vec<&Client> = present
            .iter()
            .map(|(focus, index)| &self.worlds[*focus].clients[*index])
            .collect();
        let there: BTreeSet<String> = clients.iter().map(|client| client.name()).collect();
        for client in clients {
            let gets: BTreeSet<&str> = client.receives().into_values().collect();
            let named = wanted.get(&client.id).into_iter().flatten();
            let expected: BTreeSet<String> = named
                .filter(|name| there.contains(*name))
                .flat_map(|name| [format!("{name}-cam"), format!("{name}-mic")])
                .collect();
            let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
            assert_eq!(gets, expected, "what {} gets", client.name());
        }
    }

    /// Everybody is told of everybody else, and of nobody who is gone.
    pub(super) fn assert_everyone_knows_everyone(&mut self) {
        let present = self.present();
        let stream_of = |foci: &Self, (focus, index): (usize, usize)| {
            format!("{}-stream", foci.worlds[focus].clients[index].name())
        };
        let all: BTreeSet<String> = present.iter().map(|of| stream_of(self, *of)).collect();
        for (focus, index) in present {
            let own = stream_of(self, (focus, index));
            let client = &mut self.worlds[focus].clients[index];
            client.read_unread();
            let others = all.iter().filter(|of| **of != own);
            let expected: Vec<&str> = others.map(String::as_str).collect();
            assert_eq!(client.stream_ids(), expected, "what {own} is told of");
        }
    }

    /// Everybody gets everybody else's camera and microphone, once.
    pub(super) fn assert_everyone_gets_everyone(&self) {
        let present = self.present();
        for (focus, index) in &present {
            let client = &self.worlds[*focus].clients[*index];
            let mut gets: Vec<&str> = client.receives().into_values().collect();
            gets.sort_unstable();
            let mut expected: Vec<String> = present
                .iter()
                .filter(|other| **other != (*focus, *index))
                .flat_map(|(focus, index)| {
                    let name = self.worlds[*focus].clients[*index]
                        .id
                        .device_id
                        .to_lowercase();
                    [format!("{name}-cam"), format!("{name}-mic")]
                })
                .collect();
            expected.sort_unstable();
            assert_eq!(
                gets, expected,
                "what {:?} gets at focus {focus}",
                client.id.user_id
            );
        }
    }
}

/// The focus of that number. The first has the lowest id.
pub(super) fn id(index: usize) -> ParticipantId {
    ParticipantId::new(format!("@focus{index:02}:foci{index:02}.example"), "FOCUS")
}
