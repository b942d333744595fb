//! Subscribers that ask for more than there is: what they get is bounded, and the call beside them goes on.

mod support;

use support::oracle::{check_video, check_world};
use support::{MS, Rng, SECOND, Subscribed, VideoSource, World};
use weir_shard::{DropReason, Size};
use weir_wire::Seq;
use weir_wire::rtcp::{Writer, twcc};

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

#[test]
fn asking_for_everything_again_costs_three_times_and_no_more() {
    let (mut world, video, _) = call(9);
    let all: Vec<Seq> = (0..250)
        .map(|step| {
            Seq(world
                .received(video)
                .last()
                .unwrap()
                .1
                .seq
                .wrapping_sub(step))
        })
        .rev()
        .collect();
    let resends = world.counters.resends.get();
    for _ in 0..2000 {
        let bytes = world.peers[1].seal_rtcp(|writer| writer.nack(1, video.ssrc, &all).unwrap());
        world.send_sealed(1, bytes);
        world.run(MS);
    }
    let resent = world.counters.resends.get() - resends;
    // Those from before the last keyframe are not sent at all, and all together are at most 15 % of what may be sent.
    assert!(
        (30..=750).contains(&resent),
        "250 packets, three times each at most: {resent}"
    );
    let refused = [
        DropReason::ResendTooSoon,
        DropReason::ResendTooOften,
        DropReason::ResendUseless,
        DropReason::ResendsFull,
        DropReason::ResendShare,
    ];
    let refused = refused.map(|reason| world.counters.dropped(reason));
    assert!(refused.iter().sum::<u64>() > 400_000, "{refused:?}");
    is_healthy(&mut world, video);
}

#[test]
fn a_list_of_more_than_250_missing_packets_becomes_one_keyframe_request() {
    let (mut world, video, _) = call(10);
    world.run(SECOND);
    let (resends, plis) = (world.counters.resends.get(), world.peers[0].told.plis.len());
    let all: Vec<Seq> = (0..400).map(Seq).collect();
    let bytes = world.peers[1].seal_rtcp(|writer| writer.nack(1, video.ssrc, &all).unwrap());
    world.send_sealed(1, bytes);
    world.run(SECOND);
    assert_eq!(world.counters.resends.get(), resends);
    assert_eq!(world.peers[0].told.plis.len(), plis + 1);
    is_healthy(&mut world, video);
}

/// Ten seconds of requests, a thousand a second: how many reached the publisher.
fn flood(seed: u64, write: impl Fn(&mut Writer<'_>, u32, u32)) -> usize {
    let (mut world, video, _) = call(seed);
    let before = world.peers[0].told.plis.len();
    let received = world.counters.keyframe_requests_received.get();
    for round in 0..10_000 {
        let bytes = world.peers[1].seal_rtcp(|writer| write(writer, video.ssrc, round));
        world.send_sealed(1, bytes);
        world.run(MS);
    }
    let sent = world.peers[0].told.plis.len() - before;
    let received = world.counters.keyframe_requests_received.get() - received;
    assert_eq!(received, 10_000);
    assert!(world.counters.dropped(DropReason::KeyframeRate) > 1000);
    is_healthy(&mut world, video);
    sent
}

#[test]
fn a_flood_of_picture_losses_reaches_the_publisher_a_few_times() {
    let sent = flood(11, |writer, ssrc, _| writer.pli(1, ssrc).unwrap());
    // Six at once, and one every two seconds.
    assert!((6..=11).contains(&sent), "{sent} in 10 s");
}

#[test]
fn a_flood_of_full_intra_requests_is_no_different() {
    let sent = flood(13, |writer, ssrc, round| {
        writer.fir(1, ssrc, round as u8).unwrap();
    });
    assert!((6..=11).contains(&sent), "{sent} in 10 s");
}

#[test]
fn feedback_that_everything_is_lost_costs_three_times_and_no_more() {
    let (mut world, video, _) = call(14);
    let wide = |world: &World| {
        let (_, last) = world.received(video).pop().expect("packets came");
        let number = last.extensions.iter().find(|(id, _)| *id == 6);
        number.map(|(_, data)| u16::from_be_bytes([data[0], data[1]]))
    };
    let (resends, forwarded) = (
        world.counters.resends.get(),
        world.counters.rtp_forwarded.get(),
    );
    for round in 0..400u32 {
        let last = wide(&world).expect("a transport-wide number");
        // All of the last 300 are lost but the newest one, and that again and again.
        let mut arrivals = vec![None; 300];
        arrivals[299] = Some(u64::from(round) * 5000);
        let bytes = world.peers[1].seal_rtcp(|writer| {
            let feedback = twcc::Feedback {
                sender_ssrc: 1,
                media_ssrc: video.ssrc,
                feedback_count: round as u8,
                base: Seq(last.wrapping_sub(299)),
            };
            writer.transport_feedback(&feedback, &arrivals).unwrap();
        });
        world.send_sealed(1, bytes);
        world.run(5 * MS);
    }
    let resent = world.counters.resends.get() - resends;
    let forwarded = world.counters.rtp_forwarded.get() - forwarded;
    assert!(
        resent > 10 && resent <= 3 * (forwarded + 300),
        "{resent} of {forwarded}"
    );
    check_world(&world);
}

#[test]
fn requests_about_other_peoples_streams_do_nothing() {
    let (mut world, video, hostile) = call(12);
    let plis = world.peers[0].told.plis.len();
    let bytes = world.peers[hostile].seal_rtcp(|writer| {
        writer.pli(1, video.ssrc).unwrap();
        writer.nack(1, video.ssrc, &[Seq(1), Seq(2)]).unwrap();
    });
    world.send_sealed(hostile, bytes);
    world.run(SECOND);
    assert_eq!(world.peers[0].told.plis.len(), plis);
    assert_eq!(world.counters.nacks_received.get(), 0);
    is_healthy(&mut world, video);
}
