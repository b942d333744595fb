//! SCTP inside DTLS (RFC 8261), and the data channels in it (RFC 8831, RFC 8832).
//!
//! sctp-proto is written for many associations on a socket; here there is one, so this file also holds its endpoint, and
//! decides which of two crossing INITs counts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sctp_proto::{
    Association, AssociationError, AssociationHandle, ClientConfig, DatagramEvent, Endpoint,
    EndpointConfig, EndpointEvent, Payload, PayloadProtocolIdentifier as Ppid, ReliabilityType,
    ServerConfig, StreamEvent, TransportConfig,
};

use crate::association::{Event, Failure, Role, SendError};
use crate::dcep::{self, Delivery, Open, Reliability};
use crate::dtls::{DATAGRAM_BYTES_MAX, RECORD_OVERHEAD_BYTES};

/// The longest message, either way: what our SDP and the browsers' announce as `max-message-size`.
pub const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// What may wait to be sent or acknowledged on all channels together. Four of the longest messages: with less, a
/// metadata snapshot beside an offer could be refused to a slow peer; with more, a peer that reads nothing costs more.
pub const SEND_QUEUE_BYTES_MAX: usize = 4 * MESSAGE_BYTES_MAX;

/// Channels, open or opening. A client needs one; the rest is for clients that open more for reasons of their own.
pub const CHANNELS_MAX: usize = 16;

/// The longest label of a channel. RFC 8832 allows 64 KiB, which nobody wants in a log.
pub const LABEL_BYTES_MAX: usize = 256;

/// What may wait for its missing parts: one longest message, and as much again for what else is on its way.
const RECEIVE_BUFFER_BYTES: u32 = 2 * MESSAGE_BYTES_MAX as u32;

/// SCTP's common header and a DATA chunk's (RFC 9260 §3.1, §3.3.1).
const SCTP_OVERHEAD_BYTES: usize = 12 + 16;

/// The most user data in one packet, so that packet and record fit a datagram; chunks are padded to four bytes.
const PAYLOAD_BYTES_MAX: usize =
    (DATAGRAM_BYTES_MAX - RECORD_OVERHEAD_BYTES - SCTP_OVERHEAD_BYTES) & !3;

// RFC 9260 §16 has 1 s, 1 s and 60 s, for the open internet of 2000. The browsers' stacks use values like these: a first
// INIT that is lost delays the call by so much, and a call whose path was away for a minute must not wait another.
const RTO_INITIAL_MS: u64 = 500;
const RTO_MIN_MS: u64 = 300;
const RTO_MAX_MS: u64 = 5_000;

/// sctp-proto wants an address for the peer; inside DTLS there is none.
const NO_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5000);

const CHUNK_TYPE_OFFSET: usize = 12;
const CHUNK_INIT: u8 = 1;
const CHUNK_INIT_ACK: u8 = 2;

/// The SCTP association of one DTLS session and its channels.
pub(crate) struct Sctp {
    role: Role,
    endpoint: Endpoint,
    phase: Phase,
    channels: BTreeMap<u16, Channel>,
    /// Labels of channels to open when there is an association.
    wanted: Vec<String>,
    /// Streams with something to read, lowest first.
    readable: BTreeSet<u16>,
    transmits: VecDeque<Bytes>,
}

// One phase lives for nearly all of the time, and it is the large one.
#[allow(clippy::large_enum_variant)]
enum Phase {
    /// No association yet: DTLS is not done, or it is for the peer to send the first INIT.
    Idle,
    /// Our INIT is out and nothing has come back.
    Initiating(AssociationHandle, Association),
    /// The four-way handshake is past its first answer.
    Handshaking(Association),
    /// Messages can be sent.
    Established(Association),
    /// The peer has closed the association.
    Over,
}

#[derive(Debug)]
enum Channel {
    /// We have sent OPEN.
    Opening { label: String },
    /// Messages may pass.
    Open,
}

impl Phase {
    fn association(&mut self) -> Option<&mut Association> {
        match self {
            Phase::Initiating(_, association)
            | Phase::Handshaking(association)
            | Phase::Established(association) => Some(association),
            Phase::Idle | Phase::Over => None,
        }
    }
}

