//! What must hold for every subscriber, whatever happened upstream. Written from the rules, not from the code: it reads the
//! bytes that arrived and knows only which packets the publishers made.

use std::collections::BTreeMap;
use std::time::Duration;

use super::media::Identity;
use super::{MS, Received, Subscribed, World};

/// Extends numbers over their wraps in order of arrival, and sorts by them.
pub fn in_order<'a>(packets: impl Iterator<Item = &'a Received>) -> Vec<(u64, &'a Received)> {
    let mut arrived: Vec<&Received> = packets.collect();
    arrived.sort_by_key(|packet| packet.at);
    let mut highest = None;
    let mut extended = Vec::new();
    for packet in arrived {
        let seq = match highest {
            None => 0x1_0000 + u64::from(packet.seq),
            Some(highest) => {
                let step = packet.seq.wrapping_sub(highest as u16) as i16;
                (highest as i64 + i64::from(step)) as u64
            }
        };
        highest = highest.max(Some(seq));
        extended.push((seq, packet));
    }
    extended.sort_by_key(|(seq, _)| *seq);
    extended
}

/// The fields of a VP8 payload descriptor, read by hand: picture id, its width in bits, TL0PICIDX, KEYIDX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    pub start: bool,
    pub bits: u8,
    pub id: u16,
    pub tl0: u8,
    pub key: u8,
    pub tid: u8,
    /// Made from nothing but base layer frames.
    pub sync: bool,
}

/// Reads a payload that the simulation's encoder made and the shard has rewritten.
pub fn read(payload: &[u8]) -> (Descriptor, Identity) {
    assert_eq!(payload[0] & 0x8f, 0x80, "X is set, partition 0");
    assert_eq!(payload[1], 0xf0, "I, L, T and K are set");
    let start = payload[0] & 0x10 != 0;
    let (bits, id, rest) = match payload[2] & 0x80 {
        0 => (7, u16::from(payload[2]), 3),
        _ => (15, u16::from_be_bytes([payload[2] & 0x7f, payload[3]]), 4),
    };
    let descriptor = Descriptor {
        start,
        bits,
        id,
        tl0: payload[rest],
        key: payload[rest + 1] & 0x1f,
        tid: payload[rest + 1] >> 6,
        sync: payload[rest + 1] & 0x20 != 0,
    };
    let frame = &payload[rest + 2..];
    let skip = match (start, frame[0] & 1) {
        (false, _) => 0,
        (true, 0) => 10,
        (true, _) => 3,
    };
    (descriptor, Identity::from_bytes(&frame[skip..]))
}

/// What one video subscription got.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub packets: usize,
    /// (layer, frames) runs in order of the numbers.
    pub layers: Vec<(u8, usize)>,
    /// Sequence numbers that never came.
    pub missing: usize,
    /// The longest time between two arrivals.
    pub longest_gap: Duration,
    /// Frames of which all packets came.
    pub complete: usize,
}

