//! Whole conferences over bad networks, seen by participants that behave as browsers. A seed that ever fails becomes a test
//! with a name of its own.

mod support;

use std::time::Duration;

use support::conference::camera_of;
use support::link::Link;
use support::viewing::check_history;
use support::{Conference, MS, SECOND, Scene};
use weir_shard::Size;

const FULL: Option<Size> = Some(Size::new(1280, 720));
const HALF: Option<Size> = Some(Size::new(640, 360));
const QUARTER: Option<Size> = Some(Size::new(320, 180));

/// A conference of which only the viewer's way back (participant 0) is bad.
fn viewer_behind(seed: u64, scene: Scene, down: Link) -> Conference {
    let mut of = Conference::new(seed, scene);
    of.world.ways[0].down_link = Some(down);
    of.video.retain(|of| of.peer == 0);
    of.audio.retain(|of| of.peer == 0);
    of
}

#[test]
fn what_the_history_has_is_sent_again_when_asked_for() {
    let (mut due, mut unanswered) = (0, 0);
    for seed in 0..10 {
        let scene = Scene {
            wanted: FULL,
            ..Scene::QUIET
        };
        let mut of = viewer_behind(seed, scene, Link::FAR.losing(50));
        of.world.run(20 * SECOND);
        of.check();
        let (asked, missed) = check_history(&of.world, of.video[0], 25 * MS);
        (due, unanswered) = (due + asked, unanswered + missed);
    }
    assert!(due >= 100, "{due}");
    assert_eq!(unanswered, 0, "of {due}");
}

#[test]
fn five_percent_of_loss_are_not_seen() {
    let mut longest = Duration::ZERO;
    for seed in 0..10 {
        let mut of = viewer_behind(seed, Scene::QUIET, Link::FAR.losing(50));
        of.world.run(20 * SECOND);
        let watched = of.watched(of.world.start + SECOND, of.world.now);
        longest = longest.max(watched.longest);
        assert!(
            watched.shown * 100 >= watched.captured * 99,
            "seed {seed}: {watched:?}"
        );
        assert!(watched.longest <= 400 * MS, "seed {seed}: {watched:?}");
        assert!(watched.freezes <= 1, "seed {seed}: {watched:?}");
    }
}

#[test]
fn twenty_viewers_that_switch_at_once_cost_two_keyframe_requests() {
    let scene = Scene {
        wanted: QUARTER,
        ..Scene::QUIET
    };
    let mut of = Conference::new(
        5,
        Scene {
            participants: 1,
            ..scene
        },
    );
    for _ in 0..20 {
        let viewer = of.world.join();
        of.world.browse(viewer);
        of.video
            .push(of.world.subscribe(viewer, camera_of(0), QUARTER));
    }
    of.world.run(3 * SECOND);
    for (wanted, layer) in [(FULL, 0), (HALF, 1), (FULL, 0), (QUARTER, 2)] {
        let at = of.world.now;
        for viewer in of.video.clone() {
            of.world.want(viewer, wanted);
        }
        of.world.run(3 * SECOND);
        let asked = of.world.peers[0].told.plis.iter();
        let asked = asked
            .filter(|(when, _)| *when >= at && *when < at + SECOND)
            .count();
        assert!((1..=2).contains(&asked), "{asked} requests for {wanted:?}");
        for viewer in &of.video {
            let pictures = of.world.pictures(*viewer);
            assert_eq!(pictures.shown.last().unwrap().identity.layer, layer);
            assert!(pictures.watched(at, of.world.now).longest <= 250 * MS);
        }
    }
    of.check();
}

#[test]
fn layers_change_without_a_freeze() {
    let mut of = viewer_behind(3, Scene::QUIET, Link::FAR);
    of.world.run(2 * SECOND);
    let from = of.world.now;
    for change in 0..100 {
        let wanted = [FULL, QUARTER, HALF][change % 3];
        of.world.want(of.video[0], wanted);
        of.world.run(900 * MS);
    }
    of.check();
    let watched = of.watched(from, of.world.now);
    assert!(watched.longest <= 150 * MS, "{watched:?}");
    let asked = of.world.peers[1].told.plis.len();
    assert!(asked <= 102, "{asked} requests for 100 changes");
    assert_eq!(of.world.pictures(of.video[0]).plis.len(), 0);
}
