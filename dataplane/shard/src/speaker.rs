//! Who speaks in a conference: the levels that publishers write into their packets (RFC 6464), smoothed; from them the active
//! speakers, and in a large conference the few voices that are forwarded at all.
//!
//! ```text
//! level of a packet ─► smoothed ─┬─► speaks (loud for a while) ─► first of all (louder than the first for a while)
//!                                └─► chosen (one of the N loudest) ─► forwarded; each return is a new spurt
//! ```
//! Not here: the packets, and the numbers that close up over what was left out (`rewriter`). A level is the publisher's own
//! word: who lies takes one of N places and no more.

use std::time::{Duration, Instant};

use crate::ids::{ConferenceId, TrackId};
use crate::limits::{
    LEVEL_ATTACK, LEVEL_RELEASE, LEVEL_SILENT, SPEAKER_LOUDER, SPEAKER_QUIET, SPEAKERS_INTERVAL,
    SPEECH_LEVEL, VOICE_HELD, VOICES_LOOKED_AT,
};
use crate::status::{Speaker, Speakers};
use crate::table::Table;

/// RFC 6464's quietest level, in -dBov.
const SILENCE: u8 = 127;

/// Which voices of a conference are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Up to so many microphones all are.
    pub(crate) all_up_to: usize,
    /// With more than that, so many of them: the loudest.
    pub(crate) loudest: usize,
}

/// One microphone.
#[derive(Debug)]
struct Voice {
    track: TrackId,
    /// Smoothed, in 256ths of a decibel above silence.
    loudness: u32,
    /// When its level was last told.
    heard: Option<Instant>,
    muted: bool,
    /// When it was last loud enough for speech.
    last_loud: Option<Instant>,
    /// Since when it has been.
    loud_since: Option<Instant>,
    /// Since when it has been louder than the first speaker.
    louder_since: Option<Instant>,
    speaks: bool,
    /// Whether it has one of the places of the loudest.
    chosen: bool,
    /// Since when it has been louder than the quietest that has a place.
    pushing_since: Option<Instant>,
    /// Whether its last packet was forwarded.
    flows: bool,
    /// Counts its returns: packets of one spurt follow each other without a hole that is not the network's.
    spurt: u32,
}

/// The microphones of one conference.
#[derive(Debug)]
pub(crate) struct Voices {
    pub(crate) conference: ConferenceId,
    selection: Selection,
    voices: Table<Voice>,
    /// The place of the first speaker.
    first: Option<u32>,
    told: Speakers,
    /// When something was told last.
    told_at: Option<Instant>,
    due: Option<Instant>,
}

impl Voices {
    /// A conference without microphones.
    pub(crate) fn new(conference: ConferenceId, selection: Selection, voices_max: usize) -> Self {
        Self {
            conference,
            selection,
            voices: Table::new(voices_max),
            first: None,
            told: Speakers::default(),
            told_at: None,
            due: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.voices.len() == 0
    }

    /// Takes in a microphone; gives its place.
    pub(crate) fn join(&mut self, track: TrackId, now: Instant) -> Option<u32> {
        let selected_before = self.selects();
        let place = self.voices.insert(Voice {
            track,
            loudness: 0,
            heard: None,
            muted: false,
            last_loud: None,
            loud_since: None,
            louder_since: None,
            speaks: false,
            chosen: false,
            pushing_since: None,
            flows: true,
            spurt: 0,
        });
        if self.selects() && !selected_before {
            self.choose_anew(now);
        }
        place
    }

    /// Lets a microphone go.
    pub(crate) fn leave(&mut self, place: u32, now: Instant) {
        self.voices.remove(place);
        if self.first == Some(place) {
            self.first = None;
        }
        self.look_soon(now);
    }

    /// Takes that a microphone was muted, or is no longer.
    pub(crate) fn set_muted(&mut self, place: u32, muted: bool, now: Instant) {
        if let Some(voice) = self.voices.get_mut(place) {
            voice.muted = muted;
        }
        self.look_soon(now);
    }

    /// Takes the level of one packet, in -dBov, and says whether the packet is forwarded. One without a level is: there is
    /// nothing to leave it out by.
    pub(crate) fn hear(&mut self, place: u32, level: Option<u8>, now: Instant) -> bool {
        let Some(voice) = self.voices.get_mut(place) else {
            return true;
        };
        let flows = match level {
            None => true,
            Some(level) => {
                voice.hear(level, now);
                self.look_soon(now);
                !self.selects() || self.has_place(place, now)
            }
        };
        let Some(voice) = self.voices.get_mut(place) else {
            return true;
        };
        if flows && !voice.flows {
            voice.spurt = voice.spurt.wrapping_add(1);
        }
        voice.flows = flows;
        flows
    }

    /// Which spurt the present packets of a microphone belong to.
    pub(crate) fn spurt(&self, place: u32) -> u32 {
        self.voices.get(place).map_or(0, |voice| voice.spurt)
    }

    /// Whether this is the active speaker.
    pub(crate) fn is_first(&self, place: u32) -> bool {
        self.first == Some(place)
    }

    /// Whether a microphone is left out now.
    pub(crate) fn is_left_out(&self, place: u32) -> bool {
        self.voices.get(place).is_some_and(|voice| !voice.flows)
    }

    /// When to look at who speaks; `None` while nothing is heard.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Looks at who speaks; gives the speakers if they are others than were told last.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Speakers> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        self.due = None;
        let mut audible = false;
        for place in 0..self.voices.end() {
            if let Some(voice) = self.voices.get_mut(place) {
                voice.look(now);
                audible |= voice.speaks || voice.loudness_at(now) > 0;
            }
        }
        self.choose_first(now);
        if audible {
            self.due = Some(now + VOICES_LOOKED_AT);
        }
        self.tell(now)
    }

