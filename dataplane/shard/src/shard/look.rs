//! Twice a second the shard looks at itself: why each subscription gets what it gets, what each participant can be sent, which
//! layers anybody needs. What has changed is told to control; how many subscriptions are in which state is in the counters. When nothing moves any more it is
//! looked at once more, and then no longer.

use std::time::{Duration, Instant};

use crate::event::Event;
use crate::ids::{LayerSet, MediaKind};
use crate::layers;
use crate::limits::{EVENTS_MAX, LAYER_SILENT, LAYER_UNUSED, STATUS_INTERVAL};
use crate::publisher::Track;
use crate::reason::{Limit, Reason};
use crate::shard::Shard;
use crate::status::{SubscriptionStatus, TransportStatus};
use crate::subscription::Subscription;

/// After so long without packets nothing of a track's state changes any more.
const SETTLED: Duration = LAYER_SILENT.saturating_add(STATUS_INTERVAL);

impl Shard {
    /// Something has happened that is worth a look.
    pub(super) fn look_soon(&mut self, now: Instant) {
        if self.look_at.is_none() {
            let at = now + STATUS_INTERVAL;
            self.look_at = Some(at);
            self.wake_at(at);
        }
    }

    pub(super) fn look_when_due(&mut self, now: Instant) {
        match self.look_at {
            None => return,
            Some(at) if at > now => return self.wake_at(at),
            Some(_) => self.look_at = None,
        }
        let mut moves = false;
        for index in 0..self.tracks.end() {
            moves |= self.look_at_layers(index, now);
            moves |= self.tracks.get(index).is_some_and(|track| {
                newest(track).is_some_and(|at| now.saturating_duration_since(at) < SETTLED)
            });
        }
        moves |= self.look_at_subscriptions(now);
        self.count_estimates(now);
        self.count_quality();
        for index in 0..self.transports.end() {
            self.tell_bandwidth(index, now);
        }
        if moves {
            self.look_soon(now);
        }
    }

    /// Whether there is room for an event that can wait: handshakes go first.
    pub(super) fn may_tell(&self) -> bool {
        self.events.len() < EVENTS_MAX / 2
    }

    // ── Subscriptions ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// `true` when something could not be told yet.
    fn look_at_subscriptions(&mut self, now: Instant) -> bool {
        let mut untold = false;
        let mut counts = [0; Reason::ALL.len()];
        for index in 0..self.subscriptions.end() {
            let Some((status, is_new)) = self.subscriptions.get(index).and_then(|of| {
                let status = self.status(of, now)?;
                Some((status, of.told != Some(status)))
            }) else {
                continue;
            };
            counts[status.reason as usize] += 1;
            if is_new {
                untold |= !self.tell_status(index, status);
            }
        }
        for (reason, count) in Reason::ALL.into_iter().zip(counts) {
            self.counters.set_by_reason(reason, count);
        }
        untold
    }

    fn tell_status(&mut self, index: u32, status: SubscriptionStatus) -> bool {
        if !self.may_tell() {
            return false;
        }
        let Some(of) = self.subscriptions.get_mut(index) else {
            return true;
        };
        of.told = Some(status);
        let (id, to) = (of.id, of.transport);
        if let Some(transport) = self.transports.get(to).map(|to| to.id) {
            self.event(Event::SubscriptionStatus {
                id,
                transport,
                status,
            });
        }
        true
    }

    fn status(&self, of: &Subscription, now: Instant) -> Option<SubscriptionStatus> {
        let track = self.tracks.get(of.track)?;
        let reason = self.reason(of, track, now);
        let fed = track.layers.iter().position(|layer| {
            let source = layer.source.and_then(|source| self.sources.get(source));
            source.is_some_and(|source| of.rewriter.source() == Some(source.id))
        });
        let Some(layer) = fed.filter(|_| of.kind == MediaKind::Video) else {
            return Some(SubscriptionStatus {
                layer: None,
                size: None,
                temporal: None,
                reason,
            });
        };
        let state = track.layer_states(&self.sources)[layer];
        let target = of.target.filter(|target| target.layer == layer);
        let spatial = target.map_or(state.top.spatial, |target| {
            target.spatial.min(state.top.spatial)
        });
        Some(SubscriptionStatus {
            layer: Some(layer as u8),
            size: state.sizes.get(usize::from(spatial)).copied().flatten(),
            temporal: target
                .map(|target| target.temporal)
                .filter(|temporal| *temporal < state.top.temporal),
            reason,
        })
    }

    /// From the publisher to the subscriber: the first that holds.
    fn reason(&self, of: &Subscription, track: &Track, now: Instant) -> Reason {
        let taken = |codec| of.payload_type(codec).is_some();
        let to = self.transports.get(of.transport);
        let voice = track.voice.and_then(|voice| {
            let voices = self.conferences.get(voice.conference)?;
            Some(voices.is_left_out(voice.place))
        });
        match newest(track) {
            _ if track.muted => Reason::Muted,
            None => Reason::NeverSent,
            Some(at) if now.saturating_duration_since(at) >= LAYER_SILENT => {
                Reason::PublisherSilent
            }
            _ if !to.is_some_and(|to| to.is_ready()) => Reason::NotConnected,
            _ if !track.codecs.iter().any(|of| taken(of.codec)) => Reason::CodecNotTaken,
            _ if of.kind == MediaKind::Audio => match voice {
                Some(true) => Reason::NotLoudest,
                _ => Reason::Flowing,
            },
            _ => self.reason_of_picture(of, track),
        }
    }

