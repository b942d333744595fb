//! Whole conferences over bad networks, seen by participants that behave as browsers.

mod support;

use std::time::Duration;

use support::oracle::check_world;
use support::{Conference, Link, SECOND, Scene};

#[test]
fn table() {
    for participants in [2, 4] {
        for loss in [0, 20, 50, 100] {
            let started = std::time::Instant::now();
            let scene = Scene {
                participants,
                link: Link::FAR.losing(loss),
                ..Scene::QUIET
            };
            let mut of = Conference::new(7, scene);
            of.world.run(20 * SECOND);
            let (from, to) = (of.world.start + SECOND, of.world.now);
            let mut sum = (0, 0, Duration::ZERO, 0, 0, 0);
            for of_one in &of.video {
                let pictures = of.world.pictures(*of_one);
                let watched = pictures.watched(from, to);
                sum.0 += watched.shown;
                sum.1 += watched.captured;
                sum.2 = sum.2.max(watched.longest);
                sum.3 += watched.freezes;
                sum.4 += pictures.plis.len();
                sum.5 += pictures.broken.len();
            }
            println!(
                "{participants} {loss} {sum:?} resends {} refused {} nacked {} pli {} took {:?}",
                of.world.counters.resends.get(),
                of.world.counters.resends_refused(),
                of.world.counters.nacks_received.get(),
                of.world.counters.keyframe_requests_sent.get(),
                started.elapsed()
            );
            check_world(&of.world);
        }
    }
}
