//! Who may use the focus, and who no longer may.
//!
//! Pure: fed with what the homeserver says about rooms, asked for each invite. Does not hang up anybody itself.
//!
//! A conference belongs to the first room that announced it: its id is known to everyone who has ever been in the call, and
//! must not become a key to it by being announced once more in a room of one's own.

mod room;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde_json::Value;

use crate::conference::{ParticipantId, Roster};
use room::Room;

/// A device that leaves the call's state may be about to come back: clients take themselves out before they enter, and what
/// belongs together arrives in pieces. Shorter drops calls that have just begun; longer leaves a crashed client's picture up.
const GRACE: Duration = Duration::from_secs(2);

/// Clients list themselves for an hour at a time.
const EXPIRY_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Rooms that are known. The Matrix device joins no more than the operator allows; this is behind it.
const ROOMS_MAX: usize = 50_000;

/// Which invites are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// From users who are joined to the room whose `m.call` has the conference's id, as the focus sees it.
    Membership,
    /// From all users of these homeservers (server names, as after the colon of a user id).
    Homeservers(Vec<String>),
    /// From everybody.
    Open,
}

/// Somebody whose legs in a conference must go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gone {
    /// The conference.
    pub conf_id: String,
    /// The user.
    pub user_id: String,
    /// One device of it; `None` is all.
    pub device_id: Option<String>,
}

/// The rooms of the focus, their calls and their members. Times are since 1970-01-01 UTC, because `expires_ts` is.
#[derive(Debug)]
pub struct Authoriser {
    policy: Policy,
    own_user_id: String,
    rooms: BTreeMap<String, Room>,
    /// The room of each conference.
    calls: BTreeMap<String, String>,
    /// Devices that are gone at that time if they are not back by then: what has left, and what will expire.
    /// As many as there are devices in the rooms, at most.
    due: BTreeSet<(Duration, Gone)>,
    /// Devices that have left and may be about to come back, with the foci that they named; as many as are due, at most.
    lapsed: BTreeMap<Gone, Vec<ParticipantId>>,
    gone: VecDeque<Gone>,
    /// Conferences whose roster may be another one; taken out after every change.
    changed: BTreeSet<String>,
}

impl Authoriser {
    /// Knows no room yet. `own_user_id` is the focus's: when it leaves a room, everything about the room is forgotten.
    pub fn new(policy: Policy, own_user_id: &str) -> Self {
        Self {
            policy,
            own_user_id: own_user_id.to_owned(),
            rooms: BTreeMap::new(),
            calls: BTreeMap::new(),
            due: BTreeSet::new(),
            lapsed: BTreeMap::new(),
            gone: VecDeque::new(),
            changed: BTreeSet::new(),
        }
    }

    /// What [`Authoriser::calls`] gave to an earlier process; before any room is told. A call stays its room's, whichever is told
    /// first now. Alone it lets nobody in.
    pub fn restore_calls(&mut self, calls: BTreeMap<String, String>) {
        self.calls = calls;
    }

    /// The room of each conference.
    pub fn calls(&self) -> &BTreeMap<String, String> {
        &self.calls
    }

    /// A user is joined to a room.
    pub fn handle_joined(&mut self, room_id: &str, user_id: &str) {
        if let Some(room) = self.room_mut(room_id) {
            room.join(user_id);
            let conferences: Vec<String> = room.calls().map(str::to_owned).collect();
            self.changed.extend(conferences);
        }
    }

    /// A user is not joined to a room, whatever else it is: left, kicked, banned.
    pub fn handle_left(&mut self, room_id: &str, user_id: &str) {
        if user_id == self.own_user_id {
            self.forget_room(room_id);
        } else if let Some(room) = self.rooms.get_mut(room_id)
            && room.leave(user_id)
        {
            let conferences: Vec<String> = room.calls().map(str::to_owned).collect();
            self.changed.extend(conferences.iter().cloned());
            self.end(&conferences, user_id);
        }
    }

