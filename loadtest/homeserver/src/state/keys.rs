//! End-to-end encryption keys: upload, query, claim, and who has to hear of a change.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Caller, Position, State, device::FallbackKey};
use crate::{error::MatrixError, limits::ONE_TIME_KEYS_PER_DEVICE_MAX};

/// The cross-signing keys: member of `/device_signing/upload`, member of `/keys/query`.
const CROSS_SIGNING: [(&str, &str); 3] = [
    ("master_key", "master_keys"),
    ("self_signing_key", "self_signing_keys"),
    ("user_signing_key", "user_signing_keys"),
];

impl State {
    /// `/keys/upload`.
    pub(crate) fn upload_keys(
        &mut self,
        caller: &Caller,
        body: &Value,
    ) -> Result<Value, MatrixError> {
        let device = self.device_mut(caller)?;
        let identity = body.get("device_keys").filter(|keys| keys.is_object());
        if let Some(keys) = identity {
            if keys["user_id"] != json!(caller.user) || keys["device_id"] != json!(caller.device) {
                return Err(MatrixError::invalid(
                    "device_keys are those of another device",
                ));
            }
            device.keys = Some(keys.clone());
        }
        for (id, key) in body["one_time_keys"].as_object().into_iter().flatten() {
            if device.one_time_keys.len() >= ONE_TIME_KEYS_PER_DEVICE_MAX {
                return Err(MatrixError::full("one-time keys"));
            }
            match device.one_time_keys.get(id) {
                Some(known) if known != key => {
                    return Err(MatrixError::invalid(format!(
                        "one time key {id} already exists"
                    )));
                }
                _ => device.one_time_keys.insert(id.clone(), key.clone()),
            };
        }
        for member in ["fallback_keys", "org.matrix.msc2732.fallback_keys"] {
            for (id, key) in body[member].as_object().into_iter().flatten() {
                let algorithm = id.split(':').next().unwrap_or_default().to_owned();
                device.fallback_keys.insert(
                    algorithm,
                    FallbackKey {
                        id: id.clone(),
                        key: key.clone(),
                        used: false,
                    },
                );
            }
        }
        let count = device.one_time_key_count("signed_curve25519");
        if identity.is_some() {
            self.devices_changed(&caller.user);
        }
        Ok(json!({ "one_time_key_counts": { "signed_curve25519": count } }))
    }

    /// `/keys/query`: identity keys of the devices asked for; an empty list asks for all.
    pub(crate) fn query_keys(&self, caller: &Caller, body: &Value) -> Value {
        let mut device_keys = Map::new();
        let mut cross_signing = Map::new();
        for (user_id, wanted) in body["device_keys"].as_object().into_iter().flatten() {
            let Some(user) = self.users.get(user_id) else {
                continue;
            };
            let wanted: Vec<&str> = wanted
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            let mut devices = Map::new();
            for (device_id, device) in &user.devices {
                let Some(mut keys) = device.keys.clone() else {
                    continue;
                };
                if !wanted.is_empty() && !wanted.contains(&device_id.as_str()) {
                    continue;
                }
                keys["unsigned"] = json!({ "device_display_name": device.display_name });
                devices.insert(device_id.clone(), keys);
            }
            device_keys.insert(user_id.clone(), Value::Object(devices));
            for (uploaded_as, queried_as) in CROSS_SIGNING {
                let own_only = uploaded_as == "user_signing_key" && *user_id != caller.user;
                if let Some(key) = user.cross_signing.get(uploaded_as).filter(|_| !own_only) {
                    cross_signing.entry(queried_as).or_insert_with(|| json!({}))[user_id] =
                        key.clone();
                }
            }
        }
        let mut answer = json!({ "failures": {}, "device_keys": device_keys });
        for (name, keys) in cross_signing {
            answer[name] = keys;
        }
        answer
    }

    /// `/keys/claim`: takes one key from each device asked for; its fallback key when none is left.
    pub(crate) fn claim_keys(&mut self, body: &Value) -> Value {
        let mut claimed = json!({});
        for (user_id, devices) in body["one_time_keys"].as_object().into_iter().flatten() {
            let Some(user) = self.users.get_mut(user_id) else {
                continue;
            };
            for (device_id, algorithm) in devices.as_object().into_iter().flatten() {
                let Some(device) = user.devices.get_mut(device_id) else {
                    continue;
                };
                let Some(algorithm) = algorithm.as_str() else {
                    continue;
                };
                let one_time = device
                    .one_time_keys
                    .keys()
                    .find(|id| id.split(':').next() == Some(algorithm))
                    .cloned();
                let taken = match one_time {
                    Some(id) => device.one_time_keys.remove_entry(&id),
                    None => device.fallback_keys.get_mut(algorithm).map(|fallback| {
                        fallback.used = true;
                        (fallback.id.clone(), fallback.key.clone())
                    }),
                };
                if let Some((id, key)) = taken {
                    claimed[user_id][device_id] = json!({ id: key });
                }
            }
        }
        json!({ "failures": {}, "one_time_keys": claimed })
    }

