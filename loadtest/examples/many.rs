//! How long it takes until so many light participants are in calls of one publisher each, and what they cost then. Focus, homeserver and
//! participants are in this one process, so the processor time is that of all of them.
//!
//! ```sh
//! cargo run -p weir-loadtest --example many -- 300 10     # participants, seconds
//! ```

#[allow(dead_code)]
#[path = "../tests/system/site.rs"]
mod site;

use std::sync::Arc;
use std::time::{Duration, Instant};

use site::{PASSWORD, SMALL, Site};
use tokio::sync::Semaphore;
use weir_client::{Checks, Histogram, JoinConfig, Participant, Publish, generator_health};

/// Joins that are under way at once.
const AT_ONCE: usize = 32;
/// A focus takes 200 in a conference if nobody tells it otherwise.
const IN_A_CALL: u64 = 150;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse::<u64>());
    let mut next = |default| {
        arguments
            .next()
            .map_or(default, |number| number.expect("a number"))
    };
    let (count, seconds) = (next(300).clamp(1, 2000), next(10).clamp(1, 600));
    let site = Site::start(1, "127.0.0.1:0").await;
    let config = |user: String| {
        JoinConfig::new(
            &site.homeserver.url(),
            &user,
            PASSWORD,
            site.focus_address(),
        )
    };
    let (mut calls, mut everyone) = (Vec::new(), Vec::new());
    for index in 0..count.div_ceil(IN_A_CALL) {
        let call = site.call().await;
        let publisher = JoinConfig {
            wanted: None,
            ..config(format!("publisher{index}")).in_call(&call.room_id, &call.conf_id)
        };
        everyone.push(
            Participant::join(publisher)
                .await
                .expect("a publisher joins"),
        );
        calls.push(call);
    }
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let joins: Vec<_> = (0..count)
        .map(|index| {
            let call = &calls[(index / IN_A_CALL) as usize];
            let config = JoinConfig {
                publish: Publish::NOTHING,
                wanted: Some(SMALL),
                checks: Checks::Light,
                seed: Some(index),
                ..config(format!("light{index}")).in_call(&call.room_id, &call.conf_id)
            };
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                let _turn = turns.acquire().await.expect("never closed");
                let participant = Participant::join(config)
                    .await
                    .expect("a participant joins");
                let patience = Instant::now() + Duration::from_secs(60);
                while !participant.snapshot().connected && Instant::now() < patience {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                participant
            })
        })
        .collect();
    for join in joins {
        everyone.push(join.await.expect("a join"));
    }
    let connected = everyone.iter().filter(|of| of.snapshot().connected).count() - calls.len();
    println!(
        "{connected} of {count} connected after {:.1} s, {:.1} s of processor time",
        began.elapsed().as_secs_f64(),
        cpu_seconds() - cpu
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (health, cpu, before) = (generator_health(), cpu_seconds(), arrived(&everyone));
    let delay = delays(&everyone);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let health = generator_health().since(&health);
    let packets = arrived(&everyone) - before;
    println!(
        "then {:.0} packets/s arrived, {:.0} % of a core",
        packets as f64 / seconds as f64,
        (cpu_seconds() - cpu) / seconds as f64 * 100.0
    );
    let delay = delays(&everyone).since(&delay);
    println!(
        "delay ms: 50 % {:?}, 99 % {:?}",
        delay.percentile_ms(50.0),
        delay.percentile_ms(99.0)
    );
    println!(
        "99 % of sends at most {:?} ms late, timers {:?}, sockets {:?}; lost by full sockets {}, by full queues {}",
        health.send_late.percentile_ms(99.0),
        health.timer_late.percentile_ms(99.0),
        health.socket_late.percentile_ms(99.0),
        health.socket_overflows,
        health.queue_overflows
    );
    site.stop(everyone).await;
}

fn arrived(everyone: &[Participant]) -> u64 {
    everyone
        .iter()
        .map(|of| of.snapshot().transport.rtp_arrived())
        .sum()
}

fn delays(everyone: &[Participant]) -> Histogram {
    let mut delay = Histogram::default();
    for participant in everyone {
        let report = participant.snapshot();
        report
            .streams
            .iter()
            .for_each(|stream| delay.merge(&stream.delay));
    }
    delay
}

/// User and system time of this process, from `/proc/self/stat` (proc_pid_stat(5)): hundredths of seconds.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields = after_name.split_whitespace().skip(11).take(2);
    fields
        .filter_map(|ticks| ticks.parse::<f64>().ok())
        .sum::<f64>()
        / 100.0
}
