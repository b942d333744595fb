//! Why a shard did not start, in words for the operator.

use std::io;
use std::net::SocketAddr;

/// Why a shard's thread could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A setting contradicts another, or a limit.
    #[error("{0}")]
    Config(String),
    /// A socket could not be opened or bound.
    #[error("cannot receive on {address}: {source}")]
    Socket {
        /// Where it should have received.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel does not let us have a ring.
    #[error(
        "io_uring is not available: {source}. weir needs Linux 6.1 or newer with io_uring allowed: check \
         `sysctl kernel.io_uring_disabled` (must be 0), and in a container let the seccomp profile pass io_uring_setup, \
         io_uring_enter and io_uring_register (docker: --security-opt seccomp=<profile>)"
    )]
    Unavailable {
        /// What the kernel said.
        source: io::Error,
    },
    /// Locked memory is limited too tightly for rings and buffers.
    #[error(
        "not enough locked memory for the ring of a shard: {source}. Raise the limit to 1 MiB a shard \
         (systemd: LimitMEMLOCK=infinity; docker: --ulimit memlock=-1)"
    )]
    LockedMemory {
        /// What the kernel said.
        source: io::Error,
    },
    /// The ring is there, but something that was registered with it was refused.
    #[error("io_uring refused {what}: {source}")]
    Register {
        /// What was to be registered.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The thread could not be pinned.
    #[error("cannot pin the shard to core {core}: {source} (is it in the cpuset of this process?)")]
    Pin {
        /// The core.
        core: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// No thread, no eventfd, or no memory.
    #[error("cannot start the thread of a shard: {0}")]
    Thread(#[from] io::Error),
}

impl SpawnError {
    /// What a failed `io_uring_setup` means for the operator.
    pub(crate) fn setup(source: io::Error) -> SpawnError {
        match source.raw_os_error() {
            Some(libc::ENOMEM) => SpawnError::LockedMemory { source },
            _ => SpawnError::Unavailable { source },
        }
    }

    /// What a failed registration means for the operator.
    pub(crate) fn register(what: &'static str, source: io::Error) -> SpawnError {
        match source.raw_os_error() {
            Some(libc::ENOMEM) => SpawnError::LockedMemory { source },
            _ => SpawnError::Register { what, source },
        }
    }
}
