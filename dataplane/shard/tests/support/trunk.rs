//! Two worlds, each with a shard, and a trunk between them: the near focus calls the far one. Their clocks go together, from one
//! event to the next in either.

use std::net::SocketAddr;
use std::time::Duration;

use weir_shard::{
    AddTrack, Codec, CodecMapping, Command, ConferenceId, Event, IceCredentials, Local, MediaKind,
    Path, Purpose, Size, Subscribe, SubscriptionId, TrackId, TransportId,
};
use weir_wire::Kind;

use super::link::{Link, Way};
use super::peer::{PROFILE, keys};
use super::{Rng, World};

pub const TRUNK: TransportId = TransportId(77);

/// The number of the trunk's SRTP keys; those of further trunks go on from there.
const KEYS: u8 = 99;

/// Between the SSRC of a trunk's subscription and that of its retransmissions.
const RTX: u32 = 0x0800_0000;

pub struct Foci {
    pub near: World,
    pub far: World,
    /// Where each listens. Its sockets to call from have the ports behind that.
    pub near_at: SocketAddr,
    pub far_at: SocketAddr,
    /// Where the near one sees the far one's datagrams come from.
    pub far_seen_at: SocketAddr,
    pub link: Link,
    pub there: Way,
    pub back: Way,
    rng: Rng,
    /// What the near one sent on the trunk, and when since the start; and what the far one did.
    pub sent: Vec<(Duration, SocketAddr, Vec<u8>)>,
    pub returned: Vec<(Duration, Vec<u8>)>,
}

/// The far end's credentials, as the called focus knows them.
pub fn called(generation: u8) -> IceCredentials {
    IceCredentials {
        local_ufrag: format!("far{generation}"),
        local_pwd: format!("the-password-of-the-far-focus-{generation}"),
        remote_ufrag: format!("near{generation}"),
        remote_pwd: format!("the-password-of-the-near-focus-{generation}"),
    }
}

/// The credentials of a further trunk.
pub fn numbered(number: u8, of: IceCredentials) -> IceCredentials {
    IceCredentials {
        local_ufrag: format!("{}-{number}", of.local_ufrag),
        remote_ufrag: format!("{}-{number}", of.remote_ufrag),
        ..of
    }
}

/// The same, as the calling focus knows them.
pub fn calling(generation: u8) -> IceCredentials {
    let of = called(generation);
    IceCredentials {
        local_ufrag: of.remote_ufrag,
        local_pwd: of.remote_pwd,
        remote_ufrag: of.local_ufrag,
        remote_pwd: of.local_pwd,
    }
}

impl Foci {
    /// Two foci that know of each other, and nothing has been sent. They call from where they listen.
    pub fn new(seed: u64, link: Link) -> Self {
        Self::with_calling_sockets(seed, link, 0)
    }

    /// The same, with so many sockets each to call from.
    pub fn with_calling_sockets(seed: u64, link: Link, sockets: u8) -> Self {
        let (near_at, far_at) = (
            SocketAddr::from(([198, 51, 100, 1], 3478)),
            SocketAddr::from(([203, 0, 113, 1], 3479)),
        );
        let mut foci = Self {
            near: World::with(seed, |config| config.calling_sockets = sockets),
            far: World::with(seed ^ 0xffff, |config| config.calling_sockets = sockets),
            near_at,
            far_at,
            far_seen_at: far_at,
            link,
            there: Way::default(),
            back: Way::default(),
            rng: Rng::new(seed ^ 0x7777),
            sent: Vec::new(),
            returned: Vec::new(),
        };
        foci.near.command(Command::AddTransport {
            id: TRUNK,
            ice: calling(0),
            is_trunk: true,
        });
        foci.far.command(Command::AddTransport {
            id: TRUNK,
            ice: called(0),
            is_trunk: true,
        });
        foci
    }

    /// Lets the near focus look for the far one.
    pub fn check(&mut self, remotes: &[SocketAddr]) {
        self.near.command(Command::CheckRemotes {
            id: TRUNK,
            remotes: remotes.to_vec(),
        });
    }

    /// A trunk that is up: connected, keyed.
    pub fn connected(seed: u64, link: Link) -> Self {
        let mut foci = Self::new(seed, link);
        foci.connect();
        foci
    }

    /// Connects and keys the trunk.
    pub fn connect(&mut self) {
        self.check(&[self.far_at]);
        self.install_keys(TRUNK, KEYS);
    }

    /// One more trunk, which the near focus begins to look for.
    pub fn call_again(&mut self, number: u8) -> TransportId {
        let id = TransportId(TRUNK.0 + u32::from(number));
        for (world, ice) in [(&mut self.near, calling(0)), (&mut self.far, called(0))] {
            let ice = numbered(number, ice);
            world.command(Command::AddTransport {
                id,
                ice,
                is_trunk: true,
            });
        }
        let remotes = vec![self.far_at];
        self.near.command(Command::CheckRemotes { id, remotes });
        self.install_keys(id, KEYS + number);
        id
    }

    fn install_keys(&mut self, id: TransportId, number: u8) {
        let (near, far) = keys(number);
        for (world, local, remote) in [
            (&mut self.near, near.clone(), far.clone()),
            (&mut self.far, far, near),
        ] {
            world.command(Command::InstallKeys {
                id,
                profile: PROFILE,
                local,
                remote,
            });
        }
    }

