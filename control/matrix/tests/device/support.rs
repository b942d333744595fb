//! Accounts, devices and waiting with a limit.

use std::{
    io::Write,
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;
use weir_homeserver::Homeserver;
use weir_matrix::{Config, Device, Incoming, Login, connect};

/// Longer than anything here takes on a machine that also builds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) async fn embedded() -> Homeserver {
    let listen = "127.0.0.1:0".parse().unwrap();
    Homeserver::start(weir_homeserver::Config {
        server_name: "localhost".into(),
        listen,
    })
    .await
    .unwrap()
}

/// The real homeserver, if there is one.
pub(crate) fn real() -> Option<String> {
    let url = std::env::var("WEIR_TEST_HOMESERVER")
        .ok()
        .filter(|url| !url.is_empty());
    if url.is_none() {
        // Written past the test harness, which would hide it.
        let skipped = b"SKIPPED: needs a real homeserver; start tests/synapse.py and set WEIR_TEST_HOMESERVER\n";
        std::io::stderr().write_all(skipped).unwrap();
    }
    url
}

/// A folder that is gone at the end of the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("weir-matrix-{}-{count}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A user by plain HTTP, with a device of its own.
pub(crate) struct User {
    pub(crate) url: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) device: String,
    pub(crate) token: String,
}

impl User {
    /// Registers a user; its name gets a suffix that no earlier run has used.
    pub(crate) async fn register(url: &str, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let since = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let name = format!(
            "{name}-{}-{}",
            since.as_millis(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let body = json!({ "username": name, "password": "secret-password", "auth": { "type": "m.login.dummy" } });
        let request = reqwest::Client::new()
            .post(format!("{url}/_matrix/client/v3/register"))
            .json(&body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let member = |name: &str| {
            answer[name]
                .as_str()
                .unwrap_or_else(|| panic!("{answer}"))
                .to_owned()
        };
        Self {
            url: url.to_owned(),
            id: member("user_id"),
            device: member("device_id"),
            token: member("access_token"),
            name,
        }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("{}/_matrix/client/v3/{path}", self.url);
        let request = reqwest::Client::new()
            .request(method, url)
            .bearer_auth(&self.token)
            .json(&body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// A configuration for a device of this user.
    pub(crate) fn config(&self, store: &Folder) -> Config {
        let mut config = Config::new(
            &self.url,
            &self.id,
            Login::Password("secret-password".into()),
            &store.0,
        );
        config.store_passphrase = Some("secret-passphrase".into());
        config
    }
}

/// Stands for whenever something arrived, so that what was told can be compared.
pub(crate) fn moment() -> Instant {
    static MOMENT: OnceLock<Instant> = OnceLock::new();
    *MOMENT.get_or_init(Instant::now)
}

/// A connected device with what it is told.
pub(crate) struct Connected {
    pub(crate) device: Device,
    pub(crate) incoming: Receiver<Incoming>,
}

impl Connected {
    pub(crate) async fn new(config: Config) -> Self {
        let (device, incoming) = connect(config).await.unwrap();
        Self { device, incoming }
    }

    /// Connects and waits until it is up; gives what came before, too.
    pub(crate) async fn up(config: Config) -> (Self, Vec<Incoming>) {
        let mut connected = Self::new(config).await;
        let mut before = Vec::new();
        loop {
            match connected.next().await {
                Incoming::SyncUp => return (connected, before),
                other => before.push(other),
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Incoming {
        let next = tokio::time::timeout(PATIENCE, self.incoming.recv()).await;
        let mut next = next
            .expect("something should have come")
            .expect("the device should be running");
        if let Incoming::ToDevice { arrived, .. } = &mut next {
            assert!(arrived.elapsed() < PATIENCE);
            *arrived = moment();
        }
        next
    }

    /// The next to-device message; skips everything else.
    pub(crate) async fn next_message(&mut self) -> Incoming {
        loop {
            let next = self.next().await;
            if matches!(next, Incoming::ToDevice { .. }) {
                return next;
            }
        }
    }

    /// The text of the next to-device message.
    pub(crate) async fn next_text(&mut self) -> String {
        match self.next_message().await {
            Incoming::ToDevice { content, .. } => content["text"].as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until this has been told; skips everything else.
    pub(crate) async fn wait_for(&mut self, wanted: &Incoming) {
        while self.next().await != *wanted {}
    }
}

/// A room id or user id in a path.
pub(crate) fn path(id: &str) -> String {
    id.replace('!', "%21")
        .replace(':', "%3A")
        .replace('@', "%40")
        .replace('$', "%24")
}
