//! The blip port: a TCP port that refuses every connection at once, so that a client can measure the way to the focus without a
//! call (MSC3898 "Determining the best focus"). A browser does it with a request that fails.
//!
//! Nothing is kept of a connection: it is accepted and reset (`SO_LINGER` 0) before the next one is looked at. How many in a second
//! is bounded; what is beyond waits in the kernel's queue, and beyond that the kernel drops it.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};

use crate::{conference::Bucket, listening::Listening};

/// A burst of connections is so many seconds' worth: a call that everybody joins at the full hour.
const BURST_SECONDS: f64 = 1.0;

/// After an error of accepting, such as no file descriptors: long enough not to spin, short enough that a client still waits.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Listens on `address` (port 0: any). `per_second` connections are refused at once, at least 1; `refused` is called for each.
///
/// # Errors
/// The error of binding, with nothing started.
pub async fn start(
    address: SocketAddr,
    per_second: f64,
    refused: impl Fn() + Send + 'static,
) -> io::Result<Listening> {
    Listening::start(address, |listener| {
        refuse_all(listener, per_second, refused)
    })
    .await
}

async fn refuse_all(listener: TcpListener, per_second: f64, refused: impl Fn()) {
    let burst = (per_second * BURST_SECONDS).max(1.0);
    let mut bucket = Bucket::new(burst, Instant::now());
    loop {
        while !bucket.take(per_second, burst, Instant::now()) {
            sleep(Duration::from_secs_f64(1.0 / per_second)).await;
        }
        match listener
            .accept()
            .await
            .and_then(|(stream, _)| reset(stream))
        {
            Ok(()) => refused(),
            Err(error) => {
                tracing::debug!(%error, "a connection to the blip port could not be refused");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// Closing without lingering sends RST (RFC 9293 §3.10.4): the client is told at once, and the kernel keeps nothing.
fn reset(stream: TcpStream) -> io::Result<()> {
    stream.set_zero_linger()
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read},
        net::{Ipv4Addr, Shutdown},
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering::Relaxed},
        },
    };

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    /// Connects, waits, and says how that ended.
    fn blip(address: SocketAddr) -> ErrorKind {
        // A reset may come before the connect has returned.
        let read = std::net::TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.read(&mut [0; 8])
        });
        read.expect_err("a reset, not an end").kind()
    }

    async fn started(per_second: f64) -> (Listening, Arc<AtomicU64>) {
        let refused = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&refused);
        let port = start(ANY, per_second, move || {
            count.fetch_add(1, Relaxed);
        });
        (port.await.expect("a port"), refused)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_connection_is_reset_and_counted() {
        let (port, refused) = started(1000.0).await;
        let address = port.address();
        let ended = tokio::task::spawn_blocking(move || [0; 20].map(|_| blip(address)));
        assert_eq!(
            ended.await.expect("blips"),
            [ErrorKind::ConnectionReset; 20]
        );
        port.shutdown().await;
        assert_eq!(refused.load(Relaxed), 20);
        let gone = tokio::task::spawn_blocking(move || blip(address)).await;
        assert_eq!(gone.expect("a blip"), ErrorKind::ConnectionRefused);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flood_is_refused_at_the_rate_and_a_client_that_has_gone_does_no_harm() {
        let (port, refused) = started(10.0).await;
        let address = port.address();
        let began = Instant::now();
        let flood = tokio::task::spawn_blocking(move || {
            for _ in 0..5 {
                let stream = std::net::TcpStream::connect(address).expect("a connection");
                // Its reset may be faster.
                let _ = stream.shutdown(Shutdown::Both);
            }
            [0; 10].map(|_| blip(address))
        });
        assert_eq!(
            flood.await.expect("blips"),
            [ErrorKind::ConnectionReset; 10]
        );
        // Ten are the burst, each of the other five takes a tenth of a second.
        assert!(
            began.elapsed() >= Duration::from_millis(400),
            "{:?}",
            began.elapsed()
        );
        port.shutdown().await;
        assert_eq!(refused.load(Relaxed), 15);
    }
}
