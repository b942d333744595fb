//! A participant of any WebRTC server: whoever speaks the server's signalling carries descriptions and candidates, everything else is
//! that of a participant of a focus.
//!
//! ```text
//!   Invited::new ─► offer() or answer(theirs), candidates() ─► carried to the server
//!   Invited::attend(their description) ─► Attendance: sends and receives on a task of its own until it leaves
//! ```
//! An own offer is made by who publishes, an answer by who listens. A server that adds tracks later offers again:
//! [`Attendance::renegotiate`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clips::Clips;
use crate::health::Counted;
use crate::media::{self, EVENTS_AT_ONCE, Media, Said};
use crate::participant::{Checks, Publish, TransportFeedback};
use crate::peer::{Event, Peer, PeerError};
use crate::pictures::DecodeThread;
use crate::publish::Ssrcs;
use crate::receive::{Inspection, Owner, Receiver};
use crate::report::{Latencies, Latest, Report};
use crate::sdp::{Local, Remote};

/// Who attends, and what it does there.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Its name in its report and, if it publishes, that by which others know its schedule.
    pub name: String,
    /// Whose tracks it receives: the name of who publishes there.
    pub listens_to: String,
    /// What it sends.
    pub publish: Publish,
    /// How many streams it is to receive.
    pub expects: usize,
    /// How much of them is checked.
    pub checks: Checks,
    /// What the server is told about the way.
    pub feedback: TransportFeedback,
    /// The simulcast layers that it offers; with less than two there is no simulcast.
    pub rids: Vec<String>,
}

/// A guest with a transport that is not connected yet.
#[derive(Debug)]
pub struct Invited {
    guest: Guest,
    peer: Peer,
    local: Local,
    ssrcs: Ssrcs,
    since: Instant,
}

impl Invited {
    /// Binds a socket, with candidates of the interface towards the server.
    ///
    /// # Errors
    /// No socket, or no certificate.
    pub async fn new(guest: Guest, server: IpAddr) -> Result<Invited, PeerError> {
        let since = Instant::now();
        let peer = Peer::towards(Some(server), None).await?;
        let publish = guest.publish;
        let local = peer.describe(
            crate::random_id(36),
            publish.audio.then(|| crate::random_id(36)),
            publish.video.map(|_| crate::random_id(36)),
            media::terms(guest.checks, guest.rids.clone()),
        );
        Ok(Invited {
            guest,
            peer,
            local,
            ssrcs: Ssrcs::random(),
            since,
        })
    }

    /// The own description as an offer: sound on the m-line `0`, the picture on `1`.
    pub fn offer(&self) -> String {
        self.local.offer(&self.ssrcs)
    }

    /// The own description as an answer.
    pub fn answer(&self, offer: &Remote) -> String {
        self.local.answer(offer)
    }

    /// Track ids of the own offer: sound and picture, if they are sent.
    pub fn tracks(&self) -> (Option<&str>, Option<&str>) {
        let local = &self.local;
        (local.audio_track.as_deref(), local.video_track.as_deref())
    }

    /// Own candidates, for the first m-line, as they are trickled.
    pub fn candidates(&self) -> impl Iterator<Item = String> {
        let all = self.peer.candidates().iter();
        all.map(|candidate| format!("candidate:{candidate}"))
    }

    /// Takes a candidate of the server; what cannot be read is ignored.
    pub fn add_candidate(&self, candidate: &str) {
        self.peer.add_candidate(candidate);
    }

    /// The transport alone, so that candidates can be added while it connects.
    pub fn peer(&self) -> Peer {
        self.peer.clone()
    }

    /// Connects to whoever answered the own offer.
    ///
    /// # Errors
    /// Which step of the transport failed, and why.
    pub async fn attend(self, answer: &Remote) -> Result<Attendance, PeerError> {
        let (link, events) = self.peer.connect(answer).await?;
        Ok(self.begin(link, events, answer))
    }

    /// Connects to whoever made this offer, when it was answered.
    ///
    /// # Errors
    /// Which step of the transport failed, and why.
    pub async fn attend_answering(self, offer: &Remote) -> Result<Attendance, PeerError> {
        let (link, events) = self.peer.connect_answering(offer).await?;
        Ok(self.begin(link, events, offer))
    }

