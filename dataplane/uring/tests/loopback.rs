//! A shard on a real ring and real sockets on loopback. Needs Linux 6.1 with io_uring allowed, and IPv6.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use weir_shard::{Command, Event, IceCredentials, TransportId};
use weir_uring::{Config, Holder, ShardHandle, SpawnError, spawn};
use weir_wire::stun::{BindingRequest, Class, Key, Message, Role, TransactionId};

const BUFFERS: u16 = 4096;
const PATIENCE: Duration = Duration::from_secs(10);

fn config(index: usize) -> Config {
    let listen = vec!["127.0.0.1:0".parse().unwrap(), "[::1]:0".parse().unwrap()];
    let mut config = Config::new(index, listen);
    config.receive_buffers = BUFFERS;
    config.shard.transports_max = 16;
    config.shard.tracks_max = 16;
    config.shard.subscriptions_max = 16;
    config.shard.history_packets_max = 256;
    config.shard.send_buffers = 64;
    config
}

/// A shard with one transport that peers can check.
fn shard(index: usize) -> ShardHandle {
    let mut shard = spawn(config(index)).unwrap();
    let ice = IceCredentials {
        local_ufrag: "focus".into(),
        local_pwd: "the password of the focus".into(),
        remote_ufrag: "peer".into(),
        remote_pwd: "the password of the peer".into(),
    };
    shard
        .send(Command::AddTransport {
            id: TransportId(1),
            ice,
            is_trunk: false,
        })
        .unwrap();
    shard
}

/// A participant's socket.
struct Peer {
    socket: UdpSocket,
    shard: SocketAddr,
    checks: u8,
}

impl Peer {
    fn new(shard: SocketAddr) -> Peer {
        let any = if shard.is_ipv4() {
            "127.0.0.1:0"
        } else {
            "[::1]:0"
        };
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer {
            socket,
            shard,
            checks: 0,
        }
    }

    fn say(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.shard).unwrap();
    }

    fn hear(&self) -> Vec<u8> {
        let mut datagram = vec![0; 2048];
        let (len, from) = self.socket.recv_from(&mut datagram).expect("an answer");
        assert_eq!(from, self.shard);
        datagram.truncate(len);
        datagram
    }

    /// Sends a nominating check and waits for its answer; gives the address that the shard saw.
    fn check(&mut self) -> SocketAddr {
        self.checks += 1;
        let transaction_id = TransactionId([self.checks; 12]);
        let request = BindingRequest {
            transaction_id,
            username: "focus:peer",
            priority: 1,
            role: Role::Controlling { tie_breaker: 1 },
            use_candidate: true,
        };
        let key = Key::new("the password of the focus");
        let mut out = [0; 512];
        let len = request.emit(&key, &mut out).unwrap();
        self.say(&out[..len]);
        let answer = self.hear();
        let answer = Message::parse(&answer).unwrap();
        assert_eq!(answer.class(), Class::Success);
        assert_eq!(answer.transaction_id(), transaction_id);
        answer.check_integrity(&key).unwrap();
        answer.xor_mapped_address().unwrap()
    }
}

/// Waits for events until `wanted` is content with one.
fn wait_for<T>(shard: &mut ShardHandle, wanted: impl Fn(Event) -> Option<T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let search = async {
        loop {
            while let Some(event) = shard.try_recv() {
                if let Some(found) = wanted(event) {
                    return found;
                }
            }
            readable(shard.event_fd()).await;
            shard.clear_wakeup();
        }
    };
    let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, search).await });
    found.expect("the event comes")
}

#[expect(
    deprecated,
    reason = "the new constructor is unsafe; this descriptor is borrowed for longer than tokio has it"
)]
async fn readable(descriptor: BorrowedFd<'_>) {
    let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE).unwrap();
    descriptor.readable().await.unwrap().retain_ready();
}

fn datagram_event(event: Event) -> Option<(TransportId, Vec<u8>)> {
    match event {
        Event::Datagram { id, datagram } => Some((id, datagram)),
        _ => None,
    }
}

#[test]
fn answers_checks_on_both_address_families() {
    let mut shard = shard(0);
    let addresses = shard.addresses().to_vec();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        let mut peer = Peer::new(address);
        assert_eq!(peer.check(), peer.socket.local_addr().unwrap());
    }
    let connected = wait_for(&mut shard, |event| match event {
        Event::IceConnected { id, remote } => Some((id, remote.is_ipv4())),
        _ => None,
    });
    assert_eq!(connected, (TransportId(1), true));
    let report = shard.shutdown().unwrap();
    assert_eq!(report.unfinished_requests, 0);
}