    /// `/keys/device_signing/upload`, without asking for the password again.
    pub(crate) fn upload_cross_signing(&mut self, caller: &Caller, body: &Value) {
        if let Some(user) = self.users.get_mut(&caller.user) {
            for (name, _) in CROSS_SIGNING {
                if let Some(key) = body.get(name).filter(|key| key.is_object()) {
                    user.cross_signing.insert(name, key.clone());
                }
            }
        }
        self.devices_changed(&caller.user);
    }

    /// `/keys/signatures/upload`: adds signatures to device keys and cross-signing keys.
    pub(crate) fn upload_signatures(&mut self, body: &Value) {
        for (user_id, objects) in body.as_object().into_iter().flatten() {
            let Some(user) = self.users.get_mut(user_id) else {
                continue;
            };
            for (key_id, signed) in objects.as_object().into_iter().flatten() {
                let is_public_part = |key: &Value| {
                    key["keys"]
                        .as_object()
                        .is_some_and(|k| k.values().any(|v| v == key_id))
                };
                let target = match user
                    .devices
                    .get_mut(key_id)
                    .and_then(|device| device.keys.as_mut())
                {
                    Some(keys) => Some(keys),
                    None => user
                        .cross_signing
                        .values_mut()
                        .find(|key| is_public_part(key)),
                };
                let Some(target) = target else { continue };
                for (signer, signatures) in signed["signatures"].as_object().into_iter().flatten() {
                    for (id, signature) in signatures.as_object().into_iter().flatten() {
                        target["signatures"][signer][id] = signature.clone();
                    }
                }
            }
            self.devices_changed(user_id);
        }
    }

    /// Notes that a user's devices changed, and tells who shares a room.
    pub(super) fn devices_changed(&mut self, user_id: &str) {
        let position = self.advance();
        self.devices_changed = position;
        if let Some(user) = self.users.get_mut(user_id) {
            user.devices_changed = position;
        }
        for other in self.sharing_a_room_with(user_id) {
            self.wake(other);
        }
    }

    /// Users whose devices this user has to ask about again.
    pub(crate) fn device_list_changes(&self, user_id: &str, since: Position) -> BTreeSet<&str> {
        let mut changes = BTreeSet::new();
        let user = self.users.get(user_id);
        for room in user.into_iter().flat_map(|user| &user.rooms) {
            let Some(room) = self.rooms.get(room) else {
                continue;
            };
            match room.joined_at(user_id) {
                // Everybody there is new to this user.
                Some(own) if own > since => changes.extend(room.joined()),
                Some(_) => changes.extend(room.joined_since(since)),
                None => {}
            }
        }
        changes.remove(user_id);
        // Looked for in a room of many only if there is something to find.
        if self.devices_changed > since {
            let changed = |other: &&str| {
                let user = self.users.get(*other);
                user.is_some_and(|user| user.devices_changed > since)
            };
            changes.extend(
                self.sharing_a_room_with(user_id)
                    .into_iter()
                    .filter(changed),
            );
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NewDevice;

    fn state_with_device() -> (State, Caller) {
        let mut state = State::new("localhost".into());
        let user = state.register("ann", "pw").unwrap();
        let new = NewDevice {
            device_id: Some("D".into()),
            display_name: None,
        };
        let (caller, _) = state.log_in(&user, new).unwrap();
        (state, caller)
    }

    #[test]
    fn a_one_time_key_is_given_out_once_and_then_the_fallback_key() {
        let (mut state, caller) = state_with_device();
        let body = json!({
            "one_time_keys": { "signed_curve25519:1": { "key": "one" } },
            "fallback_keys": { "signed_curve25519:F": { "key": "fallback", "fallback": true } },
        });
        let answer = state.upload_keys(&caller, &body).unwrap();
        assert_eq!(
            answer,
            json!({ "one_time_key_counts": { "signed_curve25519": 1 } })
        );
        let claim = json!({ "one_time_keys": { "@ann:localhost": { "D": "signed_curve25519" } } });
        let key = |answer: Value| answer["one_time_keys"]["@ann:localhost"]["D"].clone();
        assert_eq!(
            key(state.claim_keys(&claim)),
            json!({ "signed_curve25519:1": { "key": "one" } })
        );
        for _ in 0..2 {
            let fallback =
                json!({ "signed_curve25519:F": { "key": "fallback", "fallback": true } });
            assert_eq!(key(state.claim_keys(&claim)), fallback);
        }
    }

    #[test]
    fn keys_of_another_device_are_refused() {
        let (mut state, caller) = state_with_device();
        let body = json!({ "device_keys": { "user_id": "@bob:localhost", "device_id": "D" } });
        assert!(state.upload_keys(&caller, &body).is_err());
    }
}
