//! Light participants beside a full one, with a real focus: they see how their streams start, then the kernel drops media and counts
//! it, and what they counted is what was sent.

#[allow(dead_code)]
#[path = "system/site.rs"]
mod site;

use std::time::Duration;

use site::{PASSWORD, SMALL, Site, until_some};
use weir_client::{CheckedHow, Checks, JoinConfig, Participant, Publish, StreamReport};

const LIGHT: usize = 12;

fn packets(stream: &StreamReport) -> u64 {
    stream.sample.as_ref().map_or(0, |sample| sample.expected)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn light_participants_count_what_they_do_not_look_at() {
    let site = Site::start(1, "127.0.0.1:0").await;
    let call = site.call().await;
    let config = |user: &str| {
        JoinConfig::new(&site.homeserver.url(), user, PASSWORD, site.focus_address())
            .in_call(&call.room_id, &call.conf_id)
    };
    let publisher = JoinConfig {
        wanted: None,
        ..config("publisher")
    };
    let mut everyone = vec![Participant::join(publisher).await.unwrap()];
    for index in 0..LIGHT {
        let light = JoinConfig {
            publish: Publish::NOTHING,
            wanted: Some(SMALL),
            checks: Checks::Light,
            seed: Some(index as u64),
            ..config(&format!("light{index}"))
        };
        everyone.push(Participant::join(light).await.unwrap());
    }
    for participant in &everyone[1..] {
        until_some("media is sampled", async || {
            let report = participant.snapshot();
            let sampled = report.streams.iter().all(|stream| packets(stream) > 64);
            (report.streams.len() == 2 && sampled).then_some(())
        })
        .await;
    }
    let before: Vec<_> = everyone.iter().map(Participant::snapshot).collect();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let after: Vec<_> = everyone.iter().map(Participant::snapshot).collect();
    let publisher = &after[0].user_id;
    for (before, after) in before.iter().zip(&after).skip(1) {
        assert_eq!(
            (after.checks, after.invites, after.unbound_packets),
            (CheckedHow::Light, 1, 0)
        );
        let transport = &after.transport;
        assert_eq!(
            (transport.overflowed, transport.unauthenticated),
            (0, 0),
            "{transport:?}"
        );
        assert!(
            after.latencies.first_frame_ms.is_some(),
            "the start is looked at in full"
        );
        let looked_at = transport.rtp_packets - before.transport.rtp_packets;
        let filtered = transport.filtered - before.transport.filtered;
        assert!(
            filtered > 5 * looked_at,
            "{looked_at} looked at, {filtered} dropped"
        );
        for stream in &after.streams {
            assert_eq!(
                (stream.violations.as_slice(), &stream.user_id),
                (&[][..], publisher)
            );
            assert!(stream.delay.count() > 0, "{:?} has delays", stream.kind);
        }
        // By the numbers of the sample as many were sent, up to what lies beyond the two samples at the ends.
        let sum = |report: &weir_client::Report| report.streams.iter().map(packets).sum::<u64>();
        let sent = sum(after) - sum(before);
        let arrived = transport.rtp_arrived() - before.transport.rtp_arrived();
        assert!(
            sent.abs_diff(arrived) < 400,
            "{sent} sent, {arrived} arrived"
        );
    }
    site.stop(everyone).await;
}
