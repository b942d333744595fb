//! Adds up what participants report: their visits when they end, and all of them together at any time.

use std::collections::BTreeMap;

use weir_client::{
    Dialect, EncryptionReport, Histogram, Kind, Report, StreamReport, UndecryptedReport,
};

use super::{
    Joins, PARTICIPANTS_MAX, ParticipantLine, Quantiles, StreamSummary, VIOLATIONS_MAX,
    ViolationLine, verdict,
};
use crate::plan::Depth;

/// A freeze or gap that people notice.
const GAP_MS: u64 = 200;

/// One stay of one person, when it is over.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Local part of its user.
    pub user: String,
    /// When it began to join, in seconds since the run began.
    pub at_s: f64,
    /// How closely it looked.
    pub checks: Depth,
    /// What it spoke on the data channel.
    pub dialect: Dialect,
    /// Streams that it should have received at its end: (video, audio); `None` where nobody can say.
    pub expected: Option<(usize, usize)>,
    /// Why it could not join.
    pub failure: Option<String>,
    /// What it saw, if it got that far.
    pub report: Option<Report>,
}

/// Sums of all visits so far.
#[derive(Debug, Default)]
pub struct Tally {
    joins: Joins,
    times: [Vec<f64>; 4],
    streams: BTreeMap<(Kind, Depth), Sum>,
    encryption: Option<EncryptionReport>,
    violations: Vec<ViolationLine>,
    unlisted_violations: BTreeMap<String, u64>,
    participants: Vec<ParticipantLine>,
    /// Errors that the focus sent, each with a count; at most [`ERRORS_MAX`].
    errors: BTreeMap<String, u64>,
}

/// Different errors that are kept.
const ERRORS_MAX: usize = 50;

#[derive(Debug, Default)]
struct Sum {
    summary: Option<StreamSummary>,
    delay: Histogram,
}

/// What all participants together have received up to a moment. Only grows.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// Participants that are connected at that moment.
    pub connected: usize,
    /// Packets that arrived.
    pub packets: u64,
    /// Bytes of them; of participants that only count, by the size of those they looked at.
    pub bytes: u64,
    /// Packets that are missed for good.
    pub lost: u64,
    /// Rules that were broken.
    pub violations: u64,
    /// Of them those that compare with the clock.
    pub timed_violations: u64,
    /// One-way delays.
    pub delay: Histogram,
}

impl Totals {
    /// Adds one participant.
    pub fn add(&mut self, report: &Report) {
        self.connected += usize::from(report.connected);
        let transport = &report.transport;
        self.packets += transport.rtp_arrived();
        let looked_at = transport.received.max(1) as f64;
        let all = (transport.received + transport.filtered) as f64;
        self.bytes += (transport.received_bytes as f64 * all / looked_at) as u64;
        self.lost += lost(report);
        for stream in &report.streams {
            for broken in &stream.violations {
                self.violations += broken.count;
                let timed = verdict::is_timed(&rule(broken.violation));
                self.timed_violations += if timed { broken.count } else { 0 };
            }
            self.delay.merge(&stream.delay);
        }
    }

    /// Adds those of others.
    pub fn merge(&mut self, other: &Totals) {
        self.connected += other.connected;
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.violations += other.violations;
        self.timed_violations += other.timed_violations;
        self.delay.merge(&other.delay);
    }

    /// What came since an earlier moment; `connected` is that of now. A participant that had to call again may have less
    /// than before: that counts as nothing.
    pub fn since(&self, earlier: &Totals) -> Totals {
        Totals {
            connected: self.connected,
            packets: self.packets.saturating_sub(earlier.packets),
            bytes: self.bytes.saturating_sub(earlier.bytes),
            lost: self.lost.saturating_sub(earlier.lost),
            violations: self.violations.saturating_sub(earlier.violations),
            timed_violations: self
                .timed_violations
                .saturating_sub(earlier.timed_violations),
            delay: self.delay.since(&earlier.delay),
        }
    }

    /// Lost packets of all that should have come, in per cent.
    pub fn loss_percent(&self) -> f64 {
        100.0 * self.lost as f64 / (self.packets + self.lost).max(1) as f64
    }
}

/// Packets that a participant missed: counted by one that looks at everything; of one that does not, what its socket
/// dropped for want of room and what is missing between the first and the last number that it saw.
fn lost(report: &Report) -> u64 {
    let sampled = |stream: &StreamReport| stream.sample.clone().unwrap_or_default();
    let (mut expected, mut arrived, mut lost) = (0, report.transport.filtered, 0);
    for stream in &report.streams {
        lost += stream.lost;
        expected += sampled(stream).expected;
        arrived += sampled(stream).packets;
    }
    match expected {
        0 => lost,
        expected => report
            .transport
            .overflowed
            .max(expected.saturating_sub(arrived)),
    }
}

