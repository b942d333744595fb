//! Leaving before there is anything to leave: a call whose transport never comes up.

use std::time::Duration;

use weir_client::{Detour, JoinConfig, Participant};

use super::people::{open_site, perform, until};

#[test]
fn whoever_leaves_while_its_transport_is_set_up_has_left_at_once() {
    perform(story());
}

async fn story() {
    let site = open_site(1).await;
    let config = JoinConfig {
        // No candidate is a way to the focus: the set-up would go on for 20 s.
        detour: Some(Detour::new(|_| None)),
        ..site.join_config(0, 0)
    };
    let participant = Participant::join(config).await.expect("a join");
    until("an answer", || {
        participant.snapshot().latencies.answer_ms.is_some()
    })
    .await;
    let left = tokio::time::timeout(Duration::from_secs(5), participant.leave()).await;
    assert!(left.is_ok(), "it is still being set up");
    site.close().await;
}
