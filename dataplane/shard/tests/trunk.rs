//! A focus calls another: the calling shard makes the checks, the called one answers as it answers everybody (RFC 8445 with a
//! lite agent on one side, RFC 7675).

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use support::trunk::{Foci, TRUNK, Turn, called, calling, numbered, turns};
use support::{Link, MS, SECOND};
use weir_shard::{Command, DropReason, Event, IceCredentials, TransportId};
use weir_wire::stun::{self, Class, Key, Message, Role, TransactionId};

const DEAD: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 200)),
    4000,
);

/// Loses, reorders and duplicates.
const BAD: Link = Link {
    delay: Duration::from_millis(40),
    jitter: Duration::from_millis(60),
    loss_per_mille: 50,
    duplicate_per_mille: 100,
    ..Link::PERFECT
};

#[test]
fn a_focus_that_calls_another_connects_and_both_know_where_the_other_is() {
    let mut foci = Foci::new(1, Link::FAR);
    foci.check(&[foci.far_at]);
    foci.run(SECOND);
    assert_eq!(turns(&foci.near), [Turn::Connected(foci.far_at)]);
    assert_eq!(turns(&foci.far), [Turn::Connected(foci.near_at)]);
    let checks = foci.checks();
    assert_eq!(checks.len(), 1, "one is enough");
    let check = Message::parse(&checks[0].2).unwrap();
    assert_eq!(check.class(), Class::Request);
    assert_eq!(check.ufrags(), Some(("far0", "near0")));
    assert!(check.use_candidate());
    assert!(matches!(check.role(), Some(Role::Controlling { .. })));
    assert_eq!(foci.near.counters.checks_sent.get(), 1);
    assert_eq!(foci.near.counters.checks_confirmed.get(), 1);
    // DTLS passes in both directions now.
    for (from, to) in [(&mut foci.near, 22), (&mut foci.far, 23)] {
        from.command(Command::SendDatagram {
            id: TRUNK,
            datagram: vec![to, 1, 2],
        });
    }
    foci.run(SECOND);
    for (world, first) in [(&foci.near, 23), (&foci.far, 22)] {
        let datagram = vec![first, 1, 2];
        assert!(world.events.contains(&Event::Datagram {
            id: TRUNK,
            datagram
        }));
    }
}

#[test]
fn trunks_come_about_and_last_over_bad_ways() {
    let minutes = 5;
    for seed in 0..40 {
        let mut foci = Foci::new(seed, BAD);
        foci.check(&[foci.far_at]);
        foci.run(minutes * 60 * SECOND);
        assert_eq!(
            turns(&foci.near),
            [Turn::Connected(foci.far_at)],
            "seed {seed}"
        );
        assert_eq!(
            turns(&foci.far),
            [Turn::Connected(foci.near_at)],
            "seed {seed}"
        );
        let checks = foci.checks().len();
        assert!((50..90).contains(&checks), "every 4 to 6 s: {checks}");
    }
}

#[test]
fn of_two_addresses_the_one_that_answers_is_used_and_the_other_left_alone() {
    for dead_first in [true, false] {
        let mut foci = Foci::new(3, Link::FAR);
        let mut remotes = [DEAD, foci.far_at];
        if !dead_first {
            remotes.reverse();
        }
        foci.check(&remotes);
        foci.run(120 * SECOND);
        assert_eq!(turns(&foci.near), [Turn::Connected(foci.far_at)]);
        let to_dead = foci.checks().iter().filter(|of| of.1 == DEAD).count();
        assert!(to_dead <= 1, "{to_dead} checks of the dead one");
    }
}

#[test]
fn control_hears_when_nobody_answers_and_can_try_again() {
    let mut foci = Foci::new(4, Link::FAR);
    foci.check(&[DEAD]);
    foci.run(9900 * MS);
    assert_eq!(turns(&foci.near), []);
    foci.run(200 * MS);
    assert_eq!(turns(&foci.near), [Turn::Lost]);
    let ids: Vec<_> = foci
        .checks()
        .iter()
        .map(|of| Message::parse(&of.2).unwrap().transaction_id())
        .collect();
    assert_eq!(ids.len(), 7);
    assert!(ids.iter().all(|id| *id == ids[0]), "one transaction");
    foci.run(120 * SECOND);
    assert_eq!((foci.checks().len(), turns(&foci.near).len()), (7, 1));
    assert_eq!(
        foci.near.shard.poll_timeout(),
        None,
        "a quiet world goes idle"
    );
    foci.check(&[foci.far_at]);
    foci.run(SECOND);
    assert_eq!(
        turns(&foci.near),
        [Turn::Lost, Turn::Connected(foci.far_at)]
    );
}

