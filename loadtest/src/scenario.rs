//! The scenarios: each makes a plan out of settings, and nothing else. Performing it is the engine's.
//!
//! | file | who |
//! |---|---|
//! | `conference` | everybody sends to everybody |
//! | `lecture` | few send, many watch; also what `ramp` raises |
//! | `audio_room` | everybody talks, nobody has a camera |
//! | `churn` | some stay, others come and go |
//! | `switching` | viewers change sizes all the time |
//! | `lossy` | a conference on a bad network |
//! | `rooms` | many small conferences |
//! | `ramp` | more and more viewers |

mod audio_room;
mod churn;
mod conference;
mod lecture;
mod lossy;
mod ramp;
mod rooms;
mod switching;

use clap::ValueEnum;
use serde::Serialize;
use weir_client::Dialect;

use crate::plan::Plan;

/// What is performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// N participants who all send to each other
    Conference,
    /// One sends, many watch
    Lecture,
    /// Everybody talks, nobody has a camera
    AudioRoom,
    /// Participants come and go all the time
    Churn,
    /// Viewers change the sizes of pictures all the time
    Switching,
    /// A conference on a bad network
    Lossy,
    /// Many small conferences
    Rooms,
    /// More and more viewers, until something gives: finds the capacity
    Ramp,
}

/// How pictures are laid out at each viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// All tiles have one size: the smaller, the more there are
    Grid,
    /// One picture is large, the others are small
    Spotlight,
}

/// What is spoken on the data channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Speech {
    /// Messages named like Matrix events, as MSC3898 has them now
    Late,
    /// The `op` messages that it had before
    Early,
    /// Every second person speaks the early dialect, the others the late one
    Mixed,
}

impl Speech {
    /// What the person of this number speaks, from 0.
    pub fn of(self, person: usize) -> Dialect {
        match self {
            Speech::Late => Dialect::Late,
            Speech::Early => Dialect::Early,
            Speech::Mixed if person % 2 == 1 => Dialect::Early,
            Speech::Mixed => Dialect::Late,
        }
    }
}

/// All that a scenario may be told. What does not concern it, it ignores.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// What is performed.
    pub scenario: Scenario,
    /// Participants; for `lecture`, `switching` and `ramp` those who watch, at most; for `rooms` those of one room.
    pub participants: usize,
    /// How many publish.
    pub publishers: usize,
    /// Conferences, for `rooms`.
    pub rooms: usize,
    /// How long is measured after everybody has joined; for `ramp`, each step.
    pub seconds: f64,
    /// Joins per second; for `churn` before and during the measurement.
    pub join_rate: f64,
    /// Changes of a size per second, over all viewers, for `switching`.
    pub change_rate: f64,
    /// Viewers that each step of `ramp` adds.
    pub step: usize,
    /// Part of the participants that check in full, from 0 to 1.
    pub full_share: f64,
    /// How pictures are laid out.
    pub layout: Layout,
    /// What is spoken on the data channel.
    pub dialect: Speech,
    /// Of everything that is random.
    pub seed: u64,
}

