//! The process's steady clock against the wall clock. Both are read once, so that differences are those of the steady one.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

static ANCHOR: LazyLock<(Instant, SystemTime)> =
    LazyLock::new(|| (Instant::now(), SystemTime::now()));

/// Microseconds since 1970 at an instant.
pub(crate) fn unix_us_of(at: Instant) -> u64 {
    let (instant, system) = *ANCHOR;
    let anchor = system
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros() as u64;
    match at.checked_duration_since(instant) {
        Some(after) => anchor + after.as_micros() as u64,
        None => anchor.saturating_sub(instant.duration_since(at).as_micros() as u64),
    }
}

/// Milliseconds since 1970 at an instant.
pub(crate) fn unix_ms_of(at: Instant) -> u64 {
    unix_us_of(at) / 1000
}

/// The wall clock in milliseconds since 1970.
pub fn unix_ms() -> u64 {
    unix_ms_of(Instant::now())
}
