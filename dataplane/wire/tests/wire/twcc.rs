//! Transport-wide feedback: own reader and writer against each other, and each against the `rtcp` crate.

use rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk,
    SymbolSizeTypeTcc, SymbolTypeTcc, TransportLayerCc,
};
use webrtc_util::marshal::{Marshal, Unmarshal};
use weir_wire::Seq;
use weir_wire::rtcp::twcc::{Feedback, STATUSES_MAX};
use weir_wire::rtcp::{Compound, Error, Packet, TransportFeedback, Writer};

use crate::{Random, hex};

const HEAD: Feedback = Feedback {
    sender_ssrc: 1,
    media_ssrc: 2,
    feedback_count: 3,
    base: Seq(65530),
};

fn write(feedback: &Feedback, arrivals: &[Option<u64>]) -> (Vec<u8>, usize) {
    let mut out = vec![0; 4000];
    let mut writer = Writer::new(&mut out);
    let covered = writer.transport_feedback(feedback, arrivals).unwrap();
    let len = writer.len();
    (out[..len].to_vec(), covered)
}

fn read(bytes: &[u8]) -> TransportFeedback<'_> {
    match Compound::parse(bytes).unwrap().packets().next().unwrap() {
        Ok(Packet::TransportFeedback(feedback)) => feedback,
        other => panic!("{other:?}"),
    }
}

/// What the other implementation makes of the bytes: microseconds for each status.
fn read_by_other(bytes: &[u8]) -> Vec<Option<i64>> {
    let packet = TransportLayerCc::unmarshal(&mut &bytes[..]).unwrap();
    let symbols: Vec<SymbolTypeTcc> = packet
        .packet_chunks
        .iter()
        .flat_map(|chunk| match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                vec![run.packet_status_symbol; run.run_length.into()]
            }
            PacketStatusChunk::StatusVectorChunk(vector) => vector.symbol_list.clone(),
        })
        .take(packet.packet_status_count.into())
        .collect();
    let mut at = i64::from(packet.reference_time) * 64_000;
    let mut deltas = packet.recv_deltas.iter();
    let arrivals = symbols.iter().map(|symbol| match symbol {
        SymbolTypeTcc::PacketNotReceived => None,
        _ => {
            at += deltas.next().unwrap().delta;
            Some(at)
        }
    });
    arrivals.collect()
}

#[test]
fn writes_the_bytes_of_the_draft() {
    // 6 400 000 µs are 100 units of 64 ms; then 1 ms, a loss, and 100 ms (400 ticks, so two bytes).
    let (bytes, covered) = write(
        &HEAD,
        &[Some(6_400_000), Some(6_401_000), None, Some(6_501_000)],
    );
    assert_eq!(covered, 4);
    assert_eq!(
        bytes,
        hex("afcd0006 00000001 00000002 fffa 0004 000064 03 d480 00 04 0190 0002")
    );
    let feedback = read(&bytes);
    assert_eq!(
        (
            feedback.sender_ssrc,
            feedback.media_ssrc,
            feedback.feedback_count
        ),
        (1, 2, 3)
    );
    assert_eq!(
        (
            feedback.base,
            feedback.status_count,
            feedback.reference_time
        ),
        (Seq(65530), 4, 100)
    );
    assert_eq!(
        feedback.arrivals().collect::<Vec<_>>(),
        [
            (Seq(65530), Some(6_400_000)),
            (Seq(65531), Some(6_401_000)),
            (Seq(65532), None),
            (Seq(65533), Some(6_501_000))
        ]
    );
}

