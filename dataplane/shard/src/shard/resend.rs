//! What is sent again, and when a keyframe takes its place (RFC 4585 §6.2.1).
//!
//! A packet that a subscriber lacks can be missing for three reasons: it was lost on the way down (it is sent again), it was
//! lost on the way up (the publisher is being asked; it goes out when it comes), or it cannot be had any more. Only the last
//! one needs a keyframe, and it needs it at once: decoders wait seconds for a packet before they ask themselves.

use std::time::Instant;

use weir_wire::Seq;
use weir_wire::rtcp::{Nack, TransportFeedback};

use crate::bandwidth::WaitingResend;
use crate::counters::DropReason;
use crate::ids::{MediaKind, SubscriptionId};
use crate::limits::{
    DEPARTURES, NACK_LIST_MAX, OPENING_REPEATS, REPEAT_INTERVAL, REPEAT_LOSS, REPEATS_MAX,
    RESENDS_PER_BATCH,
};
use crate::pacer::Verdict;
use crate::sent::{NotAgain, Sent};
use crate::shard::Shard;
use crate::shard::forward::find_source;
use crate::shard::media::OVERHEAD_BYTES;
use crate::subscription::Subscription;
use crate::tx::{Again, Waiting};

/// A packet that is sent again unasked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeat {
    due: Instant,
    transport: u32,
    subscription: u32,
    id: SubscriptionId,
    seq: Seq,
    /// How often still.
    left: u8,
}

/// What a subscriber's request comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Queued,
    /// For a reason that passes, or that makes the packet useless.
    Refused(DropReason),
    /// It will never be sent again.
    Never(DropReason),
}

impl Shard {
    pub(super) fn nack(&mut self, transport: u32, nack: &Nack<'_>, now: Instant) {
        let Some(index) = self.subscription_of(transport, nack.media_ssrc) else {
            return;
        };
        let missing = nack.seqs().take(NACK_LIST_MAX + 1).count();
        self.counters.nacks_received.add(missing as u64);
        if missing > NACK_LIST_MAX {
            return self.keyframe_request(transport, nack.media_ssrc, now);
        }
        let mut lost_for_good = false;
        for seq in nack.seqs() {
            match self.resend(transport, index, seq, now) {
                Answer::Queued => {}
                Answer::Refused(reason) => self.counters.count_drop(reason),
                Answer::Never(reason) => {
                    self.counters.count_drop(reason);
                    lost_for_good = true;
                }
            }
        }
        if lost_for_good {
            self.want_keyframe_for(transport, index, now);
        }
    }

    /// Sends again what transport-wide feedback says is lost, without waiting to be asked: the request may be lost, too, and a
    /// receiver that does not know its round trip repeats it only after 100 ms. What has left again since is left out.
    pub(super) fn resend_lost(
        &mut self,
        transport: u32,
        feedback: &TransportFeedback<'_>,
        now: Instant,
    ) {
        let statuses = feedback.arrivals().take(DEPARTURES);
        for (wide, arrived) in statuses {
            let Some(to) = self.transports.get_mut(transport) else {
                return;
            };
            if arrived.is_some() {
                to.departures.arrived(wide);
                continue;
            }
            let Some(lost) = to.departures.lost(wide) else {
                continue;
            };
            let of = self.subscriptions.get(lost.subscription);
            let of = of.filter(|of| of.id == lost.id);
            if of.and_then(|of| of.sent.wide(lost.seq)) != Some(wide) {
                continue;
            }
            let answer = self.resend(transport, lost.subscription, lost.seq, now);
            if let Answer::Never(reason) = answer {
                self.counters.count_drop(reason);
                self.want_keyframe_for(transport, lost.subscription, now);
            }
        }
    }

    /// Queues a packet once more, outside of a list of missing ones.
    pub(super) fn resend_one(&mut self, transport: u32, index: u32, seq: Seq, now: Instant) {
        if let Answer::Refused(reason) | Answer::Never(reason) =
            self.resend(transport, index, seq, now)
        {
            self.counters.count_drop(reason);
        }
    }

