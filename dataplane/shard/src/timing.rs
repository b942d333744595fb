//! At which RTP time a new layer continues an old one: both layers' sender reports tie their clocks to the publisher's.

use std::time::{Duration, Instant};

use weir_wire::RtpTime;

use crate::limits::{SENDER_REPORT_DISAGREEMENT, TIMESTAMP_REGRESSION};

/// The last sender report of a source: one instant in its RTP clock and in the publisher's wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReportedTime {
    /// NTP format, 32.32 bits of seconds.
    pub(crate) ntp: u64,
    pub(crate) rtp: RtpTime,
    pub(crate) arrival: Instant,
}

/// Where a packet lies in time, as far as is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// In the clock of its source.
    pub(crate) timestamp: RtpTime,
    pub(crate) arrival: Instant,
    pub(crate) report: Option<ReportedTime>,
}

/// The picture's time would go back too far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Regression;

/// The outgoing timestamp of `next`, the first packet of the new layer: always greater than `newest_out`, the newest that
/// went out. `last` is a packet of the old layer that came in order, and `last_out` what it went out with.
pub(crate) fn continued(
    newest_out: RtpTime,
    last_out: RtpTime,
    last: Moment,
    next: Moment,
    clock_rate: u32,
) -> Result<RtpTime, Regression> {
    let between = next.arrival.saturating_duration_since(last.arrival);
    let by_arrival = units(between, clock_rate);
    let believable = |advance: &i64| {
        (advance - by_arrival).abs() <= units(SENDER_REPORT_DISAGREEMENT, clock_rate)
    };
    let since_last = by_reports(last, next, clock_rate).filter(believable);
    let since_last = since_last.unwrap_or(by_arrival);
    let since_newest = since_last - i64::from(newest_out.distance_from(last_out));
    if since_newest < -units(TIMESTAMP_REGRESSION, clock_rate) {
        return Err(Regression);
    }
    Ok(newest_out.add(since_newest.max(1) as u32))
}

/// How far `next` was captured after `last`, in RTP units, by the publisher's own clock.
fn by_reports(last: Moment, next: Moment, clock_rate: u32) -> Option<i64> {
    let (last_report, next_report) = (last.report?, next.report?);
    let between_reports = next_report.ntp.wrapping_sub(last_report.ntp) as i64;
    let between_reports = (i128::from(between_reports) * i128::from(clock_rate)) >> 32;
    let since =
        |moment: Moment, report: ReportedTime| moment.timestamp.0.wrapping_sub(report.rtp.0) as i32;
    let advance = between_reports + i128::from(since(next, next_report))
        - i128::from(since(last, last_report));
    i64::try_from(advance).ok()
}

/// A duration in RTP units.
pub(crate) fn units(duration: Duration, clock_rate: u32) -> i64 {
    let units = duration.as_micros() * u128::from(clock_rate) / 1_000_000;
    i64::try_from(units).unwrap_or(i64::MAX / 4)
}

/// A time since 1970 in NTP format, which counts from 1900 (RFC 5905 §6).
pub(crate) fn wall_clock(unix_time: Duration) -> u64 {
    const SECONDS_TO_1970: u64 = 2_208_988_800;
    ntp(unix_time).wrapping_add(SECONDS_TO_1970 << 32)
}

/// A duration in NTP format.
pub(crate) fn ntp(duration: Duration) -> u64 {
    let fraction = (u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000;
    (duration.as_secs() << 32) | fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const SECOND: u64 = 1 << 32;

    fn moment(timestamp: u32, arrival: Instant, report: Option<(u64, u32)>) -> Moment {
        let report = report.map(|(ntp, rtp)| ReportedTime {
            ntp,
            rtp: RtpTime(rtp),
            arrival,
        });
        Moment {
            timestamp: RtpTime(timestamp),
            arrival,
            report,
        }
    }

    #[test]
    fn reports_decide_where_both_layers_have_them() {
        let now = Instant::now();
        // Old layer: 10 s of wall clock is 900 000; its last frame is 100 ms later. New layer: 10.5 s is 77; the keyframe
        // is 300 ms before that, so 100 ms after the old layer's last frame.
        let last = moment(909_000, now, Some((10 * SECOND, 900_000)));
        let next = moment(
            77u32.wrapping_sub(27_000),
            now + 5 * MS,
            Some((10 * SECOND + SECOND / 2, 77)),
        );
        assert_eq!(
            continued(RtpTime(1000), RtpTime(1000), last, next, 90_000),
            Ok(RtpTime(10_000))
        );
    }

    #[test]
    fn arrival_decides_without_reports() {
        let now = Instant::now();
        for (last, next) in [
            (None, None),
            (Some((SECOND, 0)), None),
            (None, Some((SECOND, 0))),
        ] {
            let out = continued(
                RtpTime(u32::MAX),
                RtpTime(u32::MAX),
                moment(5, now, last),
                moment(9, now + 40 * MS, next),
                90_000,
            );
            assert_eq!(out, Ok(RtpTime(3599)));
        }
    }

    #[test]
    fn a_small_step_back_becomes_one_unit_forward_and_a_large_one_is_refused() {
        let now = Instant::now();
        let at = |ms_back: u32| {
            let last = moment(90_000, now, Some((SECOND, 0)));
            let next = moment(90_000 - 90 * ms_back, now + 5 * MS, Some((SECOND, 0)));
            continued(RtpTime(7), RtpTime(7), last, next, 90_000)
        };
        assert_eq!(at(0), Ok(RtpTime(8)));
        assert_eq!(at(50), Ok(RtpTime(8)));
        assert_eq!(at(51), Err(Regression));
        assert_eq!(at(900), Err(Regression));
    }

    #[test]
    fn a_frame_that_came_late_does_not_shift_the_clock() {
        // In order came 9000; 18 000 was sent again much later and says nothing. 300 ms after the former comes the next.
        let now = Instant::now();
        let (last, next) = (moment(5, now, None), moment(77, now + 300 * MS, None));
        let out = continued(RtpTime(18_000), RtpTime(9000), last, next, 90_000);
        assert_eq!(out, Ok(RtpTime(36_000)));
    }

    #[test]
    fn absurd_reports_are_not_believed() {
        let now = Instant::now();
        let last = moment(0, now, Some((SECOND, 0)));
        let next = moment(0, now + 20 * MS, Some((3000 * SECOND, 0)));
        assert_eq!(
            continued(RtpTime(0), RtpTime(0), last, next, 90_000),
            Ok(RtpTime(1800))
        );
    }

    #[test]
    fn wall_clock_has_32_bits_of_fraction() {
        assert_eq!(ntp(Duration::from_millis(1500)), 0x0000_0001_8000_0000);
        assert_eq!(wall_clock(Duration::ZERO), 0x83aa_7e80_0000_0000);
    }
}
