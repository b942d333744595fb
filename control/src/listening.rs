//! A TCP listener and the task that serves it.

use std::{io, net::SocketAddr};

use tokio::{net::TcpListener, task::JoinHandle};

/// A running listener. Dropping it leaves the listener running; [`Listening::shutdown`] stops it.
#[derive(Debug)]
pub struct Listening {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listening {
    /// Listens on `address` (port 0: any) and lets `serve` have the listener until [`Listening::shutdown`].
    ///
    /// # Errors
    /// The error of binding, with nothing started.
    pub(crate) async fn start<F>(
        address: SocketAddr,
        serve: impl FnOnce(TcpListener) -> F,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener));
        Ok(Self { address, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops listening and drops open connections.
    pub async fn shutdown(self) {
        self.task.abort();
        // The only error here is the cancellation that was just asked for.
        let _ = self.task.await;
    }
}
