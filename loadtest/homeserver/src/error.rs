//! Matrix error answers.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// What an endpoint answers.
pub(crate) type Answer = Result<Json<Value>, MatrixError>;

/// A refusal in the form that the Client-Server API prescribes.
#[derive(Debug)]
pub(crate) struct MatrixError {
    status: StatusCode,
    body: Value,
}

impl MatrixError {
    /// Any error code of the specification.
    pub(crate) fn new(status: StatusCode, errcode: &str, error: impl Into<String>) -> Self {
        Self {
            status,
            body: json!({ "errcode": errcode, "error": error.into() }),
        }
    }

    /// An answer that is not an error object (user-interactive authentication).
    pub(crate) fn with_body(status: StatusCode, body: Value) -> Self {
        Self { status, body }
    }

    pub(crate) fn bad_json(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_BAD_JSON", error)
    }

    pub(crate) fn invalid(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "M_INVALID_PARAM", error)
    }

    pub(crate) fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "M_FORBIDDEN", error)
    }

    pub(crate) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "M_NOT_FOUND", error)
    }

    pub(crate) fn too_large(error: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "M_TOO_LARGE", error)
    }

    /// A table is full. Not a rate limit: waiting does not help, so there is no `retry_after_ms`.
    pub(crate) fn full(what: &str) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "M_RESOURCE_LIMIT_EXCEEDED",
            format!("too many {what}"),
        )
    }
}

impl IntoResponse for MatrixError {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
