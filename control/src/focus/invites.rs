//! Invites that nobody is allowed to make yet.
//!
//! A client that has just created its call's state event sends its invite at once, and the focus may read the invite
//! before the room state. So an invite waits for a moment before it is refused. Bounded in number and time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use weir_signal::call::Message;

use crate::conference::Protection;

/// How long an invite waits. Federated room state may take seconds; the client waits a minute for its answer.
const WAIT: Duration = Duration::from_secs(5);

/// How many wait at most; the oldest is refused for the newest. Each is at most as long as a to-device message, 64 KiB.
const WAITING_MAX: usize = 256;

/// A message about a call and who sent it.
#[derive(Debug)]
pub(super) struct PendingInvite {
    pub(super) sender: String,
    pub(super) sender_device: Option<String>,
    pub(super) protection: Protection,
    pub(super) message: Message,
}

/// The invites that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct PendingInvites {
    waiting: VecDeque<(Instant, PendingInvite)>,
}

impl PendingInvites {
    /// Lets an invite wait; gives back the one that must be refused for it.
    pub(super) fn push(&mut self, invite: PendingInvite, now: Instant) -> Option<PendingInvite> {
        self.waiting.push_back((now + WAIT, invite));
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front().map(|(_, oldest)| oldest)
        } else {
            None
        }
    }

    /// Takes out those that are allowed now, in their order.
    pub(super) fn take_if(
        &mut self,
        mut allowed: impl FnMut(&PendingInvite) -> bool,
    ) -> Vec<PendingInvite> {
        let (taken, kept) = self
            .waiting
            .drain(..)
            .partition::<Vec<_>, _>(|(_, invite)| allowed(invite));
        self.waiting = kept.into();
        taken.into_iter().map(|(_, invite)| invite).collect()
    }

    /// Takes out those that have waited for too long.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<PendingInvite> {
        let expired = self
            .waiting
            .iter()
            .take_while(|(deadline, _)| *deadline <= now)
            .count();
        self.waiting
            .drain(..expired)
            .map(|(_, invite)| invite)
            .collect()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// When `take_expired` has something to give.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.front().map(|(deadline, _)| *deadline)
    }
}
