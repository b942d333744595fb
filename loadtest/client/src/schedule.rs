//! When the publishers of this process mean to send what: the exact side of a one-way delay.
//!
//! A publisher sends frame `n` at its start plus `n` thirtieths of a second, audio packet `n` at its start plus `n` fiftieths, and a
//! clip's loop is five seconds of both. So whoever recognises a frame knows when it was due.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// User id and device id.
type Key = (String, String);

static STARTS: LazyLock<Mutex<HashMap<Key, Instant>>> = LazyLock::new(Mutex::default);

/// The clips' length: numbers begin again after it, and delays are known to less than it.
const LOOP: Duration = Duration::from_secs(5);
/// Rounding of due times, and clocks read at different moments, may make something arrive before it was due.
const EARLY: Duration = Duration::from_millis(20);

/// A publisher that others may know; forgotten when it is dropped.
#[derive(Debug)]
pub struct Announced {
    key: Key,
    start: Instant,
}

impl Announced {
    /// Announces when a publisher sent, or would have sent, frame 0 of its clips.
    pub fn new(user_id: &str, device_id: &str, start: Instant) -> Announced {
        let key = (user_id.to_owned(), device_id.to_owned());
        starts().insert(key.clone(), start);
        Announced { key, start }
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let mut starts = starts();
        // A later call of the same device has its own start.
        if starts.get(&self.key) == Some(&self.start) {
            starts.remove(&self.key);
        }
    }
}

/// When a publisher of this process began.
pub(crate) fn start_of(user_id: &str, device_id: &str) -> Option<Instant> {
    let key = (user_id.to_owned(), device_id.to_owned());
    starts().get(&key).copied()
}

/// How long ago the latest frame with this number in the clip was due.
pub(crate) fn age(start: Instant, number: u16, per_second: u32, now: Instant) -> Option<Duration> {
    let due = start + Duration::from_secs(1) * u32::from(number) / per_second;
    let since = (now + EARLY).checked_duration_since(due)?;
    let age = since.as_nanos() % LOOP.as_nanos();
    Some(Duration::from_nanos(age as u64).saturating_sub(EARLY))
}

fn starts() -> std::sync::MutexGuard<'static, HashMap<Key, Instant>> {
    STARTS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frames_age_counts_from_its_latest_turn() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let age_ms = |number, ms| age(start, number, 30, at(ms)).map(|age| age.as_millis());
        assert_eq!(age_ms(30, 1_012), Some(12));
        assert_eq!(age_ms(30, 6_012), Some(12));
        assert_eq!(age_ms(149, 5_000), Some(33));
        assert_eq!(age_ms(0, 4_990), Some(0), "a little early is on time");
        assert_eq!(age_ms(0, 4_900), Some(4_900));
        assert_eq!(age_ms(30, 100), None, "before the first one");
    }

    #[test]
    fn a_publisher_is_known_as_long_as_its_last_call() {
        let start = Instant::now();
        let first = Announced::new("@schedule:x", "D", start);
        let second = Announced::new("@schedule:x", "D", start + LOOP);
        drop(first);
        assert_eq!(start_of("@schedule:x", "D"), Some(start + LOOP));
        assert_eq!(start_of("@schedule:x", "E"), None);
        drop(second);
        assert_eq!(start_of("@schedule:x", "D"), None);
    }
}
