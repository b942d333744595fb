//! Which focus to use (MSC3898 "Choosing a focus"), as a pure decision: what is known goes in, what is to be done comes out. No
//! I/O and no clock; how things are measured is in `measure`.
//!
//! ```text
//!  configuration, well-known ─► own foci ──┐
//!  member events of the room ─► members ───┼─► Choice ─► Decision: what to use, what to publish
//!  measurements ─────────────► measured ──┘
//! ```
//! * Input: [`Choice::handle_configured`], [`Choice::handle_well_known`], [`Choice::handle_state`], [`Choice::handle_measured`],
//!   [`Choice::handle_failed`], in any order and as often as there is something.
//! * Output: [`Choice::to_measure`] says what is still to be measured, [`Choice::poll_decision`] what is to change, and
//!   [`Choice::poll_timeout`] when to look again though nothing came in.
//!
//! Everything from other people is bounded by `limits`: what is beyond is left out, own foci never are.

mod decide;
mod limits;
mod measured;
mod members;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use decide::{Because, Decision, FullMesh, Rules, Using};
pub use measured::{Criterion, Measured, MediaMeasured};
pub use members::{Fate, Listing};

use crate::participant::FocusAddress;
use limits::{FOCI_MAX, OWN_FOCI_MAX};
use members::{Members, View, foci};

/// The entry of a well-known document that names foci; the second is for the time after the proposal.
const WELL_KNOWN_KEYS: [&str; 2] = ["org.matrix.msc3898.foci", "m.foci"];

/// One device's choice for one call, from before it joins until it leaves.
#[derive(Debug, Clone)]
pub struct Choice {
    rules: Rules,
    /// Configured or recommended by the own homeserver, each once: what MSC3898 calls preferred foci.
    own: Vec<Known>,
    members: Members,
    measured: BTreeMap<FocusAddress, Measured>,
    /// Refused, unreachable or gone; not looked at before it is measured again.
    failed: BTreeSet<FocusAddress>,
    using: Using,
    last: Option<Decision>,
}

/// A focus and where it can be measured.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Known {
    /// The focus.
    pub focus: FocusAddress,
    /// Its blip port (`blip_url`), where it has one.
    pub blip_url: Option<String>,
}

impl Choice {
    /// Knows nothing yet. `user_id` and `device_id` are the own ones: what they list is not somebody else's.
    pub fn new(rules: Rules, conf_id: &str, user_id: &str, device_id: &str) -> Choice {
        Choice {
            rules,
            own: Vec::new(),
            members: Members::new(conf_id, user_id, device_id),
            measured: BTreeMap::new(),
            failed: BTreeSet::new(),
            using: Using::Nothing,
            last: None,
        }
    }

    /// Takes a focus of the configuration; so many of them at most, the first ones.
    pub fn handle_configured(&mut self, known: Known) {
        let is_new = self.own.iter().all(|own| own.focus != known.focus);
        if is_new && self.own.len() < OWN_FOCI_MAX {
            self.own.push(known);
        }
    }

    /// Takes the foci that the homeserver's well-known document recommends.
    pub fn handle_well_known(&mut self, document: &Value) {
        let named = WELL_KNOWN_KEYS.iter().find_map(|key| document.get(key));
        let entries = named.and_then(Value::as_array).into_iter().flatten();
        for entry in entries.take(OWN_FOCI_MAX) {
            let blip_url = entry["blip_url"].as_str().map(str::to_owned);
            for focus in foci(std::slice::from_ref(entry)) {
                let blip_url = blip_url.clone();
                self.handle_configured(Known { focus, blip_url });
            }
        }
    }

    /// Takes a state event of the call's room: member events of the call and memberships of the room, others do nothing.
    pub fn handle_state(&mut self, event_type: &str, state_key: &str, content: &Value) -> Fate {
        self.members.handle(event_type, state_key, content)
    }

    /// Takes what a measurement gave. A focus that had failed is looked at again.
    pub fn handle_measured(&mut self, focus: &FocusAddress, measured: Measured) {
        self.failed.remove(focus);
        if self.measured.len() < FOCI_MAX || self.measured.contains_key(focus) {
            self.measured.insert(focus.clone(), measured);
        }
    }

    /// Takes that a focus does not answer, refuses, or has ended the call: it is left out.
    pub fn handle_failed(&mut self, focus: &FocusAddress) {
        self.measured.remove(focus);
        if self.failed.len() < FOCI_MAX {
            self.failed.insert(focus.clone());
        }
    }

    /// What is not measured yet and may be of use now: own foci first, then those that most members name.
    pub fn to_measure(&self, now_ms: u64) -> Vec<Known> {
        let view = self.members.view(now_ms);
        let known = self.known(&view).into_iter();
        let new = |known: &Known| {
            !self.measured.contains_key(&known.focus) && !self.failed.contains(&known.focus)
        };
        known.filter(new).collect()
    }

    /// What is measured so far.
    pub fn measured(&self) -> &BTreeMap<FocusAddress, Measured> {
        &self.measured
    }

    /// What is to be used and published now, if that is not what the last decision said.
    pub fn poll_decision(&mut self, now_ms: u64) -> Option<Decision> {
        let decision = self.decide(now_ms);
        let changed = |last: &Decision| {
            (&last.using, &last.preferred) != (&decision.using, &decision.preferred)
        };
        if !self.last.as_ref().is_none_or(changed) {
            return None;
        }
        self.using = decision.using.clone();
        self.last = Some(decision.clone());
        Some(decision)
    }

    /// When a listing of a member expires next, in milliseconds of the wall clock: the decision may be another one then.
    pub fn poll_timeout(&self, now_ms: u64) -> Option<u64> {
        self.members.next_expiry(now_ms)
    }

    /// All foci that may be chosen, each once, failed ones too.
    fn known(&self, view: &View) -> Vec<Known> {
        let mut known = self.own.clone();
        for focus in view.most_named() {
            if known.len() >= FOCI_MAX {
                break;
            }
            if known.iter().all(|own| own.focus != focus) {
                let blip_url = None;
                known.push(Known { focus, blip_url });
            }
        }
        known
    }
}
