//! Fan-out: which subscribers take a packet, and with which numbers. Nothing is copied; what comes out waits for `flush`.

use std::time::Instant;

use weir_wire::{ExtSeq, RtpTime};

use crate::counters::DropReason;
use crate::ids::MediaKind;
use crate::layers::{self, Sublayer, Target};
use crate::limits::KEYFRAME_LATE_PACKETS;
use crate::packet::{Packet, Slot};
use crate::publisher::{Source, SourceId};
use crate::reason::{Limit, Stage, Withheld};
use crate::rewriter::{Frames, Incoming, Refused};
use crate::shard::{KEYFRAMES_WANTED_MAX, Shard};
use crate::subscription::Subscription;
use crate::timing::{self, Moment, Regression};
use crate::tx::{Again, Waiting};

impl Packet {
    fn incoming(&self, source: SourceId) -> Incoming {
        Incoming {
            source,
            seq: self.seq,
            timestamp: self.timestamp,
            marker: self.marker,
            padding: self.padding,
            picture: self.picture,
            sublayer: self.sublayer,
            opens: self.opens,
            frame_end: self.frame_end,
            counted: self.descriptor.is_counted(),
            arrival: self.arrival,
        }
    }
}

/// What the packet at hand is to a subscription.
enum Turn {
    /// One of many.
    Next,
    /// The place it waited for; what came after it in the source's numbers may be there already.
    Start,
    /// Not for it.
    Skip,
}

impl Shard {
    /// Offers a packet to all subscriptions of its track.
    pub(super) fn forward(&mut self, slot: Slot, source: u32, now: Instant) {
        let Some(track) = self.sources.get(source).map(|source| source.track) else {
            return;
        };
        if !self.hear(track, slot, now) {
            return;
        }
        let count = self
            .tracks
            .get(track)
            .map_or(0, |track| track.subscriptions.len());
        let mut still_waiting = false;
        for at in 0..count {
            let Some(index) = self
                .tracks
                .get(track)
                .and_then(|track| track.subscriptions.get(at).copied())
            else {
                break;
            };
            match self.turn(index, slot, source) {
                Turn::Skip => {}
                Turn::Next => self.forward_to(index, slot, source, now),
                Turn::Start if self.start(index, slot, source, now) => {
                    self.replay(index, slot, source, now)
                }
                Turn::Start => still_waiting = true,
            }
        }
        if still_waiting {
            self.want_keyframe(source, now);
        }
    }

    fn turn(&self, index: u32, slot: Slot, source: u32) -> Turn {
        let (Some(subscription), Some(packet)) =
            (self.subscriptions.get(index), self.packets.get(slot))
        else {
            return Turn::Skip;
        };
        let Some(source) = self.sources.get(source) else {
            return Turn::Skip;
        };
        if !self
            .transports
            .get(subscription.transport)
            .is_some_and(|transport| transport.is_ready())
        {
            self.counters.withhold(Withheld::NotConnected, 1);
            return Turn::Skip;
        }
        if subscription.resumes(source.id, self.spurt(source.track)) {
            if source.lateness(packet.seq) == 0 {
                return Turn::Start;
            }
            // It has changed places with what was left out.
            self.counters.withhold(Withheld::NotLoudest, 1);
            return Turn::Skip;
        }
        let otherwise = || {
            if subscription.resting {
                self.counters.withhold(withheld(subscription, source), 1);
                Turn::Skip
            } else {
                Turn::Next
            }
        };
        if !subscription.waits_for(source.id, source.layer) {
            return otherwise();
        }
        // Late enough, a keyframe is not worth it: the decoder would see a step back in time. Unless there is no decoder yet.
        let in_time = source.lateness(packet.seq) <= KEYFRAME_LATE_PACKETS
            || subscription.rewriter.last().is_none();
        if packet.keyframe_start && in_time {
            Turn::Start
        } else {
            otherwise()
        }
    }

