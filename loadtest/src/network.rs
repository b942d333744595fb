//! A bad network in this process: a relay in front of each address of the focus that somebody wants to send to.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use weir_client::Detour;
use weir_relay::profile::Schedule;
use weir_relay::relay::{Config, Relay, Report};

use crate::report::{NetworkDirection, NetworkSummary};

/// Addresses of a focus, at most: its shards, in both families.
const RELAYS_MAX: usize = 64;

/// All relays of a run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Network(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    schedule: Schedule,
    seed: u64,
    runtime: Handle,
    stop: watch::Sender<bool>,
    relays: Mutex<BTreeMap<SocketAddr, Running>>,
}

#[derive(Debug)]
struct Running {
    address: SocketAddr,
    task: JoinHandle<Report>,
}

impl Network {
    /// Nothing is relayed yet. Relays run on the runtime of the caller.
    pub fn new(schedule: Schedule, seed: u64) -> Network {
        Network(Arc::new(Inner {
            schedule,
            seed,
            runtime: Handle::current(),
            stop: watch::channel(false).0,
            relays: Mutex::default(),
        }))
    }

    /// The way around by these relays.
    pub fn detour(&self) -> Detour {
        let network = self.clone();
        Detour::new(move |focus| network.towards(focus))
    }

    /// Stops all relays; gives what they did together.
    pub async fn stop(self) -> NetworkSummary {
        self.0.stop.send_replace(true);
        let relays = std::mem::take(&mut *self.relays());
        let none = NetworkDirection {
            received: 0,
            lost: 0,
        };
        let mut sum = NetworkSummary {
            up: none,
            down: none,
        };
        for running in relays.into_values() {
            let Ok(report) = running.task.await else {
                continue;
            };
            let add = |sum: &mut NetworkDirection, of: &weir_relay::link::Counters| {
                sum.received += of.received;
                sum.lost += of.lost + of.lost_in_burst + of.queue_full;
            };
            add(&mut sum.up, &report.up);
            add(&mut sum.down, &report.down);
        }
        sum
    }

    fn relays(&self) -> std::sync::MutexGuard<'_, BTreeMap<SocketAddr, Running>> {
        self.0.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The relay in front of that address, made if there is none. `None`, and so no way at all, if that cannot be: nobody shall
    /// take the good network without knowing.
    fn towards(&self, focus: SocketAddr) -> Option<SocketAddr> {
        let mut relays = self.relays();
        if let Some(running) = relays.get(&focus) {
            return Some(running.address);
        }
        if relays.len() >= RELAYS_MAX {
            return None;
        }
        let running = self.start(focus, relays.len() as u64);
        let running = running
            .inspect_err(|error| tracing::error!(%error, %focus, "no relay"))
            .ok()?;
        let address = running.address;
        relays.insert(focus, running);
        Some(address)
    }

    fn start(&self, focus: SocketAddr, index: u64) -> std::io::Result<Running> {
        // Beside the focus: an address that reaches the one reaches the other.
        let local: SocketAddr = match (focus.is_ipv4(), focus.ip().is_loopback()) {
            (true, true) => ([127, 0, 0, 1], 0).into(),
            (true, false) => (local_address(focus)?, 0).into(),
            (false, true) => (std::net::Ipv6Addr::LOCALHOST, 0).into(),
            (false, false) => (local_address(focus)?, 0).into(),
        };
        let _runtime = self.0.runtime.enter();
        let relay = Relay::new(Config {
            listen: local,
            to: focus,
            up: self.0.schedule.clone(),
            down: self.0.schedule.clone(),
            seed: self.0.seed.wrapping_add(index),
        })?;
        let address = relay.address()?;
        let task = self.0.runtime.spawn(run(relay, self.0.stop.subscribe()));
        Ok(Running { address, task })
    }
}

/// The address of this machine from which the focus is reached. Nothing is sent.
///
/// # Errors
/// There is no way there.
pub fn local_address(focus: SocketAddr) -> std::io::Result<std::net::IpAddr> {
    let any: SocketAddr = match focus.is_ipv4() {
        true => ([0, 0, 0, 0], 0).into(),
        false => ([0_u16; 8], 0).into(),
    };
    let probe = UdpSocket::bind(any)?;
    probe.connect(focus)?;
    Ok(probe.local_addr()?.ip())
}

async fn run(mut relay: Relay, mut stop: watch::Receiver<bool>) -> Report {
    loop {
        tokio::select! {
            received = relay.receive() => {
                if let Err(error) = received {
                    tracing::error!(%error, "a relay cannot go on");
                    return relay.report();
                }
            }
            _ = stop.wait_for(|stop| *stop) => return relay.report(),
        }
        relay.deliver().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn each_address_has_one_relay_and_what_it_does_is_told() {
        let focus = tokio::net::UdpSocket::bind("127.0.0.1:0")
            .await
            .expect("a socket");
        let address = focus.local_addr().expect("an address");
        let network = Network::new("loss=0%".parse().expect("good"), 1);
        let relay = network.towards(address).expect("a relay");
        assert_ne!(relay, address);
        assert_eq!(network.detour().towards(address), Some(relay));
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0")
            .await
            .expect("a socket");
        client.send_to(b"hello", relay).await.expect("sent");
        let mut buffer = [0; 16];
        let (bytes, from) = focus.recv_from(&mut buffer).await.expect("received");
        assert_eq!(&buffer[..bytes], b"hello");
        focus.send_to(b"back", from).await.expect("sent");
        client.recv(&mut buffer).await.expect("received");
        let summary = network.stop().await;
        assert_eq!((summary.up.received, summary.down.received), (1, 1));
    }
}
