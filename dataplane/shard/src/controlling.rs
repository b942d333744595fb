//! The end of ICE that makes the checks (RFC 8445 §7.2.2): when a focus calls another, which is lite and only answers.
//!
//! ```text
//! look ─► Looking ── an answer ─► Keeping ── consent ends ─► Ended ── look ─► …
//!            └───── nobody answers ────────────────────────────►┘
//! ```
//! What is due and what is awaited is decided here; the shard sends, and looks at the integrity of what comes back. Every check
//! nominates: a lite agent sends no checks that could show a better pair, so the first that answers is the one to use.

use std::time::{Duration, Instant};

use weir_wire::NoRoom;
use weir_wire::stun::{BindingRequest, Key, Role, TransactionId};

use crate::limits::{
    CHECK_PACE, CHECK_RETRY, CHECK_RETRY_MAX, CHECKS_GIVEN_UP, CONSENT_CHECK_MIN,
    CONSENT_CHECK_SPREAD, REMOTES_MAX,
};
use crate::path::Path;

/// What a peer-reflexive candidate would get (RFC 8445 §5.1.2.1): type preference 110, one local address, component 1.
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// Consent checks that an answer may still come to: the newest and the one before, which covers round trips of 4 s.
const AWAITED: usize = 2;

/// The checks of one transport.
#[derive(Debug)]
pub(crate) struct Controlling {
    /// `remote:local` fragments, and the remote end's password.
    username: Box<str>,
    key: Key,
    tie_breaker: u64,
    ids: Ids,
    /// Everything that was ever to be checked, for when it begins anew.
    paths: Vec<Path>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Asks each until one answers.
    Looking {
        pairs: Vec<Pair>,
        /// Pacing: no check leaves before.
        next: Instant,
        until: Instant,
    },
    /// Asks the one that answered, so that the consent of both ends lasts (RFC 7675).
    Keeping {
        path: Path,
        next: Instant,
        awaited: [Option<TransactionId>; AWAITED],
    },
    /// Nobody answered, or does any more.
    Ended,
}

/// One path while it is not known who answers.
#[derive(Clone, Copy, Debug)]
struct Pair {
    path: Path,
    id: TransactionId,
    next: Instant,
    retry: Duration,
}

/// Transaction ids. Whoever sees them cannot tell the next, nor what the shard draws its other numbers from.
#[derive(Debug)]
struct Ids {
    secret: Key,
    drawn: u64,
}

impl Ids {
    fn next(&mut self) -> TransactionId {
        self.drawn += 1;
        TransactionId::derived(&self.secret, self.drawn)
    }
}

/// A check that is to leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) path: Path,
    pub(crate) id: TransactionId,
}

impl Controlling {
    /// Checks nothing yet. `secret` makes the transaction ids and the tie-breaker.
    pub(crate) fn new(username: &str, remote_pwd: &str, secret: Key) -> Self {
        let mut ids = Ids { secret, drawn: 0 };
        let TransactionId([tie_breaker @ .., _, _, _, _]) = ids.next();
        Self {
            username: username.into(),
            key: Key::new(remote_pwd),
            tie_breaker: u64::from_be_bytes(tie_breaker),
            ids,
            paths: Vec::with_capacity(REMOTES_MAX),
            phase: Phase::Ended,
        }
    }

    /// From the next check on with other credentials; answers to earlier ones count no more.
    pub(crate) fn restart(&mut self, username: &str, remote_pwd: &str) {
        self.username = username.into();
        self.key = Key::new(remote_pwd);
        self.phase = Phase::Ended;
    }

    /// Looks on which of `paths` there is an answer, the first ones first.
    pub(crate) fn look(&mut self, paths: &[Path], now: Instant) {
        self.paths.clear();
        self.paths.extend(paths.iter().take(REMOTES_MAX));
        let ids = &mut self.ids;
        let pair = |path: &Path| Pair {
            path: *path,
            id: ids.next(),
            next: now,
            retry: CHECK_RETRY,
        };
        let pairs: Vec<_> = self.paths.iter().map(pair).collect();
        let patience = if pairs.is_empty() {
            Duration::ZERO
        } else {
            CHECKS_GIVEN_UP
        };
        self.phase = Phase::Looking {
            pairs,
            next: now,
            until: now + patience,
        };
    }

    /// What is or was checked.
    pub(crate) fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// The key that an answer on `path` must be made with, if one is awaited there under this id.
    pub(crate) fn awaits(&self, path: Path, id: TransactionId) -> Option<&Key> {
        let awaited = match &self.phase {
            Phase::Looking { pairs, .. } => {
                pairs.iter().any(|pair| (pair.path, pair.id) == (path, id))
            }
            Phase::Keeping {
                path: kept,
                awaited,
                ..
            } => *kept == path && awaited.contains(&Some(id)),
            Phase::Ended => false,
        };
        awaited.then_some(&self.key)
    }