    /// Starts a subscription at this packet, or switches it to the packet's source. `false` when the switch is refused.
    fn start(&mut self, index: u32, slot: Slot, source: u32, now: Instant) -> bool {
        let Some((timestamp, id)) = self.start_time(index, slot, source) else {
            return false;
        };
        let spurt = self
            .sources
            .get(source)
            .map_or(0, |of| self.spurt(of.track));
        let (Some(subscription), Some(packet)) =
            (self.subscriptions.get_mut(index), self.packets.get(slot))
        else {
            return false;
        };
        let Ok(timestamp) = timestamp else {
            self.counters.switches_refused.add(1);
            return false;
        };
        subscription.spurt = spurt;
        subscription.resting = false;
        let frames = match subscription.kind {
            MediaKind::Audio => Frames::Unmarked,
            MediaKind::Video => Frames::Marked,
        };
        if subscription.kind == MediaKind::Video {
            let counters = &self.counters;
            let since = subscription.waits_since.take();
            let waited = since.map(|since| now.saturating_duration_since(since).as_micros());
            if subscription.rewriter.last().is_none() {
                counters.starts.add(1);
                waited.inspect(|us| counters.start_wait.record(*us as u64));
            } else {
                counters.switches.add(1);
                waited.inspect(|us| counters.switch_wait.record(*us as u64));
            }
        }
        let rewriter = &mut subscription.rewriter;
        rewriter.switch(&packet.incoming(id), timestamp, frames);
        true
    }

    /// The timestamp that a subscription goes on with at this packet, and the packet's source.
    fn start_time(
        &self,
        index: u32,
        slot: Slot,
        source: u32,
    ) -> Option<(Result<RtpTime, Regression>, SourceId)> {
        let subscription = self.subscriptions.get(index)?;
        let (packet, of) = (self.packets.get(slot)?, self.sources.get(source)?);
        let rewriter = &subscription.rewriter;
        let (Some(last), Some(offset)) = (rewriter.last(), rewriter.timestamp_offset()) else {
            return Some((Ok(packet.timestamp), of.id));
        };
        let old = rewriter.source();
        if old == Some(of.id) {
            // A voice that was left out for a while goes on; its own clock never stopped.
            return Some((Ok(packet.timestamp.add(offset)), of.id));
        }
        let old = old.and_then(|id| find_source(&self.tracks, &self.sources, subscription, id));
        let (last_out, arrival) = last.in_order;
        let last_in = Moment {
            timestamp: last_out.sub(offset),
            arrival,
            report: old.and_then(|old| old.sender_report),
        };
        let next = Moment {
            timestamp: packet.timestamp,
            arrival: self.frame_arrival(packet, of),
            report: of.sender_report,
        };
        let time = timing::continued(last.timestamp, last_out, last_in, next, of.clock_rate);
        Some((time, of.id))
    }

    /// When the first packet of a frame came: `packet` begins it, but may have been sent again long after the others.
    fn frame_arrival(&self, packet: &Packet, source: &Source) -> Instant {
        let behind = (1..=KEYFRAME_LATE_PACKETS).filter_map(|step| {
            let slot = source.history.get(packet.seq.add(step))?;
            self.packets.get(slot)
        });
        let frame = behind.filter(|other| other.timestamp == packet.timestamp);
        frame.fold(packet.arrival, |first, other| first.min(other.arrival))
    }

    /// Forwards a keyframe's first packet and those behind it that came before it.
    fn replay(&mut self, index: u32, slot: Slot, source: u32, now: Instant) {
        let Some(first) = self.packets.get(slot).map(|packet| packet.seq) else {
            return;
        };
        let opens = self.opens(index);
        self.forward_to(index, slot, source, now);
        if opens {
            self.opened(index, now);
        }
        let newest = self
            .sources
            .get(source)
            .and_then(|source| source.history.newest())
            .unwrap_or(first);
        for number in first.0 + 1..=newest.0 {
            let later = self
                .sources
                .get(source)
                .and_then(|source| source.history.get(ExtSeq(number)));
            if let Some(later) = later {
                self.forward_to(index, later, source, now);
            }
        }
    }

