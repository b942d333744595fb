//! Starts a homeserver, one focus or several, a room with a call and synthetic participants, and stops them again. One focus runs in
//! this process, several are children of it.

mod focus;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir::http::{self, Pages};
use weir::listening::Listening;
use weir_client::matrix::Device;
use weir_client::{FocusAddress, JoinConfig, Participant, Report, Size};
use weir_homeserver::Homeserver;

use crate::child::focus::FocusProgram;
use crate::gather::{self, Asked};
use focus::StageFocus;
pub(crate) use focus::{address_of, focus_config};

/// What is put on the stage.
#[derive(Debug, Clone)]
pub struct StageConfig {
    /// Synthetic participants; with several foci the first is at the first, the second at the second, and so on around.
    pub participants: usize,
    /// Foci, all in one call. At least one.
    pub foci: usize,
    /// Threads of each focus that forward media.
    pub shards: usize,
    /// Where the page is served, on the loopback interface; 0 lets the system choose.
    pub port: u16,
    /// Accounts for people, `guest1` and so on.
    pub guests: usize,
    /// What is started where there are several foci.
    pub program: FocusProgram,
}

impl Default for StageConfig {
    /// One focus with a shard, and nobody there.
    fn default() -> StageConfig {
        StageConfig {
            participants: 0,
            foci: 1,
            shards: 1,
            port: 0,
            guests: 0,
            program: FocusProgram::Own,
        }
    }
}

/// Everything that runs.
#[derive(Debug)]
pub struct Stage {
    homeserver: Homeserver,
    foci: Vec<StageFocus>,
    /// What the foci say about who is connected where.
    connected: watch::Receiver<String>,
    gathering: JoinHandle<()>,
    page: Listening,
    participants: Vec<Participant>,
    room_id: String,
    conf_id: String,
}

/// The folder with the focus's keys.
#[derive(Debug)]
pub(crate) struct Store(PathBuf);

