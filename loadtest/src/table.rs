//! Who receives what, as lines of text.

use std::fmt::Write as _;

use weir_client::{Kind, Report};

/// One line for each pair of receiver and sender, under a heading.
pub fn render(reports: &[Report]) -> String {
    let mut out = String::from(
        "receives      from          picture     fps   kbit/s   longest gap   number   audio/s   audio gap   notes\n",
    );
    for report in reports {
        let senders: Vec<_> = report.streams.iter().filter(|stream| stream.live).collect();
        if senders.is_empty() {
            let state = if report.connected {
                "nothing yet"
            } else {
                "connecting"
            };
            let _ = writeln!(out, "{:<13} {state}", short(&report.user_id));
        }
        for stream in senders.iter().filter(|stream| stream.kind == Kind::Video) {
            let Some(video) = &stream.video else { continue };
            let same = |other: &&&weir_client::StreamReport| {
                other.kind == Kind::Audio && other.stream_id == stream.stream_id
            };
            let audio = senders
                .iter()
                .find(same)
                .and_then(|stream| stream.audio.as_ref());
            let number = video
                .last_number
                .map_or_else(|| "-".into(), |number| number.to_string());
            let size = format!("{}×{}", video.width, video.height);
            let _ = write!(
                out,
                "{:<13} {:<13} {size:<10} {:>4.0} {:>8} {:>10} ms {number:>8}",
                short(&report.user_id),
                short(&stream.user_id),
                video.fps,
                video.kbps,
                video.longest_gap_ms,
            );
            match audio {
                Some(audio) => {
                    let _ = write!(
                        out,
                        " {:>9.0} {:>8} ms",
                        audio.packets_per_second, audio.longest_gap_ms
                    );
                }
                None => out.push_str("         -           -"),
            }
            let _ = writeln!(out, "   {}", notes(stream));
        }
    }
    out
}

fn notes(stream: &weir_client::StreamReport) -> String {
    let mut notes: Vec<_> = stream
        .violations
        .iter()
        .map(|count| format!("{:?}×{}", count.violation, count.count))
        .collect();
    if stream.lost > 0 {
        notes.push(format!("{} lost", stream.lost));
    }
    if stream.purpose == "m.screenshare" {
        notes.push("screen".into());
    }
    notes.join(", ")
}

/// `@participant1:localhost` is `participant1` here.
fn short(user_id: &str) -> &str {
    user_id
        .trim_start_matches('@')
        .split(':')
        .next()
        .unwrap_or(user_id)
}

#[cfg(test)]
mod tests {
    use weir_client::{StreamReport, VideoReport};

    use super::*;

    #[test]
    fn shows_who_receives_whom() {
        let stream = StreamReport {
            user_id: "@b:localhost".into(),
            device_id: "D".into(),
            purpose: "m.usermedia".into(),
            stream_id: "s".into(),
            track_id: "t".into(),
            kind: Kind::Video,
            mid: "3".into(),
            live: true,
            ssrc: 1,
            packets: 1,
            bytes: 1,
            lost: 2,
            reordered: 0,
            duplicates: 0,
            longest_packet_gap_ms: 25,
            video: Some(VideoReport {
                width: 640,
                height: 360,
                fps: 30.0,
                kbps: 301,
                ..Default::default()
            }),
            ..StreamReport::default()
        };
        let waiting = Report {
            user_id: "@b:localhost".into(),
            ..Report::default()
        };
        let report = Report {
            user_id: "@a:localhost".into(),
            streams: vec![stream],
            ..Report::default()
        };
        let text = render(&[report, waiting]);
        let lines: Vec<_> = text.lines().skip(1).map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "a             b             640×360      30      301          0 ms        -         -           -   2 lost",
                "b             connecting",
            ]
        );
    }
}
