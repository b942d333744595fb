//! What holds with any homeserver; each runs against the embedded one and, where there is one, a real one.

use reqwest::Method;
use serde_json::json;
use weir_matrix::{Incoming, Login, Protection, SendError};

use crate::support::{Connected, Folder, User, embedded, moment, path, real};

/// Makes of a scenario `async fn(url: &str)` a test against the embedded homeserver and one against a real one.
macro_rules! on_both {
    ($($scenario:ident),* $(,)?) => {
        mod embedded_homeserver {
            $(#[tokio::test]
            async fn $scenario() {
                let server = super::embedded().await;
                super::$scenario(&server.url()).await;
            })*
        }
        mod real_homeserver {
            $(#[tokio::test]
            async fn $scenario() {
                if let Some(url) = super::real() {
                    super::$scenario(&url).await;
                }
            })*
        }
    };
}

on_both!(
    plain_messages_arrive_in_the_order_of_the_calls,
    olm_messages_go_both_ways_and_name_the_senders_device,
    the_same_device_continues_after_a_restart,
    a_device_that_the_homeserver_forgot_comes_back_with_new_keys,
    an_access_token_is_a_device,
    an_invitation_is_accepted_and_the_calls_state_told,
    a_slow_consumer_loses_nothing,
);

async fn plain_messages_arrive_in_the_order_of_the_calls(url: &str) {
    let (store, other_store) = (Folder::new(), Folder::new());
    let (ann, bob) = (
        User::register(url, "ann").await,
        User::register(url, "bob").await,
    );
    let (mut receiver, _) = Connected::up(ann.config(&store)).await;
    let (sender, _) = Connected::up(bob.config(&other_store)).await;
    let (user, device) = (
        receiver.device.user_id().to_owned(),
        receiver.device.device_id().to_owned(),
    );
    let send = |n: u32| {
        let content = json!({ "text": n.to_string(), "n": n });
        sender.device.send_to_device(
            &user,
            &device,
            "m.call.candidates",
            content,
            Protection::Plain,
        )
    };
    let mut sent: Vec<_> = (0..20).map(send).collect();
    // Awaited last to first: the order of the calls counts.
    while let Some(sent) = sent.pop() {
        sent.await.unwrap();
    }
    let expected = |n: u32| Incoming::ToDevice {
        sender: bob.id.clone(),
        event_type: "m.call.candidates".into(),
        content: json!({ "text": n.to_string(), "n": n }),
        protection: Protection::Plain,
        sender_device: None,
        arrived: moment(),
    };
    for n in 0..20 {
        assert_eq!(receiver.next_message().await, expected(n));
    }
    sender.device.shutdown().await;
    assert_eq!(send(99).await, Err(SendError::ShutDown));
}

async fn olm_messages_go_both_ways_and_name_the_senders_device(url: &str) {
    let (store, other_store) = (Folder::new(), Folder::new());
    let (ann, bob) = (
        User::register(url, "ann").await,
        User::register(url, "bob").await,
    );
    let (mut a, _) = Connected::up(ann.config(&store)).await;
    let (mut b, _) = Connected::up(bob.config(&other_store)).await;
    for n in 0..3 {
        olm_round(&a, &mut b, n).await;
        olm_round(&b, &mut a, n).await;
    }
    let unknown = a.device.send_to_device(
        &bob.id,
        "NOSUCH",
        "m.call.invite",
        json!({}),
        Protection::Olm,
    );
    assert_eq!(unknown.await, Err(SendError::NoKeys));
}

async fn olm_round(from: &Connected, to: &mut Connected, n: u32) {
    let (user, device) = (to.device.user_id(), to.device.device_id());
    let content = json!({ "conf_id": "c", "n": n });
    from.device
        .send_to_device(
            user,
            device,
            "m.call.invite",
            content.clone(),
            Protection::Olm,
        )
        .await
        .unwrap();
    let expected = Incoming::ToDevice {
        sender: from.device.user_id().to_owned(),
        event_type: "m.call.invite".into(),
        content,
        protection: Protection::Olm,
        sender_device: Some(from.device.device_id().to_owned()),
        arrived: moment(),
    };
    assert_eq!(to.next_message().await, expected);
}

