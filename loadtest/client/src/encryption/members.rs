//! Who is in a call, by the room's state: the devices of its `m.call.member` events, as far as their users are in the room.
//!
//! The focus says so, too, and is not believed: keys go to whom the room names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_sframe::ParticipantId;

/// Event types that say who is in a call.
pub(crate) const EVENT_TYPES: [&str; 3] = [
    "org.matrix.msc3401.call.member",
    "m.call.member",
    "m.room.member",
];

/// All devices that a call's room names.
#[derive(Debug, Default)]
pub(crate) struct Members {
    conf_id: String,
    /// By user: when each device's entry ends, in milliseconds since 1970.
    calling: BTreeMap<String, BTreeMap<String, u64>>,
    joined: BTreeSet<String>,
}

impl Members {
    /// Of the call with this id.
    pub(crate) fn new(conf_id: &str) -> Members {
        Members {
            conf_id: conf_id.to_owned(),
            ..Members::default()
        }
    }

    /// Takes a state event of one of [`EVENT_TYPES`]. Of a user's call events the later one counts, whichever of the two names it has.
    pub(crate) fn handle(&mut self, event_type: &str, state_key: &str, content: &Value) {
        let user = state_key.to_owned();
        if event_type == "m.room.member" {
            match content["membership"] == "join" {
                true => self.joined.insert(user),
                false => self.joined.remove(&user),
            };
            return;
        }
        let calls = content["m.calls"].as_array().into_iter().flatten();
        let devices = calls
            .filter(|call| call["m.call_id"] == self.conf_id.as_str())
            .flat_map(|call| call["m.devices"].as_array().into_iter().flatten());
        let devices = devices.filter_map(|device| {
            let ends = device["expires_ts"].as_u64().unwrap_or(u64::MAX);
            Some((device["device_id"].as_str()?.to_owned(), ends))
        });
        self.calling.insert(user, devices.collect());
    }

    /// Who is there at a time, in milliseconds since 1970, and when that changes by itself.
    pub(crate) fn at(&self, now_ms: u64) -> (BTreeSet<ParticipantId>, Option<u64>) {
        let (mut present, mut next) = (BTreeSet::new(), None);
        for (user, devices) in &self.calling {
            if !self.joined.contains(user) {
                continue;
            }
            for (device, ends) in devices.iter().filter(|(_, ends)| **ends > now_ms) {
                present.insert(ParticipantId::new(user, device));
                next = Some(next.map_or(*ends, |next: u64| next.min(*ends)));
            }
        }
        (present, next)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn calling(devices: Value) -> Value {
        json!({ "m.calls": [
            { "m.call_id": "other", "m.devices": [{ "device_id": "X", "expires_ts": 99 }] },
            { "m.call_id": "c", "m.devices": devices },
        ]})
    }

    fn names(members: &Members, now_ms: u64) -> Vec<String> {
        let (present, _) = members.at(now_ms);
        let name = |id: &ParticipantId| format!("{} {}", id.user_id, id.device_id);
        present.iter().map(name).collect()
    }

    #[test]
    fn devices_come_and_go_with_their_events_and_their_users() {
        let mut members = Members::new("c");
        let devices = json!([{ "device_id": "A" }, { "device_id": "B", "expires_ts": 50 }]);
        members.handle(EVENT_TYPES[0], "@a:x", &calling(devices));
        assert_eq!(names(&members, 0), [""; 0], "not in the room");
        members.handle("m.room.member", "@a:x", &json!({ "membership": "join" }));
        assert_eq!(names(&members, 49), ["@a:x A", "@a:x B"]);
        assert_eq!(members.at(49).1, Some(50));
        assert_eq!(names(&members, 50), ["@a:x A"]);
        members.handle(
            EVENT_TYPES[1],
            "@a:x",
            &calling(json!([{ "device_id": "C" }])),
        );
        assert_eq!(names(&members, 0), ["@a:x C"]);
        members.handle("m.room.member", "@a:x", &json!({ "membership": "ban" }));
        assert_eq!(names(&members, 0), [""; 0]);
        members.handle("m.room.member", "@a:x", &json!({ "membership": "join" }));
        members.handle(EVENT_TYPES[0], "@a:x", &json!({ "m.calls": [] }));
        assert_eq!(names(&members, 0), [""; 0]);
    }

    #[test]
    fn an_event_that_makes_no_sense_names_nobody() {
        let mut members = Members::new("c");
        members.handle("m.room.member", "@a:x", &json!({ "membership": "join" }));
        for content in [
            json!(null),
            json!({ "m.calls": 1 }),
            calling(json!([1, {}])),
        ] {
            members.handle(EVENT_TYPES[0], "@a:x", &content);
            assert_eq!(names(&members, 0), [""; 0]);
        }
    }
}
