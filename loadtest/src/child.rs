//! The focus under test as a child process, so that its CPU and memory are its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::fault::Fault;
use crate::machine;
use crate::plan::Plan;

/// How the child is set up.
#[derive(Debug, Clone)]
pub struct ChildConfig {
    /// The binary; `None` starts this program again as a focus, which is the same code of the same build.
    pub weir: Option<PathBuf>,
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
}

/// A running focus.
#[derive(Debug)]
pub struct FocusChild {
    child: Child,
    folder: Folder,
    http: SocketAddr,
}

/// A folder that goes when its owner goes.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies in the folder for temporary files: if it cannot be removed, the system will.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Its Matrix device id: chosen here, so that nobody has to read it from a log.
pub const DEVICE_ID: &str = "WEIRLOAD";

/// A focus is ready within a second; a cold machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// It hangs up everybody first.
const STOPS_WITHIN: Duration = Duration::from_secs(15);

impl FocusChild {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// No binary, a port in use, or its own last words.
    pub async fn start(config: &ChildConfig, plan: &Plan) -> Result<FocusChild, Fault> {
        let program = match &config.weir {
            Some(binary) if binary.is_file() => Program {
                binary: binary.clone(),
                subcommand: None,
            },
            Some(binary) => {
                return Err(Fault::NoBinary {
                    path: binary.display().to_string(),
                });
            }
            None => Program::own()?,
        };
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
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let folder = Folder::new().map_err(|error| Fault::FocusDidNotStart {
            cause: format!("a folder for its keys: {error}"),
        })?;
        let configuration = configuration(config, plan, &folder.0, http);
        let child = program.spawn(&folder.0, &configuration);
        let child = child.map_err(|error| Fault::FocusDidNotStart {
            cause: format!("{}: {error}", program.binary.display()),
        })?;
        let mut focus = FocusChild {
            child,
            folder,
            http,
        };
        focus.wait_until_ready().await?;
        Ok(focus)
    }

    /// Where `/metrics` is.
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.http)
    }

    /// Its process; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its last words if it has ended, which it never should by itself.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{status}: {}", self.last_words()))
    }

    /// Asks it to stop, and waits.
    pub async fn stop(mut self) {
        if let Some(id) = self.child.id() {
            let pid = nix::unistd::Pid::from_raw(id.cast_signed());
            // It may just have ended.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        if tokio::time::timeout(STOPS_WITHIN, self.child.wait())
            .await
            .is_err()
        {
            let _ = self.child.kill().await;
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), Fault> {
        let url = format!("http://{}/health/ready", self.http);
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if let Some(words) = self.ended() {
                return Err(Fault::FocusDidNotStart { cause: words });
            }
            let answer = reqwest::get(&url).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err(Fault::FocusDidNotStart {
            cause: format!(
                "not ready within {} s: {}",
                READY_WITHIN.as_secs(),
                self.last_words()
            ),
        })
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.folder.0.join("weir.log")).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or("it said nothing").trim().to_owned()
    }
}

impl Folder {
    fn new() -> std::io::Result<Folder> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!(
            "weir-load-{}-{}",
            std::process::id(),
            weir_client::random_id(6)
        );
        let folder = std::env::temp_dir().join(name);
        // It holds the keys of the focus's device.
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Folder(folder))
    }
}

/// What is executed.
#[derive(Debug)]
struct Program {
    binary: PathBuf,
    /// Of this program; `weir` itself has none.
    subcommand: Option<&'static str>,
}

/// Makes this program be a focus.
pub const FOCUS_SUBCOMMAND: &str = "focus";

impl Program {
    fn own() -> Result<Program, Fault> {
        let binary = std::env::current_exe().map_err(|error| Fault::FocusDidNotStart {
            cause: format!("this program cannot find itself ({error}); name a binary with --weir"),
        })?;
        Ok(Program {
            binary,
            subcommand: Some(FOCUS_SUBCOMMAND),
        })
    }

    fn spawn(&self, folder: &Path, configuration: &str) -> std::io::Result<Child> {
        let file = |name: &str| {
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create(true).mode(0o600);
            options.open(folder.join(name))
        };
        std::io::Write::write_all(&mut file("weir.toml")?, configuration.as_bytes())?;
        let log = file("weir.log")?;
        let mut command = Command::new(&self.binary);
        command
            .args(self.subcommand)
            .arg("--config")
            .arg(folder.join("weir.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // An interrupt of the terminal is for this program, which stops the child in order.
            .process_group(0)
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            // What the operator's own focus is told by the environment is not for this one.
            if name.to_string_lossy().starts_with("WEIR_") {
                command.env_remove(name);
            }
        }
        command.env("NO_COLOR", "1").spawn()
    }
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
         [media]\nlisten = [\"127.0.0.1:{media}\"]\n{shards}\
         [http]\nlisten = {http}\n\
         [limits]\nconferences_max = {conferences}\nparticipants_per_conference_max = {participants}\n\
         subscriptions_per_participant_max = {subscriptions}\ninvites_per_user_per_second = 10.0\n\
         invites_per_homeserver_per_second = 1000.0\n",
        homeserver = text(&config.homeserver),
        user = text(&config.user),
        password = text(&config.password),
        device = text(DEVICE_ID),
        store = text(&folder.join("store").display().to_string()),
        media = config.media_port,
        http = text(&http.to_string()),
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
            weir: None,
            homeserver: "http://127.0.0.1:8008".into(),
            user: "focus".into(),
            password: "with \"quotes\" and \\".into(),
            shards: Some(2),
            media_port: 0,
            http_port: 0,
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
        let password = parsed.matrix.password.expect("a password");
        assert_eq!(password.expose(), "with \"quotes\" and \\");
    }

    #[tokio::test]
    async fn a_binary_that_is_not_there_is_named() {
        let config = ChildConfig {
            weir: Some("/nowhere/weir".into()),
            homeserver: String::new(),
            user: String::new(),
            password: String::new(),
            shards: None,
            media_port: 0,
            http_port: 0,
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
