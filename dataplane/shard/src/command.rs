//! What control tells a shard.

use std::net::SocketAddr;

use weir_srtp::{MasterKey, Profile};

use crate::ids::{
    CodecMapping, ConferenceId, ExtensionIds, MediaKind, Purpose, Size, SubscriptionId, TrackId,
    TransportId,
};

/// One instruction from control. A command that names something the shard does not have is counted and otherwise ignored:
/// it crossed a removal on its way.
#[derive(Debug)]
pub enum Command {
    /// Starts to answer connectivity checks for a new transport.
    AddTransport {
        /// The new transport.
        id: TransportId,
        /// Both ends' credentials.
        ice: IceCredentials,
        /// Whether the other end is a focus: then what it carries is counted as a trunk's.
        is_trunk: bool,
    },
    /// Replaces the credentials; the old ones are answered until the first check with the new ones arrives. A transport that makes
    /// the checks itself ([`Command::CheckRemotes`]) makes them with the new ones at once.
    RestartIce {
        /// The transport that restarts.
        id: TransportId,
        /// The new credentials of both ends.
        ice: IceCredentials,
    },
    /// Makes a transport the controlling agent (RFC 8445 §6.1.1), which calls a lite one: checks the other end's addresses until
    /// one answers, uses that one ([`crate::Event::IceConnected`]), and goes on checking it so that the consent of both ends lasts.
    /// [`crate::Event::ConsentLost`] says that none answered within 10 s, or that the one does not any more.
    ///
    /// Again for the same transport, it checks these instead. [`Command::RestartIce`] begins anew with the same addresses;
    /// until one answers, what was used goes on being used.
    ///
    /// Its path is all that tells whose a datagram is, so one path belongs to one transport. An address is asked from the first
    /// socket on which no other transport has or checks it, those to call from first ([`crate::Config::calling_sockets`]); if there
    /// is none, it is left out.
    CheckRemotes {
        /// The transport, added before.
        id: TransportId,
        /// The other end's candidates, best first; at most [`crate::limits::REMOTES_MAX`] are checked, others are counted. Each is
        /// sent to from a socket of its address family; if the runtime has none, the sends come to nothing.
        remotes: Vec<SocketAddr>,
    },
    /// Gives the keys that DTLS agreed on; before it, media of this transport is dropped and counted.
    InstallKeys {
        /// The transport whose handshake is complete.
        id: TransportId,
        /// The negotiated protection profile.
        profile: Profile,
        /// The key for what the focus sends.
        local: MasterKey,
        /// The key for what the participant sends.
        remote: MasterKey,
    },
    /// Sends one DTLS datagram to the selected address.
    SendDatagram {
        /// The transport to send on.
        id: TransportId,
        /// The datagram, at most [`crate::limits::DATAGRAM_BYTES_MAX`].
        datagram: Vec<u8>,
    },
    /// Asks what has gone over a transport so far: [`crate::Event::TransportMeasured`] answers.
    MeasureTransport {
        /// The transport.
        id: TransportId,
    },
    /// Forgets a transport with its tracks and subscriptions.
    RemoveTransport {
        /// The transport to forget.
        id: TransportId,
    },
    /// Starts to accept the packets of a published track.
    AddTrack(AddTrack),
    /// Tells what signalling says about a track's purpose, size and mute state.
    UpdateTrack {
        /// The track that changed.
        track: TrackId,
        /// What it shows or says.
        purpose: Purpose,
        /// The size of its highest layer as signalled; the bitstream's own size goes first where it is readable.
        size: Option<Size>,
        /// Whether the publisher has muted it: a muted track's silence is no fault.
        muted: bool,
    },
    /// Forgets a track and ends its subscriptions.
    RemoveTrack {
        /// The track to forget.
        track: TrackId,
    },
    /// Starts to forward a track to a subscriber.
    Subscribe(Subscribe),
    /// Changes the picture size that a subscriber asks for.
    SetWanted {
        /// The subscription.
        id: SubscriptionId,
        /// The size of the tile; `None` is the lowest layer.
        wanted: Option<Size>,
    },
    /// Stops forwarding.
    Unsubscribe {
        /// The subscription to end.
        id: SubscriptionId,
    },
}

/// The user name fragments and passwords of both ends of a transport (RFC 8445 §5.3).
#[derive(Clone)]
pub struct IceCredentials {
    /// The focus's fragment; unique on the shard.
    pub local_ufrag: String,
    /// The key of the checks that the participant sends, and of the answers to them.
    pub local_pwd: String,
    /// The participant's fragment.
    pub remote_ufrag: String,
    /// The participant's password: the key of the checks that [`Command::CheckRemotes`] makes. Otherwise the focus is lite, sends
    /// none, and does not use it.
    pub remote_pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials")
            .field("local_ufrag", &self.local_ufrag)
            .finish_non_exhaustive()
    }
}

/// A published track, as negotiated.
#[derive(Clone, Debug)]
pub struct AddTrack {
    /// The new track.
    pub track: TrackId,
    /// The publisher's transport.
    pub transport: TransportId,
    /// The conference that it is published in.
    pub conference: ConferenceId,
    /// What it shows or says.
    pub purpose: Purpose,
    /// The media section's identification tag, as in the publisher's packets; at most 16 bytes.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// The negotiated payload types.
    pub codecs: Vec<CodecMapping>,
    /// The header extension ids of the publisher's packets.
    pub extensions: ExtensionIds,
    /// The simulcast layers, highest quality first, as in SDP; empty means one layer without a rid.
    pub rids: Vec<String>,
    /// The SSRCs from `a=ssrc` (media first, then its retransmissions); may be empty.
    pub ssrcs: Vec<u32>,
    /// The size of the highest layer as signalled.
    pub size: Option<Size>,
}

/// A subscription, as negotiated with the subscriber.
#[derive(Clone, Debug)]
pub struct Subscribe {
    /// The new subscription.
    pub id: SubscriptionId,
    /// The subscriber's transport.
    pub transport: TransportId,
    /// The track to forward.
    pub track: TrackId,
    /// The media section's identification tag at the subscriber; at most 16 bytes.
    pub mid: String,
    /// The SSRC that the subscriber sees for the whole life of the subscription.
    pub ssrc: u32,
    /// The SSRC of retransmissions; used for codecs that have a payload type for them. Without either, a packet is sent again
    /// as it was.
    pub rtx_ssrc: Option<u32>,
    /// The canonical name in the sender reports; the same for tracks of one publisher that play in step.
    pub cname: String,
    /// The subscriber's payload types: what it takes.
    pub codecs: Vec<CodecMapping>,
    /// The header extension ids at the subscriber.
    pub extensions: ExtensionIds,
    /// The size of the tile; `None` is the lowest layer.
    pub wanted: Option<Size>,
}
