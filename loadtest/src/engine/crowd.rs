//! The people of a plan, each with a task of its own.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use weir_client::{
    Camera, Checks, Decode, DecodedFrames, Detour, Encryption, JoinConfig, JoinError, Participant,
    Publish, Size, TransportFeedback,
};

use crate::plan::{Depth, Person, Plan};
use crate::report::tally::{Tally, Totals, Visit};
use crate::scenario::Speech;
use crate::site::Site;

/// What every person sends, and by which way.
#[derive(Debug, Clone)]
pub struct Media {
    /// What a camera sends.
    pub camera: Camera,
    /// What people decode who check in full.
    pub decode: Decode,
    /// Whether they tell the focus what arrived when.
    pub feedback: TransportFeedback,
    /// What they speak on the data channel.
    pub dialect: Speech,
    /// Whether it is encrypted from person to person.
    pub encryption: Encryption,
    /// Around the straight way to the focus, e.g. through a bad network.
    pub detour: Option<Detour>,
    /// Of everything that is random.
    pub seed: u64,
    /// Microphones of one conference up to which all are forwarded, as far as is known of the focus.
    pub voices_all_up_to: usize,
}

/// All people. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Crowd(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    plan: Plan,
    configs: Vec<JoinConfig>,
    media: Media,
    slots: Vec<Slot>,
    tally: Mutex<Tally>,
    /// Of visits that are over.
    over: Mutex<Totals>,
    announced: Mutex<&'static str>,
    began: Instant,
    began_unix_ms: u64,
}

#[derive(Debug)]
struct Slot {
    wishes: mpsc::UnboundedSender<Wish>,
    task: Mutex<Option<JoinHandle<()>>>,
    state: Mutex<State>,
}

/// Where a person is.
#[derive(Debug, Default)]
struct State {
    /// Wishes that are not done yet.
    waiting: usize,
    present: Option<Present>,
}

#[derive(Debug, Clone)]
struct Present {
    participant: Participant,
    at_s: f64,
}

#[derive(Debug)]
enum Wish {
    Join,
    Leave,
    Want(Option<usize>, Option<Size>),
}

/// A join that has not come up by then has failed: clients give up after 30 s, too.
const CONNECTS_WITHIN: Duration = Duration::from_secs(30);
/// How often a join looks at whether it is there.
const LOOK: Duration = Duration::from_millis(20);
/// A hang-up is one request.
const LEAVES_WITHIN: Duration = Duration::from_secs(10);

impl Crowd {
    pub(super) fn new(
        plan: &Plan,
        site: &Site,
        media: Media,
        began: Instant,
        began_unix_ms: u64,
    ) -> Crowd {
        let mut receivers = Vec::new();
        let slot = |_| {
            let (wishes, receiver) = mpsc::unbounded_channel();
            receivers.push(receiver);
            Slot {
                wishes,
                task: Mutex::default(),
                state: Mutex::default(),
            }
        };
        let slots = (0..plan.people.len()).map(slot).collect();
        let config = |(index, person): (usize, &Person)| {
            join_config(site.join_config(index, person.call), index, person, &media)
        };
        let crowd = Crowd(Arc::new(Inner {
            configs: plan.people.iter().enumerate().map(config).collect(),
            plan: plan.clone(),
            media,
            slots,
            tally: Mutex::default(),
            over: Mutex::default(),
            announced: Mutex::new("starting"),
            began,
            began_unix_ms,
        }));
        for (person, receiver) in receivers.into_iter().enumerate() {
            let task = tokio::spawn(crowd.clone().live(person, receiver));
            *lock(&crowd.0.slots[person].task) = Some(task);
        }
        crowd
    }

    /// What the run is at, for whoever asks.
    pub(super) fn announce(&self, what: &'static str) {
        *lock(&self.0.announced) = what;
    }