impl Sctp {
    /// Makes the endpoint; nothing is sent before `start`.
    pub(crate) fn new(role: Role) -> Sctp {
        let mut endpoint = EndpointConfig::new();
        endpoint.max_payload_size(PAYLOAD_BYTES_MAX as u32);
        let mut server = ServerConfig::new();
        server.transport = transport_config();
        Sctp {
            role,
            endpoint: Endpoint::new(Arc::new(endpoint), Some(Arc::new(server))),
            phase: Phase::Idle,
            channels: BTreeMap::new(),
            wanted: Vec::new(),
            readable: BTreeSet::new(),
            transmits: VecDeque::new(),
        }
    }

    /// DTLS is connected. The DTLS client sends an INIT; as the server we wait for the peer's, which always comes.
    pub(crate) fn start(&mut self, _now: Instant) {
        if self.role == Role::Passive || !matches!(self.phase, Phase::Idle) {
            return;
        }
        let mut config = ClientConfig::new();
        config.transport = transport_config();
        // sctp-proto reads the clock here, for the timer of the first INIT only.
        match self.endpoint.connect(config, NO_ADDRESS) {
            Ok((handle, association)) => self.phase = Phase::Initiating(handle, association),
            Err(error) => tracing::debug!(%error, "SCTP association not started"),
        }
    }

    /// Takes one SCTP packet; garbage is dropped, or ends the association.
    pub(crate) fn handle_packet(&mut self, packet: Vec<u8>, now: Instant) {
        match (packet.get(CHUNK_TYPE_OFFSET), &self.phase) {
            // A late copy of the INIT that made this association: sctp-proto would close it.
            (Some(&CHUNK_INIT), Phase::Established(..)) => return,
            (Some(&CHUNK_INIT), Phase::Initiating(..)) => self.yield_to_peer(),
            (Some(&CHUNK_INIT_ACK), Phase::Initiating(..)) => self.phase_to_handshaking(),
            _ => {}
        }
        let event = self
            .endpoint
            .handle(now, NO_ADDRESS, None, None, packet.into());
        match event {
            Some((_, DatagramEvent::NewAssociation(association))) => {
                // One is all there is; later INITs with other tags are not answered.
                self.endpoint.reject_new_associations();
                self.phase = Phase::Handshaking(association);
            }
            Some((_, DatagramEvent::AssociationEvent(event))) => {
                if let Some(association) = self.phase.association() {
                    association.handle_event(event);
                }
            }
            None => {}
        }
    }

    /// Both ends have sent an INIT, and neither has answered: the peer's counts. A peer answers ours too, but an answer
    /// to an association that is gone is dropped.
    fn yield_to_peer(&mut self) {
        if let Phase::Initiating(handle, _) = self.phase {
            self.endpoint.handle_event(handle, EndpointEvent::drained());
            self.phase = Phase::Idle;
        }
    }

