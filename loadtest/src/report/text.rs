//! The report as text: what is printed at the end, and the words and rows that the HTML shares with it.

use std::fmt::Write as _;

use weir_client::Kind;

use super::{Flatness, Quantiles, RunReport};
use crate::plan::Depth;
use crate::scenario::Scenario;

/// Heads of [`stream_rows`].
pub const STREAM_HEAD: [&str; 12] = [
    "kind",
    "streams",
    "silent",
    "packets",
    "lost",
    "resent",
    "delay p50",
    "p95",
    "p99 ms",
    "longest gap",
    "gaps > 200 ms",
    "frames",
];

/// Heads of [`step_rows`].
pub const STEP_HEAD: [&str; 9] = [
    "viewers",
    "failed joins",
    "loss",
    "delay p99",
    "packets/s",
    "focus CPU",
    "its busiest thread",
    "generator CPU",
    "criteria that failed",
];

/// Everything that a person wants to see at the end of a run.
pub fn render(report: &RunReport) -> String {
    let mut out = String::new();
    let name = report.conditions.settings.scenario.name();
    let _ = writeln!(out, "\n{name}");
    for (name, value) in conditions(report) {
        let _ = writeln!(out, "  {name:<12} {value}");
    }
    let _ = writeln!(
        out,
        "\njoins         {} of {}, {} failed, {} calls dropped",
        report.joins.connected, report.joins.attempted, report.joins.failed, report.joins.dropped
    );
    for (name, quantiles) in latencies(report) {
        let _ = writeln!(
            out,
            "  {name:<30} median {:>6.0} ms   95 % {:>6.0} ms   max {:>6.0} ms",
            quantiles.p50, quantiles.p95, quantiles.max
        );
    }
    out.push('\n');
    grid(&mut out, &STREAM_HEAD, &stream_rows(report));
    if !report.steps.is_empty() {
        out.push('\n');
        grid(&mut out, &STEP_HEAD, &step_rows(report));
    }
    out.push('\n');
    for (name, value) in resources(report) {
        let _ = writeln!(out, "{name:<30} {value}");
    }
    if !report.violations.is_empty() {
        out.push_str("\nbroken rules\n");
    }
    for line in &report.violations {
        let _ = writeln!(
            out,
            "  {:7.1} s  {} from {} ({}, track {}): {} {} times, first: {}",
            line.at_s,
            line.participant,
            line.from,
            kind(line.kind),
            line.track,
            line.rule,
            line.count,
            line.first
        );
    }
    for (title, lines) in [("remarks", &report.remarks), ("failed", &report.failures)] {
        if !lines.is_empty() {
            let _ = writeln!(out, "\n{title}");
        }
        for line in lines {
            let _ = writeln!(out, "  {line}");
        }
    }
    if report.passed {
        out.push_str("\npassed: no rule was broken, everybody joined and stayed\n");
    }
    out
}

/// Under which conditions it ran: (name, value).
pub fn conditions(report: &RunReport) -> Vec<(&'static str, String)> {
    let conditions = &report.conditions;
    let settings = &conditions.settings;
    let mut people = match settings.scenario {
        Scenario::Rooms => format!("{} rooms of {}", settings.rooms, settings.participants),
        Scenario::Lecture | Scenario::Switching => format!(
            "{} who send, {} who watch",
            settings.publishers, settings.participants
        ),
        Scenario::Ramp => format!(
            "{} who send, up to {} who watch, {} at a time",
            settings.publishers, settings.participants, settings.step
        ),
        _ => format!(
            "{}, of whom {} send",
            settings.participants, conditions.publishers
        ),
    };
    let _ = write!(
        people,
        "; {} check in full, the others light",
        conditions.full
    );
    let layer = |layer: &super::LayerSent| {
        format!(
            "{} {}×{} {} kb/s",
            layer.rid, layer.width, layer.height, layer.kbps
        )
    };
    let layers: Vec<_> = conditions.layers.iter().map(layer).collect();
    let machine = &conditions.machine;
    let mut rows = vec![
        ("people", people),
        ("camera", layers.join(", ")),
        (
            "time",
            format!(
                "{:.0} s measured after all had joined, {} joins/s, seed {}",
                conditions.measured_s, settings.join_rate, settings.seed
            ),
        ),
        ("focus", conditions.focus.clone()),
        (
            "machine",
            format!(
                "{} × {}, {} MiB, Linux {}",
                machine.cores, machine.cpu, machine.memory_mib, machine.kernel
            ),
        ),
        ("command", conditions.command.clone()),
    ];
    if let Some(network) = &conditions.network {
        rows.insert(2, ("network", format!("{network} (each way)")));
    }
    rows
}

