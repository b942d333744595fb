//! A call while the homeserver is gone.

use std::time::Duration;

use crate::site::{SMALL, Site, until_media_flows, until_some};

/// How long the homeserver is away. A minute takes a minute, so that is for those who ask for it.
fn outage() -> Duration {
    let seconds = std::env::var("WEIR_TEST_OUTAGE_SECONDS").ok();
    let seconds = seconds.map_or(10, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_on_without_the_homeserver_and_people_join_when_it_is_back() {
    let mut site = Site::start(1, "127.0.0.1:0").await;
    let call = site.call().await;
    let alice = site.join(&call, "alice", SMALL).await;
    let bob = site.join(&call, "bob", SMALL).await;
    until_media_flows(&[&alice, &bob]).await;
    assert_eq!(site.ready().await, 200);

    site.homeserver.pause().await;
    let gone = tokio::time::Instant::now();
    until_some("the focus is not ready", async || {
        (site.ready().await == 503).then_some(())
    })
    .await;
    while gone.elapsed() < outage() {
        until_media_flows(&[&alice, &bob]).await;
        assert_eq!(site.ready().await, 503);
    }
    assert_eq!(site.metrics().await.get("weir_matrix_up"), 0.0);
    assert_eq!(site.metrics().await.get("weir_participants"), 2.0);

    site.homeserver.resume().await.unwrap();
    until_some("the focus is ready again", async || {
        (site.ready().await == 200).then_some(())
    })
    .await;
    let carol = site.join(&call, "carol", SMALL).await;
    until_media_flows(&[&alice, &bob, &carol]).await;
    for participant in [&alice, &bob, &carol] {
        site.assert_undisturbed(participant);
    }
    site.stop(vec![alice, bob, carol]).await;
}
