//! Stories of one publisher and its subscribers on a perfect network.

mod support;

use support::oracle::{check_audio, check_video, check_world};
use support::{AudioSource, MS, Rng, SECOND, VideoSource, World};
use weir_shard::{Command, Event, Purpose, Size, TrackId};

const FULL: Option<Size> = Some(Size::new(1280, 720));
const HALF: Option<Size> = Some(Size::new(640, 360));

/// A world with a publisher of camera 1 and microphone 2, and one more participant.
fn call(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed);
    let (publisher, subscriber) = (world.join(), world.join());
    let mut rng = Rng::new(seed);
    world.publish_video(publisher, VideoSource::simulcast(1, "1", &mut rng));
    world.publish_audio(publisher, AudioSource::new(2, "0", &mut rng));
    (world, publisher, subscriber)
}

#[test]
fn a_subscriber_gets_the_layer_it_asks_for_and_sound() {
    let (mut world, _, subscriber) = call(1);
    world.run(SECOND);
    let video = world.subscribe(subscriber, 1, FULL);
    let audio = world.subscribe(subscriber, 2, None);
    world.run(5 * SECOND);
    let seen = check_video(&world, video);
    assert_eq!(
        seen.layers
            .iter()
            .map(|(layer, _)| *layer)
            .collect::<Vec<_>>(),
        [0]
    );
    assert!(seen.complete >= 145, "30 frames a second: {seen:?}");
    assert_eq!(seen.missing, 0);
    assert_eq!(check_audio(&world, audio), (250, 0));
    check_world(&world);
}

#[test]
fn a_batch_for_more_subscribers_than_there_are_send_buffers_reaches_all_of_them() {
    // Reports to more than that at once are not sent; the next ones say the same.
    let mut world = World::with(3, |config| config.send_buffers = 8);
    let publisher = world.join();
    let subscribers: Vec<_> = (0..30).map(|_| world.join()).collect();
    let mut rng = Rng::new(3);
    world.publish_video(publisher, VideoSource::simulcast(1, "1", &mut rng));
    world.run(SECOND);
    let videos: Vec<_> = subscribers
        .into_iter()
        .map(|subscriber| world.subscribe(subscriber, 1, FULL))
        .collect();
    world.run(5 * SECOND);
    for video in videos {
        let seen = check_video(&world, video);
        assert!(seen.complete >= 145, "30 frames a second: {seen:?}");
        assert_eq!(seen.missing, 0);
    }
    check_world(&world);
}

#[test]
fn joins_before_the_first_packet_and_before_the_keys_work_as_well() {
    let mut world = World::new(2);
    let publisher = world.join();
    let subscriber = world.join_without_keys();
    let mut rng = Rng::new(2);
    let camera = VideoSource::simulcast(1, "1", &mut rng);
    world.command(Command::AddTrack(world.add_video(publisher, &camera)));
    let video = world.subscribe(subscriber, 1, FULL);
    world.run(SECOND);
    world.start_video(publisher, camera);
    world.run(SECOND);
    assert_eq!(world.received(video).len(), 0, "no keys, no media");
    world.install_keys(subscriber);
    world.run(SECOND);
    let seen = check_video(&world, video);
    assert!(seen.complete >= 25, "{seen:?}");
    assert_eq!(seen.layers.last().unwrap().0, 0);
}

#[test]
fn checklist_09_layers_are_bound_by_mid_and_rid_and_retransmissions_by_repaired_rid() {
    let mut world = World::new(9);
    let (publisher, subscriber) = (world.join(), world.join());
    let mut rng = Rng::new(9);
    let mut camera = VideoSource::simulcast(1, "1", &mut rng);
    camera.rtx = true;
    world.publish_video(publisher, camera);
    let video = world.subscribe(subscriber, 1, FULL);
    world.run(SECOND);
    // From now on browsers leave mid and rid out.
    world.peers[publisher].names = false;
    world.run(SECOND);
    world.peers[publisher].names = true;
    world.up.loss_per_mille = 30;
    world.run(5 * SECOND);
    world.up.loss_per_mille = 0;
    world.run(SECOND);
    let seen = check_video(&world, video);
    assert!(
        world.counters.rtx_unwrapped.get() > 10,
        "{}",
        world.counters.rtx_unwrapped.get()
    );
    assert!(seen.complete >= 200, "{seen:?}");
    assert!(seen.missing <= 3, "losses were repaired upstream: {seen:?}");
    assert_eq!(seen.layers.last().unwrap().0, 0);
    check_world(&world);
}

