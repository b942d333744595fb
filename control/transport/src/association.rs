//! One association: a DTLS session, the SCTP association inside it, and its data channels.

use std::collections::VecDeque;
use std::time::Instant;

use crate::certificate::{Certificate, Fingerprint};
use crate::dtls::{Keys, Notice, Session};
use crate::sctp::Sctp;

/// Which end starts the DTLS handshake (RFC 4145, RFC 8842).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `a=setup:active`: we are the DTLS client.
    Active,
    /// `a=setup:passive`: the peer is. What the focus answers to everyone, because the DTLS server chooses the SRTP
    /// profile.
    Passive,
}

/// What has happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer is who signalling said it is, and media can be keyed. Once in an association's life, before any
    /// channel event.
    Keys(Keys),
    /// A channel can carry messages both ways.
    ChannelOpen {
        /// The SCTP stream, the channel's only identity.
        channel: u16,
        /// The name the opener gave it.
        label: String,
    },
    /// A text message came.
    Text {
        /// The channel.
        channel: u16,
        /// The whole message.
        text: String,
    },
    /// A message came that is not text; it is not kept.
    Binary {
        /// The channel.
        channel: u16,
    },
    /// The peer has closed a channel.
    ChannelClosed {
        /// The channel.
        channel: u16,
    },
    /// The association is over by a fault. Nothing follows.
    Failed(Failure),
    /// The association is over because one side closed it. Nothing follows.
    Closed,
}

/// Why an association ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The peer: its certificate is not the one that signalling announced.
    #[error("the peer's certificate does not match its fingerprint")]
    Fingerprint,
    /// The peer or the network: no handshake in time.
    #[error("the DTLS handshake timed out")]
    HandshakeTimeout,
    /// The peer: it broke DTLS, or shares no cipher with us.
    #[error("DTLS: {0}")]
    Dtls(String),
    /// The peer: it broke SCTP, or aborted it.
    #[error("SCTP: {0}")]
    Sctp(String),
    /// The peer: more channels than [`crate::CHANNELS_MAX`], opened or half opened.
    #[error("the peer has opened too many channels")]
    TooManyChannels,
}

/// Why a message was not queued. All are the caller's or the peer's doing and leave the association as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no such open channel.
    #[error("no such open channel")]
    NoChannel,
    /// Longer than [`crate::MESSAGE_BYTES_MAX`].
    #[error("message is too long for a data channel")]
    TooLong,
    /// The peer does not take what is already queued.
    #[error("the send queue of the association is full")]
    QueueFull,
}

/// A DTLS session with one peer and the data channels in it.
///
/// Calls are of three kinds. `handle_datagram`, `handle_timeout`, `send_text`, `open_channel` and `close` put something
/// in. `poll_transmit` and `poll_event` take out what came of it. `poll_timeout` says when `handle_timeout` is due.
///
/// **After every call that puts something in, both `poll_transmit` and `poll_event` are called until they give
/// nothing.** The queues behind them are only bounded by what one such call can produce.
pub struct Association {
    phase: Phase,
    sctp: Sctp,
    events: VecDeque<Event>,
}

// The session is nearly all of an association for nearly all of its life.
#[allow(clippy::large_enum_variant)]
enum Phase {
    /// Handshaking or connected.
    Running(Session),
    /// Over; the last datagrams may still be waiting.
    Over(VecDeque<Vec<u8>>),
}

impl Association {
    /// Starts an association. An active one has something to send at once.
    ///
    /// The peer must show a certificate with `remote_fingerprint`, else the association fails.
    pub fn new(
        certificate: &Certificate,
        role: Role,
        remote_fingerprint: Fingerprint,
        now: Instant,
    ) -> Association {
        let (phase, events) = match Session::new(certificate, role, remote_fingerprint, now) {
            Ok(session) => (Phase::Running(session), VecDeque::new()),
            Err(failure) => {
                let failed = VecDeque::from([Event::Failed(failure)]);
                (Phase::Over(VecDeque::new()), failed)
            }
        };
        let mut association = Association {
            phase,
            sctp: Sctp::new(role),
            events,
        };
        association.handle_timeout(now);
        association
    }

