//! The numbers of a subscription against the known cases.

use super::*;

mod layers;

const A: SourceId = SourceId(1);
const B: SourceId = SourceId(2);

fn packet(source: SourceId, seq: u64) -> Incoming {
    let picture = Picture::default();
    Incoming {
        source,
        seq: ExtSeq(seq),
        timestamp: RtpTime((seq as u32).wrapping_mul(3000)),
        marker: true,
        padding: false,
        picture,
        sublayer: Sublayer::default(),
        opens: Opens::Nothing,
        frame_end: false,
        counted: true,
        arrival: Instant::now(),
    }
}

fn padding(source: SourceId, seq: u64) -> Incoming {
    Incoming {
        padding: true,
        marker: false,
        ..packet(source, seq)
    }
}

fn seq(rewriter: &mut Rewriter, packet: Incoming) -> Result<u64, Refused> {
    rewriter.rewrite(&packet).map(|out| out.seq.0)
}

/// A rewriter whose first packet was `first`, going out under the same numbers.
fn started(first: Incoming) -> Rewriter {
    let mut rewriter = Rewriter::new(first.seq);
    rewriter.switch(&first, first.timestamp, Frames::Marked);
    rewriter.rewrite(&first).unwrap();
    rewriter
}

#[test]
fn numbers_close_up_behind_removed_padding_and_late_packets_keep_theirs() {
    let mut rewriter = started(packet(A, 65_533));
    assert_eq!(
        seq(&mut rewriter, packet(A, 65_537)),
        Ok(65_537),
        "over the wrap"
    );
    assert_eq!(
        seq(&mut rewriter, padding(A, 65_538)),
        Err(Refused::Removed)
    );
    assert_eq!(seq(&mut rewriter, packet(A, 65_540)), Ok(65_539));
    assert_eq!(
        seq(&mut rewriter, padding(A, 65_541)),
        Err(Refused::Removed)
    );
    assert_eq!(seq(&mut rewriter, packet(A, 65_543)), Ok(65_541));
    assert_eq!(seq(&mut rewriter, packet(A, 65_542)), Ok(65_540), "late");
    assert_eq!(
        seq(&mut rewriter, packet(A, 65_539)),
        Ok(65_538),
        "late, from before the second padding"
    );
    assert_eq!(
        seq(&mut rewriter, packet(A, 65_534)),
        Ok(65_534),
        "late, from before both"
    );
}

#[test]
fn padding_after_a_gap_goes_out_as_padding() {
    let mut rewriter = started(packet(A, 100));
    assert_eq!(seq(&mut rewriter, padding(A, 102)), Ok(102));
    assert_eq!(seq(&mut rewriter, packet(A, 101)), Ok(101));
    assert_eq!(seq(&mut rewriter, packet(A, 103)), Ok(103));
}

#[test]
fn a_packet_from_before_more_removals_than_are_remembered_is_too_late() {
    let mut rewriter = started(packet(A, 100));
    for number in 102..102 + 33 {
        let late = seq(&mut rewriter, packet(A, number * 2));
        assert!(late.is_ok());
        assert_eq!(
            seq(&mut rewriter, padding(A, number * 2 + 1)),
            Err(Refused::Removed)
        );
    }
    assert_eq!(seq(&mut rewriter, packet(A, 150)), Err(Refused::TooLate));
}

#[test]
fn a_switch_continues_numbers_and_pictures() {
    // LiveKit's case: the last packet out was 23338 with picture 13469; the new source's keyframe is 123 with picture 45.
    let last = Incoming {
        picture: Picture {
            id: 13_469,
            tl0: 234,
            key: 23,
            frame: 65_535,
        },
        ..packet(A, 23_338)
    };
    let mut rewriter = started(last);
    let keyframe = Incoming {
        picture: Picture {
            id: 45,
            tl0: 12,
            key: 30,
            frame: 9,
        },
        ..packet(B, 123)
    };
    rewriter.switch(&keyframe, RtpTime(last.timestamp.0 + 3000), Frames::Marked);
    let out = rewriter.rewrite(&keyframe).unwrap();
    assert_eq!(out.seq, ExtSeq(23_339));
    assert_eq!(
        out.picture,
        Picture {
            id: 13_470,
            tl0: 235,
            key: 24,
            frame: 0,
        }
    );
    assert_eq!(out.timestamp, RtpTime(last.timestamp.0 + 3000));
}

#[test]
fn a_frame_cut_off_by_the_switch_leaves_a_hole() {
    let mut rewriter = started(Incoming {
        marker: false,
        ..packet(A, 500)
    });
    rewriter.switch(&packet(B, 7), RtpTime(9_000_000), Frames::Marked);
    assert_eq!(seq(&mut rewriter, packet(B, 7)), Ok(502));
    let mut audio = started(Incoming {
        marker: false,
        ..packet(A, 500)
    });
    audio.switch(&packet(B, 7), RtpTime(9_000_000), Frames::Unmarked);
    assert_eq!(
        seq(&mut audio, packet(B, 7)),
        Ok(501),
        "audio has no frames"
    );
}

#[test]
fn late_packets_of_the_old_layer_find_their_number_and_of_the_new_one_are_dropped() {
    let mut rewriter = started(packet(A, 100));
    assert_eq!(seq(&mut rewriter, packet(A, 103)), Ok(103));
    rewriter.switch(&packet(B, 50), RtpTime(9_000_000), Frames::Marked);
    assert_eq!(seq(&mut rewriter, packet(B, 50)), Ok(104));
    assert_eq!(
        seq(&mut rewriter, packet(A, 102)),
        Ok(102),
        "under way at the switch"
    );
    assert_eq!(
        seq(&mut rewriter, packet(A, 104)),
        Err(Refused::OtherSource),
        "after it"
    );
    assert_eq!(seq(&mut rewriter, packet(B, 49)), Err(Refused::BeforeStart));
    assert_eq!(seq(&mut rewriter, packet(B, 51)), Ok(105));
}