    /// Lets `duration` pass for both.
    pub fn run(&mut self, duration: Duration) {
        let mut left = duration;
        loop {
            let until = |world: &World| Some(world.next()?.saturating_duration_since(world.now));
            let next = until(&self.near).into_iter().chain(until(&self.far)).min();
            let step = next.unwrap_or(left).min(left);
            self.near.run(step);
            self.far.run(step);
            left -= step;
            self.exchange();
            if left.is_zero() && next.is_none_or(|next| next > step) {
                return;
            }
        }
    }

    /// Carries what was sent between the two.
    fn exchange(&mut self) {
        let at = self.near.now - self.near.start;
        for (when, path, bytes) in std::mem::take(&mut self.near.outside) {
            let sent = (when - self.near.start, path.remote, bytes.clone());
            self.sent.push(sent);
            if let Some(arrives) = arrives_on(path, self.near_at, self.far_at) {
                let ways = self
                    .there
                    .carry(&self.link, bytes.len(), &mut self.rng, when);
                let late = at - (when - self.near.start);
                for after in ways {
                    let after = after.saturating_sub(late);
                    self.far.arrive_from_outside(after, arrives, bytes.clone());
                }
            }
        }
        for (when, path, bytes) in std::mem::take(&mut self.far.outside) {
            self.returned.push((when - self.far.start, bytes.clone()));
            if let Some(arrives) = arrives_on(path, self.far_seen_at, self.near_at) {
                let ways = self
                    .back
                    .carry(&self.link, bytes.len(), &mut self.rng, when);
                for after in ways {
                    self.near.arrive_from_outside(after, arrives, bytes.clone());
                }
            }
        }
    }

    /// The checks that the near focus sent.
    pub fn checks(&self) -> Vec<(Duration, SocketAddr, Vec<u8>)> {
        let sent = self.sent.iter();
        sent.filter(|(_, _, bytes)| Kind::of(bytes) == Kind::Stun)
            .cloned()
            .collect()
    }

    /// Takes a track of the near focus over the trunk: it is subscribed to there, and the same track is added here.
    pub fn carry_over(&mut self, track: u8, kind: MediaKind, wanted: Option<Size>) -> u32 {
        self.carry_over_by(TRUNK, track, kind, wanted)
    }

    /// The same over any trunk.
    pub fn carry_over_by(
        &mut self,
        trunk: TransportId,
        track: u8,
        kind: MediaKind,
        wanted: Option<Size>,
    ) -> u32 {
        let ssrc = 0x4400_0000 | u32::from(track);
        let mid = ["v", "a"][usize::from(kind == MediaKind::Audio)];
        let codec = match kind {
            MediaKind::Video => CodecMapping {
                payload_type: 96,
                codec: Codec::Vp8,
                clock_rate: 90_000,
                rtx_payload_type: Some(97),
            },
            MediaKind::Audio => CodecMapping {
                payload_type: 111,
                codec: Codec::Opus,
                clock_rate: 48_000,
                rtx_payload_type: None,
            },
        };
        let rtx_ssrc = (kind == MediaKind::Video).then_some(ssrc ^ RTX);
        let extensions = World::subscriber_extensions();
        self.far.command(Command::AddTrack(AddTrack {
            track: TrackId(track.into()),
            transport: trunk,
            conference: ConferenceId(1),
            purpose: Purpose::UserMedia,
            mid: format!("{mid}{track}"),
            kind,
            codecs: vec![codec],
            extensions,
            rids: Vec::new(),
            ssrcs: std::iter::once(ssrc).chain(rtx_ssrc).collect(),
            size: wanted,
        }));
        self.near.command(Command::Subscribe(Subscribe {
            id: SubscriptionId(70_000 + u32::from(track)),
            transport: trunk,
            track: TrackId(track.into()),
            mid: format!("{mid}{track}"),
            ssrc,
            rtx_ssrc,
            cname: format!("publisher-of-{track}"),
            codecs: vec![codec],
            extensions,
            wanted,
        }));
        ssrc
    }
}

/// The path on which the other end gets what was sent on this one, if it listens there or calls from there.
fn arrives_on(path: Path, sender_at: SocketAddr, receiver_at: SocketAddr) -> Option<Path> {
    let behind = path.remote.port().checked_sub(receiver_at.port())?;
    let local = Local(u8::try_from(behind).ok()?);
    let port = sender_at.port() + u16::from(path.local.0);
    (path.remote.ip() == receiver_at.ip()).then(|| Path {
        local,
        remote: SocketAddr::new(sender_at.ip(), port),
    })
}

/// What became of a world's transports, in order.
pub fn turns(world: &World) -> Vec<Turn> {
    let turns = world.events.iter().filter_map(|event| match event {
        Event::IceConnected { remote, .. } => Some(Turn::Connected(*remote)),
        Event::RemoteChanged { remote, .. } => Some(Turn::Moved(*remote)),
        Event::ConsentLost { .. } => Some(Turn::Lost),
        _ => None,
    });
    turns.collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Connected(SocketAddr),
    Moved(SocketAddr),
    Lost,
}
