//! Everybody sends to everybody.

use super::{Layout, Settings};
use crate::plan::{LARGE, MEDIUM, Person, Plan, SMALL, full_of, nth_at};
use weir_client::Size;

pub(super) const ABOUT: &str = "\
--participants people in one call, of whom the first --publishers send camera and microphone (by default all),
and everybody watches everybody. --layout grid gives all tiles one size, the smaller the more there are;
spotlight makes the first publisher's picture large and the others small.";

pub(super) fn defaults(common: Settings) -> Settings {
    Settings {
        publishers: usize::MAX,
        ..common
    }
}

pub(super) fn plan(settings: &Settings) -> Plan {
    let count = settings.participants;
    let publishers = settings.publishers.min(count);
    let people = (0..count)
        .map(|own| person(settings, own, publishers, 0))
        .collect();
    Plan {
        calls: 1,
        people,
        joins: (0..count)
            .map(|n| (nth_at(n, settings.join_rate), n))
            .collect(),
        events: Vec::new(),
        seconds: settings.seconds,
        steps: Vec::new(),
    }
}

/// One of a conference's people, of whom the first is `first` in the plan.
pub(super) fn person(settings: &Settings, own: usize, publishers: usize, first: usize) -> Person {
    let tiles = publishers - usize::from(own < publishers);
    let wants_of = match settings.layout {
        Layout::Grid => Vec::new(),
        // Who is large sees the second one large.
        Layout::Spotlight => vec![(first + usize::from(own == 0), Some(LARGE))],
    };
    Person {
        call: 0,
        video: own < publishers,
        audio: own < publishers,
        wants: Some(match settings.layout {
            Layout::Grid => tile(tiles),
            Layout::Spotlight => SMALL,
        }),
        wants_of: wants_of
            .into_iter()
            .filter(|(of, _)| of - first < publishers)
            .collect(),
        checks: full_of(own, settings.participants, settings.full_share),
    }
}

/// The size of one of so many tiles on a screen.
pub(super) fn tile(tiles: usize) -> Size {
    match tiles {
        0..=1 => LARGE,
        2..=4 => MEDIUM,
        _ => SMALL,
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    use super::*;

    fn settings(participants: usize) -> Settings {
        Settings {
            participants,
            ..Scenario::Conference.defaults()
        }
    }

    #[test]
    fn everybody_sends_to_everybody() {
        let plan = settings(16).plan();
        assert_eq!((plan.calls, plan.publishers()), (1, 16));
        assert_eq!(plan.streams(16), (240, 240));
        assert_eq!(plan.people[3].wants, Some(SMALL));
    }

    #[test]
    fn few_tiles_are_large() {
        let sizes = |n| settings(n).plan().people[0].wants;
        assert_eq!(
            [2, 3, 5, 6].map(sizes),
            [Some(LARGE), Some(MEDIUM), Some(MEDIUM), Some(SMALL)]
        );
    }

    #[test]
    fn in_a_spotlight_one_is_large_and_sees_another_large() {
        let plan = Settings {
            layout: Layout::Spotlight,
            ..settings(4)
        }
        .plan();
        let large = |own: usize| {
            let wants = |other: &usize| plan.people[own].wants_of(*other) == Some(LARGE);
            (0..4).filter(wants).collect::<Vec<_>>()
        };
        assert_eq!([0, 1, 2, 3].map(large), [[1], [0], [0], [0]]);
    }
}
