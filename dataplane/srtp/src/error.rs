//! What can be wrong with a packet, and with a key.

/// Why a packet was not protected or unprotected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Error {
    /// Shorter than its header and authentication tag.
    #[error("packet is too short")]
    TooShort,
    /// The header is not that of an RTP or RTCP packet.
    #[error("packet has no valid RTP or RTCP header")]
    BadHeader,
    /// The authentication tag does not belong to the packet.
    #[error("authentication failed")]
    AuthFailed,
    /// A packet with this number was already accepted.
    #[error("packet was replayed")]
    Replayed,
    /// The number is before the replay window, so that a replay could not be told.
    #[error("packet is older than the replay window")]
    TooOld,
    /// An authentic packet of a new source, but all source states are in use.
    #[error("too many sources")]
    TooManySources,
    /// An SRTCP packet that its sender did not encrypt; the profiles in use here always encrypt.
    #[error("packet is not encrypted")]
    NotEncrypted,
    /// The output buffer is too small for header, payload and tag.
    #[error("output buffer is too small")]
    NoRoom,
    /// As many packets have been sent as the key allows (2^48 SRTP, 2^31 SRTCP); it must be replaced.
    #[error("the key is used up")]
    KeyExhausted,
}

/// Why key material was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The master key has not the length of the profile.
    #[error("master key has a wrong length for the profile")]
    KeyLength,
    /// The master salt has not the length of the profile.
    #[error("master salt has a wrong length for the profile")]
    SaltLength,
}
