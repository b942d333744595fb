//! The io_uring itself: set up, submit, wait, reap. What the operations are for, `runtime` knows.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use crate::buffers::ReceiveBuffers;
use crate::config::{COMPLETION_ENTRIES, SUBMISSION_ENTRIES};
use crate::counters::RingCounters;
use crate::error::SpawnError;

/// The only group of provided buffers.
pub(crate) const BUFFER_GROUP: u16 = 0;

/// What a completion is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The multishot receive of the socket in this place.
    Receive(u32),
    /// The send in this slot.
    Send(u32),
    /// The read of the commands doorbell.
    CommandsBell,
    /// A write to the events doorbell.
    EventsBell,
    /// The cancellation of everything.
    Cancel,
}

impl Token {
    fn pack(self) -> u64 {
        let (kind, index) = match self {
            Token::Receive(socket) => (0, socket),
            Token::Send(slot) => (1, slot),
            Token::CommandsBell => (2, 0),
            Token::EventsBell => (3, 0),
            Token::Cancel => (4, 0),
        };
        kind << 32 | u64::from(index)
    }

    fn unpack(user_data: u64) -> Token {
        let index = user_data as u32;
        match user_data >> 32 {
            0 => Token::Receive(index),
            1 => Token::Send(index),
            2 => Token::CommandsBell,
            3 => Token::EventsBell,
            _ => Token::Cancel,
        }
    }
}

/// One completion.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completed {
    pub(crate) token: Token,
    /// The value of the system call, or a negated errno.
    pub(crate) result: i32,
    /// The buffer that was filled.
    pub(crate) buffer: Option<u16>,
    /// Whether the operation goes on.
    pub(crate) more: bool,
}

/// A ring that only this thread uses.
pub(crate) struct Ring {
    uring: IoUring,
    counters: Arc<RingCounters>,
    /// Operations that the kernel has or will get, and that have not ended.
    unfinished: usize,
}

impl Ring {
    /// Sets the ring up on the calling thread, which is then the only one that may use it.
    pub(crate) fn new(counters: Arc<RingCounters>) -> Result<Ring, SpawnError> {
        let uring = IoUring::builder()
            // One thread submits, and completions are worked on when it asks for them and never interrupt it.
            .setup_single_issuer()
            .setup_defer_taskrun()
            // A refused submission does not hold the others back.
            .setup_submit_all()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)
            .map_err(SpawnError::setup)?;
        if !uring.params().is_feature_nodrop() || !uring.params().is_feature_ext_arg() {
            let source = io::Error::from_raw_os_error(libc::ENOSYS);
            return Err(SpawnError::Unavailable { source });
        }
        Ok(Ring {
            uring,
            counters,
            unfinished: 0,
        })
    }

    /// Registers the descriptors that operations name by their place.
    pub(crate) fn register_files(&self, descriptors: &[RawFd]) -> Result<(), SpawnError> {
        let result = self.uring.submitter().register_files(descriptors);
        result.map_err(|source| SpawnError::register("sockets as fixed files", source))
    }

    /// Puts a descriptor into a place that was registered as a hole.
    pub(crate) fn register_file(&self, place: u32, descriptor: RawFd) -> io::Result<()> {
        let submitter = self.uring.submitter();
        let changed = submitter.register_files_update(place, &[descriptor]);
        changed.map(drop)
    }

    /// Registers the ring of receive buffers.
    pub(crate) fn register_buffers(
        &self,
        buffers: &ReceiveBuffers,
        entries: u16,
    ) -> Result<(), SpawnError> {
        let submitter = self.uring.submitter();
        // SAFETY: the ring has `entries` entries and is freed only by `ReceiveBuffers::reclaim`, whose caller vouches
        // that it is not registered any more; if that is never called, it is leaked.
        let result = unsafe {
            submitter.register_buf_ring_with_flags(buffers.ring_address(), entries, BUFFER_GROUP, 0)
        };
        result.map_err(|source| {
            SpawnError::register("the ring of receive buffers (Linux 6.0 has them)", source)
        })
    }

    /// Lets go of the descriptors.
    pub(crate) fn unregister_files(&self) {
        if let Err(error) = self.uring.submitter().unregister_files() {
            tracing::warn!(%error, "the ring keeps the sockets of a shard for a while");
        }
    }

    /// Takes the ring of receive buffers back.
    pub(crate) fn unregister_buffers(&self) -> io::Result<()> {
        self.uring.submitter().unregister_buf_ring(BUFFER_GROUP)
    }

    /// Operations that have not ended.
    pub(crate) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Queues an operation for the next `enter`; false if there is no room and the kernel takes none.
    ///
    /// # Safety
    /// What the entry points to must stay where it is, and must not be written unless that is the point, until the
    /// operation has completed.
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry, token: Token) -> bool {
        let entry = entry.user_data(token.pack());
        if self.uring.submission().is_full() {
            self.counters.extra_submits.add(1);
            // If it fails, there is still no room, which is seen below.
            self.submit();
        }
        // SAFETY: the caller vouches for what the entry points to.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        self.unfinished += usize::from(pushed.is_ok());
        pushed.is_ok()
    }

    /// Queues the cancellation of everything else.
    pub(crate) fn cancel_all(&mut self) -> bool {
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry, Token::Cancel) }
    }

    /// Submits what is queued. Sends that the kernel can carry out at once have completed when this returns.
    pub(crate) fn submit(&mut self) {
        // What could not be submitted stays queued for `enter`, which says why if it fails again.
        let _ = self.uring.submit();
    }

    /// Submits what is queued and waits for a completion, but not longer than `timeout`. Zero does not wait.
    pub(crate) fn enter(&mut self, timeout: Duration) {
        let timespec = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timespec);
        // One completion is wanted even if the timeout is zero: otherwise the kernel would not do its deferred work.
        match self.uring.submitter().submit_with_args(1, &args) {
            Ok(_) => {}
            Err(error) => match error.raw_os_error() {
                // Time is up; a signal; completions must be reaped first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => {}
                _ => {
                    tracing::error!(%error, "io_uring_enter failed");
                    // Not a busy loop: this should never happen, and nothing here can mend it.
                    std::thread::sleep(Duration::from_millis(1));
                }
            },
        }
    }

    /// Whether the kernel has completions for which the queue had no room; it hands them over at the next `enter`.
    pub(crate) fn has_overflowed(&mut self) -> bool {
        self.uring.submission().cq_overflow()
    }

    /// Takes as many completions as are there and fit; what was taken is at the front.
    pub(crate) fn reap<'a>(
        &mut self,
        entries: &'a mut [MaybeUninit<cqueue::Entry>],
    ) -> &'a [cqueue::Entry] {
        self.uring.completion().fill(entries)
    }

    /// What a completion says; counts the operation as ended if it has.
    pub(crate) fn read(&mut self, entry: &cqueue::Entry) -> Completed {
        let more = cqueue::more(entry.flags());
        self.unfinished = self.unfinished.saturating_sub(usize::from(!more));
        Completed {
            token: Token::unpack(entry.user_data()),
            result: entry.result(),
            buffer: cqueue::buffer_select(entry.flags()),
            more,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_read_back() {
        for token in [
            Token::Receive(1),
            Token::Send(u32::MAX),
            Token::CommandsBell,
            Token::EventsBell,
            Token::Cancel,
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
