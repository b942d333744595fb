//! Short runs against real servers: what arrives is right, every figure is there. Nothing is said about speed.
//!
//! Needs `janus` on the PATH (Debian package `janus`; `tests/run` installs it), and either the rights to make a network namespace or an
//! address besides loopback. LiveKit takes part if `livekit-server` is on the PATH.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// All servers would have the same core.
static CORE: Mutex<()> = Mutex::new(());

fn run(name: &str, arguments: &[&str]) -> (Output, Option<Value>, String) {
    let _alone = CORE.lock().unwrap_or_else(PoisonError::into_inner);
    let file = |extension: &str| {
        let name = format!("weir-peers-{}-{name}.{extension}", std::process::id());
        std::env::temp_dir().join(name)
    };
    let (json, markdown) = (file("json"), file("md"));
    let output = Command::new(env!("CARGO_BIN_EXE_weir-peers"))
        .args(arguments)
        .args(["--rounds", "1", "--seconds", "2", "--subscribers", "3"])
        .arg("--json")
        .arg(&json)
        .arg("--markdown")
        .arg(&markdown)
        .output()
        .expect("weir-peers starts");
    let take = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // A run that found nothing has left nothing.
        let _ = std::fs::remove_file(path);
        text
    };
    let report = serde_json::from_str(&take(&json)).ok();
    (output, report, take(&markdown))
}

fn has_janus() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("janus").is_file())
}

/// Whether the generator kept up; how much arrived and when means nothing otherwise, and the run says so.
fn check(server: &Value) -> bool {
    let name = &server["server"];
    let round = &server["rounds"][0];
    assert_eq!(round["failure"], Value::Null, "{name}");
    let figures = &round["figures"];
    let number = |key: &str| {
        let value = figures[key].as_f64();
        value.unwrap_or_else(|| panic!("{name}: {key} in {figures}"))
    };
    for key in ["packets", "published", "ns_per_packet", "core"] {
        assert!(number(key) > 0.0, "{name}: {key}");
    }
    let delay = |key: &str, of: &str| figures[key][of].as_f64().expect("a delay");
    for key in ["frame_delay_ms", "sound_delay_ms"] {
        let (p50, p99) = (delay(key, "p50"), delay(key, "p99"));
        assert!(p50 > 0.0 && p50 <= p99, "{name}: {key}");
    }
    let kept_up = figures["generator"] == serde_json::json!([]);
    if kept_up {
        let (packets, published) = (number("packets"), number("published"));
        let a_second = published / number("seconds");
        assert!(
            a_second > 150.0,
            "{name}: camera and microphone: {a_second}"
        );
        let times = packets / published;
        assert!(
            (2.5..3.5).contains(&times),
            "{name}: sent {times} times to three"
        );
        assert!(delay("sound_delay_ms", "p50") < 500.0, "{name}: {figures}");
    } else {
        eprintln!(
            "{name}: this machine was too slow: {}",
            figures["generator"]
        );
    }
    kept_up
}

#[test]
fn weir_and_janus_carry_the_same_load() {
    if !has_janus() {
        eprintln!("not run: `janus` is not on the PATH; apt install janus");
        return;
    }
    let (output, report, markdown) = run("all", &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    let report = report.unwrap_or_else(|| panic!("no report: {said}"));
    let servers = report["servers"].as_array().expect("servers");
    let names: Vec<_> = servers.iter().map(|of| of["server"].as_str()).collect();
    assert!(
        names.starts_with(&[Some("weir"), Some("janus")]),
        "{names:?}"
    );
    let kept_up = servers.iter().filter(|server| check(server)).count() == servers.len();
    let broken = &servers[0]["rounds"][0]["figures"]["violations"];
    if kept_up {
        assert_eq!(broken, &serde_json::json!({}), "rules that Weir broke");
    }
    let code = if kept_up { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{said}");
    for text in [" Weir 0.", " Janus 1.", "ns/packet"] {
        assert!(markdown.contains(text), "{text} in {markdown}");
    }
}

#[test]
fn weir_alone_is_measured_and_is_no_comparison() {
    let (output, report, _) = run("weir", &["--only", "weir"]);
    let said = String::from_utf8_lossy(&output.stderr);
    let report = report.unwrap_or_else(|| panic!("no report: {said}"));
    check(&report["servers"][0]);
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn a_server_that_does_not_start_is_quoted() {
    let (output, report, _) = run("broken", &["--only", "livekit", "--livekit", "/bin/false"]);
    let report = report.expect("a report");
    let failure = report["servers"][0]["rounds"][0]["failure"].as_str();
    let failure = failure.expect("a failure");
    assert!(
        failure.starts_with("it did not start: exit status: 1"),
        "{failure}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_cannot_be_measured_is_told_before_anything_starts() {
    for (arguments, said) in [
        (
            ["--janus", "/nowhere/janus"],
            "/nowhere/janus does not exist",
        ),
        (["--core", "900"], "--core 900"),
    ] {
        let (output, _, _) = run("wrong", &arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(said), "{error}");
    }
}
