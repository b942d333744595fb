//! What becomes of invitations to rooms.
//!
//! Apart from the sync loop, so that a room that is slow to join (a large one, or another homeserver's) delays no call.
//! Anyone can invite, so a room that cannot be joined costs a bounded number of attempts and delays few others.

use std::time::Duration;

use matrix_sdk::{
    Client, RoomState,
    ruma::{OwnedRoomId, RoomId},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use crate::{InvitePolicy, SendError, backoff::Backoff, outbox::send_error, short::Short};

/// Attempts to join one room while the homeserver is away; with the back-off below they span about two minutes.
const ATTEMPTS_MAX: u32 = 10;
/// A join by federation may take long, but not for ever.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// Rooms joined at once. More would only wait for each other in the homeserver.
const JOINS_MAX: usize = 8;

/// Joins or refuses rooms until the device is shut down.
pub(crate) async fn run(
    client: Client,
    policy: InvitePolicy,
    mut invitations: mpsc::Receiver<OwnedRoomId>,
    mut stop: watch::Receiver<bool>,
) {
    let InvitePolicy::Accept { rooms_max } = policy else {
        return;
    };
    let answer_all = async {
        let mut joins = JoinSet::new();
        while let Some(room_id) = invitations.recv().await {
            while joins.try_join_next().is_some() {}
            if joins.len() >= JOINS_MAX {
                joins.join_next().await;
            }
            if client.joined_rooms().len() + joins.len() < rooms_max {
                joins.spawn(join(client.clone(), room_id));
            } else {
                tracing::warn!(
                    rooms_max,
                    "refused an invitation: the focus is in as many rooms as it may"
                );
                joins.spawn(refuse(client.clone(), room_id));
            }
        }
        joins.join_all().await;
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = answer_all => {}
    }
}

async fn join(client: Client, room_id: OwnedRoomId) {
    let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(20));
    let room = Short(room_id.as_str());
    for _ in 0..ATTEMPTS_MAX {
        if !is_invited(&client, &room_id) {
            return;
        }
        match timeout(JOIN_TIMEOUT, client.join_room_by_id(&room_id)).await {
            Ok(Ok(_)) => return tracing::info!(%room, "joined a room by invitation"),
            Ok(Err(error)) => match send_error(error) {
                SendError::Unreachable(error) => tracing::debug!(%room, error, "cannot join yet"),
                error => return tracing::warn!(%room, %error, "cannot join a room"),
            },
            Err(_) => tracing::debug!(%room, "no answer to a join yet"),
        }
        tokio::time::sleep(backoff.next(rand::random())).await;
    }
    tracing::error!(%room, "gave up to join a room: the homeserver does not answer");
}

/// Not if it was withdrawn meanwhile, or the room was joined at an attempt whose answer was lost.
fn is_invited(client: &Client, room_id: &RoomId) -> bool {
    client
        .get_room(room_id)
        .is_some_and(|room| room.state() == RoomState::Invited)
}

async fn refuse(client: Client, room_id: OwnedRoomId) {
    if let Some(room) = client.get_room(&room_id)
        && let Err(error) = room.leave().await
    {
        tracing::warn!(room = %Short(room_id.as_str()), %error, "cannot refuse an invitation");
    }
}
