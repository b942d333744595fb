//! The focus as an application service of a real Synapse: nobody invites it, and it knows who is in which call.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::json;
use weir::appservice::{Tokens, registration};
use weir::config::Appservice;
use weir_client::Kind;
use weir_client::matrix::Device;

use crate::caller::Caller;
use crate::encrypted::an_encrypted_invite_is_answered_encrypted;
use crate::site::{
    Call, SMALL, Site, config, refusals, stream, turn, until, until_media_flows, until_some,
};
use crate::synapse::{Synapse, free_port, installation};

/// What an operator waits for after sending somebody away.
const REMOVED_WITHIN: Duration = Duration::from_secs(2);

/// Synapse with the registration that the focus prints, and the focus; `None` without Synapse.
async fn start() -> Option<Site<Synapse>> {
    let installation = installation()?;
    let turn = turn().await;
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut config = config(&url, 1, vec!["127.0.0.1:0".parse().unwrap()]);
    config.matrix.user = "@focus:localhost".into();
    config.matrix.password = None;
    config.matrix.device_id = Some("WEIR".into());
    let appservice = Appservice {
        listen: format!("127.0.0.1:{}", free_port()).parse().unwrap(),
        url: None,
        id: "weir".into(),
        as_token: None,
        hs_token: None,
    };
    config.appservice = Some(appservice.clone());
    let tokens = Tokens::load(&config, &appservice).unwrap();
    let file: PathBuf = config.matrix.store.join("registration.yaml");
    std::fs::write(&file, registration(&config, &appservice, &tokens)).unwrap();
    let synapse = Synapse::start(&installation, port, &file);
    Some(Site::around(synapse, &url, vec![config], turn).await)
}

/// Makes a room with a call, and invites nobody: the focus is not in it.
async fn call(site: &Site<Synapse>) -> Call {
    let room_id = site.host.create_room().await.unwrap();
    let conf_id = weir_client::random_id(16);
    site.host.put_call(&room_id, &conf_id).await.unwrap();
    Call { room_id, conf_id }
}

async fn send_away(host: &Device, call: &Call, how: &str, user_id: &str) {
    let room_id = call.room_id.replace('!', "%21").replace(':', "%3A");
    let path = format!("rooms/{room_id}/{how}");
    let body = json!({ "user_id": user_id });
    let answer = host.call(Method::POST, &path, Some(&body)).await;
    answer.unwrap();
}

