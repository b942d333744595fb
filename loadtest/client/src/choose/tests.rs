//! The table of cases, then what does not fit into one.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_700_000_000_000;
const MEMBER: &str = "org.matrix.msc3401.call.member";

/// `name` as a focus.
fn focus(name: &str) -> FocusAddress {
    FocusAddress {
        user_id: format!("@{name}:x"),
        device_id: name.to_uppercase(),
    }
}

fn entries(names: &[&str]) -> Value {
    let entry =
        |name: &&str| json!({"user_id": focus(name).user_id, "device_id": focus(name).device_id});
    names.iter().map(entry).collect()
}

fn device(device_id: &str, active: &[&str], preferred: &[&str], expires_ts: u64) -> Value {
    json!({
        "device_id": device_id, "session_id": "s", "expires_ts": expires_ts,
        "org.matrix.msc3898.foci.active": entries(active),
        "org.matrix.msc3898.foci.preferred": entries(preferred),
    })
}

fn content(devices: &[Value]) -> Value {
    json!({"m.calls": [{"m.call_id": "conf", "m.devices": devices}]})
}

/// A member with one device.
fn member(choice: &mut Choice, name: &str, active: &[&str], preferred: &[&str]) {
    let listed = device("PHONE", active, preferred, NOW + 3_600_000);
    let fate = choice.handle_state(MEMBER, &format!("@{name}:x"), &content(&[listed]));
    assert_eq!(fate, Fate::Taken);
}

fn answers_after(ms: u64) -> Measured {
    Measured {
        answer: Some(Duration::from_millis(ms)),
        ..Measured::default()
    }
}

/// Own foci, and what all answer after.
fn choice(rules: Rules, own: &[&str], answers: &[(&str, u64)]) -> Choice {
    let mut choice = Choice::new(rules, "conf", "@me:x", "ME");
    for name in own {
        let (focus, blip_url) = (focus(name), None);
        choice.handle_configured(Known { focus, blip_url });
    }
    for (name, ms) in answers {
        choice.handle_measured(&focus(name), answers_after(*ms));
    }
    choice
}

fn names(foci: &[FocusAddress]) -> Vec<String> {
    let name = |focus: &FocusAddress| focus.device_id.to_lowercase();
    foci.iter().map(name).collect()
}

type Listed<'a> = (&'a str, &'a [&'a str], &'a [&'a str]);

/// One situation before joining, and what follows.
struct Case {
    says: &'static str,
    own: &'static [&'static str],
    answers: &'static [(&'static str, u64)],
    /// Name, active, preferred.
    members: &'static [Listed<'static>],
    active: &'static [&'static str],
    preferred: &'static [&'static str],
    because: Because,
}

const NY: &[&str] = &["ny"];
const LON: &[&str] = &["lon"];
const NONE: &[&str] = &[];
/// As measured in London.
const FROM_LONDON: &[(&str, u64)] = &[("lon", 5), ("ny", 80)];

