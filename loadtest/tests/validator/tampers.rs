//! One fault of a focus each, made of what a focus without faults sent.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use weir_client::clips::is_keyframe;
use weir_client::rtp::header::Extension;
use weir_client::rtp::packet::Packet;
use weir_client::vp8::Descriptor;
use weir_client::{Clips, Decode, Tamper};

/// A participant whose packets are changed.
pub(crate) struct Sabotage {
    pub(crate) name: &'static str,
    pub(crate) tamper: Option<Tamper>,
    /// The layer that it asks for.
    pub(crate) layer: &'static str,
    pub(crate) decode: Decode,
}

/// What the focus negotiates with participants that offer these numbers.
const OPUS: u8 = 111;
const VP8: u8 = 96;
/// Frames and packets of sound before anything is changed: a second and a half.
const FRAMES_BEFORE: u64 = 45;
const SOUNDS_BEFORE: u64 = 75;

pub(crate) fn sabotages() -> Vec<Sabotage> {
    let mut all = vec![
        Sabotage {
            name: "nothing_broken",
            tamper: None,
            layer: "q",
            decode: Decode::ALL,
        },
        Sabotage {
            tamper: None,
            ..small("feedback_sent", lost())
        },
        small("packets_lost", lost()),
        small(
            "picture_id_not_rewritten",
            descriptors(|descriptor| {
                let id = descriptor.picture_id.as_mut().unwrap();
                id.value = (id.value + 1000) & 0x7fff;
            }),
        ),
        small(
            "picture_id_of_another_width",
            descriptors(|descriptor| {
                let id = descriptor.picture_id.as_mut().unwrap();
                (id.value, id.wide) = (id.value & 0x7f, false);
            }),
        ),
        small(
            "tl0_index_not_rewritten",
            descriptors(|descriptor| {
                descriptor.tl0_index = descriptor.tl0_index.map(|index| index.wrapping_add(9));
            }),
        ),
        small(
            "key_index_not_rewritten",
            descriptors(|descriptor| {
                descriptor.key_index = descriptor.key_index.map(|index| (index + 9) & 0x1f);
            }),
        ),
        small(
            "descriptor_cut_short",
            one_frame(|packet| {
                packet.payload = Bytes::from_static(&[0x90, 0x80, 0x80]);
            }),
        ),
        small(
            "ssrc_changes",
            from_frame_on(|packet| packet.header.ssrc ^= 0x5555),
        ),
        small("number_used_twice", used_twice()),
        small(
            "time_goes_back",
            sounds_from_on(|packet| {
                packet.header.timestamp = packet.header.timestamp.wrapping_sub(9600);
            }),
        ),
        small(
            "time_jumps",
            sounds_from_on(|packet| {
                packet.header.timestamp = packet.header.timestamp.wrapping_add(96_000);
            }),
        ),
        small(
            "numbers_jump",
            sounds_from_on(|packet| {
                packet.header.sequence_number = packet.header.sequence_number.wrapping_add(5000);
            }),
        ),
        small(
            "payload_type_of_the_publisher",
            sounds_from_on(|packet| {
                packet.header.payload_type = 109;
            }),
        ),
        small(
            "extension_of_the_publisher",
            sounds_from_on(|packet| {
                packet.header.extension = true;
                packet.header.extension_profile = 0xbede;
                packet.header.extensions.push(Extension {
                    id: 10,
                    payload: Bytes::from_static(b"f"),
                });
            }),
        ),
        small("audio_left_out", audio_left_out()),
        small("begins_in_the_middle", begins_in_the_middle()),
        small("switch_without_keyframe", switch_without_keyframe()),
        small("never_repaired", never_repaired()),
        small(
            "pictures_and_time_part",
            from_frame_on(|packet| {
                packet.header.timestamp = packet.header.timestamp.wrapping_add(10 * 3000);
            }),
        ),
        small(
            "another_content",
            one_frame(|packet| {
                let mut payload = BytesMut::from(&packet.payload[..]);
                let last = payload.len() - 1;
                payload[last] ^= 0x40;
                packet.payload = payload.freeze();
            }),
        ),
        small(
            "rtx_of_another_number",
            retransmissions(|_, mut packet| {
                // Three packets earlier: that one has arrived.
                let number = u16::from_be_bytes([packet.payload[0], packet.payload[1]]);
                packet.payload = numbered(number.wrapping_sub(3), &packet.payload[2..]);
                vec![packet]
            }),
        ),
        small(
            "rtx_with_another_content",
            retransmissions(|held, mut packet| {
                let mut payload = BytesMut::from(&packet.payload[..]);
                let last = payload.len() - 1;
                payload[last] ^= 1;
                packet.payload = payload.freeze();
                vec![held.clone(), packet]
            }),
        ),
        small(
            "rtx_cut_short",
            retransmissions(|_, mut packet| {
                packet.payload = packet.payload.slice(..1);
                vec![packet]
            }),
        ),
        small("rtx_numbers_jump", rtx_numbers_jump()),
    ];
    all.push(Sabotage {
        decode: Decode::ALL,
        ..small(
            "not_decodable",
            one_frame(|packet| {
                // The first partition is longer than the frame (RFC 6386 §9.1).
                let (descriptor, frame) = Descriptor::parse(&packet.payload).unwrap();
                let mut changed = BytesMut::new();
                descriptor.emit(&mut changed);
                changed.extend_from_slice(&[frame[0] | 0xe0, 0xff, 0xff]);
                changed.extend_from_slice(&frame[3..]);
                packet.payload = changed.freeze();
            }),
        )
    });
    all.push(Sabotage {
        layer: "h",
        ..small("end_of_a_frame_left_out", end_of_a_frame_left_out())
    });
    all
}

