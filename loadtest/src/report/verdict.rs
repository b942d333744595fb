//! What of a report means that the run has failed, and what a reader should know before believing its figures. Pure.

use std::collections::BTreeMap;

use weir_client::Kind;

use super::RunReport;

/// Later than this a packet was sent late.
pub const LATE_US: u64 = 20_000;

/// Packets of a healthy generator that may be sent late, in per cent.
const LATE_PERCENT_MAX: f64 = 1.0;

/// How late its timers may be, in ms, 99 % of them. Media is sent every 20 ms.
const LAG_P99_MS_MAX: f64 = 20.0;

/// Rules that compare what arrives with the clock of this process: where that stalls, it finds them broken by itself.
const TIMED: [&str; 1] = ["timestamp_jump"];

/// Whether a rule is one of those.
pub fn is_timed(rule: &str) -> bool {
    TIMED.contains(&rule)
}

/// So late is a stall.
pub const STALL_US: u64 = 100_000;

/// The part of all cores that the generator and the focus may use together before the machine is the limit.
const BUSY: f64 = 0.95;

/// What failed: nothing of it may happen at all.
pub fn failures(
    report: &RunReport,
    unlisted: &BTreeMap<String, u64>,
    errors: &BTreeMap<String, u64>,
) -> Vec<String> {
    let mut failures = Vec::new();
    let mut fail = |count: u64, text: String| failures.extend((count > 0).then_some(text));
    let judged = |rule: &str| report.generator.stalls == 0 || !is_timed(rule);
    let broken = report.violations.iter().filter(|line| judged(&line.rule));
    let (streams, broken) = broken.fold((0, 0), |(streams, sum), line| {
        (streams + 1, sum + line.count)
    });
    fail(
        broken,
        format!("{broken} times a rule was broken, by {streams} streams"),
    );
    let more = unlisted.iter().filter(|(rule, _)| judged(rule));
    let more: u64 = more.map(|(_, count)| count).sum();
    fail(
        more,
        format!("{more} more times a rule was broken, by streams that are not listed"),
    );
    let joins = &report.joins;
    fail(
        joins.failed,
        format!("{} of {} joins failed", joins.failed, joins.attempted),
    );
    fail(
        joins.dropped,
        format!("{} calls ended though nobody had left", joins.dropped),
    );
    for stream in &report.streams {
        fail(
            stream.silent,
            format!(
                "{} {} streams that were asked for never flowed",
                stream.silent,
                super::text::kind(stream.kind)
            ),
        );
    }
    for (error, count) in errors {
        fail(*count, format!("the focus said {count} times: {error}"));
    }
    failures
}

/// What a reader should know.
pub fn remarks(report: &RunReport) -> Vec<String> {
    let mut remarks = Vec::new();
    if report.generator.is_bottleneck {
        remarks.push(format!(
            "the generator is the bottleneck ({}): delays, losses and gaps may be its own, not the focus's; give it more cores, another machine, or fewer participants that check in full",
            report.generator.reasons.join("; ")
        ));
    }
    let timed = report.violations.iter().filter(|line| is_timed(&line.rule));
    let timed = timed.count();
    if timed > 0 && report.generator.stalls > 0 {
        remarks.push(format!(
            "{timed} streams did not keep to the clock, which is not held against the focus: the generator itself was late by more than {} ms, {} times",
            STALL_US / 1000,
            report.generator.stalls
        ));
    }
    let lost: u64 = report.streams.iter().map(|stream| stream.lost).sum();
    if lost > 0 && report.conditions.network.is_none() {
        remarks.push(format!(
            "{lost} packets were lost though no network was made bad: look for full socket buffers (drops of the focus in its metrics, of this machine in /proc/net/snmp)"
        ));
    }
    let sends = |kind: Kind| {
        report
            .streams
            .iter()
            .any(|stream| stream.kind == kind && stream.streams > 0)
    };
    let full = report
        .streams
        .iter()
        .any(|stream| stream.checks == crate::plan::Depth::Full);
    if !full && (sends(Kind::Video) || sends(Kind::Audio)) {
        remarks.push(
            "nobody checked in full: rules were looked at in samples only (--full-share)".into(),
        );
    }
    if let Some(focus) = &report.focus
        && let Some(flatness) = focus.flatness.filter(|flatness| !flatness.flat)
        && focus.flatness_second_half.is_none_or(|later| !later.flat)
    {
        remarks.push(format!(
            "the focus's memory grows by {:.0} KiB a minute ({:.0} KiB spread): run longer to see whether it goes on",
            flatness.line.slope, flatness.line.spread
        ));
    }
    remarks
}

