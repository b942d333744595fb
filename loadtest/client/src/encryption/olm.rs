//! One device's part in Olm, without I/O: its own keys, other devices' keys, and messages between two devices ("End-to-End
//! Encryption" of the Client-Server API, `m.olm.v1.curve25519-aes-sha2`).
//!
//! Keys of devices are believed if they are signed by the device itself, as the homeserver tells them: nobody verifies
//! anybody, and there is no cross-signing.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use vodozemac::olm::{Account, OlmMessage, Session, SessionConfig};
use vodozemac::{Curve25519PublicKey, Ed25519PublicKey, Ed25519Signature};
use weir_sframe::ParticipantId;

const ALGORITHM: &str = "m.olm.v1.curve25519-aes-sha2";

/// Each starts one session. Who comes later takes the fallback key.
const ONE_TIME_KEYS: usize = 50;

/// Two devices that write to each other at the same time make two sessions; a device that is wiped makes more.
const SESSIONS_PER_DEVICE_MAX: usize = 4;

/// Another device's keys, signed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceKeys {
    pub(crate) id: ParticipantId,
    pub(crate) curve25519: Curve25519PublicKey,
    pub(crate) ed25519: Ed25519PublicKey,
}

/// What was in a message, and which device has sent it by its own words.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decrypted {
    pub(crate) event_type: String,
    pub(crate) content: Value,
    /// Identity key of the session that it came through.
    pub(crate) curve25519: Curve25519PublicKey,
    /// Signing key that the message names.
    pub(crate) ed25519: String,
}

/// Why Olm did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OlmError {
    /// Device keys or a one-time key that are malformed, or not signed by the device.
    #[error("keys that are not signed by their device")]
    UnsignedKeys,
    /// There is no session with the device, and no one-time key of it.
    #[error("no session")]
    NoSession,
    /// Not a message of this algorithm for this device.
    #[error("not a message for this device")]
    NotForUs,
    /// The message does not decrypt.
    #[error("does not decrypt")]
    Undecryptable,
    /// What it says of sender or recipient is not so.
    #[error("written for or by somebody else")]
    Misattributed,
}

/// This device.
pub(crate) struct OlmDevice {
    account: Account,
    own: ParticipantId,
    /// By the other device's identity key; the one to write with last.
    sessions: BTreeMap<[u8; 32], Vec<Session>>,
}

impl OlmDevice {
    /// With new keys.
    pub(crate) fn new(own: ParticipantId) -> OlmDevice {
        OlmDevice {
            account: Account::new(),
            own,
            sessions: BTreeMap::new(),
        }
    }

    /// The body of `/keys/upload`: everything that others need in order to write to this device.
    pub(crate) fn upload(&mut self) -> Value {
        let keys = self.account.identity_keys();
        let name = |algorithm: &str| format!("{algorithm}:{}", self.own.device_id);
        let device_keys = json!({
            "user_id": self.own.user_id,
            "device_id": self.own.device_id,
            "algorithms": [ALGORITHM],
            "keys": {
                name("curve25519"): keys.curve25519.to_base64(),
                name("ed25519"): keys.ed25519.to_base64(),
            },
        });
        let device_keys = self.signed(device_keys);
        self.account.generate_one_time_keys(ONE_TIME_KEYS);
        self.account.generate_fallback_key();
        let one_time = self.account.one_time_keys().into_iter();
        let one_time: Map<_, _> = one_time
            .map(|(id, key)| self.signed_key(&id.to_base64(), json!({ "key": key.to_base64() })))
            .collect();
        let fallback = self.account.fallback_key().into_iter();
        let fallback: Map<_, _> = fallback
            .map(|(id, key)| {
                let key = json!({ "key": key.to_base64(), "fallback": true });
                self.signed_key(&id.to_base64(), key)
            })
            .collect();
        self.account.mark_keys_as_published();
        json!({ "device_keys": device_keys, "one_time_keys": one_time, "fallback_keys": fallback })
    }

    /// Whether the device can be written to without one of its one-time keys.
    pub(crate) fn has_session(&self, with: &DeviceKeys) -> bool {
        self.sessions.contains_key(with.curve25519.as_bytes())
    }

    /// Starts a session with a device by what `/keys/claim` gave for it: `{"signed_curve25519:ID": {…}}`.
    pub(crate) fn start(&mut self, with: &DeviceKeys, claimed: &Value) -> Result<(), OlmError> {
        let key = claimed.as_object().and_then(|keys| keys.values().next());
        let key = key.ok_or(OlmError::NoSession)?;
        verify(key, &with.id, &with.ed25519)?;
        let one_time = key["key"].as_str().unwrap_or_default();
        let one_time =
            Curve25519PublicKey::from_base64(one_time).map_err(|_| OlmError::UnsignedKeys)?;
        let config = SessionConfig::version_1();
        let session = self
            .account
            .create_outbound_session(config, with.curve25519, one_time)
            .map_err(|_| OlmError::UnsignedKeys)?;
        self.keep(with.curve25519, session);
        Ok(())
    }

