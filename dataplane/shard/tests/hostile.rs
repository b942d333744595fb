//! What comes from people who mean harm, and what must not come of it: every case ends in a counter, and the call beside it
//! goes on.

mod support;

use std::net::SocketAddr;

use support::oracle::{check_video, check_world};
use support::{AudioSource, MS, Rng, SECOND, Subscribed, VideoSource, World};
use weir_shard::{Command, DropReason, Event, Purpose, Size, SubscriptionId, TrackId, TransportId};
use weir_srtp::Sender;

const FULL: Option<Size> = Some(Size::new(1280, 720));

/// A healthy call: camera 1 of peer 0, watched by peer 1; and peer 2, who is up to something.
fn call(seed: u64) -> (World, Subscribed, usize) {
    let mut world = World::new(seed);
    let (publisher, subscriber) = (world.join(), world.join());
    world.publish_video(
        publisher,
        VideoSource::simulcast(1, "1", &mut Rng::new(seed)),
    );
    world.run(SECOND);
    let video = world.subscribe(subscriber, 1, FULL);
    let hostile = world.join();
    world.run(SECOND);
    (world, video, hostile)
}

/// The healthy call has gone on all the time.
fn is_healthy(world: &mut World, video: Subscribed) {
    world.run(SECOND);
    let seen = check_video(world, video);
    let seconds = (world.now - world.start).as_secs() as usize;
    assert!(
        seen.complete >= 30 * (seconds - 1) - 12,
        "{seen:?} in {seconds} s"
    );
    assert!(seen.longest_gap < 100 * MS, "{seen:?}");
    check_world(world);
}

fn stranger() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 4444))
}

#[test]
fn garbage_datagrams_are_counted_and_answered_by_nothing() {
    let (mut world, video, hostile) = call(1);
    let mut rng = Rng::new(1);
    let address = world.peers[hostile].address;
    let sent = world
        .transmits
        .iter()
        .filter(|(_, to, _)| *to == stranger())
        .count();
    for round in 0..20_000 {
        let len = rng.below(200) as usize;
        let mut bytes: Vec<u8> = (0..len).map(|_| rng.next() as u8).collect();
        if let (Some(first), 0..=2) = (bytes.first_mut(), round % 4) {
            *first = [0, 22, 128][round % 4];
        }
        let from = if rng.chance(500) { stranger() } else { address };
        world.datagram(from, &bytes);
    }
    assert_eq!(
        world
            .transmits
            .iter()
            .filter(|(_, to, _)| *to == stranger())
            .count(),
        sent
    );
    let dropped = |reason| world.counters.dropped(reason);
    assert!(dropped(DropReason::Garbage) > 2000);
    assert!(dropped(DropReason::UnknownAddress) > 3000);
    assert!(dropped(DropReason::StunMalformed) > 3000);
    assert!(dropped(DropReason::Unauthenticated) + dropped(DropReason::RtpMalformed) > 1000);
    is_healthy(&mut world, video);
}

#[test]
fn a_check_with_wrong_integrity_gets_no_answer_and_moves_nobody() {
    let (mut world, video, hostile) = call(2);
    let before = world.counters.checks_answered.get();
    for (local, remote, password, reason) in [
        (
            "weir1g0",
            "peer1g0",
            "wrong",
            DropReason::StunUnauthenticated,
        ),
        (
            "weir1g0",
            "peer2g0",
            "password-of-the-focus-1-0",
            DropReason::StunUnknownUser,
        ),
        (
            "nobody",
            "peer1g0",
            "password-of-the-focus-1-0",
            DropReason::StunUnknownUser,
        ),
    ] {
        let check = world.peers[hostile].check_with(local, remote, password, true);
        let counted = world.counters.dropped(reason);
        world.datagram(stranger(), &check);
        assert_eq!(world.counters.dropped(reason), counted + 1);
    }
    let mut damaged = world.peers[hostile].check(0, true);
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    world.datagram(stranger(), &damaged);
    assert_eq!(world.counters.checks_answered.get(), before);
    assert!(world.transmits.iter().all(|(_, to, _)| *to != stranger()));
    is_healthy(&mut world, video);
}

