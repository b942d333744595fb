//! What goes into and comes out of [`Conferences`](super::Conferences), in words that the driver can act on.

use std::time::Duration;

use serde_json::Value;
use weir_shard::{Command, TransportId, labelled};
use weir_signal::sdp;

use super::{happened::Happened, ids::ParticipantId};

/// How a to-device message travels; an answer travels as the invite did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// Readable to the homeservers; the sender's device is a claim.
    Plain,
    /// Olm-encrypted from device to device.
    Olm,
}

/// Who sent a to-device message, as the homeservers (and Olm) vouch for it.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The authenticated user.
    pub user_id: &'a str,
    /// The authenticated device; known only for [`Protection::Olm`]. A message that claims another one is refused.
    pub device_id: Option<&'a str>,
    /// How the message travelled.
    pub protection: Protection,
    /// How long the message is known to have waited; zero if nothing is known. An invite older than its `lifetime` is
    /// refused.
    pub age: Duration,
}

/// What the driver tells about one transport. DTLS itself, and its keys, stay between the driver and the shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportInput {
    /// The first authenticated connectivity check has arrived.
    IceConnected,
    /// A data channel can carry messages.
    ChannelOpen {
        /// Its SCTP stream.
        channel: u16,
        /// Its name; any will do.
        label: String,
    },
    /// A text message has come.
    Text {
        /// The channel it came on.
        channel: u16,
        /// The whole message.
        text: String,
    },
    /// A message has come that is not text.
    Binary {
        /// The channel it came on.
        channel: u16,
    },
    /// The participant has closed a channel.
    ChannelClosed {
        /// The channel.
        channel: u16,
    },
    /// The participant has closed the transport in good order (`close_notify`, RFC 5246 §7.2.1).
    Closed,
    /// The participant has been silent for longer than its consent lasts (RFC 7675).
    ConsentLost,
    /// DTLS or SCTP is over, a send queue is full, or the shard has refused the transport: it cannot carry a call.
    Failed {
        /// For the log.
        reason: String,
    },
}

/// Something for the driver to do, in this order.
#[derive(Debug)]
pub enum Output {
    /// Send a to-device message.
    ToDevice {
        /// To whom.
        to: ParticipantId,
        /// Such as `m.call.answer`.
        event_type: &'static str,
        /// The whole content.
        content: Value,
        /// How it must travel.
        protection: Protection,
    },
    /// Hand a command to a shard.
    Shard {
        /// Index of the shard.
        shard: usize,
        /// The command.
        command: Command,
    },
    /// Make a DTLS association for a transport that the shard already knows.
    OpenTransport {
        /// The new transport.
        id: TransportId,
        /// Index of the shard it lives on.
        shard: usize,
        /// Which part of the handshake is this end's.
        role: DtlsRole,
        /// What the participant's certificate must hash to.
        remote_fingerprint: Fingerprint,
    },
    /// Send a text message on a data channel. If it cannot be queued, the transport has failed.
    SendText {
        /// The transport.
        id: TransportId,
        /// The SCTP stream.
        channel: u16,
        /// The message.
        text: String,
    },
    /// Close the DTLS association; the command that removes the transport from its shard follows.
    CloseTransport {
        /// The transport.
        id: TransportId,
    },
    /// Count something that happened.
    Happened(Happened),
    /// Count something that was not done.
    Refused {
        /// Why.
        reason: Refusal,
    },
}

/// The part of one end in a DTLS handshake (RFC 8842).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// Waits for the other end's first message.
    Server,
    /// Begins, and opens the data channel. The end of a trunk that has called; its transport has an address when the output comes.
    Client,
}

/// The hash of a certificate (RFC 8122).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// In lower case, such as `sha-256`.
    pub algorithm: String,
    /// The hash.
    pub bytes: Vec<u8>,
}

impl From<Fingerprint> for sdp::Fingerprint {
    fn from(fingerprint: Fingerprint) -> Self {
        Self {
            algorithm: fingerprint.algorithm,
            bytes: fingerprint.bytes,
        }
    }
}

impl From<sdp::Fingerprint> for Fingerprint {
    fn from(fingerprint: sdp::Fingerprint) -> Self {
        Self {
            algorithm: fingerprint.algorithm,
            bytes: fingerprint.bytes,
        }
    }
}

