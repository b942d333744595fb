//! A participant that chooses its focus: it measures before it joins, and follows the choice while it is in the call. What is chosen
//! is `choose`'s matter, what is measured `measure`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{Choosing, Command, JoinConfig, JoinError};
use crate::choose::{Choice, Decision, FullMesh, Rules};
use crate::clock::unix_ms;
use crate::matrix::{Device, Foci, News, ToDevice};
use crate::measure::{Held, Hold, Surveyor};
use crate::participant::FocusAddress;

/// Whoever has no listing that expires is looked at again all the same.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// A choice, made before the participant joined, that goes on.
#[derive(Debug)]
pub(super) struct Chooser {
    choice: Choice,
    /// What is called.
    used: FocusAddress,
    /// Places at foci that are not used yet. The focus ends them when no media follows.
    slots: BTreeMap<FocusAddress, Held>,
}

/// Where a chooser tells what it has decided.
pub(super) struct Told {
    pub(super) listed: watch::Sender<Foci>,
    pub(super) commands: mpsc::WeakUnboundedSender<Command>,
}

impl Chooser {
    /// Learns, measures and decides; gives what to use, and what to list. The decision names a focus at least.
    pub(super) async fn start(
        choosing: &Choosing,
        config: &JoinConfig,
        device: &Device,
        session_id: &str,
        (to_device, news): (&mut mpsc::Receiver<ToDevice>, &mut mpsc::Receiver<News>),
    ) -> Result<(Chooser, Decision), JoinError> {
        let rules = Rules {
            // It cannot call others without a focus, nor more than one focus.
            full_mesh: FullMesh::Never,
            active_max: 1,
            ..choosing.rules.clone()
        };
        let (user_id, device_id) = (device.user_id(), device.device_id());
        let mut choice = Choice::new(rules, &config.conf_id, user_id, device_id);
        for known in &choosing.foci {
            choice.handle_configured(known.clone());
        }
        // A homeserver without the document recommends nothing.
        if let Ok(document) = device.well_known().await {
            choice.handle_well_known(&document);
        }
        for event in device.room_state(&config.room_id).await? {
            choice.handle_state(&event.event_type, &event.state_key, &event.content);
        }
        let surveyor = Surveyor {
            device: device.clone(),
            conf_id: config.conf_id.clone(),
            session_id: session_id.to_owned(),
            towards: config.homeserver_ip(),
            detours: choosing.detours.clone(),
            criteria: choosing.rules.criteria.clone(),
        };
        let (slots, missed) = {
            let measuring = surveyor.inform(&mut choice, Hold::Slot, to_device);
            meanwhile(measuring, news).await
        };
        for event in missed {
            hear(&mut choice, event);
        }
        let decision = choice
            .poll_decision(unix_ms())
            .filter(|decision| !decision.active().is_empty())
            .ok_or(JoinError::NoFocus)?;
        let used = decision.active()[0].clone();
        let mut chooser = Chooser {
            choice,
            used,
            slots,
        };
        chooser.give_back();
        Ok((chooser, decision))
    }

    /// Follows what happens in the room, and which foci fail, on a task of its own.
    pub(super) fn follow(
        self,
        news: mpsc::Receiver<News>,
        failed: mpsc::Receiver<FocusAddress>,
        told: Told,
    ) -> JoinHandle<()> {
        tokio::spawn(self.run(news, failed, told))
    }

    async fn run(
        mut self,
        mut news: mpsc::Receiver<News>,
        mut failed: mpsc::Receiver<FocusAddress>,
        told: Told,
    ) {
        loop {
            let expiry = self.choice.poll_timeout(unix_ms());
            let until = expiry.map_or(LOOK_AGAIN, |at| {
                Duration::from_millis(at.saturating_sub(unix_ms())).min(LOOK_AGAIN)
            });
            tokio::select! {
                event = news.recv() => match event {
                    Some(event) => hear(&mut self.choice, event),
                    None => return,
                },
                focus = failed.recv() => match focus {
                    Some(focus) => self.choice.handle_failed(&focus),
                    None => return,
                },
                () = tokio::time::sleep(until) => {}
            }
            // With nothing left to choose the present focus is called again and again.
            let decision = self.choice.poll_decision(unix_ms());
            if let Some(decision) = decision.filter(|decision| !decision.active().is_empty()) {
                self.tell(&decision, &told);
            }
        }
    }

    /// Of a decision that names a focus at least.
    fn tell(&mut self, decision: &Decision, told: &Told) {
        tracing::info!(because = ?decision.because, using = ?decision.using, "another focus");
        told.listed.send_replace(Foci::of(decision));
        let first = &decision.active()[0];
        if *first == self.used {
            return;
        }
        self.used = first.clone();
        self.give_back();
        if let Some(commands) = told.commands.upgrade() {
            let _ = commands.send(Command::Use(first.clone()));
        }
    }

    /// The call that follows takes the place of the slot.
    fn give_back(&mut self) {
        drop(self.slots.remove(&self.used));
    }
}

/// Does something, and keeps what is heard meanwhile: a sync whose news nobody takes stands still, and brings no answers either.
async fn meanwhile<T>(
    doing: impl Future<Output = T>,
    news: &mut mpsc::Receiver<News>,
) -> (T, Vec<News>) {
    let mut heard = Vec::new();
    tokio::pin!(doing);
    loop {
        tokio::select! {
            done = &mut doing => return (done, heard),
            Some(event) = news.recv() => heard.push(event),
        }
    }
}

fn hear(choice: &mut Choice, event: News) {
    if let News::State {
        event_type,
        state_key,
        content,
    } = event
    {
        choice.handle_state(&event_type, &state_key, &content);
    }
}

impl Foci {
    /// As a decision says.
    pub(super) fn of(decision: &Decision) -> Foci {
        Foci {
            active: decision.active().to_vec(),
            preferred: decision.preferred.clone(),
        }
    }
}
