//! What the kernel knows of a socket's receive buffer (`SO_MEMINFO`, Linux 4.12).

use std::io;
use std::os::fd::AsRawFd;

/// `asm-generic/socket.h`; not in `libc`.
const SO_MEMINFO: libc::c_int = 55;
/// `linux/sock_diag.h`: places in the answer, and how long it is.
const SK_MEMINFO_RMEM_ALLOC: usize = 0;
const SK_MEMINFO_RCVBUF: usize = 1;
const SK_MEMINFO_DROPS: usize = 8;
const SK_MEMINFO_VARS: usize = 9;

/// A socket's receive buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Bytes in use, with the kernel's overhead.
    pub(super) allocated: u32,
    /// More than so many are not used.
    pub(super) limit: u32,
    /// Datagrams dropped so far, by a filter or because the buffer was full.
    pub(super) drops: u32,
}

/// Asks the kernel. `socket2` has no such option, and the standard library has none at all.
#[allow(unsafe_code)]
pub(super) fn read(socket: &impl AsRawFd) -> io::Result<Memory> {
    let mut values = [0u32; SK_MEMINFO_VARS];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `values`, which is that long and lives longer than the call; any bits are
    // valid numbers. The descriptor is open: `socket` is borrowed.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Memory {
        allocated: values[SK_MEMINFO_RMEM_ALLOC],
        limit: values[SK_MEMINFO_RCVBUF],
        drops: values[SK_MEMINFO_DROPS],
    })
}
