//! The lite end of ICE (RFC 8445 §2.5): it answers checks, and believes in addresses that authenticated checks came from. A
//! transport that calls another lite end makes checks as well, which [`Controlling`] decides on; then it believes in answers.
//!
//! One transport's part is here; who a check belongs to is looked up by its user name in the shard's one table, who an answer
//! belongs to by its path in another.

use std::time::Instant;

use weir_wire::stun::{Key, TransactionId};

use crate::command::IceCredentials;
use crate::controlling::Controlling;
use crate::limits::{CONSENT, PATHS_PER_TRANSPORT, SELECTED_SILENT};
use crate::path::Path;

/// Credentials, paths and consent of one transport.
#[derive(Debug)]
pub(crate) struct Ice {
    credentials: Credentials,
    /// From before a restart, until a check with the new ones arrives.
    previous: Option<Credentials>,
    paths: Vec<Known>,
    selected: Option<Path>,
    /// The last authenticated check, or answer to one.
    last_check: Instant,
    consent_lost: bool,
    /// Set where this end makes checks itself.
    controlling: Option<Box<Controlling>>,
}

/// What a check is authenticated with.
#[derive(Debug)]
struct Credentials {
    local_ufrag: String,
    remote_ufrag: String,
    key: Key,
    /// What the checks of this end would be made with.
    remote_pwd: Box<str>,
}

impl Credentials {
    /// The user name of this end's checks (RFC 8445 §7.2.2).
    fn username(&self) -> String {
        format!("{}:{}", self.remote_ufrag, self.local_ufrag)
    }
}

impl From<IceCredentials> for Credentials {
    fn from(of: IceCredentials) -> Self {
        let key = Key::new(&of.local_pwd);
        Self {
            local_ufrag: of.local_ufrag,
            remote_ufrag: of.remote_ufrag,
            key,
            remote_pwd: of.remote_pwd.into(),
        }
    }
}

/// A path, and when a check or an answer last came on it.
#[derive(Clone, Copy, Debug)]
struct Known {
    path: Path,
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
    /// This path had to make room.
    pub(crate) replaced: Option<Path>,
    pub(crate) selected: Option<Selected>,
}

/// The selected path is another now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    /// There was none.
    First,
    /// It was another.
    Moved,
}

/// What is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing may be sent any more, and this end checks nothing. The paths are to be taken from the table.
    Consent,
    /// After a restart no address answers; what is selected may be sent to until consent ends.
    Looking,
}

impl Ice {
    pub(crate) fn new(credentials: IceCredentials, now: Instant) -> Self {
        let paths = Vec::with_capacity(PATHS_PER_TRANSPORT);
        Self {
            credentials: credentials.into(),
            previous: None,
            paths,
            selected: None,
            last_check: now,
            consent_lost: false,
            controlling: None,
        }
    }

    /// Makes this end the controlling one. `secret` gives what its ids are made with.
    pub(crate) fn control(&mut self, secret: impl FnOnce() -> Key) {
        let of = &self.credentials;
        self.controlling.get_or_insert_with(|| {
            Box::new(Controlling::new(&of.username(), &of.remote_pwd, secret()))
        });
    }

    /// Begins to check these paths; what is selected stays until there is an answer on one of them.
    pub(crate) fn look(&mut self, paths: &[Path], now: Instant) {
        if self.selected.is_none() {
            self.last_check = now;
            self.consent_lost = false;
        }
        if let Some(controlling) = &mut self.controlling {
            controlling.look(paths, now);
        }
    }

    /// What this end does as the controlling one, if it is.
    pub(crate) fn controlling(&self) -> Option<&Controlling> {
        self.controlling.as_deref()
    }

    pub(crate) fn controlling_mut(&mut self) -> Option<&mut Controlling> {
        self.controlling.as_deref_mut()
    }

