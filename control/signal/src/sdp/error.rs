//! Why a description cannot be used.

/// Why a description cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Longer than [`crate::limits::SDP_BYTES_MAX`].
    #[error("description too long")]
    TooLong,
    /// Not SDP.
    #[error("not a session description")]
    Syntax,
    /// More sections than [`crate::limits::SECTIONS_MAX`].
    #[error("too many sections")]
    TooManySections,
    /// A section without `a=mid`, or two with the same.
    #[error("missing or repeated mid")]
    Mid,
    /// No section has ICE credentials, or they are not well-formed.
    #[error("no usable ICE credentials")]
    Ice,
    /// No usable `a=fingerprint`.
    #[error("no usable fingerprint")]
    Fingerprint,
    /// The fingerprint is another one than before: that would be another transport.
    #[error("fingerprint changed")]
    FingerprintChanged,
    /// `a=setup` leaves the focus no passive role.
    #[error("DTLS role not possible")]
    Setup,
    /// Sections differ from the agreed ones in number or order.
    #[error("sections do not match the session's")]
    Sections,
    /// An answer without an outstanding offer; it may be late, and does no harm.
    #[error("no offer is outstanding")]
    NoOffer,
}