    /// A state event of a call, under its stable or unstable type. Others are ignored.
    pub fn handle_call_state(
        &mut self,
        room_id: &str,
        event_type: &str,
        state_key: &str,
        sender: &str,
        content: &Value,
        now: Duration,
    ) {
        match event_type {
            "m.call" | "org.matrix.msc3401.call" => self.handle_call(room_id, state_key, content),
            // The homeserver lets nobody write another one's; this is for homeservers with a fault.
            "m.call.member" | "org.matrix.msc3401.call.member" if state_key == sender => {
                self.handle_member(room_id, state_key, content, now);
            }
            _ => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Duration) {
        while let Some((at, _)) = self.due.first() {
            if *at > now {
                return;
            }
            let Some((_, gone)) = self.due.pop_first() else {
                return;
            };
            self.lapsed.remove(&gone);
            self.changed.insert(gone.conf_id.clone());
            if !self.is_listed(&gone, now) {
                self.gone.push_back(gone);
            }
        }
    }

    /// When `handle_timeout` is due next.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The next member that is gone.
    pub fn poll_gone(&mut self) -> Option<Gone> {
        self.gone.pop_front()
    }

    /// The next conference whose roster may have changed.
    pub fn poll_changed(&mut self) -> Option<String> {
        self.changed.pop_first()
    }

    /// Who is in a conference, and at which foci, as far as rooms say so.
    pub fn roster(&self, conf_id: &str, now: Duration) -> Roster {
        let listed = self.listed(conf_id, now);
        let foci = listed.values().flatten().cloned().collect();
        let members = match self.policy {
            Policy::Membership => Some(listed),
            // Clients that never tell the focus the room: there is nothing to hold claims against.
            Policy::Homeservers(_) | Policy::Open => None,
        };
        Roster { foci, members }
    }

    /// Whether another focus may call this one about a conference: a member must say that it publishes there.
    pub fn may_trunk(&self, focus: &ParticipantId, conf_id: &str, now: Duration) -> bool {
        match self.policy {
            Policy::Membership => self
                .listed(conf_id, now)
                .values()
                .any(|foci| foci.contains(focus)),
            Policy::Homeservers(_) | Policy::Open => self.may(&focus.user_id, conf_id),
        }
    }

    /// The devices in a conference with the foci that they name: those whose time is not over, and those that may come back.
    fn listed(&self, conf_id: &str, now: Duration) -> BTreeMap<ParticipantId, Vec<ParticipantId>> {
        let room = self
            .calls
            .get(conf_id)
            .and_then(|room_id| self.rooms.get(room_id));
        let lapsed = self.lapsed.iter().filter_map(|(gone, foci)| {
            let device_id = gone.device_id.as_ref()?;
            let here =
                gone.conf_id == conf_id && room.is_some_and(|room| room.is_joined(&gone.user_id));
            here.then(|| (ParticipantId::new(&gone.user_id, device_id), foci.clone()))
        });
        let listed = room.into_iter().flat_map(|room| room.listed(conf_id));
        let listed = listed
            .filter(|(_, listing)| !listing.is_over(now))
            .map(|(device, listing)| (device, listing.foci.clone()));
        lapsed.chain(listed).collect()
    }

    /// Whether `user_id` may join the conference now.
    pub fn may(&self, user_id: &str, conf_id: &str) -> bool {
        match &self.policy {
            Policy::Open => true,
            Policy::Homeservers(homeservers) => {
                let server_name = user_id.split_once(':').map(|(_, server_name)| server_name);
                server_name.is_some_and(|server_name| {
                    homeservers
                        .iter()
                        .any(|homeserver| homeserver == server_name)
                })
            }
            Policy::Membership => self
                .calls
                .get(conf_id)
                .and_then(|room_id| self.rooms.get(room_id))
                .is_some_and(|room| room.is_joined(user_id)),
        }
    }

    fn room_mut(&mut self, room_id: &str) -> Option<&mut Room> {
        if self.rooms.len() >= ROOMS_MAX && !self.rooms.contains_key(room_id) {
            return None;
        }
        Some(self.rooms.entry(room_id.to_owned()).or_default())
    }

    /// A terminated call takes nobody in. Those who are in it leave by themselves.
    fn handle_call(&mut self, room_id: &str, conf_id: &str, content: &Value) {
        let ended = content.as_object().is_none_or(serde_json::Map::is_empty)
            || content.get("m.terminated").is_some();
        if ended {
            self.changed.insert(conf_id.to_owned());
            if self.calls.get(conf_id).is_some_and(|room| room == room_id) {
                self.calls.remove(conf_id);
            }
            if let Some(room) = self.rooms.get_mut(room_id) {
                room.end_call(conf_id);
            }
        } else if self.calls.get(conf_id).is_none_or(|room| room == room_id) {
            let Some(room) = self.room_mut(room_id) else {
                return;
            };
            let displaced = room.add_call(conf_id);
            self.changed.insert(conf_id.to_owned());
            self.calls.insert(conf_id.to_owned(), room_id.to_owned());
            if let Some(displaced) = displaced {
                self.calls.remove(&displaced);
            }
        }
    }

    fn handle_member(&mut self, room_id: &str, user_id: &str, content: &Value, now: Duration) {
        let Some(room) = self.room_mut(room_id) else {
            return;
        };
        let (before, after) = room.replace_devices(user_id, room::read_devices(content));
        let conferences = before.keys().chain(after.keys());
        self.changed
            .extend(conferences.map(|(conf_id, _)| conf_id.clone()));
        for ((conf_id, device_id), listing) in &before {
            let gone = Gone {
                conf_id: conf_id.clone(),
                user_id: user_id.to_owned(),
                device_id: Some(device_id.clone()),
            };
            if let Some(expiry) = listing.expiry {
                self.due.remove(&(expiry, gone.clone()));
            }
            if !after.contains_key(&(conf_id.clone(), device_id.clone())) {
                self.lapsed.insert(gone.clone(), listing.foci.clone());
                self.due.insert((now + GRACE, gone));
            }
        }
        for ((conf_id, device_id), listing) in after {
            // What is over when it arrives says more about the clocks than about the device; so does what lasts for ever.
            if let Some(expiry) = listing
                .expiry
                .filter(|expiry| (now..now + EXPIRY_MAX).contains(expiry))
            {
                let gone = Gone {
                    conf_id,
                    user_id: user_id.to_owned(),
                    device_id: Some(device_id),
                };
                self.due.insert((expiry, gone));
            }
        }
    }

    /// Whether a room says that the device is in the conference, and not that its time is over.
    fn is_listed(&self, gone: &Gone, now: Duration) -> bool {
        let Some(device_id) = &gone.device_id else {
            return false;
        };
        let listing = self
            .rooms
            .values()
            .find_map(|room| room.device(&gone.user_id, &gone.conf_id, device_id));
        listing.is_some_and(|listing| !listing.is_over(now))
    }

    /// Ends the legs of a user that has no right to be there any more.
    fn end(&mut self, conferences: &[String], user_id: &str) {
        for conf_id in conferences {
            if !self.may(user_id, conf_id) {
                self.gone.push_back(Gone {
                    conf_id: conf_id.clone(),
                    user_id: user_id.to_owned(),
                    device_id: None,
                });
            }
        }
    }

    fn forget_room(&mut self, room_id: &str) {
        self.calls.retain(|_, room| room != room_id);
        let Some(room) = self.rooms.remove(room_id) else {
            return;
        };
        let conferences: Vec<String> = room.calls().map(str::to_owned).collect();
        self.changed.extend(conferences.iter().cloned());
        for user_id in room.joined() {
            self.end(&conferences, user_id);
        }
    }
}
