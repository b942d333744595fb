//! What one participant publishes, as the others see it.
//!
//! SDP says which tracks there are, metadata says what they are; the two are joined by *track id*, because stream ids
//! change under way: a client that unmutes its camera announces a new one and takes it back, and a camera that is
//! switched on late has another one in SDP than in metadata. Outwards there is one stream for each purpose, with the id that
//! its first track was first seen with.

use std::collections::BTreeMap;

use weir_shard::{AddTrack, Command, ConferenceId, LayerSet, Size, TrackId, TransportId};
use weir_signal::{
    channel::{LayersInUse, TrackName},
    metadata::{self, Purpose, StreamMetadata},
    sdp::{MediaKind, Published},
};

use super::{limits, mapping, shared::Shared};

/// The streams of one participant.
#[derive(Debug, Default)]
pub(super) struct Streams {
    outward: BTreeMap<String, Stream>,
    /// What the participant said last about its own streams; `None` if it never did.
    said: Option<StreamMetadata>,
}

#[derive(Debug)]
struct Stream {
    purpose: Purpose,
    audio_muted: bool,
    video_muted: bool,
    tracks: BTreeMap<String, Track>,
}

#[derive(Debug)]
struct Track {
    id: TrackId,
    published: Published,
    size: Option<Size>,
    muted: bool,
    /// The layers that anybody needs, once the shard has said so.
    in_use: Option<LayerSet>,
}

/// Where the streams are published.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) conference: ConferenceId,
    pub(super) transport: TransportId,
}

/// What [`Streams::refresh`] has found.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// For the participant's shard, in order.
    pub(super) commands: Vec<Command>,
    /// Whether others see something new.
    pub(super) visible: bool,
    /// Tracks beyond the limit, not published.
    pub(super) tracks_refused: usize,
    /// Streams that another focus announces and that are not taken.
    pub(super) streams_refused: usize,
}

/// What metadata says about one track.
struct Said<'a> {
    key: &'a str,
    stream: &'a metadata::Stream,
    track: Option<&'a metadata::Track>,
}

impl Streams {
    /// Takes what the participant says about its own streams: always all of them.
    pub(super) fn handle_metadata(&mut self, said: StreamMetadata) {
        self.said = Some(said);
    }

    /// Brings the streams in line with SDP and metadata. `taken` tells whether another participant has a stream id already.
    pub(super) fn refresh(
        &mut self,
        published: Vec<Published>,
        origin: Origin,
        taken: impl Fn(&str) -> bool,
        shared: &mut Shared,
    ) -> Changes {
        let before = self.advertised();
        let mut changes = Changes::default();
        let live = self.live(published);
        self.remove_all_but(&live, &mut changes);
        for published in live {
            if !self.keep(&published) {
                self.add(published, origin, &taken, shared, &mut changes);
            }
        }
        self.describe(&mut changes);
        changes.visible = before != self.advertised();
        changes
    }

    /// What was said last.
    pub(super) fn said(&self) -> Option<&StreamMetadata> {
        self.said.as_ref()
    }

    /// The outward streams, without whose they are. What only measures the way is for nobody else.
    pub(super) fn advertised(&self) -> BTreeMap<String, metadata::Stream> {
        self.outward
            .iter()
            .filter(|(_, stream)| !stream.purpose.is_probe())
            .map(|(id, stream)| (id.clone(), stream.advertised()))
            .collect()
    }

    /// All tracks that others may have: outward stream id, track id, the shard's id, and what SDP says.
    pub(super) fn tracks(&self) -> impl Iterator<Item = (&str, &str, TrackId, &Published)> {
        let streams = self.outward.iter();
        let streams = streams.filter(|(_, stream)| !stream.purpose.is_probe());
        streams.flat_map(|(stream_id, stream)| {
            stream.tracks.iter().map(move |(track_id, track)| {
                (
                    stream_id.as_str(),
                    track_id.as_str(),
                    track.id,
                    &track.published,
                )
            })
        })
    }