#[test]
fn a_frame_lost_before_padding_does_not_come_back_after_the_switch() {
    // Found by simulation: 101 is the next picture, as is the keyframe that the switch starts with.
    let mut rewriter = started(packet(A, 100));
    assert_eq!(seq(&mut rewriter, padding(A, 102)), Ok(102));
    rewriter.switch(&packet(B, 50), RtpTime(9_000_000), Frames::Marked);
    assert_eq!(seq(&mut rewriter, packet(B, 50)), Ok(103));
    assert_eq!(
        seq(&mut rewriter, packet(A, 101)),
        Err(Refused::OtherSource)
    );
}

#[test]
fn a_frame_that_comes_late_behind_padding_counts_at_the_switch() {
    // Found by simulation (seed 4001).
    let picture = |id| Picture {
        id,
        tl0: 0,
        key: 0,
        frame: 0,
    };
    let mut rewriter = started(Incoming {
        picture: picture(5),
        ..packet(A, 100)
    });
    assert_eq!(seq(&mut rewriter, padding(A, 102)), Ok(102));
    assert_eq!(
        seq(
            &mut rewriter,
            Incoming {
                picture: picture(6),
                ..packet(A, 101)
            }
        ),
        Ok(101)
    );
    rewriter.switch(&packet(B, 50), RtpTime(9_000_000), Frames::Marked);
    assert_eq!(rewriter.rewrite(&packet(B, 50)).unwrap().picture.id, 7);
}

#[test]
fn numbers_pictures_and_times_continue_from_every_start() {
    const STARTS: [u16; 9] = [0, 1, 127, 128, 255, 32767, 32768, 65534, 65535];
    for out_start in STARTS {
        for in_start in STARTS {
            continues(out_start.into(), in_start.into());
        }
    }
    continues(u64::from(u32::MAX), 7);
    continues(7, u64::from(u32::MAX));
}

/// Three packets of one source, five of another in mixed order, with one lost, wrap where they may.
fn continues(out_start: u64, in_start: u64) {
    let of = |source, start: u64, step: u64| Incoming {
        timestamp: RtpTime(
            (start as u32)
                .wrapping_mul(65_537)
                .wrapping_sub(3)
                .wrapping_add(step as u32 * 3000),
        ),
        picture: Picture {
            id: (start as u16 & 0x7fff).wrapping_add(step as u16) & 0x7fff,
            tl0: (start as u8).wrapping_add(step as u8),
            key: (start as u8) & 0x1f,
            frame: (start as u16).wrapping_add(step as u16),
        },
        ..packet(source, start + step)
    };
    let mut rewriter = Rewriter::new(ExtSeq(out_start));
    rewriter.switch(
        &of(A, in_start, 0),
        of(A, in_start, 0).timestamp,
        Frames::Marked,
    );
    let mut out: Vec<Outgoing> = (0..3)
        .map(|step| rewriter.rewrite(&of(A, in_start, step)).unwrap())
        .collect();
    let next = RtpTime(out[2].timestamp.0.wrapping_add(3000));
    rewriter.switch(&of(B, out_start, 0), next, Frames::Marked);
    let steps = [0, 2, 1, 4, 5];
    out.extend(steps.map(|step| rewriter.rewrite(&of(B, out_start, step)).unwrap()));
    let offsets = [0, 1, 2, 3, 5, 4, 7, 8];
    let first = out[0];
    for (out, offset) in out.iter().zip(offsets) {
        assert_eq!(out.seq.0, out_start + offset);
        assert_eq!(
            out.timestamp.0,
            first.timestamp.0.wrapping_add(offset as u32 * 3000)
        );
        assert_eq!(out.picture.id, (first.picture.id + offset as u16) & 0x7fff);
        assert_eq!(
            out.picture.tl0,
            first.picture.tl0.wrapping_add(offset as u8)
        );
        assert_eq!(
            out.picture.frame,
            first.picture.frame.wrapping_add(offset as u16)
        );
        assert_eq!(
            out.picture.key,
            (first.picture.key + u8::from(offset > 2)) & 0x1f
        );
    }
}

#[test]
fn random_order_within_64_packets_never_gives_a_number_twice() {
    let mut numbers = crate::table::Numbers::new(1);
    for round in 0..200 {
        let mut rewriter = started(packet(A, 1000));
        let mut used = std::collections::BTreeSet::from([1000]);
        let mut source = A;
        let mut seqs: Vec<u64> = (1001..3000).collect();
        for at in 0..seqs.len() {
            let other = at + (numbers.next() % 64) as usize;
            if other < seqs.len() {
                seqs.swap(at, other);
            }
        }
        for (at, number) in seqs.into_iter().enumerate() {
            let kind = numbers.next() % 10;
            if at % 500 == 499 {
                source = SourceId(source.0 + 1);
                rewriter.switch(
                    &packet(source, number),
                    RtpTime(number as u32),
                    Frames::Marked,
                );
            }
            // The packet may still come from the source before.
            let from = if kind == 1 && at > 500 {
                SourceId(source.0 - 1)
            } else {
                source
            };
            let packet = if kind == 0 {
                padding(from, number)
            } else {
                packet(from, number)
            };
            if let Ok(out) = rewriter.rewrite(&packet) {
                assert!(used.insert(out.seq.0), "round {round}: {} twice", out.seq.0);
            }
        }
    }
}