/// The few figures that say most: (value, what it is).
pub fn headlines(report: &RunReport) -> Vec<(String, String)> {
    let joins = &report.joins;
    let mut lines = vec![
        (
            format!("{} of {}", joins.connected, joins.attempted),
            "joins".to_owned(),
        ),
        (
            report
                .violations
                .iter()
                .map(|line| line.count)
                .sum::<u64>()
                .to_string(),
            "broken rules".to_owned(),
        ),
    ];
    if let Some(capacity) = &report.capacity {
        let more = if capacity.is_lower_bound { "≥ " } else { "" };
        lines.push((
            format!("{more}{}", capacity.subscribers),
            "viewers carried".to_owned(),
        ));
    }
    if joins.connected_ms.count > 0 {
        lines.push((
            format!("{:.0} ms", joins.connected_ms.p50),
            "median from invite to connection".to_owned(),
        ));
    }
    let measured = report.streams.iter().filter_map(|stream| stream.delay_ms);
    if let Some(delay) = measured.max_by(|a, b| a.p99.total_cmp(&b.p99)) {
        lines.push((
            format!("{:.1} ms", delay.p99),
            "99 % of the one-way delays".to_owned(),
        ));
    }
    let (lost, packets) = report
        .streams
        .iter()
        .fold((0, 0), |(lost, packets), stream| {
            (lost + stream.lost, packets + stream.packets)
        });
    lines.push((
        format!(
            "{:.3} %",
            100.0 * lost as f64 / (lost + packets).max(1) as f64
        ),
        "packets lost for good".to_owned(),
    ));
    if let Some(focus) = report.focus.as_ref().filter(|focus| focus.process) {
        lines.push((format!("{:.2} cores", focus.cpu_mean), "focus".to_owned()));
        lines.push((
            format!("{:.0} MiB", focus.rss_max_kib as f64 / 1024.0),
            "memory of the focus".to_owned(),
        ));
    }
    lines.push((
        format!("{:.2} cores", report.generator.cpu_mean),
        "generator and homeserver".to_owned(),
    ));
    lines
}

/// Times of joining that somebody had: (what, quantiles in ms).
pub fn latencies(report: &RunReport) -> Vec<(&'static str, Quantiles)> {
    let joins = &report.joins;
    let all = [
        ("login, room, member event", joins.matrix_ms),
        ("invite to answer", joins.answer_ms),
        ("invite to connection", joins.connected_ms),
        ("invite to first frame", joins.first_frame_ms),
    ];
    all.into_iter()
        .filter(|(_, quantiles)| quantiles.count > 0)
        .collect()
}

/// One row for each kind of stream and depth of checks.
pub fn stream_rows(report: &RunReport) -> Vec<Vec<String>> {
    let row = |stream: &super::StreamSummary| {
        let delay = |value: fn(&Quantiles) -> f64| {
            stream
                .delay_ms
                .as_ref()
                .map_or_else(|| "-".into(), |delay| format!("{:.1}", value(delay)))
        };
        let depth = match stream.checks {
            Depth::Full => "full",
            Depth::Light => "light",
        };
        let frames = match (stream.kind, stream.checks) {
            (Kind::Video, Depth::Full) => {
                format!("{} ({} broken)", stream.frames, stream.broken)
            }
            _ => "-".into(),
        };
        vec![
            format!("{} {depth}", kind(stream.kind)),
            stream.streams.to_string(),
            stream.silent.to_string(),
            stream.packets.to_string(),
            format!("{} ({:.3} %)", stream.lost, stream.loss_percent()),
            stream.resent.to_string(),
            delay(|delay| delay.p50),
            delay(|delay| delay.p95),
            delay(|delay| delay.p99),
            format!("{} ms", stream.longest_gap_ms),
            stream.streams_with_gaps.to_string(),
            frames,
        ]
    };
    report.streams.iter().map(row).collect()
}

/// One row for each step of a ramp.
pub fn step_rows(report: &RunReport) -> Vec<Vec<String>> {
    let row = |step: &super::Step| {
        vec![
            step.subscribers.to_string(),
            step.failed_joins.to_string(),
            format!("{:.3} %", step.loss_percent),
            step.delay_ms
                .map_or_else(|| "-".into(), |delay| format!("{:.1} ms", delay.p99)),
            format!("{:.0}", step.packets_per_second),
            format!("{:.2}", step.focus_cpu),
            format!("{:.2}", step.focus_busiest),
            format!("{:.2}", step.generator_cpu),
            if step.failed.is_empty() {
                "none".into()
            } else {
                step.failed.join(", ")
            },
        ]
    };
    report.steps.iter().map(row).collect()
}

