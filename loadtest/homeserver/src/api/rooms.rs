//! Rooms and membership.

use std::collections::HashMap;

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    routing::{get, post, put},
};
use serde_json::{Map, Value, json};

use super::required;
use crate::{
    error::{Answer, MatrixError},
    http::{Input, Shared},
    limits::ALIASES_MAX,
    state::{Caller, State as Matrix},
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/createRoom", post(create))
        .route("/join/{room}", post(join))
        .route("/rooms/{room}/join", post(join))
        .route("/rooms/{room}/invite", post(invite))
        .route("/rooms/{room}/leave", post(leave))
        .route(
            "/rooms/{room}/forget",
            post(async |_: Caller| Json(json!({}))),
        )
        .route("/rooms/{room}/kick", post(kick))
        .route("/rooms/{room}/ban", post(ban))
        .route("/rooms/{room}/unban", post(kick))
        .route("/rooms/{room}/members", get(members))
        .route("/rooms/{room}/joined_members", get(joined_members))
        .route("/joined_rooms", get(joined_rooms))
        .route("/publicRooms", get(public_rooms).post(public_rooms))
        .route("/rooms/{room}/aliases", get(aliases))
        .route("/directory/room/{alias}", get(alias).put(set_alias))
        .route(
            "/rooms/{room}/typing/{user}",
            put(async |_: Caller| Json(json!({}))),
        )
        .route(
            "/rooms/{room}/receipt/{type}/{event}",
            post(async |_: Caller| Json(json!({}))),
        )
        .route(
            "/rooms/{room}/read_markers",
            post(async |_: Caller| Json(json!({}))),
        )
}

async fn create(State(shared): State<Shared>, caller: Caller, Input(body): Input) -> Answer {
    let mut state = shared.lock();
    let user = caller.user.as_str();
    let alias = body["room_alias_name"]
        .as_str()
        .map(|name| format!("#{name}:{}", state.server_name));
    if alias
        .as_ref()
        .is_some_and(|alias| state.aliases.contains_key(alias))
    {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_ROOM_IN_USE",
            "the alias is taken",
        ));
    }
    let room = state.create_room(user, &body["creation_content"])?;
    for (event_type, state_key, content) in first_state(user, &body, alias.as_deref()) {
        state.send_event(&room, user, &event_type, Some(&state_key), content)?;
    }
    if let Some(alias) = alias {
        add_alias(&mut state, alias, &room)?;
    }
    for invited in body["invite"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        state.invite(&room, user, invited)?;
    }
    Ok(Json(json!({ "room_id": room })))
}

/// The state that a new room has, in the specification's order: preset, `initial_state`, name and topic.
fn first_state(creator: &str, body: &Value, alias: Option<&str>) -> Vec<(String, String, Value)> {
    let default_preset = if body["visibility"] == "public" {
        "public_chat"
    } else {
        "private_chat"
    };
    let join_rule = match body["preset"].as_str().unwrap_or(default_preset) {
        "public_chat" => "public",
        _ => "invite",
    };
    let mut power = json!({
        "users": { creator: 100 }, "users_default": 0, "events": {}, "events_default": 0, "state_default": 50,
        "ban": 50, "kick": 50, "redact": 50, "invite": 0,
    });
    for (key, value) in body["power_level_content_override"]
        .as_object()
        .into_iter()
        .flatten()
    {
        power[key] = value.clone();
    }
    let mut first = vec![
        ("m.room.power_levels".to_owned(), String::new(), power),
        (
            "m.room.join_rules".to_owned(),
            String::new(),
            json!({ "join_rule": join_rule }),
        ),
        (
            "m.room.history_visibility".to_owned(),
            String::new(),
            json!({ "history_visibility": "shared" }),
        ),
        (
            "m.room.guest_access".to_owned(),
            String::new(),
            json!({ "guest_access": "can_join" }),
        ),
    ];
    if let Some(alias) = alias {
        first.push((
            "m.room.canonical_alias".to_owned(),
            String::new(),
            json!({ "alias": alias }),
        ));
    }
    for event in body["initial_state"].as_array().into_iter().flatten() {
        if let Some(event_type) = event["type"].as_str() {
            let state_key = event["state_key"].as_str().unwrap_or_default();
            first.push((
                event_type.to_owned(),
                state_key.to_owned(),
                event["content"].clone(),
            ));
        }
    }
    for (member, event_type) in [("name", "m.room.name"), ("topic", "m.room.topic")] {
        if let Some(text) = body[member].as_str() {
            first.push((
                event_type.to_owned(),
                String::new(),
                json!({ member: text }),
            ));
        }
    }
    first
}

async fn join(State(shared): State<Shared>, caller: Caller, Path(room): Path<String>) -> Answer {
    let mut state = shared.lock();
    let room = resolve(&state, &room)?;
    state.join(&room, &caller.user)?;
    Ok(Json(json!({ "room_id": room })))
}

async fn invite(
    State(shared): State<Shared>,
    caller: Caller,
    Path(room): Path<String>,
    Input(body): Input,
) -> Answer {
    shared
        .lock()
        .invite(&room, &caller.user, required(&body, "user_id")?)?;
    Ok(Json(json!({})))
}

async fn leave(State(shared): State<Shared>, caller: Caller, Path(room): Path<String>) -> Answer {
    shared.lock().leave(&room, &caller.user)?;
    Ok(Json(json!({})))
}

