//! Some stay, others come and go.

use std::time::Duration;

use super::Settings;
use super::conference::tile;
use crate::plan::{Depth, Event, Person, Plan, nth_at};

pub(super) const ABOUT: &str = "\
--publishers people stay for the whole run and send (2 by default; the first two check in full). The other --participants
come and go: --join-rate joins and as many leaves a second, each time by the one who has been there, or away, for longest.
The verdict says whether the focus's memory stays flat.";

pub(super) fn defaults(common: Settings) -> Settings {
    Settings {
        participants: 12,
        publishers: 2,
        seconds: 60.0,
        join_rate: 1.0,
        ..common
    }
}

/// Before the measurement there is no reason to be slow.
const FIRST_JOINS_PER_SECOND: f64 = 4.0;

pub(super) fn plan(settings: &Settings) -> Plan {
    let (stay, come) = (
        settings.publishers,
        settings.participants.saturating_sub(settings.publishers),
    );
    let person = |own: usize| Person {
        call: 0,
        video: own < stay,
        audio: true,
        wants: Some(tile(stay)),
        wants_of: Vec::new(),
        checks: if own < 2 { Depth::Full } else { Depth::Light },
    };
    // Half of those who come and go are there at any time.
    let first = come - come / 2;
    Plan {
        calls: 1,
        people: (0..stay + come).map(person).collect(),
        joins: (0..stay + first)
            .map(|n| (nth_at(n, FIRST_JOINS_PER_SECOND), n))
            .collect(),
        events: comings_and_goings(settings, stay, come, first),
        seconds: settings.seconds,
        steps: Vec::new(),
    }
}

/// At each turn the next one leaves, and half a turn later the next one of those who are away joins.
fn comings_and_goings(
    settings: &Settings,
    stay: usize,
    come: usize,
    first: usize,
) -> Vec<(Duration, Event)> {
    if come < 2 {
        return Vec::new();
    }
    let turns = (settings.seconds * settings.join_rate) as usize;
    let mut events = Vec::new();
    for turn in 0..turns {
        let leaves = stay + turn % come;
        let joins = stay + (first + turn) % come;
        events.push((nth_at(turn, settings.join_rate), Event::Leave(leaves)));
        let half = Duration::from_secs_f64(0.5 / settings.join_rate);
        events.push((nth_at(turn, settings.join_rate) + half, Event::Join(joins)));
    }
    events
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::scenario::Scenario;

    use super::*;

    #[test]
    fn nobody_joins_who_is_there_or_leaves_who_is_not() {
        for participants in [4, 7, 12] {
            let settings = Settings {
                participants,
                seconds: 100.0,
                ..Scenario::Churn.defaults()
            };
            let plan = settings.plan();
            let mut there: BTreeSet<_> = plan.joins.iter().map(|(_, person)| *person).collect();
            let joins = |event: &&(Duration, Event)| matches!(event.1, Event::Join(_));
            assert_eq!(plan.events.iter().filter(joins).count(), 100);
            for (_, event) in &plan.events {
                match event {
                    Event::Join(person) => assert!(there.insert(*person), "{person} was there"),
                    Event::Leave(person) => {
                        assert!(*person >= 2, "{person} stays");
                        assert!(there.remove(person), "{person} was away");
                    }
                    Event::Want { .. } => panic!("nobody changes sizes"),
                }
            }
        }
    }
}
