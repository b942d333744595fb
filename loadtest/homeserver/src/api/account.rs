//! Registration, login, devices, profile, account data.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post, put},
};
use serde_json::{Value, json};

use super::{own, required};
use crate::{
    error::{Answer, MatrixError},
    http::{Input, Shared},
    state::{Caller, NewDevice, random_id},
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/register", post(register))
        .route(
            "/register/available",
            get(async || Json(json!({ "available": true }))),
        )
        .route("/login", get(login_flows).post(login))
        .route("/logout", post(logout))
        .route("/logout/all", post(logout_all))
        .route("/account/whoami", get(whoami))
        .route("/devices", get(devices))
        .route(
            "/devices/{device}",
            get(device).put(rename_device).delete(delete_device),
        )
        .route("/profile/{user}", get(profile))
        .route(
            "/profile/{user}/{field}",
            get(profile_field).put(set_profile_field),
        )
        .route(
            "/user/{user}/account_data/{type}",
            get(account_data).put(set_account_data),
        )
        .route(
            "/user/{user}/rooms/{room}/account_data/{type}",
            put(set_room_account_data).get(room_account_data),
        )
}

fn new_device(body: &Value) -> NewDevice {
    NewDevice {
        device_id: body["device_id"].as_str().map(str::to_owned),
        display_name: body["initial_device_display_name"]
            .as_str()
            .map(str::to_owned),
    }
}

fn logged_in(shared: &Shared, user: &str, body: &Value) -> Answer {
    let mut state = shared.lock();
    let (caller, token) = state.log_in(user, new_device(body))?;
    Ok(Json(json!({
        "user_id": caller.user,
        "device_id": caller.device,
        "access_token": token,
        "home_server": state.server_name,
    })))
}

async fn register(State(shared): State<Shared>, Input(body): Input) -> Answer {
    if body["auth"]["type"] != "m.login.dummy" {
        let stages = json!({
            "session": random_id(16), "flows": [{ "stages": ["m.login.dummy"] }], "params": {}, "completed": [],
        });
        return Err(MatrixError::with_body(StatusCode::UNAUTHORIZED, stages));
    }
    let localpart = body["username"]
        .as_str()
        .map_or_else(|| random_id(12).to_lowercase(), str::to_owned);
    let password = required(&body, "password")?;
    let user = shared.lock().register(&localpart, password)?;
    if body["inhibit_login"] == true {
        return Ok(Json(json!({ "user_id": user })));
    }
    logged_in(&shared, &user, &body)
}

async fn login_flows() -> Json<Value> {
    Json(json!({ "flows": [{ "type": "m.login.password" }] }))
}

async fn login(State(shared): State<Shared>, Input(body): Input) -> Answer {
    if body["type"] != "m.login.password" {
        return Err(MatrixError::new(
            StatusCode::BAD_REQUEST,
            "M_UNKNOWN",
            "only m.login.password",
        ));
    }
    let user = body["identifier"]["user"]
        .as_str()
        .or_else(|| body["user"].as_str());
    let user = user.ok_or_else(|| MatrixError::invalid("identifier.user is missing"))?;
    let user = shared
        .lock()
        .check_password(user, required(&body, "password")?)?;
    logged_in(&shared, &user, &body)
}

async fn logout(State(shared): State<Shared>, caller: Caller) -> Answer {
    shared.lock().remove_device(&caller);
    Ok(Json(json!({})))
}

async fn logout_all(State(shared): State<Shared>, caller: Caller) -> Answer {
    let mut state = shared.lock();
    let devices = state
        .users
        .get(&caller.user)
        .map(|user| user.devices.keys().cloned().collect::<Vec<_>>());
    for device in devices.into_iter().flatten() {
        state.remove_device(&Caller {
            user: caller.user.clone(),
            device,
        });
    }
    Ok(Json(json!({})))
}

async fn whoami(caller: Caller) -> Json<Value> {
    Json(json!({ "user_id": caller.user, "device_id": caller.device, "is_guest": false }))
}

