//! How long packets wait on the way, and how fast they come out of the queue while they do.

use super::groups::Group;

/// Groups that are remembered: at one each 5 ms a third of a second, at one each frame two seconds.
const GROUPS: usize = 64;

/// The least delay of the last one to two such spans is that of the empty way. Longer makes a route that has become longer
/// look like a queue for longer; shorter takes a queue that never empties for the way itself.
const BASE_SPAN_US: u64 = 10_000_000;

/// Below this the queue is as good as empty.
const EMPTY_US: i64 = 5_000;

/// The rate is taken over at least this time, and at most that.
const RATE_MIN_US: u64 = 100_000;
const RATE_MAX_US: u64 = 500_000;

/// While there is a queue, less time is enough.
const BUSY_MIN_US: u64 = 60_000;

/// How much of the smoothed wait is kept at each group.
const SMOOTHING: f64 = 0.75;

/// How fast packets were sent and how fast they arrived, over the same packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Passage {
    pub(crate) sent_bps: f64,
    pub(crate) arrived_bps: f64,
}

/// Which group is the oldest that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oldest {
    Earlier,
    This,
    TheOneAfter,
}

#[derive(Clone, Copy, Debug)]
struct Passed {
    group: Group,
    wait_us: i64,
}

/// The queue on the way.
#[derive(Debug)]
pub(crate) struct Queue {
    passed: [Option<Passed>; GROUPS],
    count: usize,
    /// The least delay of the span before, and of this one, and when this one began.
    least: (Option<i64>, Option<i64>),
    span_began_us: u64,
    wait_us: f64,
}

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            passed: [None; GROUPS],
            count: 0,
            least: (None, None),
            span_began_us: 0,
            wait_us: 0.0,
        }
    }

    /// Takes the next complete group.
    pub(crate) fn add(&mut self, group: Group) {
        if group.arrival_us.saturating_sub(self.span_began_us) > BASE_SPAN_US {
            self.span_began_us = group.arrival_us;
            self.least = (self.least.1, None);
        }
        let delay = group.delay_us();
        let least = self.least.1.map_or(delay, |least| least.min(delay));
        self.least.1 = Some(least);
        let base = self.least.0.map_or(least, |before| before.min(least));
        let wait_us = delay.saturating_sub(base);
        self.wait_us = SMOOTHING * self.wait_us + (1.0 - SMOOTHING) * wait_us as f64;
        self.passed[self.count % GROUPS] = Some(Passed { group, wait_us });
        self.count += 1;
    }

    /// How long packets wait at present, in milliseconds.
    pub(crate) fn wait_ms(&self) -> f64 {
        self.wait_us / 1000.0
    }

    /// How long the last packets waited, in milliseconds.
    pub(crate) fn newest_wait_ms(&self) -> f64 {
        self.nth_newest(0)
            .map_or(0.0, |newest| newest.wait_us as f64 / 1000.0)
    }

    /// What came out last of a queue of more than `wait_ms` that has built up because only the part `arrived` of what is sent
    /// arrives.
    pub(crate) fn swelling(&self, wait_ms: f64, arrived: f64) -> Option<Passage> {
        let swells = |of: &Passage| of.arrived_bps < arrived * of.sent_bps;
        if self.newest_wait_ms() <= wait_ms || !self.busy().as_ref().is_some_and(swells) {
            return None;
        }
        // What came out of it before it swelled came faster.
        self.passed_since(BUSY_MIN_US, |took_us, waited_us| {
            match (took_us >= BUSY_MIN_US, waited_us <= EMPTY_US) {
                (_, true) => Oldest::TheOneAfter,
                (true, false) => Oldest::This,
                (false, false) => Oldest::Earlier,
            }
        })
    }

    /// What came out of the queue since it was last empty: all that the way carries. `None` when that was too short ago.
    fn busy(&self) -> Option<Passage> {
        self.passed_since(BUSY_MIN_US, |took_us, waited_us| {
            match waited_us <= EMPTY_US || took_us >= RATE_MAX_US {
                true => Oldest::TheOneAfter,
                false => Oldest::Earlier,
            }
        })
    }

    /// What came through lately: out of the queue, if there is one.
    pub(crate) fn passage(&self) -> Option<Passage> {
        let lately = |took_us, waited_us| match took_us {
            RATE_MAX_US.. => Oldest::This,
            RATE_MIN_US.. if waited_us <= EMPTY_US => Oldest::This,
            _ => Oldest::Earlier,
        };
        self.busy()
            .or_else(|| self.passed_since(RATE_MIN_US, lately))
    }

    /// What passed behind the group that `oldest` finds by how long it came before the newest, and how long it waited. `None`
    /// when that took less than `least_us`.
    fn passed_since(&self, least_us: u64, oldest: impl Fn(u64, i64) -> Oldest) -> Option<Passage> {
        let newest = self.nth_newest(0)?.group;
        let (mut bytes, mut first) = (newest.bytes, newest);
        for back in 0..GROUPS.min(self.count) {
            let Passed { group, wait_us } = *self.nth_newest(back)?;
            let took_us = newest.arrival_us.saturating_sub(group.arrival_us);
            let found = oldest(took_us, wait_us);
            if found == Oldest::TheOneAfter {
                break;
            }
            if back > 0 {
                bytes += group.bytes;
                first = group;
            }
            if found == Oldest::This {
                break;
            }
        }
        bytes -= first.bytes;
        let arrived_us = newest.arrival_us.saturating_sub(first.arrival_us);
        let sent_us = newest.sent_us.saturating_sub(first.sent_us);
        if arrived_us < least_us || sent_us == 0 {
            return None;
        }
        let bps = |us: u64| bytes as f64 * 8e6 / us as f64;
        Some(Passage {
            sent_bps: bps(sent_us),
            arrived_bps: bps(arrived_us),
        })
    }

    fn nth_newest(&self, back: usize) -> Option<&Passed> {
        self.passed[(self.count + GROUPS).checked_sub(1 + back)? % GROUPS].as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::super::groups::Groups;
    use super::*;

    /// Sends 1250 bytes each 10 ms, 1 Mb/s, through a way of `bps` from the hundredth packet on.
    fn pass(bps: u64, packets: u64) -> Queue {
        let (mut groups, mut queue) = (Groups::default(), Queue::new());
        let mut free_us = 0;
        for packet in 0..packets {
            let sent_us = packet * 10_000;
            let rate = if packet < 100 { 10_000_000 } else { bps };
            free_us = free_us.max(sent_us) + 1250 * 8_000_000 / rate;
            if let Some(group) = groups.add(sent_us, free_us + 30_000, 1250) {
                queue.add(group);
            }
        }
        queue
    }

    #[test]
    fn an_empty_way_has_no_wait() {
        assert!(pass(10_000_000, 300).wait_ms() < 0.1);
    }

    #[test]
    fn what_comes_out_of_a_queue_is_what_the_way_carries() {
        // Half a megabit a second into a way that halves: after 300 ms the wait is 150 ms and more.
        let queue = pass(500_000, 132);
        assert!(queue.wait_ms() > 100.0, "{}", queue.wait_ms());
        let Passage {
            sent_bps,
            arrived_bps,
        } = queue.passage().unwrap();
        assert!(
            (480_000.0..530_000.0).contains(&arrived_bps),
            "{arrived_bps}"
        );
        assert!((950_000.0..1_050_000.0).contains(&sent_bps), "{sent_bps}");
    }

    #[test]
    fn a_longer_way_is_no_queue_for_ever() {
        let (mut groups, mut queue) = (Groups::default(), Queue::new());
        for packet in 0..5000u64 {
            let delay = if packet < 1000 { 30_000 } else { 90_000 };
            if let Some(group) = groups.add(packet * 10_000, packet * 10_000 + delay, 500) {
                queue.add(group);
            }
        }
        assert!(queue.wait_ms() < 1.0, "{}", queue.wait_ms());
    }
}
