//! The device: what the focus holds to send, and how it comes to be.

use std::{fmt, sync::Arc, time::Instant};

use matrix_sdk::{
    Client,
    ruma::{OwnedDeviceId, RoomOrAliasId, UserId},
};
use serde_json::Value;
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, Receiver},
        watch,
    },
    task::JoinHandle,
};

use crate::{
    AppserviceLink, Config, ConnectError, Incoming, Login, Protection, SendError, appservice,
    invitations,
    outbox::{Message, Outbox, raw_content, send_error},
    session,
    short::Short,
    sync::{LastSync, StateFrom, SyncLoop},
};

/// Invitations that may wait to be answered; more at once are left unanswered.
const INVITATIONS_MAX: usize = 1_024;

/// The focus's Matrix device. Cheap to clone; the sync ends with the last clone.
#[derive(Clone)]
pub struct Device(Arc<Inner>);

struct Inner {
    client: Client,
    user_id: String,
    device_id: String,
    outbox: Outbox,
    stop: watch::Sender<bool>,
    last_sync: Arc<LastSync>,
    appservice: Option<AppserviceLink>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Logs in (or resumes the stored session) and starts to sync.
///
/// Returns after login. The receiver first gives the state that the store knew, then what the first sync brought, then
/// [`Incoming::SyncUp`]. The receiver ends when the device is shut down; when it is dropped, the device stops to sync.
pub async fn connect(config: Config) -> Result<(Device, Receiver<Incoming>), ConnectError> {
    let client = session::open(&config).await?;
    let (stop, stopped) = watch::channel(false);
    let (incoming, receiver) = mpsc::channel(config.incoming_max.max(1));
    let (invitations, invited) = mpsc::channel(INVITATIONS_MAX);
    let meta = client.session_meta().cloned();
    let (user_id, device_id) = meta
        .map(|meta| (meta.user_id.to_string(), meta.device_id.to_string()))
        .unwrap_or_default();
    let last_sync = Arc::new(LastSync::new());
    let (appservice, rooms) = match &config.login {
        Login::Appservice(appservice) => {
            let started = appservice::start(&config, appservice, &client, incoming.clone()).await?;
            (Some(started.0), Some(started.1))
        }
        Login::Password(_) | Login::AccessToken(_) => (None, None),
    };
    let sync = SyncLoop {
        client: client.clone(),
        incoming,
        invitations,
        stop: stopped.clone(),
        last_sync: Arc::clone(&last_sync),
        state: if rooms.is_some() {
            StateFrom::Transactions
        } else {
            StateFrom::Sync
        },
    };
    let mut tasks = vec![
        tokio::spawn(sync.run()),
        tokio::spawn(invitations::run(
            client.clone(),
            config.invites,
            invited,
            stopped.clone(),
        )),
    ];
    if let Some(rooms) = rooms {
        tasks.push(tokio::spawn(rooms.run(stopped.clone())));
    }
    let outbox = Outbox::new(client.clone(), stopped);
    let inner = Inner {
        client,
        user_id,
        device_id,
        outbox,
        stop,
        last_sync,
        appservice,
        tasks: Mutex::new(tasks),
    };
    Ok((Device(Arc::new(inner)), receiver))
}

impl Device {
    /// The full user id.
    pub fn user_id(&self) -> &str {
        &self.0.user_id
    }

    /// The device id; the same after a restart on the same store.
    pub fn device_id(&self) -> &str {
        &self.0.device_id
    }

    /// What takes transactions, if the focus is an application service.
    pub fn appservice(&self) -> Option<&AppserviceLink> {
        self.0.appservice.as_ref()
    }

    /// When the homeserver has answered a sync last; before the first time, when the device was made. While there is nothing to
    /// say it answers every half a minute.
    pub fn last_sync(&self) -> Instant {
        self.0.last_sync.get()
    }

    /// Sends one to-device message.
    ///
    /// Messages to one device arrive in the order of the calls (not of the awaits); messages to different devices do
    /// not wait for each other. The message is sent even if the future is dropped. While the homeserver is away it
    /// waits, up to two minutes.
    ///
    /// Has to be called within a tokio runtime.
    pub fn send_to_device(
        &self,
        user_id: &str,
        device_id: &str,
        event_type: &str,
        content: Value,
        protection: Protection,
    ) -> impl Future<Output = Result<(), SendError>> + Send + 'static + use<> {
        let queued = self.queue(user_id, device_id, event_type, &content, protection);
        async move { queued?.await.unwrap_or(Err(SendError::ShutDown)) }
    }

    fn queue(
        &self,
        user_id: &str,
        device_id: &str,
        event_type: &str,
        content: &Value,
        protection: Protection,
    ) -> Result<tokio::sync::oneshot::Receiver<Result<(), SendError>>, SendError> {
        let user = UserId::parse(user_id).map_err(|_| SendError::Invalid {
            what: "user id",
            value: user_id.to_owned(),
        })?;
        // A wildcard would reach devices that were not asked for.
        if device_id.is_empty() || device_id == "*" {
            return Err(SendError::Invalid {
                what: "device id",
                value: device_id.to_owned(),
            });
        }
        let message = Message {
            event_type: event_type.to_owned(),
            content: raw_content(content)?,
            protection,
        };
        Ok(self
            .0
            .outbox
            .push((user, OwnedDeviceId::from(device_id)), message))
    }

    /// Joins a room by id or alias; gives its id. Its state comes through the receiver.
    pub async fn join_room(&self, room: &str) -> Result<String, SendError> {
        let id = RoomOrAliasId::parse(room).map_err(|_| SendError::Invalid {
            what: "room id or alias",
            value: room.to_owned(),
        })?;
        let joined = self
            .0
            .client
            .join_room_by_id_or_alias(&id, &[])
            .await
            .map_err(send_error)?;
        Ok(joined.room_id().to_string())
    }

    /// Stops the sync and what waits to be sent. The session stays valid and is resumed by the next [`connect`].
    pub async fn shutdown(&self) {
        self.0.stop.send_replace(true);
        for task in self.0.tasks.lock().await.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the Matrix device failed");
            }
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Device({}, {})",
            Short(&self.0.user_id),
            Short(&self.0.device_id)
        )
    }
}
