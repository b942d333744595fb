//! Connectivity checks (RFC 8445 §7): those of others are answered; those of transports that call another focus are made, and
//! their answers looked at. What is not authentic changes nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use weir_wire::stun::{self, Class, Message};

use crate::counters::DropReason;
use crate::event::Event;
use crate::ice::{Checked, Ended, Nomination, Selected};
use crate::ids::TransportId;
use crate::limits::REMOTES_MAX;
use crate::path::{Local, Path};
use crate::shard::Shard;

impl Shard {
    /// Takes a STUN message. What is not authentic gets no answer at all: an answer would only help those who guess, or who send
    /// in another's name.
    pub(super) fn stun(&mut self, datagram: &[u8], path: Path, now: Instant) {
        let taken = match Message::parse(datagram) {
            Ok(message) if message.is_binding() && message.check_fingerprint() != Some(false) => {
                match message.class() {
                    Class::Request => self.answer(&message, path, now),
                    Class::Success | Class::Error => self.answered(&message, path, now),
                    Class::Indication => Err(DropReason::StunMalformed),
                }
            }
            _ => Err(DropReason::StunMalformed),
        };
        if let Err(reason) = taken {
            self.counters.count_drop(reason);
        }
    }

    /// Answers a check (RFC 8445 §7.3).
    fn answer(&mut self, check: &Message<'_>, path: Path, now: Instant) -> Result<(), DropReason> {
        let mut answer = [0; stun::MESSAGE_BYTES_MAX];
        let (transport, len) = self.authenticate(check, path, &mut answer)?;
        self.counters.checks_answered.add(1);
        self.send_plain(path, &answer[..len]);
        let nomination = if check.use_candidate() {
            Nomination::Nominated
        } else {
            Nomination::Ordinary
        };
        let of = self.transports.get(transport);
        if of.is_some_and(|of| of.ice.believes_checks()) {
            self.believe(transport, path, now, |ice| {
                ice.handle_check(path, nomination, now)
            });
        }
        Ok(())
    }

    /// Whose check this is, and how long the answer is.
    fn authenticate(
        &mut self,
        check: &Message<'_>,
        path: Path,
        answer: &mut [u8],
    ) -> Result<(u32, usize), DropReason> {
        let asked = self.asked.get(&path).copied();
        if path.local != Local::LISTENING && asked.is_none() {
            return Err(DropReason::StunUnsolicited);
        }
        let (local, peer) = check.ufrags().ok_or(DropReason::StunMalformed)?;
        let transport = *self.ufrags.get(local).ok_or(DropReason::StunUnknownUser)?;
        let of = self
            .transports
            .get_mut(transport)
            .ok_or(DropReason::StunUnknownUser)?;
        let key = of.ice.key(local, peer).ok_or(DropReason::StunUnknownUser)?;
        check
            .check_integrity(key)
            .map_err(|_| DropReason::StunUnauthenticated)?;
        if asked.is_some_and(|of| of != transport) {
            // A check may come in another's name, on a path that an answer came on: answers weigh more.
            return Err(DropReason::AddressTaken);
        }
        let id = check.transaction_id();
        let len = match check.unknown_required() {
            None => stun::emit_success(id, path.remote, key, answer),
            Some(kind) => stun::emit_error(
                id,
                stun::ErrorCode::UnknownAttribute(kind),
                Some(key),
                answer,
            ),
        };
        if let Some(unused) = of.ice.confirm(local) {
            self.ufrags.remove(unused.as_str());
        }
        Ok((transport, len.map_err(|_| DropReason::TooLarge)?))
    }

    /// Takes the answer to a check of this end (RFC 8445 §7.2.5): from where it was sent to, under its id, with the key of who was
    /// asked. An error changes nothing, as most come without integrity: the check is repeated until it is given up.
    fn answered(
        &mut self,
        answer: &Message<'_>,
        path: Path,
        now: Instant,
    ) -> Result<(), DropReason> {
        let id = answer.transaction_id();
        let transport = self.asked.get(&path).copied();
        let transport = transport.ok_or(DropReason::StunUnsolicited)?;
        let of = self.transports.get(transport);
        let controlling = of.and_then(|of| of.ice.controlling());
        let key = controlling
            .and_then(|of| of.awaits(path, id))
            .ok_or(DropReason::StunUnsolicited)?;
        if answer.class() == Class::Error {
            return Err(DropReason::StunRefused);
        }
        answer
            .check_integrity(key)
            .map_err(|_| DropReason::StunUnauthenticated)?;
        if answer.unknown_required().is_some() {
            return Err(DropReason::StunMalformed);
        }
        self.counters.checks_confirmed.add(1);
        self.believe(transport, path, now, |ice| ice.handle_answer(path, id, now));
        self.release_paths(transport);
        Ok(())
    }

    /// Notes what was authenticated: where the participant is, and that it still wants what it gets.
    fn believe(
        &mut self,
        transport: u32,
        path: Path,
        now: Instant,
        note: impl FnOnce(&mut crate::ice::Ice) -> Checked,
    ) {
        let before = self.paths.insert(path, transport);
        if let Some(before) = before.filter(|before| *before != transport)
            && let Some(other) = self.transports.get_mut(before)
        {
            other.ice.forget(path);
        }
        let Some(of) = self.transports.get_mut(transport) else {
            return;
        };
        let checked = note(&mut of.ice);
        let (id, due) = (of.id, of.ice.poll_timeout());
        if let Some(replaced) = checked.replaced {
            self.paths.remove(&replaced);
        }
        due.into_iter().for_each(|at| self.wake_at(at));
        let remote = path.remote;
        match checked.selected {
            Some(Selected::First) => {
                self.event(Event::IceConnected { id, remote });
                self.choose_for_subscriber(transport, now);
            }
            Some(Selected::Moved) => self.event(Event::RemoteChanged { id, remote }),
            None => {}
        }
    }