/// Checks everything that must hold for a video subscription, and says what it got.
pub fn check_video(world: &World, of: Subscribed) -> Seen {
    let packets = world.received(of);
    let mut seen = Seen {
        packets: packets.len(),
        ..Seen::default()
    };
    let mut before: Option<Step<'_>> = None;
    let (mut last_seq, mut skipped, mut padded) = (None, 0, false);
    let mut frames: BTreeMap<(u8, u32), u8> = BTreeMap::new();
    for (seq, packet) in packets {
        check_header(packet, of, 100);
        seen.missing += last_seq.map_or(0, |last: u64| (seq - last - 1) as usize);
        skipped += last_seq.map_or(0, |last| seq - last - 1);
        last_seq = Some(seq);
        if packet.payload.is_empty() {
            // Padding that followed a gap.
            padded = true;
            continue;
        }
        let (descriptor, identity) = read(&packet.payload);
        assert_eq!(
            identity.track, of.track,
            "only the track that was asked for"
        );
        assert_eq!(
            descriptor.bits, 15,
            "picture ids are always sent in 15 bits"
        );
        assert_eq!(
            packet.marker,
            identity.index + 1 == identity.count,
            "the marker ends the frame"
        );
        assert_eq!(descriptor.start, identity.index == 0);
        let step = Step {
            seq,
            skipped,
            padded,
            packet,
            descriptor,
            identity,
        };
        match &before {
            None => check_start(&identity, world.lossless_down),
            Some(before) => check_step(before, &step, world),
        }
        match seen.layers.last_mut() {
            Some((layer, frames)) if *layer == identity.layer => {
                *frames += usize::from(descriptor.start)
            }
            _ => seen.layers.push((identity.layer, 1)),
        }
        *frames.entry((identity.layer, identity.frame)).or_default() += 1;
        seen.complete += usize::from(frames[&(identity.layer, identity.frame)] == identity.count);
        (before, skipped, padded) = (Some(step), 0, false);
    }
    let mut arrivals: Vec<_> = world
        .received(of)
        .iter()
        .map(|(_, packet)| packet.at)
        .collect();
    arrivals.sort_unstable();
    seen.longest_gap = arrivals
        .windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap_or_default();
    seen
}

fn check_header(packet: &Received, of: Subscribed, payload_type: u8) {
    assert_eq!(
        packet.payload_type, payload_type,
        "the subscriber's own payload type"
    );
    for (id, data) in &packet.extensions {
        match id {
            9 => assert_eq!(data, of.mid.as_bytes(), "the subscriber's own mid"),
            5 => assert_eq!(
                data,
                &[0x80 | packet.payload[6]],
                "the audio level as it was"
            ),
            6 => assert_eq!(data.len(), 2, "a transport-wide number of the focus's own"),
            _ => panic!("extension {id} leaks"),
        }
    }
    assert!(
        packet.extensions.iter().any(|(id, _)| *id == 9),
        "the mid is there"
    );
}

/// One media packet among those of its subscription.
struct Step<'a> {
    seq: u64,
    /// Numbers since the media packet before it that never came; padding that came is none of them.
    skipped: u64,
    /// Whether padding came since then; before it the source itself may have lost something.
    padded: bool,
    packet: &'a Received,
    descriptor: Descriptor,
    identity: Identity,
}

fn check_start(first: &Identity, lossless: bool) {
    // A way down that loses may lose the whole keyframe, and then nobody can tell.
    let starts = first.keyframe && first.index == 0;
    assert!(
        starts || !lossless,
        "starts at a keyframe's first packet: {first:?}"
    );
}

