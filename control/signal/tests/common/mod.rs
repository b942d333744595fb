//! A browser's side of the SDP, made of sections of a real one's offer: no media, only text.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test files, each of which uses a part of it"
)]

use std::net::SocketAddr;

use weir_signal::sdp::{
    Description, Fingerprint, IceCredentials, LocalParameters, MediaKind, SendTrack, Session,
};

/// What Chromium 156 offers when it joins with a microphone and a camera in three layers.
pub const FIRST_OFFER: &str = include_str!("../fixtures/chromium-156-first-offer.sdp");
/// The same after a screen share has begun.
pub const SCREEN_SHARE_ON: &str = include_str!("../fixtures/chromium-156-screen-share-on.sdp");
/// The same with the microphone only.
pub const AUDIO_ONLY: &str = include_str!("../fixtures/chromium-156-audio-only.sdp");

/// A focus's session as the tests want it.
pub fn session() -> Session {
    let addresses: [SocketAddr; 2] = [
        "192.0.2.1:10000".parse().expect("an address"),
        "[2001:db8::1]:10000".parse().expect("an address"),
    ];
    Session::new(LocalParameters {
        session_id: 7,
        ice: IceCredentials {
            ufrag: "fufr".to_owned(),
            pwd: "focuspasswordfocuspass".to_owned(),
        },
        fingerprint: Fingerprint {
            algorithm: "sha-256".to_owned(),
            bytes: vec![0xAB; 32],
        },
        addresses: addresses.to_vec(),
    })
}

/// A video track named after its key.
pub fn video(key: u32) -> SendTrack {
    SendTrack {
        key,
        kind: MediaKind::Video,
        stream_id: format!("stream-{key}"),
        track_id: format!("track-{key}"),
        ssrc: 10 * key,
        rtx_ssrc: Some(10 * key + 1),
        cname: "someone".to_owned(),
    }
}

/// An audio track named after its key.
pub fn audio(key: u32) -> SendTrack {
    SendTrack {
        kind: MediaKind::Audio,
        rtx_ssrc: None,
        ..video(key)
    }
}

/// The head and the sections of a description, as text.
pub fn split(sdp: &str) -> (String, Vec<String>) {
    let mut parts = sdp.split("\r\nm=");
    let head = parts.next().expect("a head").to_owned() + "\r\n";
    (
        head,
        parts
            .map(|section| format!("m={}\r\n", section.trim_end()))
            .collect(),
    )
}

/// The text of the section with that mid.
pub fn section_of(sdp: &str, mid: &str) -> String {
    let line = format!("\r\na=mid:{mid}\r\n");
    split(sdp)
        .1
        .into_iter()
        .find(|section| section.contains(&line))
        .unwrap_or_else(|| panic!("no section {mid} in\n{sdp}"))
}

/// The mid of a section.
pub fn mid_of(section: &str) -> String {
    section
        .lines()
        .find_map(|line| line.strip_prefix("a=mid:"))
        .expect("a mid")
        .to_owned()
}

/// Whether the text has that line.
pub fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|candidate| candidate == line)
}

const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];

/// The direction attribute of a section.
pub fn direction_of(section: &str) -> &str {
    section
        .lines()
        .find_map(|line| {
            line.strip_prefix("a=")
                .filter(|name| DIRECTIONS.contains(name))
        })
        .expect("a direction")
}

/// The section with another direction.
pub fn with_direction(section: &str, direction: &str) -> String {
    let lines = section.lines().map(|line| match line.strip_prefix("a=") {
        Some(name) if DIRECTIONS.contains(&name) => format!("a={direction}\r\n"),
        _ => format!("{line}\r\n"),
    });
    lines.collect()
}

/// The participant's side of a call, in text.
pub struct Browser {
    head: String,
    /// Own sections, and own versions of the focus's.
    pub sections: Vec<String>,
}

impl Browser {
    /// Begins with this offer.
    pub fn new(offer: &str) -> Browser {
        let (head, sections) = split(offer);
        Browser { head, sections }
    }

    /// The offer of everything that there is.
    pub fn offer(&self) -> String {
        let mids: Vec<String> = self
            .sections
            .iter()
            .map(|section| mid_of(section))
            .collect();
        let head = self
            .head
            .lines()
            .map(|line| match line.starts_with("a=group:BUNDLE") {
                true => format!("a=group:BUNDLE {}\r\n", mids.join(" ")),
                false => format!("{line}\r\n"),
            });
        head.chain(self.sections.iter().cloned()).collect()
    }

    /// Takes an offer of the focus and answers it as a browser does.
    pub fn answer(&mut self, offer: &str) -> String {
        self.try_answer(offer).expect("sections in their places")
    }

    /// The same; `None` if a section is not in the place where the browser knows it.
    pub fn try_answer(&mut self, offer: &str) -> Option<String> {
        let (_, offered) = split(offer);
        let mut answered = Vec::new();
        for (index, section) in offered.iter().enumerate() {
            let mid = mid_of(section);
            let made_by_focus = mid.starts_with('w');
            if made_by_focus && index == self.sections.len() {
                self.sections.push(self.mirrored(section));
            }
            if self.sections.get(index).map(|known| mid_of(known)) != Some(mid) {
                return None;
            }
            if made_by_focus {
                let own = self.mirrored(section);
                self.sections[index] = with_direction(&own, "recvonly");
                answered.push(own);
            } else if section.starts_with("m=application") {
                answered.push(self.sections[index].clone());
            } else {
                let direction = if direction_of(section) == "recvonly" {
                    "sendonly"
                } else {
                    "inactive"
                };
                answered.push(with_direction(&self.sections[index], direction));
            }
        }
        Some(std::iter::once(self.head.clone()).chain(answered).collect())
    }

    /// A section of the focus as the participant's own: same lists, own transport, opposite direction, no sources.
    fn mirrored(&self, section: &str) -> String {
        let own = |prefix: &str| {
            self.sections[0]
                .lines()
                .find(|line| line.starts_with(prefix))
                .expect("a transport line")
                .to_owned()
        };
        let direction = if direction_of(section) == "sendonly" {
            "recvonly"
        } else {
            direction_of(section)
        };
        let foreign = ["a=msid:", "a=ssrc", "a=candidate:", "a=end-of-candidates"];
        let kept = section
            .lines()
            .filter(|line| foreign.iter().all(|prefix| !line.starts_with(prefix)))
            .map(str::to_owned);
        let transport = ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:"]
            .map(own)
            .into_iter()
            .chain(["a=setup:active".to_owned()]);
        with_direction(
            &kept
                .chain(transport)
                .map(|line| line + "\r\n")
                .collect::<String>(),
            direction,
        )
    }
}

/// One offer of the focus, answered.
pub fn negotiate(session: &mut Session, browser: &mut Browser) -> String {
    assert!(session.needs_offer(), "there is nothing to offer");
    let offer = session.create_offer().expect("an offer");
    let answer = browser.answer(&offer);
    session.handle_answer(&answer).expect("a usable answer");
    offer
}

/// A call that a browser with microphone and camera has joined.
pub fn joined() -> (Session, Browser) {
    let mut session = session();
    let browser = Browser::new(FIRST_OFFER);
    session
        .handle_offer(&browser.offer())
        .expect("a usable offer");
    (session, browser)
}

/// Reads a description that must be readable.
pub fn read(sdp: &str) -> Description {
    Description::parse(sdp).expect("a description")
}