const CASES: &[Case] = &[
    Case {
        says: "alone: full mesh with nobody, and the own focus is announced",
        own: LON,
        answers: FROM_LONDON,
        members: &[],
        active: NONE,
        preferred: LON,
        because: Because::TwoAtMost,
    },
    Case {
        says: "two without a focus: full mesh",
        own: LON,
        answers: FROM_LONDON,
        members: &[("bob", NONE, NY)],
        active: NONE,
        preferred: LON,
        because: Because::TwoAtMost,
    },
    Case {
        says: "two, of whom one is on a focus: there is no other way to call it",
        own: LON,
        answers: FROM_LONDON,
        members: &[("bob", NY, NONE)],
        active: NY,
        preferred: LON,
        because: Because::AnotherPrefersIt,
    },
    Case {
        says: "the third to a full mesh takes the best that another prefers",
        own: &["ber"],
        answers: &[("ber", 10), ("lon", 20), ("ny", 90)],
        members: &[("bob", NONE, NY), ("carol", NONE, LON)],
        active: LON,
        preferred: &["ber"],
        because: Because::AnotherPrefersIt,
    },
    Case {
        says: "the first from London goes to New York, where all others are",
        own: LON,
        answers: FROM_LONDON,
        members: &[("bob", NY, NONE), ("carol", NY, NONE)],
        active: NY,
        preferred: LON,
        because: Because::AnotherPrefersIt,
    },
    Case {
        says: "the second from London sees that Alice would prefer London",
        own: LON,
        answers: FROM_LONDON,
        members: &[("alice", NY, LON), ("bob", NY, NONE), ("carol", NY, NONE)],
        active: LON,
        preferred: NONE,
        because: Because::AnotherPrefersIt,
    },
    Case {
        says: "who comes to New York stays there, whatever Alice prefers",
        own: NY,
        answers: &[("ny", 5), ("lon", 80)],
        members: &[("alice", NY, LON), ("bob", NY, NONE)],
        active: NY,
        preferred: NONE,
        because: Because::AnotherPrefersIt,
    },
    Case {
        says: "everybody in use would rather be elsewhere, out of reach: the best active one",
        own: NONE,
        answers: &[("ny", 80), ("tok", 200)],
        members: &[("alice", NY, &["far"]), ("bob", &["tok"], &["far"])],
        active: NY,
        preferred: NONE,
        because: Because::InUse,
    },
    Case {
        says: "a better focus that nobody else wants is announced, not used",
        own: &["tok"],
        answers: &[("tok", 3), ("ny", 150)],
        members: &[("alice", NY, NONE), ("bob", NY, NONE)],
        active: NY,
        preferred: &["tok"],
        because: Because::AnotherPrefersIt,
    },
    Case {
        says: "an own focus that is worse than what is used is not announced",
        own: &["tok", "lon"],
        answers: &[("tok", 200), ("ny", 80), ("lon", 5)],
        members: &[("alice", NY, NONE), ("bob", NY, NONE)],
        active: NY,
        preferred: LON,
        because: Because::AnotherPrefersIt,
    },
    Case {
        says: "nobody has a focus, three people: the best of the own ones",
        own: &["ny", "lon"],
        answers: FROM_LONDON,
        members: &[("alice", NONE, NONE), ("bob", NONE, NONE)],
        active: LON,
        preferred: NONE,
        because: Because::First,
    },
    Case {
        says: "nobody has a focus and none is to be had: full mesh of any size",
        own: NONE,
        answers: &[],
        members: &[("alice", NONE, NONE), ("bob", NONE, NONE)],
        active: NONE,
        preferred: NONE,
        because: Because::NoFocus,
    },
    Case {
        says: "a focus that was not measured comes after all that were",
        own: NONE,
        answers: &[("tok", 300)],
        members: &[("alice", NY, NONE), ("bob", &["tok"], NONE)],
        active: &["tok"],
        preferred: NONE,
        because: Because::AnotherPrefersIt,
    },
    Case {
        says: "foci that are alike are told apart by name, so that all near take the same",
        own: NONE,
        answers: &[("zrh", 9), ("gva", 10), ("ny", 90)],
        members: &[("alice", &["zrh"], NONE), ("bob", &["gva"], NONE)],
        active: &["gva"],
        preferred: NONE,
        because: Because::AnotherPrefersIt,
    },
    Case {
        says: "of a member with two active foci the nearer one counts",
        own: NONE,
        answers: FROM_LONDON,
        members: &[("alice", &["ny", "lon"], NONE), ("bob", NY, NONE)],
        active: LON,
        preferred: NONE,
        because: Because::AnotherPrefersIt,
    },
];

#[test]
fn table_of_cases() {
    for case in CASES {
        let mut choice = choice(Rules::default(), case.own, case.answers);
        if case.says.contains("out of reach") {
            choice.handle_failed(&focus("far"));
        }
        for (name, active, preferred) in case.members {
            member(&mut choice, name, active, preferred);
        }
        let decision = choice.poll_decision(NOW).expect("a first decision");
        assert_eq!(names(decision.active()), case.active, "{}", case.says);
        assert_eq!(names(&decision.preferred), case.preferred, "{}", case.says);
        assert_eq!(decision.because, case.because, "{}", case.says);
        assert_eq!(choice.poll_decision(NOW), None, "once: {}", case.says);
    }
}

