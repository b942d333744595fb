//! The listener around the state.

use std::net::SocketAddr;

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
        source: std::io::Error,
    },
}

/// A running homeserver. It stops when dropped.
#[derive(Debug)]
pub struct Homeserver {
    _private: (),
}

impl Homeserver {
    /// Starts to listen.
    pub async fn start(_config: Config) -> Result<Self, StartError> {
        todo!()
    }

    /// Base URL, such as `http://127.0.0.1:8008`.
    pub fn url(&self) -> String {
        todo!()
    }

    /// Names the foci in `/.well-known/matrix/client`.
    pub fn set_foci(&self, _foci: Vec<Focus>) {
        todo!()
    }

    /// Stops to listen and closes every connection, but keeps the data: to a client, the homeserver is gone.
    pub async fn pause(&mut self) {
        todo!()
    }

    /// Listens again at the same address, with the same data.
    pub async fn resume(&mut self) -> Result<(), StartError> {
        todo!()
    }

    /// Stops to listen and drops the data.
    pub async fn shutdown(self) {
        todo!()
    }
}