    /// Queues a packet once more, as it went out the first time.
    fn resend(&mut self, transport: u32, index: u32, seq: Seq, now: Instant) -> Answer {
        let Some(to) = self.transports.get(transport).filter(|to| to.is_ready()) else {
            return Answer::Refused(DropReason::NotReady);
        };
        let Some(of) = self.subscriptions.get(index) else {
            return Answer::Refused(DropReason::NotReady);
        };
        if to.resends >= RESENDS_PER_BATCH {
            return Answer::Refused(DropReason::ResendsFull);
        }
        if of.is_superseded(seq, now) {
            return Answer::Refused(DropReason::ResendUseless);
        }
        match of.sent.again(seq, to.round_trip.least(), now) {
            Ok(sent) => self.send_again(transport, index, &sent, now),
            Err(NotAgain::TooSoon) => Answer::Refused(DropReason::ResendTooSoon),
            Err(NotAgain::NeverSent) => Answer::Refused(DropReason::ResendUnknown),
            Err(NotAgain::TooOften) => Answer::Never(DropReason::ResendTooOften),
            Err(NotAgain::Forgotten) => Answer::Never(DropReason::ResendTooOld),
        }
    }

    /// Queues a packet, and on a way that loses once more a moment later: another loss costs more than a packet.
    fn send_again(&mut self, transport: u32, index: u32, sent: &Sent, now: Instant) -> Answer {
        let answer = self.push_again(transport, index, sent, now);
        let to = self.transports.get(transport);
        let loses = to.is_some_and(|to| REPEAT_LOSS.contains(&to.departures.loss()));
        if answer == Answer::Queued
            && loses
            && sent.is_first_resend()
            && let Some(of) = self.subscriptions.get(index)
        {
            let id = of.id;
            self.repeat(Repeat {
                due: now + REPEAT_INTERVAL,
                transport,
                subscription: index,
                id,
                seq: sent.seq.seq(),
                left: 1,
            });
        }
        answer
    }

    fn push_again(&mut self, transport: u32, index: u32, sent: &Sent, now: Instant) -> Answer {
        let (Some(to), Some(of)) = (
            self.transports.get_mut(transport),
            self.subscriptions.get_mut(index),
        ) else {
            return Answer::Refused(DropReason::NotReady);
        };
        let source = find_source(&self.tracks, &self.sources, of, sent.source);
        let newest = source.and_then(|source| Some((source, source.history.newest()?)));
        let kept =
            newest.and_then(|(source, newest)| source.history.get(newest.nearest(sent.source_seq)));
        let Some((slot, packet)) = kept.and_then(|slot| Some((slot, self.packets.get(slot)?)))
        else {
            return Answer::Never(DropReason::ResendTooOld);
        };
        let bytes = packet.payload_len + OVERHEAD_BYTES;
        match to.bandwidth.take_resend(bytes, now) {
            Verdict::Now => {}
            Verdict::Later => {
                let waits = to.bandwidth.wait(WaitingResend {
                    subscription: index,
                    id: of.id,
                    seq: sent.seq.seq(),
                });
                self.wake_at(now);
                return match waits {
                    true => Answer::Queued,
                    false => Answer::Refused(DropReason::ResendsFull),
                };
            }
            Verdict::Never => return Answer::Refused(DropReason::ResendShare),
        }
        let waiting = Waiting {
            subscription: index,
            id: of.id,
            slot,
            numbers: sent.numbers(packet.timestamp),
            again: Again::Resend,
            next: 0,
        };
        if !self.tx.push(transport, &mut to.queue, waiting) {
            return Answer::Refused(DropReason::OutgoingFull);
        }
        to.resends += 1;
        of.sent.note_again(sent.seq, now);
        self.packets.hold(slot);
        self.counters.resends.add(1);
        Answer::Queued
    }

    /// Whether the next packet is the first of a picture subscription.
    pub(super) fn opens(&self, index: u32) -> bool {
        let of = self.subscriptions.get(index);
        of.is_some_and(|of| of.kind == MediaKind::Video && of.rewriter.last().is_none())
    }