    /// Takes an answer that was awaited and is authentic. It counts once.
    pub(crate) fn handle_answer(&mut self, path: Path, id: TransactionId, now: Instant) {
        match &mut self.phase {
            Phase::Looking { .. } => {
                self.phase = Phase::Keeping {
                    path,
                    next: now + consent_interval(id),
                    awaited: [None; AWAITED],
                };
            }
            Phase::Keeping { awaited, .. } => {
                if let Some(place) = awaited.iter_mut().find(|of| **of == Some(id)) {
                    *place = None;
                }
            }
            Phase::Ended => {}
        }
    }

    /// When [`Controlling::poll_check`] or [`Controlling::gives_up`] has something to say.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Looking { pairs, next, until } => {
                let due = pairs.iter().map(|pair| pair.next).min();
                Some(due.map_or(*until, |due| due.max(*next).min(*until)))
            }
            Phase::Keeping { next, .. } => Some(*next),
            Phase::Ended => None,
        }
    }

    /// Whether nobody has answered for too long: said once.
    pub(crate) fn gives_up(&mut self, now: Instant) -> bool {
        let gives_up = matches!(&self.phase, Phase::Looking { until, .. } if *until <= now);
        if gives_up {
            self.end();
        }
        gives_up
    }

    /// Checks nothing more.
    pub(crate) fn end(&mut self) {
        self.phase = Phase::Ended;
    }

    /// The check that is due, at most one at a time.
    pub(crate) fn poll_check(&mut self, now: Instant) -> Option<Check> {
        match &mut self.phase {
            Phase::Looking { pairs, next, .. } if *next <= now => {
                let pair = pairs.iter_mut().min_by_key(|pair| pair.next)?;
                if pair.next > now {
                    return None;
                }
                *next = now + CHECK_PACE;
                pair.next = now + pair.retry;
                pair.retry = (2 * pair.retry).min(CHECK_RETRY_MAX);
                Some(Check {
                    path: pair.path,
                    id: pair.id,
                })
            }
            Phase::Keeping {
                path,
                next,
                awaited,
            } if *next <= now => {
                let id = self.ids.next();
                *next = now + consent_interval(id);
                awaited.rotate_right(1);
                awaited[0] = Some(id);
                Some(Check { path: *path, id })
            }
            _ => None,
        }
    }

    /// Writes a check, and says how many bytes it has.
    pub(crate) fn emit(&self, check: Check, out: &mut [u8]) -> Result<usize, NoRoom> {
        let tie_breaker = self.tie_breaker;
        let request = BindingRequest {
            transaction_id: check.id,
            username: &self.username,
            priority: PRIORITY,
            role: Role::Controlling { tie_breaker },
            use_candidate: true,
        };
        request.emit(&self.key, out)
    }
}

