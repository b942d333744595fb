//! Makes the report out of all that was seen. Without I/O.

use super::verdict::{self};
use super::{
    Conditions, Flatness, FocusSummary, GeneratorSummary, Memory, NetworkSummary, RunReport,
    SCHEMA, Sample, tally,
};
use crate::criteria::{self, Criteria};
use crate::engine::{FORWARDED, Outcome, Seen};
use crate::plan::Plan;
use crate::sample::scrape::Sums;
use crate::sample::trend;

/// What of a run is known besides what was seen.
#[derive(Debug, Clone)]
pub struct Known {
    /// Under which conditions; `measured_s` is filled in here.
    pub conditions: Conditions,
    /// What the relay did.
    pub network: Option<NetworkSummary>,
    /// Whether focus and generator share this machine.
    pub is_here: bool,
    /// Last words of a focus that has ended.
    pub focus_ended: Option<String>,
}

/// The part of a measurement that is left out before memory is looked at: caches and pools fill.
const WARM_UP: f64 = 0.2;

/// The shortest time over which a slope means anything.
const FLATNESS_SECONDS_MIN: f64 = 60.0;

/// Growth that is too slow to matter: 1 MiB an hour.
const FLAT_KIB_PER_MINUTE: f64 = 1024.0 / 60.0;

/// The whole report.
pub fn report(plan: &Plan, criteria: &Criteria, outcome: Outcome, known: Known) -> RunReport {
    let seen = Seen::between(&outcome.from, &outcome.to);
    let (violations, unlisted) = outcome.tally.violations();
    let mut conditions = known.conditions;
    conditions.started_unix_s = outcome.started_unix_s;
    conditions.measured_s = seen.seconds;
    let capacity = criteria::capacity(
        &outcome.steps,
        |viewers| {
            let (video, audio) = plan.streams(viewers + plan.publishers());
            video + audio
        },
        criteria.focus_thread_max,
        known.is_here,
    );
    let mut report = RunReport {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        passed: false,
        failures: Vec::new(),
        remarks: Vec::new(),
        conditions,
        joins: outcome.tally.joins(),
        streams: outcome.tally.streams(),
        encryption: outcome.tally.encryption(),
        violations,
        focus: focus(plan, &outcome, &seen),
        generator: generator(&outcome, &seen),
        network: known.network,
        capacity,
        participants: outcome.tally.participants(),
        steps: outcome.steps,
        samples: outcome.samples,
    };
    report.failures = verdict::failures(&report, &unlisted, outcome.tally.errors());
    report.failures.extend(outcome.ended_early);
    report.failures.extend(
        known
            .focus_ended
            .map(|words| format!("the focus ended by itself: {words}")),
    );
    report.remarks = verdict::remarks(&report);
    report.passed = report.failures.is_empty();
    report
}

fn focus(plan: &Plan, outcome: &Outcome, seen: &Seen) -> Option<FocusSummary> {
    if outcome.to.metrics.is_none() && seen.focus.is_none() {
        return None;
    }
    let metrics = growth(outcome.from.metrics.as_ref(), outcome.to.metrics.as_ref());
    let packets = metrics.get(FORWARDED).map(|packets| packets / seen.seconds);
    let mut summary = FocusSummary {
        packets_per_second: packets,
        metrics,
        ..FocusSummary::default()
    };
    let Some(cpu) = &seen.focus else {
        return Some(summary);
    };
    let measured = || outcome.samples.iter().filter(|sample| sample.measured);
    let rss =
        |moment: &crate::engine::Moment| moment.focus.as_ref().map_or(0, |focus| focus.rss_kib);
    let all = |value: fn(&Sample) -> Option<u64>| outcome.samples.iter().filter_map(value).max();
    summary.process = true;
    summary.cpu_mean = cpu.total;
    summary.cpu_max = measured()
        .filter_map(|sample| sample.focus_cpu)
        .fold(cpu.total, f64::max);
    summary.cpu_by_thread = cpu.by_name.clone();
    summary.busiest_mean = cpu.busiest;
    summary.rss_before_kib = rss(&outcome.before);
    summary.rss_after_kib = rss(&outcome.to);
    summary.rss_max_kib = all(|sample| sample.focus_rss_kib).unwrap_or(summary.rss_after_kib);
    summary.files_max = all(|sample| sample.focus_files).unwrap_or_default();
    summary.cpu_ns_per_packet = packets
        .filter(|packets| *packets > 0.0)
        .map(|packets| cpu.total * 1e9 / packets);
    summary.memory = memory(&summary, outcome);
    // Only where people come and go is a growing memory a leak.
    if !plan.events.is_empty() {
        summary.flatness = flatness(&outcome.samples, WARM_UP);
        summary.flatness_second_half = flatness(&outcome.samples, 0.5);
    }
    Some(summary)
}

