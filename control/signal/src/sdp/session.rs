//! The focus's end of one peer connection in SDP terms: what was agreed, what is wanted, and the descriptions in between.
//!
//! # Kinds of calls
//! * Input from the participant: [`Session::handle_offer`], [`Session::handle_answer`].
//! * Wishes of the conference: [`Session::send_track`], [`Session::stop_track`], [`Session::forget_track`]. They take effect with
//!   the next own offer: while [`Session::needs_offer`], call [`Session::create_offer`] and send it. At most one is outstanding.
//! * What is agreed now: [`Session::published`] (participant to focus), [`Session::sending`] (focus to participant),
//!   [`Session::remote`]. Look again after every `handle_*`.
//!
//! Towards participants the focus is ICE-lite (RFC 8445 §2.5) and the DTLS server; it bundles everything on one transport.
//!
//! # Between two foci
//! Both ends of a trunk are sessions: [`Session::calling`] on the side that calls, [`Session::called_by_focus`] on the other. The
//! calling side makes the connectivity checks, is the DTLS client, and is the impolite side: of two offers that cross, the called
//! side's is dropped by both. Either side may send any codec that foci forward.

use std::collections::{BTreeMap, BTreeSet};

use super::agreed::Agreed;
use super::line::{Line, Maker, Purpose};
use super::parse::is_token;
use super::write::{self, Body, Head, Role};
use super::{
    Candidate, Description, ExtensionIds, Fingerprint, IceCredentials, LocalParameters, MediaKind,
    Offered, Published, Remote, SdpError, Section, SendTrack, Sending, Setup,
};
use crate::limits::SECTIONS_MAX;

/// Begins the mids of own sections; browsers count theirs from 0, so that both sides can make sections without asking.
const OWN_MID_PREFIX: &str = "w";

/// The same on the calling side of a trunk.
const CALLING_MID_PREFIX: &str = "c";

/// The focus's end of one peer connection.
#[derive(Debug)]
pub struct Session {
    local: LocalParameters,
    candidates: Vec<Candidate>,
    /// To be used at the next ICE restart.
    next_ice: Option<IceCredentials>,
    session_version: u64,
    end: End,
    remote: Option<Remote>,
    agreed: Agreed,
    /// What holds if the outstanding offer is answered. Rolling back is dropping it.
    pending: Option<Vec<Line>>,
    wishes: BTreeMap<u32, Wish>,
}

/// Which end of the connection the session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// A participant or another focus has called.
    Called,
    /// This focus has called another.
    Calling,
}

/// A track that the conference has asked to be sent at some time.
#[derive(Debug)]
struct Wish {
    track: SendTrack,
    state: WishState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WishState {
    Wanted,
    Stopped,
    /// The participant rejected the section; it is not asked again until the conference wishes again.
    Refused,
}

impl Session {
    /// A session that waits for the participant's first offer.
    pub fn new(local: LocalParameters) -> Session {
        Session::at(End::Called, Agreed::default(), local)
    }

    /// A session that waits for another focus's first offer.
    pub fn called_by_focus(local: LocalParameters) -> Session {
        Session::at(End::Called, Agreed::between_foci(), local)
    }

    /// A session that calls another focus. Its first offer is due: it has the data channel and nothing else.
    pub fn calling(local: LocalParameters) -> Session {
        let mut agreed = Agreed::between_foci();
        agreed.lines.push(Line::data_channel("d".to_owned()));
        Session::at(End::Calling, agreed, local)
    }

    fn at(end: End, agreed: Agreed, local: LocalParameters) -> Session {
        let addresses = (0_u16..).zip(&local.addresses);
        let candidates = addresses
            .map(|(index, address)| Candidate::host(*address, index))
            .collect();
        Session {
            local,
            candidates,
            next_ice: None,
            session_version: 0,
            end,
            remote: None,
            agreed,
            pending: None,
            wishes: BTreeMap::new(),
        }
    }

    /// Whether `sdp` is an offer that begins a new ICE generation; then call [`Session::set_local_ice`] before
    /// [`Session::handle_offer`]. False for the first offer and for what cannot be read.
    pub fn restarts_ice(&self, sdp: &str) -> bool {
        let Some(remote) = &self.remote else {
            return false;
        };
        Description::parse(sdp)
            .ok()
            .and_then(|offer| offer.ice().cloned())
            .is_some_and(|ice| ice != remote.ice)
    }

    /// Own credentials to be used if the next offer restarts ICE.
    pub fn set_local_ice(&mut self, ice: IceCredentials) {
        self.next_ice = Some(ice);
    }

    /// The own credentials now in use.
    pub fn local_ice(&self) -> &IceCredentials {
        &self.local.ice
    }

