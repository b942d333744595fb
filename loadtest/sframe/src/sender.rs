//! The sending side: own sessions, who has them, and which one is used.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::Clear;
use crate::cipher::{Suite, TAG_BYTES};
use crate::header::{BYTES_MAX, Header};
use crate::ratchet::{Ratchet, Signer};
use crate::room_key::{Conference, ParticipantId, RoomKey, RoomKeyReceived};

/// So long after a departure the new session is used at the latest, whoever has not confirmed it.
///
/// Until then whoever left could still decrypt. A message to a device takes well under a second on one homeserver, and a second
/// or two between two. More waits longer for a device that will never answer; less leaves out those who are only slow: they see
/// nothing until their key is there.
pub const SWITCH_WITHIN: Duration = Duration::from_secs(5);

/// A key that is not confirmed is sent again after this.
pub const REPEAT_AFTER: Duration = Duration::from_secs(3);

/// A key to be sent to one device, over Olm.
#[derive(Debug, Clone)]
pub struct Share {
    /// To whom.
    pub to: ParticipantId,
    /// What.
    pub key: RoomKey,
}

/// Why a frame was not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// It has no byte that could stay readable.
    #[error("an empty frame")]
    Empty,
    /// The session has encrypted 2³² - 1 frames, the most that megolm counts: almost a year.
    #[error("the session is used up")]
    Exhausted,
}

/// What a sender has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderCounters {
    /// Frames encrypted.
    pub encrypted: u64,
    /// Keys handed out to be sent, repetitions included.
    pub shared: u64,
    /// Among them repetitions.
    pub repeated: u64,
    /// Confirmations.
    pub confirmed: u64,
    /// Departures that made a new session.
    pub departures: u64,
    /// Changes to a new session that everybody had confirmed.
    pub switches: u64,
    /// Changes to one that not everybody had confirmed within [`SWITCH_WITHIN`].
    pub switches_unconfirmed: u64,
    /// From the departure until the new session was used, over all changes, in microseconds.
    pub switch_us: u64,
    /// The longest of them, in microseconds.
    pub switch_longest_us: u64,
}

impl AddAssign for SenderCounters {
    fn add_assign(&mut self, other: SenderCounters) {
        self.encrypted += other.encrypted;
        self.shared += other.shared;
        self.repeated += other.repeated;
        self.confirmed += other.confirmed;
        self.departures += other.departures;
        self.switches += other.switches;
        self.switches_unconfirmed += other.switches_unconfirmed;
        self.switch_us += other.switch_us;
        self.switch_longest_us = self.switch_longest_us.max(other.switch_longest_us);
    }
}

impl SenderCounters {
    fn count_switch(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.switch_us += us;
        self.switch_longest_us = self.switch_longest_us.max(us);
    }
}

/// Encrypts one device's frames, all its streams alike.
pub struct Sender {
    conference: Conference,
    suite: Suite,
    rng: StdRng,
    members: BTreeSet<ParticipantId>,
    current: Session,
    /// Made at a departure, and not used yet.
    next: Option<Next>,
    counters: SenderCounters,
}

struct Session {
    key_id: u64,
    ratchet: Ratchet,
    signer: Signer,
    holders: BTreeMap<ParticipantId, Holder>,
}

/// How far a member has a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    Owed,
    ToldAt(Instant),
    Confirmed,
}

struct Next {
    session: Session,
    /// When the first departure was seen that it is for.
    since: Instant,
}

impl Next {
    fn deadline(&self) -> Instant {
        self.since + SWITCH_WITHIN
    }
}

impl Sender {
    /// With a first session, which nobody has. `rng` must have been seeded by the system, save in simulations.
    pub fn new(conference: Conference, suite: Suite, mut rng: StdRng) -> Sender {
        Sender {
            current: Session::new(0, &BTreeSet::new(), &mut rng),
            conference,
            suite,
            rng,
            members: BTreeSet::new(),
            next: None,
            counters: SenderCounters::default(),
        }
    }

    /// Takes over who else is in the conference: newcomers will get the session from here on, and a departure makes a new one.
    ///
    /// A departure while a new session is waiting replaces that, since whoever left may have its key; the time by which it
    /// is used stays that of the first departure.
    pub fn set_members(&mut self, members: BTreeSet<ParticipantId>, now: Instant) {
        let departed = !self.members.is_subset(&members);
        self.members = members;
        if departed {
            self.counters.departures += 1;
            let next = self.next.as_ref();
            let newest = next.map_or(&self.current, |next| &next.session);
            let key_id = newest.key_id + 1;
            let since_first = next.map(|next| next.since);
            self.next = Some(Next {
                session: Session::new(key_id, &self.members, &mut self.rng),
                since: since_first.unwrap_or(now),
            });
        }
        let next = self.next.as_mut().map(|next| &mut next.session);
        for session in [&mut self.current].into_iter().chain(next) {
            session.set_holders(&self.members);
        }
        self.switch_if_confirmed(now);
    }

