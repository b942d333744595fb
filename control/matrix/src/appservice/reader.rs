//! Reading the state of a room in the name of a user who is in it.

use std::{sync::Arc, time::Duration};

use matrix_sdk::reqwest;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;

use crate::{
    Incoming, Secret,
    backoff::Backoff,
    rooms,
    server::{Server, describe},
    short::Short,
};

/// Rooms read at once. More would hold up the homeserver's other users, and hold more in memory; after a restart all rooms wait for
/// this.
const READS_MAX: usize = 4;

/// Bytes of one room's state: 50 000 members, who are most of it, have 35 MB. Times [`READS_MAX`] it is what hostile rooms can
/// make the focus hold.
const STATE_BYTES_MAX: usize = 64 << 20;

/// How long one attempt may take: Synapse puts the state of large rooms together in seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads rooms, few at a time. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reader {
    server: Server,
    token: Secret,
    turns: Arc<Semaphore>,
}

enum Failed {
    /// The homeserver is away: it may be asked again.
    Unreachable(String),
    /// It answered, and would answer the same again.
    Refused(String),
}

impl Reader {
    pub(super) fn new(server: Server, token: Secret) -> Self {
        Self {
            server,
            token,
            turns: Arc::new(Semaphore::new(READS_MAX)),
        }
    }

    /// Calls and members of a room, as `reader` sees them; waits for a homeserver that is away. `None` if it refuses.
    pub(super) async fn read(&self, room_id: &str, reader: &str) -> Option<Vec<Incoming>> {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        loop {
            let attempt = {
                let _turn = self.turns.acquire().await.ok()?;
                self.attempt(room_id, reader).await
            };
            match attempt {
                Ok(state) => return Some(state),
                Err(Failed::Refused(error)) => {
                    tracing::warn!(room = %Short(room_id), error, "cannot read a room's state");
                    return None;
                }
                Err(Failed::Unreachable(error)) => {
                    tracing::debug!(room = %Short(room_id), error, "cannot read a room's state yet");
                    tokio::time::sleep(backoff.next(rand::random())).await;
                }
            }
        }
    }

    async fn attempt(&self, room_id: &str, reader: &str) -> Result<Vec<Incoming>, Failed> {
        let (room, user) = (encode(room_id), encode(reader));
        let path = format!("v3/rooms/{room}/state?user_id={user}");
        let request = self
            .server
            .get(&path)
            .bearer_auth(self.token.expose())
            .timeout(READ_TIMEOUT);
        let unreachable = |error: reqwest::Error| Failed::Unreachable(describe(&error));
        let mut answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        if status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS {
            return Err(Failed::Unreachable(format!("status {status}")));
        }
        if !status.is_success() {
            return Err(Failed::Refused(format!("status {status}")));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > STATE_BYTES_MAX {
                let error = format!("it has more than {STATE_BYTES_MAX} bytes");
                return Err(Failed::Refused(error));
            }
            body.extend_from_slice(&chunk);
        }
        parse(room_id, &body).map_err(|error| Failed::Refused(error.to_string()))
    }
}

/// Calls and members out of a list of state events.
fn parse(room_id: &str, body: &[u8]) -> serde_json::Result<Vec<Incoming>> {
    #[derive(Deserialize)]
    struct State<'a>(#[serde(borrow)] Vec<&'a RawValue>);
    let State(state) = serde_json::from_slice(body)?;
    let known = state
        .iter()
        .filter_map(|raw| rooms::event(room_id, raw.get()));
    Ok(known.collect())
}

/// Percent-encodes what a path segment or a query may not hold (RFC 3986 §2.3): a room id is what its homeserver made it.
pub(super) fn encode(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len() + 8);
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_ids_are_one_segment() {
        assert_eq!(encode("!a/b?c:x.org"), "%21a%2Fb%3Fc%3Ax.org");
    }

    #[test]
    fn state_is_read_as_far_as_it_matters() {
        let state = br#"[{"type":"m.room.name","state_key":"","sender":"@a:x","content":{}},7,
            {"type":"m.room.member","state_key":"@a:x","sender":"@a:x","content":{"membership":"join"}}]"#;
        let member = Incoming::Membership {
            room_id: "!r:x".into(),
            user_id: "@a:x".into(),
            joined: true,
        };
        assert_eq!(parse("!r:x", state).expect("a list"), [member]);
        assert!(parse("!r:x", b"{}").is_err());
    }
}
