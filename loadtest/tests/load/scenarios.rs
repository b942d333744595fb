//! Each scenario: it passes, and what it is about really happened.

use super::{Ran, run, turn};

fn sum(ran: &Ran, kind: &str, member: &str) -> f64 {
    let streams = ran.streams(kind);
    let values = streams.iter().filter_map(|stream| stream[member].as_f64());
    values.sum()
}

#[test]
fn conference() {
    let _turn = turn();
    let ran = run(&[
        "conference",
        "--participants",
        "3",
        "--seconds",
        "3",
        "--full-share",
        "0.5",
    ])
    .passed();
    assert_eq!(ran.number("/joins/connected"), 3.0);
    assert_eq!(
        (sum(&ran, "video", "streams"), sum(&ran, "audio", "streams")),
        (6.0, 6.0)
    );
    assert!(
        sum(&ran, "video", "frames") > 100.0,
        "{:#}",
        ran.json["streams"]
    );
    assert!(
        sum(&ran, "video", "decoded") > 0.0,
        "{:#}",
        ran.json["streams"]
    );
    assert!(ran.stdout.contains("passed"), "{}", ran.stdout);
}

#[test]
fn lecture_with_light_viewers() {
    let _turn = turn();
    let ran = run(&[
        "lecture",
        "--subscribers",
        "12",
        "--seconds",
        "4",
        "--layers",
        "hq",
        "--full-share",
        "0.1",
    ])
    .passed();
    assert_eq!(ran.number("/joins/connected"), 13.0);
    let light: Vec<_> = ran.json["participants"]
        .as_array()
        .expect("participants")
        .iter()
        .filter(|participant| participant["checks"] == "light" && participant["streams"] == 2)
        .collect();
    assert_eq!(light.len(), 10);
    // 50 packets of sound a second alone, most of which they only count.
    let few = light
        .iter()
        .filter(|viewer| viewer["packets"].as_u64() < Some(200))
        .count();
    assert_eq!(few, 0, "{light:#?}");
    // The focus was looked at from outside.
    assert!(ran.number("/focus/cpu_mean") > 0.0 && ran.number("/focus/rss_after_kib") > 1000.0);
    assert!(ran.number("/focus/memory/kib_per_participant") > 0.0);
    assert!(
        ran.number("/focus/packets_per_second") > 500.0,
        "{:#}",
        ran.json["focus"]
    );
}

#[test]
fn audio_room() {
    let _turn = turn();
    let ran = run(&["audio-room", "--participants", "4", "--seconds", "2"]).passed();
    assert_eq!(
        (ran.streams("video").len(), sum(&ran, "audio", "streams")),
        (0, 12.0)
    );
}

#[test]
fn churn() {
    let _turn = turn();
    let arguments = [
        "churn",
        "--participants",
        "6",
        "--seconds",
        "5",
        "--join-rate",
        "2",
    ];
    let ran = run(&arguments).passed();
    // Two stay, two of four are there at first, and ten come while it is measured.
    assert_eq!(ran.number("/joins/attempted"), 14.0);
    assert_eq!(ran.number("/joins/connected"), 14.0);
}

#[test]
fn switching() {
    let _turn = turn();
    let arguments = [
        "switching",
        "--subscribers",
        "2",
        "--publishers",
        "1",
        "--seconds",
        "5",
        "--change-rate",
        "2",
        "--full-share",
        "1",
    ];
    let ran = run(&arguments).passed();
    assert!(
        sum(&ran, "video", "frames") > 50.0,
        "{:#}",
        ran.json["streams"]
    );
}

