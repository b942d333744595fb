//! The rules that hold for any RTP stream of a focus: one SSRC, numbers and times without jumps, nothing that was not
//! negotiated. No I/O, no clock.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use rtp::packet::Packet;

use crate::report::{Violation, ViolationCount};

/// Broken rules, each kind once.
#[derive(Debug, Clone, Default)]
pub struct Violations {
    broken: BTreeMap<Violation, Broken>,
    now: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Broken {
    count: u64,
    first: String,
    first_at: Option<Instant>,
    last_at: Option<Instant>,
}

impl Violations {
    /// What is added from here on happens at this time.
    pub fn at(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// Counts one; `describe` is called for the first of its kind only.
    pub fn add(&mut self, violation: Violation, describe: impl FnOnce() -> String) {
        let now = self.now;
        let broken = self.broken.entry(violation).or_insert_with(|| Broken {
            count: 0,
            first: describe(),
            first_at: now,
            last_at: now,
        });
        broken.count += 1;
        broken.last_at = now;
    }

    /// Whether no rule was broken.
    pub fn is_empty(&self) -> bool {
        self.broken.is_empty()
    }

    /// These and others together, each kind once.
    pub fn merged(&self, others: &Violations) -> Vec<ViolationCount> {
        let mut all = self.clone();
        for (violation, other) in &others.broken {
            let Some(own) = all.broken.get_mut(violation) else {
                all.broken.insert(*violation, other.clone());
                continue;
            };
            own.count += other.count;
            own.last_at = own.last_at.max(other.last_at);
            if other.first_at < own.first_at {
                (own.first, own.first_at) = (other.first.clone(), other.first_at);
            }
        }
        all.counts()
    }

    /// All of them, in a fixed order.
    pub fn counts(&self) -> Vec<ViolationCount> {
        let count = |(violation, broken): (&Violation, &Broken)| ViolationCount {
            violation: *violation,
            count: broken.count,
            first: broken.first.clone(),
            first_at_ms: broken.first_at.map_or(0, crate::clock::unix_ms_of),
            last_at_ms: broken.last_at.map_or(0, crate::clock::unix_ms_of),
        };
        self.broken.iter().map(count).collect()
    }
}

/// What a sequence number is, compared with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The highest so far; the extended number.
    Newest(u64),
    /// Fills a hole; the extended number.
    Late(u64),
    /// Was here already, or is too old to tell.
    Duplicate,
}

/// What a retransmission is, compared with what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Fills a hole, or comes before its original and all that follows.
    Useful(Arrival),
    /// The packet is there with this content, was given up, or is too old to tell.
    TooLate,
    /// The packet is there with another content.
    Differs {
        /// It had been missing before it came.
        was_missing: bool,
    },
    /// Its time does not lie between those of the packets around it, or its number is far from any that was sent.
    OutOfPlace,
}

/// A hole is given up for lost after this long: a retransmission that comes later is of no use to a call.
const LOST_AFTER: Duration = Duration::from_millis(600);
/// Reordering on the way is no loss: the first NACK waits this long, each further one twice that.
const NACK_AFTER: Duration = Duration::from_millis(20);
const NACKS_MAX: u8 = 4;
/// How far back two packets with one number are compared.
const REMEMBERED: usize = 1024;
/// No sender that loses packets in a network makes a hole like this.
const JUMP: u64 = 3000;
/// A retransmission may come before its original, but only by the packets of a few frames.
const AHEAD_MAX: u64 = 250;
/// How far around a hole its neighbours are looked for.
const NEIGHBOURS: u64 = 64;

/// Follows the sequence numbers of one stream.
#[derive(Debug, Default)]
pub struct Sequence {
    /// Where the stream begins, as far as is known: what was sent before the first packet that came may come later.
    first: Option<u64>,
    highest: Option<u64>,
    missing: BTreeMap<u64, Missing>,
    recent: Recent,
    /// Numbers that never came.
    pub lost: u64,
    /// Packets that came after a later one.
    pub reordered: u64,
    /// Packets that came twice.
    pub duplicates: u64,
}

