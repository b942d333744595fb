//! What keeps a run from beginning: one line that says what to do, and exit code 2.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use weir_client::matrix::Device;
use weir_homeserver::Homeserver;

use super::{command, turn};

/// Runs, and gives the one line.
fn fault(arguments: &[&str]) -> String {
    let output = command(arguments).output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let mut said = text
        .lines()
        .filter(|line| line.starts_with("weir-loadtest: "));
    let line = said
        .next()
        .unwrap_or_else(|| panic!("no line: {text}"))
        .to_owned();
    assert_eq!(said.next(), None, "more than one line: {text}");
    assert_eq!(
        text.lines().last(),
        Some(line.as_str()),
        "not the last line: {text}"
    );
    line
}

#[test]
fn too_few_file_descriptors() {
    let _turn = turn();
    // The limit of the shell that starts it, hard and soft.
    let binary = env!("CARGO_BIN_EXE_weir-loadtest");
    let script = format!("ulimit -n 256 && exec {binary} run lecture --subscribers 500");
    let output = std::process::Command::new("sh")
        .args(["-c", &script])
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains(
            "too few file descriptors: this run needs 3657 and the limit is 256; raise it"
        ),
        "{text}"
    );
}

#[test]
fn ports_in_use() {
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let tcp = tcp
        .local_addr()
        .map(|address| (tcp, address.port()))
        .expect("an address");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let udp = udp
        .local_addr()
        .map(|address| (udp, address.port()))
        .expect("an address");
    for (flag, port, what) in [
        ("--homeserver-port", tcp.1, "the embedded homeserver"),
        ("--http-port", tcp.1, "the focus's metrics"),
        ("--media-port", udp.1, "the focus's media"),
    ] {
        let line = fault(&["run", "audio-room", flag, &port.to_string()]);
        let expected = format!(
            "port in use: 127.0.0.1:{port} ({what}); stop what listens there or choose another with {flag}"
        );
        assert!(line.ends_with(&expected), "{line}");
    }
}

#[test]
fn homeserver_unreachable() {
    // Nobody listens at the discard port.
    let remote = [
        "--focus-user",
        "@focus:x",
        "--focus-device",
        "D",
        "--password",
        "p",
    ];
    let mut arguments = vec!["run", "conference", "--homeserver", "http://127.0.0.1:9"];
    arguments.extend(remote);
    let line = fault(&arguments);
    assert!(
        line.contains("homeserver unreachable: http://127.0.0.1:9: "),
        "{line}"
    );
    assert!(
        line.ends_with("check --homeserver and that it runs"),
        "{line}"
    );
}

#[test]
fn a_focus_that_does_not_exist() {
    let line = fault(&["run", "conference", "--weir", "/nowhere/weir"]);
    assert!(
        line.contains("no focus to start: /nowhere/weir does not exist"),
        "{line}"
    );
}

#[test]
fn a_focus_that_does_not_start_says_why() {
    // Something that runs and is no focus.
    let line = fault(&["run", "conference", "--weir", "/bin/false"]);
    assert!(line.contains("the focus did not start: "), "{line}");
}

#[test]
fn a_report_that_cannot_be_written() {
    let line = fault(&["run", "conference", "--json", "/nowhere/report.json"]);
    assert!(line.contains("/nowhere/report.json: "), "{line}");
}

/// A homeserver of somebody's with one account.
struct Somewhere {
    runtime: tokio::runtime::Runtime,
    homeserver: Homeserver,
    focus: Device,
}

impl Somewhere {
    fn new() -> Somewhere {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        let (homeserver, focus) = runtime.block_on(async {
            let config = weir_homeserver::Config {
                server_name: "localhost".into(),
                listen: ([127, 0, 0, 1], 0).into(),
            };
            let homeserver = Homeserver::start(config).await.expect("a homeserver");
            let focus = Device::login(&homeserver.url(), "focus", "secret")
                .await
                .expect("an account");
            (homeserver, focus)
        });
        Somewhere {
            runtime,
            homeserver,
            focus,
        }
    }

