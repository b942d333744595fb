//! Decodes frames on a thread of its own and checks the frame numbers in the pictures.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::checks::Violations;
use crate::clips::CLIP_FRAMES;
use crate::decode::{Decoder, Picture};
use crate::frames::Frame;
use crate::participant::DecodedFrames;
use crate::pattern;
use crate::receive::frames_off;
use crate::report::Violation;

/// Three seconds of a few videos: more would only hide for longer that the machine is too slow.
const QUEUE_FRAMES: usize = 300;

/// A decoding thread; ends when all that know it are dropped.
#[derive(Debug, Clone)]
pub struct DecodeThread(SyncSender<(Arc<Pictures>, Frame)>);

/// The decoder's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl DecodeThread {
    /// Starts the thread.
    pub fn start() -> DecodeThread {
        let (sender, receiver) = sync_channel(QUEUE_FRAMES);
        let run = move || run(&receiver);
        // A participant without a decoder cannot check anything, and a machine without threads cannot run one.
        std::thread::Builder::new()
            .name("vp8-decode".into())
            .spawn(run)
            .expect("a thread for the decoder");
        DecodeThread(sender)
    }

    /// One of those that the participants of a process share. A stream must stay with one of them, and streams differ in size: there
    /// are twice as many as cores, so that a thread with large pictures has a core to itself while another has nothing to do.
    pub fn shared() -> DecodeThread {
        static THREADS: LazyLock<Vec<DecodeThread>> = LazyLock::new(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            (0..2 * cores).map(|_| DecodeThread::start()).collect()
        });
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed) % THREADS.len();
        THREADS[next].clone()
    }

    /// Queues a frame of a stream.
    pub fn send(&self, pictures: &Arc<Pictures>, frame: Frame) -> Result<(), Busy> {
        self.0
            .try_send((Arc::clone(pictures), frame))
            .map_err(|_| Busy)
    }
}

fn run(receiver: &Receiver<(Arc<Pictures>, Frame)>) {
    while let Ok((pictures, frame)) = receiver.recv() {
        pictures.decode(&frame);
    }
}

/// The pictures of one stream.
#[derive(Debug)]
pub struct Pictures {
    /// Made for the first frame: most streams of a large conference are never decoded.
    decoder: Mutex<Option<Decoder>>,
    seen: Mutex<Seen>,
    stuck: AtomicBool,
    frames: DecodedFrames,
}

impl Default for Pictures {
    fn default() -> Pictures {
        Pictures::new(DecodedFrames::All)
    }
}

/// What was decoded so far.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Pictures.
    pub decoded: u64,
    /// Width and height of the latest.
    pub size: (u16, u16),
    /// Changes of it after the first.
    pub size_changes: u64,
    /// Pictures with a readable number.
    pub numbered: u64,
    /// The latest number, its source and its RTP time.
    pub last: Option<(pattern::Code, u32)>,
    /// Numbers left out.
    pub numbers_missed: u64,
    /// When the first picture was decoded.
    pub first_at: Option<Instant>,
    /// The decoder refused a frame and waits for a keyframe.
    pub stuck: bool,
    /// Broken rules.
    pub violations: Violations,
}

impl Pictures {
    /// None yet, of a stream of which these are decoded.
    pub fn new(frames: DecodedFrames) -> Pictures {
        Pictures {
            decoder: Mutex::default(),
            seen: Mutex::default(),
            stuck: AtomicBool::new(false),
            frames,
        }
    }

    /// The decoder refused a frame and waits for a keyframe.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Broken rules.
    pub fn violations(&self) -> Violations {
        lock(&self.seen).violations.clone()
    }

    /// What was decoded so far.
    pub fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }

    fn decode(&self, frame: &Frame) {
        let result = lock(&self.decoder)
            .get_or_insert_default()
            .decode(&frame.data);
        let mut seen = lock(&self.seen);
        seen.violations.at(Instant::now());
        match result {
            Ok(Some(picture)) => seen.handle(&picture, frame, self.frames),
            Ok(None) => {}
            Err(_) if seen.stuck => {}
            Err(error) => {
                seen.stuck = true;
                seen.violations
                    .add(Violation::Undecodable, || error.to_string());
            }
        }
        self.stuck.store(seen.stuck, Ordering::Relaxed);
    }
}