/// What was received lately, by number.
#[derive(Debug, Default)]
struct Recent(VecDeque<Option<Entry>>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    number: u64,
    digest: u64,
    timestamp: u32,
    was_missing: bool,
}

impl Recent {
    fn insert(&mut self, entry: Entry) {
        if self.0.is_empty() {
            self.0.resize(REMEMBERED, None);
        }
        self.0[entry.number as usize % REMEMBERED] = Some(entry);
    }

    fn get(&self, number: u64) -> Option<&Entry> {
        let entry = self.0.get(number as usize % REMEMBERED)?.as_ref()?;
        (entry.number == number).then_some(entry)
    }

    /// Whether a packet of this time may lie between those around the number.
    fn fits(&self, number: u64, timestamp: u32) -> bool {
        let before = (number.saturating_sub(NEIGHBOURS)..number)
            .rev()
            .find_map(|n| self.get(n));
        let after = (number + 1..=number + NEIGHBOURS).find_map(|n| self.get(n));
        let not_before = |early: u32, late: u32| late.wrapping_sub(early) as i32 >= 0;
        before.is_none_or(|before| not_before(before.timestamp, timestamp))
            && after.is_none_or(|after| not_before(timestamp, after.timestamp))
    }
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Instant,
    asked: u8,
    ask_next: Instant,
}

impl Missing {
    fn since(now: Instant) -> Missing {
        Missing {
            since: now,
            asked: 0,
            ask_next: now + NACK_AFTER,
        }
    }
}

impl Sequence {
    /// Sorts one packet in.
    pub fn handle(
        &mut self,
        packet: &Packet,
        violations: &mut Violations,
        now: Instant,
    ) -> Arrival {
        let number = packet.header.sequence_number;
        let Some(highest) = self.highest else {
            // One roll-over of head room, so that a packet from before the first one has a number too.
            let extended = (1 << 16) | u64::from(number);
            (self.first, self.highest) = (Some(extended), Some(extended));
            self.remember(extended, packet, false);
            return Arrival::Newest(extended);
        };
        let distance = number.wrapping_sub(highest as u16) as i16;
        let extended = highest.wrapping_add_signed(i64::from(distance));
        if distance > 0 {
            if extended - highest > JUMP {
                violations.add(Violation::SequenceJump, || {
                    format!("{} after {}", number, highest as u16)
                });
            }
            let missing = Missing::since(now);
            self.missing.extend(
                (highest + 1..extended)
                    .rev()
                    .take(REMEMBERED)
                    .map(|hole| (hole, missing)),
            );
            self.lost += (extended - highest - 1).saturating_sub(REMEMBERED as u64);
            self.highest = Some(extended);
            self.remember(extended, packet, false);
            return Arrival::Newest(extended);
        }
        if self.missing.remove(&extended).is_some() || self.begins_earlier(extended, now) {
            self.reordered += 1;
            self.remember(extended, packet, true);
            return Arrival::Late(extended);
        }
        self.duplicates += 1;
        let known = self.recent.get(extended);
        if known.is_some_and(|entry| entry.digest != digest_of(packet)) {
            violations.add(Violation::NumberUsedTwice, || {
                format!("number {number} with another content")
            });
        }
        Arrival::Duplicate
    }

    /// Sorts in a packet that was sent again on the RTX stream.
    pub fn repair(&mut self, original: &Packet, now: Instant) -> Repair {
        let Some(highest) = self.highest else {
            return Repair::TooLate;
        };
        let number = original.header.sequence_number;
        let distance = number.wrapping_sub(highest as u16) as i16;
        let extended = highest.wrapping_add_signed(i64::from(distance));
        if let Some(entry) = self.recent.get(extended) {
            return match entry.digest == digest_of(original) {
                true => Repair::TooLate,
                false => Repair::Differs {
                    was_missing: entry.was_missing,
                },
            };
        }
        let is_missing = self.missing.contains_key(&extended) || self.is_just_before(extended);
        if !is_missing && extended < highest {
            return Repair::TooLate;
        }
        let timestamp = original.header.timestamp;
        if extended > highest + AHEAD_MAX || !self.recent.fits(extended, timestamp) {
            return Repair::OutOfPlace;
        }
        // It is in order, so sorting it in breaks no rule.
        let mut violations = Violations::default();
        Repair::Useful(self.handle(original, &mut violations, now))
    }