    fn reason_of_picture(&self, of: &Subscription, track: &Track) -> Reason {
        let Some(target) = of.target else {
            return match of.limit {
                Limit::Bandwidth => Reason::NoBandwidth,
                Limit::None | Limit::LayerSilent => Reason::PublisherSilent,
            };
        };
        let source = track.layers[target.layer].source;
        let source = source.and_then(|source| self.sources.get(source));
        if source.is_some_and(|source| of.waits_for(source.id, target.layer)) {
            return match of.rewriter.last() {
                None => Reason::WaitingToStart,
                Some(_) => Reason::WaitingToSwitch,
            };
        }
        let ideal = layers::choose(&self.as_if_live(track), of.wanted);
        match of.limit {
            Limit::Bandwidth => Reason::LittleBandwidth,
            _ if ideal.is_some_and(|ideal| ideal.layer != target.layer) => Reason::LayerSilent,
            Limit::None | Limit::LayerSilent => Reason::Flowing,
        }
    }

    // ── Bandwidth ──────────────────────────────────────────────────────────────────────────────────────────────────────

    fn tell_bandwidth(&mut self, index: u32, now: Instant) {
        let may_tell = self.may_tell();
        let Some(of) = self.transports.get_mut(index) else {
            return;
        };
        let outcome = of.bandwidth.outcome();
        let status = TransportStatus {
            estimate_bps: of.bandwidth.target_bps(now),
            allocated_bps: outcome.allocated_bps,
            wanted_bps: outcome.wanted_bps,
        };
        if let Some(bps) = status.estimate_bps {
            self.counters.estimates.record(bps);
        }
        if may_tell && status.differs(&of.told) {
            of.told = status;
            let id = of.id;
            self.event(Event::TransportStatus { id, status });
        }
    }

    // ── Layers in use ──────────────────────────────────────────────────────────────────────────────────────────────────

    /// A track's layers as if all of them flowed: one that was paused because nobody needed it can come back.
    fn as_if_live(&self, track: &Track) -> layers::LayerStates {
        let mut states = track.layer_states(&self.sources);
        for state in states.iter_mut().take(track.layers.len()) {
            state.live = true;
        }
        states
    }

    /// The layers up to the best that anybody gets or would get if it flowed. The lower ones are what a subscriber falls back
    /// to, and cost little; of a track without subscribers the lowest is enough to begin with.
    fn needed_layers(&self, track: &Track) -> LayerSet {
        let states = self.as_if_live(track);
        let (order, count) = layers::ascending(&states);
        let rank = |layer: usize| order[..count].iter().position(|of| *of == layer);
        let subscriptions = track.subscriptions.iter();
        let best = subscriptions
            .filter_map(|index| self.subscriptions.get(*index))
            .flat_map(|of| {
                let ideal = layers::choose(&states, of.wanted);
                [ideal, of.target].map(|target| rank(target?.layer))
            })
            .flatten()
            .max()
            .unwrap_or(0);
        // A layer of unknown size may be the one that is asked for; it is known once its keyframe has come.
        let mut asked = track
            .subscriptions
            .iter()
            .filter_map(|of| self.subscriptions.get(*of));
        let of_unknown_size = order[..count]
            .iter()
            .any(|of| states[*of].sizes.iter().all(Option::is_none));
        let all = of_unknown_size && asked.any(|of| of.wanted.is_some());
        let needed = order[..count]
            .iter()
            .take(if all { count } else { best + 1 });
        needed.fold(LayerSet::default(), |set, layer| set.with(*layer))
    }

    /// Tells when a layer has been unneeded for a while, or is needed again. `true` while one is about to be given up.
    pub(super) fn look_at_layers(&mut self, index: u32, now: Instant) -> bool {
        let is_simulcast = |track: &&Track| track.is_simulcast() && track.kind == MediaKind::Video;
        let Some(track) = self.tracks.get(index).filter(is_simulcast) else {
            return false;
        };
        let needed = self.needed_layers(track);
        let may_tell = self.may_tell();
        let Some(track) = self.tracks.get_mut(index) else {
            return false;
        };
        let mut in_use = LayerSet::default();
        let mut moves = false;
        for (layer, of) in track.layers.iter_mut().enumerate() {
            if needed.contains(layer) {
                of.needed = now;
                in_use = in_use.with(layer);
            } else if track.told_in_use.is_none_or(|told| told.contains(layer))
                && now.saturating_duration_since(of.needed) < LAYER_UNUSED
            {
                moves = true;
                in_use = in_use.with(layer);
            }
        }
        let is_told = track.told_in_use == Some(in_use);
        if is_told || !may_tell {
            return moves || !is_told;
        }
        track.told_in_use = Some(in_use);
        let (track, publisher) = (track.id, track.transport);
        let Some(transport) = self.transports.get(publisher).map(|of| of.id) else {
            return moves;
        };
        self.counters.layers_in_use_told.add(1);
        self.event(Event::LayersInUse {
            track,
            transport,
            layers: in_use,
        });
        moves
    }
}

/// When the last packet of any layer came.
fn newest(track: &Track) -> Option<Instant> {
    let arrivals = track.layers.iter().filter_map(|layer| layer.last_arrival);
    arrivals.max()
}
