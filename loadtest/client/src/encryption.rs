//! Media encryption between participants: what of it is the client's own. The ratchets and frames are in `weir-sframe`.
//!
//! ```text
//! room state ─► members ─┐
//! m.room.encrypted ─► olm ┴► exchange ─► MediaKeys ◄── publish: encrypts whole frames before they are cut into packets
//!                            (HTTP)                ◄── receive: decrypts whole frames, and sound packets
//! ```
//! `docs/encryption.md` in the repository says how it works and what a focus sees.

mod exchange;
mod members;
mod olm;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use weir_sframe::{Clear, Conference, ParticipantId, Receiver, Refused, Sender, Suite};

pub(crate) use exchange::start;
pub(crate) use members::EVENT_TYPES;

use crate::peer::lock;
use crate::report::{EncryptionReport, Kind};

/// A participant's keys, shared by whatever encrypts, decrypts, and exchanges them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MediaKeys(Arc<Mutex<Keys>>);

#[derive(Debug)]
struct Keys {
    sender: Sender,
    receiver: Receiver,
}

impl MediaKeys {
    fn new(conference: Conference) -> MediaKeys {
        // Keys are no part of what follows from a participant's seed.
        let rng = StdRng::from_os_rng();
        MediaKeys(Arc::new(Mutex::new(Keys {
            sender: Sender::new(conference.clone(), Suite::default(), rng),
            receiver: Receiver::new(conference),
        })))
    }

    /// Encrypts a frame or a packet of sound; `None` when the session is used up.
    pub(crate) fn encrypt(&self, kind: Kind, frame: &[u8]) -> Option<Bytes> {
        let sealed = lock(&self.0).sender.encrypt(clear(kind), frame);
        sealed.ok().map(Bytes::from)
    }

    /// Decrypts what is `from`'s by the signalling.
    pub(crate) fn decrypt(
        &self,
        from: &ParticipantId,
        kind: Kind,
        frame: &[u8],
        now: Instant,
    ) -> Result<Vec<u8>, Refused> {
        lock(&self.0)
            .receiver
            .decrypt(from, clear(kind), frame, now)
    }

    /// What was encrypted, decrypted, refused and exchanged.
    pub(crate) fn report(&self) -> EncryptionReport {
        let keys = lock(&self.0);
        EncryptionReport {
            sent: keys.sender.counters(),
            received: keys.receiver.counters(),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Keys) -> T) -> T {
        act(&mut lock(&self.0))
    }
}

/// A focus reads of a VP8 frame whether it is a keyframe, which its first byte says; of sound it reads nothing.
fn clear(kind: Kind) -> Clear {
    match kind {
        Kind::Audio => Clear::Nothing,
        Kind::Video => Clear::FirstByte,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    pub(crate) fn media_keys() -> MediaKeys {
        MediaKeys::new(Conference {
            room_id: "!room:x".into(),
            call_id: "call".into(),
        })
    }

    /// Lets `to` have the key of `from`, which is taken for that of `@a:x`, device `A`.
    pub(crate) fn share(from: &MediaKeys, to: &MediaKeys) {
        let (a, b) = (
            ParticipantId::new("@a:x", "A"),
            ParticipantId::new("@b:x", "B"),
        );
        let now = Instant::now();
        let share = from.with(|keys| {
            keys.sender.set_members(BTreeSet::from([b]), now);
            keys.sender.poll_share(now).unwrap()
        });
        to.with(|keys| keys.receiver.handle_key(&a, &share.key).unwrap());
    }

    #[test]
    fn of_a_picture_the_first_byte_stays_readable_and_of_sound_nothing() {
        let (a, b) = (media_keys(), media_keys());
        share(&a, &b);
        let from = ParticipantId::new("@a:x", "A");
        for (kind, readable) in [(Kind::Video, 1), (Kind::Audio, 0)] {
            let frame = [0x10; 50];
            let sealed = a.encrypt(kind, &frame).unwrap();
            let same = sealed.iter().take_while(|byte| **byte == 0x10).count();
            // The header of the first frames is their number.
            assert_eq!((same, sealed.len()), (readable, 50 + 1 + 16));
            let opened = b.decrypt(&from, kind, &sealed, Instant::now());
            assert_eq!(opened.as_deref(), Ok(frame.as_slice()));
        }
        let report = (a.report(), b.report());
        assert_eq!(
            (report.0.sent.encrypted, report.1.received.decrypted),
            (2, 2)
        );
    }
}
