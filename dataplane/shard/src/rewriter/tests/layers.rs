//! Temporal and spatial layers that are left out.

use super::*;

/// A VP8 encoder with three temporal layers in the pattern of libvpx: 0 2 1 2, of which the first 2 and the first 1 of every
/// eight pictures depend on the base only.
struct Encoder {
    seq: u64,
    picture: u64,
    packets: u64,
}

impl Encoder {
    fn new(packets: u64) -> Self {
        Self {
            seq: 100,
            picture: 0,
            packets,
        }
    }

    /// The packets of the next picture.
    fn encode(&mut self) -> Vec<Incoming> {
        let place = self.picture % 8;
        let temporal = [0, 2, 1, 2][place as usize % 4];
        let opens = match place {
            0 if self.picture == 0 => Opens::Everything,
            1 | 2 => Opens::Own,
            _ => Opens::Nothing,
        };
        let packets = (0..self.packets).map(|index| Incoming {
            seq: ExtSeq(self.seq + index),
            timestamp: RtpTime(self.picture as u32 * 3000),
            marker: index + 1 == self.packets,
            sublayer: Sublayer::new(0, temporal),
            opens,
            picture: Picture {
                id: (self.picture & 0x7fff) as u16,
                tl0: (self.picture / 4) as u8,
                ..Picture::default()
            },
            ..packet(A, 0)
        });
        let packets = packets.collect();
        self.seq += self.packets;
        self.picture += 1;
        packets
    }
}

/// A rewriter that started at the encoder's first picture with this temporal limit; the rest of the picture has gone out.
fn thinned(encoder: &mut Encoder, temporal: u8) -> Rewriter {
    let first = encoder.encode();
    let mut rewriter = Rewriter::new(first[0].seq);
    rewriter.limit(A, Sublayer::new(0, temporal));
    rewriter.switch(&first[0], first[0].timestamp, Frames::Marked);
    for packet in &first {
        rewriter.rewrite(packet).unwrap();
    }
    rewriter
}

/// The temporal layers of the next pictures that go out.
fn pass(rewriter: &mut Rewriter, encoder: &mut Encoder, pictures: usize) -> Vec<u8> {
    let mut passed = Vec::new();
    for _ in 0..pictures {
        let packets = encoder.encode();
        let goes = packets
            .iter()
            .map(|packet| rewriter.rewrite(packet).is_ok());
        let goes: Vec<bool> = goes.collect();
        assert!(
            goes.iter().all(|one| *one == goes[0]),
            "a picture is whole or not there"
        );
        if goes[0] {
            passed.push(packets[0].sublayer.temporal);
        }
    }
    passed
}

#[test]
fn nothing_is_missing_behind_any_temporal_filter() {
    for packets in [1, 3, 200] {
        for temporal in 0..3 {
            let mut encoder = Encoder::new(packets);
            let mut rewriter = thinned(&mut encoder, temporal);
            let (mut seq, mut id) = (100 + packets - 1, 0);
            for _ in 0..100_000 / packets {
                let mut gone_out = false;
                for packet in encoder.encode() {
                    let Ok(out) = rewriter.rewrite(&packet) else {
                        assert!(packet.sublayer.temporal > temporal);
                        continue;
                    };
                    assert!(packet.sublayer.temporal <= temporal);
                    seq += 1;
                    assert_eq!(out.seq, ExtSeq(seq));
                    id = (id + u16::from(!gone_out)) & 0x7fff;
                    gone_out = true;
                    assert_eq!(out.picture.id, id);
                    assert_eq!(out.picture.tl0, packet.picture.tl0);
                }
            }
        }
    }
}

#[test]
fn goes_up_one_layer_at_a_time_and_only_at_its_sync_picture() {
    let mut encoder = Encoder::new(2);
    let mut rewriter = thinned(&mut encoder, 0);
    assert_eq!(pass(&mut rewriter, &mut encoder, 7), [0]);
    rewriter.limit(A, Sublayer::new(0, 2));
    // Place 1 is a sync picture of layer 2, but layer 1 does not flow yet; place 2 opens layer 1, the next place 1 layer 2.
    assert_eq!(pass(&mut rewriter, &mut encoder, 8), [0, 1, 0, 1]);
    assert_eq!(
        pass(&mut rewriter, &mut encoder, 8),
        [0, 2, 1, 2, 0, 2, 1, 2]
    );
}