    /// The content of an `m.room.encrypted` for a device with which there is a session.
    pub(crate) fn encrypt(
        &mut self,
        to: &DeviceKeys,
        event_type: &str,
        content: &Value,
    ) -> Result<Value, OlmError> {
        let keys = self.account.identity_keys();
        let payload = json!({
            "type": event_type,
            "content": content,
            "sender": self.own.user_id,
            "sender_device": self.own.device_id,
            "keys": { "ed25519": keys.ed25519.to_base64() },
            "recipient": to.id.user_id,
            "recipient_keys": { "ed25519": to.ed25519.to_base64() },
        });
        let sessions = self.sessions.get_mut(to.curve25519.as_bytes());
        let session = sessions.and_then(|sessions| sessions.last_mut());
        let session = session.ok_or(OlmError::NoSession)?;
        let message = session.encrypt(payload.to_string());
        let message = message.map_err(|_| OlmError::NoSession)?;
        Ok(json!({
            "algorithm": ALGORITHM,
            "sender_key": keys.curve25519.to_base64(),
            "ciphertext": { to.curve25519.to_base64(): message },
        }))
    }

    /// Decrypts the content of an `m.room.encrypted` that `sender` has sent by the homeserver's word. Whose the keys are that it came
    /// with is for the caller to find out.
    pub(crate) fn decrypt(&mut self, sender: &str, content: &Value) -> Result<Decrypted, OlmError> {
        let keys = self.account.identity_keys();
        let for_us = &content["ciphertext"][keys.curve25519.to_base64()];
        let message: OlmMessage =
            serde_json::from_value(for_us.clone()).map_err(|_| OlmError::NotForUs)?;
        let sender_key = content["sender_key"].as_str().unwrap_or_default();
        let curve25519 =
            Curve25519PublicKey::from_base64(sender_key).map_err(|_| OlmError::NotForUs)?;
        let plaintext = self.open(curve25519, &message)?;
        let mut payload: Value =
            serde_json::from_slice(&plaintext).map_err(|_| OlmError::Misattributed)?;
        let is_so = payload["sender"] == sender
            && payload["recipient"] == self.own.user_id.as_str()
            && payload["recipient_keys"]["ed25519"] == keys.ed25519.to_base64();
        if !is_so {
            return Err(OlmError::Misattributed);
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(Decrypted {
            event_type: text(&payload["type"]),
            ed25519: text(&payload["keys"]["ed25519"]),
            content: payload["content"].take(),
            curve25519,
        })
    }

    fn open(
        &mut self,
        from: Curve25519PublicKey,
        message: &OlmMessage,
    ) -> Result<Vec<u8>, OlmError> {
        let sessions = self.sessions.entry(*from.as_bytes()).or_default();
        let opened = sessions
            .iter_mut()
            .enumerate()
            .find_map(|(index, session)| {
                // A session takes no part in a message that starts another one.
                let of_session = match message {
                    OlmMessage::PreKey(first) => first.session_id() == session.session_id(),
                    OlmMessage::Normal(_) => true,
                };
                let plaintext = of_session
                    .then(|| session.decrypt(message).ok())
                    .flatten()?;
                Some((index, plaintext))
            });
        if let Some((index, plaintext)) = opened {
            // The other side writes with this one.
            let session = sessions.remove(index);
            sessions.push(session);
            return Ok(plaintext);
        }
        let OlmMessage::PreKey(first) = message else {
            self.forget_if_empty(from);
            return Err(OlmError::Undecryptable);
        };
        let config = SessionConfig::version_1();
        let created = self.account.create_inbound_session(config, from, first);
        let Ok(created) = created else {
            self.forget_if_empty(from);
            return Err(OlmError::Undecryptable);
        };
        self.keep(from, created.session);
        Ok(created.plaintext)
    }

    fn keep(&mut self, with: Curve25519PublicKey, session: Session) {
        let sessions = self.sessions.entry(*with.as_bytes()).or_default();
        if sessions.len() >= SESSIONS_PER_DEVICE_MAX {
            sessions.remove(0);
        }
        sessions.push(session);
    }

    /// A message that opens nothing leaves nothing behind.
    fn forget_if_empty(&mut self, with: Curve25519PublicKey) {
        if self
            .sessions
            .get(with.as_bytes())
            .is_some_and(Vec::is_empty)
        {
            self.sessions.remove(with.as_bytes());
        }
    }

    fn signed_key(&self, id: &str, key: Value) -> (String, Value) {
        (format!("signed_curve25519:{id}"), self.signed(key))
    }

    fn signed(&self, mut object: Value) -> Value {
        let signature = self.account.sign(canonical(&object)).to_base64();
        let name = format!("ed25519:{}", self.own.device_id);
        object["signatures"] = json!({ &self.own.user_id: { name: signature } });
        object
    }
}

impl DeviceKeys {
    /// From an entry of `/keys/query`, which was asked for this device.
    pub(crate) fn parse(id: ParticipantId, keys: &Value) -> Result<DeviceKeys, OlmError> {
        let is_its =
            keys["user_id"] == id.user_id.as_str() && keys["device_id"] == id.device_id.as_str();
        let key = |algorithm: &str| {
            let name = format!("{algorithm}:{}", id.device_id);
            keys["keys"][name].as_str().unwrap_or_default()
        };
        let curve25519 = Curve25519PublicKey::from_base64(key("curve25519"));
        let ed25519 = Ed25519PublicKey::from_base64(key("ed25519"));
        let (Ok(curve25519), Ok(ed25519), true) = (curve25519, ed25519, is_its) else {
            return Err(OlmError::UnsignedKeys);
        };
        verify(keys, &id, &ed25519)?;
        Ok(DeviceKeys {
            id,
            curve25519,
            ed25519,
        })
    }
}

/// Whether the object is signed by the device's key ("Signing JSON" of the specification's appendices).
fn verify(object: &Value, device: &ParticipantId, key: &Ed25519PublicKey) -> Result<(), OlmError> {
    let name = format!("ed25519:{}", device.device_id);
    let signature = object["signatures"][&device.user_id][name].as_str();
    let signature = Ed25519Signature::from_base64(signature.unwrap_or_default());
    let signature = signature.map_err(|_| OlmError::UnsignedKeys)?;
    let mut signed = object.clone();
    if let Some(signed) = signed.as_object_mut() {
        signed.remove("signatures");
        signed.remove("unsigned");
    }
    key.verify(canonical(&signed).as_bytes(), &signature)
        .map_err(|_| OlmError::UnsignedKeys)
}

/// Canonical JSON: the shortest form, members in the order of their names.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: BTreeMap<_, _> = members.iter().collect();
            let member = |(name, value): (&String, &Value)| {
                format!("{}:{}", Value::from(name.as_str()), canonical(value))
            };
            let members: Vec<_> = members.into_iter().map(member).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(canonical).collect();
            format!("[{}]", items.join(","))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Side {
        olm: OlmDevice,
        uploaded: Value,
        keys: DeviceKeys,
    }

