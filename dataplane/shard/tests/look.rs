//! Stories of what is told: why a picture is not (all) there, and which layers nobody needs.

mod support;

use support::{AudioSource, Bottleneck, Link, MS, Rng, SECOND, Subscribed, VideoSource, World};
use weir_shard::metrics::{Family, HistogramView, Labels, Sink};
use weir_shard::{Command, Event, Purpose, Reason, Size, SubscriptionStatus, TrackId, Withheld};

const FULL: Option<Size> = Some(Size::new(1280, 720));
const HALF: Option<Size> = Some(Size::new(640, 360));

/// A world with a publisher of camera 1 (three layers) and one more participant.
fn call(seed: u64) -> (World, usize, usize) {
    let mut world = World::new(seed);
    let (publisher, subscriber) = (world.join(), world.join());
    let mut rng = Rng::new(seed);
    world.publish_video(publisher, VideoSource::simulcast(1, "1", &mut rng));
    (world, publisher, subscriber)
}

/// What was told of a subscription, change by change.
fn told(world: &World, of: Subscribed) -> Vec<SubscriptionStatus> {
    let told = world.events.iter().filter_map(|event| match event {
        Event::SubscriptionStatus { id, status, .. } => (*id == of.id).then_some(*status),
        _ => None,
    });
    told.collect()
}

fn last_reason(world: &World, of: Subscribed) -> Option<Reason> {
    told(world, of).last().map(|status| status.reason)
}

/// The layers in use as told, change by change.
fn in_use(world: &World) -> Vec<Vec<usize>> {
    let told = world.events.iter().filter_map(|event| match event {
        Event::LayersInUse { track, layers, .. } => {
            assert_eq!(*track, TrackId(1));
            Some((0..8).filter(|layer| layers.contains(*layer)).collect())
        }
        _ => None,
    });
    told.collect()
}

fn set_wanted(world: &mut World, of: Subscribed, wanted: Option<Size>) {
    let id = of.id;
    world.command(Command::SetWanted { id, wanted });
}

fn switch(world: &mut World, publisher: usize, layers: &[usize], on: bool) {
    for layer in layers {
        world.peers[publisher].video[0].layers[*layer].on = on;
    }
}

#[test]
fn layers_that_nobody_needs_are_told_after_five_seconds_and_needed_ones_at_once() {
    let (mut world, _, subscriber) = call(1);
    world.run(2 * SECOND);
    let video = world.subscribe(subscriber, 1, HALF);
    world.run(2 * SECOND);
    assert_eq!(in_use(&world), [vec![0, 1, 2]]);
    world.run(4 * SECOND);
    assert_eq!(in_use(&world)[1..], [vec![1, 2]], "full size is too much");
    set_wanted(&mut world, video, FULL);
    assert_eq!(in_use(&world)[2..], [vec![0, 1, 2]]);
    set_wanted(&mut world, video, None);
    world.run(3 * SECOND);
    set_wanted(&mut world, video, HALF);
    world.run(4 * SECOND);
    assert_eq!(
        in_use(&world)[3..],
        [vec![1, 2]],
        "the middle one was needed in between"
    );
    world.command(Command::Unsubscribe { id: video.id });
    world.run(6 * SECOND);
    assert_eq!(
        in_use(&world)[4..],
        [vec![2]],
        "the lowest is enough to begin with"
    );
    assert_eq!(world.counters.layers_in_use_told.get(), 5);
}

#[test]
fn a_layer_that_was_paused_is_asked_for_when_somebody_wants_it() {
    let (mut world, publisher, subscriber) = call(2);
    let video = world.subscribe(subscriber, 1, HALF);
    world.run(7 * SECOND);
    switch(&mut world, publisher, &[0], false);
    world.run(5 * SECOND);
    assert_eq!(in_use(&world)[1..], [vec![1, 2]]);
    let stalled = world.counters.layers_stalled.get();
    set_wanted(&mut world, video, FULL);
    assert_eq!(in_use(&world)[2..], [vec![0, 1, 2]]);
    world.run(SECOND);
    assert_eq!(last_reason(&world, video), Some(Reason::LayerSilent));
    switch(&mut world, publisher, &[0], true);
    world.run(2 * SECOND);
    assert_eq!(last_reason(&world, video), Some(Reason::Flowing));
    assert_eq!(told(&world, video).last().unwrap().layer, Some(0));
    assert_eq!(
        world.counters.layers_stalled.get(),
        stalled,
        "a pause is no fault"
    );
}

