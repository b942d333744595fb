//! One session of somebody else: which of its frames can be decrypted, each once.

use std::collections::BTreeMap;

use crate::cipher::{Secret, Suite};
use crate::header::{Header, HeaderError};
use crate::ratchet::Ratchet;

/// Keys of skipped frames are kept so far back.
///
/// A camera in three layers and a microphone make 140 frames a second, so these are 3.6 s: more than any retransmission takes.
/// More costs 65 bytes for each frame and sender, and keeps keys that nobody needs; less loses frames that come late.
pub const LATE_MAX: u32 = 512;

/// Why a frame was not decrypted. Nothing changes then: a forged frame uses up no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has no header that can be read.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// No frame of megolm can have such a number.
    #[error("counter out of range")]
    CounterTooLarge,
    /// Its session is not known (yet).
    #[error("unknown session")]
    UnknownSession,
    /// It is from before the index at which the session was shared.
    #[error("from before the shared index")]
    BeforeKey,
    /// It was decrypted before.
    #[error("replayed")]
    Replayed,
    /// More than [`LATE_MAX`] frames older than the newest.
    #[error("too late")]
    TooLate,
    /// It was not encrypted with the key that it names, or was changed.
    #[error("wrong key")]
    WrongKey,
}

/// A session from the index on at which it was shared.
pub(crate) struct Inbound {
    session_id: String,
    suite: Suite,
    first: u32,
    /// Stands behind the newest frame.
    ratchet: Ratchet,
    /// Of frames before that.
    skipped: BTreeMap<u32, Secret>,
}

impl Inbound {
    pub(crate) fn new(ratchet: Ratchet, suite: Suite) -> Inbound {
        Inbound {
            session_id: ratchet.session_id(),
            suite,
            first: ratchet.index(),
            ratchet,
            skipped: BTreeMap::new(),
        }
    }

    pub(crate) fn session_id(&self) -> &str {
        &self.session_id
    }

    /// Decrypts the end of `out` from `start` on, in place. What `out` holds after an error is unspecified.
    pub(crate) fn open(
        &mut self,
        header: Header,
        header_bytes: &[u8],
        metadata: &[u8],
        out: &mut Vec<u8>,
        start: usize,
    ) -> Result<(), Refused> {
        let index = u32::try_from(header.counter).ok();
        // The last index has no next one.
        let index = index.filter(|index| *index < u32::MAX);
        let index = index.ok_or(Refused::CounterTooLarge)?;
        if index < self.first {
            return Err(Refused::BeforeKey);
        }
        let newest = index >= self.ratchet.index();
        let ahead = newest
            .then(|| self.ratchet.secret_at(self.suite, index))
            .flatten();
        let secret = ahead.as_ref().or_else(|| self.skipped.get(&index));
        let secret = secret.ok_or(match index < self.oldest() {
            true => Refused::TooLate,
            false => Refused::Replayed,
        })?;
        let opened = secret.open(header, header_bytes, metadata, out, start);
        opened.map_err(|_| Refused::WrongKey)?;
        if newest {
            self.pass(index);
        } else {
            self.skipped.remove(&index);
        }
        Ok(())
    }

    /// The oldest frame whose key would still be there.
    fn oldest(&self) -> u32 {
        self.ratchet.index().saturating_sub(LATE_MAX + 1)
    }

    /// Moves behind `index`, and keeps the keys of what is skipped.
    fn pass(&mut self, index: u32) {
        self.ratchet.advance_to(index.saturating_sub(LATE_MAX));
        for skipped in self.ratchet.index()..index {
            self.ratchet.advance_to(skipped);
            let secret = self.ratchet.secret_at(self.suite, skipped);
            self.skipped.extend(secret.map(|secret| (skipped, secret)));
        }
        self.ratchet.advance_to(index + 1);
        let oldest = self.oldest();
        self.skipped = self.skipped.split_off(&oldest);
    }
}
