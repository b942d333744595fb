//! Performs a plan: lets people join, want, leave, and looks at everything once a second. What it has seen becomes the report
//! in `report::assemble`.
//!
//! **Law of the engine:** what is asked of one person is done in order, by that person's own task; nothing else touches its
//! participant. So a leave that comes during a join waits for the join.

mod crowd;
mod watch;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

pub use crowd::{Media, decode};
pub use watch::{FORWARDED, Moment, Seen};

use crate::criteria::{self, Criteria};
use crate::plan::{Event, Plan};
use crate::report::tally::Tally;
use crate::report::{Sample, Step};
use crate::site::Site;
use crowd::Crowd;
use watch::Watch;

/// All that was seen in a run.
#[derive(Debug)]
pub struct Outcome {
    /// Seconds since 1970 when it began.
    pub started_unix_s: u64,
    /// One a second.
    pub samples: Vec<Sample>,
    /// Sums of all visits.
    pub tally: Tally,
    /// Before anybody joined.
    pub before: Moment,
    /// When the measurement began.
    pub from: Moment,
    /// When it ended.
    pub to: Moment,
    /// Participants and forwarded streams at the end of the measurement.
    pub present: (usize, usize),
    /// The steps of a ramp.
    pub steps: Vec<Step>,
    /// Why it was ended early, if it was.
    pub ended_early: Option<String>,
}

/// After the last join, before anything is measured: the first keyframes and the bandwidth estimates are behind then.
const SETTLES: Duration = Duration::from_secs(2);
/// Joins that are slow are waited for, but not for ever.
const JOINS_WITHIN: Duration = Duration::from_secs(60);
/// How often the plan looks at whether everybody is there.
const LOOK: Duration = Duration::from_millis(50);

/// Performs `plan` at `site`; `progress` is told where it is, once a second. Ends early when `stop` resolves.
pub async fn run(
    plan: &Plan,
    site: &Site,
    media: Media,
    criteria: &Criteria,
    progress: impl Fn(&str) + Send + Sync + 'static,
    stop: impl Future<Output = ()>,
) -> Outcome {
    let began = Instant::now();
    let unix = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let crowd = Crowd::new(plan, site, media, began, unix.as_millis() as u64);
    let watch = Watch::start(site, crowd.clone(), began, progress).await;
    let before = watch.moment().await;
    let mut run = Run {
        plan,
        criteria,
        crowd,
        watch,
        from: before.clone(),
        steps: Vec::new(),
        joined: 0,
    };
    let focus_gone = run.watch.focus_gone();
    let ended_early = tokio::select! {
        () = run.perform() => None,
        () = stop => Some("interrupted".to_owned()),
        () = focus_gone => Some("the focus has ended".to_owned()),
    };
    let to = run.watch.moment().await;
    let (video, audio) = run.crowd.streams();
    let present = (to.totals.connected, video + audio);
    run.crowd.announce("everybody leaves");
    let samples = run.watch.stop().await;
    let tally = run.crowd.everybody_leaves().await;
    Outcome {
        started_unix_s: unix.as_secs(),
        samples,
        tally,
        before,
        from: run.from,
        to,
        present,
        steps: run.steps,
        ended_early,
    }
}

struct Run<'a> {
    plan: &'a Plan,
    criteria: &'a Criteria,
    crowd: Crowd,
    watch: Watch,
    from: Moment,
    steps: Vec<Step>,
    /// People of `plan.joins` who were told to join.
    joined: usize,
}

impl Run<'_> {
    async fn perform(&mut self) {
        if self.plan.steps.is_empty() {
            self.join_upto(self.plan.joins.len()).await;
            self.measure().await;
        } else {
            self.ramp().await;
        }
    }

    /// People join at their times up to the `count`th, counted from when the first of these joins.
    async fn join_upto(&mut self, count: usize) {
        let joins = &self.plan.joins[self.joined..count];
        let first = joins.first().map_or(Duration::ZERO, |(at, _)| *at);
        let start = Instant::now();
        for (at, person) in joins {
            tokio::time::sleep_until(start + (*at - first)).await;
            self.crowd.announce("joining");
            self.crowd.join(*person);
        }
        self.joined = count;
        self.until_all_is_done().await;
        tokio::time::sleep(SETTLES).await;
    }

    async fn until_all_is_done(&self) {
        let deadline = Instant::now() + JOINS_WITHIN;
        while self.crowd.busy() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn measure(&mut self) {
        self.crowd.announce("measuring");
        self.watch.set_measuring(true);
        self.from = self.watch.moment().await;
        let start = Instant::now();
        for (at, event) in &self.plan.events {
            tokio::time::sleep_until(start + *at).await;
            match event {
                Event::Join(person) => self.crowd.join(*person),
                Event::Leave(person) => self.crowd.leave(*person),
                Event::Want { person, of, size } => self.crowd.want(*person, *of, *size),
            }
        }
        tokio::time::sleep_until(start + Duration::from_secs_f64(self.plan.seconds)).await;
        // Whoever was asked to join has joined or failed before anything is judged.
        self.until_all_is_done().await;
    }

    async fn ramp(&mut self) {
        for upto in self.plan.steps.clone() {
            let failed_before = self.crowd.failed();
            self.join_upto(upto).await;
            self.crowd.announce("measuring");
            let from = self.watch.moment().await;
            // The measurement of a ramp begins with its first step.
            if self.steps.is_empty() {
                self.from = from.clone();
                self.watch.set_measuring(true);
            }
            tokio::time::sleep(Duration::from_secs_f64(self.plan.seconds)).await;
            let to = self.watch.moment().await;
            let seen = Seen::between(&from, &to);
            let mut step = Step {
                subscribers: upto - self.plan.publishers(),
                failed_joins: self.crowd.failed() - failed_before,
                loss_percent: seen.totals.loss_percent(),
                delay_ms: crate::report::tally::quantiles_of(&seen.totals.delay),
                focus_cpu: seen.focus.as_ref().map_or(0.0, |focus| focus.total),
                focus_busiest: seen.focus.as_ref().map_or(0.0, |focus| focus.busiest),
                generator_cpu: seen.generator.total,
                violations: match criteria::stalls(&seen) {
                    0 => seen.totals.violations,
                    _ => seen.totals.violations - seen.totals.timed_violations,
                },
                packets_per_second: seen.totals.packets as f64 / seen.seconds,
                generator: criteria::generator(&seen),
                failed: Vec::new(),
            };
            step.failed = criteria::failed(self.criteria, &step);
            let ended = !step.failed.is_empty();
            self.steps.push(step);
            if ended {
                break;
            }
        }
    }
}
