//! What is wrong with one direction of a network, and when it changes; with the notation of the command line:
//!
//! ```text
//!   loss=5%, delay=25ms                          for ever
//!   delay=25ms, rate=3M; 20s: rate=500k; 40s: rate=3M
//! ```
//!
//! A later stage changes only what it names. Not here: what it does to a datagram (link.rs).

use std::str::FromStr;
use std::time::Duration;

/// A direction of a network at one time. The default is a perfect one.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Chance that a datagram is lost by itself.
    pub loss: f64,
    /// Chance that a burst of loss begins at a datagram (Gilbert-Elliott: from good to bad).
    pub burst: f64,
    /// How many datagrams a burst lasts on average (from bad to good: one in so many).
    pub burst_packets: f64,
    /// Chance that a datagram within a burst is lost.
    pub burst_loss: f64,
    /// What every datagram takes.
    pub delay: Duration,
    /// What a datagram takes besides, evenly distributed from nothing to this. Order is kept.
    pub jitter: Duration,
    /// Chance that a datagram is held back for [`Self::reorder_by`], so that others overtake it.
    pub reorder: f64,
    /// How long a datagram that loses its place is held back.
    pub reorder_by: Duration,
    /// Chance that a datagram arrives twice.
    pub duplicate: f64,
    /// What goes through, in bits per second of IP datagrams; `None` for no limit.
    pub rate_bps: Option<u64>,
    /// How long a datagram may have to wait for its turn at the rate; one that would wait longer is dropped.
    pub queue: Duration,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            loss: 0.0,
            burst: 0.0,
            burst_packets: 5.0,
            burst_loss: 1.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder: 0.0,
            reorder_by: Duration::from_millis(20),
            duplicate: 0.0,
            rate_bps: None,
            queue: Duration::from_millis(200),
        }
    }
}

/// What a line of the notation got wrong, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Something that is no `key=value`.
    #[error("{0:?} is no key=value")]
    NoPair(String),
    /// A key that does not exist.
    #[error(
        "{0:?} is none of loss, burst, burst_packets, burst_loss, delay, jitter, reorder, reorder_by, duplicate, rate, queue"
    )]
    UnknownKey(String),
    /// A chance that is not between 0 and 100 %.
    #[error("{0:?} is no chance such as 5% or 0.05")]
    BadChance(String),
    /// A time without a unit, or a negative one.
    #[error("{0:?} is no time such as 25ms or 2s")]
    BadTime(String),
    /// A rate that is no number of bits per second of at least 1000.
    #[error("{0:?} is no rate such as 500k, 3M or none")]
    BadRate(String),
    /// A burst shorter than a packet.
    #[error("{0:?} is no mean number of packets of at least 1")]
    BadLength(String),
    /// Stages that are not in the order of their times.
    #[error("a stage at {0:?} comes after a later one")]
    OutOfOrder(Duration),
}

impl Profile {
    /// Changes what a list such as `loss=5%, delay=25ms` names.
    fn change(&mut self, list: &str) -> Result<(), ProfileError> {
        for pair in list
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            let (key, value) = pair
                .split_once('=')
                .ok_or_else(|| ProfileError::NoPair(pair.to_owned()))?;
            let value = value.trim();
            match key.trim() {
                "loss" => self.loss = chance(value)?,
                "burst" => self.burst = chance(value)?,
                "burst_packets" => self.burst_packets = length(value)?,
                "burst_loss" => self.burst_loss = chance(value)?,
                "delay" => self.delay = time(value)?,
                "jitter" => self.jitter = time(value)?,
                "reorder" => self.reorder = chance(value)?,
                "reorder_by" => self.reorder_by = time(value)?,
                "duplicate" => self.duplicate = chance(value)?,
                "rate" => self.rate_bps = rate(value)?,
                "queue" => self.queue = time(value)?,
                unknown => return Err(ProfileError::UnknownKey(unknown.to_owned())),
            }
        }
        Ok(())
    }
}

/// Profiles over time: the first holds from the beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// From when, counted from the beginning, in ascending order; never empty, and the first is at zero.
    stages: Vec<(Duration, Profile)>,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            stages: vec![(Duration::ZERO, Profile::default())],
        }
    }
}

impl Schedule {
    /// The stages: from when, and what holds from then on.
    #[must_use]
    pub fn stages(&self) -> &[(Duration, Profile)] {
        &self.stages
    }
}

impl FromStr for Schedule {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let mut schedule = Self::default();
        for stage in text
            .split(';')
            .map(str::trim)
            .filter(|stage| !stage.is_empty())
        {
            let (at, list) = match stage.split_once(':') {
                Some((at, list)) => (time(at.trim())?, list),
                None => (Duration::ZERO, stage),
            };
            let (last, profile) = schedule
                .stages
                .last()
                .expect("there is always a first stage");
            let (last, mut profile) = (*last, profile.clone());
            profile.change(list)?;
            if at < last {
                return Err(ProfileError::OutOfOrder(at));
            }
            if at == last {
                schedule.stages.pop();
            }
            schedule.stages.push((at, profile));
        }
        Ok(schedule)
    }
}

