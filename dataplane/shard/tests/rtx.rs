//! Retransmissions on a stream of their own, transport-wide numbers, and what a loss that cannot be mended comes to.

mod support;

use support::peer::Received;
use support::{Link, MS, Rng, SECOND, VideoSource, World};
use weir_shard::{Codec, CodecMapping, Command, Subscribe, SubscriptionId, TrackId};
use weir_wire::Seq;
use weir_wire::rtcp::{ReportBlock, twcc};

const MEDIA: u32 = 0xf000_0001;
const RTX: u32 = 777;

/// A camera that sends three packets a frame, and a subscriber that takes retransmissions on their own SSRC.
struct Call {
    world: World,
    publisher: usize,
    subscriber: usize,
}

impl Call {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let (publisher, subscriber) = (world.join(), world.join());
        let camera = VideoSource::single(1, "1", &mut Rng::new(seed));
        world.publish_video(publisher, camera);
        let mut call = Self {
            world,
            publisher,
            subscriber,
        };
        call.subscribe(1);
        call.world.run(SECOND);
        call
    }

    fn subscribe(&mut self, id: u32) {
        let vp8 = CodecMapping {
            payload_type: 100,
            codec: Codec::Vp8,
            clock_rate: 90_000,
            rtx_payload_type: Some(101),
        };
        self.world.command(Command::Subscribe(Subscribe {
            id: SubscriptionId(id),
            transport: self.world.peers[self.subscriber].id,
            track: TrackId(1),
            mid: "s7".into(),
            ssrc: MEDIA,
            rtx_ssrc: Some(RTX),
            cname: "publisher".into(),
            codecs: vec![vp8],
            extensions: World::subscriber_extensions(),
            wanted: None,
        }));
    }

    fn of(&self, ssrc: u32) -> Vec<Received> {
        let received = self.world.peers[self.subscriber].received.iter();
        received.filter(|of| of.ssrc == ssrc).cloned().collect()
    }

    fn nack(&mut self, missing: &[u16]) {
        let missing: Vec<Seq> = missing.iter().map(|seq| Seq(*seq)).collect();
        let peer = &mut self.world.peers[self.subscriber];
        let bytes = peer.seal_rtcp(|writer| writer.nack(1, MEDIA, &missing).unwrap());
        self.world.send_sealed(self.subscriber, bytes);
        self.world.run(20 * MS);
    }

    /// Feedback about the last numbers: the newest arrived, those before did not.
    fn feed_back(&mut self, newest: u16, lost: u16) {
        let mut arrivals = vec![None; usize::from(lost)];
        arrivals.push(Some(1000));
        let feedback = twcc::Feedback {
            sender_ssrc: 1,
            media_ssrc: MEDIA,
            feedback_count: 0,
            base: Seq(newest.wrapping_sub(lost)),
        };
        let peer = &mut self.world.peers[self.subscriber];
        let bytes = peer.seal_rtcp(|writer| {
            writer.transport_feedback(&feedback, &arrivals).unwrap();
        });
        self.world.send_sealed(self.subscriber, bytes);
        self.world.run(20 * MS);
    }

    fn plis(&self) -> usize {
        self.world.peers[self.publisher].told.plis.len()
    }
}

fn wide(packet: &Received) -> u16 {
    let number = packet.extensions.iter().find(|(id, _)| *id == 6);
    let (_, data) = number.expect("a transport-wide number");
    u16::from_be_bytes([data[0], data[1]])
}

#[test]
fn retransmissions_have_a_stream_of_their_own_and_numbers_without_holes() {
    let mut call = Call::new(1);
    let opening = call.of(RTX);
    let media = call.of(MEDIA);
    let lost: Vec<&Received> = media.iter().rev().take(4).rev().collect();
    call.nack(&[lost[0].seq, lost[2].seq]);
    call.world.run(100 * MS);
    call.nack(&[lost[1].seq, lost[3].seq]);
    let again = call.of(RTX).split_off(opening.len());
    assert_eq!(again.len(), 4);
    for (again, original) in again.iter().zip([lost[0], lost[2], lost[1], lost[3]]) {
        assert_eq!(again.payload_type, 101);
        assert_eq!(again.payload[..2], original.seq.to_be_bytes());
        assert_eq!(again.payload[2..], original.payload);
        assert_eq!(
            (again.timestamp, again.marker),
            (original.timestamp, original.marker)
        );
    }
    let all = call.of(RTX);
    assert!(
        all.windows(2)
            .all(|pair| pair[1].seq == pair[0].seq.wrapping_add(1))
    );
}

#[test]
fn the_first_packet_is_sent_three_times_because_a_receiver_cannot_miss_it() {
    let call = Call::new(2);
    let first = &call.of(MEDIA)[0];
    let opening = call.of(RTX);
    assert_eq!(opening.len(), 2);
    for packet in &opening {
        assert_eq!(packet.payload[2..], first.payload);
        assert!(packet.at - first.at <= 40 * MS);
    }
}

#[test]
fn every_packet_has_its_own_transport_wide_number_and_none_is_left_out() {
    let mut call = Call::new(3);
    let seq = call.of(MEDIA).last().map(|last| last.seq).unwrap();
    call.nack(&[seq]);
    call.world.run(SECOND);
    let mut numbers: Vec<u16> = call.world.peers[call.subscriber]
        .received
        .iter()
        .map(wide)
        .collect();
    assert!(numbers.len() > 100);
    numbers.sort_unstable();
    let all: Vec<u16> = (0..numbers.len() as u16).collect();
    assert_eq!(numbers, all);
}