async fn devices(State(shared): State<Shared>, caller: Caller) -> Answer {
    let state = shared.lock();
    let ids = state
        .users
        .get(&caller.user)
        .into_iter()
        .flat_map(|user| user.devices.keys());
    let devices: Vec<Value> = ids
        .filter_map(|id| state.device_json(&caller.user, id))
        .collect();
    Ok(Json(json!({ "devices": devices })))
}

async fn device(
    State(shared): State<Shared>,
    caller: Caller,
    Path(device): Path<String>,
) -> Answer {
    let found = shared.lock().device_json(&caller.user, &device);
    found
        .map(Json)
        .ok_or_else(|| MatrixError::not_found("no such device"))
}

async fn rename_device(
    State(shared): State<Shared>,
    caller: Caller,
    Path(device): Path<String>,
    Input(body): Input,
) -> Answer {
    let name = body["display_name"].as_str().map(str::to_owned);
    shared
        .lock()
        .device_mut(&Caller {
            user: caller.user,
            device,
        })?
        .display_name = name;
    Ok(Json(json!({})))
}

async fn delete_device(
    State(shared): State<Shared>,
    caller: Caller,
    Path(device): Path<String>,
) -> Answer {
    shared.lock().remove_device(&Caller {
        user: caller.user,
        device,
    });
    Ok(Json(json!({})))
}

async fn profile(State(shared): State<Shared>, Path(user): Path<String>) -> Answer {
    let state = shared.lock();
    let user = state
        .users
        .get(&user)
        .ok_or_else(|| MatrixError::not_found("no such user"))?;
    let mut profile = json!({});
    if let Some(name) = &user.display_name {
        profile["displayname"] = json!(name);
    }
    if let Some(avatar) = &user.avatar_url {
        profile["avatar_url"] = json!(avatar);
    }
    Ok(Json(profile))
}

async fn profile_field(
    shared: State<Shared>,
    Path((user, field)): Path<(String, String)>,
) -> Answer {
    let Json(profile) = profile(shared, Path(user)).await?;
    match profile.get(&field) {
        Some(value) => Ok(Json(json!({ field: value }))),
        None => Ok(Json(json!({}))),
    }
}

async fn set_profile_field(
    State(shared): State<Shared>,
    caller: Caller,
    Path((user, field)): Path<(String, String)>,
    Input(body): Input,
) -> Answer {
    own(&caller, &user)?;
    let value = body[&field].as_str().map(str::to_owned);
    shared.lock().set_profile(&user, &field, value)?;
    Ok(Json(json!({})))
}

fn read_account_data(
    shared: &Shared,
    caller: &Caller,
    user: &str,
    room: &str,
    data_type: &str,
) -> Answer {
    own(caller, user)?;
    let state = shared.lock();
    let data = state
        .users
        .get(user)
        .and_then(|user| user.account_data.get(&(room.into(), data_type.into())));
    data.map(|(_, content)| Json(content.clone()))
        .ok_or_else(|| MatrixError::not_found("no such account data"))
}

async fn account_data(
    State(shared): State<Shared>,
    caller: Caller,
    Path((user, data_type)): Path<(String, String)>,
) -> Answer {
    read_account_data(&shared, &caller, &user, "", &data_type)
}

async fn room_account_data(
    State(shared): State<Shared>,
    caller: Caller,
    Path((user, room, data_type)): Path<(String, String, String)>,
) -> Answer {
    read_account_data(&shared, &caller, &user, &room, &data_type)
}

async fn set_account_data(
    State(shared): State<Shared>,
    caller: Caller,
    Path((user, data_type)): Path<(String, String)>,
    Input(body): Input,
) -> Answer {
    own(&caller, &user)?;
    shared
        .lock()
        .set_account_data(&user, "", &data_type, body)?;
    Ok(Json(json!({})))
}

async fn set_room_account_data(
    State(shared): State<Shared>,
    caller: Caller,
    Path((user, room, data_type)): Path<(String, String, String)>,
    Input(body): Input,
) -> Answer {
    own(&caller, &user)?;
    let mut state = shared.lock();
    state.room_of(&room, &user)?;
    state.set_account_data(&user, &room, &data_type, body)?;
    Ok(Json(json!({})))
}
