//! The threads that receive. A socket stays with one of them for its life.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Shared;
use crate::health::{HEALTH, Late};

/// One thread receives for thousands of sampled sockets, or some dozens in full; more than four only take cores from the rest.
const THREADS_MAX: usize = 4;
const CORES_PER_THREAD: usize = 4;
/// Larger datagrams than a path of 1500 bytes carries are cut.
const DATAGRAM_BYTES_MAX: usize = 2048;
/// Operations that are submitted at once; more can wait.
const RING_ENTRIES: u32 = 1024;
/// How often a thread looks whether it comes late.
const LATENESS_EVERY: Duration = Duration::from_millis(50);

type Job = (UdpSocket, Arc<Shared>);

static THREADS: LazyLock<Vec<mpsc::UnboundedSender<Job>>> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = (cores / CORES_PER_THREAD).clamp(1, THREADS_MAX);
    (0..count).map(start).collect()
});

/// Receives from a socket until it is closed.
pub(super) fn receive(socket: UdpSocket, shared: Arc<Shared>) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed) % THREADS.len();
    // The threads live as long as the process.
    let _ = THREADS[next].send((socket, shared));
}

fn start(index: usize) -> mpsc::UnboundedSender<Job> {
    let (sender, jobs) = mpsc::unbounded_channel();
    // Without a thread nothing can be received at all, as in a process that may not have one more.
    std::thread::Builder::new()
        .name(format!("client-net-{index}"))
        .spawn(move || run(jobs))
        .expect("a thread to receive on");
    sender
}

fn run(jobs: mpsc::UnboundedReceiver<Job>) {
    let mut builder = tokio_uring::builder();
    builder.entries(RING_ENTRIES);
    match tokio_uring::Runtime::new(&builder) {
        Ok(runtime) => runtime.block_on(on_ring(jobs)),
        Err(error) => {
            tracing::warn!(%error, "no io_uring: participants receive through epoll");
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = runtime.expect("a runtime to receive on");
            tokio::task::LocalSet::new().block_on(&runtime, on_epoll(jobs));
        }
    }
}

async fn on_ring(mut jobs: mpsc::UnboundedReceiver<Job>) {
    tokio_uring::spawn(watch_lateness());
    while let Some((socket, shared)) = jobs.recv().await {
        tokio_uring::spawn(async move {
            let socket = tokio_uring::net::UdpSocket::from_std(socket);
            let mut buffer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
            loop {
                let (received, returned) = socket.recv_from(buffer).await;
                buffer = returned;
                match received {
                    Ok((length, from)) if !shared.handle(&buffer[..length], from) => return,
                    Ok(_) => {}
                    Err(error) => after_error(&error).await,
                }
            }
        });
    }
}

async fn on_epoll(mut jobs: mpsc::UnboundedReceiver<Job>) {
    tokio::task::spawn_local(watch_lateness());
    while let Some((socket, shared)) = jobs.recv().await {
        tokio::task::spawn_local(async move {
            let socket = socket
                .set_nonblocking(true)
                .and_then(|()| tokio::net::UdpSocket::from_std(socket));
            let Ok(socket) = socket else { return };
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            loop {
                match socket.recv_from(&mut buffer).await {
                    Ok((length, from)) if !shared.handle(&buffer[..length], from) => return,
                    Ok(_) => {}
                    Err(error) => after_error(&error).await,
                }
            }
        });
    }
}

/// What an ICMP message said of an earlier datagram is no reason to stop, and no reason to spin.
async fn after_error(error: &std::io::Error) {
    tracing::debug!(%error, "receiving");
    tokio::time::sleep(Duration::from_millis(10)).await;
}

async fn watch_lateness() {
    loop {
        let due = Instant::now() + LATENESS_EVERY;
        tokio::time::sleep_until(due.into()).await;
        HEALTH.late(Late::Socket, due.elapsed());
    }
}
