//! Sends that the kernel works on: everything that a `sendmsg` points to, allocated once.
//!
//! A run of datagrams to one destination is one send with `UDP_SEGMENT` (udp(7)). Where the kernel or a network card
//! refuses that, the same slot sends the run one datagram after the other.

use std::net::SocketAddr;
use std::ptr;

use io_uring::{opcode, squeue, types};
use weir_shard::{SendBuffer, Transmit};

use crate::socket::Name;

/// The slots of a shard, one for each of its send buffers, so that there is always one free for a transmit.
pub(crate) struct SendSlots {
    slots: Box<[Slot]>,
    free: Vec<u32>,
    segmentation: Segmentation,
}

/// Whether runs go out as one send.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Segmentation {
    /// Yes, until refused.
    Wanted,
    /// The way out cannot do it at all (EIO: no checksum offload).
    Refused,
}

/// What one `sendmsg` points to. The kernel reads it between submission and completion; it is written only while the
/// slot is free or its last send has completed.
struct Slot {
    header: libc::msghdr,
    vector: libc::iovec,
    name: Name,
    control: SegmentControl,
    load: Option<Load>,
}

/// A control message with one `u16`: `UDP_SEGMENT`.
#[repr(C)]
struct SegmentControl {
    len: usize,
    level: libc::c_int,
    kind: libc::c_int,
    segment_bytes: u16,
    padding: [u8; 6],
}

/// `CMSG_LEN(2)`: header and value without padding (cmsg(3)).
const CONTROL_LEN: usize = 18;

struct Load {
    buffer: SendBuffer,
    segment_bytes: usize,
    socket: u32,
    progress: Progress,
}

/// How much of a load one `sendmsg` carries.
#[derive(Clone, Copy)]
enum Progress {
    /// All of it.
    Whole,
    /// One datagram, which begins here.
    Single { start: usize },
}

/// What became of a send.
pub(crate) enum Completion {
    /// The kernel is done with the buffer.
    Done {
        /// To be given back to the shard.
        buffer: SendBuffer,
        /// Whether all, or the last, of it was refused.
        failed: bool,
    },
    /// The slot has more to send: submit it again.
    Again {
        /// Whether that is because segmentation was refused.
        refused: bool,
        /// Whether the datagram before was refused.
        failed: bool,
    },
}