#[test]
fn alice_in_london_follows_when_another_begins_to_use_london() {
    let mut alice = choice(Rules::default(), LON, FROM_LONDON);
    member(&mut alice, "bob", NY, NONE);
    member(&mut alice, "carol", NY, NONE);
    let joined = alice.poll_decision(NOW).unwrap();
    assert_eq!(
        (names(joined.active()), names(&joined.preferred)),
        (vec!["ny".into()], vec!["lon".into()])
    );

    // Dave is in London, too, and prefers what Alice prefers.
    let mut dave = choice(Rules::default(), LON, FROM_LONDON);
    member(&mut dave, "bob", NY, NONE);
    member(&mut dave, "alice", NY, LON);
    assert_eq!(names(dave.poll_decision(NOW).unwrap().active()), LON);

    member(&mut alice, "dave", LON, NONE);
    let switched = alice.poll_decision(NOW).unwrap();
    assert_eq!(switched.because, Because::AnotherBegan);
    assert_eq!(names(switched.active()), LON);
    assert_eq!(switched.preferred, [], "it uses what it prefers");

    // And stays when Dave has gone.
    alice.handle_state(MEMBER, "@dave:x", &content(&[]));
    assert_eq!(alice.poll_decision(NOW), None);
}

#[test]
fn two_that_follow_each_other_come_to_rest() {
    let (from_a, from_b) = ([("a", 5), ("b", 80)], [("a", 80), ("b", 5)]);
    let (mut one, mut two) = (
        choice(Rules::default(), &["a"], &from_a),
        choice(Rules::default(), &["b"], &from_b),
    );
    member(&mut one, "carol", &["b"], NONE);
    member(&mut two, "carol", &["a"], NONE);
    one.poll_decision(NOW);
    two.poll_decision(NOW);
    member(&mut one, "two", &["a"], &["b"]);
    member(&mut two, "one", &["b"], &["a"]);
    assert_eq!(names(one.poll_decision(NOW).unwrap().active()), ["a"]);
    assert_eq!(names(two.poll_decision(NOW).unwrap().active()), ["b"]);
    member(&mut one, "two", &["b"], NONE);
    member(&mut two, "one", &["a"], NONE);
    assert_eq!(
        (one.poll_decision(NOW), two.poll_decision(NOW)),
        (None, None)
    );
}

#[test]
fn a_full_mesh_that_grows_moves_to_a_focus() {
    let mut me = choice(Rules::default(), LON, FROM_LONDON);
    member(&mut me, "bob", NONE, NY);
    assert_eq!(me.poll_decision(NOW).unwrap().using, Using::FullMesh);
    member(&mut me, "carol", LON, NONE);
    let moved = me.poll_decision(NOW).unwrap();
    assert_eq!(
        (names(moved.active()), moved.preferred.len()),
        (vec!["lon".into()], 0)
    );
    // Nobody goes back to a full mesh when others leave.
    me.handle_state(MEMBER, "@carol:x", &content(&[]));
    assert_eq!(me.poll_decision(NOW), None);
}

#[test]
fn a_focus_that_fails_is_left_for_the_next_best() {
    let mut me = choice(Rules::default(), LON, FROM_LONDON);
    member(&mut me, "bob", LON, NONE);
    member(&mut me, "carol", NY, NONE);
    assert_eq!(names(me.poll_decision(NOW).unwrap().active()), LON);
    me.handle_failed(&focus("lon"));
    let left = me.poll_decision(NOW).unwrap();
    assert_eq!(
        (names(left.active()), left.preferred.len()),
        (vec!["ny".into()], 0)
    );
    // It is back, and preferred again: Bob is there, so that this device follows.
    me.handle_measured(&focus("lon"), answers_after(5));
    assert_eq!(
        me.poll_decision(NOW).unwrap().because,
        Because::AnotherBegan
    );
}

