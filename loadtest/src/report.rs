//! What a run has found, as data: the schema of `--json`, from which table and HTML are drawn. `docs/loadtest.md` describes it.
//!
//! | file | what it is |
//! |---|---|
//! | `tally` | adds up what participants report |
//! | `assemble` | makes the report of all that was seen |
//! | `verdict` | what of it means that the run has failed; pure |
//! | `text` | the table at the end |
//! | `plots`, `html` | one page with drawings, nothing loaded from elsewhere |

pub mod assemble;
pub mod html;
pub mod plots;
pub mod tally;
pub mod text;
pub mod verdict;

use std::collections::BTreeMap;

use serde::Serialize;
use weir_client::{Dialect, EncryptionReport, Kind};

use crate::plan::Depth;
use crate::sample::scrape::Sums;
use crate::sample::trend::Line;
use crate::scenario::Settings;

/// Name and version of the schema. Members are added without a new version; one that changes its meaning or goes needs one.
pub const SCHEMA: &str = "weir-loadtest/1";

/// All of a run.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// Of this program.
    pub version: &'static str,
    /// Whether nothing is in `failures`; the exit code.
    pub passed: bool,
    /// What went wrong, in words.
    pub failures: Vec<String>,
    /// What a reader should know before believing the figures.
    pub remarks: Vec<String>,
    /// Under which conditions it ran.
    pub conditions: Conditions,
    /// How joining went.
    pub joins: Joins,
    /// What arrived, by kind of stream.
    pub streams: Vec<StreamSummary>,
    /// What became of encrypted frames and of keys, of all participants together; absent in the clear.
    pub encryption: Option<EncryptionReport>,
    /// Every rule that was broken, by stream; at most [`VIOLATIONS_MAX`].
    pub violations: Vec<ViolationLine>,
    /// The focus; absent where nothing of it can be seen.
    pub focus: Option<FocusSummary>,
    /// This process.
    pub generator: GeneratorSummary,
    /// The relay of `lossy`.
    pub network: Option<NetworkSummary>,
    /// The steps of a ramp.
    pub steps: Vec<Step>,
    /// What a ramp has found.
    pub capacity: Option<Capacity>,
    /// One entry a second.
    pub samples: Vec<Sample>,
    /// One entry for each visit of a participant; at most [`PARTICIPANTS_MAX`].
    pub participants: Vec<ParticipantLine>,
}

/// Violations that are listed; more are only counted.
pub const VIOLATIONS_MAX: usize = 200;
/// Visits that are listed; more are only counted.
pub const PARTICIPANTS_MAX: usize = 5000;

/// Under which conditions a run was made.
#[derive(Debug, Clone, Serialize)]
pub struct Conditions {
    /// Seconds since 1970.
    pub started_unix_s: u64,
    /// The command line, without passwords.
    pub command: String,
    /// All settings, defaults filled in.
    pub settings: Settings,
    /// What one camera sends.
    pub layers: Vec<LayerSent>,
    /// People who publish, and who check in full.
    pub publishers: usize,
    /// People who check in full.
    pub full: usize,
    /// The network that the datagrams passed, in the notation of `weir-relay`; `None` is none in between.
    pub network: Option<String>,
    /// The focus under test, in words.
    pub focus: String,
    /// Its threads that forward media, if it is a child of this process.
    pub shards: Option<usize>,
    /// The machine of the generator.
    pub machine: Machine,
    /// How long was measured after everybody had joined, in seconds.
    pub measured_s: f64,
}

/// One simulcast layer as it is sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerSent {
    /// Its rid.
    pub rid: String,
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Payload, on average.
    pub kbps: u32,
}

/// The machine that this process runs on.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Machine {
    /// Of /proc/cpuinfo.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Of uname.
    pub kernel: String,
}

/// Values of a distribution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many values.
    pub count: u64,
    /// Half are at most this.
    pub p50: f64,
    /// 95 % are at most this.
    pub p95: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// How joining went. Times are in milliseconds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Joins {
    /// Joins that were begun.
    pub attempted: u64,
    /// Of which the transport came up.
    pub connected: u64,
    /// That did not get that far.
    pub failed: u64,
    /// Calls that ended although nobody had left.
    pub dropped: u64,
    /// Why, each with a count.
    pub reasons: BTreeMap<String, u64>,
    /// From the first request to the homeserver to the invite: login, room, member event.
    pub matrix_ms: Quantiles,
    /// From the invite to the answer.
    pub answer_ms: Quantiles,
    /// From the invite to ICE and DTLS being up.
    pub connected_ms: Quantiles,
    /// From the invite to the first frame.
    pub first_frame_ms: Quantiles,
}

