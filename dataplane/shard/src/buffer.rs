//! The two kinds of buffers and who owns them when.
//!
//! ```text
//! kernel ─ ReceiveBuffer ─► handle_datagram ─ (history, egress) ─► poll_free ─► kernel
//! pool of the shard ─ SendBuffer ─► poll_transmit ─► kernel ─► handle_sent ─► pool
//! ```
//! A buffer never moves in memory while it changes hands: only the box does.

use crate::limits::{RECEIVE_BUFFER_BYTES, SEND_BUFFER_BYTES};
use crate::path::Path;

/// One received datagram in the memory that the kernel wrote it to.
#[derive(Debug)]
pub struct ReceiveBuffer {
    bytes: Box<[u8; RECEIVE_BUFFER_BYTES]>,
    start: u16,
    len: u16,
    id: u16,
}

impl ReceiveBuffer {
    /// An empty buffer; `id` is the ring runtime's own and comes back unchanged.
    pub fn new(id: u16) -> Self {
        // Made on the heap at once: a large array would pass over the stack first.
        let bytes = vec![0; RECEIVE_BUFFER_BYTES].into_boxed_slice();
        let bytes = bytes
            .try_into()
            .unwrap_or_else(|_| Box::new([0; RECEIVE_BUFFER_BYTES]));
        Self {
            bytes,
            start: 0,
            len: 0,
            id,
        }
    }

    /// Takes the memory out, for a runtime that hands it to the kernel: while the kernel may write, no buffer has it.
    pub fn into_memory(self) -> Box<[u8; RECEIVE_BUFFER_BYTES]> {
        self.bytes
    }

    /// Puts memory back that came from [`ReceiveBuffer::into_memory`]; the range is empty until it is set.
    pub fn from_memory(id: u16, bytes: Box<[u8; RECEIVE_BUFFER_BYTES]>) -> Self {
        Self {
            bytes,
            start: 0,
            len: 0,
            id,
        }
    }

    /// What the ring runtime calls this buffer.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// All of the memory, for the kernel to write to.
    pub fn memory(&mut self) -> &mut [u8; RECEIVE_BUFFER_BYTES] {
        &mut self.bytes
    }

    /// Says where in the memory the datagram lies. What does not fit is cut off.
    pub fn set_range(&mut self, start: usize, len: usize) {
        let start = start.min(RECEIVE_BUFFER_BYTES);
        let len = len.min(RECEIVE_BUFFER_BYTES - start);
        self.start = start as u16;
        self.len = len as u16;
    }

    /// Copies a datagram in; for tests and for runtimes without provided buffers.
    pub fn fill(&mut self, datagram: &[u8]) {
        let len = datagram.len().min(RECEIVE_BUFFER_BYTES);
        self.bytes[..len].copy_from_slice(&datagram[..len]);
        self.set_range(0, len);
    }

    /// The datagram.
    pub fn datagram(&self) -> &[u8] {
        &self.bytes[self.start as usize..][..self.len as usize]
    }

    /// The datagram, to be decrypted in place.
    pub(crate) fn datagram_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start as usize..][..self.len as usize]
    }

    /// Cuts the datagram to `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len as u16);
    }

    /// Where in the memory the datagram starts.
    pub(crate) fn start(&self) -> usize {
        self.start as usize
    }

    /// All of the memory.
    pub(crate) fn all(&self) -> &[u8] {
        &self.bytes[..]
    }

    /// All of the memory, to write a new payload descriptor in front of a payload and padding behind it.
    pub(crate) fn around(&mut self) -> &mut [u8] {
        &mut self.bytes[..]
    }
}

/// Datagrams to one destination: segments of equal size, the last may be shorter.
#[derive(Debug)]
pub struct SendBuffer {
    bytes: Box<[u8]>,
    len: u32,
}

impl SendBuffer {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; SEND_BUFFER_BYTES].into_boxed_slice(),
            len: 0,
        }
    }

    /// A buffer with these datagrams, for tests of what sends them. What does not fit is cut off.
    pub fn filled(datagrams: &[u8]) -> Self {
        let mut buffer = Self::new();
        let len = datagrams.len().min(SEND_BUFFER_BYTES);
        buffer.room()[..len].copy_from_slice(&datagrams[..len]);
        buffer.advance(len);
        buffer
    }

    /// All segments, one after the other.
    pub fn datagrams(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// The room behind what was written.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.len as usize..]
    }

    /// Takes `len` bytes of the room into what was written.
    pub(crate) fn advance(&mut self, len: usize) {
        self.len = (self.len as usize + len).min(self.bytes.len()) as u32;
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

/// One send: `buffer` cut into datagrams of `segment_bytes` each, the last may be shorter.
#[derive(Debug)]
pub struct Transmit {
    /// Where from and where to.
    pub path: Path,
    /// The size of each datagram but the last (`UDP_SEGMENT`); the whole length if there is one.
    pub segment_bytes: u16,
    /// The datagrams. Goes back by [`crate::Shard::handle_sent`] when the kernel is done with it.
    pub buffer: SendBuffer,
}

impl Transmit {
    /// How many datagrams this is.
    pub fn segments(&self) -> usize {
        self.buffer
            .len()
            .div_ceil(usize::from(self.segment_bytes).max(1))
    }

    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.buffer
            .datagrams()
            .chunks(usize::from(self.segment_bytes).max(1))
    }
}