    fn side(name: &str) -> Side {
        let id = ParticipantId::new(&format!("@{name}:x"), name);
        let mut olm = OlmDevice::new(id.clone());
        let uploaded = olm.upload();
        let keys = DeviceKeys::parse(id, &uploaded["device_keys"]).unwrap();
        Side {
            olm,
            uploaded,
            keys,
        }
    }

    /// What `/keys/claim` would give: one of the keys.
    fn claim(from: &mut Side) -> Value {
        let keys = from.uploaded["one_time_keys"].as_object_mut().unwrap();
        let id = keys.keys().next().unwrap().clone();
        let key = keys.remove(&id).unwrap();
        json!({ id: key })
    }

    #[test]
    fn two_devices_write_to_each_other() {
        let (mut ann, mut bob) = (side("ann"), side("bob"));
        assert!(!ann.olm.has_session(&bob.keys));
        let claimed = claim(&mut bob);
        ann.olm.start(&bob.keys, &claimed).unwrap();
        for n in 0..3 {
            let content = json!({ "n": n });
            let sealed = ann.olm.encrypt(&bob.keys, "m.test", &content).unwrap();
            let opened = bob.olm.decrypt("@ann:x", &sealed).unwrap();
            assert_eq!(
                (opened.event_type.as_str(), &opened.content),
                ("m.test", &content)
            );
            assert_eq!(opened.curve25519, ann.keys.curve25519);
            assert_eq!(opened.ed25519, ann.keys.ed25519.to_base64());
        }
        let answer = bob.olm.encrypt(&ann.keys, "m.answer", &json!({})).unwrap();
        assert_eq!(
            ann.olm.decrypt("@bob:x", &answer).unwrap().event_type,
            "m.answer"
        );
    }