    fn look_soon(&mut self, now: Instant) {
        self.due.get_or_insert(now + VOICES_LOOKED_AT);
    }

    /// The new first speaker is one that was louder than the first one for a while; or who speaks, if that one has stopped.
    fn choose_first(&mut self, now: Instant) {
        let of = |place: u32| self.voices.get(place).filter(|voice| voice.speaks);
        let bar = self
            .first
            .and_then(of)
            .map_or(0, |voice| voice.loudness_at(now));
        let stays = self.first.filter(|place| of(*place).is_some());
        let mut best: Option<(u32, u32)> = None;
        for place in 0..self.voices.end() {
            let Some(voice) = self.voices.get_mut(place) else {
                continue;
            };
            let loudness = voice.loudness_at(now);
            if Some(place) == stays || loudness <= bar {
                voice.louder_since = None;
                continue;
            }
            let since = *voice.louder_since.get_or_insert(now);
            let long_enough = now.saturating_duration_since(since) >= SPEAKER_LOUDER;
            if voice.speaks
                && (stays.is_none() || long_enough)
                && best.is_none_or(|(_, best)| loudness > best)
            {
                best = Some((place, loudness));
            }
        }
        self.first = best.map(|(place, _)| place).or(stays);
    }

    /// The speakers, if the first is another one or others speak than were told. A change of order behind the first is none.
    fn tell(&mut self, now: Instant) -> Option<Speakers> {
        let speakers = self.speakers(now);
        if !speakers.differ(&self.told) {
            return None;
        }
        let earliest = self.told_at.map(|at| at + SPEAKERS_INTERVAL);
        if let Some(earliest) = earliest.filter(|earliest| *earliest > now) {
            self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
            return None;
        }
        (self.told, self.told_at) = (speakers, Some(now));
        Some(speakers)
    }

    fn speakers(&self, now: Instant) -> Speakers {
        let speaker = |place: u32| {
            let voice = self.voices.get(place).filter(|voice| voice.speaks)?;
            let level = SILENCE.saturating_sub((voice.loudness_at(now) >> 8) as u8);
            Some(Speaker {
                track: voice.track,
                level,
            })
        };
        let first = self.first.and_then(speaker);
        let others = (0..self.voices.end()).filter(|place| Some(*place) != self.first);
        let mut speakers = Speakers::default();
        first
            .into_iter()
            .for_each(|first| speakers.insert(first, 0));
        others
            .filter_map(speaker)
            .for_each(|other| speakers.insert(other, usize::from(first.is_some())));
        speakers
    }

    // ── The loudest ────────────────────────────────────────────────────────────────────────────────────────────────────

    /// Whether there are so many microphones that some are left out.
    fn selects(&self) -> bool {
        self.voices.len() > self.selection.all_up_to
    }

    /// Gives the places to the loudest of those who are there when places become scarce.
    fn choose_anew(&mut self, now: Instant) {
        for place in 0..self.voices.end() {
            if let Some(voice) = self.voices.get_mut(place) {
                voice.chosen = false;
            }
        }
        for _ in 0..self.selection.loudest {
            let free = (0..self.voices.end()).filter_map(|place| {
                let voice = self.voices.get(place).filter(|voice| !voice.chosen)?;
                voice.heard?;
                Some((voice.loudness_at(now), std::cmp::Reverse(place)))
            });
            let Some((_, std::cmp::Reverse(place))) = free.max() else {
                return;
            };
            if let Some(voice) = self.voices.get_mut(place) {
                voice.chosen = true;
            }
        }
    }

