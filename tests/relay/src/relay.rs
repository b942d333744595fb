//! The sockets around two links. Everybody who sends to the relay gets a socket of its own towards the focus, so that the
//! focus tells them apart by their addresses; all of them share the two links, as people behind one access line do.
//!
//! Not here: what a link does to a datagram (link.rs), the command line (main.rs).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::link::{Counters, Link};
use crate::profile::Schedule;
use crate::trace::Trace;

/// Addresses that the relay remembers: a browser has a few, one for each of its network interfaces, and a load tester as many as
/// participants. The longest silent one makes room for a new one. Each takes a socket and 64 KiB.
const CLIENTS_MAX: usize = 4096;

/// An address that was silent for so long is forgotten when another one comes, as a NAT forgets it (RFC 4787 §4.3). Who is in a
/// call is heard every few seconds.
const SILENT_MAX: Duration = Duration::from_secs(120);

/// Datagrams between a socket and the links. More hides a relay that is too slow, less would lose what a burst brings.
const CHANNEL_DATAGRAMS: usize = 1024;

/// The largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// How a relay is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients send to; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where the focus is.
    pub to: SocketAddr,
    /// From clients to the focus.
    pub up: Schedule,
    /// From the focus to clients.
    pub down: Schedule,
    /// Of everything that is random.
    pub seed: u64,
}

/// What happened so far, in both directions.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// Since the relay was made, in seconds.
    pub seconds: f64,
    /// Addresses that are remembered.
    pub clients: usize,
    /// From clients to the focus.
    pub up: Counters,
    /// From the focus to clients.
    pub down: Counters,
}

/// A direction through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From clients to the focus.
    Up,
    /// From the focus to clients.
    Down,
}

/// Something for the links to carry.
#[derive(Clone, Debug)]
struct Datagram {
    client: SocketAddr,
    payload: Arc<[u8]>,
}

/// The socket that stands for one address of a client.
struct Client {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
    heard: Instant,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A relay that has its sockets. **[`Relay::receive`] and [`Relay::deliver`] must be called in turn for anything to pass.**
pub struct Relay {
    to: SocketAddr,
    socket: Arc<UdpSocket>,
    clients: HashMap<SocketAddr, Client>,
    up: Link<Datagram>,
    down: Link<Datagram>,
    from_focus: mpsc::Receiver<Datagram>,
    to_links: mpsc::Sender<Datagram>,
    started: Instant,
    buffer: Box<[u8]>,
    trace: Option<Trace>,
}

impl Relay {
    /// Opens the socket that clients send to.
    ///
    /// # Errors
    ///
    /// What the system says about the address.
    pub async fn bind(config: Config) -> std::io::Result<Self> {
        Self::new(config)
    }

    /// The same where nobody can wait. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// What the system says about the address.
    pub fn new(config: Config) -> std::io::Result<Self> {
        let now = Instant::now();
        let (to_links, from_focus) = mpsc::channel(CHANNEL_DATAGRAMS);
        let socket = std::net::UdpSocket::bind(config.listen)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            to: config.to,
            socket: Arc::new(UdpSocket::from_std(socket)?),
            clients: HashMap::new(),
            // Two different sequences of one seed.
            up: Link::new(config.up, config.seed.wrapping_mul(2), now),
            down: Link::new(config.down, config.seed.wrapping_mul(2) + 1, now),
            from_focus,
            to_links,
            started: now,
            buffer: vec![0; DATAGRAM_BYTES_MAX].into(),
            trace: None,
        })
    }

    /// Where clients send to.
    ///
    /// # Errors
    ///
    /// What the system says about the socket.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Writes down from now on what comes in on either side, before anything happens to it.
    pub fn set_trace(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    /// Begins another schedule for one direction now.
    pub fn set_schedule(&mut self, direction: Direction, schedule: Schedule) {
        match direction {
            Direction::Up => self.up.set_schedule(schedule, Instant::now()),
            Direction::Down => self.down.set_schedule(schedule, Instant::now()),
        }
    }

    /// What happened so far.
    #[must_use]
    pub fn report(&self) -> Report {
        Report {
            seconds: self.started.elapsed().as_secs_f64(),
            clients: self.clients.len(),
            up: *self.up.counters(),
            down: *self.down.counters(),
        }
    }

    /// Waits for a datagram, or for one to be due. Cancelling it loses nothing.
    ///
    /// # Errors
    ///
    /// When no socket can be opened for a new client, or the trace cannot be written.
    pub async fn receive(&mut self) -> std::io::Result<()> {
        let due = [self.up.poll_timeout(), self.down.poll_timeout()]
            .into_iter()
            .flatten()
            .min();
        // Without anything on its way there is nothing to wake up for; an hour is as good as never.
        let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            received = self.socket.recv_from(&mut self.buffer) => {
                // An error here is a client's closed port (ICMP): nothing to do about it.
                if let Ok((bytes, client)) = received {
                    if let Some(trace) = &mut self.trace {
                        trace.handle(Direction::Up, &self.buffer[..bytes], SystemTime::now())?;
                    }
                    let payload = Arc::from(&self.buffer[..bytes]);
                    self.remember(client).await?;
                    self.up.handle(Datagram { client, payload }, bytes, Instant::now());
                }
            }
            Some(datagram) = self.from_focus.recv() => {
                let bytes = datagram.payload.len();
                if let Some(trace) = &mut self.trace {
                    trace.handle(Direction::Down, &datagram.payload, SystemTime::now())?;
                }
                self.down.handle(datagram, bytes, Instant::now());
            }
            () = tokio::time::sleep_until(due.into()) => {}
        }
        Ok(())
    }

    /// Sends everything that is due. Cancelling it may lose a datagram.
    pub async fn deliver(&mut self) {
        // A datagram that cannot be sent is lost, as on any network.
        let now = Instant::now();
        while let Some(datagram) = self.up.poll(now) {
            if let Some(client) = self.clients.get(&datagram.client) {
                let _ = client.socket.send(&datagram.payload).await;
            }
        }
        while let Some(datagram) = self.down.poll(now) {
            let _ = self
                .socket
                .send_to(&datagram.payload, datagram.client)
                .await;
        }
    }

    /// Makes a client the one that was heard last, with a socket of its own.
    async fn remember(&mut self, address: SocketAddr) -> std::io::Result<()> {
        let now = Instant::now();
        if let Some(client) = self.clients.get_mut(&address) {
            client.heard = now;
            return Ok(());
        }
        self.clients
            .retain(|_, client| now.saturating_duration_since(client.heard) < SILENT_MAX);
        if self.clients.len() >= CLIENTS_MAX {
            let silent = self.clients.iter().min_by_key(|(_, client)| client.heard);
            let silent = silent.map(|(address, _)| *address);
            silent.and_then(|address| self.clients.remove(&address));
        }
        let any: SocketAddr = if self.to.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0_u16; 8], 0).into()
        };
        let socket = Arc::new(UdpSocket::bind(any).await?);
        socket.connect(self.to).await?;
        let reader = tokio::spawn(read(Arc::clone(&socket), address, self.to_links.clone()));
        let client = Client {
            socket,
            reader,
            heard: now,
        };
        self.clients.insert(address, client);
        Ok(())
    }
}

