//! Seeded damage to everything that a stranger can say: an error or an odd value, never a panic, and never a broken session.

mod common;

use common::*;
use weir_signal::call::Message;
use weir_signal::channel::{Dialect, Frame, FromClient, ToClient};
use weir_signal::sdp::{Candidate, Description};

const FIXTURES: [&str; 9] = [
    FIRST_OFFER,
    SCREEN_SHARE_ON,
    AUDIO_ONLY,
    include_str!("fixtures/chromium-156-answer-to-focus.sdp"),
    include_str!("fixtures/chromium-156-audio-only-answer.sdp"),
    include_str!("fixtures/chromium-156-late-camera.sdp"),
    include_str!("fixtures/chromium-156-no-vp8.sdp"),
    include_str!("fixtures/chromium-156-recycled.sdp"),
    include_str!("fixtures/chromium-156-unmute-1.sdp"),
];

/// Bits of SDP and JSON that are likely to hurt somewhere.
const MORSELS: [&str; 24] = [
    "a=mid:0\r\n",
    "a=simulcast:send ~;;,~\r\n",
    "a=rid:\r\n",
    "a=fmtp:96 ;;=\r\n",
    "a=extmap:0 x\r\n",
    "a=extmap:255/ x\r\n",
    "a=ssrc: msid:\r\n",
    "a=fingerprint:sha-256 \r\n",
    "a=candidate:\r\n",
    "m=video 0 UDP/TLS/RTP/SAVPF\r\n",
    "m=audio 9 UDP/TLS/RTP/SAVPF 999999999999\r\n",
    "r=d d d\r\n",
    "z=1\r\n",
    "t=0 0\r\n",
    "99999999999999999999",
    "-1",
    "\u{e9}",
    "\r",
    "\n",
    "\0",
    "\"",
    "{",
    "null",
    "é:é",
];

/// xorshift64*
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit.max(1)
    }

    /// A position between two characters.
    fn position(&mut self, text: &str) -> usize {
        let mut position = self.below(text.len() + 1);
        while !text.is_char_boundary(position) {
            position -= 1;
        }
        position
    }

    fn damage(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        for _ in 0..=self.below(4) {
            let (from, to) = (self.position(&text), self.position(&text));
            let (from, to) = (from.min(to), from.max(to).min(from.min(to) + 200));
            let to = (from..=to)
                .rev()
                .find(|position| text.is_char_boundary(*position))
                .unwrap_or(from);
            match self.below(5) {
                0 => text.replace_range(from..to, ""),
                1 => text.insert_str(from, MORSELS[self.below(MORSELS.len())]),
                2 => text = [&text[..to], &text[from..to], &text[to..]].concat(),
                3 => text.replace_range(from..to, MORSELS[self.below(MORSELS.len())]),
                _ => {
                    // Exchange a whole line.
                    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
                    let (a, b) = (self.below(lines.len()), self.below(lines.len()));
                    if !lines.is_empty() {
                        lines.swap(a, b);
                    }
                    text = lines.concat();
                }
            }
        }
        text
    }
}

#[test]
fn reads_every_fixture() {
    for fixture in FIXTURES {
        let description = read(fixture);
        assert!(
            description
                .sections
                .iter()
                .all(|section| section.mid.is_some() && section.ice.is_some()),
            "{fixture}"
        );
    }
}

