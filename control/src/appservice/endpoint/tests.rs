use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{http, listening::Listening};

const TOKEN: &str = "0123456789abcdefH";
const CALL: &str = r#"{"events":[{"type":"m.call","room_id":"!r:x","sender":"@a:x","state_key":"c","origin_server_ts":1,
    "content":{}},{"type":"m.room.message","room_id":"!r:x","sender":"@a:x","content":{}}]}"#;

/// Keeps what it is given, unless it is told to refuse.
#[derive(Clone, Default)]
struct Taken {
    transactions: Arc<Mutex<Vec<Transaction>>>,
    refuses: Arc<AtomicBool>,
}

impl TakesTransactions for Taken {
    async fn take(&self, transaction: Transaction) -> bool {
        let takes = !self.refuses.load(Relaxed);
        if takes {
            self.transactions.lock().unwrap().push(transaction);
        }
        takes
    }
}

struct World {
    server: Listening,
    taken: Taken,
    counters: Arc<AppserviceCounters>,
}

impl World {
    async fn new() -> Self {
        let (taken, counters) = (Taken::default(), Arc::default());
        let endpoint = Endpoint::new(Secret::new(TOKEN), taken.clone(), Arc::clone(&counters));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = http::serve(any, endpoint.router()).await.unwrap();
        Self {
            server,
            taken,
            counters,
        }
    }

    /// Status and body of an answer.
    async fn request(&self, head: &str, authorisation: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let text = format!(
            "{head} HTTP/1.1\r\nHost: focus\r\nConnection: close\r\nContent-Length: {length}\r\n{authorisation}\r\n{body}"
        );
        self.send(text.as_bytes()).await
    }

    async fn send(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.server.address()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut answer = String::new();
        // Who is refused may not get to write everything.
        let (_, read) = tokio::join!(writer.write_all(bytes), reader.read_to_string(&mut answer));
        read.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, body.to_owned())
    }

    async fn push(&self, id: &str, body: &str) -> u16 {
        let head = format!("PUT /_matrix/app/v1/transactions/{id}");
        self.request(&head, &bearer(TOKEN), body).await.0
    }

    fn counted(&self, result: TransactionResult) -> u64 {
        self.counters.transactions[result as usize].get()
    }

    fn taken(&self) -> usize {
        self.taken.transactions.lock().unwrap().len()
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn a_transaction_is_taken_once() {
    let world = World::new().await;
    assert_eq!(world.push("1", CALL).await, 200);
    assert_eq!(world.push("1", CALL).await, 200);
    assert_eq!(world.push("2", r#"{"events":[]}"#).await, 200);
    assert_eq!(world.taken(), 2);
    assert_eq!(world.counted(TransactionResult::Accepted), 2);
    assert_eq!(world.counted(TransactionResult::Duplicate), 1);
    let events = (
        world.counters.events.get(),
        world.counters.state_events.get(),
    );
    assert_eq!(events, (2, 1));
    assert_eq!(world.counters.lag.view().count(), 1);
}

#[tokio::test]
async fn nobody_but_the_homeserver_is_heard_and_all_others_are_told_the_same() {
    let world = World::new().await;
    let longer = format!("{TOKEN}x");
    for authorisation in [
        String::new(),
        bearer(""),
        bearer("wrong"),
        bearer(&TOKEN[1..]),
        bearer(&longer),
        format!("Authorization: Basic {TOKEN}\r\n"),
        format!("Authorization: {TOKEN}\r\n"),
    ] {
        for (method, path) in [("PUT", "transactions/1"), ("POST", "ping")] {
            let head = format!("{method} /_matrix/app/v1/{path}");
            let (status, body) = world.request(&head, &authorisation, CALL).await;
            assert_eq!(status, 403, "{authorisation}");
            assert_eq!(
                body,
                r#"{"errcode":"M_FORBIDDEN","error":"not the homeserver's token"}"#
            );
        }
    }
    // Nor by the query, which ends up in logs.
    let head = format!("PUT /_matrix/app/v1/transactions/1?access_token={TOKEN}");
    assert_eq!(world.request(&head, "", CALL).await.0, 403);
    assert_eq!(world.taken(), 0);
    assert_eq!(world.counted(TransactionResult::Unauthorised), 8);
}

#[tokio::test]
async fn a_body_without_the_token_is_not_waited_for() {
    let world = World::new().await;
    // It announces a body that never comes.
    let head = "PUT /_matrix/app/v1/transactions/1 HTTP/1.1\r\nHost: focus\r\nConnection: close\r\n\
                Content-Length: 1000000\r\n\r\n";
    let (status, _) = world.send(head.as_bytes()).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn what_is_no_transaction_is_refused_and_may_come_again() {
    let world = World::new().await;
    for body in ["", "{", "[]", r#"{"events":1}"#] {
        assert_eq!(world.push("1", body).await, 400, "{body}");
    }
    assert_eq!(world.push(&"9".repeat(300), CALL).await, 400);
    assert_eq!(world.counted(TransactionResult::Malformed), 5);
    assert_eq!(world.push("1", CALL).await, 200);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let world = World::new().await;
    let body = format!(r#"{{"events":[],"more":"{}"}}"#, "x".repeat(BODY_BYTES_MAX));
    assert_eq!(world.push("1", &body).await, 413);
    assert_eq!(world.counted(TransactionResult::TooLong), 1);
    assert_eq!(world.taken(), 0);
}

#[tokio::test]
async fn a_transaction_that_was_not_taken_is_not_remembered() {
    let world = World::new().await;
    world.taken.refuses.store(true, Relaxed);
    assert_eq!(world.push("1", CALL).await, 503);
    world.taken.refuses.store(false, Relaxed);
    assert_eq!(world.push("1", CALL).await, 200);
    assert_eq!(world.taken(), 1);
    assert_eq!(world.counted(TransactionResult::NotTaken), 1);
}

#[tokio::test]
async fn few_transactions_are_remembered() {
    let world = World::new().await;
    for id in 0..=REMEMBERED_MAX {
        assert_eq!(world.push(&id.to_string(), r#"{"events":[]}"#).await, 200);
    }
    assert_eq!(world.push("0", r#"{"events":[]}"#).await, 200);
    assert_eq!(world.counted(TransactionResult::Duplicate), 0);
    let last = REMEMBERED_MAX.to_string();
    assert_eq!(world.push(&last, r#"{"events":[]}"#).await, 200);
    assert_eq!(world.counted(TransactionResult::Duplicate), 1);
}

#[tokio::test]
async fn a_ping_of_the_homeserver_is_answered_and_nothing_else_exists() {
    let world = World::new().await;
    let ping = "POST /_matrix/app/v1/ping";
    let answer = world.request(ping, &bearer(TOKEN), "{}").await;
    assert_eq!(answer, (200, "{}".to_owned()));
    let user = "GET /_matrix/app/v1/users/%40nobody%3Ax";
    let (status, body) = world.request(user, &bearer(TOKEN), "").await;
    assert_eq!(status, 404);
    assert!(body.contains("M_UNRECOGNIZED"), "{body}");
}
