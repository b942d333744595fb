//! Several trunks between the same two shards, one for each conference that they share: all lead to the one address of the called
//! focus, each from a socket of its own.

mod support;

use std::net::SocketAddr;

use support::oracle::{check_video, check_world};
use support::peer::credentials;
use support::trunk::{Foci, TRUNK, Turn, called, calling, numbered, turns};
use support::{Link, MS, Peer, Rng, SECOND, Subscribed, VideoSource};
use weir_shard::{Command, DropReason, Event, Local, MediaKind, Path, Size, TransportId};

const FULL: Option<Size> = Some(Size::new(1280, 720));

/// Foci with so many sockets to call from, and so many trunks beside the first.
fn sharing(seed: u64, link: Link, sockets: u8, more: u8) -> (Foci, Vec<TransportId>) {
    let mut foci = Foci::with_calling_sockets(seed, link, sockets);
    foci.connect();
    let mut trunks = vec![TRUNK];
    trunks.extend((1..=more).map(|number| foci.call_again(number)));
    (foci, trunks)
}

/// Where the far focus has seen trunks come from, in order.
fn callers(foci: &Foci) -> Vec<SocketAddr> {
    let turns = turns(&foci.far).into_iter().map(|turn| match turn {
        Turn::Connected(remote) => remote,
        other => panic!("{other:?}"),
    });
    turns
        .filter(|remote| remote.ip() == foci.near_at.ip())
        .collect()
}

/// A socket of the near focus, as others see it.
fn near_socket(foci: &Foci, number: u16) -> SocketAddr {
    SocketAddr::new(foci.near_at.ip(), foci.near_at.port() + number)
}

/// A camera at the near focus that somebody at the far one sees over this trunk.
fn watch_over(foci: &mut Foci, trunk: TransportId, track: u8) -> Subscribed {
    let publisher = foci.near.join();
    let mut rng = Rng::new(track.into());
    foci.near
        .publish_video(publisher, VideoSource::simulcast(track, "1", &mut rng));
    foci.carry_over_by(trunk, track, MediaKind::Video, FULL);
    let viewer = foci.far.join();
    foci.far.browse(viewer);
    foci.far.subscribe(viewer, track, FULL)
}

/// How many pictures a viewer was shown in the last ten seconds.
fn shown(foci: &Foci, of: Subscribed) -> u64 {
    let far = &foci.far;
    far.pictures(of)
        .watched(far.now - 10 * SECOND, far.now)
        .shown
}

#[test]
fn three_trunks_to_one_address_carry_each_its_own_media_and_end_each_for_itself() {
    let (mut foci, trunks) = sharing(1, Link::FAR, 2, 2);
    foci.run(SECOND);
    assert_eq!(turns(&foci.near), [Turn::Connected(foci.far_at); 3]);
    assert_eq!(
        callers(&foci),
        [1, 2, 0].map(|number| near_socket(&foci, number)),
        "where it listens last"
    );
    for (at, id) in trunks.iter().enumerate() {
        for (world, first) in [(&mut foci.near, 22), (&mut foci.far, 23)] {
            let datagram = vec![first, at as u8];
            world.command(Command::SendDatagram { id: *id, datagram });
        }
    }
    foci.run(SECOND);
    for (world, first) in [(&foci.near, 23), (&foci.far, 22)] {
        let came = world.events.iter().filter_map(|event| match event {
            Event::Datagram { id, datagram } => Some((*id, datagram.clone())),
            _ => None,
        });
        let sent = trunks.iter().enumerate();
        let sent = sent.map(|(at, id)| (*id, vec![first, at as u8]));
        assert_eq!(came.collect::<Vec<_>>(), sent.collect::<Vec<_>>());
    }

    let watched = [1, 2, 3].map(|track| watch_over(&mut foci, trunks[track as usize - 1], track));
    foci.run(15 * SECOND);
    for of in watched {
        check_video(&foci.far, of);
        assert!(shown(&foci, of) >= 195, "{of:?}");
    }
    check_world(&foci.near);
    check_world(&foci.far);

    // There is no socket for a fourth, until one of the three has ended.
    let fourth = foci.call_again(3);
    foci.run(100 * MS);
    assert_eq!(foci.near.counters.remotes_ignored.get(), 1);
    let lost = Event::ConsentLost { id: fourth };
    assert!(foci.near.events.contains(&lost), "there is nobody to ask");
    foci.near
        .command(Command::RemoveTransport { id: trunks[1] });
    let remotes = vec![foci.far_at];
    foci.near.events.clear();
    foci.near.command(Command::CheckRemotes {
        id: fourth,
        remotes,
    });
    foci.run(SECOND);
    assert_eq!(turns(&foci.near), [Turn::Connected(foci.far_at)]);
    assert_eq!(callers(&foci)[3], near_socket(&foci, 2), "the one let go");
    let newest = watch_over(&mut foci, fourth, 4);
    foci.run(15 * SECOND);
    assert_eq!(shown(&foci, watched[1]), 0, "it has ended");
    for of in [watched[0], watched[2], newest] {
        check_video(&foci.far, of);
        assert!(shown(&foci, of) >= 195, "{of:?}");
    }
}