#[test]
fn damaged_descriptions_never_panic() {
    for seed in 1..=1500_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let fixture = FIXTURES[random.below(FIXTURES.len())];
        let text = random.damage(fixture);
        if let Ok(description) = Description::parse(&text) {
            assert!(description.sections.len() <= 512);
        }
        if let Ok(offered) = session().handle_offer(&text) {
            let answer = read(&offered.answer);
            assert_eq!(
                answer.sections.len(),
                read(&text).sections.len(),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn a_session_survives_damaged_offers_and_answers() {
    for seed in 1..=150_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let (mut session, mut browser) = joined();
        for key in 1..=6 {
            match random.below(3) {
                0 => {
                    let _ = session.handle_offer(&random.damage(&browser.offer()));
                }
                1 => session.forget_track(key - 1),
                _ => session.stop_track(key - 1),
            }
            session.send_track(if random.below(2) == 0 {
                video(key)
            } else {
                audio(key)
            });
            if let Some(offer) = session.create_offer() {
                assert!(Description::parse(&offer).is_ok(), "seed {seed}: {offer}");
                // A browser that has not heard of a damaged offer may find the sections in other places: then it says nothing.
                let mut copy = Browser::new(&browser.offer());
                if let Some(answer) = copy.try_answer(&offer) {
                    if random.below(2) == 0 {
                        let _ = session.handle_answer(&random.damage(&answer));
                    } else if session.handle_answer(&answer).is_ok() {
                        browser = copy;
                    }
                }
                session.rollback();
            }
            let _ = (
                session.published(),
                session.sending(),
                session.needs_offer(),
            );
        }
    }
}

/// What can be read means the same when it is said again, in whichever dialect. What is unknown has no meaning to be kept.
fn read_and_write_again(text: &str) {
    let Ok(frame) = Frame::open(text) else {
        return;
    };
    if let Ok(message) = ToClient::read(&frame)
        && !matches!(message, ToClient::Unknown { .. } | ToClient::Pong)
    {
        for dialect in Dialect::ALL {
            assert_eq!(
                ToClient::parse(&message.to_text(dialect)),
                Ok(message.clone()),
                "{text}"
            );
        }
    }
    if let Ok(message) = FromClient::read(&frame)
        && !matches!(message, FromClient::Unknown { .. } | FromClient::Ping)
    {
        for dialect in Dialect::ALL {
            let texts = message.to_texts(dialect);
            let mut again = texts.iter().map(|text| FromClient::parse(text));
            match texts.len() {
                1 => assert_eq!(again.next(), Some(Ok(message.clone())), "{text}"),
                _ => assert!(again.all(|read| read.is_ok()), "{text}"),
            }
        }
    }
}

#[test]
fn damaged_messages_never_panic() {
    let invite = r#"{"version":"1","call_id":"c","party_id":"P","conf_id":"f","device_id":"P","sender_session_id":"s","dest_session_id":"sfu",
        "seq":0,"offer":{"type":"offer","sdp":"v=0"},"answer":{"type":"answer","sdp":"v=0"},"lifetime":60000,"reason":"x","selected_party_id":"y",
        "candidates":[{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0","sdpMLineIndex":0}],
        "org.matrix.msc3077.sdp_stream_metadata":{"s":{"purpose":"m.usermedia","tracks":{"t":{"kind":"audio","width":1}}}}}"#;
    let channel = [
        r#"{"type":"m.call.track_subscription","content":{"subscribe":[{"stream_id":"s","track_id":"t","width":1,"height":2}],"unsubscribe":[]}}"#,
        r#"{"type":"m.call.negotiate","content":{"description":{"type":"offer","sdp":"v=0"},"sdp_stream_metadata":{"s":{"tracks":{"t":{}}}}}}"#,
        r#"{"type":"m.call.sdp_stream_metadata_changed","content":{"sdp_stream_metadata":{"s":{"user_id":"@a:b","tracks":{"t":{}}}}}}"#,
        r#"{"type":"m.call.connect_to_focus","content":{"focus":{"user_id":"@f:b","device_id":"D"},"room_id":"!r:b","conf_id":"c"}}"#,
        r#"{"type":"org.matrix.msc3898.error","content":{"errcode":"M","error":"e","in_reply_to":{"type":"t"}}}"#,
        r#"{"op":"subscribe","start":[{"stream_id":"s","track_id":"t","width":1,"height":2}],"stop":{"stream_id":"s","track_id":"u"}}"#,
        r#"{"op":"publish","sdp":"v=0","metadata":{"s":{"tracks":{"t":{}}}}}"#,
        r#"{"op":"metadata","metadata":{"s":{"user_id":"@a:b","tracks":{"t":{}}}}}"#,
        r#"{"op":"connect","focus":{"user_id":"@f:b","device_id":"D"},"room_id":"!r:b","conf_id":"c"}"#,
        r#"{"op":"active_speaker","speakers":[{"user_id":"@a:b","device_id":"D","stream_id":"s","track_id":"t","level":1}]}"#,
        r#"{"op":"error","errcode":"M","error":"e","in_reply_to":{"op":"t","type":7}}"#,
    ];
    let kinds = [
        "m.call.invite",
        "m.call.answer",
        "m.call.candidates",
        "m.call.select_answer",
        "m.call.hangup",
        "m.call.reject",
    ];
    for seed in 1..=4000_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let original = channel[random.below(channel.len())];
        let text = random.damage(original);
        read_and_write_again(&text);
        if let Ok(content) = serde_json::from_str(&random.damage(invite))
            && let Ok(message) = Message::parse(kinds[random.below(kinds.len())], &content)
        {
            assert_eq!(
                Message::parse(message.event_type(), &message.content()),
                Ok(message),
                "seed {seed}"
            );
        }
        let _ = Candidate::parse(
            &random.damage("candidate:1 1 udp 2122260223 192.0.2.7 41500 typ host generation 0"),
        );
    }
}