#[test]
fn checklist_18_a_changed_size_switches_layers_without_interruption() {
    let (mut world, _, subscriber) = call(18);
    world.run(SECOND);
    let video = world.subscribe(subscriber, 1, None);
    for wanted in [FULL, None, HALF, FULL, HALF, None] {
        world.run(2 * SECOND);
        world.want(video, wanted);
        // The same wish again changes nothing.
        world.want(video, wanted);
    }
    world.run(2 * SECOND);
    let seen = check_video(&world, video);
    assert_eq!(
        seen.layers
            .iter()
            .map(|(layer, _)| *layer)
            .collect::<Vec<_>>(),
        [2, 0, 2, 1, 0, 1, 2]
    );
    assert_eq!(world.counters.switches.get(), 6);
    assert!(seen.longest_gap <= 140 * MS, "{seen:?}");
    check_world(&world);
}

#[test]
fn checklist_20_what_was_unsubscribed_stops_and_starts_again_with_a_keyframe() {
    let (mut world, _, subscriber) = call(20);
    world.run(SECOND);
    let video = world.subscribe(subscriber, 1, FULL);
    world.run(2 * SECOND);
    world.unsubscribe(video);
    world.run(100 * MS);
    let before = world.received(video).len();
    world.run(SECOND);
    assert_eq!(world.received(video).len(), before);
    // The same SSRC under the same key goes on above the numbers that it used.
    let highest = world.received(video).last().unwrap().0;
    let again = world.subscribe_as(
        subscriber,
        1,
        FULL,
        weir_shard::SubscriptionId(77),
        video.ssrc,
    );
    world.run(2 * SECOND);
    let packets = world.received(again);
    let later: Vec<_> = packets.iter().skip(before).collect();
    assert_eq!(later[0].0, highest + 1);
    let (_, first) = support::oracle::read(&later[0].1.payload);
    assert!(first.keyframe && first.index == 0);
    assert!(later.len() > 200);
    check_world(&world);
}

#[test]
fn checklist_21_a_subscription_never_carries_another_track() {
    let (mut world, publisher, subscriber) = call(21);
    let mut rng = Rng::new(210);
    world.publish_video(publisher, VideoSource::simulcast(3, "3", &mut rng));
    let first = world.subscribe(subscriber, 1, FULL);
    world.run(2 * SECOND);
    world.unsubscribe(first);
    let second = world.subscribe(subscriber, 3, FULL);
    world.run(2 * SECOND);
    assert!(check_video(&world, first).complete > 30);
    assert!(check_video(&world, second).complete > 30);
    check_world(&world);
}

#[test]
fn checklist_22_without_a_size_the_lowest_layer_is_sent() {
    let (mut world, _, subscriber) = call(22);
    world.run(SECOND);
    let video = world.subscribe(subscriber, 1, None);
    world.run(2 * SECOND);
    let seen = check_video(&world, video);
    assert_eq!(
        seen.layers
            .iter()
            .map(|(layer, _)| *layer)
            .collect::<Vec<_>>(),
        [2]
    );
    world.unsubscribe(video);
    world.unsubscribe(video);
    assert_eq!(
        world.counters.unknown_ids.get(),
        1,
        "an unknown id is counted and otherwise ignored"
    );
}

#[test]
fn checklist_23_one_ssrc_continuous_numbers_own_extensions_and_a_keyframe_first() {
    for seed in 0..20 {
        let (mut world, publisher, subscriber) = call(2300 + seed);
        world.run(SECOND);
        let video = world.subscribe(subscriber, 1, FULL);
        world.run(SECOND);
        // `check_video` holds numbers, times, picture ids, keyframes and extensions against the rules.
        let seen = check_video(&world, video);
        assert!(seen.complete >= 27, "{seen:?}");
        assert_eq!(seen.missing, 0);
        let full = world.peers[publisher].video[0].layers[0].ssrc;
        let plis: Vec<_> = world.peers[publisher]
            .told
            .plis
            .iter()
            .filter(|(_, ssrc)| *ssrc == full)
            .collect();
        assert_eq!(plis.len(), 1, "one request brings the first keyframe");
    }
}

