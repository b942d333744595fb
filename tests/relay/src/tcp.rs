//! TCP connections to somewhere far away: whatever happens on one side is seen on the other one after a while. Opening, bytes,
//! the end of one direction, and a reset all take the same time.
//!
//! Not here: loss, rates, and what TCP would make of them. The client's own connect takes no time, since the relay is near; what
//! it sees of the other side takes the time both ways.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

/// Pieces on the way in one direction; a sender that is faster waits, as for a full window.
const PIECES_MAX: usize = 256;
const PIECE_BYTES: usize = 16 * 1024;

/// A listening relay. It stops when it is dropped, and so do its connections.
#[derive(Debug)]
pub struct FarAway {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// A connection that did not end in good order.
#[derive(Debug)]
struct Reset;

/// What is on the way.
enum Piece {
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl FarAway {
    /// Listens on `listen` (port 0: any) for connections to `to`, which is `one_way` from here.
    ///
    /// # Errors
    ///
    /// What the system says about the address.
    pub async fn start(listen: SocketAddr, to: SocketAddr, one_way: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    // A connection that could not be accepted is the client's loss.
                    Ok((client, _)) = listener.accept() => {
                        connections.spawn(relay(client, to, one_way));
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, task })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FarAway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn relay(client: TcpStream, to: SocketAddr, one_way: Duration) {
    // Small messages must not wait for each other on top of the distance; if it cannot be set they only do.
    let _ = client.set_nodelay(true);
    sleep(one_way).await;
    let Ok(server) = TcpStream::connect(to).await else {
        sleep(one_way).await;
        // Refused there, reset here: the client has been accepted already.
        let _ = client.set_zero_linger();
        return;
    };
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = carry(from_client, to_server, one_way);
    let down = carry(from_server, to_client, one_way);
    // A direction that was reset takes the other one with it: what is left of both sockets is dropped here.
    let _: Result<((), ()), Reset> = tokio::try_join!(up, down);
}

/// Carries one direction to its end.
async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, one_way: Duration) -> Result<(), Reset> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let reading = read_all(from, sender, one_way);
    let writing = write_all(to, receiver);
    tokio::join!(reading, writing).1
}

async fn read_all(
    mut from: OwnedReadHalf,
    pieces: mpsc::Sender<(Instant, Piece)>,
    one_way: Duration,
) {
    loop {
        let mut bytes = vec![0; PIECE_BYTES];
        let piece = match from.read(&mut bytes).await {
            Ok(0) => Piece::End,
            Ok(count) => {
                bytes.truncate(count);
                Piece::Bytes(bytes)
            }
            Err(_) => Piece::Reset,
        };
        let is_last = !matches!(piece, Piece::Bytes(_));
        let sent = pieces.send((Instant::now() + one_way, piece)).await;
        if is_last || sent.is_err() {
            return;
        }
    }
}

async fn write_all(
    mut to: OwnedWriteHalf,
    mut pieces: mpsc::Receiver<(Instant, Piece)>,
) -> Result<(), Reset> {
    while let Some((at, piece)) = pieces.recv().await {
        sleep_until(at).await;
        match piece {
            Piece::Bytes(bytes) => to.write_all(&bytes).await.map_err(|_| Reset)?,
            Piece::End => return to.shutdown().await.map_err(|_| Reset),
            Piece::Reset => break,
        }
    }
    // Without these two lines the other side would read an end in good order.
    let _ = to.as_ref().set_zero_linger();
    to.forget();
    Err(Reset)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
    const ONE_WAY: Duration = Duration::from_millis(40);

    async fn far_from(server: &TcpListener) -> FarAway {
        let to = server.local_addr().unwrap();
        FarAway::start(ANY, to, ONE_WAY).await.unwrap()
    }

    #[tokio::test]
    async fn an_echo_takes_the_way_there_and_back_and_ends_in_good_order() {
        let server = TcpListener::bind(ANY).await.unwrap();
        let far = far_from(&server).await;
        let echo = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await.unwrap()
        });
        let mut client = TcpStream::connect(far.address()).await.unwrap();
        let began = Instant::now();
        client.write_all(&[7; 100_000]).await.unwrap();
        client.shutdown().await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert_eq!(back, [7; 100_000]);
        assert!(began.elapsed() >= 2 * ONE_WAY, "{:?}", began.elapsed());
        assert_eq!(echo.await.unwrap(), 100_000);
    }

    #[tokio::test]
    async fn a_reset_arrives_as_one_after_the_way_there_and_back() {
        let server = TcpListener::bind(ANY).await.unwrap();
        let far = far_from(&server).await;
        let reset = tokio::spawn(async move {
            let (stream, _) = server.accept().await.unwrap();
            stream.set_zero_linger().unwrap();
        });
        let began = Instant::now();
        let mut client = TcpStream::connect(far.address()).await.unwrap();
        let error = client.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(began.elapsed() >= 2 * ONE_WAY, "{:?}", began.elapsed());
        reset.await.unwrap();

        // Nobody listens any more.
        let mut refused = TcpStream::connect(far.address()).await.unwrap();
        let error = refused.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn what_the_client_breaks_off_is_broken_off_there() {
        let server = TcpListener::bind(ANY).await.unwrap();
        let far = far_from(&server).await;
        let client = TcpStream::connect(far.address()).await.unwrap();
        let (mut stream, _) = server.accept().await.unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        let error = stream.read(&mut [0; 1]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}