    pub(super) fn announced(&self) -> &'static str {
        *lock(&self.0.announced)
    }

    pub(super) fn join(&self, person: usize) {
        self.ask(person, Wish::Join);
    }

    pub(super) fn leave(&self, person: usize) {
        self.ask(person, Wish::Leave);
    }

    pub(super) fn want(&self, person: usize, of: Option<usize>, size: Option<Size>) {
        self.ask(person, Wish::Want(of, size));
    }

    /// Whether anybody has something left to do.
    pub(super) fn busy(&self) -> bool {
        self.0
            .slots
            .iter()
            .any(|slot| lock(&slot.state).waiting > 0)
    }

    /// Joins that failed so far.
    pub(super) fn failed(&self) -> u64 {
        lock(&self.0.tally).failed()
    }

    /// How many there are in all.
    pub(super) fn people(&self) -> usize {
        self.0.slots.len()
    }

    /// What all of them together have received so far.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = lock(&self.0.over).clone();
        for slot in &self.0.slots {
            // The report is copied outside of the lock of the slot.
            let present = lock(&slot.state).present.clone();
            if let Some(present) = present {
                totals.add(&present.participant.report());
            }
        }
        totals
    }

    /// Streams that flow at the moment: (video, audio).
    pub(super) fn streams(&self) -> (usize, usize) {
        let here: Vec<usize> = (0..self.people())
            .filter(|person| self.is_here(*person))
            .collect();
        here.iter()
            .map(|person| self.expected(*person, &here))
            .fold((0, 0), |all, own| (all.0 + own.0, all.1 + own.1))
    }

    /// Takes the reports of all who are there, before anybody's leaving disturbs them, then lets them leave.
    pub(super) async fn everybody_leaves(self) -> Tally {
        let here: Vec<usize> = (0..self.people())
            .filter(|person| self.is_here(*person))
            .collect();
        let mut leaving = Vec::new();
        for person in &here {
            let present = lock(&self.0.slots[*person].state).present.take();
            let Some(present) = present else { continue };
            // Where people change what they want, or come and go, nobody can say what should flow at the end.
            let settled = self.0.plan.events.is_empty();
            let expected = settled.then(|| self.expected(*person, &here));
            self.count(*person, &present, expected);
            leaving.push(present.participant);
        }
        for slot in &self.0.slots {
            if let Some(task) = lock(&slot.task).take() {
                task.abort();
            }
        }
        let leaving: Vec<_> = leaving
            .into_iter()
            .map(|participant| {
                tokio::spawn(tokio::time::timeout(LEAVES_WITHIN, participant.leave()))
            })
            .collect();
        for left in leaving {
            // Whoever does not get away in time is gone with this process.
            let _ = left.await;
        }
        std::mem::take(&mut *lock(&self.0.tally))
    }

    fn ask(&self, person: usize, wish: Wish) {
        let slot = &self.0.slots[person];
        lock(&slot.state).waiting += 1;
        // The task lives as long as the crowd.
        let _ = slot.wishes.send(wish);
    }

    fn is_here(&self, person: usize) -> bool {
        lock(&self.0.slots[person].state).present.is_some()
    }

    /// Streams that a person should receive from those who are here: (video, audio). With so many microphones that the focus
    /// chooses among them nobody can say how many voices there will be.
    fn expected(&self, person: usize, here: &[usize]) -> (usize, usize) {
        let people = &self.0.plan.people;
        let own = &people[person];
        let others = here
            .iter()
            .filter(|other| **other != person && people[**other].call == own.call);
        let microphones = |other: &&usize| people[**other].audio;
        let all_voices = others.clone().filter(microphones).count() + usize::from(own.audio);
        let (mut video, mut audio) = (0, 0);
        for other in others {
            video += usize::from(people[*other].video && own.wants_of(*other).is_some());
            audio += usize::from(people[*other].audio);
        }
        if all_voices > self.0.media.voices_all_up_to {
            audio = 0;
        }
        (video, audio)
    }

    async fn live(self, person: usize, mut wishes: mpsc::UnboundedReceiver<Wish>) {
        while let Some(wish) = wishes.recv().await {
            match wish {
                Wish::Join => self.do_join(person).await,
                Wish::Leave => self.do_leave(person).await,
                Wish::Want(of, size) => self.do_want(person, of, size),
            }
            lock(&self.0.slots[person].state).waiting -= 1;
        }
    }

    async fn do_join(&self, person: usize) {
        if self.is_here(person) {
            return;
        }
        lock(&self.0.tally).attempted();
        let at_s = self.0.began.elapsed().as_secs_f64();
        let joined = Participant::join(self.0.configs[person].clone()).await;
        let participant = match joined {
            Ok(participant) => participant,
            Err(JoinError::Homeserver(error)) => {
                self.count_failure(person, at_s, format!("homeserver: {error}"), None);
                return;
            }
            Err(error) => {
                self.count_failure(person, at_s, error.to_string(), None);
                return;
            }
        };
        let wants = &self.0.plan.people[person];
        for (of, size) in &wants.wants_of {
            self.set_wanted_of(&participant, *of, *size);
        }
        match connects(&participant).await {
            Ok(()) => {
                let present = Some(Present { participant, at_s });
                lock(&self.0.slots[person].state).present = present;
            }
            Err(reason) => {
                let report = participant.report();
                self.count_failure(person, at_s, reason, Some(report));
                let _ = tokio::time::timeout(LEAVES_WITHIN, participant.leave()).await;
            }
        }
    }

    async fn do_leave(&self, person: usize) {
        let present = lock(&self.0.slots[person].state).present.take();
        let Some(present) = present else { return };
        // Others come and go at the same time: nobody can say what should have flowed.
        self.count(person, &present, None);
        let _ = tokio::time::timeout(LEAVES_WITHIN, present.participant.leave()).await;
    }

    fn do_want(&self, person: usize, of: Option<usize>, size: Option<Size>) {
        let present = lock(&self.0.slots[person].state).present.clone();
        let Some(present) = present else { return };
        match of {
            None => present.participant.set_wanted(size),
            Some(of) => self.set_wanted_of(&present.participant, of, size),
        }
    }

    fn set_wanted_of(&self, participant: &Participant, of: usize, size: Option<Size>) {
        // All users are of one homeserver, as the participant's own id shows.
        let own = participant.report().user_id;
        if let Some((_, server)) = own.split_once(':') {
            let user_id = format!("@{}:{server}", self.0.configs[of].user);
            participant.set_wanted_of(&user_id, size);
        }
    }

    fn count(&self, person: usize, present: &Present, expected: Option<(usize, usize)>) {
        let report = present.participant.report();
        let mut totals = Totals::default();
        totals.add(&report);
        totals.connected = 0;
        lock(&self.0.over).merge(&totals);
        let visit = Visit {
            expected,
            report: Some(report),
            ..self.visit(person, present.at_s)
        };
        lock(&self.0.tally).add(&visit, self.0.began_unix_ms);
    }

    fn count_failure(
        &self,
        person: usize,
        at_s: f64,
        reason: String,
        report: Option<weir_client::Report>,
    ) {
        tracing::warn!(person, reason, "a join failed");
        let visit = Visit {
            failure: Some(reason),
            report,
            ..self.visit(person, at_s)
        };
        lock(&self.0.tally).add(&visit, self.0.began_unix_ms);
    }

    fn visit(&self, person: usize, at_s: f64) -> Visit {
        Visit {
            user: self.0.configs[person].user.clone(),
            at_s,
            checks: self.0.plan.people[person].checks,
            dialect: self.0.configs[person].dialect,
            expected: None,
            failure: None,
            report: None,
        }
    }
}

