//! Packets that left together, as one: what a queue does to a burst says nothing about the queue before it.

/// Packets sent within this time of the first one are one group.
const GROUP_US: u64 = 5_000;

/// Packets that arrive this close behind each other, sooner than they were sent apart, were held up together and released
/// at once, by a radio or a scheduler: they are one group, too.
const BURST_US: u64 = 5_000;

/// But not for longer than this.
const BURST_MAX_US: u64 = 100_000;

/// One group. Times are of its first and last packet, each by its own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) first_sent_us: u64,
    pub(crate) sent_us: u64,
    first_arrival_us: u64,
    pub(crate) arrival_us: u64,
    pub(crate) bytes: u64,
}

impl Group {
    /// The way's delay, plus whatever the two clocks are apart.
    pub(crate) fn delay_us(&self) -> i64 {
        self.arrival_us.wrapping_sub(self.sent_us) as i64
    }
}

/// Gathers packets to groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    current: Option<Group>,
}

impl Groups {
    /// Takes the next packet that arrived; the group that ended before it comes back.
    pub(crate) fn add(&mut self, sent_us: u64, arrival_us: u64, bytes: u64) -> Option<Group> {
        let next = Group {
            first_sent_us: sent_us,
            sent_us,
            first_arrival_us: arrival_us,
            arrival_us,
            bytes,
        };
        let Some(current) = &mut self.current else {
            self.current = Some(next);
            return None;
        };
        if sent_us < current.first_sent_us {
            // Overtaken by a later group: its time is past.
            current.bytes += bytes;
            return None;
        }
        if belongs(current, sent_us, arrival_us) {
            current.sent_us = current.sent_us.max(sent_us);
            current.arrival_us = current.arrival_us.max(arrival_us);
            current.bytes += bytes;
            return None;
        }
        self.current.replace(next)
    }

    /// Forgets the group that has not ended.
    pub(crate) fn reset(&mut self) {
        self.current = None;
    }
}

fn belongs(group: &Group, sent_us: u64, arrival_us: u64) -> bool {
    if sent_us - group.first_sent_us <= GROUP_US {
        return true;
    }
    let sent_apart = sent_us.saturating_sub(group.sent_us) as i64;
    let arrived_apart = arrival_us.wrapping_sub(group.arrival_us) as i64;
    (arrived_apart < sent_apart || sent_apart == 0)
        && arrived_apart <= BURST_US as i64
        && arrival_us.saturating_sub(group.first_arrival_us) < BURST_MAX_US
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(packets: &[(u64, u64)]) -> Vec<(u64, u64, u64)> {
        let mut groups = Groups::default();
        packets
            .iter()
            .filter_map(|(sent, arrival)| groups.add(sent * 1000, arrival * 1000, 100))
            .map(|group| (group.sent_us / 1000, group.arrival_us / 1000, group.bytes))
            .collect()
    }

    #[test]
    fn packets_sent_within_five_milliseconds_are_one_group() {
        let packets = [(0, 50), (3, 55), (5, 60), (6, 66), (20, 80), (40, 100)];
        assert_eq!(
            groups(&packets),
            [(5, 60, 300), (6, 66, 100), (20, 80, 100)]
        );
    }

    #[test]
    fn packets_that_were_held_up_together_are_one_group() {
        let packets = [(0, 50), (20, 110), (40, 111), (60, 112), (80, 130)];
        assert_eq!(groups(&packets), [(0, 50, 100), (60, 112, 300)]);
    }

    #[test]
    fn a_packet_of_an_earlier_group_only_adds_its_bytes() {
        let packets = [(0, 50), (20, 70), (10, 71), (40, 90)];
        assert_eq!(groups(&packets), [(0, 50, 100), (20, 70, 200)]);
    }
}