    /// Whether a voice has one of the places, or takes one now: a free one, that of somebody who has stopped speaking, or,
    /// while all speak, that of the quietest after having been louder for a while.
    fn has_place(&mut self, place: u32, now: Instant) -> bool {
        let Some(own) = self.voices.get(place) else {
            return true;
        };
        if own.chosen {
            return true;
        }
        let (loudness, loud) = (own.loudness_at(now), own.is_loud(now));
        let chosen = || {
            (0..self.voices.end()).filter_map(|place| {
                let voice = self.voices.get(place).filter(|voice| voice.chosen)?;
                Some((place, voice))
            })
        };
        if chosen().count() < self.selection.loudest {
            return self.give_place(place, None);
        }
        if !loud {
            self.push_since(place, None);
            return false;
        }
        let held = |voice: &Voice| {
            voice
                .last_loud
                .is_some_and(|last| now.saturating_duration_since(last) < VOICE_HELD)
        };
        let idle = chosen()
            .filter(|(_, voice)| !held(voice))
            .min_by_key(|(place, voice)| (voice.last_loud, *place));
        if let Some((idle, _)) = idle {
            return self.give_place(place, Some(idle));
        }
        let quietest = chosen().min_by_key(|(place, voice)| (voice.loudness_at(now), *place));
        let Some((quietest, bar)) = quietest.map(|(place, voice)| (place, voice.loudness_at(now)))
        else {
            return false;
        };
        if loudness <= bar {
            self.push_since(place, None);
            return false;
        }
        let since = self.push_since(place, Some(now));
        since.is_some_and(|since| now.saturating_duration_since(since) >= SPEAKER_LOUDER)
            && self.give_place(place, Some(quietest))
    }

    /// Starts the clock of one who is louder than the quietest, if it does not run; or stops it.
    fn push_since(&mut self, place: u32, since: Option<Instant>) -> Option<Instant> {
        let voice = self.voices.get_mut(place)?;
        voice.pushing_since = since.map(|since| voice.pushing_since.unwrap_or(since));
        voice.pushing_since
    }

    fn give_place(&mut self, place: u32, from: Option<u32>) -> bool {
        if let Some(voice) = from.and_then(|from| self.voices.get_mut(from)) {
            voice.chosen = false;
        }
        if let Some(voice) = self.voices.get_mut(place) {
            (voice.chosen, voice.pushing_since) = (true, None);
        }
        true
    }
}

impl Voice {
    /// Goes towards the new level, quickly up and slowly down: a syllable is heard, a pause between two words is not.
    fn hear(&mut self, level: u8, now: Instant) {
        let target = u32::from(SILENCE - level.min(SILENCE)) << 8;
        let now_loud = self.loudness_at(now);
        let since = self
            .heard
            .map_or(LEVEL_ATTACK, |heard| now.saturating_duration_since(heard));
        let tau = if target > now_loud {
            LEVEL_ATTACK
        } else {
            LEVEL_RELEASE
        };
        self.loudness = approach(now_loud, target, since, tau);
        self.heard = Some(now);
        if self.loudness >= SPEECH {
            self.last_loud = Some(now);
        }
    }

    /// The smoothed loudness; without packets it falls to silence, as a microphone does that sends none while it is quiet.
    fn loudness_at(&self, now: Instant) -> u32 {
        let Some(heard) = self.heard.filter(|_| !self.muted) else {
            return 0;
        };
        let idle = now.saturating_duration_since(heard);
        if idle <= LEVEL_SILENT {
            return self.loudness;
        }
        if idle >= FORGOTTEN {
            return 0;
        }
        approach(self.loudness, 0, idle - LEVEL_SILENT, LEVEL_RELEASE)
    }

    fn is_loud(&self, now: Instant) -> bool {
        self.loudness_at(now) >= SPEECH
    }

    /// Who is loud for a while speaks; who is quiet for longer has stopped.
    fn look(&mut self, now: Instant) {
        if self.is_loud(now) {
            let since = *self.loud_since.get_or_insert(now);
            self.speaks |= now.saturating_duration_since(since) >= SPEAKER_LOUDER;
            return;
        }
        self.loud_since = None;
        let quiet = self
            .last_loud
            .is_none_or(|last| now.saturating_duration_since(last) >= SPEAKER_QUIET);
        self.speaks &= !quiet && !self.muted;
    }
}

/// The loudness from which on it is speech.
const SPEECH: u32 = ((SILENCE - SPEECH_LEVEL) as u32) << 8;

/// After so long without a packet the last one says nothing.
const FORGOTTEN: Duration = Duration::from_secs(2);

/// One step of a first-order low pass.
fn approach(from: u32, to: u32, step: Duration, tau: Duration) -> u32 {
    let (step, tau) = (step.as_micros() as i64, tau.as_micros() as i64);
    let (from, to) = (i64::from(from), i64::from(to));
    (from + (to - from) * step / (step + tau).max(1)) as u32
}

#[cfg(test)]
mod tests;
