//! The focus as an application service: the state of rooms from what the homeserver pushes.
//!
//! To-device messages come by the device's own sync, not by transactions: Olm is the SDK's, which reads syncs, and transactions
//! would bring every user's messages (docs/decisions/0015).
//!
//! ```text
//! PUT /transactions ─► Transaction::parse ─► AppserviceLink ─► Task ─► Incoming
//!                                                                │ ▲
//!                                                   read a room  ▼ │ its state
//!                                                              Reader
//! ```

mod reader;
mod rooms;
mod transaction;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use matrix_sdk::Client;
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Appservice, Config, ConnectError, Incoming, SendError,
    server::{Server, said},
    session::{read, write},
};
use reader::{Reader, encode};
use rooms::{Output, Rooms};
pub use transaction::{Transaction, TransactionError};

/// Transactions that wait. A homeserver sends one after the other.
const TRANSACTIONS_MAX: usize = 4;

/// How often the list of rooms is kept, if it has changed. What is lost by a crash in between is known again by the next call
/// in its room.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

const ROOMS_KEY: &[u8] = b"weir.rooms";

/// The application service's end of the device. Cheap to clone.
#[derive(Clone)]
pub struct AppserviceLink {
    transactions: mpsc::Sender<Pushed>,
    counts: Arc<Counts>,
    server: Server,
    appservice: Appservice,
}

/// How many rooms an application service knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomCount {
    /// Rooms whose state is known.
    pub known: usize,
    /// Rooms whose state is being read.
    pub reading: usize,
}

#[derive(Default)]
struct Counts {
    known: AtomicUsize,
    reading: AtomicUsize,
}

struct Pushed {
    transaction: Transaction,
    taken: oneshot::Sender<()>,
}

/// What follows the rooms until the device is shut down.
pub(crate) struct Task {
    rooms: Rooms,
    reader: Reader,
    reads: JoinSet<(String, Option<Vec<Incoming>>)>,
    transactions: mpsc::Receiver<Pushed>,
    incoming: mpsc::Sender<Incoming>,
    counts: Arc<Counts>,
    config: Config,
    client: Client,
}

/// The consumer is gone.
struct Ended;

/// A link and the task behind it. The task first reads the rooms that were known before a restart.
pub(crate) async fn start(
    config: &Config,
    appservice: &Appservice,
    client: &Client,
    incoming: mpsc::Sender<Incoming>,
) -> Result<(AppserviceLink, Task), ConnectError> {
    let server = Server::new(config)?;
    let own_user_id = client.user_id().map_or("", |user_id| user_id.as_str());
    let mut rooms = Rooms::new(own_user_id);
    let kept: BTreeMap<String, String> = read(config, client, ROOMS_KEY).await?.unwrap_or_default();
    for (room_id, reader) in &kept {
        rooms.restore(room_id, reader);
    }
    let (sender, transactions) = mpsc::channel(TRANSACTIONS_MAX);
    let counts = Arc::new(Counts::default());
    let link = AppserviceLink {
        transactions: sender,
        counts: Arc::clone(&counts),
        server: server.clone(),
        appservice: appservice.clone(),
    };
    let task = Task {
        rooms,
        reader: Reader::new(server, appservice.token.clone()),
        reads: JoinSet::new(),
        transactions,
        incoming,
        counts,
        config: config.clone(),
        client: client.clone(),
    };
    Ok((link, task))
}

impl AppserviceLink {
    /// Hands over what the homeserver pushed; returns when it was told or waits for the state of its room, so that the homeserver
    /// may forget it. Told twice it does no harm.
    ///
    /// # Errors
    /// [`SendError::ShutDown`]: it was not taken, and the homeserver has to push it again.
    pub async fn handle_transaction(&self, transaction: Transaction) -> Result<(), SendError> {
        let (taken, is_taken) = oneshot::channel();
        let pushed = Pushed { transaction, taken };
        let sent = self.transactions.send(pushed).await;
        sent.map_err(|_| SendError::ShutDown)?;
        is_taken.await.map_err(|_| SendError::ShutDown)
    }

    /// How many rooms are known now.
    pub fn room_count(&self) -> RoomCount {
        RoomCount {
            known: self.counts.known.load(Relaxed),
            reading: self.counts.reading.load(Relaxed),
        }
    }

    /// Asks the homeserver to ask the application service whether it is there, and gives how long that took. A homeserver that
    /// had found it away then pushes what has waited.
    ///
    /// # Errors
    /// [`SendError::Unreachable`] without an answer of the homeserver, [`SendError::Refused`] with what keeps the homeserver from
    /// reaching the application service, or from knowing it.
    pub async fn ping(&self) -> Result<Duration, SendError> {
        let began = Instant::now();
        let path = format!("v1/appservice/{}/ping", encode(&self.appservice.id));
        let (status, answer) = self
            .server
            .post_to(&path, Some(self.appservice.token.expose()), &json!({}))
            .await
            .map_err(|error| SendError::Unreachable(error.to_string()))?;
        if status == 200 {
            Ok(began.elapsed())
        } else {
            Err(SendError::Refused(format!(
                "status {status}: {}",
                said(&answer)
            )))
        }
    }
}

impl Task {
    /// Follows the rooms until the device is shut down or the consumer is gone.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            Ended = self.follow() => {}
        }
        self.keep().await;
    }

    async fn follow(&mut self) -> Ended {
        let mut keep = interval(KEEP_INTERVAL);
        keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.carry_out().await.is_err() {
                return Ended;
            }
            tokio::select! {
                pushed = self.transactions.recv() => {
                    let Some(Pushed { transaction, taken }) = pushed else {
                        return Ended;
                    };
                    for event in transaction.events {
                        self.rooms.handle_event(event);
                    }
                    if self.carry_out().await.is_err() {
                        return Ended;
                    }
                    // The request may have been given up meanwhile; then the transaction comes again.
                    let _ = taken.send(());
                }
                Some(read) = self.reads.join_next() => {
                    if let Ok((room_id, state)) = read {
                        self.rooms.handle_read(&room_id, state);
                    }
                }
                _ = keep.tick() => self.keep().await,
            }
        }
    }

    async fn carry_out(&mut self) -> Result<(), Ended> {
        while let Some(output) = self.rooms.poll_output() {
            match output {
                Output::Tell(incoming) => {
                    let sent = self.incoming.send(incoming).await;
                    sent.map_err(|_| Ended)?;
                }
                Output::Read {
                    room_id,
                    reader: user_id,
                } => {
                    let reader = self.reader.clone();
                    self.reads.spawn(async move {
                        let state = reader.read(&room_id, &user_id).await;
                        (room_id, state)
                    });
                }
            }
        }
        let (known, reading) = self.rooms.count();
        self.counts.known.store(known, Relaxed);
        self.counts.reading.store(reading, Relaxed);
        Ok(())
    }

    /// Keeps which rooms are known, and who can read them.
    async fn keep(&mut self) {
        if !self.rooms.is_changed() {
            return;
        }
        match write(&self.config, &self.client, ROOMS_KEY, &self.rooms.readers()).await {
            Ok(()) => self.rooms.handle_kept(),
            Err(error) => tracing::warn!(%error, "the list of rooms was not written"),
        }
    }
}
