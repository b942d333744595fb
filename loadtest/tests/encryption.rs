//! An encrypted conference through a focus in a process of its own: it forwards what it cannot read, with changes of layer, while
//! people come and go. Needs io_uring, like the focus.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use weir_client::{
    Encryption, EncryptionReport, JoinConfig, Kind, Participant, Publish, Report, Size,
    StreamReport,
};
use weir_loadtest::scenario::{Scenario, Settings};
use weir_loadtest::site::{Placement, Site, SiteConfig};

const LARGE: Size = Size {
    width: 1280,
    height: 720,
};
const SMALL: Size = Size {
    width: 320,
    height: 180,
};

/// A program that is the focus: this package's own binary, told so.
struct Program(PathBuf);

impl Program {
    fn new() -> Program {
        let name = format!("weir-focus-{}", weir_client::random_id(8));
        let path = std::env::temp_dir().join(name);
        let binary = env!("CARGO_BIN_EXE_weir-loadtest");
        let script = format!("#!/bin/sh\nexec '{binary}' focus \"$@\"\n");
        std::fs::write(&path, script).expect("a file");
        let executable = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&path, executable).expect("its own file");
        Program(path)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It lies in the folder for temporary files.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn site(program: &Program, participants: usize) -> Site {
    let config = SiteConfig {
        remote: None,
        user_prefix: "user".into(),
        password: String::new(),
        weir: Some(program.0.clone()),
        shards: Some(1),
        media_port: 0,
        http_port: 0,
        homeserver_port: 0,
        placement: Placement::default(),
    };
    let settings = Settings {
        participants,
        ..Scenario::Conference.defaults()
    };
    let site = Site::open(&config, &settings.plan(), &|_| {}).await;
    site.expect("a homeserver and a focus")
}

async fn joins(site: &Site, person: usize) -> Participant {
    let config = JoinConfig {
        wanted: Some(SMALL),
        encryption: Encryption::Sframe,
        ..site.join_config(person, 0)
    };
    Participant::join(config).await.expect("a join")
}

/// Joins without any keys, and sends nothing.
async fn joins_as_a_stranger(site: &Site, person: usize) -> Participant {
    let config = JoinConfig {
        wanted: Some(SMALL),
        publish: Publish::NOTHING,
        ..site.join_config(person, 0)
    };
    Participant::join(config).await.expect("a join")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "not within 30 s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn stream(at: &Participant, sender: &Report, kind: Kind) -> Option<StreamReport> {
    let report = at.report();
    let of = |stream: &StreamReport| stream.user_id == sender.user_id && stream.kind == kind;
    report.streams.into_iter().find(of)
}

/// The height of the latest picture; 0 before the first.
fn height(at: &Participant, sender: &Report) -> u16 {
    let stream = stream(at, sender, Kind::Video);
    stream
        .and_then(|stream| stream.video)
        .map_or(0, |video| video.height)
}

/// Whether pictures are decoded and sound is recognised, of everybody and at everybody.
fn all_understand(people: &[&Participant]) -> bool {
    let understands = |at: &Participant, sender: &Report| {
        let sound = stream(at, sender, Kind::Audio).and_then(|stream| stream.audio);
        height(at, sender) > 0 && sound.is_some_and(|audio| audio.recognised > 10)
    };
    let others = |at: &Participant| {
        let own = at.report().user_id;
        let others = people.iter().map(|other| other.report());
        others.filter(move |other| other.user_id != own)
    };
    people
        .iter()
        .all(|at| others(at).all(|sender| understands(at, &sender)))
}

fn encryption(of: &Participant) -> EncryptionReport {
    of.report().encryption.expect("media is encrypted")
}

fn violations(of: &Participant) -> Vec<String> {
    let streams = of.report().streams.into_iter();
    streams
        .flat_map(|stream| stream.violations)
        .map(|broken| format!("{:?}: {}", broken.violation, broken.first))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_conference_changes_layers_and_keys_and_whoever_has_no_key_sees_nothing() {
    let program = Program::new();
    let site = site(&program, 4).await;
    let viewer = joins(&site, 0).await;
    let sender = joins(&site, 1).await;
    let guest = joins(&site, 2).await;
    until("everybody understands everybody", || {
        all_understand(&[&viewer, &sender, &guest])
    })
    .await;

    // The focus finds keyframes and layers though it cannot read the frames.
    let sent = sender.report();
    for _ in 0..3 {
        for size in [LARGE, SMALL] {
            viewer.set_wanted_of(&sent.user_id, Some(size));
            let what = format!("height {}", size.height);
            until(&what, || height(&viewer, &sent) == size.height).await;
        }
    }

    // Who leaves takes no key along: both others change the session when each has confirmed the other's.
    guest.leave().await;
    until("both have new sessions", || {
        let switched = |of| encryption(of).sent.switches == 1;
        switched(&viewer) && switched(&sender)
    })
    .await;
    let before = encryption(&viewer).received.decrypted;
    until("frames of the new sessions", || {
        encryption(&viewer).received.decrypted > before + 100
    })
    .await;

    // A newcomer gets the keys as they stand, and whoever has none is sent what it cannot read.
    let newcomer = joins(&site, 2).await;
    until("the newcomer understands", || {
        all_understand(&[&viewer, &sender, &newcomer])
    })
    .await;
    let stranger = joins_as_a_stranger(&site, 3).await;
    let got = || {
        let video = stream(&stranger, &sent, Kind::Video).and_then(|stream| stream.video);
        video.unwrap_or_default()
    };
    until("the stranger is sent keyframes", || got().keyframes > 0).await;
    assert_eq!((got().recognised, got().decoded), (0, 0));

    for participant in [&viewer, &sender, &newcomer] {
        let EncryptionReport { sent, received } = encryption(participant);
        assert_eq!(received.bad(), 0, "{received:?}");
        assert_eq!(received.keys_refused, 0, "{received:?}");
        assert_eq!(sent.switches_unconfirmed, 0, "{sent:?}");
        assert_eq!(violations(participant), [""; 0]);
    }
    let shown = stream(&viewer, &sent, Kind::Video).expect("a picture");
    let video = shown.video.expect("of video");
    assert!(video.size_changes >= 5, "{video:?}");
    for participant in [viewer, sender, newcomer, stranger] {
        participant.leave().await;
    }
    site.close().await;
}