    /// Notes which layers of a track anybody needs.
    pub(super) fn set_layers_in_use(&mut self, id: TrackId, layers: LayerSet) {
        let tracks = self
            .outward
            .values_mut()
            .flat_map(|of| of.tracks.values_mut());
        for track in tracks.filter(|track| track.id == id) {
            track.in_use = Some(layers);
        }
    }

    /// Which layers of a track anybody needs, if the shard has said so.
    pub(super) fn layers_in_use(&self, id: TrackId) -> Option<LayersInUse> {
        self.outward.iter().find_map(|(stream_id, stream)| {
            let mut tracks = stream.tracks.iter();
            let (track_id, track) = tracks.find(|(_, track)| track.id == id)?;
            track.layers_in_use(stream_id, track_id)
        })
    }

    /// The same for all tracks of which the shard has said anything.
    pub(super) fn all_layers_in_use(&self) -> Vec<LayersInUse> {
        let tracks = self.outward.iter().flat_map(|(stream_id, stream)| {
            let tracks = stream.tracks.iter();
            tracks.filter_map(move |(track_id, track)| track.layers_in_use(stream_id, track_id))
        });
        tracks.collect()
    }

    /// The tracks that shall be seen. A track that metadata leaves out is gone only with its whole stream: a muted camera may be
    /// left out of a stream that goes on, and whether it flows is what SDP is for.
    fn live(&self, published: Vec<Published>) -> Vec<Published> {
        let mut live: Vec<Published> = Vec::new();
        for published in published {
            let repeated = live
                .iter()
                .any(|other| other.track_id == published.track_id);
            let usable = is_token(&published.track_id) && is_token(&published.stream_id);
            if published.active
                && usable
                && !repeated
                && (self.said.is_none() || self.said_about(&published).is_some())
            {
                live.push(published);
            }
        }
        live
    }

