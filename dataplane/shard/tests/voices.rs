//! Stories of microphones: who speaks is told, and of many only the loudest are forwarded.

mod support;

use support::oracle::check_world;
use support::{AudioSource, Rng, SECOND, Subscribed, World};
use weir_shard::{Command, ConferenceId, Event, Purpose, TrackId, Withheld};

const LOUD: u8 = 20;
const ROOM: u8 = 90;

/// A world that forwards the 2 loudest of more than 3 microphones.
fn large(seed: u64, microphones: u8) -> World {
    let mut world = World::with(seed, |config| {
        config.voices_all_up_to = 3;
        config.voices_loudest = 2;
    });
    let mut rng = Rng::new(seed);
    for track in 1..=microphones {
        let peer = world.join();
        let mut microphone = AudioSource::new(track, "0", &mut rng);
        microphone.level = ROOM;
        world.publish_audio(peer, microphone);
    }
    world
}

fn say(world: &mut World, peer: usize, level: u8) {
    world.peers[peer].audio[0].level = level;
}

/// Who was told to speak, change by change, and what else was told is left out.
fn speakers(world: &World) -> Vec<Vec<u32>> {
    let told = world.events.iter().filter_map(|event| match event {
        Event::Speakers {
            conference,
            speakers,
        } => {
            assert_eq!(*conference, ConferenceId(1));
            Some(speakers.iter().map(|of| of.track.0).collect())
        }
        _ => None,
    });
    told.collect()
}

/// The publisher's own counts of what a subscriber got, after checking that its numbers have no hole and its time is the
/// publisher's.
fn heard(world: &World, of: Subscribed) -> Vec<u32> {
    let packets = world.received(of);
    let number = |at: usize| u32::from_be_bytes(packets[at].1.payload[2..6].try_into().unwrap());
    for at in 1..packets.len() {
        assert_eq!(packets[at].0, packets[at - 1].0 + 1, "numbers close up");
        let steps = number(at) - number(at - 1);
        let time = packets[at]
            .1
            .timestamp
            .wrapping_sub(packets[at - 1].1.timestamp);
        assert_eq!(time, steps * 960, "silence keeps its length");
    }
    (0..packets.len()).map(number).collect()
}

#[test]
fn who_speaks_is_told() {
    let mut world = large(1, 3);
    world.run(SECOND);
    assert_eq!(speakers(&world), [] as [Vec<u32>; 0]);
    say(&mut world, 1, LOUD);
    world.run(2 * SECOND);
    say(&mut world, 1, ROOM);
    say(&mut world, 2, LOUD);
    world.run(2 * SECOND);
    assert_eq!(speakers(&world), [vec![2], vec![2, 3], vec![3, 2], vec![3]]);
    assert_eq!(world.counters.speakers_told.get(), 4);
}

#[test]
fn in_a_large_conference_a_talker_drops_out_and_returns_without_a_hole() {
    let mut world = large(2, 6);
    let listener = world.join();
    let voice = world.subscribe(listener, 3, None);
    say(&mut world, 0, LOUD);
    say(&mut world, 1, LOUD);
    world.run(2 * SECOND);
    assert_eq!(heard(&world, voice), [] as [u32; 0], "two others speak");
    for _ in 0..3 {
        say(&mut world, 1, ROOM);
        say(&mut world, 2, LOUD);
        world.run(3 * SECOND);
        say(&mut world, 1, LOUD);
        say(&mut world, 2, ROOM);
        world.run(3 * SECOND);
    }
    let heard = heard(&world, voice);
    let holes = heard.windows(2).filter(|two| two[1] > two[0] + 1).count();
    assert_eq!(holes, 2, "three times it spoke: {heard:?}");
    assert!(heard.len() > 150, "{}", heard.len());
    let withheld = world.counters.withheld(Withheld::NotLoudest);
    assert!(withheld > 300, "{withheld}");
    check_world(&world);
}

#[test]
fn small_conferences_and_the_sound_of_screens_are_forwarded_whole() {
    let mut world = large(3, 6);
    let (sharer, listener) = (world.join(), world.join());
    let mut sound = AudioSource::new(9, "1", &mut Rng::new(3));
    sound.level = ROOM;
    world.publish_audio(sharer, sound);
    world.command(Command::UpdateTrack {
        track: TrackId(9),
        purpose: Purpose::ScreenShare,
        size: None,
        muted: false,
    });
    let screen = world.subscribe(listener, 9, None);
    let voice = world.subscribe(listener, 6, None);
    world.run(2 * SECOND);
    assert_eq!(heard(&world, screen).len(), 100);
    assert_eq!(heard(&world, voice).len(), 0);
    for track in 1..=3 {
        world.command(Command::RemoveTrack {
            track: TrackId(track),
        });
    }
    world.run(SECOND);
    assert_eq!(heard(&world, voice).len(), 50, "three microphones are left");
    assert_eq!(world.counters.withheld(Withheld::NotLoudest), 100);
}

#[test]
fn conferences_end_with_their_last_microphone() {
    let mut world = large(4, 2);
    say(&mut world, 0, LOUD);
    world.run(SECOND);
    for track in 1..=2 {
        world.command(Command::RemoveTrack {
            track: TrackId(track),
        });
    }
    world.run(2 * SECOND);
    assert_eq!(speakers(&world), [vec![1], vec![]]);
}