    /// Takes new credentials; returns the fragment that is no longer answered, if a restart was already under way.
    pub(crate) fn restart(&mut self, credentials: IceCredentials) -> Option<String> {
        let replaced = std::mem::replace(&mut self.credentials, credentials.into());
        if let Some(controlling) = &mut self.controlling {
            let of = &self.credentials;
            controlling.restart(&of.username(), &of.remote_pwd);
        }
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

    /// Whether an authenticated check says anything: not where this end makes the checks and none of them is answered (any more).
    pub(crate) fn believes_checks(&self) -> bool {
        self.controlling.is_none() || self.selected.is_some()
    }

    /// Notes an authenticated check. The latest nominated pair is selected; without nominations the first, until it was
    /// silent for a while (the participant's address was rebound). None of these where this end nominates.
    pub(crate) fn handle_check(
        &mut self,
        path: Path,
        nomination: Nomination,
        now: Instant,
    ) -> Checked {
        self.last_check = now;
        self.consent_lost = false;
        let replaced = self.note(path, now);
        if self.controlling.is_some() {
            return Checked {
                replaced,
                selected: None,
            };
        }
        let stale = || {
            let known = self
                .paths
                .iter()
                .find(|known| Some(known.path) == self.selected);
            known.is_none_or(|known| {
                now.saturating_duration_since(known.last_check) >= SELECTED_SILENT
            })
        };
        let selected = match self.selected {
            None => Some(Selected::First),
            Some(at) if at == path => None,
            Some(_) if nomination == Nomination::Nominated || stale() => Some(Selected::Moved),
            Some(_) => None,
        };
        if selected.is_some() {
            self.selected = Some(path);
        }
        Checked { replaced, selected }
    }

    /// Notes an authenticated answer that was awaited: the path that it came on is selected.
    pub(crate) fn handle_answer(&mut self, path: Path, id: TransactionId, now: Instant) -> Checked {
        self.last_check = now;
        self.consent_lost = false;
        if let Some(controlling) = &mut self.controlling {
            controlling.handle_answer(path, id, now);
        }
        let replaced = self.note(path, now);
        let selected = match self.selected.replace(path) {
            None => Some(Selected::First),
            Some(before) if before == path => None,
            Some(_) => Some(Selected::Moved),
        };
        Checked { replaced, selected }
    }

    fn note(&mut self, path: Path, now: Instant) -> Option<Path> {
        if let Some(known) = self.paths.iter_mut().find(|known| known.path == path) {
            known.last_check = now;
            return None;
        }
        let known = Known {
            path,
            last_check: now,
        };
        if self.paths.len() < PATHS_PER_TRANSPORT {
            self.paths.push(known);
            return None;
        }
        let others = self
            .paths
            .iter_mut()
            .filter(|known| Some(known.path) != self.selected);
        let oldest = others.min_by_key(|known| known.last_check)?;
        Some(std::mem::replace(oldest, known).path)
    }

    /// Where to send, and from where.
    pub(crate) fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Forgets a path that belongs to another transport now.
    pub(crate) fn forget(&mut self, path: Path) {
        self.paths.retain(|known| known.path != path);
        if self.selected == Some(path) {
            self.selected = None;
        }
    }

    /// When consent ends unless a check or an answer arrives; `None` when it has ended.
    fn consent_until(&self) -> Option<Instant> {
        (!self.consent_lost).then(|| self.last_check + CONSENT)
    }

    /// When something is due: the end of consent, or a check of this end.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let checks = self.controlling.as_ref().and_then(|of| of.poll_timeout());
        self.consent_until().into_iter().chain(checks).min()
    }

