//! The files that a run writes.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Scratch, command, run, turn};

/// Members of the schema by pointer, and their type. `docs/loadtest.md` describes them; who takes one away needs a new version.
const MEMBERS: &[(&str, &str)] = &[
    ("/schema", "string"),
    ("/version", "string"),
    ("/passed", "boolean"),
    ("/failures", "array"),
    ("/remarks", "array"),
    ("/conditions/started_unix_s", "number"),
    ("/conditions/command", "string"),
    ("/conditions/settings/scenario", "string"),
    ("/conditions/settings/participants", "number"),
    ("/conditions/settings/seed", "number"),
    ("/conditions/layers/0/rid", "string"),
    ("/conditions/layers/0/kbps", "number"),
    ("/conditions/machine/cores", "number"),
    ("/conditions/measured_s", "number"),
    ("/joins/attempted", "number"),
    ("/joins/connected", "number"),
    ("/joins/failed", "number"),
    ("/joins/dropped", "number"),
    ("/joins/reasons", "object"),
    ("/joins/matrix_ms/p50", "number"),
    ("/joins/answer_ms/p95", "number"),
    ("/joins/connected_ms/max", "number"),
    ("/joins/first_frame_ms/count", "number"),
    ("/streams/0/kind", "string"),
    ("/streams/0/checks", "string"),
    ("/streams/0/streams", "number"),
    ("/streams/0/silent", "number"),
    ("/streams/0/packets", "number"),
    ("/streams/0/lost", "number"),
    ("/streams/0/resent", "number"),
    ("/streams/0/delay_ms/p99", "number"),
    ("/streams/0/longest_gap_ms", "number"),
    ("/violations", "array"),
    ("/focus/process", "boolean"),
    ("/focus/cpu_mean", "number"),
    ("/focus/cpu_by_thread/weir-shard-0", "number"),
    ("/focus/rss_before_kib", "number"),
    ("/focus/rss_after_kib", "number"),
    ("/focus/memory/kib_per_participant", "number"),
    ("/focus/memory/kib_per_stream", "number"),
    ("/focus/cpu_ns_per_packet", "number"),
    ("/focus/metrics", "object"),
    ("/generator/cpu_mean", "number"),
    ("/generator/lag_ms/p99", "number"),
    ("/generator/late_percent", "number"),
    ("/generator/is_bottleneck", "boolean"),
    ("/generator/reasons", "array"),
    ("/steps", "array"),
    ("/samples/0/at_s", "number"),
    ("/samples/0/participants", "number"),
    ("/samples/0/focus_cpu", "number"),
    ("/samples/0/focus_rss_kib", "number"),
    ("/samples/0/generator_cpu", "number"),
    ("/samples/0/packets", "number"),
    ("/participants/0/user", "string"),
    ("/participants/0/connected_ms", "number"),
];

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[test]
fn json_has_the_members_of_its_schema_and_the_page_is_whole() {
    let _turn = turn();
    let ran = run(&["conference", "--participants", "2", "--seconds", "3"]).passed();
    assert_eq!(ran.json["schema"], "weir-loadtest/1");
    let wrong: Vec<_> = MEMBERS
        .iter()
        .map(|(pointer, expected)| (pointer, expected, ran.json.pointer(pointer)))
        .filter(|(_, expected, value)| value.map(type_of) != Some(**expected))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{:#}", ran.json);
    // A sample a second, while they joined and while it was measured.
    let samples = ran.json["samples"].as_array().expect("samples");
    let measured = samples
        .iter()
        .filter(|sample| sample["measured"] == true)
        .count();
    assert!((2..=4).contains(&measured), "{measured}");
    assert!(ran.html.starts_with("<!doctype html>") && ran.html.ends_with("</html>\n"));
    assert!(ran.html.matches("<svg").count() >= 5, "drawings");
    assert!(
        !ran.html.contains("http://") || !ran.html.contains("src="),
        "it loads nothing"
    );
}

#[test]
fn an_interrupt_ends_the_run_in_order_and_says_so() {
    let _turn = turn();
    let scratch = Scratch::new();
    let json = scratch.file("report.json");
    let child = measuring(&["audio-room", "--participants", "2", "--json", &json]);
    let id = child.id();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &id.to_string()])
        .status();
    assert!(killed.is_ok_and(|status| status.success()));
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("interrupted"), "{text}");
    let report = std::fs::read_to_string(&json).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(report["joins"]["connected"], 2);
}

#[test]
fn a_focus_ends_with_a_load_tester_that_is_killed() {
    let _turn = turn();
    let mut child = measuring(&["audio-room", "--participants", "2"]);
    let id = child.id();
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).expect("threads");
    let children = threads.filter_map(Result::ok).filter_map(|thread| {
        let children = std::fs::read_to_string(thread.path().join("children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    });
    let foci: Vec<u32> = children.collect();
    assert_eq!(foci.len(), 1, "{foci:?}");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    // Whoever adopts it may take its time to bury it.
    let lives = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", foci[0]));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    let killed = Instant::now();
    while lives() {
        assert!(killed.elapsed() < Duration::from_secs(10), "{foci:?} lives");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A run that goes on for ten minutes if nobody ends it, and that measures by now: it has a focus and participants.
fn measuring(arguments: &[&str]) -> Child {
    let run = [&["run"], arguments, &["--seconds", "600"]].concat();
    let mut child = command(&run)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let started = Instant::now();
    let stderr = child.stderr.take().expect("a pipe");
    let lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    for line in lines.map_while(Result::ok) {
        assert!(started.elapsed() < Duration::from_secs(60), "{line}");
        if line.contains("measuring") {
            break;
        }
    }
    child
}
