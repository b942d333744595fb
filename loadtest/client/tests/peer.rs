//! A transport against an answerer of the same family: checks that the parts of `peer` are put together as a browser's
//! are. That they fit the focus is shown where the focus is.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dtls::conn::DTLSConn;
use dtls::crypto::Certificate;
use dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use tokio::sync::mpsc;
use webrtc_ice::agent::Agent;
use webrtc_ice::agent::agent_config::AgentConfig;
use webrtc_ice::candidate::{Candidate, CandidateType, candidate_base::unmarshal_candidate};
use webrtc_ice::mdns::MulticastDnsMode;
use webrtc_ice::network_type::NetworkType;
use webrtc_util::Conn;
use weir_client::peer::{Event, Peer, fingerprint};
use weir_client::sdp::Remote;

/// The answerer: accepts ICE, DTLS, SCTP and a channel, and says `hello` and then whatever it hears. It passes no media,
/// so its DTLS reads the ICE connection directly.
struct Answerer {
    agent: Agent,
    certificate: Certificate,
    description: Remote,
}

impl Answerer {
    async fn new() -> Answerer {
        let config = AgentConfig {
            network_types: vec![NetworkType::Udp4],
            candidate_types: vec![CandidateType::Host],
            multicast_dns_mode: MulticastDnsMode::Disabled,
            include_loopback: true,
            ..AgentConfig::default()
        };
        let agent = Agent::new(config).await.unwrap();
        let (sender, mut gathered) = mpsc::unbounded_channel();
        agent.on_candidate(Box::new(move |candidate| {
            let _ = sender.send(candidate.map(|candidate| candidate.marshal()));
            Box::pin(async {})
        }));
        agent.gather_candidates().unwrap();
        let mut candidates = Vec::new();
        while let Some(Some(candidate)) = gathered.recv().await {
            candidates.push(candidate);
        }
        let (ufrag, pwd) = agent.get_local_user_credentials().await;
        let certificate = Certificate::generate_self_signed(vec!["answerer".to_owned()]).unwrap();
        let hash = fingerprint(&certificate.certificate[0]);
        let description = Remote {
            ufrag,
            pwd,
            fingerprint: Some(("sha-256".into(), hash)),
            candidates,
            ..Remote::default()
        };
        Answerer {
            agent,
            certificate,
            description,
        }
    }

    async fn run(self, offerer: Peer) {
        for candidate in offerer.candidates() {
            let candidate: Arc<dyn Candidate + Send + Sync> =
                Arc::new(unmarshal_candidate(candidate).unwrap());
            let _ = self.agent.add_remote_candidate(&candidate);
        }
        let (ufrag, pwd) = offerer.credentials();
        let (_cancel, cancelled) = mpsc::channel(1);
        let Ok(ice) = self.agent.accept(cancelled, ufrag.into(), pwd.into()).await else {
            return;
        };
        let ice: Arc<dyn Conn + Send + Sync> = ice;
        let config = dtls::config::Config {
            certificates: vec![self.certificate],
            srtp_protection_profiles: vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm],
            insecure_skip_verify: true,
            ..Default::default()
        };
        // Fails when the offerer does not like the certificate.
        let Ok(dtls) = DTLSConn::new(ice, config, false, None).await else {
            return;
        };
        let config = webrtc_sctp::association::Config {
            net_conn: Arc::new(dtls),
            max_receive_buffer_size: 0,
            max_message_size: 262_144,
            mtu: 0,
            name: "answerer".into(),
            remote_port: 5000,
            local_port: 5000,
        };
        let association = Arc::new(
            webrtc_sctp::association::Association::server(config)
                .await
                .unwrap(),
        );
        let existing: [webrtc_data::data_channel::DataChannel; 0] = [];
        let config = webrtc_data::data_channel::Config::default();
        let channel =
            webrtc_data::data_channel::DataChannel::accept(&association, config, &existing)
                .await
                .unwrap();
        let greeting = Bytes::from(format!("hello on {}", channel.config.label));
        channel.write_data_channel(&greeting, true).await.unwrap();
        let mut buffer = vec![0; 262_144];
        while let Ok((length, true)) = channel.read_data_channel(&mut buffer).await {
            let text = Bytes::copy_from_slice(&buffer[..length]);
            channel.write_data_channel(&text, true).await.unwrap();
        }
    }
}

async fn text(events: &mut mpsc::Receiver<Event>) -> String {
    let wait = async {
        loop {
            match events.recv().await {
                Some(Event::Text(text)) => return text,
                Some(Event::Closed(reason)) => panic!("closed: {reason}"),
                Some(_) => {}
                None => panic!("the transport ended"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("a text frame")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connects_and_talks_over_the_data_channel() {
    let (answerer, offerer) = (Answerer::new().await, Peer::new().await.unwrap());
    let description = answerer.description.clone();
    let answering = tokio::spawn(answerer.run(offerer.clone()));
    let (link, mut events) = offerer.connect(&description).await.unwrap();
    assert_eq!(text(&mut events).await, "hello on datachannel");
    let long = "x".repeat(100_000);
    link.send_text(&long).await;
    assert_eq!(text(&mut events).await, long);
    link.close().await;
    answering.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refuses_a_certificate_that_does_not_have_the_fingerprint() {
    let (answerer, offerer) = (Answerer::new().await, Peer::new().await.unwrap());
    let mut description = answerer.description.clone();
    description.fingerprint = Some(("sha-256".into(), fingerprint(b"another certificate")));
    let answering = tokio::spawn(answerer.run(offerer.clone()));
    let error = offerer.connect(&description).await.unwrap_err();
    assert_eq!(error.step, "DTLS");
    answering.abort();
}
