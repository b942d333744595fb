//! Starts a homeserver, a focus, a room with a call and synthetic participants in this process, and stops them again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use weir::config::{Audio, Authorisation, Blip, Config, Http, Limits, Matrix, Media, Secret};
use weir::focus::Focus;
use weir_client::matrix::Device;
use weir_client::{FocusAddress, JoinConfig, Participant, Report, Size};
use weir_homeserver::Homeserver;

/// What is put on the stage.
#[derive(Debug, Clone)]
pub struct StageConfig {
    /// Synthetic participants.
    pub participants: usize,
    /// Threads of the focus that forward media.
    pub shards: usize,
    /// Where the page is served, on the loopback interface; 0 lets the system choose.
    pub port: u16,
    /// Accounts for people, `guest1` and so on.
    pub guests: usize,
}

/// Everything that runs.
#[derive(Debug)]
pub struct Stage {
    homeserver: Homeserver,
    focus: Focus,
    participants: Vec<Participant>,
    room_id: String,
    conf_id: String,
    /// Removed when dropped, after the focus.
    _store: Store,
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
        progress("starting the homeserver");
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let homeserver = weir_homeserver::Config {
            server_name: "localhost".into(),
            listen,
        };
        let homeserver = Homeserver::start(homeserver).await?;
        let url = homeserver.url();
        progress("making accounts");
        Device::login(&url, "focus", PASSWORD)
            .await
            .context("the account of the focus")?;
        for guest in 1..=config.guests {
            Device::login(&url, &format!("guest{guest}"), PASSWORD)
                .await
                .context("the account of a guest")?;
        }
        progress("starting the focus");
        let store = Store::new();
        let focus = Focus::start(focus_config(config, &url, &store))
            .await
            .context("the focus")?;
        let FocusAddress { user_id, device_id } = address_of(&focus);
        homeserver.set_foci(vec![weir_homeserver::Focus {
            user_id,
            device_id,
            blip_url: None,
        }]);
        progress("making a room with a call");
        let (room_id, conf_id) = make_call(&url, [&focus]).await?;
        let mut stage = Stage {
            homeserver,
            focus,
            participants: Vec::new(),
            room_id,
            conf_id,
            _store: store,
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

    /// The focus.
    pub fn focus(&self) -> &Focus {
        &self.focus
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

    /// The page's address with all its fields filled in. They come after `#`, which browsers do not send to servers.
    pub fn page_address(&self, guest: usize) -> String {
        let id = self.focus.id();
        let fields = [
            ("homeserver", self.homeserver.url()),
            ("user", format!("guest{guest}")),
            ("password", PASSWORD.to_owned()),
            ("room", self.room_id.clone()),
            ("call", self.conf_id.clone()),
            ("focus_user", id.user_id.clone()),
            ("focus_device", id.device_id.clone()),
        ];
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        format!("http://{}/#{}", self.focus.http_address(), fields.join("&"))
    }

    /// Everybody leaves, then the focus stops, then the homeserver.
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
        self.focus.shutdown().await;
        self.homeserver.shutdown().await;
    }

    async fn join(&mut self, index: usize, count: usize) -> anyhow::Result<()> {
        let focus = address_of(&self.focus);
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

pub(crate) fn focus_config(config: &StageConfig, homeserver: &str, store: &Store) -> Config {
    Config {
        matrix: Matrix {
            homeserver: homeserver.to_owned(),
            user: "focus".into(),
            password: Some(Secret::new(PASSWORD)),
            access_token: None,
            device_id: None,
            store: store.0.clone(),
            store_passphrase: None,
            display_name: "Weir demo".into(),
            rooms_max: 16,
        },
        media: Media {
            listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            shards: Some(config.shards),
            ..Media::default()
        },
        authorisation: Authorisation::default(),
        http: Http {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, config.port)),
            page: true,
            conferences: false,
        },
        blip: Blip::default(),
        audio: Audio::default(),
        appservice: None,
        limits: Limits::default(),
    }
}

/// How a focus of this process is called.
pub(crate) fn address_of(focus: &Focus) -> FocusAddress {
    let id = focus.id();
    FocusAddress {
        user_id: id.user_id.clone(),
        device_id: id.device_id.clone(),
    }
}

/// Makes a room with a call, which these foci join; gives the room's id and the call's.
pub(crate) async fn make_call<'a>(
    homeserver: &str,
    foci: impl IntoIterator<Item = &'a Focus>,
) -> anyhow::Result<(String, String)> {
    let host = Device::login(homeserver, "host", PASSWORD).await;
    let host = host.context("the account of the host")?;
    let room_id = host.create_room().await.context("the room")?;
    for focus in foci {
        let user_id = &focus.id().user_id;
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
