//! Where a scenario is performed: a homeserver, a focus and rooms with calls. Either all of it is started here, or it is
//! somebody's, given by address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use weir_client::matrix::{Device, MatrixError};
use weir_client::{
    Checks, Decode, Detour, FocusAddress, JoinConfig, JoinError, Participant, Publish, Report,
};
use weir_homeserver::{Homeserver, StartError};

use crate::child::focus::{self, ChildConfig, FocusChild, FocusProgram};
use crate::child::{Place, ServerChild};
use crate::fault::{Fault, hint};
use crate::plan::Plan;
use crate::sample::process::Process;
use crate::sample::scrape::Scraper;

/// What the command line says about the place.
#[derive(Debug, Clone)]
pub struct SiteConfig {
    /// Somebody's homeserver and focus; `None` starts both.
    pub remote: Option<Remote>,
    /// Local parts of the users: this and a number.
    pub user_prefix: String,
    /// Password of all of them.
    pub password: String,
    /// What the focus is, where it is started here.
    pub program: FocusProgram,
    /// Its threads that forward media; `None` leaves its own default.
    pub shards: Option<usize>,
    /// UDP port of its first shard; 0 lets the system choose.
    pub media_port: u16,
    /// Port of its metrics; 0 takes a free one.
    pub http_port: u16,
    /// Port of the homeserver, where it is started here; 0 lets the system choose.
    pub homeserver_port: u16,
    /// Addresses of what is started here.
    pub placement: Placement,
}

impl SiteConfig {
    /// Homeserver and focus are started here, on loopback, on ports that the system chooses.
    pub fn here(user_prefix: &str, program: FocusProgram) -> SiteConfig {
        SiteConfig {
            remote: None,
            user_prefix: user_prefix.to_owned(),
            password: String::new(),
            program,
            shards: None,
            media_port: 0,
            http_port: 0,
            homeserver_port: 0,
            placement: Placement::default(),
        }
    }
}

/// At which addresses of this machine homeserver and focus are, and where the focus runs.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Of the homeserver. Nothing keeps strangers away from it.
    pub homeserver: IpAddr,
    /// Of the focus: media and HTTP.
    pub focus: IpAddr,
    /// The focus's process.
    pub place: Place,
}

impl Default for Placement {
    /// Both on loopback.
    fn default() -> Placement {
        Placement {
            homeserver: Ipv4Addr::LOCALHOST.into(),
            focus: Ipv4Addr::LOCALHOST.into(),
            place: Place::default(),
        }
    }
}

/// Somebody's homeserver and focus.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Base address of the Client-Server API.
    pub homeserver: String,
    /// The device that is the focus.
    pub focus: FocusAddress,
    /// The room of the call; `None` makes one for each conference and invites the focus.
    pub room: Option<String>,
    /// The call's id in that room; `None` announces a new one.
    pub call: Option<String>,
    /// The focus's `/metrics`, in full.
    pub metrics: Option<String>,
}

/// A room and the call in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The room.
    pub room_id: String,
    /// The call's id.
    pub conf_id: String,
}

/// Everything that participants need.
#[derive(Debug)]
pub struct Site {
    /// Base address of the homeserver.
    pub homeserver: String,
    /// Local parts of the users: this and a number.
    pub user_prefix: String,
    /// Their password.
    pub password: String,
    /// Whom to call.
    pub focus: FocusAddress,
    /// One for each conference of the plan.
    pub calls: Vec<Call>,
    /// The focus's metrics, if their address is known.
    pub metrics: Option<Scraper>,
    /// The focus's process, if it is on this machine.
    pub process: Option<Process>,
    child: Option<FocusChild>,
    embedded: Option<Homeserver>,
}

/// Nobody but this process ever sees the embedded homeserver's accounts: it listens on loopback and forgets all.
const EMBEDDED_PASSWORD: &str = "weir-load";
const FOCUS_USER: &str = "focus";
/// The focus joins the room of an invitation in a fraction of a second; through federation it takes longer.
const FOCUS_JOINS_WITHIN: Duration = Duration::from_secs(20);
/// An answer takes well under a second.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

