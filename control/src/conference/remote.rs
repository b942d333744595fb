//! What another focus announces over a trunk: the streams of those who are connected to it, and which of them flow here.
//!
//! Announced streams stand on the board at once, so that participants can ask for them. A track of theirs exists on the shard
//! only while somebody here wants it: then the other focus offers it, in a section whose `a=msid` has its name.
//!
//! Nothing that the other focus says is taken on trust: who announces somebody that is here, or that another trunk has announced
//! before, or of whom no room says that it publishes there, is not heard.

use std::collections::BTreeMap;

use weir_shard::{Command, Size, TrackId};
use weir_signal::{
    channel::TrackName,
    metadata::{self, StreamMetadata},
    sdp::{MediaKind, Published},
};

use super::{
    ParticipantId, limits, mapping,
    shared::Shared,
    streams::{Changes, Origin, add_track, is_same_for_the_shard, is_token},
};

/// The streams of all participants of one other focus.
#[derive(Debug, Default)]
pub(super) struct RemoteStreams {
    /// What the other focus said last: always everything.
    said: StreamMetadata,
    /// What of it stands on the board, by the id that it has there.
    posted: BTreeMap<String, RemoteStream>,
}

#[derive(Debug)]
struct RemoteStream {
    /// The id that the other focus knows it by.
    theirs: String,
    owner: ParticipantId,
    stream: metadata::Stream,
    /// The tracks that flow.
    tracks: BTreeMap<String, RemoteTrack>,
}

#[derive(Debug)]
struct RemoteTrack {
    id: TrackId,
    published: Published,
    size: Option<Size>,
    muted: bool,
}

impl RemoteStreams {
    /// Takes what the other focus announces.
    pub(super) fn handle_metadata(&mut self, said: StreamMetadata) {
        self.said = said;
    }

    /// Whether the other focus announces anybody.
    pub(super) fn announces(&self) -> bool {
        !self.posted.is_empty()
    }

    /// Brings the board's streams in line with what is announced and admitted, and the shard's tracks with what SDP says.
    /// `taken` tells whether a stream id is in use on another leg.
    pub(super) fn refresh(
        &mut self,
        published: Vec<Published>,
        origin: Origin,
        admits: impl Fn(&ParticipantId) -> bool,
        taken: impl Fn(&str) -> bool,
        shared: &mut Shared,
    ) -> Changes {
        let mut changes = Changes::default();
        self.post(&admits, &taken, origin, &mut changes);
        let live: Vec<Published> = published.into_iter().filter(|of| of.active).collect();
        self.remove_all_but(&live, &mut changes);
        for published in live {
            self.add_or_keep(published, origin, shared, &mut changes);
        }
        self.describe(&mut changes);
        changes
    }

    /// Streams on the board, by the ids that they have there.
    pub(super) fn streams(&self) -> impl Iterator<Item = (&str, &metadata::Stream)> {
        self.posted
            .iter()
            .map(|(id, posted)| (id.as_str(), &posted.stream))
    }

    /// Tracks that flow: name on the board, whose, the shard's id, kind.
    pub(super) fn tracks(
        &self,
    ) -> impl Iterator<Item = (TrackName, &ParticipantId, TrackId, MediaKind)> {
        self.posted.iter().flat_map(|(stream_id, posted)| {
            posted.tracks.iter().map(move |(track_id, track)| {
                let name = TrackName {
                    stream_id: stream_id.clone(),
                    track_id: track_id.clone(),
                };
                (name, &posted.owner, track.id, track.published.kind)
            })
        })
    }

    /// The other focus's name of a track, if it announces it.
    pub(super) fn theirs(&self, name: &TrackName) -> Option<TrackName> {
        let posted = self.posted.get(&name.stream_id)?;
        let announced = posted.stream.tracks.contains_key(&name.track_id);
        announced.then(|| TrackName {
            stream_id: posted.theirs.clone(),
            track_id: name.track_id.clone(),
        })
    }

