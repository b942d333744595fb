//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01): which packets arrived when.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc, TransportLayerCc,
};

/// As often as browsers report.
const EVERY: Duration = Duration::from_millis(100);
/// A report of so many numbers fits a packet; what is beyond goes into the next one.
const NUMBERS_MAX: u64 = 400;
/// Times are told in so many microseconds (§3.1.5), the first one in 256 times that.
const UNIT_US: i64 = 250;
const REFERENCE_US: i64 = 64_000;

/// What arrived and was not reported yet.
#[derive(Debug)]
pub(crate) struct TransportArrivals {
    own_ssrc: u32,
    media_ssrc: u32,
    start: Instant,
    arrived: BTreeMap<u64, i64>,
    /// The highest number so far, extended.
    highest: Option<u64>,
    /// The first number that was not reported yet.
    next: u64,
    count: u8,
    due: Instant,
}

impl TransportArrivals {
    pub(crate) fn new(own_ssrc: u32, now: Instant) -> TransportArrivals {
        TransportArrivals {
            own_ssrc,
            media_ssrc: 0,
            start: now,
            arrived: BTreeMap::new(),
            highest: None,
            next: 0,
            count: 0,
            due: now + EVERY,
        }
    }

    /// Takes a packet's transport-wide number.
    pub(crate) fn handle(&mut self, number: u16, ssrc: u32, now: Instant) {
        // One roll-over of head room for what comes from before the first.
        let highest = *self.highest.get_or_insert_with(|| {
            self.next = (1 << 16) | u64::from(number);
            self.next
        });
        let distance = number.wrapping_sub(highest as u16) as i16;
        let extended = highest.wrapping_add_signed(distance.into());
        self.highest = Some(highest.max(extended));
        self.media_ssrc = ssrc;
        // Told as lost already: it stays lost.
        if extended >= self.next {
            let us = now.saturating_duration_since(self.start).as_micros() as i64;
            self.arrived.entry(extended).or_insert(us);
        }
    }

    /// The next report, if one is due and there is something to tell.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<TransportLayerCc> {
        if now < self.due || self.arrived.is_empty() {
            return None;
        }
        self.due = now + EVERY;
        let (first, last) = (
            *self.arrived.first_key_value()?.0,
            *self.arrived.last_key_value()?.0,
        );
        if first >= self.next + NUMBERS_MAX {
            // Nobody needs to be told of so many lost packets one by one.
            self.next = first;
        }
        let end = (last + 1).min(self.next + NUMBERS_MAX);
        let numbers = self.next..end;
        let first_us = *self.arrived.range(numbers.clone()).next()?.1;
        let reference = first_us / REFERENCE_US;
        let (mut symbols, mut deltas) = (Vec::new(), Vec::new());
        let mut told = reference * REFERENCE_US / UNIT_US;
        for number in numbers {
            let Some(us) = self.arrived.remove(&number) else {
                symbols.push(SymbolTypeTcc::PacketNotReceived);
                continue;
            };
            let units = (us / UNIT_US - told).clamp(i16::MIN.into(), i16::MAX.into());
            told += units;
            let symbol = if (0..=255).contains(&units) {
                SymbolTypeTcc::PacketReceivedSmallDelta
            } else {
                SymbolTypeTcc::PacketReceivedLargeDelta
            };
            symbols.push(symbol);
            deltas.push(RecvDelta {
                type_tcc_packet: symbol,
                delta: units * UNIT_US,
            });
        }
        let base = self.next;
        self.next = end;
        self.count = self.count.wrapping_add(1);
        Some(TransportLayerCc {
            sender_ssrc: self.own_ssrc,
            media_ssrc: self.media_ssrc,
            base_sequence_number: base as u16,
            packet_status_count: symbols.len() as u16,
            reference_time: (reference & 0xff_ffff) as u32,
            fb_pkt_count: self.count.wrapping_sub(1),
            packet_chunks: symbols.chunks(7).map(chunk).collect(),
            recv_deltas: deltas,
        })
    }
}

/// Seven symbols of two bits each.
fn chunk(symbols: &[SymbolTypeTcc]) -> PacketStatusChunk {
    let mut symbol_list = symbols.to_vec();
    symbol_list.resize(7, SymbolTypeTcc::PacketNotReceived);
    PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
        type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
        symbol_size: SymbolSizeTypeTcc::TwoBit,
        symbol_list,
    })
}

