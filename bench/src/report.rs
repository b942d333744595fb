//! Results as JSON, as a table for people, and as Markdown to paste.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::fanout::{Load, Outcome, Pace};
use crate::source::Medium;
use weir_bench::statistics::{median, spread};
use weir_bench::table::{Layout, table};

/// Everything that one call of the program found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    /// The processor and the kernel.
    pub(crate) machine: String,
    /// `veth` or `loopback`.
    pub(crate) network: String,
    /// What a reader must know besides.
    pub(crate) notes: Vec<String>,
    pub(crate) micro: Vec<Micro>,
    pub(crate) fanout: Vec<Fanout>,
    pub(crate) floor: Vec<Floor>,
}

/// One part of the packet path.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Micro {
    pub(crate) name: String,
    pub(crate) bytes: usize,
    /// The median of all samples.
    pub(crate) ns: f64,
    /// Half the distance between the quartiles, as a part of the median.
    pub(crate) spread: f64,
}

/// One load, over all rounds: every number is the median of the rounds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fanout {
    pub(crate) subscribers: usize,
    pub(crate) medium: Medium,
    pub(crate) pace: Pace,
    pub(crate) profile: String,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// CPU time of the shard's thread for each packet that it forwarded.
    pub(crate) ns_per_packet: f64,
    pub(crate) ns_spread: f64,
    pub(crate) user_ns: f64,
    pub(crate) system_ns: f64,
    /// What the kernel alone took for the same sends.
    pub(crate) floor_ns: Option<f64>,
    pub(crate) floor_spread: Option<f64>,
    /// How many times the floor it is.
    pub(crate) ratio: Option<f64>,
    pub(crate) packets_in_per_second: f64,
    pub(crate) packets_per_second: f64,
    /// Forwarded packets for each second of CPU time.
    pub(crate) packets_per_core_second: f64,
    /// Part of the core that the thread used, 0 to 1.
    pub(crate) busy: f64,
    pub(crate) segments_per_send: f64,
    pub(crate) sends_per_second: f64,
    /// Media packets received for each wake-up.
    pub(crate) received_per_wakeup: f64,
    /// From the publisher's send to a subscriber's receive: 50 %, 90 %, 99 %, and the longest.
    pub(crate) delay_us: [f64; 4],
}

/// Sends of one shape by the kernel alone.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Floor {
    pub(crate) subscribers: usize,
    pub(crate) segments: usize,
    pub(crate) segment_bytes: usize,
    pub(crate) ns_per_packet: f64,
    pub(crate) ns_spread: f64,
    pub(crate) packets_per_core_second: f64,
}

impl Outcome {
    pub(crate) fn ns_per_packet(&self) -> f64 {
        self.cpu.total_ns as f64 / self.counts.forwarded.max(1) as f64
    }
}

impl Fanout {
    /// Puts the rounds of one load together.
    pub(crate) fn of(load: &Load, rounds: &[Outcome], floors: &[Outcome]) -> Self {
        let ns: Vec<f64> = rounds.iter().map(Outcome::ns_per_packet).collect();
        let floor: Vec<f64> = floors.iter().map(Outcome::ns_per_packet).collect();
        let of = |value: &dyn Fn(&Outcome) -> f64| {
            median(&rounds.iter().map(value).collect::<Vec<f64>>())
        };
        let per_second = |count: u64, of: &Outcome| count as f64 / of.wall.as_secs_f64();
        let system = of(&|of| of.cpu.system_part());
        let ns_per_packet = median(&ns);
        let floor_ns = (!floor.is_empty()).then(|| median(&floor));
        Self {
            subscribers: load.subscribers,
            medium: load.medium,
            pace: load.pace,
            profile: format!("{:?}", load.profile),
            rounds: rounds.len(),
            seconds: load.duration.as_secs_f64(),
            ns_per_packet,
            ns_spread: spread(&ns),
            user_ns: ns_per_packet * (1.0 - system),
            system_ns: ns_per_packet * system,
            floor_ns,
            floor_spread: floor_ns.map(|_| spread(&floor)),
            ratio: floor_ns.map(|floor| ns_per_packet / floor),
            packets_in_per_second: of(&|of| per_second(of.counts.received, of)),
            packets_per_second: of(&|of| per_second(of.counts.forwarded, of)),
            packets_per_core_second: 1e9 / ns_per_packet,
            busy: of(&|of| of.cpu.total_ns as f64 / of.wall.as_nanos() as f64),
            segments_per_send: of(&|of| of.counts.datagrams as f64 / of.counts.sends.max(1) as f64),
            sends_per_second: of(&|of| per_second(of.counts.sends, of)),
            received_per_wakeup: of(&|of| {
                of.counts.received as f64 / of.counts.wakeups.max(1) as f64
            }),
            delay_us: [0, 1, 2, 3].map(|at| of(&|of| of.delays_us[at])),
        }
    }
}

