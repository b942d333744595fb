//! A short run of each part on loopback: what arrives is right, and every figure is there. Nothing is said about speed.

use std::process::Command;

use serde_json::Value;

fn run(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_weir-bench"))
        .args(arguments)
        .args(["--json", "-"])
        .output()
        .expect("weir-bench starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

fn number(of: &Value, name: &str) -> f64 {
    of[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} in {of}"))
}

const SHORT: [&str; 6] = [
    "--network",
    "loopback",
    "--seconds",
    "1",
    "--warm-up",
    "0.3",
];

/// The program itself checks that each subscriber gets every packet, and that what is read decrypts and goes on.
#[test]
fn everybody_gets_a_camera_at_its_pace() {
    let report = run(&[&["fanout", "--subscribers", "3"], &SHORT[..]].concat());
    let fanout = &report["fanout"][0];
    let (packets_in, packets) = (
        number(fanout, "packets_in_per_second"),
        number(fanout, "packets_per_second"),
    );
    assert!(packets_in > 50.0, "a camera has some 190: {packets_in}");
    let times = packets / packets_in;
    assert!((2.5..3.5).contains(&times), "forwarded {times} times");
    assert!(number(fanout, "segments_per_send") >= 1.0);
    for name in ["ns_per_packet", "floor_ns", "ratio", "busy"] {
        assert!(number(fanout, name) > 0.0, "{name} in {fanout}");
    }
    let delays: Vec<f64> = (0..4)
        .filter_map(|at| fanout["delay_us"][at].as_f64())
        .collect();
    assert!(
        delays.len() == 4 && delays.is_sorted() && delays[0] > 0.0,
        "{delays:?}"
    );
}

#[test]
fn everybody_gets_a_voice_as_fast_as_it_goes() {
    let short = [
        "--medium",
        "microphone",
        "--profile",
        "aes256-gcm",
        "--saturate",
    ];
    let report = run(&[&["fanout", "--subscribers", "5"], &short[..], &SHORT[..]].concat());
    let fanout = &report["fanout"][0];
    assert_eq!(
        number(fanout, "segments_per_send"),
        1.0,
        "one packet a frame"
    );
    assert!(number(fanout, "packets_per_second") > 0.0);
}

#[test]
fn the_kernel_alone_sends_what_it_is_told_to() {
    let report = run(&[
        &["floor", "--subscribers", "3", "--segments", "1,4"],
        &SHORT[..],
    ]
    .concat());
    let floors = report["floor"].as_array().expect("floors");
    assert_eq!(floors.len(), 2);
    assert!(floors.iter().all(|of| number(of, "ns_per_packet") > 0.0));
}

#[test]
fn every_step_is_timed() {
    let report = run(&["micro", "--samples", "1"]);
    let steps = report["micro"].as_array().expect("steps");
    for name in ["parse", "unprotect", "seal", "route", "rewrite"] {
        let has = |of: &&Value| of["name"].as_str().is_some_and(|of| of.contains(name));
        assert!(steps.iter().any(|of| has(&of)), "{name}");
    }
}

#[test]
fn says_what_cannot_be_measured() {
    for (arguments, said) in [
        (["fanout", "--subscribers", "0"], "--subscribers 0"),
        (["fanout", "--subscribers", "5000"], "--subscribers 5000"),
        (["fanout", "--seconds", "60"], "--seconds 60"),
        (["floor", "--segments", "65"], "--segments 65"),
        (["fanout", "--core", "900"], "--core 900"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_weir-bench"))
            .args(arguments)
            .output()
            .expect("weir-bench starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}