    /// A subscription has been given its first packet. Receivers count losses from the first packet that they get: they do not
    /// know of one that was lost before it, so it is sent again unasked.
    pub(super) fn opened(&mut self, index: u32, now: Instant) {
        let Some(of) = self.subscriptions.get(index) else {
            return;
        };
        let Some(first) = of.rewriter.last() else {
            return;
        };
        let (transport, id, seq) = (of.transport, of.id, first.seq.seq());
        self.repeat(Repeat {
            due: now + REPEAT_INTERVAL,
            transport,
            subscription: index,
            id,
            seq,
            left: OPENING_REPEATS,
        });
    }

    fn repeat(&mut self, repeat: Repeat) {
        if self.repeats.len() < REPEATS_MAX {
            self.wake_at(repeat.due);
            self.repeats.push_back(repeat);
        }
    }

    /// Sends again what is to be sent again by now.
    pub(super) fn repeat_when_due(&mut self, now: Instant) {
        let is_due = |repeat: &mut Repeat| repeat.due <= now;
        while let Some(repeat) = self.repeats.pop_front_if(is_due) {
            let of = self.subscriptions.get(repeat.subscription);
            let lives =
                |of: &Subscription| of.id == repeat.id && !of.is_superseded(repeat.seq, now);
            if !of.is_some_and(lives) {
                continue;
            }
            let to = self.transports.get(repeat.transport);
            if !to.is_some_and(|to| to.is_ready()) {
                continue;
            }
            // Meant to be soon after the time before: no round trip is waited for.
            let sent = of.map(|of| of.sent.again(repeat.seq, None, now));
            if let Some(Ok(sent)) = sent {
                self.push_again(repeat.transport, repeat.subscription, &sent, now);
            }
            if repeat.left > 1 {
                self.repeats.push_back(Repeat {
                    due: now + REPEAT_INTERVAL,
                    left: repeat.left - 1,
                    ..repeat
                });
            }
        }
        if let Some(next) = self.repeats.front() {
            self.wake_at(next.due);
        }
    }

    /// A subscriber's decoder is stuck.
    pub(super) fn keyframe_request(&mut self, transport: u32, ssrc: u32, now: Instant) {
        let Some(index) = self.subscription_of(transport, ssrc) else {
            return;
        };
        self.counters.keyframe_requests_received.add(1);
        if self.want_keyframe_for(transport, index, now)
            && let Some(of) = self.subscriptions.get_mut(index)
        {
            of.keyframe_asked = Some(now);
        }
    }

    /// Asks for a keyframe of what a subscriber sees and of what it waits for. Not when one is on its way to it that it cannot
    /// know of yet: `false`.
    fn want_keyframe_for(&mut self, transport: u32, index: u32, now: Instant) -> bool {
        let rtt = self
            .transports
            .get(transport)
            .and_then(|to| to.round_trip.smoothed());
        let Some(of) = self
            .subscriptions
            .get(index)
            .filter(|of| of.kind == MediaKind::Video)
        else {
            return false;
        };
        if of.has_keyframe_on_its_way(rtt, now) {
            self.counters.keyframe_requests_coalesced.add(1);
            return false;
        }
        let (track, target, current) = (of.track, of.target, of.rewriter.source());
        let Some(track) = self.tracks.get(track) else {
            return false;
        };
        let watched = track.layers.iter().enumerate().filter_map(|(layer, of)| {
            let source = of.source?;
            let is_current = self
                .sources
                .get(source)
                .is_some_and(|source| Some(source.id) == current);
            (target.is_some_and(|target| target.layer == layer) || is_current).then_some(source)
        });
        let mut sources = watched.fuse();
        let (first, second) = (sources.next(), sources.next());
        drop(sources);
        let sources = || [first, second].into_iter().flatten();
        let is_new = sources().any(|source| {
            let of = self.sources.get(source);
            of.is_some_and(|of| !of.keyframes.is_wanted())
        });
        let of = self.subscriptions.get_mut(index);
        if is_new && !of.is_some_and(|of| of.wishes.take(now)) {
            self.counters.count_drop(DropReason::KeyframeRate);
            return false;
        }
        sources().for_each(|source| self.want_keyframe(source, now));
        true
    }
}
