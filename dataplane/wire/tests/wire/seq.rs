use weir_wire::{ExtRtpTime, ExtSeq, RtpTime, Seq, SeqUnwrapper, TimeUnwrapper};

use crate::Random;

const STARTS: [u16; 9] = [0, 1, 127, 128, 255, 32767, 32768, 65534, 65535];

#[test]
fn distance_takes_the_shorter_way_round() {
    assert_eq!(Seq(2).distance_from(Seq(65535)), 3);
    assert_eq!(Seq(65535).distance_from(Seq(2)), -3);
    assert_eq!(Seq(32767).distance_from(Seq(0)), 32767);
    assert_eq!(Seq(32768).distance_from(Seq(0)), -32768);
    assert!(Seq(0).is_after(Seq(65535)));
    assert!(!Seq(5).is_after(Seq(5)));
    assert_eq!(RtpTime(1).distance_from(RtpTime(u32::MAX)), 2);
    assert!(RtpTime(0).is_after(RtpTime(u32::MAX)));
    assert_eq!(Seq(65535).add(2), Seq(1));
    assert_eq!(Seq(1).sub(2), Seq(65535));
}

#[test]
fn extended_numbers_carry_the_roll_over_above_the_sequence_number() {
    let ext = ExtSeq::new(3, Seq(7));
    assert_eq!((ext.0, ext.roll_over(), ext.seq()), (196_615, 3, Seq(7)));
    assert_eq!(ExtSeq(0).checked_sub(1), None);
    assert_eq!(ExtSeq(0).nearest(Seq(65535)), ExtSeq(65535));
    assert_eq!(ExtSeq(65536).nearest(Seq(65535)), ExtSeq(65535));
    assert_eq!(ExtSeq(65535).nearest(Seq(0)), ExtSeq(65536));
    assert_eq!(
        ExtRtpTime(0xffff_ffff).nearest(RtpTime(0)),
        ExtRtpTime(0x1_0000_0000)
    );
}

#[test]
fn unwraps_in_order_from_every_start() {
    for start in STARTS {
        let mut unwrapper = SeqUnwrapper::new();
        for step in 0..200_000_u64 {
            let seq = Seq(start).add(step as u16);
            assert_eq!(
                unwrapper.unwrap(seq).0,
                65536 + u64::from(start) + step,
                "from {start}, step {step}"
            );
        }
    }
}

#[test]
fn unwraps_reordered_and_with_loss_from_every_start() {
    for start in STARTS {
        let mut unwrapper = SeqUnwrapper::new();
        let mut random = Random(u64::from(start) + 1);
        unwrapper.unwrap(Seq(start));
        let mut step = 0;
        while step < 300_000 {
            step += random.below(900) as u64;
            let step = step.saturating_sub(random.below(1000) as u64);
            let seq = Seq(start).add(step as u16);
            assert_eq!(
                unwrapper.unwrap(seq).0,
                65536 + u64::from(start) + step,
                "from {start}, step {step}"
            );
        }
    }
}

#[test]
fn a_late_packet_from_before_the_first_has_a_number() {
    let mut unwrapper = SeqUnwrapper::new();
    assert_eq!(unwrapper.unwrap(Seq(0)), ExtSeq(65536));
    assert_eq!(unwrapper.unwrap(Seq(65535)), ExtSeq(65535));
    assert_eq!(unwrapper.highest(), Some(ExtSeq(65536)));
    assert_eq!(unwrapper.peek(Seq(1)), ExtSeq(65537));
    assert_eq!(unwrapper.highest(), Some(ExtSeq(65536)));
}

#[test]
fn unwraps_time_over_the_turn() {
    for start in [0, 1, 127, 32768, 65535, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        let mut unwrapper = TimeUnwrapper::new();
        for step in (0..20_000_000_000_u64).step_by(1_000_000_007) {
            let time = RtpTime(start).add(step as u32);
            assert_eq!(
                unwrapper.unwrap(time).0,
                (1 << 32) + u64::from(start) + step
            );
            let late = unwrapper.peek(time.sub(90_000));
            assert_eq!(late.distance_from(unwrapper.latest().unwrap()), -90_000);
        }
    }
}