#[test]
fn dtls_goes_to_control_and_back() {
    let mut shard = shard(0);
    for address in shard.addresses().to_vec() {
        let mut peer = Peer::new(address);
        peer.check();
        peer.say(b"\x16\xfe\xfd hello");
        let event = wait_for(&mut shard, datagram_event);
        assert_eq!(event, (TransportId(1), b"\x16\xfe\xfd hello".to_vec()));
        let datagram = b"\x16\xfe\xfd answer".to_vec();
        shard
            .send(Command::SendDatagram {
                id: TransportId(1),
                datagram,
            })
            .unwrap();
        assert_eq!(peer.hear(), b"\x16\xfe\xfd answer");
    }
}

#[test]
fn a_burst_of_datagrams_leaves_in_order() {
    let mut shard = shard(0);
    let mut peer = Peer::new(shard.addresses()[0]);
    peer.check();
    // As many as both the shard's send buffers and the peer's socket hold.
    for n in 0..50 {
        let mut datagram = vec![0x17; 1200];
        datagram[1] = n;
        let command = Command::SendDatagram {
            id: TransportId(1),
            datagram,
        };
        shard.send(command).unwrap();
    }
    for n in 0..50 {
        let datagram = peer.hear();
        assert_eq!((datagram.len(), datagram[1]), (1200, n));
    }
    assert_eq!(shard.ring_counters().send_errors.get(), 0);
}

#[test]
fn two_shards_do_not_hear_each_other() {
    let mut shards = [shard(0), shard(1)];
    let mut peers = [0, 1].map(|n| Peer::new(shards[n].addresses()[0]));
    for n in [0, 1] {
        peers[n].check();
        peers[n].say(&[0x16, 0xfe, 0xfd, n as u8]);
    }
    for n in [0, 1] {
        let (_, datagram) = wait_for(&mut shards[n], datagram_event);
        assert_eq!(datagram, [0x16, 0xfe, 0xfd, n as u8]);
    }
}

fn connected_event(event: Event) -> Option<(TransportId, SocketAddr)> {
    match event {
        Event::IceConnected { id, remote } => Some((id, remote)),
        _ => None,
    }
}

#[test]
fn a_shard_calls_another_from_its_socket_of_the_same_family() {
    for family in [0, 1] {
        let mut called = shard(0);
        let mut calling = spawn(config(1)).unwrap();
        let id = TransportId(7);
        let ice = IceCredentials {
            local_ufrag: "peer".into(),
            local_pwd: "the password of the peer".into(),
            remote_ufrag: "focus".into(),
            remote_pwd: "the password of the focus".into(),
        };
        calling
            .send(Command::AddTransport {
                id,
                ice,
                is_trunk: false,
            })
            .unwrap();
        let (from, to) = (calling.addresses()[family], called.addresses()[family]);
        // Nobody listens at the first.
        let closed = UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap();
        let remotes = vec![closed.local_addr().unwrap(), to];
        drop(closed);
        calling.send(Command::CheckRemotes { id, remotes }).unwrap();
        assert_eq!(wait_for(&mut calling, connected_event), (id, to));
        let connected = wait_for(&mut called, connected_event);
        assert_eq!(connected, (TransportId(1), from));
        for (shard, id) in [(&mut calling, id), (&mut called, TransportId(1))] {
            let datagram = b"\x16\xfe\xfd hello".to_vec();
            shard.send(Command::SendDatagram { id, datagram }).unwrap();
        }
        for (shard, id) in [(&mut calling, id), (&mut called, TransportId(1))] {
            let event = wait_for(shard, datagram_event);
            assert_eq!(event, (id, b"\x16\xfe\xfd hello".to_vec()));
        }
        assert_eq!(calling.shutdown().unwrap().unfinished_requests, 0);
        assert_eq!(called.shutdown().unwrap().unfinished_requests, 0);
    }
}

/// The credentials of a trunk, as the calling shard has them, and as the called one does.
fn trunk(number: u32) -> [IceCredentials; 2] {
    let of = |local: &str, remote: &str| IceCredentials {
        local_ufrag: format!("{local}{number}"),
        local_pwd: format!("the password of the {local} one"),
        remote_ufrag: format!("{remote}{number}"),
        remote_pwd: format!("the password of the {remote} one"),
    };
    [of("calling", "called"), of("called", "calling")]
}

