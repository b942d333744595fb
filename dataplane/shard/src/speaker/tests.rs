use super::*;

const MS: Duration = Duration::from_millis(1);
const FRAME: Duration = Duration::from_millis(20);

/// Loud speech, quiet speech, and a silent room, in -dBov.
const LOUD: u8 = 20;
const SOFT: u8 = 35;
const ROOM: u8 = 90;

/// A conference whose microphones say a level every 20 ms.
struct Room {
    voices: Voices,
    now: Instant,
    levels: Vec<Option<u8>>,
    /// What was told, with the time since the beginning.
    told: Vec<(Duration, Vec<u32>)>,
    /// Packets that were forwarded, by microphone.
    forwarded: Vec<u32>,
    began: Instant,
}

impl Room {
    fn new(microphones: usize, selection: Selection) -> Self {
        let now = Instant::now();
        let mut voices = Voices::new(ConferenceId(1), selection, 1000);
        for track in 0..microphones as u32 {
            assert_eq!(voices.join(TrackId(track), now), Some(track));
        }
        Self {
            voices,
            now,
            levels: vec![Some(ROOM); microphones],
            told: Vec::new(),
            forwarded: vec![0; microphones],
            began: now,
        }
    }

    fn all(microphones: usize) -> Self {
        Self::new(
            microphones,
            Selection {
                all_up_to: 1000,
                loudest: 5,
            },
        )
    }

    fn say(&mut self, microphone: usize, level: u8) -> &mut Self {
        self.levels[microphone] = Some(level);
        self
    }

    fn run(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        while self.now < end {
            for (place, level) in self.levels.iter().enumerate() {
                if let Some(level) = level {
                    let forwarded = self.voices.hear(place as u32, Some(*level), self.now);
                    self.forwarded[place] += u32::from(forwarded);
                }
            }
            for _ in 0..4 {
                self.now += 5 * MS;
                if let Some(speakers) = self.voices.handle_timeout(self.now) {
                    let tracks = speakers.iter().map(|of| of.track.0).collect();
                    self.told.push((self.now - self.began, tracks));
                }
            }
        }
        self
    }

    fn last(&self) -> &[u32] {
        self.told.last().map_or(&[], |(_, tracks)| tracks)
    }
}

#[test]
fn who_speaks_is_told_once_and_who_has_stopped_too() {
    let mut room = Room::all(3);
    room.run(2000 * MS);
    assert_eq!(room.told, [], "a silent room");
    room.say(1, LOUD).run(3000 * MS);
    room.say(1, ROOM).run(3000 * MS);
    let told: Vec<&[u32]> = room.told.iter().map(|(_, tracks)| &tracks[..]).collect();
    assert_eq!(told, [&[1][..], &[]]);
    let heard_after = room.told[0].0 - 2000 * MS;
    assert!(
        heard_after >= 300 * MS && heard_after <= 500 * MS,
        "{heard_after:?}"
    );
}

#[test]
fn a_new_first_speaker_is_louder_for_300_ms() {
    let mut room = Room::all(2);
    room.say(0, SOFT).run(1000 * MS);
    assert_eq!(room.last(), [0]);
    // A cough is shorter.
    room.say(1, LOUD).run(200 * MS);
    room.say(1, ROOM).run(2000 * MS);
    assert_eq!(room.told.len(), 1, "{:?}", room.told);
    room.say(1, LOUD).run(260 * MS);
    assert_eq!(room.last(), [0]);
    room.run(1000 * MS);
    assert_eq!(room.last(), [1, 0], "louder, and both speak");
}

#[test]
fn speakers_are_told_at_most_every_300_ms() {
    let mut room = Room::all(10);
    for step in 0..200 {
        // Somebody begins every 100 ms, louder than the one before, and goes on for half a second.
        room.say(step % 10, SOFT - (step % 10) as u8)
            .say((step + 5) % 10, ROOM)
            .run(100 * MS);
    }
    let gaps = room.told.windows(2).map(|two| two[1].0 - two[0].0);
    assert!(room.told.len() > 1);
    assert!(
        gaps.min().is_none_or(|gap| gap >= 300 * MS),
        "{:?}",
        room.told
    );
}

#[test]
fn a_muted_microphone_does_not_speak_whatever_it_says() {
    let mut room = Room::all(2);
    room.say(0, LOUD).run(1000 * MS);
    let now = room.now;
    room.voices.set_muted(0, true, now);
    room.run(2000 * MS);
    assert_eq!(room.last(), [] as [u32; 0]);
}

