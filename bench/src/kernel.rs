//! The system calls that no safe wrapper offers: many sends in one call.

#![allow(unsafe_code)]
#![deny(unsafe_op_in_unsafe_fn, clippy::multiple_unsafe_ops_per_block)]

use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use io_uring::{IoUring, opcode, types};

/// Sends that one call submits: as many as the shard's ring holds.
const ENTRIES: u32 = 2048;

/// The largest send: the shard's send buffers are half of that.
const SEND_BYTES_MAX: usize = 65_000;

/// Datagrams of one size to one destination, sent as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) segments: usize,
    pub(crate) segment_bytes: usize,
}

/// A ring that sends the same bytes to many destinations, the way the shard's does: `sendmsg` with `UDP_SEGMENT`, fixed file,
/// deferred completions.
pub(crate) struct Sends {
    ring: IoUring,
    names: Box<[libc::sockaddr_in]>,
    slots: Box<[Slot]>,
    payload: Box<[u8]>,
    // The ring has it as its fixed file.
    _socket: UdpSocket,
}

/// What one `sendmsg` points to.
struct Slot {
    header: libc::msghdr,
    vector: libc::iovec,
    control: SegmentControl,
}

/// A control message with one `u16`: `UDP_SEGMENT` (udp(7), cmsg(3)).
#[repr(C)]
struct SegmentControl {
    len: usize,
    level: libc::c_int,
    kind: libc::c_int,
    segment_bytes: u16,
    padding: [u8; 6],
}

impl Sends {
    /// Sends from `socket` to `destinations`; every datagram begins with `payload`.
    pub(crate) fn new(
        socket: UdpSocket,
        destinations: &[SocketAddrV4],
        payload: &[u8],
    ) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(2 * ENTRIES)
            .build(ENTRIES)?;
        ring.submitter().register_files(&[socket.as_raw_fd()])?;
        Ok(Self {
            ring,
            names: destinations.iter().map(name).collect(),
            slots: (0..ENTRIES).map(|_| Slot::new()).collect(),
            payload: payload
                .iter()
                .copied()
                .cycle()
                .take(SEND_BYTES_MAX)
                .collect(),
            _socket: socket,
        })
    }

    /// Sends `runs` to every destination, one after the other, and waits until the kernel is done with all of it. Says how many
    /// sends failed.
    pub(crate) fn send(&mut self, runs: &[Run]) -> io::Result<u64> {
        let mut failed = 0;
        let mut queued = 0;
        for destination in 0..self.names.len() {
            for run in runs {
                if queued == self.slots.len() {
                    failed += self.submit(queued)?;
                    queued = 0;
                }
                self.queue(queued, destination, *run)?;
                queued += 1;
            }
        }
        Ok(failed + self.submit(queued)?)
    }

    fn queue(&mut self, slot: usize, destination: usize, run: Run) -> io::Result<()> {
        let slot = &mut self.slots[slot];
        slot.vector.iov_base = self.payload.as_mut_ptr().cast();
        slot.vector.iov_len = (run.segments * run.segment_bytes).min(SEND_BYTES_MAX);
        slot.header.msg_name = (&raw mut self.names[destination]).cast();
        slot.header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        slot.header.msg_iov = &raw mut slot.vector;
        slot.header.msg_iovlen = 1;
        if run.segments > 1 {
            slot.control.segment_bytes = run.segment_bytes as u16;
            slot.header.msg_control = (&raw mut slot.control).cast();
            slot.header.msg_controllen = size_of::<SegmentControl>();
        } else {
            slot.header.msg_control = std::ptr::null_mut();
            slot.header.msg_controllen = 0;
        }
        let entry = opcode::SendMsg::new(types::Fixed(0), &raw const slot.header).build();
        // SAFETY: slot, name and payload are heap memory of `self` that stays in place, and is written again only after `submit`
        // has waited for every send.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| io::Error::other("the submission queue is full"))
    }

    fn submit(&mut self, count: usize) -> io::Result<u64> {
        let (mut done, mut failed) = (0, 0);
        while done < count {
            self.ring.submit_and_wait(count - done)?;
            for completion in self.ring.completion() {
                done += 1;
                failed += u64::from(completion.result() < 0);
            }
        }
        Ok(failed)
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            // SAFETY: a msghdr is integers and pointers, for all of which zero is a value.
            header: unsafe { std::mem::zeroed() },
            vector: libc::iovec {
                iov_base: std::ptr::null_mut(),
                iov_len: 0,
            },
            control: SegmentControl {
                // CMSG_LEN(2)
                len: size_of::<libc::cmsghdr>() + size_of::<u16>(),
                level: libc::SOL_UDP,
                kind: libc::UDP_SEGMENT,
                segment_bytes: 0,
                padding: [0; 6],
            },
        }
    }
}

fn name(address: &SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}
