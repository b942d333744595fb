//! One participant: its end of ICE and SRTP, what it publishes, and everything that reached it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir_shard::{IceCredentials, MasterKey, Profile, TransportId};
use weir_srtp::{Receiver, Sender};
use weir_wire::extension::Element;
use weir_wire::rtcp::{self, Compound, ReportBlock, SenderInfo};
use weir_wire::rtp::{self, Packet};
use weir_wire::stun::{BindingRequest, Key, Role, TransactionId};
use weir_wire::{ExtSeq, Kind, RtpTime, Seq};

use super::browser::{Browser, Say};
use super::media::{AudioSource, Plain, VideoSource};
use super::tap::Tap;

/// A media packet as it reached a participant.
#[derive(Clone, Debug)]
pub struct Received {
    pub at: Instant,
    pub ssrc: u32,
    pub seq: u16,
    pub timestamp: u32,
    pub marker: bool,
    pub payload_type: u8,
    pub extensions: Vec<(u8, Vec<u8>)>,
    pub payload: Vec<u8>,
    /// As it was on the wire.
    pub sealed: Vec<u8>,
}

impl Received {
    /// Reads a decrypted packet.
    pub fn parse(plain: &[u8], sealed: Vec<u8>, at: Instant) -> Self {
        let packet = Packet::parse(plain).expect("the focus sends good RTP");
        let header = packet.header();
        Self {
            at,
            ssrc: header.ssrc,
            seq: header.sequence_number.0,
            timestamp: header.timestamp.0,
            marker: header.marker,
            payload_type: header.payload_type,
            extensions: packet
                .extensions()
                .map(|of| (of.id, of.data.to_vec()))
                .collect(),
            payload: packet.payload().to_vec(),
            sealed,
        }
    }
}

/// Transport-wide numbers, and when they arrived in microseconds.
pub type Statuses = Vec<(u16, Option<i64>)>;

/// Everything a participant was told by RTCP.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub plis: Vec<(Instant, u32)>,
    pub nacks: Vec<(Instant, u32, Vec<u16>)>,
    pub reports: Vec<(Instant, ReportBlock)>,
    pub sender_reports: Vec<(Instant, u32, SenderInfo)>,
    pub cnames: Vec<(u32, String)>,
    /// Transport-wide numbers and when they arrived in microseconds, if they did.
    pub feedback: Vec<(Instant, Statuses)>,
}

pub struct Peer {
    pub id: TransportId,
    pub address: SocketAddr,
    pub number: u8,
    pub sender: Sender,
    pub receiver: Receiver,
    pub video: Vec<VideoSource>,
    pub audio: Vec<AudioSource>,
    pub received: Vec<Received>,
    /// Set for those that receive as browsers do.
    pub browser: Option<Browser>,
    /// What left the shard for it.
    pub tap: Option<Tap>,
    /// What it asked for again: when, of which SSRC, which numbers.
    pub asked: Vec<(Instant, u32, Vec<u16>)>,
    pub told: Told,
    pub plis_answered: usize,
    pub nacks_answered: usize,
    pub answers: Vec<Vec<u8>>,
    pub plain: Vec<Vec<u8>>,
    /// The next transport-wide number.
    pub wide: u16,
    /// When each transport-wide number was sent.
    pub wide_sent: Vec<Instant>,
    /// Whether mid and rid are still sent.
    pub names: bool,
    transaction: u32,
}

pub const PROFILE: Profile = Profile::AeadAes128Gcm;

/// The key of the focus's end of a participant's transport, and of the participant's own end.
pub fn keys(number: u8) -> (MasterKey, MasterKey) {
    let key = |side: u8| MasterKey::new(PROFILE, &[number ^ side; 16], &[side; 12]).unwrap();
    (key(0x5a), key(0xa5))
}

pub fn credentials(number: u8, generation: u8) -> IceCredentials {
    IceCredentials {
        local_ufrag: format!("weir{number}g{generation}"),
        local_pwd: format!("password-of-the-focus-{number}-{generation}"),
        remote_ufrag: format!("peer{number}g{generation}"),
        remote_pwd: "password-of-the-peer-not-used".into(),
    }
}

impl Peer {
    pub fn new(number: u8) -> Self {
        let (focus, own) = keys(number);
        Self {
            id: TransportId(100 + u32::from(number)),
            address: SocketAddr::from(([192, 0, 2, number], 5000 + u16::from(number))),
            number,
            sender: Sender::new(&own),
            receiver: Receiver::new(&focus, 1024),
            video: Vec::new(),
            audio: Vec::new(),
            received: Vec::new(),
            browser: None,
            tap: None,
            asked: Vec::new(),
            told: Told::default(),
            plis_answered: 0,
            nacks_answered: 0,
            answers: Vec::new(),
            plain: Vec::new(),
            wide: 65_000,
            wide_sent: Vec::new(),
            names: true,
            transaction: 0,
        }
    }

    /// A connectivity check.
    pub fn check(&mut self, generation: u8, use_candidate: bool) -> Vec<u8> {
        let ice = credentials(self.number, generation);
        self.check_with(
            &ice.local_ufrag,
            &ice.remote_ufrag,
            &ice.local_pwd,
            use_candidate,
        )
    }

    pub fn check_with(
        &mut self,
        local: &str,
        remote: &str,
        password: &str,
        use_candidate: bool,
    ) -> Vec<u8> {
        self.transaction += 1;
        let mut id = [self.number; 12];
        id[..4].copy_from_slice(&self.transaction.to_be_bytes());
        let request = BindingRequest {
            transaction_id: TransactionId(id),
            username: &format!("{local}:{remote}"),
            priority: 1,
            role: Role::Controlling { tie_breaker: 7 },
            use_candidate,
        };
        let mut out = vec![0; 600];
        let len = request.emit(&Key::new(password), &mut out).unwrap();
        out.truncate(len);
        out
    }

