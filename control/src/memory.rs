//! What this process needs no more goes back to the system.
//!
//! glibc keeps what is freed in the middle of its heaps for the next who asks. Calls come and go in other sizes and orders each time,
//! so that a focus would hold a little more after each busy hour than before it, although it uses no more.

use std::{convert::Infallible, time::Duration};

/// Often enough that nothing piles up, seldom enough that it costs nothing: some milliseconds of a thread that does nothing else.
const INTERVAL: Duration = Duration::from_secs(60);

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