/// Values of a histogram of delays.
pub fn quantiles_of(delay: &Histogram) -> Option<Quantiles> {
    let at = |percent| delay.percentile_ms(percent);
    Some(Quantiles {
        count: delay.count(),
        p50: at(50.0)?,
        p95: at(95.0)?,
        p99: at(99.0)?,
        max: delay.max_ms()?,
    })
}

impl Tally {
    /// A join begins.
    pub fn attempted(&mut self) {
        self.joins.attempted += 1;
    }

    /// Joins that failed so far.
    pub fn failed(&self) -> u64 {
        self.joins.failed
    }

    /// A visit is over. `began_unix_ms` is when the run began.
    pub fn add(&mut self, visit: &Visit, began_unix_ms: u64) {
        self.joins.failed += u64::from(visit.failure.is_some());
        if let Some(reason) = &visit.failure {
            *self.joins.reasons.entry(reason.clone()).or_default() += 1;
        }
        let mut line = ParticipantLine {
            user: visit.user.clone(),
            at_s: visit.at_s,
            checks: visit.checks,
            dialect: visit.dialect,
            failure: visit.failure.clone(),
            answer_ms: None,
            connected_ms: None,
            first_frame_ms: None,
            streams: 0,
            packets: 0,
            lost: 0,
            violations: 0,
        };
        if let Some(report) = &visit.report {
            self.add_report(visit, report, began_unix_ms, &mut line);
        }
        if self.participants.len() < PARTICIPANTS_MAX {
            self.participants.push(line);
        }
    }

    fn add_report(
        &mut self,
        visit: &Visit,
        report: &Report,
        began_unix_ms: u64,
        line: &mut ParticipantLine,
    ) {
        line.user.clone_from(&report.user_id);
        let latencies = &report.latencies;
        let times = [
            latencies.join_ms,
            latencies.answer_ms,
            latencies.connected_ms,
            latencies.first_frame_ms,
        ];
        for (all, time) in self.times.iter_mut().zip(times) {
            all.extend(time);
        }
        let whole = |time: Option<f64>| time.map(|time| time.round() as u64);
        line.answer_ms = whole(latencies.answer_ms);
        line.connected_ms = whole(latencies.connected_ms);
        line.first_frame_ms = whole(latencies.first_frame_ms);
        line.lost = lost(report);
        line.packets = report.transport.rtp_arrived();
        if visit.failure.is_none() {
            self.joins.connected += 1;
            self.joins.dropped += report.ends.len() as u64;
            for reason in &report.ends {
                let reason = format!("dropped: {reason}");
                *self.joins.reasons.entry(reason).or_default() += 1;
            }
        }
        for error in &report.errors {
            if self.errors.len() < ERRORS_MAX || self.errors.contains_key(error) {
                *self.errors.entry(error.clone()).or_default() += 1;
            }
        }
        if let Some(encryption) = report.encryption {
            *self.encryption.get_or_insert_default() += encryption;
        }
        self.add_streams(visit, report, began_unix_ms, line);
    }

    fn add_streams(
        &mut self,
        visit: &Visit,
        report: &Report,
        began_unix_ms: u64,
        line: &mut ParticipantLine,
    ) {
        let mut flowing = [0, 0];
        for stream in &report.streams {
            let sum = self.streams.entry((stream.kind, visit.checks)).or_default();
            sum.add(stream, visit.checks);
            let flows = stream.live && stream.packets > 0;
            flowing[usize::from(stream.kind == Kind::Audio)] += usize::from(flows);
            line.streams += 1;
            for broken in broken_rules(&report.user_id, stream, began_unix_ms) {
                line.violations += broken.count;
                self.list(broken);
            }
        }
        if let Some(expected) = visit.expected {
            self.missing(Kind::Video, visit.checks, expected.0, flowing[0]);
            self.missing(Kind::Audio, visit.checks, expected.1, flowing[1]);
        }
    }