async fn kick(
    State(shared): State<Shared>,
    caller: Caller,
    Path(room): Path<String>,
    Input(body): Input,
) -> Answer {
    shared
        .lock()
        .remove(&room, &caller.user, required(&body, "user_id")?, "leave")?;
    Ok(Json(json!({})))
}

async fn ban(
    State(shared): State<Shared>,
    caller: Caller,
    Path(room): Path<String>,
    Input(body): Input,
) -> Answer {
    shared
        .lock()
        .remove(&room, &caller.user, required(&body, "user_id")?, "ban")?;
    Ok(Json(json!({})))
}

async fn members(
    State(shared): State<Shared>,
    caller: Caller,
    Path(room_id): Path<String>,
    Query(parameters): Query<HashMap<String, String>>,
) -> Answer {
    let state = shared.lock();
    let room = state.room_of(&room_id, &caller.user)?;
    let wanted = parameters.get("membership");
    let unwanted = parameters.get("not_membership");
    let members = room
        .state
        .values()
        .filter(|event| event.event_type == "m.room.member")
        .filter(|event| {
            let membership = event.content["membership"].as_str().unwrap_or_default();
            wanted.is_none_or(|wanted| wanted == membership)
                && unwanted.is_none_or(|unwanted| unwanted != membership)
        });
    let chunk: Vec<Value> = members
        .map(|event| event.json_with_room(&room_id))
        .collect();
    Ok(Json(json!({ "chunk": chunk })))
}

async fn joined_members(
    State(shared): State<Shared>,
    caller: Caller,
    Path(room_id): Path<String>,
) -> Answer {
    let state = shared.lock();
    let joined = state.room_of(&room_id, &caller.user)?.joined();
    let profiles = joined.map(|id| {
        let user = state.users.get(id);
        let name = user.and_then(|user| user.display_name.clone());
        let avatar = user.and_then(|user| user.avatar_url.clone());
        (
            id.to_owned(),
            json!({ "display_name": name, "avatar_url": avatar }),
        )
    });
    let joined: Map<String, Value> = profiles.collect();
    Ok(Json(json!({ "joined": joined })))
}

async fn joined_rooms(State(shared): State<Shared>, caller: Caller) -> Answer {
    let state = shared.lock();
    let rooms = state
        .users
        .get(&caller.user)
        .into_iter()
        .flat_map(|user| &user.rooms);
    let joined: Vec<&String> = rooms
        .filter(|room| {
            state
                .rooms
                .get(*room)
                .is_some_and(|room| room.is_joined(&caller.user))
        })
        .collect();
    Ok(Json(json!({ "joined_rooms": joined })))
}

async fn public_rooms(State(shared): State<Shared>) -> Answer {
    let state = shared.lock();
    let public = state.rooms.iter().filter(|(_, room)| {
        room.state_event("m.room.join_rules", "")
            .is_some_and(|rules| rules.content["join_rule"] == "public")
    });
    let chunk: Vec<Value> = public
        .take(100)
        .map(|(room_id, room)| {
            let name = room.state_event("m.room.name", "").map(|name| name.content["name"].clone());
            let joined = room.joined().count();
            json!({ "room_id": room_id, "name": name, "num_joined_members": joined, "join_rule": "public",
                "world_readable": false, "guest_can_join": false })
        })
        .collect();
    Ok(Json(
        json!({ "total_room_count_estimate": chunk.len(), "chunk": chunk }),
    ))
}

async fn aliases(State(shared): State<Shared>, caller: Caller, Path(room): Path<String>) -> Answer {
    let state = shared.lock();
    state.room_of(&room, &caller.user)?;
    let aliases: Vec<&String> = state
        .aliases
        .iter()
        .filter(|(_, target)| **target == room)
        .map(|(alias, _)| alias)
        .collect();
    Ok(Json(json!({ "aliases": aliases })))
}

async fn alias(State(shared): State<Shared>, Path(alias): Path<String>) -> Answer {
    let state = shared.lock();
    let room = resolve(&state, &alias)?;
    Ok(Json(
        json!({ "room_id": room, "servers": [state.server_name] }),
    ))
}

async fn set_alias(
    State(shared): State<Shared>,
    caller: Caller,
    Path(alias): Path<String>,
    Input(body): Input,
) -> Answer {
    let room = required(&body, "room_id")?;
    let mut state = shared.lock();
    state.room_of(room, &caller.user)?;
    if state.aliases.contains_key(&alias) {
        return Err(MatrixError::new(
            StatusCode::CONFLICT,
            "M_UNKNOWN",
            "the alias is taken",
        ));
    }
    add_alias(&mut state, alias, room)?;
    Ok(Json(json!({})))
}

fn add_alias(state: &mut Matrix, alias: String, room: &str) -> Result<(), MatrixError> {
    if state.aliases.len() >= ALIASES_MAX {
        return Err(MatrixError::full("aliases"));
    }
    state.aliases.insert(alias, room.to_owned());
    Ok(())
}

/// The id of a room given by id or alias.
fn resolve(state: &Matrix, room: &str) -> Result<String, MatrixError> {
    if !room.starts_with('#') {
        return Ok(room.to_owned());
    }
    state
        .aliases
        .get(room)
        .cloned()
        .ok_or_else(|| MatrixError::not_found(format!("no room alias {room}")))
}
