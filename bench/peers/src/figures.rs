//! What a round says of a server, from two moments of it. Pure.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde::Serialize;
use weir_client::{DelayBy, Histogram, Kind as MediaKind, Report, StreamReport};
use weir_loadtest::criteria;
use weir_loadtest::report::verdict;
use weir_loadtest::sample::process::Reading;

use crate::round::Moment;

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Quantiles {
    fn of(histogram: &Histogram) -> Option<Quantiles> {
        Some(Quantiles {
            p50: histogram.percentile_ms(50.0)?,
            p99: histogram.percentile_ms(99.0)?,
            max: histogram.max_ms()?,
        })
    }
}

/// What was found in one round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Figures {
    /// How long it was measured.
    pub(crate) seconds: f64,
    /// CPU time of the server's process, all threads.
    pub(crate) cpu_ns: u64,
    /// RTP packets that those who listen received in that time, by the rate between two counts of each.
    pub(crate) packets: f64,
    /// RTP packets that were published, likewise.
    pub(crate) published: f64,
    pub(crate) ns_per_packet: f64,
    pub(crate) packets_per_second: f64,
    /// Of the one core that the server has: 1 is all of it.
    pub(crate) core: f64,
    /// Resident memory of the server when nobody was there.
    pub(crate) rss_empty_kib: u64,
    /// And at the end of the measurement.
    pub(crate) rss_kib: u64,
    pub(crate) kib_per_participant: f64,
    /// From when a frame was due at the publisher to when its last packet was at a listener.
    pub(crate) frame_delay_ms: Quantiles,
    /// The same of a packet of sound.
    pub(crate) sound_delay_ms: Quantiles,
    /// How much of that was the publisher's own: how late it sent, against its schedule.
    pub(crate) sent_late_ms: Quantiles,
    /// Packets that never arrived, since the joins.
    pub(crate) lost: u64,
    /// Packets that were sent again on request, since the joins.
    pub(crate) resent: u64,
    /// Rules that streams broke since the joins, by name.
    pub(crate) violations: BTreeMap<String, u64>,
    /// The first of each in words.
    pub(crate) examples: Vec<String>,
    /// Why the generator was too slow for these figures to be believed; empty if it was not.
    pub(crate) generator: Vec<String>,
}

/// Examples of broken rules that are kept.
const EXAMPLES_MAX: usize = 20;

impl Figures {
    /// What happened from `first` to `last`; `empty` is the server with nobody in it.
    ///
    /// # Errors
    /// Nothing arrived, or delays were not measured by the publisher's schedule.
    pub(crate) fn between(
        empty: &Reading,
        first: &Moment,
        last: &Moment,
        generator_cores: usize,
    ) -> Result<Figures> {
        let seconds = (last.server.at - first.server.at).as_secs_f64();
        let cpu = last.server.cpu_time_since(&first.server);
        let arrived = |of: &Report| of.transport.rtp_arrived();
        let pairs = first.listeners.iter().zip(&last.listeners);
        let packets: f64 = pairs
            .map(|(first, last)| rate(first, last, arrived) * seconds)
            .sum();
        ensure!(packets > 0.0, "nothing arrived while it was measured");
        let sent = |of: &Report| of.sent.iter().map(|sent| sent.packets).sum();
        let published = rate(&first.publisher, &last.publisher, sent) * seconds;
        let delays = |kind| delays(first, last, kind);
        let (broken, examples) = violations(last);
        let streams = || last.listeners.iter().flat_map(|report| &report.streams);
        let people = last.listeners.len() + 1;
        let grown = last.server.rss_kib.saturating_sub(empty.rss_kib);
        Ok(Figures {
            seconds,
            cpu_ns: cpu.as_nanos() as u64,
            packets,
            published,
            ns_per_packet: cpu.as_nanos() as f64 / packets,
            packets_per_second: packets / seconds,
            core: cpu.as_secs_f64() / seconds,
            rss_empty_kib: empty.rss_kib,
            rss_kib: last.server.rss_kib,
            kib_per_participant: grown as f64 / people as f64,
            frame_delay_ms: delays(MediaKind::Video)?,
            sound_delay_ms: delays(MediaKind::Audio)?,
            sent_late_ms: sent_late(first, last),
            lost: streams().map(|stream| stream.lost).sum(),
            resent: streams()
                .filter_map(|stream| Some(stream.rtx.as_ref()?.packets))
                .sum(),
            violations: broken,
            examples,
            generator: generator(first, last, generator_cores),
        })
    }
}

