//! Packets in flight: each stays in the buffer it was received into until the history and the last send let it go.

use std::time::Instant;

use weir_wire::{ExtSeq, RtpTime};

use crate::buffer::ReceiveBuffer;
use crate::codec::Descriptor;
use crate::ids::Codec;
use crate::layers::{Opens, Sublayer};
use crate::rewriter::Picture;
use crate::room;

/// One media packet, decrypted and parsed.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) buffer: ReceiveBuffer,
    pub(crate) seq: ExtSeq,
    pub(crate) timestamp: RtpTime,
    pub(crate) marker: bool,
    pub(crate) codec: Codec,
    /// Where the payload begins in the buffer's memory; behind the part that `descriptor` stands for.
    pub(crate) payload_start: usize,
    /// Without padding, unless it is all there is.
    pub(crate) payload_len: usize,
    /// Nothing but padding; the payload is the padding.
    pub(crate) padding: bool,
    pub(crate) keyframe_start: bool,
    pub(crate) descriptor: Descriptor,
    pub(crate) picture: Picture,
    /// The spatial and temporal layer that it belongs to.
    #[allow(
        dead_code,
        reason = "read by the filter of sublayers and the rate meter"
    )]
    pub(crate) sublayer: Sublayer,
    pub(crate) opens: Opens,
    /// The last packet of a frame that need not be the last of its picture.
    pub(crate) frame_end: bool,
    /// Bytes of the dependency descriptor, which is kept at the start of the datagram; 0 without one.
    pub(crate) dependency_len: u8,
    /// The value of the header extension (RFC 6464).
    pub(crate) audio_level: Option<u8>,
    pub(crate) video_orientation: Option<u8>,
    pub(crate) arrival: Instant,
}

/// A place of [`Packets`].
pub(crate) type Slot = u32;

#[derive(Debug)]
struct Entry {
    packet: Option<Packet>,
    references: u32,
    /// Tells one use of the place from the next.
    serial: u64,
}

/// All packets of a shard, counted by reference. Allocated once.
#[derive(Debug)]
pub(crate) struct Packets {
    entries: Vec<Entry>,
    free: Vec<Slot>,
    /// Buffers on their way back to the runtime.
    freed: Vec<ReceiveBuffer>,
    serial: u64,
}

impl Packets {
    pub(crate) fn new(limit: usize) -> Self {
        let entries = (0..limit)
            .map(|_| Entry {
                packet: None,
                references: 0,
                serial: 0,
            })
            .collect();
        Self {
            entries,
            free: (0..limit as Slot).rev().collect(),
            freed: room::list(2 * limit),
            serial: 0,
        }
    }

    /// How many packets are held.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Takes a packet in with one reference; when every place is taken its buffer goes back at once.
    pub(crate) fn insert(&mut self, packet: Packet) -> Option<Slot> {
        let Some(slot) = self.free.pop() else {
            self.freed.push(packet.buffer);
            return None;
        };
        self.serial += 1;
        self.entries[slot as usize] = Entry {
            packet: Some(packet),
            references: 1,
            serial: self.serial,
        };
        Some(slot)
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Packet> {
        self.entries.get(slot as usize)?.packet.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Packet> {
        self.entries.get_mut(slot as usize)?.packet.as_mut()
    }

    pub(crate) fn serial(&self, slot: Slot) -> u64 {
        self.entries
            .get(slot as usize)
            .map_or(0, |entry| entry.serial)
    }

    pub(crate) fn hold(&mut self, slot: Slot) {
        if let Some(entry) = self.entries.get_mut(slot as usize) {
            entry.references += 1;
        }
    }

    pub(crate) fn release(&mut self, slot: Slot) {
        let Some(entry) = self.entries.get_mut(slot as usize) else {
            return;
        };
        entry.references = entry.references.saturating_sub(1);
        if entry.references == 0
            && let Some(packet) = entry.packet.take()
        {
            self.freed.push(packet.buffer);
            self.free.push(slot);
        }
    }

    /// A buffer that never became a packet.
    pub(crate) fn give_back(&mut self, buffer: ReceiveBuffer) {
        self.freed.push(buffer);
    }

    pub(crate) fn poll_free(&mut self) -> Option<ReceiveBuffer> {
        self.freed.pop()
    }
}
