//! A call from join to leave.

use weir_client::channel::FromFocus;
use weir_client::{Kind, Participant, Report};

use crate::caller::Caller;
use crate::site::{LARGE, MEDIUM, SMALL, Site, stream, until, until_media_flows, until_some};

const V4: &str = "127.0.0.1:0";

#[tokio::test(flavor = "multi_thread")]
async fn everyone_receives_everyone_and_nothing_is_left_when_all_have_gone() {
    let site = Site::start(1, V4).await;
    let call = site.call().await;
    let alice = site.join(&call, "alice", MEDIUM).await;
    let bob = site.join(&call, "bob", SMALL).await;
    let carol = site.join(&call, "carol", SMALL).await;
    let all = [&alice, &bob, &carol];
    until_media_flows(&all).await;
    until_media_flows(&all).await;
    for participant in all {
        let report = participant.report();
        site.assert_undisturbed(participant);
        assert_eq!(report.streams.len(), 4, "two of each of the two others");
        assert_eq!(report.unbound_packets, 0);
    }
    site.until_metric("weir_participants", 3.0).await;
    let metrics = site.metrics().await;
    assert_eq!(metrics.get("weir_conferences"), 1.0);
    assert_eq!(metrics.get("weir_transports"), 3.0);
    for participant in [alice, bob, carol] {
        participant.leave().await;
    }
    site.until_empty().await;
    site.stop(vec![]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_works_over_ipv6() {
    let site = Site::start(1, "[::1]:0").await;
    let call = site.call().await;
    let alice = site.join(&call, "alice", SMALL).await;
    let bob = site.join(&call, "bob", SMALL).await;
    until_media_flows(&[&alice, &bob]).await;
    site.assert_undisturbed(&alice);
    site.assert_undisturbed(&bob);
    site.stop(vec![alice, bob]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_conferences_are_placed_on_two_shards_and_do_not_mix() {
    let site = Site::start(2, V4).await;
    let (red, blue) = (site.call().await, site.call().await);
    let alice = site.join(&red, "alice", SMALL).await;
    until("alice is connected", || alice.report().connected).await;
    let carol = site.join(&blue, "carol", SMALL).await;
    let bob = site.join(&red, "bob", SMALL).await;
    let dave = site.join(&blue, "dave", SMALL).await;
    until_media_flows(&[&alice, &bob]).await;
    until_media_flows(&[&carol, &dave]).await;
    for participant in [&alice, &bob, &carol, &dave] {
        let report = participant.report();
        site.assert_undisturbed(participant);
        assert_eq!(report.streams.len(), 2, "nobody of the other conference");
    }
    for shard in [0, 1] {
        let forwarded = format!("weir_shard_rtp_forwarded_total{{shard=\"{shard}\"}}");
        site.until_metric(&forwarded, 200.0).await;
    }
    site.stop(vec![alice, bob, carol, dave]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_changes_between_three_layers_break_no_rule() {
    let site = Site::start(1, V4).await;
    let call = site.call().await;
    let viewer = site.join(&call, "alice", SMALL).await;
    let sender = site.join(&call, "bob", SMALL).await;
    until_media_flows(&[&viewer, &sender]).await;
    let before = video_of(&viewer, "@bob:localhost").unwrap();
    let sizes = [LARGE, MEDIUM, LARGE, SMALL, MEDIUM, SMALL];
    for size in sizes.iter().cycle().take(20) {
        viewer.set_wanted(Some(*size));
        until(&format!("pictures of {} lines", size.height), || {
            let video = video_of(&viewer, "@bob:localhost").and_then(|stream| stream.video);
            video.is_some_and(|video| video.height == size.height)
        })
        .await;
    }
    let after = video_of(&viewer, "@bob:localhost").unwrap();
    site.assert_undisturbed(&viewer);
    assert_eq!((after.ssrc, after.mid), (before.ssrc, before.mid));
    let (before, after) = (before.video.unwrap(), after.video.unwrap());
    assert_eq!(after.size_changes - before.size_changes, 20);
    assert_eq!(
        viewer.report().negotiations,
        1,
        "sizes change without a description"
    );
    let switches = "weir_shard_switches_total{shard=\"0\"}";
    site.until_metric(switches, 20.0).await;
    site.stop(vec![viewer, sender]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mute_flags_reach_the_others() {
    let site = Site::start(1, V4).await;
    let call = site.call().await;
    let alice = site.join(&call, "alice", SMALL).await;
    until("alice is connected", || alice.report().connected).await;
    let mut observer = Caller::member(&site, &call, "bob").await;
    let mut line = observer.call("observer").await;
    let mut flags = async |what: &str, audio: bool, video: bool| {
        line.listen(what, |said| match said {
            FromFocus::Metadata(streams) => streams
                .values()
                .any(|stream| {
                    stream.user_id == "@alice:localhost"
                        && (stream.audio_muted, stream.video_muted) == (audio, video)
                })
                .then_some(()),
            _ => None,
        })
        .await;
    };
    flags("nothing is muted at first", false, false).await;
    alice.set_muted(Kind::Audio, true);
    flags("the microphone is off", true, false).await;
    alice.set_muted(Kind::Video, true);
    flags("the camera is off, too", true, true).await;
    alice.set_muted(Kind::Audio, false);
    flags("the microphone is on", false, true).await;
    alice.set_muted(Kind::Video, false);
    flags("all is on", false, false).await;
    site.stop(vec![alice]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_gone_and_who_comes_back_is_seen_again() {
    let site = Site::start(1, V4).await;
    let call = site.call().await;
    let alice = site.join(&call, "alice", SMALL).await;
    let bob = site.join(&call, "bob", SMALL).await;
    let carol = site.join(&call, "carol", SMALL).await;
    until_media_flows(&[&alice, &bob, &carol]).await;
    for _ in 0..2 {
        let bob = site.join(&call, "bob2", SMALL).await;
        until_media_flows(&[&alice, &bob, &carol]).await;
        bob.leave().await;
        until("the others see that he is gone", || {
            let sees = |report: Report| stream(&report, "@bob2:localhost", Kind::Video).is_some();
            !sees(alice.report()) && !sees(carol.report())
        })
        .await;
    }
    until_some("only three are left", async || {
        (site.metrics().await.get("weir_participants") == 3.0).then_some(())
    })
    .await;
    until_media_flows(&[&alice, &bob, &carol]).await;
    for participant in [&alice, &bob, &carol] {
        site.assert_undisturbed(participant);
    }
    site.stop(vec![alice, bob, carol]).await;
}

fn video_of(viewer: &Participant, sender: &str) -> Option<weir_client::StreamReport> {
    stream(&viewer.report(), sender, Kind::Video)
}