/// Begins a trunk from one shard to another, and gives the address that the called one sees.
fn call(
    calling: &mut ShardHandle,
    called: &mut ShardHandle,
    to: SocketAddr,
    number: u32,
) -> SocketAddr {
    let id = TransportId(number);
    for (shard, ice) in [&mut *calling, &mut *called].into_iter().zip(trunk(number)) {
        shard
            .send(Command::AddTransport {
                id,
                ice,
                is_trunk: false,
            })
            .unwrap();
    }
    let remotes = vec![to];
    calling.send(Command::CheckRemotes { id, remotes }).unwrap();
    assert_eq!(wait_for(calling, connected_event), (id, to));
    let (connected, from) = wait_for(called, connected_event);
    assert_eq!(connected, id);
    from
}

/// Sends a datagram over each trunk in both directions, and waits until all have come.
fn say_hello(calling: &mut ShardHandle, called: &mut ShardHandle, numbers: &[u32]) {
    let hello = |number: u32| [b"\x16\xfe\xfd hello ".as_slice(), &number.to_be_bytes()].concat();
    for shard in [&mut *calling, &mut *called] {
        for number in numbers {
            let (id, datagram) = (TransportId(*number), hello(*number));
            shard.send(Command::SendDatagram { id, datagram }).unwrap();
        }
    }
    for shard in [calling, called] {
        let mut came: Vec<_> = numbers
            .iter()
            .map(|_| wait_for(shard, datagram_event))
            .collect();
        came.sort_unstable();
        let sent = numbers.iter().map(|of| (TransportId(*of), hello(*of)));
        assert_eq!(came, sent.collect::<Vec<_>>());
    }
}

#[test]
fn trunks_to_one_address_leave_from_sockets_of_their_own() {
    for family in [0, 1] {
        let mut called = spawn(config(0)).unwrap();
        let mut caller = config(1);
        caller.shard.calling_sockets = 2;
        let mut calling = spawn(caller).unwrap();
        let opened = |of: &ShardHandle| of.ring_counters().calling_sockets.get();
        assert_eq!(opened(&calling), 0);
        let (from, to) = (calling.addresses()[family], called.addresses()[family]);
        let seen = [1, 2, 3].map(|number| call(&mut calling, &mut called, to, number));
        assert!(seen.iter().all(|address| address.ip() == from.ip()));
        assert!(seen[0] != seen[1], "{seen:?}");
        assert!(!seen[..2].contains(&from), "{seen:?}");
        assert_eq!(seen[2], from, "the others are taken");
        say_hello(&mut calling, &mut called, &[1, 2, 3]);
        // One ends, the others go on, and another takes its place.
        for shard in [&mut calling, &mut called] {
            let id = TransportId(2);
            shard.send(Command::RemoveTransport { id }).unwrap();
        }
        say_hello(&mut calling, &mut called, &[1, 3]);
        assert_eq!(call(&mut calling, &mut called, to, 4), seen[1]);
        say_hello(&mut calling, &mut called, &[1, 3, 4]);
        assert_eq!((opened(&calling), opened(&called)), (2, 0));
        for shard in [calling, called] {
            let counters = Arc::clone(shard.ring_counters());
            assert_eq!(shard.shutdown().unwrap().unfinished_requests, 0);
            assert_eq!(counters.sends_unroutable.get(), 0);
            assert_eq!(counters.send_errors.get(), 0);
        }
        // Their ports are free again.
        for address in seen {
            UdpSocket::bind(address).unwrap();
        }
    }
}

#[test]
fn the_thread_is_named_and_pinned() {
    let allowed = allowed_cores("/proc/self/status");
    let core = allowed
        .split([',', '-'])
        .next_back()
        .unwrap()
        .parse()
        .unwrap();
    let mut config = config(7);
    config.core = Some(core);
    let shard = spawn(config).unwrap();
    let task = format!("/proc/self/task/{}", shard.thread_id());
    assert_eq!(
        std::fs::read_to_string(format!("{task}/comm")).unwrap(),
        "weir-shard-7\n"
    );
    assert_eq!(allowed_cores(&format!("{task}/status")), core.to_string());
    drop(shard);
    // Whoever has joined a thread may be ahead of the kernel's clearing up.
    let start = Instant::now();
    while std::path::Path::new(&task).exists() {
        assert!(start.elapsed() < Duration::from_secs(5), "the thread stays");
        std::thread::yield_now();
    }
}

