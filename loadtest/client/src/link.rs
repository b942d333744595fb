//! A transport that is up: what is sent on it, what arrives, and how it is sorted.
//!
//! Media does not pass through the ICE agent, which sees STUN alone: a datagram is sorted and decrypted where it was received, and
//! goes to the participant's task from there.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use webrtc_data::data_channel::DataChannel;
use webrtc_ice::agent::Agent;
use webrtc_ice::udp_mux::UDPMux;
use webrtc_sctp::association::Association;
use webrtc_srtp::context::Context;
use webrtc_util::Conn;
use webrtc_util::marshal::{Marshal, Unmarshal};

use crate::health::{HEALTH, Health};
use crate::net::{Sink, Socket};
use crate::peer::{DynConn, Event, PeerError, lock, step};
use crate::receive::Feedback;
use crate::report::TransportReport;

/// When the parts of a transport were up.
#[derive(Debug, Clone, Copy)]
pub struct Up {
    /// ICE has a pair.
    pub ice_at: Instant,
    /// The DTLS handshake is done.
    pub dtls_at: Instant,
    /// The data channel is open; `None` if the other side has none.
    pub channel_at: Option<Instant>,
}

/// A transport that is up.
pub struct Link {
    up: Up,
    ice: DynConn,
    socket: Arc<Socket>,
    arrivals: Arc<Arrivals>,
    outgoing: Mutex<Context>,
    channel: Option<(Arc<Association>, Arc<DataChannel>)>,
    dtls: DynConn,
    agent: Arc<Agent>,
}

impl Link {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        up: Up,
        ice: DynConn,
        socket: Arc<Socket>,
        arrivals: Arc<Arrivals>,
        outgoing: Context,
        channel: Option<(Arc<Association>, Arc<DataChannel>)>,
        dtls: DynConn,
        agent: Arc<Agent>,
    ) -> Link {
        let outgoing = Mutex::new(outgoing);
        Link {
            up,
            ice,
            socket,
            arrivals,
            outgoing,
            channel,
            dtls,
            agent,
        }
    }

    /// When its parts were up.
    pub fn up(&self) -> Up {
        self.up
    }

    /// From here on the kernel drops received media except for one packet in `one_in` (at least 1), and counts it.
    pub fn sample(&self, one_in: u32) -> std::io::Result<()> {
        self.socket.sample(one_in)
    }

    /// What the socket counted so far; `feedbacks_sent` is left to the caller.
    pub fn report(&self) -> TransportReport {
        let (counts, arrivals) = (self.socket.counts(), &self.arrivals);
        let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
        TransportReport {
            received: counts.received,
            received_bytes: counts.received_bytes,
            rtp_packets: get(&arrivals.rtp_packets),
            filtered: counts.filtered,
            overflowed: counts.overflowed,
            unauthenticated: get(&arrivals.unauthenticated),
            queue_overflows: get(&arrivals.queue_overflows),
            sent: counts.sent,
            sent_bytes: counts.sent_bytes,
            feedbacks_sent: 0,
        }
    }

    /// Encrypts and sends a packet; what cannot be sent is lost, as in any network.
    pub async fn send_rtp(&self, packet: &rtp::packet::Packet) {
        let Ok(plain) = packet.marshal() else { return };
        self.send_plain_rtp(&plain);
    }

    /// Encrypts and sends a packet that was put together by hand.
    pub(crate) fn send_plain_rtp(&self, plain: &[u8]) {
        let sealed = lock(&self.outgoing).encrypt_rtp(plain);
        if let Ok(sealed) = sealed {
            self.send_datagram(&sealed);
        }
    }

    /// Encrypts and sends reports and feedback as one compound packet.
    pub async fn send_rtcp(&self, packets: &[Feedback]) {
        if packets.is_empty() {
            return;
        }
        let Ok(plain) = rtcp::packet::marshal(packets) else {
            return;
        };
        let sealed = lock(&self.outgoing).encrypt_rtcp(&plain);
        if let Ok(sealed) = sealed {
            self.send_datagram(&sealed);
        }
    }

    /// Sends any datagram to the focus as it is, for tests of bad input.
    pub async fn send_raw(&self, datagram: &[u8]) {
        self.send_datagram(datagram);
    }

    /// Sends a text frame on the data channel.
    pub async fn send_text(&self, text: &str) {
        if let Some((_, channel)) = &self.channel {
            let text = Bytes::copy_from_slice(text.as_bytes());
            let _ = channel.write_data_channel(&text, true).await;
        }
    }

    /// Sends a binary frame on the data channel, for tests of bad input.
    pub async fn send_binary(&self, bytes: &[u8]) {
        if let Some((_, channel)) = &self.channel {
            let bytes = Bytes::copy_from_slice(bytes);
            let _ = channel.write_data_channel(&bytes, false).await;
        }
    }

    /// Opens another data channel and sends a text frame on it, for tests of bad input.
    pub async fn send_on_second_channel(&self, text: &str) -> Result<(), PeerError> {
        let config = webrtc_data::data_channel::Config {
            label: "second".into(),
            ..Default::default()
        };
        let (association, _) = self.channel.as_ref().ok_or_else(|| PeerError {
            step: "data channel",
            reason: "the other side has none".into(),
        })?;
        let channel = DataChannel::dial(association, 2, config)
            .await
            .map_err(step("data channel"))?;
        let text = Bytes::copy_from_slice(text.as_bytes());
        let sent = channel.write_data_channel(&text, true).await;
        sent.map(drop).map_err(step("data channel"))
    }

    /// To where ICE found a way; what cannot be sent is lost.
    fn send_datagram(&self, datagram: &[u8]) {
        if let Some(to) = self.ice.remote_addr() {
            let _ = self.socket.send_to(datagram, to);
        }
    }

    /// Closes everything in order.
    pub async fn close(&self) {
        let close = async {
            if let Some((association, channel)) = &self.channel {
                let _ = channel.close().await;
                let _ = association.close().await;
            }
            let _ = self.dtls.close().await;
            let _ = self.agent.close().await;
        };
        // The stack waits for the other side here and there; a test must end anyway.
        let _ = tokio::time::timeout(Duration::from_secs(2), close).await;
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}