async fn the_same_device_continues_after_a_restart(url: &str) {
    let (store, other_store) = (Folder::new(), Folder::new());
    let (ann, bob) = (
        User::register(url, "ann").await,
        User::register(url, "bob").await,
    );
    let (mut a, _) = Connected::up(ann.config(&store)).await;
    let (mut b, _) = Connected::up(bob.config(&other_store)).await;
    olm_round(&b, &mut a, 0).await;
    let room = call_room(&bob, &ann.id).await;
    let call = call_state(&room, &bob);
    let member = member_state(&room, &bob);
    a.wait_for(&call).await;

    let device = a.device.device_id().to_owned();
    a.device.shutdown().await;
    drop(a);
    let missed = json!({ "text": "while you were away" });
    b.device
        .send_to_device(&ann.id, &device, "m.test", missed.clone(), Protection::Olm)
        .await
        .unwrap();
    b.device
        .send_to_device(&ann.id, &device, "m.test", missed, Protection::Plain)
        .await
        .unwrap();

    let (mut a, told) = Connected::up(ann.config(&store)).await;
    assert_eq!(a.device.device_id(), device);
    for wanted in [
        &call,
        &member,
        &membership(&room, &ann.id, true),
        &membership(&room, &bob.id, true),
    ] {
        assert!(told.contains(wanted), "{wanted:?} in {told:?}");
    }
    let messages: Vec<Protection> = told
        .iter()
        .filter_map(|told| match told {
            Incoming::ToDevice {
                protection,
                content,
                ..
            } if content["text"] == "while you were away" => Some(*protection),
            _ => None,
        })
        .collect();
    assert_eq!(messages, [Protection::Olm, Protection::Plain]);
    olm_round(&b, &mut a, 1).await;
    olm_round(&a, &mut b, 2).await;
}

async fn a_device_that_the_homeserver_forgot_comes_back_with_new_keys(url: &str) {
    let (store, other_store) = (Folder::new(), Folder::new());
    let (ann, bob) = (
        User::register(url, "ann").await,
        User::register(url, "bob").await,
    );
    let mut config = ann.config(&store);
    config.device_id = Some("FOCUS".into());
    let (a, _) = Connected::up(config.clone()).await;
    a.device.shutdown().await;
    drop(a);
    ann.call(Method::POST, "logout/all", json!({})).await;

    let (mut a, _) = Connected::up(config).await;
    assert_eq!(a.device.device_id(), "FOCUS");
    let (mut b, _) = Connected::up(bob.config(&other_store)).await;
    olm_round(&b, &mut a, 0).await;
    olm_round(&a, &mut b, 1).await;
}

async fn an_access_token_is_a_device(url: &str) {
    let store = Folder::new();
    let ann = User::register(url, "ann").await;
    let mut config = ann.config(&store);
    config.login = Login::AccessToken(ann.token.as_str().into());
    config.user_id.clone_from(&ann.name);
    let (connected, _) = Connected::up(config).await;
    assert_eq!(
        (connected.device.user_id(), connected.device.device_id()),
        (ann.id.as_str(), ann.device.as_str())
    );
}

/// A room with a call in it, to which the user is invited.
async fn call_room(host: &User, invited: &str) -> String {
    let call = json!({ "type": "org.matrix.msc3401.call", "state_key": "conf", "content": { "m.intent": "m.room" } });
    let body = json!({ "name": "R", "initial_state": [call], "preset": "private_chat" });
    let room = host.call(Method::POST, "createRoom", body).await["room_id"]
        .as_str()
        .unwrap()
        .to_owned();
    set_member(
        host,
        &room,
        json!({ "m.calls": [{ "m.call_id": "conf", "m.devices": [] }] }),
    )
    .await;
    let invite = format!("rooms/{}/invite", path(&room));
    host.call(Method::POST, &invite, json!({ "user_id": invited }))
        .await;
    room
}

