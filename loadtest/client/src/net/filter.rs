//! The program that the kernel runs on every datagram of a light participant's socket (classic BPF, no privileges needed).
//!
//! It sees the datagram from the UDP header on. What is dropped is counted by the socket.

use socket2::SockFilter;

/// The UDP header before the payload.
const UDP_HEADER: u32 = 8;
/// The whole datagram is kept.
const KEEP: u32 = u32::MAX;
/// Where the sequence number of RTP is (RFC 3550 §5.1).
const SEQUENCE: u32 = UDP_HEADER + 2;

const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const LOAD_HALF: u16 = (libc::BPF_LD | libc::BPF_H | libc::BPF_ABS) as u16;
const LOAD_LENGTH: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_LEN) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const MODULO: u16 = (libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Keeps everything but RTP, and of RTP each packet whose sequence number `one_in` divides: so that of every stream something is seen
/// within that many packets.
///
/// RTP is what begins with 128 to 191 and is no RTCP, whose second byte is 192 to 223 (RFC 7983, RFC 5761 §4).
pub(super) fn program(one_in: u32) -> [SockFilter; 13] {
    // A jump goes over so many lines: first if the comparison holds, second if it does not.
    [
        SockFilter::new(LOAD_LENGTH, 0, 0, 0),
        SockFilter::new(AT_LEAST, 0, 9, SEQUENCE + 2), // shorter: keep
        SockFilter::new(LOAD_BYTE, 0, 0, UDP_HEADER),
        SockFilter::new(AT_LEAST, 0, 7, 128), // keep
        SockFilter::new(ABOVE, 6, 0, 191),    // keep
        SockFilter::new(LOAD_BYTE, 0, 0, UDP_HEADER + 1),
        SockFilter::new(AT_LEAST, 0, 1, 192), // RTP, go on with the sample
        SockFilter::new(ABOVE, 0, 3, 223),    // RTCP: keep
        SockFilter::new(LOAD_HALF, 0, 0, SEQUENCE),
        SockFilter::new(MODULO, 0, 0, one_in.max(1)),
        SockFilter::new(EQUAL, 0, 1, 0),
        SockFilter::new(RETURN, 0, 0, KEEP),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
