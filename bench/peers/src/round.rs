//! One server in one round: started, joined, measured, stopped. The same steps for every server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::StreamExt as _;
use tokio::time::Instant;
use weir_client::{GeneratorHealth, Kind as MediaKind, Report, generator_health};
use weir_loadtest::sample::process::{Process, Reading};

use crate::figures::Figures;
use crate::server::{Candidate, STREAMS, Server, Setup, Visitor};

/// How long it is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// What is measured.
    pub(crate) window: Duration,
    /// What is let pass before, when everybody receives everything.
    pub(crate) settle: Duration,
    /// Cores that the generator has to itself.
    pub(crate) generator_cores: usize,
}

/// Who joins at the same time. More would have handshakes wait for each other on the server's one core.
const JOINS_AT_ONCE: usize = 4;
/// One join takes a fraction of a second, also on a core that is busy.
const EACH_STARTS_WITHIN: Duration = Duration::from_secs(2);
const STARTS_WITHIN: Duration = Duration::from_secs(30);
const LOOKED_AT_EVERY: Duration = Duration::from_millis(20);

/// Everything that is known at one moment.
pub(crate) struct Moment {
    pub(crate) server: Reading,
    pub(crate) generator: Reading,
    pub(crate) health: GeneratorHealth,
    pub(crate) publisher: Arc<Report>,
    pub(crate) listeners: Vec<Arc<Report>>,
}

/// Measures one server; `tell` hears each step.
pub(crate) async fn measure(
    candidate: &Candidate,
    setup: &Setup,
    load: Load,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Figures> {
    tell("starting");
    let mut server = Server::start(candidate, setup)
        .await
        .context("it did not start")?;
    let mut visitors = Vec::with_capacity(setup.subscribers + 1);
    let measured = visit(&mut server, setup, load, &mut visitors, tell).await;
    tell("stopping");
    let leaving = futures_util::stream::iter(visitors).map(Visitor::leave);
    leaving.buffer_unordered(JOINS_AT_ONCE).count().await;
    server.stop().await;
    measured
}

/// `visitors` are who is there at the end, however it ends; the first is who publishes.
async fn visit(
    server: &mut Server,
    setup: &Setup,
    load: Load,
    visitors: &mut Vec<Visitor>,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<Figures> {
    let process = server.process()?;
    let empty = process.read().context("the server ended")?;
    join(server, setup, visitors, tell).await?;
    tokio::time::sleep(load.settle).await;
    tell("measuring");
    let first = moment(&process, visitors)?;
    tokio::time::sleep(load.window).await;
    // The process is asked for again because it may have ended, with something to say.
    let last = moment(&server.process()?, visitors)?;
    for visitor in visitors.iter() {
        let report = visitor.snapshot();
        ensure!(report.connected, "{} was dropped", report.user_id);
    }
    Figures::between(&empty, &first, &last, load.generator_cores)
}

async fn join(
    server: &Server,
    setup: &Setup,
    visitors: &mut Vec<Visitor>,
    tell: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    tell("joining");
    let publisher = server.publish(setup).await.context("who publishes")?;
    visitors.push(publisher);
    let sends = |report: &Report| report.sent.iter().any(|sent| sent.packets > 0);
    wait_until(&visitors[0], sends, STARTS_WITHIN)
        .await
        .context("who publishes sends nothing")?;
    let joining = (0..setup.subscribers).map(|index| server.subscribe(setup, index));
    let mut joining = futures_util::stream::iter(joining).buffer_unordered(JOINS_AT_ONCE);
    while let Some(joined) = joining.next().await {
        visitors.push(joined.context("who listens")?);
        tell(&format!(
            "joining: {} of {}",
            visitors.len() - 1,
            setup.subscribers
        ));
    }
    let count = u32::try_from(visitors.len()).unwrap_or(u32::MAX);
    let deadline = Instant::now() + STARTS_WITHIN + EACH_STARTS_WITHIN * count;
    for visitor in &visitors[1..] {
        let left = deadline.saturating_duration_since(Instant::now());
        wait_until(visitor, has_started, left)
            .await
            .context("who listens does not receive everything")?;
    }
    Ok(())
}

/// Whether a picture and a sound have begun.
fn has_started(report: &Report) -> bool {
    let begun = report.streams.iter().filter(|stream| {
        let video = stream.video.as_ref();
        let whole = video.is_some_and(|video| video.frames > 0);
        stream.live && stream.packets > 0 && (stream.kind == MediaKind::Audio || whole)
    });
    begun.count() >= STREAMS
}

async fn wait_until(
    visitor: &Visitor,
    holds: impl Fn(&Report) -> bool,
    within: Duration,
) -> Result<()> {
    let deadline = Instant::now() + within;
    loop {
        let report = visitor.snapshot();
        if holds(&report) {
            return Ok(());
        }
        if let Some(end) = report.ends.first() {
            bail!("{}: {end}", report.user_id);
        }
        ensure!(
            Instant::now() < deadline,
            "{}: not within {:.0} s",
            report.user_id,
            within.as_secs_f64()
        );
        tokio::time::sleep(LOOKED_AT_EVERY).await;
    }
}

fn moment(server: &Process, visitors: &[Visitor]) -> Result<Moment> {
    let mut reports = visitors.iter().map(Visitor::snapshot);
    Ok(Moment {
        server: server.read().context("the server ended")?,
        generator: Process::own().read().context("no /proc")?,
        health: generator_health(),
        publisher: reports.next().context("nobody publishes")?,
        listeners: reports.collect(),
    })
}
