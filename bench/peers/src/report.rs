//! All rounds of all servers: as JSON, and as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use weir_bench::statistics::median;
use weir_bench::table::{Layout, table};

use crate::figures::Figures;
use crate::server::Kind;

/// Everything that one run found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// `weir-peers/1`. Members may be added under the same name; one that changes its meaning or goes gets a new one.
    pub(crate) schema: &'static str,
    pub(crate) conditions: Conditions,
    pub(crate) servers: Vec<Compared>,
    /// Servers that were not measured: what to do about it.
    pub(crate) skipped: Vec<String>,
}

/// What was the same for all.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Conditions {
    /// The processor and the kernel.
    pub(crate) machine: String,
    /// `veth` or `loopback`.
    pub(crate) network: String,
    /// The core of the servers.
    pub(crate) core: usize,
    pub(crate) subscribers: usize,
    /// Payload of the picture.
    pub(crate) kbps: u32,
    pub(crate) rounds: usize,
    pub(crate) seconds: f64,
    /// What a reader must know besides.
    pub(crate) notes: Vec<String>,
}

/// One server in all rounds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Compared {
    pub(crate) server: Kind,
    /// As it says itself.
    pub(crate) version: String,
    pub(crate) rounds: Vec<Round>,
}

/// One server in one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    /// From 1.
    pub(crate) round: usize,
    /// Which it was in its round, from 1.
    pub(crate) turn: usize,
    pub(crate) figures: Option<Figures>,
    /// Why there are none.
    pub(crate) failure: Option<String>,
}

/// The middle of some numbers, and how far they go.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    median: f64,
    min: f64,
    max: f64,
}

impl Span {
    fn of(samples: &[f64]) -> Option<Span> {
        Some(Span {
            median: median(samples),
            min: samples.iter().copied().reduce(f64::min)?,
            max: samples.iter().copied().reduce(f64::max)?,
        })
    }

    fn text(self, digits: usize) -> String {
        let Span { median, min, max } = self;
        format!("{median:.digits$} ({min:.digits$}–{max:.digits$})")
    }
}

impl Compared {
    fn figures(&self) -> impl Iterator<Item = &Figures> {
        self.rounds
            .iter()
            .filter_map(|round| round.figures.as_ref())
    }

    fn span(&self, of: impl Fn(&Figures) -> f64) -> Option<Span> {
        Span::of(&self.figures().map(of).collect::<Vec<_>>())
    }

    fn sum(&self, of: impl Fn(&Figures) -> u64) -> u64 {
        self.figures().map(of).sum()
    }

    fn violations(&self) -> u64 {
        self.sum(|of| of.violations.values().sum())
    }

    /// One cell for each of [`ROWS`].
    fn column(&self) -> Vec<String> {
        let cell = |of: &dyn Fn(&Figures) -> f64, digits: usize| {
            let span = self.span(of);
            span.map_or_else(|| "–".to_owned(), |span| span.text(digits))
        };
        vec![
            format!("{} of {}", self.figures().count(), self.rounds.len()),
            cell(&|of| of.ns_per_packet, 0),
            cell(&|of| of.core * 100.0, 1),
            cell(&|of| of.packets_per_second, 0),
            cell(&|of| of.kib_per_participant, 0),
            cell(&|of| of.frame_delay_ms.p50, 2),
            cell(&|of| of.frame_delay_ms.p99, 2),
            cell(&|of| of.sound_delay_ms.p50, 2),
            cell(&|of| of.sound_delay_ms.p99, 2),
            self.sum(|of| of.lost).to_string(),
            self.violations().to_string(),
        ]
    }
}

/// What the table has of each server, in this order.
const ROWS: [&str; 11] = [
    "rounds measured",
    "CPU, ns/packet",
    "CPU, % of a core",
    "packets/s",
    "memory, KiB/participant",
    "frame delay 50 %, ms",
    "frame delay 99 %, ms",
    "sound delay 50 %, ms",
    "sound delay 99 %, ms",
    "packets lost",
    "rules broken",
];