/// Waits until so many transports are left on the shard, without which it takes and sends no media; gives how long that took.
async fn until_transports(site: &Site<Synapse>, count: f64) -> Duration {
    let began = Instant::now();
    until_some("a transport is gone", async || {
        let transports = "weir_shard_transports{shard=\"0\"}";
        (site.metrics().await.get(transports) == count).then_some(())
    })
    .await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_a_room_that_the_focus_is_not_in_call_and_strangers_do_not() {
    let Some(site) = start().await else { return };
    let call = call(&site).await;
    let alice = site.join(&call, "alice", SMALL).await;
    let bob = site.join(&call, "bob", SMALL).await;
    until_media_flows(&[&alice, &bob]).await;
    let members = format!("rooms/{}/joined_members", call.room_id.replace('!', "%21"));
    let members = site.host.get(&members).await.unwrap();
    assert!(members["joined"]["@focus:localhost"].is_null());

    let mut mallory = Caller::stranger(&site, &call, "mallory").await;
    mallory
        .send("m.call.invite", &mallory.invite("let me in"))
        .await;
    let nowhere = mallory.invite_with("nowhere", json!({"conf_id": "no such call"}));
    mallory.send("m.call.invite", &nowhere).await;
    let refused = mallory.receive("m.call.reject", "let me in").await;
    assert_eq!(refused["reason"], "not_authorised");
    let refused = mallory.receive("m.call.reject", "nowhere").await;
    assert_eq!(refused["reason"], "not_authorised");
    let metrics = site.metrics().await;
    assert_eq!(metrics.refusals("not_authorised"), 2.0);
    assert_eq!(metrics.get("weir_appservice_rooms"), 1.0);
    let unauthorised = "weir_appservice_transactions_total{result=\"unauthorised\"}";
    assert_eq!(metrics.get(unauthorised), 0.0);
    site.assert_undisturbed(&alice);
    site.assert_undisturbed(&bob);
    site.leave(vec![alice, bob]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_of_a_kicked_and_of_a_banned_member_stops_within_two_seconds() {
    let Some(site) = start().await else { return };
    let call = call(&site).await;
    let alice = site.join(&call, "alice", SMALL).await;
    let bob = site.join(&call, "bob", SMALL).await;
    let carol = site.join(&call, "carol", SMALL).await;
    until_media_flows(&[&alice, &bob, &carol]).await;

    for (how, participant, left) in [("kick", &bob, 2.0), ("ban", &carol, 1.0)] {
        let before = site.metrics().await.refusals("not_authorised");
        let user_id = participant.report().user_id;
        send_away(&site.host, &call, how, &user_id).await;
        let took = until_transports(&site, left).await;
        let stall = Duration::from_millis(site.stall_ms());
        assert!(took <= REMOVED_WITHIN + stall, "{how}: after {took:?}");
        // It calls again, as clients do, and is told no.
        site.until_metric(&refusals("not_authorised"), before + 1.0)
            .await;
        until("alice sees nothing more", || {
            stream(&alice.report(), &user_id, Kind::Video).is_none()
        })
        .await;
        assert!(!participant.report().connected);
    }
    // Alice is alone, still sends, and nobody is sent anything.
    let sealed = "weir_shard_packets_total{shard=\"0\",stage=\"sealed\"}";
    let kept = "weir_shard_packets_total{shard=\"0\",stage=\"kept\"}";
    let before = site.metrics().await;
    site.until_metric(kept, before.get(kept) + 50.0).await;
    assert_eq!(site.metrics().await.get(sealed), before.get(sealed));
    site.assert_undisturbed(&alice);
    site.leave(vec![alice]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_who_leaves_the_call_s_state_is_gone_within_seconds() {
    let Some(site) = start().await else { return };
    let call = call(&site).await;
    let alice = site.join(&call, "alice", SMALL).await;
    let mut bob = Caller::member(&site, &call, "bob").await;
    let line = bob.call("bobs").await;
    until_transports(&site, 2.0).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let soon = now.as_millis() as u64 + 3_000;
    bob.list_until(&call, Some(soon)).await;
    let took = until_transports(&site, 1.0).await;
    let stall = Duration::from_millis(site.stall_ms());
    assert!(took <= Duration::from_secs(5) + stall, "after {took:?}");
    let hangup = bob.receive("m.call.hangup", "bobs").await;
    assert_eq!(hangup["call_id"], "bobs");
    drop(line);

    // He is still a member of the room, and may come back, say with a tablet; then he takes himself out.
    let mut tablet = Caller::member(&site, &call, "bob").await;
    let line = tablet.call("again").await;
    tablet.list_until(&call, Some(soon + 3_600_000)).await;
    until_transports(&site, 2.0).await;
    tablet.list_until(&call, None).await;
    let took = until_transports(&site, 1.0).await;
    assert!(took <= Duration::from_secs(4) + stall, "after {took:?}");
    drop(line);
    site.leave(vec![alice]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_known_after_a_restart_and_who_was_kicked_meanwhile_is_refused() {
    let Some(site) = start().await else { return };
    let call = call(&site).await;
    let alice = site.join(&call, "alice", SMALL).await;
    let mut bob = Caller::member(&site, &call, "bob").await;
    let line = bob.call("before").await;
    until_transports(&site, 2.0).await;
    drop((bob, line));
    let site = site.restart(async |_| ()).await;
    // Nothing happens in the room; alice only calls again.
    until("alice is back", || {
        alice.report().invites > 1 && alice.report().connected
    })
    .await;
    let mut bob = Caller::member(&site, &call, "bob").await;
    let line = bob.call("after").await;
    until_transports(&site, 2.0).await;
    drop(line);
    let site = site
        .restart(async |host| send_away(host, &call, "kick", bob.user_id()).await)
        .await;
    bob.send("m.call.invite", &bob.invite("once more")).await;
    let refused = bob.receive("m.call.reject", "once more").await;
    assert_eq!(refused["reason"], "not_authorised");
    site.leave(vec![alice]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_invites_are_answered_encrypted() {
    let Some(site) = start().await else { return };
    let call = call(&site).await;
    an_encrypted_invite_is_answered_encrypted(&site, &call).await;
    site.leave(Vec::new()).await;
}
