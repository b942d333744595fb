//! Foci at several distances, and those who choose between them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use weir_client::choose::{Criterion, Known, Rules};
use weir_client::matrix::Device;
use weir_client::{Choosing, FocusAddress, JoinConfig, Participant, Publish};
use weir_loadtest::choosing::{self, Options, World};

use crate::site::{self, PASSWORD, Site, until, until_some};

fn quiet(_: &str) {}

#[tokio::test(flavor = "multi_thread")]
async fn the_nearest_focus_is_chosen_by_each_measurement_alone() {
    let _turn = site::turn().await;
    let options = Options {
        round_trips_ms: vec![150, 40, 5],
        runs: 3,
    };
    let outcome = choosing::run(&options, &quiet).await.unwrap();
    for row in &outcome.rows {
        // A machine that is busy with something else may hold an answer up for longer than the ways differ: once, not twice.
        assert!(row.chosen[2] >= 2, "{}", outcome.render());
        let times = || row.medians_ms.iter().copied().map(Option::unwrap);
        for (measured, there_and_back) in times().zip([150.0, 40.0, 5.0]) {
            assert!(measured >= there_and_back, "{}", outcome.render());
        }
        let bandwidths = row.bandwidths_bps.iter().flatten();
        let count = bandwidths.filter(|bps| **bps > 1e6).count();
        let expected = if row.criterion == Criterion::Media {
            3
        } else {
            0
        };
        assert_eq!(count, expected, "nothing is narrow here: {row:?}");
    }
}

/// Two cities, as seen from London.
struct Cities {
    world: World,
    new_york: FocusAddress,
    london: FocusAddress,
}

impl Cities {
    async fn start() -> Cities {
        let round_trips = [80, 5].map(Duration::from_millis);
        let world = World::start(&round_trips, &quiet).await.unwrap();
        // Nobody's homeserver recommends anything here.
        world.homeserver.set_foci(Vec::new());
        let [new_york, london] = world.foci().try_into().unwrap();
        Cities {
            world,
            new_york,
            london,
        }
    }

    fn config(&self, user: &str, focus: &FocusAddress) -> JoinConfig {
        let url = self.world.homeserver.url();
        let config = JoinConfig {
            publish: Publish::AUDIO,
            wanted: None,
            ..JoinConfig::new(&url, user, PASSWORD, focus.clone())
        };
        config.in_call(&self.world.room_id, &self.world.conf_id)
    }

    /// Somebody who does not choose.
    async fn new_yorker(&self, user: &str) -> Participant {
        let config = self.config(user, &self.new_york);
        Participant::join(config).await.unwrap()
    }

    /// Somebody whose configuration has the focus in London.
    async fn londoner(&self, user: &str) -> Participant {
        let known = Known {
            focus: self.london.clone(),
            blip_url: None,
        };
        let choosing = Choosing {
            rules: Rules {
                criteria: vec![Criterion::Channel],
                ..Rules::default()
            },
            foci: vec![known],
            detours: self.world.detours(),
        };
        let config = JoinConfig {
            choosing: Some(choosing),
            ..self.config(user, &self.new_york)
        };
        Participant::join(config).await.unwrap()
    }

    /// What each user lists as active and preferred, once all are in the room.
    async fn listed(&self, device: &Device) -> BTreeMap<String, (Value, Value)> {
        let state = device.room_state(&self.world.room_id).await.unwrap();
        let members = state
            .into_iter()
            .filter(|event| event.event_type == "org.matrix.msc3401.call.member");
        let listed = |device: &Value| {
            let list = |name: &str| device[format!("org.matrix.msc3898.foci.{name}")].clone();
            (list("active"), list("preferred"))
        };
        members
            .map(|event| {
                let devices = &event.content["m.calls"][0]["m.devices"];
                (event.state_key, listed(&devices[0]))
            })
            .collect()
    }
}

fn list(foci: &[&FocusAddress]) -> Value {
    let entry = |of: &&FocusAddress| json!({"user_id": of.user_id, "device_id": of.device_id});
    foci.iter().map(entry).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn london_gathers_at_its_own_focus_when_a_second_one_joins_from_there() {
    let _turn = site::turn().await;
    let cities = Cities::start().await;
    let (new_york, london) = (&cities.new_york, &cities.london);
    let bob = cities.new_yorker("bob").await;
    let carol = cities.new_yorker("carol").await;
    let url = cities.world.homeserver.url();
    let onlooker = Device::login(&url, "onlooker", PASSWORD).await.unwrap();
    onlooker.join_room(&cities.world.room_id).await.unwrap();

    // Alice is the first from London: all others are in New York, and so she goes there.
    let alice = cities.londoner("alice").await;
    let listed = cities.listed(&onlooker).await;
    assert_eq!(listed["@bob:localhost"], (list(&[new_york]), list(&[])));
    assert_eq!(
        listed["@alice:localhost"],
        (list(&[new_york]), list(&[london]))
    );
    until("Alice hears New York", || alice.report().streams.len() == 2).await;

    // Dave is the second: he sees what Alice would prefer, and Alice sees that he is there.
    let dave = cities.londoner("dave").await;
    let listed = cities.listed(&onlooker).await;
    assert_eq!(listed["@dave:localhost"], (list(&[london]), list(&[])));
    until_some("Alice lists London", async || {
        let listed = cities.listed(&onlooker).await;
        (listed["@alice:localhost"] == (list(&[london]), list(&[]))).then_some(())
    })
    .await;
    // They hear each other at their own focus, and New York over the trunk between the two.
    for (one, others) in [
        (&alice, ["bob", "carol", "dave"]),
        (&dave, ["alice", "bob", "carol"]),
    ] {
        let expected: BTreeSet<String> = others.map(|user| format!("@{user}:localhost")).into();
        until(&format!("streams of {others:?}"), || {
            let streams = one.report().streams.into_iter();
            let live = streams.filter(|stream| stream.live);
            live.map(|stream| stream.user_id).collect::<BTreeSet<_>>() == expected
        })
        .await;
    }
    assert_eq!(alice.report().invites, 2);
    assert_eq!(bob.report().invites, 1, "nobody else moves");
    for participant in [alice, bob, carol, dave] {
        participant.leave().await;
    }
    cities.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_focus_that_is_gone_is_left_for_one_that_answers() {
    let _turn = site::turn().await;
    let cities = Cities::start().await;
    let nobody = Known {
        focus: FocusAddress {
            user_id: "@focus1:localhost".into(),
            device_id: "GONE".into(),
        },
        blip_url: None,
    };
    let known = Known {
        focus: cities.london.clone(),
        blip_url: None,
    };
    let config = cities.config("alice", &nobody.focus);
    let choosing = Choosing {
        rules: Rules {
            criteria: vec![Criterion::Answer],
            ..Rules::default()
        },
        foci: vec![nobody, known],
        detours: cities.world.detours(),
    };
    let alice = Participant::join(JoinConfig {
        choosing: Some(choosing),
        ..config
    });
    let alice = alice.await.unwrap();
    until("Alice is connected", || alice.report().connected).await;
    assert_eq!(alice.report().ends, [""; 0]);
    alice.leave().await;
    cities.world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_focus_says_how_it_is_found() {
    let site = Site::start(1, "127.0.0.1:0").await;
    let (status, document) = site.get("/.well-known/matrix/client").await;
    assert_eq!(status, 200);
    let focus = site.focus_address();
    let entry = json!({"user_id": focus.user_id, "device_id": focus.device_id});
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document, json!({"org.matrix.msc3898.foci": [entry]}));
    site.stop(vec![]).await;
}
