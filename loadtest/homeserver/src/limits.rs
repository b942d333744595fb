//! How much of everything there may be.
//!
//! Full tables refuse with `M_LIMIT_EXCEEDED`, except those that are windows onto a stream (inbox, timeline,
//! transactions), which forget the oldest. The worst case of a well-behaved load test (1 000 participants, 100 rooms)
//! stays below 100 MB.

/// Bytes of one request body; the largest real one is a key upload (100 one-time keys, about 30 kB) or an SDP offer
/// with metadata (about 20 kB).
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of one event's content, as in the specification (64 KiB).
pub(crate) const EVENT_BYTES_MAX: usize = 65_536;
/// Accounts.
pub(crate) const USERS_MAX: usize = 20_000;
/// Devices of one account.
pub(crate) const DEVICES_PER_USER_MAX: usize = 100;
/// Rooms.
pub(crate) const ROOMS_MAX: usize = 10_000;
/// Room aliases.
pub(crate) const ALIASES_MAX: usize = 10_000;
/// State entries of one room: about two per participant.
pub(crate) const STATE_PER_ROOM_MAX: usize = 20_000;
/// Remembered events of one room. State is kept apart, so forgetting loses only messages.
pub(crate) const TIMELINE_PER_ROOM_MAX: usize = 2_000;
/// Undelivered to-device messages of one device.
pub(crate) const INBOX_PER_DEVICE_MAX: usize = 2_000;
/// To-device messages in one sync, as Synapse does it.
pub(crate) const TO_DEVICE_PER_SYNC_MAX: usize = 100;
/// Remembered transactions of one device.
pub(crate) const TRANSACTIONS_PER_DEVICE_MAX: usize = 500;
/// One-time keys of one device; matrix-sdk keeps 50, libolm up to 100.
pub(crate) const ONE_TIME_KEYS_PER_DEVICE_MAX: usize = 500;
/// Uploaded filters of one account.
pub(crate) const FILTERS_PER_USER_MAX: usize = 100;
/// Account data entries of one account (all rooms together).
pub(crate) const ACCOUNT_DATA_PER_USER_MAX: usize = 1_000;
/// Timeline events in one sync and room, if the filter does not say.
pub(crate) const TIMELINE_PER_SYNC_DEFAULT: usize = 20;
/// Timeline events in one sync and room, whatever the filter says.
pub(crate) const TIMELINE_PER_SYNC_MAX: usize = 100;
/// A sync waits at most this long.
pub(crate) const SYNC_TIMEOUT_MS_MAX: u64 = 60_000;