    pub(super) fn check_remotes(&mut self, id: TransportId, remotes: &[SocketAddr], now: Instant) {
        let Some(index) = self.transport(id) else {
            return;
        };
        let numbers = &mut self.numbers;
        if let Some(of) = self.transports.get_mut(index) {
            of.ice.control(|| {
                stun::Key::new(&format!("{:016x}{:016x}", numbers.next(), numbers.next()))
            });
        }
        self.look_for(index, remotes, now);
    }

    /// With new credentials, the same addresses are checked anew.
    pub(super) fn look_again(&mut self, index: u32, now: Instant) {
        let of = self.transports.get(index);
        let Some(controlling) = of.and_then(|of| of.ice.controlling()) else {
            return;
        };
        let remotes: Vec<_> = controlling.paths().iter().map(|path| path.remote).collect();
        self.look_for(index, &remotes, now);
    }

    fn look_for(&mut self, index: u32, remotes: &[SocketAddr], now: Instant) {
        self.release_paths(index);
        let mut wanted: Vec<Path> = Vec::with_capacity(REMOTES_MAX);
        for remote in remotes.iter().copied().map(canonical) {
            if wanted.iter().any(|path| path.remote == remote) {
                continue;
            }
            let may = wanted.len() < REMOTES_MAX && can_be_asked(remote);
            let path = may.then(|| self.path_to(remote, index)).flatten();
            let Some(path) = path else {
                self.counters.remotes_ignored.add(1);
                continue;
            };
            wanted.push(path);
            self.asked.insert(path, index);
        }
        if let Some(of) = self.transports.get_mut(index) {
            of.ice.look(&wanted, now);
        }
        self.wake_at(now);
    }

    /// On which path a transport asks a remote address: the one that it uses if that leads there, else the first that no other
    /// transport has or asks. `None` if they have all.
    fn path_to(&self, remote: SocketAddr, index: u32) -> Option<Path> {
        let of = self.transports.get(index);
        let used = of.and_then(|of| of.ice.selected());
        let locals = Local::to_call_from(self.calling_sockets);
        let mut paths = used
            .into_iter()
            .filter(|used| used.remote == remote)
            .chain(locals.map(|local| Path { local, remote }));
        paths.find(|path| !self.belongs_to_another(*path, index))
    }

    fn belongs_to_another(&self, path: Path, index: u32) -> bool {
        let mut owners = [self.paths.get(&path), self.asked.get(&path)]
            .into_iter()
            .flatten();
        owners.any(|of| *of != index)
    }

    /// Lets go of the paths that a transport checks, all but the one that it uses.
    pub(super) fn release_paths(&mut self, index: u32) {
        let of = self.transports.get(index);
        let used = of.and_then(|of| of.ice.selected());
        self.asked
            .retain(|path, of| *of != index || Some(*path) == used);
    }

    /// Makes the check that is due, and ends what has lasted too long.
    pub(super) fn checks_when_due(&mut self, index: u32, now: Instant) {
        let Some(of) = self.transports.get_mut(index) else {
            return;
        };
        let id = of.id;
        match of.ice.handle_timeout(now) {
            Some(Ended::Consent) => {
                for path in of.ice.take_paths() {
                    self.paths.remove(&path);
                }
                if of.ice.controlling().is_some() {
                    self.release_paths(index);
                }
                self.event(Event::ConsentLost { id });
            }
            Some(Ended::Looking) => self.release_paths(index),
            None => self.send_check(index, now),
        }
    }

    fn send_check(&mut self, index: u32, now: Instant) {
        let of = self.transports.get_mut(index);
        let Some(controlling) = of.and_then(|of| of.ice.controlling_mut()) else {
            return;
        };
        let Some(check) = controlling.poll_check(now) else {
            return;
        };
        let mut request = [0; stun::MESSAGE_BYTES_MAX];
        match controlling.emit(check, &mut request) {
            Ok(len) => {
                self.counters.checks_sent.add(1);
                self.send_plain(check.path, &request[..len]);
            }
            Err(_) => self.counters.count_drop(DropReason::TooLarge),
        }
    }
}

/// As the runtime gives the address that an answer comes from: IPv4 as such.
fn canonical(remote: SocketAddr) -> SocketAddr {
    match remote.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::new(ip.into(), remote.port()),
        IpAddr::V6(_) => remote,
    }
}

/// Whether there can be one focus at the address. It was told by another, and where that may lead is for control to limit.
fn can_be_asked(remote: SocketAddr) -> bool {
    let ip = remote.ip();
    let nobody = ip.is_unspecified() || ip.is_multicast() || remote.port() == 0;
    let everybody = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    !nobody && !everybody
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_nobody_or_everybody_are_not_asked() {
        let asked = |text: &str| can_be_asked(canonical(text.parse().unwrap()));
        assert!(asked("192.0.2.1:3478") && asked("[2001:db8::1]:3478"));
        for text in [
            "0.0.0.0:1",
            "[::]:1",
            "192.0.2.1:0",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "[::ffff:224.0.0.1]:1",
        ] {
            assert!(!asked(text), "{text}");
        }
    }

    #[test]
    fn an_ipv4_address_in_the_notation_of_ipv6_is_the_same_address() {
        let mapped: SocketAddr = "[::ffff:192.0.2.1]:3478".parse().unwrap();
        assert_eq!(canonical(mapped), "192.0.2.1:3478".parse().unwrap());
    }
}
