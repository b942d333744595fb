//! What a focus that was killed must know when it is back, kept in files of its store.
//!
//! The calls that are up: without them their clients would look at frozen pictures until their own timers run off, about half a
//! minute; hung up by the next process, they call again within seconds. And the room of each conference: without it, whoever
//! has been in a call could take it over after a restart by announcing it in a room that is told first.

use std::{fs, io, path::PathBuf};

use serde::{Serialize, de::DeserializeOwned};

/// A file, and what it holds.
pub(super) struct Kept<T> {
    path: PathBuf,
    saved: T,
}

impl<T: Serialize + DeserializeOwned + PartialEq + Default> Kept<T> {
    /// Reads what the last process left behind. A file that cannot be read is no reason not to start.
    pub(super) fn load(path: PathBuf) -> Self {
        let saved = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "a file is damaged and is ignored");
                T::default()
            }),
            Err(_) => T::default(),
        };
        Self { path, saved }
    }

    /// What the last process left behind. Given once.
    pub(super) fn take_left_behind(&mut self) -> T {
        std::mem::take(&mut self.saved)
    }

    /// Keeps what is to be known, if it has changed.
    pub(super) fn save(&mut self, now: T) {
        if now == self.saved {
            return;
        }
        if let Err(error) = self.write(&now) {
            tracing::warn!(%error, path = %self.path.display(), "a file was not written");
        }
        self.saved = now;
    }

    /// Writes beside the file and renames, so that a crash leaves the old content or the new one.
    fn write(&self, now: &T) -> io::Result<()> {
        let beside = self.path.with_extension("new");
        fs::write(&beside, serde_json::to_vec(now)?)?;
        fs::rename(&beside, &self.path)
    }
}
