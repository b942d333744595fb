//! One running focus: its Matrix device, shards, associations and conferences, and the loop between them.
//!
//! [`Focus::start`] gives a focus that answers invites; it lives until [`Focus::shutdown`]. Several can run in one process.
//!
//! | file | what it is |
//! |---|---|
//! | `driver` | the loop |
//! | `associations` | DTLS and data channels of all transports |
//! | `shards` | the shards' ends of the rings |
//! | `invites` | invites that overtook the room state that allows them |
//! | `kept` | what a killed focus leaves behind |
//! | `metrics` | what `/metrics` says |
//! | `overview` | what `/conferences` says |
//! | `addresses` | what clients are told to send to |

mod addresses;
mod associations;
mod convert;
mod driver;
mod invites;
mod kept;
mod metrics;
mod overview;
mod shards;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use tokio::{
    sync::{Notify, oneshot, watch},
    task::{JoinHandle, JoinSet},
};
use weir_transport::Certificate;

use crate::{
    appservice::{Tokens, endpoint::Endpoint, ping},
    authorise::{Authoriser, Policy},
    blip,
    conference::{Conferences, ParticipantId, Settings, Timing},
    config::{Appservice, Authorisation, Blip, Config, PolicyName},
    discovery::WellKnown,
    http::{self, Readiness},
    listening::Listening,
};
use associations::Associations;
use driver::Driver;
use invites::PendingInvites;
use kept::Kept;
use metrics::{Exporter, Metrics};
use overview::OverviewTeller;
use shards::Shard;

pub(crate) use driver::unix_now;

/// A running focus.
#[derive(Debug)]
pub struct Focus {
    id: ParticipantId,
    http: Listening,
    blip: Option<Listening>,
    /// Where the homeserver pushes to, and what makes sure that it can; only of an application service.
    appservice: Option<(Listening, JoinHandle<()>)>,
    stop: oneshot::Sender<()>,
    driver: JoinHandle<()>,
    /// Closed when the driver ends, in whatever way.
    running: watch::Receiver<()>,
    shard_threads: Vec<i32>,
}

