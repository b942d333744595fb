//! What `/metrics` says, and who counts it.
//!
//! | file | what it is |
//! |---|---|
//! | `control` | what the driver counts |
//! | `process` | what the kernel says of the process |
//! | `text` | the format |
//!
//! Shards and their rings count by themselves ([`weir_shard::Counters`], [`weir_uring::RingCounters`]). Nothing is gathered
//! before somebody asks: a scrape reads the numbers where they are written. Each focus has its own metrics, so that several can
//! run in one process. No label ever holds a user's input, and every series is there from the start: how many there are depends
//! on the number of shards alone.

mod control;
mod process;
mod text;

#[cfg(test)]
mod documents;

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use cpu_time::ThreadTime;
use weir_shard::Counters;
use weir_uring::{RingCounters, ShardHandle};

pub(super) use control::{ControlCounters, HandshakeResult, SendResult};
use process::Process;
use text::Text;

use crate::appservice::counters::AppserviceCounters;

/// What the driver counts with, and beside it what is counted of the application service.
#[derive(Clone, Default)]
pub(super) struct Metrics {
    control: Arc<ControlCounters>,
    pub(super) appservice: Arc<AppserviceCounters>,
}

impl Deref for Metrics {
    type Target = ControlCounters;

    fn deref(&self) -> &ControlCounters {
        &self.control
    }
}

weir_shard::metrics! {
    /// About the exporting itself.
    struct ExportNumbers {
        /// How long it took to put together what a scrape gets. The scrape under way is not in it yet.
        time: histogram(16, 12) / 1e9 = "weir_export_seconds",
            "More shards, or cores that are full.";
        /// CPU time that this took.
        cpu: counter / 1e9 = "weir_export_cpu_seconds_total",
            "More scrapes: there is more than one Prometheus, or its interval is short.";
        /// Values in the last answer to a scrape.
        samples: gauge = "weir_export_samples",
            "It depends on the number of shards alone: report it.";
        /// 1, with the version as a label.
        build: gauge[Version; "version"] = "weir_build_info",
            "Never.";
    }
}

/// The version of this build, as a label.
#[derive(Clone, Copy)]
enum Version {
    This,
}

impl Version {
    const ALL: [Self; 1] = [Self::This];

    const fn label(self) -> &'static str {
        match self {
            Self::This => env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Puts together what a scrape gets. Cheap to clone.
#[derive(Clone)]
pub(super) struct Exporter(Arc<Sources>);

struct Sources {
    control: Metrics,
    shards: Vec<(Arc<Counters>, Arc<RingCounters>)>,
    /// One scrape after the other, so that many at once do not cost many cores.
    own: Mutex<(Process, ExportNumbers)>,
}

impl Exporter {
    pub(super) fn new<'a>(
        control: &Metrics,
        shards: impl Iterator<Item = &'a ShardHandle> + Clone,
    ) -> Self {
        let threads: Vec<i32> = shards.clone().map(ShardHandle::thread_id).collect();
        let counters = shards.map(|shard| {
            (
                Arc::clone(shard.counters()),
                Arc::clone(shard.ring_counters()),
            )
        });
        Self::of(control, counters.collect(), &threads)
    }

    fn of(
        control: &Metrics,
        shards: Vec<(Arc<Counters>, Arc<RingCounters>)>,
        threads: &[i32],
    ) -> Self {
        let numbers = ExportNumbers::default();
        numbers.build[Version::This as usize].set(1);
        Self(Arc::new(Sources {
            control: control.clone(),
            shards,
            own: Mutex::new((Process::new(threads), numbers)),
        }))
    }

    /// What a scrape gets now.
    pub(super) fn render(&self) -> String {
        let own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
        let (began, cpu_began) = (Instant::now(), ThreadTime::now());
        let (process, numbers) = &*own;
        let text = self.gather(process, numbers);
        numbers.samples.set(text.samples());
        let text = text.finish();
        numbers.time.record(began.elapsed().as_nanos() as u64);
        numbers.cpu.add(cpu_began.elapsed().as_nanos() as u64);
        text
    }

    fn gather(&self, process: &Process, numbers: &ExportNumbers) -> Text {
        let mut text = Text::default();
        self.0.control.export(&mut text);
        self.0.control.appservice.export(&mut text);
        for (index, (shard, ring)) in self.0.shards.iter().enumerate() {
            text.label("shard", index);
            shard.export(&mut text);
            ring.export(&mut text);
        }
        text.unlabel();
        process.export(&mut text);
        numbers.export(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn exporter(shards: usize) -> (Exporter, Metrics, Arc<Counters>) {
        let metrics = Metrics::default();
        let counters: Vec<_> = (0..shards).map(|_| Default::default()).collect();
        let first: &(Arc<Counters>, Arc<RingCounters>) = &counters[0];
        let first = Arc::clone(&first.0);
        (Exporter::of(&metrics, counters, &[]), metrics, first)
    }

    /// Names with labels, without their values.
    fn series(text: &str) -> Vec<&str> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| Some(line.rsplit_once(' ')?.0))
            .collect()
    }

    #[test]
    fn level_of_a_shard_may_fall() {
        let (exporter, _, counters) = exporter(1);
        let mut text = String::new();
        for transports in [3, 1] {
            counters.transports.set(transports);
            counters.rtp_forwarded.add(5);
            text = exporter.render();
        }
        for line in [
            "weir_shard_transports{shard=\"0\"} 1\n",
            "weir_shard_rtp_forwarded_total{shard=\"0\"} 10\n",
            "weir_export_seconds_count 1\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn every_series_is_there_from_the_start_and_none_twice() {
        let (exporter, metrics, counters) = exporter(2);
        let before = exporter.render();
        counters.round_trips.record(5);
        counters.batch_packets[0].record(1 << 40);
        metrics.conferences.set(7);
        metrics.handshake_time.record(1);
        let after = exporter.render();
        assert_eq!(series(&before), series(&after));
        let mut unique = series(&after);
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), series(&after).len());
        let said = format!("weir_export_samples {}\n", unique.len());
        assert!(after.contains(&said), "{said}");
    }

    #[test]
    fn what_a_scrape_costs_is_counted() {
        let (exporter, _, _) = exporter(1);
        exporter.render();
        let text = exporter.render();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("weir_export_cpu_seconds_total "));
        assert!(line.unwrap().parse::<f64>().unwrap() > 0.0);
    }
}
