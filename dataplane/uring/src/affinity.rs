//! Pinning a thread to its core.

use std::io;

/// Pins the calling thread to one core.
pub(crate) fn pin_current_thread(core: usize) -> io::Result<()> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a cpu_set_t is an array of integers, for which all zeroes is a value (the empty set).
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: `core` is below CPU_SETSIZE, so it lies within `set`.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` outlives the call and its size is the one given; thread 0 is the calling one.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kernel's number of the calling thread, as in `/proc/self/task`.
pub(crate) fn current_thread_id() -> i32 {
    // SAFETY: gettid takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::gettid() }
}
