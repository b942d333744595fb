//! Login, and the same device again after a restart.
//!
//! The session (user, device, token) lies in the SDK's state store, so that the store's passphrase protects it too. The
//! device id is written before the first login: a crash in between does not make a second device.
//!
//! Login and the check of a token are plain requests; `server` says why.

use std::path::Path;

use matrix_sdk::{
    Client, ClientBuildError, SessionMeta, SessionTokens, SqliteStoreConfig,
    authentication::matrix::MatrixSession,
    config::RequestConfig,
    ruma::{OwnedDeviceId, UserId},
    store::RoomLoadSettings,
};
use rand::{Rng, distr::Uniform};
use serde::{Deserialize, Serialize};

use crate::{
    Config, ConnectError, Login,
    server::{REQUEST_TIMEOUT, Server},
};

const SESSION_KEY: &[u8] = b"weir.session";
const DEVICE_KEY: &[u8] = b"weir.device";

/// What a device is, and what it speaks with.
#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Session {
    pub(crate) user_id: String,
    pub(crate) device_id: String,
    pub(crate) access_token: String,
}

/// Opens the store, logs in or resumes, and gives the client with its session.
pub(crate) async fn open(config: &Config) -> Result<Client, ConnectError> {
    let mut client = open_store(config).await?;
    let server = Server::new(config)?;
    let stored = read_session(config, &client).await?;
    let session = match &config.login {
        Login::AccessToken(token) => {
            let session = server.session_of(token.expose()).await?;
            check_device(config, &session)?;
            session
        }
        Login::Password(_) | Login::Appservice(_) => {
            if let Some(session) = resumable(&server, stored.as_ref()).await? {
                session
            } else {
                let device_id = choose_device(config, &client, stored.as_ref()).await?;
                let session = log_in(&server, config, &device_id).await?;
                // If the homeserver forgot the device, it forgot its keys, and the SDK would never upload them again.
                if stored.is_some() && !server.has_device_keys(&session).await? {
                    tracing::warn!("the homeserver has forgotten the device; it gets new keys");
                    client = without_keys(config, client).await?;
                }
                session
            }
        }
    };
    check_user(config, &session.user_id, "the account logged in to")?;
    if let Some(stored) = stored {
        let same = stored.user_id == session.user_id && stored.device_id == session.device_id;
        if !same {
            return Err(other_account(
                &session.device_id,
                "the store",
                &stored.device_id,
            ));
        }
    }
    write(config, &client, SESSION_KEY, &session).await?;
    restore(config, &client, session).await?;
    Ok(client)
}

async fn log_in(
    server: &Server,
    config: &Config,
    device_id: &str,
) -> Result<Session, ConnectError> {
    match &config.login {
        Login::Password(password) => server.log_in(config, password.expose(), device_id).await,
        Login::Appservice(appservice) => {
            server
                .log_in_appservice(config, appservice, device_id)
                .await
        }
        Login::AccessToken(token) => server.session_of(token.expose()).await,
    }
}