#[test]
fn members_count_until_they_expire_leave_the_call_or_the_room() {
    let mut me = choice(Rules::default(), NONE, FROM_LONDON);
    let listed = |until| content(&[device("PHONE", LON, NONE, until)]);
    me.handle_state(MEMBER, "@bob:x", &listed(NOW + 1000));
    me.handle_state(MEMBER, "@dead:x", &listed(NOW));
    me.handle_state(MEMBER, "@gone:x", &listed(NOW + 5000));
    me.handle_state("m.room.member", "@gone:x", &json!({"membership": "leave"}));
    // A membership may come before the listing, in whatever order state is given.
    me.handle_state("m.room.member", "@banned:x", &json!({"membership": "ban"}));
    me.handle_state(MEMBER, "@banned:x", &listed(NOW + 5000));
    assert_eq!(me.poll_timeout(NOW), Some(NOW + 1000));
    assert_eq!(
        names(me.poll_decision(NOW).unwrap().active()),
        LON,
        "Bob is there"
    );
    assert_eq!(me.clone().members.view(NOW).others, 1);
    assert_eq!(me.members.view(NOW + 1000).others, 0);
    assert_eq!(me.poll_timeout(NOW + 1000), None);
    me.handle_state("m.room.member", "@gone:x", &json!({"membership": "join"}));
    assert_eq!(me.members.view(NOW + 1000).others, 1);
}

#[test]
fn own_listing_and_other_calls_do_not_count_and_own_other_devices_do() {
    let mut me = choice(Rules::default(), NONE, FROM_LONDON);
    let until = NOW + 1000;
    let both = [
        device("ME", LON, NONE, until),
        device("LAPTOP", NY, NONE, until),
    ];
    me.handle_state(MEMBER, "@me:x", &content(&both));
    let mut other = content(&[device("PHONE", LON, NONE, until)]);
    other["m.calls"][0]["m.call_id"] = json!("other");
    me.handle_state(MEMBER, "@bob:x", &other);
    let view = me.members.view(NOW);
    assert_eq!(
        (view.others, view.active.into_keys().collect::<Vec<_>>()),
        (1, vec![focus("ny")])
    );
}

#[test]
fn stable_and_unstable_names_are_read_and_a_device_in_both_events_counts_once() {
    let mut me = choice(Rules::default(), NONE, FROM_LONDON);
    let stable = json!({"m.calls": [{"m.call_id": "conf", "m.devices": [
        {"device_id": "PHONE", "m.foci.active": entries(NY), "m.foci.preferred": entries(LON)},
    ]}], "m.expires_ts": NOW + 10});
    assert_eq!(
        me.handle_state("m.call.member", "@bob:x", &stable),
        Fate::Taken
    );
    let view = me.members.view(NOW);
    assert_eq!(
        (
            view.active.len(),
            view.preferred.contains_key(&focus("lon"))
        ),
        (1, true)
    );
    assert_eq!(
        me.members.view(NOW + 10).others,
        0,
        "the whole event expires"
    );
    member(&mut me, "bob", LON, NONE);
    assert_eq!(me.members.view(NOW).others, 1);
    me.handle_state(MEMBER, "@bob:x", &content(&[]));
    assert!(
        me.members.view(NOW).active.contains_key(&focus("ny")),
        "the other event still says so"
    );
}

#[test]
fn more_than_one_focus_only_where_none_is_near() {
    let rules = Rules {
        active_max: 2,
        ..Rules::default()
    };
    let answers = [("ny", 180), ("tok", 160), ("syd", 300)];
    let mut far = choice(rules.clone(), NONE, &answers);
    for (name, active) in [("a", "ny"), ("b", "tok"), ("c", "syd")] {
        member(&mut far, name, &[active], NONE);
    }
    assert_eq!(
        names(far.poll_decision(NOW).unwrap().active()),
        ["tok", "ny"]
    );
    far.handle_failed(&focus("tok"));
    assert_eq!(
        names(far.poll_decision(NOW).unwrap().active()),
        ["ny"],
        "what is left is enough"
    );

    let mut near = choice(rules, NONE, &[("ny", 180), ("tok", 20)]);
    member(&mut near, "a", NY, NONE);
    member(&mut near, "b", &["tok"], NONE);
    assert_eq!(names(near.poll_decision(NOW).unwrap().active()), ["tok"]);
}

