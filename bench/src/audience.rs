//! The subscribers' sockets. They must not be the bottleneck: media is dropped by a filter in the kernel, which counts it, and only
//! a few sockets are read, decrypted and checked.

use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{SockFilter, SockRef};
use weir_shard::Profile;
use weir_shard::limits::OPENING_REPEATS;
use weir_srtp::{Error, Receiver};
use weir_wire::rtp;
use weir_wire::{ExtSeq, Kind};

use crate::participant::Participant;
use crate::source::{Medium, Note};
use weir_bench::machine;
use weir_bench::network::Network;

/// What a socket that is read may hold: some frames.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// How often a reader looks whether the run is over.
const READ_PATIENCE: Duration = Duration::from_millis(50);

/// The sockets, in the order of the subscribers' numbers, which begin at 1.
pub(crate) struct Audience {
    sockets: Vec<UdpSocket>,
    medium: Medium,
    /// Of the sockets that are read: every so many packets reach the reader. A power of two.
    every: u16,
    /// What had been dropped before the run, by subscriber.
    before: Vec<u64>,
}

impl Audience {
    /// Opens `count` sockets at the far end.
    pub(crate) fn open(
        network: &Network,
        count: usize,
        medium: Medium,
        every: u16,
    ) -> Result<Self> {
        machine::allow_files(count)?;
        let address = SocketAddr::new(network.far_ip(), 0);
        let sockets = network.far(|| {
            let open = |_| UdpSocket::bind(address);
            let opened: std::io::Result<Vec<_>> = (0..count).map(open).collect();
            opened.with_context(|| format!("{count} sockets for subscribers"))
        })?;
        let audience = Self {
            sockets,
            medium,
            every,
            before: vec![0; count],
        };
        for at in 0..count {
            audience.filter(at)?;
        }
        Ok(audience)
    }

    /// Lets the kernel drop media: all of it, or of those that are read what they do not look at.
    fn filter(&self, at: usize) -> Result<()> {
        let socket = SockRef::from(&self.sockets[at]);
        if !self.is_read(at) {
            return Ok(socket.attach_filter(&media_filter(self.medium, None))?);
        }
        // Less than asked for is enough most of the time; what does not fit is counted as lost and said.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        if self.every > 1 {
            socket.attach_filter(&media_filter(self.medium, Some(self.every)))?;
        }
        Ok(())
    }

    /// The first and the last subscriber are read.
    fn is_read(&self, at: usize) -> bool {
        at == 0 || at + 1 == self.sockets.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn addresses(&self) -> Result<Vec<SocketAddrV4>> {
        let address = |socket: &UdpSocket| match socket.local_addr()? {
            SocketAddr::V4(address) => Ok(address),
            SocketAddr::V6(address) => bail!("{address} is not IPv4"),
        };
        self.sockets.iter().map(address).collect()
    }

    /// Makes every subscriber's address known to the shard.
    pub(crate) fn check(&self, profile: Profile, shard: SocketAddr) -> Result<()> {
        for (socket, number) in self.sockets.iter().zip(1..) {
            let participant = Participant { number, profile };
            participant.check(socket, shard)?;
        }
        Ok(())
    }

    /// The readers of this run, to be run on threads of their own.
    pub(crate) fn readers(&self, profile: Profile, epoch: Instant) -> Result<Vec<Reader<'_>>> {
        let read = (0..self.sockets.len()).filter(|at| self.is_read(*at));
        let reader = |at: usize| {
            let participant = Participant {
                number: at as u32 + 1,
                profile,
            };
            self.sockets[at].set_read_timeout(Some(READ_PATIENCE))?;
            Ok(Reader {
                socket: &self.sockets[at],
                subscriber: at,
                receiver: Receiver::new(&participant.focus_key()?, 16),
                medium: self.medium,
                every: self.every,
                epoch,
                last: None,
                heard: Heard::default(),
            })
        };
        read.map(reader).collect()
    }

    /// From now on nobody reads, and everything is dropped and counted.
    pub(crate) fn stop_reading(&mut self) -> Result<()> {
        for socket in &self.sockets {
            SockRef::from(socket).attach_filter(&media_filter(self.medium, None))?;
        }
        Ok(())
    }

    fn dropped(&self, network: &Network) -> Result<Vec<u64>> {
        let by_port = network.far(machine::drops_by_port)?;
        let addresses = self.addresses()?;
        let dropped = |address: &SocketAddrV4| {
            let drops = by_port.get(&address.port()).copied();
            drops.with_context(|| format!("/proc/net/udp does not have port {}", address.port()))
        };
        addresses.iter().map(dropped).collect()
    }

    /// Counts from here.
    pub(crate) fn begin(&mut self, network: &Network) -> Result<()> {
        self.before = self.dropped(network)?;
        Ok(())
    }

    /// Checks that each subscriber got every one of `packets`: those that a reader heard, and those that the kernel dropped. The
    /// first packet of a picture goes out again unasked; `repeated` is how often that was, for all subscribers together.
    pub(crate) fn verify(
        &self,
        network: &Network,
        packets: u64,
        repeated: u64,
        heard: &[Heard],
    ) -> Result<()> {
        let dropped = self.dropped(network)?;
        let mut total = 0;
        for (at, (after, before)) in dropped.iter().zip(&self.before).enumerate() {
            let read = heard.iter().find(|of| of.subscriber == at);
            let got = after - before + read.map_or(0, |of| of.packets + of.repeated);
            total += got;
            ensure!(
                (packets..=packets + u64::from(OPENING_REPEATS)).contains(&got),
                "subscriber {} got {got} packets of {packets}: the network lost some, or the focus sent them wrongly",
                at + 1
            );
        }
        let expected = packets * dropped.len() as u64 + repeated;
        ensure!(
            total == expected,
            "the subscribers got {total} packets together and not {expected}: the network lost some"
        );
        Ok(())
    }
}

