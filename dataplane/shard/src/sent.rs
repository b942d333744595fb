//! What one subscription sent: from an outgoing number back to the source's packet and the numbers that went out with it.
//!
//! A resend repeats exactly what is recorded here. That is more than politeness: without RTX the packet is sealed under its
//! number again, and another text under the same number would break the cipher.
//!
//! ```text
//! outgoing number ─► Record (14 bytes) ─┬─ source's number, picture, padding, transport-wide number
//!                                       └─ index ─► (source, timestamp shift), the same for thousands of packets
//! ```

use std::time::{Duration, Instant};

use weir_wire::{ExtSeq, RtpTime, Seq};

use crate::limits::{RESEND_INTERVAL_MAX, RESEND_INTERVAL_MIN, RESENDS_MAX, SSRCS_PER_TRANSPORT};
use crate::publisher::SourceId;
use crate::rewriter::{Outgoing, Picture};

/// Sources, and what was added to their timestamps, that a ring tells apart: as many as one publisher has SSRCs, which may all
/// feed a subscription within one batch. One more forgets the oldest with its packets.
const MAPPINGS_MAX: usize = SSRCS_PER_TRANSPORT;

const _: () = assert!(MAPPINGS_MAX <= 256, "a mapping's index is a byte");

/// One packet that went out. Numbers are what the wire has of them: the ring holds less than a turn of them.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    seq: u16,
    source_seq: u16,
    picture: Picture,
    wide: u16,
    /// Milliseconds since the ring's epoch, when it last went out. After a minute it may look recent again, and then one
    /// answer is late.
    last_ms: u16,
    mapping: u8,
    flags: Flags,
}

const _: () = assert!(
    size_of::<Record>() <= 16,
    "a subscription's memory is mostly this, a thousand times"
);

/// Two bits of padding, two of resends, and what the record is.
#[derive(Clone, Copy, Debug, Default)]
struct Flags(u8);

impl Flags {
    const USED: u8 = 0x10;
    const SEALED: u8 = 0x20;
    const WIDE: u8 = 0x40;
    const MARKER: u8 = 0x80;

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }

    fn padding(self) -> u8 {
        self.0 & 3
    }

    fn resends(self) -> u8 {
        (self.0 >> 2) & 3
    }
}

const _: () = assert!(RESENDS_MAX <= 3, "resends are counted in two bits");

/// What a packet got when it was sealed, and has for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The transport-wide number.
    pub(crate) wide: Option<Seq>,
    /// Bytes of padding that were added; at most 3.
    pub(crate) padding: u8,
}

/// One packet that may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) seq: ExtSeq,
    pub(crate) source: SourceId,
    pub(crate) source_seq: Seq,
    pub(crate) picture: Picture,
    marker: bool,
    timestamp_shift: u32,
    /// How often it has been sent again.
    resends: u8,
}

impl Sent {
    pub(crate) fn is_first_resend(&self) -> bool {
        self.resends == 0
    }

    /// The numbers it went out with; `timestamp` is the source's.
    pub(crate) fn numbers(&self, timestamp: RtpTime) -> Outgoing {
        Outgoing {
            seq: self.seq,
            timestamp: timestamp.add(self.timestamp_shift),
            picture: self.picture,
            marker: self.marker,
        }
    }
}

/// The last packets that went out, by number.
#[derive(Debug)]
pub(crate) struct SentRing {
    places: Vec<Record>,
    /// The highest number that was recorded.
    highest: Option<ExtSeq>,
    mappings: [Option<(SourceId, u32)>; MAPPINGS_MAX],
    /// The mapping used last.
    mapping: usize,
    epoch: Instant,
}

/// Why a packet is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAgain {
    /// It has not gone out: it is a hole in the publisher's numbers too, or a number that was never given.
    NeverSent,
    /// So long ago that its record is gone.
    Forgotten,
    /// Sent a moment ago.
    TooSoon,
    /// Sent often enough.
    TooOften,
}