    /// The own candidates, as they stand in every description; for those who want them trickled as well.
    pub fn local_candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Takes an offer, the first or a later one, and gives the answer. An own outstanding offer is rolled back first: the
    /// participant is the impolite side and has dropped it. On an error nothing has changed.
    ///
    /// Where [`Session::is_impolite`], an offer that crosses an own one is not to be taken.
    pub fn handle_offer(&mut self, sdp: &str) -> Result<Offered, SdpError> {
        let offer = Description::parse(sdp)?;
        let mut agreed = self.agreed.clone();
        agreed.take_offer(&offer)?;
        let remote = self.remote_of(&offer, &agreed.lines)?;
        if !matches!(remote.setup, None | Some(Setup::ActPass | Setup::Active)) {
            return Err(SdpError::Setup);
        }
        let remote = remote.remote;
        let ice_restarted = self
            .remote
            .as_ref()
            .is_some_and(|known| known.ice != remote.ice);

        if ice_restarted && let Some(ice) = self.next_ice.take() {
            self.local.ice = ice;
        }
        self.remote = Some(remote);
        let rolled_back = self.pending.take().is_some();
        for line in &mut agreed.lines {
            let wanted = wanted_ssrc(&self.wishes, line);
            line.sending = wanted.is_some() && line.remote.receives;
            if line.sending || wanted.is_none() {
                line.proposed = wanted;
            }
        }
        self.agreed = agreed;
        self.release_lines();
        self.refuse_thrown_out();
        let role = match self.end {
            End::Called => Role::Passive,
            End::Calling => Role::Active,
        };
        let answer = self.write(&self.agreed.lines, role, |line| line.sending);
        self.session_version += 1;
        Ok(Offered {
            answer,
            ice_restarted,
            rolled_back,
        })
    }

    /// The participant's end; `None` before the first offer.
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// How many sections for audio or video there are, in either direction; rejected ones do not count.
    pub fn media_sections(&self) -> usize {
        let lines = self.agreed.lines.iter();
        lines
            .filter(|line| matches!(line.purpose, Purpose::Media(_)) && !line.rejected)
            .count()
    }

    /// Tracks of the participant, one per section that has ever had one, in the order of the sections. A track that was there
    /// before and is not any more, or is not active, is to be unpublished.
    pub fn published(&self) -> Vec<Published> {
        let all = &self.agreed.lines;
        // A track that has moved to another section is published there.
        let moved = |line: &Line| {
            !line.remote.sends
                && all.iter().any(|other| {
                    other.remote.sends && other.remote.track_id == line.remote.track_id
                })
        };
        let lines = all
            .iter()
            .filter(|line| line.remote.has_sent && !moved(line));
        let published = lines.filter_map(|line| {
            let Purpose::Media(kind) = line.purpose else {
                return None;
            };
            let remote = &line.remote;
            Some(Published {
                mid: line.mid.clone(),
                kind,
                stream_id: self
                    .agreed
                    .first_streams
                    .get(&remote.track_id)
                    .unwrap_or(&remote.stream_id)
                    .clone(),
                current_stream_id: remote.stream_id.clone(),
                track_id: remote.track_id.clone(),
                rids: remote.rids.clone(),
                codecs: line.mappings(),
                extensions: ExtensionIds::of(&line.extmaps),
                ssrcs: remote.ssrcs.clone(),
                rtx_ssrcs: remote.rtx_ssrcs.clone(),
                active: remote.sends,
            })
        });
        published.collect()
    }

    /// Wants a track to be sent (again). Ids that cannot be written into SDP are refused with `false`.
    pub fn send_track(&mut self, track: SendTrack) -> bool {
        let writable = [&track.stream_id, &track.track_id, &track.cname]
            .into_iter()
            .all(|id| is_token(id));
        if writable {
            self.wishes.insert(
                track.key,
                Wish {
                    track,
                    state: WishState::Wanted,
                },
            );
        }
        writable
    }

    /// Wants a track no longer to be sent; its section stays reserved for it.
    pub fn stop_track(&mut self, key: u32) {
        if let Some(wish) = self.wishes.get_mut(&key) {
            wish.state = WishState::Stopped;
        }
    }

    /// The track does not exist any more and is not advertised to the participant any more: stops it and lets another track have
    /// its section, once the participant has agreed that nothing is sent there.
    ///
    /// In a section that is used again, a browser's `MediaStreamTrack` keeps the id of the section's first track (seen in Chromium
    /// 156): who binds media to metadata does it by `a=msid`, as the reference client does, or by the section, not by that id.
    pub fn forget_track(&mut self, key: u32) {
        self.wishes.remove(&key);
        self.release_lines();
    }

