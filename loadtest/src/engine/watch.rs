//! Looks at the focus, at the crowd and at this process once a second, and whenever it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use weir_client::{GeneratorHealth, generator_health};

use super::crowd::Crowd;
use crate::report::Sample;
use crate::report::tally::{Totals, quantiles_of};
use crate::sample::process::{Cpu, Process, Reading};
use crate::sample::scrape::{Scraper, Sums};
use crate::site::Site;

/// Everything at one moment.
#[derive(Debug, Clone)]
pub struct Moment {
    /// When.
    pub at: Instant,
    /// The focus's process.
    pub focus: Option<Reading>,
    /// The focus's metrics.
    pub metrics: Option<Sums>,
    /// This process.
    pub generator: Option<Reading>,
    /// How this process keeps up.
    pub health: GeneratorHealth,
    /// What all participants have received.
    pub totals: Totals,
}

/// What happened between two moments.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Of how many seconds.
    pub seconds: f64,
    /// The focus.
    pub focus: Option<Cpu>,
    /// This process.
    pub generator: Cpu,
    /// How this process kept up.
    pub health: GeneratorHealth,
    /// What arrived.
    pub totals: Totals,
    /// Cores of this machine, if the focus runs on it.
    pub shares_machine: bool,
}

/// The counter of packets that the focus hands to the kernel, by stage.
pub const FORWARDED: &str = "weir_shard_rtp_forwarded_total";

/// Samples that are kept: a day of them.
const SAMPLES_MAX: usize = 86_400;

/// The task that looks.
#[derive(Debug)]
pub(super) struct Watch {
    eye: Arc<Eye>,
    task: JoinHandle<()>,
    gone: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Eye {
    crowd: Crowd,
    focus: Option<Process>,
    metrics: Option<Scraper>,
    own: Process,
    measuring: AtomicBool,
    samples: Mutex<Vec<Sample>>,
}

impl Watch {
    pub(super) async fn start(
        site: &Site,
        crowd: Crowd,
        began: Instant,
        progress: impl Fn(&str) + Send + Sync + 'static,
    ) -> Watch {
        let eye = Arc::new(Eye {
            crowd,
            focus: site.process.clone(),
            metrics: site.metrics.clone(),
            own: Process::own(),
            measuring: AtomicBool::new(false),
            samples: Mutex::default(),
        });
        let (gone_sender, gone) = watch::channel(false);
        let task = tokio::spawn(Arc::clone(&eye).look(began, progress, gone_sender));
        Watch { eye, task, gone }
    }

    /// Everything as it is now.
    pub(super) async fn moment(&self) -> Moment {
        self.eye.moment().await
    }

    /// Whether samples from here on belong to the measurement.
    pub(super) fn set_measuring(&self, measuring: bool) {
        self.eye.measuring.store(measuring, Ordering::Relaxed);
    }

    /// Resolves when the focus's process has ended.
    pub(super) fn focus_gone(&self) -> impl Future<Output = ()> + use<> {
        let mut gone = self.gone.clone();
        async move {
            if gone.wait_for(|gone| *gone).await.is_err() {
                std::future::pending().await
            }
        }
    }

    /// Ends the looking; gives what was seen.
    pub(super) async fn stop(self) -> Vec<Sample> {
        self.task.abort();
        // Its only result is the abortion.
        let _ = self.task.await;
        std::mem::take(&mut *self.eye.samples.lock().await)
    }
}

impl Eye {
    async fn moment(&self) -> Moment {
        let metrics = match &self.metrics {
            Some(metrics) => metrics.read().await,
            None => None,
        };
        Moment {
            at: Instant::now(),
            focus: self.focus.as_ref().and_then(Process::read),
            metrics,
            generator: self.own.read(),
            health: generator_health(),
            totals: self.crowd.totals(),
        }
    }

    async fn look(
        self: Arc<Self>,
        began: Instant,
        progress: impl Fn(&str) + Send + Sync,
        gone: watch::Sender<bool>,
    ) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut last = self.moment().await;
        loop {
            ticks.tick().await;
            let now = self.moment().await;
            if self.focus.is_some() && now.focus.is_none() {
                gone.send_replace(true);
                return;
            }
            let sample = self.sample(&last, &now, began);
            progress(&line(&sample, self.crowd.announced(), self.crowd.people()));
            let mut samples = self.samples.lock().await;
            if samples.len() < SAMPLES_MAX {
                samples.push(sample);
            }
            last = now;
        }
    }

    fn sample(&self, last: &Moment, now: &Moment, began: Instant) -> Sample {
        let seen = Seen::between(last, now);
        let forwarded = |moment: &Moment| moment.metrics.as_ref()?.get(FORWARDED).copied();
        let forwarded = forwarded(now).zip(forwarded(last));
        Sample {
            at_s: now.at.duration_since(began).as_secs_f64(),
            measured: self.measuring.load(Ordering::Relaxed),
            participants: now.totals.connected,
            focus_cpu: seen.focus.as_ref().map(|focus| focus.total),
            focus_busiest: seen.focus.as_ref().map(|focus| focus.busiest),
            focus_threads: seen.focus.map(|focus| focus.by_name).unwrap_or_default(),
            focus_rss_kib: now.focus.as_ref().map(|focus| focus.rss_kib),
            focus_files: now.focus.as_ref().map(|focus| focus.files),
            focus_packets: forwarded.map(|(now, last)| (now - last).max(0.0) / seen.seconds),
            generator_cpu: seen.generator.total,
            generator_rss_kib: now.generator.as_ref().map_or(0, |own| own.rss_kib),
            generator_lag_ms: seen.health.timer_late.percentile_ms(99.0).unwrap_or(0.0),
            packets: seen.totals.packets as f64 / seen.seconds,
            bps: seen.totals.bytes as f64 * 8.0 / seen.seconds,
            lost: seen.totals.lost as f64 / seen.seconds,
            delay_ms: quantiles_of(&seen.totals.delay),
        }
    }
}

impl Seen {
    /// What happened from one moment to a later one.
    pub fn between(from: &Moment, to: &Moment) -> Seen {
        let cpu = |from: &Option<Reading>, to: &Option<Reading>| {
            Some(to.as_ref()?.cpu_since(from.as_ref()?))
        };
        let focus = cpu(&from.focus, &to.focus);
        Seen {
            seconds: to.at.duration_since(from.at).as_secs_f64().max(1e-3),
            shares_machine: focus.is_some(),
            focus,
            generator: cpu(&from.generator, &to.generator).unwrap_or_default(),
            health: to.health.since(&from.health),
            totals: to.totals.since(&from.totals),
        }
    }
}

fn line(sample: &Sample, announced: &str, people: usize) -> String {
    let mut line = format!(
        "{announced}: {} of {people} in, {:.1} Mbit/s, {:.0} packets/s",
        sample.participants,
        sample.bps / 1e6,
        sample.packets
    );
    if let Some(delay) = sample.delay_ms {
        line.push_str(&format!(", delay 99 % {:.1} ms", delay.p99));
    }
    if sample.lost > 0.0 {
        line.push_str(&format!(", lost {:.0}/s", sample.lost));
    }
    if let Some(cpu) = sample.focus_cpu {
        line.push_str(&format!(", focus {cpu:.2} cores"));
    }
    line.push_str(&format!(", generator {:.2}", sample.generator_cpu));
    line
}
