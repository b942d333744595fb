//! What an operator says about the focus's account.

use std::{fmt, path::PathBuf};

/// The account of the focus, where it lives, and where its keys are kept.
#[derive(Clone, Debug)]
pub struct Config {
    /// Base URL of the homeserver's Client-Server API, such as `https://matrix.example.org`.
    pub homeserver_url: String,
    /// Full user id (`@focus:example.org`) or its localpart (`focus`).
    pub user_id: String,
    /// How to log in.
    pub login: Login,
    /// Folder of the SQLite stores. Created if absent. Who can read it can act as the focus.
    pub store_path: PathBuf,
    /// Encrypts the stores. `None` leaves them readable to whoever reads the files.
    pub store_passphrase: Option<Secret>,
    /// Device id to log in as when the store holds none yet. `None` takes a random one at a login by password.
    ///
    /// Clients call the focus by user id *and* device id, so operators usually fix it.
    pub device_id: Option<String>,
    /// Display name of the device, seen in the account's device list.
    pub display_name: String,
    /// What to do with invitations to rooms.
    pub invites: InvitePolicy,
    /// How many [`Incoming`](crate::Incoming) may wait for the consumer. When they are all taken the sync loop waits:
    /// the homeserver keeps what comes later.
    pub incoming_max: usize,
}

impl Config {
    /// A configuration with the defaults: invitations accepted, no passphrase, device id chosen by the homeserver.
    pub fn new(
        homeserver_url: impl Into<String>,
        user_id: impl Into<String>,
        login: Login,
        store_path: impl Into<PathBuf>,
    ) -> Self {
        Self {
            homeserver_url: homeserver_url.into(),
            user_id: user_id.into(),
            login,
            store_path: store_path.into(),
            store_passphrase: None,
            device_id: None,
            display_name: "Weir".to_owned(),
            invites: InvitePolicy::Accept { rooms_max: 10_000 },
            incoming_max: 1024,
        }
    }
}

/// How the focus proves who it is.
#[derive(Clone, Debug)]
pub enum Login {
    /// By password; the access token that it gives is kept in the store and used at the next start.
    Password(Secret),
    /// By an access token that the operator made. It belongs to one device, and the focus is that device.
    AccessToken(Secret),
    /// As the user of an application service. Rooms are then known from what the homeserver pushes
    /// ([`Device::appservice`](crate::Device::appservice)), whether the focus is in them or not.
    Appservice(Appservice),
}

/// An application service that the homeserver has registered, with the focus and all other users of the homeserver in its
/// namespace: the state of a room is read in the name of one who is in it.
#[derive(Clone, Debug)]
pub struct Appservice {
    /// As in the registration.
    pub id: String,
    /// The `as_token` of the registration.
    pub token: Secret,
}

/// What to do with an invitation to a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitePolicy {
    /// Join, while the focus is in fewer than `rooms_max` rooms; refuse beyond.
    Accept {
        /// Rooms the focus is in at most by invitation.
        rooms_max: usize,
    },
    /// Leave invitations alone.
    Ignore,
}

/// A password, token or passphrase: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Self(secret)
    }
}

impl From<&str> for Secret {
    fn from(secret: &str) -> Self {
        Self(secret.to_owned())
    }
}