labelled! {
    /// Why something was not done. All are the sender's doing or a limit of the operator; none harms anybody else.
    pub enum Refusal {
        /// A to-device message for another session than the focus's.
        NotForFocus => "not_for_focus";
        /// An encrypted message claims another device than the one it came from.
        WrongDevice => "wrong_device";
        /// A content that is missing what it needs.
        MalformedCall => "malformed_call";
        /// An invite whose lifetime is over.
        Expired => "expired";
        /// An invite with the id of a call that is or was here.
        Duplicate => "duplicate";
        /// The sender may not use this conference.
        NotAuthorised => "not_authorised";
        /// The invite of another focus where the operator allows no trunks.
        Trunk => "trunk";
        /// A trunk from this focus to itself.
        TrunkToSelf => "trunk_to_self";
        /// Two foci call each other at once, and this one's call goes on.
        TrunkCrossed => "trunk_crossed";
        /// The conference is connected with all the other foci that it may have.
        TooManyTrunks => "too_many_trunks";
        /// More calls to other foci than are made for one conference, or to one homeserver; it is tried again later.
        TooManyTrunkCalls => "too_many_trunk_calls";
        /// Another focus has not taken the call.
        TrunkRefused => "trunk_refused";
        /// A stream that another focus announces, of somebody who is not there: who is here itself, or at another focus, or in no
        /// room's list of the call.
        NotTheirStream => "not_their_stream";
        /// A wish about another conference than that of the call.
        OtherConference => "other_conference";
        /// More invites than the sender's user may send in a second.
        TooManyInvitesOfUser => "too_many_invites_of_user";
        /// More invites than the sender's homeserver may send in a second.
        TooManyInvitesOfHomeserver => "too_many_invites_of_homeserver";
        /// The focus has all the conferences it may have.
        TooManyConferences => "too_many_conferences";
        /// The conference has all the participants it may have.
        TooManyParticipants => "too_many_participants";
        /// The user has all the devices in the conference that it may have.
        TooManyDevicesOfUser => "too_many_devices_of_user";
        /// The focus has all the participants without media that it may have.
        TooManySlots => "too_many_slots";
        /// The user has all the participants without media that it may have.
        TooManySlotsOfUser => "too_many_slots_of_user";
        /// The focus is about to stop.
        Draining => "draining";
        /// A message about a call that is not here.
        UnknownCall => "unknown_call";
        /// SDP that cannot be used.
        BadSdp => "bad_sdp";
        /// More tracks than a participant may publish.
        TooManyTracks => "too_many_tracks";
        /// More subscriptions than a participant may have.
        TooManySubscriptions => "too_many_subscriptions";
        /// More tracks in one message than a request may name.
        RequestTooLong => "request_too_long";
        /// More data channel messages than a participant may send in a second.
        TooManyMessages => "too_many_messages";
        /// A data channel message that is not one of ours, or not JSON.
        MalformedMessage => "malformed_message";
        /// A data channel message of an unknown type.
        UnknownMessage => "unknown_message";
        /// A binary data channel message.
        BinaryMessage => "binary_message";
        /// A second data channel, or a message on one.
        SecondChannel => "second_channel";
        /// A subscription to a track of the subscriber's own.
        OwnTrack => "own_track";
        /// An answer where no offer is waiting for one.
        UnexpectedAnswer => "unexpected_answer";
    }
}

/// Why the focus ends a call, as the participant is told in `m.call.hangup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangupReason {
    /// No pong in time, or the data channel never opened.
    KeepAliveTimeout,
    /// The transport is gone.
    IceFailed,
    /// The user left the call or the room, or was removed.
    UserHangup,
    /// The focus stops or has been restarted; calling again is welcome.
    Restarting,
    /// An offer was never answered.
    UnknownError,
    /// No media followed in time. Calling again is welcome, with media.
    SlotExpired,
}

impl HangupReason {
    /// As on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeepAliveTimeout => "keep_alive_timeout",
            Self::IceFailed => "ice_failed",
            Self::UserHangup => "user_hangup",
            Self::Restarting => "org.matrix.msc3898.focus_restarting",
            Self::UnknownError => "unknown_error",
            Self::SlotExpired => "org.matrix.msc3898.slot_expired",
        }
    }
}
