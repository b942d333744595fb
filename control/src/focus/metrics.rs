//! Counters for `/metrics`: the shards' own, read once a second, and those of control.
//!
//! Each focus has its own recorder instead of the process-wide one, so that several can run in one process. No label ever
//! holds a user's input.

use std::collections::BTreeMap;

use metrics::{Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use weir_shard::{Counters, Labels};
use weir_uring::RingCounters;

use crate::conference::Refusal;

/// What every metric's name starts with.
const METADATA: Metadata<'static> = Metadata::new("weir", Level::INFO, None);

/// The metrics of one focus.
pub(super) struct Metrics {
    recorder: PrometheusRecorder,
    refusals: BTreeMap<Refusal, u64>,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        describe(&recorder);
        Self {
            recorder,
            refusals: BTreeMap::new(),
        }
    }

    /// Renders what was last exported.
    pub(super) fn handle(&self) -> PrometheusHandle {
        self.recorder.handle()
    }

    /// Counts a request that was not carried out.
    pub(super) fn refused(&mut self, reason: Refusal) {
        *self.refusals.entry(reason).or_default() += 1;
    }

    /// Exports the refusals that were counted.
    pub(super) fn export_refusals(&self) {
        for (reason, count) in &self.refusals {
            self.counter(
                "weir_refusals_total",
                vec![Label::new("reason", reason.label())],
                *count,
            );
        }
    }

    /// Exports the counters of one shard.
    pub(super) fn export_shard(&self, shard: usize, counters: &Counters) {
        counters.for_each(|name, labels, value| self.of_shard(shard, name, labels, value));
    }

    /// Exports the counters of one shard's ring.
    pub(super) fn export_ring(&self, shard: usize, counters: &RingCounters) {
        counters.for_each(|name, value| self.of_shard(shard, name, &[], value));
    }

    fn of_shard(&self, shard: usize, name: &'static str, labels: Labels<'_>, value: u64) {
        let shard = Label::new("shard", shard.to_string());
        let labels = labels.iter().map(|(name, label)| Label::new(*name, *label));
        let labels = std::iter::once(shard).chain(labels).collect();
        // A counter here keeps the highest value that it ever had, which a level must not.
        if name.ends_with("_total") {
            self.counter(name, labels, value);
        } else {
            let key = Key::from_parts(name, labels);
            self.recorder
                .register_gauge(&key, &METADATA)
                .set(value as f64);
        }
    }

    /// Exports a level, such as the number of participants.
    pub(super) fn gauge(&self, name: &'static str, value: f64) {
        self.recorder
            .register_gauge(&Key::from_static_name(name), &METADATA)
            .set(value);
    }

    /// Exports a counter that somebody else counts up.
    pub(super) fn counter(&self, name: &'static str, labels: Vec<Label>, value: u64) {
        self.recorder
            .register_counter(&Key::from_parts(name, labels), &METADATA)
            .absolute(value);
    }
}

fn describe(recorder: &PrometheusRecorder) {
    let gauges = [
        (
            "weir_conferences",
            "Conferences with at least one participant.",
        ),
        ("weir_participants", "Participants over all conferences."),
        (
            "weir_transports",
            "Transports with a DTLS association, connected or connecting.",
        ),
        (
            "weir_matrix_up",
            "1 if the last sync with the homeserver succeeded.",
        ),
    ];
    for (name, text) in gauges {
        recorder.describe_gauge(KeyName::from_const_str(name), None, text.into());
    }
    let counters = [
        (
            "weir_refusals_total",
            "Requests that were not carried out, by reason.",
        ),
        (
            "weir_to_device_received_total",
            "To-device messages about calls that arrived.",
        ),
        (
            "weir_to_device_failed_total",
            "To-device messages that could not be sent.",
        ),
        (
            "weir_dtls_failed_total",
            "DTLS or SCTP associations that ended by a fault.",
        ),
    ];
    for (name, text) in counters {
        recorder.describe_counter(KeyName::from_const_str(name), None, text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_of_a_shard_may_fall() {
        let (metrics, counters) = (Metrics::new(), Counters::default());
        for transports in [3, 1] {
            counters.transports.set(transports);
            counters.rtp_forwarded.add(5);
            metrics.export_shard(0, &counters);
        }
        let text = metrics.handle().render();
        assert!(
            text.contains("weir_shard_transports{shard=\"0\"} 1\n"),
            "{text}"
        );
        assert!(
            text.contains("weir_shard_rtp_forwarded_total{shard=\"0\"} 10\n"),
            "{text}"
        );
    }
}
