//! What waits to leave: forwarded packets until the runtime asks for them after `flush`, and sealed datagrams until it takes
//! them.
//!
//! Packets of one subscriber are gathered and sealed one behind the other into a send buffer, for one send with
//! `UDP_SEGMENT`: all datagrams of such a run have one size, only the last may be shorter.

use std::collections::VecDeque;
use std::time::Instant;

use crate::buffer::{SendBuffer, Transmit};
use crate::counters::Counters;
use crate::ids::SubscriptionId;
use crate::limits::{OUTGOING_MAX, SEGMENTS_MAX};
use crate::packet::Slot;
use crate::path::Path;
use crate::rewriter::Outgoing;
use crate::room;
use crate::transport::NONE;

/// One packet for one subscriber.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// The subscription's table index, and who must be there: the place may change hands before `flush`.
    pub(crate) subscription: u32,
    pub(crate) id: SubscriptionId,
    pub(crate) slot: Slot,
    pub(crate) numbers: Outgoing,
    pub(crate) again: Again,
    /// The next packet of the same transport.
    pub(crate) next: u32,
}

/// First time or resend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    First,
    Resend,
}

/// Everything on its way out. Allocated once.
#[derive(Debug)]
pub(crate) struct Tx {
    waiting: Vec<Waiting>,
    /// Transports with something waiting, by table index.
    dirty: VecDeque<u32>,
    /// The time of the `flush` whose packets are being sealed.
    flushed: Option<Instant>,
    pool: Vec<SendBuffer>,
    buffers: usize,
    transmits: VecDeque<Transmit>,
}

impl Tx {
    pub(crate) fn new(buffers: usize, transports: usize) -> Self {
        Self {
            waiting: room::list(OUTGOING_MAX),
            dirty: room::queue(transports),
            flushed: None,
            pool: (0..buffers).map(|_| SendBuffer::new()).collect(),
            buffers,
            transmits: room::queue(buffers),
        }
    }

    /// Adds a packet to a transport's queue; `false` when there is no room.
    pub(crate) fn push(
        &mut self,
        transport: u32,
        queue: &mut (u32, u32),
        waiting: Waiting,
    ) -> bool {
        if self.waiting.len() >= OUTGOING_MAX {
            return false;
        }
        let index = self.waiting.len() as u32;
        if queue.0 == NONE {
            *queue = (index, index);
            self.dirty.push_back(transport);
        } else {
            if let Some(before) = self.waiting.get_mut(queue.1 as usize) {
                before.next = index;
            }
            queue.1 = index;
        }
        self.waiting.push(Waiting {
            next: NONE,
            ..waiting
        });
        true
    }

    pub(crate) fn get(&self, index: u32) -> Option<Waiting> {
        self.waiting.get(index as usize).copied()
    }

    /// What waits may leave, as of `now`.
    pub(crate) fn flush(&mut self, now: Instant) {
        self.flushed = Some(now);
    }

    /// The time of the flush whose packets may leave: none before a flush, and after `clear`.
    pub(crate) fn flushed(&self) -> Option<Instant> {
        self.flushed
    }

    /// The next transport whose packets are to be sealed.
    pub(crate) fn next_to_seal(&mut self) -> Option<u32> {
        self.dirty.pop_front()
    }

    /// Forgets what waited.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.dirty.clear();
        self.flushed = None;
    }

    /// An empty send buffer, if the kernel does not have them all.
    pub(crate) fn take(&mut self) -> Option<SendBuffer> {
        let mut buffer = self.pool.pop()?;
        buffer.clear();
        Some(buffer)
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&mut self, buffer: SendBuffer) {
        self.pool.push(buffer);
    }

    /// How many buffers the runtime has.
    pub(crate) fn out(&self) -> usize {
        self.buffers
            .saturating_sub(self.pool.len() + self.transmits.len())
    }

    /// Hands a buffer over. An empty one goes back to the pool.
    pub(crate) fn transmit(
        &mut self,
        path: Path,
        segment: usize,
        buffer: SendBuffer,
        counters: &Counters,
    ) {
        let (len, Ok(segment_bytes)) = (buffer.len(), u16::try_from(segment)) else {
            return self.give_back(buffer);
        };
        if len == 0 || segment == 0 {
            return self.give_back(buffer);
        }
        counters.sends.add(1);
        let segments = len.div_ceil(segment) as u64;
        counters.datagrams_sent.add(segments);
        counters.send_segments.record(segments);
        counters.bytes_sent.add(len as u64);
        self.transmits.push_back(Transmit {
            path,
            segment_bytes,
            buffer,
        });
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }
}