    fn begin(
        self,
        link: crate::peer::Link,
        events: mpsc::Receiver<Event>,
        remote: &Remote,
    ) -> Attendance {
        let Invited {
            guest,
            local,
            ssrcs,
            since,
            ..
        } = self;
        let mut rng = StdRng::seed_from_u64(rand::random());
        let up = link.up();
        let ms = |at: Instant| at.saturating_duration_since(since).as_secs_f64() * 1000.0;
        let report = Report {
            user_id: guest.name.clone(),
            checks: guest.checks.how(),
            connected: true,
            connected_after_ms: Some(ms(up.dtls_at) as u64),
            latencies: Latencies {
                ice_ms: Some(ms(up.ice_at)),
                connected_ms: Some(ms(up.dtls_at)),
                channel_ms: up.channel_at.map(ms),
                ..Latencies::default()
            },
            ..Report::default()
        };
        let clips = Clips::committed();
        let mut publisher = media::publisher(&mut rng, clips.clone(), guest.publish, remote, ssrcs);
        if guest.publish != Publish::NOTHING {
            publisher.announce(&guest.name, "");
        }
        let inspection = Inspection {
            decode: guest.checks.decode(),
            feedback: guest.feedback,
        };
        let receiver = Receiver::new(DecodeThread::shared(), clips, ssrcs.audio, Instant::now());
        let receiver = receiver.inspecting(inspection);
        let phase = media::phase(&mut rng);
        let mut media = Media::new(link, publisher, receiver, guest.checks, phase);
        let owner = Owner {
            user_id: guest.listens_to,
            ..Owner::default()
        };
        media.apply(remote, |_, _| Some(owner.clone()));
        let latest = Latest::new(report.clone());
        let (remotes, later) = mpsc::unbounded_channel();
        let run = Run {
            media,
            owner,
            expects: guest.expects,
            since,
            report,
            latest: latest.clone(),
            _counted: Counted::new(),
        };
        Attendance {
            remotes,
            latest,
            local,
            task: tokio::spawn(run.run(events, later)),
        }
    }
}

/// A guest that is there. Dropping it ends it as [`leave`](Self::leave) does.
#[derive(Debug)]
pub struct Attendance {
    remotes: mpsc::UnboundedSender<Remote>,
    latest: Latest,
    local: Local,
    task: JoinHandle<()>,
}

impl Attendance {
    /// Takes another offer of the server on the same transport; gives the answer to it.
    pub fn renegotiate(&self, offer: Remote) -> String {
        let answer = self.local.answer(&offer);
        // A transport that has ended says so in its report.
        let _ = self.remotes.send(offer);
        answer
    }

    /// All that was counted, at most a fifth of a second old, one second for [`Checks::Light`].
    pub fn snapshot(&self) -> Arc<Report> {
        self.latest.get()
    }

    /// Closes the transport. Telling the server is up to who signals.
    pub async fn leave(self) {
        drop(self.remotes);
        // A task that has panicked is gone as well.
        let _ = self.task.await;
    }
}

/// What the task owns.
struct Run {
    media: Media,
    owner: Owner,
    expects: usize,
    since: Instant,
    report: Report,
    latest: Latest,
    _counted: Counted,
}

impl Run {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut remotes: mpsc::UnboundedReceiver<Remote>,
    ) {
        let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
        loop {
            let now = Instant::now();
            let expects = self.expects;
            self.media.handle_timeout(|| expects, now).await;
            if self.media.poll_snapshot(now) {
                self.snapshot(now);
            }
            let next = self.media.poll_timeout();
            tokio::select! {
                count = events.recv_many(&mut batch, EVENTS_AT_ONCE) => {
                    if let Some(reason) = self.handle_events(count, &mut batch) {
                        self.report.ends.push(reason);
                        break;
                    }
                }
                remote = remotes.recv() => match remote {
                    Some(remote) => {
                        let owner = &self.owner;
                        self.media.apply(&remote, |_, _| Some(owner.clone()));
                        self.report.negotiations += 1;
                    }
                    None => break,
                },
                () = Media::wait(next) => {}
            }
        }
        self.media.link.close().await;
        self.snapshot(Instant::now());
        self.report.connected = false;
        self.latest.set(&self.report);
    }

    /// Gives a reason when the transport is gone.
    fn handle_events(&mut self, count: usize, batch: &mut Vec<Event>) -> Option<String> {
        if count == 0 {
            return Some("the transport ended".into());
        }
        self.media.wake();
        for event in batch.drain(..) {
            if let Some(Said::Closed(reason)) = self.media.handle(event) {
                return Some(reason);
            }
        }
        None
    }

    fn snapshot(&mut self, now: Instant) {
        self.media.fill(&mut self.report, self.since, now);
        self.latest.set(&self.report);
    }
}