impl SentRing {
    /// Allocates room for `capacity` packets, a power of two.
    pub(crate) fn new(capacity: usize, epoch: Instant) -> Self {
        Self {
            places: vec![Record::default(); capacity.next_power_of_two()],
            highest: None,
            mappings: [None; MAPPINGS_MAX],
            mapping: 0,
            epoch,
        }
    }

    fn ms(&self, now: Instant) -> u16 {
        now.saturating_duration_since(self.epoch).as_millis() as u16
    }

    fn place(&self, seq: ExtSeq) -> usize {
        seq.0 as usize & (self.places.len() - 1)
    }

    /// Notes that `out` goes out for the packet `source_seq` of `source`, whose own timestamp is `timestamp`. `false` when its
    /// number is taken: nothing may be sent under it a second time.
    pub(crate) fn record(
        &mut self,
        out: Outgoing,
        source: SourceId,
        source_seq: ExtSeq,
        timestamp: RtpTime,
        now: Instant,
    ) -> bool {
        // A number above all others cannot be taken; its place may hold the same 16 bits of a turn before.
        if self.highest.is_some_and(|highest| out.seq <= highest) && self.is_recorded(out.seq) {
            return false;
        }
        self.advance(out.seq);
        if self.is_forgotten(out.seq) {
            return true;
        }
        let shift = out.timestamp.0.wrapping_sub(timestamp.0);
        let mapping = self.mapping_of((source, shift));
        let (place, last_ms) = (self.place(out.seq), self.ms(now));
        let marker = if out.marker { Flags::MARKER } else { 0 };
        self.places[place] = Record {
            seq: out.seq.seq().0,
            source_seq: source_seq.seq().0,
            picture: out.picture,
            wide: 0,
            last_ms,
            mapping: mapping as u8,
            flags: Flags(Flags::USED | marker),
        };
        true
    }

    /// Moves on to `seq`. Numbers that are passed over have not gone out, whatever their places hold of the turn before.
    fn advance(&mut self, seq: ExtSeq) {
        let Some(highest) = self.highest else {
            self.highest = Some(seq);
            return;
        };
        let passed = seq.0.saturating_sub(highest.0 + 1);
        for step in 0..passed.min(self.places.len() as u64) {
            let place = self.place(ExtSeq(seq.0 - 1 - step));
            self.places[place].flags = Flags::default();
        }
        self.highest = Some(highest.max(seq));
    }

    fn is_forgotten(&self, seq: ExtSeq) -> bool {
        self.highest
            .is_some_and(|highest| seq.0 + self.places.len() as u64 <= highest.0)
    }

    /// The index of a mapping, in place of the oldest if it is new.
    fn mapping_of(&mut self, of: (SourceId, u32)) -> usize {
        if self.mappings[self.mapping] == Some(of) {
            return self.mapping;
        }
        if let Some(known) = self.mappings.iter().position(|known| *known == Some(of)) {
            return known;
        }
        self.mapping = (self.mapping + 1) % MAPPINGS_MAX;
        if self.mappings[self.mapping].replace(of).is_some() {
            let gone = |record: &&mut Record| usize::from(record.mapping) == self.mapping;
            let records = self.places.iter_mut();
            records
                .filter(gone)
                .for_each(|record| record.flags = Flags::default());
        }
        self.mapping
    }

    fn get(&self, seq: ExtSeq) -> Option<&Record> {
        let record = &self.places[self.place(seq)];
        let is_it = record.flags.has(Flags::USED) && record.seq == seq.seq().0;
        Some(record).filter(|_| is_it && !self.is_forgotten(seq))
    }

    /// What a packet was sealed with; `None` when it has not been yet, or is not known any more.
    pub(crate) fn sealed(&self, seq: ExtSeq) -> Option<Sealed> {
        let record = self.get(seq)?;
        let wide = record.flags.has(Flags::WIDE).then_some(Seq(record.wide));
        record.flags.has(Flags::SEALED).then_some(Sealed {
            wide,
            padding: record.flags.padding(),
        })
    }

    /// The transport-wide number that a packet last left under.
    pub(crate) fn wide(&self, seq: Seq) -> Option<Seq> {
        let record = self.get(self.highest?.nearest(seq))?;
        record.flags.has(Flags::WIDE).then_some(Seq(record.wide))
    }