async fn set_member(user: &User, room: &str, content: serde_json::Value) {
    let state = format!(
        "rooms/{}/state/org.matrix.msc3401.call.member/{}",
        path(room),
        path(&user.id)
    );
    user.call(Method::PUT, &state, content).await;
}

fn call_state(room: &str, host: &User) -> Incoming {
    Incoming::CallState {
        room_id: room.to_owned(),
        event_type: "org.matrix.msc3401.call".into(),
        state_key: "conf".into(),
        sender: host.id.clone(),
        content: json!({ "m.intent": "m.room" }),
    }
}

fn member_state(room: &str, host: &User) -> Incoming {
    Incoming::CallState {
        room_id: room.to_owned(),
        event_type: "org.matrix.msc3401.call.member".into(),
        state_key: host.id.clone(),
        sender: host.id.clone(),
        content: json!({ "m.calls": [{ "m.call_id": "conf", "m.devices": [] }] }),
    }
}

fn membership(room: &str, user: &str, joined: bool) -> Incoming {
    Incoming::Membership {
        room_id: room.to_owned(),
        user_id: user.to_owned(),
        joined,
    }
}

async fn an_invitation_is_accepted_and_the_calls_state_told(url: &str) {
    let store = Folder::new();
    let (ann, bob) = (
        User::register(url, "ann").await,
        User::register(url, "bob").await,
    );
    let (mut a, _) = Connected::up(ann.config(&store)).await;
    let room = call_room(&bob, &ann.id).await;
    let mut wanted = vec![
        call_state(&room, &bob),
        member_state(&room, &bob),
        membership(&room, &bob.id, true),
        membership(&room, &ann.id, true),
    ];
    while !wanted.is_empty() {
        let told = a.next().await;
        wanted.retain(|wanted| *wanted != told);
    }
    set_member(&bob, &room, json!({ "m.calls": [] })).await;
    let changed = Incoming::CallState {
        room_id: room.clone(),
        event_type: "org.matrix.msc3401.call.member".into(),
        state_key: bob.id.clone(),
        sender: bob.id.clone(),
        content: json!({ "m.calls": [] }),
    };
    a.wait_for(&changed).await;
    let carl = User::register(url, "carl").await;
    bob.call(
        Method::POST,
        &format!("rooms/{}/invite", path(&room)),
        json!({ "user_id": carl.id }),
    )
    .await;
    carl.call(
        Method::POST,
        &format!("rooms/{}/join", path(&room)),
        json!({}),
    )
    .await;
    a.wait_for(&membership(&room, &carl.id, true)).await;
    carl.call(
        Method::POST,
        &format!("rooms/{}/leave", path(&room)),
        json!({}),
    )
    .await;
    a.wait_for(&membership(&room, &carl.id, false)).await;
    bob.call(
        Method::POST,
        &format!("rooms/{}/kick", path(&room)),
        json!({ "user_id": ann.id }),
    )
    .await;
    a.wait_for(&membership(&room, &ann.id, false)).await;
}

async fn a_slow_consumer_loses_nothing(url: &str) {
    let (store, other_store) = (Folder::new(), Folder::new());
    let (ann, bob) = (
        User::register(url, "ann").await,
        User::register(url, "bob").await,
    );
    let mut config = ann.config(&store);
    config.incoming_max = 1;
    let (mut receiver, _) = Connected::up(config).await;
    let (sender, _) = Connected::up(bob.config(&other_store)).await;
    let (user, device) = (
        receiver.device.user_id().to_owned(),
        receiver.device.device_id().to_owned(),
    );
    for n in 0..120 {
        let content = json!({ "text": n.to_string() });
        sender
            .device
            .send_to_device(&user, &device, "m.test", content, Protection::Plain)
            .await
            .unwrap();
    }
    for n in 0..120 {
        assert_eq!(receiver.next_text().await, n.to_string());
    }
}
