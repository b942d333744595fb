//! Nothing on the packet path allocates: a counting allocator watches receive, route, rewrite, seal, transmit, sent, free.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Instant;

use support::trunk::Foci;
use support::world::Watch;
use support::{AudioSource, Bottleneck, Link, MS, Rng, SECOND, Subscribed, VideoSource, World};
use weir_shard::{Path, ReceiveBuffer, Size};
use weir_wire::Seq;

thread_local! {
    /// Allocations of this thread; `None` while they are not counted.
    static COUNT: Cell<Option<u64>> = const { Cell::new(None) };
}

struct Counting;

fn count() {
    // The thread may be on its way out, when its locals are gone.
    let _ = COUNT.try_with(|count| count.set(count.get().map(|n| n + 1)));
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments; counting touches no memory of it.
#[allow(unsafe_code, reason = "a global allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the trait demands of our own caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the trait demands of our own caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as the trait demands of our own caller.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    COUNT.set(Some(0));
    work();
    COUNT.take().unwrap_or(0)
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
    assert_eq!(allocations(|| ()), 0);
}

/// Ten more seconds of the camera and the microphone in sealed datagrams, and what one subscriber reports meanwhile.
fn prepare(
    world: &mut World,
    publisher: usize,
    video: Subscribed,
) -> Vec<(Instant, SocketAddr, Vec<u8>)> {
    let mut camera = world.peers[publisher].video[0].clone();
    let mut microphone = world.peers[publisher].audio[0].clone();
    let last = world
        .received(video)
        .last()
        .map_or(0, |(_, packet)| packet.seq);
    let (start, address) = (world.now, world.peers[publisher].address);
    let mut prepared = Vec::new();
    for tick in 0..2000 {
        let now = start + 5 * MS * tick;
        for (index, layer) in camera
            .layers
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| tick % [6, 10, 13][*index] == 0)
        {
            layer.keyframe_wanted = tick % 600 == 0;
            for plain in layer.encode(1, index as u8, world.start, now) {
                prepared.push((now, address, world.peers[publisher].seal("1", &plain, now)));
            }
        }
        if tick % 4 == 0 {
            let plain = microphone.encode(world.start, now);
            prepared.push((now, address, world.peers[publisher].seal("0", &plain, now)));
        }
        if tick % 50 == 0 {
            let missing: Vec<Seq> = (0..100)
                .map(|step| Seq(last.wrapping_add(step + tick as u16 * 2 / 3)))
                .collect();
            let peer = &mut world.peers[video.peer];
            let report = peer.seal_rtcp(|writer| {
                writer.nack(1, video.ssrc, &missing).unwrap();
                // Answered by the keyframe that every 600th tick brings.
                if tick % 600 == 550 {
                    writer.pli(1, video.ssrc).unwrap();
                }
            });
            prepared.push((now, peer.address, report));
        }
    }
    // Some are lost, so that holes are noted and reported as well.
    let mut number = 0;
    prepared.retain(|_| {
        number += 1;
        number % 97 != 0
    });
    prepared
}

#[test]
fn packets_pass_without_allocation() {
    let mut world = World::new(1);
    let mut rng = Rng::new(1);
    let publisher = world.join();
    let subscribers = [world.join(), world.join(), world.join()];
    world.publish_video(publisher, VideoSource::simulcast(1, "1", &mut rng));
    world.publish_audio(publisher, AudioSource::new(2, "0", &mut rng));
    let wanted = [None, Some(Size::new(640, 360)), Some(Size::new(1280, 720))];
    let videos: Vec<_> = subscribers
        .iter()
        .zip(wanted)
        .map(|(peer, wanted)| world.subscribe(*peer, 1, wanted))
        .collect();
    for peer in subscribers {
        world.subscribe(peer, 2, None);
    }
    world.run(10 * SECOND);

    let prepared = prepare(&mut world, publisher, videos[2]);
    let forwarded = world.counters.rtp_forwarded.get();
    let mut buffers: Vec<ReceiveBuffer> = (3000..6000).map(ReceiveBuffer::new).collect();
    let mut transmits = 0;
    let shard = &mut world.shard;
    let found = allocations(|| {
        for (now, address, datagram) in &prepared {
            let mut buffer = buffers.pop().expect("buffers come back");
            buffer.fill(datagram);
            shard.handle_datagram(buffer, Path::listening(*address), *now);
            shard.handle_timeout(*now);
            shard.flush(*now);
            while let Some(transmit) = shard.poll_transmit() {
                transmits += transmit.segments();
                shard.handle_sent(transmit.buffer);
            }
            while let Some(buffer) = shard.poll_free() {
                buffers.push(buffer);
            }
        }
    });
    let forwarded = world.counters.rtp_forwarded.get() - forwarded;
    assert!(
        prepared.len() > 2400 && forwarded > 3000 && transmits as u64 > forwarded,
        "{forwarded} of {}",
        prepared.len()
    );
    let (resends, requests) = (
        world.counters.resends.get(),
        world.counters.keyframe_requests_sent.get(),
    );
    assert!(
        resends > 100 && requests > 5 && world.counters.nacks_sent.get() > 5,
        "{resends} resends, {requests} keyframe requests"
    );
    assert_eq!(found, 0, "allocations in {} packets", prepared.len());
}

