//! The notice board of one conference: everything that can be subscribed to, and each participant's view of it.

use std::collections::BTreeMap;

use weir_shard::TrackId;
use weir_signal::{
    channel::TrackName,
    metadata::{Stream, StreamMetadata},
    sdp::MediaKind,
};

use super::{ParticipantId, leg::Leg};

/// All streams and tracks of a conference. Stream ids are unique in it: see [`super::streams`].
#[derive(Debug, Default)]
pub(super) struct Board {
    streams: BTreeMap<String, (ParticipantId, Stream)>,
    tracks: BTreeMap<TrackName, Advertised>,
}

/// One track on the board.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advertised {
    pub(super) owner: ParticipantId,
    pub(super) track: TrackId,
    pub(super) kind: MediaKind,
    /// Simulcast layers, as the shard numbers them.
    pub(super) rids: Vec<String>,
    /// The same for all tracks of one publisher, which play in step. Says nothing about who it is.
    pub(super) cname: String,
}

impl Board {
    pub(super) fn new<'a>(legs: impl Iterator<Item = &'a Leg>) -> Self {
        let mut board = Self::default();
        for leg in legs {
            let owner = leg.participant();
            for (stream_id, mut stream) in leg.streams().advertised() {
                stream.user_id = Some(owner.user_id.clone());
                stream.device_id = Some(owner.device_id.clone());
                board.streams.insert(stream_id, (owner.clone(), stream));
            }
            for (stream_id, track_id, track, published) in leg.streams().tracks() {
                let name = TrackName {
                    stream_id: stream_id.to_owned(),
                    track_id: track_id.to_owned(),
                };
                let cname = format!("weir-{}", leg.transport().0);
                board.tracks.insert(
                    name,
                    Advertised {
                        owner: owner.clone(),
                        track,
                        kind: published.kind,
                        rids: published.rids.iter().map(|rid| rid.id.clone()).collect(),
                        cname,
                    },
                );
            }
        }
        board
    }

    /// What `receiver` may subscribe to: everything but its own streams.
    pub(super) fn snapshot_for(&self, receiver: &ParticipantId) -> StreamMetadata {
        let others = self
            .streams
            .iter()
            .filter(|(_, (owner, _))| owner != receiver);
        StreamMetadata {
            streams: others
                .map(|(id, (_, stream))| (id.clone(), stream.clone()))
                .collect(),
        }
    }

    pub(super) fn track(&self, name: &TrackName) -> Option<&Advertised> {
        self.tracks.get(name)
    }

    /// The track that a shard knows by that id. Looks at all of them: who speaks changes a few times a minute.
    pub(super) fn named(&self, track: TrackId) -> Option<(&TrackName, &Advertised)> {
        self.tracks.iter().find(|(_, of)| of.track == track)
    }

    /// The tracks that `receiver` may have.
    pub(super) fn tracks_of_others(
        &self,
        receiver: &ParticipantId,
    ) -> impl Iterator<Item = &Advertised> {
        self.tracks
            .values()
            .filter(move |advertised| advertised.owner != *receiver)
    }

    /// Whether somebody other than `owner` has a stream of that id.
    pub(super) fn is_taken(&self, stream_id: &str, owner: &ParticipantId) -> bool {
        self.streams
            .get(stream_id)
            .is_some_and(|(other, _)| other != owner)
    }
}