    fn phase_to_handshaking(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Initiating(_, association) => {
                self.endpoint.reject_new_associations();
                Phase::Handshaking(association)
            }
            other => other,
        };
    }

    /// Lets timers run off.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(association) = self.phase.association() {
            association.handle_timeout(now);
        }
    }

    /// When `handle_timeout` is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Initiating(_, association)
            | Phase::Handshaking(association)
            | Phase::Established(association) => association.poll_timeout(),
            Phase::Idle | Phase::Over => None,
        }
    }

    /// Whether the peer has ended the association.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// The next SCTP packet for DTLS.
    pub(crate) fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if self.transmits.is_empty() {
            let transmit = self.phase.association()?.poll_transmit(now)?;
            if let Payload::RawEncode(packets) = transmit.payload {
                self.transmits.extend(packets);
            }
        }
        self.transmits.pop_front()
    }

    /// Turns what the association has to say into events, and reads every message that is whole.
    pub(crate) fn pump(
        &mut self,
        events: &mut VecDeque<Event>,
        now: Instant,
    ) -> Result<(), Failure> {
        let _ = now;
        while let Some(event) = self.phase.association().and_then(Association::poll) {
            match event {
                sctp_proto::Event::Connected => self.established(),
                sctp_proto::Event::HandshakeFailed { reason }
                | sctp_proto::Event::AssociationLost { reason } => return self.lost(reason),
                sctp_proto::Event::Stream(event) => self.stream_event(event, events)?,
                _ => {}
            }
        }
        if matches!(self.phase, Phase::Established(..)) {
            while let Some(stream) = self.readable.pop_first() {
                self.read_stream(stream, events);
            }
        }
        Ok(())
    }

    fn established(&mut self) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Initiating(_, association) | Phase::Handshaking(association) => {
                Phase::Established(association)
            }
            other => other,
        };
        for label in std::mem::take(&mut self.wanted) {
            if let Err(error) = self.send_open(label) {
                tracing::debug!(%error, "channel not opened");
            }
        }
    }

    fn lost(&mut self, reason: AssociationError) -> Result<(), Failure> {
        self.phase = Phase::Over;
        match reason {
            AssociationError::AssociationClosed
            | AssociationError::ApplicationClosed
            | AssociationError::LocallyClosed => Ok(()),
            other => Err(Failure::Sctp(other.to_string())),
        }
    }

    fn stream_event(
        &mut self,
        event: StreamEvent,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Failure> {
        match event {
            StreamEvent::Opened { id } => {
                self.readable.insert(id);
                let streams = self.phase.association().map_or(0, |a| a.stream_ids().len());
                // Also those that never say OPEN: each costs memory.
                if streams > CHANNELS_MAX {
                    return Err(Failure::TooManyChannels);
                }
            }
            StreamEvent::Readable { id } => {
                self.readable.insert(id);
            }
            StreamEvent::Finished { id } => {
                // What came before the end is still to be read.
                if self.readable.remove(&id) {
                    self.read_stream(id, events);
                }
                if matches!(self.channels.remove(&id), Some(Channel::Open)) {
                    events.push_back(Event::ChannelClosed { channel: id });
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn read_stream(&mut self, id: u16, events: &mut VecDeque<Event>) {
        while let Some((ppid, message)) = self.read_message(id) {
            let known = matches!(self.channels.get(&id), Some(Channel::Open));
            match ppid {
                Ppid::Dcep => self.handle_dcep(id, &message, events),
                _ if !known => tracing::trace!(id, "message on a stream that is no channel"),
                Ppid::StringEmpty => events.push_back(Event::Text {
                    channel: id,
                    text: String::new(),
                }),
                Ppid::String => events.push_back(match String::from_utf8(message) {
                    Ok(text) => Event::Text { channel: id, text },
                    Err(_) => Event::Binary { channel: id },
                }),
                Ppid::Binary | Ppid::BinaryEmpty => events.push_back(Event::Binary { channel: id }),
                Ppid::Unknown => tracing::trace!(id, "message of an unknown kind"),
            }
        }
    }

    fn read_message(&mut self, id: u16) -> Option<(Ppid, Vec<u8>)> {
        let mut stream = self.phase.association()?.stream(id).ok()?;
        let chunks = stream.read_sctp().ok()??;
        let mut message = vec![0; chunks.len()];
        chunks.read(&mut message).ok()?;
        Some((chunks.ppi, message))
    }

    fn handle_dcep(&mut self, id: u16, message: &[u8], events: &mut VecDeque<Event>) {
        match dcep::Message::parse(message) {
            Ok(dcep::Message::Open(open)) => self.accept(id, open, events),
            Ok(dcep::Message::Ack) => {
                if let Some(Channel::Opening { label }) = self.channels.get_mut(&id) {
                    let label = std::mem::take(label);
                    self.channels.insert(id, Channel::Open);
                    events.push_back(Event::ChannelOpen { channel: id, label });
                }
            }
            Err(error) => tracing::trace!(id, ?error, "channel establishment not understood"),
        }
    }

    fn accept(&mut self, id: u16, open: Open, events: &mut VecDeque<Event>) {
        if matches!(self.channels.get(&id), Some(Channel::Open)) {
            return;
        }
        self.set_delivery(id, open.delivery);
        if let Err(error) = self.write(id, Ppid::Dcep, &dcep::Message::Ack.emit()) {
            tracing::debug!(id, %error, "channel not accepted");
            return;
        }
        self.channels.insert(id, Channel::Open);
        events.push_back(Event::ChannelOpen {
            channel: id,
            label: shortened(open.label),
        });
    }

    fn set_delivery(&mut self, id: u16, delivery: Delivery) {
        let (kind, value) = match delivery.reliability {
            Reliability::Reliable => (ReliabilityType::Reliable, 0),
            Reliability::Retransmissions(count) => (ReliabilityType::Rexmit, count),
            Reliability::LifetimeMs(ms) => (ReliabilityType::Timed, ms),
        };
        if let Some(association) = self.phase.association()
            && let Ok(mut stream) = association.stream(id)
            && let Err(error) = stream.set_reliability_params(!delivery.ordered, kind, value)
        {
            tracing::debug!(id, %error, "delivery of a channel not set");
        }
    }

    /// Opens a channel as soon as there is an association.
    pub(crate) fn open_channel(&mut self, label: &str) -> Result<(), SendError> {
        if label.len() > LABEL_BYTES_MAX {
            return Err(SendError::TooLong);
        }
        if self.channels.len() + self.wanted.len() >= CHANNELS_MAX {
            return Err(SendError::QueueFull);
        }
        match self.phase {
            Phase::Over => Err(SendError::NoChannel),
            Phase::Established(..) => self.send_open(label.to_owned()),
            _ => {
                self.wanted.push(label.to_owned());
                Ok(())
            }
        }
    }

    fn send_open(&mut self, label: String) -> Result<(), SendError> {
        // RFC 8832 §6: the DTLS client's channels have even ids, the server's odd ones.
        let first = match self.role {
            Role::Active => 0,
            Role::Passive => 1,
        };
        let association = self.phase.association().ok_or(SendError::NoChannel)?;
        let id = (first..u16::MAX)
            .step_by(2)
            .find(|id| association.open_stream(*id, Ppid::String).is_ok())
            .ok_or(SendError::QueueFull)?;
        let open = dcep::Message::Open(Open {
            delivery: Delivery::RELIABLE,
            label: label.clone(),
        });
        self.write(id, Ppid::Dcep, &open.emit())?;
        self.channels.insert(id, Channel::Opening { label });
        Ok(())
    }

    /// Queues a text message on an open channel.
    pub(crate) fn send_text(&mut self, id: u16, text: &str) -> Result<(), SendError> {
        if !matches!(self.channels.get(&id), Some(Channel::Open)) {
            return Err(SendError::NoChannel);
        }
        if text.len() > MESSAGE_BYTES_MAX {
            return Err(SendError::TooLong);
        }
        match text {
            // SCTP has no empty messages: a single byte that is not looked at stands for one (RFC 8831 §6.6).
            "" => self.write(id, Ppid::StringEmpty, &[0]),
            text => self.write(id, Ppid::String, text.as_bytes()),
        }
    }

    fn write(&mut self, id: u16, ppid: Ppid, message: &[u8]) -> Result<(), SendError> {
        if self.queued_bytes() + message.len() > SEND_QUEUE_BYTES_MAX {
            return Err(SendError::QueueFull);
        }
        let association = self.phase.association().ok_or(SendError::NoChannel)?;
        let mut stream = association.stream(id).map_err(|_| SendError::NoChannel)?;
        match stream.write_with_ppi(message, ppid) {
            Ok(_) => Ok(()),
            Err(_) => Err(SendError::NoChannel),
        }
    }

    fn queued_bytes(&mut self) -> usize {
        let Some(association) = self.phase.association() else {
            return 0;
        };
        let mut bytes = 0;
        for id in association.stream_ids() {
            if let Ok(stream) = association.stream(id) {
                bytes += stream.buffered_amount().unwrap_or(0);
            }
        }
        bytes
    }
}

fn transport_config() -> Arc<TransportConfig> {
    let config = TransportConfig::default()
        .with_max_receive_buffer_size(RECEIVE_BUFFER_BYTES)
        .with_max_receive_message_size(MESSAGE_BYTES_MAX as u32)
        .with_max_send_message_size(MESSAGE_BYTES_MAX as u32)
        .with_rto_initial_ms(RTO_INITIAL_MS)
        .with_rto_min_ms(RTO_MIN_MS)
        .with_rto_max_ms(RTO_MAX_MS)
        // A path that is away for a while is the shard's to notice (consent), not a reason to give up here.
        .with_max_init_retransmits(None)
        .with_max_data_retransmits(None);
    Arc::new(config)
}

fn shortened(mut label: String) -> String {
    let mut end = label.len().min(LABEL_BYTES_MAX);
    while !label.is_char_boundary(end) {
        end -= 1;
    }
    label.truncate(end);
    label
}
