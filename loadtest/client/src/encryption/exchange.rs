//! Exchanges keys with everybody in the call, on a task of its own: hears of members and messages, asks the homeserver for
//! devices' keys, and sends what the `Sender` has to share. It lives as long as the participant's sync.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use weir_sframe::{Conference, ParticipantId, RoomKey, RoomKeyReceived};

use super::MediaKeys;
use super::members::Members;
use super::olm::{Decrypted, DeviceKeys, OlmDevice};
use crate::matrix::{Device, MatrixError, News, ToDevice};

/// It looks at the clock at least this often: entries of members end by the wall clock, which may be set.
const LOOK: Duration = Duration::from_secs(60);

/// Uploads the device's keys, and exchanges keys from then on.
pub(crate) async fn start(
    device: &Device,
    conference: Conference,
    news: mpsc::Receiver<News>,
) -> Result<MediaKeys, MatrixError> {
    let own = ParticipantId::new(device.user_id(), device.device_id());
    let mut olm = OlmDevice::new(own.clone());
    device
        .call(Method::POST, "keys/upload", Some(&olm.upload()))
        .await?;
    let members = Members::new(&conference.call_id);
    let media_keys = MediaKeys::new(conference);
    let exchange = Exchange {
        device: device.clone(),
        own,
        olm,
        media_keys: media_keys.clone(),
        members,
        present: BTreeSet::new(),
        known: BTreeMap::new(),
        answers: Vec::new(),
    };
    tokio::spawn(exchange.run(news));
    Ok(media_keys)
}

struct Exchange {
    device: Device,
    own: ParticipantId,
    olm: OlmDevice,
    media_keys: MediaKeys,
    members: Members,
    /// The others in the call; nobody before this device is in it itself.
    present: BTreeSet<ParticipantId>,
    known: BTreeMap<ParticipantId, DeviceKeys>,
    answers: Vec<Message>,
}

/// To be encrypted for a device.
struct Message {
    to: ParticipantId,
    event_type: &'static str,
    content: Value,
}

impl Message {
    fn new(to: ParticipantId, event_type: &'static str, content: &impl Serialize) -> Message {
        let content = serde_json::to_value(content).expect("plain data");
        Message {
            to,
            event_type,
            content,
        }
    }
}

impl Exchange {
    async fn run(mut self, mut news: mpsc::Receiver<News>) {
        let mut next = Instant::now() + LOOK;
        loop {
            tokio::select! {
                heard = news.recv() => match heard {
                    None => return,
                    Some(heard) => self.handle(heard).await,
                },
                () = tokio::time::sleep_until(next.into()) => {}
            }
            while let Ok(heard) = news.try_recv() {
                self.handle(heard).await;
            }
            next = self.update(Instant::now());
            self.send_all().await;
        }
    }

    async fn handle(&mut self, news: News) {
        match news {
            News::State {
                event_type,
                state_key,
                content,
            } => self.members.handle(&event_type, &state_key, &content),
            News::Encrypted(message) => {
                // Whoever has sent it is a member by what was heard before it, if it is one.
                self.update(Instant::now());
                self.handle_encrypted(&message).await;
            }
        }
    }

    /// Takes over who is there, and what is due; says when to look again.
    fn update(&mut self, now: Instant) -> Instant {
        let now_ms = crate::clock::unix_ms_of(now);
        let (mut present, changes_ms) = self.members.at(now_ms);
        if !present.remove(&self.own) {
            present.clear();
        }
        if present != self.present {
            self.media_keys.with(|keys| {
                keys.receiver.set_members(&present, now);
                keys.sender.set_members(present.clone(), now);
            });
            self.known.retain(|id, _| present.contains(id));
            self.present = present;
        }
        let due = self.media_keys.with(|keys| {
            keys.sender.handle_timeout(now);
            keys.receiver.handle_timeout(now);
            [keys.sender.poll_timeout(), keys.receiver.poll_timeout()]
        });
        let expiry =
            changes_ms.map(|ms| now + Duration::from_millis(ms.saturating_sub(now_ms)).min(LOOK));
        let due = due.into_iter().flatten();
        due.chain(expiry).fold(now + LOOK, Instant::min)
    }

    async fn handle_encrypted(&mut self, message: &ToDevice) {
        let decrypted = match self.olm.decrypt(&message.sender, &message.content) {
            Ok(decrypted) => decrypted,
            Err(error) => {
                tracing::debug!(%error, "an encrypted message is not read");
                return;
            }
        };
        // What members tell each other is for members; whoever becomes one is told again, and tells again.
        let from = self.sender_of(&message.sender, &decrypted).await;
        let Some(from) = from.filter(|from| self.present.contains(from)) else {
            tracing::debug!("an encrypted message of somebody who is not in the call");
            return;
        };
        match decrypted.event_type.as_str() {
            RoomKey::EVENT_TYPE => self.handle_key(from, decrypted.content),
            RoomKeyReceived::EVENT_TYPE => {
                if let Ok(received) = serde_json::from_value(decrypted.content) {
                    let now = Instant::now();
                    self.media_keys
                        .with(|keys| keys.sender.handle_received(&from, &received, now));
                }
            }
            _ => {}
        }
    }

    fn handle_key(&mut self, from: ParticipantId, content: Value) {
        let Ok(key) = serde_json::from_value::<RoomKey>(content) else {
            // Room keys of messages are none of ours.
            return;
        };
        match self
            .media_keys
            .with(|keys| keys.receiver.handle_key(&from, &key))
        {
            Ok(received) => {
                let answer = Message::new(from, RoomKeyReceived::EVENT_TYPE, &received);
                self.answers.push(answer);
            }
            Err(error) => tracing::debug!(%error, "a media key is not taken"),
        }
    }

