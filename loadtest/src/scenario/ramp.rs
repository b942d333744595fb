//! More and more viewers, until something gives.

use super::{Settings, lecture};
use crate::plan::Plan;

pub(super) const ABOUT: &str = "\
A lecture to which --step viewers are added at a time, up to --subscribers; each step is measured for --seconds. It ends when
a criterion fails (see --help: joins that fail, packets lost, delay, the busiest thread of the focus, violations), and says how
many viewers were carried before and whether the focus or this generator was the limit.";

pub(super) fn defaults(common: Settings) -> Settings {
    Settings {
        participants: 3000,
        publishers: 1,
        seconds: 10.0,
        join_rate: 10.0,
        full_share: 0.02,
        step: 100,
        ..common
    }
}

pub(super) fn plan(settings: &Settings) -> Plan {
    let mut plan = lecture::plan(settings);
    let all = plan.people.len();
    let step = settings.step.max(1);
    let first = settings.publishers + step.min(settings.participants);
    plan.steps = (first..all).step_by(step).chain([all]).collect();
    plan
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    use super::*;

    #[test]
    fn each_step_has_more_viewers() {
        let settings = Settings {
            participants: 250,
            step: 100,
            ..Scenario::Ramp.defaults()
        };
        assert_eq!(settings.plan().steps, [101, 201, 251]);
        let settings = Settings {
            participants: 40,
            ..settings
        };
        assert_eq!(settings.plan().steps, [41]);
    }
}