    /// Whether a number lies before the first packet that came, and so near that it may be of the same frame.
    fn is_just_before(&self, number: u64) -> bool {
        self.first
            .is_some_and(|first| (first.saturating_sub(NEIGHBOURS)..first).contains(&number))
    }

    /// Begins the stream with this number if it lies just before it. What lies between is missing.
    fn begins_earlier(&mut self, number: u64, now: Instant) -> bool {
        if !self.is_just_before(number) {
            return false;
        }
        let first = self.first.replace(number).unwrap_or(number);
        let missing = Missing::since(now);
        self.missing
            .extend((number + 1..first).map(|hole| (hole, missing)));
        true
    }

    /// Another stream takes the place of this one: its numbers have nothing to do with those before.
    pub fn restart(&mut self) {
        (self.first, self.highest) = (None, None);
        (self.missing, self.recent) = (BTreeMap::new(), Recent::default());
    }

    /// Numbers to ask for again now.
    pub fn nacks(&mut self, now: Instant) -> Vec<u16> {
        let due = |missing: &Missing| missing.asked < NACKS_MAX && missing.ask_next <= now;
        let mut numbers = Vec::new();
        for (number, missing) in self.missing.iter_mut().filter(|(_, missing)| due(missing)) {
            missing.asked += 1;
            missing.ask_next = now + NACK_AFTER * 2u32.pow(u32::from(missing.asked));
            numbers.push(*number as u16);
        }
        numbers
    }

    /// Nobody has sent a packet with this number, and nobody will: it is neither asked for nor lost.
    pub fn never_sent(&mut self, number: u64) {
        self.missing.remove(&number);
    }

    /// Gives up old holes.
    pub fn handle_timeout(&mut self, now: Instant) {
        let before = self.missing.len();
        self.missing
            .retain(|_, missing| now.saturating_duration_since(missing.since) < LOST_AFTER);
        self.lost += (before - self.missing.len()) as u64;
    }

    /// The highest extended number, as a receiver report wants it.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    fn remember(&mut self, number: u64, packet: &Packet, was_missing: bool) {
        self.recent.insert(Entry {
            number,
            digest: digest_of(packet),
            timestamp: packet.header.timestamp,
            was_missing,
        });
    }
}

/// Of what a retransmission must repeat; header extensions may differ.
fn digest_of(packet: &Packet) -> u64 {
    let mut hasher = DefaultHasher::new();
    (
        packet.header.timestamp,
        packet.header.marker,
        &packet.payload[..],
    )
        .hash(&mut hasher);
    hasher.finish()
}

/// Follows the time stamps of one stream.
///
/// A stall on the way makes packets late and then come in a burst: media time falls behind the clock and catches up. That
/// is no fault of the stamps. Media time that runs ahead of the clock is, and so is one that stays behind.
#[derive(Debug, Default)]
pub struct Timeline {
    last: Option<Stamp>,
}

#[derive(Debug, Clone, Copy)]
struct Stamp {
    timestamp: u32,
    at: Instant,
    /// How far media time is ahead of the clock, compared with the packet that was least late; never above 0.
    ahead_us: i64,
    behind_since: Option<Instant>,
}

/// Media time may be this far off the clock at a switch of layers, whose clocks are mapped by sender reports.
const DRIFT_MAX_US: i64 = 500_000;
/// What is behind for longer than this was not caught up with: the stamps stood still during a pause.
const BEHIND_MAX: Duration = Duration::from_secs(5);

impl Timeline {
    /// The time of the newest packet.
    pub fn last(&self) -> Option<u32> {
        self.last.map(|stamp| stamp.timestamp)
    }