#[test]
fn a_wrong_password_connects_nobody() {
    let mut foci = Foci::new(5, Link::FAR);
    let wrong = IceCredentials {
        remote_pwd: "not the password of the far focus".into(),
        ..calling(1)
    };
    for (world, ice) in [(&mut foci.far, called(1)), (&mut foci.near, wrong)] {
        world.command(Command::RestartIce { id: TRUNK, ice });
    }
    foci.check(&[foci.far_at]);
    foci.run(11 * SECOND);
    assert_eq!(
        (turns(&foci.near), turns(&foci.far)),
        (vec![Turn::Lost], vec![])
    );
    assert!(foci.returned.is_empty(), "there is no answer to guesses");
    let refused = foci.far.counters.dropped(DropReason::StunUnauthenticated);
    assert_eq!(refused, 7);
}

/// A trunk that is being checked, and the check that is under way; the far focus itself hears nothing.
fn asking(seed: u64) -> (Foci, TransactionId) {
    let mut foci = Foci::new(seed, Link::FAR.losing(1000));
    foci.check(&[foci.far_at]);
    foci.run(10 * MS);
    let id = Message::parse(&foci.checks()[0].2)
        .unwrap()
        .transaction_id();
    (foci, id)
}

fn success(id: TransactionId, mapped: SocketAddr, password: &str) -> Vec<u8> {
    let mut out = vec![0; 200];
    let len = stun::emit_success(id, mapped, &Key::new(password), &mut out).unwrap();
    out.truncate(len);
    out
}

const PASSWORD: &str = "the-password-of-the-far-focus-0";