#[test]
fn each_criterion_alone_decides_and_the_most_telling_wins() {
    let ms = Duration::from_millis;
    let media = |round_trip, bandwidth_bps| {
        Some(MediaMeasured {
            round_trip: ms(round_trip),
            bandwidth_bps,
        })
    };
    // Each criterion has another winner.
    let all = [
        (
            "a",
            Measured {
                answer: Some(ms(5)),
                blip: Some(ms(40)),
                channel: Some(ms(150)),
                media: media(60, 900_000),
            },
        ),
        (
            "b",
            Measured {
                answer: Some(ms(40)),
                blip: Some(ms(5)),
                channel: Some(ms(150)),
                media: media(60, 900_000),
            },
        ),
        (
            "c",
            Measured {
                answer: Some(ms(40)),
                blip: Some(ms(150)),
                channel: Some(ms(5)),
                media: media(60, 900_000),
            },
        ),
        (
            "d",
            Measured {
                answer: Some(ms(150)),
                blip: Some(ms(150)),
                channel: Some(ms(150)),
                media: media(5, 200_000),
            },
        ),
    ];
    let best = |rules: Rules| {
        let mut choice = choice(rules, NONE, &[]);
        for (name, measured) in &all {
            choice.handle_measured(&focus(name), *measured);
            member(&mut choice, &format!("on-{name}"), &[name], NONE);
        }
        names(choice.poll_decision(NOW).unwrap().active()).concat()
    };
    let by = |criterion| Rules {
        criteria: vec![criterion],
        ..Rules::default()
    };
    assert_eq!(
        Criterion::ALL.map(|criterion| best(by(criterion))),
        ["d", "c", "b", "a"]
    );
    assert_eq!(best(Rules::default()), "d");
    let wide = Rules {
        bandwidth_min_bps: 500_000,
        ..Rules::default()
    };
    assert_eq!(best(wide), "a", "d carries too little");
}

#[test]
fn a_criterion_counts_for_those_that_have_it() {
    let ms = |ms| Some(Duration::from_millis(ms));
    let mut me = choice(Rules::default(), NONE, &[]);
    // Most have a blip time; of the answer of the fourth nothing follows for them.
    for (name, blip) in [("a", 50), ("b", 20), ("c", 90)] {
        me.handle_measured(
            &focus(name),
            Measured {
                blip: ms(blip),
                answer: ms(300),
                ..Measured::default()
            },
        );
        member(&mut me, &format!("on-{name}"), &[name], NONE);
    }
    me.handle_measured(
        &focus("d"),
        Measured {
            channel: ms(1),
            ..Measured::default()
        },
    );
    member(&mut me, "on-d", &["d"], NONE);
    assert_eq!(names(me.poll_decision(NOW).unwrap().active()), ["b"]);
}