/// The stored session, if the homeserver still takes its token.
async fn resumable(
    server: &Server,
    stored: Option<&Session>,
) -> Result<Option<Session>, ConnectError> {
    let Some(stored) = stored else {
        return Ok(None);
    };
    match server.session_of(&stored.access_token).await {
        Ok(session) => Ok(Some(session)),
        Err(ConnectError::BadToken { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn open_store(config: &Config) -> Result<Client, ConnectError> {
    let url = config.homeserver_url.trim_end_matches('/');
    let bad_url = |reason: String| ConnectError::BadUrl {
        url: url.to_owned(),
        reason,
    };
    if !url.starts_with("https://") && !url.starts_with("http://") {
        return Err(bad_url(
            "it does not begin with https:// or http://".to_owned(),
        ));
    }
    make_private(&config.store_path).map_err(|e| store_error(config, e))?;
    Client::builder()
        .homeserver_url(url)
        .sqlite_store_with_config_and_cache_path(store_config(config), None::<&Path>)
        // The loops of this crate retry: they know what must be said meanwhile.
        .request_config(
            RequestConfig::new()
                .disable_retry()
                .timeout(REQUEST_TIMEOUT),
        )
        .build()
        .await
        .map_err(|error| match error {
            ClientBuildError::Url(error) => bad_url(error.to_string()),
            ClientBuildError::SqliteStore(error) => store_error(config, error),
            other => ConnectError::Refused {
                url: url.to_owned(),
                reason: other.to_string(),
            },
        })
}

/// Connections to each of the SDK's databases. The loops of this crate do one thing at a time; the SDK opens four a core,
/// whose caches fill for hours.
const STORE_CONNECTIONS: usize = 2;

/// Bytes of pages that each connection keeps: what one device knows fits in.
const STORE_CACHE_BYTES: u32 = 256 * 1024;

fn store_config(config: &Config) -> SqliteStoreConfig {
    let passphrase = config
        .store_passphrase
        .as_ref()
        .map(|secret| secret.expose());
    SqliteStoreConfig::new(&config.store_path)
        .passphrase(passphrase)
        .pool_max_size(STORE_CONNECTIONS)
        .cache_size(STORE_CACHE_BYTES)
}

/// Makes the store's folder, readable to its owner only.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    if path.is_dir() {
        return std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Deletes the encryption keys from the store and opens it again.
async fn without_keys(config: &Config, client: Client) -> Result<Client, ConnectError> {
    drop(client);
    for suffix in ["", "-wal", "-shm"] {
        let file = config
            .store_path
            .join(format!("matrix-sdk-crypto.sqlite3{suffix}"));
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(store_error(config, error));
            }
            _ => {}
        }
    }
    open_store(config).await
}

async fn restore(config: &Config, client: &Client, session: Session) -> Result<(), ConnectError> {
    let user_id = UserId::parse(&session.user_id).map_err(|_| ConnectError::Refused {
        url: config.homeserver_url.clone(),
        reason: format!("it gave a user id that is none: {:?}", session.user_id),
    })?;
    let meta = SessionMeta {
        user_id,
        device_id: OwnedDeviceId::from(session.device_id),
    };
    let tokens = SessionTokens {
        access_token: session.access_token,
        refresh_token: None,
    };
    let session = MatrixSession { meta, tokens };
    let restored = client
        .matrix_auth()
        .restore_session(session, RoomLoadSettings::All)
        .await;
    restored.map_err(|error| store_error(config, error))
}

async fn choose_device(
    config: &Config,
    client: &Client,
    stored: Option<&Session>,
) -> Result<String, ConnectError> {
    let chosen_before = match stored {
        Some(stored) => Some(stored.device_id.clone()),
        None => read(config, client, DEVICE_KEY).await?,
    };
    let device_id = match (&config.device_id, chosen_before) {
        (Some(configured), Some(before)) if *configured != before => {
            return Err(other_account(configured, "the store", &before));
        }
        (_, Some(before)) => before,
        (Some(configured), None) => configured.clone(),
        (None, None) => random_device_id(),
    };
    write(config, client, DEVICE_KEY, &device_id).await?;
    Ok(device_id)
}

fn random_device_id() -> String {
    let letters = Uniform::new_inclusive(b'A', b'Z').expect("A is before Z");
    rand::rng()
        .sample_iter(letters)
        .take(10)
        .map(char::from)
        .collect()
}

/// Whether the session is the configured user's and device's.
fn check_device(config: &Config, session: &Session) -> Result<(), ConnectError> {
    check_user(config, &session.user_id, "the access token")?;
    match &config.device_id {
        Some(configured) if *configured != session.device_id => Err(other_account(
            configured,
            "the access token",
            &session.device_id,
        )),
        _ => Ok(()),
    }
}

fn check_user(config: &Config, found: &str, found_in: &'static str) -> Result<(), ConnectError> {
    let configured = config.user_id.as_str();
    let same = if configured.starts_with('@') {
        configured == found
    } else {
        found
            .strip_prefix('@')
            .and_then(|found| found.split(':').next())
            == Some(configured)
    };
    if same {
        Ok(())
    } else {
        Err(other_account(configured, found_in, found))
    }
}

fn other_account(configured: &str, found_in: &'static str, found: &str) -> ConnectError {
    ConnectError::OtherAccount {
        configured: configured.to_owned(),
        found_in,
        found: found.to_owned(),
    }
}

fn store_error(config: &Config, error: impl std::fmt::Display) -> ConnectError {
    ConnectError::Store {
        path: config.store_path.clone(),
        reason: error.to_string(),
    }
}

async fn read_session(config: &Config, client: &Client) -> Result<Option<Session>, ConnectError> {
    let session: Option<Session> = read(config, client, SESSION_KEY).await?;
    if let Some(session) = &session {
        check_user(config, &session.user_id, "the store")?;
        if let Some(configured) = config
            .device_id
            .as_ref()
            .filter(|id| **id != session.device_id)
        {
            return Err(other_account(configured, "the store", &session.device_id));
        }
    }
    Ok(session)
}

/// Reads what was kept under a key.
pub(crate) async fn read<T: for<'de> Deserialize<'de>>(
    config: &Config,
    client: &Client,
    key: &[u8],
) -> Result<Option<T>, ConnectError> {
    let bytes = client
        .state_store()
        .get_custom_value(key)
        .await
        .map_err(|e| store_error(config, e))?;
    bytes
        .map(|bytes| serde_json::from_slice(&bytes))
        .transpose()
        .map_err(|e| store_error(config, e))
}

/// Keeps a value under a key.
pub(crate) async fn write(
    config: &Config,
    client: &Client,
    key: &[u8],
    value: &impl Serialize,
) -> Result<(), ConnectError> {
    let bytes = serde_json::to_vec(value).map_err(|e| store_error(config, e))?;
    client
        .state_store()
        .set_custom_value(key, bytes)
        .await
        .map_err(|e| store_error(config, e))?;
    Ok(())
}