    fn said_about(&self, published: &Published) -> Option<Said<'_>> {
        let said = self.said.as_ref()?;
        if let Some((key, stream, track)) = said.by_track(&published.track_id) {
            return Some(Said {
                key,
                stream,
                track: Some(track),
            });
        }
        let outward = self
            .outward
            .iter()
            .find(|(_, stream)| stream.tracks.contains_key(&published.track_id));
        let siblings = outward.iter().flat_map(|(_, stream)| stream.tracks.keys());
        [
            published.current_stream_id.as_str(),
            published.stream_id.as_str(),
        ]
        .into_iter()
        .chain(outward.iter().map(|(id, _)| id.as_str()))
        .chain(
            siblings
                .filter_map(|track_id| said.by_track(track_id))
                .map(|(key, _, _)| key),
        )
        .find_map(|key| said.streams.get_key_value(key))
        .map(|(key, stream)| Said {
            key,
            stream,
            track: None,
        })
    }

    fn remove_all_but(&mut self, live: &[Published], changes: &mut Changes) {
        for stream in self.outward.values_mut() {
            stream.tracks.retain(|track_id, track| {
                let same = live.iter().any(|published| {
                    published.track_id == *track_id
                        && is_same_for_the_shard(&track.published, published)
                });
                if !same {
                    changes
                        .commands
                        .push(Command::RemoveTrack { track: track.id });
                }
                same
            });
        }
        // A stream whose only track is about to be added again on another section keeps its id.
        self.outward.retain(|id, stream| {
            !stream.tracks.is_empty() || live.iter().any(|published| published.stream_id == *id)
        });
    }

    /// Whether the track is there already.
    fn keep(&mut self, published: &Published) -> bool {
        let track = self
            .outward
            .values_mut()
            .find_map(|stream| stream.tracks.get_mut(&published.track_id));
        match track {
            Some(track) => {
                track.published.clone_from(published);
                true
            }
            None => false,
        }
    }

    fn add(
        &mut self,
        published: Published,
        origin: Origin,
        taken: &impl Fn(&str) -> bool,
        shared: &mut Shared,
        changes: &mut Changes,
    ) {
        let count: usize = self
            .outward
            .values()
            .map(|stream| stream.tracks.len())
            .sum();
        if count >= shared.settings.limits.tracks_per_participant_max {
            changes.tracks_refused += 1;
            return;
        }
        let id = shared.track_id();
        let said = self.said_about(&published);
        let purpose = said
            .as_ref()
            .map(|said| said.stream.purpose.clone())
            .unwrap_or_default();
        let size = said
            .as_ref()
            .and_then(|said| said.track)
            .and_then(mapping::metadata_size);
        let muted = said
            .as_ref()
            .is_some_and(|said| is_muted(said.stream, published.kind));
        let name = said.map_or(published.stream_id.as_str(), |said| said.key);
        let name = if is_token(name) {
            name.to_owned()
        } else {
            published.stream_id.clone()
        };
        let stream_id = match self
            .outward
            .iter()
            .find(|(_, stream)| stream.purpose == purpose)
        {
            Some((stream_id, _)) => stream_id.clone(),
            None => self.free_id(name, id, taken),
        };

        changes
            .commands
            .push(add_track(id, origin, &purpose, &published, size));
        if muted {
            changes.commands.push(Command::UpdateTrack {
                track: id,
                purpose: mapping::purpose(&purpose),
                size,
                muted,
            });
        }
        let stream = self
            .outward
            .entry(stream_id)
            .or_insert_with(|| Stream::new(purpose));
        stream.tracks.insert(
            published.track_id.clone(),
            Track {
                id,
                published,
                size,
                muted,
                in_use: None,
            },
        );
    }

    /// An id that nobody in the conference uses. Who announces a stream under somebody else's id gets another one.
    fn free_id(&self, wanted: String, track: TrackId, taken: &impl Fn(&str) -> bool) -> String {
        if !taken(&wanted) && !self.outward.contains_key(&wanted) {
            return wanted;
        }
        format!("weir-{}", track.0)
    }

    /// Takes purposes, mute flags and sizes from what was said.
    fn describe(&mut self, changes: &mut Changes) {
        self.outward.retain(|_, stream| !stream.tracks.is_empty());
        let ids: Vec<String> = self.outward.keys().cloned().collect();
        for id in ids {
            let found = self.describe_tracks(&id);
            let purpose = found
                .iter()
                .find_map(|(_, said)| said.as_ref())
                .map(|said| said.purpose.clone());
            let purpose_is_free = !self
                .outward
                .values()
                .any(|stream| Some(&stream.purpose) == purpose.as_ref());
            let Some(stream) = self.outward.get_mut(&id) else {
                continue;
            };
            let repurposed = purpose.filter(|_| purpose_is_free);
            stream.apply(&found, repurposed, changes);
        }
    }

    /// What is said about each track of one outward stream.
    fn describe_tracks(&self, id: &str) -> Vec<(String, Option<Description>)> {
        let tracks = self
            .outward
            .get(id)
            .into_iter()
            .flat_map(|stream| &stream.tracks);
        tracks
            .map(|(track_id, track)| {
                let said = self.said_about(&track.published).map(|said| Description {
                    purpose: said.stream.purpose.clone(),
                    audio_muted: said.stream.audio_muted,
                    video_muted: said.stream.video_muted,
                    size: said.track.and_then(mapping::metadata_size),
                });
                (track_id.clone(), said)
            })
            .collect()
    }
}

/// What metadata says about one track, on its own.
struct Description {
    purpose: Purpose,
    audio_muted: bool,
    video_muted: bool,
    size: Option<Size>,
}

impl Track {
    fn layers_in_use(&self, stream_id: &str, track_id: &str) -> Option<LayersInUse> {
        let in_use = self.in_use?;
        let rids = self.published.rids.iter().enumerate();
        Some(LayersInUse {
            name: TrackName {
                stream_id: stream_id.to_owned(),
                track_id: track_id.to_owned(),
            },
            mid: self.published.mid.clone(),
            rids: rids
                .filter(|(layer, _)| in_use.contains(*layer))
                .map(|(_, rid)| rid.id.clone())
                .collect(),
        })
    }
}

