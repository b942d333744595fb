//! Where the packets travel: over loopback, or between two network namespaces joined by a veth pair.
//!
//! ```text
//!  near: the shard, or the floor          far: publisher and subscribers
//!  10.87.0.1 ─────────────────── veth ──────────────────── 10.87.0.2
//! ```
//! The namespaces belong to this process and to nobody else: they have no name, and they and the pair vanish with it, however it
//! ends.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sched::{CloneFlags, setns, unshare};

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 87, 0, 2);
/// Fixed, so that neither end ever asks the other for them.
const NEAR_MAC: &str = "02:00:00:00:00:01";
const FAR_MAC: &str = "02:00:00:00:00:02";

/// What a person asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
    /// A veth pair if this process may make one, else loopback.
    Auto,
    /// A veth pair between two namespaces; needs CAP_SYS_ADMIN, CAP_NET_ADMIN and the command `ip`.
    Veth,
    /// The machine's own loopback.
    Loopback,
}

/// Two ends that can reach each other.
#[derive(Debug)]
pub enum Network {
    /// Both are this machine's own.
    Loopback,
    /// A namespace each.
    Veth {
        /// Where what is measured is.
        near: File,
        /// Where everything else is.
        far: File,
    },
}

impl Network {
    /// Makes the network; the second part says why it is not what would be better.
    ///
    /// # Errors
    /// A veth pair was asked for and cannot be made.
    pub fn open(choice: Choice) -> Result<(Self, Option<String>)> {
        match choice {
            Choice::Loopback => Ok((Self::Loopback, None)),
            Choice::Veth => Ok((Self::veth()?, None)),
            Choice::Auto => match Self::veth() {
                Ok(network) => Ok((network, None)),
                Err(error) => Ok((Self::Loopback, Some(format!("{error:#}")))),
            },
        }
    }

    fn veth() -> Result<Self> {
        let (near, far) = (new_namespace()?, new_namespace()?);
        let network = Self::Veth { near, far };
        network.connect()?;
        Ok(network)
    }

    /// What this network is, for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Veth { .. } => "veth",
        }
    }

    /// Address of the near end.
    pub fn near_ip(&self) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Veth { .. } => NEAR.into(),
        }
    }

    /// Address of the far end.
    pub fn far_ip(&self) -> IpAddr {
        match self {
            Self::Loopback => Ipv4Addr::LOCALHOST.into(),
            Self::Veth { .. } => FAR.into(),
        }
    }

    /// Runs `work` at the near end; threads and processes that it starts stay there.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn near<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match self {
            Self::Loopback => work(),
            Self::Veth { near, .. } => inside(near, work),
        }
    }

    /// Runs `work` at the far end; sockets that it opens, and threads that it starts, stay there.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn far<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match self {
            Self::Loopback => work(),
            Self::Veth { far, .. } => inside(far, work),
        }
    }

    fn connect(&self) -> Result<()> {
        let Self::Veth { far, .. } = self else {
            return Ok(());
        };
        let place = format!("/proc/{}/fd/{}", std::process::id(), far.as_raw_fd());
        self.near(|| {
            ip(&format!(
                "link add near address {NEAR_MAC} type veth peer name far address {FAR_MAC} netns {place}"
            ))?;
            set_up("near", NEAR, FAR, FAR_MAC)
        })?;
        self.far(|| set_up("far", FAR, NEAR, NEAR_MAC))
    }
}

fn set_up(device: &str, own: Ipv4Addr, other: Ipv4Addr, other_mac: &str) -> Result<()> {
    ip("link set lo up")?;
    ip(&format!("address add {own}/24 dev {device}"))?;
    ip(&format!("link set {device} up"))?;
    ip(&format!(
        "neighbour replace {other} lladdr {other_mac} nud permanent dev {device}"
    ))
}

/// Runs `ip` in the calling thread's namespace.
fn ip(arguments: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .context("the command `ip` does not run: install iproute2, or take --network loopback")?;
    ensure!(
        output.status.success(),
        "`ip {arguments}` failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

fn new_namespace() -> Result<File> {
    let made = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                File::open("/proc/thread-self/ns/net")
            })
            .join()
    });
    made.map_err(|_| anyhow::anyhow!("the thread that makes a network namespace panicked"))?
        .context("no network namespace can be made: run as root, or take --network loopback")
}

fn inside<T: Send>(namespace: &File, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let done = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
                    .context("the network namespace cannot be entered")?;
                work()
            })
            .join()
    });
    done.map_err(|_| anyhow::anyhow!("a thread in a network namespace panicked"))?
}