/// What arrived of one kind of stream.
#[derive(Debug, Clone, Serialize)]
pub struct StreamSummary {
    /// Audio or video.
    pub kind: Kind,
    /// How closely it was looked at.
    pub checks: Depth,
    /// Streams that were subscribed.
    pub streams: u64,
    /// Streams of which nothing ever arrived.
    pub silent: u64,
    /// Packets.
    pub packets: u64,
    /// Bytes of payload.
    pub bytes: u64,
    /// Packets that never arrived.
    pub lost: u64,
    /// Packets that came by retransmission.
    pub resent: u64,
    /// NACKs and picture loss indications sent.
    pub nacks: u64,
    /// Picture loss indications sent.
    pub plis: u64,
    /// Complete frames, where they are looked at.
    pub frames: u64,
    /// Frames that lacked something.
    pub broken: u64,
    /// Frames that a switch of layers cut off; no fault.
    pub cut: u64,
    /// Frames that were decoded.
    pub decoded: u64,
    /// Streams that flowed, and of which nothing could be decrypted.
    pub unreadable: u64,
    /// One-way delay in ms, where it is measured.
    pub delay_ms: Option<Quantiles>,
    /// The longest time without a frame (video) or a packet (audio), in ms.
    pub longest_gap_ms: u64,
    /// Streams with such a gap of more than 200 ms.
    pub streams_with_gaps: u64,
}

impl StreamSummary {
    /// Lost packets of all that should have come, in per cent.
    pub fn loss_percent(&self) -> f64 {
        100.0 * self.lost as f64 / (self.packets + self.lost).max(1) as f64
    }
}

/// A rule that one stream broke.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViolationLine {
    /// Seconds since the run began.
    pub at_s: f64,
    /// Who saw it.
    pub participant: String,
    /// Whose stream it is.
    pub from: String,
    /// Audio or video.
    pub kind: Kind,
    /// The track's id.
    pub track: String,
    /// The rule.
    pub rule: String,
    /// How often.
    pub count: u64,
    /// The first time, with the numbers.
    pub first: String,
}

/// What the focus used.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FocusSummary {
    /// Whether its process could be looked at; else only its metrics.
    pub process: bool,
    /// Cores, on average over the measurement.
    pub cpu_mean: f64,
    /// Cores, in the busiest second.
    pub cpu_max: f64,
    /// Cores on average, by thread.
    pub cpu_by_thread: BTreeMap<String, f64>,
    /// The busiest thread, on average over the measurement, in cores.
    pub busiest_mean: f64,
    /// Resident memory before anybody joined, in KiB.
    pub rss_before_kib: u64,
    /// At the end of the measurement.
    pub rss_after_kib: u64,
    /// At most.
    pub rss_max_kib: u64,
    /// Open files, at most.
    pub files_max: u64,
    /// Memory for each participant and stream.
    pub memory: Option<Memory>,
    /// Whether memory grows while participants come and go.
    pub flatness: Option<Flatness>,
    /// The same over the second half of the measurement. An allocator goes on for a while to find room for what comes and goes
    /// between what stays; what is lost for good goes on for ever.
    pub flatness_second_half: Option<Flatness>,
    /// Packets that it forwarded in a second, on average, by its metrics.
    pub packets_per_second: Option<f64>,
    /// CPU of the process for each forwarded packet.
    pub cpu_ns_per_packet: Option<f64>,
    /// What its metrics counted during the measurement: counters' growth and the last value of gauges.
    pub metrics: Sums,
}

/// Memory of the focus for each of what it carries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Memory {
    /// Participants when it was looked at.
    pub participants: usize,
    /// Forwarded streams then.
    pub streams: usize,
    /// Growth since before anybody joined, divided by participants.
    pub kib_per_participant: f64,
    /// The same growth divided by forwarded streams.
    pub kib_per_stream: f64,
    /// Growth for each further participant while they joined: the slope of memory over participants, which leaves out what
    /// the first packets fill once and for all.
    pub kib_per_further_participant: Option<f64>,
}

/// Whether memory stays where it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Flatness {
    /// KiB and minutes.
    pub line: Line,
    /// Growth over the time looked at is within what the samples scatter, or less than 1 MiB an hour.
    pub flat: bool,
}

/// What this process needed, and whether its own figures can be believed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GeneratorSummary {
    /// Cores, on average over the measurement. The embedded homeserver is in it.
    pub cpu_mean: f64,
    /// Cores, in the busiest second.
    pub cpu_max: f64,
    /// Resident memory at most, in KiB.
    pub rss_max_kib: u64,
    /// How much later than asked a timer woke up, in ms.
    pub lag_ms: Quantiles,
    /// Packets that were sent more than 20 ms late, in per cent of all that were sent.
    pub late_percent: f64,
    /// Datagrams that the sockets of this process dropped because it did not read them in time.
    pub socket_drops: u64,
    /// Times, over the whole run, at which sending, a timer or reading was more than 100 ms late. If there are any, rules that
    /// compare with the clock are not held against the focus.
    pub stalls: u64,
    /// Whether this process is too slow for its own measurement.
    pub is_bottleneck: bool,
    /// Why, in words.
    pub reasons: Vec<String>,
}

