//! Whether every participant received decodable, continuous video and audio from every other.

use serde::Serialize;
use weir_client::{Kind, Report, StreamReport};

/// What is good enough. All of it is measured over the time between two reports, except the gaps, which count from the
/// first packet of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Criteria {
    /// Of 30. Less means that frames were lost or held back.
    pub fps_min: f64,
    /// The longest time without a new picture. A viewer notices 200 ms; a test machine with two busy cores hiccups longer.
    pub video_gap_max_ms: u64,
    /// Of 50.
    pub audio_per_second_min: f64,
    /// The longest time without sound.
    pub audio_gap_max_ms: u64,
    /// Pictures that must carry a readable number, of those that were decoded.
    pub numbered_min: f64,
    /// Frames that must have been decoded, of those that were complete. The decoder may be a little behind.
    pub decoded_min: f64,
}

impl Default for Criteria {
    fn default() -> Self {
        Criteria {
            fps_min: 28.0,
            video_gap_max_ms: 500,
            audio_per_second_min: 48.0,
            audio_gap_max_ms: 500,
            numbered_min: 1.0,
            decoded_min: 0.9,
        }
    }
}

/// One reason why a check failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Who had it.
    pub participant: String,
    /// Of whom, if it is about somebody's media.
    pub from: Option<String>,
    /// In words, with the number and the limit.
    pub reason: String,
}

/// Whether everyone has video and audio of everyone else, so that measuring can begin; else what is missing.
pub fn missing(reports: &[Report]) -> Vec<Failure> {
    let mut failures = Vec::new();
    for_each_pair(reports, |report, sender| {
        for kind in [Kind::Video, Kind::Audio] {
            let has = |stream: &StreamReport| match (&stream.video, &stream.audio) {
                (Some(video), _) => video.decoded > 0,
                (_, Some(_)) => stream.packets > 0,
                _ => false,
            };
            if !stream(report, sender, kind).is_some_and(has) {
                failures.push(failure(
                    report,
                    Some(sender),
                    format!("no {} yet", name(kind)),
                ));
            }
        }
    });
    failures
}

/// Compares two reports of each participant, `seconds` apart. A participant that had to call again counts from zero.
pub fn judge(
    before: &[Report],
    after: &[Report],
    seconds: f64,
    criteria: &Criteria,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    for report in after {
        failures.extend(
            participant_reasons(report)
                .into_iter()
                .map(|reason| failure(report, None, reason)),
        );
    }
    for_each_pair(after, |report, sender| {
        let earlier = before
            .iter()
            .find(|earlier| earlier.user_id == report.user_id);
        for kind in [Kind::Video, Kind::Audio] {
            let (now, then) = (
                stream(report, sender, kind),
                earlier.and_then(|report| stream(report, sender, kind)),
            );
            let reasons = match (now, then) {
                (Some(now), Some(then)) => stream_reasons(then, now, seconds, criteria),
                _ => vec![format!("no {}", name(kind))],
            };
            failures.extend(
                reasons
                    .into_iter()
                    .map(|reason| failure(report, Some(sender), reason)),
            );
        }
    });
    failures
}

fn participant_reasons(report: &Report) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut fail = |bad: bool, reason: String| reasons.extend(bad.then_some(reason));
    fail(!report.connected, "not connected".into());
    fail(
        report.invites != 1,
        format!("{} invites instead of one", report.invites),
    );
    report
        .ends
        .iter()
        .for_each(|end| fail(true, format!("the call ended: {end}")));
    report
        .errors
        .iter()
        .for_each(|error| fail(true, format!("the focus: {error}")));
    fail(
        report.unbound_packets > 0,
        format!("{} packets with an unknown SSRC", report.unbound_packets),
    );
    fail(
        report.transport_feedbacks == 0,
        "no transport-wide feedback for what it sends".into(),
    );
    fail(
        report.receiver_reports == 0,
        "no receiver report for what it sends".into(),
    );
    fail(
        report.sender_reports == 0,
        "no sender report for what it receives".into(),
    );
    reasons
}

fn stream_reasons(
    then: &StreamReport,
    now: &StreamReport,
    seconds: f64,
    criteria: &Criteria,
) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut fail = |bad: bool, reason: String| reasons.extend(bad.then_some(reason));
    fail(!now.live, format!("{} ended", name(now.kind)));
    for broken in &now.violations {
        fail(
            true,
            format!(
                "{}: {:?} {} times, first: {}",
                name(now.kind),
                broken.violation,
                broken.count,
                broken.first
            ),
        );
    }
    fail(
        now.lost > 0,
        format!(
            "{}: {} packets lost on a network that loses none",
            name(now.kind),
            now.lost
        ),
    );
    if let (Some(then), Some(now)) = (&then.video, &now.video) {
        let fps = now.frames.saturating_sub(then.frames) as f64 / seconds;
        let (gap, gap_max) = (now.longest_gap_ms, criteria.video_gap_max_ms);
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        fail(
            fps < criteria.fps_min,
            format!(
                "video: {fps:.1} frames/s, at least {:.1} wanted",
                criteria.fps_min
            ),
        );
        fail(
            gap > gap_max,
            format!("video: no picture for {gap} ms, at most {gap_max} ms wanted"),
        );
        fail(
            now.broken > 0,
            format!("video: {} frames broken", now.broken),
        );
        fail(
            now.skipped > 0,
            format!(
                "video: {} times the decoder could not keep up (too slow a machine?)",
                now.skipped
            ),
        );
        let decoded = share(
            now.decoded.saturating_sub(then.decoded),
            now.frames.saturating_sub(then.frames),
        );
        fail(
            decoded < criteria.decoded_min,
            format!("video: {:.0} % of the frames decoded", decoded * 100.0),
        );
        let numbered = share(now.numbered, now.decoded);
        fail(
            numbered < criteria.numbered_min,
            format!("video: {:.0} % of the pictures numbered", numbered * 100.0),
        );
        fail(
            now.numbers_missed > 0,
            format!("video: {} pictures missed", now.numbers_missed),
        );
    }
    if let Some(audio) = &now.audio {
        let rate = now.packets.saturating_sub(then.packets) as f64 / seconds;
        let (gap, gap_max) = (audio.longest_gap_ms, criteria.audio_gap_max_ms);
        let wanted = criteria.audio_per_second_min;
        fail(
            rate < wanted,
            format!("audio: {rate:.1} packets/s, at least {wanted:.1} wanted"),
        );
        fail(
            gap > gap_max,
            format!("audio: none for {gap} ms, at most {gap_max} ms wanted"),
        );
        fail(
            audio.recognised < now.packets,
            format!(
                "audio: {} packets altered",
                now.packets.saturating_sub(audio.recognised)
            ),
        );
    }
    reasons
}

