//! When a ramp ends, and what that says about the capacity. Pure.

use serde::Serialize;
use weir_client::GeneratorHealth;

use crate::engine::Seen;
use crate::report::verdict::{self, LATE_US, Load, STALL_US};
use crate::report::{Capacity, Limit, Step};

/// What has to hold at each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Criteria {
    /// Joins of one step that may fail.
    pub failed_joins_max: u64,
    /// Packets that may be lost, in per cent.
    pub loss_percent_max: f64,
    /// 99 % of the packets must arrive within this, in ms.
    pub delay_p99_ms_max: f64,
    /// What the busiest thread of the focus may use, in cores.
    pub focus_thread_max: f64,
}

impl Default for Criteria {
    fn default() -> Self {
        Criteria {
            failed_joins_max: 0,
            loss_percent_max: 0.5,
            delay_p99_ms_max: 100.0,
            focus_thread_max: 0.95,
        }
    }
}

/// The criteria that do not hold, with the numbers.
pub fn failed(criteria: &Criteria, step: &Step) -> Vec<String> {
    let mut failed = Vec::new();
    let mut check = |holds: bool, text: String| failed.extend((!holds).then_some(text));
    check(
        step.violations == 0,
        format!("{} violations", step.violations),
    );
    check(
        step.failed_joins <= criteria.failed_joins_max,
        format!("{} failed joins", step.failed_joins),
    );
    check(
        step.loss_percent <= criteria.loss_percent_max,
        format!(
            "{:.2} % lost (at most {} %)",
            step.loss_percent, criteria.loss_percent_max
        ),
    );
    if let Some(delay) = step.delay_ms {
        check(
            delay.p99 <= criteria.delay_p99_ms_max,
            format!(
                "delay {:.0} ms (at most {:.0} ms)",
                delay.p99, criteria.delay_p99_ms_max
            ),
        );
    }
    check(
        step.focus_busiest <= criteria.focus_thread_max,
        format!(
            "a thread of the focus uses {:.2} cores (at most {})",
            step.focus_busiest, criteria.focus_thread_max
        ),
    );
    check(
        step.generator.is_empty(),
        format!("the generator: {}", step.generator.join("; ")),
    );
    failed
}

/// Why the generator was too slow between two moments; empty if it was not.
pub fn generator(seen: &Seen) -> Vec<String> {
    verdict::bottleneck(&load(seen))
}

/// What the generator was seen to do.
pub fn load(seen: &Seen) -> Load {
    let focus_cpu = seen.focus.as_ref().map_or(0.0, |focus| focus.total);
    let cores = std::thread::available_parallelism().map_or(0.0, |cores| cores.get() as f64);
    load_on(&seen.health, seen.generator.total, focus_cpu, cores)
}

/// The same of a generator that has so many cores, and shares them with a focus that used `focus_cpu` of them.
pub fn load_on(health: &GeneratorHealth, generator_cpu: f64, focus_cpu: f64, cores: f64) -> Load {
    let sent = health.send_late.count().max(1) as f64;
    Load {
        generator_cpu,
        focus_cpu,
        cores,
        late_percent: 100.0 * health.send_late.above_us(LATE_US) as f64 / sent,
        lag_p99_ms: health.timer_late.percentile_ms(99.0).unwrap_or(0.0),
        socket_drops: health.socket_overflows + health.queue_overflows,
    }
}

/// Times at which the generator was late by so much that what it says about the clock means nothing.
pub fn stalls(seen: &Seen) -> u64 {
    let health = &seen.health;
    let late = [&health.send_late, &health.timer_late, &health.socket_late];
    late.into_iter().map(|late| late.above_us(STALL_US)).sum()
}

