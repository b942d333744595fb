//! The loop of a shard's thread.
//!
//! **One wake-up is one batch: commands, completions, flush, queue sends, give buffers back, pass events on; then one system
//! call submits all of it and sleeps until there is more or the shard's deadline is due.** Only a batch with more sends than
//! [`SENDS_PER_SUBMIT`] makes more system calls: it submits in between and takes the buffers back.
//!
//! Everything that the kernel writes or reads by pointer is either a receive buffer (`buffers`), a send slot (`sends`)
//! or in [`Pinned`]. All three are leaked and not freed if the loop ends otherwise than through `finish`.

use std::collections::VecDeque;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use io_uring::types::RecvMsgOut;
use io_uring::{opcode, types};
use weir_shard::{Path, ReceiveBuffer, Shard, Transmit};

use crate::buffers::ReceiveBuffers;
use crate::config::{
    COMMANDS_PER_BATCH, Config, DATAGRAMS_PER_BATCH, POSTPONED_MAX, SENDS_PER_SUBMIT, SLEEP_MAX,
};
use crate::counters::{Holder, Step};
use crate::error::SpawnError;
use crate::handle::{Links, ShutdownReport};
use crate::laps::Laps;
use crate::ring::{BUFFER_GROUP, Completed, Ring, Token};
use crate::sends::{Completion, SendSlots};
use crate::socket::{NAME_BYTES, Name, Sockets};

/// Completions taken from the queue at a time. It only has to divide a batch evenly.
const REAP_ENTRIES: usize = 256;
const _: () = assert!(
    DATAGRAMS_PER_BATCH.is_multiple_of(REAP_ENTRIES),
    "a batch is a whole number of reaps, so that it never exceeds what the shard allows"
);

/// What the kernel writes before address and datagram: `struct io_uring_recvmsg_out`, four 32-bit numbers.
const RECEIVE_HEADER_BYTES: usize = 16;

/// How long sends that are under way at the end are waited for, and after that the cancelled rest.
const FINISH_WAIT: Duration = Duration::from_secs(2);

/// What is written to an eventfd.
static ONE: u64 = 1;

/// A running shard: the pure core and its wires.
pub(crate) struct Runtime {
    ring: Ring,
    shard: Shard,
    buffers: ReceiveBuffers,
    sends: ManuallyDrop<SendSlots>,
    pinned: Pinned,
    sockets: Sockets,
    links: Links,
    /// Completions that were found while sends were looked for: the next batch begins with them.
    postponed: VecDeque<Completed>,
    /// Which sockets have a receive under way.
    receiving: Vec<bool>,
    listening: bool,
    phase: Phase,
    receive_buffers: usize,
    laps: Laps,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Nothing is started again.
    Finishing,
}

/// Memory that the kernel reads or writes for as long as the loop runs.
struct Pinned {
    /// What a multishot receive is told about addresses: how much room they have.
    header: NonNull<libc::msghdr>,
    /// Where the commands doorbell is read to.
    bell: NonNull<u64>,
}

impl Pinned {
    fn new() -> Pinned {
        // SAFETY: a msghdr is integers and pointers, for all of which zero is a value.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_namelen = NAME_BYTES as libc::socklen_t;
        Pinned {
            header: NonNull::from(Box::leak(Box::new(header))),
            bell: NonNull::from(Box::leak(Box::new(0))),
        }
    }

    fn header(&self) -> &libc::msghdr {
        // SAFETY: allocated in `new`, freed only by `free`, never written in between by us or the kernel.
        unsafe { self.header.as_ref() }
    }

    /// # Safety
    /// The kernel must have no operation left that uses it.
    unsafe fn free(self) {
        // SAFETY: leaked in `new` and freed only here.
        drop(unsafe { Box::from_raw(self.header.as_ptr()) });
        // SAFETY: as above.
        drop(unsafe { Box::from_raw(self.bell.as_ptr()) });
    }
}

impl Runtime {
    /// Sets everything up on the calling thread, which must be the one that runs it.
    pub(crate) fn new(
        config: Config,
        sockets: Sockets,
        links: Links,
    ) -> Result<Runtime, SpawnError> {
        let ring = Ring::new(links.shared.ring_counters.clone())?;
        let mut descriptors = sockets.descriptors();
        descriptors.push(links.shared.commands_bell.as_fd().as_raw_fd());
        descriptors.push(links.shared.events_bell.as_fd().as_raw_fd());
        ring.register_files(&descriptors)?;
        let entries = config.buffer_ring_entries();
        let buffers = ReceiveBuffers::new(config.receive_buffers, entries);
        ring.register_buffers(&buffers, entries)?;
        let mut shard_config = config.shard;
        let now = Instant::now();
        shard_config.unix_time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let send_buffers = shard_config.send_buffers;
        let counters = links.shared.counters.clone();
        Ok(Runtime {
            ring,
            shard: Shard::new(shard_config, counters, now),
            buffers,
            sends: ManuallyDrop::new(SendSlots::new(send_buffers)),
            pinned: Pinned::new(),
            receiving: vec![false; sockets.len()],
            sockets,
            links,
            postponed: VecDeque::with_capacity(POSTPONED_MAX),
            listening: false,
            phase: Phase::Running,
            receive_buffers: usize::from(config.receive_buffers),
            laps: Laps::new(),
        })
    }