impl Store {
    /// One that nobody has yet; the focus makes it.
    pub(crate) fn new() -> Store {
        Store(std::env::temp_dir().join(format!(
            "weir-{}-{}",
            std::process::id(),
            weir_client::random_id(6)
        )))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // It lies in the folder for temporary files: if it cannot be removed, the system will.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The focus joins the room of an invitation in a fraction of a second.
const FOCUS_JOINS_WITHIN: Duration = Duration::from_secs(10);
/// Nobody but this process and its guests ever sees these accounts: the homeserver listens on loopback and forgets all.
pub(crate) const PASSWORD: &str = "weir-demo";

impl Stage {
    /// Starts everything; `progress` is told each step before it is done.
    pub async fn start(config: &StageConfig, progress: impl Fn(&str)) -> anyhow::Result<Stage> {
        ensure!(config.foci > 0, "a call needs a focus");
        progress("starting the homeserver");
        let homeserver = weir_homeserver::Config {
            server_name: "localhost".into(),
            listen: loopback(0),
        };
        let homeserver = Homeserver::start(homeserver).await?;
        let url = homeserver.url();
        progress("making accounts");
        for guest in 1..=config.guests {
            Device::login(&url, &format!("guest{guest}"), PASSWORD)
                .await
                .context("the account of a guest")?;
        }
        let foci = start_foci(config, &url, &progress).await?;
        let addresses: Vec<FocusAddress> = foci.iter().map(StageFocus::address).collect();
        homeserver.set_foci(addresses.iter().map(recommended).collect());
        progress("making a room with a call");
        let (room_id, conf_id) = make_call(&url, &addresses).await?;
        let asked = foci.iter().map(|of| Asked {
            focus: of.address(),
            http: of.http(),
        });
        let (connected, gathering) = gather::start(asked.collect())?;
        let pages = Pages {
            page: true,
            conferences: Some(connected.clone()),
        };
        let page = http::start_pages(loopback(config.port), pages).await;
        let mut stage = Stage {
            homeserver,
            foci,
            connected,
            gathering,
            page: page.with_context(|| format!("the page at port {}", config.port))?,
            participants: Vec::new(),
            room_id,
            conf_id,
        };
        for index in 0..config.participants {
            progress(&format!(
                "participant {} of {} joins",
                index + 1,
                config.participants
            ));
            stage.join(index, config.participants).await?;
        }
        Ok(stage)
    }

    /// Names of the foci, each with its process if that is not this one.
    pub fn foci(&self) -> Vec<(String, Option<u32>)> {
        let foci = self.foci.iter();
        foci.map(|of| (of.address().user_id, of.process()))
            .collect()
    }

    /// What the foci do not say of who is connected where, and should, in words. Nothing is missing a few seconds after everybody
    /// receives everybody.
    pub fn unconnected(&self) -> Vec<String> {
        let document = serde_json::from_str(&self.connected.borrow()).unwrap_or(Value::Null);
        let participants = self.participants.iter().enumerate();
        let participants: Vec<_> = participants
            .map(|(index, of)| (of.report().user_id, self.focus_of(index)))
            .collect();
        gather::missing(&document, &participants)
    }

    /// The synthetic participants in the order of joining.
    pub fn participants(&self) -> &[Participant] {
        &self.participants
    }

    /// What each of them counted.
    pub fn reports(&self) -> Vec<Report> {
        self.participants.iter().map(Participant::report).collect()
    }

    /// Base address of the homeserver.
    pub fn homeserver_url(&self) -> String {
        self.homeserver.url()
    }

    /// The page's address with all its fields filled in. They come after `#`, which browsers do not send to servers. Of several foci
    /// the page chooses one, and shows all of them.
    pub fn page_address(&self, guest: usize) -> String {
        let mut fields = vec![
            ("homeserver", self.homeserver.url()),
            ("user", format!("guest{guest}")),
            ("password", PASSWORD.to_owned()),
            ("room", self.room_id.clone()),
            ("call", self.conf_id.clone()),
        ];
        match self.foci.as_slice() {
            [only] => {
                let FocusAddress { user_id, device_id } = only.address();
                fields.extend([("focus_user", user_id), ("focus_device", device_id)]);
            }
            _ => fields.push(("foci", "1".to_owned())),
        }
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        format!("http://{}/#{}", self.page.address(), fields.join("&"))
    }

    /// Where a picture of the foci is, without a call.
    pub fn picture_address(&self) -> String {
        format!("http://{}/foci.html", self.page.address())
    }

    /// Everybody leaves, then the foci stop, then the homeserver.
    pub async fn stop(self) {
        let leaving: Vec<_> = self
            .participants
            .into_iter()
            .map(|participant| tokio::spawn(participant.leave()))
            .collect();
        for left in leaving {
            // A participant whose task has panicked has left, too.
            let _ = left.await;
        }
        self.gathering.abort();
        self.page.shutdown().await;
        let stopping: Vec<_> = self
            .foci
            .into_iter()
            .map(|focus| tokio::spawn(focus.stop()))
            .collect();
        for stopped in stopping {
            let _ = stopped.await;
        }
        self.homeserver.shutdown().await;
    }

    /// Where a participant is.
    fn focus_of(&self, index: usize) -> FocusAddress {
        self.foci[index % self.foci.len()].address()
    }

    async fn join(&mut self, index: usize, count: usize) -> anyhow::Result<()> {
        let focus = self.focus_of(index);
        let url = self.homeserver.url();
        let config = JoinConfig {
            wanted: Some(MEDIUM),
            ..JoinConfig::new(&url, &user(index), PASSWORD, focus)
        };
        let participant = Participant::join(config.in_call(&self.room_id, &self.conf_id));
        let participant = participant
            .await
            .with_context(|| format!("participant {}", index + 1))?;
        for other in (0..count).filter(|other| *other != index) {
            participant.set_wanted_of(
                &format!("@{}:localhost", user(other)),
                Some(wanted(index, other, count)),
            );
        }
        self.participants.push(participant);
        Ok(())
    }
}

fn user(index: usize) -> String {
    format!("participant{}", index + 1)
}

const LARGE: Size = Size {
    width: 1280,
    height: 720,
};
const MEDIUM: Size = Size {
    width: 640,
    height: 360,
};
const SMALL: Size = Size {
    width: 320,
    height: 180,
};

/// What participant `index` of `count` wants of participant `other`: every layer is used, and the larger ones rarely,
/// because all pictures are decoded on this machine.
pub fn wanted(index: usize, other: usize, count: usize) -> Size {
    match (index, other) {
        (0, 1) => LARGE,
        (_, 0) => SMALL,
        _ if count <= 3 || index == 1 => MEDIUM,
        _ => SMALL,
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

async fn start_foci(
    config: &StageConfig,
    homeserver: &str,
    progress: &impl Fn(&str),
) -> anyhow::Result<Vec<StageFocus>> {
    let mut foci = Vec::with_capacity(config.foci);
    for number in 1..=config.foci {
        let user = match config.foci {
            1 => "focus".to_owned(),
            _ => format!("focus{number}"),
        };
        progress(&format!("starting {user}"));
        // Registers the account.
        let account = Device::login(homeserver, &user, PASSWORD).await;
        account.context("the account of a focus")?;
        foci.push(match config.foci {
            1 => StageFocus::start_here(config, homeserver, &user).await?,
            _ => StageFocus::start_child(config, homeserver, &user).await?,
        });
    }
    Ok(foci)
}

/// As the well-known document has it.
fn recommended(focus: &FocusAddress) -> weir_homeserver::Focus {
    weir_homeserver::Focus {
        user_id: focus.user_id.clone(),
        device_id: focus.device_id.clone(),
        blip_url: None,
    }
}

/// Makes a room with a call, which these foci join; gives the room's id and the call's.
pub(crate) async fn make_call(
    homeserver: &str,
    foci: &[FocusAddress],
) -> anyhow::Result<(String, String)> {
    let host = Device::login(homeserver, "host", PASSWORD).await;
    let host = host.context("the account of the host")?;
    let room_id = host.create_room().await.context("the room")?;
    for FocusAddress { user_id, .. } in foci {
        let invited = host.invite(&room_id, user_id).await;
        invited.context("inviting a focus")?;
        wait_for_member(&host, &room_id, user_id).await?;
    }
    let conf_id = weir_client::random_id(16);
    let put = host.put_call(&room_id, &conf_id).await;
    put.context("the call")?;
    Ok((room_id, conf_id))
}

async fn wait_for_member(host: &Device, room_id: &str, user_id: &str) -> anyhow::Result<()> {
    let path = format!("rooms/{}/joined_members", escape(room_id));
    let deadline = tokio::time::Instant::now() + FOCUS_JOINS_WITHIN;
    while tokio::time::Instant::now() < deadline {
        let members: Value = host.get(&path).await.context("the members of the room")?;
        if members["joined"].get(user_id).is_some() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!(
        "the focus did not join the room that it was invited to within {} s",
        FOCUS_JOINS_WITHIN.as_secs()
    )
}

/// For the fragment of an address (RFC 3986 §3.5), and for a path.
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