    /// The device that a message came from: one of its sender's that has both of the keys that the message came with.
    async fn sender_of(&mut self, user_id: &str, message: &Decrypted) -> Option<ParticipantId> {
        let has_keys = |keys: &&DeviceKeys| {
            keys.id.user_id == user_id
                && keys.curve25519 == message.curve25519
                && keys.ed25519.to_base64() == message.ed25519
        };
        if !self.known.values().any(|keys| has_keys(&keys)) {
            let of_user = json!({ user_id: [] });
            self.learn(&of_user).await;
        }
        let keys = self.known.values().find(has_keys)?;
        Some(keys.id.clone())
    }

    /// Sends what is due. What cannot be sent comes again: keys by themselves, confirmations when their key comes again.
    async fn send_all(&mut self) {
        let now = Instant::now();
        let mut messages = std::mem::take(&mut self.answers);
        self.media_keys.with(|keys| {
            let shares = std::iter::from_fn(|| keys.sender.poll_share(now));
            let share =
                |share: weir_sframe::Share| Message::new(share.to, RoomKey::EVENT_TYPE, &share.key);
            messages.extend(shares.map(share));
        });
        if messages.is_empty() {
            return;
        }
        self.prepare(&messages).await;
        for round in self.encrypted(messages) {
            let sent = self.device.send_to_devices("m.room.encrypted", &round);
            if let Err(error) = sent.await {
                tracing::debug!(%error, "keys are not sent");
            }
        }
    }

    /// Makes sure that there is a session with everybody who is written to, as far as they have keys.
    async fn prepare(&mut self, messages: &[Message]) {
        let mut unknown = json!({});
        for to in messages.iter().map(|message| &message.to) {
            if !self.known.contains_key(to) {
                unknown[&to.user_id][&to.device_id] = Value::Null;
            }
        }
        if let Some(users) = unknown.as_object().filter(|users| !users.is_empty()) {
            let devices = |(user, devices): (&String, &Value)| {
                let names = devices
                    .as_object()
                    .into_iter()
                    .flat_map(|devices| devices.keys());
                (user.clone(), json!(names.collect::<Vec<_>>()))
            };
            let asked: Value = users.iter().map(devices).collect();
            self.learn(&asked).await;
        }
        let mut claims = json!({});
        for to in messages.iter().map(|message| &message.to) {
            let keys = self.known.get(to);
            if keys.is_some_and(|keys| !self.olm.has_session(keys)) {
                claims[&to.user_id][&to.device_id] = json!("signed_curve25519");
            }
        }
        if claims.as_object().is_some_and(|claims| !claims.is_empty()) {
            self.claim(&claims).await;
        }
    }

    /// Asks for the keys of devices: lists of them by user, an empty one for all.
    async fn learn(&mut self, devices: &Value) {
        let body = json!({ "device_keys": devices });
        let Some(answer) = self.ask("keys/query", &body).await else {
            return;
        };
        for (user, device, keys) in by_device(&answer["device_keys"]) {
            let id = ParticipantId::new(user, device);
            match DeviceKeys::parse(id.clone(), keys) {
                // The keys of a device never change.
                Ok(keys) => {
                    self.known.entry(id).or_insert(keys);
                }
                Err(error) => tracing::debug!(%error, "keys of a device are not taken"),
            }
        }
    }

    async fn claim(&mut self, claims: &Value) {
        let body = json!({ "one_time_keys": claims });
        let Some(answer) = self.ask("keys/claim", &body).await else {
            return;
        };
        for (user, device, claimed) in by_device(&answer["one_time_keys"]) {
            let keys = self.known.get(&ParticipantId::new(user, device));
            let started = keys.map(|keys| self.olm.start(keys, claimed));
            if let Some(Err(error)) = started {
                tracing::debug!(%error, "no session with a device");
            }
        }
    }

    /// The homeserver's answer, if it gives one: what is missing is asked for again when the next message needs it.
    async fn ask(&self, path: &str, body: &Value) -> Option<Value> {
        let answer = self.device.call(Method::POST, path, Some(body)).await;
        let told = answer.inspect_err(|error| tracing::debug!(%error, path, "no keys"));
        told.ok()
    }

    /// The messages for `/sendToDevice`. A request has room for one message to each device.
    fn encrypted(&mut self, messages: Vec<Message>) -> Vec<Value> {
        let mut rounds: Vec<Value> = Vec::new();
        for Message {
            to,
            event_type,
            content,
        } in messages
        {
            let Some(keys) = self.known.get(&to) else {
                continue;
            };
            let Ok(sealed) = self.olm.encrypt(keys, event_type, &content) else {
                continue;
            };
            let free = |round: &&mut Value| round[&to.user_id].get(&to.device_id).is_none();
            match rounds.iter_mut().find(free) {
                Some(round) => round[&to.user_id][&to.device_id] = sealed,
                None => rounds.push(json!({ to.user_id: { to.device_id: sealed } })),
            }
        }
        rounds
    }
}

/// User, device and value of `{user: {device: value}}`.
fn by_device(users: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let users = users.as_object().into_iter().flatten();
    users.flat_map(|(user, devices)| {
        let devices = devices.as_object().into_iter().flatten();
        devices.map(move |(device, value)| (user.as_str(), device.as_str(), value))
    })
}
