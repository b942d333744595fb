//! Who gets what of a subscriber's bandwidth: a decision over a few numbers.
//!
//! The lowest layer of every picture that was asked for comes first, the largest first; then one step more for each in the same
//! order, as long as steps fit. Among pictures of one size, screens go before the active speaker, and both before the rest.

use std::time::{Duration, Instant};

use crate::layers::{Rung, Target};
use crate::limits::{
    ALLOCATION_GUESSED, ALLOCATION_MARGIN, ALLOCATION_TOLERANCE, RESUME_AFTER, RISE_AFTER, RISE_AT,
    RISE_FAILED, RISE_FAILURES_MAX, RISE_SURELY_AT,
};

/// Steps of one picture that are weighed. A track has fewer but for scalable streams in several encodings.
const STEPS_MAX: usize = 16;

/// What goes first among pictures of one size, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    Screen,
    Speaker,
    Other,
}

/// What a picture has at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// It has not been decided on: it starts with whatever fits.
    Undecided,
    /// It was paused for want of bandwidth.
    Nothing,
    This(Target),
}

/// One picture that a subscriber asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// The subscription's table index.
    pub(crate) subscription: u32,
    /// Pixels.
    pub(crate) area: u32,
    pub(crate) urgency: Urgency,
    /// What its best takes more than the best that is there: that one is silent.
    pub(crate) silent_bps: u64,
    /// There is nothing smaller than its first step, and nobody has measured yet what that takes.
    pub(crate) is_guess: bool,
    steps: [Rung; STEPS_MAX],
    count: usize,
    /// How many of the steps it has at present; fewer are a fall.
    had: usize,
    /// More than this are a rise.
    held: usize,
    /// How many of the steps it gets.
    given: usize,
}

impl Ask {
    /// `rungs` are the choices, least first; `None` when there are none.
    pub(crate) fn new(
        subscription: u32,
        area: u32,
        urgency: Urgency,
        rungs: &[Rung],
        holds: Holds,
    ) -> Option<Self> {
        let mut steps = [*rungs.first()?; STEPS_MAX];
        // Of too many the lowest and the highest stay.
        let count = rungs.len().min(STEPS_MAX);
        let (low, high) = (count - count / 2, count / 2);
        steps[..low].copy_from_slice(&rungs[..low]);
        steps[low..count].copy_from_slice(&rungs[rungs.len() - high..]);
        let (had, held) = match holds {
            Holds::Undecided => (0, count),
            Holds::Nothing => (0, 0),
            Holds::This(target) => {
                let at = steps[..count].iter().position(|step| step.target == target);
                // What is no step any more, because it is silent or too large, says nothing about the others.
                at.map_or((0, count), |at| (at + 1, at + 1))
            }
        };
        Some(Self {
            subscription,
            area,
            urgency,
            silent_bps: 0,
            is_guess: false,
            steps,
            count,
            had,
            held,
            given: 0,
        })
    }

    /// What it gets; `None` is nothing.
    pub(crate) fn target(&self) -> Option<Target> {
        let last = self.given.checked_sub(1)?;
        self.steps.get(last).map(|step| step.target)
    }

    /// Whether it gets all that it asks for.
    pub(crate) fn is_satisfied(&self) -> bool {
        self.given == self.count
    }

    /// What `steps` steps take.
    fn bps(&self, steps: usize) -> u64 {
        let step = steps.checked_sub(1).and_then(|last| self.steps.get(last));
        step.map_or(0, |step| step.bps)
    }

    fn top_bps(&self) -> u64 {
        self.bps(self.count)
    }

    /// What it costs to give one step more, and what kind of step that is. `None` when there is none.
    fn next(&self) -> Option<(u64, Step)> {
        if self.given == self.count {
            return None;
        }
        let (least, more) = (self.bps(self.given), self.bps(self.given + 1));
        let step = match self.given {
            0 if self.held == 0 => Step::More(Rise::Resume),
            given if given >= self.held => Step::More(Rise::Up),
            0 if self.had == 0 => Step::Starts,
            _ => Step::Held,
        };
        Some((more.saturating_sub(least), step))
    }
}

/// What one step more is to a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The first of a picture that is new.
    Starts,
    /// The picture has it, or is new and has got the step before.
    Held,
    /// The picture does not have it.
    More(Rise),
}

