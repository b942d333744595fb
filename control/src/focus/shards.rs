//! The shards as the driver sees them: commands in, events out, one wake-up for all.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::{io::unix::AsyncFd, sync::Notify, task::JoinHandle};
use weir_shard::{Command, Event};
use weir_uring::ShardHandle;

/// One shard and what could not yet be handed to it.
pub(super) struct Shard {
    handle: ShardHandle,
    /// Commands that found the ring full, in order. They come from signalling, which is limited per participant, so this
    /// is bounded by the participants of the shard.
    waiting: VecDeque<Command>,
    watcher: JoinHandle<()>,
}

impl Shard {
    /// Takes over a running shard; `wake` is notified whenever it has events.
    pub(super) fn new(handle: ShardHandle, wake: Arc<Notify>) -> io::Result<Self> {
        let fd = watch(handle.event_fd().as_fd().try_clone_to_owned()?)?;
        let watcher = tokio::spawn(async move {
            while let Ok(mut ready) = fd.readable().await {
                ready.clear_ready();
                wake.notify_one();
            }
        });
        Ok(Self {
            handle,
            waiting: VecDeque::new(),
            watcher,
        })
    }

    /// The ring's end.
    pub(super) fn handle(&self) -> &ShardHandle {
        &self.handle
    }

    /// Hands over a command, after all that wait already.
    pub(super) fn send(&mut self, command: Command) {
        self.waiting.push_back(command);
        self.flush();
    }

    /// Tries again what found the ring full.
    pub(super) fn flush(&mut self) {
        while let Some(command) = self.waiting.pop_front() {
            if let Err(command) = self.handle.send(command) {
                self.waiting.push_front(command);
                return;
            }
        }
    }

    /// Whether commands wait for room in the ring.
    pub(super) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Says that all events up to now are being read. Comes before the reading, so that no event is missed.
    pub(super) fn clear_wakeup(&mut self) {
        self.handle.clear_wakeup();
    }

    /// The next event.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.handle.try_recv()
    }

    /// Stops the shard and waits for its thread.
    pub(super) async fn shutdown(self) {
        self.watcher.abort();
        let stopped = tokio::task::spawn_blocking(move || self.handle.shutdown()).await;
        if let Err(error) = stopped {
            tracing::error!(%error, "a shard did not stop in order");
        }
    }
}

/// Registers an eventfd with the runtime.
#[expect(
    deprecated,
    reason = "the replacement is unsafe for the sake of types that give away a closed fd; OwnedFd does not"
)]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(fd)
}
