//! The receiving side: everybody's sessions, and what became of their frames.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Clear;
use crate::cipher::Suite;
use crate::header::{Header, HeaderError};
use crate::inbound::{Inbound, Refused};
use crate::ratchet::Ratchet;
use crate::room_key::{Conference, ParticipantId, RoomKey, RoomKeyReceived};

/// Sessions of one sender. It uses one; while people leave in a row there is the one before it and some that it prepared. When there
/// are more, the oldest that carries nothing goes. Each takes up to 33 KiB once frames were skipped.
pub const SESSIONS_MAX: usize = 8;

/// Senders whose keys are kept: more than a conference has room for. Each takes a few KiB, up to what [`SESSIONS_MAX`] says.
pub const SENDERS_MAX: usize = 4096;

/// A session is forgotten so long after a newer one of its sender was first used, or after its sender has left: later than any
/// frame of it may come. News of a departure takes another way than frames do, and is often there first.
const RETIRED_AFTER: Duration = Duration::from_secs(5);

/// Why a key was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// It is for another call.
    #[error("for another call")]
    OtherConference,
    /// Not megolm, or a cipher suite that is not known here.
    #[error("unknown algorithm or cipher suite")]
    Unsupported,
    /// The session key is malformed, or not of the session that it names.
    #[error("no valid session key")]
    Invalid,
    /// There are [`SENDERS_MAX`] senders already.
    #[error("too many senders")]
    Full,
}

/// What became of frames and keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverCounters {
    /// Frames that were decrypted.
    pub decrypted: u64,
    /// Among them those that came after a later one.
    pub late: u64,
    /// Frames of a session that was not known (yet).
    pub unknown_session: u64,
    /// Frames from before the index at which their session was shared.
    pub before_key: u64,
    /// Frames that had been decrypted before.
    pub replayed: u64,
    /// Frames that came too late.
    pub too_late: u64,
    /// Frames that were not encrypted with the key they name, or were changed.
    pub wrong_key: u64,
    /// Frames without a readable header, or with an impossible counter.
    pub malformed: u64,
    /// Keys that were taken, repetitions left out.
    pub keys: u64,
    /// Keys that were not.
    pub keys_refused: u64,
}

impl ReceiverCounters {
    /// Frames that were not decrypted although somebody who is entitled to them has a right to expect it: forged, changed or
    /// repeated ones. The others are those of somebody who has just come, or was left out of a new session for a while.
    pub fn bad(&self) -> u64 {
        self.replayed + self.wrong_key + self.malformed
    }
}

impl AddAssign for ReceiverCounters {
    fn add_assign(&mut self, other: ReceiverCounters) {
        self.decrypted += other.decrypted;
        self.late += other.late;
        self.unknown_session += other.unknown_session;
        self.before_key += other.before_key;
        self.replayed += other.replayed;
        self.too_late += other.too_late;
        self.wrong_key += other.wrong_key;
        self.malformed += other.malformed;
        self.keys += other.keys;
        self.keys_refused += other.keys_refused;
    }
}

/// Decrypts everybody's frames in one call.
pub struct Receiver {
    conference: Conference,
    senders: BTreeMap<ParticipantId, Sessions>,
    counters: ReceiverCounters,
}

/// Of one sender.
#[derive(Default)]
struct Sessions {
    all: Vec<Session>,
    /// It has left: when they are forgotten.
    forgotten_at: Option<Instant>,
}

impl Sessions {
    fn is_kept(&self, now: Instant) -> bool {
        self.forgotten_at.is_none_or(|at| at > now)
    }
}

struct Session {
    key_id: u64,
    inbound: Inbound,
    /// A frame of it was decrypted.
    used: bool,
    retires_at: Option<Instant>,
    /// CTR of its newest frame, plus one.
    next: u64,
}

impl Receiver {
    /// Knows nobody's keys.
    pub fn new(conference: Conference) -> Receiver {
        Receiver {
            conference,
            senders: BTreeMap::new(),
            counters: ReceiverCounters::default(),
        }
    }

    /// Takes a key. `from` is who has sent it, by the Olm session that it came through. Gives what is to be answered.
    ///
    /// A session that is known already stays where it is. One that takes the number of another replaces it: then its sender has
    /// begun anew.
    ///
    /// # Errors
    /// [`KeyRefused`]; it is counted, and nothing changes.
    pub fn handle_key(
        &mut self,
        from: &ParticipantId,
        key: &RoomKey,
    ) -> Result<RoomKeyReceived, KeyRefused> {
        let taken = self.take_key(from, key);
        match taken {
            Ok(Taken::New) => self.counters.keys += 1,
            Ok(Taken::Again) => {}
            Err(_) => self.counters.keys_refused += 1,
        }
        taken.map(|_| RoomKeyReceived {
            conference: self.conference.clone(),
            session_id: key.session_id.clone(),
        })
    }

