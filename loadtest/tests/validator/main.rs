//! What the validator of the synthetic participants catches: a real focus, a real publisher, and participants for each of whom one rule
//! is broken between decryption and the checks, as a focus that is wrong in this one thing would break it. The validator must name
//! that rule, the stream and the time, and nothing else; and nothing at all where nothing is broken.
//!
//! All of them are in one call, which is made once for all tests of the file.

#[allow(dead_code)]
#[path = "../system/site.rs"]
mod site;
mod tampers;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use site::{PASSWORD, Site, until_some};
use tampers::{Sabotage, sabotages};
use weir_client::{
    Checks, JoinConfig, Kind, Participant, Publish, Report, Size, TransportFeedback, Violation,
};

/// The longest of the sabotages takes seven seconds to be noticed.
const LISTEN: Duration = Duration::from_secs(12);
const SMALL: Size = Size {
    width: 320,
    height: 180,
};
const MEDIUM: Size = Size {
    width: 640,
    height: 360,
};

/// What each participant reported at the end, by the name of its sabotage, and when the call began and ended.
struct Outcome {
    reports: BTreeMap<&'static str, Report>,
    began_ms: u64,
    ended_ms: u64,
}

static OUTCOME: LazyLock<Outcome> = LazyLock::new(|| {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(run())
});