/// A run of datagrams of one size on one path.
#[derive(Debug)]
pub(crate) struct Run {
    path: Path,
    buffer: Option<SendBuffer>,
    /// The size of its datagrams, and how many there are.
    segment: usize,
    segments: usize,
    /// The last one was shorter: nothing fits behind it.
    ended: bool,
}

impl Run {
    pub(crate) fn new(path: Path) -> Self {
        Self {
            path,
            buffer: None,
            segment: 0,
            segments: 0,
            ended: false,
        }
    }

    /// How many bytes a datagram of `len` bytes lacks to continue the run, if padding of at most `most` makes it fit.
    pub(crate) fn lacks(&self, len: usize, most: usize) -> usize {
        if self.buffer.is_none() || self.ended || self.segments >= SEGMENTS_MAX {
            return 0;
        }
        match self.segment.checked_sub(len) {
            Some(short) if short <= most => short,
            _ => 0,
        }
    }

    /// Room for a datagram of `len` bytes, in this run or in a new one. `None` when there are no buffers.
    pub(crate) fn room(
        &mut self,
        len: usize,
        tx: &mut Tx,
        counters: &Counters,
    ) -> Option<&mut [u8]> {
        let fits = !self.ended && self.segments < SEGMENTS_MAX && len <= self.segment;
        let fits = fits
            && self
                .buffer
                .as_mut()
                .is_some_and(|buffer| buffer.room().len() >= len);
        if !fits {
            self.finish(tx, counters);
            self.buffer = Some(tx.take()?);
            self.segment = len;
        }
        self.buffer.as_mut()?.room().get_mut(..len)
    }

    /// A datagram of `len` bytes was written to the room.
    pub(crate) fn wrote(&mut self, len: usize) {
        if let Some(buffer) = &mut self.buffer {
            buffer.advance(len);
            self.segments += 1;
            self.ended = len < self.segment;
        }
    }

    /// Hands the run over and starts anew.
    pub(crate) fn finish(&mut self, tx: &mut Tx, counters: &Counters) {
        if let Some(buffer) = self.buffer.take() {
            tx.transmit(self.path, self.segment, buffer, counters);
        }
        (self.segment, self.segments, self.ended) = (0, 0, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> Path {
        Path::listening(([192, 0, 2, 1], 9).into())
    }

    fn runs(lens: &[usize], pad: usize) -> Vec<(u16, Vec<usize>)> {
        let counters = Counters::default();
        let mut tx = Tx::new(64, 1);
        let mut run = Run::new(path());
        for &len in lens {
            let len = len + run.lacks(len, pad);
            run.room(len, &mut tx, &counters).unwrap().fill(7);
            run.wrote(len);
        }
        run.finish(&mut tx, &counters);
        std::iter::from_fn(|| tx.poll_transmit())
            .map(|t| (t.segment_bytes, t.datagrams().map(<[u8]>::len).collect()))
            .collect()
    }

    #[test]
    fn equal_sizes_make_one_run_and_a_shorter_one_ends_it() {
        assert_eq!(runs(&[100, 100, 100], 0), [(100, vec![100, 100, 100])]);
        assert_eq!(
            runs(&[100, 100, 50, 50], 0),
            [(100, vec![100, 100, 50]), (50, vec![50])]
        );
        assert_eq!(runs(&[50, 100], 0), [(50, vec![50]), (100, vec![100])]);
        assert_eq!(
            runs(&[100, 99, 98, 100], 2),
            [(100, vec![100, 100, 100, 100])]
        );
        assert_eq!(
            runs(&[100, 97, 100], 2),
            [(100, vec![100, 97]), (100, vec![100])]
        );
    }

    #[test]
    fn a_run_ends_where_the_buffer_or_the_kernel_does() {
        assert_eq!(
            runs(&[1200; 60], 0)
                .iter()
                .map(|(_, of)| of.len())
                .collect::<Vec<_>>(),
            [27, 27, 6]
        );
        assert_eq!(
            runs(&[100; 130], 0)
                .iter()
                .map(|(_, of)| of.len())
                .collect::<Vec<_>>(),
            [64, 64, 2]
        );
    }

    #[test]
    fn buffers_come_back_to_the_pool() {
        let counters = Counters::default();
        let mut tx = Tx::new(1, 1);
        let buffer = tx.take().unwrap();
        assert!(tx.take().is_none());
        assert_eq!(tx.out(), 1);
        tx.give_back(buffer);
        let mut buffer = tx.take().unwrap();
        buffer.advance(10);
        tx.transmit(path(), 10, buffer, &counters);
        let transmit = tx.poll_transmit().unwrap();
        assert_eq!((tx.out(), transmit.segments()), (1, 1));
        tx.give_back(transmit.buffer);
        assert_eq!(tx.out(), 0);
    }
}