    /// Gives one packet its numbers and queues it.
    fn forward_to(&mut self, index: u32, slot: Slot, source: u32, now: Instant) {
        let (Some(subscription), Some(packet)) =
            (self.subscriptions.get_mut(index), self.packets.get(slot))
        else {
            return;
        };
        let Some(of) = self.sources.get(source) else {
            return;
        };
        if subscription.payload_type(packet.codec).is_none() {
            return self.counters.count_drop(DropReason::CodecNotTaken);
        }
        let rewritten = subscription.rewriter.rewrite(&packet.incoming(of.id));
        if rewritten == Err(Refused::OtherSource) {
            let reason = withheld(subscription, of);
            return self.counters.withhold(reason, 1);
        }
        let bytes = packet.payload_len;
        self.counters.pass(Stage::Selected, bytes);
        let numbers = match rewritten {
            Ok(numbers) => numbers,
            Err(Refused::OtherSource) => return,
            Err(Refused::BeforeStart) => {
                return self.counters.count_drop(DropReason::BeforeKeyframe);
            }
            Err(Refused::TooLate) => return self.counters.count_drop(DropReason::TooLate),
            Err(Refused::Removed) => return self.counters.padding_removed.add(1),
            Err(Refused::LeftOut) => return self.counters.withhold(Withheld::Sublayer, 1),
        };
        let (seq, timestamp) = (packet.seq, packet.timestamp);
        let record = &mut subscription.sent;
        if !record.record(numbers, of.id, seq, timestamp, now) {
            return self.counters.count_drop(DropReason::NumberTaken);
        }
        if packet.keyframe_start {
            subscription.last_keyframe = Some(
                subscription
                    .last_keyframe
                    .map_or(numbers.seq, |last| last.max(numbers.seq)),
            );
            subscription.last_keyframe_at = Some(now);
            subscription.keyframe_asked = None;
        }
        let Some(transport) = self.transports.get_mut(subscription.transport) else {
            return;
        };
        let (id, again) = (subscription.id, Again::First);
        let waiting = Waiting {
            subscription: index,
            id,
            slot,
            numbers,
            again,
            next: 0,
        };
        if !self
            .tx
            .push(subscription.transport, &mut transport.queue, waiting)
        {
            return self.counters.count_drop(DropReason::OutgoingFull);
        }
        self.counters.rtp_forwarded.add(1);
        self.counters.pass(Stage::Numbered, bytes);
        self.packets.hold(slot);
        let transport = subscription.transport;
        self.report_at(transport, now);
    }

    /// Decides anew which layer each subscriber of a track gets, and asks for the keyframes that this takes.
    pub(super) fn choose_layers(&mut self, track: u32, now: Instant) {
        let Some(of) = self.tracks.get_mut(track) else {
            return;
        };
        of.layers_checked = now;
        let count = of.subscriptions.len();
        for source in of.layers.iter().filter_map(|layer| layer.source) {
            if let Some(source) = self.sources.get_mut(source) {
                source.rates = source.meter.rates(now);
            }
        }
        for at in 0..count {
            let Some(index) = self
                .tracks
                .get(track)
                .and_then(|track| track.subscriptions.get(at).copied())
            else {
                break;
            };
            self.choose_layer_soon(index, now);
        }
    }

    /// The same for one subscription: at once if it has nothing to go on with, else as often as decisions are made.
    fn choose_layer_soon(&mut self, index: u32, now: Instant) {
        let Some(of) = self.subscriptions.get(index) else {
            return;
        };
        let Some(track) = self.tracks.get(of.track) else {
            return;
        };
        let states = track.layer_states(&self.sources);
        let goes_on = match of.target {
            Some(target) => states[target.layer].live,
            None => of.limit == Limit::Bandwidth,
        };
        if goes_on && of.kind == MediaKind::Video {
            return self.allocate_soon(of.transport, now);
        }
        self.choose_layer(index, now);
    }

