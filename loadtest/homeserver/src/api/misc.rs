//! Discovery, and what clients ask for without needing the answer.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, header},
    routing::{get, post, put},
};
use serde_json::{Value, json};

use super::own;
use crate::{
    error::{Answer, MatrixError},
    http::{Input, Shared},
    limits::{BODY_BYTES_MAX, FILTERS_PER_USER_MAX},
    state::Caller,
};

/// Paths outside the versioned prefixes.
pub(crate) fn discovery_routes() -> Router<Shared> {
    Router::new()
        .route("/.well-known/matrix/client", get(well_known))
        .route("/_matrix/client/versions", get(versions))
        .route("/health", get(async || "OK"))
}

pub(crate) fn media_routes() -> Router<Shared> {
    Router::new().route(
        "/config",
        get(async || Json(json!({ "m.upload.size": BODY_BYTES_MAX }))),
    )
}

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/capabilities", get(capabilities))
        .route("/voip/turnServer", get(async |_: Caller| Json(json!({}))))
        .route("/pushrules/", get(push_rules))
        .route("/pushrules", get(push_rules))
        .route("/pushrules/global/", get(push_rules_global))
        .route(
            "/pushers",
            get(async |_: Caller| Json(json!({ "pushers": [] }))),
        )
        .route(
            "/notifications",
            get(async |_: Caller| Json(json!({ "notifications": [] }))),
        )
        .route(
            "/thirdparty/protocols",
            get(async |_: Caller| Json(json!({}))),
        )
        .route(
            "/account/3pid",
            get(async |_: Caller| Json(json!({ "threepids": [] }))),
        )
        .route("/user_directory/search", post(user_directory))
        .route("/presence/{user}/status", put(accept).get(presence))
        .route("/user/{user}/filter", post(upload_filter))
        .route("/user/{user}/filter/{filter}", get(filter))
}

async fn well_known(State(shared): State<Shared>, headers: HeaderMap) -> Json<Value> {
    let state = shared.lock();
    // The name that the client reached this homeserver by, so that it works from another machine too.
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or(&state.server_name);
    let mut document = json!({ "m.homeserver": { "base_url": format!("http://{host}") } });
    if !state.foci.is_empty() {
        let foci = state.foci.iter();
        let foci: Vec<Value> = foci
            .map(|focus| {
                let mut entry = json!({ "user_id": focus.user_id, "device_id": focus.device_id });
                if let Some(url) = &focus.blip_url {
                    entry["blip_url"] = json!(url);
                }
                entry
            })
            .collect();
        document["org.matrix.msc3898.foci"] = json!(foci);
    }
    Json(document)
}

async fn versions() -> Json<Value> {
    let versions: Vec<String> = (1..=11).map(|minor| format!("v1.{minor}")).collect();
    Json(json!({ "versions": versions, "unstable_features": {} }))
}

async fn capabilities(_: Caller) -> Json<Value> {
    Json(json!({ "capabilities": {
        "m.change_password": { "enabled": false },
        "m.room_versions": { "default": "10", "available": { "10": "stable" } },
    }}))
}

fn rules() -> Value {
    json!({ "override": [], "content": [], "room": [], "sender": [], "underride": [] })
}

async fn push_rules(_: Caller) -> Json<Value> {
    Json(json!({ "global": rules() }))
}

async fn push_rules_global(_: Caller) -> Json<Value> {
    Json(rules())
}

async fn user_directory(State(shared): State<Shared>, _: Caller, Input(body): Input) -> Answer {
    let term = body["search_term"]
        .as_str()
        .unwrap_or_default()
        .to_lowercase();
    let state = shared.lock();
    let found = state
        .users
        .iter()
        .filter(|(id, _)| id.contains(&term))
        .take(10);
    let results: Vec<Value> = found
        .map(|(id, user)| json!({ "user_id": id, "display_name": user.display_name }))
        .collect();
    Ok(Json(json!({ "results": results, "limited": false })))
}

async fn accept(_: Caller) -> Json<Value> {
    Json(json!({}))
}

async fn presence(_: Caller) -> Json<Value> {
    Json(json!({ "presence": "online" }))
}

async fn upload_filter(
    State(shared): State<Shared>,
    caller: Caller,
    Path(user): Path<String>,
    Input(body): Input,
) -> Answer {
    own(&caller, &user)?;
    let mut state = shared.lock();
    let user = state
        .users
        .get_mut(&user)
        .ok_or_else(|| MatrixError::not_found("no such user"))?;
    let known = user.filters.iter().position(|filter| *filter == body);
    let id = match known {
        Some(id) => id,
        None if user.filters.len() >= FILTERS_PER_USER_MAX => {
            return Err(MatrixError::full("filters"));
        }
        None => {
            user.filters.push(body);
            user.filters.len() - 1
        }
    };
    Ok(Json(json!({ "filter_id": id.to_string() })))
}

async fn filter(
    State(shared): State<Shared>,
    caller: Caller,
    Path((user, filter)): Path<(String, String)>,
) -> Answer {
    own(&caller, &user)?;
    let state = shared.lock();
    let filters = state.users.get(&user).map(|user| &user.filters);
    let found = filters
        .zip(filter.parse::<usize>().ok())
        .and_then(|(filters, id)| filters.get(id));
    found
        .cloned()
        .map(Json)
        .ok_or_else(|| MatrixError::not_found("no such filter"))
}
