//! The endpoints, one file per group: JSON to calls of the state and back.

pub(crate) mod account;
pub(crate) mod keys;
pub(crate) mod misc;
pub(crate) mod rooms;
pub(crate) mod state_events;
pub(crate) mod sync;

use serde_json::Value;

use crate::error::MatrixError;

/// A member of the body that has to be a string.
fn required<'a>(body: &'a Value, name: &str) -> Result<&'a str, MatrixError> {
    body[name].as_str().ok_or_else(|| {
        MatrixError::new(
            axum::http::StatusCode::BAD_REQUEST,
            "M_MISSING_PARAM",
            format!("{name} is missing"),
        )
    })
}

/// Refuses to touch what belongs to another user.
fn own(caller: &crate::state::Caller, user: &str) -> Result<(), MatrixError> {
    if caller.user == user {
        Ok(())
    } else {
        Err(MatrixError::forbidden("this belongs to another user"))
    }
}
