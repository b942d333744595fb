//! Everybody talks, nobody has a camera.

use super::Settings;
use crate::plan::{Person, Plan, full_of, nth_at};

pub(super) const ABOUT: &str = "\
--participants people with microphones only, of whom the first --publishers send (by default all). With more microphones
than the focus's audio.all_up_to (20 by default) only the loudest are forwarded: then the others are silent on purpose.";

pub(super) fn defaults(common: Settings) -> Settings {
    Settings {
        participants: 16,
        publishers: usize::MAX,
        ..common
    }
}

pub(super) fn plan(settings: &Settings) -> Plan {
    let count = settings.participants;
    let person = |own: usize| Person {
        call: 0,
        video: false,
        audio: own < settings.publishers,
        wants: None,
        wants_of: Vec::new(),
        checks: full_of(own, count, settings.full_share),
    };
    Plan {
        calls: 1,
        people: (0..count).map(person).collect(),
        joins: (0..count)
            .map(|n| (nth_at(n, settings.join_rate), n))
            .collect(),
        events: Vec::new(),
        seconds: settings.seconds,
        steps: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    #[test]
    fn there_is_no_picture() {
        let plan = Scenario::AudioRoom.defaults().plan();
        assert_eq!(plan.streams(16), (0, 16 * 15));
    }
}
