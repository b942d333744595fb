//! What left the shard for one participant, read before the network could lose any of it, and the rules that hold for it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir_srtp::Receiver;
use weir_wire::Kind;

use super::media::Identity;
use super::oracle::read;
use super::peer::keys;
use super::world::RTX;
use super::{MS, Received};

/// What a packet was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Audio,
    Video,
    /// Sent again, by RTX or as it was.
    Again,
    /// Padding only, to learn how much fits.
    Probe,
}

#[derive(Clone, Copy, Debug)]
pub struct Departed {
    pub at: Instant,
    pub bytes: usize,
    pub what: What,
}

/// One media packet that left.
#[derive(Clone, Debug)]
pub struct Left {
    pub at: Instant,
    pub identity: Option<Identity>,
    payload: Vec<u8>,
    timestamp: u32,
    marker: bool,
    wide: Option<u16>,
    pub again: Vec<Instant>,
}

pub struct Tap {
    receiver: Receiver,
    pub departed: Vec<Departed>,
    /// By media SSRC and number; the numbers of one SSRC wrap after half an hour.
    pub left: BTreeMap<(u32, u16), Left>,
    rtx_numbers: BTreeMap<u32, u16>,
    wide: Option<u16>,
}

impl Tap {
    pub fn new(number: u8) -> Self {
        Self {
            receiver: Receiver::new(&keys(number).0, 1024),
            departed: Vec::new(),
            left: BTreeMap::new(),
            rtx_numbers: BTreeMap::new(),
            wide: None,
        }
    }

    /// Notes a datagram, and checks what must hold for each.
    pub fn note(&mut self, datagram: &[u8], now: Instant) {
        if Kind::of(datagram) != Kind::Rtp {
            return;
        }
        let mut plain = datagram.to_vec();
        let what = match self.receiver.unprotect_rtp(&mut plain) {
            Ok(unprotected) => {
                let packet = Received::parse(&plain[..unprotected.len], Vec::new(), now);
                self.check_wide(&packet);
                self.note_new(packet, now)
            }
            Err(_) => {
                let header = weir_wire::rtp::Header::parse(datagram).expect("good RTP");
                self.note_again(header.ssrc, header.sequence_number.0, now);
                What::Again
            }
        };
        self.departed.push(Departed {
            at: now,
            bytes: datagram.len(),
            what,
        });
    }

    /// Transport-wide numbers count every packet.
    fn check_wide(&mut self, packet: &Received) {
        let number = wide(packet).expect("every packet has a transport-wide number");
        assert!(
            self.wide.is_none_or(|last| number == last.wrapping_add(1)),
            "transport-wide {number} after {:?}",
            self.wide
        );
        self.wide = Some(number);
    }

    fn note_new(&mut self, packet: Received, now: Instant) -> What {
        if packet.payload_type == 101 {
            return self.note_rtx(&packet, now);
        }
        let what = if packet.payload_type == 109 {
            What::Audio
        } else {
            What::Video
        };
        let identity =
            (what == What::Video && !packet.payload.is_empty()).then(|| read(&packet.payload).1);
        let left = Left {
            at: now,
            identity,
            wide: wide(&packet),
            timestamp: packet.timestamp,
            marker: packet.marker,
            payload: packet.payload,
            again: Vec::new(),
        };
        self.left.insert((packet.ssrc, packet.seq), left);
        what
    }

    fn note_rtx(&mut self, packet: &Received, now: Instant) -> What {
        let last = self.rtx_numbers.insert(packet.ssrc, packet.seq);
        assert!(
            last.is_none_or(|last| packet.seq == last.wrapping_add(1)),
            "retransmissions have numbers of their own without gaps"
        );
        let media = packet.ssrc ^ RTX;
        let Some((number, payload)) = packet.payload.split_first_chunk::<2>() else {
            return What::Probe;
        };
        let number = u16::from_be_bytes(*number);
        let left = self
            .left
            .get(&(media, number))
            .expect("only what was sent is sent again");
        assert_eq!(
            (payload, packet.timestamp, packet.marker),
            (&left.payload[..], left.timestamp, left.marker),
            "sent again as it was"
        );
        self.note_again(media, number, now);
        What::Again
    }

    fn note_again(&mut self, ssrc: u32, number: u16, now: Instant) {
        let left = self
            .left
            .get_mut(&(ssrc, number))
            .expect("only what was sent is sent again");
        let last = left.again.last().copied().unwrap_or(left.at);
        // The shard counts whole milliseconds.
        assert!(now - last > 9 * MS, "again after {:?}", now - last);
        left.again.push(now);
        assert!(left.again.len() <= 3, "again {} times", left.again.len());
    }

    /// Bytes of `kinds` that left between two instants.
    pub fn bytes(&self, kinds: &[What], from: Instant, to: Instant) -> usize {
        let first = self.departed.partition_point(|of| of.at < from);
        let within = self.departed[first..].iter().take_while(|of| of.at < to);
        within
            .filter(|of| kinds.contains(&of.what))
            .map(|of| of.bytes)
            .sum()
    }

    /// The most bytes of `kinds` that left within `window`, from `from` on.
    pub fn burst(&self, kinds: &[What], from: Instant, window: Duration) -> usize {
        let of: Vec<&Departed> = self
            .departed
            .iter()
            .filter(|of| of.at >= from && kinds.contains(&of.what))
            .collect();
        let (mut first, mut sum, mut most) = (0, 0, 0);
        for last in &of {
            sum += last.bytes;
            while last.at - of[first].at >= window {
                sum -= of[first].bytes;
                first += 1;
            }
            most = most.max(sum);
        }
        most
    }
}

fn wide(packet: &Received) -> Option<u16> {
    let (_, data) = packet.extensions.iter().find(|(id, _)| *id == 6)?;
    Some(u16::from_be_bytes([data[0], data[1]]))
}