fn for_each_pair(reports: &[Report], mut each: impl FnMut(&Report, &str)) {
    for report in reports {
        for sender in reports
            .iter()
            .filter(|sender| sender.user_id != report.user_id)
        {
            each(report, &sender.user_id);
        }
    }
}

fn stream<'a>(report: &'a Report, sender: &str, kind: Kind) -> Option<&'a StreamReport> {
    report
        .streams
        .iter()
        .find(|stream| stream.user_id == sender && stream.kind == kind)
}

fn failure(report: &Report, from: Option<&str>, reason: String) -> Failure {
    Failure {
        participant: report.user_id.clone(),
        from: from.map(str::to_owned),
        reason,
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    }
}

#[cfg(test)]
mod tests {
    use weir_client::report::ViolationCount;
    use weir_client::{AudioReport, VideoReport, Violation};

    use super::*;

    fn stream(user_id: &str, kind: Kind, seconds: u64) -> StreamReport {
        let frames = 30 * seconds;
        let video = VideoReport {
            frames,
            decoded: frames,
            numbered: frames,
            longest_gap_ms: 40,
            ..Default::default()
        };
        let packets = 50 * seconds;
        let audio = AudioReport {
            recognised: packets,
            longest_gap_ms: 25,
            ..Default::default()
        };
        let (video, audio) = if kind == Kind::Video {
            (Some(video), None)
        } else {
            (None, Some(audio))
        };
        StreamReport {
            user_id: user_id.into(),
            device_id: "D".into(),
            purpose: "m.usermedia".into(),
            stream_id: "s".into(),
            track_id: "t".into(),
            kind,
            mid: "3".into(),
            live: true,
            ssrc: 1,
            packets,
            bytes: 1,
            lost: 0,
            reordered: 0,
            duplicates: 0,
            longest_packet_gap_ms: 25,
            video,
            audio,
            ..StreamReport::default()
        }
    }

    fn healthy(seconds: u64) -> Vec<Report> {
        let report = |own: &str, other: &str| Report {
            user_id: own.into(),
            connected: true,
            invites: 1,
            transport_feedbacks: 9,
            receiver_reports: 9,
            sender_reports: 9,
            streams: vec![
                stream(other, Kind::Video, seconds),
                stream(other, Kind::Audio, seconds),
            ],
            ..Report::default()
        };
        vec![report("@a:x", "@b:x"), report("@b:x", "@a:x")]
    }

    fn reasons(spoil: impl FnOnce(&mut Report)) -> Vec<String> {
        let mut after = healthy(20);
        spoil(&mut after[0]);
        let failures = judge(&healthy(10), &after, 10.0, &Criteria::default());
        failures.into_iter().map(|failure| failure.reason).collect()
    }

    #[test]
    fn a_healthy_call_passes() {
        assert_eq!(reasons(|_| {}), Vec::<String>::new());
        assert_eq!(missing(&healthy(1)), []);
    }

    #[test]
    fn each_thing_that_is_wrong_is_named() {
        let video = |report: &mut Report, change: fn(&mut VideoReport)| {
            change(report.streams[0].video.as_mut().unwrap())
        };
        assert_eq!(
            reasons(|r| video(r, |v| v.frames = 560)),
            ["video: 26.0 frames/s, at least 28.0 wanted"]
        );
        assert_eq!(
            reasons(|r| video(r, |v| v.longest_gap_ms = 700)),
            ["video: no picture for 700 ms, at most 500 ms wanted"]
        );
        assert_eq!(
            reasons(|r| video(r, |v| v.numbers_missed = 2)),
            ["video: 2 pictures missed"]
        );
        assert_eq!(
            reasons(|r| r.streams[1].packets = 900)[0],
            "audio: 40.0 packets/s, at least 48.0 wanted"
        );
        assert_eq!(reasons(|r| drop(r.streams.remove(1))), ["no audio"]);
        assert_eq!(reasons(|r| r.connected = false), ["not connected"]);
        assert_eq!(reasons(|r| r.ends.push("x".into())), ["the call ended: x"]);
        let broken = ViolationCount {
            violation: Violation::Tl0Gap,
            count: 2,
            first: "7 after 5".into(),
            first_at_ms: 1,
            last_at_ms: 2,
        };
        assert_eq!(
            reasons(|r| r.streams[0].violations.push(broken)),
            ["video: Tl0Gap 2 times, first: 7 after 5"]
        );
    }

    #[test]
    fn a_participant_without_a_stream_is_missing_it() {
        let mut reports = healthy(1);
        reports[1].streams.clear();
        let reasons: Vec<_> = missing(&reports)
            .into_iter()
            .map(|failure| failure.reason)
            .collect();
        assert_eq!(reasons, ["no video yet", "no audio yet"]);
    }
}
