//! One transport to the focus: ICE (full), DTLS, SRTP, SCTP and the data channel, all of the webrtc-rs family, over one socket of
//! `net`. Knows nothing of what is sent, and nothing of Matrix: whoever has the other side's description and can carry
//! the own one there can use it, with any server that speaks WebRTC.
//!
//! ```text
//!   Peer::new ─► own credentials, fingerprint and candidates, for an offer or an answer
//!   Peer::connect (it offered) or Peer::connect_answering (the other side did) ─► Link, and what arrives
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

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
use webrtc_ice::state::ConnectionState;
use webrtc_ice::udp_network::UDPNetwork;
use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_no_replay_protection, srtp_no_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;
use webrtc_util::Conn;

pub use crate::link::Link;
use crate::link::{Arrivals, DtlsPipe, IceConn, Up};
use crate::net::{self, Socket};
use crate::participant::Detour;
use crate::receive::Feedback;
use crate::sdp::{Local, Remote, Terms};

/// A transport that is being set up. Clones are the same one.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    socket: Mutex<Option<Socket>>,
    certificate: Certificate,
    fingerprint: String,
    ufrag: String,
    pwd: String,
    candidates: Vec<String>,
    /// Candidates of the other side that came before the connection.
    early: Mutex<Vec<String>>,
    agent: OnceLock<Arc<Agent>>,
    detour: Option<Detour>,
}

/// What arrives on a transport.
#[derive(Debug)]
pub enum Event {
    /// A decrypted packet.
    Rtp(rtp::packet::Packet, Instant),
    /// Decrypted reports and feedback.
    Rtcp(Vec<Feedback>, Instant),
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

/// Who made the offer; decides who controls ICE (RFC 8445 §6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offerer {
    Own,
    Other,
}

/// Events that wait to be handled; a full queue drops media, as a socket would.
const EVENTS_MAX: usize = 8192;
/// STUN and DTLS datagrams that wait.
const SLOW_PATH_MAX: usize = 64;
/// A focus on the other side of the world with loss on the way is up within this.
const SETUP_MAX: Duration = Duration::from_secs(20);
/// Messages of the data channel (RFC 8841's `max-message-size` in the offer).
const MESSAGE_BYTES_MAX: usize = 262_144;

pub(crate) type DynConn = Arc<dyn Conn + Send + Sync>;

pub(crate) fn step<E: std::fmt::Display>(step: &'static str) -> impl Fn(E) -> PeerError {
    move |error| PeerError {
        step,
        reason: error.to_string(),
    }
}

impl Peer {
    /// Binds a socket on all addresses, and offers those from which the rest of the network is reached.
    pub async fn new() -> Result<Peer, PeerError> {
        Peer::towards(None, None).await
    }

    /// The same with candidates of the interface towards an address, and with a detour for what is sent.
    pub async fn towards(hint: Option<IpAddr>, detour: Option<Detour>) -> Result<Peer, PeerError> {
        // Fails if the process has chosen already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let socket = Socket::bind().map_err(step("socket"))?;
        let certificate = certificate()?;
        Ok(Peer(Arc::new(Inner {
            fingerprint: fingerprint(&certificate.certificate[0]),
            candidates: host_candidates(&socket, hint),
            socket: Mutex::new(Some(socket)),
            certificate,
            // 128 bits of randomness and 24 bits (RFC 8445 §5.3) in letters and digits.
            ufrag: crate::random_id(8),
            pwd: crate::random_id(24),
            early: Mutex::default(),
            agent: OnceLock::new(),
            detour,
        })))
    }

    /// Own ICE user name fragment and password.
    pub fn credentials(&self) -> (&str, &str) {
        (&self.0.ufrag, &self.0.pwd)
    }

    /// SHA-256 of the own certificate, as in `a=fingerprint`. All transports of a process have the same one.
    pub fn fingerprint(&self) -> String {
        self.0.fingerprint.clone()
    }