#[test]
fn nothing_but_an_authentic_answer_from_where_it_is_awaited_connects() {
    let (mut foci, id) = asking(6);
    let (near_at, far_at) = (foci.near_at, foci.far_at);
    let mut bare = vec![0x01, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    bare.extend(id.0);
    let right = success(id, near_at, PASSWORD);
    let mut tampered = right.clone();
    tampered[27] ^= 1;
    let mut error = vec![0; 200];
    let code = stun::ErrorCode::Unauthenticated;
    let len = stun::emit_error(id, code, None, &mut error).unwrap();
    error.truncate(len);
    let other_id = success(TransactionId([7; 12]), near_at, PASSWORD);
    let wrong_key = success(id, near_at, "the-password-of-the-near-focus-0");
    for (reason, from, bytes) in [
        (DropReason::StunUnauthenticated, far_at, &bare),
        (DropReason::StunMalformed, far_at, &tampered),
        (DropReason::StunRefused, far_at, &error),
        (DropReason::StunUnsolicited, far_at, &other_id),
        (DropReason::StunUnauthenticated, far_at, &wrong_key),
        (DropReason::StunUnsolicited, DEAD, &right),
        (
            DropReason::StunUnsolicited,
            SocketAddr::new(far_at.ip(), 1),
            &right,
        ),
    ] {
        let before = foci.near.counters.dropped(reason);
        foci.near.datagram(from, bytes);
        assert_eq!(foci.near.counters.dropped(reason), before + 1, "{reason:?}");
        assert_eq!(turns(&foci.near), []);
    }
    // Nor is anything else taken from there.
    foci.near.datagram(far_at, &[22, 1, 2, 3]);
    assert_eq!(foci.near.counters.dropped(DropReason::UnknownAddress), 1);
    // And after all that the right one still does.
    foci.near.datagram(far_at, &right);
    assert_eq!(turns(&foci.near), [Turn::Connected(far_at)]);
    foci.near.datagram(far_at, &right);
    assert_eq!(
        foci.near.counters.checks_confirmed.get(),
        1,
        "it counts once"
    );
}

#[test]
fn answers_from_another_address_than_was_asked_are_not_taken() {
    let mut foci = Foci::new(7, Link::FAR);
    foci.far_seen_at = DEAD;
    foci.check(&[foci.far_at]);
    foci.run(11 * SECOND);
    assert_eq!(turns(&foci.near), [Turn::Lost]);
    assert_eq!(foci.near.counters.dropped(DropReason::StunUnsolicited), 7);
}

#[test]
fn consent_ends_when_the_other_side_is_gone_and_nothing_is_sent_from_then_on() {
    let mut foci = Foci::new(8, Link::FAR);
    foci.check(&[foci.far_at]);
    foci.run(100 * SECOND);
    foci.link = foci.link.losing(1000);
    foci.run(22 * SECOND);
    assert_eq!(turns(&foci.near), [Turn::Connected(foci.far_at)]);
    foci.run(10 * SECOND);
    assert_eq!(
        turns(&foci.near),
        [Turn::Connected(foci.far_at), Turn::Lost]
    );
    assert_eq!(
        turns(&foci.far),
        [Turn::Connected(foci.near_at), Turn::Lost]
    );
    let sent = foci.sent.len();
    foci.link = Link::FAR;
    foci.run(120 * SECOND);
    assert_eq!(foci.sent.len(), sent, "nothing is sent without consent");
    assert_eq!(foci.near.shard.poll_timeout(), None);
}

#[test]
fn only_one_direction_lasts_no_longer_than_consent() {
    // The far focus hears the checks; its answers are lost.
    let mut foci = Foci::new(9, Link::FAR);
    foci.check(&[foci.far_at]);
    foci.run(60 * SECOND);
    foci.far_seen_at = DEAD;
    foci.run(31 * SECOND);
    assert_eq!(turns(&foci.near).last(), Some(&Turn::Lost));
    foci.run(31 * SECOND);
    assert_eq!(
        turns(&foci.far).last(),
        Some(&Turn::Lost),
        "checks have ended"
    );
}

#[test]
fn a_restart_checks_with_the_new_credentials_while_the_trunk_goes_on() {
    let mut foci = Foci::new(10, Link::FAR);
    foci.check(&[foci.far_at]);
    foci.run(20 * SECOND);
    for (world, ice) in [(&mut foci.far, called(1)), (&mut foci.near, calling(1))] {
        world.command(Command::RestartIce { id: TRUNK, ice });
    }
    let before = foci.checks().len();
    foci.run(SECOND);
    let checks = foci.checks();
    let check = Message::parse(&checks[before].2).unwrap();
    assert_eq!(check.ufrags(), Some(("far1", "near1")));
    assert_eq!(checks.len(), before + 1);
    foci.run(120 * SECOND);
    assert_eq!(turns(&foci.near), [Turn::Connected(foci.far_at)], "no turn");
    assert_eq!(turns(&foci.far), [Turn::Connected(foci.near_at)]);
}

#[test]
fn a_restart_that_the_other_side_does_not_know_of_ends_with_consent() {
    let mut foci = Foci::new(11, Link::FAR);
    foci.check(&[foci.far_at]);
    foci.run(SECOND);
    foci.near.command(Command::RestartIce {
        id: TRUNK,
        ice: calling(1),
    });
    foci.run(27 * SECOND);
    assert_eq!(turns(&foci.near), [Turn::Connected(foci.far_at)]);
    foci.run(4 * SECOND);
    assert_eq!(
        turns(&foci.near),
        [Turn::Connected(foci.far_at), Turn::Lost]
    );
    // A restart that it does know of begins anew.
    for (world, ice) in [(&mut foci.far, called(2)), (&mut foci.near, calling(2))] {
        world.command(Command::RestartIce { id: TRUNK, ice });
    }
    foci.run(SECOND);
    assert_eq!(
        turns(&foci.near).last(),
        Some(&Turn::Connected(foci.far_at))
    );
}

#[test]
fn after_a_restart_with_other_addresses_the_trunk_moves() {
    let mut foci = Foci::new(12, Link::FAR);
    foci.check(&[foci.far_at]);
    foci.run(10 * SECOND);
    let moved = SocketAddr::from(([203, 0, 113, 77], 3479));
    (foci.far_at, foci.far_seen_at) = (moved, moved);
    foci.check(&[moved]);
    foci.run(60 * SECOND);
    assert_eq!(turns(&foci.near)[1..], [Turn::Moved(moved)]);
}

#[test]
fn removing_a_transport_ends_its_checks_and_frees_its_addresses() {
    for wait in [10 * MS, 20 * SECOND] {
        let mut foci = Foci::new(13, Link::FAR);
        foci.check(&[foci.far_at, DEAD]);
        foci.run(wait);
        foci.near.command(Command::RemoveTransport { id: TRUNK });
        let before = foci.checks().len();
        foci.run(60 * SECOND);
        assert_eq!(foci.checks().len(), before);
        assert_eq!(foci.near.shard.poll_timeout(), None);
        // Another trunk to the same addresses comes about at once.
        foci.near.command(Command::AddTransport {
            id: TRUNK,
            ice: calling(0),
            is_trunk: true,
        });
        foci.near.events.clear();
        foci.check(&[foci.far_at, DEAD]);
        foci.run(SECOND);
        assert_eq!(turns(&foci.near), [Turn::Connected(foci.far_at)]);
    }
}

#[test]
fn a_trunk_keeps_its_address_whoever_else_proves_or_checks_it() {
    let mut foci = Foci::new(14, Link::FAR);
    foci.check(&[foci.far_at]);
    foci.run(SECOND);
    // A second trunk between the same two addresses.
    let second = TransportId(78);
    foci.near.command(Command::AddTransport {
        id: second,
        ice: numbered(2, calling(0)),
        is_trunk: false,
    });
    foci.near.command(Command::CheckRemotes {
        id: second,
        remotes: vec![foci.far_at],
    });
    foci.run(100 * MS);
    assert_eq!(foci.near.counters.remotes_ignored.get(), 1);
    assert_eq!(
        foci.near.events.last(),
        Some(&Event::ConsentLost { id: second }),
        "there is nobody to ask"
    );
    // A participant that sends checks in the far focus's name.
    let mut thief = support::Peer::new(9);
    foci.near.command(Command::AddTransport {
        id: thief.id,
        ice: support::peer::credentials(9, 0),
        is_trunk: false,
    });
    let check = thief.check(0, true);
    foci.near.datagram(foci.far_at, &check);
    assert_eq!(foci.near.counters.dropped(DropReason::AddressTaken), 1);
    foci.near.events.clear();
    foci.near.datagram(foci.far_at, &[22, 1, 2, 3]);
    let datagram = vec![22, 1, 2, 3];
    assert_eq!(
        foci.near.events,
        [Event::Datagram {
            id: TRUNK,
            datagram
        }]
    );
}

#[test]
fn addresses_beyond_the_limit_and_those_of_nobody_are_counted_and_not_checked() {
    let mut foci = Foci::new(15, Link::FAR);
    let mut remotes: Vec<SocketAddr> = (1..=10)
        .map(|last| SocketAddr::from(([192, 0, 2, last], 9)))
        .collect();
    remotes.insert(0, "0.0.0.0:9".parse().unwrap());
    remotes.insert(1, "192.0.2.1:9".parse().unwrap());
    foci.check(&remotes);
    foci.run(11 * SECOND);
    assert_eq!(foci.near.counters.remotes_ignored.get(), 3);
    let mut asked: Vec<_> = foci.checks().iter().map(|of| of.1).collect();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(
        asked,
        (1..=8)
            .map(|last| SocketAddr::from(([192, 0, 2, last], 9)))
            .collect::<Vec<_>>()
    );
    let times: Vec<_> = foci.checks().iter().map(|of| of.0).collect();
    let closest = times.windows(2).map(|pair| pair[1] - pair[0]).min();
    assert!(closest >= Some(50 * MS), "{closest:?}");
}

#[test]
fn a_flood_of_answers_draws_nothing_and_changes_nothing() {
    let mut foci = Foci::new(16, Link::FAR);
    foci.check(&[foci.far_at]);
    foci.run(SECOND);
    let (sent, far_at) = (foci.sent.len(), foci.far_at);
    let id = Message::parse(&foci.checks()[0].2)
        .unwrap()
        .transaction_id();
    let again = success(id, foci.near_at, PASSWORD);
    let forged = success(id, foci.near_at, "guessed");
    let others: Vec<Vec<u8>> = (0..100)
        .map(|n| success(TransactionId([n; 12]), foci.near_at, PASSWORD))
        .collect();
    for _ in 0..100 {
        foci.near.datagram(far_at, &again);
        foci.near.datagram(far_at, &forged);
        for other in &others {
            foci.near.datagram(far_at, other);
        }
    }
    assert_eq!(
        foci.near.counters.dropped(DropReason::StunUnsolicited),
        10_200
    );
    assert_eq!(foci.sent.len(), sent);
    assert!(foci.near.outside.is_empty());
    assert_eq!(turns(&foci.near), [Turn::Connected(far_at)]);
    assert_eq!(foci.near.buffers_out(), 0);
    // None of it counted as consent.
    foci.link = foci.link.losing(1000);
    foci.run(31 * SECOND);
    assert_eq!(turns(&foci.near), [Turn::Connected(far_at), Turn::Lost]);
}

#[test]
fn checks_of_the_called_side_are_answered_and_keep_consent_but_choose_nothing() {
    let mut foci = Foci::new(17, Link::FAR);
    foci.check(&[foci.far_at]);
    foci.run(SECOND);
    let mut far = support::Peer::new(9);
    let ice = calling(0);
    let before = foci.near.counters.checks_answered.get();
    foci.link = foci.link.losing(1000);
    for _ in 0..4 {
        let check = far.check_with(&ice.local_ufrag, &ice.remote_ufrag, &ice.local_pwd, true);
        foci.near.datagram(DEAD, &check);
        foci.run(20 * SECOND);
    }
    assert_eq!(foci.near.counters.checks_answered.get(), before + 4);
    assert_eq!(turns(&foci.near), [Turn::Connected(foci.far_at)]);
    foci.run(11 * SECOND);
    assert_eq!(
        turns(&foci.near),
        [Turn::Connected(foci.far_at), Turn::Lost]
    );
}

#[test]
fn a_command_for_an_unknown_transport_is_counted() {
    let mut foci = Foci::new(18, Link::FAR);
    foci.near.command(Command::CheckRemotes {
        id: TransportId(4711),
        remotes: vec![DEAD],
    });
    foci.run(SECOND);
    assert_eq!(foci.near.counters.unknown_ids.get(), 1);
    assert!(foci.sent.is_empty());
}
