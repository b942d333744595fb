//! One focus as a process: it runs until SIGINT or SIGTERM. What `weir` does, and whatever program wants to be a focus.

use tokio::signal::unix::{SignalKind, signal};

use crate::{config::Config, focus::Focus, memory};

/// What is logged by default. matrix-sdk reports as errors of its HTTP client what are ordinary answers, such as account
/// data that is not set, and warns in every sync that there is no backup of room keys, which a focus has none of; its
/// real failures come back to Weir, which says what they mean.
pub const LOG: &str = "info,matrix_sdk=warn,matrix_sdk_crypto=warn,matrix_sdk_crypto::backups=off,matrix_sdk::http_client=off";

/// Prepares the allocator of the process. To be called first of all, before there are threads.
pub fn prepare() {
    memory::share_arenas();
}

/// Runs a focus until it is told to stop, then hangs up every call.
///
/// # Errors
/// Whatever keeps it from starting, and its ending by itself, which is a fault.
pub async fn until_told(config: Config) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let focus = tokio::select! {
        focus = Focus::start(config) => focus?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted: hanging up"),
        _ = terminate.recv() => tracing::info!("told to stop: hanging up"),
        never = memory::keep_giving_back() => match never {},
        () = focus.ended() => anyhow::bail!("the focus ended by itself; the log says why"),
    }
    focus.shutdown().await;
    Ok(())
}