#[test]
fn many_subscribers_cost_one_keyframe_request() {
    let (mut world, publisher, _) = call(230);
    let others: Vec<usize> = (0..8).map(|_| world.join()).collect();
    world.run(SECOND);
    let videos: Vec<_> = others
        .iter()
        .map(|peer| world.subscribe(*peer, 1, FULL))
        .collect();
    world.run(2 * SECOND);
    assert_eq!(world.peers[publisher].told.plis.len(), 1);
    videos
        .iter()
        .for_each(|video| assert!(check_video(&world, *video).complete >= 55));
    check_world(&world);
}

#[test]
fn checklist_25_silence_after_mute_is_no_fault_and_unmute_shows_a_picture_at_once() {
    let (mut world, publisher, subscriber) = call(25);
    world.run(SECOND);
    let video = world.subscribe(subscriber, 1, FULL);
    world.run(SECOND);
    let update = |muted| Command::UpdateTrack {
        track: TrackId(1),
        purpose: Purpose::UserMedia,
        size: FULL,
        muted,
    };
    world.command(update(true));
    world.peers[publisher].video[0]
        .layers
        .iter_mut()
        .for_each(|layer| layer.on = false);
    world.run(SECOND);
    let (plis, switches) = (
        world.peers[publisher].told.plis.len(),
        world.counters.switches.get(),
    );
    world.run(20 * SECOND);
    assert_eq!(
        world.peers[publisher].told.plis.len(),
        plis,
        "nobody asks a muted camera for keyframes"
    );
    assert_eq!(world.counters.switches.get(), switches);
    world.command(update(false));
    world.peers[publisher].video[0]
        .layers
        .iter_mut()
        .for_each(|layer| layer.on = true);
    let unmuted = world.now;
    world.run(SECOND);
    let seen = check_video(&world, video);
    let packets = world.received(video);
    let keyframe = packets.iter().find(|(_, packet)| {
        let (_, identity) = support::oracle::read(&packet.payload);
        packet.at > unmuted && identity.keyframe && identity.index == 0
    });
    assert!(keyframe.unwrap().1.at < unmuted + 300 * MS);
    assert_eq!(seen.layers.last().unwrap().0, 0);
}

#[test]
fn a_layer_that_falls_silent_is_given_up_and_comes_back() {
    let (mut world, publisher, subscriber) = call(26);
    world.run(SECOND);
    let video = world.subscribe(subscriber, 1, FULL);
    world.run(2 * SECOND);
    world.peers[publisher].video[0].layers[0].on = false;
    world.run(5 * SECOND);
    world.peers[publisher].video[0].layers[0].on = true;
    world.run(3 * SECOND);
    let seen = check_video(&world, video);
    assert_eq!(
        seen.layers
            .iter()
            .map(|(layer, _)| *layer)
            .collect::<Vec<_>>(),
        [0, 1, 0]
    );
    assert!(seen.longest_gap < 2300 * MS, "{seen:?}");
    assert_eq!(world.counters.layers_stalled.get(), 1);
    check_world(&world);
}

#[test]
fn a_publisher_that_starts_anew_with_another_ssrc_stays_one_stream() {
    let (mut world, publisher, subscriber) = call(27);
    world.run(SECOND);
    let video = world.subscribe(subscriber, 1, FULL);
    let audio = world.subscribe(subscriber, 2, None);
    world.run(2 * SECOND);
    for layer in &mut world.peers[publisher].video[0].layers {
        layer.ssrc ^= 0x5555;
        (layer.seq, layer.time_offset, layer.picture_id) = (900, 7, 3);
        layer.keyframe_wanted = true;
    }
    world.run(2 * SECOND);
    let seen = check_video(&world, video);
    assert!(seen.complete >= 110, "{seen:?}");
    assert_eq!(check_audio(&world, audio).1, 0);
    check_world(&world);
}

