//! Against the DTLS, SCTP and data channels of webrtc-rs, which share no code with ours, over real sockets on loopback.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dtls::config::{Config as DtlsConfig, ExtendedMasterSecretType};
use dtls::conn::DTLSConn;
use dtls::extension::extension_use_srtp::SrtpProtectionProfile as Profile;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;
use webrtc_data::data_channel::{Config as ChannelConfig, DataChannel};
use webrtc_sctp::association::{Association as SctpAssociation, Config as SctpConfig};
use webrtc_util::KeyingMaterialExporter;
use weir_transport::{
    Association, Certificate, Event, Fingerprint, HashAlgorithm, Keys, MESSAGE_BYTES_MAX, Role,
};

const LIMIT: Duration = Duration::from_secs(20);

/// What the test tells our end to do.
enum Order {
    Say(u16, String),
    Open(&'static str),
}

/// Our end: an association on a socket, driven by a task.
struct Ours {
    orders: mpsc::UnboundedSender<Order>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Ours {
    fn start(mut association: Association, socket: UdpSocket) -> Ours {
        let (orders, mut ordered) = mpsc::unbounded_channel();
        let (happened, events) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut datagram = [0; 2048];
            loop {
                while let Some(datagram) = association.poll_transmit() {
                    let _ = socket.send(&datagram).await;
                }
                while let Some(event) = association.poll_event() {
                    let _ = happened.send(event);
                }
                let deadline = association
                    .poll_timeout()
                    .unwrap_or_else(|| Instant::now() + LIMIT);
                tokio::select! {
                    () = tokio::time::sleep_until(deadline.into()) => association.handle_timeout(Instant::now()),
                    Ok(len) = socket.recv(&mut datagram) => {
                        association.handle_datagram(&datagram[..len], Instant::now());
                    }
                    order = ordered.recv() => match order {
                        Some(Order::Say(channel, text)) => {
                            association.send_text(channel, &text, Instant::now()).unwrap();
                        }
                        Some(Order::Open(label)) => association.open_channel(label, Instant::now()).unwrap(),
                        None => return,
                    },
                }
            }
        });
        Ours { orders, events }
    }

