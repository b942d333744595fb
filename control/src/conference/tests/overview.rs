//! What an operator sees of conferences.

use std::time::Duration;

use super::{
    client::Client,
    foci::{Foci, id},
    slots::without_media,
    world::World,
};
use crate::conference::{Limits, Overview, Tracks, TrunkState, limits};

const SECOND: Duration = Duration::from_secs(1);

fn overview(foci: &Foci, focus: usize) -> Overview {
    foci.worlds[focus].focus.overview()
}

fn tracks(audio: usize, video: usize) -> Tracks {
    Tracks { audio, video }
}

#[test]
fn shows_participants_with_what_they_send_and_get() {
    let mut world = World::call(&["alice", "bob"]);
    world.pass(SECOND);
    let overview = world.focus.overview();
    assert_eq!((overview.conferences.len(), overview.left_out), (1, 0));
    let conference = &overview.conferences[0];
    assert!(!conference.name.contains("conf") && conference.name.len() == 12);
    assert_eq!(conference.trunks, []);
    let people: Vec<_> = conference.participants.iter().collect();
    assert_eq!(people.len(), 2);
    for (person, client) in people.iter().zip(&world.clients) {
        assert_eq!(person.id, client.id);
        assert_eq!(person.place.map(|(_, id)| id), client.transport);
        assert_eq!((person.from, person.to), (tracks(1, 1), tracks(1, 1)));
    }
}

#[test]
fn both_ends_of_a_trunk_show_what_crosses_it_under_one_name() {
    let mut foci = Foci::new(2, 7);
    foci.join(0, "alice");
    foci.join(0, "bob");
    foci.join(1, "carol");
    foci.pass(SECOND);
    let (here, there) = (overview(&foci, 0), overview(&foci, 1));
    assert_eq!(here.conferences[0].name, there.conferences[0].name);
    let (state, trunk) = &here.conferences[0].trunks[0];
    assert_eq!((*state, &trunk.id), (TrunkState::Up, &id(1)));
    assert_eq!((trunk.to, trunk.from), (tracks(2, 2), tracks(1, 1)));
    let (state, back) = &there.conferences[0].trunks[0];
    assert_eq!((*state, &back.id), (TrunkState::Up, &id(0)));
    assert_eq!((back.to, back.from), (trunk.from, trunk.to));
    // Those of the other focus are there, and not here.
    let here: Vec<_> = here.conferences[0].participants.iter().collect();
    assert_eq!(here.len(), 2);
    assert_eq!(here[0].to, tracks(2, 2), "bob's and carol's");
}

#[test]
fn a_trunk_is_called_then_up_then_lost_and_called_again() {
    let mut foci = Foci::new(2, 8);
    foci.cut_off = vec![1];
    foci.join(0, "alice");
    let state = |foci: &Foci| {
        let overview = overview(foci, 0);
        let trunks = &overview.conferences[0].trunks;
        assert!(trunks.len() <= 1, "{trunks:?}");
        trunks.first().map(|(state, trunk)| (*state, trunk.place))
    };
    assert_eq!(state(&foci), None, "nobody is there");
    foci.join(1, "carol");
    assert_eq!(state(&foci), Some((TrunkState::Calling, None)));
    foci.pass(limits::TRUNK_INVITE_LIFETIME + SECOND / 2);
    assert_eq!(state(&foci), Some((TrunkState::Lost, None)));
    foci.cut_off.clear();
    foci.pass(3 * SECOND);
    let up = state(&foci).expect("called again");
    assert!(up.0 == TrunkState::Up && up.1.is_some(), "{up:?}");
}

#[test]
fn who_only_holds_a_slot_is_not_shown() {
    let mut world = World::call(&["alice"]);
    world.join(Client {
        wants: None,
        ..without_media("bob")
    });
    assert_eq!(world.focus.participant_count(), 2);
    assert_eq!(world.focus.overview().conferences[0].participants.len(), 1);
}

#[test]
fn no_more_is_shown_than_there_is_room_for() {
    let mut world = World::with(Limits {
        invites_per_user_per_second: 100.0,
        invites_per_homeserver_per_second: 1000.0,
        ..Limits::default()
    });
    let people = limits::OVERVIEW_MAX + 3;
    for number in 0..people {
        world.invite(Client::new(
            &format!("p{number}"),
            &format!("conf{}", number / 8),
        ));
    }
    let overview = world.focus.overview();
    let shown = overview.conferences.iter();
    let shown: usize = shown.map(|of| of.participants.len()).sum();
    assert_eq!((shown, overview.left_out), (limits::OVERVIEW_MAX, 3));
}
