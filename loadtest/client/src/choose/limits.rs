//! How much of what other people say is looked at. Lists in state events are as long as somebody likes.

/// Own foci: configured and recommended ones. Each is called before the first frame; more of them delay a join.
pub(super) const OWN_FOCI_MAX: usize = 8;

/// Foci that are measured and compared for one call. A call with more than a handful is a full mesh of foci already.
pub(super) const FOCI_MAX: usize = 64;

/// Users whose listings are kept. The largest call of one focus has a few hundred participants.
pub(super) const USERS_MAX: usize = 4096;

/// Devices of one user in one event. More is no person.
pub(super) const DEVICES_PER_USER_MAX: usize = 8;

/// Foci in one list. One is usual, a few where a device fans out.
pub(super) const FOCI_PER_LIST_MAX: usize = 8;

/// Devices and foci that are kept, all together: about 20 MB if every id is as long as it may be, 4 MB with usual ones.
pub(super) const ENTRIES_MAX: usize = 32_768;

/// Users that are known to have left the room, so that what they listed does not count. Of those beyond, listings count until
/// they expire.
pub(super) const GONE_MAX: usize = 16_384;

/// Bytes of a user id or a device id (Matrix 1.11 appendix "User identifiers").
pub(super) const ID_BYTES_MAX: usize = 255;

const _: () = assert!(
    OWN_FOCI_MAX < FOCI_MAX,
    "own foci never keep those of others out"
);