/// By how much a count grows in a second. Reports are up to a fifth of a second old, and say when they were made.
fn rate(first: &Report, last: &Report, count: impl Fn(&Report) -> u64) -> f64 {
    let seconds = (last.counted_at_ms - first.counted_at_ms) / 1000.0;
    let grown = count(last).saturating_sub(count(first));
    if seconds > 0.0 {
        grown as f64 / seconds
    } else {
        0.0
    }
}

/// One-way delays of all streams of a kind.
fn delays(first: &Moment, last: &Moment, kind: MediaKind) -> Result<Quantiles> {
    let mut all = Histogram::default();
    for (first, last) in first.listeners.iter().zip(&last.listeners) {
        for stream in last.streams.iter().filter(|stream| stream.kind == kind) {
            ensure!(
                stream.delay_by != Some(DelayBy::SenderReports),
                "{} does not know the schedule of who publishes",
                last.user_id
            );
            let same = |of: &&StreamReport| of.mid == stream.mid && of.track_id == stream.track_id;
            let before = first.streams.iter().find(same);
            let before = before
                .map(|before| before.delay.clone())
                .unwrap_or_default();
            all.merge(&stream.delay.since(&before));
        }
    }
    let kind = match kind {
        MediaKind::Audio => "packet of sound",
        MediaKind::Video => "frame",
    };
    let found = Quantiles::of(&all);
    found.ok_or_else(|| anyhow::anyhow!("no {kind} was recognised while it was measured"))
}

fn sent_late(first: &Moment, last: &Moment) -> Quantiles {
    let mut all = Histogram::default();
    for sent in &last.publisher.sent {
        let same = first.publisher.sent.iter().find(|of| of.ssrc == sent.ssrc);
        let before = same.map(|of| of.late.clone()).unwrap_or_default();
        all.merge(&sent.late.since(&before));
    }
    Quantiles::of(&all).unwrap_or_default()
}

/// Counts by rule, and the first occurrences in words.
fn violations(last: &Moment) -> (BTreeMap<String, u64>, Vec<String>) {
    let (mut counts, mut examples) = (BTreeMap::new(), Vec::new());
    let unbound: u64 = last.listeners.iter().map(|of| of.unbound_packets).sum();
    if unbound > 0 {
        counts.insert("packet_of_nobody".to_owned(), unbound);
    }
    for report in &last.listeners {
        for broken in report.streams.iter().flat_map(|stream| &stream.violations) {
            // The name that it has in JSON.
            let name = serde_json::to_value(broken.violation);
            let name = name.ok().and_then(|name| Some(name.as_str()?.to_owned()));
            let name = name.unwrap_or_default();
            let is_new = !counts.contains_key(&name);
            if is_new && examples.len() < EXAMPLES_MAX {
                examples.push(format!("{name}: {}", broken.first));
            }
            *counts.entry(name).or_default() += broken.count;
        }
    }
    (counts, examples)
}