impl Scenario {
    /// All of them, in the order of the help.
    pub const ALL: [Scenario; 8] = [
        Scenario::Conference,
        Scenario::Lecture,
        Scenario::AudioRoom,
        Scenario::Churn,
        Scenario::Switching,
        Scenario::Lossy,
        Scenario::Rooms,
        Scenario::Ramp,
    ];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Conference => "conference",
            Scenario::Lecture => "lecture",
            Scenario::AudioRoom => "audio-room",
            Scenario::Churn => "churn",
            Scenario::Switching => "switching",
            Scenario::Lossy => "lossy",
            Scenario::Rooms => "rooms",
            Scenario::Ramp => "ramp",
        }
    }

    /// What it does, and what its main flags mean there, in a few lines.
    pub fn about(self) -> &'static str {
        match self {
            Scenario::Conference => conference::ABOUT,
            Scenario::Lecture => lecture::ABOUT,
            Scenario::AudioRoom => audio_room::ABOUT,
            Scenario::Churn => churn::ABOUT,
            Scenario::Switching => switching::ABOUT,
            Scenario::Lossy => lossy::ABOUT,
            Scenario::Rooms => rooms::ABOUT,
            Scenario::Ramp => ramp::ABOUT,
        }
    }

    /// What holds where the command line says nothing.
    pub fn defaults(self) -> Settings {
        let common = Settings {
            scenario: self,
            participants: 8,
            publishers: 8,
            rooms: 1,
            seconds: 30.0,
            join_rate: 4.0,
            change_rate: 1.0,
            step: 50,
            full_share: 0.25,
            layout: Layout::Grid,
            dialect: Speech::Late,
            seed: 1,
        };
        match self {
            Scenario::Conference => conference::defaults(common),
            Scenario::Lecture => lecture::defaults(common),
            Scenario::AudioRoom => audio_room::defaults(common),
            Scenario::Churn => churn::defaults(common),
            Scenario::Switching => switching::defaults(common),
            Scenario::Lossy => lossy::defaults(common),
            Scenario::Rooms => rooms::defaults(common),
            Scenario::Ramp => ramp::defaults(common),
        }
    }

    /// The network that holds where the command line names none, in the notation of `weir-relay`.
    pub fn network(self) -> Option<&'static str> {
        (self == Scenario::Lossy).then_some(lossy::NETWORK)
    }
}

impl Settings {
    /// What happens.
    pub fn plan(&self) -> Plan {
        match self.scenario {
            Scenario::Conference => conference::plan(self),
            Scenario::Lecture => lecture::plan(self),
            Scenario::AudioRoom => audio_room::plan(self),
            Scenario::Churn => churn::plan(self),
            Scenario::Switching => switching::plan(self),
            Scenario::Lossy => lossy::plan(self),
            Scenario::Rooms => rooms::plan(self),
            Scenario::Ramp => ramp::plan(self),
        }
    }

    /// Whether participants who publish and those who watch are counted apart.
    pub fn watches(&self) -> bool {
        matches!(
            self.scenario,
            Scenario::Lecture | Scenario::Switching | Scenario::Ramp
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_is_in_order_and_speaks_of_its_own_people() {
        for scenario in Scenario::ALL {
            let settings = scenario.defaults();
            let plan = settings.plan();
            assert!(plan.joins.is_sorted_by_key(|(at, _)| *at), "{scenario:?}");
            assert!(plan.events.is_sorted_by_key(|(at, _)| *at), "{scenario:?}");
            assert!(plan.full() > 0, "{scenario:?}: nobody checks");
            assert!(plan.publishers() > 0, "{scenario:?}: nobody publishes");
            let known = |person: &usize| *person < plan.people.len();
            assert!(plan.joins.iter().all(|(_, person)| known(person)));
            assert!(plan.people.iter().all(|person| person.call < plan.calls));
            let of = plan.people.iter().flat_map(|person| &person.wants_of);
            assert!(of.map(|(of, _)| of).all(known), "{scenario:?}");
            assert_eq!(plan, settings.plan(), "{scenario:?}: the same seed");
        }
    }

    #[test]
    fn every_second_person_of_a_mixed_call_speaks_the_early_dialect() {
        let spoken = |speech: Speech| [0, 1, 2, 3].map(|person| speech.of(person));
        assert_eq!(spoken(Speech::Late), [Dialect::Late; 4]);
        assert_eq!(spoken(Speech::Early), [Dialect::Early; 4]);
        let [late, early] = [Dialect::Late, Dialect::Early];
        assert_eq!(spoken(Speech::Mixed), [late, early, late, early]);
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::from_str(scenario.name(), false), Ok(scenario));
            assert!(!scenario.about().is_empty());
        }
    }
}
