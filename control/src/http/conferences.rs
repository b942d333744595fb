//! `/conferences`: who is connected where. For programs and people on this machine, who may read what it says.
//!
//! The listener is on a loopback address then, and no other origin may read it. A name that somebody else has made point to this machine
//! is no way around that: what is asked for under a name that is not this machine's own is refused.

use std::net::IpAddr;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::sync::watch;

/// The document as it is now.
pub(super) async fn serve(
    State(document): State<watch::Receiver<String>>,
    headers: HeaderMap,
) -> Response {
    if !headers.get(header::HOST).is_some_and(is_this_machine) {
        let why = "only under the name or address of this machine\n";
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, document.borrow().clone()).into_response()
}

/// Whether a Host header (RFC 9110 §7.2) names the loopback interface.
fn is_this_machine(host: &HeaderValue) -> bool {
    let host = host.to_str().unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;
    use crate::{discovery::WellKnown, http, listening::Listening};

    const DOCUMENT: &str = r#"{"foci":[]}"#;

    async fn start(page: bool, conferences: Option<watch::Receiver<String>>) -> Listening {
        let address = ([127, 0, 0, 1], 0).into();
        let pages = http::Pages { page, conferences };
        http::start(
            address,
            pages,
            http::Readiness::default(),
            WellKnown::default(),
            String::new,
        )
        .await
        .expect("a port")
    }

    /// Status line with headers, and body.
    async fn get(listening: &Listening, host: &str) -> (String, String) {
        let mut stream = TcpStream::connect(listening.address())
            .await
            .expect("it listens");
        let request = format!(
            "GET /conferences HTTP/1.1\r\nHost: {host}\r\nOrigin: http://elsewhere\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_lowercase(), body.to_owned())
    }

    #[tokio::test]
    async fn is_not_there_unless_it_is_asked_for() {
        for page in [false, true] {
            let listening = start(page, None).await;
            let (head, _) = get(&listening, "localhost").await;
            assert!(head.starts_with("http/1.1 404 "), "{head}");
            listening.shutdown().await;
        }
    }

    #[tokio::test]
    async fn is_for_this_machine_and_for_no_page_of_another_origin() {
        let (document, published) = watch::channel(DOCUMENT.to_owned());
        let listening = start(true, Some(published)).await;
        let own = listening.address().to_string();
        for host in [own.as_str(), "localhost", "LOCALHOST:80", "[::1]:7880"] {
            let (head, body) = get(&listening, host).await;
            assert!(head.starts_with("http/1.1 200 "), "{host}: {head}");
            assert!(head.contains("content-type: application/json"), "{head}");
            assert!(!head.contains("access-control"), "{head}");
            assert_eq!(body, DOCUMENT);
        }
        for host in ["example.org", "127.0.0.1.example.org:80", "10.0.0.1", ""] {
            let (head, body) = get(&listening, host).await;
            assert!(head.starts_with("http/1.1 403 "), "{host}: {head}");
            assert!(!body.contains("foci"), "{body}");
        }
        document.send_replace("{}".to_owned());
        assert_eq!(get(&listening, "localhost").await.1, "{}");
        listening.shutdown().await;
    }
}
