//! What the focus does at so many participants and so much loss, as a table in the repository: a regression is a diff.
//!
//! Everybody publishes a camera in three layers and a microphone, and sees everybody else at 640×360, for 20 s at a round trip
//! of 50 ms; both directions lose. `WEIR_SNAPSHOT=write` writes the table anew.

mod support;

use std::fmt::Write;

use support::link::Link;
use support::tap::What;
use support::{Conference, SECOND, Scene};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/behaviour.txt");

const HEAD: &str = "\
participants  loss  forwarded  sent again  probes  keyframe requests  frames shown    of    longest still  stills > 250 ms
";

fn line(participants: usize, loss_percent: u64) -> String {
    let scene = Scene {
        participants,
        link: Link::FAR.losing(loss_percent * 10),
        history: 8192,
        ..Scene::QUIET
    };
    let mut of = Conference::new(1, scene);
    of.world.run(20 * SECOND);
    of.check();
    let watched = of.watched(of.world.start + SECOND, of.world.now);
    let count = |what: What| -> usize {
        let taps = of.world.peers.iter().flat_map(|peer| &peer.tap);
        taps.flat_map(|tap| &tap.departed)
            .filter(|of| of.what == what)
            .count()
    };
    let counters = &of.world.counters;
    format!(
        "{participants:12}  {loss_percent:3}%  {:9}  {:10}  {:6}  {:17}  {:12}  {:6}  {:10} ms  {:15}\n",
        counters.rtp_forwarded.get(),
        count(What::Again),
        count(What::Probe),
        counters.keyframe_requests_sent.get(),
        watched.shown,
        watched.captured,
        watched.longest.as_millis(),
        watched.freezes,
    )
}

#[test]
fn behaves_as_the_table_says() {
    let mut table = String::from(HEAD);
    for participants in [2, 4, 8] {
        for loss in [0, 2, 5, 10] {
            write!(table, "{}", line(participants, loss)).unwrap();
        }
    }
    if std::env::var("WEIR_SNAPSHOT").is_ok_and(|what| what == "write") {
        std::fs::write(TABLE, &table).unwrap();
    }
    let before = std::fs::read_to_string(TABLE).unwrap_or_default();
    assert!(
        table == before,
        "behaviour changed; if it is meant to: WEIR_SNAPSHOT=write\nbefore:\n{before}\nnow:\n{table}"
    );
}
