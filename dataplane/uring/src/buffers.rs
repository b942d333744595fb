//! Receive buffers and which of them the kernel may write.
//!
//! A buffer is in one of two places. With the kernel there is only its raw memory, so that no Rust value ever aliases
//! what the kernel writes. Outside there is a [`ReceiveBuffer`] somewhere in the shard, and here only the note that it
//! is out.
//!
//! If the runtime ends without [`ReceiveBuffers::reclaim`] (a panic), what the kernel has is leaked, never freed.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use weir_shard::ReceiveBuffer;
use weir_shard::limits::RECEIVE_BUFFER_BYTES;

type Memory = [u8; RECEIVE_BUFFER_BYTES];

/// The kernel wants the ring of buffers on a page of its own.
const PAGE_BYTES: usize = 4096;

/// All receive buffers of a shard, and the ring through which the kernel gets them.
pub(crate) struct ReceiveBuffers {
    ring: NonNull<BufRingEntry>,
    layout: Layout,
    mask: u16,
    /// Entries written since the start; the kernel sees it at `publish`.
    tail: u16,
    places: Vec<Place>,
    with_kernel: usize,
    published: u16,
}

enum Place {
    /// The kernel may write it at any time.
    Kernel(NonNull<Memory>),
    /// A [`ReceiveBuffer`] with this number is in the shard.
    Out,
}

impl ReceiveBuffers {
    /// Allocates `count` buffers, all for the kernel, in a ring of `entries`, which is a power of two.
    pub(crate) fn new(count: u16, entries: u16) -> ReceiveBuffers {
        assert!(entries.is_power_of_two() && count <= entries && entries <= 1 << 15);
        let bytes = usize::from(entries) * size_of::<BufRingEntry>();
        let layout =
            Layout::from_size_align(bytes, PAGE_BYTES).expect("a few pages are a valid layout");
        // SAFETY: the layout is not empty: there is at least one entry.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(ring) = NonNull::new(memory.cast::<BufRingEntry>()) else {
            handle_alloc_error(layout)
        };
        let mut buffers = ReceiveBuffers {
            ring,
            layout,
            mask: entries - 1,
            tail: 0,
            places: Vec::with_capacity(usize::from(count)),
            with_kernel: 0,
            published: 0,
        };
        for id in 0..count {
            buffers.places.push(Place::Out);
            buffers.give(ReceiveBuffer::new(id));
        }
        buffers.publish();
        buffers
    }

    /// The address of the ring, for registration. It must stay registered only until [`ReceiveBuffers::reclaim`].
    pub(crate) fn ring_address(&self) -> u64 {
        self.ring.as_ptr() as u64
    }

    /// How many the kernel may write.
    pub(crate) fn with_kernel(&self) -> usize {
        self.with_kernel
    }

    /// Takes the buffer that the kernel has filled and said so in a completion. `None` if it did not have it.
    pub(crate) fn take(&mut self, id: u16) -> Option<ReceiveBuffer> {
        let place = self.places.get_mut(usize::from(id))?;
        let Place::Kernel(memory) = *place else {
            return None;
        };
        *place = Place::Out;
        self.with_kernel -= 1;
        // SAFETY: the pointer came from Box::into_raw in `give`, and the place was changed so that it is used only once.
        // The kernel is done with the memory: it reports a buffer only after it has written and forgotten it.
        let memory = unsafe { Box::from_raw(memory.as_ptr()) };
        Some(ReceiveBuffer::from_memory(id, memory))
    }

    /// Gives a buffer to the kernel, which sees it at the next `publish`.
    pub(crate) fn give(&mut self, buffer: ReceiveBuffer) {
        let id = buffer.id();
        let Some(place @ Place::Out) = self.places.get_mut(usize::from(id)) else {
            debug_assert!(false, "buffer {id} does not come from here");
            return;
        };
        let memory = NonNull::from(Box::leak(buffer.into_memory()));
        *place = Place::Kernel(memory);
        self.with_kernel += 1;
        let index = usize::from(self.tail & self.mask);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the index is below the number of entries, so it lies in the ring's allocation.
        let entry = unsafe { self.ring.add(index) };
        // SAFETY: the entry lies behind the published tail, where the kernel does not look, and nobody else has a
        // reference: this is the only one, and it ends with this function. Zeroed memory is a valid entry.
        let entry = unsafe { &mut *entry.as_ptr() };
        entry.set_addr(memory.as_ptr() as u64);
        entry.set_len(RECEIVE_BUFFER_BYTES as u32);
        entry.set_bid(id);
    }

    /// Whether something was given since the last `publish`.
    pub(crate) fn has_unpublished(&self) -> bool {
        self.published != self.tail
    }

    /// Lets the kernel see what was given since the last time.
    pub(crate) fn publish(&mut self) {
        // SAFETY: the pointer is the start of the ring and its first entry is initialised (zeroed at least).
        let tail = unsafe { BufRingEntry::tail(self.ring.as_ptr()) };
        // SAFETY: the tail is two aligned bytes in the ring's allocation, which is only ever written here, and read by
        // the kernel at the same time, which is what an atomic is for. No reference to the first entry is alive.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // After the entries: whoever sees the tail sees them.
        tail.store(self.tail, Ordering::Release);
        self.published = self.tail;
    }

    /// Frees everything that the kernel had, and the ring. Says how many buffers those were.
    ///
    /// # Safety
    /// The kernel must not use ring or buffers any more: no receive is pending and the ring is not registered.
    pub(crate) unsafe fn reclaim(mut self) -> usize {
        let mut returned = 0;
        for id in 0..self.places.len() {
            returned += usize::from(self.take(id as u16).is_some());
        }
        // SAFETY: allocated in `new` with this layout, and freed only here, where `self` ends. The caller vouches for
        // the kernel.
        unsafe { dealloc(self.ring.as_ptr().cast(), self.layout) };
        returned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_is_in_one_place() {
        let mut buffers = ReceiveBuffers::new(3, 4);
        assert_eq!(buffers.with_kernel(), 3);
        let first = buffers.take(1).unwrap();
        assert_eq!(first.id(), 1);
        assert!(buffers.take(1).is_none());
        assert!(buffers.take(3).is_none());
        assert_eq!(buffers.with_kernel(), 2);
        buffers.give(first);
        buffers.publish();
        // Round and round, past the end of the ring and of the 16-bit tail.
        for round in 0..70_000_u32 {
            let buffer = buffers.take((round % 3) as u16).unwrap();
            buffers.give(buffer);
            buffers.publish();
        }
        let kept = buffers.take(2).unwrap();
        // SAFETY: no kernel has ever seen this ring.
        assert_eq!(unsafe { buffers.reclaim() }, 2);
        drop(kept);
    }
}
