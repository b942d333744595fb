//! The focus under test as a child process, so that its CPU and memory are its own.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use tokio::process::Command;
use weir_client::FocusAddress;

use super::{Folder, NotStarted, Place, ServerChild};
use crate::fault::Fault;
use crate::machine;
use crate::plan::Plan;

/// Which program is the focus.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FocusProgram {
    /// This one started again with [`FOCUS_SUBCOMMAND`]: the same code of the same build.
    #[default]
    Own,
    /// Another one that has that subcommand, for tests: their own program has not.
    Other(PathBuf),
    /// A binary `weir`.
    Weir(PathBuf),
}

/// How the child is set up.
#[derive(Debug, Clone)]
pub struct ChildConfig {
    /// What is started.
    pub program: FocusProgram,
    /// Base address of its homeserver.
    pub homeserver: String,
    /// Local part of its account.
    pub user: String,
    /// Password of its account.
    pub password: String,
    /// Threads that forward media; `None` leaves the focus's own default.
    pub shards: Option<usize>,
    /// UDP port of the first shard; 0 lets the system choose.
    pub media_port: u16,
    /// Port of its metrics; 0 takes a free one.
    pub http_port: u16,
    /// Where it listens for media and for HTTP.
    pub address: IpAddr,
    /// Where it runs.
    pub place: Place,
    /// One of several on this machine: its shards share cores with others', and `/conferences` says who is connected to it.
    pub beside_others: bool,
}

/// A running focus.
#[derive(Debug)]
pub struct FocusChild {
    server: ServerChild,
    http: SocketAddr,
}

/// Its Matrix device id: chosen here, so that nobody has to read it from a log.
const DEVICE_ID: &str = "WEIRLOAD";

/// How a focus is called that has this account on the embedded homeserver.
pub fn address_of(user: &str) -> FocusAddress {
    FocusAddress {
        user_id: format!("@{user}:localhost"),
        device_id: DEVICE_ID.to_owned(),
    }
}

impl FocusChild {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// No binary, a port in use, or its own last words.
    pub async fn start(config: &ChildConfig, plan: &Plan) -> Result<FocusChild, Fault> {
        let program = program(config)?;
        if config.media_port != 0 {
            machine::check_port(
                "the focus's media",
                "--media-port",
                config.media_port,
                machine::Protocol::Udp,
            )?;
        }
        let port = match config.http_port {
            0 => machine::free_port().map_err(|error| Fault::FocusDidNotStart {
                cause: error.to_string(),
            })?,
            port => {
                machine::check_port(
                    "the focus's metrics",
                    "--http-port",
                    port,
                    machine::Protocol::Tcp,
                )?;
                port
            }
        };
        let http = SocketAddr::from((config.address, port));
        let server = start_server(config, plan, &program, http).await;
        let server = server.map_err(|error| Fault::FocusDidNotStart {
            cause: error.to_string(),
        })?;
        Ok(FocusChild { server, http })
    }

    /// Where its HTTP side is.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where `/metrics` is.
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.http)
    }

    /// Its process; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.server.id()
    }

    /// The process.
    pub fn server(&mut self) -> &mut ServerChild {
        &mut self.server
    }

    /// Its last words if it has ended, which it never should by itself.
    pub fn ended(&mut self) -> Option<String> {
        self.server.ended()
    }

    /// Asks it to stop, and waits.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// Makes this program be a focus.
pub const FOCUS_SUBCOMMAND: &str = "focus";

/// The binary, and what of it makes a focus: `weir` itself needs no subcommand.
fn program(config: &ChildConfig) -> Result<(PathBuf, Option<&'static str>), Fault> {
    let (binary, subcommand) = match &config.program {
        FocusProgram::Weir(binary) => (binary.clone(), None),
        FocusProgram::Other(binary) => (binary.clone(), Some(FOCUS_SUBCOMMAND)),
        FocusProgram::Own => {
            let own = std::env::current_exe().map_err(|error| Fault::FocusDidNotStart {
                cause: format!(
                    "this program cannot find itself ({error}); name a binary with --weir"
                ),
            })?;
            return Ok((own, Some(FOCUS_SUBCOMMAND)));
        }
    };
    match binary.is_file() {
        true => Ok((binary, subcommand)),
        false => Err(Fault::NoBinary {
            path: binary.display().to_string(),
        }),
    }
}