#[test]
fn random_arrivals_come_back_here_and_there() {
    let mut random = Random(99);
    for round in 0..3000 {
        let loss = random.below(100);
        let pace = [300, 3_000, 30_000, 300_000][random.below(4)];
        let count = 1 + random.below(if round % 10 == 0 { 900 } else { 60 });
        let mut now_us = random.next() % (1 << 39);
        let arrivals: Vec<Option<u64>> = (0..count)
            .map(|_| {
                now_us += random.below(pace) as u64;
                let reordered =
                    now_us.saturating_sub(random.below(2) as u64 * random.below(pace) as u64);
                (random.below(100) >= loss).then_some(reordered)
            })
            .collect();
        let base = Seq(random.next() as u16);
        let (bytes, covered) = write(&Feedback { base, ..HEAD }, &arrivals);
        // Only a pause of more than 8.19 s ends a feedback early.
        assert!(
            covered == count || pace == 300_000,
            "round {round}: {covered} of {count}"
        );
        assert!(covered > 0);
        let arrivals = &arrivals[..covered];
        let expected: Vec<Option<i64>> = arrivals
            .iter()
            .map(|arrival| arrival.map(|us| (us / 250 * 250) as i64))
            .collect();
        let ours: Vec<Option<i64>> = read(&bytes)
            .arrivals()
            .map(|(_, arrival)| arrival)
            .collect();
        // The reference time has 24 bits and a sign: compare within its range.
        let turn = |arrival: Option<i64>| arrival.map(|us| us.rem_euclid(64_000 << 24));
        assert_eq!(
            ours.iter().map(|&a| turn(a)).collect::<Vec<_>>(),
            expected.iter().map(|&a| turn(a)).collect::<Vec<_>>()
        );
        let theirs: Vec<Option<i64>> = read_by_other(&bytes).into_iter().map(turn).collect();
        assert_eq!(
            theirs,
            ours.into_iter().map(turn).collect::<Vec<_>>(),
            "round {round}"
        );
        let numbers: Vec<Seq> = read(&bytes).arrivals().map(|(seq, _)| seq).collect();
        assert_eq!(numbers.last(), Some(&base.add(covered as u16 - 1)));
    }
}

#[test]
fn the_clock_turns_after_six_days() {
    // 2^23 units of 64 ms, where the 24-bit reference time changes its sign, are 536 870.912 s.
    const TURN: u64 = 536_870_912_000;
    let read_both = |arrivals: &[Option<u64>]| {
        let (bytes, covered) = write(&HEAD, arrivals);
        assert_eq!(covered, arrivals.len());
        let ours: Vec<Option<i64>> = read(&bytes)
            .arrivals()
            .map(|(_, arrival)| arrival)
            .collect();
        (read(&bytes).reference_time, ours, read_by_other(&bytes))
    };
    // What begins before the turn counts on over it within one feedback.
    let (reference, ours, theirs) = read_both(&[Some(TURN - 1000), None, Some(TURN + 2000)]);
    let expected = vec![Some(536_870_911_000), None, Some(536_870_914_000)];
    assert_eq!(
        (reference, &ours, &theirs),
        (8_388_607, &expected, &expected)
    );
    // What begins behind it is as far below zero as the clock goes, one whole round (2^24 units) away.
    let (reference, ours, theirs) = read_both(&[Some(TURN), Some(TURN + 2000)]);
    assert_eq!(reference, -8_388_608);
    assert_eq!(ours, [Some(-536_870_912_000), Some(-536_870_910_000)]);
    // The other implementation knows no sign.
    let round = |at: &Option<i64>| at.map(|us| us.rem_euclid(1_073_741_824_000));
    let ours: Vec<_> = ours.iter().map(round).collect();
    assert_eq!(theirs.iter().map(round).collect::<Vec<_>>(), ours);
    // And after a whole round it begins at zero again.
    let (reference, ours, _) = read_both(&[Some(2 * TURN), Some(2 * TURN + 2000)]);
    assert_eq!((reference, ours), (0, vec![Some(0), Some(2000)]));
}