    fn list(&mut self, violation: ViolationLine) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        } else {
            *self.unlisted_violations.entry(violation.rule).or_default() += violation.count;
        }
    }

    fn missing(&mut self, kind: Kind, checks: Depth, expected: usize, flowing: usize) {
        let silent = expected.saturating_sub(flowing) as u64;
        if silent > 0 {
            let sum = self.streams.entry((kind, checks)).or_default();
            sum.summary
                .get_or_insert_with(|| empty(kind, checks))
                .silent += silent;
        }
    }

    /// How joining went.
    pub fn joins(&self) -> Joins {
        let mut times = self.times.clone();
        let [matrix, answer, connected, first_frame] =
            times.each_mut().map(|values| Quantiles::of(values));
        Joins {
            matrix_ms: matrix,
            answer_ms: answer,
            connected_ms: connected,
            first_frame_ms: first_frame,
            ..self.joins.clone()
        }
    }

    /// What arrived, video first.
    pub fn streams(&self) -> Vec<StreamSummary> {
        let mut summaries: Vec<_> = self
            .streams
            .values()
            .filter_map(|sum| {
                let mut summary = sum.summary.clone()?;
                summary.delay_ms = quantiles_of(&sum.delay);
                Some(summary)
            })
            .collect();
        summaries
            .sort_by_key(|summary| (summary.kind == Kind::Audio, summary.checks == Depth::Light));
        summaries
    }

    /// Media encryption, if there was any.
    pub fn encryption(&self) -> Option<EncryptionReport> {
        self.encryption
    }

    /// What was broken, in the order of time, and how much more there was, by rule.
    pub fn violations(&self) -> (Vec<ViolationLine>, BTreeMap<String, u64>) {
        let mut lines = self.violations.clone();
        lines.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        (lines, self.unlisted_violations.clone())
    }

    /// One line for each visit, in the order of joining.
    pub fn participants(&self) -> Vec<ParticipantLine> {
        let mut lines = self.participants.clone();
        lines.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        lines
    }

    /// Errors that the focus sent.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }
}

impl Sum {
    fn add(&mut self, stream: &StreamReport, checks: Depth) {
        let summary = self
            .summary
            .get_or_insert_with(|| empty(stream.kind, checks));
        let sample = stream.sample.clone().unwrap_or_default();
        summary.streams += 1;
        summary.packets += stream.packets + sample.expected.saturating_sub(sample.packets);
        summary.bytes += stream.bytes;
        summary.lost += stream.lost;
        summary.resent += stream.rtx.as_ref().map_or(0, |rtx| rtx.packets);
        summary.unreadable += u64::from(never_decrypted(stream).is_some());
        let (mut gap, mut gaps) = (stream.longest_packet_gap_ms, false);
        if let Some(video) = &stream.video {
            summary.frames += video.frames;
            summary.broken += video.broken;
            summary.cut += video.cut;
            summary.decoded += video.decoded;
            summary.nacks += video.nacks;
            summary.plis += video.plis;
            gap = video.longest_gap_ms;
        }
        if let Some(audio) = &stream.audio {
            gap = audio.longest_gap_ms;
        }
        gaps |= gap > GAP_MS;
        // Who only looks at a sample sees gaps where there are none.
        if checks == Depth::Full {
            summary.longest_gap_ms = summary.longest_gap_ms.max(gap);
            summary.streams_with_gaps += u64::from(gaps);
        }
        self.delay.merge(&stream.delay);
    }
}

/// What a participant found broken, and what only the end of its visit tells.
fn broken_rules(
    participant: &str,
    stream: &StreamReport,
    began_unix_ms: u64,
) -> impl Iterator<Item = ViolationLine> {
    let line = move |rule, count, first, first_at_ms: u64| ViolationLine {
        at_s: first_at_ms.saturating_sub(began_unix_ms) as f64 / 1000.0,
        participant: participant.to_owned(),
        from: stream.user_id.clone(),
        kind: stream.kind,
        track: stream.track_id.clone(),
        rule,
        count,
        first,
    };
    let found = stream.violations.iter();
    let found = found.map(move |found| {
        let first = found.first.clone();
        line(rule(found.violation), found.count, first, found.first_at_ms)
    });
    let never = never_decrypted(stream).map(|of| {
        let first = format!(
            "in {} ms {} of an unknown session, {} from before the shared index, {} too late",
            of.last_at_ms.saturating_sub(of.first_at_ms),
            of.unknown_session,
            of.before_key,
            of.too_late
        );
        line(
            "never_decrypted".to_owned(),
            of.frames,
            first,
            of.first_at_ms,
        )
    });
    found.chain(never)
}

/// What came of a stream of which nothing could be decrypted.
fn never_decrypted(stream: &StreamReport) -> Option<&UndecryptedReport> {
    let frames = stream.video.as_ref().map_or(0, |video| video.frames);
    let packets = stream.audio.as_ref().map_or(0, |audio| audio.recognised);
    let undecrypted = stream.undecrypted.as_ref();
    undecrypted.filter(|_| frames + packets == 0)
}

fn empty(kind: Kind, checks: Depth) -> StreamSummary {
    StreamSummary {
        kind,
        checks,
        streams: 0,
        silent: 0,
        packets: 0,
        bytes: 0,
        lost: 0,
        resent: 0,
        nacks: 0,
        plis: 0,
        frames: 0,
        broken: 0,
        cut: 0,
        decoded: 0,
        unreadable: 0,
        delay_ms: None,
        longest_gap_ms: 0,
        streams_with_gaps: 0,
    }
}

/// As in the JSON of a participant's report.
fn rule(violation: weir_client::Violation) -> String {
    let name = serde_json::to_value(violation).unwrap_or_default();
    name.as_str().unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests;