/// Hands on what the focus sends to one client.
async fn read(socket: Arc<UdpSocket>, client: SocketAddr, to_links: mpsc::Sender<Datagram>) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        match socket.recv(&mut buffer).await {
            Ok(bytes) => {
                let payload = Arc::from(&buffer[..bytes]);
                if to_links.send(Datagram { client, payload }).await.is_err() {
                    return;
                }
            }
            // The focus's port is closed at the moment, or the like: it may open again.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn focus_and_relay(up: &str, down: &str) -> (UdpSocket, Relay) {
        let focus = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let config = Config {
            listen: ([127, 0, 0, 1], 0).into(),
            to: focus.local_addr().expect("an address"),
            up: up.parse().expect("a good line"),
            down: down.parse().expect("a good line"),
            seed: 1,
        };
        (focus, Relay::bind(config).await.expect("a relay"))
    }

    async fn client(relay: &Relay) -> UdpSocket {
        let client = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        client
            .connect(relay.address().expect("an address"))
            .await
            .expect("connected");
        client
    }

    fn run(mut relay: Relay) -> JoinHandle<()> {
        tokio::spawn(async move {
            while relay.receive().await.is_ok() {
                relay.deliver().await;
            }
        })
    }

    async fn receive(socket: &UdpSocket) -> (String, SocketAddr) {
        let mut buffer = [0; 100];
        let wait = tokio::time::timeout(Duration::from_secs(10), socket.recv_from(&mut buffer));
        let (bytes, from) = wait.await.expect("in time").expect("received");
        (String::from_utf8_lossy(&buffer[..bytes]).into_owned(), from)
    }

    #[tokio::test]
    async fn a_crowd_is_told_apart_and_nobody_is_forgotten() {
        let (focus, relay) = focus_and_relay("", "").await;
        let mut clients = Vec::new();
        for _ in 0..200 {
            clients.push(client(&relay).await);
        }
        let running = run(relay);
        let mut seen_as = Vec::new();
        for round in 0..2 {
            for (number, client) in clients.iter().enumerate() {
                client
                    .send(number.to_string().as_bytes())
                    .await
                    .expect("sent");
                let (said, from) = receive(&focus).await;
                assert_eq!(said, number.to_string());
                match round {
                    0 => seen_as.push(from),
                    _ => assert_eq!(from, seen_as[number], "client {number} got another socket"),
                }
            }
        }
        running.abort();
    }

    #[tokio::test]
    async fn clients_are_told_apart_and_answered() {
        let (focus, relay) = focus_and_relay("", "").await;
        let (alice, bob) = (client(&relay).await, client(&relay).await);
        let running = run(relay);
        alice.send(b"alice").await.expect("sent");
        let (said, alice_there) = receive(&focus).await;
        assert_eq!(said, "alice");
        bob.send(b"bob").await.expect("sent");
        let (said, bob_there) = receive(&focus).await;
        assert_eq!(said, "bob");
        assert_ne!(alice_there, bob_there);
        focus.send_to(b"to bob", bob_there).await.expect("sent");
        assert_eq!(receive(&bob).await.0, "to bob");
        focus.send_to(b"to alice", alice_there).await.expect("sent");
        assert_eq!(receive(&alice).await.0, "to alice");
        running.abort();
    }

    #[tokio::test]
    async fn directions_are_apart() {
        let (focus, mut relay) = focus_and_relay("loss=100%", "duplicate=100%").await;
        let alice = client(&relay).await;
        alice.send(b"lost").await.expect("sent");
        relay.receive().await.expect("received");
        assert_eq!(relay.report().up.lost, 1);
        relay.set_schedule(Direction::Up, Schedule::default());
        let running = run(relay);
        alice.send(b"here").await.expect("sent");
        let (said, there) = receive(&focus).await;
        assert_eq!(said, "here");
        focus.send_to(b"twice", there).await.expect("sent");
        assert_eq!(receive(&alice).await.0, "twice");
        assert_eq!(receive(&alice).await.0, "twice");
        running.abort();
    }
}