/// The numbers of a report, and when each arrived in microseconds of its author's clock; `None` for what has not. What a report
/// leaves out is left out.
pub(crate) fn arrivals(report: &TransportLayerCc) -> Vec<(u16, Option<i64>)> {
    let mut time = i64::from(report.reference_time) * REFERENCE_US;
    let mut deltas = report.recv_deltas.iter();
    let symbols = report.packet_chunks.iter().flat_map(|chunk| match chunk {
        PacketStatusChunk::StatusVectorChunk(chunk) => chunk.symbol_list.clone(),
        PacketStatusChunk::RunLengthChunk(chunk) => {
            vec![chunk.packet_status_symbol; chunk.run_length.into()]
        }
    });
    let numbers = (0..report.packet_status_count)
        .map(|index| report.base_sequence_number.wrapping_add(index));
    let read = |(number, symbol)| {
        if symbol == SymbolTypeTcc::PacketNotReceived {
            return Some((number, None));
        }
        time += deltas.next()?.delta;
        Some((number, Some(time)))
    };
    numbers.zip(symbols).map_while(read).collect()
}

#[cfg(test)]
mod tests {
    use rtcp::transport_feedbacks::transport_layer_cc::RunLengthChunk;

    use super::*;
    use webrtc_util::marshal::{Marshal, Unmarshal};

    /// What a reader finds in a report: numbers and arrival times in units of 250 µs, `None` for lost ones.
    fn read(report: &TransportLayerCc) -> Vec<(u16, Option<i64>)> {
        let bytes = report.marshal().unwrap();
        let read = TransportLayerCc::unmarshal(&mut bytes.clone()).unwrap();
        let units = |(number, us): (u16, Option<i64>)| (number, us.map(|us| us / UNIT_US));
        arrivals(&read).into_iter().map(units).collect()
    }

    #[test]
    fn reads_runs_and_lists_and_stops_where_times_are_missing() {
        use SymbolTypeTcc::{PacketNotReceived, PacketReceivedSmallDelta};
        let run = |symbol, length| {
            PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                packet_status_symbol: symbol,
                run_length: length,
            })
        };
        let delta = |delta| RecvDelta {
            type_tcc_packet: PacketReceivedSmallDelta,
            delta,
        };
        let report = TransportLayerCc {
            base_sequence_number: 65_535,
            packet_status_count: 4,
            reference_time: 2,
            packet_chunks: vec![run(PacketReceivedSmallDelta, 2), run(PacketNotReceived, 9)],
            recv_deltas: vec![delta(250), delta(500)],
            ..TransportLayerCc::default()
        };
        let told = [
            (65_535, Some(128_250)),
            (0, Some(128_750)),
            (1, None),
            (2, None),
        ];
        assert_eq!(arrivals(&report), told);
        let short = TransportLayerCc {
            recv_deltas: vec![delta(250)],
            ..report
        };
        assert_eq!(arrivals(&short), [(65_535, Some(128_250))]);
    }

    #[test]
    fn tells_each_number_once_with_its_time_over_the_wrap() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut arrivals = TransportArrivals::new(1, start);
        for (number, ms) in [(65_534, 70), (65_535, 71), (2, 80), (1, 81)] {
            arrivals.handle(number, 9, at(ms));
        }
        assert!(arrivals.poll(at(99)).is_none());
        let report = arrivals.poll(at(100)).unwrap();
        assert_eq!(
            (report.sender_ssrc, report.media_ssrc, report.fb_pkt_count),
            (1, 9, 0)
        );
        let told = [
            (65_534, Some(280)),
            (65_535, Some(284)),
            (0, None),
            (1, Some(324)),
            (2, Some(320)),
        ];
        assert_eq!(read(&report), told);
        // What was told as lost stays so, and a quarter of a second needs two bytes.
        arrivals.handle(0, 9, at(110));
        arrivals.handle(3, 9, at(300));
        arrivals.handle(4, 9, at(600));
        assert_eq!(
            read(&arrivals.poll(at(600)).unwrap()),
            [(3, Some(1200)), (4, Some(2400))]
        );
        assert!(arrivals.poll(at(900)).is_none(), "nothing new");
    }

    #[test]
    fn a_jump_is_not_told_number_by_number() {
        let start = Instant::now();
        let mut arrivals = TransportArrivals::new(1, start);
        arrivals.handle(10, 9, start);
        arrivals.handle(1000, 9, start);
        let mut told = Vec::new();
        for ms in [100, 200, 300, 400] {
            let report = arrivals.poll(start + Duration::from_millis(ms));
            told.extend(report.iter().flat_map(read));
        }
        assert_eq!(told.len(), 401);
        assert_eq!(told.iter().filter(|(_, at)| at.is_some()).count(), 2);
    }
}