    /// The own description, with what is published in it: stream id and track ids (MSC3077), `None` for what is not.
    pub fn describe(
        &self,
        stream_id: String,
        audio_track: Option<String>,
        video_track: Option<String>,
        terms: Terms,
    ) -> Local {
        let (ufrag, pwd) = self.credentials();
        Local {
            ufrag: ufrag.to_owned(),
            pwd: pwd.to_owned(),
            fingerprint: self.fingerprint(),
            session_id: u64::from(rand::random::<u32>()),
            stream_id,
            audio_track,
            video_track,
            terms,
        }
    }

    /// Own candidates, without `candidate:`.
    pub fn candidates(&self) -> &[String] {
        &self.0.candidates
    }

    /// Takes a candidate of the focus, with or without `candidate:`; what cannot be read is ignored, as browsers do.
    pub fn add_candidate(&self, candidate: &str) {
        let text = candidate.strip_prefix("candidate:").unwrap_or(candidate);
        match self.0.agent.get() {
            Some(agent) => self.0.add_remote(agent, text),
            None => lock(&self.0.early).push(text.to_owned()),
        }
    }

    /// Connects to whoever gave this answer to the own offer, and opens the data channel if the answer has one.
    pub async fn connect(
        &self,
        remote: &Remote,
    ) -> Result<(Link, mpsc::Receiver<Event>), PeerError> {
        self.connect_as(Offerer::Own, remote).await
    }

    /// Connects to whoever gave this offer. The answer has to say `a=setup:active`.
    pub async fn connect_answering(
        &self,
        remote: &Remote,
    ) -> Result<(Link, mpsc::Receiver<Event>), PeerError> {
        self.connect_as(Offerer::Other, remote).await
    }

    /// Closes the socket of a transport that was not connected.
    pub async fn close(&self) {
        drop(lock(&self.0.socket).take());
        if let Some(agent) = self.0.agent.get() {
            let _ = agent.close().await;
        }
    }

    async fn connect_as(
        &self,
        offerer: Offerer,
        remote: &Remote,
    ) -> Result<(Link, mpsc::Receiver<Event>), PeerError> {
        // What it is at, for whoever asks why it took too long.
        let at = Mutex::new("ICE");
        let timed_out = |_| PeerError {
            step: *lock(&at),
            reason: format!("not up after {} s", SETUP_MAX.as_secs()),
        };
        tokio::time::timeout(SETUP_MAX, self.set_up(offerer, remote, &at))
            .await
            .map_err(timed_out)?
    }

    async fn set_up(
        &self,
        offerer: Offerer,
        remote: &Remote,
        at: &Mutex<&'static str>,
    ) -> Result<(Link, mpsc::Receiver<Event>), PeerError> {
        let socket = lock(&self.0.socket).take().ok_or_else(|| PeerError {
            step: "socket",
            reason: "the transport was connected or closed before".into(),
        })?;
        let socket = Arc::new(socket);
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let (stun, stun_receiver) = mpsc::channel(SLOW_PATH_MAX);
        let (dtls_sender, dtls_receiver) = mpsc::channel(SLOW_PATH_MAX);
        let arrivals = Arc::new(Arrivals::new(stun, dtls_sender, events.clone()));
        let ice_conn = Arc::new(IceConn::new(Arc::clone(&socket), stun_receiver));
        let agent = self.agent(ice_conn, remote, events.clone()).await?;
        let sink: Arc<dyn net::Sink> = arrivals.clone();
        socket.receive(&sink).map_err(step("socket"))?;
        // A server without checks of its own leaves control to the other side (RFC 8445 §6.1.1).
        let controls = offerer == Offerer::Own || remote.ice_lite;
        let ice = self.check(&agent, remote, controls).await?;
        let ice_at = Instant::now();
        *lock(at) = "DTLS";
        let pipe = Arc::new(DtlsPipe::new(
            Arc::clone(&ice),
            Arc::clone(&socket),
            dtls_receiver,
        ));
        // Who answers takes the active role, or leaves it by `passive` (RFC 8842 §5.3); an offer leaves it to the answer.
        let active = offerer == Offerer::Other || remote.setup != "active";
        let dtls = DTLSConn::new(pipe, self.dtls_config(remote), active, None)
            .await
            .map_err(step("DTLS"))?;
        let (local, remote_context) = srtp_contexts(&dtls, active).await?;
        arrivals.decrypt_with(remote_context);
        let dtls_at = Instant::now();
        *lock(at) = "data channel";
        let dtls: DynConn = Arc::new(dtls);
        let channel = if remote.media.iter().any(|media| media.kind == "application" && !media.rejected)
            // Tests and servers of one's own may leave the list out.
            || remote.media.is_empty()
        {
            let (association, channel) = open_channel(&dtls, active).await?;
            tokio::spawn(read_channel(Arc::clone(&channel), events));
            Some((association, channel))
        } else {
            None
        };
        let up = Up {
            ice_at,
            dtls_at,
            channel_at: channel.is_some().then(Instant::now),
        };
        let link = Link::new(up, ice, socket, arrivals, local, channel, dtls, agent);
        Ok((link, receiver))
    }