impl Focus {
    /// Starts shards and HTTP, logs in, and begins to answer.
    ///
    /// # Errors
    /// Whatever cannot be had (an address in use, a core, io_uring, the homeserver, the store), with what to do about it.
    /// Nothing is left running then.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let metrics = Metrics::default();
        let readiness = Readiness::default();
        let well_known = WellKnown::default();
        let wake = Arc::new(Notify::new());
        let shards = start_shards(&config, &wake)?;
        let exporter = Exporter::new(&metrics, shards.iter().map(Shard::handle));
        let shown = config.http.conferences;
        let (overview, conferences) = shown
            .then(|| watch::channel(r#"{"foci":[]}"#.to_owned()))
            .unzip();
        let pages = http::Pages {
            page: config.http.page,
            conferences,
        };
        let http = http::start(
            config.http.listen,
            pages,
            readiness.clone(),
            well_known.clone(),
            move || exporter.render(),
        )
        .await
        .with_context(|| format!("http.listen = {}: cannot listen", config.http.listen))?;
        let blip = start_blip(&config.blip, &metrics).await?;
        let store = &config.matrix.store;
        config
            .matrix
            .create_store()
            .with_context(|| format!("matrix.store = {store:?}: cannot be created"))?;
        let tokens = match &config.appservice {
            Some(appservice) => Some(Tokens::load(&config, appservice)?),
            None => None,
        };
        let (device, incoming) =
            weir_matrix::connect(device_config(&config, tokens.as_ref())).await?;
        let id = ParticipantId::new(device.user_id(), device.device_id());
        well_known.set(&id, blip_address(blip.as_ref(), &config.media.advertise));
        let certificate = Certificate::generate()?;
        let settings = Settings {
            focus: id.clone(),
            shards: shards
                .iter()
                .map(|shard| {
                    addresses::advertised(shard.handle().addresses(), &config.media.advertise)
                })
                .collect(),
            fingerprint: certificate.fingerprint().into(),
            limits: config.limits.clone(),
            timing: Timing::default(),
            seed: rand::random(),
        };
        let appservice = match (&config.appservice, tokens) {
            (Some(appservice), Some(tokens)) => {
                Some(start_appservice(appservice, tokens, &device, &metrics).await?)
            }
            _ => None,
        };
        tracing::info!(addresses = ?settings.shards, http = %http.address(), "listening");
        let shard_threads = shards
            .iter()
            .map(|shard| shard.handle().thread_id())
            .collect();
        let store = &config.matrix.store;
        let mut rooms_of_calls = Kept::load(store.join("rooms_of_calls.json"));
        let mut authoriser = Authoriser::new(policy(&config.authorisation), device.user_id());
        authoriser.restore_calls(rooms_of_calls.take_left_behind());
        let driver = Driver {
            conferences: Conferences::new(settings),
            authoriser,
            device,
            incoming,
            shards,
            wake,
            associations: Associations::new(certificate, metrics.clone()),
            pending: PendingInvites::default(),
            live_calls: Kept::load(store.join("live_calls.json")),
            rooms_of_calls,
            readiness,
            metrics,
            overview: overview.map(|document| OverviewTeller::new(id.clone(), document)),
            sending: JoinSet::new(),
        };
        let (stop, stopped) = oneshot::channel();
        let (until_end, running) = watch::channel(());
        let driver = tokio::spawn(async move {
            let _until_end = until_end;
            driver.run(stopped).await;
        });
        Ok(Self {
            id,
            http,
            blip,
            appservice,
            stop,
            driver,
            running,
            shard_threads,
        })
    }

    /// The user and the device that clients call.
    pub fn id(&self) -> &ParticipantId {
        &self.id
    }

    /// Where health, metrics and the page are.
    pub fn http_address(&self) -> SocketAddr {
        self.http.address()
    }

    /// Where the blip port is, if there is one.
    pub fn blip_address(&self) -> Option<SocketAddr> {
        self.blip.as_ref().map(Listening::address)
    }

    /// The kernel's thread ids of the shards.
    pub fn shard_threads(&self) -> &[i32] {
        &self.shard_threads
    }

    /// Waits until the focus has ended without being told to, which is a fault.
    pub async fn ended(&self) {
        // Nothing is ever sent: the only change is that the sender goes.
        while self.running.clone().changed().await.is_ok() {}
    }

    /// Hangs up every call, stops the shards, and waits for it all.
    pub async fn shutdown(self) {
        // A driver that has ended already needs no telling.
        let _ = self.stop.send(());
        if let Err(error) = self.driver.await {
            tracing::error!(%error, "the control loop ended");
        }
        if let Some((endpoint, pings)) = self.appservice {
            pings.abort();
            endpoint.shutdown().await;
        }
        self.http.shutdown().await;
        if let Some(blip) = self.blip {
            blip.shutdown().await;
        }
    }
}

/// Listens for the homeserver, and asks it to push.
async fn start_appservice(
    config: &Appservice,
    tokens: Tokens,
    device: &weir_matrix::Device,
    metrics: &Metrics,
) -> anyhow::Result<(Listening, JoinHandle<()>)> {
    let link = device
        .appservice()
        .context("logged in as no application service")?;
    let counters = &metrics.appservice;
    let endpoint = Endpoint::new(tokens.hs_token, link.clone(), Arc::clone(counters));
    let server = http::serve(config.listen, endpoint.router())
        .await
        .with_context(|| format!("appservice.listen = {}: cannot listen", config.listen))?;
    let pings = tokio::spawn(ping::run(link.clone(), Arc::clone(counters)));
    Ok((server, pings))
}

fn start_shards(config: &Config, wake: &Arc<Notify>) -> anyhow::Result<Vec<Shard>> {
    let media = &config.media;
    let mut shards = Vec::with_capacity(media.shard_count());
    for index in 0..media.shard_count() {
        let mut shard = weir_uring::Config::new(index, media.listen_of(index));
        shard.core = media.core_of(index);
        shard.shard.seed = rand::random();
        shard.shard.voices_all_up_to = config.audio.all_up_to;
        shard.shard.voices_loudest = config.audio.loudest;
        shard.shard.calling_sockets = u8::try_from(media.calling_ports).unwrap_or(u8::MAX);
        shard.shard.unix_time = driver::unix_now();
        let handle = weir_uring::spawn(shard).with_context(|| format!("shard {index}"))?;
        shards.push(Shard::new(handle, Arc::clone(wake))?);
    }
    Ok(shards)
}

async fn start_blip(config: &Blip, metrics: &Metrics) -> anyhow::Result<Option<Listening>> {
    let Some(listen) = config.listen else {
        return Ok(None);
    };
    let metrics = metrics.clone();
    let port = blip::start(listen, config.connections_per_second, move || {
        metrics.blips.add(1);
    });
    let port = port.await;
    port.map(Some)
        .with_context(|| format!("blip.listen = {listen}: cannot listen"))
}

/// Where clients find the blip port: the first address that they are told.
fn blip_address(port: Option<&Listening>, advertise: &[IpAddr]) -> Option<SocketAddr> {
    let listening = [port?.address()];
    addresses::advertised(&listening, advertise)
        .first()
        .copied()
}

fn device_config(config: &Config, tokens: Option<&Tokens>) -> weir_matrix::Config {
    let matrix = &config.matrix;
    let appservice = config.appservice.as_ref().zip(tokens);
    let login = match (appservice, &matrix.password, &matrix.access_token) {
        (Some((appservice, tokens)), _, _) => {
            weir_matrix::Login::Appservice(weir_matrix::Appservice {
                id: appservice.id.clone(),
                token: tokens.as_token.expose().into(),
            })
        }
        (None, _, Some(token)) => weir_matrix::Login::AccessToken(token.expose().into()),
        (None, password, None) => weir_matrix::Login::Password(
            password
                .as_ref()
                .map_or("", |password| password.expose())
                .into(),
        ),
    };
    let mut device =
        weir_matrix::Config::new(&matrix.homeserver, &matrix.user, login, &matrix.store);
    device.store_passphrase = matrix
        .store_passphrase
        .as_ref()
        .map(|passphrase| passphrase.expose().into());
    device.device_id.clone_from(&matrix.device_id);
    device.display_name.clone_from(&matrix.display_name);
    device.invites = match matrix.rooms_max {
        0 => weir_matrix::InvitePolicy::Ignore,
        rooms_max => weir_matrix::InvitePolicy::Accept { rooms_max },
    };
    device
}

fn policy(authorisation: &Authorisation) -> Policy {
    match authorisation.policy {
        PolicyName::Membership => Policy::Membership,
        PolicyName::Homeservers => Policy::Homeservers(authorisation.homeservers.clone()),
        PolicyName::Open => Policy::Open,
    }
}