/// What a ramp has found. `streams` is that of so many viewers; `is_here` says whether focus and generator share the machine.
pub fn capacity(
    steps: &[Step],
    streams: impl Fn(usize) -> usize,
    focus_thread_max: f64,
    is_here: bool,
) -> Option<Capacity> {
    let last = steps.last()?;
    let good = steps.iter().rev().find(|step| step.failed.is_empty());
    let subscribers = good.map_or(0, |step| step.subscribers);
    let (limit, why) = if last.failed.is_empty() {
        (
            Limit::None,
            "no criterion had failed at the end of the ramp".to_owned(),
        )
    } else {
        let criterion = last.failed.join(", ");
        // A thread that is close to its core is the reason for what goes wrong behind it.
        let focus = last.focus_busiest >= 0.9 * focus_thread_max;
        let generator = !last.generator.is_empty();
        match (focus, generator, is_here) {
            (true, false, _) => (Limit::Focus, format!("the focus is the limit: {criterion}")),
            (true, true, true) => (
                Limit::Machine,
                format!(
                    "the machine is the limit, which focus and generator share: {criterion}; the focus alone would carry more"
                ),
            ),
            (true, true, false) => (
                Limit::Focus,
                format!(
                    "the focus is the limit, and the generator is close to its own: {criterion}"
                ),
            ),
            (false, true, _) => (
                Limit::Generator,
                format!(
                    "the generator is the limit, not the focus (whose busiest thread used {:.2} cores): {criterion}",
                    last.focus_busiest
                ),
            ),
            (false, false, _) => (
                Limit::Unclear,
                format!("neither focus nor generator was busy: {criterion}"),
            ),
        }
    };
    Some(Capacity {
        subscribers,
        streams: streams(subscribers),
        is_lower_bound: matches!(limit, Limit::None | Limit::Generator | Limit::Machine),
        limit,
        why,
    })
}

#[cfg(test)]
mod tests {
    use crate::report::Quantiles;

    use super::*;

    fn step(subscribers: usize) -> Step {
        Step {
            subscribers,
            failed_joins: 0,
            loss_percent: 0.0,
            delay_ms: Some(Quantiles {
                p99: 12.0,
                ..Quantiles::default()
            }),
            focus_cpu: 0.5,
            focus_busiest: 0.4,
            generator_cpu: 0.5,
            violations: 0,
            packets_per_second: 1000.0,
            generator: vec![],
            failed: vec![],
        }
    }

    fn ended(mut step: Step) -> Step {
        step.failed = failed(&Criteria::default(), &step);
        step
    }

    #[test]
    fn a_good_step_fails_nothing_and_each_criterion_is_named() {
        assert_eq!(ended(step(100)).failed, Vec::<String>::new());
        let bad = ended(Step {
            failed_joins: 2,
            loss_percent: 3.0,
            focus_busiest: 0.99,
            violations: 1,
            generator: vec!["late".into()],
            delay_ms: Some(Quantiles {
                p99: 250.0,
                ..Quantiles::default()
            }),
            ..step(200)
        });
        assert_eq!(
            bad.failed,
            [
                "1 violations",
                "2 failed joins",
                "3.00 % lost (at most 0.5 %)",
                "delay 250 ms (at most 100 ms)",
                "a thread of the focus uses 0.99 cores (at most 0.95)",
                "the generator: late",
            ]
        );
    }

    #[test]
    fn the_capacity_is_the_last_good_step_and_somebody_was_the_limit() {
        let found = |last: Step, is_here| {
            let steps = [step(100), step(200), ended(last)];
            let found = capacity(&steps, |viewers| 2 * viewers, 0.95, is_here).expect("steps");
            (
                found.subscribers,
                found.streams,
                found.limit,
                found.is_lower_bound,
            )
        };
        let busy = Step {
            focus_busiest: 0.97,
            ..step(300)
        };
        assert_eq!(found(busy.clone(), true), (200, 400, Limit::Focus, false));
        let slow = Step {
            generator: vec!["late".into()],
            ..step(300)
        };
        assert_eq!(found(slow, true), (200, 400, Limit::Generator, true));
        let both = Step {
            generator: vec!["late".into()],
            ..busy
        };
        assert_eq!(found(both.clone(), true).2, Limit::Machine);
        assert_eq!(found(both, false).2, Limit::Focus);
        let lossy = Step {
            loss_percent: 9.0,
            ..step(300)
        };
        assert_eq!(found(lossy, true).2, Limit::Unclear);
        assert_eq!(found(step(300), true), (300, 600, Limit::None, true));
    }
}
