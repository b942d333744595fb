//! The blip: how long a TCP port takes to refuse a connection. It may be refused by nobody listening, or be accepted and reset; a
//! page measures the same with a request that fails.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The fastest of so many counts: what is slower has waited somewhere.
const TRIES: usize = 3;

/// The other side of the world is a third of a second away.
const REFUSED_WITHIN: Duration = Duration::from_secs(2);

/// The time from a connect to its refusal; `None` if the URL has no host, or nobody refuses in time.
pub(super) async fn measure(url: &str) -> Option<Duration> {
    let url = reqwest::Url::parse(url).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']);
    let port = url.port_or_known_default()?;
    let address = tokio::net::lookup_host((host, port)).await.ok()?.next()?;
    let mut best = None;
    for _ in 0..TRIES {
        let began = Instant::now();
        if refused(address).await {
            let took = began.elapsed();
            best = Some(best.map_or(took, |best: Duration| best.min(took)));
        }
    }
    best
}

/// Whether the connection ended, in whatever way but by waiting.
async fn refused(address: SocketAddr) -> bool {
    let connection = async {
        // Whatever the error is, it is the end that was waited for.
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let _ = stream.read(&mut [0; 1]).await;
        }
    };
    tokio::time::timeout(REFUSED_WITHIN, connection)
        .await
        .is_ok()
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_port_that_waits_before_it_ends_is_measured_so_and_one_that_never_ends_is_not() {
        let wait = Duration::from_millis(60);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/", listener.local_addr().unwrap());
        let slow = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::time::sleep(wait).await;
                drop(stream);
            }
        });
        let took = measure(&url).await.unwrap();
        assert!(took >= wait && took < REFUSED_WITHIN, "{took:?}");
        slow.abort();
        let _ = slow.await;

        // Nobody listens there any more: that is a refusal too.
        assert!(measure(&url).await.unwrap() < wait);
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(!refused(silent.local_addr().unwrap()).await);
        assert_eq!(measure("no url").await, None);
        assert_eq!(measure("data:,x").await, None);
    }
}