fn generator(first: &Moment, last: &Moment, cores: usize) -> Vec<String> {
    let used = last.generator.cpu_since(&first.generator).total;
    let health = last.health.since(&first.health);
    // The server has a core of its own, which is not among these.
    verdict::bottleneck(&criteria::load_on(&health, used, 0.0, cores as f64))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use weir_client::{GeneratorHealth, SentReport, TransportReport, Violation, ViolationCount};
    use weir_loadtest::sample::process::Process;

    use super::*;

    fn histogram(ms: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        ms.iter().for_each(|ms| histogram.record_us(ms * 1000));
        histogram
    }

    /// Packets come at 50 a second.
    fn counted_at_ms(packets: u64) -> f64 {
        packets as f64 * 20.0
    }

    fn listener(packets: u64, delays: &[u64]) -> Arc<Report> {
        let stream = |kind, mid: &str| StreamReport {
            kind,
            mid: mid.into(),
            delay: histogram(delays),
            delay_by: Some(DelayBy::Schedule),
            lost: 2,
            ..StreamReport::default()
        };
        Arc::new(Report {
            counted_at_ms: counted_at_ms(packets),
            streams: vec![stream(MediaKind::Audio, "0"), stream(MediaKind::Video, "1")],
            transport: TransportReport {
                rtp_packets: packets,
                ..TransportReport::default()
            },
            ..Report::default()
        })
    }

    fn moment(packets: u64, delays: &[u64]) -> Moment {
        let own = Process::own().read().expect("this process");
        let sent = SentReport {
            kind: MediaKind::Audio,
            rid: None,
            ssrc: 1,
            packets: packets / 2,
            bytes: 0,
            retransmitted: 0,
            plis: 0,
            late: histogram(delays),
        };
        Moment {
            server: own.clone(),
            generator: own,
            health: GeneratorHealth::default(),
            publisher: Arc::new(Report {
                counted_at_ms: counted_at_ms(packets),
                sent: vec![sent],
                ..Report::default()
            }),
            listeners: vec![listener(packets, delays), listener(packets, delays)],
        }
    }

    fn figures(change: impl FnOnce(&mut Moment)) -> Result<Figures> {
        let first = moment(100, &[500]);
        // The reports were made 4 s apart, the processes looked at after 5 s.
        let mut last = moment(300, &[500, 1, 1, 1]);
        last.server.at = first.server.at + Duration::from_secs(5);
        last.generator.at = last.server.at;
        last.server.rss_kib = first.server.rss_kib + 300;
        change(&mut last);
        Figures::between(&first.server, &first, &last, 1)
    }

    #[test]
    fn what_counts_is_what_happened_between() {
        let figures = figures(|_| {}).expect("figures");
        assert_eq!((figures.packets, figures.published), (500.0, 125.0));
        assert_eq!((figures.seconds, figures.packets_per_second), (5.0, 100.0));
        assert_eq!(
            figures.kib_per_participant, 100.0,
            "of two that listen and one that publishes"
        );
        assert!(figures.frame_delay_ms.max < 2.0, "the 500 ms were before");
        assert!(figures.sent_late_ms.max < 2.0);
        assert_eq!(figures.lost, 8, "of two streams each");
        assert!(figures.generator.is_empty() && figures.violations.is_empty());
    }

    #[test]
    fn broken_rules_are_counted_by_name() {
        let figures = figures(|last| {
            let mut report = Report::clone(&last.listeners[0]);
            report.unbound_packets = 7;
            report.streams[1].violations = vec![ViolationCount {
                violation: Violation::SequenceJump,
                count: 3,
                first: "from 1 to 900".into(),
                first_at_ms: 0,
                last_at_ms: 0,
            }];
            last.listeners[0] = Arc::new(report);
        });
        let figures = figures.expect("figures");
        let counts = [
            ("packet_of_nobody".to_owned(), 7),
            ("sequence_jump".to_owned(), 3),
        ];
        assert_eq!(figures.violations, BTreeMap::from(counts));
        assert_eq!(figures.examples, ["sequence_jump: from 1 to 900"]);
    }

    #[test]
    fn without_media_or_schedule_there_are_no_figures() {
        let silent = figures(|last| last.listeners = moment(100, &[500]).listeners);
        let error = silent.expect_err("silent").to_string();
        assert_eq!(error, "nothing arrived while it was measured");
        let strange = figures(|last| {
            let mut report = Report::clone(&last.listeners[0]);
            report.streams[1].delay_by = Some(DelayBy::SenderReports);
            last.listeners[0] = Arc::new(report);
        });
        let error = strange.expect_err("another clock").to_string();
        assert!(error.contains("schedule"), "{error}");
    }
}
