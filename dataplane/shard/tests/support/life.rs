//! What participants do by themselves: frames, sound, reports, checks, and asking again for what is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use weir_wire::rtcp::twcc::Feedback;
use weir_wire::rtcp::{ReportBlock, SenderInfo};
use weir_wire::{RtpTime, Seq};

use super::browser::Say;
use super::nack;
use super::world::{InFlight, World};
use super::{MS, SECOND};

impl World {
    pub(super) fn happen(&mut self, what: InFlight) {
        match what {
            InFlight::ToShard(path, bytes) => self.hand_over(path, &bytes),
            InFlight::ToPeer(peer, bytes) => self.arrive(peer, bytes),
            InFlight::Frame { peer, video, layer } => self.frame(peer, video, layer),
            InFlight::Audio { peer, audio } => self.audio(peer, audio),
            InFlight::Reports { peer } => self.reports(peer),
            InFlight::Check { peer } => self.check(peer),
            InFlight::AskAgain { peer } => self.ask_again(peer),
            InFlight::Browse { peer } => self.browse_on(peer),
        }
    }

    fn arrive(&mut self, peer: usize, bytes: Vec<u8>) {
        let say = self.peers[peer].receive(bytes, self.now - self.start, self.now);
        self.say(peer, say);
        self.answer_requests(peer);
    }

    /// What a browser does by time alone.
    fn browse_on(&mut self, peer: usize) {
        self.schedule(nack::INTERVAL, InFlight::Browse { peer });
        let (since_start, now) = (self.now - self.start, self.now);
        if let Some(browser) = self.peers[peer].browser.as_mut().filter(|_| self.alive) {
            let say = browser.due(since_start, now);
            self.say(peer, say);
        }
    }

    fn say(&mut self, peer: usize, list: Vec<Say>) {
        for say in list {
            let of = &mut self.peers[peer];
            if let Say::Nack(ssrc, missing) = &say {
                of.asked.push((self.now, *ssrc, missing.clone()));
            }
            let bytes = of.seal_rtcp(|writer| match say {
                Say::Nack(ssrc, missing) => {
                    let missing: Vec<Seq> = missing.into_iter().map(Seq).collect();
                    writer.nack(1, ssrc, &missing).unwrap();
                }
                Say::Pli(ssrc) => writer.pli(1, ssrc).unwrap(),
                Say::Feedback(base, arrivals) => {
                    let feedback = Feedback {
                        sender_ssrc: 1,
                        media_ssrc: 1,
                        feedback_count: 0,
                        base: Seq(base),
                    };
                    writer.transport_feedback(&feedback, &arrivals).unwrap();
                }
            });
            self.send_sealed(peer, bytes);
        }
    }

    fn check(&mut self, peer: usize) {
        if self.alive {
            let check = self.peers[peer].check(0, true);
            self.send_sealed(peer, check);
        }
        self.schedule(SECOND * 2, InFlight::Check { peer });
    }

    fn frame(&mut self, peer: usize, video: usize, layer: usize) {
        let (start, now) = (self.start, self.now);
        let of = &mut self.peers[peer].video[video];
        let (mid, track, interval) = (of.mid, of.track, of.layers[layer].interval());
        if of.layers[layer].on {
            for plain in of.layers[layer].encode(track, layer as u8, start, now) {
                self.send(peer, mid, &plain);
            }
        }
        self.schedule(interval, InFlight::Frame { peer, video, layer });
    }

    /// Does what PLIs and NACKs ask the publisher for.
    fn answer_requests(&mut self, peer: usize) {
        let of = &mut self.peers[peer];
        if (of.plis_answered, of.nacks_answered) == (of.told.plis.len(), of.told.nacks.len()) {
            return;
        }
        let mut again = Vec::new();
        for video in &mut of.video {
            for layer in &mut video.layers {
                layer.keyframe_wanted |= of.told.plis[of.plis_answered..]
                    .iter()
                    .any(|(_, ssrc)| *ssrc == layer.ssrc);
                let own = layer.ssrc;
                for (_, _, seqs) in of.told.nacks[of.nacks_answered..]
                    .iter()
                    .filter(|(_, ssrc, _)| *ssrc == own)
                {
                    let packets = seqs.iter().filter_map(|seq| layer.again(*seq, video.rtx));
                    again.extend(packets.map(|plain| (video.mid, plain)));
                }
            }
        }
        (of.plis_answered, of.nacks_answered) = (of.told.plis.len(), of.told.nacks.len());
        for (mid, plain) in again {
            self.send(peer, mid, &plain);
        }
    }

