//! The focus's end of one peer connection in SDP terms: what was agreed, what is wanted, and the descriptions in between.
//!
//! # Kinds of calls
//! * Input from the participant: [`Session::handle_offer`], [`Session::handle_answer`].
//! * Wishes of the conference: [`Session::send_track`], [`Session::stop_track`], [`Session::forget_track`]. They take effect with
//!   the next own offer: while [`Session::needs_offer`], call [`Session::create_offer`] and send it. At most one is outstanding.
//! * What is agreed now: [`Session::published`] (participant to focus), [`Session::sending`] (focus to participant),
//!   [`Session::remote`]. Look again after every `handle_*`.
//!
//! The focus is ICE-lite, bundles everything on one transport, and is always the DTLS server.

use std::net::SocketAddr;

use super::{Candidate, CodecMapping, ExtensionIds, Fingerprint, IceCredentials, MediaKind};

/// What the focus says about its end.
#[derive(Debug, Clone)]
pub struct LocalParameters {
    /// Of the `o=` line: random, less than 2^63.
    pub session_id: u64,
    /// ICE credentials of this transport.
    pub ice: IceCredentials,
    /// The certificate's.
    pub fingerprint: Fingerprint,
    /// Where the shard's sockets can be reached, best first.
    pub addresses: Vec<SocketAddr>,
}

/// What the participant said about its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// ICE credentials.
    pub ice: IceCredentials,
    /// Of its certificate.
    pub fingerprint: Fingerprint,
    /// Candidates of its last description. Not needed by an ICE-lite end.
    pub candidates: Vec<Candidate>,
}

/// The result of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// To be sent back.
    pub answer: String,
    /// The offer began a new ICE generation: the answer has the credentials of [`Session::set_local_ice`].
    pub ice_restarted: bool,
    /// An own offer was outstanding and is now void; [`Session::needs_offer`] says whether there is to be another.
    pub rolled_back: bool,
}

/// One layer of a published track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRid {
    /// The rid.
    pub id: String,
    /// The participant says that it does not flow.
    pub paused: bool,
}

/// A track that the participant publishes, or has published, on one section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The section.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// The stream's id when this track id was first seen. This is the outward one: it never changes under a live track.
    pub stream_id: String,
    /// The stream's id in the last description.
    pub current_stream_id: String,
    /// The track's id.
    pub track_id: String,
    /// Simulcast layers in the order of `a=simulcast`, best first; empty for one layer.
    pub rids: Vec<PublishedRid>,
    /// What it may be sent with.
    pub codecs: Vec<CodecMapping>,
    /// Header extensions in what the participant sends.
    pub extensions: ExtensionIds,
    /// Sources of `a=ssrc` lines; empty with simulcast.
    pub ssrcs: Vec<u32>,
    /// Whether the participant sends now; otherwise the track is to be unpublished.
    pub active: bool,
}

/// A track that the participant shall get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendTrack {
    /// The caller's name for the *track*: the same when it is subscribed to again, never that of another one.
    pub key: u32,
    /// Audio or video.
    pub kind: MediaKind,
    /// As in the metadata.
    pub stream_id: String,
    /// As in the metadata.
    pub track_id: String,
    /// The source of the forwarded packets.
    pub ssrc: u32,
    /// The source of retransmissions, video only.
    pub rtx_ssrc: Option<u32>,
    /// Groups the sources of one publisher.
    pub cname: String,
}

/// A track that the participant has agreed to get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// Of [`SendTrack`].
    pub key: u32,
    /// The section.
    pub mid: String,
    /// With which it may be sent.
    pub codecs: Vec<CodecMapping>,
    /// Header extensions that the participant understands there.
    pub extensions: ExtensionIds,
}

