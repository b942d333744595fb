//! Sync and to-device messages.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    routing::{get, put},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::{
    error::{Answer, MatrixError},
    http::{Input, Shared},
    limits::{EVENT_BYTES_MAX, SYNC_TIMEOUT_MS_MAX},
    state::{Caller, Filter, State as Matrix, SyncToken},
};

pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/sync", get(sync))
        .route("/sendToDevice/{type}/{transaction}", put(send_to_device))
}

async fn sync(
    State(shared): State<Shared>,
    caller: Caller,
    Query(parameters): Query<HashMap<String, String>>,
) -> Answer {
    let since = parameters
        .get("since")
        .map(|since| since.parse::<SyncToken>())
        .transpose()?;
    let full_state = parameters
        .get("full_state")
        .is_some_and(|full| full == "true");
    let wait_ms = parameters
        .get("timeout")
        .and_then(|wait| wait.parse().ok())
        .unwrap_or(0)
        .min(SYNC_TIMEOUT_MS_MAX);
    let filter = read_filter(&shared.lock(), &caller, parameters.get("filter"))?;
    let filter = Arc::new(filter);
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    let wake = {
        let mut state = shared.lock();
        let device = state.device_mut(&caller)?;
        device.listens = Arc::clone(&filter);
        Arc::clone(&device.wake)
    };
    loop {
        // Enabled before the look at the state, so that what comes between the two ends the wait.
        let mut news = std::pin::pin!(wake.notified());
        news.as_mut().enable();
        let synced = shared.lock().sync(&caller, since, &filter, full_state)?;
        if synced.has_news
            || since.is_none()
            || full_state
            || timeout_at(deadline, news).await.is_err()
        {
            return Ok(Json(synced.body));
        }
    }
}

/// The filter parameter: JSON or the id of an uploaded one.
fn read_filter(
    state: &Matrix,
    caller: &Caller,
    parameter: Option<&String>,
) -> Result<Filter, MatrixError> {
    let Some(parameter) = parameter else {
        return Ok(Filter::default());
    };
    if parameter.starts_with('{') {
        let filter = serde_json::from_str(parameter);
        return filter
            .map(|filter| Filter::parse(&filter))
            .map_err(|e| MatrixError::invalid(format!("filter: {e}")));
    }
    let id = parameter.parse::<usize>().ok();
    let filter = state
        .users
        .get(&caller.user)
        .zip(id)
        .and_then(|(user, id)| user.filters.get(id));
    filter
        .map(Filter::parse)
        .ok_or_else(|| MatrixError::invalid("no such filter"))
}

async fn send_to_device(
    State(shared): State<Shared>,
    caller: Caller,
    Path((event_type, transaction)): Path<(String, String)>,
    Input(body): Input,
) -> Answer {
    let messages = body["messages"]
        .as_object()
        .ok_or_else(|| MatrixError::bad_json("messages is not an object"))?;
    let transaction = format!("sendToDevice/{event_type}/{transaction}");
    let mut state = shared.lock();
    if let Some(answer) = state.device_mut(&caller)?.transaction(&transaction) {
        return Ok(Json(answer));
    }
    for (user, devices) in messages {
        for (device, content) in devices.as_object().into_iter().flatten() {
            if content.to_string().len() > EVENT_BYTES_MAX {
                return Err(MatrixError::too_large(
                    "a to-device message has at most 65536 bytes",
                ));
            }
            let message = json!({ "type": event_type, "sender": caller.user, "content": content });
            state.deliver_to_device(user, device, &message);
        }
    }
    let answer: Value = json!({});
    state
        .device_mut(&caller)?
        .remember(transaction, answer.clone());
    Ok(Json(answer))
}
