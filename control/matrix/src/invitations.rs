//! What becomes of invitations to rooms.
//!
//! Apart from the sync loop, so that a room that is slow to join (a large one, or another homeserver's) delays no call.

use std::time::Duration;

use matrix_sdk::{
    Client, RoomState,
    ruma::{OwnedRoomId, RoomId},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{InvitePolicy, backoff::Backoff, short::Short};

/// Attempts to join one room; with the back-off below they span about two minutes.
const ATTEMPTS_MAX: u32 = 10;
/// A join by federation may take long, but not for ever.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

/// Joins or refuses one room after the other until the device is shut down.
pub(crate) async fn run(
    client: Client,
    policy: InvitePolicy,
    mut invitations: mpsc::Receiver<OwnedRoomId>,
    mut stop: watch::Receiver<bool>,
) {
    let answer_all = async {
        while let Some(room_id) = invitations.recv().await {
            match policy {
                InvitePolicy::Ignore => {}
                InvitePolicy::Accept { rooms_max } if client.joined_rooms().len() >= rooms_max => {
                    tracing::warn!(
                        rooms_max,
                        "refused an invitation: the focus is in as many rooms as it may"
                    );
                    refuse(&client, &room_id).await;
                }
                InvitePolicy::Accept { .. } => join(&client, &room_id).await,
            }
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = answer_all => {}
    }
}

async fn join(client: &Client, room_id: &RoomId) {
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(20));
    for _ in 0..ATTEMPTS_MAX {
        // Withdrawn meanwhile, or joined at an attempt whose answer was lost.
        if client
            .get_room(room_id)
            .is_some_and(|room| room.state() != RoomState::Invited)
        {
            return;
        }
        match timeout(JOIN_TIMEOUT, client.join_room_by_id(room_id)).await {
            Ok(Ok(_)) => {
                return tracing::info!(room = %Short(room_id.as_str()), "joined a room by invitation");
            }
            Ok(Err(error)) => {
                tracing::warn!(room = %Short(room_id.as_str()), %error, "cannot join yet")
            }
            Err(_) => tracing::warn!(room = %Short(room_id.as_str()), "no answer to a join yet"),
        }
        tokio::time::sleep(backoff.next(rand::random())).await;
    }
    tracing::error!(room = %Short(room_id.as_str()), "gave up to join a room");
}

async fn refuse(client: &Client, room_id: &RoomId) {
    if let Some(room) = client.get_room(room_id)
        && let Err(error) = room.leave().await
    {
        tracing::warn!(room = %Short(room_id.as_str()), %error, "cannot refuse an invitation");
    }
}
