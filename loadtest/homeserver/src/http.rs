//! Routes, CORS, who calls, bodies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, FromRef, FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{
    api,
    error::MatrixError,
    limits::BODY_BYTES_MAX,
    state::{Caller, State},
};

/// The state, as the endpoints share it.
#[derive(Clone, Debug)]
pub(crate) struct Shared(Arc<Mutex<State>>);

impl Shared {
    pub(crate) fn new(state: State) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    /// Locks the state. Never held over an await: nothing in it waits.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic in one request must not end the homeserver of a whole demo.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All routes.
///
/// The same endpoints answer under every version: clients differ in which they use, and none expects a refusal.
pub(crate) fn router(shared: Shared) -> Router {
    let client = Router::new()
        .merge(api::account::routes())
        .merge(api::keys::routes())
        .merge(api::misc::routes())
        .merge(api::rooms::routes())
        .merge(api::state_events::routes())
        .merge(api::sync::routes());
    Router::new()
        .merge(api::misc::discovery_routes())
        .nest("/_matrix/client/v3", client.clone())
        .nest("/_matrix/client/r0", client.clone())
        .nest("/_matrix/client/v1", client.clone())
        .nest("/_matrix/client/unstable", client)
        .nest("/_matrix/media/v3", api::misc::media_routes())
        .nest("/_matrix/client/v1/media", api::misc::media_routes())
        .fallback(unrecognized)
        .method_not_allowed_fallback(unrecognized)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn(cors))
        .with_state(shared)
}

async fn unrecognized(request: Request) -> MatrixError {
    let what = format!(
        "unrecognized request: {} {}",
        request.method(),
        request.uri().path()
    );
    MatrixError::new(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", what)
}

/// Lets any page call, as the specification recommends for the Client-Server API.
async fn cors(request: Request, next: Next) -> Response {
    let mut response = match *request.method() {
        Method::OPTIONS => StatusCode::OK.into_response(),
        _ => next.run(request).await,
    };
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (
            header::ACCESS_CONTROL_ALLOW_METHODS,
            "GET, HEAD, POST, PUT, DELETE, OPTIONS",
        ),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "X-Requested-With, Content-Type, Authorization, Date",
        ),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    for (name, value) in headers {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A JSON body. An empty one counts as `{}`: some clients send none where the specification allows all members to be
/// absent.
#[derive(Debug)]
pub(crate) struct Input(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for Input {
    type Rejection = MatrixError;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, MatrixError> {
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|_| {
                MatrixError::too_large(format!("a body has at most {BODY_BYTES_MAX} bytes"))
            })?;
        if bytes.is_empty() {
            return Ok(Self(json!({})));
        }
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| {
            MatrixError::new(StatusCode::BAD_REQUEST, "M_NOT_JSON", format!("body: {e}"))
        })?;
        if !value.is_object() {
            return Err(MatrixError::bad_json("the body is not an object"));
        }
        Ok(Self(value))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Shared: FromRef<S>,
{
    type Rejection = MatrixError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, MatrixError> {
        let unauthorized =
            |errcode, error| Err(MatrixError::new(StatusCode::UNAUTHORIZED, errcode, error));
        let Some(token) = bearer(&parts.headers) else {
            return unauthorized("M_MISSING_TOKEN", "missing access token");
        };
        match Shared::from_ref(state).lock().tokens.get(token) {
            Some(caller) => Ok(caller.clone()),
            None => unauthorized("M_UNKNOWN_TOKEN", "unknown access token"),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Bearer ")
}