async fn run() -> Outcome {
    let site = Site::start(1, "127.0.0.1:0").await;
    let call = site.call().await;
    let config = |user: &str| {
        JoinConfig::new(&site.homeserver.url(), user, PASSWORD, site.focus_address())
            .in_call(&call.room_id, &call.conf_id)
    };
    let began_ms = unix_ms();
    let publisher = Participant::join(JoinConfig {
        wanted: None,
        ..config("publisher")
    });
    let publisher = publisher.await.unwrap();
    until_some("the publisher is connected", async || {
        publisher.snapshot().connected.then_some(())
    })
    .await;
    let mut participants = BTreeMap::new();
    for sabotage in sabotages() {
        let Sabotage {
            name,
            tamper,
            layer,
            decode,
            ..
        } = sabotage;
        let wanted = if layer == "q" { SMALL } else { MEDIUM };
        let config = JoinConfig {
            publish: Publish::NOTHING,
            wanted: Some(wanted),
            checks: Checks::Full { decode },
            transport_feedback: match name {
                "feedback_sent" => TransportFeedback::Sent,
                _ => TransportFeedback::None,
            },
            tamper,
            ..config(name)
        };
        participants.insert(name, Participant::join(config).await.unwrap());
    }
    for (name, participant) in &participants {
        until_some(&format!("packets for {name}"), async || {
            let report = participant.snapshot();
            let flows = report
                .streams
                .iter()
                .filter(|stream| stream.packets > 0)
                .count();
            (flows == 2).then_some(())
        })
        .await;
    }
    tokio::time::sleep(LISTEN / 2).await;
    // A change of layers, for those who have something against it.
    for name in ["switch_without_keyframe", "nothing_broken"] {
        participants[name].set_wanted(Some(MEDIUM));
    }
    tokio::time::sleep(LISTEN / 2).await;
    let reports = participants
        .iter()
        .map(|(name, participant)| (*name, participant.report()))
        .collect();
    let ended_ms = unix_ms();
    let everyone = participants.into_values().chain([publisher]).collect();
    site.stop(everyone).await;
    Outcome {
        reports,
        began_ms,
        ended_ms,
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// The validator must have named exactly this, on the stream of this kind, at a time within the call.
fn assert_caught(name: &str, kind: Kind, expected: Violation) {
    let outcome = &*OUTCOME;
    let report = &outcome.reports[name];
    let violations: Vec<_> = report
        .streams
        .iter()
        .flat_map(|stream| stream.violations.iter().map(move |broken| (stream, broken)))
        .collect();
    let named: Vec<_> = violations
        .iter()
        .map(|(stream, broken)| (stream.kind, broken.violation))
        .collect();
    assert_eq!(named, [(kind, expected)], "{violations:#?}");
    let (stream, broken) = violations[0];
    assert_eq!(stream.user_id, "@publisher:localhost");
    assert!(broken.count >= 1 && !broken.first.is_empty());
    let times = (broken.first_at_ms, broken.last_at_ms);
    assert!(
        outcome.began_ms < times.0 && times.0 <= times.1 && times.1 < outcome.ended_ms,
        "{times:?} is not within {} and {}",
        outcome.began_ms,
        outcome.ended_ms
    );
    assert_eq!(report.unbound_packets, 0);
}

#[test]
fn nothing_is_named_where_nothing_is_broken() {
    for name in ["nothing_broken", "packets_lost", "feedback_sent"] {
        let report = &OUTCOME.reports[name];
        for stream in &report.streams {
            assert_eq!(stream.violations, [], "{name}");
        }
        assert_eq!((report.unbound_packets, report.invites), (0, 1), "{name}");
    }
}

#[test]
fn losses_are_repaired_by_retransmissions() {
    let report = &OUTCOME.reports["packets_lost"];
    let video = report
        .streams
        .iter()
        .find(|of| of.kind == Kind::Video)
        .unwrap();
    let rtx = video.rtx.as_ref().expect("RTX is negotiated");
    assert!(rtx.repaired >= 5, "{rtx:?}");
    assert!(video.video.as_ref().unwrap().nacks >= 5);
}

#[test]
fn transport_wide_feedback_goes_out_ten_times_a_second() {
    let sent = |name| OUTCOME.reports[name].transport.feedbacks_sent;
    assert!(sent("feedback_sent") >= 50, "{}", sent("feedback_sent"));
    assert_eq!(sent("nothing_broken"), 0);
}

#[test]
fn every_frame_is_recognised_and_has_a_delay() {
    let report = &OUTCOME.reports["nothing_broken"];
    let video = report
        .streams
        .iter()
        .find(|of| of.kind == Kind::Video)
        .unwrap();
    let counts = video.video.as_ref().unwrap();
    assert_eq!((counts.recognised, counts.switches), (counts.frames, 1));
    assert_eq!(video.delay_by, Some(weir_client::DelayBy::Schedule));
    assert_eq!(video.delay.count(), counts.frames);
    assert!(counts.decoded > 0 && counts.decoded == counts.numbered);
    let latencies = report.latencies;
    let steps = [
        latencies.answer_ms,
        latencies.ice_ms,
        latencies.connected_ms,
        latencies.channel_ms,
        latencies.first_packet_ms,
        latencies.first_frame_ms,
    ];
    let steps: Vec<_> = steps
        .iter()
        .map(|step| step.expect("every step was made"))
        .collect();
    assert!(steps.is_sorted(), "{latencies:?}");
}

macro_rules! catches {
    ($($name:ident: $kind:ident $violation:ident,)*) => {
        $(
            #[test]
            fn $name() {
                assert_caught(stringify!($name), Kind::$kind, Violation::$violation);
            }
        )*

        #[test]
        fn every_sabotage_has_its_test() {
            let mut tested = vec!["nothing_broken", "packets_lost", "feedback_sent", $(stringify!($name)),*];
            let mut all: Vec<_> = sabotages().iter().map(|sabotage| sabotage.name).collect();
            (tested.sort(), all.sort());
            assert_eq!(tested, all);
        }
    };
}

catches! {
    picture_id_not_rewritten: Video PictureIdGap,
    picture_id_of_another_width: Video PictureIdWidth,
    tl0_index_not_rewritten: Video Tl0Gap,
    key_index_not_rewritten: Video KeyIndexGap,
    descriptor_cut_short: Video DescriptorInvalid,
    ssrc_changes: Video SsrcChanged,
    number_used_twice: Video NumberUsedTwice,
    time_goes_back: Audio TimestampBack,
    time_jumps: Audio TimestampJump,
    numbers_jump: Audio SequenceJump,
    payload_type_of_the_publisher: Audio PayloadTypeUnknown,
    extension_of_the_publisher: Audio ExtensionLeaked,
    audio_left_out: Audio AudioGap,
    begins_in_the_middle: Video NoKeyframeFirst,
    switch_without_keyframe: Video SwitchWithoutKeyframe,
    end_of_a_frame_left_out: Video FrameIncomplete,
    never_repaired: Video NotRepaired,
    not_decodable: Video Undecodable,
    pictures_and_time_part: Video NumberJump,
    another_content: Video ContentChanged,
    rtx_of_another_number: Video RtxNumberWrong,
    rtx_with_another_content: Video RtxContentWrong,
    rtx_numbers_jump: Video RtxSequenceJump,
    rtx_cut_short: Video RtxMalformed,
}
