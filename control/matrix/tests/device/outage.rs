//! A homeserver that goes away and comes back.

use std::time::{Duration, Instant};

use serde_json::json;
use weir_matrix::{Incoming, Protection};

use crate::support::{Connected, Folder, User, embedded};

#[tokio::test]
async fn nothing_is_lost_while_the_homeserver_is_away() {
    let mut server = embedded().await;
    let url = server.url();
    let (store, other_store) = (Folder::new(), Folder::new());
    let (ann, bob) = (
        User::register(&url, "ann").await,
        User::register(&url, "bob").await,
    );
    let (mut a, _) = Connected::up(ann.config(&store)).await;
    let (mut b, _) = Connected::up(bob.config(&other_store)).await;
    let send = |from: &Connected, to: &Connected, text: &str, protection| {
        let content = json!({ "text": text });
        from.device.send_to_device(
            to.device.user_id(),
            to.device.device_id(),
            "m.test",
            content,
            protection,
        )
    };
    send(&b, &a, "before", Protection::Olm).await.unwrap();

    server.pause().await;
    let sent_plain = send(&b, &a, "plain", Protection::Plain);
    let sent_olm = send(&b, &a, "olm", Protection::Olm);
    // What arrived before the outage may be told before or after it.
    let mut told = Vec::new();
    loop {
        match a.next().await {
            Incoming::SyncDown { error } => {
                assert!(
                    error.contains(&server.address().port().to_string()),
                    "{error}"
                );
                break;
            }
            Incoming::ToDevice { content, .. } => {
                told.push(content["text"].as_str().unwrap().to_owned())
            }
            _ => {}
        }
    }
    assert!(matches!(b.next().await, Incoming::SyncDown { .. }));
    tokio::time::sleep(Duration::from_secs(2)).await;
    server.resume().await.unwrap();
    let back = Instant::now();
    sent_plain.await.unwrap();
    sent_olm.await.unwrap();
    while told.len() < 3 {
        told.push(a.next_text().await);
    }
    assert_eq!(told, ["before", "plain", "olm"]);
    b.wait_for(&Incoming::SyncUp).await;
    assert!(
        back.elapsed() < Duration::from_secs(20),
        "{:?}",
        back.elapsed()
    );
}

#[tokio::test]
async fn a_message_reaches_the_consumer_soon() {
    let server = embedded().await;
    let url = server.url();
    let (store, other_store) = (Folder::new(), Folder::new());
    let (ann, bob) = (
        User::register(&url, "ann").await,
        User::register(&url, "bob").await,
    );
    let (mut a, _) = Connected::up(ann.config(&store)).await;
    let (b, _) = Connected::up(bob.config(&other_store)).await;
    let (user, device) = (
        a.device.user_id().to_owned(),
        a.device.device_id().to_owned(),
    );
    let mut times: Vec<Duration> = Vec::new();
    for n in 0..20 {
        let sent = Instant::now();
        let content = json!({ "text": n.to_string() });
        let sending =
            b.device
                .send_to_device(&user, &device, "m.call.invite", content, Protection::Plain);
        assert_eq!(a.next_text().await, n.to_string());
        times.push(sent.elapsed());
        sending.await.unwrap();
    }
    times.sort();
    println!(
        "send to consumer: median {:?}, fastest {:?}, slowest {:?}",
        times[10], times[0], times[19]
    );
    // The SDK's own loop takes 600 ms; the fastest of twenty, since the machine may be busy with other tests.
    assert!(times[0] < Duration::from_millis(100), "{times:?}");
}
