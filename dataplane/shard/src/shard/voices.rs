//! Microphones of a conference: they join and leave with their tracks, each packet's level is heard, and control is told who
//! speaks. The rules are in `speaker`.

use std::time::Instant;

use crate::event::Event;
use crate::ids::{MediaKind, Purpose};
use crate::limits::EVENTS_MAX;
use crate::packet::Slot;
use crate::publisher::VoicePlace;
use crate::reason::Withheld;
use crate::shard::Shard;
use crate::speaker::Voices;

impl Shard {
    /// Brings a track's place among the voices of its conference in line with what the track is.
    pub(super) fn place_voice(&mut self, track: u32, now: Instant) {
        let Some(of) = self.tracks.get(track) else {
            return;
        };
        // The sound of a shared screen competes with no voice.
        let is_voice = of.kind == MediaKind::Audio && of.purpose == Purpose::UserMedia;
        match (of.voice, is_voice) {
            (None, true) => self.join_voice(track, now),
            (Some(_), false) => self.leave_voice(track, now),
            (None, false) | (Some(_), true) => {}
        }
        if let Some(of) = self.tracks.get(track)
            && let Some(voice) = of.voice
            && let Some(voices) = self.conferences.get_mut(voice.conference)
        {
            voices.set_muted(voice.place, of.muted, now);
        }
    }

    fn join_voice(&mut self, track: u32, now: Instant) {
        let Some(of) = self.tracks.get_mut(track) else {
            return;
        };
        let conference = match self.conference_ids.get(&of.conference) {
            Some(conference) => *conference,
            None => {
                let voices = Voices::new(of.conference, self.selection, self.tracks_max);
                let Some(conference) = self.conferences.insert(voices) else {
                    return;
                };
                self.conference_ids.insert(of.conference, conference);
                conference
            }
        };
        let voices = self.conferences.get_mut(conference);
        let place = voices.and_then(|voices| voices.join(of.id, now));
        of.voice = place.map(|place| VoicePlace { conference, place });
    }

    /// Ends a track's part among the voices.
    pub(super) fn leave_voice(&mut self, track: u32, now: Instant) {
        let Some(voice) = self.tracks.get_mut(track).and_then(|of| of.voice.take()) else {
            return;
        };
        let Some(voices) = self.conferences.get_mut(voice.conference) else {
            return;
        };
        voices.leave(voice.place, now);
        if let Some(due) = voices.poll_timeout() {
            self.wake_at(due);
        }
    }

    /// Takes the level of a packet, and says whether the packet is forwarded.
    pub(super) fn hear(&mut self, track: u32, slot: Slot, now: Instant) -> bool {
        let (Some(of), Some(packet)) = (self.tracks.get(track), self.packets.get(slot)) else {
            return false;
        };
        let Some(voice) = of.voice else {
            return true;
        };
        let Some(voices) = self.conferences.get_mut(voice.conference) else {
            return true;
        };
        let level = packet.audio_level.map(|level| level & 0x7f);
        let heard = voices.hear(voice.place, level, now);
        if !heard {
            self.counters
                .withhold(Withheld::NotLoudest, of.subscriptions.len() as u64);
        }
        if let Some(due) = voices.poll_timeout() {
            self.wake_at(due);
        }
        heard
    }

    /// Which spurt the present packets of a track belong to; always the same for what is no voice.
    pub(super) fn spurt(&self, track: u32) -> u32 {
        let voice = self.tracks.get(track).and_then(|of| of.voice);
        voice.map_or(0, |voice| {
            let voices = self.conferences.get(voice.conference);
            voices.map_or(0, |voices| voices.spurt(voice.place))
        })
    }

    /// Tells who speaks, where that has changed, and forgets conferences without microphones.
    pub(super) fn speakers_when_due(&mut self, now: Instant) {
        for index in 0..self.conferences.end() {
            let has_room = self.events.len() < EVENTS_MAX / 2;
            let Some(voices) = self.conferences.get_mut(index) else {
                continue;
            };
            // When control is far behind it is told later: handshakes go before speakers.
            let speakers = if has_room {
                voices.handle_timeout(now)
            } else {
                None
            };
            let (conference, due) = (voices.conference, voices.poll_timeout());
            let is_over = voices.is_empty() && due.is_none();
            if let Some(speakers) = speakers {
                self.counters.speakers_told.add(1);
                self.event(Event::Speakers {
                    conference,
                    speakers,
                });
            }
            due.into_iter().for_each(|at| self.wake_at(at));
            if is_over {
                self.conferences.remove(index);
                self.conference_ids.remove(&conference);
            }
        }
    }
}
