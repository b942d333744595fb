//! What is refused, and whose fault it is said to be.

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use weir_matrix::{
    Appservice, Config, ConnectError, InvitePolicy, Login, Protection, SendError, connect,
};

use crate::support::{Connected, Folder, User, embedded, real};

async fn refusal(config: Config) -> ConnectError {
    match connect(config).await {
        Ok((device, _)) => panic!("should have been refused, but connected as {device:?}"),
        Err(error) => {
            assert!(!error.to_string().contains("secret-"), "{error}");
            assert!(!format!("{error:?}").contains("secret-"), "{error:?}");
            error
        }
    }
}

#[tokio::test]
async fn a_wrong_password_is_the_operators() {
    let server = embedded().await;
    let store = Folder::new();
    let ann = User::register(&server.url(), "ann").await;
    let mut config = ann.config(&store);
    config.login = Login::Password("secret-but-wrong".into());
    let error = refusal(config.clone()).await;
    assert!(
        matches!(&error, ConnectError::BadPassword { user, .. } if *user == ann.id),
        "{error}"
    );
    // The right one works on the same store.
    config.login = Login::Password("secret-password".into());
    Connected::up(config).await;
}

#[tokio::test]
async fn a_wrong_token_and_a_token_of_another_device_are_the_operators() {
    let server = embedded().await;
    let (store, other_store) = (Folder::new(), Folder::new());
    let (ann, bob) = (
        User::register(&server.url(), "ann").await,
        User::register(&server.url(), "bob").await,
    );
    let mut config = ann.config(&store);
    config.login = Login::AccessToken("secret-nonsense".into());
    assert!(matches!(
        refusal(config.clone()).await,
        ConnectError::BadToken { .. }
    ));
    config.login = Login::AccessToken(bob.token.as_str().into());
    let error = refusal(config.clone()).await;
    assert!(
        matches!(&error, ConnectError::OtherAccount { found, .. } if *found == bob.id),
        "{error}"
    );
    config.login = Login::AccessToken(ann.token.as_str().into());
    config.device_id = Some("FOCUS".into());
    let error = refusal(config).await;
    assert!(
        matches!(&error, ConnectError::OtherAccount { found, .. } if *found == ann.device),
        "{error}"
    );
    drop(other_store);
}

#[tokio::test]
async fn an_application_service_that_the_homeserver_does_not_know_is_the_operators() {
    let Some(url) = real() else { return };
    let store = Folder::new();
    let ann = User::register(&url, "ann").await;
    let mut config = ann.config(&store);
    config.login = Login::Appservice(Appservice {
        id: "weir".into(),
        token: "secret-nonsense".into(),
    });
    let error = refusal(config).await;
    assert!(
        matches!(error, ConnectError::BadAppservice { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_homeserver_that_is_not_there_is_unreachable() {
    let mut server = embedded().await;
    let store = Folder::new();
    let ann = User::register(&server.url(), "ann").await;
    server.pause().await;
    let error = refusal(ann.config(&store)).await;
    let ConnectError::Unreachable { reason, .. } = &error else {
        panic!("{error}")
    };
    assert!(reason.to_lowercase().contains("refused"), "{reason}");
}

#[tokio::test]
async fn what_is_no_homeserver_is_unreachable() {
    let web_server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", web_server.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        loop {
            let (mut stream, _) = web_server.accept().await.unwrap();
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
            stream.write_all(answer).await.unwrap();
        }
    });
    let store = Folder::new();
    let config = Config::new(url, "@a:x", Login::Password("secret-x".into()), &store.0);
    let error = refusal(config).await;
    let ConnectError::Unreachable { reason, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        reason,
        "status 200 and no JSON: is this a homeserver's URL?"
    );
    answering.abort();
}

#[tokio::test]
async fn a_url_without_scheme_is_refused_before_anything_is_sent() {
    let store = Folder::new();
    for url in ["matrix.example.org", "ftp://matrix.example.org", "http://"] {
        let config = Config::new(
            url,
            "@focus:example.org",
            Login::Password("secret-x".into()),
            &store.0,
        );
        let error = refusal(config).await;
        assert!(
            matches!(error, ConnectError::BadUrl { .. }),
            "{url}: {error}"
        );
    }
}

#[tokio::test]
async fn a_store_is_one_devices_and_needs_its_passphrase() {
    let server = embedded().await;
    let store = Folder::new();
    let (ann, bob) = (
        User::register(&server.url(), "ann").await,
        User::register(&server.url(), "bob").await,
    );
    let mut config = ann.config(&store);
    let (connected, _) = Connected::up(config.clone()).await;
    connected.device.shutdown().await;
    drop(connected);
    config.store_passphrase = Some("secret-but-wrong".into());
    assert!(matches!(
        refusal(config.clone()).await,
        ConnectError::Store { .. }
    ));
    let error = refusal(bob.config(&store)).await;
    assert!(
        matches!(&error, ConnectError::OtherAccount { found, .. } if *found == ann.id),
        "{error}"
    );
    config = ann.config(&store);
    config.device_id = Some("ANOTHER".into());
    assert!(matches!(
        refusal(config).await,
        ConnectError::OtherAccount {
            found_in: "the store",
            ..
        }
    ));
}

#[tokio::test]
async fn invitations_beyond_the_limit_are_refused() {
    let server = embedded().await;
    let store = Folder::new();
    let (ann, bob) = (
        User::register(&server.url(), "ann").await,
        User::register(&server.url(), "bob").await,
    );
    let mut config = ann.config(&store);
    config.invites = InvitePolicy::Accept { rooms_max: 0 };
    let _connected = Connected::up(config).await;
    let body = json!({ "invite": [ann.id] });
    let room = bob.call(reqwest::Method::POST, "createRoom", body).await["room_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let state = format!(
        "rooms/{}/state/m.room.member/{}",
        crate::support::path(&room),
        crate::support::path(&ann.id)
    );
    for _ in 0..500 {
        if bob.call(reqwest::Method::GET, &state, json!({})).await["membership"] == "leave" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the invitation should have been refused");
}

#[tokio::test]
async fn what_cannot_be_sent_is_refused_at_once() {
    let server = embedded().await;
    let store = Folder::new();
    let ann = User::register(&server.url(), "ann").await;
    let (connected, _) = Connected::up(ann.config(&store)).await;
    let cases = [
        ("nobody", "D", json!({}), "user id"),
        (&*ann.id, "", json!({}), "device id"),
        (&*ann.id, "*", json!({}), "device id"),
        (&*ann.id, "D", json!([1]), "content (an object)"),
    ];
    for (user, device, content, wrong) in cases {
        let sent = connected
            .device
            .send_to_device(user, device, "m.test", content, Protection::Plain)
            .await;
        assert!(
            matches!(&sent, Err(SendError::Invalid { what, .. }) if *what == wrong),
            "{sent:?}"
        );
    }
    let joined = connected.device.join_room("nonsense").await;
    assert!(
        matches!(joined, Err(SendError::Invalid { .. })),
        "{joined:?}"
    );
    let joined = connected.device.join_room("!nosuch:localhost").await;
    assert!(matches!(joined, Err(SendError::Refused(_))), "{joined:?}");
}

#[test]
fn debug_output_shows_no_secret() {
    let store = Folder::new();
    let mut config = Config::new(
        "http://x",
        "@a:x",
        Login::Password("secret-1".into()),
        &store.0,
    );
    config.store_passphrase = Some("secret-2".into());
    let text = format!("{config:?} {:?}", Login::AccessToken("secret-3".into()));
    assert!(!text.contains("secret"), "{text}");
}