impl Report {
    /// Whether at least two servers were compared, in every round, by a generator that kept up, and Weir broke no rule.
    pub(crate) fn is_comparison(&self) -> bool {
        let all = |of: &Compared| {
            let good = of.figures().filter(|figures| figures.generator.is_empty());
            good.count() == self.conditions.rounds
        };
        let weir = |of: &&Compared| of.server == Kind::Weir;
        let clean = |of: &Compared| of.violations() == 0;
        self.servers.len() > 1
            && self.servers.iter().all(all)
            && self.servers.iter().filter(weir).all(clean)
    }

    /// The table, with what has to be known beside it.
    pub(crate) fn render(&self, layout: Layout) -> String {
        let of = &self.conditions;
        let mut out = String::new();
        let _ = writeln!(
            out,
            "{}; {}; servers on core {}\n\n{} listen to one camera of {} kb/s and one microphone, for {} s in each round; medians (least–most)\n",
            of.machine, of.network, of.core, of.subscribers, of.kbps, of.seconds
        );
        let name = |of: &Compared| format!("{} {}", of.server.name(), of.version);
        let names: Vec<String> = self.servers.iter().map(name).collect();
        let mut head = vec![""];
        head.extend(names.iter().map(String::as_str));
        let columns: Vec<_> = self.servers.iter().map(Compared::column).collect();
        let row = |(index, title): (usize, &&str)| {
            let cells = columns.iter().map(|column| column[index].clone());
            std::iter::once((*title).to_owned()).chain(cells).collect()
        };
        let rows: Vec<Vec<String>> = ROWS.iter().enumerate().map(row).collect();
        table(layout, &head, &rows, &mut out);
        for line in self.remarks() {
            let _ = writeln!(out, "{line}\n");
        }
        out
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        let late = |of: &Figures| of.sent_late_ms.p50;
        let all: Vec<f64> = self
            .servers
            .iter()
            .flat_map(Compared::figures)
            .map(late)
            .collect();
        if let Some(late) = Span::of(&all) {
            remarks.push(format!(
                "Of the delays, {} ms (50 %) are the publisher's own, which sent so late.",
                late.text(2)
            ));
        }
        for compared in &self.servers {
            let name = compared.server.name();
            for round in &compared.rounds {
                let number = round.round;
                if let Some(failure) = &round.failure {
                    remarks.push(format!("{name}, round {number} failed: {failure}"));
                }
                let figures = round.figures.iter();
                for reason in figures.flat_map(|of| &of.generator) {
                    remarks.push(format!(
                        "{name}, round {number}: the generator was too slow: {reason}"
                    ));
                }
            }
            let examples = compared.figures().flat_map(|of| &of.examples);
            let by_rule: BTreeMap<_, _> = examples
                .map(|example| (example.split(':').next(), example))
                .collect();
            remarks.extend(by_rule.values().map(|example| format!("{name}: {example}")));
        }
        let skipped = self.skipped.iter().chain(&self.conditions.notes);
        remarks.extend(skipped.cloned());
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Quantiles;

    fn figures(ns: f64) -> Figures {
        let delay = Quantiles {
            p50: 0.5,
            p99: 2.0,
            max: 4.0,
        };
        Figures {
            seconds: 10.0,
            cpu_ns: 0,
            packets: 1000.0,
            published: 100.0,
            ns_per_packet: ns,
            packets_per_second: 100.0,
            core: 0.25,
            rss_empty_kib: 0,
            rss_kib: 0,
            kib_per_participant: 90.0,
            frame_delay_ms: delay,
            sound_delay_ms: delay,
            sent_late_ms: delay,
            lost: 1,
            resent: 0,
            violations: BTreeMap::new(),
            examples: Vec::new(),
            generator: Vec::new(),
        }
    }

    fn compared(server: Kind, ns: &[Option<f64>]) -> Compared {
        let round = |(index, ns): (usize, &Option<f64>)| Round {
            round: index + 1,
            turn: 1,
            figures: ns.map(figures),
            failure: ns.is_none().then(|| "it did not start".into()),
        };
        Compared {
            server,
            version: "1.2.3".into(),
            rounds: ns.iter().enumerate().map(round).collect(),
        }
    }

    fn report(servers: Vec<Compared>) -> Report {
        Report {
            schema: "weir-peers/1",
            conditions: Conditions {
                machine: "a machine".into(),
                network: "veth".into(),
                core: 1,
                subscribers: 9,
                kbps: 1700,
                rounds: 3,
                seconds: 10.0,
                notes: Vec::new(),
            },
            servers,
            skipped: vec!["LiveKit is not here: build it".into()],
        }
    }

    const ALL: [Option<f64>; 3] = [Some(900.0), Some(1100.0), Some(1000.0)];

    #[test]
    fn the_table_has_medians_and_how_far_they_go() {
        let report = report(vec![
            compared(Kind::Weir, &ALL),
            compared(Kind::Janus, &ALL),
        ]);
        let table = report.render(Layout::Markdown);
        let cell = |row: &str| {
            let line = table.lines().find(|line| line.contains(row));
            let line = line.unwrap_or_else(|| panic!("{row} in {table}"));
            line.split('|').nth(3).map(|cell| cell.trim().to_owned())
        };
        for (row, expected) in [
            ("|  ", "Janus 1.2.3"),
            ("rounds measured", "3 of 3"),
            ("ns/packet", "1000 (900–1100)"),
            ("of a core", "25.0 (25.0–25.0)"),
            ("frame delay 50", "0.50 (0.50–0.50)"),
            ("sound delay 99", "2.00 (2.00–2.00)"),
            ("lost", "3"),
            ("broken", "0"),
        ] {
            assert_eq!(cell(row).as_deref(), Some(expected), "{table}");
        }
        assert!(table.contains("LiveKit is not here: build it"));
        assert!(report.is_comparison());
    }

    #[test]
    fn a_round_that_failed_is_told_and_counts() {
        let some = [Some(900.0), None, Some(1000.0)];
        let report = report(vec![
            compared(Kind::Weir, &ALL),
            compared(Kind::Janus, &some),
        ]);
        let table = report.render(Layout::Terminal);
        assert!(
            table.contains("2 of 3") && table.contains("950 (900–1000)"),
            "{table}"
        );
        assert!(
            table.contains("Janus, round 2 failed: it did not start"),
            "{table}"
        );
        assert!(!report.is_comparison());
        let none = compared(Kind::Livekit, &[None]).column();
        assert_eq!(none[..2], ["0 of 1", "–"]);
    }

    #[test]
    fn a_generator_that_was_too_slow_compares_nothing() {
        let mut slow = compared(Kind::Janus, &ALL);
        let figures = slow.rounds[2].figures.as_mut().expect("figures");
        figures.generator.push("its timers were late".into());
        let report = report(vec![compared(Kind::Weir, &ALL), slow]);
        assert!(!report.is_comparison());
        let table = report.render(Layout::Terminal);
        let told = "Janus, round 3: the generator was too slow: its timers were late";
        assert!(table.contains(told), "{table}");
    }

    #[test]
    fn weir_alone_or_with_a_broken_rule_is_no_comparison() {
        assert!(!report(vec![compared(Kind::Weir, &ALL)]).is_comparison());
        let break_rule = |mut of: Compared| {
            let figures = of.rounds[1].figures.as_mut().expect("figures");
            figures.violations.insert("sequence_jump".into(), 2);
            figures.examples.push("sequence_jump: from 1 to 900".into());
            of
        };
        let (weir, janus) = (compared(Kind::Weir, &ALL), compared(Kind::Janus, &ALL));
        let broken = report(vec![break_rule(weir.clone()), janus.clone()]);
        assert!(!broken.is_comparison());
        let others = report(vec![weir, break_rule(janus)]);
        assert!(others.is_comparison(), "what others do is only told");
        let table = others.render(Layout::Terminal);
        assert!(
            table.contains("Janus: sequence_jump: from 1 to 900"),
            "{table}"
        );
    }
}