fn chance(text: &str) -> Result<f64, ProfileError> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let chance = match text.strip_suffix('%') {
        Some(percent) => number(percent).map(|percent| percent / 100.0),
        None => number(text),
    };
    chance
        .filter(|chance| (0.0..=1.0).contains(chance))
        .ok_or_else(|| ProfileError::BadChance(text.to_owned()))
}

fn length(text: &str) -> Result<f64, ProfileError> {
    let number = text.parse::<f64>().ok();
    number
        .filter(|number| number.is_finite() && *number >= 1.0)
        .ok_or_else(|| ProfileError::BadLength(text.to_owned()))
}

/// Longer than this is a mistake in writing.
const TIME_MAX_S: f64 = 86_400.0;

fn time(text: &str) -> Result<Duration, ProfileError> {
    let in_units = |unit: &str, seconds: f64| {
        Some(text.strip_suffix(unit)?.trim().parse::<f64>().ok()? * seconds)
    };
    let seconds = in_units("us", 1e-6)
        .or_else(|| in_units("ms", 1e-3))
        .or_else(|| in_units("s", 1.0));
    let seconds = seconds.or_else(|| (text == "0").then_some(0.0));
    seconds
        .filter(|seconds| (0.0..=TIME_MAX_S).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| ProfileError::BadTime(text.to_owned()))
}

fn rate(text: &str) -> Result<Option<u64>, ProfileError> {
    if text == "none" {
        return Ok(None);
    }
    let in_units =
        |unit: char, factor: f64| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor);
    let rate = in_units('k', 1e3)
        .or_else(|| in_units('M', 1e6))
        .or_else(|| in_units('G', 1e9))
        .or_else(|| text.parse().ok());
    // Below 1000 bit/s a packet takes ten seconds: whoever wants nothing to pass writes loss=100%.
    rate.filter(|rate| (1e3..=1e12).contains(rate))
        .map(|rate| Some(rate as u64))
        .ok_or_else(|| ProfileError::BadRate(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_named_is_a_perfect_network() {
        assert_eq!("".parse::<Schedule>(), Ok(Schedule::default()));
        assert_eq!(
            Schedule::default().stages(),
            [(Duration::ZERO, Profile::default())]
        );
    }

    #[test]
    fn everything_can_be_named() {
        let text = "loss=5%, burst=0.01, burst_packets=8, burst_loss=90%, delay=25ms, jitter=500us, reorder=1%, reorder_by=0.03s, \
                    duplicate=0.5%, rate=1.5M, queue=300ms";
        let schedule: Schedule = text.parse().expect("a good line");
        let expected = Profile {
            loss: 0.05,
            burst: 0.01,
            burst_packets: 8.0,
            burst_loss: 0.9,
            delay: 25 * MS,
            jitter: MS / 2,
            reorder: 0.01,
            reorder_by: 30 * MS,
            duplicate: 0.005,
            rate_bps: Some(1_500_000),
            queue: 300 * MS,
        };
        assert_eq!(schedule.stages(), [(Duration::ZERO, expected)]);
    }

    #[test]
    fn a_later_stage_changes_only_what_it_names() {
        let schedule: Schedule = "delay=25ms,rate=3M; 20s: rate=500k; 40s: rate=none,loss=1"
            .parse()
            .expect("a good line");
        let first = Profile {
            delay: 25 * MS,
            rate_bps: Some(3_000_000),
            ..Profile::default()
        };
        let second = Profile {
            rate_bps: Some(500_000),
            ..first.clone()
        };
        let third = Profile {
            rate_bps: None,
            loss: 1.0,
            ..first.clone()
        };
        let stages = [
            (Duration::ZERO, first),
            (20_000 * MS, second),
            (40_000 * MS, third),
        ];
        assert_eq!(schedule.stages(), stages);
    }

    #[test]
    fn a_schedule_may_begin_later() {
        let schedule: Schedule = "2s: loss=2%".parse().expect("a good line");
        let lossy = Profile {
            loss: 0.02,
            ..Profile::default()
        };
        assert_eq!(
            schedule.stages(),
            [(Duration::ZERO, Profile::default()), (2000 * MS, lossy)]
        );
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |text: &str| text.parse::<Schedule>().expect_err("a bad line");
        assert_eq!(error("loss"), ProfileError::NoPair("loss".to_owned()));
        assert_eq!(
            error("lost=1%"),
            ProfileError::UnknownKey("lost".to_owned())
        );
        assert_eq!(
            error("loss=101%"),
            ProfileError::BadChance("101%".to_owned())
        );
        assert_eq!(error("loss=NaN"), ProfileError::BadChance("NaN".to_owned()));
        assert_eq!(error("delay=25"), ProfileError::BadTime("25".to_owned()));
        assert_eq!(
            error("delay=-1ms"),
            ProfileError::BadTime("-1ms".to_owned())
        );
        assert_eq!(error("rate=0"), ProfileError::BadRate("0".to_owned()));
        assert_eq!(error("rate=fast"), ProfileError::BadRate("fast".to_owned()));
        assert_eq!(
            error("burst_packets=0"),
            ProfileError::BadLength("0".to_owned())
        );
        assert_eq!(
            error("20s: loss=1%; 10s: loss=2%"),
            ProfileError::OutOfOrder(10_000 * MS)
        );
    }
}
