//! A whole call in one process: what happens to the media while people change sizes, mute, leave and come back. Needs
//! io_uring, like the focus.

use std::time::{Duration, Instant};

use weir_client::{Kind, Participant, Report, Size, StreamReport};
use weir_loadtest::stage::{Stage, StageConfig};
use weir_loadtest::verdict;

const LARGE: Size = Size {
    width: 1280,
    height: 720,
};
const SMALL: Size = Size {
    width: 320,
    height: 180,
};

async fn stage(participants: usize) -> Stage {
    let config = StageConfig {
        participants,
        shards: 2,
        ..StageConfig::default()
    };
    let stage = Stage::start(&config, |_| {}).await.unwrap();
    until("everybody receives everybody", || {
        verdict::missing(&stage.reports()).is_empty()
    })
    .await;
    stage
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "not within 20 s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn stream(participant: &Participant, sender: &Report, kind: Kind) -> StreamReport {
    let report = participant.report();
    let of = |stream: &&StreamReport| stream.user_id == sender.user_id && stream.kind == kind;
    report
        .streams
        .iter()
        .find(of)
        .cloned()
        .expect("a stream of the sender")
}

/// Waits for a picture of this height and gives all that is known then.
async fn until_height(participant: &Participant, sender: &Report, height: u16) -> StreamReport {
    let of = || stream(participant, sender, Kind::Video);
    until(&format!("height {height}"), || {
        of().video.is_some_and(|video| video.height == height)
    })
    .await;
    of()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_changes_of_layer_break_no_rule_and_leave_no_gap() {
    let stage = stage(2).await;
    let [viewer, sender] = stage.participants() else {
        panic!("two participants")
    };
    let sender = sender.report();
    for _ in 0..5 {
        viewer.set_wanted_of(&sender.user_id, Some(SMALL));
        until_height(viewer, &sender, 180).await;
        viewer.set_wanted_of(&sender.user_id, Some(LARGE));
        until_height(viewer, &sender, 720).await;
    }
    let stream = stream(viewer, &sender, Kind::Video);
    let video = stream.video.unwrap();
    assert_eq!(stream.violations, []);
    assert!(
        video.longest_gap_ms <= 300,
        "no picture for {} ms",
        video.longest_gap_ms
    );
    assert!(video.size_changes >= 9);
    assert_eq!(
        (video.broken, stream.lost, viewer.report().negotiations),
        (0, 0, 1)
    );
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_muted_camera_stops_and_comes_back_on_the_same_stream() {
    let stage = stage(2).await;
    let [viewer, sender] = stage.participants() else {
        panic!("two participants")
    };
    let before = stream(viewer, &sender.report(), Kind::Video);
    sender.set_muted(Kind::Video, true);
    let frames = || stream(viewer, &sender.report(), Kind::Video).video.unwrap();
    until("no frames for a second", || frames().fps == 0.0).await;
    sender.set_muted(Kind::Video, false);
    until("30 frames a second again", || frames().fps >= 28.0).await;
    let after = stream(viewer, &sender.report(), Kind::Video);
    assert_eq!(
        (after.stream_id, after.ssrc, after.mid),
        (before.stream_id, before.ssrc, before.mid)
    );
    assert_eq!(after.violations, []);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_participant_that_wants_no_video_gets_none_and_then_gets_it_again() {
    let stage = stage(2).await;
    let [viewer, sender] = stage.participants() else {
        panic!("two participants")
    };
    let sender = sender.report();
    viewer.set_wanted_of(&sender.user_id, None);
    until("no packets for a second", || {
        stream(viewer, &sender, Kind::Video).video.unwrap().kbps == 0
    })
    .await;
    let paused = stream(viewer, &sender, Kind::Video);
    viewer.set_wanted_of(&sender.user_id, Some(SMALL));
    let resumed = || {
        let now = stream(viewer, &sender, Kind::Video);
        now.live && now.video.unwrap().fps >= 28.0
    };
    until("30 frames a second again", resumed).await;
    let after = stream(viewer, &sender, Kind::Video);
    assert_eq!(
        (after.violations.as_slice(), &after.track_id),
        (&[][..], &paused.track_id)
    );
    assert!(
        stream(viewer, &sender, Kind::Audio).longest_packet_gap_ms < 500,
        "the sound went on"
    );
    stage.stop().await;
}