#[test]
fn goes_down_between_two_pictures() {
    let mut encoder = Encoder::new(3);
    let mut rewriter = thinned(&mut encoder, 2);
    assert_eq!(pass(&mut rewriter, &mut encoder, 4), [2, 1, 2, 0]);
    let packets = encoder.encode();
    assert!(rewriter.rewrite(&packets[0]).is_ok());
    rewriter.limit(A, Sublayer::new(0, 0));
    assert!(
        packets[1..]
            .iter()
            .all(|packet| rewriter.rewrite(packet).is_ok()),
        "a picture that has begun goes out whole"
    );
    assert_eq!(pass(&mut rewriter, &mut encoder, 7), [0, 0]);
}

#[test]
fn a_keyframe_opens_every_layer() {
    let mut encoder = Encoder::new(1);
    let mut rewriter = thinned(&mut encoder, 0);
    assert_eq!(pass(&mut rewriter, &mut encoder, 3), [0; 0]);
    rewriter.limit(A, Sublayer::new(0, 2));
    let mut keyframe = encoder.encode();
    keyframe[0].opens = Opens::Everything;
    assert!(rewriter.rewrite(&keyframe[0]).is_ok());
    assert_eq!(pass(&mut rewriter, &mut encoder, 3), [2, 1, 2]);
}

#[test]
fn late_packets_follow_what_was_decided_for_their_picture() {
    let mut encoder = Encoder::new(3);
    let mut rewriter = thinned(&mut encoder, 1);
    let pictures: Vec<Vec<Incoming>> = (0..6).map(|_| encoder.encode()).collect();
    let mut seq = |of: &Incoming| rewriter.rewrite(of).map(|out| (out.seq.0, out.picture.id));
    // Layers 2 1 2 0 2 1 from number 103 and picture 1 on.
    assert_eq!(seq(&pictures[0][0]), Err(Refused::LeftOut));
    assert_eq!(seq(&pictures[0][2]), Err(Refused::LeftOut));
    assert_eq!(seq(&pictures[1][0]), Ok((103, 1)));
    assert_eq!(seq(&pictures[1][2]), Ok((105, 1)));
    assert_eq!(
        seq(&pictures[0][1]),
        Err(Refused::LeftOut),
        "late, of a picture that was left out"
    );
    assert_eq!(seq(&pictures[2][0]), Err(Refused::LeftOut));
    assert_eq!(seq(&pictures[2][1]), Err(Refused::LeftOut));
    assert_eq!(seq(&pictures[2][2]), Err(Refused::LeftOut));
    assert_eq!(seq(&pictures[3][0]), Ok((106, 2)));
    assert_eq!(
        seq(&pictures[1][1]),
        Ok((104, 1)),
        "late, of a picture that went out"
    );
    // A whole picture of layer 2 changes places with one of layer 1: its numbers were kept free and stay unused.
    assert_eq!(seq(&pictures[5][0]), Ok((112, 4)));
    assert_eq!(seq(&pictures[4][0]), Err(Refused::LeftOut));
    assert_eq!(seq(&pictures[3][2]), Ok((108, 2)));
}

#[test]
fn a_late_picture_from_before_the_limit_was_lowered_still_goes_out() {
    let mut encoder = Encoder::new(2);
    let mut rewriter = thinned(&mut encoder, 2);
    let pictures: Vec<Vec<Incoming>> = (0..4).map(|_| encoder.encode()).collect();
    let goes = |rewriter: &mut Rewriter, of: &Incoming| rewriter.rewrite(of).is_ok();
    assert!(goes(&mut rewriter, &pictures[0][1]));
    rewriter.limit(A, Sublayer::new(0, 0));
    assert!(!goes(&mut rewriter, &pictures[1][0]));
    assert!(goes(&mut rewriter, &pictures[0][0]));
    assert!(!goes(&mut rewriter, &pictures[2][0]));
    assert!(goes(&mut rewriter, &pictures[3][0]));
}

