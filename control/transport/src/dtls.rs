//! The DTLS session of one association: dimpl, driven to its end after every input.
//!
//! What leaves this file is authenticated: before the peer's certificate has matched the fingerprint from signalling,
//! there are no keys and no data. DTLS 1.2 only, because in 1.3 mode dimpl lets the client's order choose the SRTP
//! profile, and browsers put AES-CM first.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Config, Dtls, KeyingMaterial, Output, SrtpProfile};

use crate::association::{Failure, Role};
use crate::certificate::{Certificate, Fingerprint};

/// The largest datagram that we send. Larger, and it is cut or dropped where IPv6 is tunnelled (1280 less 40 and 8, and
/// a tunnel's headers); smaller, and a certificate needs a third datagram.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 1200;

/// What DTLS 1.2 with AES-GCM adds to a record: header, explicit nonce, tag.
pub(crate) const RECORD_OVERHEAD_BYTES: usize = 13 + 8 + 16;

/// The first wait for an answer to a flight; doubled each time. Longer, and a lost datagram costs the user that much
/// more before the first picture; shorter, and a path with a longer round trip carries every flight twice.
const FLIGHT_RTO: Duration = Duration::from_millis(150);

/// How often a flight is repeated: until `HANDSHAKE_TIMEOUT`. Fewer, and handshakes die on lossy paths (with 4, 4 % of
/// them do at 30 % loss, with this less than 1 %).
const FLIGHT_RETRIES: usize = 8;

/// The whole handshake. Longer keeps the state of peers that have gone; shorter gives up on lossy ones.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// A DTLS record's largest plaintext (RFC 5246 §6.2.1), and room for the certificate of an odd peer.
const OUTPUT_BUFFER_BYTES: usize = 2048;

/// What both sides of SRTP are keyed with, from the exporter of RFC 5764.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// The SRTP protection profile's number: 1 `AES128_CM_HMAC_SHA1_80`, 7 `AEAD_AES_128_GCM`, 8 `AEAD_AES_256_GCM`.
    pub profile_id: u16,
    /// Master key for what we send.
    pub local_key: Vec<u8>,
    /// Master salt for what we send.
    pub local_salt: Vec<u8>,
    /// Master key for what the peer sends.
    pub remote_key: Vec<u8>,
    /// Master salt for what the peer sends.
    pub remote_salt: Vec<u8>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys(profile {}, …)", self.profile_id)
    }
}

impl Keys {
    fn split(material: &KeyingMaterial, profile: SrtpProfile, role: Role) -> Option<Keys> {
        let (profile_id, key_bytes, salt_bytes) = match profile {
            SrtpProfile::AES128_CM_SHA1_80 => (1, 16, 14),
            SrtpProfile::AEAD_AES_128_GCM => (7, 16, 12),
            SrtpProfile::AEAD_AES_256_GCM => (8, 32, 12),
            _ => return None,
        };
        // RFC 5764 §4.2: client key, server key, client salt, server salt.
        let (client_key, rest) = material.split_at_checked(key_bytes)?;
        let (server_key, rest) = rest.split_at_checked(key_bytes)?;
        let (client_salt, rest) = rest.split_at_checked(salt_bytes)?;
        let server_salt = rest.get(..salt_bytes)?;
        let (local, remote) = match role {
            Role::Active => ((client_key, client_salt), (server_key, server_salt)),
            Role::Passive => ((server_key, server_salt), (client_key, client_salt)),
        };
        Some(Keys {
            profile_id,
            local_key: local.0.to_vec(),
            local_salt: local.1.to_vec(),
            remote_key: remote.0.to_vec(),
            remote_salt: remote.1.to_vec(),
        })
    }
}

/// What the session has to say to the layers above, in order.
pub(crate) enum Notice {
    /// SRTP can be keyed.
    Keys(Keys),
    /// Data may be sent from now on.
    Connected,
    /// One decrypted record: an SCTP packet.
    Data(Vec<u8>),
    /// The peer has said goodbye.
    Closed,
}

/// One DTLS session.
pub(crate) struct Session {
    dtls: Dtls,
    role: Role,
    remote_fingerprint: Fingerprint,
    authenticated: bool,
    deadline: Option<Instant>,
    buffer: Vec<u8>,
    transmits: VecDeque<Vec<u8>>,
}