/// More than a picture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rise {
    /// The least of it, after nothing.
    Resume,
    Up,
}

/// What can be given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// For all pictures together; `None` is no limit.
    pub(crate) budget_bps: Option<u64>,
    /// Whether anyone may get more than at present.
    pub(crate) may_rise: bool,
    /// Whether what was paused may go on.
    pub(crate) may_resume: bool,
    /// Whether nothing waits on the way: then what flows is not stopped for a guess at what it takes.
    pub(crate) is_calm: bool,
    /// Whether it is still being found out what can be given: then a guess keeps nothing from starting either.
    pub(crate) is_open: bool,
}

/// What was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) allocated_bps: u64,
    /// What everything that was asked for takes.
    pub(crate) wanted_bps: u64,
    /// Somebody gets less than before, or more.
    pub(crate) fell: bool,
    pub(crate) rose: bool,
}

/// Gives each of `asks` its steps, and puts them in the order in which they go.
pub(crate) fn allocate(asks: &mut [Ask], terms: Terms) -> Outcome {
    asks.sort_unstable_by_key(|ask| (u32::MAX - ask.area, ask.urgency, ask.subscription));
    let mut used = Used::default();
    for round in 0..STEPS_MAX {
        let mut given = false;
        for ask in asks.iter_mut().filter(|ask| ask.given == round) {
            let Some((more, step)) = ask.next() else {
                continue;
            };
            let then = used.and(more, ask.is_guess);
            if then.fits(step, terms) {
                ask.given += 1;
                used = then;
                given = true;
            }
        }
        if !given {
            break;
        }
    }
    Outcome {
        allocated_bps: used.bps,
        wanted_bps: asks.iter().map(Ask::top_bps).sum(),
        fell: asks.iter().any(|ask| ask.given < ask.had),
        rose: asks.iter().any(|ask| ask.given > ask.held),
    }
}

/// What has been given out.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    bps: u64,
    /// The part of it that was measured.
    measured_bps: u64,
}

impl Used {
    fn and(self, bps: u64, is_guess: bool) -> Self {
        Self {
            bps: self.bps + bps,
            measured_bps: self.measured_bps + if is_guess { 0 } else { bps },
        }
    }

    /// Whether so much can be given, `step` having come last.
    fn fits(self, step: Step, terms: Terms) -> bool {
        let Some(budget) = terms.budget_bps else {
            return true;
        };
        let within = |bps: u64, part: f64| bps as f64 <= part * budget as f64;
        let believed = within(self.bps, ALLOCATION_TOLERANCE);
        let doubted = terms.is_calm
            && within(self.measured_bps, ALLOCATION_TOLERANCE)
            && within(self.bps, ALLOCATION_GUESSED);
        match step {
            Step::More(Rise::Up) => terms.may_rise && within(self.bps, ALLOCATION_MARGIN),
            Step::More(Rise::Resume) => terms.may_resume && within(self.bps, ALLOCATION_MARGIN),
            Step::Starts if !terms.is_open => believed,
            Step::Starts | Step::Held => believed || doubted,
        }
    }
}

/// Keeps a subscriber's pictures from going up and down: after somebody got less, nobody gets more until the estimate is
/// clearly higher, or some time has passed; and each time that more turns out too much, that takes longer.
#[derive(Debug, Default)]
pub(crate) struct Hysteresis {
    /// The estimate at which somebody got less the last time, and when.
    fell: Option<(u64, Instant)>,
    rose_at: Option<Instant>,
    failures: u32,
}

impl Hysteresis {
    /// Whether anyone may get more.
    pub(crate) fn may(&self, rise: Rise, estimate_bps: u64, now: Instant) -> bool {
        let Some((before, at)) = self.fell else {
            return true;
        };
        let since = now.saturating_duration_since(at);
        let hold = match self.failures {
            0 => Duration::ZERO,
            failures => RISE_FAILED * (1 << (failures - 1)),
        };
        let grown = estimate_bps as f64 / before.max(1) as f64;
        let clearly = grown >= RISE_AT;
        let (hold, after) = match rise {
            Rise::Up => (hold, RISE_AFTER),
            Rise::Resume => (hold / 2, RESUME_AFTER),
        };
        grown >= RISE_SURELY_AT || since >= hold && (clearly || since >= hold.max(after))
    }