/// Waits until the transport is up; else says why it is not.
async fn connects(participant: &Participant) -> Result<(), String> {
    let deadline = Instant::now() + CONNECTS_WITHIN;
    loop {
        let report = participant.report();
        if report.connected_after_ms.is_some() {
            return Ok(());
        }
        if let Some(reason) = report.ends.first() {
            return Err(reason.clone());
        }
        if Instant::now() > deadline {
            let step = match report.latencies.answer_ms {
                None => "no answer",
                Some(_) => "an answer, but no connection",
            };
            return Err(format!("{step} within {} s", CONNECTS_WITHIN.as_secs()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn join_config(base: JoinConfig, index: usize, person: &Person, media: &Media) -> JoinConfig {
    JoinConfig {
        publish: Publish {
            video: person.video.then_some(media.camera),
            audio: person.audio,
        },
        wanted: person.wants,
        checks: match person.checks {
            Depth::Full => Checks::Full {
                decode: media.decode,
            },
            Depth::Light => Checks::Light,
        },
        transport_feedback: media.feedback,
        dialect: media.dialect.of(index),
        encryption: media.encryption,
        detour: media.detour.clone(),
        seed: Some(media.seed.wrapping_mul(1 << 20).wrapping_add(index as u64)),
        ..base
    }
}

/// What people decode who check in full: everything where few do, keyframes where many do.
pub fn decode(full: usize) -> Decode {
    match full {
        0..=4 => Decode {
            one_stream_in: 2,
            frames: DecodedFrames::All,
        },
        _ => Decode::KEYFRAMES,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What one task has left behind when it panicked is as good as it was before.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