    /// Runs until control says stop.
    pub(crate) fn run(mut self) -> ShutdownReport {
        self.arm();
        let mut timeout = Duration::ZERO;
        while !self.links.shared.stop.load(Ordering::Acquire) {
            self.ring.enter(timeout);
            self.links.shared.commands_bell.awake();
            let end = self.batch();
            timeout = self.sleep(end);
        }
        self.finish()
    }

    /// Returns when it ended.
    fn batch(&mut self) -> Instant {
        let now = Instant::now();
        self.laps.begin(now);
        // Commands first: completions appear in `enter` only, so whatever a command was given before arrived after it.
        self.take_commands(now);
        self.laps.end_of(Step::Commands);
        self.reap(now);
        self.laps.end_of(Step::Receive);
        self.shard.handle_timeout(now);
        self.laps.end_of(Step::Timers);
        self.shard.flush(now);
        self.send_all();
        self.return_buffers();
        self.pass_events();
        self.arm();
        self.laps.end_of(Step::Settle);
        self.count_batch(now)
    }

    /// Seals and sends in turn, so that a batch needs only as many send buffers as the kernel has under way.
    fn send_all(&mut self) {
        let mut queued = 0;
        while let Some(transmit) = self.shard.poll_transmit() {
            self.laps.end_of(Step::Seal);
            self.transmit(transmit);
            queued += 1;
            if queued == SENDS_PER_SUBMIT {
                queued = 0;
                self.ring.submit();
                self.reap_sends();
            }
            self.laps.end_of(Step::Submit);
        }
        self.laps.end_of(Step::Seal);
    }

    fn count_batch(&mut self, began: Instant) -> Instant {
        let counters = &self.links.shared.ring_counters;
        self.laps.end(counters);
        counters.wakeups.add(1);
        let overflowed = self.ring.has_overflowed();
        counters.completions_overflowed.add(u64::from(overflowed));
        let (receive, send) = (&counters.receive_buffers, &counters.send_buffers);
        let with_kernel = self.buffers.with_kernel();
        receive[Holder::Kernel as usize].set(with_kernel as u64);
        receive[Holder::Shard as usize].set((self.receive_buffers - with_kernel) as u64);
        let (in_flight, slots) = (self.sends.in_flight(), self.sends.len());
        send[Holder::Kernel as usize].set(in_flight as u64);
        send[Holder::Shard as usize].set((slots - in_flight) as u64);
        let end = Instant::now();
        let took = end.saturating_duration_since(began);
        counters.batch_time.record(took.as_nanos() as u64);
        end
    }

    /// How long the thread may sleep. Commands that come from now on ring.
    fn sleep(&mut self, now: Instant) -> Duration {
        let shared = &self.links.shared;
        shared.commands_bell.announce_sleep();
        if !self.links.commands.is_empty()
            || !self.postponed.is_empty()
            || shared.stop.load(Ordering::Acquire)
        {
            return Duration::ZERO;
        }
        match self.shard.poll_timeout() {
            Some(deadline) => deadline.saturating_duration_since(now).min(SLEEP_MAX),
            None => SLEEP_MAX,
        }
    }

    fn reap(&mut self, now: Instant) {
        let mut left = DATAGRAMS_PER_BATCH;
        while left > 0
            && let Some(completed) = self.postponed.pop_front()
        {
            self.completed(completed, now);
            left -= 1;
        }
        let mut entries = [const { MaybeUninit::uninit() }; REAP_ENTRIES];
        while left >= REAP_ENTRIES {
            let reaped = self.ring.reap(&mut entries);
            for entry in reaped {
                let completed = self.ring.read(entry);
                self.completed(completed, now);
            }
            if reaped.len() < REAP_ENTRIES {
                return;
            }
            left -= REAP_ENTRIES;
        }
    }

    fn completed(&mut self, completed: Completed, now: Instant) {
        match completed.token {
            Token::Receive(socket) => self.received(socket, completed, now),
            Token::Send(slot) => self.sent(slot, completed.result),
            Token::CommandsBell => self.listening = false,
            Token::EventsBell | Token::Cancel => {}
        }
    }

