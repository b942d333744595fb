//! Events of a room: state, messages, what was said before.

use std::collections::HashMap;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, put},
};
use serde_json::{Value, json};

use crate::{
    error::{Answer, MatrixError},
    http::{Input, Shared},
    state::{Caller, Event},
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/rooms/{room}/state", get(all_state))
        .route(
            "/rooms/{room}/state/{type}",
            get(state_without_key).put(set_state_without_key),
        )
        .route(
            "/rooms/{room}/state/{type}/",
            get(state_without_key).put(set_state_without_key),
        )
        .route(
            "/rooms/{room}/state/{type}/{key}",
            get(state).put(set_state),
        )
        .route("/rooms/{room}/send/{type}/{transaction}", put(send))
        .route("/rooms/{room}/messages", get(messages))
        .route("/rooms/{room}/event/{event}", get(event))
}

async fn all_state(
    State(shared): State<Shared>,
    caller: Caller,
    Path(room): Path<String>,
) -> Answer {
    let state = shared.lock();
    let events = state.room_of(&room, &caller.user)?.state.values();
    Ok(Json(
        events.map(|event| event.json_with_room(&room)).collect(),
    ))
}

async fn state(
    State(shared): State<Shared>,
    caller: Caller,
    Path((room, event_type, key)): Path<(String, String, String)>,
) -> Answer {
    let state = shared.lock();
    let event = state
        .room_of(&room, &caller.user)?
        .state_event(&event_type, &key);
    event
        .map(|event| Json(event.content.clone()))
        .ok_or_else(|| MatrixError::not_found("no such state event"))
}

async fn state_without_key(
    shared: State<Shared>,
    caller: Caller,
    Path((room, event_type)): Path<(String, String)>,
) -> Answer {
    state(shared, caller, Path((room, event_type, String::new()))).await
}

async fn set_state(
    State(shared): State<Shared>,
    caller: Caller,
    Path((room, event_type, key)): Path<(String, String, String)>,
    Input(content): Input,
) -> Answer {
    let id = shared
        .lock()
        .send_event(&room, &caller.user, &event_type, Some(&key), content)?;
    Ok(Json(json!({ "event_id": id })))
}

async fn set_state_without_key(
    shared: State<Shared>,
    caller: Caller,
    Path((room, event_type)): Path<(String, String)>,
    content: Input,
) -> Answer {
    set_state(
        shared,
        caller,
        Path((room, event_type, String::new())),
        content,
    )
    .await
}

async fn send(
    State(shared): State<Shared>,
    caller: Caller,
    Path((room, event_type, transaction)): Path<(String, String, String)>,
    Input(content): Input,
) -> Answer {
    let mut state = shared.lock();
    let transaction = format!("send/{room}/{event_type}/{transaction}");
    if let Some(answer) = state.device_mut(&caller)?.transaction(&transaction) {
        return Ok(Json(answer));
    }
    let answer =
        json!({ "event_id": state.send_event(&room, &caller.user, &event_type, None, content)? });
    state
        .device_mut(&caller)?
        .remember(transaction, answer.clone());
    Ok(Json(answer))
}

/// Remembered events. There is one page of them: what is not in it is forgotten.
async fn messages(
    State(shared): State<Shared>,
    caller: Caller,
    Path(room_id): Path<String>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Answer {
    let state = shared.lock();
    let room = state.room_of(&room_id, &caller.user)?;
    let limit = parameters
        .get("limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(10_usize)
        .min(1_000);
    let from = parameters
        .get("from")
        .and_then(|from| from.strip_prefix('t')?.parse::<u64>().ok());
    let json = |event: &std::sync::Arc<Event>| event.json_with_room(&room_id);
    let (chunk, last): (Vec<Value>, Option<u64>) =
        if parameters.get("dir").is_some_and(|dir| dir == "f") {
            let after = room
                .timeline
                .iter()
                .filter(|event| from.is_none_or(|from| event.position >= from))
                .take(limit);
            (
                after.clone().map(json).collect(),
                after.last().map(|event| event.position + 1),
            )
        } else {
            let before = room
                .timeline
                .iter()
                .rev()
                .filter(|event| from.is_none_or(|from| event.position < from))
                .take(limit);
            (
                before.clone().map(json).collect(),
                before.last().map(|event| event.position),
            )
        };
    let mut answer =
        json!({ "start": from.map(|from| format!("t{from}")), "chunk": chunk, "state": [] });
    if let Some(last) = last {
        answer["end"] = json!(format!("t{last}"));
    }
    Ok(Json(answer))
}

async fn event(
    State(shared): State<Shared>,
    caller: Caller,
    Path((room_id, event_id)): Path<(String, String)>,
) -> Answer {
    let state = shared.lock();
    let room = state.room_of(&room_id, &caller.user)?;
    let found = room
        .timeline
        .iter()
        .chain(room.state.values())
        .find(|event| event.id == event_id);
    found
        .map(|event| Json(event.json_with_room(&room_id)))
        .ok_or_else(|| MatrixError::not_found("no such event"))
}