#[test]
fn each_state_of_a_picture_has_its_reason() {
    let mut world = World::new(3);
    let (publisher, subscriber) = (world.join(), world.join_without_keys());
    let camera = VideoSource::simulcast(1, "1", &mut Rng::new(3));
    world.command(Command::AddTrack(world.add_video(publisher, &camera)));
    let video = world.subscribe(subscriber, 1, HALF);
    world.run(SECOND);
    assert_eq!(last_reason(&world, video), Some(Reason::NeverSent));
    world.start_video(publisher, camera);
    world.run(SECOND);
    assert_eq!(last_reason(&world, video), Some(Reason::NotConnected));
    assert!(world.counters.withheld(Withheld::NotConnected) > 0);
    world.install_keys(subscriber);
    world.run(SECOND);
    let flowing = SubscriptionStatus {
        layer: Some(1),
        size: HALF,
        temporal: None,
        reason: Reason::Flowing,
    };
    assert_eq!(told(&world, video).last(), Some(&flowing));
    assert_eq!(world.counters.by_reason(Reason::Flowing), 1);
    let mute = |muted| Command::UpdateTrack {
        track: TrackId(1),
        purpose: Purpose::UserMedia,
        size: FULL,
        muted,
    };
    world.command(mute(true));
    world.run(SECOND);
    assert_eq!(last_reason(&world, video), Some(Reason::Muted));
    world.command(mute(false));
    world.run(SECOND);
    assert_eq!(last_reason(&world, video), Some(Reason::Flowing));
    switch(&mut world, publisher, &[0, 1, 2], false);
    world.run(4 * SECOND);
    assert_eq!(last_reason(&world, video), Some(Reason::PublisherSilent));
    assert_eq!(world.counters.by_reason(Reason::PublisherSilent), 1);
    let events = world.events.len();
    world.run(10 * SECOND);
    assert_eq!(world.events.len(), events, "nothing new, nothing told");
}

#[test]
fn a_voice_that_is_left_out_says_so() {
    let mut world = World::with(4, |config| {
        config.voices_all_up_to = 1;
        config.voices_loudest = 1;
    });
    let (speaker, listener) = (world.join(), world.join());
    let mut rng = Rng::new(4);
    for (track, level) in [(1, 20), (2, 90)] {
        let mut microphone = AudioSource::new(track, ["0", "1"][usize::from(track) - 1], &mut rng);
        microphone.level = level;
        world.publish_audio(speaker, microphone);
    }
    let (loud, quiet) = (
        world.subscribe(listener, 1, None),
        world.subscribe(listener, 2, None),
    );
    world.run(SECOND + 20 * MS);
    assert_eq!(last_reason(&world, loud), Some(Reason::Flowing));
    assert_eq!(last_reason(&world, quiet), Some(Reason::NotLoudest));
}

#[test]
fn a_slow_way_to_the_subscriber_is_told_with_what_it_carries() {
    let (mut world, _, subscriber) = call(6);
    world.browse(subscriber);
    let video = world.subscribe(subscriber, 1, FULL);
    world.run(8 * SECOND);
    let last = |world: &World| {
        let mut told = world.events.iter().filter_map(|event| match event {
            Event::TransportStatus { id, status } => {
                (*id == world.peers[subscriber].id).then_some(*status)
            }
            _ => None,
        });
        told.next_back().expect("told of bandwidth")
    };
    assert_eq!(last_reason(&world, video), Some(Reason::Flowing));
    let wanted = last(&world).wanted_bps;
    assert!(last(&world).allocated_bps == wanted && wanted > 500_000);
    world.down = Link {
        bottleneck: Some(Bottleneck {
            bits_per_second: 400_000,
            queue: 200 * MS,
        }),
        ..Link::PERFECT
    };
    world.run(10 * SECOND);
    let status = last(&world);
    assert_eq!(last_reason(&world, video), Some(Reason::LittleBandwidth));
    assert!(
        status.estimate_bps.is_some_and(|bps| bps < 500_000),
        "{status:?}"
    );
    assert!(status.allocated_bps < status.wanted_bps, "{status:?}");
    assert!(world.counters.by_reason(Reason::LittleBandwidth) == 1);
}

/// Counters and gauges by name and label values.
#[derive(Default)]
struct Numbers(std::collections::BTreeMap<(&'static str, String), u64>);

impl Sink for Numbers {
    fn number(&mut self, family: &'static Family, labels: Labels<'_>, value: u64) {
        let labels: Vec<&str> = labels.iter().map(|(_, label)| *label).collect();
        self.0.insert((family.name, labels.join(" ")), value);
    }

    fn histogram(&mut self, _: &'static Family, _: Labels<'_>, _: HistogramView<'_>) {}
}

#[test]
fn every_packet_is_accounted_for() {
    let (mut world, _, subscriber) = call(5);
    let video = world.subscribe(subscriber, 1, HALF);
    world.run(5 * SECOND);
    let mut numbers = Numbers::default();
    world.counters.export(&mut numbers);
    let of = numbers.0;
    let stage = |stage: &str| of[&("weir_shard_packets_total", stage.to_owned())];
    let lost = |stage: &str| -> u64 {
        let dropped = of.iter().filter(|((name, labels), _)| {
            *name == "weir_shard_dropped_total" && labels.starts_with(stage)
        });
        dropped.map(|(_, value)| value).sum()
    };
    assert_eq!(stage("received"), stage("bound") + lost("received"));
    assert_eq!(stage("bound"), stage("kept") + lost("bound"));
    let withheld: u64 = Withheld::ALL
        .iter()
        .map(|reason| world.counters.withheld(*reason))
        .sum();
    assert_eq!(stage("kept"), stage("selected") + withheld + lost("kept"));
    let again = world.counters.resends.get();
    assert_eq!(
        stage("numbered") + again,
        stage("sealed") + lost("numbered")
    );
    assert_eq!(stage("sealed"), world.received(video).len() as u64 + again);
    assert!(stage("sealed") > 100 && withheld > 100);
}
