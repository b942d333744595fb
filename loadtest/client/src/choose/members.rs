//! Who takes part in the call, on which foci, and which they would prefer: the member events of a room.
//!
//! Left out is what does not count any more: devices whose listing has expired (MSC3401), users who are not in the room. What
//! cannot be read is as good as absent.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::limits::{
    DEVICES_PER_USER_MAX, ENTRIES_MAX, FOCI_PER_LIST_MAX, GONE_MAX, ID_BYTES_MAX, USERS_MAX,
};
use crate::participant::FocusAddress;

/// Both names of the member event. A user may have either; what they say counts together.
const MEMBER_TYPES: [&str; 2] = ["org.matrix.msc3401.call.member", "m.call.member"];
const ACTIVE: [&str; 2] = ["org.matrix.msc3898.foci.active", "m.foci.active"];
const PREFERRED: [&str; 2] = ["org.matrix.msc3898.foci.preferred", "m.foci.preferred"];

/// What became of a state event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is about something else.
    Irrelevant,
    /// Taken.
    Taken,
    /// Some or all of it is beyond what is kept.
    TooMuch,
}

/// One device in the call, as its user's member event has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The device.
    pub device_id: String,
    /// What it publishes to. Empty for a full mesh.
    pub active: Vec<FocusAddress>,
    /// What it would rather use, if anybody did.
    pub preferred: Vec<FocusAddress>,
    /// From when on it does not count, in milliseconds since 1970. `None` where the event does not say.
    pub expires_ms: Option<u64>,
}

/// The member events of one call.
#[derive(Debug, Clone)]
pub(super) struct Members {
    conf_id: String,
    own_user: String,
    own_device: String,
    users: BTreeMap<String, [Vec<Listing>; 2]>,
    gone: BTreeSet<String>,
    /// Devices and foci in `users`.
    entries: usize,
}

/// What counts at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Devices in the call besides the own one.
    pub(super) others: usize,
    /// Of each focus in use, how many use it.
    pub(super) active: BTreeMap<FocusAddress, usize>,
    /// Of each focus, how many devices would rather use it or use it and want no other.
    pub(super) preferred: BTreeMap<FocusAddress, usize>,
}

impl Members {
    pub(super) fn new(conf_id: &str, own_user: &str, own_device: &str) -> Members {
        Members {
            conf_id: conf_id.to_owned(),
            own_user: own_user.to_owned(),
            own_device: own_device.to_owned(),
            users: BTreeMap::new(),
            gone: BTreeSet::new(),
            entries: 0,
        }
    }

    pub(super) fn handle(&mut self, event_type: &str, state_key: &str, content: &Value) -> Fate {
        if event_type == "m.room.member" {
            return self.handle_membership(state_key, content);
        }
        let Some(name) = MEMBER_TYPES.iter().position(|name| *name == event_type) else {
            return Fate::Irrelevant;
        };
        if state_key.len() > ID_BYTES_MAX {
            return Fate::TooMuch;
        }
        self.take(state_key, name);
        let (listings, mut whole) = listings(content, &self.conf_id);
        let mut kept = Vec::new();
        for listing in listings {
            let entries = entries_of(&listing);
            if self.entries + entries > ENTRIES_MAX {
                whole = false;
                break;
            }
            self.entries += entries;
            kept.push(listing);
        }
        if !kept.is_empty() {
            if self.users.len() >= USERS_MAX && !self.users.contains_key(state_key) {
                self.entries -= kept.iter().map(entries_of).sum::<usize>();
                return Fate::TooMuch;
            }
            self.users.entry(state_key.to_owned()).or_default()[name] = kept;
        }
        if whole { Fate::Taken } else { Fate::TooMuch }
    }

    fn handle_membership(&mut self, user_id: &str, content: &Value) -> Fate {
        if content["membership"] == "join" {
            self.gone.remove(user_id);
        } else if self.gone.len() < GONE_MAX && user_id.len() <= ID_BYTES_MAX {
            self.gone.insert(user_id.to_owned());
        } else {
            return Fate::TooMuch;
        }
        Fate::Taken
    }

    /// Forgets what a user's event said before.
    fn take(&mut self, user_id: &str, name: usize) {
        let Some(said) = self.users.get_mut(user_id) else {
            return;
        };
        let before = std::mem::take(&mut said[name]);
        self.entries -= before.iter().map(entries_of).sum::<usize>();
        if said.iter().all(Vec::is_empty) {
            self.users.remove(user_id);
        }
    }