    fn post(
        &mut self,
        admits: &impl Fn(&ParticipantId) -> bool,
        taken: &impl Fn(&str) -> bool,
        origin: Origin,
        changes: &mut Changes,
    ) {
        let mut before = std::mem::take(&mut self.posted);
        let mut known: BTreeMap<String, (String, RemoteStream)> = BTreeMap::new();
        while let Some((id, posted)) = before.pop_first() {
            known.insert(posted.theirs.clone(), (id, posted));
        }
        for (theirs, stream) in &self.said.streams {
            let owner = match (&stream.user_id, &stream.device_id) {
                (Some(user_id), Some(device_id)) => ParticipantId::new(user_id, device_id),
                _ => continue,
            };
            let full = self.posted.len() >= limits::STREAMS_PER_TRUNK_MAX;
            if full || !is_token(theirs) || !admits(&owner) {
                changes.streams_refused += 1;
                continue;
            }
            let (id, mut posted) = match known.remove(theirs) {
                Some((id, posted)) if posted.owner == owner && !taken(&id) => (id, posted),
                other => {
                    changes.visible = true;
                    changes.drop_tracks(other.map(|(_, posted)| posted));
                    let id = if taken(theirs) {
                        format!("weir-{}-{theirs}", origin.transport.0)
                    } else {
                        theirs.clone()
                    };
                    (id, RemoteStream::new(theirs, owner))
                }
            };
            let stream = bounded(stream);
            changes.visible |= posted.stream != stream;
            posted.stream = stream;
            self.posted.insert(id, posted);
        }
        changes.visible |= !known.is_empty();
        for (_, posted) in known.into_values() {
            changes.drop_tracks(Some(posted));
        }
    }

    fn remove_all_but(&mut self, live: &[Published], changes: &mut Changes) {
        for posted in self.posted.values_mut() {
            let (theirs, announced) = (&posted.theirs, &posted.stream.tracks);
            posted.tracks.retain(|track_id, track| {
                let flows = announced.contains_key(track_id)
                    && live.iter().any(|of| {
                        of.track_id == *track_id
                            && of.current_stream_id == *theirs
                            && is_same_for_the_shard(&track.published, of)
                    });
                if !flows {
                    changes.visible = true;
                    changes
                        .commands
                        .push(Command::RemoveTrack { track: track.id });
                }
                flows
            });
        }
    }

    fn add_or_keep(
        &mut self,
        published: Published,
        origin: Origin,
        shared: &mut Shared,
        changes: &mut Changes,
    ) {
        let flowing: usize = self.posted.values().map(|of| of.tracks.len()).sum();
        let posted = self
            .posted
            .values_mut()
            .find(|posted| posted.theirs == published.current_stream_id);
        // What is sent without having been announced is nobody's.
        let Some(posted) = posted else { return };
        let Some(announced) = posted.stream.tracks.get(&published.track_id) else {
            return;
        };
        if let Some(track) = posted.tracks.get_mut(&published.track_id) {
            track.published = published;
            return;
        }
        if flowing >= limits::TRACKS_PER_TRUNK_MAX {
            changes.tracks_refused += 1;
            return;
        }
        let id = shared.track_id();
        let size = mapping::metadata_size(announced);
        let add = add_track(id, origin, &posted.stream.purpose, &published, size);
        changes.commands.push(add);
        changes.visible = true;
        let track = RemoteTrack {
            id,
            size,
            muted: false,
            published,
        };
        posted
            .tracks
            .insert(track.published.track_id.clone(), track);
    }

    /// Takes mute flags and sizes from what is announced.
    fn describe(&mut self, changes: &mut Changes) {
        for posted in self.posted.values_mut() {
            for (track_id, track) in &mut posted.tracks {
                let announced = posted.stream.tracks.get(track_id);
                let size = announced.and_then(mapping::metadata_size).or(track.size);
                let muted = match track.published.kind {
                    MediaKind::Audio => posted.stream.audio_muted,
                    MediaKind::Video => posted.stream.video_muted,
                };
                if (size, muted) != (track.size, track.muted) {
                    (track.size, track.muted) = (size, muted);
                    changes.commands.push(Command::UpdateTrack {
                        track: track.id,
                        purpose: mapping::purpose(&posted.stream.purpose),
                        size,
                        muted,
                    });
                }
            }
        }
    }
}

impl RemoteStream {
    fn new(theirs: &str, owner: ParticipantId) -> Self {
        Self {
            theirs: theirs.to_owned(),
            owner,
            stream: metadata::Stream::default(),
            tracks: BTreeMap::new(),
        }
    }
}

impl Changes {
    fn drop_tracks(&mut self, posted: Option<RemoteStream>) {
        let tracks = posted.into_iter().flat_map(|of| of.tracks.into_values());
        let removals = tracks.map(|track| Command::RemoveTrack { track: track.id });
        self.commands.extend(removals);
    }
}

/// A stream with no more tracks than a participant may have, all with names that can be written down.
fn bounded(stream: &metadata::Stream) -> metadata::Stream {
    let tracks = stream.tracks.iter().filter(|(id, _)| is_token(id));
    metadata::Stream {
        tracks: tracks
            .take(limits::TRACKS_PER_STREAM_MAX)
            .map(|(id, track)| (id.clone(), *track))
            .collect(),
        ..stream.clone()
    }
}
