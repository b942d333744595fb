//! The DTLS associations of all transports, with one timer for all.
//!
//! It moves datagrams, keys and messages between `weir_transport`, the shards and the conferences, and decides nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use weir_shard::{Command, MasterKey, Profile, TransportId};
use weir_transport::{Association, Certificate, Event, Fingerprint, Keys, Role};

use super::metrics::{HandshakeResult, Metrics};
use crate::conference::TransportInput;

/// What this end calls the channel that it opens; nobody reads it.
const CHANNEL_LABEL: &str = "datachannel";

/// What comes out of an association.
pub(super) enum Outcome {
    /// For the shard that the transport lives on.
    Shard { shard: usize, command: Command },
    /// For the conferences.
    Conference {
        id: TransportId,
        input: TransportInput,
    },
}

struct Entry {
    association: Association,
    handshake: Handshake,
    shard: usize,
    deadline: Option<Instant>,
}

/// How far a DTLS handshake is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Handshake {
    /// Nothing has come from the participant.
    Expected,
    /// Its first datagram came then.
    Since(Instant),
    /// It has ended, and was counted.
    Over,
}

/// All associations of a focus.
pub(super) struct Associations {
    certificate: Certificate,
    entries: BTreeMap<TransportId, Entry>,
    deadlines: BTreeSet<(Instant, TransportId)>,
    outcomes: VecDeque<Outcome>,
    metrics: Metrics,
}

impl Associations {
    pub(super) fn new(certificate: Certificate, metrics: Metrics) -> Self {
        Self {
            certificate,
            entries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            outcomes: VecDeque::new(),
            metrics,
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Makes the association of a transport that its shard knows already. An active end begins the handshake at once, and opens
    /// the data channel.
    pub(super) fn open(
        &mut self,
        id: TransportId,
        shard: usize,
        role: Role,
        remote: Fingerprint,
        now: Instant,
    ) {
        let mut association = Association::new(&self.certificate, role, remote, now);
        let handshake = match role {
            Role::Passive => Handshake::Expected,
            Role::Active => {
                // An association that is over already says so by itself.
                let _ = association.open_channel(CHANNEL_LABEL, now);
                Handshake::Since(now)
            }
        };
        self.entries.insert(
            id,
            Entry {
                association,
                handshake,
                shard,
                deadline: None,
            },
        );
        self.settle(id, now);
    }

    /// Takes a datagram from the participant.
    pub(super) fn handle_datagram(&mut self, id: TransportId, datagram: &[u8], now: Instant) {
        if let Some(entry) = self.entries.get_mut(&id) {
            if entry.handshake == Handshake::Expected {
                entry.handshake = Handshake::Since(now);
            }
            entry.association.handle_datagram(datagram, now);
            self.settle(id, now);
        }
    }

    /// Lets every timer run off that is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(deadline, id)) = self.deadlines.first()
            && deadline <= now
        {
            self.deadlines.pop_first();
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.deadline = None;
                entry.association.handle_timeout(now);
                self.settle(id, now);
            }
        }
    }

    /// Queues a message; a transport that cannot take it has failed.
    pub(super) fn send_text(&mut self, id: TransportId, channel: u16, text: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let sent = entry.association.send_text(channel, text, now);
        self.settle(id, now);
        if let Err(error) = sent {
            let input = TransportInput::Failed {
                reason: error.to_string(),
            };
            self.outcomes.push_back(Outcome::Conference { id, input });
        }
    }

    /// Says goodbye and forgets the transport.
    pub(super) fn close(&mut self, id: TransportId, now: Instant) {
        let Some(mut entry) = self.entries.remove(&id) else {
            return;
        };
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        entry.end_handshake(HandshakeResult::Abandoned, &self.metrics, now);
        entry.association.close(now);
        while let Some(datagram) = entry.association.poll_transmit() {
            let command = Command::SendDatagram { id, datagram };
            self.outcomes.push_back(Outcome::Shard {
                shard: entry.shard,
                command,
            });
        }
    }

    /// The next thing for somebody else to do.
    pub(super) fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// When `handle_timeout` is due next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Takes out all that an association has to say, and its new deadline.
    fn settle(&mut self, id: TransportId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        let shard = entry.shard;
        while let Some(datagram) = entry.association.poll_transmit() {
            let command = Command::SendDatagram { id, datagram };
            self.outcomes.push_back(Outcome::Shard { shard, command });
        }
        while let Some(event) = entry.association.poll_event() {
            match event {
                Event::Keys(_) => {
                    entry.end_handshake(HandshakeResult::Completed, &self.metrics, now);
                }
                Event::Failed(_) => {
                    self.metrics.associations_failed.add(1);
                    entry.end_handshake(HandshakeResult::Failed, &self.metrics, now);
                }
                _ => {}
            }
            self.outcomes.push_back(outcome(id, shard, event));
        }
        let deadline = entry.association.poll_timeout();
        if deadline != entry.deadline {
            if let Some(old) = entry.deadline {
                self.deadlines.remove(&(old, id));
            }
            self.deadlines.extend(deadline.map(|new| (new, id)));
            entry.deadline = deadline;
        }
    }
}

impl Entry {
    /// Counts the end of the handshake, unless that was done before.
    fn end_handshake(&mut self, result: HandshakeResult, metrics: &Metrics, now: Instant) {
        let handshake = std::mem::replace(&mut self.handshake, Handshake::Over);
        if handshake == Handshake::Over {
            return;
        }
        metrics.handshakes[result as usize].add(1);
        if let (Handshake::Since(began), HandshakeResult::Completed) = (handshake, result) {
            let took = now.saturating_duration_since(began);
            metrics.handshake_time.record(took.as_micros() as u64);
        }
    }
}

/// Says to whom an event goes, and in which words.
fn outcome(id: TransportId, shard: usize, event: Event) -> Outcome {
    let input = match event {
        Event::Keys(keys) => match install(id, &keys) {
            Some(command) => return Outcome::Shard { shard, command },
            None => TransportInput::Failed {
                reason: "unknown SRTP profile".to_owned(),
            },
        },
        Event::ChannelOpen { channel, label } => TransportInput::ChannelOpen { channel, label },
        Event::Text { channel, text } => TransportInput::Text { channel, text },
        Event::Binary { channel } => TransportInput::Binary { channel },
        Event::ChannelClosed { channel } => TransportInput::ChannelClosed { channel },
        Event::Failed(failure) => TransportInput::Failed {
            reason: failure.to_string(),
        },
        Event::Closed => TransportInput::Closed,
    };
    Outcome::Conference { id, input }
}

/// The command that gives the shard what DTLS agreed on.
fn install(id: TransportId, keys: &Keys) -> Option<Command> {
    let profile = Profile::from_dtls_id(keys.profile_id)?;
    let local = MasterKey::new(profile, &keys.local_key, &keys.local_salt).ok()?;
    let remote = MasterKey::new(profile, &keys.remote_key, &keys.remote_salt).ok()?;
    Some(Command::InstallKeys {
        id,
        profile,
        local,
        remote,
    })
}
