//! What is on its way to a subscriber: when each transport-wide number was sent, and what the feedback said of it.

use weir_wire::{ExtSeq, Seq};

use crate::limits::FLIGHT_PACKETS;

/// One packet that was sent under a transport-wide number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) number: ExtSeq,
    pub(crate) sent_us: u64,
    pub(crate) bytes: u16,
    fate: Fate,
}

/// What is known of a packet's arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unknown,
    Lost,
    Arrived,
}

/// What the feedback says about a packet, if it is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Arrived(Packet),
    /// Reported lost before.
    ArrivedAfterAll(Packet),
    Lost(Packet),
}

/// The last packets that were sent, by number.
#[derive(Debug)]
pub(crate) struct Flight {
    places: Box<[Option<Packet>]>,
    newest: Option<ExtSeq>,
}

impl Flight {
    pub(crate) fn new() -> Self {
        Self {
            places: vec![None; FLIGHT_PACKETS].into(),
            newest: None,
        }
    }

    /// Notes a packet; its extended number comes back.
    pub(crate) fn sent(&mut self, number: Seq, bytes: usize, sent_us: u64) -> ExtSeq {
        let number = match self.newest {
            Some(newest) => newest.nearest(number),
            None => ExtSeq::new(1, number),
        };
        self.newest = Some(self.newest.map_or(number, |newest| newest.max(number)));
        self.places[number.0 as usize % FLIGHT_PACKETS] = Some(Packet {
            number,
            sent_us,
            bytes: bytes.min(usize::from(u16::MAX)) as u16,
            fate: Fate::Unknown,
        });
        number
    }

    /// The packet with this number, if it is remembered.
    pub(crate) fn get(&self, number: ExtSeq) -> Option<&Packet> {
        self.places[number.0 as usize % FLIGHT_PACKETS]
            .as_ref()
            .filter(|packet| packet.number == number)
    }

    /// Takes what the feedback says about one number. `None` when it says nothing new, or speaks of nothing that was sent:
    /// what a packet's arrival is worth is counted once, however often it is reported.
    pub(crate) fn told(&mut self, number: Seq, arrived: bool) -> Option<News> {
        let number = self.newest?.nearest(number);
        let packet = self.places[number.0 as usize % FLIGHT_PACKETS]
            .as_mut()
            .filter(|packet| packet.number == number)?;
        let (fate, news) = match (packet.fate, arrived) {
            (Fate::Unknown, true) => (Fate::Arrived, News::Arrived(*packet)),
            (Fate::Lost, true) => (Fate::Arrived, News::ArrivedAfterAll(*packet)),
            (Fate::Unknown, false) => (Fate::Lost, News::Lost(*packet)),
            (Fate::Lost, false) | (Fate::Arrived, _) => return None,
        };
        packet.fate = fate;
        Some(news)
    }

    /// Bytes of the packets in `numbers` that no feedback has spoken of.
    pub(crate) fn untold_bytes(&self, numbers: std::ops::Range<ExtSeq>) -> u64 {
        let count = numbers.end.0.saturating_sub(numbers.start.0);
        let from = numbers.end.0 - count.min(FLIGHT_PACKETS as u64);
        (from..numbers.end.0)
            .filter_map(|number| self.get(ExtSeq(number)))
            .filter(|packet| packet.fate == Fate::Unknown)
            .map(|packet| u64::from(packet.bytes))
            .sum()
    }
}

const _: () = assert!(
    FLIGHT_PACKETS.is_power_of_two() && FLIGHT_PACKETS <= 1 << 14,
    "a place belongs to one of the numbers that 16 bits can tell apart"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_arrival_is_news_once() {
        let mut flight = Flight::new();
        for number in [65_534, 65_535, 0, 1] {
            flight.sent(Seq(number), 100, u64::from(number));
        }
        assert!(matches!(
            flight.told(Seq(65_535), true),
            Some(News::Arrived(packet)) if packet.sent_us == 65_535
        ));
        assert_eq!(flight.told(Seq(65_535), true), None);
        assert_eq!(flight.told(Seq(65_535), false), None);
        assert!(matches!(flight.told(Seq(0), false), Some(News::Lost(_))));
        assert_eq!(flight.told(Seq(0), false), None);
        assert!(matches!(
            flight.told(Seq(0), true),
            Some(News::ArrivedAfterAll(_))
        ));
    }

    #[test]
    fn what_was_never_sent_or_is_forgotten_is_no_news() {
        let mut flight = Flight::new();
        assert_eq!(flight.told(Seq(0), true), None);
        for number in 0..5000u16 {
            flight.sent(Seq(number), 100, 0);
        }
        for number in [5000, 4999 - 2048, 40_000, 65_535] {
            assert_eq!(flight.told(Seq(number), true), None, "{number}");
        }
        assert!(flight.told(Seq(4999 - 2047), true).is_some());
    }

    #[test]
    fn adds_up_what_feedback_has_skipped() {
        let mut flight = Flight::new();
        let first = flight.sent(Seq(10), 100, 0);
        for number in 11..20 {
            flight.sent(Seq(number), 100, 0);
        }
        flight.told(Seq(12), true);
        flight.told(Seq(13), false);
        assert_eq!(flight.untold_bytes(first..first.add(10)), 800);
        assert_eq!(flight.untold_bytes(first..first), 0);
        assert_eq!(flight.untold_bytes(ExtSeq(0)..first.add(1 << 40)), 0);
    }
}
