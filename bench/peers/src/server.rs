//! A server of any kind: started, joined, stopped. What the kinds have in common, and what they are asked to carry.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Serialize;
use weir_client::attendance::{Attendance, Guest};
use weir_client::{
    Camera, Checks, Decode, LayerRate, Participant, Publish, Report, TransportFeedback,
};
use weir_loadtest::child::Place;
use weir_loadtest::sample::process::Process;

use crate::janus::{self, Janus};
use crate::livekit::{self, LiveKit};
use crate::weir::Weir;

/// Every packet and every frame is checked; decoding would take the generator's core and tell nothing of a server's speed.
pub(crate) const CHECKS: Checks = Checks::Full {
    decode: Decode::NONE,
};
/// The name of who publishes, where the server does not give one.
const PUBLISHER: &str = "publisher";
/// Streams that a listener receives: a picture and a sound.
pub(crate) const STREAMS: usize = 2;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Weir,
    Janus,
    Livekit,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Weir => "Weir",
            Kind::Janus => "Janus",
            Kind::Livekit => "LiveKit",
        }
    }
}

/// A server that is there to be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) kind: Kind,
    /// `None` is this program itself.
    pub(crate) binary: Option<PathBuf>,
}

/// What is the same for all servers.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// Core and network of the server.
    pub(crate) place: Place,
    /// Where the server is.
    pub(crate) server_ip: IpAddr,
    /// Where participants are.
    pub(crate) own_ip: IpAddr,
    pub(crate) subscribers: usize,
    /// Payload of the picture, kilobits per second.
    pub(crate) kbps: u32,
}

/// One camera without simulcast, so that every server has the same to do, and a microphone.
pub(crate) fn publishing(setup: &Setup) -> Publish {
    let rate = LayerRate { kbps: setup.kbps };
    Publish {
        video: Some(Camera {
            layers: [Some(rate), None, None],
        }),
        audio: true,
    }
}

/// Who publishes, at a server other than a focus.
pub(crate) fn publisher(setup: &Setup) -> Guest {
    Guest {
        publish: publishing(setup),
        ..guest(PUBLISHER.into())
    }
}

/// One of those who listen, at a server other than a focus.
pub(crate) fn listener(index: usize) -> Guest {
    Guest {
        listens_to: PUBLISHER.into(),
        expects: STREAMS,
        ..guest(format!("listener{}", index + 1))
    }
}

/// What both negotiate alike.
fn guest(name: String) -> Guest {
    Guest {
        name,
        listens_to: String::new(),
        publish: Publish::NOTHING,
        expects: 0,
        checks: CHECKS,
        feedback: TransportFeedback::None,
        rids: Vec::new(),
    }
}

/// A running server.
pub(crate) enum Server {
    Weir(Box<Weir>),
    Janus(Janus),
    LiveKit(LiveKit),
}

impl Server {
    pub(crate) async fn start(candidate: &Candidate, setup: &Setup) -> Result<Server> {
        let binary = candidate.binary.as_deref();
        let named = || binary.context("no binary");
        Ok(match candidate.kind {
            Kind::Weir => Server::Weir(Box::new(Weir::start(binary, setup).await?)),
            Kind::Janus => Server::Janus(Janus::start(named()?, setup).await?),
            Kind::Livekit => Server::LiveKit(LiveKit::start(named()?, setup).await?),
        })
    }

    /// Its process; an error is its last words.
    pub(crate) fn process(&mut self) -> Result<Process> {
        let child = match self {
            Server::Weir(weir) => weir.child(),
            Server::Janus(janus) => Some(janus.child()),
            Server::LiveKit(livekit) => Some(livekit.child()),
        };
        let child = child.context("the server is no child of this process")?;
        if let Some(words) = child.ended() {
            anyhow::bail!("the server ended: {words}");
        }
        Ok(Process::new(child.id().context("the server has ended")?))
    }

    pub(crate) async fn publish(&self, setup: &Setup) -> Result<Visitor> {
        Ok(match self {
            Server::Weir(weir) => Visitor::Weir(weir.publish(setup).await?),
            Server::Janus(janus) => Visitor::Janus(Box::new(janus.publish(setup).await?)),
            Server::LiveKit(livekit) => Visitor::LiveKit(livekit.publish(setup).await?),
        })
    }

    pub(crate) async fn subscribe(&self, setup: &Setup, index: usize) -> Result<Visitor> {
        Ok(match self {
            Server::Weir(weir) => Visitor::Weir(weir.subscribe(index).await?),
            Server::Janus(janus) => Visitor::Janus(Box::new(janus.subscribe(setup, index).await?)),
            Server::LiveKit(livekit) => Visitor::LiveKit(livekit.subscribe(setup, index).await?),
        })
    }

    pub(crate) async fn stop(self) {
        match self {
            Server::Weir(weir) => weir.stop().await,
            Server::Janus(janus) => janus.stop().await,
            Server::LiveKit(livekit) => livekit.stop().await,
        }
    }
}

/// A participant that is there.
pub(crate) enum Visitor {
    Weir(Participant),
    Janus(Box<janus::Call>),
    LiveKit(livekit::Call),
}

impl Visitor {
    pub(crate) fn snapshot(&self) -> Arc<Report> {
        let attendance: &Attendance = match self {
            Visitor::Weir(participant) => return participant.snapshot(),
            Visitor::Janus(call) => call.attendance(),
            Visitor::LiveKit(call) => call.attendance(),
        };
        attendance.snapshot()
    }

    pub(crate) async fn leave(self) {
        match self {
            Visitor::Weir(participant) => participant.leave().await,
            Visitor::Janus(call) => call.leave().await,
            Visitor::LiveKit(call) => call.leave().await,
        }
    }
}
