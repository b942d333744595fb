//! Many small conferences.

use super::{Settings, conference};
use crate::plan::{Plan, nth_at};

pub(super) const ABOUT: &str = "\
--rooms conferences of --participants people each, who all send to each other; the rooms fill one after the other.";

pub(super) fn defaults(common: Settings) -> Settings {
    Settings {
        participants: 3,
        publishers: usize::MAX,
        rooms: 10,
        join_rate: 8.0,
        full_share: 0.1,
        ..common
    }
}

pub(super) fn plan(settings: &Settings) -> Plan {
    let each = settings.participants;
    let publishers = settings.publishers.min(each);
    let mut people = Vec::new();
    for call in 0..settings.rooms {
        for own in 0..each {
            let mut person = conference::person(settings, own, publishers, call * each);
            person.call = call;
            person.checks =
                crate::plan::full_of(people.len(), each * settings.rooms, settings.full_share);
            people.push(person);
        }
    }
    Plan {
        calls: settings.rooms,
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
    use crate::scenario::{Layout, Scenario};

    use super::*;

    #[test]
    fn rooms_know_nothing_of_each_other() {
        let settings = Settings {
            layout: Layout::Spotlight,
            ..Scenario::Rooms.defaults()
        };
        let plan = settings.plan();
        assert_eq!((plan.calls, plan.people.len(), plan.full()), (10, 30, 3));
        assert_eq!(plan.streams(30), (10 * 6, 10 * 6));
        let own_room = |person: usize, (of, _): &(usize, Option<_>)| person / 3 == of / 3;
        for (index, person) in plan.people.iter().enumerate() {
            assert_eq!(person.call, index / 3);
            assert!(person.wants_of.iter().all(|wants| own_room(index, wants)));
        }
    }
}
