//! Control's end of a shard: start, commands, events, stop.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use rtrb::{Consumer, Producer, RingBuffer};
use weir_shard::{Command, Counters, Event};

use crate::affinity;
use crate::config::{COMMAND_RING_ENTRIES, Config, EVENT_RING_ENTRIES};
use crate::counters::RingCounters;
use crate::doorbell::Doorbell;
use crate::error::SpawnError;
use crate::runtime::Runtime;
use crate::socket::Sockets;

/// What both threads of a shard can reach.
pub(crate) struct Shared {
    pub(crate) counters: Arc<Counters>,
    pub(crate) ring_counters: Arc<RingCounters>,
    /// The shard listens, control rings: commands wait.
    pub(crate) commands_bell: Doorbell,
    /// Control listens, the shard rings: events wait.
    pub(crate) events_bell: Doorbell,
    pub(crate) stop: AtomicBool,
}

/// The shard's ends of the rings between the threads.
pub(crate) struct Links {
    pub(crate) commands: Consumer<Command>,
    pub(crate) events: Producer<Event>,
    pub(crate) shared: Arc<Shared>,
}

/// Control's end of one running shard. Dropping it stops the shard too.
///
/// To wait for events: when [`ShardHandle::event_fd`] is readable, call [`ShardHandle::clear_wakeup`], then
/// [`ShardHandle::try_recv`] until `None`. **Only a `try_recv` that gave `None` arms the next wake-up.**
pub struct ShardHandle {
    addresses: Vec<SocketAddr>,
    commands: Producer<Command>,
    events: Consumer<Event>,
    shared: Arc<Shared>,
    thread_id: i32,
    thread: Option<JoinHandle<ShutdownReport>>,
}

/// What became of a shard's memory when it stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShutdownReport {
    /// Receive buffers that there were.
    pub receive_buffers: usize,
    /// Those that the kernel had and gave back.
    pub returned_by_kernel: usize,
    /// Those that the shard had kept, in its history for example.
    pub held_by_shard: usize,
    /// Requests that the kernel did not finish in time; their memory is never freed, because the kernel may still use it.
    pub unfinished_requests: usize,
}

/// The shard's thread panicked; what it was doing is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the thread of a shard has panicked")]
pub struct ShutdownError;

/// Starts a shard on a thread of its own and waits until it can receive.
pub fn spawn(config: Config) -> Result<ShardHandle, SpawnError> {
    config.validate()?;
    let sockets = Sockets::open(&config.listen, config.shard.calling_sockets)?;
    let addresses = sockets.addresses();
    let (commands, commands_end) = RingBuffer::new(COMMAND_RING_ENTRIES);
    let (events_end, events) = RingBuffer::new(EVENT_RING_ENTRIES);
    let shared = Arc::new(Shared {
        counters: Arc::new(Counters::default()),
        ring_counters: Arc::new(RingCounters::default()),
        commands_bell: Doorbell::for_ring()?,
        events_bell: Doorbell::for_poll()?,
        stop: AtomicBool::new(false),
    });
    // Control has not looked yet, so the first event wakes it.
    shared.events_bell.announce_sleep();
    let links = Links {
        commands: commands_end,
        events: events_end,
        shared: Arc::clone(&shared),
    };
    let (ready, started) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(format!("weir-shard-{}", config.index))
        .spawn(move || run(config, sockets, links, &ready))?;
    match started.recv() {
        Ok(Ok(thread_id)) => Ok(ShardHandle {
            addresses,
            commands,
            events,
            shared,
            thread_id,
            thread: Some(thread),
        }),
        Ok(Err(error)) => {
            // It has nothing left to do, and its report is about nothing.
            let _ = thread.join();
            Err(error)
        }
        Err(mpsc::RecvError) => Err(SpawnError::Thread(std::io::Error::other(
            "the thread panicked while starting",
        ))),
    }
}

/// The whole life of a shard's thread.
fn run(
    config: Config,
    sockets: Sockets,
    links: Links,
    ready: &mpsc::SyncSender<Result<i32, SpawnError>>,
) -> ShutdownReport {
    // Pinned before anything is allocated, so that the memory is near the core.
    let pinned = match config.core {
        Some(core) => {
            affinity::pin_current_thread(core).map_err(|source| SpawnError::Pin { core, source })
        }
        None => Ok(()),
    };
    let runtime = pinned.and_then(|()| Runtime::new(config, sockets, links));
    match runtime {
        Ok(runtime) => {
            // If nobody waits any more, the stop flag is set as well.
            let _ = ready.send(Ok(affinity::current_thread_id()));
            runtime.run()
        }
        Err(error) => {
            let _ = ready.send(Err(error));
            ShutdownReport {
                receive_buffers: 0,
                returned_by_kernel: 0,
                held_by_shard: 0,
                unfinished_requests: 0,
            }
        }
    }
}

impl ShardHandle {
    /// Where the shard receives, in the order of `listen`, with the ports that the kernel chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Gives the shard a command; it comes back if the ring is full, to be tried again a little later.
    #[expect(
        clippy::result_large_err,
        reason = "the command comes back as it was; a box would be for the rare case that the ring is full"
    )]
    pub fn send(&mut self, command: Command) -> Result<(), Command> {
        let pushed = self.commands.push(command);
        if self.shared.commands_bell.must_ring() {
            self.shared.commands_bell.ring();
        }
        if pushed.is_err() {
            self.shared.ring_counters.commands_full.add(1);
        }
        pushed.map_err(|rtrb::PushError::Full(command)| command)
    }

    /// Takes the next event. `None` arms the wake-up of the next one.
    pub fn try_recv(&mut self) -> Option<Event> {
        if let Ok(event) = self.events.pop() {
            return Some(event);
        }
        self.shared.events_bell.announce_sleep();
        match self.events.pop() {
            Ok(event) => {
                self.shared.events_bell.awake();
                Some(event)
            }
            Err(rtrb::PopError::Empty) => None,
        }
    }

    /// Readable when events wait and [`ShardHandle::try_recv`] has given `None` before. Does not block.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.shared.events_bell.as_fd()
    }

    /// Makes the event descriptor unreadable until the next wake-up. Before `try_recv`, not after.
    pub fn clear_wakeup(&self) {
        self.shared.events_bell.clear();
    }

    /// What the shard counts.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// What its ring counts.
    pub fn ring_counters(&self) -> &Arc<RingCounters> {
        &self.shared.ring_counters
    }

    /// The kernel's number of the thread, as in `/proc/self/task`.
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// Whether the thread has ended without being told to.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Stops the shard: commands that wait are carried out, what is to be sent is sent, and the thread is joined.
    pub fn shutdown(mut self) -> Result<ShutdownReport, ShutdownError> {
        self.stop().unwrap_or(Err(ShutdownError))
    }

    fn stop(&mut self) -> Option<Result<ShutdownReport, ShutdownError>> {
        let thread = self.thread.take()?;
        self.shared.stop.store(true, Ordering::Release);
        // Whether it sleeps or not: this happens once.
        self.shared.commands_bell.ring();
        Some(thread.join().map_err(|_| ShutdownError))
    }
}

impl Drop for ShardHandle {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.stop() {
            tracing::error!(%error, "shard stopped");
        }
    }
}

impl std::fmt::Debug for ShardHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShardHandle")
            .field("addresses", &self.addresses)
            .field("thread_id", &self.thread_id)
            .finish_non_exhaustive()
    }
}