/// What the generator was seen to do.
#[derive(Debug, Clone, Copy, Default)]
pub struct Load {
    /// Cores of this process, on average.
    pub generator_cpu: f64,
    /// Cores of the focus, if it runs on this machine.
    pub focus_cpu: f64,
    /// Cores that there are.
    pub cores: f64,
    /// See [`super::GeneratorSummary::late_percent`].
    pub late_percent: f64,
    /// 99 % of its timers were at most so late, in ms.
    pub lag_p99_ms: f64,
    /// Datagrams that it did not read.
    pub socket_drops: u64,
}

/// Why the generator's own figures are not to be believed; empty if they are.
pub fn bottleneck(load: &Load) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut because = |is_so: bool, text: String| reasons.extend(is_so.then_some(text));
    because(
        load.late_percent > LATE_PERCENT_MAX,
        format!(
            "{:.1} % of the packets were sent more than {} ms late",
            load.late_percent,
            LATE_US / 1000
        ),
    );
    because(
        load.lag_p99_ms > LAG_P99_MS_MAX,
        format!(
            "1 % of its timers were more than {:.0} ms late",
            load.lag_p99_ms
        ),
    );
    because(
        load.socket_drops > 0,
        format!(
            "{} datagrams that had arrived were dropped because it did not read them in time",
            load.socket_drops
        ),
    );
    let busy = load.generator_cpu + load.focus_cpu;
    because(
        load.cores > 0.0 && busy > BUSY * load.cores,
        format!(
            "{busy:.2} of {:.0} cores are busy, {:.2} of them by the generator",
            load.cores, load.generator_cpu
        ),
    );
    reasons
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::report;
    use super::*;

    #[test]
    fn a_clean_run_has_no_failures() {
        let mut report = report();
        report.violations.clear();
        let none = BTreeMap::new();
        assert_eq!(failures(&report, &none, &none), Vec::<String>::new());
        report.streams.iter_mut().for_each(|stream| stream.lost = 0);
        assert_eq!(remarks(&report), Vec::<String>::new());
    }

    #[test]
    fn each_thing_that_went_wrong_is_named() {
        let mut report = report();
        report.joins.failed = 1;
        report.joins.dropped = 2;
        report.streams[1].silent = 3;
        let errors = BTreeMap::from([("M_LIMIT_EXCEEDED".to_owned(), 4)]);
        let unlisted = BTreeMap::from([("tl0_gap".to_owned(), 7)]);
        assert_eq!(
            failures(&report, &unlisted, &errors),
            [
                "2 times a rule was broken, by 1 streams",
                "7 more times a rule was broken, by streams that are not listed",
                "1 of 4 joins failed",
                "2 calls ended though nobody had left",
                "3 audio streams that were asked for never flowed",
                "the focus said 4 times: M_LIMIT_EXCEEDED",
            ]
        );
    }

    #[test]
    fn the_clock_is_not_held_against_the_focus_when_the_generator_stalls() {
        let mut report = report();
        report.violations[0].rule = "timestamp_jump".into();
        let unlisted = BTreeMap::from([("timestamp_jump".to_owned(), 7)]);
        let none = BTreeMap::new();
        assert_eq!(failures(&report, &unlisted, &none).len(), 2);
        report.generator.stalls = 3;
        assert_eq!(failures(&report, &unlisted, &none), Vec::<String>::new());
        assert!(remarks(&report)[0].starts_with("1 streams did not keep to the clock"));
        report.violations[0].rule = "picture_id_gap".into();
        assert_eq!(failures(&report, &unlisted, &none).len(), 1);
    }

    #[test]
    fn losses_count_where_no_network_is_made_bad() {
        let mut report = report();
        assert!(remarks(&report)[0].starts_with("10 packets were lost"));
        report.conditions.network = Some("loss=5%".into());
        assert_eq!(remarks(&report), Vec::<String>::new());
    }

    #[test]
    fn a_generator_that_is_too_slow_says_so() {
        let good = Load {
            generator_cpu: 0.8,
            focus_cpu: 0.5,
            cores: 2.0,
            late_percent: 0.1,
            lag_p99_ms: 3.0,
            socket_drops: 0,
        };
        assert_eq!(bottleneck(&good), Vec::<String>::new());
        let late = Load {
            late_percent: 4.25,
            ..good
        };
        assert_eq!(
            bottleneck(&late),
            ["4.2 % of the packets were sent more than 20 ms late"]
        );
        let busy = Load {
            generator_cpu: 1.45,
            ..good
        };
        assert_eq!(
            bottleneck(&busy),
            ["1.95 of 2 cores are busy, 1.45 of them by the generator"]
        );
    }
}