#[test]
fn reports_feedback_and_names_go_out() {
    let (mut world, publisher, subscriber) = call(28);
    world.run(SECOND);
    let video = world.subscribe(subscriber, 1, FULL);
    let audio = world.subscribe(subscriber, 2, None);
    world.run(5 * SECOND);
    let told = &world.peers[publisher].told;
    assert!(
        told.reports.len() >= 15,
        "a block a second for each source: {}",
        told.reports.len()
    );
    assert!(
        told.reports
            .iter()
            .all(|(_, block)| block.fraction_lost == 0 && block.cumulative_lost == 0)
    );
    assert!(told.reports.iter().any(|(_, block)| block.last_sr != 0));
    let told = &world.peers[subscriber].told;
    for of in [video, audio] {
        let reports: Vec<_> = told
            .sender_reports
            .iter()
            .filter(|(_, ssrc, _)| *ssrc == of.ssrc)
            .collect();
        assert!(reports.len() >= 3);
        let (at, _, info) = reports.last().unwrap();
        let sent = world
            .received(of)
            .iter()
            .filter(|(_, packet)| packet.at <= *at)
            .count();
        assert!(sent.abs_diff(info.packet_count as usize) <= 2);
        assert!(
            told.cnames
                .contains(&(of.ssrc, format!("publisher-of-{}", of.track)))
        );
    }
    // Both reports speak of one clock: what was captured together has one NTP time.
    let of = |ssrc| {
        told.sender_reports
            .iter()
            .rev()
            .find(|(_, of, _)| *of == ssrc)
            .unwrap()
            .2
    };
    let (video_info, audio_info) = (of(video.ssrc), of(audio.ssrc));
    let seconds = |ntp: u64| ntp as f64 / (1u64 << 32) as f64;
    assert!(
        (seconds(video_info.ntp) - 2_208_988_800.0 - 1_700_000_006.0).abs() < 2.0,
        "the shard's wall clock"
    );
    let packet = world.received(audio).last().unwrap().1.clone();
    let ago = f64::from(audio_info.rtp_time.0.wrapping_sub(packet.timestamp) as i32) / 48_000.0;
    let captured = (packet.at - world.start).as_secs_f64() - 0.002;
    let report_at = captured + ago;
    assert!((seconds(audio_info.ntp) - 2_208_988_800.0 - 1_700_000_000.0 - report_at).abs() < 0.01);
}

#[test]
fn checklist_11_transport_wide_feedback_speaks_of_every_packet_once_and_in_time() {
    let (mut world, publisher, _) = call(29);
    world.run(3 * SECOND);
    world.up.loss_per_mille = 100;
    world.run(3 * SECOND);
    world.up.loss_per_mille = 0;
    world.run(SECOND);
    let of = &world.peers[publisher];
    let (mut arrived, mut lost) = (std::collections::BTreeSet::new(), 0);
    for (at, statuses) in &of.told.feedback {
        for (seq, arrival) in statuses {
            let Some(arrival) = arrival else {
                lost += 1;
                continue;
            };
            let sent = of.wide_sent[usize::from(seq.wrapping_sub(65_000))];
            let off = (sent - world.start).as_micros() as i64 + 1000 - arrival;
            assert!(off.abs() <= 250, "number {seq} arrived {off} us off");
            assert!(*at - sent <= 110 * MS);
            assert!(arrived.insert(*seq), "{seq} was told twice");
        }
    }
    let all = of.wide_sent.len();
    assert!((all / 25..all / 10).contains(&lost), "{lost} of {all} lost");
    assert!(
        all - arrived.len() - lost < 60,
        "only the last interval is not told yet"
    );
    let intervals: Vec<_> = of
        .told
        .feedback
        .windows(2)
        .map(|pair| (pair[1].0 - pair[0].0).as_millis())
        .collect();
    assert!(
        intervals.iter().all(|ms| (50..=100).contains(ms)),
        "{intervals:?}"
    );
}

#[test]
fn equal_packets_of_a_frame_leave_in_one_send() {
    let (mut world, publisher, subscriber) = call(30);
    world.run(SECOND);
    let video = world.subscribe(subscriber, 1, FULL);
    world.run(SECOND);
    let address = world.peers[subscriber].address;
    // The last packet of a batch comes alone when the network spreads a frame; here a whole frame arrives at once.
    let longest = world
        .transmits
        .iter()
        .filter(|(_, to, _)| *to == address)
        .map(|(_, _, lens)| lens.len())
        .max();
    assert!(longest >= Some(4), "{longest:?}");
    assert!(check_video(&world, video).complete > 20);
    let _ = publisher;
}

#[test]
fn dtls_goes_through_in_both_directions() {
    let (mut world, publisher, _) = call(31);
    let (address, id) = (world.peers[publisher].address, world.peers[publisher].id);
    world.events.clear();
    world.datagram(address, &[22, 254, 253, 1, 2, 3]);
    assert_eq!(
        world.events,
        [Event::Datagram {
            id,
            datagram: vec![22, 254, 253, 1, 2, 3]
        }]
    );
    world.command(Command::SendDatagram {
        id,
        datagram: vec![20, 9, 9],
    });
    world.run(10 * MS);
    assert_eq!(world.peers[publisher].plain, [vec![20, 9, 9]]);
}