#[test]
fn random_order_behind_a_temporal_filter_never_gives_a_number_twice() {
    let mut numbers = crate::table::Numbers::new(7);
    for round in 0..50 {
        let mut encoder = Encoder::new(1 + numbers.next() % 4);
        let mut rewriter = thinned(&mut encoder, 1);
        let mut packets: Vec<Incoming> = (0..600).flat_map(|_| encoder.encode()).collect();
        for at in 0..packets.len() {
            let other = at + (numbers.next() % 64) as usize;
            if other < packets.len() {
                packets.swap(at, other);
            }
        }
        let mut used = std::collections::BTreeSet::new();
        for packet in packets {
            if numbers.next().is_multiple_of(50) {
                rewriter.limit(A, Sublayer::new(0, (numbers.next() % 3) as u8));
            }
            if let Ok(out) = rewriter.rewrite(&packet) {
                assert!(used.insert(out.seq.0), "round {round}: {} twice", out.seq.0);
            }
        }
    }
}

/// One picture of three spatial layers, a packet each, as VP9 and AV1 send them.
fn picture(number: u64, opens: [Opens; 3]) -> [Incoming; 3] {
    [0, 1, 2].map(|spatial| Incoming {
        seq: ExtSeq(3 * number + u64::from(spatial)),
        timestamp: RtpTime(number as u32 * 3000),
        marker: spatial == 2,
        sublayer: Sublayer::new(spatial, 0),
        opens: opens[usize::from(spatial)],
        frame_end: true,
        counted: false,
        picture: Picture {
            id: number as u16,
            frame: 3 * number as u16 + u16::from(spatial),
            ..Picture::default()
        },
        ..packet(A, 0)
    })
}

const KEYFRAME: [Opens; 3] = [Opens::Everything, Opens::Own, Opens::Own];
const ORDINARY: [Opens; 3] = [Opens::Nothing; 3];

#[test]
fn leaves_out_spatial_layers_and_sets_the_marker_where_the_picture_now_ends() {
    let keyframe = picture(10, KEYFRAME);
    let mut rewriter = Rewriter::new(keyframe[0].seq);
    rewriter.limit(A, Sublayer::new(1, 3));
    rewriter.switch(&keyframe[0], keyframe[0].timestamp, Frames::Marked);
    let mut pass = |packets: [Incoming; 3]| {
        packets.map(|packet| {
            let out = rewriter.rewrite(&packet).ok()?;
            Some((out.seq.0, out.marker, out.picture.id, out.picture.frame))
        })
    };
    assert_eq!(
        pass(keyframe),
        [Some((30, false, 10, 30)), Some((31, true, 10, 31)), None]
    );
    assert_eq!(
        pass(picture(11, ORDINARY)),
        [Some((32, false, 11, 33)), Some((33, true, 11, 34)), None],
        "picture ids and frame numbers stay as they are"
    );
}

#[test]
fn spatial_layers_come_back_where_they_need_nothing_from_before() {
    let keyframe = picture(10, KEYFRAME);
    let mut rewriter = Rewriter::new(keyframe[0].seq);
    rewriter.limit(A, Sublayer::new(0, 3));
    rewriter.switch(&keyframe[0], keyframe[0].timestamp, Frames::Marked);
    let pass = |rewriter: &mut Rewriter, packets: [Incoming; 3]| {
        packets.map(|packet| rewriter.rewrite(&packet).is_ok())
    };
    assert_eq!(pass(&mut rewriter, keyframe), [true, false, false]);
    rewriter.limit(A, Sublayer::new(2, 3));
    assert_eq!(
        pass(&mut rewriter, picture(11, ORDINARY)),
        [true, false, false]
    );
    // The second layer is predicted from the first only; the third is not open yet.
    let second = [Opens::Nothing, Opens::Own, Opens::Nothing];
    assert_eq!(
        pass(&mut rewriter, picture(12, second)),
        [true, true, false]
    );
    // The dependency descriptor says that one may switch to the third.
    let third = [
        Opens::UpTo([None, None, Some(3), None]),
        Opens::Nothing,
        Opens::Nothing,
    ];
    assert_eq!(pass(&mut rewriter, picture(13, third)), [true, true, true]);
    rewriter.limit(A, Sublayer::new(1, 3));
    assert_eq!(
        pass(&mut rewriter, picture(14, ORDINARY)),
        [true, true, false]
    );
}
