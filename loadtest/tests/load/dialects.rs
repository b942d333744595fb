//! Both dialects of the data channel in one call, through a focus that is a process of its own.

use serde_json::{Value, json};
use weir_client::matrix::Device;
use weir_client::{Dialect, JoinConfig, Kind, Participant, Size, Violation};
use weir_loadtest::plan::{LARGE, MEDIUM, SMALL};
use weir_loadtest::site::Site;

use super::people::{open_site, perform, stream, until, user};
use super::{run, turn};

#[test]
fn a_mixed_call_works_like_any_other() {
    let _turn = turn();
    let ran = run(&[
        "conference",
        "--participants",
        "4",
        "--seconds",
        "3",
        "--dialect",
        "mixed",
    ])
    .passed();
    assert_eq!(ran.json["conditions"]["settings"]["dialect"], "mixed");
    let participants = ran.json["participants"].as_array().expect("participants");
    for dialect in ["early", "late"] {
        let of = participants.iter().filter(|one| one["dialect"] == dialect);
        let streams: Vec<_> = of.map(|one| one["streams"].as_u64()).collect();
        assert_eq!(streams, [Some(6); 2], "{dialect}");
    }
}

#[test]
fn an_early_participant_has_the_whole_of_a_call_with_late_ones() {
    perform(story());
}

async fn story() {
    let site = open_site(3).await;
    let early = join(&site, 0, Dialect::Early, SMALL).await;
    let late = [
        join(&site, 1, Dialect::Late, MEDIUM).await,
        join(&site, 2, Dialect::Late, SMALL).await,
    ];
    let all = [&early, &late[0], &late[1]];
    let device = member_device(&site, &early).await.expect("it is listed");
    let focus = json!([{"user_id": site.focus.user_id, "device_id": site.focus.device_id}]);
    assert_eq!(device["org.matrix.msc3898.foci.active"], focus);
    assert_eq!(device["org.matrix.msc3898.foci.preferred"], json!([]));

    // It publishes, and everybody sees and hears everybody.
    for (viewer, height) in [(&early, 180), (&late[0], 360), (&late[1], 180)] {
        for sender in all.into_iter().filter(|of| user(of) != user(viewer)) {
            until_height(viewer, sender, height).await;
            until(&format!("{} hears {}", user(viewer), user(sender)), || {
                stream(viewer, sender, Kind::Audio).is_some_and(|of| of.packets > 50)
            })
            .await;
        }
    }

    // It asks for sizes, for one nothing, and again for something.
    let negotiations = early.report().negotiations;
    for (size, height) in [(LARGE, 720), (MEDIUM, 360)] {
        early.set_wanted(Some(size));
        until_height(&early, &late[0], height).await;
    }
    assert_eq!(early.report().negotiations, negotiations, "sizes alone");
    early.set_wanted_of(&user(&late[1]), None);
    until("its section stops", || {
        stream(&early, &late[1], Kind::Video).is_some_and(|of| !of.live)
    })
    .await;
    assert!(stream(&early, &late[0], Kind::Video).is_some_and(|of| of.live));
    early.set_wanted_of(&user(&late[1]), Some(SMALL));
    until_height(&early, &late[1], 180).await;

    // Its flags reach the late ones, and theirs reach it.
    early.set_muted(Kind::Video, true);
    for viewer in &late {
        until_muted(viewer, &early, Kind::Video, true).await;
    }
    early.set_muted(Kind::Video, false);
    for viewer in &late {
        until_muted(viewer, &early, Kind::Video, false).await;
    }
    for one in &late {
        one.set_muted(Kind::Audio, true);
        until_muted(&early, one, Kind::Audio, true).await;
    }

    // Who is left speaks, as everybody is told; then another.
    until_speaker(&all, &early).await;
    early.set_muted(Kind::Audio, true);
    late[0].set_muted(Kind::Audio, false);
    until_speaker(&all, &late[0]).await;

    // What may not be done (it is about another conference) is said in its own words, and to nobody else.
    early.send_text(
        r#"{"op":"connect","focus":{"user_id":"@other:localhost","device_id":"D"},"room_id":"!r:localhost","conf_id":"c"}"#,
    );
    until("the answer to `connect`", || {
        !early.report().errors.is_empty()
    })
    .await;
    let told: Value = serde_json::from_str(&early.report().errors[0]).expect("JSON");
    assert_eq!(told["errcode"], "M_FORBIDDEN");
    assert_eq!(told["in_reply_to"]["op"], "connect");

    // Both sides say that they live; a late one is asked again only if it has answered.
    until("a sign of life of the focus", || early.report().pings > 0).await;
    until("a second ping", || late[0].report().pings > 1).await;
    for participant in all {
        assert_undisturbed(participant);
    }
    assert_eq!(early.report().errors.len(), 1);
    assert!(late.iter().all(|one| one.report().errors.is_empty()));

    let left = user(&early);
    let observer = early.clone();
    early.leave().await;
    assert_eq!(member_device(&site, &observer).await, None);
    for viewer in &late {
        until("the others see that it is gone", || {
            let streams = viewer.report().streams;
            streams.iter().all(|of| of.user_id != left || !of.live)
        })
        .await;
        assert_undisturbed(viewer);
    }
    for participant in late {
        participant.leave().await;
    }
    site.close().await;
}

/// What a participant's member event says of its device.
async fn member_device(site: &Site, participant: &Participant) -> Option<Value> {
    let reader = Device::login(&site.homeserver, "reader", &site.password).await;
    let reader = reader.expect("an account");
    let room_id = &site.calls[0].room_id;
    reader.join_room(room_id).await.expect("a public room");
    let path = format!(
        "rooms/{room_id}/state/org.matrix.msc3401.call.member/{}",
        user(participant)
    );
    let mut event = reader.get(&path).await.expect("a member event");
    let devices = event.pointer_mut("/m.calls/0/m.devices/0");
    devices.map(Value::take)
}

async fn join(site: &Site, person: usize, dialect: Dialect, wanted: Size) -> Participant {
    let config = JoinConfig {
        dialect,
        wanted: Some(wanted),
        ..site.join_config(person, 0)
    };
    Participant::join(config).await.expect("a participant")
}

async fn until_height(viewer: &Participant, sender: &Participant, height: u16) {
    let what = format!("{} sees {} at {height}", user(viewer), user(sender));
    until(&what, || {
        let video = stream(viewer, sender, Kind::Video).filter(|of| of.live);
        let video = video.and_then(|of| of.video);
        video.is_some_and(|video| video.height == height && video.fps > 0.0)
    })
    .await;
}

async fn until_muted(viewer: &Participant, sender: &Participant, kind: Kind, muted: bool) {
    let what = format!("{kind:?} of {} muted: {muted}", user(sender));
    until(&what, || {
        stream(viewer, sender, kind).is_some_and(|of| of.muted == muted)
    })
    .await;
}

async fn until_speaker(all: &[&Participant], speaker: &Participant) {
    let speaks = [user(speaker)];
    for listener in all {
        until(&format!("{} is told who speaks", user(listener)), || {
            listener.snapshot().speakers == speaks
        })
        .await;
    }
}

/// It called once, and no stream broke a rule. A machine that stands still looks like a jump in time.
fn assert_undisturbed(participant: &Participant) {
    let report = participant.report();
    assert_eq!(report.invites, 1, "{}: {:?}", report.user_id, report.ends);
    for stream in &report.streams {
        let mut broken = stream.violations.iter();
        let other = broken.find(|broken| broken.violation != Violation::TimestampJump);
        assert_eq!(other, None, "{} of {}", report.user_id, stream.user_id);
    }
}