impl Report {
    /// All tables.
    pub(crate) fn render(&self, layout: Layout) -> String {
        let mut out = String::new();
        let network = match self.network.as_str() {
            "" => String::new(),
            network => format!("; {network}"),
        };
        let _ = writeln!(out, "{}{network}\n", self.machine);
        for note in &self.notes {
            let _ = writeln!(out, "{note}\n");
        }
        if !self.fanout.is_empty() {
            self.fanout_table(layout, &mut out);
            self.delay_table(layout, &mut out);
        }
        if !self.floor.is_empty() {
            self.floor_table(layout, &mut out);
        }
        if !self.micro.is_empty() {
            self.micro_table(layout, &mut out);
        }
        out
    }

    fn fanout_table(&self, layout: Layout, out: &mut String) {
        let head = [
            "subscribers",
            "pace",
            "ns/packet",
            "user",
            "system",
            "floor",
            "ratio",
            "packets/s",
            "core",
            "packets/core s",
            "segments/send",
            "in/wake-up",
        ];
        let row = |of: &Fanout| {
            let floor = of.floor_ns.zip(of.floor_spread);
            vec![
                of.subscribers.to_string(),
                pace(of),
                with_spread(of.ns_per_packet, of.ns_spread),
                format!("{:.0}", of.user_ns),
                format!("{:.0}", of.system_ns),
                floor.map_or_else(String::new, |(ns, spread)| with_spread(ns, spread)),
                of.ratio
                    .map_or_else(String::new, |ratio| format!("{ratio:.2}")),
                format!("{:.0}", of.packets_per_second),
                format!("{:.0} %", of.busy * 100.0),
                format!("{:.0}", of.packets_per_core_second),
                format!("{:.2}", of.segments_per_send),
                format!("{:.2}", of.received_per_wakeup),
            ]
        };
        let rows: Vec<_> = self.fanout.iter().map(row).collect();
        table(layout, &head, &rows, out);
    }

    fn delay_table(&self, layout: Layout, out: &mut String) {
        let head = [
            "subscribers",
            "pace",
            "delay 50 %",
            "90 %",
            "99 %",
            "longest",
        ];
        let row = |of: &Fanout| {
            let delays = of.delay_us.map(|us| format!("{us:.0} µs"));
            [vec![of.subscribers.to_string(), pace(of)], delays.into()].concat()
        };
        let rows: Vec<_> = self.fanout.iter().map(row).collect();
        table(layout, &head, &rows, out);
    }

    fn floor_table(&self, layout: Layout, out: &mut String) {
        let head = [
            "destinations",
            "segments",
            "bytes",
            "ns/packet",
            "packets/core s",
        ];
        let row = |of: &Floor| {
            vec![
                of.subscribers.to_string(),
                of.segments.to_string(),
                of.segment_bytes.to_string(),
                with_spread(of.ns_per_packet, of.ns_spread),
                format!("{:.0}", of.packets_per_core_second),
            ]
        };
        let rows: Vec<_> = self.floor.iter().map(row).collect();
        table(layout, &head, &rows, out);
    }

    fn micro_table(&self, layout: Layout, out: &mut String) {
        let head = ["step", "bytes", "ns"];
        let row = |of: &Micro| {
            vec![
                of.name.clone(),
                of.bytes.to_string(),
                with_spread(of.ns, of.spread),
            ]
        };
        let rows: Vec<_> = self.micro.iter().map(row).collect();
        table(layout, &head, &rows, out);
    }

    /// Writes it as JSON; `-` is standard output.
    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        if path == Path::new("-") {
            println!("{json}");
            return Ok(());
        }
        std::fs::write(path, json + "\n").with_context(|| format!("--json {}", path.display()))
    }
}

fn pace(of: &Fanout) -> String {
    let medium = match of.medium {
        Medium::Camera => "camera",
        Medium::Microphone => "microphone",
    };
    match of.pace {
        Pace::Times(1.0) => medium.to_owned(),
        Pace::Times(times) => format!("{times} × {medium}"),
        Pace::Saturated { .. } => format!("{medium}, saturated"),
    }
}

fn with_spread(ns: f64, spread: f64) -> String {
    let digits = usize::from(ns < 100.0);
    format!("{ns:.digits$} ± {:.0} %", spread * 100.0)
}
