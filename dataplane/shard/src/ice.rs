//! The lite end of ICE (RFC 8445 §2.5): it answers checks, and believes in addresses that authenticated checks came from.
//!
//! One transport's part is here; who a check belongs to is looked up by its user name in the shard's one table.

use std::net::SocketAddr;
use std::time::Instant;

use weir_wire::stun::Key;

use crate::command::IceCredentials;
use crate::limits::{ADDRESSES_PER_TRANSPORT, CONSENT, SELECTED_SILENT};

/// Credentials, addresses and consent of one transport.
#[derive(Debug)]
pub(crate) struct Ice {
    credentials: Credentials,
    /// From before a restart, until a check with the new ones arrives.
    previous: Option<Credentials>,
    addresses: Vec<Address>,
    selected: Option<SocketAddr>,
    last_check: Instant,
    consent_lost: bool,
}

/// What a check is authenticated with.
#[derive(Debug)]
struct Credentials {
    local_ufrag: String,
    remote_ufrag: String,
    key: Key,
}

impl From<IceCredentials> for Credentials {
    fn from(of: IceCredentials) -> Self {
        let key = Key::new(&of.local_pwd);
        Self {
            local_ufrag: of.local_ufrag,
            remote_ufrag: of.remote_ufrag,
            key,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Address {
    remote: SocketAddr,
    last_check: Instant,
}

/// Whether the participant nominates the pair (`USE-CANDIDATE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nomination {
    Nominated,
    Ordinary,
}

/// What an authenticated check changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// This address had to make room.
    pub(crate) replaced: Option<SocketAddr>,
    pub(crate) selected: Option<Selected>,
}

/// The selected address is another now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    /// There was none.
    First,
    /// It was another.
    Moved,
}

impl Ice {
    pub(crate) fn new(credentials: IceCredentials, now: Instant) -> Self {
        let addresses = Vec::with_capacity(ADDRESSES_PER_TRANSPORT);
        Self {
            credentials: credentials.into(),
            previous: None,
            addresses,
            selected: None,
            last_check: now,
            consent_lost: false,
        }
    }

    /// Takes new credentials; returns the fragment that is no longer answered, if a restart was already under way.
    pub(crate) fn restart(&mut self, credentials: IceCredentials) -> Option<String> {
        let replaced = std::mem::replace(&mut self.credentials, credentials.into());
        // The participant still checks with what it last confirmed; what it never used is dropped.
        match &self.previous {
            None => {
                self.previous = Some(replaced);
                None
            }
            Some(_) => Some(replaced.local_ufrag),
        }
    }

    /// The key of a check for `local_ufrag` from `remote_ufrag`.
    pub(crate) fn key(&self, local_ufrag: &str, remote_ufrag: &str) -> Option<&Key> {
        let known = [Some(&self.credentials), self.previous.as_ref()]
            .into_iter()
            .flatten();
        let mut matching =
            known.filter(|c| c.local_ufrag == local_ufrag && c.remote_ufrag == remote_ufrag);
        matching.next().map(|credentials| &credentials.key)
    }

    /// After a check for `local_ufrag`: the fragment that need not be answered any more.
    pub(crate) fn confirm(&mut self, local_ufrag: &str) -> Option<String> {
        if local_ufrag != self.credentials.local_ufrag {
            return None;
        }
        self.previous
            .take()
            .map(|credentials| credentials.local_ufrag)
    }

    /// All fragments that are answered.
    pub(crate) fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        [Some(&self.credentials), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(|c| c.local_ufrag.as_str())
    }

    /// Notes an authenticated check. The latest nominated pair is selected; without nominations the first, until it was
    /// silent for a while (the participant's address was rebound).
    pub(crate) fn handle_check(
        &mut self,
        remote: SocketAddr,
        nomination: Nomination,
        now: Instant,
    ) -> Checked {
        self.last_check = now;
        self.consent_lost = false;
        let replaced = self.note(remote, now);
        let stale = || {
            let address = self
                .addresses
                .iter()
                .find(|address| Some(address.remote) == self.selected);
            address.is_none_or(|address| {
                now.saturating_duration_since(address.last_check) >= SELECTED_SILENT
            })
        };
        let selected = match self.selected {
            None => Some(Selected::First),
            Some(at) if at == remote => None,
            Some(_) if nomination == Nomination::Nominated || stale() => Some(Selected::Moved),
            Some(_) => None,
        };
        if selected.is_some() {
            self.selected = Some(remote);
        }
        Checked { replaced, selected }
    }