/// Two packets that follow each other in the subscriber's numbers. Others may have been lost between them.
fn check_step(before: &Step<'_>, after: &Step<'_>, world: &World) {
    let (from, to) = (&before.identity, &after.identity);
    assert!(after.seq > before.seq, "number {} twice", before.seq);
    let ahead = after.packet.timestamp.wrapping_sub(before.packet.timestamp) as i32;
    if from.layer == to.layer && from.frame == to.frame && from.captured_ms == to.captured_ms {
        assert_eq!(ahead, 0, "one frame has one time");
        assert_eq!(before.descriptor.id, after.descriptor.id);
        let steps = u64::from(to.index) - u64::from(from.index);
        assert_eq!(
            steps,
            after.seq - before.seq,
            "within a frame nothing is skipped"
        );
        return;
    }
    assert!(
        ahead > 0,
        "time goes forward from frame to frame: {from:?} {to:?}"
    );
    let captured = i64::from(to.captured_ms) - i64::from(from.captured_ms);
    let off = i64::from(ahead) / 90 - captured;
    // Without sender reports the arrivals decide, and they are as exact as the network.
    let tolerance = 60 + 2 * world.worst_jitter.as_millis() as i64;
    assert!(
        off.abs() <= tolerance,
        "time follows the capture: {off} ms off between {from:?} and {to:?}"
    );
    let pictures = after.descriptor.id.wrapping_sub(before.descriptor.id) & 0x7fff;
    let tl0 = after.descriptor.tl0.wrapping_sub(before.descriptor.tl0);
    let adjacent = after.skipped == 0;
    if (from.layer, from.source) == (to.layer, to.source) {
        if adjacent && !after.padded {
            // Nothing is missing between them, so a frame of which the publisher's next is left out closes up with it.
            assert_eq!(
                (pictures, tl0),
                (1, u8::from(to.tid == 0)),
                "pictures are counted: {from:?} {to:?}"
            );
        }
        return;
    }
    if adjacent || world.lossless_down {
        assert!(
            to.keyframe && to.index == 0,
            "switches at a keyframe's first packet: {to:?} after {from:?}"
        );
        assert_eq!(
            (pictures, tl0),
            (1, 1),
            "pictures are counted over the switch: {from:?} {to:?} at {} and {}",
            before.seq,
            after.seq
        );
        assert_eq!(
            after.descriptor.key.wrapping_sub(before.descriptor.key) & 0x1f,
            1
        );
        assert!(
            after.padded || after.skipped == u64::from(!before.packet.marker),
            "a hole behind a cut frame, and only there"
        );
    }
}

/// Checks an audio subscription; how many packets it got, and how many numbers are missing.
pub fn check_audio(world: &World, of: Subscribed) -> (usize, usize) {
    let packets = world.received(of);
    let number = |packet: &Received| u32::from_be_bytes(packet.payload[2..6].try_into().unwrap());
    for (_, packet) in &packets {
        check_header(packet, of, 109);
        assert_eq!(packet.payload[1], of.track);
    }
    for pair in packets.windows(2) {
        let ((seq0, packet0), (seq1, packet1)) = (pair[0], pair[1]);
        let steps = number(packet1).wrapping_sub(number(packet0));
        assert_eq!(u64::from(steps), seq1 - seq0);
        assert_eq!(
            packet1.timestamp.wrapping_sub(packet0.timestamp),
            steps * 960
        );
    }
    let span = packets.last().map_or(0, |last| last.0 + 1 - packets[0].0);
    (packets.len(), span as usize - packets.len())
}

/// What must hold whoever subscribed to what.
pub fn check_world(world: &World) {
    // The network may bring two datagrams closer together than they were sent.
    let jitter = world.worst_jitter;
    for peer in &world.peers {
        let mut contents: BTreeMap<(u32, u64), &[u8]> = BTreeMap::new();
        let mut ssrcs: Vec<u32> = peer.received.iter().map(|packet| packet.ssrc).collect();
        ssrcs.sort_unstable();
        ssrcs.dedup();
        for ssrc in ssrcs {
            for (seq, packet) in in_order(peer.received.iter().filter(|packet| packet.ssrc == ssrc))
            {
                let before = contents.insert((ssrc, seq), &packet.sealed);
                assert!(
                    before.is_none_or(|before| before == packet.sealed),
                    "one number, two contents"
                );
            }
        }
        // Of SSRCs that have been replaced it is not known which layer they fed.
        let upper = peer
            .video
            .iter()
            .flat_map(|of| of.layers.iter().take(of.layers.len().max(2) - 1));
        let upper: Vec<u32> = upper.map(|layer| layer.ssrc).collect();
        for (at, ssrc) in &peer.told.plis {
            let least = if upper.contains(ssrc) { 500 } else { 200 } * MS;
            let close =
                peer.told.plis.iter().filter(|(other, of)| {
                    of == ssrc && other > at && *other - *at + jitter < least
                });
            assert_eq!(
                close.count(),
                0,
                "keyframe requests come no faster than every {least:?}"
            );
        }
    }
    assert!(
        world.buffers_out() <= world.history_packets_max + 1024,
        "the history is bounded"
    );
}