    /// Notes what came of an allocation.
    pub(crate) fn note(&mut self, outcome: &Outcome, estimate_bps: u64, now: Instant) {
        match (outcome.fell, outcome.rose) {
            (true, false) => {
                let since_rise = self
                    .rose_at
                    .take()
                    .map(|at| now.saturating_duration_since(at));
                self.failures = match since_rise {
                    Some(since) if since < RISE_AFTER => (self.failures + 1).min(RISE_FAILURES_MAX),
                    Some(_) => 0,
                    // One more step of the same fall.
                    None => self.failures,
                };
                self.fell = Some((estimate_bps, now));
            }
            (false, true) => self.rose_at = Some(now),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn target(layer: usize) -> Target {
        Target {
            layer,
            spatial: 0,
            temporal: 0,
        }
    }

    /// A camera in three layers: 150, 500 and 1700 kb/s.
    fn camera(subscription: u32, area: u32, urgency: Urgency, holds: Holds) -> Ask {
        let rungs = [(2, 150_000), (1, 500_000), (0, 1_700_000)].map(|(layer, bps)| Rung {
            target: target(layer),
            bps,
        });
        Ask::new(subscription, area, urgency, &rungs, holds).unwrap()
    }

    fn terms(kbps: u64) -> Terms {
        Terms {
            budget_bps: Some(kbps * 1000),
            may_rise: true,
            may_resume: true,
            is_calm: true,
            is_open: true,
        }
    }

    /// What each gets, as the layer's number, by subscription.
    fn given(mut asks: Vec<Ask>, terms: Terms) -> Vec<Option<usize>> {
        allocate(&mut asks, terms);
        asks.sort_by_key(|ask| ask.subscription);
        asks.iter()
            .map(|ask| ask.target().map(|target| target.layer))
            .collect()
    }

    fn new(subscription: u32, area: u32) -> Ask {
        camera(subscription, area, Urgency::Other, Holds::Undecided)
    }

    #[test]
    fn without_a_limit_everyone_gets_everything() {
        let terms = Terms {
            budget_bps: None,
            may_rise: false,
            may_resume: false,
            is_calm: false,
            is_open: false,
        };
        assert_eq!(given(vec![new(0, 9), new(1, 5)], terms), [Some(0), Some(0)]);
    }

    #[test]
    fn the_lowest_layer_of_all_goes_before_more_for_anyone() {
        let asks = || vec![new(0, 9), new(1, 7), new(2, 5)];
        assert_eq!(given(asks(), terms(140)), [None, None, None]);
        assert_eq!(given(asks(), terms(300)), [Some(2), Some(2), None]);
        assert_eq!(given(asks(), terms(700)), [Some(2), Some(2), Some(2)]);
        assert_eq!(given(asks(), terms(800)), [Some(1), Some(2), Some(2)]);
        assert_eq!(given(asks(), terms(1500)), [Some(1), Some(1), Some(1)]);
        assert_eq!(given(asks(), terms(2700)), [Some(0), Some(1), Some(1)]);
        assert_eq!(given(asks(), terms(5100)), [Some(0), Some(0), Some(0)]);
    }

    #[test]
    fn screens_and_the_speaker_go_before_others_of_their_size() {
        let asks = vec![
            new(0, 9),
            camera(1, 9, Urgency::Speaker, Holds::Undecided),
            camera(2, 9, Urgency::Screen, Holds::Undecided),
            new(3, 10),
        ];
        assert_eq!(
            given(asks, terms(1300)),
            [Some(2), Some(2), Some(1), Some(1)]
        );
    }

    #[test]
    fn a_rise_needs_room_and_what_is_there_stays_in_a_little_less() {
        let holding = |layer| vec![camera(0, 9, Urgency::Other, Holds::This(target(layer)))];
        assert_eq!(given(holding(1), terms(1700)), [Some(1)]);
        assert_eq!(given(holding(1), terms(1800)), [Some(0)]);
        assert_eq!(given(holding(0), terms(1630)), [Some(0)]);
        assert_eq!(given(holding(0), terms(1600)), [Some(1)]);
        let frozen = |kbps| Terms {
            may_rise: false,
            may_resume: false,
            ..terms(kbps)
        };
        assert_eq!(given(holding(1), frozen(9000)), [Some(1)]);
        assert_eq!(given(holding(1), frozen(400)), [Some(2)]);
    }

    /// A picture of one layer, thought to take 1000 kb/s.
    fn guessed(subscription: u32, holds: Holds) -> Ask {
        let rung = Rung {
            target: target(0),
            bps: 1_000_000,
        };
        let mut ask = Ask::new(subscription, 9, Urgency::Other, &[rung], holds).unwrap();
        ask.is_guess = true;
        ask
    }

    #[test]
    fn a_guess_stops_nothing_that_flows_on_a_way_that_is_calm() {
        let flows = Holds::This(target(0));
        let all = || (0..4).map(|id| guessed(id, flows)).collect::<Vec<_>>();
        let count = |asks, terms| given(asks, terms).iter().flatten().count();
        let closed = |kbps| Terms {
            is_open: false,
            ..terms(kbps)
        };
        assert_eq!(count(all(), closed(2000)), 4);
        assert_eq!(count(all(), closed(1400)), 2, "but not without end");
        let crowded = Terms {
            is_calm: false,
            ..terms(2000)
        };
        assert_eq!(count(all(), crowded), 2);
        let mut measured = all();
        measured.iter_mut().for_each(|ask| ask.is_guess = false);
        assert_eq!(count(measured, terms(2000)), 2);
    }

    #[test]
    fn a_guess_keeps_nothing_from_starting_while_it_is_found_out_what_fits() {
        let start = |holds| (0..4).map(|id| guessed(id, holds)).collect::<Vec<_>>();
        let count = |asks, terms| given(asks, terms).iter().flatten().count();
        let closed = Terms {
            is_open: false,
            ..terms(2000)
        };
        assert_eq!(count(start(Holds::Undecided), terms(2000)), 4);
        assert_eq!(count(start(Holds::Undecided), closed), 2);
        assert_eq!(count(start(Holds::Nothing), terms(2000)), 1, "was stopped");
    }

    #[test]
    fn says_what_was_given_and_who_rose_or_fell() {
        let mut asks = [camera(0, 9, Urgency::Other, Holds::This(target(0)))];
        let outcome = allocate(&mut asks, terms(600));
        let expected = Outcome {
            allocated_bps: 500_000,
            wanted_bps: 1_700_000,
            fell: true,
            rose: false,
        };
        assert_eq!(outcome, expected);
        assert!(!asks[0].is_satisfied());
        let mut asks = [camera(0, 9, Urgency::Other, Holds::Nothing)];
        let outcome = allocate(&mut asks, terms(9000));
        assert!(outcome.rose && !outcome.fell && asks[0].is_satisfied());
    }

    #[test]
    fn after_a_fall_nobody_rises_before_the_estimate_is_clearly_higher() {
        let now = Instant::now();
        let fell = Outcome {
            fell: true,
            ..Outcome::default()
        };
        let mut hysteresis = Hysteresis::default();
        assert!(hysteresis.may(Rise::Up, 1, now));
        hysteresis.note(&fell, 1_000_000, now);
        assert!(!hysteresis.may(Rise::Up, 1_140_000, now + 9000 * MS));
        assert!(hysteresis.may(Rise::Up, 1_160_000, now + 500 * MS));
        assert!(hysteresis.may(Rise::Up, 900_000, now + 10_000 * MS));
        assert!(!hysteresis.may(Rise::Resume, 900_000, now + 1900 * MS));
        assert!(hysteresis.may(Rise::Resume, 900_000, now + 2000 * MS));
    }

    #[test]
    fn a_rise_that_fails_is_tried_less_and_less_often() {
        let mut now = Instant::now();
        let mut hysteresis = Hysteresis::default();
        let (fell, rose) = (
            Outcome {
                fell: true,
                ..Outcome::default()
            },
            Outcome {
                rose: true,
                ..Outcome::default()
            },
        );
        hysteresis.note(&fell, 1_000_000, now);
        let mut waited = Vec::new();
        for _ in 0..7 {
            let since = now;
            while !hysteresis.may(Rise::Up, 1_900_000, now) {
                now += 100 * MS;
            }
            waited.push((now - since).as_secs());
            hysteresis.note(&rose, 5_000_000, now);
            now += 1000 * MS;
            hysteresis.note(&fell, 1_000_000, now);
        }
        assert_eq!(waited, [0, 4, 8, 16, 32, 64, 64]);
        assert!(hysteresis.may(Rise::Up, 2_000_000, now), "another way");
    }
}