    /// An agent with one candidate of its own, in the family of the other side's.
    async fn agent(
        &self,
        conn: Arc<IceConn>,
        remote: &Remote,
        events: mpsc::Sender<Event>,
    ) -> Result<Arc<Agent>, PeerError> {
        let mut candidates = std::mem::take(&mut *lock(&self.0.early));
        candidates.extend(remote.candidates.iter().cloned());
        let addresses: Vec<_> = candidates
            .iter()
            .filter_map(|text| address_of(text))
            .collect();
        let to = addresses
            .iter()
            .find(|address| address.is_ipv4())
            .or(addresses.first())
            .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), SocketAddr::ip);
        let own = net::source_towards(to).map_err(step("route to the focus"))?;
        let network = if own.is_ipv4() {
            NetworkType::Udp4
        } else {
            NetworkType::Udp6
        };
        let config = AgentConfig {
            network_types: vec![network],
            candidate_types: vec![CandidateType::Host],
            multicast_dns_mode: MulticastDnsMode::Disabled,
            // As often as browsers check while they connect.
            check_interval: Duration::from_millis(50),
            is_controlling: true,
            include_loopback: true,
            local_ufrag: self.0.ufrag.clone(),
            local_pwd: self.0.pwd.clone(),
            ip_filter: Arc::new(Some(Box::new(move |ip| ip == own))),
            udp_network: UDPNetwork::Muxed(conn),
            ..AgentConfig::default()
        };
        let agent = Arc::new(Agent::new(config).await.map_err(step("ICE agent"))?);
        agent.on_connection_state_change(Box::new(move |state| {
            if state == ConnectionState::Failed {
                let _ = events.try_send(Event::Closed("ICE: no answer to checks".into()));
            }
            Box::pin(async {})
        }));
        let (sender, mut gathered) = mpsc::channel(4);
        agent.on_candidate(Box::new(move |candidate| {
            let _ = sender.try_send(candidate.is_none());
            Box::pin(async {})
        }));
        agent.gather_candidates().map_err(step("gathering"))?;
        while gathered.recv().await == Some(false) {}
        let _ = self.0.agent.set(Arc::clone(&agent));
        candidates
            .iter()
            .for_each(|text| self.0.add_remote(&agent, text));
        Ok(agent)
    }

    async fn check(
        &self,
        agent: &Agent,
        remote: &Remote,
        controls: bool,
    ) -> Result<DynConn, PeerError> {
        let (_cancel, cancelled) = mpsc::channel(1);
        let (ufrag, pwd) = (remote.ufrag.clone(), remote.pwd.clone());
        if controls {
            let conn = agent.dial(cancelled, ufrag, pwd).await;
            Ok(conn.map_err(step("ICE"))?)
        } else {
            let conn = agent.accept(cancelled, ufrag, pwd).await;
            Ok(conn.map_err(step("ICE"))?)
        }
    }

    fn dtls_config(&self, remote: &Remote) -> dtls::config::Config {
        let expected = remote.fingerprint.clone();
        dtls::config::Config {
            certificates: vec![self.0.certificate.clone()],
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

impl Inner {
    fn add_remote(&self, agent: &Agent, text: &str) {
        let Some(text) = self.detoured(text) else {
            return;
        };
        if let Ok(candidate) = unmarshal_candidate(&text) {
            let candidate: Arc<dyn Candidate + Send + Sync> = Arc::new(candidate);
            let _ = agent.add_remote_candidate(&candidate);
        }
    }

    /// The candidate as it is, or with another address; `None` if it is to be left out.
    fn detoured(&self, text: &str) -> Option<String> {
        let Some(detour) = &self.detour else {
            return Some(text.to_owned());
        };
        let to = detour.towards(address_of(text)?)?;
        let mut words: Vec<_> = text.split(' ').map(str::to_owned).collect();
        (words[4], words[5]) = (to.ip().to_string(), to.port().to_string());
        Some(words.join(" "))
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer")
            .field("ufrag", &self.0.ufrag)
            .finish_non_exhaustive()
    }
}

/// Of a candidate in words (RFC 8839 §5.1): foundation, component, transport, priority, address, port.
fn address_of(candidate: &str) -> Option<SocketAddr> {
    let mut words = candidate.split(' ').skip(4);
    let (ip, port) = (words.next()?, words.next()?);
    Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?))
}

