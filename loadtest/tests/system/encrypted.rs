//! Calls whose to-device messages are encrypted from device to device: the focus answers in kind.

use std::time::Duration;

use serde_json::json;
use weir_matrix::{Config, Incoming, Login, Protection, connect};

use crate::caller::Caller;
use crate::site::{Call, PASSWORD, Site};

/// Far longer than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// An invite that is encrypted is answered so, and one in the name of another device than it comes from is not.
pub(crate) async fn an_encrypted_invite_is_answered_encrypted<H>(site: &Site<H>, call: &Call) {
    // Joins the room, and makes the invites; they are sent by another device of the same user.
    let olga = Caller::member(site, call, "olga").await;
    let store = std::env::temp_dir().join(format!("weir-test-{}", weir_client::random_id(8)));
    let login = Login::Password(PASSWORD.into());
    let config = Config::new(&site.url, olga.user_id(), login, &store);
    let (device, mut incoming) = connect(config).await.unwrap();
    let focus = site.focus_address();
    let claim = |call_id: &str, device_id: &str| {
        let members = json!({ "device_id": device_id, "party_id": device_id });
        olga.invite_with(call_id, members)
    };
    let send = |content| {
        let (user, to) = (focus.user_id.as_str(), focus.device_id.as_str());
        device.send_to_device(user, to, "m.call.invite", content, Protection::Olm)
    };
    // The other device exists, and is not where this comes from.
    send(claim("in another's name", olga.device_id()))
        .await
        .unwrap();
    send(claim("encrypted", device.device_id())).await.unwrap();
    let answered = async {
        loop {
            let Incoming::ToDevice {
                sender,
                event_type,
                content,
                protection,
                sender_device,
                ..
            } = incoming.recv().await.unwrap()
            else {
                continue;
            };
            assert_eq!(content["call_id"], "encrypted", "{event_type}");
            assert_eq!(event_type, "m.call.answer");
            assert_eq!(
                (sender.as_str(), protection),
                (focus.user_id.as_str(), Protection::Olm)
            );
            assert_eq!(sender_device.as_deref(), Some(focus.device_id.as_str()));
            return;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.unwrap();
    assert_eq!(site.metrics().await.refusals("wrong_device"), 1.0);
    device.shutdown().await;
    // It lies in the folder for temporary files: if it cannot be removed, the system will.
    let _ = std::fs::remove_dir_all(store);
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_invites_are_answered_encrypted() {
    let site = Site::start(1, "127.0.0.1:0").await;
    let call = site.call().await;
    an_encrypted_invite_is_answered_encrypted(&site, &call).await;
    site.stop(Vec::new()).await;
}