impl Session {
    /// Starts a session; an active one has its first flight ready.
    pub(crate) fn new(
        certificate: &Certificate,
        role: Role,
        remote_fingerprint: Fingerprint,
        now: Instant,
    ) -> Result<Session, Failure> {
        let config = Config::builder()
            .mtu(DATAGRAM_BYTES_MAX)
            // Only datagrams from an address that has proven itself by ICE come here.
            .use_server_cookie(false)
            .flight_start_rto(FLIGHT_RTO)
            .flight_retries(FLIGHT_RETRIES)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .build()
            .map_err(dtls_failure)?;
        let mut dtls = Dtls::new_12(Arc::new(config), certificate.dtls.clone(), now);
        dtls.set_active(role == Role::Active);
        Ok(Session {
            dtls,
            role,
            remote_fingerprint,
            authenticated: false,
            deadline: None,
            buffer: vec![0; OUTPUT_BUFFER_BYTES],
            transmits: VecDeque::new(),
        })
    }

    /// Takes one datagram from the peer.
    pub(crate) fn handle_datagram(
        &mut self,
        datagram: &[u8],
        notices: &mut Vec<Notice>,
        now: Instant,
    ) -> Result<(), Failure> {
        self.dtls.handle_timeout(now).map_err(dtls_failure)?;
        self.drain(notices)?;
        self.dtls.handle_packet(datagram).map_err(dtls_failure)?;
        self.drain(notices)
    }

    /// Lets timers run off.
    pub(crate) fn handle_timeout(
        &mut self,
        notices: &mut Vec<Notice>,
        now: Instant,
    ) -> Result<(), Failure> {
        self.dtls.handle_timeout(now).map_err(dtls_failure)?;
        self.drain(notices)
    }

    /// Encrypts one record of data. Only after [`Notice::Connected`].
    pub(crate) fn send(&mut self, data: &[u8], notices: &mut Vec<Notice>) -> Result<(), Failure> {
        self.dtls
            .send_application_data(data)
            .map_err(dtls_failure)?;
        // At once, because dimpl's queue is short, and two records joined in one datagram would only be lost together.
        self.drain(notices)
    }

    /// Queues the closing alert, if there is a session to close.
    pub(crate) fn close(&mut self) {
        if self.dtls.close().is_ok() {
            // The peer's answer is of no interest any more.
            let _ = self.drain(&mut Vec::new());
        }
    }

    /// The next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// When `handle_timeout` is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    fn drain(&mut self, notices: &mut Vec<Notice>) -> Result<(), Failure> {
        loop {
            match self.dtls.poll_output(&mut self.buffer) {
                Output::Packet(datagram) => self.transmits.push_back(datagram.to_vec()),
                Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.deadline = Some(at);
                    return Ok(());
                }
                Output::PeerCert(certificate) => {
                    if !self.remote_fingerprint.matches(certificate) {
                        return Err(Failure::Fingerprint);
                    }
                    self.authenticated = true;
                }
                Output::Connected => {
                    require(self.authenticated)?;
                    notices.push(Notice::Connected);
                }
                Output::KeyingMaterial(material, profile) => {
                    require(self.authenticated)?;
                    let keys = Keys::split(&material, profile, self.role).ok_or_else(|| {
                        Failure::Dtls(format!("no keys for SRTP profile {profile}"))
                    })?;
                    notices.push(Notice::Keys(keys));
                }
                Output::ApplicationData(data) => {
                    require(self.authenticated)?;
                    notices.push(Notice::Data(data.to_vec()));
                }
                Output::CloseNotify => notices.push(Notice::Closed),
                _ => {}
            }
        }
    }
}

/// A session that got so far without a certificate is not with the peer we were told of.
fn require(authenticated: bool) -> Result<(), Failure> {
    if authenticated {
        Ok(())
    } else {
        Err(Failure::Fingerprint)
    }
}

fn dtls_failure(error: dimpl::Error) -> Failure {
    match error {
        dimpl::Error::Timeout(_) => Failure::HandshakeTimeout,
        dimpl::Error::ConnectionClosed => Failure::Dtls("the session is closed".into()),
        other => Failure::Dtls(other.to_string()),
    }
}
