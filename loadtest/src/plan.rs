//! What a scenario lets happen: who joins when, publishes what, wants what. Plain data, made by `scenario`, performed by
//! `engine`.

use std::time::Duration;

use serde::Serialize;
use weir_client::Size;

/// A picture that fills a screen.
pub const LARGE: Size = Size {
    width: 1280,
    height: 720,
};
/// One of a few tiles.
pub const MEDIUM: Size = Size {
    width: 640,
    height: 360,
};
/// One of many tiles.
pub const SMALL: Size = Size {
    width: 320,
    height: 180,
};

/// A whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Conferences, each in a room of its own.
    pub calls: usize,
    /// Everybody who is ever there. A person is one user, and may come and go.
    pub people: Vec<Person>,
    /// Who joins before the measurement begins, and when; in the order of time.
    pub joins: Vec<(Duration, usize)>,
    /// What happens while it is measured, from its beginning; in the order of time.
    pub events: Vec<(Duration, Event)>,
    /// How long it is measured; in a ramp, each step.
    pub seconds: f64,
    /// For a ramp: how many people of `joins` have joined at the end of each step.
    pub steps: Vec<usize>,
}

/// One user.
#[derive(Debug, Clone, PartialEq)]
pub struct Person {
    /// The conference, from 0.
    pub call: usize,
    /// Sends a camera's picture.
    pub video: bool,
    /// Sends a microphone's sound.
    pub audio: bool,
    /// The size of everybody's picture; `None` wants none.
    pub wants: Option<Size>,
    /// Exceptions from that, by person.
    pub wants_of: Vec<(usize, Option<Size>)>,
    /// How closely what arrives is looked at.
    pub checks: Depth,
}

/// How closely a participant looks at what arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// Every packet and every frame.
    Full,
    /// All of the signalling and RTCP; media is counted.
    Light,
}

/// Something that happens during the measurement.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A person joins.
    Join(usize),
    /// A person leaves.
    Leave(usize),
    /// A person wants another size of another's picture, or of everybody's.
    Want {
        /// Who wants.
        person: usize,
        /// Whose picture; `None` is everybody's.
        of: Option<usize>,
        /// The size; `None` wants none.
        size: Option<Size>,
    },
}

impl Plan {
    /// People who publish something.
    pub fn publishers(&self) -> usize {
        let publishes = |person: &&Person| person.video || person.audio;
        self.people.iter().filter(publishes).count()
    }

    /// People who check in full.
    pub fn full(&self) -> usize {
        let full = |person: &&Person| person.checks == Depth::Full;
        self.people.iter().filter(full).count()
    }

    /// Streams that the focus forwards when the first `present` people of `joins` are there: (video, audio).
    pub fn streams(&self, present: usize) -> (usize, usize) {
        let here: Vec<usize> = self
            .joins
            .iter()
            .take(present)
            .map(|(_, person)| *person)
            .collect();
        let (mut video, mut audio) = (0, 0);
        for own in &here {
            let person = &self.people[*own];
            let others = here
                .iter()
                .filter(|other| *other != own && self.people[**other].call == person.call);
            for other in others {
                let sender = &self.people[*other];
                video += usize::from(sender.video && person.wants_of(*other).is_some());
                audio += usize::from(sender.audio);
            }
        }
        (video, audio)
    }
}

impl Person {
    /// The size in which this person wants another's picture.
    pub fn wants_of(&self, other: usize) -> Option<Size> {
        let exception = self.wants_of.iter().find(|(of, _)| *of == other);
        exception.map_or(self.wants, |(_, size)| *size)
    }
}

/// When the `n`th of people joins who come at a steady rate.
pub fn nth_at(n: usize, per_second: f64) -> Duration {
    Duration::from_secs_f64(n as f64 / per_second)
}

/// Which of `count` people check in full, evenly spread, the first always among them if anybody is.
pub fn full_of(index: usize, count: usize, share: f64) -> Depth {
    let full = (count as f64 * share).ceil() as usize;
    if full == 0 || count == 0 {
        return Depth::Light;
    }
    // The nth full one is the first whose share of the way is n of `full`.
    let before = |index: usize| (index * full).div_ceil(count);
    match before(index + 1) > before(index) {
        true => Depth::Full,
        false => Depth::Light,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(count: usize, share: f64) -> Vec<usize> {
        (0..count)
            .filter(|index| full_of(*index, count, share) == Depth::Full)
            .collect()
    }

    #[test]
    fn full_validators_are_spread_evenly() {
        assert_eq!(full(10, 0.0), [] as [usize; 0]);
        assert_eq!(full(10, 0.01), [0]);
        assert_eq!(full(10, 0.2), [0, 5]);
        assert_eq!(full(10, 0.25), [0, 3, 6]);
        assert_eq!(full(4, 1.0), [0, 1, 2, 3]);
        assert_eq!(full(500, 0.02).len(), 10);
    }

    #[test]
    fn streams_are_counted_within_a_conference() {
        let person = |call, video, wants| Person {
            call,
            video,
            audio: true,
            wants,
            wants_of: Vec::new(),
            checks: Depth::Light,
        };
        let mut people = vec![
            person(0, true, Some(SMALL)),
            person(0, true, Some(SMALL)),
            person(0, false, None),
            person(1, true, Some(SMALL)),
        ];
        people[0].wants_of.push((1, None));
        let joins = (0..4).map(|n| (nth_at(n, 2.0), n)).collect();
        let plan = Plan {
            calls: 2,
            people,
            joins,
            events: vec![],
            seconds: 1.0,
            steps: vec![],
        };
        // 1 sees 0; 0 does not want 1, 2 wants nobody, and 3 is alone.
        assert_eq!(plan.streams(4), (1, 6));
        assert_eq!(plan.streams(1), (0, 0));
        assert_eq!(plan.joins[3].0, Duration::from_millis(1500));
    }
}