#[test]
fn well_known_document_names_own_foci_and_blip_ports() {
    let mut me = choice(Rules::default(), LON, &[]);
    me.handle_well_known(&json!({"m.homeserver": {}, "org.matrix.msc3898.foci": [
        {"user_id": "@lon:x", "device_id": "LON", "blip_url": "https://192.0.2.9:7881/"},
        {"user_id": "@ny:x", "device_id": "NY", "blip_url": "https://192.0.2.1:7881/"},
        {"user_id": "@no device:x"}, 7, null,
    ]}));
    let known = me.to_measure(NOW);
    let found = known
        .iter()
        .map(|of| (of.focus.clone(), of.blip_url.as_deref()));
    // The configuration's word counts.
    let expected = [
        (focus("lon"), None),
        (focus("ny"), Some("https://192.0.2.1:7881/")),
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
    for document in [
        json!({}),
        json!([]),
        json!({"org.matrix.msc3898.foci": "x"}),
    ] {
        me.handle_well_known(&document);
    }
    assert_eq!(me.to_measure(NOW).len(), 2);
}

#[test]
fn what_is_measured_or_has_failed_is_not_measured_again() {
    let mut me = choice(Rules::default(), LON, &[]);
    member(&mut me, "bob", NY, &["tok"]);
    member(&mut me, "carol", NY, NONE);
    let waiting = |me: &Choice| {
        names(
            &me.to_measure(NOW)
                .into_iter()
                .map(|of| of.focus)
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        waiting(&me),
        ["lon", "ny", "tok"],
        "own first, then as often as named"
    );
    me.handle_measured(&focus("ny"), answers_after(80));
    me.handle_failed(&focus("tok"));
    assert_eq!(waiting(&me), ["lon"]);
}

#[test]
fn hostile_events_are_bounded_and_do_not_hide_the_own_focus() {
    let mut me = choice(Rules::default(), LON, FROM_LONDON);
    let foci: Vec<Value> = (0..200)
        .map(|n| json!({"user_id": format!("@focus{n}:x"), "device_id": "F"}))
        .collect();
    let devices: Vec<Value> = (0..200)
        .map(|n| {
            json!({
                "device_id": format!("D{n}"), "expires_ts": NOW + 5,
                "m.foci.active": foci, "m.foci.preferred": foci,
            })
        })
        .collect();
    let content = content(&devices);
    let fates: Vec<Fate> = (0..10_000)
        .map(|n| me.handle_state(MEMBER, &format!("@member{n}:x"), &content))
        .collect();
    assert!(
        fates.iter().all(|fate| *fate == Fate::TooMuch),
        "each is cut"
    );
    for n in 0..20_000 {
        me.handle_state(
            "m.room.member",
            &format!("@left{n}:x"),
            &json!({"membership": "leave"}),
        );
    }
    assert_eq!(me.members.bounds(), (true, true, true));
    let measure = me.to_measure(NOW);
    assert!(measure.len() < 64, "{}", measure.len());
    let decision = me.poll_decision(NOW).unwrap();
    assert_eq!(decision.because, Because::AnotherPrefersIt);

    // When they are gone there is room for others.
    for n in 0..10_000 {
        me.handle_state(MEMBER, &format!("@member{n}:x"), &json!({}));
    }
    member(&mut me, "bob", NY, NONE);
    assert_eq!(me.members.view(NOW).others, 1);
}

#[test]
fn a_user_beyond_the_limit_is_left_out_and_the_others_may_change() {
    let mut me = choice(Rules::default(), NONE, FROM_LONDON);
    for n in 0..5000 {
        me.handle_state(
            MEMBER,
            &format!("@m{n}:x"),
            &content(&[device("D", NY, NONE, NOW + 9)]),
        );
    }
    assert_eq!(me.members.view(NOW).others, 4096);
    let moved = content(&[device("D", LON, NONE, NOW + 9)]);
    assert_eq!(me.handle_state(MEMBER, "@m7:x", &moved), Fate::Taken);
    assert_eq!(me.handle_state(MEMBER, "@m4999:x", &moved), Fate::TooMuch);
    assert_eq!(me.members.view(NOW).active[&focus("lon")], 1);
}

#[test]
fn nonsense_is_as_good_as_absent() {
    let mut me = choice(Rules::default(), LON, FROM_LONDON);
    let long = "x".repeat(300);
    for content in [
        json!(null),
        json!([]),
        json!({"m.calls": 3}),
        json!({"m.calls": [{"m.call_id": "conf"}]}),
        json!({"m.calls": [{"m.call_id": "conf", "m.devices": {"device_id": "D"}}]}),
        json!({"m.calls": [{"m.call_id": "conf", "m.devices": [3, {"device_id": 7}]}]}),
        content(&[json!({"device_id": long})]),
    ] {
        me.handle_state(MEMBER, "@bob:x", &content);
        assert_eq!(me.members.view(NOW).others, 0, "{content}");
    }
    let odd = json!({"device_id": "D", "expires_ts": "soon", "m.foci.active": {"user_id": "@ny:x"},
        "m.foci.preferred": [{"user_id": "@ny:x", "device_id": ""}, {"user_id": long, "device_id": "D"}, "@ny:x"]});
    me.handle_state(MEMBER, "@bob:x", &content(&[odd]));
    let view = me.members.view(NOW);
    assert_eq!(
        (view.others, view.active.len(), view.preferred.len()),
        (1, 0, 0)
    );
    assert_eq!(
        me.handle_state("m.room.name", "", &json!({})),
        Fate::Irrelevant
    );
}
