//! What the kernel alone costs for the sends of a fan-out: as many sends, segments and bytes to the same sockets, at the same pace,
//! without crypto, rules or receiving.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::audience::Audience;
use crate::fanout::{Counts, Load, Outcome, Pace};
use crate::kernel::{Run, Sends};
use crate::source::Source;
use weir_bench::machine::{Cores, CpuTime};
use weir_bench::network::Network;

/// How the floor is to send.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pattern {
    /// As a fan-out did.
    Like {
        /// Sends of one frame to one subscriber, on average.
        sends_per_frame: f64,
        /// What header and tag add to a payload.
        overhead_bytes: usize,
    },
    /// The same run again and again.
    Fixed(Run),
}

impl Pattern {
    /// The pattern of what was counted.
    pub(crate) fn of(outcome: &Outcome, subscribers: usize) -> Self {
        let counts = &outcome.counts;
        let frames = (counts.frames.max(1) * subscribers as u64) as f64;
        let datagram_bytes = counts.bytes as f64 / counts.datagrams.max(1) as f64;
        Self::Like {
            sends_per_frame: counts.sends as f64 / frames,
            overhead_bytes: (datagram_bytes - outcome.payload_bytes).max(0.0).round() as usize,
        }
    }
}

/// Cuts packets into as many runs as the pattern has on average; `debt` carries the rest to the next frame.
fn runs(pattern: Pattern, payload_lens: &[usize], debt: &mut f64) -> Vec<Run> {
    let (sends_per_frame, overhead_bytes) = match pattern {
        Pattern::Fixed(run) => return vec![run],
        Pattern::Like {
            sends_per_frame,
            overhead_bytes,
        } => (sends_per_frame, overhead_bytes),
    };
    *debt += sends_per_frame;
    let count = (debt.round() as usize).clamp(1, payload_lens.len());
    *debt -= count as f64;
    let segment_bytes = payload_lens.iter().max().unwrap_or(&0) + overhead_bytes;
    let (each, more) = (payload_lens.len() / count, payload_lens.len() % count);
    (0..count)
        .map(|at| Run {
            segments: each + usize::from(at < more),
            segment_bytes,
        })
        .collect()
}

/// Sends in the pattern, for as long as the load lasts. `audience` has been verified when this returns.
pub(crate) fn run(
    network: &Network,
    cores: &Cores,
    load: &Load,
    audience: &mut Audience,
    pattern: Pattern,
) -> Result<Outcome> {
    audience.stop_reading()?;
    audience.begin(network)?;
    let destinations = audience.addresses()?;
    let (outcome, sent) = network.near(|| {
        let floor = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                cores.enter_measured()?;
                let socket = UdpSocket::bind(SocketAddr::new(network.near_ip(), 0))?;
                // What the filters take for media, wherever a datagram begins.
                let payload = [load.medium.codec().payload_type];
                let sends =
                    Sends::new(socket, &destinations, &payload).context("the floor's ring")?;
                send_all(load, sends, destinations.len(), pattern)
            });
            thread.join()
        });
        floor.map_err(|_| anyhow::anyhow!("the floor panicked"))?
    })?;
    audience.verify(network, sent, 0, &[])?;
    Ok(outcome)
}

fn send_all(
    load: &Load,
    mut sends: Sends,
    subscribers: usize,
    pattern: Pattern,
) -> Result<(Outcome, u64)> {
    let thread_id = nix::unistd::gettid().as_raw();
    let mut source = Source::settled(load.medium);
    let (start, warm_up) = (Instant::now(), load.warm_up.min(Duration::from_millis(500)));
    let (mut counts, mut packets, mut debt) = (Counts::default(), 0, 0.0);
    let mut before = None;
    loop {
        let frame = source.next_frame();
        if let Pace::Times(times) = load.pace {
            let at = start + load.medium.due(frame.number, times) - load.medium.settling();
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
        }
        if before.is_none() && start.elapsed() >= warm_up {
            before = Some((CpuTime::of(thread_id)?, Instant::now()));
            counts = Counts::default();
        }
        if let Some((cpu, at)) = before.filter(|(_, at)| at.elapsed() >= load.duration) {
            let outcome = Outcome {
                counts,
                cpu: CpuTime::of(thread_id)?.since(cpu),
                wall: at.elapsed(),
                delays_us: [0.0; 4],
                payload_bytes: 0.0,
            };
            return Ok((outcome, packets));
        }
        let runs = runs(pattern, &frame.payload_lens, &mut debt);
        let failed = sends.send(&runs)?;
        ensure!(
            failed == 0,
            "the kernel refused {failed} sends of the floor"
        );
        let segments = runs.iter().map(|run| run.segments as u64).sum::<u64>();
        packets += segments;
        counts.frames += 1;
        counts.forwarded += segments * subscribers as u64;
        counts.datagrams += segments * subscribers as u64;
        counts.sends += (runs.len() * subscribers) as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_leaves_in_as_many_sends_as_it_did() {
        let pattern = Pattern::Like {
            sends_per_frame: 1.5,
            overhead_bytes: 40,
        };
        let mut debt = 0.0;
        let lens = [1000, 1000, 1000, 999, 999];
        let counts: Vec<usize> = (0..1000)
            .map(|_| {
                let runs = runs(pattern, &lens, &mut debt);
                assert_eq!(runs.iter().map(|run| run.segments).sum::<usize>(), 5);
                assert!(runs.iter().all(|run| run.segment_bytes == 1040));
                runs.len()
            })
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), 1500);
    }
}
