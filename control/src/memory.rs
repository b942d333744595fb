//! What this process needs no more goes back to the system.
//!
//! glibc gives each thread an arena of its own, and keeps what is freed in the middle of one for the next who asks there. Calls come and go
//! in other sizes and orders each time, and on other threads, so that a focus would hold a little more after each busy hour than before
//! it, although it uses no more.

use std::{convert::Infallible, time::Duration};

/// Often enough that nothing piles up, seldom enough that it costs nothing: some milliseconds of a thread that does nothing else.
const INTERVAL: Duration = Duration::from_secs(60);

/// All threads share so many. The packet path asks for no memory, and control does not ask for much: nobody waits for another.
#[cfg(target_env = "gnu")]
const ARENAS: i32 = 2;

/// Lets all threads share a few arenas, unless the operator has said how many (`MALLOC_ARENA_MAX`). To be called before there are
/// threads.
pub(crate) fn share_arenas() {
    #[cfg(target_env = "gnu")]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: it takes two numbers, and writes a setting of the allocator, which nobody reads at the same time: there is one thread
        // (mallopt(3)). What it does not take it leaves as it was.
        #[expect(unsafe_code, reason = "a function of C; there is no other way to it")]
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, ARENAS)
        };
    }
}

/// Gives back from time to time, for ever.
pub(crate) async fn keep_giving_back() -> Infallible {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // Not on a thread that answers invites.
        if let Err(error) = tokio::task::spawn_blocking(give_back).await {
            tracing::warn!(%error, "memory that is free could not be given back");
        }
    }
}

/// Gives back now.
fn give_back() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "a function of C; there is no other way to it")]
    {
        // SAFETY: it may be called at any time by any thread (malloc_trim(3): MT-Safe), and touches no memory that is in use.
        unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    const BLOCK_BYTES: usize = 1024;
    const BLOCKS: usize = 128 * 1024;

    /// Bytes of this process that are in memory (proc(5): `VmRSS` of `status`, in KiB).
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap();
        1024 * kib.parse::<usize>().unwrap()
    }

    #[test]
    fn what_is_free_between_what_is_not_goes_back() {
        let mut blocks: Vec<Option<Box<[u8]>>> = (0..BLOCKS)
            .map(|_| Some(vec![1; BLOCK_BYTES].into_boxed_slice()))
            .collect();
        // A few stay, so that nothing goes back by itself.
        for (number, block) in blocks.iter_mut().enumerate() {
            if number % 1000 != 999 {
                *block = None;
            }
        }
        let before = resident();
        give_back();
        let after = resident();
        // What other tests do meanwhile is little beside it.
        let all = BLOCKS * BLOCK_BYTES;
        assert!(after + all / 2 < before, "{before} {after}");
        assert!(blocks.iter().flatten().all(|block| block[0] == 1));
    }
}