    /// Takes back what has been sent, in the middle of a batch; whatever else has completed waits for the next one.
    fn reap_sends(&mut self) {
        let mut entries = [const { MaybeUninit::uninit() }; REAP_ENTRIES];
        while self.postponed.len() + REAP_ENTRIES <= POSTPONED_MAX {
            let reaped = self.ring.reap(&mut entries);
            for entry in reaped {
                let completed = self.ring.read(entry);
                match completed.token {
                    Token::Send(slot) => self.sent(slot, completed.result),
                    _ => self.postponed.push_back(completed),
                }
            }
            if reaped.len() < REAP_ENTRIES {
                return;
            }
        }
    }

    fn received(&mut self, socket: u32, completed: Completed, now: Instant) {
        let counters = &self.links.shared.ring_counters;
        if !completed.more {
            self.receiving[socket as usize] = false;
        }
        match -completed.result {
            libc::ENOBUFS => counters.buffers_exhausted.add(1),
            libc::ECANCELED => {}
            errno if errno > 0 => counters.receive_errors.add(1),
            _ => {}
        }
        let Some(mut buffer) = completed.buffer.and_then(|id| self.buffers.take(id)) else {
            return;
        };
        let written = usize::try_from(completed.result).unwrap_or(0);
        let came = datagram(&mut buffer, written, self.pinned.header())
            .and_then(|(remote, len)| Some((self.sockets.path_to(socket, remote)?, len)));
        match came {
            Some((path, len)) if self.phase == Phase::Running => {
                buffer.set_range(RECEIVE_HEADER_BYTES + NAME_BYTES, len);
                let Some(opened) = self.shard.open(buffer, path, now) else {
                    return;
                };
                self.laps.end_of(Step::Receive);
                self.shard.route(opened, now);
                self.laps.end_of(Step::Route);
            }
            parsed => {
                counters.datagrams_unusable.add(u64::from(parsed.is_none()));
                self.buffers.give(buffer);
            }
        }
    }

    fn take_commands(&mut self, now: Instant) {
        for _ in 0..COMMANDS_PER_BATCH {
            let Ok(command) = self.links.commands.pop() else {
                return;
            };
            self.shard.handle_command(command, now);
        }
    }

    fn transmit(&mut self, transmit: Transmit) {
        let path = transmit.path;
        let open = self.sockets.place_of(path);
        let Some(socket) = open.or_else(|| self.open_socket(path)) else {
            self.links.shared.ring_counters.sends_unroutable.add(1);
            return self.shard.handle_sent(transmit.buffer);
        };
        match self.sends.load(transmit, socket) {
            Ok(slot) => self.submit_send(slot),
            Err(transmit) => {
                // There are as many slots as the shard has buffers.
                debug_assert!(false, "more transmits than send buffers");
                self.links.shared.ring_counters.send_errors.add(1);
                self.shard.handle_sent(transmit.buffer);
            }
        }
    }

    /// Opens the socket that a call is to leave from: the first time only, so it may cost some system calls. The batch ends with a
    /// receive on it.
    fn open_socket(&mut self, path: Path) -> Option<u32> {
        let opened = self.sockets.open_for(path, |place, socket| {
            self.ring.register_file(place, socket.as_raw_fd())
        });
        match opened {
            Ok(opened) => {
                let counters = &self.links.shared.ring_counters;
                counters.calling_sockets.set(self.sockets.calling() as u64);
                self.receiving.resize(self.sockets.len(), false);
                opened
            }
            Err(error) => {
                tracing::error!(%error, "no socket to call another focus from");
                None
            }
        }
    }

    fn submit_send(&mut self, slot: u32) {
        let Some(entry) = self.sends.entry(slot) else {
            return;
        };
        // SAFETY: the entry points into the slot and its buffer, which stay as they are until `sent` sees the
        // completion: slots are never moved, and are freed only by `finish` after every operation has ended.
        let pushed = unsafe { self.ring.push(entry, Token::Send(slot)) };
        if !pushed && let Some(buffer) = self.sends.abandon(slot) {
            self.links.shared.ring_counters.send_errors.add(1);
            self.shard.handle_sent(buffer);
        }
    }

    fn sent(&mut self, slot: u32, result: i32) {
        let counters = &self.links.shared.ring_counters;
        match self.sends.complete(slot, result) {
            Some(Completion::Done { buffer, failed }) => {
                counters.send_errors.add(u64::from(failed));
                self.shard.handle_sent(buffer);
            }
            Some(Completion::Again { refused, failed }) => {
                counters.segmentation_refused.add(u64::from(refused));
                counters.send_errors.add(u64::from(failed));
                self.submit_send(slot);
            }
            None => debug_assert!(false, "completion of a send that was not made"),
        }
    }

