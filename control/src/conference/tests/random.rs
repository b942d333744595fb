//! Random sequences of everything, held against what must always be true.
//!
//! The world checks on its own: no command about what a shard does not have, no source used twice, no second outstanding
//! offer, no snapshot that shows its receiver to itself, no deadline left behind.

use std::{collections::BTreeSet, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};
use weir_signal::channel::{Dialect, FromClient};

use super::{
    client::{Client, name},
    world::World,
};
use crate::conference::{HangupReason, Limits, TransportInput};

const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "eve"];

struct Story {
    world: World,
    rng: StdRng,
    calls: u32,
}

impl Story {
    fn step(&mut self) {
        let index = self.rng.random_range(0..self.world.clients.len());
        let up = self.world.clients[index].transport.is_some();
        match self.rng.random_range(0..17) {
            0 | 1 => self.call_again(index),
            2 if up => self.world.hang_up(index),
            3 | 4 if up => self
                .world
                .renegotiate(index, |client| client.share("share", "screen")),
            5 if up => self
                .world
                .renegotiate(index, |client| client.unshare("share")),
            6 if up => self.mute(index),
            7 if up => {
                let subscription = self.world.clients[index].subscription();
                self.world.say(index, &subscription);
            }
            8 | 9 if up => self.unsubscribe(index),
            10 if up => self.cross(index),
            11 => self.world.clients[index].lively = self.rng.random_bool(0.7),
            12 if up => self.garble(index),
            13 if up => self.fail(index),
            14 if up => self
                .world
                .renegotiate(index, |client| client.ufrag.push('x')),
            15 => self
                .world
                .pass(Duration::from_millis(self.rng.random_range(0..5000))),
            16 if self.rng.random_bool(0.1) => self.world.pass(Duration::from_secs(40)),
            _ => self.world.pass(Duration::from_millis(10)),
        }
    }

    fn call_again(&mut self, index: usize) {
        self.calls += 1;
        let client = &mut self.world.clients[index];
        client.lively = true;
        client.unshare("share");
        self.world
            .invite_again(index, &format!("call-{}", self.calls));
        if self.rng.random_bool(0.9) {
            self.world.open(index);
        }
    }

    fn mute(&mut self, index: usize) {
        let (audio, video) = (self.rng.random(), self.rng.random());
        self.world.change_metadata(index, |client| {
            for stream in client.metadata.streams.values_mut() {
                (stream.audio_muted, stream.video_muted) = (audio, video);
            }
        });
    }

    fn unsubscribe(&mut self, index: usize) {
        let feeds = self.world.clients[index].feeds.clone().unwrap_or_default();
        let names = feeds
            .streams
            .iter()
            .flat_map(|(stream, content)| content.tracks.keys().map(move |t| name(stream, t)));
        let unsubscribe = names.filter(|_| self.rng.random_bool(0.5)).collect();
        self.world.say(
            index,
            &FromClient::Subscription {
                subscribe: Vec::new(),
                unsubscribe,
            },
        );
    }

    /// The client makes an offer while the focus has something to offer, too.
    fn cross(&mut self, index: usize) {
        let subscription = self.world.clients[index].subscription();
        self.world.say_only(index, &subscription);
        let offer = self.world.clients[index].offer();
        if self.rng.random() {
            self.world.settle();
        }
        self.world.say(index, &offer);
    }

    fn garble(&mut self, index: usize) {
        let client = &self.world.clients[index];
        let mut bytes = client
            .metadata_changed()
            .to_texts(client.dialect)
            .concat()
            .into_bytes();
        let at = self.rng.random_range(0..bytes.len());
        bytes[at] = self.rng.random_range(32..127);
        self.world.say(index, &*String::from_utf8_lossy(&bytes));
        // It has broken what it said; it says it again.
        self.world.change_metadata(index, |_| {});
    }

