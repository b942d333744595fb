//! One transport to the focus: ICE (full, controlling), DTLS (client), SRTP, SCTP and the data channel, all of the webrtc-rs
//! family, on its tokio sockets. Knows nothing of what is sent.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use dtls::conn::DTLSConn;
use dtls::crypto::Certificate;
use dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use webrtc_data::data_channel::DataChannel;
use webrtc_ice::agent::Agent;
use webrtc_ice::agent::agent_config::AgentConfig;
use webrtc_ice::candidate::{Candidate, CandidateType, candidate_base::unmarshal_candidate};
use webrtc_ice::mdns::MulticastDnsMode;
use webrtc_ice::network_type::NetworkType;
use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_no_replay_protection, srtp_no_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::Conn;
use webrtc_util::marshal::{Marshal, Unmarshal};

use crate::receive::Feedback;
use crate::sdp::Remote;

/// A transport that is being set up.
#[derive(Clone)]
pub struct Peer {
    agent: Arc<Agent>,
    certificate: Certificate,
    ufrag: String,
    pwd: String,
    candidates: Vec<String>,
}

/// What arrives on a transport.
#[derive(Debug)]
pub enum Event {
    /// A decrypted packet.
    Rtp(rtp::packet::Packet, Instant),
    /// Decrypted reports and feedback.
    Rtcp(Vec<Feedback>),
    /// A text frame on the data channel.
    Text(String),
    /// The transport is gone; says why.
    Closed(String),
}

/// The transport could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct PeerError {
    /// What was being done.
    pub step: &'static str,
    /// Why it failed.
    pub reason: String,
}

/// Events that wait to be handled; a full queue drops media, as a socket would.
const EVENTS_MAX: usize = 8192;
/// A focus on the other side of the world with loss on the way is up within this.
const SETUP_MAX: Duration = Duration::from_secs(20);
/// Messages of the data channel (RFC 8841's `max-message-size` in the offer).
const MESSAGE_BYTES_MAX: usize = 262_144;

type DynConn = Arc<dyn Conn + Send + Sync>;

fn step<E: std::fmt::Display>(step: &'static str) -> impl Fn(E) -> PeerError {
    move |error| PeerError {
        step,
        reason: error.to_string(),
    }
}

