//! A subscriber's bandwidth at work: its feedback is heard, what it carries is given out, and padding finds out about more.

use std::time::Instant;

use weir_wire::extension::Element;
use weir_wire::rtcp::{ReportBlock, TransportFeedback};
use weir_wire::{Seq, rtp};

use crate::allocate::{self, Ask, Holds, Outcome, Urgency};
use crate::counters::DropReason;
use crate::ids::{MediaKind, Purpose, Size};
use crate::layers::{self, LayerStates, Rung};
use crate::limits::{ESTIMATE_MAX_BPS, PICTURES_MAX, PIXEL_BITS, PROBE_PACKETS_MAX};
use crate::publisher::Track;
use crate::reason::Limit;
use crate::shard::Shard;
use crate::shard::egress::HEADER_BYTES_MAX;
use crate::transport::{Departure, DepartureKind};
use crate::tx::Run;

/// The most padding that a packet's last byte can count.
const PADDING: [u8; 255] = {
    let mut padding = [0; 255];
    padding[254] = 255;
    padding
};

impl Shard {
    /// Takes what a subscriber says about the arrival of each packet.
    pub(super) fn transport_feedback(
        &mut self,
        index: u32,
        feedback: &TransportFeedback<'_>,
        now: Instant,
    ) {
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        if !transport
            .bandwidth
            .take_statuses(feedback.status_count, now)
        {
            return self.counters.count_drop(DropReason::FeedbackRate);
        }
        self.resend_lost(index, feedback, now);
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        if let Some(estimator) = transport.bandwidth.estimator() {
            estimator.handle_feedback(feedback.arrivals(), now);
        }
        self.decide_if_changed(index, now);
    }

    /// Takes a ceiling (REMB).
    pub(super) fn remb(&mut self, index: u32, bps: u64, now: Instant) {
        let transport = self.transports.get_mut(index);
        if let Some(estimator) = transport.and_then(|of| of.bandwidth.estimator()) {
            estimator.handle_remb(bps, now);
        }
        self.decide_if_changed(index, now);
    }

    /// Takes the losses that a subscriber reports of one stream.
    pub(super) fn loss_report(
        &mut self,
        index: u32,
        subscription: u32,
        block: &ReportBlock,
        now: Instant,
    ) {
        let Some(of) = self.subscriptions.get_mut(subscription) else {
            return;
        };
        let before = of.reports.highest.replace(block.highest_sequence);
        let expected = before.map_or(0, |before| block.highest_sequence.wrapping_sub(before));
        // More than a report's interval can hold is a receiver that started anew.
        let expected = if expected > 1 << 15 { 0 } else { expected };
        let lost = expected * u32::from(block.fraction_lost) / 256;
        let transport = self.transports.get_mut(index);
        if let Some(estimator) = transport.and_then(|of| of.bandwidth.estimator()) {
            estimator.handle_loss_report(expected - lost, lost, now);
        }
        self.decide_if_changed(index, now);
    }

    fn decide_if_changed(&mut self, index: u32, now: Instant) {
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        if transport.bandwidth.has_changed(now) {
            let at = transport.bandwidth.decide_at(now);
            self.wake_at(at);
        }
        self.wake_for_bandwidth(index, now);
    }

    /// Decides anew about everything that a subscriber gets, soon.
    pub(super) fn allocate_soon(&mut self, index: u32, now: Instant) {
        if let Some(transport) = self.transports.get_mut(index) {
            let at = transport.bandwidth.decide_soon(now);
            self.wake_at(at);
        }
    }

    /// What of a transport's bandwidth is due by time.
    pub(super) fn bandwidth_when_due(&mut self, index: u32, now: Instant) {
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        if !transport.bandwidth.has_begun() {
            return;
        }
        if transport.bandwidth.due().is_some_and(|due| due <= now)
            || transport.bandwidth.has_changed(now)
        {
            self.allocate(index, now);
        }
        let Some(transport) = self.transports.get_mut(index) else {
            return;
        };
        if transport.is_ready()
            && let Some(estimator) = transport.bandwidth.estimator()
        {
            estimator.handle_timeout(now);
            let bytes = estimator.probe_bytes(now);
            self.probe(index, bytes, now);
        }
        self.resend_waiting(index, now);
        self.wake_for_bandwidth(index, now);
    }

    /// Sends again what had to wait, as much as may leave by now.
    fn resend_waiting(&mut self, index: u32, now: Instant) {
        let waiting = self
            .transports
            .get(index)
            .map_or(0, |of| of.bandwidth.resends_waiting());
        for _ in 0..waiting {
            let of = self.transports.get_mut(index);
            let Some(next) = of.and_then(|of| of.bandwidth.next_waiting()) else {
                break;
            };
            let lives = self
                .subscriptions
                .get(next.subscription)
                .is_some_and(|of| of.id == next.id);
            if lives {
                self.resend_one(index, next.subscription, next.seq, now);
            }
        }
    }