    /// Asks again for what is missing among the last packets of every stream, as a browser does.
    fn ask_again(&mut self, peer: usize) {
        self.schedule(30 * MS, InFlight::AskAgain { peer });
        if !self.nacks || self.peers[peer].browser.is_some() {
            return;
        }
        let mut ssrcs: Vec<u32> = self.peers[peer]
            .received
            .iter()
            .rev()
            .take(300)
            .map(|packet| packet.ssrc)
            .collect();
        ssrcs.sort_unstable();
        ssrcs.dedup();
        for ssrc in ssrcs {
            let recent = self.peers[peer]
                .received
                .iter()
                .rev()
                .filter(|packet| packet.ssrc == ssrc)
                .take(100);
            let have: BTreeSet<u64> = super::oracle::in_order(recent)
                .iter()
                .map(|(seq, _)| *seq)
                .collect();
            let (Some(first), Some(last)) = (have.first().copied(), have.last().copied()) else {
                continue;
            };
            let missing: Vec<Seq> = (first..last)
                .filter(|seq| !have.contains(seq))
                .map(|seq| Seq(seq as u16))
                .collect();
            if !missing.is_empty() {
                let bytes =
                    self.peers[peer].seal_rtcp(|writer| writer.nack(1, ssrc, &missing).unwrap());
                self.send_sealed(peer, bytes);
            }
        }
    }

    fn audio(&mut self, peer: usize, audio: usize) {
        let (start, now) = (self.start, self.now);
        let of = &mut self.peers[peer].audio[audio];
        let mid = of.mid;
        if of.on {
            let plain = of.encode(start, now);
            self.send(peer, mid, &plain);
        }
        self.schedule(20 * MS, InFlight::Audio { peer, audio });
    }

    /// Sender reports of everything published, with the participant's own wall clock.
    fn reports(&mut self, peer: usize) {
        self.schedule(SECOND, InFlight::Reports { peer });
        if !self.alive {
            return;
        }
        let since = self.now - self.start;
        let own_clock = Duration::from_secs(3_000_000 + 1000 * peer as u64) + since;
        let ntp = (own_clock.as_secs() << 32)
            | ((u64::from(own_clock.subsec_nanos()) << 32) / 1_000_000_000);
        self.report_reception(peer);
        let of = &self.peers[peer];
        let video = of
            .video
            .iter()
            .flat_map(|of| of.layers.iter())
            .filter(|layer| layer.on);
        let mut list: Vec<(u32, u32)> = video
            .map(|layer| (layer.ssrc, layer.rtp_time(since)))
            .collect();
        list.extend(
            of.audio
                .iter()
                .filter(|of| of.on)
                .map(|of| (of.ssrc, of.rtp_time(since))),
        );
        for (ssrc, rtp_time) in list {
            let info = SenderInfo {
                ntp,
                rtp_time: RtpTime(rtp_time),
                packet_count: 1,
                octet_count: 1,
            };
            let bytes = self.peers[peer]
                .seal_rtcp(|writer| writer.sender_report(ssrc, &info, &[]).unwrap());
            self.send_sealed(peer, bytes);
        }
    }

    /// A browser's receiver reports on everything that it gets.
    fn report_reception(&mut self, peer: usize) {
        let (now, of) = (self.now, &mut self.peers[peer]);
        let Some(browser) = &mut of.browser else {
            return;
        };
        let mut blocks = Vec::new();
        for (ssrc, count) in &mut browser.counts {
            let last = of
                .told
                .sender_reports
                .iter()
                .rev()
                .find(|(_, of, _)| of == ssrc);
            let (last_sr, delay) = last.map_or((0, 0), |(at, _, info)| {
                let delay = (now - *at).as_micros() * 65_536 / 1_000_000;
                ((info.ntp >> 16) as u32, delay as u32)
            });
            blocks.push(ReportBlock {
                ssrc: *ssrc,
                fraction_lost: count.fraction_lost(),
                cumulative_lost: count.lost(),
                highest_sequence: count.highest as u32,
                jitter: 0,
                last_sr,
                delay_since_last_sr: delay,
            });
        }
        for blocks in blocks.chunks(24) {
            let bytes =
                self.peers[peer].seal_rtcp(|writer| writer.receiver_report(1, blocks).unwrap());
            self.send_sealed(peer, bytes);
        }
    }
}