/// What a relay did to the datagrams.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NetworkSummary {
    /// To the focus.
    pub up: NetworkDirection,
    /// From the focus.
    pub down: NetworkDirection,
}

/// One way through a relay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NetworkDirection {
    /// Datagrams that came.
    pub received: u64,
    /// That were dropped.
    pub lost: u64,
}

/// One step of a ramp.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// People who watch.
    pub subscribers: usize,
    /// Joins of this step that failed.
    pub failed_joins: u64,
    /// Packets lost during the step, in per cent.
    pub loss_percent: f64,
    /// One-way delay in ms.
    pub delay_ms: Option<Quantiles>,
    /// Cores of the focus.
    pub focus_cpu: f64,
    /// Its busiest thread, in cores.
    pub focus_busiest: f64,
    /// Cores of this process.
    pub generator_cpu: f64,
    /// Rules broken in this step.
    pub violations: u64,
    /// Packets received in a second.
    pub packets_per_second: f64,
    /// Why this process was too slow for the step; empty if it was not.
    pub generator: Vec<String>,
    /// The criteria that failed.
    pub failed: Vec<String>,
}

/// What a ramp has found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Capacity {
    /// The most viewers with which every criterion held.
    pub subscribers: usize,
    /// Forwarded streams then.
    pub streams: usize,
    /// Whether the ramp ended at its end and not at a criterion.
    pub is_lower_bound: bool,
    /// Who could not do more.
    pub limit: Limit,
    /// In words.
    pub why: String,
}

/// Who could not do more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// The focus.
    Focus,
    /// This process.
    Generator,
    /// Both ran on the same cores, and these are used up.
    Machine,
    /// Nobody: the ramp was at its end.
    None,
    /// A criterion failed while neither was busy.
    Unclear,
}

/// One second.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Sample {
    /// Seconds since the run began.
    pub at_s: f64,
    /// Whether it lies in the measurement.
    pub measured: bool,
    /// Participants that are connected.
    pub participants: usize,
    /// Cores of the focus's process.
    pub focus_cpu: Option<f64>,
    /// The same by thread.
    pub focus_threads: BTreeMap<String, f64>,
    /// Cores of its busiest thread.
    pub focus_busiest: Option<f64>,
    /// Its resident memory.
    pub focus_rss_kib: Option<u64>,
    /// Its open files.
    pub focus_files: Option<u64>,
    /// Packets that it sealed in this second, by its metrics.
    pub focus_packets: Option<f64>,
    /// Cores of this process.
    pub generator_cpu: f64,
    /// Its resident memory.
    pub generator_rss_kib: u64,
    /// How much later than asked a timer woke up, at most.
    pub generator_lag_ms: f64,
    /// Packets that arrived in this second.
    pub packets: f64,
    /// Bits of payload that arrived in this second.
    pub bps: f64,
    /// Packets that were missed for good in this second.
    pub lost: f64,
    /// One-way delay of what arrived in this second.
    pub delay_ms: Option<Quantiles>,
}

/// One visit of one participant.
#[derive(Debug, Clone, Serialize)]
pub struct ParticipantLine {
    /// Matrix user id, or local part if it did not get that far.
    pub user: String,
    /// When the join began, in seconds since the run began.
    pub at_s: f64,
    /// How closely it looked.
    pub checks: Depth,
    /// What it spoke on the data channel.
    pub dialect: Dialect,
    /// Why it could not join.
    pub failure: Option<String>,
    /// Times from the invite, in ms.
    pub answer_ms: Option<u64>,
    /// See [`Joins::connected_ms`].
    pub connected_ms: Option<u64>,
    /// See [`Joins::first_frame_ms`].
    pub first_frame_ms: Option<u64>,
    /// Streams that it received.
    pub streams: usize,
    /// Packets of all of them.
    pub packets: u64,
    /// Packets of them that were lost.
    pub lost: u64,
    /// Rules that they broke.
    pub violations: u64,
}

impl Quantiles {
    /// Of plain values.
    pub fn of(values: &mut [f64]) -> Quantiles {
        values.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (values.len() as f64 * part).ceil() as usize;
            values
                .get(index.clamp(1, values.len().max(1)) - 1)
                .copied()
                .unwrap_or_default()
        };
        Quantiles {
            count: values.len() as u64,
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            max: values.last().copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let quantiles = Quantiles::of(&mut values);
        assert_eq!(
            (quantiles.p50, quantiles.p95, quantiles.p99, quantiles.max),
            (50.0, 95.0, 99.0, 100.0)
        );
        assert_eq!(Quantiles::of(&mut []), Quantiles::default());
        assert_eq!(Quantiles::of(&mut [7.0]).p99, 7.0);
    }
}