    /// Decides anew what a subscription gets: a picture together with all others of its subscriber.
    pub(super) fn choose_layer(&mut self, index: u32, now: Instant) {
        let Some(of) = self.subscriptions.get(index) else {
            return;
        };
        if of.kind == MediaKind::Video {
            return self.allocate(of.transport, now);
        }
        let Some(track) = self.tracks.get(of.track) else {
            return;
        };
        let states = track.layer_states(&self.sources);
        if let Some(target) = layers::choose(&states, None) {
            self.set_target(index, Some(target), now);
        }
    }

    /// Decides what a subscription gets from now on, and asks for the keyframe that this takes.
    pub(super) fn set_target(&mut self, index: u32, target: Option<Target>, now: Instant) {
        let Some(subscription) = self.subscriptions.get_mut(index) else {
            return;
        };
        subscription.target = target;
        let Some(target) = target else {
            subscription.resting = true;
            subscription.waits_since = None;
            return;
        };
        let (transport, kind, track) = (
            subscription.transport,
            subscription.kind,
            subscription.track,
        );
        let Some(source) = self.source_of(track, target.layer) else {
            return;
        };
        if let (Some(of), Some(subscription)) =
            (self.sources.get(source), self.subscriptions.get_mut(index))
        {
            let limit = Sublayer::new(target.spatial, target.temporal);
            subscription.rewriter.limit(of.id, limit);
        }
        self.note_waiting(index, source, target.layer, now);
        let waits = self.subscriptions.get(index).is_some_and(|subscription| {
            self.sources.get(source).is_some_and(|of| {
                let lacks = subscription.rewriter.lacks_layers(of.id);
                let waits = subscription.waits_for(of.id, target.layer) || lacks;
                waits && !of.keyframes.is_wanted()
            })
        });
        let ready = self
            .transports
            .get(transport)
            .is_some_and(|transport| transport.is_ready());
        if waits && ready && kind == MediaKind::Video {
            self.want_keyframe(source, now);
        }
    }

    /// Notes since when a subscription waits for a place to start in this source, or that it does not.
    fn note_waiting(&mut self, index: u32, source: u32, layer: usize, now: Instant) {
        let (Some(of), Some(subscription)) =
            (self.sources.get(source), self.subscriptions.get_mut(index))
        else {
            return;
        };
        let waits = subscription.waits_for(of.id, layer);
        let since = subscription.waits_since.unwrap_or(now);
        subscription.waits_since = waits.then_some(since);
    }

    /// Asks a source for a keyframe, now or when the last request was long enough ago.
    pub(super) fn want_keyframe(&mut self, source: u32, now: Instant) {
        let Some(of) = self.sources.get_mut(source) else {
            return;
        };
        if of.keyframes.want() {
            self.counters.keyframe_requests_coalesced.add(1);
            return;
        }
        let at = of.keyframes.poll_timeout().flatten().unwrap_or(now);
        if at <= now && self.keyframes_wanted.len() < KEYFRAMES_WANTED_MAX {
            self.keyframes_wanted.push(source);
        }
        self.wake_at(at);
    }
}

/// Why a subscription does not take a packet of this source.
fn withheld(subscription: &Subscription, source: &Source) -> Withheld {
    match subscription.target {
        None if subscription.limit == Limit::Bandwidth => Withheld::NoBandwidth,
        Some(target) if target.layer == source.layer => match subscription.rewriter.last() {
            None => Withheld::WaitingToStart,
            Some(_) => Withheld::WaitingToSwitch,
        },
        _ => Withheld::OtherLayer,
    }
}

/// The source with this id among those that feed the subscription's track.
pub(super) fn find_source<'a>(
    tracks: &crate::table::Table<crate::publisher::Track>,
    sources: &'a crate::table::Table<Source>,
    subscription: &Subscription,
    id: SourceId,
) -> Option<&'a Source> {
    let track = tracks.get(subscription.track)?;
    let feeding = track
        .layers
        .iter()
        .filter_map(|layer| sources.get(layer.source?));
    feeding.into_iter().find(|source| source.id == id)
}
