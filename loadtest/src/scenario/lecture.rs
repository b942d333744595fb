//! Few send, many watch.

use super::{Layout, Settings};
use crate::plan::{LARGE, MEDIUM, Person, Plan, SMALL, full_of, nth_at};
use weir_client::Size;

pub(super) const ABOUT: &str = "\
--publishers people send camera and microphone (by default one), --subscribers people watch them. Of ten viewers seven
want a medium picture (640×360), two a large one (1280×720), one a small one (320×180), so that every layer is used.";

/// What ten viewers in a row want.
const WANTED: [Size; 10] = [
    MEDIUM, LARGE, MEDIUM, MEDIUM, SMALL, MEDIUM, LARGE, MEDIUM, MEDIUM, MEDIUM,
];

pub(super) fn defaults(common: Settings) -> Settings {
    Settings {
        participants: 100,
        publishers: 1,
        join_rate: 10.0,
        full_share: 0.02,
        ..common
    }
}

pub(super) fn plan(settings: &Settings) -> Plan {
    let (publishers, viewers) = (settings.publishers, settings.participants);
    let publisher = |_| Person {
        call: 0,
        video: true,
        audio: true,
        wants: None,
        wants_of: Vec::new(),
        checks: crate::plan::Depth::Light,
    };
    let viewer = |index: usize| Person {
        call: 0,
        video: false,
        audio: false,
        wants: Some(match settings.layout {
            Layout::Grid => WANTED[index % WANTED.len()],
            Layout::Spotlight => LARGE,
        }),
        wants_of: Vec::new(),
        checks: full_of(index, viewers, settings.full_share),
    };
    let people: Vec<_> = (0..publishers)
        .map(publisher)
        .chain((0..viewers).map(viewer))
        .collect();
    Plan {
        calls: 1,
        joins: (0..people.len())
            .map(|n| (nth_at(n, settings.join_rate), n))
            .collect(),
        people,
        events: Vec::new(),
        seconds: settings.seconds,
        steps: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::scenario::Scenario;

    use super::*;

    #[test]
    fn one_sends_and_everybody_else_watches() {
        let settings = Settings {
            participants: 500,
            ..Scenario::Lecture.defaults()
        };
        let plan = settings.plan();
        assert_eq!((plan.people.len(), plan.publishers()), (501, 1));
        assert_eq!(plan.streams(501), (500, 500));
        assert_eq!(plan.full(), 10);
        assert_eq!(plan.joins[500].0, Duration::from_secs(50));
        let wanting = |size| {
            plan.people
                .iter()
                .filter(|person| person.wants == Some(size))
                .count()
        };
        assert_eq!(
            (wanting(LARGE), wanting(MEDIUM), wanting(SMALL)),
            (100, 350, 50)
        );
    }
}