    /// Takes a DTLS datagram from the peer; garbage is dropped.
    pub fn handle_datagram(&mut self, datagram: &[u8], now: Instant) {
        self.drive(now, |session, notices| {
            session.handle_datagram(datagram, notices, now)
        });
    }

    /// Lets timers run off: retransmissions, and giving up.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sctp.handle_timeout(now);
        self.drive(now, |session, notices| session.handle_timeout(notices, now));
    }

    /// Queues a text message.
    pub fn send_text(&mut self, channel: u16, text: &str, now: Instant) -> Result<(), SendError> {
        if self.is_over() {
            return Err(SendError::NoChannel);
        }
        self.sctp.send_text(channel, text)?;
        self.drive(now, |_, _| Ok(()));
        Ok(())
    }

    /// Opens an ordered, reliable channel; [`Event::ChannelOpen`] follows when the peer has agreed.
    ///
    /// It may be called before the association is connected.
    pub fn open_channel(&mut self, label: &str, now: Instant) -> Result<(), SendError> {
        if self.is_over() {
            return Err(SendError::NoChannel);
        }
        self.sctp.open_channel(label)?;
        self.drive(now, |_, _| Ok(()));
        Ok(())
    }

    /// Closes the association; what it still has to send tells the peer so.
    pub fn close(&mut self, _now: Instant) {
        if let Phase::Running(session) = &mut self.phase {
            session.close();
        }
        self.finish(Event::Closed);
    }

    /// The next datagram to send to the peer.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        match &mut self.phase {
            Phase::Running(session) => session.poll_transmit(),
            Phase::Over(last) => last.pop_front(),
        }
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When `handle_timeout` is due; `None` once the association is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Running(session) => {
                let deadlines = [session.poll_timeout(), self.sctp.poll_timeout()];
                deadlines.into_iter().flatten().min()
            }
            Phase::Over(_) => None,
        }
    }

    /// Whether the association has failed or was closed, by either side.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over(_))
    }

    /// Runs one input through the session, what comes of it through SCTP, and what that wants to send back through
    /// the session.
    fn drive(
        &mut self,
        now: Instant,
        input: impl FnOnce(&mut Session, &mut Vec<Notice>) -> Result<(), Failure>,
    ) {
        let Phase::Running(session) = &mut self.phase else {
            return;
        };
        let mut notices = Vec::new();
        let mut result = input(session, &mut notices);
        while result.is_ok() {
            for notice in notices.drain(..) {
                match notice {
                    Notice::Keys(keys) => self.events.push_back(Event::Keys(keys)),
                    Notice::Connected => self.sctp.start(now),
                    Notice::Data(packet) => self.sctp.handle_packet(packet, now),
                    Notice::Closed => {
                        self.finish(Event::Closed);
                        return;
                    }
                }
            }
            result = self.sctp.pump(&mut self.events, now);
            let mut sent = false;
            while result.is_ok()
                && let Some(packet) = self.sctp.poll_transmit(now)
            {
                sent = true;
                result = session.send(&packet, &mut notices);
            }
            if !sent && notices.is_empty() {
                break;
            }
        }
        match result {
            Ok(()) if self.sctp.is_over() => self.close(now),
            Ok(()) => {}
            Err(failure) => self.finish(Event::Failed(failure)),
        }
    }

    /// Ends the association, if it is not over already; what is still to be sent can be polled.
    fn finish(&mut self, last: Event) {
        if let Phase::Running(session) = &mut self.phase {
            let datagrams = std::iter::from_fn(|| session.poll_transmit()).collect();
            self.phase = Phase::Over(datagrams);
            self.events.push_back(last);
        }
    }
}
