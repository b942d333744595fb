//! A client that does only what a test tells it to, right or wrong: no state machine, no retries.

use serde_json::{Value, json};
use tokio::sync::mpsc;
use weir_client::channel::{self, Dialect, FromFocus, Metadata};
use weir_client::matrix::{Device, ToDevice};
use weir_client::peer::{Event, Link, Peer};
use weir_client::publish::Ssrcs;
use weir_client::sdp::{Local, Remote, Terms};
use weir_client::{FocusAddress, random_id};

use crate::site::{Call, PASSWORD, Site, until_some};

/// A logged-in device that wants something of a focus.
pub(crate) struct Caller {
    device: Device,
    to_device: mpsc::Receiver<ToDevice>,
    focus: FocusAddress,
    conf_id: String,
    pub(crate) session_id: String,
    pub(crate) local: Local,
    peer: Peer,
}

/// A call that is up.
pub(crate) struct Line {
    pub(crate) link: Link,
    pub(crate) answer: Remote,
    events: mpsc::Receiver<Event>,
}

impl Caller {
    /// Logs in, and joins the room of the call.
    pub(crate) async fn member<H>(site: &Site<H>, call: &Call, user: &str) -> Caller {
        let caller = Caller::stranger(site, call, user).await;
        caller.device.join_room(&call.room_id).await.unwrap();
        caller
    }

    /// Logs in, and does not join.
    pub(crate) async fn stranger<H>(site: &Site<H>, call: &Call, user: &str) -> Caller {
        let device = Device::login(&site.url, user, PASSWORD).await.unwrap();
        let to_device = device.start_sync().await.unwrap();
        let peer = Peer::new().await.unwrap();
        let terms = Terms {
            rtx: false,
            ..Terms::default()
        };
        let track = || Some(random_id(12));
        let local = peer.describe(random_id(12), track(), track(), terms);
        Caller {
            device,
            to_device,
            focus: site.focus_address(),
            conf_id: call.conf_id.clone(),
            session_id: random_id(10),
            local,
            peer,
        }
    }

    pub(crate) fn user_id(&self) -> &str {
        self.device.user_id()
    }

    pub(crate) fn device_id(&self) -> &str {
        self.device.device_id()
    }

    /// An invite with nothing wrong in it.
    pub(crate) fn invite(&self, call_id: &str) -> Value {
        json!({
            "version": "1",
            "call_id": call_id,
            "party_id": self.device_id(),
            "conf_id": self.conf_id,
            "device_id": self.device_id(),
            "sender_session_id": self.session_id,
            "dest_session_id": "sfu",
            "lifetime": 60_000,
            "offer": {"type": "offer", "sdp": self.local.offer(&SSRCS)},
            "org.matrix.msc3077.sdp_stream_metadata": self.metadata(),
        })
    }

    /// The same with some members replaced.
    pub(crate) fn invite_with(&self, call_id: &str, members: Value) -> Value {
        let mut invite = self.invite(call_id);
        let Value::Object(members) = members else {
            panic!("members of an object")
        };
        invite.as_object_mut().unwrap().extend(members);
        invite
    }

    /// Sends the focus anything.
    pub(crate) async fn send(&self, kind: &str, content: &Value) {
        let focus = (self.focus.user_id.as_str(), self.focus.device_id.as_str());
        self.device
            .send_to_device(focus, kind, content)
            .await
            .unwrap();
    }

    /// The next message of this type about this call.
    pub(crate) async fn receive(&mut self, kind: &str, call_id: &str) -> Value {
        until_some(
            &format!("{kind} for {}", self.user_id().to_owned()),
            async || {
                while let Ok(message) = self.to_device.try_recv() {
                    if message.event_type == kind && message.content["call_id"] == call_id {
                        return Some(message.content);
                    }
                }
                None
            },
        )
        .await
    }

    /// Every message that has come and was not asked for.
    pub(crate) fn drain(&mut self) -> Vec<ToDevice> {
        std::iter::from_fn(|| self.to_device.try_recv().ok()).collect()
    }

    /// Says in the state of the room that it is in the call until then, in milliseconds since 1970, or that it is not.
    pub(crate) async fn list_until(&self, call: &Call, expires_ms: Option<u64>) {
        let calls = expires_ms.map_or_else(
            || json!([]),
            |expires_ms| {
                let device = json!({ "device_id": self.device_id(), "expires_ts": expires_ms });
                json!([{ "m.call_id": call.conf_id, "m.devices": [device] }])
            },
        );
        let (kind, user_id) = ("org.matrix.msc3401.call.member", self.user_id());
        let content = json!({ "m.calls": calls });
        self.device
            .put_state(&call.room_id, kind, user_id, &content)
            .await
            .unwrap();
    }

    /// Makes a call as it should be made.
    pub(crate) async fn call(&mut self, call_id: &str) -> Line {
        self.send("m.call.invite", &self.invite(call_id)).await;
        let answer = self.receive("m.call.answer", call_id).await;
        let answer = Remote::parse(answer["answer"]["sdp"].as_str().unwrap()).unwrap();
        let (link, events) = self.peer.connect(&answer).await.unwrap();
        Line {
            link,
            answer,
            events,
        }
    }

    fn metadata(&self) -> Metadata {
        let mut stream = channel::Stream {
            user_id: self.user_id().into(),
            device_id: self.device_id().into(),
            purpose: "m.usermedia".into(),
            ..channel::Stream::default()
        };
        let local = &self.local;
        for (kind, track) in [("audio", &local.audio_track), ("video", &local.video_track)] {
            let entry = channel::Track {
                kind: kind.into(),
                ..channel::Track::default()
            };
            stream.tracks.insert(track.clone().unwrap(), entry);
        }
        Metadata::from([(local.stream_id.clone(), stream)])
    }
}

/// What it offers to send with.
pub(crate) const SSRCS: Ssrcs = Ssrcs {
    audio: 4242,
    layers: [4243, 4244, 4245],
};

impl Line {
    /// What the focus says on the data channel, in its order, until one is what was waited for. Pings are answered.
    pub(crate) async fn listen<T>(
        &mut self,
        what: &str,
        mut wanted: impl FnMut(&FromFocus) -> Option<T>,
    ) -> T {
        until_some(what, async || {
            while let Ok(event) = self.events.try_recv() {
                let Event::Text(text) = event else { continue };
                let Some(said) = Dialect::Late.parse(&text) else {
                    continue;
                };
                if said == FromFocus::Ping {
                    self.link.send_text(&Dialect::Late.pong()).await;
                }
                if let Some(found) = wanted(&said) {
                    return Some(found);
                }
            }
            None
        })
        .await
    }

    /// Waits for an error with this code about this request.
    pub(crate) async fn listen_for_error(&mut self, code: &str, about: &str) {
        self.listen(&format!("{code} about {about}"), |said| match said {
            FromFocus::Error(error) => {
                (error["errcode"] == code && error["in_reply_to"]["type"] == about).then_some(())
            }
            _ => None,
        })
        .await;
    }
}
