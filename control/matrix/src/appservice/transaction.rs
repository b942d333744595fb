//! Reading a transaction: what a homeserver pushes to an application service (Application Service API, `PUT /transactions`).
//!
//! Pure. The homeserver is trusted as far as its token goes, but what users wrote is in the events, so that every event may be of
//! any shape: one that is not understood is passed over, and harms no other.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Incoming, rooms};

/// Events of one transaction. Synapse sends up to 100; more than this is not meant for a focus.
const EVENTS_MAX: usize = 10_000;

/// What of a transaction matters to a focus: state of calls and members, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    /// Calls and members. Nothing else of [`Incoming`] is ever among them.
    pub(super) events: Vec<Incoming>,
    seen: usize,
    newest_ms: Option<u64>,
}

/// Why a body is no transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Not JSON, or not an object with a list of events.
    #[error("it is no JSON object with a list of events")]
    NotATransaction,
    /// It has more events than a homeserver sends.
    #[error("it has more than {EVENTS_MAX} events")]
    TooManyEvents,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    events: Vec<&'a RawValue>,
}

/// Where and when an event happened.
#[derive(Deserialize)]
struct Place {
    room_id: String,
    #[serde(default)]
    origin_server_ts: Option<u64>,
}

impl Transaction {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// What the body as a whole is not. Events that are not understood are no error.
    pub fn parse(body: &[u8]) -> Result<Self, TransactionError> {
        let body: Body<'_> =
            serde_json::from_slice(body).map_err(|_| TransactionError::NotATransaction)?;
        if body.events.len() > EVENTS_MAX {
            return Err(TransactionError::TooManyEvents);
        }
        let mut transaction = Self {
            seen: body.events.len(),
            ..Self::default()
        };
        for event in body.events {
            transaction.take(event.get());
        }
        Ok(transaction)
    }

    fn take(&mut self, json: &str) {
        let Ok(Place {
            room_id,
            origin_server_ts,
        }) = serde_json::from_str(json)
        else {
            return;
        };
        if let Some(event) = rooms::event(&room_id, json) {
            self.events.push(event);
            self.newest_ms = self.newest_ms.max(origin_server_ts);
        }
    }

    /// How many events the homeserver pushed, of whatever type.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// How many of them are about calls or members.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether none of them is about calls or members.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// When the newest of those was sent, in milliseconds since 1970-01-01 UTC, as the sender's homeserver says.
    pub fn newest_ms(&self) -> Option<u64> {
        self.newest_ms
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use serde_json::json;

    use super::*;

    /// As Synapse 1.163 pushes them, shortened.
    const PUSHED: &str = r#"{"events":[
        {"type":"m.room.message","room_id":"!r:x","sender":"@a:x","event_id":"$1","origin_server_ts":1,
         "content":{"msgtype":"m.text","body":"hello"},"unsigned":{"age":12}},
        {"type":"m.room.member","room_id":"!r:x","sender":"@a:x","state_key":"@b:x","event_id":"$2",
         "origin_server_ts":1700000000002,"content":{"membership":"leave"},"unsigned":{"age":7}},
        {"type":"org.matrix.msc3401.call","room_id":"!r:x","sender":"@a:x","state_key":"conf","event_id":"$3",
         "origin_server_ts":1700000000001,"content":{"m.intent":"m.room"}}],
        "de.sorunome.msc2409.to_device":[{"type":"m.call.invite","sender":"@a:x","content":{}}]}"#;

    fn call() -> Incoming {
        Incoming::CallState {
            room_id: "!r:x".into(),
            event_type: "org.matrix.msc3401.call".into(),
            state_key: "conf".into(),
            sender: "@a:x".into(),
            content: json!({ "m.intent": "m.room" }),
        }
    }

    #[test]
    fn calls_and_members_are_taken_in_their_order_and_nothing_else() {
        let transaction = Transaction::parse(PUSHED.as_bytes()).expect("a transaction");
        let member = Incoming::Membership {
            room_id: "!r:x".into(),
            user_id: "@b:x".into(),
            joined: false,
        };
        assert_eq!(transaction.events, [member, call()]);
        assert_eq!((transaction.seen(), transaction.len()), (3, 2));
        assert_eq!(transaction.newest_ms(), Some(1_700_000_000_002));
    }

    #[test]
    fn an_event_of_no_shape_harms_no_other() {
        let whole: serde_json::Value = serde_json::from_str(PUSHED).expect("JSON");
        let call_json = &whole["events"][2];
        for bad in [
            json!(null),
            json!([]),
            json!({}),
            json!({"type": "m.call", "room_id": 7}),
            json!({"type": "m.call", "room_id": "!r:x", "state_key": {}, "sender": "@a:x"}),
            json!({"type": "m.room.member", "room_id": "!r:x", "sender": "@a:x", "origin_server_ts": -1}),
        ] {
            let body = json!({ "events": [bad, call_json] }).to_string();
            let transaction = Transaction::parse(body.as_bytes()).expect("a transaction");
            assert_eq!(transaction.events, [call()], "{body}");
        }
    }

    #[test]
    fn what_is_no_transaction_is_refused() {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"events":{}}"#,
            r#"{"events":[}"#,
            "\u{1}",
        ] {
            assert_eq!(
                Transaction::parse(body.as_bytes()),
                Err(TransactionError::NotATransaction),
                "{body}"
            );
        }
        let many = format!(r#"{{"events":[{}0]}}"#, "0,".repeat(EVENTS_MAX));
        assert_eq!(
            Transaction::parse(many.as_bytes()),
            Err(TransactionError::TooManyEvents)
        );
        // Nothing recurses as deep as somebody wants.
        let deep = format!(r#"{{"events":[{}]}}"#, "[".repeat(100_000));
        assert_eq!(
            Transaction::parse(deep.as_bytes()),
            Err(TransactionError::NotATransaction)
        );
    }

    #[test]
    fn mutated_transactions_never_panic_and_never_grow() {
        let mut rng = StdRng::seed_from_u64(1);
        let pieces: [&[u8]; 8] = [
            b"{",
            b"}",
            b"[",
            b"]",
            b"\"",
            b"\\u0000",
            b"1e999",
            b"\"state_key\":\"\",",
        ];
        for _ in 0..20_000 {
            let mut body = PUSHED.as_bytes().to_vec();
            for _ in 0..rng.random_range(1..6) {
                let at = rng.random_range(0..body.len());
                match rng.random_range(0..4) {
                    0 => body[at] = rng.random(),
                    1 => body.truncate(at.max(1)),
                    2 => {
                        body.remove(at);
                    }
                    _ => {
                        let piece = pieces[rng.random_range(0..pieces.len())];
                        body.splice(at..at, piece.iter().copied());
                    }
                }
                if body.is_empty() {
                    break;
                }
            }
            if let Ok(transaction) = Transaction::parse(&body) {
                assert!(transaction.len() <= transaction.seen());
                // Two fewer braces may make two events one, never three four.
                assert!(transaction.seen() <= body.len() / 2);
            }
        }
    }
}