thread_local! {
    /// Allocations of watched calls.
    static WATCHED: Cell<u64> = const { Cell::new(0) };
}

fn watch(what: Watch) {
    match what {
        Watch::Begins => COUNT.set(Some(0)),
        Watch::Ends => WATCHED.set(WATCHED.get() + COUNT.take().unwrap_or(0)),
    }
}

/// Browsers on ways that lose and narrow: feedback, estimates, probes, resends on streams of their own, layer changes, and more
/// voices than are forwarded.
#[test]
fn a_call_over_bad_ways_passes_without_allocation() {
    let mut world = World::with(3, |config| {
        (config.voices_all_up_to, config.voices_loudest) = (2, 1);
    });
    let mut rng = Rng::new(3);
    let publisher = world.join();
    world.publish_video(publisher, VideoSource::simulcast(1, "1", &mut rng));
    world.publish_audio(publisher, AudioSource::new(2, "0", &mut rng));
    let viewers = [world.join(), world.join(), world.join()];
    let mut videos = Vec::new();
    for (index, peer) in viewers.into_iter().enumerate() {
        world.publish_audio(peer, AudioSource::new(3 + index as u8, "0", &mut rng));
        world.browse(peer);
        videos.push(world.subscribe(peer, 1, Some(Size::new(1280, 720))));
        world.subscribe(peer, 2, None);
    }
    let lossy = Link::FAR.losing(50);
    (world.up, world.down) = (lossy, lossy);
    world.ways[viewers[2]].down_link = Some(Link {
        bottleneck: Some(Bottleneck {
            bits_per_second: 600_000,
            queue: 300 * MS,
        }),
        ..lossy
    });
    // What is allocated once, when a thing is first needed, is no part of the packet path.
    world.run(10 * SECOND);
    let before = (
        world.counters.resends.get(),
        world.counters.switches.get(),
        world.counters.rtp_forwarded.get(),
    );
    world.watch = Some(watch);
    for turn in 0..20 {
        let wanted = [Size::new(320, 180), Size::new(1280, 720)][turn % 2];
        world.want(videos[0], Some(wanted));
        world.run(SECOND);
    }
    let (resends, switches, forwarded) = (
        world.counters.resends.get() - before.0,
        world.counters.switches.get() - before.1,
        world.counters.rtp_forwarded.get() - before.2,
    );
    assert!(
        resends > 100 && switches >= 19 && forwarded > 3000,
        "{resends} resends, {switches} switches, {forwarded} packets"
    );
    assert_eq!(WATCHED.get(), 0, "allocations");
}

/// From the first check of a trunk, over its selection, to consent checks of minutes, and what strangers send instead of answers.
#[test]
fn a_trunk_comes_about_and_lasts_without_allocation() {
    let mut foci = Foci::new(5, Link::FAR.losing(50));
    foci.near.watch = Some(watch);
    foci.far.watch = Some(watch);
    let dead = SocketAddr::from(([192, 0, 2, 200], 4000));
    foci.check(&[dead, foci.far_at]);
    for _ in 0..60 {
        foci.run(2 * SECOND);
        let (_, _, check) = foci.checks().pop().expect("it checks");
        foci.near.datagram(foci.far_at, &check);
    }
    let confirmed = foci.near.counters.checks_confirmed.get();
    assert!(confirmed > 15, "{confirmed} answers");
    assert_eq!(WATCHED.get(), 0, "allocations");
}