    /// Compares the time of the newest packet with the last one's.
    pub fn handle(
        &mut self,
        timestamp: u32,
        clock_rate: u32,
        violations: &mut Violations,
        now: Instant,
    ) {
        let mut stamp = Stamp {
            timestamp,
            at: now,
            ahead_us: 0,
            behind_since: None,
        };
        if let Some(last) = self.last {
            let ticks = i64::from(timestamp.wrapping_sub(last.timestamp) as i32);
            if ticks < 0 {
                violations.add(Violation::TimestampBack, || {
                    format!("{timestamp} after {}", last.timestamp)
                });
            }
            let media_us = ticks * 1_000_000 / i64::from(clock_rate);
            let clock_us = now.saturating_duration_since(last.at).as_micros() as i64;
            let ahead_us = last.ahead_us + media_us - clock_us;
            stamp.ahead_us = ahead_us.min(0);
            if ahead_us < -DRIFT_MAX_US {
                stamp.behind_since = last.behind_since.or(Some(now));
            }
            let stuck = |since: Instant| now.saturating_duration_since(since) > BEHIND_MAX;
            if ahead_us > DRIFT_MAX_US || stamp.behind_since.is_some_and(stuck) {
                violations.add(Violation::TimestampJump, || {
                    format!(
                        "{} ms ahead of the clock ({timestamp} after {})",
                        ahead_us / 1000,
                        last.timestamp
                    )
                });
                (stamp.ahead_us, stamp.behind_since) = (0, None);
            }
        }
        self.last = Some(stamp);
    }
}

/// What the description of an m-line allows in its packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The m-line.
    pub mid: String,
    /// The payload types that were answered.
    pub payload_types: Vec<u8>,
    /// The payload type of retransmissions, where they were answered.
    pub rtx_payload_type: Option<u8>,
    /// The extension ids that were answered.
    pub extensions: Vec<u8>,
    /// Which of them is the mid.
    pub mid_extension: Option<u8>,
    /// Which of them is the rid.
    pub rid_extension: Option<u8>,
    /// Which of them is the transport-wide number.
    pub transport_extension: Option<u8>,
}

impl Allowed {
    /// Checks the header of one media packet.
    pub fn check(&self, packet: &Packet, violations: &mut Violations) {
        let header = &packet.header;
        if !self.payload_types.contains(&header.payload_type) {
            violations.add(Violation::PayloadTypeUnknown, || {
                format!("payload type {}", header.payload_type)
            });
        }
        self.check_extensions(packet, violations);
    }

