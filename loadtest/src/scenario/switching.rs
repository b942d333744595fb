//! Viewers change sizes all the time.

use super::{Settings, lecture};
use crate::plan::{Event, LARGE, MEDIUM, Plan, SMALL, nth_at};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use weir_client::Size;

pub(super) const ABOUT: &str = "\
--publishers people send, --subscribers people watch them, and --change-rate times a second one of the viewers asks for
another size, or for nothing, of all pictures. Each change makes the focus switch layers at a keyframe.";

pub(super) fn defaults(common: Settings) -> Settings {
    Settings {
        participants: 6,
        publishers: 2,
        change_rate: 1.0,
        full_share: 0.5,
        ..common
    }
}

pub(super) fn plan(settings: &Settings) -> Plan {
    let mut plan = lecture::plan(settings);
    let first = settings.publishers;
    let mut wanted: Vec<Option<Size>> = plan.people.iter().map(|person| person.wants).collect();
    let mut random = StdRng::seed_from_u64(settings.seed);
    let changes = (settings.seconds * settings.change_rate) as usize;
    for change in 0..changes {
        let person = first + random.random_range(0..settings.participants);
        let others: Vec<_> = [Some(LARGE), Some(MEDIUM), Some(SMALL), None]
            .into_iter()
            .filter(|size| *size != wanted[person])
            .collect();
        let size = others[random.random_range(0..others.len())];
        wanted[person] = size;
        let event = Event::Want {
            person,
            of: None,
            size,
        };
        plan.events
            .push((nth_at(change, settings.change_rate), event));
    }
    plan
}

#[cfg(test)]
mod tests {
    use crate::scenario::Scenario;

    use super::*;

    #[test]
    fn each_change_is_one_and_by_a_viewer() {
        let settings = Settings {
            change_rate: 3.0,
            ..Scenario::Switching.defaults()
        };
        let plan = settings.plan();
        assert_eq!(plan.events.len(), 90);
        let mut wanted: Vec<_> = plan.people.iter().map(|person| person.wants).collect();
        for (_, event) in &plan.events {
            let Event::Want { person, size, .. } = event else {
                panic!("{event:?}")
            };
            assert!(*person >= 2 && wanted[*person] != *size, "{event:?}");
            wanted[*person] = *size;
        }
        let other = Settings {
            seed: 2,
            ..settings
        };
        assert_ne!(plan.events, other.plan().events);
    }
}
