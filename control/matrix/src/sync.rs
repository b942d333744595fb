//! The sync loop.
//!
//! **Law of the loop:** the next sync is not begun before the consumer has taken all of the last one. The channel is
//! bounded, so a slow consumer slows the syncs, and the homeserver keeps what comes meanwhile.
//!
//! It is an own loop around `sync_once` because the SDK's `sync()` hands messages over through handlers, a hundred times
//! later (604 ms against 5.5 ms, measured), and does not say when the homeserver is away.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use matrix_sdk::{
    Client,
    config::SyncSettings,
    deserialized_responses::ProcessedToDeviceEvent,
    ruma::{OwnedRoomId, api::client::sync::sync_events::v3::Filter},
    sync::SyncResponse,
};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::{Incoming, Protection, backoff::Backoff, rooms, server::describe, short::Short};

/// How long the homeserver may hold a sync back while there is nothing to say. Longer saves requests; shorter notices a
/// silently lost connection sooner.
const LONG_POLL: Duration = Duration::from_secs(30);
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// An outage is noticed to be over at most this late.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The consumer is gone, or the device is shut down: the loop ends.
struct Ended;

pub(crate) struct SyncLoop {
    pub(crate) client: Client,
    pub(crate) incoming: mpsc::Sender<Incoming>,
    /// Rooms that the focus is invited to.
    pub(crate) invitations: mpsc::Sender<OwnedRoomId>,
    /// Becomes `true` at shutdown.
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) last_sync: Arc<LastSync>,
    pub(crate) state: StateFrom,
}

/// Where the state of rooms comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StateFrom {
    /// From the syncs: of the rooms that the focus is in.
    Sync,
    /// From what is pushed to the application service; the syncs bring messages and invitations.
    Transactions,
}

/// When the homeserver has answered a sync last; before the first time, when the device was made.
#[derive(Debug)]
pub(crate) struct LastSync(Mutex<Instant>);