/// Why a description cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// Longer than [`crate::limits::SDP_BYTES_MAX`].
    #[error("description too long")]
    TooLong,
    /// Not SDP.
    #[error("not a session description")]
    Syntax,
    /// More sections than [`crate::limits::SECTIONS_MAX`].
    #[error("too many sections")]
    TooManySections,
    /// A section without `a=mid`, or two with the same.
    #[error("missing or repeated mid")]
    Mid,
    /// No section has ICE credentials, or they are not well-formed.
    #[error("no usable ICE credentials")]
    Ice,
    /// No usable `a=fingerprint`.
    #[error("no usable fingerprint")]
    Fingerprint,
    /// The fingerprint is another one than before: that would be another transport.
    #[error("fingerprint changed")]
    FingerprintChanged,
    /// `a=setup` leaves the focus no passive role.
    #[error("DTLS role not possible")]
    Setup,
    /// Sections differ from the agreed ones in number or order.
    #[error("sections do not match the session's")]
    Sections,
    /// An answer without an outstanding offer; it may be late, and does no harm.
    #[error("no offer is outstanding")]
    NoOffer,
}

/// The focus's end of one peer connection.
#[derive(Debug)]
pub struct Session {
    local: LocalParameters,
}

impl Session {
    /// A session that waits for the participant's first offer.
    pub fn new(local: LocalParameters) -> Session {
        Session { local }
    }

    /// Whether `sdp` is an offer that begins a new ICE generation; then call [`Session::set_local_ice`] before
    /// [`Session::handle_offer`]. False for the first offer and for what cannot be read.
    pub fn restarts_ice(&self, sdp: &str) -> bool {
        let _ = sdp;
        todo!()
    }

    /// Own credentials to be used if the next offer restarts ICE.
    pub fn set_local_ice(&mut self, ice: IceCredentials) {
        let _ = ice;
        todo!()
    }

    /// The own credentials now in use.
    pub fn local_ice(&self) -> &IceCredentials {
        &self.local.ice
    }

    /// Takes an offer, the first or a later one, and gives the answer. An own outstanding offer is rolled back first: the
    /// participant is the impolite side and has dropped it. On an error nothing has changed.
    pub fn handle_offer(&mut self, sdp: &str) -> Result<Offered, SdpError> {
        let _ = sdp;
        todo!()
    }

    /// The participant's end; `None` before the first offer.
    pub fn remote(&self) -> Option<&Remote> {
        todo!()
    }

    /// Tracks of the participant, one per section that has ever had one, in the order of the sections.
    pub fn published(&self) -> Vec<Published> {
        todo!()
    }

    /// Wants a track to be sent (again). Ids that cannot be written into SDP are refused with `false`.
    pub fn send_track(&mut self, track: SendTrack) -> bool {
        let _ = track;
        todo!()
    }

    /// Wants a track no longer to be sent; its section stays reserved for it.
    pub fn stop_track(&mut self, key: u32) {
        let _ = key;
        todo!()
    }

    /// The track does not exist any more and is not advertised to the participant any more: stops it and lets another track have its section.
    pub fn forget_track(&mut self, key: u32) {
        let _ = key;
        todo!()
    }

    /// Whether wishes differ from what was last proposed, and no offer is outstanding.
    pub fn needs_offer(&self) -> bool {
        todo!()
    }

    /// Whether an own offer waits for its answer.
    pub fn offer_outstanding(&self) -> bool {
        todo!()
    }

    /// An own offer with all wishes; `None` while one is outstanding or before the first offer of the participant.
    pub fn create_offer(&mut self) -> Option<String> {
        todo!()
    }

    /// Takes the answer to the outstanding offer. On an error the offer stays outstanding.
    pub fn handle_answer(&mut self, sdp: &str) -> Result<(), SdpError> {
        let _ = sdp;
        todo!()
    }

    /// Withdraws the outstanding offer, if any.
    pub fn rollback(&mut self) {
        todo!()
    }

    /// What has been agreed to be sent and flows, in the order of the sections.
    pub fn sending(&self) -> Vec<Sending> {
        todo!()
    }
}
