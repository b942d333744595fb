//! Seeded conferences over networks that change all the time, with publishers that stall, start anew, mute and leave layers
//! out, and viewers that change their minds. A seed that ever fails becomes a test with a name of its own.

mod support;

use std::time::Duration;

use support::link::{Bottleneck, Bursts, Link};
use support::{Conference, MS, SECOND, Scene};
use weir_shard::Size;

const SIZES: [Option<Size>; 5] = [
    None,
    Some(Size::new(320, 180)),
    Some(Size::new(640, 360)),
    Some(Size::new(1280, 720)),
    Some(Size::new(500, 300)),
];

/// What may happen.
#[derive(Clone, Copy, Debug)]
struct Weather {
    scene: Scene,
    links: &'static [Link],
    stalls: bool,
    restarts: bool,
}

const BURSTS: Link = Link {
    bursts: Some(Bursts {
        begin_per_mille: 5,
        end_per_mille: 150,
        loss_per_mille: 600,
    }),
    ..Link::FAR
};

const WIRELESS: Link = Link {
    delay: Duration::from_millis(15),
    jitter: Duration::from_millis(12),
    loss_per_mille: 10,
    duplicate_per_mille: 5,
    ..Link::PERFECT
};

const OVERSEAS: Link = Link {
    delay: Duration::from_millis(120),
    loss_per_mille: 15,
    ..Link::PERFECT
};

const NARROW: Link = Link {
    bottleneck: Some(Bottleneck {
        bits_per_second: 700_000,
        queue: Duration::from_millis(150),
    }),
    ..Link::FAR
};

const LOSSY: &[Link] = &[
    Link::PERFECT,
    Link::FAR,
    Link::FAR.losing(20),
    Link::FAR.losing(50),
    Link::FAR.losing(100),
    BURSTS,
];
const ANY: &[Link] = &[
    Link::PERFECT,
    Link::FAR.losing(50),
    BURSTS,
    WIRELESS,
    OVERSEAS,
    NARROW,
    Link::FAR.through(1500),
    Link::FAR.losing(200),
];

fn storm(seed: u64, weather: Weather) -> Conference {
    let mut of = Conference::new(seed, weather.scene);
    let participants = weather.scene.participants as u64;
    for _ in 0..30 {
        let peer = of.rng.below(participants) as usize;
        let layer = of.rng.below(3) as usize;
        match of.rng.below(10) {
            0..=2 => {
                let one = of.video[of.rng.below(of.video.len() as u64) as usize];
                let wanted = SIZES[of.rng.below(5) as usize];
                of.world.want(one, wanted);
            }
            3 => {
                of.world.ways[peer].down_link =
                    Some(weather.links[of.rng.below(weather.links.len() as u64) as usize])
            }
            4 => {
                of.world.ways[peer].up_link =
                    Some(weather.links[of.rng.below(weather.links.len() as u64) as usize])
            }
            5 if weather.stalls => {
                let layer = &mut of.world.peers[peer].video[0].layers[layer];
                layer.on = !layer.on;
            }
            6 if weather.restarts => {
                let number = of.rng.next();
                let layer = &mut of.world.peers[peer].video[0].layers[layer];
                (layer.ssrc, layer.rtx_ssrc) = (number as u32, (number >> 16) as u32);
                (layer.seq, layer.time_offset, layer.keyframe_wanted) =
                    (number >> 50, (number >> 7) as u32, true);
            }
            7 => {
                let (start, now) = (of.world.start, of.world.now);
                let plain = of.world.peers[peer].video[0].layers[layer].padding(start, now);
                of.world.send(peer, "1", &plain);
            }
            8 => {
                let one = of.video[of.rng.below(of.video.len() as u64) as usize];
                let bytes =
                    of.world.peers[one.peer].seal_rtcp(|writer| writer.pli(1, one.ssrc).unwrap());
                of.world.send_sealed(one.peer, bytes);
            }
            _ => {}
        }
        let pause = MS * of.rng.below(500) as u32;
        of.world.run(pause);
    }
    clear_up(&mut of);
    of.check();
    of.check_flows();
    of
}

/// Everything is well again; whoever waits gets what it waits for.
fn clear_up(of: &mut Conference) {
    for ways in &mut of.world.ways {
        (ways.up_link, ways.down_link) = (Some(Link::PERFECT), Some(Link::PERFECT));
    }
    for layer in of
        .world
        .peers
        .iter_mut()
        .flat_map(|peer| &mut peer.video)
        .flat_map(|video| &mut video.layers)
    {
        layer.on = true;
    }
    of.world.run(6 * SECOND);
}

/// Runs a storm with many seeds and names those that fail.
fn seeds(from: u64, count: u64, weather: Weather) {
    let times = std::env::var("WEIR_SEEDS")
        .ok()
        .and_then(|times| times.parse().ok())
        .unwrap_or(1);
    let failed: Vec<u64> = (from..from + count * times)
        .filter(|seed| std::panic::catch_unwind(|| storm(*seed, weather)).is_err())
        .collect();
    assert_eq!(failed, [0; 0], "seeds of {weather:?}");
}

const STILL: Weather = Weather {
    scene: Scene {
        participants: 3,
        ..Scene::QUIET
    },
    links: LOSSY,
    stalls: false,
    restarts: false,
};

#[test]
fn losses_come_and_go() {
    seeds(1000, 40, STILL);
}

#[test]
fn losses_come_and_go_with_temporal_layers() {
    seeds(
        2000,
        20,
        Weather {
            scene: Scene {
                temporal: 2,
                ..STILL.scene
            },
            ..STILL
        },
    );
    seeds(
        2500,
        20,
        Weather {
            scene: Scene {
                temporal: 3,
                encrypted: true,
                ..STILL.scene
            },
            ..STILL
        },
    );
}

#[test]
fn layers_stall_and_start_anew() {
    seeds(
        3000,
        40,
        Weather {
            stalls: true,
            restarts: true,
            ..STILL
        },
    );
}

#[test]
fn anything_goes() {
    let scene = Scene {
        temporal: 3,
        ..STILL.scene
    };
    seeds(
        4000,
        40,
        Weather {
            scene,
            links: ANY,
            stalls: true,
            restarts: true,
        },
    );
}
