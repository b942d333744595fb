//! Room events to what the focus is told, and the filter that asks for no others.

use matrix_sdk::{
    Client, Room,
    deserialized_responses::RawAnySyncOrStrippedState,
    ruma::{api::client::filter::FilterDefinition, events::StateEventType},
    sync::{JoinedRoomUpdate, State},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Incoming;

/// The state that the focus is told of, by stable and unstable name.
const CALL_TYPES: [&str; 4] = [
    "m.call",
    "m.call.member",
    "org.matrix.msc3401.call",
    "org.matrix.msc3401.call.member",
];
const MEMBER: &str = "m.room.member";

/// Asks for calls and members only.
///
/// Encryption of rooms is left out on purpose: with it the SDK would track the devices of every member of every room,
/// while the focus needs those of its callers, which it asks for when it meets them.
pub(crate) fn filter() -> FilterDefinition {
    let mut types: Vec<&str> = CALL_TYPES.to_vec();
    types.extend([MEMBER, "m.room.create"]);
    filter_of(&types)
}

/// Asks for nothing but the rooms themselves: who learns about them in another way still has to know which they are.
pub(crate) fn filter_without_state() -> FilterDefinition {
    filter_of(&["m.room.create"])
}

fn filter_of(types: &[&str]) -> FilterDefinition {
    let nothing = json!({ "types": [] });
    let filter = json!({
        "presence": nothing,
        "account_data": nothing,
        "room": {
            "account_data": nothing,
            "ephemeral": nothing,
            "state": { "types": types },
            // State that changes comes by the timeline; if more changes than this, the rest comes as state.
            "timeline": { "types": types, "limit": 50 },
        },
    });
    serde_json::from_value(filter).expect("a filter as in the specification")
}

/// The members of a state event that matter here.
#[derive(Deserialize)]
struct StateEvent {
    #[serde(rename = "type")]
    event_type: String,
    state_key: String,
    sender: String,
    #[serde(default)]
    content: Value,
}

/// What a joined room's part of a sync response says, oldest first.
///
/// The timeline of a room that was joined by invitation holds the invitation too, after the members who were there before: it
/// does not say that the focus, `own_user_id`, has left.
pub(crate) fn joined_room(
    room_id: &str,
    own_user_id: &str,
    update: &JoinedRoomUpdate,
) -> Vec<Incoming> {
    let mut incoming = Vec::new();
    let (state, with_timeline) = match &update.state {
        State::Before(state) => (state, true),
        State::After(state) => (state, false),
    };
    incoming.extend(
        state
            .iter()
            .filter_map(|raw| event(room_id, raw.json().get())),
    );
    if with_timeline {
        let timeline = update.timeline.events.iter();
        incoming.extend(timeline.filter_map(|timed| event(room_id, timed.raw().json().get())));
    }
    incoming.retain(|incoming| !is_departure_of(own_user_id, incoming));
    incoming
}

fn is_departure_of(own_user_id: &str, incoming: &Incoming) -> bool {
    matches!(incoming, Incoming::Membership { user_id, joined: false, .. } if user_id == own_user_id)
}

/// What the store knows of a joined room: the state as of the last sync before a restart.
pub(crate) async fn stored_room(room: &Room) -> matrix_sdk::Result<Vec<Incoming>> {
    let mut incoming = Vec::new();
    for event_type in CALL_TYPES.iter().chain(&[MEMBER]) {
        for stored in room
            .get_state_events(StateEventType::from(*event_type))
            .await?
        {
            let RawAnySyncOrStrippedState::Sync(raw) = stored else {
                continue;
            };
            // Two names may be one type to the SDK, and would then come twice.
            let found = event(room.room_id().as_str(), raw.json().get());
            incoming.extend(found.filter(|found| !incoming.contains(found)));
        }
    }
    Ok(incoming)
}

/// The focus is no longer in the room.
pub(crate) fn left_room(client: &Client, room_id: &str) -> Option<Incoming> {
    let user_id = client.user_id()?.to_string();
    Some(Incoming::Membership {
        room_id: room_id.to_owned(),
        user_id,
        joined: false,
    })
}

/// A state event of a call or a member; everything else, and what has no such shape, is not for the focus.
pub(crate) fn event(room_id: &str, json: &str) -> Option<Incoming> {
    let event: StateEvent = serde_json::from_str(json).ok()?;
    let room_id = room_id.to_owned();
    if event.event_type == MEMBER {
        let joined = event.content["membership"] == "join";
        return Some(Incoming::Membership {
            room_id,
            user_id: event.state_key,
            joined,
        });
    }
    CALL_TYPES
        .contains(&event.event_type.as_str())
        .then(|| Incoming::CallState {
            room_id,
            event_type: event.event_type,
            state_key: event.state_key,
            sender: event.sender,
            content: if event.content.is_object() {
                event.content
            } else {
                json!({})
            },
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_and_member_events_are_told_and_others_are_not() {
        let call = r#"{"type":"org.matrix.msc3401.call","state_key":"conf","sender":"@a:x","content":{"m.intent":"m.room"}}"#;
        let expected = Incoming::CallState {
            room_id: "!r:x".into(),
            event_type: "org.matrix.msc3401.call".into(),
            state_key: "conf".into(),
            sender: "@a:x".into(),
            content: json!({ "m.intent": "m.room" }),
        };
        assert_eq!(event("!r:x", call), Some(expected));
        let member = r#"{"type":"m.room.member","state_key":"@b:x","sender":"@a:x","content":{"membership":"invite"}}"#;
        let expected = Incoming::Membership {
            room_id: "!r:x".into(),
            user_id: "@b:x".into(),
            joined: false,
        };
        assert_eq!(event("!r:x", member), Some(expected));
        assert_eq!(
            event(
                "!r:x",
                r#"{"type":"m.room.name","state_key":"","sender":"@a:x","content":{}}"#
            ),
            None
        );
    }

    #[test]
    fn own_invitation_in_the_timeline_of_a_joined_room_is_no_departure() {
        let invitation = r#"{"type":"m.room.member","state_key":"@f:x","sender":"@a:x","content":{"membership":"invite"}}"#;
        let told = event("!r:x", invitation).expect("a membership");
        assert!(is_departure_of("@f:x", &told));
        assert!(!is_departure_of("@g:x", &told));
        let join = r#"{"type":"m.room.member","state_key":"@f:x","sender":"@f:x","content":{"membership":"join"}}"#;
        let told = event("!r:x", join).expect("a membership");
        assert!(!is_departure_of("@f:x", &told));
    }

    #[test]
    fn malformed_events_are_not_told() {
        for json in [
            "[]",
            "{}",
            r#"{"type":"m.call","sender":"@a:x","content":{}}"#,
            r#"{"type":"m.call","state_key":7,"sender":"@a:x","content":{}}"#,
        ] {
            assert_eq!(event("!r:x", json), None, "{json}");
        }
    }

    #[test]
    fn content_that_is_not_an_object_is_an_empty_one() {
        let call = r#"{"type":"m.call","state_key":"c","sender":"@a:x","content":["x"]}"#;
        assert!(
            matches!(event("!r:x", call), Some(Incoming::CallState { content, .. }) if content == json!({}))
        );
    }
}