fn small(name: &'static str, tamper: Tamper) -> Sabotage {
    Sabotage {
        name,
        tamper: Some(tamper),
        layer: "q",
        decode: Decode::NONE,
    }
}

fn is_video(packet: &Packet) -> bool {
    packet.header.payload_type == VP8
}

fn is_rtx(packet: &Packet) -> bool {
    ![OPUS, VP8].contains(&packet.header.payload_type) && !packet.payload.is_empty()
}

/// Whether the packet begins a frame, and that one a keyframe.
fn starts(packet: &Packet) -> Option<bool> {
    if !is_video(packet) {
        return None;
    }
    let (descriptor, frame) = Descriptor::parse(&packet.payload).ok()?;
    descriptor.begins_frame().then(|| is_keyframe(frame))
}

fn numbered(number: u16, rest: &[u8]) -> Bytes {
    [&number.to_be_bytes()[..], rest].concat().into()
}

/// Changes every video packet from an inter frame on.
fn from_frame_on(change: impl Fn(&mut Packet) + Send + 'static) -> Tamper {
    let mut frames = 0;
    Tamper::new(move |mut packet| {
        let inter = starts(&packet) == Some(false);
        frames += u64::from(inter || frames >= FRAMES_BEFORE && starts(&packet).is_some());
        if is_video(&packet) && frames >= FRAMES_BEFORE {
            change(&mut packet);
        }
        vec![packet]
    })
}

fn descriptors(change: impl Fn(&mut Descriptor) + Send + 'static) -> Tamper {
    from_frame_on(move |packet| {
        let (mut descriptor, frame) = Descriptor::parse(&packet.payload).unwrap();
        change(&mut descriptor);
        let mut changed = BytesMut::new();
        descriptor.emit(&mut changed);
        changed.extend_from_slice(frame);
        packet.payload = changed.freeze();
    })
}

/// Changes one inter frame that is one packet.
fn one_frame(change: impl Fn(&mut Packet) + Send + 'static) -> Tamper {
    let (mut frames, mut done) = (0, false);
    Tamper::new(move |mut packet| {
        let inter = starts(&packet) == Some(false);
        frames += u64::from(inter);
        if inter && packet.header.marker && frames >= FRAMES_BEFORE && !done {
            done = true;
            change(&mut packet);
        }
        vec![packet]
    })
}

fn sounds_from_on(change: impl Fn(&mut Packet) + Send + 'static) -> Tamper {
    let mut sounds = 0;
    Tamper::new(move |mut packet| {
        if packet.header.payload_type == OPUS {
            sounds += 1;
            if sounds > SOUNDS_BEFORE {
                change(&mut packet);
            }
        }
        vec![packet]
    })
}

/// One video packet in twenty does not arrive: no fault of the focus.
fn lost() -> Tamper {
    let mut count = 0;
    Tamper::new(move |packet| {
        count += u64::from(is_video(&packet));
        if is_video(&packet) && count > 30 && count.is_multiple_of(20) {
            return vec![];
        }
        vec![packet]
    })
}

fn used_twice() -> Tamper {
    let mut frames = 0;
    Tamper::new(move |packet| {
        frames += u64::from(starts(&packet).is_some());
        if is_video(&packet) && frames == FRAMES_BEFORE {
            let mut other = packet.clone();
            other.payload = packet.payload.slice(..packet.payload.len() - 1);
            return vec![packet, other];
        }
        vec![packet]
    })
}

/// Five packets are left out, and the numbers close up.
fn audio_left_out() -> Tamper {
    let mut sounds = 0;
    Tamper::new(move |mut packet| {
        if packet.header.payload_type != OPUS {
            return vec![packet];
        }
        sounds += 1;
        match sounds - SOUNDS_BEFORE as i64 {
            ..0 => vec![packet],
            0..5 => vec![],
            _ => {
                packet.header.sequence_number = packet.header.sequence_number.wrapping_sub(5);
                vec![packet]
            }
        }
    })
}