    /// Notes the transport-wide number of a retransmission. A packet that was sent again by RTX is always sent again so, and
    /// the number that it had itself is not needed any more.
    pub(crate) fn note_wide(&mut self, seq: ExtSeq, wide: Option<Seq>) {
        let (Some(wide), true) = (wide, self.is_recorded(seq)) else {
            return;
        };
        let place = self.place(seq);
        self.places[place].wide = wide.0;
        self.places[place].flags.0 |= Flags::WIDE;
    }

    /// Whether a packet may be sealed under this number: its record is there, and says what it was sealed with before.
    pub(crate) fn is_recorded(&self, seq: ExtSeq) -> bool {
        self.get(seq).is_some()
    }

    /// Notes what a packet was sealed with.
    pub(crate) fn note_sealed(&mut self, seq: ExtSeq, with: Sealed) {
        if !self.is_recorded(seq) {
            return;
        }
        let place = self.place(seq);
        let record = &mut self.places[place];
        record.wide = with.wide.unwrap_or_default().0;
        let wide = if with.wide.is_some() { Flags::WIDE } else { 0 };
        record.flags.0 =
            (record.flags.0 & !(3 | Flags::WIDE)) | Flags::SEALED | wide | (with.padding & 3);
    }

    /// Whether the packet with this number may be sent again now, `rtt` being the shortest round trip of late. What is sent is
    /// to be told by [`SentRing::note_again`].
    pub(crate) fn again(
        &self,
        seq: Seq,
        rtt: Option<Duration>,
        now: Instant,
    ) -> Result<Sent, NotAgain> {
        let highest = self.highest.ok_or(NotAgain::NeverSent)?;
        let seq = highest.nearest(seq);
        if self.is_forgotten(seq) {
            return Err(NotAgain::Forgotten);
        }
        let record = self.get(seq).ok_or(NotAgain::NeverSent)?;
        let mapping = self.mappings[usize::from(record.mapping) % MAPPINGS_MAX];
        let (source, timestamp_shift) = mapping.ok_or(NotAgain::Forgotten)?;
        let interval = rtt
            .unwrap_or(RESEND_INTERVAL_MIN)
            .min(RESEND_INTERVAL_MAX)
            .max(RESEND_INTERVAL_MIN);
        let since = self.ms(now).wrapping_sub(record.last_ms);
        if u128::from(since) < interval.as_millis() {
            return Err(NotAgain::TooSoon);
        }
        if record.flags.resends() >= RESENDS_MAX {
            return Err(NotAgain::TooOften);
        }
        Ok(Sent {
            seq,
            source,
            source_seq: Seq(record.source_seq),
            picture: record.picture,
            marker: record.flags.has(Flags::MARKER),
            timestamp_shift,
            resends: record.flags.resends(),
        })
    }