impl Seen {
    fn handle(&mut self, picture: &Picture, frame: &Frame, frames: DecodedFrames) {
        self.stuck = false;
        self.decoded += 1;
        self.first_at.get_or_insert_with(Instant::now);
        let size = (picture.width, picture.height);
        let resized = self.decoded > 1 && size != self.size;
        self.size_changes += u64::from(resized);
        self.size = size;
        let (width, height) = (size.0.into(), size.1.into());
        match pattern::read(&picture.planes[0], width, width, height) {
            Ok(code) => {
                let complete = frames == DecodedFrames::All && !resized && !frame.after_skip;
                self.number(code, frame.timestamp, frame.after_loss, complete);
            }
            // A camera may film anything; but what has been numbered stays numbered.
            Err(error) if self.numbered > 0 => {
                self.violations.add(Violation::NumberUnreadable, || {
                    format!("{error} at time {}", frame.timestamp)
                });
            }
            Err(_) => {}
        }
    }

    /// Within one layer the number moves exactly as the time stamp does; over a change of layers, and over frames that were not decoded,
    /// it may be off by two.
    fn number(&mut self, code: pattern::Code, timestamp: u32, after_loss: bool, complete: bool) {
        self.numbered += 1;
        let Some((last, last_time)) = self.last.replace((code, timestamp)) else {
            return;
        };
        // Other sources may film loops of any length, with any frame rate.
        if code.source != 0 || last.source != 0 {
            return;
        }
        let off = frames_off(code.number, last.number, timestamp.wrapping_sub(last_time));
        let tolerance = if !complete || after_loss { 2 } else { 0 };
        if off.abs() > tolerance {
            let describe = || {
                let numbers = (last.number, code.number);
                format!(
                    "{} after {}, {off} frames more than time",
                    numbers.1, numbers.0
                )
            };
            self.violations.add(Violation::NumberJump, describe);
        }
        let moved = i64::from(code.number) - i64::from(last.number);
        let steps = moved.rem_euclid(i64::from(CLIP_FRAMES));
        if complete && steps > 1 {
            self.numbers_missed += steps as u64 - 1;
        }
    }
}

/// A thread that panicked with the lock has only counted too little.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clips::{Clips, is_keyframe};

    fn frame(data: &[u8], number: u32, after_loss: bool) -> Frame {
        Frame {
            data: data.to_vec(),
            keyframe: is_keyframe(data),
            timestamp: number * 3000,
            after_loss,
            after_skip: false,
        }
    }

    fn violations(seen: &Seen) -> Vec<Violation> {
        seen.violations
            .counts()
            .iter()
            .map(|count| count.violation)
            .collect()
    }

    #[test]
    fn numbers_follow_the_time_over_the_loop_and_over_a_change_of_layers() {
        let (clips, pictures) = (Clips::committed(), Pictures::default());
        let (small, large) = (&clips.layers[2], &clips.layers[1]);
        let data = small
            .rare
            .iter()
            .chain(&small.rare[..20])
            .chain(&large.often[20..30]);
        for (time, data) in (0..).zip(data) {
            pictures.decode(&frame(data, time, false));
        }
        let seen = pictures.seen();
        assert_eq!(
            (seen.decoded, seen.numbered, seen.size_changes, seen.size),
            (180, 180, 1, (640, 360))
        );
        assert_eq!((violations(&seen), seen.numbers_missed), (vec![], 0));
    }

    #[test]
    fn catches_pictures_that_jump_while_the_time_does_not() {
        let (clips, pictures) = (Clips::committed(), Pictures::default());
        pictures.decode(&frame(&clips.layers[2].often[0], 0, false));
        pictures.decode(&frame(&clips.layers[2].often[20], 1, false));
        let seen = pictures.seen();
        assert_eq!(
            (violations(&seen), seen.numbers_missed),
            (vec![Violation::NumberJump], 19)
        );
    }

    #[test]
    fn catches_a_frame_that_does_not_decode() {
        let (clips, pictures) = (Clips::committed(), Pictures::default());
        pictures.decode(&frame(&clips.layers[2].often[1], 0, false));
        assert_eq!(violations(&pictures.seen()), [Violation::Undecodable]);
        assert!(pictures.seen().stuck);
        pictures.decode(&frame(&clips.layers[2].often[10], 1, false));
        assert!(!pictures.seen().stuck);
    }
}