impl LastSync {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub(crate) fn get(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl SyncLoop {
    /// Syncs until the device is shut down or the consumer is gone.
    pub(crate) async fn run(mut self) {
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            Ended = self.sync_for_ever() => {}
        }
    }

    async fn sync_for_ever(&mut self) -> Ended {
        if self.tell_stored().await.is_err() {
            return Ended;
        }
        let settings = SyncSettings::new()
            .timeout(LONG_POLL)
            .filter(Filter::FilterDefinition(match self.state {
                StateFrom::Sync => rooms::filter(),
                StateFrom::Transactions => rooms::filter_without_state(),
            }));
        // The first sync answers at once, so that a restart is up without waiting for something to happen.
        let mut next = settings.clone().timeout(Duration::ZERO);
        let mut backoff = Backoff::new(BACKOFF_FIRST, BACKOFF_MAX);
        let mut up: Option<bool> = None;
        loop {
            let told = match self.client.sync_once(next.clone()).await {
                Ok(response) => {
                    self.last_sync.set_now();
                    backoff.reset();
                    next = settings.clone();
                    let told = self.tell(response).await;
                    match up.replace(true) {
                        Some(true) => told,
                        _ if told.is_ok() => self.say(Incoming::SyncUp).await,
                        _ => told,
                    }
                }
                Err(error) => {
                    let error = describe(&error);
                    tracing::debug!(error, "sync failed");
                    let told = match up.replace(false) {
                        Some(false) => Ok(()),
                        _ => self.say(Incoming::SyncDown { error }).await,
                    };
                    // After an outage, too, the first sync is answered at once.
                    next = settings.clone().timeout(Duration::ZERO);
                    tokio::time::sleep(backoff.next(rand::random())).await;
                    told
                }
            };
            if told.is_err() {
                return Ended;
            }
        }
    }

    /// What was known before a restart: a sync says only what is new since.
    async fn tell_stored(&self) -> Result<(), Ended> {
        let told = match self.state {
            StateFrom::Sync => self.client.joined_rooms(),
            StateFrom::Transactions => Vec::new(),
        };
        for room in told {
            match rooms::stored_room(&room).await {
                Ok(stored) => self.say_all(stored).await?,
                Err(error) => {
                    tracing::error!(room = %Short(room.room_id().as_str()), %error, "cannot read a room's stored state");
                }
            }
        }
        for room in self.client.invited_rooms() {
            self.invited(room.room_id().to_owned());
        }
        Ok(())
    }

    /// Rooms before to-device messages: an invite to a call may depend on state that came with it.
    async fn tell(&self, response: SyncResponse) -> Result<(), Ended> {
        if self.state == StateFrom::Sync {
            self.tell_rooms(&response).await?;
        }
        for room_id in response.rooms.invited.into_keys() {
            self.invited(room_id);
        }
        let arrived = self.last_sync.get();
        let messages: Vec<_> = response
            .to_device
            .iter()
            .filter_map(|message| to_device(message, arrived))
            .collect();
        self.say_all(messages).await
    }

    async fn tell_rooms(&self, response: &SyncResponse) -> Result<(), Ended> {
        let own_user_id = self.client.user_id().map_or("", |user_id| user_id.as_str());
        for (room_id, update) in &response.rooms.joined {
            self.say_all(rooms::joined_room(room_id.as_str(), own_user_id, update))
                .await?;
        }
        for room_id in response.rooms.left.keys() {
            self.say_all(rooms::left_room(&self.client, room_id.as_str()))
                .await?;
        }
        Ok(())
    }

    async fn say_all(&self, incoming: impl IntoIterator<Item = Incoming>) -> Result<(), Ended> {
        for incoming in incoming {
            self.say(incoming).await?;
        }
        Ok(())
    }

    async fn say(&self, incoming: Incoming) -> Result<(), Ended> {
        self.incoming.send(incoming).await.map_err(|_| Ended)
    }

    /// Never waits: invitations are anyone's to send, and must not hold up calls. One that finds no place is tried again
    /// after a restart, since the store keeps it.
    fn invited(&self, room_id: OwnedRoomId) {
        if let Err(mpsc::error::TrySendError::Full(room_id)) = self.invitations.try_send(room_id) {
            tracing::warn!(room = %Short(room_id.as_str()), "too many invitations at once; one is left unanswered");
        }
    }
}

#[derive(Deserialize)]
struct ToDeviceEvent {
    #[serde(rename = "type")]
    event_type: String,
    sender: String,
    #[serde(default)]
    content: Value,
}

/// A to-device message as the focus is told it; `None` for what could not be decrypted or has no shape.
fn to_device(processed: &ProcessedToDeviceEvent, arrived: Instant) -> Option<Incoming> {
    let parse = |json: &str| serde_json::from_str::<ToDeviceEvent>(json).ok();
    let (event, protection, sender_device) = match processed {
        ProcessedToDeviceEvent::PlainText(raw) => {
            (parse(raw.json().get())?, Protection::Plain, None)
        }
        ProcessedToDeviceEvent::Decrypted {
            raw,
            encryption_info,
        } => {
            let mut event = parse(raw.json().get())?;
            // Whose keys these are, not what the inner event claims.
            event.sender = encryption_info.sender.to_string();
            let device = encryption_info
                .sender_device
                .as_ref()
                .map(ToString::to_string);
            (event, Protection::Olm, device)
        }
        ProcessedToDeviceEvent::UnableToDecrypt {
            encrypted_event,
            utd_info,
        } => {
            let sender = parse(encrypted_event.json().get())
                .map(|event| event.sender)
                .unwrap_or_default();
            tracing::warn!(sender = %Short(&sender), reason = ?utd_info.reason, "cannot decrypt a to-device message");
            return None;
        }
        ProcessedToDeviceEvent::Invalid(_) => return None,
    };
    let ToDeviceEvent {
        event_type,
        sender,
        content,
    } = event;
    Some(Incoming::ToDevice {
        sender,
        event_type,
        content,
        protection,
        sender_device,
        arrived,
    })
}