/// One for each family: the address towards the hint, else the one towards everywhere, else loopback.
fn host_candidates(socket: &Socket, hint: Option<IpAddr>) -> Vec<String> {
    // Addresses for documentation (RFC 5737, RFC 3849): routed like any other, and nothing is sent.
    let everywhere: [IpAddr; 2] = [
        Ipv4Addr::new(192, 0, 2, 1).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    ];
    let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let families = if socket.has_ipv6() { 2 } else { 1 };
    let local = hint.is_some_and(|hint| hint.is_loopback());
    let address = |family: usize| {
        let hint = hint.filter(|hint| hint.is_ipv4() == everywhere[family].is_ipv4());
        let routed = net::source_towards(hint.unwrap_or(everywhere[family]));
        routed.ok().filter(|_| !local).unwrap_or(loopback[family])
    };
    let candidate = |(index, ip): (usize, IpAddr)| {
        let priority = 2_130_706_431 - index * 256;
        format!(
            "{} 1 udp {priority} {ip} {} typ host",
            index + 1,
            socket.port()
        )
    };
    (0..families)
        .map(address)
        .enumerate()
        .map(candidate)
        .collect()
}

/// Certificates are for their fingerprints alone; one does for all participants of a process, and thousands cost seconds.
fn certificate() -> Result<Certificate, PeerError> {
    static CERTIFICATE: OnceLock<Certificate> = OnceLock::new();
    if let Some(certificate) = CERTIFICATE.get() {
        return Ok(certificate.clone());
    }
    let made = Certificate::generate_self_signed(vec!["weir-client".to_owned()])
        .map_err(step("certificate"))?;
    Ok(CERTIFICATE.get_or_init(|| made).clone())
}

/// `AB:CD:…` of SHA-256.
pub fn fingerprint(certificate: &[u8]) -> String {
    let bytes: Vec<_> = Sha256::digest(certificate)
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    bytes.join(":")
}

/// Keys for both directions. There is no replay protection here: a packet that is sent twice is to be seen and counted.
async fn srtp_contexts(dtls: &DTLSConn, is_client: bool) -> Result<(Context, Context), PeerError> {
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
        .extract_session_keys_from_dtls(state, is_client)
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
    is_client: bool,
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
    let stream = if is_client { 0 } else { 1 };
    let channel = DataChannel::dial(&association, stream, config)
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

/// A thread that panicked while encrypting has left at worst a number unused.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