    fn wake_for_bandwidth(&mut self, index: u32, now: Instant) {
        let transport = self.transports.get(index).filter(|of| of.is_ready());
        if let Some(at) = transport.and_then(|of| of.bandwidth.poll_timeout(now)) {
            self.wake_at(at);
        }
    }

    /// Gives out what a subscriber can be sent.
    pub(super) fn allocate(&mut self, index: u32, now: Instant) {
        let mut asks = std::mem::take(&mut self.asks);
        asks.clear();
        let mut silent_bps = 0;
        let mut padding = false;
        let count = self
            .transports
            .get(index)
            .map_or(0, |of| of.subscriptions.len());
        for at in 0..count {
            let of = self.transports.get(index);
            let Some(subscription) = of.and_then(|of| of.subscriptions.get(at).copied()) else {
                break;
            };
            padding |= self.can_pad(subscription);
            if let Some(ask) = self.ask(subscription)
                && asks.len() < PICTURES_MAX
            {
                silent_bps += ask.silent_bps;
                asks.push(ask);
            }
        }
        let Some(transport) = self.transports.get_mut(index) else {
            self.asks = asks;
            return;
        };
        let terms = transport.bandwidth.terms(now);
        let outcome = allocate::allocate(&mut asks, terms);
        transport
            .bandwidth
            .decided(outcome, silent_bps, padding, now);
        let cut = outcome.fell && transport.bandwidth.must_cut(now);
        for ask in &asks {
            self.give(ask, cut, now);
        }
        self.count_allocation(&outcome);
        self.asks = asks;
    }

    fn count_allocation(&mut self, outcome: &Outcome) {
        if outcome.fell {
            self.counters.allocations_lowered.add(1);
        }
        if outcome.rose {
            self.counters.allocations_raised.add(1);
        }
    }

    /// What a subscription asks for, if it is a picture of which something is sent.
    fn ask(&self, index: u32) -> Option<Ask> {
        let of = self.subscriptions.get(index)?;
        let track = self.tracks.get(of.track)?;
        if track.kind != MediaKind::Video {
            return None;
        }
        let mut states = track.layer_states(&self.sources);
        let ladder = layers::ladder(&states, of.wanted);
        let mut rungs = [*ladder.rungs().first()?; layers::RUNGS_MAX];
        let count = ladder.rungs().len();
        for (rung, of) in rungs.iter_mut().zip(ladder.rungs()) {
            *rung = known(of, &states);
        }
        let holds = match (of.target, of.limit) {
            (Some(target), _) => Holds::This(target),
            (None, Limit::Bandwidth) => Holds::Nothing,
            (None, _) => Holds::Undecided,
        };
        let area = of.wanted.map_or(0, Size::area);
        let mut ask = Ask::new(index, area, self.urgency(track), &rungs[..count], holds)?;
        ask.is_guess = !track.is_simulcast() && ladder.rungs()[0].bps == 0;
        let top = rungs[count - 1].bps;
        ask.silent_bps = silent_bps(&mut states, track, of.wanted).saturating_sub(top);
        Some(ask)
    }

    fn urgency(&self, track: &Track) -> Urgency {
        match track.purpose {
            Purpose::ScreenShare => Urgency::Screen,
            Purpose::UserMedia if self.speaks(track.transport) => Urgency::Speaker,
            Purpose::UserMedia => Urgency::Other,
        }
    }

    /// Whether the active speaker is on this transport.
    fn speaks(&self, publisher: u32) -> bool {
        let Some(transport) = self.transports.get(publisher) else {
            return false;
        };
        let voices = transport
            .tracks
            .iter()
            .filter_map(|track| self.tracks.get(*track)?.voice);
        voices.into_iter().any(|voice| {
            let of = self.conferences.get(voice.conference);
            of.is_some_and(|voices| voices.is_first(voice.place))
        })
    }

    /// Sums up what subscribers can be sent.
    pub(super) fn count_estimates(&mut self, now: Instant) {
        let (mut sum, mut min, mut max) = (0, u64::MAX, 0);
        for index in 0..self.transports.end() {
            let of = self.transports.get(index);
            if let Some(bps) = of.and_then(|of| of.bandwidth.target_bps(now)) {
                (sum, min, max) = (sum + bps, min.min(bps), max.max(bps));
            }
        }
        let min = if max == 0 { 0 } else { min };
        self.counters.estimate_bps_sum.set(sum);
        self.counters.estimate_bps_min.set(min);
        self.counters.estimate_bps_max.set(max);
    }

    /// Lets a subscription have what it was given.
    fn give(&mut self, ask: &Ask, cut: bool, now: Instant) {
        let index = ask.subscription;
        let target = ask.target();
        let Some(of) = self.subscriptions.get(index) else {
            return;
        };
        let Some(track) = self.tracks.get(of.track) else {
            return;
        };
        let states = track.layer_states(&self.sources);
        let stalled = of.target.is_some_and(|before| !states[before.layer].live);
        let limit = match ask.is_satisfied() {
            false => Limit::Bandwidth,
            true if ask.silent_bps > 0 => Limit::LayerSilent,
            true => Limit::None,
        };
        let moves = of
            .target
            .zip(target)
            .is_some_and(|(before, after)| before.layer != after.layer);
        if moves && stalled {
            self.counters.layers_stalled.add(1);
        }
        if let Some(of) = self.subscriptions.get_mut(index) {
            of.limit = limit;
        }
        if cut && moves {
            self.set_target(index, None, now);
        }
        self.set_target(index, target, now);
    }

