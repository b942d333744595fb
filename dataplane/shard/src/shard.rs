//! The shard itself: what comes in is sorted, what goes out is gathered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::buffer::{ReceiveBuffer, SendBuffer, Transmit};
use crate::command::Command;
use crate::config::Config;
use crate::counters::Counters;
use crate::event::Event;

/// All state of one core. See the crate's documentation for the order of calls.
#[derive(Debug)]
pub struct Shard {
    counters: Arc<Counters>,
    free: Vec<ReceiveBuffer>,
}

impl Shard {
    /// A shard without transports. Allocates what it will ever need for the packet path.
    pub fn new(config: Config, counters: Arc<Counters>, now: Instant) -> Self {
        let _ = (config, now);
        Self { counters, free: Vec::new() }
    }

    /// Takes a received datagram. The buffer comes back by [`Shard::poll_free`], at once or when it has left the history.
    pub fn handle_datagram(&mut self, buffer: ReceiveBuffer, remote: SocketAddr, now: Instant) {
        let _ = (remote, now);
        self.counters.datagrams_received.add(1);
        self.free.push(buffer);
    }

    /// Does what control asks for.
    pub fn handle_command(&mut self, command: Command, now: Instant) {
        let _ = (command, now);
    }

    /// Does what is due. Harmless when nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// Ends a batch: seals what it forwarded into send buffers.
    pub fn flush(&mut self, now: Instant) {
        let _ = now;
    }

    /// The next send, if any.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }

    /// Takes back a buffer of [`Shard::poll_transmit`] that the kernel is done with, sent or not.
    pub fn handle_sent(&mut self, buffer: SendBuffer) {
        drop(buffer);
    }

    /// The next receive buffer that the shard no longer needs, if any.
    pub fn poll_free(&mut self) -> Option<ReceiveBuffer> {
        self.free.pop()
    }

    /// The next message to control, if any.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// When [`Shard::handle_timeout`] wants to be called; `None` means not before the next input.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}
