//! What the operator says: a TOML file, overridden by environment variables, checked before anything starts.
//!
//! `WEIR_SECTION_KEY` overrides `key` in `[section]`; its value is read as TOML where it is valid TOML (`8`, `true`,
//! `["a", "b"]`), else as a string. An error names the key, the value, and what would be right.

mod check;
mod secret;

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Table, Value};

pub use check::Mistake;
pub use secret::Secret;

pub use crate::conference::Limits;

/// The whole configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The focus's account.
    pub matrix: Matrix,
    /// Where media flows.
    #[serde(default)]
    pub media: Media,
    /// Which voices are forwarded.
    #[serde(default)]
    pub audio: Audio,
    /// Who may call.
    #[serde(default)]
    pub authorisation: Authorisation,
    /// Health, metrics, the page.
    #[serde(default)]
    pub http: Http,
    /// The port that refuses every connection.
    #[serde(default)]
    pub blip: Blip,
    /// The focus as an application service of its homeserver; `None` if it is an ordinary account.
    pub appservice: Option<Appservice>,
    /// How much of everything.
    #[serde(default)]
    pub limits: Limits,
}

/// `[matrix]`: the focus's account.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matrix {
    /// Base URL of the homeserver's Client-Server API.
    pub homeserver: String,
    /// Full user id or localpart.
    pub user: String,
    /// Password; this or `access_token`, and neither with `[appservice]`.
    pub password: Option<Secret>,
    /// Access token of a device that is the focus's alone.
    pub access_token: Option<Secret>,
    /// Device id for the first login by password.
    pub device_id: Option<String>,
    /// Folder of the keys and the sync state.
    #[serde(default = "default_store")]
    pub store: PathBuf,
    /// Encrypts the store.
    pub store_passphrase: Option<Secret>,
    /// Name in the account's list of devices.
    #[serde(default = "default_display_name")]
    pub display_name: String,
    /// Rooms that the focus joins by invitation, at most; 0 leaves invitations alone.
    #[serde(default = "default_rooms_max")]
    pub rooms_max: usize,
}

impl Matrix {
    /// Makes the store's folder, for nobody but this user, if it is not there.
    pub(crate) fn create_store(&self) -> std::io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.store)
    }
}

/// `[media]`: where media flows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// UDP addresses of the first shard, at most one of each family. Shard N listens N ports higher; port 0 lets the kernel
    /// choose for each.
    pub listen: Vec<SocketAddr>,
    /// Addresses that clients can reach, where they are not those in `listen` (behind NAT, or with an unspecified address).
    pub advertise: Vec<IpAddr>,
    /// Threads that forward media; `None` is one for each core but one.
    pub shards: Option<usize>,
    /// The core of each shard; empty leaves core 0 to control and takes the following ones.
    pub cores: Vec<usize>,
    /// Whether shards are pinned to their cores.
    pub pin: bool,
    /// UDP ports that a shard may open, for each address in `listen`, to call other foci from: so many trunks, and one more, can lead
    /// from it to one address. The kernel chooses them.
    pub calling_ports: usize,
}

/// `[authorisation]`: who may call.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorisation {
    /// Which invites are accepted.
    pub policy: PolicyName,
    /// Server names for [`PolicyName::Homeservers`].
    pub homeservers: Vec<String>,
    /// Must be true for [`PolicyName::Open`].
    pub i_know: bool,
}

/// The value of `authorisation.policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyName {
    /// Members of the call's room.
    #[default]
    Membership,
    /// Users of listed homeservers.
    Homeservers,
    /// Everybody.
    Open,
}

/// `[http]`: health, metrics, the page.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether the page is served.
    pub page: bool,
    /// Whether `/conferences` says who is connected where; on a loopback address alone.
    pub conferences: bool,
}

/// `[blip]`: the port that refuses every connection, by which clients measure the way.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Blip {
    /// TCP address; `None` has no such port.
    pub listen: Option<SocketAddr>,
    /// Connections that are refused at once, in the long run; what is beyond waits.
    pub connections_per_second: f64,
}

/// `[appservice]`: the focus as an application service of its homeserver.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appservice {
    /// Where the homeserver's transactions are taken.
    #[serde(default = "default_appservice_listen")]
    pub listen: SocketAddr,
    /// How the homeserver reaches that; `None` is `http://` and `listen`.
    pub url: Option<String>,
    /// The name of the registration; another for each application service of a homeserver.
    #[serde(default = "default_appservice_id")]
    pub id: String,
    /// What the focus shows; with `hs_token`, or `None` for a random one in the store.
    pub as_token: Option<Secret>,
    /// What the homeserver shows; with `as_token`, or `None` for a random one in the store.
    pub hs_token: Option<Secret>,
}

impl Appservice {
    /// How the homeserver reaches the focus.
    pub fn url(&self) -> String {
        self.url
            .clone()
            .unwrap_or_else(|| format!("http://{}", self.listen))
    }
}