    fn can_pad(&self, subscription: u32) -> bool {
        let of = self.subscriptions.get(subscription);
        of.is_some_and(|of| {
            of.extensions.transport_cc.is_some_and(|id| id != 0) && of.any_rtx().is_some()
        })
    }

    /// Sends `bytes` of padding on a stream of retransmissions, where receivers throw it away.
    fn probe(&mut self, index: u32, bytes: u64, now: Instant) {
        if bytes == 0 {
            return;
        }
        let Some(transport) = self.transports.get(index) else {
            return;
        };
        let Some(path) = transport.ice.selected() else {
            return;
        };
        let Some(on) = transport
            .subscriptions
            .iter()
            .copied()
            .find(|of| self.can_pad(*of))
        else {
            return;
        };
        let mut run = Run::new(path);
        let mut left = bytes.min(ESTIMATE_MAX_BPS);
        for _ in 0..PROBE_PACKETS_MAX {
            match self.seal_padding(index, on, &mut run, now) {
                Ok(sent) => left = left.saturating_sub(sent as u64),
                Err(reason) => {
                    self.counters.count_drop(reason);
                    break;
                }
            }
            if left == 0 {
                break;
            }
        }
        run.finish(&mut self.tx, &self.counters);
    }

    /// Seals one packet that is nothing but padding; its length comes back.
    fn seal_padding(
        &mut self,
        transport: u32,
        subscription: u32,
        run: &mut Run,
        now: Instant,
    ) -> Result<usize, DropReason> {
        let of = self
            .subscriptions
            .get_mut(subscription)
            .ok_or(DropReason::NotReady)?;
        let to = self
            .transports
            .get_mut(transport)
            .ok_or(DropReason::NotReady)?;
        let sender = to.sender.as_mut().ok_or(DropReason::NotReady)?;
        let (payload_type, rtx) = of.any_rtx().ok_or(DropReason::NotReady)?;
        let id = of.extensions.transport_cc.ok_or(DropReason::NotReady)?;
        let number: Seq = to.next_wide;
        let header = rtp::Outgoing {
            marker: false,
            payload_type,
            sequence_number: rtx.next.seq(),
            timestamp: of
                .rewriter
                .last()
                .map(|last| last.timestamp)
                .unwrap_or_default(),
            ssrc: rtx.ssrc,
            has_padding: true,
        };
        let wide = number.0.to_be_bytes();
        let elements = [Element { id, data: &wide }];
        let mut head = [0; HEADER_BYTES_MAX];
        let plain = header
            .emit(&elements, &mut head)
            .map_err(|_| DropReason::TooLarge)?;
        let len = plain + PADDING.len() + sender.profile().tag_len();
        let room = run
            .room(len, &mut self.tx, &self.counters)
            .ok_or(DropReason::NoSendBuffer)?;
        let sealed = sender.protect_rtp(&head[..plain], &PADDING, rtx.next, room);
        run.wrote(sealed.map_err(|_| DropReason::Protect)?);
        self.counters.probes.add(1);
        of.use_rtx_number();
        to.next_wide = number.add(1);
        let departure = Departure {
            number: Some(number),
            bytes: len,
            kind: DepartureKind::Probe,
        };
        to.note_sent(departure, &self.counters, now);
        Ok(len)
    }
}

/// A choice with a guess at what it takes, if nobody has measured it yet.
fn known(rung: &Rung, states: &LayerStates) -> Rung {
    if rung.bps > 0 {
        return *rung;
    }
    let sizes = states.get(rung.target.layer).map(|state| state.sizes);
    let size = sizes.and_then(|sizes| {
        sizes
            .get(usize::from(rung.target.spatial))
            .copied()
            .flatten()
    });
    Rung {
        bps: size.map_or(0, |size| u64::from(size.area()) * PIXEL_BITS),
        ..*rung
    }
}

/// What a subscription would take if all layers that ever came still did; 0 if they do. A publisher that was asked to pause
/// layers which nobody could be sent must not make them look as if nobody wanted them.
fn silent_bps(states: &mut LayerStates, track: &Track, wanted: Option<Size>) -> u64 {
    let best = layers::choose(states, wanted);
    let mut any_silent = false;
    for (state, layer) in states.iter_mut().zip(&track.layers) {
        any_silent |= !state.live && layer.source.is_some();
        state.live |= layer.source.is_some();
    }
    if !any_silent {
        return 0;
    }
    let Some(all) = layers::choose(states, wanted)
        .filter(|all| best.is_some_and(|best| best.layer != all.layer))
    else {
        return 0;
    };
    let rung = Rung {
        target: all,
        bps: 0,
    };
    known(&rung, states).bps
}
