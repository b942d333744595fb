//! Participants at several foci, and the trunks between these.

use weir_client::Kind;

use crate::site::{LARGE, MEDIUM, SMALL, Site, stream, until, until_media_flows, until_some};

const V4: &str = "127.0.0.1:0";

/// Waits until a metric of a focus has this value.
async fn until_is(site: &Site, focus: usize, name: &str, value: f64) {
    let what = format!("{name} of focus {focus} is {value}");
    until_some(&what, async || {
        (site.metrics_of(focus).await.get(name) == value).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn participants_of_two_foci_see_and_hear_each_other_over_one_trunk() {
    let site = Site::start_foci(2, 1, V4).await;
    let call = site.call().await;
    let alice = site.join_at(0, &call, "alice", MEDIUM).await;
    let bob = site.join_at(0, &call, "bob", SMALL).await;
    let carol = site.join_at(1, &call, "carol", SMALL).await;
    let all = [&alice, &bob, &carol];
    until_media_flows(&all).await;
    until_media_flows(&all).await;
    for participant in all {
        site.assert_undisturbed(participant);
        let report = participant.report();
        assert_eq!(report.streams.len(), 4, "two of each of the two others");
        assert_eq!(report.unbound_packets, 0);
    }
    for (focus, tracks, subscriptions) in [
        // Alice's and bob's own and carol's; what both get, and alice's and bob's over the trunk, each once.
        (0, 6.0, 12.0),
        // Carol's own, and the others'; what she gets, and hers over the trunk.
        (1, 6.0, 6.0),
    ] {
        until_is(&site, focus, "weir_trunks", 1.0).await;
        until_is(&site, focus, "weir_shard_tracks{shard=\"0\"}", tracks).await;
        until_is(
            &site,
            focus,
            "weir_shard_subscriptions{shard=\"0\"}",
            subscriptions,
        )
        .await;
    }
    // Both ends say what crosses, and how much.
    for (focus, here, there) in [(0, 2, 1), (1, 1, 2)] {
        let conference = until_some("packets go both ways", async || {
            let conference = site.conference_of(focus).await;
            let trunk = &conference["trunks"][0];
            let moves = |way: &str| trunk[way]["packets_per_second"].as_u64() > Some(0);
            (moves("to") && moves("from")).then_some(conference)
        })
        .await;
        let people = conference["participants"].as_array().map_or(0, Vec::len);
        let trunk = &conference["trunks"][0];
        assert_eq!((people, &trunk["state"]), (here, &"up".into()));
        for kind in ["audio", "video"] {
            assert_eq!(
                (&trunk["to"][kind], &trunk["from"][kind]),
                (&here.into(), &there.into())
            );
        }
    }
    carol.leave().await;
    // With the last participant of a side the trunk goes.
    until_is(&site, 0, "weir_trunks", 0.0).await;
    until_is(&site, 1, "weir_conferences", 0.0).await;
    until_is(&site, 1, "weir_transports", 0.0).await;
    site.stop(vec![alice, bob]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_foci_of_one_shard_each_share_three_conferences_at_a_time() {
    let site = Site::start_foci(2, 1, V4).await;
    let mut pairs = Vec::new();
    for (here, there) in [("alice", "bob"), ("carol", "dave"), ("erin", "frank")] {
        let call = site.call().await;
        let here = site.join_at(0, &call, here, SMALL).await;
        let there = site.join_at(1, &call, there, SMALL).await;
        until_media_flows(&[&here, &there]).await;
        pairs.push([here, there]);
    }
    for focus in [0, 1] {
        until_is(&site, focus, "weir_trunks", 3.0).await;
        let ignored = "weir_shard_remotes_ignored_total{shard=\"0\"}";
        until_is(&site, focus, ignored, 0.0).await;
    }
    for [here, there] in &pairs {
        until_media_flows(&[here, there]).await;
        for participant in [here, there] {
            site.assert_undisturbed(participant);
            let report = participant.report();
            assert_eq!(report.streams.len(), 2, "the other's camera and microphone");
            assert_eq!(report.unbound_packets, 0);
        }
    }
    // One ends; the others go on.
    for participant in pairs.remove(1) {
        participant.leave().await;
    }
    for focus in [0, 1] {
        until_is(&site, focus, "weir_trunks", 2.0).await;
    }
    for [here, there] in &pairs {
        until_media_flows(&[here, there]).await;
        site.assert_undisturbed(here);
        site.assert_undisturbed(there);
    }
    site.stop(pairs.into_iter().flatten().collect()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layer_on_a_trunk_follows_the_largest_that_is_wanted_behind_it() {
    let site = Site::start_foci(2, 1, V4).await;
    let call = site.call().await;
    let alice = site.join_at(0, &call, "alice", SMALL).await;
    let carol = site.join_at(1, &call, "carol", SMALL).await;
    let dave = site.join_at(1, &call, "dave", SMALL).await;
    until_media_flows(&[&alice, &carol, &dave]).await;
    let shown = |height: u16| {
        let report = dave.report();
        let video = stream(&report, "@alice:localhost", Kind::Video).and_then(|of| of.video);
        video.is_some_and(|video| video.height == height)
    };
    for wanted in [LARGE, MEDIUM, SMALL] {
        dave.set_wanted(Some(wanted));
        until(&format!("dave sees alice at {}", wanted.height), || {
            shown(wanted.height)
        })
        .await;
    }
    for participant in [&alice, &carol, &dave] {
        site.assert_undisturbed(participant);
    }
    site.stop(vec![alice, carol, dave]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_focus_that_stops_takes_only_its_own_participants_with_it() {
    let mut site = Site::start_foci(2, 1, V4).await;
    let call = site.call().await;
    let alice = site.join_at(0, &call, "alice", SMALL).await;
    let bob = site.join_at(0, &call, "bob", SMALL).await;
    let carol = site.join_at(1, &call, "carol", SMALL).await;
    until_media_flows(&[&alice, &bob, &carol]).await;
    site.stop_last_focus().await;
    let sees_carol = || stream(&alice.report(), "@carol:localhost", Kind::Video).is_some();
    until("carol is gone at alice", || !sees_carol()).await;
    until_media_flows(&[&alice, &bob]).await;
    for participant in [&alice, &bob] {
        site.assert_undisturbed(participant);
    }
    site.stop(vec![alice, bob, carol]).await;
}