async fn start_server(
    config: &ChildConfig,
    plan: &Plan,
    (binary, subcommand): &(PathBuf, Option<&'static str>),
    http: SocketAddr,
) -> Result<ServerChild, NotStarted> {
    // It holds the keys of the focus's device, too.
    let folder = Folder::new()?;
    let text = configuration(config, plan, folder.path(), http);
    let path = folder.write("weir.toml", &text)?;
    let mut command = Command::new(binary);
    command.args(subcommand).arg("--config").arg(path);
    for (name, _) in std::env::vars_os() {
        // What the operator's own focus is told by the environment is not for this one.
        if name.to_string_lossy().starts_with("WEIR_") {
            command.env_remove(name);
        }
    }
    let mut server = ServerChild::start(folder, command, &config.place)?;
    let url = &format!("http://{http}/health/ready");
    let ready = || async move {
        let answer = reqwest::get(url).await;
        answer.is_ok_and(|answer| answer.status().is_success())
    };
    server.wait_until_ready(ready).await?;
    Ok(server)
}

/// The configuration: as an operator would write it who knows how many will come.
fn configuration(config: &ChildConfig, plan: &Plan, folder: &Path, http: SocketAddr) -> String {
    let people = plan.people.len();
    let shards = config
        .shards
        .map_or_else(String::new, |shards| format!("shards = {shards}\n"));
    let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
    format!(
        "[matrix]\nhomeserver = {homeserver}\nuser = {user}\npassword = {password}\ndevice_id = {device}\nstore = {store}\n\
         [media]\nlisten = [{media}]\npin = {pin}\n{shards}\
         [http]\nlisten = {http}\nconferences = {conferences_shown}\n\
         [limits]\nconferences_max = {conferences}\nparticipants_per_conference_max = {participants}\n\
         subscriptions_per_participant_max = {subscriptions}\ninvites_per_user_per_second = 10.0\n\
         invites_per_homeserver_per_second = 1000.0\n",
        homeserver = text(&config.homeserver),
        user = text(&config.user),
        password = text(&config.password),
        device = text(DEVICE_ID),
        store = text(&folder.join("store").display().to_string()),
        media = text(&SocketAddr::from((config.address, config.media_port)).to_string()),
        pin = !config.beside_others,
        http = text(&http.to_string()),
        conferences_shown = config.beside_others,
        conferences = plan.calls.max(1000),
        participants = (people + 8).max(200),
        subscriptions = (4 * people).clamp(512, 2048),
    )
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Scenario, Settings};

    use super::*;

    #[test]
    fn the_configuration_is_one_that_the_focus_takes() {
        let config = ChildConfig {
            program: FocusProgram::Own,
            homeserver: "http://127.0.0.1:8008".into(),
            user: "focus".into(),
            password: "with \"quotes\" and \\".into(),
            shards: Some(2),
            media_port: 0,
            http_port: 0,
            address: [127, 0, 0, 1].into(),
            place: Place::default(),
            beside_others: true,
        };
        let settings = Settings {
            participants: 2500,
            ..Scenario::Lecture.defaults()
        };
        let address = ([127, 0, 0, 1], 7880).into();
        let text = configuration(&config, &settings.plan(), Path::new("/tmp/x"), address);
        let parsed = weir::config::Config::parse(&text, std::iter::empty()).expect(&text);
        assert_eq!(parsed.limits.participants_per_conference_max, 2509);
        assert_eq!(parsed.media.shards, Some(2));
        assert!(parsed.http.conferences && !parsed.media.pin);
        let password = parsed.matrix.password.expect("a password");
        assert_eq!(password.expose(), "with \"quotes\" and \\");
    }

    #[tokio::test]
    async fn a_binary_that_is_not_there_is_named() {
        let config = ChildConfig {
            program: FocusProgram::Weir("/nowhere/weir".into()),
            homeserver: String::new(),
            user: String::new(),
            password: String::new(),
            shards: None,
            media_port: 0,
            http_port: 0,
            address: [127, 0, 0, 1].into(),
            place: Place::default(),
            beside_others: false,
        };
        let plan = Scenario::Lecture.defaults().plan();
        let fault = FocusChild::start(&config, &plan)
            .await
            .expect_err("no focus");
        assert!(
            fault
                .to_string()
                .starts_with("no focus to start: /nowhere/weir does not exist"),
            "{fault}"
        );
    }
}
