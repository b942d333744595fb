//! What participants do by themselves: frames, sound, reports, checks, and asking again for what is missing.

use std::collections::BTreeSet;
use std::time::Duration;

use weir_wire::rtcp::SenderInfo;
use weir_wire::{RtpTime, Seq};

use super::world::{InFlight, World};
use super::{MS, SECOND};

impl World {
    pub(super) fn happen(&mut self, what: InFlight) {
        match what {
            InFlight::ToShard(from, bytes) => self.hand_over(from, &bytes),
            InFlight::ToPeer(peer, bytes) => self.peers[peer].receive(bytes, self.now),
            InFlight::Frame { peer, video, layer } => self.frame(peer, video, layer),
            InFlight::Audio { peer, audio } => self.audio(peer, audio),
            InFlight::Reports { peer } => self.reports(peer),
            InFlight::Check { peer } => self.check(peer),
            InFlight::AskAgain { peer } => self.ask_again(peer),
        }
    }

    fn check(&mut self, peer: usize) {
        if self.alive {
            let (address, check) = (self.peers[peer].address, self.peers[peer].check(0, true));
            self.over(self.up, |bytes| InFlight::ToShard(address, bytes), check);
        }
        self.schedule(SECOND * 2, InFlight::Check { peer });
    }

    fn frame(&mut self, peer: usize, video: usize, layer: usize) {
        let (start, now) = (self.start, self.now);
        self.answer_requests(peer);
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
        if !self.nacks {
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
}
