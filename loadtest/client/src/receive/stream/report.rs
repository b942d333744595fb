//! What is told of a stream: to the focus by RTCP, and to the participant's owner.

use std::time::{Duration, Instant};

use rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtcp::reception_report::ReceptionReport;
use rtcp::transport_feedbacks::transport_layer_nack::{
    TransportLayerNack, nack_pairs_from_sequence_numbers,
};

use super::{Locked, Stream, is_recent};
use crate::participant::DecodedFrames;
use crate::receive::Feedback;
use crate::report::{AudioReport, Kind, StreamReport, VideoReport};

/// PLI again after this long without a keyframe.
const PLI_AGAIN: Duration = Duration::from_millis(500);

impl Stream {
    pub(in crate::receive) fn feedback(
        &mut self,
        own_ssrc: u32,
        now: Instant,
        out: &mut Vec<Feedback>,
    ) {
        let video = self.kind == Kind::Video && self.sample.is_none();
        let Some(media_ssrc) = self.ssrc.filter(|_| video) else {
            return;
        };
        let numbers = self.sequence.nacks(now);
        if !numbers.is_empty() {
            self.video.nacks += 1;
            let nacks = nack_pairs_from_sequence_numbers(&numbers);
            out.push(Box::new(TransportLayerNack {
                sender_ssrc: own_ssrc,
                media_ssrc,
                nacks,
            }));
        }
        let stuck = self.decoded == Some(DecodedFrames::All) && self.pictures.is_stuck();
        let stuck = stuck || self.locked == Locked::WithoutKeyframe;
        if !self.assembler.needs_keyframe() && !stuck {
            self.pli_next = None;
        } else if self.pli_next.is_none_or(|next| next <= now) {
            self.pli_next = Some(now + PLI_AGAIN);
            self.video.plis += 1;
            out.push(Box::new(PictureLossIndication {
                sender_ssrc: own_ssrc,
                media_ssrc,
            }));
        }
    }

    pub(in crate::receive) fn reception_report(&self, now: Instant) -> Option<ReceptionReport> {
        let (last_sender_report, delay) = match self.sender_reported {
            // In units of 1/65536 s, so that the focus knows the round trip.
            Some((name, at)) => {
                let since = now.saturating_duration_since(at).as_micros();
                (name, ((since << 16) / 1_000_000) as u32)
            }
            None => (0, 0),
        };
        let sampled = self.sample.as_ref().and_then(|sample| sample.highest);
        let highest = sampled.or(self.sequence.highest())?;
        Some(ReceptionReport {
            ssrc: self.ssrc?,
            total_lost: self.sequence.lost as u32 & 0x7f_ffff,
            // The extended number starts one roll-over high.
            last_sequence_number: highest.saturating_sub(1 << 16) as u32,
            last_sender_report,
            delay,
            ..Default::default()
        })
    }

    pub(in crate::receive) fn report(&self, now: Instant, since: Instant) -> StreamReport {
        let (delay, delay_by) = self.delay.report();
        let after = |at: Instant| at.saturating_duration_since(since).as_secs_f64() * 1000.0;
        StreamReport {
            user_id: self.owner.user_id.clone(),
            device_id: self.owner.device_id.clone(),
            purpose: self.owner.purpose.clone(),
            muted: self.owner.muted,
            stream_id: self.track.0.clone(),
            track_id: self.track.1.clone(),
            kind: self.kind,
            mid: self.allowed.mid.clone(),
            live: self.live(),
            ssrc: self.ssrc.unwrap_or(0),
            packets: self.packets,
            bytes: self.bytes,
            lost: self.sequence.lost,
            reordered: self.sequence.reordered,
            duplicates: self.sequence.duplicates,
            longest_packet_gap_ms: self.longest_gap.as_millis() as u64,
            first_packet_ms: self.first_packet_at.map(after),
            delay,
            delay_by,
            rtx: self
                .allowed
                .rtx_payload_type
                .map(|_| self.rtx.report.clone()),
            sample: self.sample.as_ref().map(|sample| sample.report.clone()),
            undecrypted: (self.undecrypted.frames > 0).then(|| self.undecrypted.clone()),
            violations: self.violations.merged(&self.pictures.violations()),
            video: (self.kind == Kind::Video).then(|| self.video_report(now)),
            audio: (self.kind == Kind::Audio).then(|| self.audio_report(now)),
        }
    }

    fn video_report(&self, now: Instant) -> VideoReport {
        let seen = self.pictures.seen();
        let recent = self
            .recent_packets
            .iter()
            .filter(|(at, _)| is_recent(*at, now));
        VideoReport {
            cut: self.assembler.cut,
            broken: self.assembler.broken + self.video.broken,
            decoded: seen.decoded,
            width: seen.size.0,
            height: seen.size.1,
            size_changes: seen.size_changes,
            numbered: seen.numbered,
            last_number: seen.last.map(|(code, _)| code.number.into()),
            numbers_missed: seen.numbers_missed,
            fps: self
                .recent_frames
                .iter()
                .filter(|at| is_recent(**at, now))
                .count() as f32,
            kbps: (recent.map(|(_, bytes)| bytes).sum::<usize>() * 8 / 1000) as u32,
            ..self.video.clone()
        }
    }

    fn audio_report(&self, now: Instant) -> AudioReport {
        let recent = self
            .recent_packets
            .iter()
            .filter(|(at, _)| is_recent(*at, now));
        AudioReport {
            longest_gap_ms: self.longest_gap.as_millis() as u64,
            packets_per_second: recent.count() as f32,
            ..self.audio.clone()
        }
    }
}