impl SendSlots {
    /// Allocates `count` slots.
    pub(crate) fn new(count: usize) -> SendSlots {
        SendSlots {
            slots: (0..count).map(|_| Slot::new()).collect(),
            free: (0..count as u32).rev().collect(),
            segmentation: Segmentation::Wanted,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many sends the kernel has.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Puts a transmit into a slot; it comes back if there is none. `entry` makes the submission.
    pub(crate) fn load(&mut self, transmit: Transmit, socket: u32) -> Result<u32, Transmit> {
        let Some(index) = self.free.pop() else {
            return Err(transmit);
        };
        let segments = transmit.segments();
        let progress = match self.segmentation {
            Segmentation::Refused if segments > 1 => Progress::Single { start: 0 },
            _ => Progress::Whole,
        };
        let slot = &mut self.slots[index as usize];
        slot.address(transmit.path.remote);
        slot.load = Some(Load {
            segment_bytes: usize::from(transmit.segment_bytes).max(1),
            buffer: transmit.buffer,
            socket,
            progress,
        });
        Ok(index)
    }

    /// The submission for the next step of a slot. Its pointers are valid until that step has completed.
    pub(crate) fn entry(&mut self, index: u32) -> Option<squeue::Entry> {
        self.slots[index as usize].entry()
    }

    /// Takes note of a completion.
    pub(crate) fn complete(&mut self, index: u32, result: i32) -> Option<Completion> {
        let slot = self.slots.get_mut(index as usize)?;
        let load = slot.load.as_mut()?;
        let failed = result < 0;
        let next = match load.progress {
            Progress::Whole if failed && load.segments() > 1 && refuses_segments(-result) => {
                if -result == libc::EIO {
                    self.segmentation = Segmentation::Refused;
                }
                load.progress = Progress::Single { start: 0 };
                return Some(Completion::Again {
                    refused: true,
                    failed: false,
                });
            }
            Progress::Whole => usize::MAX,
            Progress::Single { start } => start + load.segment_bytes,
        };
        if next < load.buffer.datagrams().len() {
            load.progress = Progress::Single { start: next };
            return Some(Completion::Again {
                refused: false,
                failed,
            });
        }
        let Load { buffer, .. } = slot.load.take()?;
        self.free.push(index);
        Some(Completion::Done { buffer, failed })
    }

    /// Gives up on a slot whose submission never reached the kernel.
    pub(crate) fn abandon(&mut self, index: u32) -> Option<SendBuffer> {
        let load = self.slots[index as usize].load.take()?;
        self.free.push(index);
        Some(load.buffer)
    }
}

/// Errors that speak of the run and not of the datagrams: no offload, too many or too large segments, no such option.
fn refuses_segments(errno: i32) -> bool {
    matches!(
        errno,
        libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::EOPNOTSUPP
    )
}

impl Load {
    fn segments(&self) -> usize {
        self.buffer.datagrams().len().div_ceil(self.segment_bytes)
    }

    /// What the next `sendmsg` carries, and how it is cut.
    fn step(&self) -> (&[u8], Option<u16>) {
        let datagrams = self.buffer.datagrams();
        match self.progress {
            Progress::Whole if self.segments() > 1 => {
                (datagrams, u16::try_from(self.segment_bytes).ok())
            }
            Progress::Whole => (datagrams, None),
            Progress::Single { start } => {
                let rest = datagrams.get(start..).unwrap_or(&[]);
                (&rest[..rest.len().min(self.segment_bytes)], None)
            }
        }
    }
}

impl Slot {
    fn new() -> Slot {
        Slot {
            // SAFETY: a msghdr is integers and pointers, for all of which zero is a value.
            header: unsafe { std::mem::zeroed() },
            vector: libc::iovec {
                iov_base: ptr::null_mut(),
                iov_len: 0,
            },
            name: Name::EMPTY,
            control: SegmentControl {
                len: CONTROL_LEN,
                level: libc::SOL_UDP,
                kind: libc::UDP_SEGMENT,
                segment_bytes: 0,
                padding: [0; 6],
            },
            load: None,
        }
    }

    fn address(&mut self, remote: SocketAddr) {
        self.name = Name::emit(remote);
    }

    fn entry(&mut self) -> Option<squeue::Entry> {
        let load = self.load.as_ref()?;
        let (bytes, segment_bytes) = load.step();
        // The kernel only reads, whatever the type of the pointer.
        self.vector.iov_base = bytes.as_ptr().cast_mut().cast();
        self.vector.iov_len = bytes.len();
        self.header.msg_name = self.name.bytes.as_mut_ptr().cast();
        self.header.msg_namelen = self.name.len as libc::socklen_t;
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        if let Some(segment_bytes) = segment_bytes {
            self.control.segment_bytes = segment_bytes;
            self.header.msg_control = (&raw mut self.control).cast();
            self.header.msg_controllen = size_of::<SegmentControl>();
        } else {
            self.header.msg_control = ptr::null_mut();
            self.header.msg_controllen = 0;
        }
        Some(opcode::SendMsg::new(types::Fixed(load.socket), &raw const self.header).build())
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::net::UdpSocket;
    use std::sync::Arc;
    use std::time::Duration;

    use weir_shard::Path;

    use super::*;
    use crate::ring::{Ring, Token};
    use crate::socket::Sockets;

    #[test]
    fn the_control_message_has_the_layout_of_the_kernel() {
        // SAFETY: CMSG_LEN and CMSG_SPACE only compute.
        let len = unsafe { libc::CMSG_LEN(2) };
        // SAFETY: as above.
        let space = unsafe { libc::CMSG_SPACE(2) };
        assert_eq!(len as usize, CONTROL_LEN);
        assert_eq!(space as usize, size_of::<SegmentControl>());
        assert_eq!(
            std::mem::offset_of!(SegmentControl, segment_bytes),
            size_of::<libc::cmsghdr>()
        );
    }

    /// A ring with one sending socket, and a peer that receives.
    struct Way {
        ring: Ring,
        sends: SendSlots,
        peer: UdpSocket,
        refused: usize,
        failed: usize,
        // The ring has it as a fixed file.
        _sockets: Sockets,
    }

    impl Way {
        fn new() -> Way {
            let sockets = Sockets::open(&["127.0.0.1:0".parse().unwrap()], 0).unwrap();
            let ring = Ring::new(Arc::default()).unwrap();
            ring.register_files(&sockets.descriptors()).unwrap();
            let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
            peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            Way {
                ring,
                sends: SendSlots::new(4),
                peer,
                refused: 0,
                failed: 0,
                _sockets: sockets,
            }
        }

        /// Sends a run and gives the lengths of what arrives. Waits until the kernel is done with the slot.
        fn send(&mut self, bytes: &[u8], segment_bytes: u16) -> Vec<usize> {
            let transmit = Transmit {
                path: Path::listening(self.peer.local_addr().unwrap()),
                segment_bytes,
                buffer: SendBuffer::filled(bytes),
            };
            let slot = self
                .sends
                .load(transmit, 0)
                .unwrap_or_else(|_| panic!("a free slot"));
            loop {
                let entry = self.sends.entry(slot).unwrap();
                // SAFETY: the loop ends only after the completion, and the slots outlive it.
                assert!(unsafe { self.ring.push(entry, Token::Send(slot)) });
                let result = self.completion();
                match self.sends.complete(slot, result).unwrap() {
                    Completion::Again { refused, failed } => {
                        self.refused += usize::from(refused);
                        self.failed += usize::from(failed);
                    }
                    Completion::Done { buffer, failed } => {
                        assert_eq!(buffer.datagrams(), bytes);
                        self.failed += usize::from(failed);
                        break;
                    }
                }
            }
            assert_eq!(self.sends.in_flight(), 0);
            let mut datagram = [0; 65_536];
            let mut rest = bytes;
            let mut lengths = Vec::new();
            while !rest.is_empty() {
                let len = self.peer.recv(&mut datagram).unwrap();
                assert_eq!(datagram[..len], rest[..len]);
                rest = &rest[len..];
                lengths.push(len);
            }
            lengths
        }

        fn completion(&mut self) -> i32 {
            let mut entries = [const { MaybeUninit::uninit() }; 1];
            loop {
                self.ring.enter(Duration::from_secs(5));
                if let [entry] = self.ring.reap(&mut entries) {
                    return self.ring.read(entry).result;
                }
            }
        }
    }

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|n| (n / 7) as u8).collect()
    }

    #[test]
    fn a_run_is_one_send_and_arrives_as_datagrams() {
        let mut way = Way::new();
        assert_eq!(way.send(&bytes(1200), 1200), [1200]);
        assert_eq!(way.send(&bytes(3900), 1200), [1200, 1200, 1200, 300]);
        assert_eq!(way.send(&bytes(2400), 1200), [1200, 1200]);
        assert_eq!((way.refused, way.failed), (0, 0));
    }

    #[test]
    fn a_run_that_the_kernel_refuses_goes_out_one_by_one() {
        let mut way = Way::new();
        // No Linux takes more than 128 segments.
        assert_eq!(way.send(&bytes(150 * 20 + 7), 20).len(), 151);
        assert_eq!((way.refused, way.failed), (1, 0));
        // That was about this run only: the next is one send again.
        assert_eq!(way.send(&bytes(200), 100), [100, 100]);
        assert_eq!(way.refused, 1);
    }

    #[test]
    fn without_offload_no_run_is_tried_again() {
        let mut way = Way::new();
        let transmit = |bytes: &[u8]| Transmit {
            path: Path::listening(way.peer.local_addr().unwrap()),
            segment_bytes: 100,
            buffer: SendBuffer::filled(bytes),
        };
        let slot = way.sends.load(transmit(&bytes(250)), 0).ok().unwrap();
        let again = way.sends.complete(slot, -libc::EIO);
        assert!(matches!(
            again,
            Some(Completion::Again { refused: true, .. })
        ));
        // One of the datagrams fails: counted, and the others are sent.
        let again = way.sends.complete(slot, 100);
        assert!(matches!(
            again,
            Some(Completion::Again { failed: false, .. })
        ));
        let again = way.sends.complete(slot, -libc::EPERM);
        assert!(matches!(
            again,
            Some(Completion::Again { failed: true, .. })
        ));
        let done = way.sends.complete(slot, 50);
        assert!(matches!(done, Some(Completion::Done { failed: false, .. })));
        assert_eq!(way.send(&bytes(250), 100), [100, 100, 50]);
        assert_eq!(way.refused, 0);
        assert!(way.sends.complete(0, 0).is_none());
    }
}