#[test]
fn reads_what_the_other_writes() {
    let packet = TransportLayerCc {
        sender_ssrc: 1,
        media_ssrc: 2,
        base_sequence_number: 10,
        packet_status_count: 12,
        reference_time: 5,
        fb_pkt_count: 7,
        packet_chunks: vec![
            PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                packet_status_symbol: SymbolTypeTcc::PacketReceivedSmallDelta,
                run_length: 5,
            }),
            PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                symbol_size: SymbolSizeTypeTcc::TwoBit,
                symbol_list: vec![
                    SymbolTypeTcc::PacketReceivedLargeDelta,
                    SymbolTypeTcc::PacketNotReceived,
                    SymbolTypeTcc::PacketReceivedSmallDelta,
                    SymbolTypeTcc::PacketNotReceived,
                    SymbolTypeTcc::PacketNotReceived,
                    SymbolTypeTcc::PacketReceivedLargeDelta,
                    SymbolTypeTcc::PacketNotReceived,
                ],
            }),
        ],
        recv_deltas: [250, 500, 0, 63_750, 1000, -250_000, 1000, 8_191_750]
            .into_iter()
            .map(|delta| RecvDelta {
                type_tcc_packet: if (0..=63_750).contains(&delta) {
                    SymbolTypeTcc::PacketReceivedSmallDelta
                } else {
                    SymbolTypeTcc::PacketReceivedLargeDelta
                },
                delta,
            })
            .collect(),
    };
    let bytes = packet.marshal().unwrap();
    let feedback = read(&bytes);
    assert_eq!(
        (
            feedback.base,
            feedback.status_count,
            feedback.feedback_count
        ),
        (Seq(10), 12, 7)
    );
    let arrivals: Vec<Option<i64>> = feedback.arrivals().map(|(_, arrival)| arrival).collect();
    assert_eq!(
        arrivals,
        [
            Some(320_250),
            Some(320_750),
            Some(320_750),
            Some(384_500),
            Some(385_500),
            Some(135_500),
            None,
            Some(136_500),
            None,
            None,
            Some(8_328_250),
            None
        ]
    );
}

#[test]
fn arrivals_too_far_apart_are_left_for_the_next() {
    // The first is 0.25 ms after the reference time; 8.19175 s is the longest delta.
    let fits = [Some(250), Some(250 + 32_767 * 250)];
    assert_eq!(write(&HEAD, &fits).1, 2);
    let too_far = [Some(250), None, Some(250 + 32_768 * 250), Some(250)];
    let (bytes, covered) = write(&HEAD, &too_far);
    assert_eq!(covered, 2);
    assert_eq!(read(&bytes).status_count, 2);
    let (_, covered) = write(&HEAD, &too_far[2..]);
    assert_eq!(covered, 2, "8.192 s back is just possible");
}

#[test]
fn long_losses_and_runs_are_short() {
    let (bytes, covered) = write(&HEAD, &[None; 700]);
    assert_eq!((bytes.len(), covered), (24, 700));
    let run: Vec<Option<u64>> = (0..700).map(|n| Some(n * 1000)).collect();
    let (bytes, covered) = write(&HEAD, &run);
    assert_eq!((bytes.len(), covered), (20 + 4 + 700 - 2 + 2, 700));
}

#[test]
fn covers_a_bounded_number() {
    let many = vec![Some(1_000_000); STATUSES_MAX + 500];
    let (bytes, covered) = write(&HEAD, &many);
    assert_eq!(covered, STATUSES_MAX);
    assert_eq!(usize::from(read(&bytes).status_count), STATUSES_MAX);
    assert_eq!(write(&HEAD, &[]).1, 0);
}

#[test]
fn malformed_feedback_is_refused() {
    for (bytes, error) in [
        ("8fcd0003 00000001 00000002 00000001", Error::TooShort),
        // No chunk, a reserved symbol in a run, one in a vector.
        (
            "8fcd0004 00000001 00000002 00000001 00000000",
            Error::BadFeedback,
        ),
        (
            "8fcd0005 00000001 00000002 00000001 00000000 60010000",
            Error::BadFeedback,
        ),
        (
            "8fcd0005 00000001 00000002 00000001 00000000 f0000000",
            Error::BadFeedback,
        ),
        // Chunks for fewer statuses than promised, runs of nothing, and more deltas than there are bytes.
        (
            "8fcd0005 00000001 00000002 00000003 00000000 20010001",
            Error::BadFeedback,
        ),
        (
            "8fcd0005 00000001 00000002 0000ffff 00000000 00000000",
            Error::BadFeedback,
        ),
        (
            "8fcd0005 00000001 00000002 00000003 00000000 20030000",
            Error::BadFeedback,
        ),
    ] {
        let bytes = hex(bytes);
        let packet = Compound::parse(&bytes).unwrap().packets().next().unwrap();
        assert!(matches!(packet, Err(found) if found == error), "{packet:?}");
    }
}
