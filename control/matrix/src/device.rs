//! The device: what the focus holds to send, and how it comes to be.

use serde_json::Value;
use tokio::sync::mpsc::Receiver;

use crate::{Config, ConnectError, Incoming, Protection, SendError};

/// The focus's Matrix device. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Device {}

/// Logs in (or resumes the stored session) and starts to sync.
///
/// Returns after login; the first sync's contents come through the receiver, then [`Incoming::SyncUp`].
pub async fn connect(_config: Config) -> Result<(Device, Receiver<Incoming>), ConnectError> {
    todo!()
}

impl Device {
    /// The full user id.
    pub fn user_id(&self) -> &str {
        todo!()
    }

    /// The device id; the same after a restart on the same store.
    pub fn device_id(&self) -> &str {
        todo!()
    }

    /// Sends one to-device message.
    ///
    /// Messages to one device arrive in the order of the calls (not of the awaits); messages to different devices do
    /// not wait for each other. While the homeserver is away the message waits, up to two minutes.
    pub fn send_to_device(
        &self,
        _user_id: &str,
        _device_id: &str,
        _event_type: &str,
        _content: Value,
        _protection: Protection,
    ) -> impl Future<Output = Result<(), SendError>> + Send + 'static {
        async { todo!() }
    }

    /// Joins a room by id or alias; gives its id.
    pub async fn join_room(&self, _room: &str) -> Result<String, SendError> {
        todo!()
    }

    /// Stops the sync and what waits to be sent. The session stays valid and is resumed by the next [`connect`].
    pub async fn shutdown(&self) {
        todo!()
    }
}
