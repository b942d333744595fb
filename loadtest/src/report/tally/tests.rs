use weir_client::{TransportReport, Violation, ViolationCount};

use super::*;

fn visit(report: Report) -> Visit {
    Visit {
        user: "load1".into(),
        at_s: 1.0,
        checks: Depth::Full,
        dialect: Dialect::Late,
        expected: Some((1, 1)),
        failure: None,
        report: Some(report),
    }
}

fn video(packets: u64) -> StreamReport {
    StreamReport {
        user_id: "@load2:x".into(),
        kind: Kind::Video,
        live: true,
        packets,
        lost: 3,
        violations: vec![ViolationCount {
            violation: Violation::PictureIdGap,
            count: 2,
            first: "7 after 5".into(),
            first_at_ms: 10_500,
            last_at_ms: 11_000,
        }],
        ..StreamReport::default()
    }
}

#[test]
fn what_is_missing_is_silent_and_what_is_broken_has_its_time() {
    let mut tally = Tally::default();
    tally.attempted();
    let report = Report {
        streams: vec![video(97)],
        ends: vec!["m.call.hangup: x".into()],
        ..Report::default()
    };
    tally.add(&visit(report), 10_000);
    let summaries = tally.streams();
    assert_eq!((summaries[0].kind, summaries[0].silent), (Kind::Video, 0));
    assert_eq!((summaries[1].kind, summaries[1].silent), (Kind::Audio, 1));
    assert!((summaries[0].loss_percent() - 3.0).abs() < 1e-9);
    let (violations, more) = tally.violations();
    assert_eq!((violations[0].at_s, violations[0].count), (0.5, 2));
    assert!(more.is_empty());
    assert_eq!(violations[0].rule, "picture_id_gap");
    let joins = tally.joins();
    assert_eq!((joins.attempted, joins.connected, joins.dropped), (1, 1, 1));
    assert_eq!(joins.reasons["dropped: m.call.hangup: x"], 1);
}

#[test]
fn lists_are_bounded_and_the_rest_is_counted() {
    let mut tally = Tally::default();
    for _ in 0..VIOLATIONS_MAX + 3 {
        let report = Report {
            streams: vec![video(1)],
            ..Report::default()
        };
        tally.add(&visit(report), 0);
    }
    let (violations, more) = tally.violations();
    assert_eq!(violations.len(), VIOLATIONS_MAX);
    assert_eq!(more, BTreeMap::from([("picture_id_gap".to_owned(), 6)]));
}

#[test]
fn a_stream_of_which_nothing_was_decrypted_breaks_a_rule() {
    let undecrypted = |recognised| StreamReport {
        user_id: "@load2:x".into(),
        track_id: "t".into(),
        kind: Kind::Audio,
        audio: Some(weir_client::AudioReport {
            recognised,
            ..Default::default()
        }),
        undecrypted: Some(weir_client::UndecryptedReport {
            frames: 5,
            unknown_session: 3,
            before_key: 2,
            first_at_ms: 12_000,
            last_at_ms: 12_080,
            ..Default::default()
        }),
        ..StreamReport::default()
    };
    let mut tally = Tally::default();
    let report = Report {
        user_id: "@load1:x".into(),
        streams: vec![undecrypted(1), undecrypted(0)],
        ..Report::default()
    };
    tally.add(&visit(report), 10_000);
    let (violations, _) = tally.violations();
    assert_eq!(
        violations,
        [ViolationLine {
            at_s: 2.0,
            participant: "@load1:x".into(),
            from: "@load2:x".into(),
            kind: Kind::Audio,
            track: "t".into(),
            rule: "never_decrypted".into(),
            count: 5,
            first: "in 80 ms 3 of an unknown session, 2 from before the shared index, 0 too late"
                .into(),
        }]
    );
    let audio = tally.streams().into_iter();
    let mut audio = audio.filter(|summary| summary.kind == Kind::Audio);
    assert_eq!(audio.next().map(|summary| summary.unreadable), Some(1));
}

#[test]
fn a_light_participant_misses_what_its_numbers_lack() {
    let mut stream = video(130);
    stream.lost = 0;
    stream.sample = Some(weir_client::SampleReport {
        packets: 100,
        expected: 6400,
    });
    let mut report = Report {
        streams: vec![stream],
        transport: TransportReport {
            filtered: 6300,
            ..TransportReport::default()
        },
        ..Report::default()
    };
    assert_eq!(lost(&report), 0);
    report.transport.filtered = 6200;
    assert_eq!(lost(&report), 100);
    report.transport.overflowed = 170;
    assert_eq!(lost(&report), 170);
}

#[test]
fn totals_never_count_backwards() {
    let report = Report {
        connected: true,
        transport: TransportReport {
            received: 100,
            received_bytes: 100_000,
            rtp_packets: 90,
            filtered: 900,
            ..TransportReport::default()
        },
        ..Report::default()
    };
    let mut totals = Totals::default();
    totals.add(&report);
    assert_eq!((totals.packets, totals.bytes), (990, 1_000_000));
    let later = Totals {
        packets: 500,
        ..totals.clone()
    };
    assert_eq!(later.since(&totals).packets, 0);
}