/// Sorts what arrives by its first byte (RFC 7983), on a receiving thread.
pub(crate) struct Arrivals {
    stun: mpsc::Sender<(Vec<u8>, SocketAddr)>,
    dtls: mpsc::Sender<Vec<u8>>,
    events: mpsc::Sender<Event>,
    incoming: Mutex<Option<Context>>,
    rtp_packets: AtomicU64,
    unauthenticated: AtomicU64,
    queue_overflows: AtomicU64,
}

impl Arrivals {
    pub(crate) fn new(
        stun: mpsc::Sender<(Vec<u8>, SocketAddr)>,
        dtls: mpsc::Sender<Vec<u8>>,
        events: mpsc::Sender<Event>,
    ) -> Arrivals {
        Arrivals {
            stun,
            dtls,
            events,
            incoming: Mutex::default(),
            rtp_packets: AtomicU64::new(0),
            unauthenticated: AtomicU64::new(0),
            queue_overflows: AtomicU64::new(0),
        }
    }

    /// Media can be read from here on; what came before is lost, as it is for a browser.
    pub(crate) fn decrypt_with(&self, context: Context) {
        *lock(&self.incoming) = Some(context);
    }

    fn decrypted(&self, plain: Option<Result<Bytes, webrtc_srtp::Error>>) -> Option<Bytes> {
        match plain? {
            Ok(plain) => Some(plain),
            Err(_) => {
                self.unauthenticated.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    fn tell(&self, event: Event) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.events.try_send(event) {
            self.queue_overflows.fetch_add(1, Ordering::Relaxed);
            Health::count(&HEALTH.queue_overflows);
        }
    }
}

impl Sink for Arrivals {
    fn handle(&self, datagram: &[u8], from: SocketAddr, now: Instant) {
        match datagram {
            [0..=3, ..] => drop(self.stun.try_send((datagram.to_vec(), from))),
            [20..=63, ..] => drop(self.dtls.try_send(datagram.to_vec())),
            // RTCP packet types 192 to 223 (RFC 5761 §4).
            [128..=191, 192..=223, ..] => {
                let plain = lock(&self.incoming)
                    .as_mut()
                    .map(|context| context.decrypt_rtcp(datagram));
                let plain = self.decrypted(plain);
                if let Some(packets) =
                    plain.and_then(|mut plain| rtcp::packet::unmarshal(&mut plain).ok())
                {
                    self.tell(Event::Rtcp(packets, now));
                }
            }
            [128..=191, ..] => {
                self.rtp_packets.fetch_add(1, Ordering::Relaxed);
                let plain = lock(&self.incoming)
                    .as_mut()
                    .map(|context| context.decrypt_rtp(datagram));
                let plain = self.decrypted(plain);
                let packet =
                    plain.and_then(|mut plain| rtp::packet::Packet::unmarshal(&mut plain).ok());
                if let Some(packet) = packet {
                    self.tell(Event::Rtp(packet, now));
                }
            }
            _ => {}
        }
    }
}

/// What the ICE agent sees of the socket: checks, and nothing else.
pub(crate) struct IceConn {
    socket: Arc<Socket>,
    stun: tokio::sync::Mutex<mpsc::Receiver<(Vec<u8>, SocketAddr)>>,
}

impl IceConn {
    pub(crate) fn new(socket: Arc<Socket>, stun: mpsc::Receiver<(Vec<u8>, SocketAddr)>) -> IceConn {
        let stun = tokio::sync::Mutex::new(stun);
        IceConn { socket, stun }
    }
}

/// One connection for the one user name fragment that the agent has.
#[async_trait]
impl UDPMux for IceConn {
    async fn close(&self) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn get_conn(self: Arc<Self>, _: &str) -> webrtc_util::Result<DynConn> {
        Ok(self)
    }

    async fn remove_conn_by_ufrag(&self, _: &str) {}
}

#[async_trait]
impl Conn for IceConn {
    async fn connect(&self, _: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn recv(&self, buf: &mut [u8]) -> webrtc_util::Result<usize> {
        Ok(self.recv_from(buf).await?.0)
    }

    async fn recv_from(&self, buf: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        let (datagram, from) = self.stun.lock().await.recv().await.ok_or_else(closed)?;
        Ok((copy(&datagram, buf), from))
    }

    async fn send(&self, _: &[u8]) -> webrtc_util::Result<usize> {
        Err(webrtc_util::Error::Other("not connected".into()))
    }

    async fn send_to(&self, buf: &[u8], target: SocketAddr) -> webrtc_util::Result<usize> {
        Ok(self.socket.send_to(buf, target)?)
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        Ok(SocketAddr::from(([0, 0, 0, 0], self.socket.port())))
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        None
    }

    async fn close(&self) -> webrtc_util::Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// What DTLS sees of the transport.
pub(crate) struct DtlsPipe {
    ice: DynConn,
    socket: Arc<Socket>,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Vec<u8>>>,
}

impl DtlsPipe {
    pub(crate) fn new(
        ice: DynConn,
        socket: Arc<Socket>,
        incoming: mpsc::Receiver<Vec<u8>>,
    ) -> DtlsPipe {
        let incoming = tokio::sync::Mutex::new(incoming);
        DtlsPipe {
            ice,
            socket,
            incoming,
        }
    }
}

#[async_trait]
impl Conn for DtlsPipe {
    async fn connect(&self, _: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn recv(&self, buf: &mut [u8]) -> webrtc_util::Result<usize> {
        let datagram = self.incoming.lock().await.recv().await.ok_or_else(closed)?;
        Ok(copy(&datagram, buf))
    }

    async fn recv_from(&self, buf: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        let length = self.recv(buf).await?;
        let from = self.remote_addr();
        Ok((
            length,
            from.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
        ))
    }

    async fn send(&self, buf: &[u8]) -> webrtc_util::Result<usize> {
        let to = self.remote_addr().ok_or_else(closed)?;
        Ok(self.socket.send_to(buf, to)?)
    }

    async fn send_to(&self, buf: &[u8], _: SocketAddr) -> webrtc_util::Result<usize> {
        self.send(buf).await
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        self.ice.local_addr()
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.ice.remote_addr()
    }

    async fn close(&self) -> webrtc_util::Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

fn closed() -> webrtc_util::Error {
    webrtc_util::Error::Other("the transport is closed".into())
}

fn copy(datagram: &[u8], buf: &mut [u8]) -> usize {
    let length = datagram.len().min(buf.len());
    buf[..length].copy_from_slice(&datagram[..length]);
    length
}
