//! A Matrix device over plain HTTP: the few calls of the Client-Server API that a call needs. Messages to a focus are in the
//! clear, as those of the published client are; what participants tell each other is encrypted in `encryption`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::participant::FocusAddress;

/// A to-device message that arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct ToDevice {
    /// Authenticated by the homeserver.
    pub sender: String,
    /// E.g. `m.call.answer`.
    pub event_type: String,
    /// As sent.
    pub content: Value,
}

/// What a device hears that takes part in media encryption, besides messages of its call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum News {
    /// State of the call's room.
    State {
        event_type: String,
        state_key: String,
        content: Value,
    },
    /// An `m.room.encrypted` for this device.
    Encrypted(ToDevice),
}

/// A state event of a room.
#[derive(Debug, Clone, PartialEq)]
pub struct StateEvent {
    /// E.g. `m.room.member`.
    pub event_type: String,
    /// Whose or which of that type.
    pub state_key: String,
    /// As sent.
    pub content: Value,
}

/// The foci that a member event lists for a device (MSC3898).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foci {
    /// What the device publishes to.
    pub active: Vec<FocusAddress>,
    /// What it would rather use.
    pub preferred: Vec<FocusAddress>,
}

/// A request failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// The homeserver said no: HTTP status, `errcode` and `error`.
    #[error("{status} {errcode}: {error}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// E.g. `M_FORBIDDEN`.
        errcode: String,
        /// In words.
        error: String,
    },
    /// It could not be reached, or answered with something that is no JSON.
    #[error("{0}")]
    Unreachable(String),
}

/// One logged-in device. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Device(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Client,
    base: String,
    token: String,
    user_id: String,
    device_id: String,
    transaction: AtomicU64,
}

const STATE_CALL: &str = "org.matrix.msc3401.call";
const STATE_MEMBER: &str = "org.matrix.msc3401.call.member";