    /// Whether wishes differ from what was last proposed, and no offer is outstanding.
    pub fn needs_offer(&self) -> bool {
        if self.remote.is_none() || self.pending.is_some() {
            return false;
        }
        let bound: BTreeSet<u32> = self
            .agreed
            .lines
            .iter()
            .filter_map(|line| line.bound)
            .collect();
        let differs = self
            .agreed
            .lines
            .iter()
            .any(|line| line.proposed != wanted_ssrc(&self.wishes, line));
        differs || (self.unbound_wishes(&bound).next().is_some() && self.has_room())
    }

    /// Whether an own offer waits for its answer.
    pub fn offer_outstanding(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the other side drops its offer where two cross: this side has called a focus.
    pub fn is_impolite(&self) -> bool {
        self.end == End::Calling
    }

    /// An own offer with all wishes; `None` while one is outstanding or, on the called side, before the first offer.
    pub fn create_offer(&mut self) -> Option<String> {
        let waits = self.end == End::Called && self.remote.is_none();
        if waits || self.pending.is_some() {
            return None;
        }
        let mut lines = self.agreed.lines.clone();
        self.bind_wishes(&mut lines);
        for line in &mut lines {
            line.proposed = wanted_ssrc(&self.wishes, line);
        }
        let offer = self.write(&lines, Role::ActPass, |line| line.proposed.is_some());
        self.session_version += 1;
        self.pending = Some(lines);
        Some(offer)
    }

    /// Takes the answer to the outstanding offer. On an error the offer stays outstanding. The first answer tells the calling side
    /// who the other one is.
    pub fn handle_answer(&mut self, sdp: &str) -> Result<(), SdpError> {
        let pending = self.pending.as_ref().ok_or(SdpError::NoOffer)?;
        let answer = Description::parse(sdp)?;
        if answer.sections.len() != pending.len() {
            return Err(SdpError::Sections);
        }
        let mut lines = pending.clone();
        for (line, section) in lines.iter_mut().zip(&answer.sections) {
            // Some authors leave the mid out of what they reject.
            if section.mid.as_ref().is_some_and(|mid| *mid != line.mid)
                || (section.mid.is_none() && section.port != 0)
            {
                return Err(SdpError::Sections);
            }
            line.check_kind(section)?;
            if !line.rejected {
                line.take_answer(section);
            }
        }
        if self.remote.is_none() {
            let remote = self.remote_of(&answer, &lines)?;
            if remote.setup != Some(Setup::Passive) {
                return Err(SdpError::Setup);
            }
            self.remote = Some(remote.remote);
        }
        self.pending = None;
        self.agreed.lines = lines;
        self.agreed.learn_streams();
        self.release_lines();
        self.refuse_thrown_out();
        Ok(())
    }

    /// Withdraws the outstanding offer, if any.
    pub fn rollback(&mut self) {
        self.pending = None;
    }

    /// What has been agreed to be sent and is still wanted, in the order of the sections.
    pub fn sending(&self) -> Vec<Sending> {
        let lines = self
            .agreed
            .lines
            .iter()
            .filter(|line| line.sending && wanted_ssrc(&self.wishes, line).is_some());
        let sending = lines.filter_map(|line| {
            Some(Sending {
                key: line.bound?,
                mid: line.mid.clone(),
                codecs: line.mappings(),
                extensions: ExtensionIds::of(&line.extmaps),
            })
        });
        sending.collect()
    }

    /// Whether another own section is within the limits.
    fn has_room(&self) -> bool {
        self.agreed.lines.len() < SECTIONS_MAX
    }

    fn unbound_wishes<'a>(
        &'a self,
        bound: &'a BTreeSet<u32>,
    ) -> impl Iterator<Item = &'a SendTrack> {
        let wanted = self
            .wishes
            .values()
            .filter(|wish| wish.state == WishState::Wanted);
        wanted
            .map(|wish| &wish.track)
            .filter(|track| !bound.contains(&track.key))
    }

    /// Gives every wanted track a section: its own from before, a free one, or a new one.
    fn bind_wishes(&mut self, lines: &mut Vec<Line>) {
        let bound: BTreeSet<u32> = lines.iter().filter_map(|line| line.bound).collect();
        let unbound: Vec<(u32, MediaKind)> = self
            .unbound_wishes(&bound)
            .map(|track| (track.key, track.kind))
            .collect();
        for (key, kind) in unbound {
            let codecs = self.agreed.codecs.for_own_section(kind);
            let extmaps = self.agreed.extensions.for_own_section(kind);
            if let Some(line) = lines.iter_mut().find(|line| line.is_free_for(kind)) {
                // Offered anew in full: the answer to an earlier offer may have narrowed the lists.
                (line.bound, line.codecs, line.extmaps) = (Some(key), codecs, extmaps);
            } else if lines.len() < SECTIONS_MAX {
                let mut line = Line::own(own_mid(self.end, lines), kind, codecs, extmaps);
                line.bound = Some(key);
                lines.push(line);
            }
        }
    }

