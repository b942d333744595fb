//! The listener, which can go away and come back with its data.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    http::{Shared, router},
    state::State,
};

/// How the homeserver is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// The part of user ids after the colon, such as `localhost`.
    pub server_name: String,
    /// Address to listen at; port 0 lets the system choose.
    pub listen: SocketAddr,
}

/// A focus that the homeserver's well-known document names (`org.matrix.msc3898.foci`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Focus {
    /// The focus's user.
    pub user_id: String,
    /// The focus's device.
    pub device_id: String,
    /// Where the focus refuses connections at once, so that the way can be measured.
    pub blip_url: Option<String>,
}

/// Why the homeserver did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen at {listen}: {source}")]
    Listen {
        /// The address as configured.
        listen: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A running homeserver. It stops when dropped.
#[derive(Debug)]
pub struct Homeserver {
    shared: Shared,
    address: SocketAddr,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    gone: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gone.send_replace(true);
        self.task.abort();
    }
}

impl Homeserver {
    /// Starts to listen.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let shared = Shared::new(State::new(config.server_name));
        let (running, address) =
            Running::start(config.listen, shared.clone()).map_err(|source| StartError::Listen {
                listen: config.listen,
                source,
            })?;
        Ok(Self {
            shared,
            address,
            running: Some(running),
        })
    }

    /// Base URL, such as `http://127.0.0.1:8008`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The address that it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Names the foci in `/.well-known/matrix/client`.
    pub fn set_foci(&self, foci: Vec<Focus>) {
        self.shared.lock().foci = foci;
    }

    /// Stops to listen and closes every connection, but keeps the data: to a client, the homeserver is gone.
    pub async fn pause(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.gone.send_replace(true);
            running.task.abort();
            // Ends when the listener is closed; its only result is the abortion.
            let _ = (&mut running.task).await;
        }
    }

    /// Listens again at the same address, with the same data.
    pub async fn resume(&mut self) -> Result<(), StartError> {
        if self.running.is_none() {
            let (running, _) =
                Running::start(self.address, self.shared.clone()).map_err(|source| {
                    StartError::Listen {
                        listen: self.address,
                        source,
                    }
                })?;
            self.running = Some(running);
        }
        Ok(())
    }

    /// Stops to listen and drops the data.
    pub async fn shutdown(mut self) {
        self.pause().await;
    }
}

impl Running {
    fn start(listen: SocketAddr, shared: Shared) -> io::Result<(Self, SocketAddr)> {
        let socket = if listen.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        // After a pause, connections of before are in TIME_WAIT on this port.
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        let listener = socket.listen(1024)?;
        let address = listener.local_addr()?;
        let (gone, watched) = watch::channel(false);
        let app = router(shared);
        let serve = axum::serve(
            Vanishing {
                listener,
                gone: watched,
            },
            app,
        );
        let task = tokio::spawn(async move {
            if let Err(error) = serve.await {
                tracing::error!(%error, "the embedded homeserver stopped");
            }
        });
        Ok((Self { gone, task }, address))
    }
}

/// A listener whose connections all break at once when the homeserver goes away.
///
/// A graceful shutdown would answer the waiting syncs first; a homeserver that crashes does not.
struct Vanishing {
    listener: TcpListener,
    gone: watch::Receiver<bool>,
}

impl Listener for Vanishing {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, remote) = Listener::accept(&mut self.listener).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a connection keeps Nagle's delay");
        }
        let mut gone = self.gone.clone();
        let gone = Box::pin(async move {
            // An error means that the sender is gone, and with it the homeserver.
            let _ = gone.wait_for(|gone| *gone).await;
        });
        (
            Connection {
                stream,
                gone,
                is_gone: false,
            },
            remote,
        )
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that breaks when the homeserver goes away.
struct Connection {
    stream: TcpStream,
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_gone: bool,
}

impl Connection {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.is_gone {
            self.is_gone = self.gone.as_mut().poll(cx).is_ready();
        }
        if self.is_gone {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok(())
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
