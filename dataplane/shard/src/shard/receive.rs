//! Sorting of what comes in: whose it is, which protocol it is, whether it may enter at all.

use std::net::SocketAddr;
use std::time::Instant;

use weir_wire::{Kind, stun};

use crate::buffer::ReceiveBuffer;
use crate::counters::DropReason;
use crate::event::Event;
use crate::ice::{Nomination, Selected};
use crate::limits::DATAGRAM_BYTES_MAX;
use crate::reason::Stage;
use crate::shard::{Opened, Shard};

impl Shard {
    /// Media comes back authenticated and decrypted; everything else is dealt with.
    pub(super) fn receive(
        &mut self,
        buffer: ReceiveBuffer,
        remote: SocketAddr,
        now: Instant,
    ) -> Option<Opened> {
        let kind = Kind::of(buffer.datagram());
        match (kind, self.addresses.get(&remote).copied()) {
            (Kind::Stun, _) => {
                self.stun(buffer.datagram(), remote, now);
                self.packets.give_back(buffer);
            }
            (Kind::Unknown, _) => self.refuse(buffer, DropReason::Garbage),
            (_, None) => self.refuse(buffer, DropReason::UnknownAddress),
            (Kind::Rtp, Some(transport)) => {
                let bytes = buffer.datagram().len();
                self.counters.pass(Stage::Received, bytes);
                return self.open_rtp(buffer, transport, now);
            }
            (Kind::Rtcp, Some(transport)) => self.rtcp(buffer, transport, now),
            (_, Some(transport)) => self.dtls(buffer, transport, now),
        }
        None
    }

    /// Answers a connectivity check (RFC 8445 §7.3). What is not authentic gets no answer at all: an answer would only help
    /// those who guess, or who send in another's name.
    fn stun(&mut self, datagram: &[u8], remote: SocketAddr, now: Instant) {
        let mut answer = [0; stun::MESSAGE_BYTES_MAX];
        match self.check(datagram, remote, &mut answer) {
            Ok((transport, nomination, len)) => {
                self.counters.checks_answered.add(1);
                self.send_plain(remote, &answer[..len]);
                self.checked(transport, remote, nomination, now);
            }
            Err(reason) => self.counters.count_drop(reason),
        }
    }

    /// Whose check this is, whether it nominates, and how long the answer is.
    fn check(
        &mut self,
        datagram: &[u8],
        remote: SocketAddr,
        answer: &mut [u8],
    ) -> Result<(u32, Nomination, usize), DropReason> {
        let message = stun::Message::parse(datagram).map_err(|_| DropReason::StunMalformed)?;
        if message.class() != stun::Class::Request
            || !message.is_binding()
            || message.check_fingerprint() == Some(false)
        {
            return Err(DropReason::StunMalformed);
        }
        let (local, peer) = message.ufrags().ok_or(DropReason::StunMalformed)?;
        let transport = *self.ufrags.get(local).ok_or(DropReason::StunUnknownUser)?;
        let of = self
            .transports
            .get_mut(transport)
            .ok_or(DropReason::StunUnknownUser)?;
        let key = of.ice.key(local, peer).ok_or(DropReason::StunUnknownUser)?;
        message
            .check_integrity(key)
            .map_err(|_| DropReason::StunUnauthenticated)?;
        let id = message.transaction_id();
        let len = match message.unknown_required() {
            None => stun::emit_success(id, remote, key, answer),
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
        let nomination = if message.use_candidate() {
            Nomination::Nominated
        } else {
            Nomination::Ordinary
        };
        Ok((
            transport,
            nomination,
            len.map_err(|_| DropReason::TooLarge)?,
        ))
    }

    /// Notes an authentic check: where the participant is, and that it still wants what it gets.
    fn checked(
        &mut self,
        transport: u32,
        remote: SocketAddr,
        nomination: Nomination,
        now: Instant,
    ) {
        let before = self.addresses.insert(remote, transport);
        if let Some(before) = before.filter(|before| *before != transport)
            && let Some(other) = self.transports.get_mut(before)
        {
            other.ice.forget(remote);
        }
        let Some(of) = self.transports.get_mut(transport) else {
            return;
        };
        let checked = of.ice.handle_check(remote, nomination, now);
        let (id, due) = (of.id, of.ice.poll_timeout());
        if let Some(replaced) = checked.replaced {
            self.addresses.remove(&replaced);
        }
        due.into_iter().for_each(|at| self.wake_at(at));
        match checked.selected {
            Some(Selected::First) => {
                self.event(Event::IceConnected { id, remote });
                self.choose_for_subscriber(transport, now);
            }
            Some(Selected::Moved) => self.event(Event::RemoteChanged { id, remote }),
            None => {}
        }
    }

    /// Passes a DTLS datagram on to control.
    fn dtls(&mut self, buffer: ReceiveBuffer, transport: u32, now: Instant) {
        let Some(of) = self.transports.get_mut(transport) else {
            return self.refuse(buffer, DropReason::UnknownAddress);
        };
        if buffer.datagram().len() > DATAGRAM_BYTES_MAX {
            return self.refuse(buffer, DropReason::TooLarge);
        }
        if !of.take_datagram(now) {
            return self.refuse(buffer, DropReason::DatagramRate);
        }
        let id = of.id;
        self.event(Event::Datagram {
            id,
            datagram: buffer.datagram().to_vec(),
        });
        self.packets.give_back(buffer);
    }
}
