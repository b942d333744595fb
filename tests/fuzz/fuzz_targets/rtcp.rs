//! RTCP compounds: every packet is read to its end, and what can be written is written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_wire::Seq;
use weir_wire::rtcp::{Compound, Packet, ReportBlock, Writer, twcc};

fuzz_target!(|bytes: &[u8]| {
    let Ok(compound) = Compound::parse(bytes) else { return };
    let mut out = vec![0; 0x5_0000];
    for packet in compound.packets().flatten() {
        match packet {
            Packet::SenderReport(report) => {
                let blocks: Vec<ReportBlock> = report.reports().collect();
                let mut writer = Writer::new(&mut out);
                writer.sender_report(report.ssrc, &report.info, &blocks).expect("there is room");
                let len = writer.len();
                let Packet::SenderReport(again) = first(&out[..len]) else { panic!() };
                assert_eq!((again.ssrc, again.info), (report.ssrc, report.info));
                assert_eq!(again.reports().collect::<Vec<_>>(), blocks);
            }
            Packet::ReceiverReport(report) => {
                report.reports().for_each(|block| {
                    let _ = block.round_trip(block.jitter);
                });
            }
            Packet::Sdes(sdes) => assert!(sdes.cnames().count() <= 31),
            Packet::Bye(bye) => assert!(bye.ssrcs().count() <= 31),
            Packet::Nack(nack) => {
                let seqs: Vec<Seq> = nack.seqs().collect();
                let mut writer = Writer::new(&mut out);
                writer.nack(nack.sender_ssrc, nack.media_ssrc, &seqs).expect("there is room");
                let len = writer.len();
                let Packet::Nack(again) = first(&out[..len]) else { panic!() };
                let mut known = vec![false; 1 << 16];
                seqs.iter().for_each(|seq| known[usize::from(seq.0)] = true);
                for seq in again.seqs() {
                    assert!(known[usize::from(seq.0)]);
                }
            }
            Packet::Fir(fir) => assert!(fir.entries().count() * 8 <= bytes.len()),
            Packet::Remb(remb) => assert!(remb.ssrcs().count() <= 255),
            Packet::TransportFeedback(feedback) => {
                assert_eq!(feedback.arrivals().count(), usize::from(feedback.status_count));
                write_again(&feedback, &mut out);
            }
            Packet::Pli(_) | Packet::Unknown { .. } => {}
        }
    }
});

/// Writes the arrivals that are not before the clock's start, and reads them back.
fn write_again(feedback: &weir_wire::rtcp::TransportFeedback<'_>, out: &mut [u8]) {
    let arrivals: Vec<Option<u64>> = feedback
        .arrivals()
        .map(|(_, arrival)| arrival.and_then(|us| u64::try_from(us).ok()))
        .take(twcc::STATUSES_MAX)
        .collect();
    let head = twcc::Feedback {
        sender_ssrc: feedback.sender_ssrc,
        media_ssrc: feedback.media_ssrc,
        feedback_count: feedback.feedback_count,
        base: feedback.base,
    };
    let mut writer = Writer::new(out);
    let covered = writer.transport_feedback(&head, &arrivals).expect("there is room");
    assert!(covered > 0 || arrivals.is_empty());
    let len = writer.len();
    if covered == 0 {
        return;
    }
    let Packet::TransportFeedback(again) = first(&out[..len]) else { panic!() };
    // The reference time has 24 bits of 64 ms and a sign: what lies past the turn comes back from the other side of it.
    let turn = |us: i64| us.rem_euclid(64_000 << 24);
    let written = arrivals.into_iter().take(covered).map(|arrival| arrival.map(|us| turn(us as i64)));
    assert!(again.arrivals().map(|(_, arrival)| arrival.map(turn)).eq(written));
}

fn first(bytes: &[u8]) -> Packet<'_> {
    let compound = Compound::parse(bytes).expect("what is written can be read");
    compound.packets().next().expect("one packet").expect("what is written can be read")
}