#[test]
fn a_quiet_world_goes_idle() {
    let mut room = Room::all(2);
    room.say(0, LOUD).run(1000 * MS);
    room.levels = vec![None, None];
    room.run(3000 * MS);
    assert_eq!(room.last(), [] as [u32; 0], "no packets, no speaker");
    assert_eq!(room.voices.poll_timeout(), None);
}

const FEW: Selection = Selection {
    all_up_to: 3,
    loudest: 2,
};

#[test]
fn small_conferences_forward_everybody() {
    let mut room = Room::new(3, FEW);
    room.say(0, LOUD).run(1000 * MS);
    assert_eq!(room.forwarded, [50, 50, 50]);
}

#[test]
fn of_many_only_the_loudest_are_forwarded_and_a_speaker_is_heard_at_once() {
    let mut room = Room::new(6, FEW);
    room.run(3000 * MS);
    assert_eq!(
        room.forwarded,
        [150, 150, 0, 0, 0, 0],
        "the places that are free are anybody's"
    );
    room.forwarded.fill(0);
    room.say(4, LOUD).run(1000 * MS);
    assert!(room.forwarded[4] >= 47, "{:?}", room.forwarded);
    room.forwarded.fill(0);
    room.say(5, LOUD).run(1000 * MS);
    assert!(
        room.forwarded[4] == 50 && room.forwarded[5] >= 47,
        "{:?}",
        room.forwarded
    );
}

#[test]
fn who_pauses_between_sentences_keeps_the_place() {
    let mut room = Room::new(6, FEW);
    room.say(0, LOUD).say(1, LOUD).run(2000 * MS);
    room.say(1, ROOM).run(1500 * MS);
    room.say(2, SOFT).run(300 * MS);
    assert_eq!(room.forwarded[2], 0, "both places are held");
    room.forwarded.fill(0);
    room.run(3000 * MS);
    assert!(room.forwarded[2] > 100, "{:?}", room.forwarded);
}

#[test]
fn while_all_places_speak_the_louder_pushes_the_quietest_out() {
    let mut room = Room::new(6, FEW);
    room.say(0, LOUD).say(1, SOFT).run(2000 * MS);
    room.forwarded.fill(0);
    room.say(2, LOUD + 5).run(200 * MS);
    assert_eq!(room.forwarded[2], 0);
    room.run(1000 * MS);
    assert!(
        room.forwarded[2] > 30 && room.forwarded[0] == 60,
        "{:?}",
        room.forwarded
    );
    let out = room.forwarded[1];
    room.run(1000 * MS);
    assert_eq!(room.forwarded[1], out);
}

#[test]
fn each_return_is_a_new_spurt_and_a_packet_without_a_level_is_never_left_out() {
    let mut room = Room::new(6, FEW);
    room.say(0, LOUD).say(1, LOUD).run(1000 * MS);
    assert_eq!((room.voices.spurt(0), room.voices.spurt(5)), (0, 0));
    assert!(room.voices.is_left_out(5));
    assert!(room.voices.hear(5, None, room.now));
    assert_eq!(room.voices.spurt(5), 1);
    room.run(FRAME);
    assert!(room.voices.is_left_out(5));
    room.say(0, ROOM).say(1, ROOM).run(3000 * MS);
    room.say(5, LOUD).run(500 * MS);
    assert_eq!(room.voices.spurt(5), 2);
    assert_eq!(room.voices.spurt(0) + room.voices.spurt(1), 0);
}

#[test]
fn places_become_scarce_when_somebody_joins_and_the_loudest_keep_theirs() {
    let mut room = Room::new(3, FEW);
    room.say(2, LOUD).say(1, SOFT).run(1000 * MS);
    let now = room.now;
    room.voices.join(TrackId(3), now);
    room.levels.push(Some(ROOM));
    room.forwarded = vec![0; 4];
    room.run(1000 * MS);
    assert_eq!(room.forwarded, [0, 50, 50, 0]);
    let now = room.now;
    room.voices.leave(3, now);
    room.levels.pop();
    room.run(1000 * MS);
    assert_eq!(
        room.forwarded,
        [50, 100, 100, 0],
        "and all are forwarded again"
    );
}
