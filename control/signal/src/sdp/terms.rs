//! What goes into a [`super::Session`] and what is agreed in it.

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
    /// The offer began a new ICE generation: the answer has the credentials of [`super::Session::set_local_ice`].
    pub ice_restarted: bool,
    /// An own offer was outstanding and is now void; [`super::Session::needs_offer`] says whether there is to be another.
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
    /// Sources of `a=ssrc` lines, without those of retransmissions; empty with simulcast.
    pub ssrcs: Vec<u32>,
    /// Sources of retransmissions, each for the source at its place in `ssrcs` as far as groups were said.
    pub rtx_ssrcs: Vec<u32>,
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
