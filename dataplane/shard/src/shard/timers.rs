//! What is due by time alone: consent and checks, feedback, reports, keyframe requests, holes to report. Looked at together, not more
//! often than every tick; when nothing flows, nothing is due but consent.

use std::time::Instant;

use crate::ids::MediaKind;
use crate::limits::{LAYER_SILENT, REPORT_INTERVAL};
use crate::shard::Shard;

impl Shard {
    pub(super) fn timers(&mut self, now: Instant) {
        for index in 0..self.transports.end() {
            self.transport_timers(index, now);
        }
        for index in 0..self.sources.end() {
            self.source_timers(index, now);
        }
        self.speakers_when_due(now);
        self.look_when_due(now);
        self.repeat_when_due(now);
        self.count_waiting();
    }

    fn transport_timers(&mut self, index: u32, now: Instant) {
        self.checks_when_due(index, now);
        self.feedback_when_due(index, now);
        self.bandwidth_when_due(index, now);
        self.reports_when_due(index, now);
        let Some(transport) = self.transports.get(index) else {
            return;
        };
        let due = [
            transport.ice.poll_timeout(),
            transport.feedback.poll_timeout(),
            transport.report_due,
        ];
        due.into_iter().flatten().for_each(|at| self.wake_at(at));
    }

    /// Starts the clock of a transport's next reports, if it does not run.
    pub(super) fn report_at(&mut self, transport: u32, now: Instant) {
        if let Some(transport) = self.transports.get_mut(transport)
            && transport.report_due.is_none()
        {
            transport.report_due = Some(now + REPORT_INTERVAL);
            self.wake_at(now + REPORT_INTERVAL);
        }
    }

    fn source_timers(&mut self, index: u32, now: Instant) {
        let Some(source) = self.sources.get(index) else {
            return;
        };
        if now.saturating_duration_since(source.last_arrival) >= LAYER_SILENT {
            // Nobody is there to answer. The next packet wakes the clocks again.
            return;
        }
        self.request_keyframe_when_due(index, now);
        self.report_missing_when_due(index, now);
        let Some(source) = self.sources.get(index) else {
            return;
        };
        let keyframe = source.keyframes.poll_timeout().map(|at| at.unwrap_or(now));
        let due = [keyframe, source.missing.poll_timeout()];
        due.into_iter().flatten().for_each(|at| self.wake_at(at));
    }

    /// Requests what became wanted in this batch, without waiting for a tick.
    pub(super) fn request_wanted_keyframes(&mut self, now: Instant) {
        while let Some(source) = self.keyframes_wanted.pop() {
            self.request_keyframe_when_due(source, now);
        }
    }

    fn count_waiting(&mut self) {
        let mut waiting = 0;
        for index in 0..self.subscriptions.end() {
            let Some(of) = self
                .subscriptions
                .get(index)
                .filter(|of| of.kind == MediaKind::Video)
            else {
                continue;
            };
            let target = of.target;
            let source = target.and_then(|target| self.source_of(of.track, target.layer));
            let source = source.and_then(|source| self.sources.get(source));
            waiting +=
                u64::from(source.is_some_and(|source| of.waits_for(source.id, source.layer)));
        }
        self.counters.waiting_switches.set(waiting);
    }
}
