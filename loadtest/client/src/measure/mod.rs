//! How near foci are, by the four ways of MSC3898 "Determining the best focus". What follows from it is `choose`'s.
//!
//! ```text
//!   blip    connect to the focus's blip port ─► refused
//!   slot    invite without media ─► answer;  on its data channel: ping ─► pong
//!   burst   padding on the slot's only track ─► transport-wide feedback: round trip, bandwidth
//! ```
//! All foci are measured at the same time, each by one call; a slot may be held afterwards.

mod blip;
mod burst;
mod slot;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use slot::Held;

use crate::choose::{Choice, Criterion, Known, Measured};
use crate::clock::unix_ms;
use crate::matrix::{Device, ToDevice};
use crate::participant::{Detour, FocusAddress};
use slot::Slot;

/// Messages that wait for one focus's measurement.
const INBOX_MESSAGES: usize = 64;

/// All of it takes a second or two at most; who takes longer is not worth waiting for.
const MEASURED_WITHIN: Duration = Duration::from_secs(15);

/// Why a focus that can be used refuses a slot.
const NO_SLOTS: [&str; 2] = ["too_many_slots", "too_many_slots_of_user"];

/// Who measures, for which call.
#[derive(Debug, Clone)]
pub struct Surveyor {
    /// The own device.
    pub device: Device,
    /// The call.
    pub conf_id: String,
    /// `sender_session_id` of what is said.
    pub session_id: String,
    /// Where foci are looked for, as in [`crate::peer::Peer::towards`].
    pub towards: Option<IpAddr>,
    /// Ways around, for the foci that have one.
    pub detours: BTreeMap<FocusAddress, Detour>,
    /// What is measured.
    pub criteria: Vec<Criterion>,
}

/// Whether a slot is kept after it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Until it is dropped, or until the focus ends it.
    Slot,
    /// The call is hung up.
    Nothing,
}

/// What was found of one focus.
#[derive(Debug)]
pub struct Found {
    /// The times.
    pub measured: Measured,
    /// The slot, if it was to be held.
    pub held: Option<Held>,
}

impl Surveyor {
    /// Measures what a choice has not measured yet, and tells it. Slots of its own foci are held if `hold` says so.
    pub async fn inform(
        &self,
        choice: &mut Choice,
        hold: Hold,
        to_device: &mut mpsc::Receiver<ToDevice>,
    ) -> BTreeMap<FocusAddress, Held> {
        let hold = |known: &Known, choice: &Choice| match choice.is_own(&known.focus) {
            true => hold,
            false => Hold::Nothing,
        };
        let foci = choice.to_measure(unix_ms()).into_iter();
        let foci = foci
            .map(|known| (known.clone(), hold(&known, choice)))
            .collect();
        let mut slots = BTreeMap::new();
        for (focus, found) in self.measure(foci, to_device).await {
            match found {
                Ok(found) => {
                    choice.handle_measured(&focus, found.measured);
                    slots.extend(found.held.map(|held| (focus, held)));
                }
                Err(reason) => {
                    tracing::info!(?focus, reason, "a focus cannot be used");
                    choice.handle_failed(&focus);
                }
            }
        }
        slots
    }

    /// Measures all of them at the same time. A focus that refuses, or does not answer, gives the reason. Messages that are not
    /// about these calls are lost.
    pub async fn measure(
        &self,
        foci: Vec<(Known, Hold)>,
        to_device: &mut mpsc::Receiver<ToDevice>,
    ) -> Vec<(FocusAddress, Result<Found, String>)> {
        let mut surveys = JoinSet::new();
        let mut inboxes = Vec::with_capacity(foci.len());
        for (known, hold) in foci {
            let (inbox, messages) = mpsc::channel(INBOX_MESSAGES);
            inboxes.push(inbox);
            surveys.spawn(self.clone().survey(known, hold, messages));
        }
        let mut found = Vec::with_capacity(inboxes.len());
        let mut listening = true;
        loop {
            tokio::select! {
                survey = surveys.join_next() => match survey {
                    Some(survey) => found.extend(survey),
                    None => return found,
                },
                message = to_device.recv(), if listening => match message {
                    // Each knows its own by the call's id. Who does not listen any more has what it needs.
                    Some(message) => inboxes.iter().for_each(|inbox| drop(inbox.try_send(message.clone()))),
                    None => listening = false,
                },
            }
        }
    }

    async fn survey(
        self,
        known: Known,
        hold: Hold,
        messages: mpsc::Receiver<ToDevice>,
    ) -> (FocusAddress, Result<Found, String>) {
        let focus = known.focus.clone();
        let survey = self.survey_one(known, hold, messages);
        let found = tokio::time::timeout(MEASURED_WITHIN, survey).await;
        let found = found
            .unwrap_or_else(|_| Err(format!("not measured in {} s", MEASURED_WITHIN.as_secs())));
        (focus, found)
    }

    async fn survey_one(
        &self,
        known: Known,
        hold: Hold,
        messages: mpsc::Receiver<ToDevice>,
    ) -> Result<Found, String> {
        let wants = |criterion| self.criteria.contains(&criterion);
        let mut measured = Measured::default();
        if let Some(url) = known.blip_url.filter(|_| wants(Criterion::Blip)) {
            measured.blip = blip::measure(&url).await;
        }
        let by_call = [Criterion::Answer, Criterion::Channel, Criterion::Media];
        if hold == Hold::Nothing && !by_call.into_iter().any(wants) {
            return Ok(Found {
                measured,
                held: None,
            });
        }
        let mut slot = match Slot::call(self, &known.focus, messages).await {
            Ok(slot) => slot,
            // It has no places to give away, and takes a call with media all the same.
            Err(reason) if NO_SLOTS.iter().any(|no| reason.ends_with(no)) => {
                return Ok(Found {
                    measured,
                    held: None,
                });
            }
            Err(reason) => return Err(reason),
        };
        measured.answer = Some(slot.answered_after());
        let connects = wants(Criterion::Channel) || wants(Criterion::Media);
        if hold == Hold::Nothing && !connects {
            slot.hang_up().await;
            return Ok(Found {
                measured,
                held: None,
            });
        }
        let mut line = slot.connect().await?;
        if wants(Criterion::Channel) {
            measured.channel = line.measure_channel().await;
        }
        if wants(Criterion::Media) {
            measured.media = line.measure_media().await;
        }
        let held = match hold {
            Hold::Slot => Some(line.hold()),
            Hold::Nothing => {
                // The focus may be far: nobody waits for the goodbye.
                drop(line.hold());
                None
            }
        };
        Ok(Found { measured, held })
    }
}
