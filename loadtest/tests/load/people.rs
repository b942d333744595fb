//! People in a call of their own, through a focus that is a process of its own: what stories about them have in common.

use std::time::{Duration, Instant};

use weir_client::{Kind, Participant, StreamReport};
use weir_loadtest::child::focus::FocusProgram;
use weir_loadtest::scenario::{Scenario, Settings};
use weir_loadtest::site::{Site, SiteConfig};

use super::turn;

/// Lets a story happen, with nothing beside it.
pub(crate) fn perform(story: impl Future<Output = ()>) {
    let _turn = turn();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(story);
}

/// A homeserver, a focus and a call for so many. The focus is the load tester's program in its role as one: this test's own
/// program has none.
pub(crate) async fn open_site(participants: usize) -> Site {
    let program = FocusProgram::Other(env!("CARGO_BIN_EXE_weir-loadtest").into());
    let config = SiteConfig {
        shards: Some(1),
        ..SiteConfig::here("load", program)
    };
    let settings = Settings {
        participants,
        ..Scenario::Conference.defaults()
    };
    let site = Site::open(&config, &settings.plan(), &|_| {}).await;
    site.expect("a homeserver, a focus, a call")
}

pub(crate) fn user(participant: &Participant) -> String {
    participant.snapshot().user_id.clone()
}

/// A participant's stream of another.
pub(crate) fn stream(
    viewer: &Participant,
    sender: &Participant,
    kind: Kind,
) -> Option<StreamReport> {
    let sender = user(sender);
    let mut streams = viewer.report().streams.into_iter();
    streams.find(|stream| stream.user_id == sender && stream.kind == kind)
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    const PATIENCE: Duration = Duration::from_secs(30);
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
