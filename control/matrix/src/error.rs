//! What can go wrong, by whose fault.

use std::path::PathBuf;

/// Why the device could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The operator's: the URL of the homeserver is not one.
    #[error(
        "homeserver URL {url:?} is not valid: {reason}; write for example \"https://matrix.example.org\""
    )]
    BadUrl {
        /// The URL as configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operator's: the homeserver does not accept the password.
    #[error("homeserver {url} refused the password of {user}: {reason}")]
    BadPassword {
        /// The homeserver.
        url: String,
        /// The user as configured.
        user: String,
        /// What the homeserver said.
        reason: String,
    },
    /// The operator's: the homeserver does not accept the access token.
    #[error(
        "homeserver {url} refused the access token: {reason}; log in again and configure the new token"
    )]
    BadToken {
        /// The homeserver.
        url: String,
        /// What the homeserver said.
        reason: String,
    },
    /// The operator's: the homeserver does not know the application service, or not as that user's.
    #[error(
        "homeserver {url} refused the application service: {reason}; has it been given the file that \
         `weir appservice-registration` prints, and been restarted since?"
    )]
    BadAppservice {
        /// The homeserver.
        url: String,
        /// What the homeserver said.
        reason: String,
    },
    /// The operator's: the token or the store belongs to someone else than configured.
    #[error("configured as {configured}, but {found_in} belongs to {found}")]
    OtherAccount {
        /// User or device as configured.
        configured: String,
        /// `the access token` or `the store`.
        found_in: &'static str,
        /// User or device that was found.
        found: String,
    },
    /// The network's or the homeserver's: it does not answer, or not as a homeserver.
    #[error("homeserver {url} cannot be reached: {reason}")]
    Unreachable {
        /// The homeserver.
        url: String,
        /// What happened instead of an answer.
        reason: String,
    },
    /// The homeserver's: it answered with an error that is none of the above.
    #[error("homeserver {url} refused: {reason}")]
    Refused {
        /// The homeserver.
        url: String,
        /// What the homeserver said.
        reason: String,
    },
    /// The operator's or the disk's: the store cannot be opened (wrong passphrase, not writable, damaged).
    #[error("the store in {path} cannot be opened: {reason}")]
    Store {
        /// The store's folder.
        path: PathBuf,
        /// What went wrong.
        reason: String,
    },
}

/// Why a message was not sent, or a room not joined.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The caller's: not a user, device or room id, or content that is not an object.
    #[error("not a valid {what}: {value}")]
    Invalid {
        /// What it should have been.
        what: &'static str,
        /// What it was.
        value: String,
    },
    /// The recipient's: the device has no published keys, so nothing can be encrypted to it.
    #[error("the recipient's device has no usable keys")]
    NoKeys,
    /// The network's: the homeserver did not answer for as long as a call could wait.
    #[error("the homeserver did not answer: {0}")]
    Unreachable(String),
    /// The homeserver's: it answered with an error.
    #[error("the homeserver refused: {0}")]
    Refused(String),
    /// Ours: too many messages wait to be sent to this device.
    #[error("too many messages are waiting")]
    Full,
    /// The device is shut down.
    #[error("the device is shut down")]
    ShutDown,
}
