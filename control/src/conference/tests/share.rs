//! Screens.

use std::time::Duration;

use weir_signal::{
    metadata::{MediaKind, Purpose},
    sdp::{Description, Direction},
};

use super::world::World;

#[test]
fn checklist_27_screens_come_in_sections_of_their_own_round_after_round() {
    let mut world = World::call(&["alice", "bob"]);
    for round in 0..4 {
        let (stream, track) = (format!("share-{round}"), format!("screen-{round}"));
        world.renegotiate(0, |alice| alice.share(&stream, &track));
        world.pass(Duration::from_millis(100));
        let answer = Description::parse(&world.clients[0].last_sdp).expect("SDP");
        let mid = world.clients[0]
            .sections
            .iter()
            .rfind(|s| s.sends.is_some())
            .expect("a section")
            .mid
            .clone();
        let section = answer.by_mid(&mid).expect("the section");
        assert_eq!(section.direction, Direction::RecvOnly);
        assert_eq!(section.simulcast_recv.len(), 3);
        assert_eq!(
            world.clients[1].feed(&stream).expect("a feed").purpose,
            Purpose::Screenshare
        );
        assert!(
            world.clients[1]
                .receives()
                .into_values()
                .any(|received| received == track)
        );

        world.renegotiate(0, |alice| alice.unshare(&stream));
        world.pass(Duration::from_millis(100));
        assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);
    }
    assert_eq!(
        world.clients[0].sections.len(),
        3 + 4 + 2,
        "own sections grow; two are for what Bob sends"
    );
    assert!(
        world.clients[1].sections.len() <= 3 + 4,
        "the screens' sections are used again"
    );
}

#[test]
fn checklist_28_inactive_ends_the_share_at_once() {
    let mut world = World::call(&["alice", "bob"]);
    world.renegotiate(0, |alice| alice.share("share", "screen"));
    let tracks = world.shards[0].tracks.len();
    world.renegotiate(0, |alice| {
        alice.sections.iter_mut().for_each(|section| {
            section.sends.take_if(|(stream, _)| stream == "share");
        });
    });
    assert_eq!(world.shards[0].tracks.len(), tracks - 1);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);
    let answer = Description::parse(&world.clients[0].last_sdp).expect("SDP");
    assert_eq!(
        answer
            .sections
            .iter()
            .filter(|section| section.direction == Direction::Inactive)
            .count(),
        1
    );
}

#[test]
fn checklist_28_absence_from_metadata_ends_the_share_at_once() {
    let mut world = World::call(&["alice", "bob"]);
    world.renegotiate(0, |alice| alice.share("share", "screen"));
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream", "share"]);
    world.change_metadata(0, |alice| {
        alice.metadata.streams.remove("share");
    });
    world.pass(Duration::from_millis(100));
    assert_eq!(world.clients[1].stream_ids(), ["alice-stream"]);
}

#[test]
fn checklist_29_camera_on_a_section_that_the_focus_made() {
    let mut world = World::call(&["alice", "bob"]);
    let before = world.shards[0].subscriptions.len();
    world.renegotiate(0, |alice| {
        let section = alice
            .sections
            .iter_mut()
            .find(|s| s.receives.as_ref().is_some_and(|(_, t)| t == "bob-cam"));
        section.expect("the section of Bob's camera").sends =
            Some(("odd-stream".to_owned(), "late-cam".to_owned()));
        alice.announce("late-stream", Purpose::Usermedia);
        alice.announce_track("late-stream", "late-cam", MediaKind::Video);
    });
    world.pass(Duration::from_millis(100));
    let answer = Description::parse(&world.clients[0].last_sdp).expect("SDP");
    let both_ways = answer
        .sections
        .iter()
        .filter(|section| section.media == "video")
        .map(|section| section.direction);
    assert_eq!(
        both_ways
            .filter(|direction| *direction == Direction::SendRecv)
            .count(),
        1
    );
    assert!(
        world.clients[1]
            .feed("alice-stream")
            .expect("a feed")
            .tracks
            .contains_key("late-cam")
    );
    assert_eq!(
        world.shards[0].subscriptions.len(),
        before + 1,
        "Bob's goes on, Alice's has come"
    );
}
