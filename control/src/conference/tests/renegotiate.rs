//! Offers that wait, cross, get lost, and restart ICE.

use std::time::Duration;

use weir_signal::sdp::Description;

use super::{client::Client, world::World};
use crate::conference::{CallEnd, Happened, OfferReceived, OfferSent, Refusal};

#[test]
fn checklist_30_one_offer_at_a_time_and_changes_are_coalesced() {
    let mut world = World::call(&["alice"]);
    world.clients[0].lively = false;
    world.clients[0].wants = None;
    for name in ["bob", "carol", "dave", "eve"] {
        world.join(Client::new(name, "conf"));
        // What a client that is asleep has asked for before it fell asleep.
        let name = name.to_owned();
        let subscribe = format!(
            r#"{{"type":"m.call.track_subscription","content":{{"subscribe":[{{"stream_id":"{name}-stream","track_id":"{name}-mic"}}]}}}}"#
        );
        world.say(0, &subscribe);
    }
    // The world would have complained about a second offer. It wakes up before the first one is repeated.
    world.clients[0].lively = true;
    world.pass(Duration::from_secs(11));
    assert_eq!(world.clients[0].receives().len(), 4);
    assert!(world.clients[0].offers_seen <= 2);
}

#[test]
fn checklist_31_client_offer_wins_and_the_own_one_is_made_again() {
    let mut world = World::call(&["alice"]);
    world.clients[0].wants = None;
    // Alice offers while the focus offers Bob's tracks: hers crosses.
    let mut bob = Client::new("bob", "conf");
    bob.wants = None;
    world.join(bob);
    let subscription = world.clients[0].subscription();
    world.say_only(0, &subscription);
    world.clients[0].share("share", "screen");
    let offer = world.clients[0].offer();
    // She drops the focus's offer, because she is making her own.
    world.settle();
    let seen = world.clients[0].offers_seen;
    world.say(0, &offer);
    assert_eq!(world.clients[0].answers_seen, 1);
    assert!(
        world.clients[0].offers_seen > seen,
        "the focus has offered again"
    );
    assert_eq!(world.clients[0].receives().len(), 2);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream", "share"]);
    for crossed in [
        Happened::OfferReceived(OfferReceived::Crossed),
        Happened::OfferSent(OfferSent::Crossed),
    ] {
        assert_eq!(world.count(crossed), 1, "{crossed:?}");
    }
}

#[test]
fn checklist_31_unanswered_offer_is_made_again_and_then_given_up() {
    let mut world = World::call(&["alice"]);
    world.clients[0].lively = false;
    world.join(Client::new("bob", "conf"));
    let subscribe = r#"{"type":"m.call.track_subscription","content":{"subscribe":[{"stream_id":"bob-stream","track_id":"bob-mic"}]}}"#;
    world.say(0, subscribe);
    world.pass(Duration::from_secs(9));
    world.clients[0].lively = true;
    world.pass(Duration::from_secs(2));
    assert_eq!(
        world.clients[0].receives().len(),
        1,
        "the second attempt is answered"
    );

    let mut mute = Client::new("carol", "conf");
    mute.making_offer = true;
    world.join(mute);
    let subscribe = subscribe.replace("bob-mic", "bob-cam");
    world.say(2, &subscribe);
    world.pass(Duration::from_secs(29));
    assert_eq!(world.focus.participant_count(), 3);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.focus.participant_count(), 2, "three times is enough");
    assert_eq!(
        world.clients[2].to_device.last().expect("a hangup").1["reason"],
        "unknown_error"
    );
    assert_eq!(world.count(Happened::OfferSent(OfferSent::Unanswered)), 4);
    let ended = Happened::CallEnded(CallEnd::OffersUnanswered);
    assert_eq!(world.count(ended), 1);
}