/// What the focus and the generator used: (what, how much).
pub fn resources(report: &RunReport) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    if let Some(focus) = &report.focus {
        focus_rows(focus, &mut row);
    }
    let generator = &report.generator;
    row(
        "generator and homeserver",
        format!(
            "{:.2} cores on average, {:.2} at most; {:.0} MiB at most",
            generator.cpu_mean,
            generator.cpu_max,
            generator.rss_max_kib as f64 / 1024.0
        ),
    );
    row(
        "  timers late by",
        format!(
            "{:.1} ms (95 %), {:.1} ms (99 %), {:.1} ms at most",
            generator.lag_ms.p95, generator.lag_ms.p99, generator.lag_ms.max
        ),
    );
    row(
        "  packets sent late",
        format!("{:.2} %", generator.late_percent),
    );
    row(
        "  datagrams it did not read",
        generator.socket_drops.to_string(),
    );
    row(
        "  its figures",
        match generator.is_bottleneck {
            true => format!(
                "the generator is the bottleneck: {}",
                generator.reasons.join("; ")
            ),
            false => "the generator kept up".to_owned(),
        },
    );
    if let Some(encryption) = &report.encryption {
        let (sent, received) = (&encryption.sent, &encryption.received);
        row(
            "media encryption",
            format!(
                "{} frames decrypted, {} without their key, {} refused",
                received.decrypted,
                received.unknown_session + received.before_key + received.too_late,
                received.bad()
            ),
        );
        let switches = sent.switches + sent.switches_unconfirmed;
        row(
            "  keys",
            format!(
                "{} taken, {} refused; {switches} changes of session, {} of them before all had confirmed",
                received.keys, received.keys_refused, sent.switches_unconfirmed
            ),
        );
        if let Some(mean_us) = sent.switch_us.checked_div(switches) {
            let ms = |us: u64| us as f64 / 1000.0;
            row(
                "  departure to new session",
                format!(
                    "{:.0} ms on average, {:.0} ms at most",
                    ms(mean_us),
                    ms(sent.switch_longest_us)
                ),
            );
        }
    }
    if let Some(network) = &report.network {
        let way = |way: super::NetworkDirection| format!("{} of {} lost", way.lost, way.received);
        row("network, to the focus", way(network.up));
        row("network, from the focus", way(network.down));
    }
    if let Some(capacity) = &report.capacity {
        let more = if capacity.is_lower_bound {
            "at least "
        } else {
            ""
        };
        row(
            "capacity",
            format!(
                "{more}{} viewers, {} forwarded streams; {}",
                capacity.subscribers, capacity.streams, capacity.why
            ),
        );
    }
    rows
}

fn focus_rows(focus: &super::FocusSummary, row: &mut impl FnMut(&str, String)) {
    if focus.process {
        let mib = |kib: u64| kib as f64 / 1024.0;
        row(
            "focus, CPU",
            format!(
                "{:.2} cores on average, {:.2} at most",
                focus.cpu_mean, focus.cpu_max
            ),
        );
        let threads: Vec<_> = focus
            .cpu_by_thread
            .iter()
            .filter(|(_, cores)| **cores >= 0.005)
            .map(|(name, cores)| format!("{name} {cores:.2}"))
            .collect();
        row("  by thread", threads.join(", "));
        row(
            "focus, memory",
            format!(
                "{:.0} MiB before, {:.0} MiB at the end, {:.0} MiB at most; {} files",
                mib(focus.rss_before_kib),
                mib(focus.rss_after_kib),
                mib(focus.rss_max_kib),
                focus.files_max
            ),
        );
    }
    if let Some(memory) = &focus.memory {
        let further = memory
            .kib_per_further_participant
            .map_or_else(String::new, |kib| {
                format!("; {kib:.0} KiB for each further participant")
            });
        row(
            "  for each",
            format!(
                "{:.0} KiB a participant ({}), {:.0} KiB a forwarded stream ({}){further}",
                memory.kib_per_participant,
                memory.participants,
                memory.kib_per_stream,
                memory.streams
            ),
        );
    }
    for (name, flatness) in [
        ("  over time", &focus.flatness),
        ("  in the second half", &focus.flatness_second_half),
    ] {
        if let Some(Flatness { line, flat }) = flatness {
            let word = if *flat { "flat" } else { "it grows" };
            row(
                name,
                format!(
                    "{:+.1} ± {:.1} KiB/min, samples {:.0} KiB around the line: {word}",
                    line.slope, line.slope_error, line.spread
                ),
            );
        }
    }
    if let Some(packets) = focus.packets_per_second {
        let each = focus
            .cpu_ns_per_packet
            .map_or_else(String::new, |ns| format!(", {ns:.0} ns of CPU each"));
        row("focus, forwarded", format!("{packets:.0} packets/s{each}"));
    }
}