impl Site {
    /// Starts what is to be started, makes rooms and calls, and tries one call.
    ///
    /// # Errors
    /// Whatever would keep everybody from joining, by name.
    pub async fn open(
        config: &SiteConfig,
        plan: &Plan,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Site, Fault> {
        let mut site = match &config.remote {
            Some(remote) => Site::remote(config, remote)?,
            None => Site::embedded(config, plan, progress).await?,
        };
        let opened = site.prepare(config, plan, progress).await;
        match opened {
            Ok(()) => Ok(site),
            Err(fault) => {
                site.close().await;
                Err(fault)
            }
        }
    }

    fn remote(config: &SiteConfig, remote: &Remote) -> Result<Site, Fault> {
        let scraper = remote.metrics.clone().map(Scraper::new).transpose();
        let metrics = scraper.map_err(|error| Fault::Usage(format!("--metrics: {error}")))?;
        Ok(Site {
            homeserver: remote.homeserver.trim_end_matches('/').to_owned(),
            user_prefix: config.user_prefix.clone(),
            password: config.password.clone(),
            focus: remote.focus.clone(),
            calls: Vec::new(),
            metrics,
            process: None,
            child: None,
            embedded: None,
        })
    }

    async fn embedded(
        config: &SiteConfig,
        plan: &Plan,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<Site, Fault> {
        progress("starting the homeserver");
        let listen = SocketAddr::from((config.placement.homeserver, config.homeserver_port));
        let homeserver = Homeserver::start(weir_homeserver::Config {
            server_name: "localhost".into(),
            listen,
        });
        let homeserver = homeserver.await.map_err(|error| match error {
            StartError::Listen { listen, source }
                if source.kind() == std::io::ErrorKind::AddrInUse =>
            {
                Fault::PortInUse {
                    what: "the embedded homeserver",
                    address: listen,
                    flag: "--homeserver-port",
                }
            }
            other => Fault::HomeserverUnreachable {
                url: listen.to_string(),
                cause: other.to_string(),
            },
        })?;
        let url = homeserver.url();
        let site = Site {
            homeserver: url.clone(),
            user_prefix: config.user_prefix.clone(),
            password: EMBEDDED_PASSWORD.into(),
            focus: focus::address_of(FOCUS_USER),
            calls: Vec::new(),
            metrics: None,
            process: None,
            child: None,
            embedded: Some(homeserver),
        };
        site.login(FOCUS_USER).await?;
        progress("starting the focus");
        let child = ChildConfig {
            program: config.program.clone(),
            homeserver: url,
            user: FOCUS_USER.into(),
            password: EMBEDDED_PASSWORD.into(),
            shards: config.shards,
            media_port: config.media_port,
            http_port: config.http_port,
            address: config.placement.focus,
            place: config.placement.place.clone(),
            beside_others: false,
        };
        let child = FocusChild::start(&child, plan).await?;
        let metrics = Scraper::new(child.metrics_url());
        Ok(Site {
            process: child.id().map(Process::new),
            metrics: metrics.ok(),
            child: Some(child),
            ..site
        })
    }

    async fn prepare(
        &mut self,
        config: &SiteConfig,
        plan: &Plan,
        progress: &(dyn Fn(&str) + Sync),
    ) -> Result<(), Fault> {
        progress("logging in");
        let host = self.login(&self.user(0)).await?;
        self.check_device(&host).await?;
        let named = config
            .remote
            .as_ref()
            .and_then(|remote| Some((remote.room.clone()?, remote.call.clone())));
        if named.is_some() && plan.calls > 1 {
            let text = "--room names one room, and this scenario needs several: leave it out";
            return Err(Fault::Usage(text.into()));
        }
        progress("making rooms with calls");
        match named {
            Some((room_id, call)) => self.use_room(&host, room_id, call).await?,
            None => {
                for _ in 0..plan.calls {
                    self.make_room(&host).await?;
                }
            }
        }
        progress("trying a call");
        self.try_call().await
    }

    /// Everything that was started here stops.
    pub async fn close(self) {
        if let Some(child) = self.child {
            child.stop().await;
        }
        if let Some(homeserver) = self.embedded {
            homeserver.shutdown().await;
        }
    }

    /// Local part of a person's user.
    pub fn user(&self, person: usize) -> String {
        format!("{}{}", self.user_prefix, person + 1)
    }

    /// The focus in words.
    pub fn describe(&self) -> String {
        match &self.child {
            Some(_) => "a child process of this one, with the embedded homeserver".into(),
            None => format!(
                "{} {} at {}",
                self.focus.user_id, self.focus.device_id, self.homeserver
            ),
        }
    }

    /// Whether focus and generator share a machine.
    pub fn is_here(&self) -> bool {
        self.child.is_some()
    }

    /// The focus's last words, if it was started here and has ended.
    pub fn focus_ended(&mut self) -> Option<String> {
        self.child.as_mut()?.ended()
    }

    /// The focus's process, if it was started here.
    pub fn server(&mut self) -> Option<&mut ServerChild> {
        Some(self.child.as_mut()?.server())
    }

    /// What a person needs to join; the rest is the plan's.
    pub fn join_config(&self, person: usize, call: usize) -> JoinConfig {
        let config = JoinConfig::new(
            &self.homeserver,
            &self.user(person),
            &self.password,
            self.focus.clone(),
        );
        let call = &self.calls[call];
        config.in_call(&call.room_id, &call.conf_id)
    }

    async fn login(&self, user: &str) -> Result<Device, Fault> {
        let login = Device::login(&self.homeserver, user, &self.password).await;
        login.map_err(|error| match error {
            MatrixError::Refused { status: 429, .. } => Fault::RateLimited { what: "logins" },
            MatrixError::Refused {
                status: 400..=499,
                errcode,
                error,
            } if errcode.starts_with("M_") && errcode != "M_UNRECOGNIZED" => {
                Fault::WrongCredentials {
                    user: user.to_owned(),
                    first: self.user(0),
                    cause: one_line(&format!("{errcode}: {error}")),
                }
            }
            other => Fault::HomeserverUnreachable {
                url: self.homeserver.clone(),
                cause: one_line(&other.to_string()),
            },
        })
    }

    /// A message to a device that does not exist is dropped without a word: better asked before.
    async fn check_device(&self, host: &Device) -> Result<(), Fault> {
        let query = json!({"device_keys": {&self.focus.user_id: []}});
        let Ok(answer) = host.call(Method::POST, "keys/query", Some(&query)).await else {
            // A homeserver without this endpoint: then the call itself will tell.
            return Ok(());
        };
        let devices = answer["device_keys"][&self.focus.user_id].as_object();
        let known: Vec<&str> = devices
            .into_iter()
            .flat_map(|devices| devices.keys().map(String::as_str))
            .collect();
        if known.contains(&self.focus.device_id.as_str()) {
            return Ok(());
        }
        Err(Fault::UnknownDevice {
            user: self.focus.user_id.clone(),
            device: self.focus.device_id.clone(),
            known: if known.is_empty() {
                "none".into()
            } else {
                known.join(", ")
            },
        })
    }

    async fn use_room(
        &mut self,
        host: &Device,
        room_id: String,
        call: Option<String>,
    ) -> Result<(), Fault> {
        let joined = host.join_room(&room_id).await;
        joined.map_err(|error| room_fault(&room_id, &error))?;
        let conf_id = match call {
            Some(conf_id) => conf_id,
            None => {
                let conf_id = weir_client::random_id(16);
                let put = host.put_call(&room_id, &conf_id).await;
                put.map_err(|error| room_fault(&room_id, &error))?;
                conf_id
            }
        };
        self.calls.push(Call { room_id, conf_id });
        Ok(())
    }

    async fn make_room(&mut self, host: &Device) -> Result<(), Fault> {
        let made = host.create_room().await;
        let room_id = made.map_err(|error| room_fault("that is to be made", &error))?;
        let invited = host.invite(&room_id, &self.focus.user_id).await;
        invited.map_err(|error| room_fault(&room_id, &error))?;
        self.wait_for_focus(host, &room_id).await?;
        let conf_id = weir_client::random_id(16);
        let put = host.put_call(&room_id, &conf_id).await;
        put.map_err(|error| room_fault(&room_id, &error))?;
        self.calls.push(Call { room_id, conf_id });
        Ok(())
    }

    async fn wait_for_focus(&self, host: &Device, room_id: &str) -> Result<(), Fault> {
        let path = format!("rooms/{}/joined_members", escape(room_id));
        let deadline = Instant::now() + FOCUS_JOINS_WITHIN;
        while Instant::now() < deadline {
            let members: Value = host
                .get(&path)
                .await
                .map_err(|error| room_fault(room_id, &error))?;
            if members["joined"].get(&self.focus.user_id).is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(Fault::FocusStaysAway {
            room: room_id.to_owned(),
            seconds: FOCUS_JOINS_WITHIN.as_secs(),
        })
    }

    /// One spectator joins and leaves again: what goes wrong here would go wrong for everybody.
    async fn try_call(&self) -> Result<(), Fault> {
        let config = JoinConfig {
            publish: Publish::NOTHING,
            wanted: None,
            checks: Checks::Full {
                decode: Decode::NONE,
            },
            ..self.join_config(0, 0)
        };
        let room = &self.calls[0].room_id;
        let participant = Participant::join(config)
            .await
            .map_err(|error| match error {
                JoinError::Homeserver(error) => room_fault(room, &error),
                other => Fault::Room {
                    room: room.clone(),
                    cause: one_line(&other.to_string()),
                },
            })?;
        let deadline = Instant::now() + ANSWERS_WITHIN;
        let fault = loop {
            let report = participant.report();
            if report.connected_after_ms.is_some() {
                break None;
            }
            if let Some(reason) = report.ends.first() {
                break Some(ended_fault(reason));
            }
            if Instant::now() > deadline {
                break Some(self.silent_fault(&report));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        participant.leave().await;
        fault.map_or(Ok(()), Err)
    }

    fn silent_fault(&self, report: &Report) -> Fault {
        if report.latencies.answer_ms.is_some() {
            return Fault::NoMedia {
                cause: format!(
                    "no connection came up within {} s",
                    ANSWERS_WITHIN.as_secs()
                ),
            };
        }
        Fault::FocusSilent {
            user: self.focus.user_id.clone(),
            device: self.focus.device_id.clone(),
            seconds: ANSWERS_WITHIN.as_secs(),
        }
    }
}

/// All datagrams to the focus pass this address instead.
pub fn detour(relay: SocketAddr) -> Detour {
    Detour::new(move |_| Some(relay))
}

fn ended_fault(reason: &str) -> Fault {
    let reason = one_line(reason);
    if reason.starts_with("m.call.reject") || reason.starts_with("m.call.hangup") {
        return Fault::FocusRejects {
            hint: hint(&reason),
            reason,
        };
    }
    Fault::NoMedia { cause: reason }
}

fn room_fault(room: &str, error: &MatrixError) -> Fault {
    match error {
        MatrixError::Refused { status: 429, .. } => Fault::RateLimited {
            what: "requests about rooms",
        },
        other => Fault::Room {
            room: room.to_owned(),
            cause: one_line(&other.to_string()),
        },
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// For a path (RFC 3986 §2.3).
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let each = |byte: u8| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_the_first_call_ended_becomes_a_fault_with_a_hint() {
        let rejected = ended_fault("m.call.reject: too_many_participants").to_string();
        assert_eq!(
            rejected,
            "the focus rejects calls: m.call.reject: too_many_participants; raise limits.participants_per_conference_max in its configuration"
        );
        let unreachable = ended_fault("ICE: no candidate pair\nworks").to_string();
        assert!(
            unreachable.starts_with(
                "the focus cannot be reached by UDP: it answered, but ICE: no candidate pair works"
            ),
            "{unreachable}"
        );
    }
}