/// `[audio]`: which voices are forwarded.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audio {
    /// Microphones of one conference up to which all are forwarded.
    pub all_up_to: usize,
    /// With more of them, how many are forwarded at a time: the loudest. The sound of shared screens comes besides.
    pub loudest: usize,
}

fn default_store() -> PathBuf {
    PathBuf::from("/var/lib/weir")
}

fn default_display_name() -> String {
    "Weir".to_owned()
}

fn default_rooms_max() -> usize {
    10_000
}

fn default_appservice_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7881))
}

fn default_appservice_id() -> String {
    "weir".to_owned()
}

impl Default for Media {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([0, 0, 0, 0], 7882))],
            advertise: Vec::new(),
            shards: None,
            cores: Vec::new(),
            pin: true,
            calling_ports: 64,
        }
    }
}

impl Media {
    /// How many shards there are.
    pub fn shard_count(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.shards.unwrap_or(cores.saturating_sub(1)).max(1)
    }

    /// The core of a shard; `None` if it is not pinned. Shards beyond the last core start again at the first.
    pub fn core_of(&self, shard: usize) -> Option<usize> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let default = if self.shard_count() < cores {
            shard + 1
        } else {
            shard % cores
        };
        self.pin
            .then(|| self.cores.get(shard).copied().unwrap_or(default))
    }

    /// Where a shard listens.
    pub fn listen_of(&self, shard: usize) -> Vec<SocketAddr> {
        let offset = u16::try_from(shard).unwrap_or(u16::MAX);
        let of_shard = |address: &SocketAddr| match address.port() {
            0 => *address,
            port => SocketAddr::new(address.ip(), port.saturating_add(offset)),
        };
        self.listen.iter().map(of_shard).collect()
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7880)),
            page: false,
            conferences: false,
        }
    }
}

impl Default for Blip {
    fn default() -> Self {
        Self {
            listen: None,
            connections_per_second: 200.0,
        }
    }
}

impl Default for Audio {
    fn default() -> Self {
        Self {
            all_up_to: weir_shard::limits::VOICES_ALL_UP_TO,
            loudest: weir_shard::limits::VOICES_LOUDEST,
        }
    }
}

/// Why there is no usable configuration. All are the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    /// It is not TOML, or a key is unknown, missing or of the wrong type; the text names line and key.
    #[error("{0}")]
    Invalid(Box<toml::de::Error>),
    /// Values that cannot be used.
    #[error("{}", check::list(.0))]
    Mistakes(Vec<Mistake>),
}

impl From<toml::de::Error> for ConfigError {
    fn from(error: toml::de::Error) -> Self {
        Self::Invalid(Box::new(error))
    }
}

impl Config {
    /// With this account, and everything else as where nothing else is written.
    pub fn new(matrix: Matrix) -> Self {
        Self {
            matrix,
            media: Media::default(),
            audio: Audio::default(),
            authorisation: Authorisation::default(),
            http: Http::default(),
            blip: Blip::default(),
            appservice: None,
            limits: Limits::default(),
        }
    }

    /// Reads a file, applies the environment, and checks every value.
    ///
    /// # Errors
    /// What is wrong, by key; several mistakes are named together.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&fs::read_to_string(path)?, std::env::vars())
    }

    /// The same for a text and an environment that are given.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table: Table = toml::from_str(text)?;
        let overridden = apply(&mut table, environment);
        // Without an override the text itself is read, because its errors know their lines.
        let config: Self = if overridden {
            table.try_into()?
        } else {
            toml::from_str(text)?
        };
        match check::check(&config) {
            mistakes if mistakes.is_empty() => Ok(config),
            mistakes => Err(ConfigError::Mistakes(mistakes)),
        }
    }
}

/// The sections that environment variables reach.
const SECTIONS: [&str; 8] = [
    "appservice",
    "matrix",
    "media",
    "audio",
    "authorisation",
    "http",
    "blip",
    "limits",
];

/// Puts what the environment says into the table; says whether it said anything.
fn apply(table: &mut Table, environment: impl Iterator<Item = (String, String)>) -> bool {
    let mut overridden = false;
    for (name, text) in environment {
        let Some(name) = name.strip_prefix("WEIR_").map(str::to_ascii_lowercase) else {
            continue;
        };
        let found = SECTIONS.iter().find_map(|section| {
            let key = name.strip_prefix(section)?.strip_prefix('_')?;
            Some((*section, key.to_owned()))
        });
        let Some((section, key)) = found else {
            continue;
        };
        let entry = table
            .entry(section)
            .or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = entry {
            section.insert(key, environment_value(&text));
            overridden = true;
        }
    }
    overridden
}

fn environment_value(text: &str) -> Value {
    let parsed = format!("value = {text}").parse::<Table>();
    parsed
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests;
