//! Which track and layer a new SSRC belongs to, and the life of sources.

use std::time::Instant;

use crate::counters::DropReason;
use crate::layers::Sublayer;
use crate::limits::LAYER_SILENT;
use crate::publisher::{Source, SourceId};
use crate::shard::Shard;
use crate::shard::media::Arrived;
use crate::transport::{Feeds, Names};

impl Shard {
    /// Binds the SSRC of an authentic packet by its mid and rid (RFC 8843 §9.2, RFC 8853), by `a=ssrc`, or by a payload
    /// type that only one track has. A new SSRC for a layer replaces the old one; one that was replaced itself comes back
    /// only when the layer is silent, so that its late packets do not take it back.
    pub(super) fn bind(
        &mut self,
        transport: u32,
        arrived: &Arrived,
        names: &Names,
        before: Feeds,
        now: Instant,
    ) -> Option<Feeds> {
        let track_index = self.track_of(transport, arrived, names)?;
        let track = self.tracks.get(track_index)?;
        let payload_type = arrived.header.payload_type;
        if track.codec_of_rtx(payload_type).is_some() {
            let rid = names.repaired_rid.as_ref().or(names.rid.as_ref());
            let layer = track.layer_of(rid.map(|rid| rid.as_bytes()))?;
            // Retransmissions of a source that was replaced have other numbers than the one in its place.
            let new = !matches!(before, Feeds::Retired { .. });
            return track.layers[layer].source.filter(|_| new).map(Feeds::Rtx);
        }
        let clock_rate = track.codec(payload_type)?.clock_rate.max(1);
        let layer = track.layer_of(names.rid.as_ref().map(|rid| rid.as_bytes()))?;
        let mut top = Sublayer::default();
        if let Some(old) = track.layers[layer].source {
            let of = self.sources.get(old);
            // The same encoder, most likely: until its layers have come, they are taken to be as before.
            top = of.map_or(top, |of| of.top);
            let silent = of
                .is_none_or(|old| now.saturating_duration_since(old.last_arrival) >= LAYER_SILENT);
            if matches!(before, Feeds::Retired { .. }) && !silent {
                return None;
            }
            self.remove_source(old);
        }
        let track = self.tracks.get_mut(track_index)?;
        let id = SourceId(self.next_source);
        self.next_source = self.next_source.wrapping_add(1);
        let mut source = Source::new(
            id,
            arrived.header.ssrc,
            track_index,
            layer,
            track,
            clock_rate,
            now,
        );
        source.top = top;
        let Some(source) = self.sources.insert(source) else {
            self.counters.count_drop(DropReason::TooManySsrcs);
            return None;
        };
        track.layers[layer].source = Some(source);
        track.layers[layer].last_arrival = Some(now);
        self.choose_layers(track_index, now);
        Some(Feeds::Source(source))
    }

    fn track_of(&self, transport: u32, arrived: &Arrived, names: &Names) -> Option<u32> {
        let tracks = &self.transports.get(transport)?.tracks;
        let of = |index: &u32| self.tracks.get(*index).map(|track| (*index, track));
        if let Some(mid) = &names.mid {
            return tracks
                .iter()
                .filter_map(of)
                .find(|(_, track)| track.mid == *mid)
                .map(|(index, _)| index);
        }
        let (ssrc, payload_type) = (arrived.header.ssrc, arrived.header.payload_type);
        if let Some((index, _)) = tracks
            .iter()
            .filter_map(of)
            .find(|(_, track)| track.ssrcs.contains(&ssrc))
        {
            return Some(index);
        }
        let mut having = tracks.iter().filter_map(of).filter(|(_, track)| {
            track.codec(payload_type).is_some() || track.codec_of_rtx(payload_type).is_some()
        });
        match (having.next(), having.next()) {
            (Some((index, track)), None) if !track.is_simulcast() => Some(index),
            _ => None,
        }
    }

    /// Forgets a source: its packets are let go, its SSRC is retired.
    pub(super) fn remove_source(&mut self, index: u32) {
        let Some(mut source) = self.sources.remove(index) else {
            return;
        };
        source.history.clear(|slot| self.packets.release(slot));
        let Some(track) = self.tracks.get_mut(source.track) else {
            return;
        };
        let layer = &mut track.layers[source.layer];
        if layer.source == Some(index) {
            layer.source = None;
        }
        if let Some(transport) = self.transports.get_mut(track.transport) {
            let streams = transport.streams.iter_mut();
            let retired = Feeds::Retired {
                track: source.track,
            };
            let feeding = |feeds| feeds == Feeds::Source(index) || feeds == Feeds::Rtx(index);
            streams
                .filter(|stream| feeding(stream.feeds))
                .for_each(|stream| stream.feeds = retired);
        }
    }
}
