//! Waking the other thread, but only if it sleeps.
//!
//! ```text
//! sleeper: announce sleep → look at its ring once more → sleep until the eventfd is readable
//! ringer:  push to the ring → if the other has announced sleep, take that back and write the eventfd
//! ```
//! Either the sleeper's second look sees what was pushed, or the ringer sees the announcement: both fences together
//! forbid that both miss (Dekker's pattern). A busy peer costs the ringer one load.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// An eventfd and whether its reader sleeps.
#[derive(Debug)]
pub(crate) struct Doorbell {
    fd: OwnedFd,
    asleep: AtomicBool,
}

impl Doorbell {
    /// Makes a doorbell that is read through a ring, whose listener is awake. It must block: a ring gives up at once on
    /// a descriptor that does not.
    pub(crate) fn for_ring() -> io::Result<Doorbell> {
        Doorbell::new(libc::EFD_CLOEXEC)
    }

    /// Makes a doorbell that is polled and then cleared, whose listener is awake.
    pub(crate) fn for_poll() -> io::Result<Doorbell> {
        Doorbell::new(libc::EFD_CLOEXEC | libc::EFD_NONBLOCK)
    }

    fn new(flags: libc::c_int) -> io::Result<Doorbell> {
        // SAFETY: eventfd takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, flags) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: eventfd has just given us this descriptor, so nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Doorbell {
            fd,
            asleep: AtomicBool::new(false),
        })
    }

    /// Sleeper: announces sleep. Afterwards it looks at its ring once more.
    pub(crate) fn announce_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Sleeper: is awake again; until the next announcement nobody rings.
    pub(crate) fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Ringer: whether the eventfd must be written, after something was pushed. True at most once for an announcement.
    pub(crate) fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }

    /// Ringer: writes the eventfd by a system call. The shard's thread does it through its ring instead.
    pub(crate) fn ring(&self) {
        let one: u64 = 1;
        // SAFETY: `one` is eight readable bytes and outlives the call.
        let written = unsafe {
            libc::write(
                std::os::fd::AsRawFd::as_raw_fd(&self.fd),
                (&raw const one).cast(),
                size_of::<u64>(),
            )
        };
        // EAGAIN means that the counter is full, so that the sleeper is woken anyway.
        debug_assert!(
            written == 8 || io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock
        );
    }

    /// Listener of a polled doorbell: takes what was rung, so that it is not readable until the next ring.
    pub(crate) fn clear(&self) {
        let mut count: u64 = 0;
        // SAFETY: `count` is eight writable bytes and outlives the call; the descriptor does not block.
        let _ = unsafe {
            libc::read(
                std::os::fd::AsRawFd::as_raw_fd(&self.fd),
                (&raw mut count).cast(),
                size_of::<u64>(),
            )
        };
    }
}

impl AsFd for Doorbell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_once_for_a_sleeper_and_never_for_one_awake() {
        let bell = Doorbell::for_poll().unwrap();
        assert!(!bell.must_ring());
        bell.announce_sleep();
        assert!(bell.must_ring());
        assert!(!bell.must_ring());
        bell.announce_sleep();
        bell.awake();
        assert!(!bell.must_ring());
        bell.ring();
        bell.clear();
        bell.clear();
    }
}