fn allowed_cores(path: &str) -> String {
    let status = std::fs::read_to_string(path).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn no_buffer_is_lost_over_many_datagrams() {
    let mut shard = shard(0);
    let mut peers = [0, 1].map(|n| Peer::new(shard.addresses()[n]));
    peers[0].check();
    let sizes = [0, 1, 13, 100, 1200, 1500];
    for n in 0..40_000_usize {
        let peer = &peers[n % 2];
        let len = if n % 100 == 0 {
            60_000
        } else {
            sizes[n % sizes.len()]
        };
        let mut datagram = vec![n as u8; len];
        // RTP, RTCP, STUN, DTLS and nothing, all without sense.
        if let Some(first) = datagram.first_mut() {
            *first = [0x80, 0x81, 0x00, 0x16, 0xff][n % 5];
        }
        peer.say(&datagram);
        if n % 256 == 0 {
            while shard.try_recv().is_some() {}
        }
    }
    while shard.try_recv().is_some() {}
    // Whatever was sent before the check is done with when it is answered.
    peers[0].check();
    let ring = Arc::clone(shard.ring_counters());
    let end = Instant::now() + PATIENCE;
    while ring.receive_buffers[Holder::Kernel as usize].get() != u64::from(BUFFERS)
        && Instant::now() < end
    {
        peers[0].check();
    }
    assert_eq!(
        ring.receive_buffers[Holder::Kernel as usize].get(),
        u64::from(BUFFERS)
    );
    assert!(ring.datagrams_unusable.get() > 0, "60 000 bytes do not fit");
    assert!(shard.counters().datagrams_received.get() > 10_000);
    let report = shard.shutdown().unwrap();
    assert_eq!(report.receive_buffers, usize::from(BUFFERS));
    assert_eq!(report.returned_by_kernel, usize::from(BUFFERS));
    assert_eq!((report.held_by_shard, report.unfinished_requests), (0, 0));
}

#[test]
fn stops_under_load_and_accounts_for_every_buffer() {
    for _ in 0..5 {
        let mut shard = shard(0);
        let address = shard.addresses()[0];
        Peer::new(address).check();
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    let peer = Peer::new(address);
                    while !stop.load(Ordering::Relaxed) {
                        // After the end nobody listens, which may be reported.
                        let _ = peer.socket.send_to(&[0x80; 1000], address);
                    }
                })
            })
            .collect();
        let enough = shard.counters().datagrams_received.get() + 5_000;
        while shard.counters().datagrams_received.get() < enough {
            let datagram = vec![0x17; 1000];
            let _ = shard.send(Command::SendDatagram {
                id: TransportId(1),
                datagram,
            });
            std::thread::yield_now();
        }
        let report = shard.shutdown().unwrap();
        stop.store(true, Ordering::Relaxed);
        for sender in senders {
            sender.join().unwrap();
        }
        assert_eq!(report.unfinished_requests, 0);
        assert_eq!(
            report.returned_by_kernel + report.held_by_shard,
            usize::from(BUFFERS)
        );
        // The port is free again.
        UdpSocket::bind(address).unwrap();
    }
}

#[test]
fn an_idle_shard_sleeps() {
    let shard = shard(0);
    let peer = Peer::new(shard.addresses()[0]);
    peer.socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let _ = peer.socket.recv(&mut [0; 10]);
    let before = shard.ring_counters().wakeups.get();
    peer.socket
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let _ = peer.socket.recv(&mut [0; 10]);
    let wakeups = shard.ring_counters().wakeups.get() - before;
    assert!(wakeups <= 30, "{wakeups} wake-ups in a second");
}

#[test]
fn says_what_is_wrong_and_what_to_do() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut busy = config(0);
    busy.listen = vec![taken.local_addr().unwrap()];
    let error = spawn(busy).unwrap_err();
    assert!(matches!(error, SpawnError::Socket { .. }), "{error}");

    let mut far = config(0);
    far.core = Some(1023);
    let error = spawn(far).unwrap_err();
    assert!(error.to_string().contains("core 1023"), "{error}");

    let mut nowhere = config(0);
    nowhere.listen = vec![];
    let error = spawn(nowhere).unwrap_err();
    assert!(error.to_string().contains("listen = []"), "{error}");
}

#[test]
fn a_started_and_stopped_shard_leaves_no_descriptors() {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    drop(shard(0));
    let before = open();
    for _ in 0..3 {
        shard(0).shutdown().unwrap();
    }
    // Other tests of this process open some of their own.
    assert!(
        open() <= before + 40,
        "{before} descriptors became {}",
        open()
    );
}