    /// Seals one media packet.
    pub fn seal(&mut self, mid: &str, plain: &Plain, now: Instant) -> Vec<u8> {
        let wide = self.wide.to_be_bytes();
        self.wide = self.wide.wrapping_add(1);
        self.wide_sent.push(now);
        let level = plain.audio_level.map(|level| [level]);
        let mut elements = vec![
            Element { id: 3, data: &wide },
            Element {
                id: 2,
                data: &[1, 2, 3],
            },
        ];
        if self.names {
            elements.push(Element {
                id: 4,
                data: mid.as_bytes(),
            });
            elements.extend(plain.rid.map(|rid| Element {
                id: 10,
                data: rid.as_bytes(),
            }));
            elements.extend(plain.repaired_rid.map(|rid| Element {
                id: 11,
                data: rid.as_bytes(),
            }));
        }
        elements.extend(level.as_ref().map(|level| Element { id: 1, data: level }));
        let header = rtp::Outgoing {
            marker: plain.marker,
            payload_type: plain.payload_type,
            sequence_number: Seq(plain.seq as u16),
            timestamp: RtpTime(plain.timestamp),
            ssrc: plain.ssrc,
            has_padding: plain.padding > 0,
        };
        let (mut head, mut out) = ([0; 100], vec![0; 1600]);
        let head_len = header.emit(&elements, &mut head).unwrap();
        let mut payload = plain.payload.clone();
        if plain.padding > 0 {
            payload.resize(payload.len() + usize::from(plain.padding), 0);
            *payload.last_mut().unwrap() = plain.padding;
        }
        let len = self
            .sender
            .protect_rtp(&head[..head_len], &payload, ExtSeq(plain.seq), &mut out)
            .unwrap();
        out.truncate(len);
        out
    }

    /// Seals one compound RTCP packet.
    pub fn seal_rtcp(&mut self, write: impl FnOnce(&mut rtcp::Writer<'_>)) -> Vec<u8> {
        let (mut plain, mut out) = ([0; 1400], vec![0; 1500]);
        let mut writer = rtcp::Writer::new(&mut plain);
        write(&mut writer);
        let len = writer.len();
        let len = self.sender.protect_rtcp(&plain[..len], &mut out).unwrap();
        out.truncate(len);
        out
    }

    /// Takes a datagram from the focus; returns what to say to it at once.
    pub fn receive(
        &mut self,
        mut datagram: Vec<u8>,
        since_start: Duration,
        now: Instant,
    ) -> Vec<Say> {
        match Kind::of(&datagram) {
            Kind::Stun => self.answers.push(datagram),
            Kind::Rtcp => {
                match self.receiver.unprotect_rtcp(&mut datagram) {
                    Ok(len) => self.note_rtcp(&datagram[..len], now),
                    // The network's duplicate.
                    Err(error) => assert_eq!(error, weir_srtp::Error::Replayed),
                }
            }
            Kind::Rtp => return self.note_rtp(datagram, since_start, now),
            _ => self.plain.push(datagram),
        }
        Vec::new()
    }

    fn note_rtp(&mut self, mut datagram: Vec<u8>, since_start: Duration, now: Instant) -> Vec<Say> {
        let sealed = datagram.clone();
        let Ok(unprotected) = self.receiver.unprotect_rtp(&mut datagram) else {
            // A duplicate of the network or a resend of what did arrive; it still has to be the same as the first.
            let packet = rtp::Header::parse(&sealed).unwrap();
            let same = self
                .received
                .iter()
                .rev()
                .find(|of| of.ssrc == packet.ssrc && of.seq == packet.sequence_number.0);
            assert!(
                same.is_none_or(|of| of.sealed == sealed),
                "one number, two contents"
            );
            return Vec::new();
        };
        let packet = Received::parse(&datagram[..unprotected.len], sealed, now);
        let Some(browser) = &mut self.browser else {
            self.received.push(packet);
            return Vec::new();
        };
        let (new, say) = browser.receive(packet, since_start, now);
        self.received.extend(new);
        say
    }

    fn note_rtcp(&mut self, plain: &[u8], now: Instant) {
        for packet in Compound::parse(plain)
            .expect("the focus sends good RTCP")
            .packets()
        {
            match packet.expect("the focus sends good RTCP") {
                rtcp::Packet::Pli(pli) => self.told.plis.push((now, pli.media_ssrc)),
                rtcp::Packet::Nack(nack) => {
                    self.told.nacks.push((
                        now,
                        nack.media_ssrc,
                        nack.seqs().map(|seq| seq.0).collect(),
                    ));
                }
                rtcp::Packet::ReceiverReport(report) => {
                    self.told
                        .reports
                        .extend(report.reports().map(|block| (now, block)));
                }
                rtcp::Packet::SenderReport(report) => {
                    self.told
                        .sender_reports
                        .push((now, report.ssrc, report.info))
                }
                rtcp::Packet::Sdes(sdes) => {
                    let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
                    self.told
                        .cnames
                        .extend(sdes.cnames().map(|(ssrc, name)| (ssrc, text(name))));
                }
                rtcp::Packet::TransportFeedback(feedback) => {
                    let arrivals = feedback.arrivals().map(|(seq, at)| (seq.0, at)).collect();
                    self.told.feedback.push((now, arrivals));
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}