/// A classic BPF program (the kernel's filter.rst) that drops and counts the media, but for every `pass`-th packet. What a filter
/// sees of a datagram begins with the UDP header.
fn media_filter(medium: Medium, pass: Option<u16>) -> Vec<SockFilter> {
    const UDP_HEADER: u32 = 8;
    let load_byte = |at| SockFilter::new(0x30, 0, 0, UDP_HEADER + at);
    let load_half = |at| SockFilter::new(0x28, 0, 0, UDP_HEADER + at);
    let and = |mask| SockFilter::new(0x54, 0, 0, mask);
    let jump_if_equal = |to, or, value| SockFilter::new(0x15, to, or, value);
    let accept = || SockFilter::new(0x06, 0, 0, u32::MAX);
    let drop = SockFilter::new(0x06, 0, 0, 0);
    let payload_type = medium.codec().payload_type.into();
    // What is no media is let through.
    let mut program = vec![
        load_byte(1),
        and(0x7f),
        jump_if_equal(1, 0, payload_type),
        accept(),
    ];
    if let Some(every) = pass {
        let looked_at = [
            load_half(2),
            and(u32::from(every) - 1),
            jump_if_equal(0, 1, 0),
            accept(),
        ];
        program.extend(looked_at);
    }
    program.push(drop);
    program
}

/// Reads what one subscriber gets: decrypts it, checks that it goes on, and measures how long it was on its way.
pub(crate) struct Reader<'a> {
    socket: &'a UdpSocket,
    subscriber: usize,
    receiver: Receiver,
    medium: Medium,
    every: u16,
    epoch: Instant,
    last: Option<(ExtSeq, Note)>,
    heard: Heard,
}

/// What a reader found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    /// Its place in the audience.
    pub(crate) subscriber: usize,
    /// Media packets that were read.
    pub(crate) packets: u64,
    /// Packets that came again.
    pub(crate) repeated: u64,
    /// How long packets took from the publisher's send to here, while it was measured.
    pub(crate) delays_ns: Vec<u64>,
}

impl Reader<'_> {
    /// Reads until `stop`, and then what is still there.
    pub(crate) fn run(mut self, stop: &AtomicBool, measuring: &AtomicBool) -> Result<Heard> {
        self.heard.subscriber = self.subscriber;
        let mut datagram = [0; 2048];
        loop {
            let over = stop.load(Ordering::Acquire);
            match self.socket.recv(&mut datagram) {
                Ok(len) => {
                    let arrived = self.epoch.elapsed().as_nanos() as u64;
                    self.datagram(&mut datagram[..len], arrived, measuring)
                        .with_context(|| format!("subscriber {}", self.subscriber + 1))?;
                }
                Err(_) if over => return Ok(self.heard),
                Err(_) => {}
            }
        }
    }

    fn datagram(
        &mut self,
        datagram: &mut [u8],
        arrived: u64,
        measuring: &AtomicBool,
    ) -> Result<()> {
        if Kind::of(datagram) != Kind::Rtp {
            return Ok(());
        }
        let opened = match self.receiver.unprotect_rtp(datagram) {
            Err(Error::Replayed) if self.heard.repeated < u64::from(OPENING_REPEATS) => {
                self.heard.repeated += 1;
                return Ok(());
            }
            opened => opened?,
        };
        let packet = rtp::Packet::parse(&datagram[..opened.len])?;
        let note = Note::read(self.medium, packet.payload())?;
        if let Some((seq, before)) = self.last {
            ensure!(
                opened.index == seq.add(u64::from(self.every)),
                "packet {:?} follows {seq:?}",
                opened.index
            );
            ensure!(
                self.every > 1 || note.follows(&before),
                "{note:?} follows {before:?}"
            );
        }
        let is_last = note.packet + 1 == note.packets;
        ensure!(
            packet.header().marker == (is_last && self.medium == Medium::Camera),
            "the marker bit is wrong in {note:?}"
        );
        self.last = Some((opened.index, note));
        self.heard.packets += 1;
        if measuring.load(Ordering::Relaxed) {
            let delay = arrived.saturating_sub(note.sent_ns);
            self.heard.delays_ns.push(delay);
        }
        Ok(())
    }
}
