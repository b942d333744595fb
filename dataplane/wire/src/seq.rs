//! Numbers that wrap on the wire, and the same numbers extended so that they do not.
//!
//! [`Seq`] and [`RtpTime`] are what a packet carries; they have no order, only distances. [`ExtSeq`] and [`ExtRtpTime`] count
//! over the wraps, so they can be compared and stored. An unwrapper turns the first into the second.

/// An RTP sequence number as on the wire: wraps after 65535 (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u16);

impl Seq {
    /// The number `n` later.
    pub const fn add(self, n: u16) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// The number `n` earlier.
    pub const fn sub(self, n: u16) -> Self {
        Self(self.0.wrapping_sub(n))
    }

    /// How far `self` is after `other`, on the shorter way round; negative when it is before. -32768 when they are opposite.
    pub const fn distance_from(self, other: Self) -> i16 {
        self.0.wrapping_sub(other.0) as i16
    }

    /// Whether `self` is after `other` on the shorter way round.
    pub const fn is_after(self, other: Self) -> bool {
        self.distance_from(other) > 0
    }
}

/// A sequence number that counts on over the wraps: the low 16 bits are what the packet carries, the rest is SRTP's roll-over
/// counter (RFC 3711 §3.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtSeq(pub u64);

impl ExtSeq {
    /// Puts a roll-over counter and a sequence number together.
    pub const fn new(roll_over: u32, seq: Seq) -> Self {
        Self(((roll_over as u64) << 16) | seq.0 as u64)
    }

    /// What the packet carries.
    pub const fn seq(self) -> Seq {
        Seq(self.0 as u16)
    }

    /// How often the sequence number has wrapped.
    pub const fn roll_over(self) -> u32 {
        (self.0 >> 16) as u32
    }

    /// The number `n` later.
    pub const fn add(self, n: u64) -> Self {
        Self(self.0.wrapping_add(n))
    }

    /// The number `n` earlier, or `None` before the beginning of time.
    pub const fn checked_sub(self, n: u64) -> Option<Self> {
        match self.0.checked_sub(n) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// How far `self` is after `other`; negative when it is before.
    pub const fn distance_from(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }

    /// The extended number nearest to `self` that is carried as `seq`; numbers before zero come out at the first turn.
    pub const fn nearest(self, seq: Seq) -> Self {
        let step = seq.distance_from(self.seq()) as i64;
        match self.0.checked_add_signed(step) {
            Some(value) => Self(value),
            None => Self(seq.0 as u64),
        }
    }
}

/// An RTP timestamp as on the wire: wraps after 2^32 - 1, in units of the payload's clock (RFC 3550 §5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// The time `ticks` later.
    pub const fn add(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// The time `ticks` earlier.
    pub const fn sub(self, ticks: u32) -> Self {
        Self(self.0.wrapping_sub(ticks))
    }

    /// How many ticks `self` is after `other`, on the shorter way round; negative when it is before.
    pub const fn distance_from(self, other: Self) -> i32 {
        self.0.wrapping_sub(other.0) as i32
    }

    /// Whether `self` is after `other` on the shorter way round.
    pub const fn is_after(self, other: Self) -> bool {
        self.distance_from(other) > 0
    }
}

/// An RTP timestamp that counts on over the wraps; the low 32 bits are what the packet carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtRtpTime(pub u64);

impl ExtRtpTime {
    /// What the packet carries.
    pub const fn time(self) -> RtpTime {
        RtpTime(self.0 as u32)
    }

    /// The time `ticks` later.
    pub const fn add(self, ticks: u64) -> Self {
        Self(self.0.wrapping_add(ticks))
    }

    /// How many ticks `self` is after `other`; negative when it is before.
    pub const fn distance_from(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0) as i64
    }

    /// The extended time nearest to `self` that is carried as `time`; times before zero come out at the first turn.
    pub const fn nearest(self, time: RtpTime) -> Self {
        let step = time.distance_from(self.time()) as i64;
        match self.0.checked_add_signed(step) {
            Some(value) => Self(value),
            None => Self(time.0 as u64),
        }
    }
}

/// Extends sequence numbers over their wraps, relative to the highest one seen.
///
/// The first number is placed one turn up (65536 + number), so that packets from before it that arrive late still have a
/// number. Numbers more than 32767 away from the highest are taken to be on the other side of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SeqUnwrapper {
    highest: Option<ExtSeq>,
}

impl SeqUnwrapper {
    /// An unwrapper that has seen nothing.
    pub const fn new() -> Self {
        Self { highest: None }
    }

    /// The highest number so far.
    pub const fn highest(&self) -> Option<ExtSeq> {
        self.highest
    }

    /// Extends `seq` and remembers it when it is the highest.
    pub fn unwrap(&mut self, seq: Seq) -> ExtSeq {
        let extended = self.peek(seq);
        self.highest = Some(
            self.highest
                .map_or(extended, |highest| highest.max(extended)),
        );
        extended
    }

    /// Extends `seq` without remembering it.
    pub fn peek(&self, seq: Seq) -> ExtSeq {
        self.highest
            .map_or(ExtSeq::new(1, seq), |highest| highest.nearest(seq))
    }
}

/// Extends RTP timestamps over their wraps, relative to the latest one seen; the first is placed one turn up.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeUnwrapper {
    latest: Option<ExtRtpTime>,
}

impl TimeUnwrapper {
    /// An unwrapper that has seen nothing.
    pub const fn new() -> Self {
        Self { latest: None }
    }

    /// The latest time so far.
    pub const fn latest(&self) -> Option<ExtRtpTime> {
        self.latest
    }

    /// Extends `time` and remembers it when it is the latest.
    pub fn unwrap(&mut self, time: RtpTime) -> ExtRtpTime {
        let extended = self.peek(time);
        self.latest = Some(self.latest.map_or(extended, |latest| latest.max(extended)));
        extended
    }

    /// Extends `time` without remembering it.
    pub fn peek(&self, time: RtpTime) -> ExtRtpTime {
        self.latest
            .map_or(ExtRtpTime((1 << 32) | u64::from(time.0)), |latest| {
                latest.nearest(time)
            })
    }
}