    /// The next event but for those about other things.
    async fn wait<T>(&mut self, wanted: impl Fn(Event) -> Option<T>) -> T {
        let search = async {
            loop {
                let event = self.events.recv().await.expect("our end is running");
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
        };
        timeout(LIMIT, search).await.expect("the event comes")
    }

    async fn keys(&mut self) -> Keys {
        self.wait(|event| match event {
            Event::Keys(keys) => Some(keys),
            _ => None,
        })
        .await
    }

    async fn text(&mut self) -> (u16, String) {
        self.wait(|event| match event {
            Event::Text { channel, text } => Some((channel, text)),
            _ => None,
        })
        .await
    }

    async fn open(&mut self) -> (u16, String) {
        self.wait(|event| match event {
            Event::ChannelOpen { channel, label } => Some((channel, label)),
            _ => None,
        })
        .await
    }
}

async fn sockets() -> (UdpSocket, UdpSocket) {
    let a = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let b = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    a.connect(b.local_addr().unwrap()).await.unwrap();
    b.connect(a.local_addr().unwrap()).await.unwrap();
    (a, b)
}

fn dtls_config(certificate: dtls::crypto::Certificate, profiles: Vec<Profile>) -> DtlsConfig {
    DtlsConfig {
        certificates: vec![certificate],
        srtp_protection_profiles: profiles,
        extended_master_secret: ExtendedMasterSecretType::Require,
        insecure_skip_verify: true,
        client_auth: dtls::config::ClientAuthType::RequireAnyClientCert,
        ..Default::default()
    }
}

/// Connects our end in `role` to webrtc-rs in the other one.
async fn connect(role: Role, profiles: Vec<Profile>) -> (Ours, Arc<DTLSConn>) {
    // webrtc-rs leaves the choice of its cryptography to the process; an error says that it is chosen already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (our_socket, their_socket) = sockets().await;
    let theirs = dtls::crypto::Certificate::generate_self_signed(vec!["peer".to_owned()]).unwrap();
    let fingerprint = Fingerprint::of(HashAlgorithm::Sha256, &theirs.certificate[0]);
    let own = Certificate::generate().unwrap();
    let association = Association::new(&own, role, fingerprint, Instant::now());
    let ours = Ours::start(association, our_socket);
    let config = dtls_config(theirs, profiles);
    let conn = DTLSConn::new(Arc::new(their_socket), config, role == Role::Passive, None);
    let conn = timeout(LIMIT, conn)
        .await
        .expect("in time")
        .expect("a handshake");
    let shown = &conn.connection_state().await.peer_certificates[0];
    assert!(own.fingerprint().matches(shown));
    (ours, Arc::new(conn))
}

async fn check_keys(
    ours: &mut Ours,
    conn: &DTLSConn,
    role: Role,
    id: u16,
    key: usize,
    salt: usize,
) {
    let keys = ours.keys().await;
    assert_eq!(keys.profile_id, id);
    let state = conn.connection_state().await;
    let length = 2 * (key + salt);
    let exported = state
        .export_keying_material("EXTRACTOR-dtls_srtp", &[], length)
        .await
        .unwrap();
    let client = [keys.remote_key.clone(), keys.remote_salt.clone()];
    let server = [keys.local_key.clone(), keys.local_salt.clone()];
    let [client, server] = if role == Role::Passive {
        [client, server]
    } else {
        [server, client]
    };
    let [client_key, client_salt] = client;
    let [server_key, server_salt] = server;
    assert_eq!(
        exported,
        [client_key, server_key, client_salt, server_salt].concat()
    );
}

fn sctp_config(conn: Arc<DTLSConn>) -> SctpConfig {
    SctpConfig {
        net_conn: conn,
        max_receive_buffer_size: 0,
        max_message_size: MESSAGE_BYTES_MAX as u32,
        mtu: 0,
        name: "peer".to_owned(),
        remote_port: 5000,
        local_port: 5000,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_srtp_profile_gives_both_ends_the_same_keys() {
    let cases = [
        (Profile::Srtp_Aead_Aes_256_Gcm, 8, 32, 12),
        (Profile::Srtp_Aead_Aes_128_Gcm, 7, 16, 12),
        (Profile::Srtp_Aes128_Cm_Hmac_Sha1_80, 1, 16, 14),
    ];
    for role in [Role::Passive, Role::Active] {
        for (profile, id, key, salt) in cases {
            let (mut ours, conn) = connect(role, vec![profile]).await;
            check_keys(&mut ours, &conn, role, id, key, salt).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gcm_is_chosen_whatever_the_client_prefers() {
    let order = vec![
        Profile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        Profile::Srtp_Aead_Aes_128_Gcm,
        Profile::Srtp_Aead_Aes_256_Gcm,
    ];
    let (mut ours, conn) = connect(Role::Passive, order).await;
    check_keys(&mut ours, &conn, Role::Passive, 8, 32, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checklist_32_an_independent_peer_opens_a_channel_and_exchanges_long_messages() {
    let (mut ours, conn) = connect(Role::Passive, vec![Profile::Srtp_Aead_Aes_256_Gcm]).await;
    let sctp = timeout(LIMIT, SctpAssociation::client(sctp_config(conn))).await;
    let sctp = Arc::new(sctp.expect("in time").expect("an association"));
    let config = ChannelConfig {
        label: "datachannel".to_owned(),
        ..Default::default()
    };
    // Client's streams are even by RFC 8832, but some number otherwise.
    for id in [0, 1] {
        let channel = DataChannel::dial(&sctp, id, config.clone()).await.unwrap();
        assert_eq!(ours.open().await, (id, "datachannel".to_owned()));
        let long = "0123456789abcdef".repeat(MESSAGE_BYTES_MAX / 16);
        channel
            .write_data_channel(&long.clone().into_bytes().into(), true)
            .await
            .unwrap();
        let (on, text) = ours.text().await;
        assert_eq!(on, id);
        assert_eq!(text, long);

        ours.orders.send(Order::Say(id, long.clone())).ok();
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let read = timeout(LIMIT, channel.read_data_channel(&mut buffer)).await;
        let (len, is_text) = read.expect("in time").unwrap();
        assert!(is_text);
        assert_eq!(&buffer[..len], long.as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checklist_38_binary_frames_and_second_channels_do_no_harm() {
    let (mut ours, conn) = connect(Role::Passive, vec![Profile::Srtp_Aead_Aes_256_Gcm]).await;
    let sctp = timeout(LIMIT, SctpAssociation::client(sctp_config(conn))).await;
    let sctp = Arc::new(sctp.expect("in time").expect("an association"));
    let config = ChannelConfig {
        label: "one".to_owned(),
        ..Default::default()
    };
    let one = DataChannel::dial(&sctp, 1, config).await.unwrap();
    assert_eq!(ours.open().await, (1, "one".to_owned()));
    let config = ChannelConfig {
        label: "two".to_owned(),
        ..Default::default()
    };
    let two = DataChannel::dial(&sctp, 3, config).await.unwrap();
    assert_eq!(ours.open().await, (3, "two".to_owned()));
    one.write_data_channel(&vec![0xff; 5000].into(), false)
        .await
        .unwrap();
    ours.wait(|event| (event == Event::Binary { channel: 1 }).then_some(()))
        .await;
    // Not UTF-8, though it says so.
    one.write_data_channel(&vec![0xff; 5].into(), true)
        .await
        .unwrap();
    ours.wait(|event| (event == Event::Binary { channel: 1 }).then_some(()))
        .await;
    two.close().await.unwrap();
    ours.wait(|event| (event == Event::ChannelClosed { channel: 3 }).then_some(()))
        .await;
    one.write_data_channel(&b"still here"[..].into(), true)
        .await
        .unwrap();
    assert_eq!(ours.text().await, (1, "still here".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crossing_inits_end_in_one_association() {
    // Both ends are initiators: ours because it is the DTLS client, theirs because it always is.
    let (mut ours, conn) = connect(Role::Active, vec![Profile::Srtp_Aead_Aes_256_Gcm]).await;
    ours.orders.send(Order::Open("ours")).ok();
    let sctp = timeout(LIMIT, SctpAssociation::client(sctp_config(conn))).await;
    let sctp = Arc::new(sctp.expect("in time").expect("an association"));
    let accept = DataChannel::accept(&sctp, ChannelConfig::default(), &[] as &[DataChannel]);
    let channel = timeout(LIMIT, accept).await.expect("in time").unwrap();
    assert_eq!(channel.config.label, "ours");
    assert_eq!(ours.open().await, (0, "ours".to_owned()));
    channel
        .write_data_channel(&b"hello"[..].into(), true)
        .await
        .unwrap();
    assert_eq!(ours.text().await, (0, "hello".to_owned()));
}