/// Until the next consent check, which the id of this one decides: many that began together do not stay together.
fn consent_interval(id: TransactionId) -> Duration {
    let TransactionId([.., a, b, c, d]) = id;
    let spread_ms = CONSENT_CHECK_SPREAD.as_millis() as u32 + 1;
    CONSENT_CHECK_MIN + Duration::from_millis((u32::from_be_bytes([a, b, c, d]) % spread_ms).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn address(port: u16) -> Path {
        Path::listening(([192, 0, 2, 1], port).into())
    }

    fn controlling(seed: &str) -> Controlling {
        Controlling::new("far:near", "the password of the far end", Key::new(seed))
    }

    /// All checks until `end`, with the milliseconds since `start` at which they leave.
    fn checks(of: &mut Controlling, start: Instant, end: Instant) -> Vec<(u128, Check)> {
        let mut all = Vec::new();
        while let Some(at) = of.poll_timeout().filter(|at| *at < end) {
            let before = all.len();
            all.extend(
                of.poll_check(at)
                    .map(|check| ((at - start).as_millis(), check)),
            );
            assert!(of.gives_up(at) || all.len() > before, "woken for nothing");
        }
        all
    }

    #[test]
    fn checks_are_paced_and_repeated_ever_more_slowly_under_one_id() {
        let start = Instant::now();
        let mut of = controlling("a");
        of.look(&[address(1), address(2)], start);
        let sent = checks(&mut of, start, start + 9 * 1000 * MS);
        let of_port = |port| {
            let of = sent.iter().filter(|(_, check)| check.path == address(port));
            of.map(|(at, check)| (*at, check.id))
                .unzip::<_, _, Vec<_>, Vec<_>>()
        };
        let ((first, first_ids), (second, second_ids)) = (of_port(1), of_port(2));
        assert_eq!(first, [0, 500, 1500, 3500, 5500, 7500]);
        assert_eq!(second, [50, 550, 1550, 3550, 5550, 7550]);
        assert!(first_ids.iter().all(|id| *id == first_ids[0]));
        assert!(
            second_ids
                .iter()
                .all(|id| *id == second_ids[0] && *id != first_ids[0])
        );
    }

    #[test]
    fn gives_up_once_after_ten_seconds_and_at_once_without_anybody_to_ask() {
        let start = Instant::now();
        let mut of = controlling("a");
        of.look(&[address(1)], start);
        assert!(!of.gives_up(start + 9999 * MS));
        assert!(of.gives_up(start + 10_000 * MS));
        assert!(!of.gives_up(start + 10_000 * MS));
        assert_eq!(
            (of.poll_timeout(), of.poll_check(start + 11_000 * MS)),
            (None, None)
        );
        of.look(&[], start);
        assert_eq!(of.poll_timeout(), Some(start));
        assert!(of.gives_up(start));
    }

    #[test]
    fn only_an_awaited_id_from_its_own_address_counts() {
        let start = Instant::now();
        let mut of = controlling("a");
        of.look(&[address(1), address(2)], start);
        let first = of.poll_check(start).unwrap();
        assert!(of.awaits(address(1), first.id).is_some());
        assert!(of.awaits(address(2), first.id).is_none());
        assert!(of.awaits(address(3), first.id).is_none());
        assert!(of.awaits(address(1), TransactionId([0; 12])).is_none());
        of.handle_answer(address(1), first.id, start);
        assert!(of.awaits(address(1), first.id).is_none(), "it counts once");
        let later = checks(&mut of, start, start + 60 * 1000 * MS);
        assert!(later.iter().all(|(_, check)| check.path == address(1)));
    }

    #[test]
    fn consent_checks_come_every_four_to_six_seconds_and_an_answer_to_the_last_two_counts() {
        let start = Instant::now();
        let mut of = controlling("a");
        of.look(&[address(1)], start);
        let first = of.poll_check(start).unwrap();
        of.handle_answer(address(1), first.id, start);
        let sent = checks(&mut of, start, start + 600 * 1000 * MS);
        let mut gaps: Vec<_> = sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!((100..=150).contains(&gaps.len()), "{}", gaps.len());
        assert!(
            gaps.iter().all(|gap| (4000..=6000).contains(gap)),
            "{gaps:?}"
        );
        gaps.sort_unstable();
        gaps.dedup();
        assert!(gaps.len() > 80, "they are drawn anew");
        let ids: Vec<_> = sent.iter().rev().map(|(_, check)| check.id).collect();
        assert!(of.awaits(address(1), ids[0]).is_some());
        assert!(of.awaits(address(1), ids[1]).is_some());
        assert!(of.awaits(address(1), ids[2]).is_none());
    }

    #[test]
    fn no_more_remotes_are_checked_than_the_limit() {
        let start = Instant::now();
        let mut of = controlling("a");
        of.look(&[1, 2, 3, 4, 5, 6, 7, 8, 9].map(address), start);
        assert_eq!(of.paths(), [1, 2, 3, 4, 5, 6, 7, 8].map(address));
        let sent = checks(&mut of, start, start + 400 * MS);
        let ports: Vec<_> = sent
            .iter()
            .map(|(_, check)| check.path.remote.port())
            .collect();
        assert_eq!(ports, [1, 2, 3, 4, 5, 6, 7, 8], "each has its turn");
    }

    #[test]
    fn a_restart_makes_earlier_checks_worthless() {
        let start = Instant::now();
        let mut of = controlling("a");
        of.look(&[address(1)], start);
        let before = of.poll_check(start).unwrap();
        of.restart("far2:near2", "another password");
        assert!(of.awaits(address(1), before.id).is_none());
        of.look(&[address(1)], start);
        let after = of.poll_check(start).unwrap();
        assert_ne!(after.id, before.id);
        let mut out = [0; weir_wire::stun::MESSAGE_BYTES_MAX];
        let len = of.emit(after, &mut out).unwrap();
        let request = weir_wire::stun::Message::parse(&out[..len]).unwrap();
        assert_eq!(request.ufrags(), Some(("far2", "near2")));
        assert_eq!(
            request.check_integrity(&Key::new("another password")),
            Ok(())
        );
    }

    #[test]
    fn a_check_is_what_a_lite_agent_needs() {
        let start = Instant::now();
        let mut of = controlling("a");
        of.look(&[address(1)], start);
        let check = of.poll_check(start).unwrap();
        let mut out = [0; weir_wire::stun::MESSAGE_BYTES_MAX];
        let len = of.emit(check, &mut out).unwrap();
        let request = weir_wire::stun::Message::parse(&out[..len]).unwrap();
        assert_eq!(request.class(), weir_wire::stun::Class::Request);
        assert_eq!(request.transaction_id(), check.id);
        assert_eq!(request.ufrags(), Some(("far", "near")));
        assert_eq!(request.priority(), Some(1_862_270_975));
        assert!(request.use_candidate());
        assert!(matches!(request.role(), Some(Role::Controlling { .. })));
        assert_eq!(request.check_fingerprint(), Some(true));
        let key = Key::new("the password of the far end");
        assert_eq!(request.check_integrity(&key), Ok(()));
    }
}
