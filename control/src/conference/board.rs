//! The notice board of one conference: everything that can be subscribed to, and each participant's view of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use weir_shard::TrackId;
use weir_signal::{
    channel::{RenderedStream, Snapshot, TrackName},
    metadata::{Stream, StreamMetadata},
    sdp::MediaKind,
};

use super::{ParticipantId, leg::Leg, remote::RemoteStreams};

/// All streams and tracks of a conference. Stream ids are unique in it: see [`super::streams`].
#[derive(Debug, Default)]
pub(super) struct Board {
    streams: BTreeMap<String, Posted>,
    tracks: BTreeMap<TrackName, Advertised>,
}

/// One stream on the board.
#[derive(Debug)]
struct Posted {
    /// The leg that it comes over: its owner's own, or a trunk.
    leg: ParticipantId,
    owner: Option<ParticipantId>,
    stream: Stream,
    /// The same, as everybody is told it.
    rendered: Arc<RenderedStream>,
}

/// One track on the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advertised {
    /// Whose it is.
    pub(super) owner: ParticipantId,
    /// The leg that it comes over: its owner's own, or a trunk.
    pub(super) leg: ParticipantId,
    pub(super) track: TrackId,
    pub(super) kind: MediaKind,
    /// Simulcast layers, as the shard numbers them.
    pub(super) rids: Vec<String>,
    /// The same for all tracks of one publisher, which play in step. Says nothing about who it is.
    pub(super) cname: String,
}

/// Who looks at the board.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewer<'a> {
    pub(super) leg: &'a ParticipantId,
    /// Another focus sees only those who are here themselves. **What came over a trunk goes over no other**: no path has two of
    /// them, so there is no loop.
    pub(super) is_trunk: bool,
}

impl Viewer<'_> {
    fn sees(self, leg: &ParticipantId, owner: Option<&ParticipantId>) -> bool {
        // Nobody is shown to itself, also not as another focus announces it.
        let is_own = leg == self.leg || owner == Some(self.leg);
        !is_own && (!self.is_trunk || owner == Some(leg))
    }
}

impl Board {
    pub(super) fn new<'a>(legs: impl Iterator<Item = &'a Leg>) -> Self {
        let mut board = Self::default();
        for leg in legs {
            match &leg.trunk {
                None => board.post_own(leg),
                Some(trunk) => board.post_remote(leg, &trunk.remote),
            }
        }
        board
    }

    fn post_own(&mut self, leg: &Leg) {
        let owner = leg.participant();
        for (stream_id, mut stream) in leg.streams().advertised() {
            stream.user_id = Some(owner.user_id.clone());
            stream.device_id = Some(owner.device_id.clone());
            self.post(stream_id, owner.clone(), stream);
        }
        for (stream_id, track_id, track, published) in leg.streams().tracks() {
            let advertised = Advertised {
                owner: owner.clone(),
                leg: owner.clone(),
                track,
                kind: published.kind,
                rids: published.rids.iter().map(|rid| rid.id.clone()).collect(),
                cname: format!("weir-{}", leg.transport().0),
            };
            self.tracks.insert(
                TrackName {
                    stream_id: stream_id.to_owned(),
                    track_id: track_id.to_owned(),
                },
                advertised,
            );
        }
    }

    /// Everything that a trunk announces can be asked for; a track is there once it flows.
    fn post_remote(&mut self, leg: &Leg, remote: &RemoteStreams) {
        for (stream_id, stream) in remote.streams() {
            self.post(
                stream_id.to_owned(),
                leg.participant().clone(),
                stream.clone(),
            );
        }
        for (name, owner, track, kind) in remote.tracks() {
            let advertised = Advertised {
                owner: owner.clone(),
                leg: leg.participant().clone(),
                track,
                kind,
                rids: Vec::new(),
                // In step are the tracks of one owner, as far as the trunk keeps them so.
                cname: format!("weir-{}-{}", leg.transport().0, name.stream_id),
            };
            self.tracks.insert(name, advertised);
        }
    }

    fn post(&mut self, stream_id: String, leg: ParticipantId, stream: Stream) {
        let said = (stream.user_id.as_ref(), stream.device_id.as_ref());
        let owner = said.0.zip(said.1);
        let posted = Posted {
            leg,
            owner: owner.map(|(user_id, device_id)| ParticipantId::new(user_id, device_id)),
            rendered: Arc::new(RenderedStream::new(&stream_id, &stream)),
            stream,
        };
        self.streams.insert(stream_id, posted);
    }

    /// What may be subscribed to: everything that does not come from the viewer itself.
    pub(super) fn snapshot_for(&self, viewer: Viewer<'_>) -> Snapshot {
        let seen = self.seen_by(viewer);
        seen.map(|(_, posted)| posted.rendered.clone()).collect()
    }

    /// The same, as it is said in an answer.
    pub(super) fn metadata_for(&self, viewer: Viewer<'_>) -> StreamMetadata {
        let seen = self.seen_by(viewer);
        StreamMetadata {
            streams: seen
                .map(|(id, posted)| (id.clone(), posted.stream.clone()))
                .collect(),
        }
    }

    fn seen_by(&self, viewer: Viewer<'_>) -> impl Iterator<Item = (&String, &Posted)> {
        let streams = self.streams.iter();
        streams.filter(move |(_, posted)| viewer.sees(&posted.leg, posted.owner.as_ref()))
    }

    pub(super) fn track(&self, name: &TrackName) -> Option<&Advertised> {
        self.tracks.get(name)
    }

    /// Whether there is such a track, flowing or not.
    pub(super) fn is_announced(&self, name: &TrackName) -> bool {
        let posted = self.streams.get(&name.stream_id);
        posted.is_some_and(|posted| posted.stream.tracks.contains_key(&name.track_id))
    }

    /// The track that a shard knows by that id. Looks at all of them: who speaks changes a few times a minute.
    pub(super) fn named(&self, track: TrackId) -> Option<(&TrackName, &Advertised)> {
        self.tracks.iter().find(|(_, of)| of.track == track)
    }

    /// The tracks that the viewer may have now.
    pub(super) fn tracks_for(
        &self,
        viewer: Viewer<'_>,
    ) -> impl Iterator<Item = (&TrackName, &Advertised)> {
        self.tracks
            .iter()
            .filter(move |(_, of)| viewer.sees(&of.leg, Some(&of.owner)))
    }

    /// Whether a stream of that id comes over another leg than this one.
    pub(super) fn is_taken(&self, stream_id: &str, leg: &ParticipantId) -> bool {
        self.streams
            .get(stream_id)
            .is_some_and(|posted| posted.leg != *leg)
    }

    /// Those whose streams come over other legs than this one.
    pub(super) fn owners_elsewhere(&self, leg: &ParticipantId) -> BTreeSet<ParticipantId> {
        self.streams
            .values()
            .filter(|posted| posted.leg != *leg)
            .filter_map(|posted| posted.owner.clone())
            .collect()
    }
}