impl Stream {
    fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            audio_muted: true,
            video_muted: true,
            tracks: BTreeMap::new(),
        }
    }

    fn apply(
        &mut self,
        found: &[(String, Option<Description>)],
        repurposed: Option<Purpose>,
        changes: &mut Changes,
    ) {
        let is_repurposed = repurposed.is_some();
        if let Some(purpose) = repurposed {
            self.purpose = purpose;
        }
        let purpose = mapping::purpose(&self.purpose);
        for (track_id, said) in found {
            let (Some(track), Some(said)) = (self.tracks.get_mut(track_id), said) else {
                continue;
            };
            let muted = match track.published.kind {
                MediaKind::Audio => said.audio_muted,
                MediaKind::Video => said.video_muted,
            };
            // A size once known is better than none.
            let size = said.size.or(track.size);
            if is_repurposed || (size, muted) != (track.size, track.muted) {
                (track.size, track.muted) = (size, muted);
                changes.commands.push(Command::UpdateTrack {
                    track: track.id,
                    purpose,
                    size,
                    muted,
                });
            }
        }
        self.audio_muted = self.is_muted(MediaKind::Audio);
        self.video_muted = self.is_muted(MediaKind::Video);
    }

    /// A stream without a track of that kind counts as muted.
    fn is_muted(&self, kind: MediaKind) -> bool {
        self.tracks
            .values()
            .filter(|track| track.published.kind == kind)
            .all(|track| track.muted)
    }

    fn advertised(&self) -> metadata::Stream {
        let tracks = self.tracks.iter().map(|(track_id, track)| {
            let track = metadata::Track {
                kind: Some(track.published.kind),
                width: track.size.map(|size| size.width.into()),
                height: track.size.map(|size| size.height.into()),
            };
            (track_id.clone(), track)
        });
        metadata::Stream {
            user_id: None,
            device_id: None,
            purpose: self.purpose.clone(),
            audio_muted: self.audio_muted,
            video_muted: self.video_muted,
            tracks: tracks.collect(),
        }
    }
}

/// What the shard is told of a new track.
pub(super) fn add_track(
    track: TrackId,
    origin: Origin,
    purpose: &Purpose,
    published: &Published,
    size: Option<Size>,
) -> Command {
    Command::AddTrack(AddTrack {
        track,
        transport: origin.transport,
        conference: origin.conference,
        purpose: mapping::purpose(purpose),
        mid: published.mid.clone(),
        kind: mapping::kind(published.kind),
        codecs: published
            .codecs
            .iter()
            .map(mapping::codec_mapping)
            .collect(),
        extensions: mapping::extensions(&published.extensions),
        rids: published.rids.iter().map(|rid| rid.id.clone()).collect(),
        // Media first, as the shard expects.
        ssrcs: [published.ssrcs.as_slice(), &published.rtx_ssrcs].concat(),
        size,
    })
}

fn is_muted(stream: &metadata::Stream, kind: MediaKind) -> bool {
    match kind {
        MediaKind::Audio => stream.audio_muted,
        MediaKind::Video => stream.video_muted,
    }
}

/// Whether the shard's idea of a track still fits. Stream ids and pauses are not its business; sources are, but it learns new
/// ones by itself.
pub(super) fn is_same_for_the_shard(old: &Published, new: &Published) -> bool {
    let rids = |published: &Published| {
        published
            .rids
            .iter()
            .map(|rid| rid.id.clone())
            .collect::<Vec<_>>()
    };
    old.mid == new.mid
        && old.kind == new.kind
        && old.codecs == new.codecs
        && old.extensions == new.extensions
        && rids(old) == rids(new)
}

/// What can be written into an `a=msid` line and found again.
pub(super) fn is_token(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= limits::ID_BYTES_MAX
        && id.bytes().all(|byte| byte.is_ascii_graphic())
}