    #[test]
    fn two_devices_that_begin_at_the_same_time_understand_each_other() {
        let (mut ann, mut bob) = (side("ann"), side("bob"));
        let (of_ann, of_bob) = (claim(&mut ann), claim(&mut bob));
        ann.olm.start(&bob.keys, &of_bob).unwrap();
        bob.olm.start(&ann.keys, &of_ann).unwrap();
        let to_bob = ann.olm.encrypt(&bob.keys, "m.1", &json!({})).unwrap();
        let to_ann = bob.olm.encrypt(&ann.keys, "m.2", &json!({})).unwrap();
        assert_eq!(
            bob.olm.decrypt("@ann:x", &to_bob).unwrap().event_type,
            "m.1"
        );
        assert_eq!(
            ann.olm.decrypt("@bob:x", &to_ann).unwrap().event_type,
            "m.2"
        );
        for _ in 0..2 {
            let to_bob = ann.olm.encrypt(&bob.keys, "m.3", &json!({})).unwrap();
            assert_eq!(
                bob.olm.decrypt("@ann:x", &to_bob).unwrap().event_type,
                "m.3"
            );
            let to_ann = bob.olm.encrypt(&ann.keys, "m.4", &json!({})).unwrap();
            assert_eq!(
                ann.olm.decrypt("@bob:x", &to_ann).unwrap().event_type,
                "m.4"
            );
        }
    }

    #[test]
    fn a_message_is_read_once_by_its_recipient_and_from_its_sender_alone() {
        let (mut ann, mut bob, mut eve) = (side("ann"), side("bob"), side("eve"));
        let claimed = claim(&mut bob);
        ann.olm.start(&bob.keys, &claimed).unwrap();
        let sealed = ann.olm.encrypt(&bob.keys, "m.test", &json!({})).unwrap();
        assert_eq!(eve.olm.decrypt("@ann:x", &sealed), Err(OlmError::NotForUs));
        let mut passed_on = sealed.clone();
        let eve_key = eve.keys.curve25519.to_base64();
        let bob_key = bob.keys.curve25519.to_base64();
        passed_on["ciphertext"] = json!({ eve_key: sealed["ciphertext"][bob_key] });
        assert_eq!(
            eve.olm.decrypt("@ann:x", &passed_on),
            Err(OlmError::Undecryptable)
        );
        assert!(bob.olm.decrypt("@ann:x", &sealed).is_ok());
        assert_eq!(
            bob.olm.decrypt("@ann:x", &sealed),
            Err(OlmError::Undecryptable)
        );
        let sealed = ann.olm.encrypt(&bob.keys, "m.test", &json!({})).unwrap();
        assert_eq!(
            bob.olm.decrypt("@eve:x", &sealed),
            Err(OlmError::Misattributed)
        );
    }

    #[test]
    fn keys_that_were_changed_on_their_way_are_refused() {
        let (mut ann, mut bob) = (side("ann"), side("bob"));
        let id = bob.keys.id.clone();
        let mut keys = bob.uploaded["device_keys"].clone();
        keys["unsigned"] = json!({ "device_display_name": "added by the homeserver" });
        assert_eq!(DeviceKeys::parse(id.clone(), &keys).as_ref(), Ok(&bob.keys));
        keys["keys"]["curve25519:bob"] = json!(ann.keys.curve25519.to_base64());
        assert_eq!(
            DeviceKeys::parse(id.clone(), &keys),
            Err(OlmError::UnsignedKeys)
        );
        let of_ann = &ann.uploaded["device_keys"];
        assert_eq!(DeviceKeys::parse(id, of_ann), Err(OlmError::UnsignedKeys));
        let mut claimed = claim(&mut bob);
        let key = claimed
            .as_object_mut()
            .unwrap()
            .values_mut()
            .next()
            .unwrap();
        key["key"] = json!(ann.keys.curve25519.to_base64());
        assert_eq!(
            ann.olm.start(&bob.keys, &claimed),
            Err(OlmError::UnsignedKeys)
        );
        assert_eq!(
            ann.olm.start(&bob.keys, &json!({})),
            Err(OlmError::NoSession)
        );
    }

    #[test]
    fn canonical_json_is_that_of_the_specification() {
        let value = json!({
            "one": 1, "two": "Two",
            "auth": { "success": true, "mxid": "@john.doe:example.com", "profile": { "list": [1, null, "日"] } },
        });
        assert_eq!(
            canonical(&value),
            r#"{"auth":{"mxid":"@john.doe:example.com","profile":{"list":[1,null,"日"]},"success":true},"one":1,"two":"Two"}"#
        );
    }
}