    /// Decrypts a frame that, by the signalling, `from` has sent; gives it as it was before its encryption.
    ///
    /// # Errors
    /// [`Refused`]; it is counted, and no key is used up.
    pub fn decrypt(
        &mut self,
        from: &ParticipantId,
        clear: Clear,
        frame: &[u8],
        now: Instant,
    ) -> Result<Vec<u8>, Refused> {
        let decrypted = self.open(from, clear, frame, now);
        let counters = &mut self.counters;
        let counter = match &decrypted {
            Ok(_) => &mut counters.decrypted,
            Err(Refused::Header(_) | Refused::CounterTooLarge) => &mut counters.malformed,
            Err(Refused::UnknownSession) => &mut counters.unknown_session,
            Err(Refused::BeforeKey) => &mut counters.before_key,
            Err(Refused::Replayed) => &mut counters.replayed,
            Err(Refused::TooLate) => &mut counters.too_late,
            Err(Refused::WrongKey) => &mut counters.wrong_key,
        };
        *counter += 1;
        decrypted
    }

    /// Takes over who else is in the conference. Keys of whoever has left open what it had sent before for 5 s more, and are then
    /// forgotten; whoever is back by then goes on with them.
    pub fn set_members(&mut self, members: &BTreeSet<ParticipantId>, now: Instant) {
        self.handle_timeout(now);
        for (sender, sessions) in &mut self.senders {
            match members.contains(sender) {
                true => sessions.forgotten_at = None,
                false => {
                    sessions.forgotten_at.get_or_insert(now + RETIRED_AFTER);
                }
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let forgotten = |sessions: &Sessions| sessions.forgotten_at;
        self.senders.values().filter_map(forgotten).min()
    }

    /// Forgets the keys whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.senders.retain(|_, sessions| sessions.is_kept(now));
    }

    /// What became of frames and keys.
    pub fn counters(&self) -> ReceiverCounters {
        self.counters
    }

    fn take_key(&mut self, from: &ParticipantId, key: &RoomKey) -> Result<Taken, KeyRefused> {
        if key.conference != self.conference {
            return Err(KeyRefused::OtherConference);
        }
        let suite = Suite::from_id(key.cipher_suite);
        let suite = suite.filter(|_| key.algorithm == RoomKey::ALGORITHM);
        let suite = suite.ok_or(KeyRefused::Unsupported)?;
        let ratchet = Ratchet::from_shared(&key.session_key).map_err(|_| KeyRefused::Invalid)?;
        if ratchet.session_id() != key.session_id {
            return Err(KeyRefused::Invalid);
        }
        if self.senders.len() >= SENDERS_MAX && !self.senders.contains_key(from) {
            return Err(KeyRefused::Full);
        }
        let sessions = &mut self.senders.entry(from.clone()).or_default().all;
        let same = |session: &Session| session.inbound.session_id() == key.session_id;
        if sessions.iter().any(same) {
            return Ok(Taken::Again);
        }
        sessions.retain(|session| session.key_id != key.key_id);
        if sessions.len() >= SESSIONS_MAX {
            let idle = sessions.iter().position(|session| !session.used);
            sessions.remove(idle.unwrap_or(0));
        }
        sessions.push(Session {
            key_id: key.key_id,
            inbound: Inbound::new(ratchet, suite),
            used: false,
            retires_at: None,
            next: 0,
        });
        Ok(Taken::New)
    }

    fn open(
        &mut self,
        from: &ParticipantId,
        clear: Clear,
        frame: &[u8],
        now: Instant,
    ) -> Result<Vec<u8>, Refused> {
        let (metadata, sealed) = clear.split(frame).ok_or(HeaderError::Truncated)?;
        let (header, header_bytes, ciphertext) = Header::parse(sealed)?;
        let sessions = self.senders.get_mut(from);
        let sessions = sessions.filter(|sessions| sessions.is_kept(now));
        let sessions = &mut sessions.ok_or(Refused::UnknownSession)?.all;
        sessions.retain(|session| session.retires_at.is_none_or(|at| at > now));
        let session = sessions
            .iter_mut()
            .find(|session| session.key_id == header.key_id)
            .ok_or(Refused::UnknownSession)?;
        let mut out = [metadata, ciphertext].concat();
        let inbound = &mut session.inbound;
        inbound.open(header, header_bytes, metadata, &mut out, metadata.len())?;
        self.counters.late += u64::from(header.counter < session.next);
        session.next = session.next.max(header.counter + 1);
        if !std::mem::replace(&mut session.used, true) {
            let older = sessions
                .iter_mut()
                .filter(|session| session.key_id < header.key_id);
            older.for_each(|session| {
                session.retires_at.get_or_insert(now + RETIRED_AFTER);
            });
        }
        Ok(out)
    }
}

#[derive(Clone, Copy)]
enum Taken {
    New,
    Again,
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver")
            .field("senders", &self.senders.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