#[test]
fn an_authenticated_check_moves_the_participant_and_only_that() {
    let (mut world, video, _) = call(3);
    let id = world.peers[1].id;
    // Datagrams from another address do nothing by themselves.
    world.datagram(stranger(), &[128, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(world.counters.dropped(DropReason::UnknownAddress), 1);
    let moved = SocketAddr::from(([198, 51, 100, 7], 999));
    let check = world.peers[1].check(0, true);
    world.peers[1].address = moved;
    world.events.clear();
    world.datagram(moved, &check);
    assert_eq!(world.events, [Event::RemoteChanged { id, remote: moved }]);
    is_healthy(&mut world, video);
}

#[test]
fn an_address_belongs_to_the_last_who_proved_it() {
    let (mut world, video, hostile) = call(4);
    let mut later = support::Peer::new(9);
    later.address = world.peers[hostile].address;
    world.command(Command::AddTransport {
        id: later.id,
        ice: support::peer::credentials(9, 0),
        is_trunk: false,
    });
    world.events.clear();
    let check = later.check(0, true);
    world.datagram(later.address, &check);
    assert_eq!(
        world.events,
        [Event::IceConnected {
            id: later.id,
            remote: later.address
        }]
    );
    world.datagram(later.address, &[22, 1, 2, 3]);
    assert_eq!(
        world.events.last(),
        Some(&Event::Datagram {
            id: later.id,
            datagram: vec![22, 1, 2, 3]
        })
    );
    is_healthy(&mut world, video);
}

#[test]
fn consent_ends_after_thirty_seconds_without_checks() {
    let (mut world, _, _) = call(5);
    world.alive = false;
    world.events.clear();
    world.run(29 * SECOND);
    assert_eq!(world.events.clone_ids(), [] as [u32; 0]);
    world.run(3 * SECOND);
    let mut lost = world.events.clone_ids();
    lost.sort_unstable();
    assert_eq!(lost, [101, 102, 103]);
    let sent = world.transmits.len();
    world.run(60 * SECOND);
    assert_eq!(
        world.transmits.len(),
        sent,
        "nothing is sent without consent"
    );
}

trait CloneIds {
    fn clone_ids(&self) -> Vec<u32>;
}

impl CloneIds for Vec<Event> {
    fn clone_ids(&self) -> Vec<u32> {
        self.iter()
            .filter_map(|event| match event {
                Event::ConsentLost { id } => Some(id.0),
                Event::SubscriptionStatus { .. } | Event::TransportStatus { .. } => None,
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[test]
fn media_from_unknown_addresses_before_keys_or_with_wrong_keys_is_dropped() {
    let (mut world, video, hostile) = call(6);
    let mut rng = Rng::new(6);
    let mut audio = AudioSource::new(40, "0", &mut rng);
    let plain = audio.encode(world.start, world.now);
    let now = world.now;
    let sealed = world.peers[hostile].seal("0", &plain, now);
    world.datagram(stranger(), &sealed);
    assert_eq!(world.counters.dropped(DropReason::UnknownAddress), 1);
    let late = world.join_without_keys();
    let (address, early) = (
        world.peers[late].address,
        world.peers[late].seal("0", &plain, now),
    );
    world.datagram(address, &early);
    assert_eq!(world.counters.dropped(DropReason::NoKeys), 1);
    world.peers[hostile].sender = Sender::new(&support::peer::keys(77).1);
    let wrong = world.peers[hostile].seal("0", &plain, now);
    let address = world.peers[hostile].address;
    world.datagram(address, &wrong);
    assert_eq!(world.counters.dropped(DropReason::Unauthenticated), 1);
    is_healthy(&mut world, video);
}

#[test]
fn replayed_packets_are_dropped() {
    let (mut world, video, hostile) = call(7);
    let mut audio = AudioSource::new(40, "0", &mut Rng::new(7));
    world.publish_audio(hostile, audio.clone());
    audio.seq += 500;
    let plain = audio.encode(world.start, world.now);
    let now = world.now;
    let (address, sealed) = (
        world.peers[hostile].address,
        world.peers[hostile].seal("0", &plain, now),
    );
    for _ in 0..100 {
        world.datagram(address, &sealed);
    }
    assert_eq!(world.counters.dropped(DropReason::Replayed), 99);
    is_healthy(&mut world, video);
}

#[test]
fn ten_thousand_ssrcs_fill_one_small_table_and_disturb_nobody() {
    let (mut world, video, hostile) = call(8);
    let mut rng = Rng::new(8);
    let camera = VideoSource::simulcast(50, "5", &mut rng);
    world.command(Command::AddTrack(world.add_video(hostile, &camera)));
    let watched = world.subscribe(1, 50, FULL);
    let mut layer = camera.layers[0].clone();
    for number in 0..10_000 {
        layer.ssrc = 0x1000_0000 + number;
        (layer.seq, layer.keyframe_wanted) = (100, true);
        let plain = layer.encode(50, 0, world.start, world.now).remove(0);
        world.send(hostile, "5", &plain);
        if number % 100 == 0 {
            world.run(10 * MS);
        }
    }
    world.run(100 * MS);
    assert_eq!(
        world.counters.dropped(DropReason::TooManySsrcs),
        10_000 - 64
    );
    check_video(&world, watched);
    is_healthy(&mut world, video);
    // When the noise is over, the table serves honest SSRCs again.
    world.run(11 * SECOND);
    world.start_video(hostile, camera);
    world.run(3 * SECOND);
    let packets = world.received(watched);
    assert!(
        packets
            .iter()
            .filter(|(_, packet)| packet.at + SECOND > world.now)
            .count()
            > 100
    );
}

#[test]
fn malformed_media_and_reports_end_in_their_own_counters() {
    let (mut world, video, hostile) = call(13);
    let camera = VideoSource::simulcast(50, "5", &mut Rng::new(13));
    world.command(Command::AddTrack(world.add_video(hostile, &camera)));
    let mut layer = camera.layers[0].clone();
    let template = layer.encode(50, 0, world.start, world.now).remove(0);
    let mut rng = Rng::new(13);
    for number in 0..5000u64 {
        let mut plain = template.clone();
        plain.seq += number;
        plain.payload = (0..rng.below(12)).map(|_| rng.next() as u8).collect();
        plain.payload_type = [96, 96, 96, 97, 30][rng.below(5) as usize];
        plain.padding = if rng.chance(100) { 3 } else { 0 };
        world.send(hostile, "5", &plain);
        let mut junk: Vec<u8> = (0..4 * rng.below(30)).map(|_| rng.next() as u8).collect();
        if let [first, kind, ..] = junk.as_mut_slice() {
            (*first, *kind) = (0x80 | (*first & 0x1f), 200 + (*kind % 7));
        }
        let mut out = vec![0; 400];
        let header = [&[0x80, 201, 0, 1, 0, 0, 0, 9][..], &junk].concat();
        let len = world.peers[hostile]
            .sender
            .protect_rtcp(&header, &mut out)
            .unwrap();
        world.send_sealed(hostile, out[..len].to_vec());
        world.run(MS);
    }
    let dropped = |reason| world.counters.dropped(reason);
    assert!(dropped(DropReason::PayloadMalformed) > 100);
    assert!(dropped(DropReason::UnknownPayloadType) > 100);
    assert!(dropped(DropReason::RtcpMalformed) > 1000);
    is_healthy(&mut world, video);
}

#[test]
fn commands_for_what_is_not_there_are_counted() {
    let (mut world, video, _) = call(14);
    world.command(Command::RemoveTransport {
        id: TransportId(9999),
    });
    world.command(Command::RemoveTrack {
        track: TrackId(9999),
    });
    world.command(Command::Unsubscribe {
        id: SubscriptionId(9999),
    });
    world.command(Command::SetWanted {
        id: SubscriptionId(9999),
        wanted: None,
    });
    world.command(Command::UpdateTrack {
        track: TrackId(9999),
        purpose: Purpose::UserMedia,
        size: None,
        muted: true,
    });
    world.command(Command::SendDatagram {
        id: TransportId(9999),
        datagram: vec![22],
    });
    world.command(Command::RestartIce {
        id: TransportId(9999),
        ice: support::peer::credentials(50, 0),
    });
    assert_eq!(world.counters.unknown_ids.get(), 7);
    // The same id, or the same SSRC to the same subscriber, twice.
    world.subscribe_as(1, 1, None, video.id, 5);
    world.subscribe_as(1, 1, None, SubscriptionId(4000), video.ssrc);
    world.command(Command::AddTransport {
        id: TransportId(101),
        ice: support::peer::credentials(60, 0),
        is_trunk: false,
    });
    world.command(Command::AddTransport {
        id: TransportId(500),
        ice: support::peer::credentials(1, 0),
        is_trunk: false,
    });
    assert_eq!(world.counters.commands_refused.get(), 4);
    is_healthy(&mut world, video);
}

#[test]
fn removing_anything_at_any_moment_leaves_nothing_behind() {
    for seed in 0..30 {
        let mut world = World::new(1400 + seed);
        let mut rng = Rng::new(seed);
        let (a, b) = (world.join(), world.join());
        world.publish_video(a, VideoSource::simulcast(1, "1", &mut rng));
        world.publish_audio(b, AudioSource::new(2, "0", &mut rng));
        world.subscribe(b, 1, FULL);
        world.subscribe(a, 2, None);
        world.run(SECOND + MS * rng.below(300) as u32);
        match seed % 3 {
            0 => world.command(Command::RemoveTrack { track: TrackId(1) }),
            1 => world.command(Command::RemoveTransport {
                id: TransportId(102),
            }),
            _ => world.command(Command::RemoveTransport {
                id: TransportId(101),
            }),
        }
        world.run(SECOND);
        world.command(Command::RemoveTransport {
            id: TransportId(101),
        });
        world.command(Command::RemoveTransport {
            id: TransportId(102),
        });
        world.run(100 * MS);
        assert_eq!(world.buffers_out(), 0, "seed {seed}");
        let counters = &world.counters;
        for gauge in [
            &counters.transports,
            &counters.tracks,
            &counters.subscriptions,
            &counters.packets_held,
        ] {
            assert_eq!(gauge.get(), 0);
        }
    }
}

#[test]
fn an_ice_restart_answers_old_and_new_until_the_new_is_used() {
    let (mut world, video, _) = call(15);
    let id = world.peers[1].id;
    let address = world.peers[1].address;
    world.command(Command::RestartIce {
        id,
        ice: support::peer::credentials(2, 1),
    });
    let answered = |world: &mut World, generation| {
        let before = world.counters.checks_answered.get();
        let check = world.peers[1].check(generation, true);
        world.datagram(address, &check);
        world.counters.checks_answered.get() > before
    };
    assert!(answered(&mut world, 0));
    assert!(answered(&mut world, 1));
    assert!(!answered(&mut world, 0));
    is_healthy(&mut world, video);
}

#[test]
fn checks_over_ipv6_are_answered_with_the_address_they_came_from() {
    let mut world = World::new(16);
    let mut peer = support::Peer::new(9);
    let ice = support::peer::credentials(9, 0);
    world.command(Command::AddTransport {
        id: peer.id,
        ice,
        is_trunk: false,
    });
    peer.address = "[2001:db8::7]:4711".parse().unwrap();
    let (address, check) = (peer.address, peer.check(0, true));
    world.peers.push(peer);
    world.datagram(address, &check);
    world.run(10 * MS);
    let answer = weir_wire::stun::Message::parse(&world.peers[0].answers[0]).unwrap();
    assert_eq!(answer.xor_mapped_address(), Some(address));
    let key = weir_wire::stun::Key::new("password-of-the-focus-9-0");
    assert_eq!(answer.check_integrity(&key), Ok(()));
    assert!(
        world.peers[0].answers[0].len() <= check.len() + 20,
        "no amplification"
    );
}
