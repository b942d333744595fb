//! One end of a transport: its credentials, its keys, and the check that tells the shard where it is.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use weir_shard::{Command, IceCredentials, MasterKey, Profile, TransportId};
use weir_wire::stun::{BindingRequest, Class, Key, Message, Role, TransactionId};

/// How long the answer to a check may take, and how often it is sent.
const CHECK_PATIENCE: Duration = Duration::from_millis(500);
const CHECKS_MAX: usize = 10;

/// A participant, by number; the publisher is number 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Participant {
    pub(crate) number: u32,
    pub(crate) profile: Profile,
}

impl Participant {
    pub(crate) fn transport(self) -> TransportId {
        TransportId(self.number + 1)
    }

    fn credentials(self) -> IceCredentials {
        let number = self.number;
        IceCredentials {
            local_ufrag: format!("focus{number}"),
            local_pwd: format!("password of the focus for {number}"),
            remote_ufrag: format!("peer{number}"),
            remote_pwd: "a lite agent does not use it".to_owned(),
        }
    }

    /// The key of what the focus sends to it.
    pub(crate) fn focus_key(self) -> Result<MasterKey> {
        self.key(0x5a)
    }

    /// The key of what it sends.
    pub(crate) fn own_key(self) -> Result<MasterKey> {
        self.key(0xa5)
    }

    fn key(self, side: u8) -> Result<MasterKey> {
        let mut key = [side; 32];
        key[..4].copy_from_slice(&self.number.to_be_bytes());
        let (key, salt) = (
            &key[..self.profile.key_len()],
            &[side; 14][..self.profile.salt_len()],
        );
        Ok(MasterKey::new(self.profile, key, salt)?)
    }

    /// What control tells a shard about it, in order. The handshake is left out: its keys are given.
    pub(crate) fn commands(self) -> Result<[Command; 2]> {
        Ok([
            Command::AddTransport {
                id: self.transport(),
                ice: self.credentials(),
                is_trunk: false,
            },
            Command::InstallKeys {
                id: self.transport(),
                profile: self.profile,
                local: self.focus_key()?,
                remote: self.own_key()?,
            },
        ])
    }

    /// An authenticated, nominating check.
    pub(crate) fn request(self) -> Result<Vec<u8>> {
        let ice = self.credentials();
        let mut transaction = [0; 12];
        transaction[..4].copy_from_slice(&self.number.to_be_bytes());
        let request = BindingRequest {
            transaction_id: TransactionId(transaction),
            username: &format!("{}:{}", ice.local_ufrag, ice.remote_ufrag),
            priority: 1,
            role: Role::Controlling { tie_breaker: 1 },
            use_candidate: true,
        };
        let mut out = vec![0; 512];
        let len = request.emit(&Key::new(&ice.local_pwd), &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    /// Sends a check and waits for its answer.
    pub(crate) fn check(self, socket: &UdpSocket, shard: SocketAddr) -> Result<()> {
        let (request, key) = (self.request()?, Key::new(&self.credentials().local_pwd));
        socket.set_read_timeout(Some(CHECK_PATIENCE))?;
        for _ in 0..CHECKS_MAX {
            socket.send_to(&request, shard)?;
            let mut answer = [0; 1500];
            let Ok(len) = socket.recv(&mut answer) else {
                continue;
            };
            let answer = Message::parse(&answer[..len]).context("the answer to a check")?;
            if answer.class() == Class::Success && answer.check_integrity(&key).is_ok() {
                return Ok(());
            }
        }
        bail!(
            "participant {}: no answer to {CHECKS_MAX} connectivity checks from {shard}",
            self.number
        )
    }
}