/// In a word.
pub(super) fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    }
}

/// Columns as wide as they need to be; the first to the left, the others to the right.
fn grid(out: &mut String, head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([head[column].chars().count()])
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let heads: Vec<String> = head.iter().map(|head| (*head).to_owned()).collect();
    for row in std::iter::once(&heads).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let _ = match column {
                0 => write!(line, "{cell:<width$}", width = widths[0]),
                _ => write!(line, "   {cell:>width$}", width = widths[column]),
            };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::*;
    use super::*;

    /// A small run with something of everything.
    pub(in super::super) fn report() -> RunReport {
        let quantiles = |p50: f64| Quantiles {
            count: 12,
            p50,
            p95: 2.0 * p50,
            p99: 3.0 * p50,
            max: 4.0 * p50,
        };
        let sample = |second: u32| Sample {
            at_s: f64::from(second),
            measured: second > 2,
            participants: (second as usize).min(4),
            focus_cpu: Some(0.25),
            focus_busiest: Some(0.2),
            focus_rss_kib: Some(40_000 + u64::from(second) * 100),
            generator_cpu: 0.5,
            packets: 1000.0,
            bps: 8e6,
            delay_ms: Some(quantiles(2.0)),
            ..Sample::default()
        };
        let stream = |kind, checks| StreamSummary {
            kind,
            checks,
            streams: 12,
            silent: 0,
            packets: 10_000,
            bytes: 1_000_000,
            lost: 5,
            resent: 4,
            nacks: 3,
            plis: 2,
            frames: 900,
            broken: 1,
            cut: 0,
            decoded: 880,
            unreadable: 0,
            delay_ms: Some(quantiles(2.0)),
            longest_gap_ms: 66,
            streams_with_gaps: 0,
        };
        RunReport {
            schema: SCHEMA,
            version: "0.1.0",
            passed: false,
            failures: vec!["1 rule was broken".into()],
            remarks: vec![],
            conditions: Conditions {
                started_unix_s: 1_700_000_000,
                command: "run conference --participants 4".into(),
                settings: Scenario::Conference.defaults(),
                layers: vec![LayerSent {
                    rid: "f".into(),
                    width: 1280,
                    height: 720,
                    kbps: 600,
                }],
                publishers: 4,
                full: 1,
                network: None,
                focus: "a child process".into(),
                shards: Some(1),
                machine: Machine {
                    cpu: "A CPU".into(),
                    cores: 2,
                    memory_mib: 4000,
                    kernel: "6.1.0".into(),
                },
                measured_s: 8.0,
            },
            joins: Joins {
                attempted: 4,
                connected: 4,
                connected_ms: quantiles(80.0),
                ..Joins::default()
            },
            streams: vec![
                stream(Kind::Video, Depth::Full),
                stream(Kind::Audio, Depth::Light),
            ],
            encryption: None,
            violations: vec![ViolationLine {
                at_s: 4.2,
                participant: "@load1:localhost".into(),
                from: "@load2:localhost".into(),
                kind: Kind::Video,
                track: "t".into(),
                rule: "picture_id_gap".into(),
                count: 2,
                first: "7 after 5".into(),
            }],
            focus: Some(FocusSummary {
                process: true,
                cpu_mean: 0.25,
                ..FocusSummary::default()
            }),
            generator: GeneratorSummary::default(),
            network: None,
            steps: vec![],
            capacity: None,
            samples: (1..=10).map(sample).collect(),
            participants: vec![ParticipantLine {
                user: "@load1:localhost".into(),
                at_s: 0.5,
                checks: Depth::Full,
                dialect: weir_client::Dialect::Late,
                failure: None,
                answer_ms: Some(20),
                connected_ms: Some(80),
                first_frame_ms: Some(300),
                streams: 6,
                packets: 5000,
                lost: 2,
                violations: 2,
            }],
        }
    }

    #[test]
    fn the_table_says_what_counts() {
        let text = render(&report());
        for line in [
            "joins         4 of 4, 0 failed, 0 calls dropped",
            "invite to connection           median     80 ms   95 %    160 ms   max    320 ms",
            "@load1:localhost from @load2:localhost (video, track t): picture_id_gap 2 times, first: 7 after 5",
            "  1 rule was broken",
            "the generator kept up",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("passed"), "{text}");
        let row = text
            .lines()
            .find(|line| line.starts_with("video full"))
            .expect("a row");
        let cells: Vec<_> = row
            .split("   ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect();
        assert_eq!(
            cells,
            [
                "video full",
                "12",
                "0",
                "10000",
                "5 (0.050 %)",
                "4",
                "2.0",
                "4.0",
                "6.0",
                "66 ms",
                "0",
                "900 (1 broken)"
            ]
        );
    }
}