impl Peer {
    /// Binds sockets on all interfaces, loopback included, and gathers host candidates.
    pub async fn new() -> Result<Peer, PeerError> {
        // Fails if the process has chosen already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = AgentConfig {
            network_types: vec![NetworkType::Udp4, NetworkType::Udp6],
            candidate_types: vec![CandidateType::Host],
            multicast_dns_mode: MulticastDnsMode::Disabled,
            // As often as browsers check while they connect.
            check_interval: Duration::from_millis(50),
            is_controlling: true,
            include_loopback: true,
            // A link-local address cannot be bound without its interface.
            ip_filter: Arc::new(Some(Box::new(|ip| match ip {
                IpAddr::V4(_) => true,
                IpAddr::V6(ip) => !ip.is_unicast_link_local(),
            }))),
            ..AgentConfig::default()
        };
        let agent = Agent::new(config).await.map_err(step("ICE agent"))?;
        let (sender, mut gathered) = mpsc::unbounded_channel();
        agent.on_candidate(Box::new(move |candidate| {
            let _ = sender.send(candidate.map(|candidate| candidate.marshal()));
            Box::pin(async {})
        }));
        agent.gather_candidates().map_err(step("gathering"))?;
        let mut candidates = Vec::new();
        let gather = async {
            while let Some(Some(candidate)) = gathered.recv().await {
                candidates.push(candidate);
            }
        };
        // Interfaces that hang must not keep a participant from calling with the others' candidates.
        let _ = tokio::time::timeout(Duration::from_secs(2), gather).await;
        let (ufrag, pwd) = agent.get_local_user_credentials().await;
        let certificate = Certificate::generate_self_signed(vec!["weir-client".to_owned()])
            .map_err(step("certificate"))?;
        Ok(Peer {
            agent: Arc::new(agent),
            certificate,
            ufrag,
            pwd,
            candidates,
        })
    }

    /// Own ICE user name fragment and password.
    pub fn credentials(&self) -> (&str, &str) {
        (&self.ufrag, &self.pwd)
    }

    /// SHA-256 of the own certificate, as in `a=fingerprint`.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate.certificate[0])
    }

    /// Own candidates, without `candidate:`.
    pub fn candidates(&self) -> &[String] {
        &self.candidates
    }

    /// Takes a candidate of the focus, with or without `candidate:`; what cannot be read is ignored, as browsers do.
    pub fn add_candidate(&self, candidate: &str) {
        let text = candidate.strip_prefix("candidate:").unwrap_or(candidate);
        if let Ok(candidate) = unmarshal_candidate(text) {
            let candidate: Arc<dyn Candidate + Send + Sync> = Arc::new(candidate);
            let _ = self.agent.add_remote_candidate(&candidate);
        }
    }

    /// Connects to the focus that gave this answer and opens the data channel.
    pub async fn connect(
        &self,
        remote: &Remote,
    ) -> Result<(Link, mpsc::Receiver<Event>), PeerError> {
        let work = self.set_up(remote);
        let timed_out = |_| PeerError {
            step: "transport",
            reason: format!("not up after {} s", SETUP_MAX.as_secs()),
        };
        tokio::time::timeout(SETUP_MAX, work)
            .await
            .map_err(timed_out)?
    }

    /// Closes the sockets.
    pub async fn close(&self) {
        let _ = self.agent.close().await;
    }

    async fn set_up(&self, remote: &Remote) -> Result<(Link, mpsc::Receiver<Event>), PeerError> {
        remote
            .candidates
            .iter()
            .for_each(|candidate| self.add_candidate(candidate));
        let (_cancel, cancelled) = mpsc::channel(1);
        let ice = self
            .agent
            .dial(cancelled, remote.ufrag.clone(), remote.pwd.clone())
            .await
            .map_err(step("ICE"))?;
        let ice: DynConn = ice;
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (dtls_sender, dtls_receiver) = mpsc::channel(64);
        let incoming: Arc<Mutex<Option<Context>>> = Arc::default();
        tokio::spawn(demultiplex(
            Arc::clone(&ice),
            Arc::clone(&incoming),
            dtls_sender,
            events.clone(),
        ));
        let pipe = DtlsPipe {
            ice: Arc::clone(&ice),
            incoming: tokio::sync::Mutex::new(dtls_receiver),
        };
        let dtls = DTLSConn::new(Arc::new(pipe), self.dtls_config(remote), true, None)
            .await
            .map_err(step("DTLS"))?;
        let (local, remote_context) = srtp_contexts(&dtls).await?;
        *lock(&incoming) = Some(remote_context);
        let dtls: DynConn = Arc::new(dtls);
        let (association, channel) = open_channel(&dtls).await?;
        tokio::spawn(read_channel(Arc::clone(&channel), events));
        let link = Link {
            ice,
            outgoing: Mutex::new(local),
            channel,
            association,
            dtls,
            agent: Arc::clone(&self.agent),
        };
        Ok((link, receiver))
    }

    fn dtls_config(&self, remote: &Remote) -> dtls::config::Config {
        let expected = remote.fingerprint.clone();
        dtls::config::Config {
            certificates: vec![self.certificate.clone()],
            srtp_protection_profiles: vec![
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
                SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            ],
            extended_master_secret: dtls::config::ExtendedMasterSecretType::Require,
            flight_interval: Duration::from_millis(200),
            // The certificate is self-signed: what counts is its fingerprint, checked below (RFC 5763 §5).
            insecure_skip_verify: true,
            verify_peer_certificate: Some(Arc::new(move |certificates: &[Vec<u8>], _| {
                let actual = certificates
                    .first()
                    .map(|certificate| fingerprint(certificate));
                let wanted = expected
                    .as_ref()
                    .filter(|(algorithm, _)| algorithm.eq_ignore_ascii_case("sha-256"));
                match (actual, wanted) {
                    (Some(actual), Some((_, wanted))) if actual.eq_ignore_ascii_case(wanted) => {
                        Ok(())
                    }
                    _ => Err(dtls::Error::Other(
                        "the certificate does not have the fingerprint of the answer".into(),
                    )),
                }
            })),
            ..Default::default()
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// A transport that is up.
pub struct Link {
    ice: DynConn,
    outgoing: Mutex<Context>,
    channel: Arc<DataChannel>,
    association: Arc<webrtc_sctp::association::Association>,
    dtls: DynConn,
    agent: Arc<Agent>,
}

impl Link {
    /// Encrypts and sends a packet; what cannot be sent is lost, as in any network.
    pub async fn send_rtp(&self, packet: &rtp::packet::Packet) {
        let Ok(plain) = packet.marshal() else { return };
        let sealed = lock(&self.outgoing).encrypt_rtp(&plain);
        if let Ok(sealed) = sealed {
            let _ = self.ice.send(&sealed).await;
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
            let _ = self.ice.send(&sealed).await;
        }
    }

    /// Sends any datagram to the focus as it is, for tests of bad input.
    pub async fn send_raw(&self, datagram: &[u8]) {
        let _ = self.ice.send(datagram).await;
    }

    /// Sends a text frame on the data channel.
    pub async fn send_text(&self, text: &str) {
        let _ = self
            .channel
            .write_data_channel(&Bytes::copy_from_slice(text.as_bytes()), true)
            .await;
    }

    /// Sends a binary frame on the data channel, for tests of bad input.
    pub async fn send_binary(&self, bytes: &[u8]) {
        let bytes = Bytes::copy_from_slice(bytes);
        let _ = self.channel.write_data_channel(&bytes, false).await;
    }

    /// Opens another data channel and sends a text frame on it, for tests of bad input.
    pub async fn send_on_second_channel(&self, text: &str) -> Result<(), PeerError> {
        let config = webrtc_data::data_channel::Config {
            label: "second".into(),
            ..Default::default()
        };
        let channel = DataChannel::dial(&self.association, 2, config)
            .await
            .map_err(step("data channel"))?;
        let text = Bytes::copy_from_slice(text.as_bytes());
        let sent = channel.write_data_channel(&text, true).await;
        sent.map(drop).map_err(step("data channel"))
    }

    /// Closes everything in order.
    pub async fn close(&self) {
        let close = async {
            let _ = self.channel.close().await;
            let _ = self.association.close().await;
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

/// `AB:CD:…` of SHA-256.
pub fn fingerprint(certificate: &[u8]) -> String {
    let bytes: Vec<_> = Sha256::digest(certificate)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    bytes.join(":")
}

/// Sorts datagrams by their first byte (RFC 7983); STUN was taken out by the agent.
async fn demultiplex(
    ice: DynConn,
    incoming: Arc<Mutex<Option<Context>>>,
    dtls: mpsc::Sender<Vec<u8>>,
    events: mpsc::Sender<Event>,
) {
    let mut buffer = vec![0; 2048];
    loop {
        let length = match ice.recv(&mut buffer).await {
            Ok(length) => length,
            Err(error) => {
                let _ = events.try_send(Event::Closed(format!("ICE: {error}")));
                return;
            }
        };
        let datagram = &buffer[..length];
        match datagram {
            [20..=63, ..] => drop(dtls.try_send(datagram.to_vec())),
            // RTCP packet types 192 to 223 (RFC 5761 §4).
            [128..=191, 192..=223, ..] => {
                let plain = lock(&incoming)
                    .as_mut()
                    .and_then(|context| context.decrypt_rtcp(datagram).ok());
                if let Some(packets) =
                    plain.and_then(|plain| rtcp::packet::unmarshal(&mut plain.clone()).ok())
                {
                    let _ = events.try_send(Event::Rtcp(packets));
                }
            }
            [128..=191, ..] => {
                let plain = lock(&incoming)
                    .as_mut()
                    .and_then(|context| context.decrypt_rtp(datagram).ok());
                let packet =
                    plain.and_then(|plain| rtp::packet::Packet::unmarshal(&mut plain.clone()).ok());
                if let Some(packet) = packet {
                    let _ = events.try_send(Event::Rtp(packet, Instant::now()));
                }
            }
            _ => {}
        }
        if events.is_closed() {
            return;
        }
    }
}

/// Keys for both directions. There is no replay protection here: a packet that is sent twice is to be seen and counted.
async fn srtp_contexts(dtls: &DTLSConn) -> Result<(Context, Context), PeerError> {
    let profile = match dtls.selected_srtpprotection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => {
            ProtectionProfile::Aes128CmHmacSha1_80
        }
        other => {
            return Err(PeerError {
                step: "SRTP",
                reason: format!("profile {other:?}"),
            });
        }
    };
    let mut config = webrtc_srtp::config::Config {
        profile,
        ..Default::default()
    };
    let state = dtls.connection_state().await;
    config
        .extract_session_keys_from_dtls(state, true)
        .await
        .map_err(step("SRTP keys"))?;
    let keys = &config.keys;
    let context = |key: &[u8], salt: &[u8]| {
        Context::new(
            key,
            salt,
            profile,
            Some(srtp_no_replay_protection()),
            Some(srtcp_no_replay_protection()),
        )
    };
    let local =
        context(&keys.local_master_key, &keys.local_master_salt).map_err(step("SRTP keys"))?;
    let remote =
        context(&keys.remote_master_key, &keys.remote_master_salt).map_err(step("SRTP keys"))?;
    Ok((local, remote))
}

async fn open_channel(
    dtls: &DynConn,
) -> Result<(Arc<webrtc_sctp::association::Association>, Arc<DataChannel>), PeerError> {
    let config = webrtc_sctp::association::Config {
        net_conn: Arc::clone(dtls),
        max_receive_buffer_size: 0,
        max_message_size: MESSAGE_BYTES_MAX as u32,
        mtu: 0,
        name: "weir-client".into(),
        remote_port: 5000,
        local_port: 5000,
    };
    let association = webrtc_sctp::association::Association::client(config)
        .await
        .map_err(step("SCTP"))?;
    let association = Arc::new(association);
    let config = webrtc_data::data_channel::Config {
        label: "datachannel".into(),
        ..Default::default()
    };
    // The DTLS client's streams are even (RFC 8832 §6).
    let channel = DataChannel::dial(&association, 0, config)
        .await
        .map_err(step("data channel"))?;
    Ok((association, Arc::new(channel)))
}

async fn read_channel(channel: Arc<DataChannel>, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    loop {
        match channel.read_data_channel(&mut buffer).await {
            Ok((0, false)) | Err(_) => {
                let _ = events
                    .send(Event::Closed("the data channel ended".into()))
                    .await;
                return;
            }
            Ok((length, true)) => {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if events.send(Event::Text(text)).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
        }
    }
}

/// What DTLS sees of the transport.
struct DtlsPipe {
    ice: DynConn,
    incoming: tokio::sync::Mutex<mpsc::Receiver<Vec<u8>>>,
}

#[async_trait]
impl Conn for DtlsPipe {
    async fn connect(&self, _: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn recv(&self, buf: &mut [u8]) -> webrtc_util::Result<usize> {
        let datagram = self.incoming.lock().await.recv().await;
        let datagram =
            datagram.ok_or_else(|| webrtc_util::Error::Other("the transport is closed".into()))?;
        let length = datagram.len().min(buf.len());
        buf[..length].copy_from_slice(&datagram[..length]);
        Ok(length)
    }

    async fn recv_from(&self, buf: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        let length = self.recv(buf).await?;
        Ok((
            length,
            self.remote_addr()
                .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
        ))
    }

    async fn send(&self, buf: &[u8]) -> webrtc_util::Result<usize> {
        self.ice.send(buf).await
    }

    async fn send_to(&self, buf: &[u8], _: SocketAddr) -> webrtc_util::Result<usize> {
        self.ice.send(buf).await
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

/// A thread that panicked while encrypting has left at worst a number unused.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
