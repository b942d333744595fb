//! What is known about one room.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use serde_json::Value;

use crate::conference::ParticipantId;

/// Calls of one room. Every call leaves its state event behind; the oldest gives way. More only helps a room that has so many
/// calls at once.
const CALLS_MAX: usize = 256;

/// Members of one room that are known. Larger rooms exist; their later members cannot call through this focus.
const MEMBERS_MAX: usize = 50_000;

/// Devices in calls that one user's state event may list. One or two are usual.
const DEVICES_MAX: usize = 32;

/// Foci that one device may say it publishes to. One is usual; two while it moves from one to the other.
const FOCI_MAX: usize = 4;

/// Bytes of an id that a client has chosen.
const ID_BYTES_MAX: usize = 255;

/// The devices of one user, by conference and device.
pub(super) type Devices = BTreeMap<(String, String), Listing>;

/// What a user says of one of its devices in one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// When the listing expires, if it does.
    pub(super) expiry: Option<Duration>,
    /// The foci that the device publishes to (`m.foci.active`).
    pub(super) foci: Vec<ParticipantId>,
}

impl Listing {
    /// Whether its time is over.
    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }
}

/// One room: who is in it, which calls it has, which devices say that they are in them.
#[derive(Debug, Default)]
pub(super) struct Room {
    joined: BTreeSet<String>,
    calls: VecDeque<String>,
    /// Calls that take nobody in any more. Somebody may still be in them.
    ended: VecDeque<String>,
    devices: BTreeMap<String, Devices>,
}

impl Room {
    pub(super) fn join(&mut self, user_id: &str) {
        if self.joined.len() < MEMBERS_MAX {
            self.joined.insert(user_id.to_owned());
        }
    }

    /// Whether it was joined.
    pub(super) fn leave(&mut self, user_id: &str) -> bool {
        self.joined.remove(user_id)
    }

    pub(super) fn is_joined(&self, user_id: &str) -> bool {
        self.joined.contains(user_id)
    }

    pub(super) fn joined(&self) -> impl Iterator<Item = &str> {
        self.joined.iter().map(String::as_str)
    }

    /// The calls that somebody may be in, whether they take anybody in or not.
    pub(super) fn calls(&self) -> impl Iterator<Item = &str> {
        self.calls.iter().chain(&self.ended).map(String::as_str)
    }

    /// Adds a call; gives the one that gives way.
    pub(super) fn add_call(&mut self, conf_id: &str) -> Option<String> {
        if self.calls.iter().any(|call| call == conf_id) {
            return None;
        }
        self.ended.retain(|call| call != conf_id);
        self.calls.push_back(conf_id.to_owned());
        if self.calls.len() <= CALLS_MAX {
            return None;
        }
        let oldest = self.calls.pop_front()?;
        self.end(oldest.clone());
        Some(oldest)
    }

    pub(super) fn end_call(&mut self, conf_id: &str) {
        let before = self.calls.len();
        self.calls.retain(|call| call != conf_id);
        if self.calls.len() < before {
            self.end(conf_id.to_owned());
        }
    }

    fn end(&mut self, conf_id: String) {
        self.ended.push_back(conf_id);
        if self.ended.len() > CALLS_MAX {
            self.ended.pop_front();
        }
    }

    /// Takes what a user's state event lists now; gives what it listed before and what it lists now.
    pub(super) fn replace_devices(
        &mut self,
        user_id: &str,
        devices: Devices,
    ) -> (Devices, Devices) {
        let room_for_more = self.devices.len() < MEMBERS_MAX || self.devices.contains_key(user_id);
        let before = self.devices.remove(user_id).unwrap_or_default();
        if devices.is_empty() || !room_for_more {
            return (before, Devices::new());
        }
        self.devices.insert(user_id.to_owned(), devices.clone());
        (before, devices)
    }

    /// What is said of a device, if it is listed.
    pub(super) fn device(&self, user_id: &str, conf_id: &str, device_id: &str) -> Option<&Listing> {
        let key = (conf_id.to_owned(), device_id.to_owned());
        self.devices.get(user_id)?.get(&key)
    }

    /// All devices that joined users list in a conference.
    pub(super) fn listed<'a>(
        &'a self,
        conf_id: &'a str,
    ) -> impl Iterator<Item = (ParticipantId, &'a Listing)> {
        let users = self
            .devices
            .iter()
            .filter(|(user_id, _)| self.is_joined(user_id));
        users.flat_map(move |(user_id, devices)| {
            let here = devices.iter().filter(move |((conf, _), _)| conf == conf_id);
            here.map(move |((_, device_id), listing)| {
                (ParticipantId::new(user_id, device_id), listing)
            })
        })
    }
}

/// Reads the content of an `m.call.member` event. What cannot be read is left out.
pub(super) fn read_devices(content: &Value) -> Devices {
    let mut devices = Devices::new();
    let calls = content
        .get("m.calls")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    for call in calls {
        let Some(conf_id) = id(call.get("m.call_id")) else {
            continue;
        };
        let listed = call
            .get("m.devices")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        for device in listed {
            let Some(device_id) = id(device.get("device_id")) else {
                continue;
            };
            if devices.len() >= DEVICES_MAX {
                return devices;
            }
            // The early text has one time for the whole event.
            let expiry = [
                device.get("expires_ts"),
                call.get("m.expires_ts"),
                content.get("m.expires_ts"),
            ];
            let expiry = expiry
                .into_iter()
                .flatten()
                .find_map(Value::as_u64)
                .map(Duration::from_millis);
            let foci = read_foci(device);
            devices.insert(
                (conf_id.to_owned(), device_id.to_owned()),
                Listing { expiry, foci },
            );
        }
    }
    devices
}

/// The foci that a device says it publishes to, under the stable or the unstable name.
fn read_foci(device: &Value) -> Vec<ParticipantId> {
    let names = ["m.foci.active", "org.matrix.msc3898.foci.active"];
    let said = names.iter().find_map(|name| device.get(name)?.as_array());
    let foci = said.into_iter().flatten().filter_map(|focus| {
        let (user_id, device_id) = (id(focus.get("user_id"))?, id(focus.get("device_id"))?);
        Some(ParticipantId::new(user_id, device_id))
    });
    foci.take(FOCI_MAX).collect()
}

fn id(value: Option<&Value>) -> Option<&str> {
    value?
        .as_str()
        .filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)
}