impl Device {
    /// Logs in with a password; registers the user first if the homeserver does not know it and lets anyone register.
    pub async fn login(
        homeserver: &str,
        user: &str,
        password: &str,
    ) -> Result<Device, MatrixError> {
        let http = http_client()?;
        let base = homeserver.trim_end_matches('/').to_owned();
        let login = json!({
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user},
            "password": password,
            "initial_device_display_name": "weir-client",
        });
        let url = format!("{base}/_matrix/client/v3/login");
        let answer = match request(&http, Method::POST, &url, None, Some(&login)).await {
            Err(MatrixError::Refused { status: 403, .. }) => {
                let register = json!({
                    "username": user, "password": password, "auth": {"type": "m.login.dummy"},
                    "initial_device_display_name": "weir-client",
                });
                let url = format!("{base}/_matrix/client/v3/register");
                request(&http, Method::POST, &url, None, Some(&register)).await?
            }
            other => other?,
        };
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        Ok(Device(Arc::new(Inner {
            http,
            base,
            token: text("access_token"),
            user_id: text("user_id"),
            device_id: text("device_id"),
            transaction: AtomicU64::new(u64::from(rand::random::<u32>()) << 16),
        })))
    }

    /// Ends the device: the homeserver forgets it and its token. Who joins again logs in again, and homeservers bound the
    /// devices of a user.
    pub async fn log_out(&self) -> Result<(), MatrixError> {
        self.call(Method::POST, "logout", Some(&json!({})))
            .await
            .map(drop)
    }

    /// `@user:server`.
    pub fn user_id(&self) -> &str {
        &self.0.user_id
    }

    /// As given by the homeserver.
    pub fn device_id(&self) -> &str {
        &self.0.device_id
    }

    /// For requests that this type does not know.
    pub fn access_token(&self) -> &str {
        &self.0.token
    }

    /// Any request below `/_matrix/client/v3/`.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, MatrixError> {
        let url = format!("{}/_matrix/client/v3/{path}", self.0.base);
        request(&self.0.http, method, &url, Some(&self.0.token), body).await
    }

    /// A `GET` below `/_matrix/client/v3/`.
    pub async fn get(&self, path: &str) -> Result<Value, MatrixError> {
        self.call(Method::GET, path, None).await
    }

    /// Makes a public room in which everyone may send call state; gives its id.
    pub async fn create_room(&self) -> Result<String, MatrixError> {
        let body = json!({
            "preset": "public_chat",
            "power_level_content_override": {"events": {STATE_CALL: 0, STATE_MEMBER: 0}},
        });
        let answer = self.call(Method::POST, "createRoom", Some(&body)).await?;
        Ok(answer["room_id"].as_str().unwrap_or_default().to_owned())
    }

    /// Joins a room.
    pub async fn join_room(&self, room_id: &str) -> Result<(), MatrixError> {
        let path = format!("join/{}", encode(room_id));
        self.call(Method::POST, &path, Some(&json!({})))
            .await
            .map(drop)
    }

    /// Invites a user to a room.
    pub async fn invite(&self, room_id: &str, user_id: &str) -> Result<(), MatrixError> {
        let path = format!("rooms/{}/invite", encode(room_id));
        self.call(Method::POST, &path, Some(&json!({"user_id": user_id})))
            .await
            .map(drop)
    }

    /// Puts the call's state event.
    pub async fn put_call(&self, room_id: &str, conf_id: &str) -> Result<(), MatrixError> {
        let content = json!({
            "m.intent": "m.room", "m.type": "m.video", "io.element.ptt": false, "dataChannelsEnabled": true,
        });
        self.put_state(room_id, STATE_CALL, conf_id, &content).await
    }

    /// What the homeserver's well-known document says.
    pub async fn well_known(&self) -> Result<Value, MatrixError> {
        let url = format!("{}/.well-known/matrix/client", self.0.base);
        request(&self.0.http, Method::GET, &url, None, None).await
    }

    /// The whole state of a room.
    pub async fn room_state(&self, room_id: &str) -> Result<Vec<StateEvent>, MatrixError> {
        let answer = self
            .get(&format!("rooms/{}/state", encode(room_id)))
            .await?;
        let event = |event: &Value| StateEvent {
            event_type: text(event, "type"),
            state_key: text(event, "state_key"),
            content: event["content"].clone(),
        };
        Ok(answer.as_array().into_iter().flatten().map(event).collect())
    }

    /// Puts the own member event with this device in the call, on the given foci; `None` takes the device out.
    pub async fn put_member(
        &self,
        room_id: &str,
        conf_id: &str,
        session_id: &str,
        foci: Option<&Foci>,
    ) -> Result<(), MatrixError> {
        let calls = foci.map_or_else(
            || json!([]),
            |foci| {
                let expires = crate::clock::unix_ms() + 3_600_000;
                json!([{"m.call_id": conf_id, "m.devices": [{
                    "device_id": self.device_id(),
                    "session_id": session_id,
                    "expires_ts": expires,
                    "feeds": [{"purpose": "m.usermedia"}],
                    "org.matrix.msc3898.foci.active": listed(&foci.active),
                    "org.matrix.msc3898.foci.preferred": listed(&foci.preferred),
                }]}])
            },
        );
        self.put_state(
            room_id,
            STATE_MEMBER,
            self.user_id(),
            &json!({"m.calls": calls}),
        )
        .await
    }

    /// Puts a state event.
    pub async fn put_state(
        &self,
        room_id: &str,
        kind: &str,
        key: &str,
        content: &Value,
    ) -> Result<(), MatrixError> {
        let path = format!(
            "rooms/{}/state/{}/{}",
            encode(room_id),
            encode(kind),
            encode(key)
        );
        self.call(Method::PUT, &path, Some(content)).await.map(drop)
    }

    /// Sends a to-device message in the clear.
    pub async fn send_to_device(
        &self,
        to: (&str, &str),
        kind: &str,
        content: &Value,
    ) -> Result<(), MatrixError> {
        let messages = json!({to.0: {to.1: content}});
        self.send_to_devices(kind, &messages).await
    }

    /// Sends messages of one type to several devices: contents by user and device.
    pub(crate) async fn send_to_devices(
        &self,
        kind: &str,
        messages: &Value,
    ) -> Result<(), MatrixError> {
        let transaction = self.0.transaction.fetch_add(1, Ordering::Relaxed);
        let path = format!("sendToDevice/{}/{transaction}", encode(kind));
        let body = json!({ "messages": messages });
        self.call(Method::PUT, &path, Some(&body)).await.map(drop)
    }

    /// Starts to sync; messages arrive until the receiver is dropped. A homeserver that goes away is asked again.
    pub async fn start_sync(&self) -> Result<mpsc::Receiver<ToDevice>, MatrixError> {
        let nothing = json!({ "rooms": [] });
        let (to_device, receiver) = mpsc::channel(MESSAGES_MAX);
        let sync = Sync {
            device: self.clone(),
            filter: filter(&nothing),
            to_device,
            watched: None,
        };
        sync.start().await?;
        Ok(receiver)
    }

    /// The same, and besides it the state of these types of a room, from the present state on, and encrypted messages.
    pub(crate) async fn start_sync_watching(
        &self,
        room_id: &str,
        types: &[&str],
    ) -> Result<(mpsc::Receiver<ToDevice>, mpsc::Receiver<News>), MatrixError> {
        let none = json!({ "types": [] });
        let of_room = json!({
            "rooms": [room_id],
            "state": { "types": types },
            "timeline": { "types": types, "limit": 100 },
            "ephemeral": none,
            "account_data": none,
        });
        let (to_device, receiver) = mpsc::channel(MESSAGES_MAX);
        let (news, news_receiver) = mpsc::channel(MESSAGES_MAX);
        let sync = Sync {
            device: self.clone(),
            filter: filter(&of_room),
            to_device,
            watched: Some((room_id.to_owned(), news)),
        };
        sync.start().await?;
        Ok((receiver, news_receiver))
    }
}

/// Messages that wait for whoever takes them.
const MESSAGES_MAX: usize = 256;

/// A device's sync, and where what it brings goes.
struct Sync {
    device: Device,
    filter: String,
    to_device: mpsc::Sender<ToDevice>,
    watched: Option<(String, mpsc::Sender<News>)>,
}