    /// Sections whose track is forgotten and which the participant knows to be silent are free for others.
    fn release_lines(&mut self) {
        for line in &mut self.agreed.lines {
            if line
                .bound
                .is_some_and(|key| !self.wishes.contains_key(&key))
                && !line.sending
                && line.proposed.is_none()
            {
                line.bound = None;
            }
        }
    }

    /// A track whose section the participant rejects does not come back in another one unasked: that could go on for ever.
    fn refuse_thrown_out(&mut self) {
        for key in self
            .agreed
            .lines
            .iter_mut()
            .filter_map(|line| line.thrown_out.take())
        {
            if let Some(wish) = self
                .wishes
                .get_mut(&key)
                .filter(|wish| wish.state == WishState::Wanted)
            {
                wish.state = WishState::Refused;
            }
        }
    }

    /// The other end as this description has it; what a re-offer with nothing but rejected sections does not say stays.
    fn remote_of(
        &self,
        described: &Description,
        lines: &[Line],
    ) -> Result<DescribedRemote, SdpError> {
        let accepted = described
            .sections
            .iter()
            .zip(lines)
            .find(|(_, line)| !line.rejected)
            .map(|(section, _)| section);
        let Some(section) = accepted else {
            let remote = self.remote.clone().ok_or(SdpError::Sections)?;
            return Ok(DescribedRemote {
                remote,
                setup: None,
            });
        };
        let ice = section.ice.clone().ok_or(SdpError::Ice)?;
        let fingerprint = strongest_fingerprint(section).ok_or(SdpError::Fingerprint)?;
        if self
            .remote
            .as_ref()
            .is_some_and(|known| known.fingerprint != fingerprint)
        {
            return Err(SdpError::FingerprintChanged);
        }
        Ok(DescribedRemote {
            remote: Remote {
                ice,
                fingerprint,
                candidates: section.candidates.clone(),
            },
            setup: section.setup,
        })
    }

    fn write(&self, lines: &[Line], role: Role, sends: impl Fn(&Line) -> bool) -> String {
        let head = Head {
            session_id: self.local.session_id,
            session_version: self.session_version,
            ice: &self.local.ice,
            fingerprint: &self.local.fingerprint,
            role,
            ice_lite: self.end == End::Called,
            extmap_allow_mixed: self.agreed.extmap_allow_mixed,
            candidates: &self.candidates,
        };
        let track = |line: &Line| {
            line.bound
                .and_then(|key| self.wishes.get(&key))
                .map(|wish| &wish.track)
        };
        let bodies: Vec<Body<'_>> = lines
            .iter()
            .map(|line| Body {
                line,
                sent: if sends(line) { track(line) } else { None },
            })
            .collect();
        write::description(&head, &bodies)
    }
}

/// The other end, and the DTLS role that its description states.
struct DescribedRemote {
    remote: Remote,
    setup: Option<Setup>,
}

/// The source that the focus wants to send in a section.
fn wanted_ssrc(wishes: &BTreeMap<u32, Wish>, line: &Line) -> Option<u32> {
    let wish = wishes.get(&line.bound?)?;
    (wish.state == WishState::Wanted).then_some(wish.track.ssrc)
}

/// A mid that no section has.
fn own_mid(end: End, lines: &[Line]) -> String {
    let prefix = match end {
        End::Called => OWN_MID_PREFIX,
        End::Calling => CALLING_MID_PREFIX,
    };
    let own = lines
        .iter()
        .filter(|line| line.maker == Maker::Focus)
        .count();
    let mids = (own..).map(|number| format!("{prefix}{number}"));
    // One more than there are sections is enough to find a free one.
    mids.take(lines.len() + 1)
        .find(|mid| lines.iter().all(|line| line.mid != *mid))
        .unwrap_or_else(|| prefix.to_owned())
}

/// The participant's fingerprint, by the best hash that there is.
fn strongest_fingerprint(section: &Section) -> Option<Fingerprint> {
    let lengths = [("sha-256", 32), ("sha-384", 48), ("sha-512", 64)];
    let find = |(algorithm, length)| {
        section.fingerprints.iter().find(|fingerprint| {
            fingerprint.algorithm == algorithm && fingerprint.bytes.len() == length
        })
    };
    lengths.into_iter().find_map(find).cloned()
}