#[test]
fn an_encrypted_conference_changes_keys_while_people_come_and_go() {
    let _turn = turn();
    let arguments = [
        "churn",
        "--participants",
        "4",
        "--seconds",
        "5",
        "--join-rate",
        "1",
        "--full-share",
        "1",
        "--encrypt",
    ];
    let ran = run(&arguments).passed();
    let of = |pointer: &str| ran.number(&format!("/encryption/{pointer}"));
    assert!(of("received/decrypted") > 1000.0, "{}", ran.stdout);
    assert!(of("sent/switches") > 0.0, "{}", ran.stdout);
    let refused = ["wrong_key", "replayed", "malformed", "keys_refused"];
    for counter in refused {
        assert_eq!(of(&format!("received/{counter}")), 0.0, "{counter}");
    }
    assert_eq!(sum(&ran, "video", "unreadable"), 0.0);
    assert!(ran.stdout.contains("media encryption"), "{}", ran.stdout);
}

#[test]
fn lossy_breaks_no_rule() {
    let _turn = turn();
    let arguments = [
        "lossy",
        "--participants",
        "2",
        "--seconds",
        "6",
        "--network",
        "loss=5%, delay=10ms",
    ];
    let ran = run(&arguments).passed();
    assert_eq!(ran.json["violations"].as_array().map(Vec::len), Some(0));
    for way in ["up", "down"] {
        let (received, lost) = (
            ran.number(&format!("/network/{way}/received")),
            ran.number(&format!("/network/{way}/lost")),
        );
        let share = lost / received;
        assert!((0.02..0.10).contains(&share), "{way}: {lost} of {received}");
    }
    assert!(
        sum(&ran, "video", "nacks") > 0.0,
        "{:#}",
        ran.json["streams"]
    );
}

#[test]
fn rooms() {
    let _turn = turn();
    let ran = run(&[
        "rooms",
        "--rooms",
        "2",
        "--participants",
        "2",
        "--seconds",
        "2",
    ])
    .passed();
    assert_eq!(
        (sum(&ran, "video", "streams"), sum(&ran, "audio", "streams")),
        (4.0, 4.0)
    );
}

#[test]
fn ramp_ends_at_a_criterion_and_says_which() {
    let _turn = turn();
    // No focus carries anybody with so little of a core.
    let arguments = [
        "ramp",
        "--subscribers",
        "6",
        "--step",
        "2",
        "--seconds",
        "2",
        "--max-focus-thread",
        "0.0001",
    ];
    let ran = run(&arguments).passed();
    assert_eq!(ran.json["steps"].as_array().map(Vec::len), Some(1));
    assert_eq!(ran.number("/capacity/subscribers"), 0.0);
    let failed = ran.json["steps"][0]["failed"].to_string();
    assert!(failed.contains("a thread of the focus uses"), "{failed}");
}

#[test]
fn ramp_goes_on_to_its_end_while_every_criterion_holds() {
    let _turn = turn();
    // Whatever this machine is at, these hold.
    let arguments = [
        "ramp",
        "--subscribers",
        "4",
        "--step",
        "2",
        "--seconds",
        "2",
        "--max-delay-ms",
        "60000",
        "--max-focus-thread",
        "64",
        "--max-loss",
        "100",
    ];
    let ran = run(&arguments);
    let steps = ran.json["steps"].as_array().cloned().unwrap_or_default();
    // Only the generator itself may be too slow here, and then that is what has to be said.
    let slow = |step: &serde_json::Value| {
        step["generator"]
            .as_array()
            .is_some_and(|reasons| !reasons.is_empty())
    };
    if steps.iter().any(slow) {
        assert!(
            matches!(
                ran.json["capacity"]["limit"].as_str(),
                Some("generator" | "machine")
            ),
            "{}",
            ran.stdout
        );
        return;
    }
    let ran = ran.passed();
    assert_eq!(
        (
            ran.number("/steps/0/subscribers"),
            ran.number("/steps/1/subscribers")
        ),
        (2.0, 4.0)
    );
    assert_eq!(ran.number("/capacity/subscribers"), 4.0);
    assert_eq!(
        (
            &ran.json["capacity"]["limit"],
            &ran.json["capacity"]["is_lower_bound"]
        ),
        (&"none".into(), &true.into())
    );
}