impl Sync {
    /// Makes the first request, and the others on a task.
    async fn start(self) -> Result<(), MatrixError> {
        let mut first = self.request(None, 0).await?;
        // What lies there from before is of no call of this participant.
        if let Some(first) = first.as_object_mut() {
            first.remove("to_device");
        }
        tokio::spawn(self.run(first));
        Ok(())
    }

    async fn run(self, first: Value) {
        let mut since = next_batch(&first).unwrap_or_default();
        if self.deliver(first).await.is_none() {
            return;
        }
        loop {
            let answer = tokio::select! {
                answer = self.request(Some(&since), 30_000) => answer,
                () = self.to_device.closed() => return,
            };
            let Ok(answer) = answer else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            since = next_batch(&answer).unwrap_or(since);
            if self.deliver(answer).await.is_none() {
                return;
            }
        }
    }

    /// Hands out what came, state first; `None` when nobody listens any more.
    async fn deliver(&self, mut answer: Value) -> Option<()> {
        if let Some((room_id, news)) = &self.watched {
            let room = &answer["rooms"]["join"][room_id];
            for part in ["state", "timeline"] {
                for event in events(&room[part]) {
                    // Whoever does not listen to news may still have a call.
                    let _ = news.send(state(event)).await;
                }
            }
        }
        let messages = answer["to_device"]["events"].as_array_mut();
        for event in messages.into_iter().flatten() {
            let content = event.get_mut("content").map(Value::take);
            let message = ToDevice {
                sender: text(event, "sender"),
                event_type: text(event, "type"),
                content: content.unwrap_or_default(),
            };
            match &self.watched {
                Some((_, news)) if message.event_type == "m.room.encrypted" => {
                    let _ = news.send(News::Encrypted(message)).await;
                }
                _ => self.to_device.send(message).await.ok()?,
            }
        }
        Some(())
    }

    async fn request(&self, since: Option<&str>, timeout_ms: u32) -> Result<Value, MatrixError> {
        let path = sync_path(&self.filter, since, timeout_ms);
        self.device.call(Method::GET, &path, None).await
    }
}

fn listed(foci: &[FocusAddress]) -> Value {
    let entry = |of: &FocusAddress| json!({"user_id": of.user_id, "device_id": of.device_id});
    foci.iter().map(entry).collect()
}

fn next_batch(answer: &Value) -> Option<String> {
    answer["next_batch"].as_str().map(str::to_owned)
}

fn events(part: &Value) -> impl Iterator<Item = &Value> {
    part["events"].as_array().into_iter().flatten()
}

fn state(event: &Value) -> News {
    News::State {
        event_type: text(event, "type"),
        state_key: text(event, "state_key"),
        content: event["content"].clone(),
    }
}

fn text(event: &Value, name: &str) -> String {
    event[name].as_str().unwrap_or_default().to_owned()
}

/// One client for all devices of a process: they share its connections, and thousands of them would each have their own
/// certificates. A connection belongs to the runtime that made it, so each test of a process has a client of its own.
fn http_client() -> Result<Client, MatrixError> {
    static CLIENTS: Mutex<Vec<(tokio::runtime::Id, Client)>> = Mutex::new(Vec::new());
    let runtime = tokio::runtime::Handle::current().id();
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, client)) = clients.iter().find(|(of, _)| *of == runtime) {
        return Ok(client.clone());
    }
    // Who calls often is answered at once; what hangs must not hang for ever.
    let client = Client::builder().timeout(Duration::from_secs(60)).build();
    let client = client.map_err(|error| MatrixError::Unreachable(error.to_string()))?;
    clients.truncate(CLIENTS_MAX - 1);
    clients.insert(0, (runtime, client.clone()));
    Ok(client)
}

/// Runtimes of one process that use devices at the same time.
const CLIENTS_MAX: usize = 8;

/// A sync filter, for a query string.
fn filter(room: &Value) -> String {
    let none = json!({ "types": [] });
    let filter = json!({ "room": room, "presence": none, "account_data": none });
    encode(&filter.to_string())
}

fn sync_path(filter: &str, since: Option<&str>, timeout_ms: u32) -> String {
    let since = since
        .map(|since| format!("&since={}", encode(since)))
        .unwrap_or_default();
    format!("sync?timeout={timeout_ms}&filter={filter}{since}")
}

async fn request(
    http: &Client,
    method: Method,
    url: &str,
    token: Option<&str>,
    body: Option<&Value>,
) -> Result<Value, MatrixError> {
    let unreachable = |error: reqwest::Error| MatrixError::Unreachable(error.to_string());
    let mut request = http.request(method, url);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let answer: Value = response.json().await.map_err(unreachable)?;
    if status.is_success() {
        return Ok(answer);
    }
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    Err(MatrixError::Refused {
        status: status.as_u16(),
        errcode: text("errcode"),
        error: text("error"),
    })
}

/// Percent-encodes everything but what a path segment may hold unescaped (RFC 3986 §2.3).
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into())
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn encodes_room_ids_for_a_path() {
        assert_eq!(super::encode("!a b:x.org"), "%21a%20b%3Ax.org");
    }
}