    /// What ends now, if anything.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Option<Ended> {
        let controlling = self.controlling.as_mut();
        let given_up = controlling.is_some_and(|of| of.gives_up(now));
        let over = self.consent_until().is_some_and(|at| at <= now);
        if over || (given_up && self.selected.is_none()) {
            self.consent_lost = true;
            self.selected = None;
            if let Some(controlling) = &mut self.controlling {
                controlling.end();
            }
            return Some(Ended::Consent);
        }
        given_up.then_some(Ended::Looking)
    }

    /// Takes all paths out.
    pub(crate) fn take_paths(&mut self) -> impl Iterator<Item = Path> {
        self.paths.drain(..).map(|known| known.path)
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

    fn address(port: u16) -> Path {
        Path::listening(([192, 0, 2, 1], port).into())
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
        assert_eq!(ice.paths.len(), 4);
        assert_eq!(ice.selected(), Some(address(1)));
    }

    #[test]
    fn consent_ends_thirty_seconds_after_the_last_check_and_comes_back() {
        let start = Instant::now();
        let mut ice = Ice::new(credentials("a"), start);
        ice.handle_check(address(1), Nomination::Nominated, start + 5 * SECOND);
        assert_eq!(ice.handle_timeout(start + 34 * SECOND), None);
        assert_eq!(
            ice.handle_timeout(start + 35 * SECOND),
            Some(Ended::Consent)
        );
        assert_eq!(ice.handle_timeout(start + 99 * SECOND), None, "said once");
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

    /// A transport that checks `address(1)` and `address(2)`, and the check that it sent to the first.
    fn looking(start: Instant) -> (Ice, TransactionId) {
        let mut ice = Ice::new(credentials("a"), start);
        ice.control(|| Key::new("secret"));
        ice.look(&[address(1), address(2)], start);
        let check = ice.controlling_mut().unwrap().poll_check(start).unwrap();
        assert_eq!(check.path, address(1));
        (ice, check.id)
    }

    #[test]
    fn an_answer_selects_where_checks_of_the_other_end_do_not() {
        let start = Instant::now();
        let (mut ice, id) = looking(start);
        assert!(!ice.believes_checks());
        let answered = ice.handle_answer(address(1), id, start + SECOND);
        assert_eq!(answered.selected, Some(Selected::First));
        assert!(ice.believes_checks());
        let checked = ice.handle_check(address(9), Nomination::Nominated, start + 9 * SECOND);
        assert_eq!(checked.selected, None);
        assert_eq!(ice.selected(), Some(address(1)));
        assert_eq!(
            ice.handle_timeout(start + 38 * SECOND),
            None,
            "the check renewed consent"
        );
        assert_eq!(
            ice.handle_timeout(start + 39 * SECOND),
            Some(Ended::Consent)
        );
        assert_eq!(ice.poll_timeout(), None, "nothing more is checked");
    }

    #[test]
    fn without_any_answer_consent_ends_early_and_after_a_restart_when_it_would_have() {
        let start = Instant::now();
        let (mut ice, _) = looking(start);
        assert_eq!(ice.handle_timeout(start + 9 * SECOND), None);
        assert_eq!(
            ice.handle_timeout(start + 10 * SECOND),
            Some(Ended::Consent)
        );
        assert_eq!(ice.handle_timeout(start + 31 * SECOND), None, "said once");

        let (mut ice, id) = looking(start);
        ice.handle_answer(address(1), id, start);
        ice.restart(credentials("b"));
        ice.look(&[address(2)], start + SECOND);
        assert_eq!(
            ice.handle_timeout(start + 11 * SECOND),
            Some(Ended::Looking)
        );
        assert_eq!(ice.selected(), Some(address(1)));
        assert_eq!(
            ice.handle_timeout(start + 30 * SECOND),
            Some(Ended::Consent)
        );
    }

    #[test]
    fn an_answer_after_a_restart_may_move() {
        let start = Instant::now();
        let (mut ice, id) = looking(start);
        ice.handle_answer(address(1), id, start);
        ice.restart(credentials("b"));
        ice.look(&[address(2)], start + SECOND);
        let check = ice
            .controlling_mut()
            .unwrap()
            .poll_check(start + SECOND)
            .unwrap();
        let moved = ice.handle_answer(check.path, check.id, start + SECOND);
        assert_eq!(moved.selected, Some(Selected::Moved));
        assert_eq!(ice.selected(), Some(address(2)));
    }

    #[test]
    fn a_second_restart_drops_what_was_never_used() {
        let mut ice = Ice::new(credentials("a"), Instant::now());
        assert_eq!(ice.restart(credentials("b")), None);
        assert_eq!(ice.restart(credentials("c")), Some("b".into()));
        assert_eq!(ice.local_ufrags().collect::<Vec<_>>(), ["c", "a"]);
    }
}