/// What counters grew by, and the last value of everything else.
fn growth(from: Option<&Sums>, to: Option<&Sums>) -> Sums {
    let Some(to) = to else { return Sums::new() };
    let before = |name: &str| from.and_then(|from| from.get(name)).copied().unwrap_or(0.0);
    let counts = |name: &str| {
        ["_total", "_count", "_sum"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    to.iter()
        .map(|(name, value)| {
            let grown = match counts(name) {
                true => value - before(name),
                false => *value,
            };
            (name.clone(), grown)
        })
        .collect()
}

fn memory(summary: &FocusSummary, outcome: &Outcome) -> Option<Memory> {
    let (participants, streams) = outcome.present;
    if participants == 0 {
        return None;
    }
    let grown = summary.rss_after_kib.saturating_sub(summary.rss_before_kib) as f64;
    let joining = outcome.samples.iter().filter(|sample| !sample.measured);
    let points: Vec<_> = joining
        .filter(|sample| sample.participants > 1)
        .filter_map(|sample| Some((sample.participants as f64, sample.focus_rss_kib? as f64)))
        .collect();
    Some(Memory {
        participants,
        streams,
        kib_per_participant: grown / participants as f64,
        kib_per_stream: grown / streams.max(1) as f64,
        kib_per_further_participant: trend::line(&points).map(|line| line.slope),
    })
}

/// Over the measurement without its first `left_out`, which is a share of it.
fn flatness(samples: &[Sample], left_out: f64) -> Option<Flatness> {
    let measured: Vec<_> = samples.iter().filter(|sample| sample.measured).collect();
    let (first, last) = (measured.first()?.at_s, measured.last()?.at_s);
    let from = first + left_out * (last - first);
    let points: Vec<_> = measured
        .iter()
        .filter(|sample| sample.at_s >= from)
        .filter_map(|sample| Some(((sample.at_s - from) / 60.0, sample.focus_rss_kib? as f64)))
        .collect();
    if last - from < FLATNESS_SECONDS_MIN {
        return None;
    }
    let line = trend::line(&points)?;
    let growth = line.slope * (last - from) / 60.0;
    let flat = line.slope <= FLAT_KIB_PER_MINUTE || growth <= line.spread;
    Some(Flatness { line, flat })
}

fn generator(outcome: &Outcome, seen: &Seen) -> GeneratorSummary {
    let load = criteria::load(seen);
    let samples = &outcome.samples;
    let measured = samples.iter().filter(|sample| sample.measured);
    let reasons = verdict::bottleneck(&load);
    let ever = Seen::between(&outcome.before, &outcome.to);
    GeneratorSummary {
        stalls: criteria::stalls(&ever),
        cpu_mean: load.generator_cpu,
        cpu_max: measured
            .map(|sample| sample.generator_cpu)
            .fold(load.generator_cpu, f64::max),
        rss_max_kib: samples
            .iter()
            .map(|sample| sample.generator_rss_kib)
            .max()
            .unwrap_or_default(),
        lag_ms: tally::quantiles_of(&seen.health.timer_late).unwrap_or_default(),
        late_percent: load.late_percent,
        socket_drops: load.socket_drops,
        is_bottleneck: !reasons.is_empty(),
        reasons,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(seconds: u32, rss_kib: impl Fn(f64) -> f64) -> Vec<Sample> {
        let sample = |second: u32| Sample {
            at_s: f64::from(second),
            measured: true,
            focus_rss_kib: Some(rss_kib(f64::from(second)) as u64),
            ..Sample::default()
        };
        (0..seconds).map(sample).collect()
    }

    #[test]
    fn memory_that_stops_growing_is_flat() {
        // It grows for the first 200 of 1200 s, and wobbles by 40 KiB after that.
        let found = flatness(
            &samples(1200, |at| {
                50_000.0
                    + at.min(200.0) * 100.0
                    + if (at as u32).is_multiple_of(2) {
                        40.0
                    } else {
                        0.0
                    }
            }),
            WARM_UP,
        );
        let found = found.expect("long enough");
        assert!(found.flat, "{found:?}");
        assert!((found.line.spread - 20.0).abs() < 0.5, "{found:?}");
    }

    #[test]
    fn memory_that_stops_growing_late_is_flat_in_the_second_half() {
        let samples = samples(1200, |at| 50_000.0 + at.min(500.0) * 2.0);
        assert!(!flatness(&samples, WARM_UP).expect("long enough").flat);
        assert!(flatness(&samples, 0.5).expect("long enough").flat);
    }

    #[test]
    fn memory_that_grows_is_not_flat() {
        let found = flatness(&samples(1200, |at| 50_000.0 + at), WARM_UP).expect("long enough");
        assert!(!found.flat, "{found:?}");
        assert!((found.line.slope - 60.0).abs() < 0.5, "{found:?}");
        assert_eq!(
            flatness(&samples(60, |_| 1.0), WARM_UP),
            None,
            "too short to tell"
        );
    }

    #[test]
    fn counters_grow_and_gauges_are() {
        let sums = |pairs: &[(&str, f64)]| {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect::<Sums>()
        };
        let from = sums(&[("a_total", 5.0), ("b", 1.0)]);
        let to = sums(&[("a_total", 7.0), ("b", 3.0), ("c_total", 2.0)]);
        assert_eq!(
            growth(Some(&from), Some(&to)),
            sums(&[("a_total", 2.0), ("b", 3.0), ("c_total", 2.0)])
        );
    }
}