    /// Checks the header extensions of any packet.
    pub fn check_extensions(&self, packet: &Packet, violations: &mut Violations) {
        for extension in &packet.header.extensions {
            let id = extension.id;
            let foreign_mid =
                self.mid_extension == Some(id) && extension.payload != self.mid.as_bytes();
            if !self.extensions.contains(&id) || foreign_mid || self.rid_extension == Some(id) {
                let describe = || {
                    format!(
                        "extension {id} with {:02x?} on mid {}",
                        &extension.payload[..],
                        self.mid
                    )
                };
                violations.add(Violation::ExtensionLeaked, describe);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rtp::header::{Extension, Header};

    use super::*;

    fn packet(sequence_number: u16, payload: &'static [u8]) -> Packet {
        let header = Header {
            version: 2,
            sequence_number,
            payload_type: 96,
            ..Header::default()
        };
        Packet {
            header,
            payload: Bytes::from_static(payload),
        }
    }

    fn broken(violations: &Violations) -> Vec<Violation> {
        violations
            .counts()
            .iter()
            .map(|count| count.violation)
            .collect()
    }

    #[test]
    fn numbers_extend_over_the_wrap_and_late_ones_fill_their_holes() {
        for start in [0u16, 1, 127, 255, 32766, 32767, 65533, 65534, 65535] {
            let (mut sequence, mut violations, now) =
                (Sequence::default(), Violations::default(), Instant::now());
            let base = (1 << 16) + u64::from(start);
            let mut handle = |offset| {
                sequence.handle(
                    &packet(start.wrapping_add(offset), b"x"),
                    &mut violations,
                    now,
                )
            };
            assert_eq!(handle(0), Arrival::Newest(base));
            assert_eq!(handle(3), Arrival::Newest(base + 3));
            assert_eq!(handle(1), Arrival::Late(base + 1));
            assert_eq!(handle(1), Arrival::Duplicate);
            assert_eq!(handle(4), Arrival::Newest(base + 4));
            assert_eq!(
                (sequence.reordered, sequence.duplicates, sequence.lost),
                (1, 1, 0)
            );
            sequence.handle_timeout(now + Duration::from_millis(600));
            assert_eq!(sequence.lost, 1);
            assert!(broken(&violations).is_empty());
        }
    }

    #[test]
    fn asks_for_a_hole_after_a_reorder_allowance_and_not_for_ever() {
        let (mut sequence, mut violations, now) =
            (Sequence::default(), Violations::default(), Instant::now());
        sequence.handle(&packet(10, b"x"), &mut violations, now);
        sequence.handle(&packet(13, b"x"), &mut violations, now);
        let mut at = |ms| sequence.nacks(now + Duration::from_millis(ms));
        assert!(at(10).is_empty());
        assert_eq!(at(20), [11, 12]);
        assert!(at(40).is_empty());
        assert_eq!(at(60), [11, 12]);
        assert_eq!(at(200), [11, 12]);
        assert_eq!(at(400), [11, 12]);
        assert!(at(5000).is_empty());
    }

    #[test]
    fn a_stream_may_have_begun_earlier() {
        let (mut sequence, mut violations, now) =
            (Sequence::default(), Violations::default(), Instant::now());
        let base = 1 << 16;
        sequence.handle(&packet(10, b"x"), &mut violations, now);
        assert_eq!(
            sequence.repair(&packet(7, b"x"), now),
            Repair::Useful(Arrival::Late(base + 7))
        );
        assert_eq!(sequence.nacks(now + Duration::from_millis(20)), [8, 9]);
        assert_eq!(
            sequence.handle(&packet(6, b"x"), &mut violations, now),
            Arrival::Late(base + 6)
        );
        assert_eq!(
            sequence.repair(&packet(6, b"x"), now),
            Repair::TooLate,
            "it is there"
        );
        let far = packet(6u16.wrapping_sub(65), b"x");
        assert_eq!(sequence.repair(&far, now), Repair::TooLate);
        assert_eq!(
            sequence.handle(&far, &mut violations, now),
            Arrival::Duplicate
        );
        assert!(broken(&violations).is_empty());
    }

    #[test]
    fn catches_a_number_that_is_used_twice() {
        let (mut sequence, mut violations, now) =
            (Sequence::default(), Violations::default(), Instant::now());
        sequence.handle(&packet(10, b"one"), &mut violations, now);
        sequence.handle(&packet(10, b"one"), &mut violations, now);
        assert!(
            broken(&violations).is_empty(),
            "a plain duplicate breaks no rule"
        );
        sequence.handle(&packet(10, b"two"), &mut violations, now);
        assert_eq!(broken(&violations), [Violation::NumberUsedTwice]);
    }

    #[test]
    fn a_retransmission_repeats_what_is_missing_and_nothing_else() {
        let (mut sequence, mut violations, now) =
            (Sequence::default(), Violations::default(), Instant::now());
        let timed = |number: u16, payload| {
            let mut packet = packet(number, payload);
            packet.header.timestamp = u32::from(number) * 3000;
            packet
        };
        assert_eq!(
            sequence.repair(&timed(9, b"x"), now),
            Repair::TooLate,
            "nothing is there"
        );
        for number in [10, 11, 14] {
            sequence.handle(&timed(number, b"x"), &mut violations, now);
        }
        assert_eq!(sequence.repair(&timed(11, b"x"), now), Repair::TooLate);
        let differs = |was_missing| Repair::Differs { was_missing };
        assert_eq!(sequence.repair(&timed(11, b"y"), now), differs(false));
        let mut misplaced = timed(13, b"x");
        misplaced.header.sequence_number = 12;
        misplaced.header.timestamp = 15 * 3000;
        assert_eq!(sequence.repair(&misplaced, now), Repair::OutOfPlace);
        let base = 1 << 16;
        let late = |number| Repair::Useful(Arrival::Late(base + number));
        assert_eq!(sequence.repair(&timed(12, b"x"), now), late(12));
        assert_eq!(sequence.repair(&timed(12, b"y"), now), differs(true));
        let newest = Repair::Useful(Arrival::Newest(base + 15));
        assert_eq!(
            sequence.repair(&timed(15, b"x"), now),
            newest,
            "faster than the original"
        );
        assert_eq!(sequence.repair(&timed(1015, b"x"), now), Repair::OutOfPlace);
        sequence.handle_timeout(now + LOST_AFTER);
        assert_eq!(
            sequence.repair(&timed(13, b"x"), now),
            Repair::TooLate,
            "given up"
        );
        assert!(violations.is_empty());
    }

    #[test]
    fn catches_a_sequence_jump() {
        let (mut sequence, mut violations, now) =
            (Sequence::default(), Violations::default(), Instant::now());
        sequence.handle(&packet(10, b"x"), &mut violations, now);
        sequence.handle(&packet(20_000, b"x"), &mut violations, now);
        assert_eq!(broken(&violations), [Violation::SequenceJump]);
    }

    #[test]
    fn catches_time_that_goes_back_or_jumps() {
        let (mut timeline, mut violations, now) =
            (Timeline::default(), Violations::default(), Instant::now());
        let at = |ms| now + Duration::from_millis(ms);
        timeline.handle(u32::MAX - 100, 90_000, &mut violations, at(0));
        timeline.handle(2_899, 90_000, &mut violations, at(33));
        timeline.handle(2_899, 90_000, &mut violations, at(34));
        timeline.handle(2_899 + 900_000, 90_000, &mut violations, at(10_034));
        assert!(
            broken(&violations).is_empty(),
            "a wrap, a second packet of the frame and a pause are in order"
        );
        timeline.handle(2_898 + 900_000, 90_000, &mut violations, at(10_040));
        assert_eq!(broken(&violations), [Violation::TimestampBack]);
        timeline.handle(2_898 + 1_000_000, 90_000, &mut violations, at(10_041));
        assert_eq!(
            broken(&violations),
            [Violation::TimestampBack, Violation::TimestampJump]
        );
    }

    #[test]
    fn a_stall_with_a_burst_is_no_jump_but_time_that_stood_still_is() {
        let (mut timeline, mut violations, now) =
            (Timeline::default(), Violations::default(), Instant::now());
        let mut at = |media_ms: u32, ms| {
            timeline.handle(
                media_ms * 90,
                90_000,
                &mut violations,
                now + Duration::from_millis(ms),
            );
            violations.counts().len()
        };
        assert_eq!(at(0, 0), 0);
        assert_eq!(
            (at(33, 2000), at(1000, 2001), at(2000, 2002), at(2033, 2033)),
            (0, 0, 0, 0)
        );
        assert_eq!(at(2066, 12_066), 0, "it may still be caught up with");
        assert_eq!(at(7000, 17_000), 0);
        assert_eq!(at(7100, 17_100), 1);
    }

    #[test]
    fn catches_extensions_and_payload_types_that_were_not_negotiated() {
        let allowed = Allowed {
            mid: "3".into(),
            payload_types: vec![96],
            extensions: vec![4, 10],
            mid_extension: Some(4),
            rid_extension: Some(10),
            ..Allowed::default()
        };
        let check = |id, value: &'static [u8], payload_type| {
            let (mut violations, mut packet) = (Violations::default(), packet(1, b"x"));
            packet.header.extensions.push(Extension {
                id,
                payload: Bytes::from_static(value),
            });
            packet.header.payload_type = payload_type;
            allowed.check(&packet, &mut violations);
            broken(&violations)
        };
        assert_eq!(check(4, b"3", 96), []);
        assert_eq!(
            check(4, b"1", 96),
            [Violation::ExtensionLeaked],
            "the publisher's mid"
        );
        assert_eq!(
            check(10, b"f", 96),
            [Violation::ExtensionLeaked],
            "the publisher's rid"
        );
        assert_eq!(check(3, b"\x00\x01", 96), [Violation::ExtensionLeaked]);
        assert_eq!(check(4, b"3", 111), [Violation::PayloadTypeUnknown]);
    }
}
