//! The calls that are up, kept in a file, so that a focus that was killed can hang them up when it is back.
//!
//! Without it their clients would look at frozen pictures until their own timers run off, about half a minute; with it
//! they call again within seconds.

use std::{fs, io, path::PathBuf};

use crate::conference::LiveCall;

/// The file, and what it holds.
pub(super) struct LiveCalls {
    path: PathBuf,
    saved: Vec<LiveCall>,
}

impl LiveCalls {
    /// Reads what the last process left behind. A file that cannot be read is no reason not to start.
    pub(super) fn load(path: PathBuf) -> Self {
        let saved = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, "the list of live calls is damaged and is ignored");
                Vec::new()
            }),
            Err(_) => Vec::new(),
        };
        Self { path, saved }
    }

    /// The calls that the last process left behind, to be hung up. Given once.
    pub(super) fn take_left_behind(&mut self) -> Vec<LiveCall> {
        std::mem::take(&mut self.saved)
    }

    /// Keeps the list, if it has changed.
    pub(super) fn save(&mut self, live: Vec<LiveCall>) {
        if live == self.saved {
            return;
        }
        if let Err(error) = self.write(&live) {
            tracing::warn!(%error, "the list of live calls was not written");
        }
        self.saved = live;
    }

    /// Writes beside the file and renames, so that a crash leaves the old list or the new one.
    fn write(&self, live: &[LiveCall]) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        fs::write(&beside, serde_json::to_vec(live)?)?;
        fs::rename(&beside, &self.path)
    }
}
