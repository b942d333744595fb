//! The homeserver as clients see it, over HTTP.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use weir_homeserver::{Config, Focus, Homeserver};

async fn start() -> Homeserver {
    let listen = "127.0.0.1:0".parse().unwrap();
    Homeserver::start(Config {
        server_name: "localhost".into(),
        listen,
    })
    .await
    .unwrap()
}

/// A logged-in client that keeps its place in the sync stream.
struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
    user: String,
    device: String,
    since: Option<String>,
}

impl Client {
    async fn register(server: &Homeserver, name: &str) -> Self {
        let http = reqwest::Client::new();
        let body =
            json!({ "username": name, "password": "pw", "auth": { "type": "m.login.dummy" } });
        let url = server.url();
        let request = http
            .post(format!("{url}/_matrix/client/v3/register"))
            .json(&body);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        let member = |name: &str| answer[name].as_str().unwrap().to_owned();
        Self {
            token: member("access_token"),
            user: member("user_id"),
            device: member("device_id"),
            http,
            url,
            since: None,
        }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self
            .http
            .request(method, format!("{}/_matrix/client/v3/{path}", self.url));
        let answer = request
            .bearer_auth(&self.token)
            .json(&body)
            .send()
            .await
            .unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn ok(&self, method: Method, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(method, path, body).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn try_sync(&mut self, parameters: &str) -> Option<Value> {
        let since = self
            .since
            .as_ref()
            .map(|since| format!("&since={since}"))
            .unwrap_or_default();
        let url = format!("{}/_matrix/client/v3/sync?{parameters}{since}", self.url);
        let answer = self
            .http
            .get(url)
            .bearer_auth(&self.token)
            .send()
            .await
            .ok()?;
        assert_eq!(answer.status().as_u16(), 200);
        let body: Value = answer.json().await.unwrap();
        self.since = Some(body["next_batch"].as_str().unwrap().to_owned());
        Some(body)
    }

    async fn sync(&mut self, timeout_ms: u64) -> Value {
        self.try_sync(&format!("timeout={timeout_ms}"))
            .await
            .unwrap()
    }

    async fn send_to(&self, to: &Client, device: &str, transaction: &str, text: &str) {
        let body = json!({ "messages": { &to.user: { device: { "text": text } } } });
        self.ok(
            Method::PUT,
            &format!("sendToDevice/m.test/{transaction}"),
            body,
        )
        .await;
    }

    async fn create_room(&self, body: Value) -> String {
        self.ok(Method::POST, "createRoom", body).await["room_id"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

fn to_device_texts(sync: &Value) -> Vec<&str> {
    sync["to_device"]["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["content"]["text"].as_str().unwrap())
        .collect()
}

/// Types with state keys of the events at a path.
fn events(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    list["events"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|e| (text(&e["type"]), text(&e["state_key"])))
        .collect()
}

fn path(id: &str) -> String {
    id.replace('!', "%21")
        .replace(':', "%3A")
        .replace('#', "%23")
        .replace('@', "%40")
}

#[tokio::test]
async fn a_to_device_message_ends_a_waiting_sync_at_once() {
    let server = start().await;
    let (ann, mut bob) = (
        Client::register(&server, "ann").await,
        Client::register(&server, "bob").await,
    );
    bob.sync(0).await;
    let mut fastest = Duration::MAX;
    for n in 0..5 {
        let bob_device = bob.device.clone();
        let waiting = async { (bob.sync(20_000).await, Instant::now()) };
        let recipient = Client {
            since: None,
            ..Client::register(&server, &format!("x{n}")).await
        };
        let recipient = Client {
            user: "@bob:localhost".into(),
            ..recipient
        };
        let sending = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let sent = Instant::now();
            ann.send_to(&recipient, &bob_device, &format!("t{n}"), "hello")
                .await;
            sent
        };
        let ((synced, received), sent) = tokio::join!(waiting, sending);
        assert_eq!(to_device_texts(&synced), ["hello"]);
        fastest = fastest.min(received - sent);
    }
    // Two HTTP requests on loopback; the fastest of five, since the machine may be busy with other tests.
    assert!(fastest < Duration::from_millis(20), "{fastest:?}");
}

#[tokio::test]
async fn a_to_device_message_comes_again_until_it_is_acknowledged_and_then_never() {
    let server = start().await;
    let (ann, mut bob) = (
        Client::register(&server, "ann").await,
        Client::register(&server, "bob").await,
    );
    bob.sync(0).await;
    let before = bob.since.clone();
    ann.send_to(&bob, &bob.device, "t1", "one").await;
    assert_eq!(to_device_texts(&bob.sync(0).await), ["one"]);
    bob.since = before;
    ann.send_to(&bob, "*", "t2", "two").await;
    assert_eq!(to_device_texts(&bob.sync(0).await), ["one", "two"]);
    assert_eq!(to_device_texts(&bob.sync(0).await), [""; 0]);
    bob.since = None;
    assert_eq!(to_device_texts(&bob.sync(0).await), [""; 0]);
}

#[tokio::test]
async fn a_sync_carries_a_hundred_messages_and_the_next_one_the_rest() {
    let server = start().await;
    let (ann, mut bob) = (
        Client::register(&server, "ann").await,
        Client::register(&server, "bob").await,
    );
    bob.sync(0).await;
    for n in 0..130 {
        ann.send_to(&bob, &bob.device, &format!("t{n}"), &n.to_string())
            .await;
    }
    let first = bob.sync(0).await;
    let second = bob.sync(0).await;
    let all = [to_device_texts(&first), to_device_texts(&second)].concat();
    assert_eq!(to_device_texts(&first).len(), 100);
    assert_eq!(all, (0..130).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_repeated_transaction_is_answered_but_done_once() {
    let server = start().await;
    let (ann, mut bob) = (
        Client::register(&server, "ann").await,
        Client::register(&server, "bob").await,
    );
    ann.send_to(&bob, &bob.device, "same", "hello").await;
    ann.send_to(&bob, &bob.device, "same", "hello").await;
    assert_eq!(to_device_texts(&bob.sync(0).await), ["hello"]);
    let room = path(&ann.create_room(json!({})).await);
    let send = format!("rooms/{room}/send/m.room.message/t");
    let first = ann.ok(Method::PUT, &send, json!({ "body": "x" })).await;
    assert_eq!(
        ann.ok(Method::PUT, &send, json!({ "body": "x" })).await,
        first
    );
}

#[tokio::test]
async fn an_invited_user_joins_and_gets_the_state() {
    let server = start().await;
    let (ann, mut bob) = (
        Client::register(&server, "ann").await,
        Client::register(&server, "bob").await,
    );
    bob.sync(0).await;
    let call = json!({ "type": "org.matrix.msc3401.call", "state_key": "conf", "content": { "m.intent": "m.room" } });
    let room = ann
        .create_room(json!({ "name": "R", "initial_state": [call] }))
        .await;
    assert_eq!(
        bob.call(Method::POST, &format!("join/{}", path(&room)), json!({}))
            .await
            .0,
        403
    );
    ann.ok(
        Method::POST,
        &format!("rooms/{}/invite", path(&room)),
        json!({ "user_id": bob.user }),
    )
    .await;
    let synced = bob.sync(0).await;
    let invite = events(&synced["rooms"]["invite"][&room]["invite_state"]);
    assert!(
        invite.contains(&("m.room.member".into(), "@bob:localhost".into())),
        "{invite:?}"
    );
    bob.ok(Method::POST, &format!("join/{}", path(&room)), json!({}))
        .await;
    let synced = bob.sync(0).await;
    let joined = &synced["rooms"]["join"][&room];
    let all = [events(&joined["state"]), events(&joined["timeline"])].concat();
    let count = |event_type: &str, key: &str| {
        all.iter()
            .filter(|(t, k)| t == event_type && k == key)
            .count()
    };
    assert_eq!(count("m.room.create", ""), 1);
    assert_eq!(count("org.matrix.msc3401.call", "conf"), 1);
    assert_eq!(
        count("m.room.member", "@bob:localhost"),
        2,
        "invitation and join"
    );
    let members = bob
        .ok(
            Method::GET,
            &format!("rooms/{}/joined_members", path(&room)),
            json!({}),
        )
        .await;
    assert_eq!(members["joined"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn state_changes_and_departures_reach_the_members() {
    let server = start().await;
    let (ann, mut bob) = (
        Client::register(&server, "ann").await,
        Client::register(&server, "bob").await,
    );
    let room = ann
        .create_room(json!({ "preset": "public_chat", "room_alias_name": "lobby" }))
        .await;
    bob.ok(Method::POST, "join/%23lobby%3Alocalhost", json!({}))
        .await;
    bob.sync(0).await;
    let member = format!(
        "rooms/{}/state/org.matrix.msc3401.call.member/%40ann%3Alocalhost",
        path(&room)
    );
    ann.ok(Method::PUT, &member, json!({ "m.calls": [1] }))
        .await;
    let synced = bob.sync(1_000).await;
    let timeline = &synced["rooms"]["join"][&room]["timeline"];
    assert_eq!(
        events(timeline),
        [(
            "org.matrix.msc3401.call.member".into(),
            "@ann:localhost".into()
        )]
    );
    assert_eq!(timeline["events"][0]["content"], json!({ "m.calls": [1] }));
    assert_eq!(
        bob.ok(Method::GET, &member, json!({})).await,
        json!({ "m.calls": [1] })
    );
    assert_eq!(
        bob.call(Method::PUT, &member, json!({})).await.0,
        403,
        "another user's state key"
    );
    ann.ok(
        Method::POST,
        &format!("rooms/{}/kick", path(&room)),
        json!({ "user_id": bob.user }),
    )
    .await;
    assert!(bob.sync(1_000).await["rooms"]["leave"][&room].is_object());
    assert_eq!(bob.call(Method::GET, &member, json!({})).await.0, 403);
}

#[tokio::test]
async fn a_limited_timeline_leaves_no_gap_in_the_state() {
    let server = start().await;
    let mut ann = Client::register(&server, "ann").await;
    let room = ann.create_room(json!({})).await;
    ann.sync(0).await;
    for n in 0..10 {
        ann.ok(
            Method::PUT,
            &format!("rooms/{}/state/m.call/{n}", path(&room)),
            json!({ "n": n }),
        )
        .await;
    }
    let filter = "%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A3%7D%7D%7D";
    let synced = ann
        .try_sync(&format!("timeout=0&filter={filter}"))
        .await
        .unwrap();
    let joined = &synced["rooms"]["join"][&room];
    assert_eq!(joined["timeline"]["limited"], true);
    let keys = |part: &str| {
        events(&joined[part])
            .into_iter()
            .map(|(_, key)| key)
            .collect::<Vec<_>>()
    };
    assert_eq!(keys("timeline"), ["7", "8", "9"]);
    assert_eq!(keys("state"), ["0", "1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn a_filter_without_rooms_is_not_woken_by_them() {
    let server = start().await;
    let host = Client::register(&server, "host").await;
    let mut guest = Client::register(&server, "guest").await;
    let room = host.create_room(json!({ "preset": "public_chat" })).await;
    guest
        .ok(Method::POST, &format!("join/{}", path(&room)), json!({}))
        .await;
    let nothing = "filter=%7B%22room%22%3A%7B%22rooms%22%3A%5B%5D%7D%7D";
    guest.try_sync(nothing).await.unwrap();
    let what_happens = async {
        for number in 0..20 {
            let state = format!("rooms/{}/state/m.test/{number}", path(&room));
            host.ok(Method::PUT, &state, json!({})).await;
        }
        let device = guest.device.clone();
        let body = json!({ "messages": { &guest.user: { device: { "text": "wake" } } } });
        host.ok(Method::PUT, "sendToDevice/m.test/1", body).await;
    };
    let waiting = async {
        let mut waiting = Client {
            http: guest.http.clone(),
            url: guest.url.clone(),
            token: guest.token.clone(),
            user: guest.user.clone(),
            device: guest.device.clone(),
            since: guest.since.clone(),
        };
        let parameters = format!("timeout=20000&{nothing}");
        waiting.try_sync(&parameters).await.unwrap()
    };
    let (synced, ()) = tokio::join!(waiting, what_happens);
    // The first that it hears of is the message: what happened in the room did not end its wait.
    assert_eq!(to_device_texts(&synced), ["wake"]);
    assert_eq!(synced["rooms"], json!({}));
}

#[tokio::test]
async fn state_of_many_reaches_who_was_away() {
    let server = start().await;
    let mut host = Client::register(&server, "host").await;
    let room = host.create_room(json!({ "preset": "public_chat" })).await;
    host.sync(0).await;
    for number in 0..30 {
        let guest = Client::register(&server, &format!("guest{number}")).await;
        guest
            .ok(Method::POST, &format!("join/{}", path(&room)), json!({}))
            .await;
        let state = format!("rooms/{}/state/m.test/{}", path(&room), path(&guest.user));
        guest.ok(Method::PUT, &state, json!({ "n": 1 })).await;
        guest.ok(Method::PUT, &state, json!({ "n": number })).await;
    }
    // More than a timeline holds, of which each key's last state must come once, in the timeline or before it.
    let limit = "filter=%7B%22room%22%3A%7B%22timeline%22%3A%7B%22limit%22%3A5%7D%7D%7D";
    let synced = host.try_sync(limit).await.unwrap();
    let joined = &synced["rooms"]["join"][&room];
    let mut last = std::collections::BTreeMap::new();
    for part in ["state", "timeline"] {
        for event in joined[part]["events"].as_array().unwrap() {
            let key = (event["type"].to_string(), event["state_key"].to_string());
            last.insert(key, event["content"].clone());
        }
    }
    let of_guests = last.iter().filter(|((kind, _), _)| kind == "\"m.test\"");
    let mut numbers: Vec<_> = of_guests
        .filter_map(|(_, content)| content["n"].as_u64())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    let members = last
        .keys()
        .filter(|(kind, _)| kind == "\"m.room.member\"")
        .count();
    assert_eq!(members, 30);
    assert_eq!(joined["timeline"]["events"].as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn full_state_repeats_what_is_known() {
    let server = start().await;
    let mut ann = Client::register(&server, "ann").await;
    let room = ann.create_room(json!({})).await;
    ann.sync(0).await;
    assert!(ann.sync(0).await["rooms"]["join"].is_null());
    let synced = ann.try_sync("timeout=5000&full_state=true").await.unwrap();
    assert!(
        events(&synced["rooms"]["join"][&room]["state"])
            .contains(&("m.room.create".into(), String::new()))
    );
}

#[tokio::test]
async fn new_keys_are_announced_to_who_shares_a_room() {
    let server = start().await;
    let (ann, mut bob) = (
        Client::register(&server, "ann").await,
        Client::register(&server, "bob").await,
    );
    ann.create_room(json!({ "preset": "public_chat", "room_alias_name": "r" }))
        .await;
    bob.ok(Method::POST, "join/%23r%3Alocalhost", json!({}))
        .await;
    bob.sync(0).await;
    let keys = json!({ "user_id": ann.user, "device_id": ann.device, "algorithms": [], "keys": {}, "signatures": {} });
    let body =
        json!({ "device_keys": keys, "one_time_keys": { "signed_curve25519:A": { "key": "k" } } });
    ann.ok(Method::POST, "keys/upload", body).await;
    assert_eq!(
        bob.sync(1_000).await["device_lists"]["changed"],
        json!(["@ann:localhost"])
    );
    let query = json!({ "device_keys": { &ann.user: [] } });
    let answer = bob.ok(Method::POST, "keys/query", query).await;
    assert_eq!(
        answer["device_keys"][&ann.user][&ann.device]["device_id"],
        json!(ann.device)
    );
}

#[tokio::test]
async fn a_second_login_of_a_device_ends_its_first_token() {
    let server = start().await;
    let ann = Client::register(&server, "ann").await;
    let login = json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "ann" },
        "password": "pw", "device_id": ann.device });
    let answer = ann.ok(Method::POST, "login", login).await;
    assert_eq!(answer["device_id"], json!(ann.device));
    let (status, answer) = ann.call(Method::GET, "account/whoami", json!({})).await;
    assert_eq!(
        (status, &answer["errcode"]),
        (401, &json!("M_UNKNOWN_TOKEN"))
    );
}

#[tokio::test]
async fn refusals_are_matrix_errors_that_a_page_may_read() {
    let server = start().await;
    let http = reqwest::Client::new();
    let ann = Client::register(&server, "ann").await;
    let url = |path: &str| format!("{}/_matrix/client/{path}", server.url());
    let login = |password: &str| json!({ "type": "m.login.password", "identifier": { "type": "m.id.user", "user": "ann" }, "password": password });
    let huge = "x".repeat(2_000_000);
    let requests = [
        (
            http.post(url("v3/login")).json(&login("wrong")),
            403,
            "M_FORBIDDEN",
        ),
        (http.post(url("v3/login")).body("{"), 400, "M_NOT_JSON"),
        (http.post(url("v3/login")).body("[]"), 400, "M_BAD_JSON"),
        (http.post(url("v3/login")).body(huge), 413, "M_TOO_LARGE"),
        (http.get(url("v3/sync")), 401, "M_MISSING_TOKEN"),
        (
            http.get(url("v3/sync")).bearer_auth("nonsense"),
            401,
            "M_UNKNOWN_TOKEN",
        ),
        (
            http.get(url("v3/sync?since=nonsense"))
                .bearer_auth(&ann.token),
            400,
            "M_INVALID_PARAM",
        ),
        (
            http.get(url("v3/sync?since=s999999_0"))
                .bearer_auth(&ann.token),
            400,
            "M_INVALID_PARAM",
        ),
        (http.get(url("v3/no/such/thing")), 404, "M_UNRECOGNIZED"),
        (
            http.post(url("v3/join/%21x")).bearer_auth(&ann.token),
            404,
            "M_NOT_FOUND",
        ),
    ];
    for (request, status, errcode) in requests {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        assert_eq!(answer.status().as_u16(), status, "{errcode}");
        assert_eq!(answer.json::<Value>().await.unwrap()["errcode"], errcode);
    }
    let preflight = http
        .request(Method::OPTIONS, url("v3/sendToDevice/a/b"))
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status().as_u16(), 200);
    assert!(
        preflight.headers()["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("Authorization")
    );
}

#[tokio::test]
async fn the_well_known_document_names_the_foci() {
    let server = start().await;
    let get = async || -> Value {
        reqwest::get(format!("{}/.well-known/matrix/client", server.url()))
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    };
    assert_eq!(
        get().await,
        json!({ "m.homeserver": { "base_url": server.url() } })
    );
    let focus = |name: &str, blip_url: Option<&str>| Focus {
        user_id: format!("@{name}:localhost"),
        device_id: "FOCUS".into(),
        blip_url: blip_url.map(str::to_owned),
    };
    server.set_foci(vec![
        focus("focus", None),
        focus("far", Some("https://192.0.2.1:7881/")),
    ]);
    let foci = json!([
        { "user_id": "@focus:localhost", "device_id": "FOCUS" },
        { "user_id": "@far:localhost", "device_id": "FOCUS", "blip_url": "https://192.0.2.1:7881/" },
    ]);
    assert_eq!(get().await["org.matrix.msc3898.foci"], foci);
}

#[tokio::test]
async fn a_pause_breaks_waiting_syncs_and_keeps_the_data() {
    let mut server = start().await;
    let (ann, mut bob) = (
        Client::register(&server, "ann").await,
        Client::register(&server, "bob").await,
    );
    bob.sync(0).await;
    let pausing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.pause().await;
    };
    let begin = Instant::now();
    let (synced, ()) = tokio::join!(bob.try_sync("timeout=30000"), pausing);
    assert!(synced.is_none(), "the connection should break");
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(
        bob.try_sync("timeout=0").await.is_none(),
        "nobody should listen"
    );
    server.resume().await.unwrap();
    // The same tokens and the same place in the stream.
    ann.send_to(&bob, &bob.device, "t", "after").await;
    assert_eq!(to_device_texts(&bob.sync(0).await), ["after"]);
    server.shutdown().await;
}