#[test]
fn late_answer_does_no_harm() {
    let mut world = World::call(&["alice", "bob"]);
    let sdp = world.clients[0].describe("active");
    let answer = serde_json::json!({"type": "m.call.negotiate", "content": {"description": {"type": "answer", "sdp": sdp}}});
    world.say(0, &answer.to_string());
    assert_eq!(world.refused, [Refusal::UnexpectedAnswer]);
    assert_eq!(world.clients[0].receives().len(), 2);
}

#[test]
fn checklist_32_long_descriptions_are_taken_and_numbers_stay() {
    let mut world = World::call(&["alice", "bob"]);
    let numbers = |world: &World| {
        let sdp = Description::parse(&world.clients[0].last_sdp).expect("SDP");
        let codecs = sdp
            .sections
            .iter()
            .flat_map(|section| section.codecs.iter().map(|codec| codec.payload_type));
        let extensions = sdp
            .sections
            .iter()
            .flat_map(|section| section.extmaps.iter().map(|extmap| extmap.id));
        (
            codecs.take(4).collect::<Vec<_>>(),
            extensions.take(4).collect::<Vec<_>>(),
        )
    };
    let before = numbers(&world);
    for round in 0..20 {
        world.renegotiate(0, |alice| alice.share("share", &format!("screen-{round}")));
        world.renegotiate(0, |alice| alice.unshare("share"));
    }
    assert!(world.clients[0].describe("actpass").len() >= 16_000);
    assert_eq!(world.clients[0].answers_seen, 40);
    assert_eq!(numbers(&world), before);
    assert_eq!(world.clients[0].receives().len(), 2);
}

#[test]
fn checklist_33_answers_keep_what_the_focus_sends() {
    let mut world = World::call(&["alice", "bob"]);
    let before = world.clients[0]
        .sections
        .iter()
        .map(|section| section.receives.clone())
        .collect::<Vec<_>>();
    let commands = world.shards[0].subscription_commands;
    world.renegotiate(0, |_| {});
    let after = world.clients[0]
        .sections
        .iter()
        .map(|section| section.receives.clone())
        .collect::<Vec<_>>();
    assert_eq!(before, after);
    assert_eq!(world.shards[0].subscription_commands, commands);
}

#[test]
fn checklist_34_ice_restart_is_answered_with_new_credentials() {
    let mut world = World::call(&["alice", "bob"]);
    let credentials = |world: &World| {
        let sdp = Description::parse(&world.clients[0].last_sdp).expect("SDP");
        sdp.ice().expect("credentials").clone()
    };
    let before = credentials(&world);
    world.renegotiate(0, |alice| alice.ufrag = "another".to_owned());
    let after = credentials(&world);
    assert!(before.ufrag != after.ufrag && before.pwd != after.pwd);
    let transport = world.clients[0].transport.expect("a transport");
    let known = &world.shards[0].transports[&transport];
    assert_eq!(
        (known.local_ufrag.as_str(), known.remote_ufrag.as_str()),
        (after.ufrag.as_str(), "another")
    );
    world.renegotiate(0, |_| {});
    assert_eq!(world.shards[0].restarts, 1, "and only then");
}

#[test]
fn bad_offer_is_refused_and_the_call_goes_on() {
    let mut world = World::call(&["alice", "bob"]);
    for sdp in [
        "",
        "v=0",
        "nonsense",
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n",
    ] {
        let offer = serde_json::json!({"type": "m.call.negotiate", "content": {"description": {"type": "offer", "sdp": sdp}}});
        world.say(0, &offer.to_string());
    }
    assert_eq!(world.refused.len(), 4);
    let refused = Happened::OfferReceived(OfferReceived::Refused);
    assert_eq!(world.count(refused), 4);
    assert_eq!(world.clients[0].errors.len(), 4);
    let about = world.clients[0].errors[3].in_reply_to.as_ref();
    assert_eq!(about.expect("a name").name, "m.call.negotiate");
    world.renegotiate(0, |alice| alice.share("share", "screen"));
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream", "share"]);
}
