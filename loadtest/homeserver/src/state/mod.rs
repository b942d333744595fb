//! Users, devices, rooms, and the one stream that orders what happens to them.
//!
//! Everything here is synchronous and behind one lock. A change gets the next stream position and wakes the devices
//! that a sync would tell about it; a sync asks for what is newer than its token.

mod accounts;
mod device;
mod filter;
mod keys;
mod room;
mod sync;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::{Rng, distr::Alphanumeric};
use serde_json::Value;

pub(crate) use self::{
    accounts::NewDevice,
    device::Device,
    filter::Filter,
    room::{Event, Room},
    sync::SyncToken,
};
use crate::Focus;

/// A position in the stream; 0 is before everything.
pub(crate) type Position = u64;

/// All that the homeserver knows.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) server_name: String,
    pub(crate) foci: Vec<Focus>,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) tokens: HashMap<String, Caller>,
    pub(crate) rooms: BTreeMap<String, Room>,
    pub(crate) aliases: BTreeMap<String, String>,
    stream: Position,
    /// When the devices or keys of anybody last changed.
    devices_changed: Position,
}

/// An account.
#[derive(Debug, Default)]
pub(crate) struct User {
    pub(crate) password: String,
    pub(crate) display_name: Option<String>,
    pub(crate) avatar_url: Option<String>,
    pub(crate) devices: BTreeMap<String, Device>,
    /// Rooms with any membership of this user.
    pub(crate) rooms: BTreeSet<String>,
    /// By (room or empty for global, type).
    pub(crate) account_data: BTreeMap<(String, String), (Position, Value)>,
    pub(crate) filters: Vec<Value>,
    pub(crate) cross_signing: BTreeMap<&'static str, Value>,
    /// When a device or its keys last changed.
    pub(crate) devices_changed: Position,
}

/// Who makes a request: the owner of its access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) user: String,
    pub(crate) device: String,
}

impl State {
    pub(crate) fn new(server_name: String) -> Self {
        Self {
            server_name,
            foci: Vec::new(),
            users: BTreeMap::new(),
            tokens: HashMap::new(),
            rooms: BTreeMap::new(),
            aliases: BTreeMap::new(),
            stream: 0,
            devices_changed: 0,
        }
    }

    /// Takes the next stream position.
    fn advance(&mut self) -> Position {
        self.stream += 1;
        self.stream
    }

    /// Ends the waiting syncs of a user's devices.
    fn wake(&self, user: &str) {
        for device in self
            .users
            .get(user)
            .into_iter()
            .flat_map(|user| user.devices.values())
        {
            device.wake.notify_waiters();
        }
    }

    /// Ends those waiting syncs of a user's devices that would tell of such an event of that room. In a room of many a change
    /// would else make every member ask for nothing.
    fn wake_for(&self, user: &str, room_id: &str, event_type: &str) {
        let devices = self.users.get(user).into_iter();
        for device in devices.flat_map(|user| user.devices.values()) {
            if device.listens.passes_event(room_id, event_type) {
                device.wake.notify_waiters();
            }
        }
    }

    /// Users that are joined to a room together with this user, and the user itself.
    fn sharing_a_room_with(&self, user: &str) -> BTreeSet<&str> {
        let rooms = self
            .users
            .get(user)
            .into_iter()
            .flat_map(|user| &user.rooms);
        let mut sharing: BTreeSet<&str> = rooms
            .filter_map(|room| self.rooms.get(room))
            .filter(|room| room.is_joined(user))
            .flat_map(Room::joined)
            .collect();
        if let Some((user, _)) = self.users.get_key_value(user) {
            sharing.insert(user);
        }
        sharing
    }
}

/// A random identifier of letters and digits.
pub(crate) fn random_id(len: usize) -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(len)
        .map(char::from)
        .collect()
}
