//! An encrypted conference through a focus in a process of its own: it forwards what it cannot read, with changes of layer, while
//! people come and go. Needs io_uring, like the focus.

use weir_client::{Encryption, EncryptionReport, JoinConfig, Kind, Participant, Publish};
use weir_loadtest::plan::{LARGE, SMALL};
use weir_loadtest::site::Site;

use super::people::{open_site, perform, stream, until, user};

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

/// The height of the latest picture; 0 before the first.
fn height(at: &Participant, sender: &Participant) -> u16 {
    let stream = stream(at, sender, Kind::Video);
    stream
        .and_then(|stream| stream.video)
        .map_or(0, |video| video.height)
}

/// Whether pictures are decoded and sound is recognised, of everybody and at everybody.
fn all_understand(people: &[&Participant]) -> bool {
    let understands = |at: &Participant, sender: &Participant| {
        let sound = stream(at, sender, Kind::Audio).and_then(|stream| stream.audio);
        height(at, sender) > 0 && sound.is_some_and(|audio| audio.recognised > 10)
    };
    people.iter().all(|at| {
        let mut others = people.iter().filter(|other| user(other) != user(at));
        others.all(|sender| understands(at, sender))
    })
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

#[test]
fn an_encrypted_conference_changes_layers_and_keys_and_whoever_has_no_key_sees_nothing() {
    perform(story());
}

async fn story() {
    let site = open_site(4).await;
    let viewer = joins(&site, 0).await;
    let sender = joins(&site, 1).await;
    let guest = joins(&site, 2).await;
    until("everybody understands everybody", || {
        all_understand(&[&viewer, &sender, &guest])
    })
    .await;

    // The focus finds keyframes and layers though it cannot read the frames.
    for _ in 0..3 {
        for size in [LARGE, SMALL] {
            viewer.set_wanted_of(&user(&sender), Some(size));
            let what = format!("height {}", size.height);
            until(&what, || height(&viewer, &sender) == size.height).await;
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
        let video = stream(&stranger, &sender, Kind::Video).and_then(|stream| stream.video);
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
    let shown = stream(&viewer, &sender, Kind::Video).expect("a picture");
    let video = shown.video.expect("of video");
    assert!(video.size_changes >= 5, "{video:?}");
    for participant in [viewer, sender, newcomer, stranger] {
        participant.leave().await;
    }
    site.close().await;
}