#[test]
fn many_trunks_to_one_address_come_about_and_last_over_bad_ways() {
    let bad = Link {
        delay: 40 * MS,
        jitter: 60 * MS,
        loss_per_mille: 50,
        duplicate_per_mille: 100,
        ..Link::PERFECT
    };
    for seed in 0..20 {
        let (mut foci, _) = sharing(seed, bad, 7, 7);
        foci.run(120 * SECOND);
        assert_eq!(
            turns(&foci.near),
            [Turn::Connected(foci.far_at); 8],
            "seed {seed}"
        );
        let mut callers = callers(&foci);
        callers.sort_unstable();
        let expected: Vec<_> = (0..8).map(|number| near_socket(&foci, number)).collect();
        assert_eq!(callers, expected, "seed {seed}");
    }
}

#[test]
fn two_foci_that_call_each_other_at_the_same_time_get_two_trunks() {
    let mut foci = Foci::with_calling_sockets(3, Link::FAR, 1);
    foci.connect();
    // For another conference, the far one calls the near one.
    let back = TransportId(90);
    let (near_at, far_at) = (foci.near_at, foci.far_at);
    for (world, ice) in [(&mut foci.far, calling(0)), (&mut foci.near, called(0))] {
        let ice = numbered(9, ice);
        world.command(Command::AddTransport {
            id: back,
            ice,
            is_trunk: false,
        });
    }
    foci.far.command(Command::CheckRemotes {
        id: back,
        remotes: vec![near_at],
    });
    foci.run(SECOND);
    for (world, other_at) in [(&foci.near, far_at), (&foci.far, near_at)] {
        let mut turns = turns(world);
        turns.sort_unstable_by_key(|turn| format!("{turn:?}"));
        let calling_at = SocketAddr::new(other_at.ip(), other_at.port() + 1);
        assert_eq!(turns, [other_at, calling_at].map(Turn::Connected));
    }
}

#[test]
fn a_trunk_stays_on_its_socket_when_it_is_checked_anew() {
    let (mut foci, trunks) = sharing(4, Link::FAR, 2, 1);
    foci.run(SECOND);
    foci.near.command(Command::RemoveTransport { id: TRUNK });
    let id = trunks[1];
    for (world, ice) in [(&mut foci.far, called(1)), (&mut foci.near, calling(1))] {
        let ice = numbered(1, ice);
        world.command(Command::RestartIce { id, ice });
    }
    let before = foci.checks().len();
    foci.run(20 * SECOND);
    assert!(foci.checks().len() > before, "it is checked");
    let [_, second] = [1, 2].map(|number| near_socket(&foci, number));
    assert_eq!(turns(&foci.near), [Turn::Connected(foci.far_at); 2]);
    assert_eq!(turns(&foci.far)[1..], [Turn::Connected(second)], "no turn");
}

#[test]
fn a_socket_to_call_from_is_deaf_to_those_that_were_not_called() {
    let (mut foci, _) = sharing(5, Link::FAR, 2, 0);
    foci.run(SECOND);
    let mut stranger = Peer::new(9);
    foci.near.command(Command::AddTransport {
        id: stranger.id,
        ice: credentials(9, 0),
        is_trunk: false,
    });
    let answered = foci.near.counters.checks_answered.get();
    for number in [1, 2] {
        let path = Path {
            local: Local(number),
            remote: stranger.address,
        };
        let check = stranger.check(0, true);
        foci.near.datagram_on(path, &check);
        foci.near.datagram_on(path, &[22, 1, 2, 3]);
    }
    let dropped = |reason| foci.near.counters.dropped(reason);
    assert_eq!(dropped(DropReason::StunUnsolicited), 2);
    assert_eq!(dropped(DropReason::UnknownAddress), 2);
    // Nor may a participant prove the trunk's path to be its own.
    let trunk = Path {
        local: Local(1),
        remote: foci.far_at,
    };
    let check = stranger.check(0, true);
    foci.near.datagram_on(trunk, &check);
    assert_eq!(foci.near.counters.dropped(DropReason::AddressTaken), 1);
    assert_eq!(foci.near.counters.checks_answered.get(), answered);
    // Where everybody listens the same check is welcome.
    let check = stranger.check(0, true);
    foci.near.datagram(stranger.address, &check);
    assert_eq!(foci.near.counters.checks_answered.get(), answered + 1);
}
