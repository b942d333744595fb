//! Conferences: everybody publishes a camera and a microphone and receives everybody else's, as browsers do.

use std::time::{Duration, Instant};

use weir_shard::Size;

use super::{AudioSource, Link, MS, Rng, SECOND, Subscribed, VideoSource, World};

/// What a conference is like.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub participants: usize,
    pub temporal: u8,
    /// Whether payloads are encrypted end to end.
    pub encrypted: bool,
    pub wanted: Option<Size>,
    /// Everybody's way, in both directions.
    pub link: Link,
    /// Packets that the shard keeps.
    pub history: usize,
}

impl Scene {
    pub const QUIET: Self = Self {
        participants: 2,
        temporal: 1,
        encrypted: false,
        wanted: Some(Size::new(640, 360)),
        link: Link::FAR,
        history: 4096,
    };
}

pub struct Conference {
    pub world: World,
    pub video: Vec<Subscribed>,
    pub audio: Vec<Subscribed>,
    pub rng: Rng,
}

impl Conference {
    pub fn new(seed: u64, scene: Scene) -> Self {
        let mut conference = Self {
            world: World::with(seed, |config| config.history_packets_max = scene.history),
            video: Vec::new(),
            audio: Vec::new(),
            rng: Rng::new(seed ^ 0xabcd),
        };
        (conference.world.up, conference.world.down) = (scene.link, scene.link);
        for _ in 0..scene.participants {
            conference.join(scene);
        }
        conference
    }

    /// One more, who sees everybody and is seen by everybody.
    pub fn join(&mut self, scene: Scene) -> usize {
        let (world, rng) = (&mut self.world, &mut self.rng);
        let peer = world.join();
        world.browse(peer);
        let mut camera = VideoSource::simulcast(camera_of(peer), "1", rng);
        camera.rtx = true;
        for layer in &mut camera.layers {
            (layer.temporal, layer.encrypted) = (scene.temporal, scene.encrypted);
        }
        world.publish_video(peer, camera);
        world.publish_audio(peer, AudioSource::new(microphone_of(peer), "0", rng));
        for other in 0..peer {
            self.see(peer, other, scene.wanted);
            self.see(other, peer, scene.wanted);
        }
        peer
    }

    fn see(&mut self, viewer: usize, of: usize, wanted: Option<Size>) {
        let world = &mut self.world;
        self.video
            .push(world.subscribe(viewer, camera_of(of), wanted));
        self.audio
            .push(world.subscribe(viewer, microphone_of(of), None));
    }
}

/// The track of a participant's camera.
pub fn camera_of(peer: usize) -> u8 {
    peer as u8 * 2 + 1
}

/// The track of a participant's microphone.
pub fn microphone_of(peer: usize) -> u8 {
    peer as u8 * 2 + 2
}
