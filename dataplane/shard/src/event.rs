//! What a shard tells control.

use std::net::SocketAddr;

use crate::ids::{ConferenceId, LayerSet, SubscriptionId, TrackId, TransportId};
use crate::status::{Speakers, SubscriptionStatus, Traffic, TransportStatus};

/// One message to control.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// The first authenticated check arrived, or the first authenticated answer to one: datagrams can be sent.
    IceConnected {
        /// The transport.
        id: TransportId,
        /// Where the participant is.
        remote: SocketAddr,
    },
    /// The participant moved: an authenticated check, or an answer to one after a restart, chose another address.
    RemoteChanged {
        /// The transport.
        id: TransportId,
        /// Where the participant is now.
        remote: SocketAddr,
    },
    /// A DTLS datagram, only ever from an authenticated address.
    Datagram {
        /// The transport it belongs to.
        id: TransportId,
        /// The datagram as it came.
        datagram: Vec<u8>,
    },
    /// No authenticated check or answer for 30 s (RFC 7675): the transport is silent until a check comes or control removes it. Of
    /// one that makes the checks itself ([`crate::Command::CheckRemotes`]) also that no address has answered within 10 s; it
    /// checks again when control restarts ICE or names addresses.
    ConsentLost {
        /// The transport.
        id: TransportId,
    },
    /// Other participants speak than the last time this was said, or in another order.
    Speakers {
        /// The conference.
        conference: ConferenceId,
        /// Loudest first.
        speakers: Speakers,
    },
    /// Which layers of a simulcast track anybody needs: soon after the track was added, and after it changed. What is not among
    /// them may be paused.
    LayersInUse {
        /// The track.
        track: TrackId,
        /// Its publisher's transport.
        transport: TransportId,
        /// The layers that somebody gets or waits for, or did until a few seconds ago.
        layers: LayerSet,
    },
    /// What a participant can be sent, after it changed.
    TransportStatus {
        /// The transport.
        id: TransportId,
        /// What is known now.
        status: TransportStatus,
    },
    /// The answer to [`crate::Command::MeasureTransport`]. There is none while control takes events more slowly than they come.
    TransportMeasured {
        /// The transport.
        id: TransportId,
        /// What has gone over it.
        traffic: Traffic,
    },
    /// What a subscriber gets and why it is not more, after it changed.
    SubscriptionStatus {
        /// The subscription.
        id: SubscriptionId,
        /// The subscriber's transport.
        transport: TransportId,
        /// What is known now.
        status: SubscriptionStatus,
    },
}
