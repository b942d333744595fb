//! Weir: the focus as a child process, a homeserver in this process, and participants that call through it.

use std::path::Path;

use anyhow::Result;
use weir_client::{Checks, JoinConfig, Participant, Publish};
use weir_loadtest::child::ServerChild;
use weir_loadtest::child::focus::FocusProgram;
use weir_loadtest::plan::{Depth, LARGE, Person, Plan};
use weir_loadtest::site::{Placement, Site, SiteConfig};

use crate::server::{CHECKS, Setup, publishing};

/// A running focus with a call.
pub(crate) struct Weir(Site);

impl Weir {
    /// `binary` is the focus's; `None` starts this program again as one.
    pub(crate) async fn start(binary: Option<&Path>, setup: &Setup) -> Result<Weir> {
        let program = binary.map(Path::to_owned);
        let program = program.map_or(FocusProgram::Own, FocusProgram::Weir);
        let config = SiteConfig {
            // All of it is on one core.
            shards: Some(1),
            placement: Placement {
                homeserver: setup.own_ip,
                focus: setup.server_ip,
                place: setup.place.clone(),
            },
            ..SiteConfig::here("peer", program)
        };
        let progress = |step: &str| tracing::debug!(step, "Weir");
        let site = Site::open(&config, &plan(setup.subscribers), &progress).await?;
        Ok(Weir(site))
    }

    pub(crate) fn child(&mut self) -> Option<&mut ServerChild> {
        self.0.server()
    }

    pub(crate) async fn publish(&self, setup: &Setup) -> Result<Participant> {
        let config = JoinConfig {
            publish: publishing(setup),
            wanted: None,
            checks: CHECKS,
            ..self.0.join_config(0, 0)
        };
        Ok(Participant::join(config).await?)
    }

    pub(crate) async fn subscribe(&self, index: usize) -> Result<Participant> {
        let config = JoinConfig {
            publish: Publish::NOTHING,
            wanted: Some(LARGE),
            checks: CHECKS,
            ..self.0.join_config(index + 1, 0)
        };
        Ok(Participant::join(config).await?)
    }

    pub(crate) async fn stop(self) {
        self.0.close().await;
    }
}

/// What the focus has to be prepared for.
fn plan(subscribers: usize) -> Plan {
    let depth = match CHECKS {
        Checks::Full { .. } => Depth::Full,
        Checks::Light => Depth::Light,
    };
    let person = |publishes: bool| Person {
        call: 0,
        video: publishes,
        audio: publishes,
        wants: (!publishes).then_some(LARGE),
        wants_of: Vec::new(),
        checks: depth,
    };
    let listeners = (0..subscribers).map(|_| person(false));
    Plan {
        calls: 1,
        people: std::iter::once(person(true)).chain(listeners).collect(),
        joins: Vec::new(),
        events: Vec::new(),
        seconds: 0.0,
        steps: Vec::new(),
    }
}