    fn note(&mut self, remote: SocketAddr, now: Instant) -> Option<SocketAddr> {
        if let Some(address) = self
            .addresses
            .iter_mut()
            .find(|address| address.remote == remote)
        {
            address.last_check = now;
            return None;
        }
        let address = Address {
            remote,
            last_check: now,
        };
        if self.addresses.len() < ADDRESSES_PER_TRANSPORT {
            self.addresses.push(address);
            return None;
        }
        let others = self
            .addresses
            .iter_mut()
            .filter(|address| Some(address.remote) != self.selected);
        let oldest = others.min_by_key(|address| address.last_check)?;
        Some(std::mem::replace(oldest, address).remote)
    }

    /// Where to send.
    pub(crate) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// Forgets an address that belongs to another transport now.
    pub(crate) fn forget(&mut self, remote: SocketAddr) {
        self.addresses.retain(|address| address.remote != remote);
        if self.selected == Some(remote) {
            self.selected = None;
        }
    }

    /// When consent ends unless a check arrives; `None` when it has ended.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        (!self.consent_lost).then(|| self.last_check + CONSENT)
    }

    /// Whether consent ends now. Its addresses are to be taken from the table then.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        let lost = self.poll_timeout().is_some_and(|at| at <= now);
        if lost {
            self.consent_lost = true;
            self.selected = None;
        }
        lost
    }

    /// Takes all addresses out.
    pub(crate) fn take_addresses(&mut self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.drain(..).map(|address| address.remote)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn credentials(local: &str) -> IceCredentials {
        IceCredentials {
            local_ufrag: local.into(),
            local_pwd: format!("{local}-pwd"),
            remote_ufrag: format!("{local}-peer"),
            remote_pwd: String::new(),
        }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn the_first_check_connects_and_a_nominated_one_moves() {
        let start = Instant::now();
        let mut ice = Ice::new(credentials("a"), start);
        let mut check = |port, nomination, s| {
            ice.handle_check(address(port), nomination, start + s * SECOND)
                .selected
        };
        assert_eq!(check(1, Nomination::Ordinary, 0), Some(Selected::First));
        assert_eq!(check(2, Nomination::Ordinary, 1), None);
        assert_eq!(check(2, Nomination::Nominated, 2), Some(Selected::Moved));
        assert_eq!(check(1, Nomination::Ordinary, 3), None);
        assert_eq!(
            check(1, Nomination::Ordinary, 9),
            Some(Selected::Moved),
            "the selected one has been silent"
        );
        assert_eq!(ice.selected(), Some(address(1)));
    }

    #[test]
    fn addresses_are_bounded_and_the_selected_one_stays() {
        let start = Instant::now();
        let mut ice = Ice::new(credentials("a"), start);
        for port in 1..=4 {
            assert_eq!(
                ice.handle_check(address(port), Nomination::Ordinary, start)
                    .replaced,
                None
            );
        }
        for port in 5..1000 {
            let replaced = ice
                .handle_check(
                    address(port),
                    Nomination::Ordinary,
                    start + u32::from(port) * SECOND / 1000,
                )
                .replaced;
            assert!(replaced.is_some_and(|gone| gone != address(1)));
        }
        assert_eq!(ice.addresses.len(), 4);
        assert_eq!(ice.selected(), Some(address(1)));
    }

    #[test]
    fn consent_ends_thirty_seconds_after_the_last_check_and_comes_back() {
        let start = Instant::now();
        let mut ice = Ice::new(credentials("a"), start);
        ice.handle_check(address(1), Nomination::Nominated, start + 5 * SECOND);
        assert!(!ice.handle_timeout(start + 34 * SECOND));
        assert!(ice.handle_timeout(start + 35 * SECOND));
        assert!(!ice.handle_timeout(start + 99 * SECOND), "said once");
        assert_eq!((ice.selected(), ice.poll_timeout()), (None, None));
        let again = ice.handle_check(address(1), Nomination::Ordinary, start + 100 * SECOND);
        assert_eq!(again.selected, Some(Selected::First));
    }

    #[test]
    fn a_restart_answers_the_old_credentials_until_the_new_ones_are_used() {
        let mut ice = Ice::new(credentials("a"), Instant::now());
        assert!(ice.key("a", "a-peer").is_some());
        assert!(ice.key("a", "b-peer").is_none());
        assert_eq!(ice.restart(credentials("b")), None);
        assert!(ice.key("a", "a-peer").is_some());
        assert!(ice.key("b", "b-peer").is_some());
        assert_eq!(ice.confirm("a"), None);
        assert_eq!(ice.confirm("b"), Some("a".into()));
        assert!(ice.key("a", "a-peer").is_none());
        assert_eq!(ice.confirm("b"), None);
    }

    #[test]
    fn a_second_restart_drops_what_was_never_used() {
        let mut ice = Ice::new(credentials("a"), Instant::now());
        assert_eq!(ice.restart(credentials("b")), None);
        assert_eq!(ice.restart(credentials("c")), Some("b".into()));
        assert_eq!(ice.local_ufrags().collect::<Vec<_>>(), ["c", "a"]);
    }
}