/// The keyframe at the beginning is left out.
fn begins_in_the_middle() -> Tamper {
    let mut begun = false;
    Tamper::new(move |packet| {
        begun |= starts(&packet) == Some(false);
        if is_video(&packet) && !begun {
            return vec![];
        }
        vec![packet]
    })
}

/// The keyframe at which the layer changes is left out, and all numbers close up.
fn switch_without_keyframe() -> Tamper {
    let clips = Clips::committed();
    let (mut layer, mut skipping, mut skipped, mut packets) = (None, false, false, 0u16);
    Tamper::new(move |mut packet| {
        if !is_video(&packet) {
            return vec![packet];
        }
        let (mut descriptor, frame) = Descriptor::parse(&packet.payload).unwrap();
        if let Some(keyframe) = starts(&packet) {
            let known = clips.catalogue().frame(frame).unwrap();
            let before = *layer.get_or_insert(known.layer);
            skipping = keyframe && known.layer != before && !skipped;
            skipped |= skipping;
            layer = Some(known.layer);
        }
        if skipping {
            packets += 1;
            return vec![];
        }
        if skipped {
            let mut changed = BytesMut::new();
            let id = descriptor.picture_id.as_mut().unwrap();
            id.value = id.value.wrapping_sub(1) & 0x7fff;
            descriptor.tl0_index = descriptor.tl0_index.map(|index| index.wrapping_sub(1));
            descriptor.key_index = descriptor
                .key_index
                .map(|index| index.wrapping_sub(1) & 0x1f);
            descriptor.emit(&mut changed);
            changed.extend_from_slice(frame);
            packet.payload = changed.freeze();
            packet.header.sequence_number = packet.header.sequence_number.wrapping_sub(packets);
        }
        vec![packet]
    })
}

/// The last packet of one frame is left out, and the numbers close up.
fn end_of_a_frame_left_out() -> Tamper {
    let (mut frames, mut inside, mut done) = (0, false, false);
    Tamper::new(move |mut packet| {
        if !is_video(&packet) {
            return vec![packet];
        }
        frames += u64::from(starts(&packet).is_some());
        if done {
            packet.header.sequence_number = packet.header.sequence_number.wrapping_sub(1);
        } else if inside && packet.header.marker && frames >= FRAMES_BEFORE {
            done = true;
            return vec![];
        }
        inside = !packet.header.marker;
        vec![packet]
    })
}

/// A packet is lost, and after it every retransmission and every keyframe.
fn never_repaired() -> Tamper {
    let (mut frames, mut keyframe) = (0, false);
    Tamper::new(move |packet| {
        if let Some(is_key) = starts(&packet) {
            frames += 1;
            keyframe = is_key;
        }
        let gone = is_rtx(&packet) || is_video(&packet) && (keyframe || frames == FRAMES_BEFORE);
        if frames >= FRAMES_BEFORE && gone {
            return vec![];
        }
        vec![packet]
    })
}

/// Loses one packet, and changes its first retransmission; gets the lost one, too. It is one soon after a keyframe: what is from before
/// a keyframe is not sent again.
fn retransmissions(change: impl Fn(&Packet, Packet) -> Vec<Packet> + Send + 'static) -> Tamper {
    let (mut frames, mut after_keyframe, mut held, mut done) = (0, 0, None, false);
    Tamper::new(move |packet| {
        if let Some(keyframe) = starts(&packet) {
            frames += 1;
            after_keyframe = if keyframe { 0 } else { after_keyframe + 1 };
        }
        let chosen = frames >= FRAMES_BEFORE && after_keyframe == 2;
        if is_video(&packet) && chosen && held.is_none() {
            held = Some(packet);
            return vec![];
        }
        match &held {
            Some(lost) if is_rtx(&packet) && !done => {
                done = true;
                change(lost, packet)
            }
            _ => vec![packet],
        }
    })
}

/// Loses a packet now and then; from the third retransmission on their numbers are others.
fn rtx_numbers_jump() -> Tamper {
    let (mut packets, mut repeated) = (0u64, VecDeque::new());
    Tamper::new(move |mut packet| {
        packets += u64::from(is_video(&packet));
        if is_video(&packet) && packets > 45 && packets.is_multiple_of(30) {
            return vec![];
        }
        if is_rtx(&packet) {
            repeated.push_back(packet.header.sequence_number);
            if repeated.len() > 3 {
                let number = packet.header.sequence_number;
                packet.header.sequence_number = number.wrapping_add(1000);
            }
        }
        vec![packet]
    })
}