    /// A key that is to be sent, until `None`. If that fails, it comes again after [`REPEAT_AFTER`], as one does that is not confirmed.
    pub fn poll_share(&mut self, now: Instant) -> Option<Share> {
        let next = self.next.as_mut().map(|next| &mut next.session);
        // The new session first: media waits for it.
        let (session, to, again) = next
            .into_iter()
            .chain([&mut self.current])
            .find_map(|session| session.told(now).map(|(to, again)| (session, to, again)))?;
        self.counters.shared += 1;
        self.counters.repeated += u64::from(again);
        let key = RoomKey {
            algorithm: RoomKey::ALGORITHM.to_owned(),
            conference: self.conference.clone(),
            session_id: session.ratchet.session_id(),
            session_key: session.ratchet.share(&session.signer).to_string(),
            key_id: session.key_id,
            cipher_suite: self.suite.id(),
        };
        Some(Share { to, key })
    }

    /// Takes a member's confirmation; one of a stranger, or for a session that is past, changes nothing.
    pub fn handle_received(
        &mut self,
        from: &ParticipantId,
        received: &RoomKeyReceived,
        now: Instant,
    ) {
        if received.conference != self.conference {
            return;
        }
        let next = self.next.as_mut().map(|next| &mut next.session);
        let session = [&mut self.current]
            .into_iter()
            .chain(next)
            .find(|session| session.ratchet.session_id() == received.session_id);
        let Some(holder) = session.and_then(|session| session.holders.get_mut(from)) else {
            return;
        };
        if matches!(holder, Holder::ToldAt(_)) {
            *holder = Holder::Confirmed;
            self.counters.confirmed += 1;
            self.switch_if_confirmed(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_share`](Self::poll_share) has something to do again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let next = self.next.as_ref();
        let repeats = [Some(&self.current), next.map(|next| &next.session)];
        let repeats = repeats.into_iter().flatten().filter_map(Session::repeat_at);
        repeats.chain(next.map(Next::deadline)).min()
    }

    /// Uses the new session if its time has come. Who has not confirmed it is told again until it does.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(next) = self.next.take_if(|next| next.deadline() <= now) {
            self.current = next.session;
            self.counters.switches_unconfirmed += 1;
            self.counters.count_switch(now - next.since);
        }
    }

    /// Encrypts a frame under the next index of the session in use: clear bytes, SFrame header, ciphertext and tag.
    ///
    /// # Errors
    /// [`EncryptError`]; nothing changes.
    pub fn encrypt(&mut self, clear: Clear, frame: &[u8]) -> Result<Vec<u8>, EncryptError> {
        let (metadata, rest) = clear.split(frame).ok_or(EncryptError::Empty)?;
        let session = &mut self.current;
        let index = session.ratchet.index();
        let next = index.checked_add(1).ok_or(EncryptError::Exhausted)?;
        let secret = session.ratchet.secret_at(self.suite, index);
        let secret = secret.expect("a ratchet knows the index at which it stands");
        let header = Header {
            key_id: session.key_id,
            counter: index.into(),
        };
        let mut out = Vec::with_capacity(frame.len() + BYTES_MAX + TAG_BYTES);
        out.extend_from_slice(metadata);
        secret.seal(header, metadata, rest, &mut out);
        session.ratchet.advance_to(next);
        self.counters.encrypted += 1;
        Ok(out)
    }

    /// KID of the session in use.
    pub fn key_id(&self) -> u64 {
        self.current.key_id
    }

    /// Whether a new session waits for confirmations.
    pub fn is_switching(&self) -> bool {
        self.next.is_some()
    }

    /// What was done.
    pub fn counters(&self) -> SenderCounters {
        self.counters
    }

    fn switch_if_confirmed(&mut self, now: Instant) {
        if let Some(next) = self.next.take_if(|next| next.session.is_confirmed()) {
            self.current = next.session;
            self.counters.switches += 1;
            self.counters
                .count_switch(now.saturating_duration_since(next.since));
        }
    }
}

impl Session {
    fn new(key_id: u64, members: &BTreeSet<ParticipantId>, rng: &mut StdRng) -> Session {
        let (ratchet, signer) = Ratchet::random(rng);
        let owed = members.iter().map(|member| (member.clone(), Holder::Owed));
        Session {
            key_id,
            ratchet,
            signer,
            holders: owed.collect(),
        }
    }

    fn set_holders(&mut self, members: &BTreeSet<ParticipantId>) {
        self.holders.retain(|holder, _| members.contains(holder));
        for member in members {
            if !self.holders.contains_key(member) {
                self.holders.insert(member.clone(), Holder::Owed);
            }
        }
    }

    /// Marks one to whom the session is to be sent (again) as told; says whether it is a repetition.
    fn told(&mut self, now: Instant) -> Option<(ParticipantId, bool)> {
        let due = |holder: &Holder| match holder {
            Holder::Owed => true,
            Holder::ToldAt(at) => *at + REPEAT_AFTER <= now,
            Holder::Confirmed => false,
        };
        let (to, holder) = self.holders.iter_mut().find(|(_, holder)| due(holder))?;
        let again = std::mem::replace(holder, Holder::ToldAt(now)) != Holder::Owed;
        Some((to.clone(), again))
    }

    fn repeat_at(&self) -> Option<Instant> {
        let told = self.holders.values().filter_map(|holder| match holder {
            Holder::ToldAt(at) => Some(*at + REPEAT_AFTER),
            Holder::Owed | Holder::Confirmed => None,
        });
        told.min()
    }

    fn is_confirmed(&self) -> bool {
        self.holders
            .values()
            .all(|holder| *holder == Holder::Confirmed)
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender")
            .field("members", &self.members.len())
            .field("key_id", &self.current.key_id)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