    fn return_buffers(&mut self) {
        while let Some(buffer) = self.shard.poll_free() {
            self.buffers.give(buffer);
        }
        // `received` may have given some back itself.
        if self.buffers.has_unpublished() {
            self.buffers.publish();
        }
    }

    fn pass_events(&mut self) {
        let mut any = false;
        // What does not fit stays in the shard, which has its own limit.
        while !self.links.events.is_full()
            && let Some(event) = self.shard.poll_event()
        {
            any |= self.links.events.push(event).is_ok();
        }
        if self.links.events.is_full() {
            self.links.shared.ring_counters.events_full.add(1);
        }
        if any && self.links.shared.events_bell.must_ring() {
            self.links.shared.ring_counters.control_wakeups.add(1);
            let place = types::Fixed(self.sockets.room() as u32 + 1);
            let entry =
                opcode::Write::new(place, (&raw const ONE).cast(), size_of::<u64>() as u32).build();
            // SAFETY: the entry points to a static that is never written.
            if !unsafe { self.ring.push(entry, Token::EventsBell) } {
                self.links.shared.events_bell.ring();
            }
        }
    }

    /// Starts what has ended and must go on: receives, and listening for commands.
    fn arm(&mut self) {
        if self.phase == Phase::Finishing {
            return;
        }
        for socket in 0..self.receiving.len() {
            // Without a buffer it would end at once.
            if self.receiving[socket] || self.buffers.with_kernel() == 0 {
                continue;
            }
            let place = types::Fixed(socket as u32);
            let entry =
                opcode::RecvMsgMulti::new(place, self.pinned.header.as_ptr(), BUFFER_GROUP).build();
            // SAFETY: the header stays until `finish` has seen every operation end, and the kernel writes only buffers
            // that are its own.
            self.receiving[socket] =
                unsafe { self.ring.push(entry, Token::Receive(socket as u32)) };
            self.links.shared.ring_counters.receives_armed.add(1);
        }
        if !self.listening {
            let place = types::Fixed(self.sockets.room() as u32);
            let entry = opcode::Read::new(
                place,
                self.pinned.bell.as_ptr().cast(),
                size_of::<u64>() as u32,
            )
            .build();
            // SAFETY: the eight bytes are the kernel's until `finish` has seen every operation end; nobody else looks.
            self.listening = unsafe { self.ring.push(entry, Token::CommandsBell) };
        }
    }

    /// Carries out what was ordered, lets sends finish, ends every operation, and frees what the kernel had.
    fn finish(mut self) -> ShutdownReport {
        while !self.links.commands.is_empty() {
            self.batch();
        }
        self.batch();
        self.wait_until(|runtime| runtime.sends.in_flight() == 0);
        self.phase = Phase::Finishing;
        self.ring.cancel_all();
        self.wait_until(|runtime| runtime.ring.unfinished() == 0);
        let unfinished = self.ring.unfinished();
        let with_kernel = self.buffers.with_kernel();
        // Otherwise the kernel keeps the sockets, and their ports, until it gets round to tearing the ring down.
        self.ring.unregister_files();
        if unfinished > 0 || self.ring.unregister_buffers().is_err() {
            tracing::error!(
                unfinished,
                "the kernel keeps memory of a shard, which is leaked"
            );
        } else {
            let sends = ManuallyDrop::into_inner(self.sends);
            drop(sends);
            // SAFETY: no operation is unfinished.
            unsafe { self.pinned.free() };
            // SAFETY: no operation is unfinished, and the ring of buffers has been unregistered.
            let returned = unsafe { self.buffers.reclaim() };
            debug_assert_eq!(returned, with_kernel);
        }
        ShutdownReport {
            receive_buffers: self.receive_buffers,
            returned_by_kernel: with_kernel,
            held_by_shard: self.receive_buffers - with_kernel,
            unfinished_requests: unfinished,
        }
    }

    fn wait_until(&mut self, done: impl Fn(&Runtime) -> bool) {
        let end = Instant::now() + FINISH_WAIT;
        while !done(self) && Instant::now() < end {
            self.ring.enter(FINISH_WAIT / 20);
            self.reap(Instant::now());
        }
    }
}

/// Where a received datagram came from and how long it is; `None` if it did not fit or has no usable address.
fn datagram(
    buffer: &mut ReceiveBuffer,
    written: usize,
    header: &libc::msghdr,
) -> Option<(std::net::SocketAddr, usize)> {
    let parsed = RecvMsgOut::parse(buffer.memory().get(..written)?, header).ok()?;
    if parsed.is_payload_truncated() || parsed.is_name_data_truncated() {
        return None;
    }
    let remote = Name::parse(parsed.name_data())?;
    // Port 0 cannot be answered.
    (remote.port() != 0).then(|| (remote, parsed.payload_data().len()))
}
