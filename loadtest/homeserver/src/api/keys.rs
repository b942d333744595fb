//! End-to-end encryption keys.

use std::collections::HashMap;

use axum::{
    Json, Router,
    extract::{Query, State},
    routing::{get, post},
};
use serde_json::json;

use crate::{
    error::{Answer, MatrixError},
    http::{Input, Shared},
    state::{Caller, SyncToken},
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/keys/upload", post(upload))
        .route("/keys/query", post(query))
        .route("/keys/claim", post(claim))
        .route("/keys/changes", get(changes))
        .route("/keys/device_signing/upload", post(device_signing))
        .route("/keys/signatures/upload", post(signatures))
        .route("/room_keys/version", get(no_backup))
}

async fn upload(State(shared): State<Shared>, caller: Caller, Input(body): Input) -> Answer {
    shared.lock().upload_keys(&caller, &body).map(Json)
}

async fn query(State(shared): State<Shared>, caller: Caller, Input(body): Input) -> Answer {
    Ok(Json(shared.lock().query_keys(&caller, &body)))
}

async fn claim(State(shared): State<Shared>, _caller: Caller, Input(body): Input) -> Answer {
    Ok(Json(shared.lock().claim_keys(&body)))
}

async fn changes(
    State(shared): State<Shared>,
    caller: Caller,
    Query(parameters): Query<HashMap<String, String>>,
) -> Answer {
    let from: SyncToken = parameters.get("from").map_or("", String::as_str).parse()?;
    Ok(Json(
        json!({ "changed": shared.lock().device_list_changes(&caller.user, from.stream()), "left": [] }),
    ))
}

async fn device_signing(
    State(shared): State<Shared>,
    caller: Caller,
    Input(body): Input,
) -> Answer {
    shared.lock().upload_cross_signing(&caller, &body);
    Ok(Json(json!({})))
}

async fn signatures(State(shared): State<Shared>, _caller: Caller, Input(body): Input) -> Answer {
    shared.lock().upload_signatures(&body);
    Ok(Json(json!({ "failures": {} })))
}

async fn no_backup() -> MatrixError {
    MatrixError::not_found("no key backup")
}