    /// Counts a resend.
    pub(crate) fn note_again(&mut self, seq: ExtSeq, now: Instant) {
        if !self.is_recorded(seq) {
            return;
        }
        let (place, last_ms) = (self.place(seq), self.ms(now));
        let record = &mut self.places[place];
        record.last_ms = last_ms;
        let resends = (record.flags.resends() + 1).min(3);
        record.flags.0 = (record.flags.0 & !0x0c) | resends << 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn send(ring: &mut SentRing, seq: u64, source: u32, at: Instant) {
        let picture = Picture {
            id: seq as u16 & 0x7fff,
            tl0: 7,
            key: 3,
            frame: 0,
        };
        let out = Outgoing {
            seq: ExtSeq(seq),
            timestamp: RtpTime(seq as u32 * 3),
            picture,
            marker: seq % 2 == 1,
        };
        let source_seq = ExtSeq(seq + 1000);
        let timestamp = RtpTime((seq as u32 * 3).wrapping_sub(500 * source));
        ring.record(out, SourceId(source), source_seq, timestamp, at);
    }

    fn ring(from: u64, to: u64, start: Instant) -> SentRing {
        let mut ring = SentRing::new(64, start);
        for seq in from..to {
            send(&mut ring, seq, 1, start);
        }
        ring
    }

    fn again(
        ring: &mut SentRing,
        seq: u16,
        rtt: Option<Duration>,
        now: Instant,
    ) -> Result<u16, NotAgain> {
        let sent = ring.again(Seq(seq), rtt, now)?;
        ring.note_again(sent.seq, now);
        Ok(sent.source_seq.0)
    }

    #[test]
    fn sends_again_what_was_recorded_at_most_three_times_and_not_too_soon() {
        let start = Instant::now();
        let mut ring = ring(65_500, 65_540, start);
        let mut at = |ms, rtt| again(&mut ring, 3, rtt, start + ms * MS);
        assert_eq!(at(9, None), Err(NotAgain::TooSoon));
        assert_eq!(at(10, None), Ok(1003));
        assert_eq!(at(50, Some(60 * MS)), Err(NotAgain::TooSoon));
        assert_eq!(at(70, Some(60 * MS)), Ok(1003));
        assert_eq!(at(169, Some(900 * MS)), Err(NotAgain::TooSoon));
        assert_eq!(at(170, Some(900 * MS)), Ok(1003));
        assert_eq!(at(9000, None), Err(NotAgain::TooOften));
    }

    #[test]
    fn repeats_all_numbers_and_what_it_was_sealed_with() {
        let start = Instant::now();
        let mut ring = ring(100, 120, start);
        send(&mut ring, 120, 2, start);
        let sent = ring.again(Seq(119), None, start + 50 * MS).unwrap();
        let picture = Picture {
            id: 119,
            tl0: 7,
            key: 3,
            frame: 0,
        };
        let numbers = Outgoing {
            seq: ExtSeq(119),
            timestamp: RtpTime(357),
            picture,
            marker: true,
        };
        assert_eq!(
            (sent.source, sent.numbers(RtpTime(357).sub(500))),
            (SourceId(1), numbers)
        );
        let sent = ring.again(Seq(120), None, start + 50 * MS).unwrap();
        assert_eq!(sent.numbers(RtpTime(9)).timestamp, RtpTime(1009));
        assert_eq!(ring.sealed(ExtSeq(119)), None);
        let with = Sealed {
            wide: Some(Seq(65_535)),
            padding: 3,
        };
        ring.note_sealed(ExtSeq(119), with);
        ring.note_again(ExtSeq(119), start);
        assert_eq!(ring.sealed(ExtSeq(119)), Some(with));
    }

    #[test]
    fn tells_what_was_never_sent_from_what_it_has_forgotten() {
        let start = Instant::now();
        let mut ring = ring(100, 200, start);
        let mut at = |seq| again(&mut ring, seq, None, start + 50 * MS);
        assert_eq!(at(135), Err(NotAgain::Forgotten));
        assert_eq!(at(200), Err(NotAgain::NeverSent));
        assert_eq!(at(136), Ok(1136));
    }

    #[test]
    fn a_number_that_was_passed_over_is_not_mistaken_for_the_one_a_turn_before() {
        let start = Instant::now();
        let mut ring = ring(100, 164, start);
        // 165 and all others up to a turn later have not come from the publisher.
        send(&mut ring, 65_536 + 120, 1, start);
        assert_eq!(
            again(&mut ring, 119, None, start + 50 * MS),
            Err(NotAgain::NeverSent)
        );
        send(&mut ring, 65_536 + 119, 1, start);
        assert_eq!(again(&mut ring, 119, None, start + 50 * MS), Ok(1119));
        assert!(ring.sealed(ExtSeq(119)).is_none());
    }

    #[test]
    fn more_sources_than_it_tells_apart_make_it_forget_the_first() {
        let start = Instant::now();
        let mut ring = SentRing::new(128, start);
        for source in 0..65 {
            send(&mut ring, 10 + u64::from(source), source, start);
        }
        let now = start + 50 * MS;
        assert_eq!(
            again(&mut ring, 10, None, now),
            Err(NotAgain::NeverSent),
            "or as good as"
        );
        assert_eq!(again(&mut ring, 11, None, now), Ok(1011));
        assert_eq!(again(&mut ring, 74, None, now), Ok(1074));
    }
}