    /// Makes the device known, as a focus does.
    fn upload_keys(&self) {
        let keys = serde_json::json!({"device_keys": {
            "user_id": self.focus.user_id(), "device_id": self.focus.device_id(), "algorithms": [], "keys": {}, "signatures": {},
        }});
        let upload = self
            .focus
            .call(reqwest::Method::POST, "keys/upload", Some(&keys));
        self.runtime.block_on(upload).expect("uploaded");
    }

    fn fault(&self, device: &str, password: &str, more: &[&str]) -> String {
        let url = self.homeserver.url();
        let mut arguments = vec![
            "run",
            "conference",
            "--homeserver",
            &url,
            "--focus-user",
            "@focus:localhost",
            "--focus-device",
            device,
            "--password",
            password,
        ];
        arguments.extend(more);
        fault(&arguments)
    }
}

#[test]
fn wrong_credentials() {
    let somewhere = Somewhere::new();
    let url = somewhere.homeserver.url();
    let login = Device::login(&url, "tester1", "right");
    somewhere.runtime.block_on(login).expect("an account");
    let line = somewhere.fault("D", "wrong", &["--user-prefix", "tester"]);
    assert!(
        line.contains("wrong credentials: the homeserver refuses the user \"tester1\""),
        "{line}"
    );
    assert!(
        !line.contains("wrong credentials: wrong") && !line.contains("right"),
        "{line}"
    );
}

#[test]
fn an_unknown_device() {
    let somewhere = Somewhere::new();
    somewhere.upload_keys();
    let line = somewhere.fault("OTHER", "pw", &[]);
    let expected = format!(
        "unknown device: @focus:localhost has no device \"OTHER\" (it has {}); check --focus-device",
        somewhere.focus.device_id()
    );
    assert!(line.contains(&expected), "{line}");
}

#[test]
fn a_focus_that_does_not_answer() {
    let somewhere = Somewhere::new();
    somewhere.upload_keys();
    let (room, call) = room(&somewhere);
    let device = somewhere.focus.device_id().to_owned();
    let line = somewhere.fault(&device, "pw", &["--room", &room, "--call", &call]);
    let expected = format!(
        "the focus does not answer: @focus:localhost {device} said nothing to an invite within 15 s"
    );
    assert!(line.contains(&expected), "{line}");
}

#[test]
fn a_focus_that_rejects() {
    let somewhere = Somewhere::new();
    somewhere.upload_keys();
    let (room, call) = room(&somewhere);
    // The focus's device in another hand: it answers every invite with a rejection.
    let focus = somewhere.focus.clone();
    let answering = somewhere.runtime.spawn(async move {
        let mut messages = focus.start_sync().await.expect("a sync");
        while let Some(message) = messages.recv().await {
            if message.event_type != "m.call.invite" {
                continue;
            }
            let invite = &message.content;
            let reject = serde_json::json!({
                "version": "1", "call_id": invite["call_id"], "conf_id": invite["conf_id"], "party_id": focus.device_id(),
                "device_id": focus.device_id(), "dest_session_id": invite["sender_session_id"], "sender_session_id": "sfu",
                "reason": "too_many_participants",
            });
            let device = invite["device_id"].as_str().unwrap_or_default();
            let _ = focus.send_to_device((&message.sender, device), "m.call.reject", &reject).await;
        }
    });
    let device = somewhere.focus.device_id().to_owned();
    let line = somewhere.fault(&device, "pw", &["--room", &room, "--call", &call]);
    answering.abort();
    assert!(
        line.contains("the focus rejects calls: m.call.reject: too_many_participants; raise limits.participants_per_conference_max"),
        "{line}"
    );
}

#[test]
fn a_focus_that_stays_away_from_the_room() {
    let somewhere = Somewhere::new();
    somewhere.upload_keys();
    let started = std::time::Instant::now();
    let device = somewhere.focus.device_id().to_owned();
    let line = somewhere.fault(&device, "pw", &[]);
    assert!(line.contains("the focus did not join the room"), "{line}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

/// A public room with a call, as (room, call).
fn room(somewhere: &Somewhere) -> (String, String) {
    somewhere.runtime.block_on(async {
        let room = somewhere.focus.create_room().await.expect("a room");
        somewhere
            .focus
            .put_call(&room, "the-call")
            .await
            .expect("a call");
        (room, "the-call".to_owned())
    })
}