    /// The listings that count, the own one left out; a device that both events name once.
    fn present(&self, now_ms: u64) -> impl Iterator<Item = &Listing> {
        let users = self.users.iter();
        let here = users.filter(|(user_id, _)| !self.gone.contains(*user_id));
        here.flat_map(move |(user_id, said)| {
            let both = said[0].iter().chain(&said[1]);
            let mut seen = BTreeSet::new();
            let is_own =
                |of: &Listing| *user_id == self.own_user && of.device_id == self.own_device;
            both.filter(move |of| of.counts(now_ms) && !is_own(of))
                .filter(move |of| seen.insert(of.device_id.as_str()))
        })
    }

    pub(super) fn view(&self, now_ms: u64) -> View {
        let mut view = View::default();
        for listing in self.present(now_ms) {
            view.others += 1;
            count(&mut view.active, &listing.active);
            count(&mut view.preferred, listing.wants());
        }
        view
    }

    /// Whether users, entries and users gone are within their limits.
    #[cfg(test)]
    pub(super) fn bounds(&self) -> (bool, bool, bool) {
        let all = self.users.values().flatten().flatten();
        let entries: usize = all.map(entries_of).sum();
        assert_eq!(entries, self.entries, "what is counted is what is there");
        (
            self.users.len() <= USERS_MAX,
            entries <= ENTRIES_MAX,
            self.gone.len() <= GONE_MAX,
        )
    }

    pub(super) fn next_expiry(&self, now_ms: u64) -> Option<u64> {
        self.present(now_ms).filter_map(|of| of.expires_ms).min()
    }
}

impl Listing {
    fn counts(&self, now_ms: u64) -> bool {
        self.expires_ms.is_none_or(|expires| expires > now_ms)
    }

    /// A device that uses what it prefers lists nothing as preferred: then it prefers what it uses.
    fn wants(&self) -> &[FocusAddress] {
        match self.preferred.is_empty() {
            true => &self.active,
            false => &self.preferred,
        }
    }
}

impl View {
    /// All foci that somebody names, those that most name first.
    pub(super) fn most_named(&self) -> Vec<FocusAddress> {
        let mut named: BTreeMap<&FocusAddress, usize> = BTreeMap::new();
        for (focus, count) in self.active.iter().chain(&self.preferred) {
            *named.entry(focus).or_default() += count;
        }
        let mut named: Vec<_> = named.into_iter().collect();
        named.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        named.into_iter().map(|(focus, _)| focus.clone()).collect()
    }
}

fn count(counts: &mut BTreeMap<FocusAddress, usize>, of: &[FocusAddress]) {
    for focus in of {
        *counts.entry(focus.clone()).or_default() += 1;
    }
}

fn entries_of(listing: &Listing) -> usize {
    1 + listing.active.len() + listing.preferred.len()
}

/// The devices of a member event that are in the call, and whether those are all that it names.
fn listings(content: &Value, conf_id: &str) -> (Vec<Listing>, bool) {
    let calls = content["m.calls"].as_array().into_iter().flatten();
    let here = calls.filter(|call| call["m.call_id"] == conf_id);
    let mut found = Vec::new();
    for call in here {
        for device in call["m.devices"].as_array().into_iter().flatten() {
            let Some(device_id) = device["device_id"].as_str() else {
                continue;
            };
            if found.len() >= DEVICES_PER_USER_MAX || device_id.len() > ID_BYTES_MAX {
                return (found, false);
            }
            let expiries = [
                device.get("expires_ts"),
                call.get("m.expires_ts"),
                content.get("m.expires_ts"),
            ];
            found.push(Listing {
                device_id: device_id.to_owned(),
                active: list(device, ACTIVE),
                preferred: list(device, PREFERRED),
                expires_ms: expiries.into_iter().flatten().find_map(Value::as_u64),
            });
        }
    }
    (found, true)
}

/// Of the two names of a list, the unstable one counts where both are there: who writes it knows it.
fn list(device: &Value, names: [&str; 2]) -> Vec<FocusAddress> {
    let said = names
        .iter()
        .find_map(|name| device.get(name).and_then(Value::as_array));
    said.map(|entries| foci(entries)).unwrap_or_default()
}

/// The foci of a list, each once.
pub(super) fn foci(entries: &[Value]) -> Vec<FocusAddress> {
    let mut found: Vec<FocusAddress> = Vec::new();
    // A list of any length is read so far, whatever stands in it.
    for entry in entries.iter().take(FOCI_PER_LIST_MAX) {
        let id = |name: &str| {
            let id = entry.get(name)?.as_str()?;
            (!id.is_empty() && id.len() <= ID_BYTES_MAX).then(|| id.to_owned())
        };
        if let (Some(user_id), Some(device_id)) = (id("user_id"), id("device_id")) {
            let focus = FocusAddress { user_id, device_id };
            if !found.contains(&focus) {
                found.push(focus);
            }
        }
    }
    found
}