    fn fail(&mut self, index: usize) {
        let Some(id) = self.world.clients[index].transport else {
            return;
        };
        let input = match self.rng.random_range(0..5) {
            0 => TransportInput::ConsentLost,
            1 => TransportInput::Failed {
                reason: String::new(),
            },
            2 => TransportInput::ChannelClosed { channel: 1 },
            3 => TransportInput::Binary { channel: 1 },
            _ => TransportInput::ChannelOpen {
                channel: 9,
                label: String::new(),
            },
        };
        // A second one, not the first.
        self.world.open(index);
        let closes = matches!(input, TransportInput::ChannelClosed { .. });
        self.world.input(id, input);
        self.world.settle();
        if closes {
            self.world.open(index);
        }
    }

    /// Everybody wakes up, says what there is to say, and then everyone sees and gets what the others publish.
    fn check_agreement(&mut self, seed: u64) {
        for index in 0..self.world.clients.len() {
            self.call_again(index);
            self.world.open(index);
        }
        self.world.pass(Duration::from_secs(1));
        for client in &self.world.clients {
            let others = self
                .world
                .clients
                .iter()
                .filter(|other| other.conf_id == client.conf_id && other.id != client.id);
            let expected: BTreeSet<String> = others
                .flat_map(|other| other.metadata.streams.keys().cloned())
                .collect();
            assert_eq!(
                client
                    .stream_ids()
                    .into_iter()
                    .map(str::to_owned)
                    .collect::<BTreeSet<_>>(),
                expected
            );
            assert_eq!(
                client.receives().len(),
                2 * expected.len(),
                "sound and picture of everybody, seed {seed}"
            );
            let transport = client.transport;
            let subscriptions = self
                .world
                .shards
                .iter()
                .flat_map(|shard| shard.subscriptions.values());
            assert_eq!(
                subscriptions
                    .filter(|s| Some(s.transport) == transport)
                    .count(),
                2 * expected.len()
            );
        }
    }
}

#[test]
fn random_stories_end_well() {
    for seed in 0..40 {
        let limits = Limits {
            invites_per_user_per_second: 1e6,
            invites_per_homeserver_per_second: 1e6,
            ..Limits::default()
        };
        let mut story = Story {
            world: World::with(limits),
            rng: StdRng::seed_from_u64(seed),
            calls: 0,
        };
        for (index, name) in NAMES.into_iter().enumerate() {
            let conf_id = if index < 3 { "conf" } else { "another" };
            let dialect = Dialect::ALL[(index + seed as usize) % 2];
            story
                .world
                .join(Client::new(name, conf_id).speaking(dialect));
        }
        for _ in 0..120 {
            story.step();
        }
        story.check_agreement(seed);
        if seed % 2 == 0 {
            for index in 0..NAMES.len() {
                story.world.hang_up(index);
            }
        } else {
            story
                .world
                .focus
                .hang_up_all(HangupReason::Restarting, story.world.now);
            story.world.pump();
        }
        story.world.assert_empty();
    }
}

#[test]
fn random_bytes_on_every_input_never_panic() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut world = World::call(&["alice", "bob"]);
    let said = [
        world.clients[0].offer(),
        world.clients[0].metadata_changed(),
        world.clients[0].subscription(),
        FromClient::Ping,
    ];
    let samples: Vec<String> = Dialect::ALL
        .into_iter()
        .flat_map(|dialect| said.iter().flat_map(move |said| said.to_texts(dialect)))
        .collect();
    for _ in 0..1500 {
        let mut bytes = samples[rng.random_range(0..samples.len())]
            .clone()
            .into_bytes();
        for _ in 0..rng.random_range(1..6) {
            if bytes.is_empty() {
                break;
            }
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes[at] = rng.random(),
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        world.say(0, &*String::from_utf8_lossy(&bytes));
        world.pass(Duration::from_millis(30));
        assert!(
            world.clients[1].transport.is_some(),
            "the other does not notice"
        );
    }
    assert_eq!(world.clients[1].id.user_id, "@bob:example.org");
}