#[test]
fn a_loss_that_feedback_tells_of_is_mended_unasked_and_once() {
    let mut call = Call::new(4);
    let before = call.of(RTX).len();
    let media = call.of(MEDIA);
    let newest = wide(media.last().unwrap());
    call.feed_back(newest, 1);
    let again = call.of(RTX).split_off(before);
    assert_eq!(again.len(), 1);
    assert_eq!(
        again[0].payload[..2],
        media[media.len() - 2].seq.to_be_bytes()
    );
    // The same feedback again is nothing new, and neither is that a packet is lost which left again since.
    call.feed_back(newest, 1);
    assert_eq!(call.of(RTX).len(), before + 1);
}

#[test]
fn a_packet_that_is_lost_for_good_becomes_a_keyframe_request() {
    let mut call = Call::new(5);
    let lost = call.of(MEDIA).last().map(|last| last.seq).unwrap();
    let plis = call.plis();
    for _ in 0..3 {
        call.nack(&[lost]);
        call.world.run(100 * MS);
    }
    assert_eq!(call.plis(), plis, "as long as there is hope");
    call.nack(&[lost]);
    assert_eq!(call.plis(), plis + 1);
    call.world.run(SECOND);
    call.nack(&[lost]);
    assert_eq!(call.plis(), plis + 1, "the keyframe has mended it");
}

#[test]
fn a_hole_that_the_publisher_does_not_fill_becomes_a_keyframe_request() {
    let mut call = Call::new(6);
    let (plis, nacked) = (call.plis(), call.world.counters.nacks_sent.get());
    // Three frames of three packets are lost on the way up, and no report reaches the publisher.
    call.world.up.loss_per_mille = 1000;
    call.world.run(70 * MS);
    call.world.up.loss_per_mille = 0;
    call.world.ways[call.publisher].down_link = Some(Link::PERFECT.losing(1000));
    call.world.run(1100 * MS);
    let nacked = call.world.counters.nacks_sent.get() - nacked;
    assert!((12..=180).contains(&nacked), "{nacked} numbers reported");
    call.world.ways[call.publisher].down_link = None;
    call.world.run(600 * MS);
    assert_eq!(call.plis(), plis + 1);
}

#[test]
fn a_keyframe_request_that_crosses_a_keyframe_is_answered_by_it() {
    let mut call = Call::new(7);
    let ask = |call: &mut Call| {
        let peer = &mut call.world.peers[call.subscriber];
        let bytes = peer.seal_rtcp(|writer| writer.pli(1, MEDIA).unwrap());
        call.world.send_sealed(call.subscriber, bytes);
    };
    let keyframes = |call: &Call| call.world.counters.keyframes_received.get();
    call.world.run(SECOND);
    let (before, plis) = (keyframes(&call), call.plis());
    ask(&mut call);
    while keyframes(&call) == before {
        call.world.run(MS);
    }
    call.world.run(20 * MS);
    ask(&mut call);
    call.world.run(SECOND);
    assert_eq!(call.plis(), plis + 1);
    ask(&mut call);
    call.world.run(SECOND);
    assert_eq!(call.plis(), plis + 2, "a new need later on");
}

#[test]
fn both_streams_go_on_where_they_ended_when_their_ssrcs_come_back() {
    let mut call = Call::new(8);
    let last = call.of(MEDIA).last().map(|last| last.seq).unwrap();
    call.nack(&[last]);
    let ends = |call: &Call| {
        let (media, rtx) = (call.of(MEDIA), call.of(RTX));
        (
            media.len(),
            media.last().unwrap().seq,
            rtx.len(),
            rtx.last().unwrap().seq,
        )
    };
    call.world.command(Command::Unsubscribe {
        id: SubscriptionId(1),
    });
    call.world.run(50 * MS);
    let (media, media_end, rtx, rtx_end) = ends(&call);
    call.subscribe(2);
    call.world.run(SECOND);
    assert_eq!(call.of(MEDIA)[media].seq, media_end.wrapping_add(1));
    assert_eq!(call.of(RTX)[rtx].seq, rtx_end.wrapping_add(1));
}

#[test]
fn the_worst_round_trip_is_in_the_metrics() {
    let mut call = Call::new(9);
    call.world.down.delay = 30 * MS;
    call.world.up.delay = 20 * MS;
    call.world.run(4 * SECOND);
    let (_, ssrc, info) = *call.world.peers[call.subscriber]
        .told
        .sender_reports
        .last()
        .expect("a sender report");
    let block = ReportBlock {
        ssrc,
        fraction_lost: 64,
        cumulative_lost: 7,
        highest_sequence: 1,
        jitter: 900,
        last_sr: (info.ntp >> 16) as u32,
        delay_since_last_sr: 0,
    };
    let peer = &mut call.world.peers[call.subscriber];
    let bytes = peer.seal_rtcp(|writer| writer.receiver_report(1, &[block]).unwrap());
    call.world.send_sealed(call.subscriber, bytes);
    call.world.run(600 * MS);
    let of = &call.world.counters;
    assert_eq!(of.lost_down_per_mille_max.get(), 250);
    assert_eq!(of.jitter_down_us_max.get(), 10_000);
    // The report was not sent at once, and says that it was.
    assert!((50_000..1_100_000).contains(&of.round_trip_us_max.get()));
}
