//! What somebody who means no good can do to others: nothing. Everything is refused and counted, the healthy call beside it
//! shows no trace.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_client::channel::{Dialect, FromFocus};
use weir_client::publish::{Publisher, SendParameters, Ssrcs};
use weir_client::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use weir_client::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};
use weir_client::sdp::{Remote, RemoteMedia};
use weir_client::{Clips, Kind, Participant, Report};

use crate::caller::{Caller, Line, SSRCS};
use crate::site::{
    Call, Metrics, SMALL, Site, drops, refusals, stream, until, until_media_flows, until_some,
};

/// A focus with one shard, on which two talk undisturbed.
struct Healthy {
    site: Site,
    call: Call,
    alice: Participant,
    bob: Participant,
    before: [Report; 2],
    metrics: Metrics,
}

impl Healthy {
    async fn start() -> Healthy {
        let site = Site::start(1, "127.0.0.1:0").await;
        let call = site.call().await;
        let alice = site.join(&call, "alice", SMALL).await;
        let bob = site.join(&call, "bob", SMALL).await;
        until_media_flows(&[&alice, &bob]).await;
        let before = [alice.report(), bob.report()];
        let metrics = site.metrics().await;
        Healthy {
            site,
            call,
            alice,
            bob,
            before,
            metrics,
        }
    }

    /// Waits until a metric has grown by this much since the start.
    async fn until_grown(&self, name: &str, by: u64) {
        let target = self.metrics.get(name) + by as f64;
        self.site.until_metric(name, target).await;
    }

    /// Waits until these refusals were counted, and says if there were more than expected.
    async fn refused(&self, expected: &[(&str, u64)]) {
        for (reason, count) in expected {
            self.until_grown(&refusals(reason), *count).await;
        }
        let now = self.site.metrics().await;
        for (reason, count) in expected {
            let grown = now.refusals(reason) - self.metrics.refusals(reason);
            assert_eq!(grown, *count as f64, "refusals for {reason}");
        }
    }

    /// What two people notice of all this: nothing.
    async fn stop_unharmed(self) {
        until_media_flows(&[&self.alice, &self.bob]).await;
        assert_eq!(self.site.ready().await, 200);
        let after = [self.alice.report(), self.bob.report()];
        for ((before, after), sender) in self.before.iter().zip(&after).zip(["bob", "alice"]) {
            assert_eq!(after.invites, 1, "called again: {:?}", after.ends);
            assert!(after.connected && after.errors.is_empty());
            let sender = format!("@{sender}:localhost");
            for kind in [Kind::Video, Kind::Audio] {
                let before = stream(before, &sender, kind).unwrap();
                let after = stream(after, &sender, kind).unwrap();
                assert_eq!((after.ssrc, &after.mid), (before.ssrc, &before.mid));
                let gap = match (&after.video, &after.audio) {
                    (Some(video), _) => video.longest_gap_ms,
                    (_, Some(audio)) => audio.longest_gap_ms,
                    _ => panic!("neither a picture nor a sound"),
                };
                let stall = self.site.stall_ms();
                let what = format!("{kind:?} of {sender}; the machine stalled for {stall} ms");
                assert!(gap <= 500 + stall, "none for {gap} ms: {what}");
                assert_eq!(self.site.violations(&after), [], "{what}");
            }
        }
        self.site.stop(vec![self.alice, self.bob]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_invites_are_refused_and_counted() {
    let healthy = Healthy::start().await;
    let (site, call) = (&healthy.site, &healthy.call);
    let mallory = Caller::member(site, call, "mallory").await;
    let malformed = [
        json!({"offer": null}),
        json!({"offer": {"type": "offer"}}),
        json!({"offer": {"type": "answer", "sdp": "v=0\r\n"}}),
        json!({"offer": {"type": "offer", "sdp": 7}}),
        json!({"offer": "v=0"}),
        json!({"call_id": 7}),
        json!({"call_id": "x".repeat(300)}),
        json!({"conf_id": ["a"]}),
        json!({"device_id": {}}),
        json!({"sender_session_id": null}),
        json!({"dest_session_id": false}),
    ];
    for members in &malformed {
        let invite = mallory.invite_with("malformed", members.clone());
        mallory.send("m.call.invite", &invite).await;
    }
    let elsewhere = json!({"dest_session_id": "somebody"});
    let elsewhere = mallory.invite_with("elsewhere", elsewhere);
    mallory.send("m.call.invite", &elsewhere).await;

    // Each has its own account, so that only the last meets the limit on invites.
    let sdp = |text: String| json!({"offer": {"type": "offer", "sdp": text}});
    let huge = [
        mallory.local.offer(&SSRCS),
        "a=rtpmap:96 VP8/90000\r\n".repeat(2000),
    ]
    .concat();
    for (user, text) in [
        ("empty", String::new()),
        ("garbage", "\u{0}\u{7f}§$%&/()=".repeat(100)),
        (
            "bare",
            "v=0\r\no=- 0 0 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n".into(),
        ),
        ("huge", huge.replace("a=fingerprint", "a=fingers")),
        (
            "numbers",
            mallory
                .local
                .offer(&SSRCS)
                .replace("sha-256 ", "sha-256 zz:"),
        ),
    ] {
        let mut caller = Caller::member(site, call, user).await;
        let invite = caller.invite_with(user, sdp(text));
        caller.send("m.call.invite", &invite).await;
        caller.receive("m.call.reject", user).await;
    }
    let mut late = Caller::member(site, call, "late").await;
    let expired = late.invite_with("expired", json!({"lifetime": 0}));
    late.send("m.call.invite", &expired).await;
    // No member of the call publishes to it: it is no focus here.
    let trunk = late.invite_with("trunk", json!({"org.matrix.msc3898.trunk": true}));
    late.send("m.call.invite", &trunk).await;
    late.receive("m.call.reject", "trunk").await;

    let mut stranger = Caller::stranger(site, call, "stranger").await;
    stranger
        .send("m.call.invite", &stranger.invite("let me in"))
        .await;
    let nowhere = stranger.invite_with("nowhere", json!({"conf_id": "no such call"}));
    stranger.send("m.call.invite", &nowhere).await;
    stranger.receive("m.call.reject", "let me in").await;
    stranger.receive("m.call.reject", "nowhere").await;

    let flooder = Caller::member(site, call, "flooder").await;
    for _ in 0..60 {
        let flood = flooder.invite_with("flood", sdp("flood".into()));
        flooder.send("m.call.invite", &flood).await;
    }
    let counted = [
        ("malformed_call", malformed.len() as u64),
        ("not_for_focus", 1),
        ("expired", 1),
        ("not_authorised", 3),
    ];
    healthy.refused(&counted).await;
    until_some("all 65 bad descriptions are refused", async || {
        let now = site.metrics().await;
        let flood = now.refusals("too_many_invites_of_user");
        assert!(now.refusals("bad_sdp") + flood <= 65.0);
        (flood >= 30.0 && now.refusals("bad_sdp") + flood == 65.0).then_some(())
    })
    .await;
    healthy.stop_unharmed().await;
}

/// What every message about a call has in it that the sender knows anyway.
fn without_ids(mut content: Value) -> Value {
    for id in ["call_id", "conf_id"] {
        content.as_object_mut().unwrap().remove(id);
    }
    content
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_cannot_tell_a_call_from_none() {
    let healthy = Healthy::start().await;
    let (site, call) = (&healthy.site, &healthy.call);
    let mut stranger = Caller::stranger(site, call, "stranger").await;
    let began = Instant::now();
    let elsewhere = json!({ "conf_id": "no such call" });
    let nowhere = stranger.invite_with("nowhere", elsewhere.clone());
    for invite in [stranger.invite("there"), nowhere] {
        stranger.send("m.call.invite", &invite).await;
    }
    let mut answers = Vec::new();
    for call_id in ["there", "nowhere"] {
        let reject = stranger.receive("m.call.reject", call_id).await;
        assert_eq!(reject["reason"], "not_authorised");
        answers.push((without_ids(reject), began.elapsed()));
    }
    assert_eq!(answers[0].0, answers[1].0);
    let apart = answers[1].1.abs_diff(answers[0].1);
    let stall = Duration::from_millis(site.stall_ms());
    assert!(apart < Duration::from_secs(1) + stall, "{apart:?} apart");

    // About a leg of somebody in the call as about one of a call that is none: silence.
    let members = json!({ "selected_party_id": "x", "reason": "user_hangup", "candidates": [] });
    for conference in [json!({}), elsewhere] {
        let mut content = stranger.invite_with("there", members.clone());
        content
            .as_object_mut()
            .unwrap()
            .extend(conference.as_object().unwrap().clone());
        for kind in [
            "m.call.hangup",
            "m.call.reject",
            "m.call.select_answer",
            "m.call.candidates",
        ] {
            stranger.send(kind, &content).await;
        }
    }
    healthy
        .refused(&[("not_authorised", 2), ("unknown_call", 8)])
        .await;
    // An answer to any of them would come before the next refusal.
    stranger
        .send("m.call.invite", &stranger.invite("last"))
        .await;
    let heard = until_some("the last refusal", async || {
        let heard = stranger.drain();
        (!heard.is_empty()).then_some(heard)
    })
    .await;
    let heard: Vec<_> = heard
        .iter()
        .map(|message| (message.event_type.as_str(), &message.content["call_id"]))
        .collect();
    assert_eq!(heard, [("m.call.reject", &json!("last"))]);
    healthy.stop_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_can_replay_an_invite_or_touch_the_call_of_another() {
    let healthy = Healthy::start().await;
    let (site, call) = (&healthy.site, &healthy.call);
    let mut carol = Caller::member(site, call, "carol").await;
    let mut carols = carol.call("carols").await;
    let mut mallory = Caller::member(site, call, "mallory").await;
    let line = mallory.call("mallorys").await;

    // In the name of carol's call and of her device, but the homeserver says who sent it.
    let stolen = json!({
        "call_id": "carols", "device_id": carol.device_id(), "party_id": carol.device_id(),
        "sender_session_id": carol.session_id, "reason": "user_hangup", "selected_party_id": "nobody",
        "candidates": [],
    });
    let stolen = mallory.invite_with("carols", stolen);
    for kind in [
        "m.call.hangup",
        "m.call.reject",
        "m.call.select_answer",
        "m.call.candidates",
        "m.call.answer",
    ] {
        let mut content = stolen.clone();
        content["answer"] = json!({"type": "answer", "sdp": "v=0\r\n"});
        mallory.send(kind, &content).await;
    }
    // The own invite once more, during the call and after it.
    mallory
        .send("m.call.invite", &mallory.invite("mallorys"))
        .await;
    healthy
        .refused(&[("unknown_call", 5), ("duplicate", 1)])
        .await;
    mallory
        .send("m.call.hangup", &mallory.invite("mallorys"))
        .await;
    until_some("mallory has hung up", async || {
        (site.metrics().await.get("weir_participants") == 3.0).then_some(())
    })
    .await;
    mallory
        .send("m.call.invite", &mallory.invite("mallorys"))
        .await;
    healthy
        .refused(&[("unknown_call", 5), ("duplicate", 2)])
        .await;
    drop(line);

    // Carol is still there: the focus answers what she says.
    let ping = json!({"type": "m.call.ping", "content": {}});
    carols.link.send_text(&ping.to_string()).await;
    carols
        .listen("a pong for carol", |said| match said {
            FromFocus::Pong => Some(()),
            _ => None,
        })
        .await;
    carol.send("m.call.hangup", &carol.invite("carols")).await;
    healthy.stop_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_messages_on_the_data_channel_are_refused_and_counted() {
    let healthy = Healthy::start().await;
    let (site, call) = (&healthy.site, &healthy.call);
    let mut mallory = Caller::member(site, call, "mallory").await;
    let mut line = mallory.call("mallorys").await;
    line.listen("the first snapshot", |said| {
        matches!(said, FromFocus::Metadata(_)).then_some(())
    })
    .await;
    let say = async |text: String| line.link.send_text(&text).await;
    let message =
        |kind: &str, content: Value| json!({"type": kind, "content": content}).to_string();

    for text in [
        "{",
        "[]",
        "7",
        "\u{0}",
        r#"{"type":7}"#,
        r#"{"content":{}}"#,
    ] {
        say(text.into()).await;
    }
    say("x".repeat(262_144)).await;
    say("[".repeat(200_000)).await;
    say(message("m.call.negotiate", json!({}))).await;
    say(message(
        "m.call.track_subscription",
        json!({"subscribe": 7}),
    ))
    .await;
    for index in 0..10 {
        say(message(&format!("m.call.dance{index}"), json!({}))).await;
    }
    for size in [0, 1, 1000, 100_000] {
        line.link.send_binary(&vec![7; size]).await;
    }
    line.link.send_on_second_channel("{}").await.unwrap();

    let name = |stream: &str, track: &str| json!({"stream_id": stream, "track_id": track, "width": 1, "height": 1});
    let subscribe =
        |names: Vec<Value>| message("m.call.track_subscription", json!({"subscribe": names}));
    let own = name(
        &mallory.local.stream_id,
        mallory.local.video_track.as_ref().unwrap(),
    );
    say(subscribe(vec![own])).await;
    say(subscribe(vec![name("nobody's", "nothing")])).await;
    let many = |count: usize| {
        (0..count)
            .map(|index| name("many", &index.to_string()))
            .collect()
    };
    say(subscribe(many(2000))).await;
    say(subscribe(many(2500))).await;
    let answer = mallory.local.offer(&SSRCS);
    say(Dialect::Late.negotiate("answer", &answer, &Default::default())).await;
    say(Dialect::Late.negotiate("offer", "garbage", &Default::default())).await;
    let counted = [
        ("malformed_message", 10),
        ("unknown_message", 10),
        ("binary_message", 4),
        ("second_channel", 2),
        ("own_track", 1),
        ("too_many_subscriptions", 1),
        ("request_too_long", 1),
        ("unexpected_answer", 1),
        ("bad_sdp", 1),
    ];
    healthy.refused(&counted).await;
    for (code, about) in [
        ("M_INVALID_PARAM", "m.call.track_subscription"),
        ("M_LIMIT_EXCEEDED", "m.call.track_subscription"),
        ("M_TOO_LARGE", "m.call.track_subscription"),
        ("M_INVALID_PARAM", "m.call.negotiate"),
    ] {
        line.listen_for_error(code, about).await;
    }

    let flood = message("m.call.dance", json!({}));
    for _ in 0..2000 {
        line.link.send_text(&flood).await;
    }
    healthy
        .until_grown(&refusals("too_many_messages"), 1000)
        .await;
    mallory
        .send("m.call.hangup", &mallory.invite("mallorys"))
        .await;
    healthy.stop_unharmed().await;
}

/// Sends datagrams at a pace that no socket buffer overflows at: each is to be counted.
async fn send_all(socket: &UdpSocket, to: SocketAddr, datagrams: impl Iterator<Item = Vec<u8>>) {
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    for (index, datagram) in datagrams.enumerate() {
        if index % 20 == 0 {
            pace.tick().await;
        }
        socket.send_to(&datagram, to).unwrap();
    }
}

/// The same sequence in every run (xorshift), so that a failure can be looked at.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn noise_from(first: u8, length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = noise(length.max(1), seed);
    bytes[0] = first;
    bytes
}

/// A binding request for these credentials, with a message integrity that is none (RFC 8489 §14.5).
fn forged_check(ufrags: &str, seed: u64) -> Vec<u8> {
    let mut username = ufrags.as_bytes().to_vec();
    let length = username.len() as u16;
    username.resize(username.len().next_multiple_of(4), 0);
    let mut message = vec![0, 1];
    message.extend((4 + username.len() as u16 + 24).to_be_bytes());
    message.extend([0x21, 0x12, 0xa4, 0x42]);
    message.extend(noise(12, seed));
    message.extend([0, 6]);
    message.extend(length.to_be_bytes());
    message.extend(username);
    message.extend([0, 8, 0, 20]);
    message.extend(noise(20, seed + 1));
    message
}

fn shard_address(answer: &Remote) -> SocketAddr {
    let words: Vec<_> = answer.candidates[0].split(' ').collect();
    format!("{}:{}", words[4], words[5]).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_from_anywhere_is_dropped_and_counted() {
    let healthy = Healthy::start().await;
    let (site, call) = (&healthy.site, &healthy.call);
    let mut carol = Caller::member(site, call, "carol").await;
    let carols = carol.call("carols").await;
    let shard = shard_address(&carols.answer);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();

    // Every range of RFC 7983, and what lies between: STUN, ZRTP, DTLS, TURN, RTP.
    let ranges: [(&[u8], &str); 3] = [
        (&[0, 1, 3], "stun_malformed"),
        (&[4, 15, 16, 19, 64, 79, 80, 127, 192, 255], "garbage"),
        (&[20, 22, 23, 63, 128, 144, 191], "unknown_address"),
    ];
    for (firsts, reason) in ranges {
        let each = |index: u64| {
            let first = firsts[index as usize % firsts.len()];
            noise_from(first, 1 + index as usize % 1400, index)
        };
        send_all(&socket, shard, (0..500).map(each)).await;
        healthy.until_grown(&drops(reason), 500).await;
    }
    send_all(&socket, shard, (0..50).map(|_| Vec::new())).await;
    healthy.until_grown(&drops("garbage"), 550).await;

    // Checks in the name of a leg that exists, and of one that does not.
    let ufrags = format!("{}:{}", carols.answer.ufrag, carol.local.ufrag);
    let forged = |ufrags: &str, seed| forged_check(ufrags, seed);
    send_all(&socket, shard, (0..500).map(|seed| forged(&ufrags, seed))).await;
    healthy
        .until_grown(&drops("stun_unauthenticated"), 500)
        .await;
    send_all(&socket, shard, (0..500).map(|seed| forged("no:body", seed))).await;
    healthy.until_grown(&drops("stun_unknown_user"), 500).await;
    let cut = |seed: u64| forged(&ufrags, seed)[..(seed as usize % 40)].to_vec();
    send_all(&socket, shard, (1..40).map(cut)).await;
    healthy.until_grown(&drops("stun_malformed"), 539).await;

    // Datagrams that no buffer holds, and the largest there are.
    let large = |index: u64| noise_from([1, 22, 128][index as usize % 3], 60_000, index);
    send_all(&socket, shard, (0..60).map(large)).await;
    let unusable = "weir_ring_datagrams_unusable_total{shard=\"0\"}";
    healthy.until_grown(unusable, 1).await;
    carol.send("m.call.hangup", &carol.invite("carols")).await;
    healthy.stop_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_participant_that_sends_garbage_harms_only_itself() {
    let healthy = Healthy::start().await;
    let (site, call) = (&healthy.site, &healthy.call);
    let mut mallory = Caller::member(site, call, "mallory").await;
    let mut line = mallory.call("mallorys").await;

    // Not encrypted by anybody: from an address that the focus believes in.
    for index in 0..300u64 {
        let mut rtp = noise_from(0x80, 200, index);
        rtp[1] = 96;
        line.link.send_raw(&rtp).await;
        let mut rtcp = noise_from(0x80, 60, index);
        rtcp[1] = 200;
        // SRTCP's flag for "encrypted", else it is malformed already.
        let flag = rtcp.len() - 4;
        rtcp[flag] |= 0x80;
        line.link.send_raw(&rtcp).await;
        line.link
            .send_raw(&noise_from(0x80, 1 + index as usize % 11, index))
            .await;
    }
    healthy.until_grown(&drops("unauthenticated"), 400).await;
    healthy.until_grown(&drops("rtp_malformed"), 200).await;

    send_bad_media(&line).await;
    for reason in ["payload_malformed", "unknown_payload_type", "replayed"] {
        healthy.until_grown(&drops(reason), 20).await;
    }
    until_some("the invented sources are dropped", async || {
        let now = site.metrics().await;
        let count = now.get(&drops("unknown_ssrc")) + now.get(&drops("too_many_ssrcs"));
        (count >= 100.0).then_some(())
    })
    .await;

    flood_feedback(&mallory, &mut line, &healthy).await;

    // Records that are none end at most her own association.
    for index in 0..2000u64 {
        let first = [20, 21, 22, 23, 25, 40, 63][index as usize % 7];
        let mut record = noise_from(first, 13 + index as usize % 1200, index);
        record[1..3].copy_from_slice(&[254, 253]);
        line.link.send_raw(&record).await;
    }
    line.link.close().await;
    mallory
        .send("m.call.hangup", &mallory.invite("mallorys"))
        .await;
    until("only two are left for the others", || {
        let of_mallory = |report: Report| stream(&report, mallory.user_id(), Kind::Audio).is_some();
        !of_mallory(healthy.alice.report()) && !of_mallory(healthy.bob.report())
    })
    .await;
    until_some("only two are left", async || {
        (site.metrics().await.get("weir_participants") == 2.0).then_some(())
    })
    .await;
    healthy.stop_unharmed().await;
}

/// What is properly encrypted and wrong inside: descriptors, payload types, sources out of nowhere, repetitions.
async fn send_bad_media(line: &Line) {
    let parameters = |mid: &str, codec: &str| {
        let media = line.answer.media.iter().find(|media| media.mid == mid)?;
        Some(SendParameters {
            mid: mid.into(),
            payload_type: media.payload_type(codec)?,
            extensions: media.extension_ids(),
        })
    };
    let (video, audio) = (parameters("1", "VP8"), parameters("0", "opus"));
    assert!(video.is_some() && audio.is_some());
    let start = Instant::now();
    let clips = Clips::committed();
    let mut publisher = Publisher::new(clips, Ssrcs::random(), video, audio, start);
    for index in 0..2000u32 {
        let Some(mut packet) =
            publisher.poll_packet(start + Duration::from_millis(u64::from(index)))
        else {
            continue;
        };
        match index % 6 {
            // Every extension of the descriptor is announced, and none is there.
            0 => packet.payload = vec![0xff, 0xff].into(),
            1 => {
                packet.header.ssrc = 0x5000_0000 + index;
                packet.header.extensions.clear();
            }
            2 => packet.header.payload_type = 45,
            3 => line.link.send_rtp(&packet).await,
            4 => packet.payload = vec![].into(),
            _ => {}
        }
        line.link.send_rtp(&packet).await;
    }
}

/// Asks for everything, and then for keyframes and retransmissions without end.
async fn flood_feedback(mallory: &Caller, line: &mut Line, healthy: &Healthy) {
    let sender = healthy.alice.report();
    let video = stream(&healthy.bob.report(), &sender.user_id, Kind::Video).unwrap();
    let name = json!({"stream_id": video.stream_id, "track_id": video.track_id, "width": 320, "height": 180});
    let subscribe = json!({"type": "m.call.track_subscription", "content": {"subscribe": [name]}});
    line.link.send_text(&subscribe.to_string()).await;
    let offer = line
        .listen("an offer with alice's camera", |said| match said {
            FromFocus::Negotiate(kind, sdp, _) if kind == "offer" => Remote::parse(sdp),
            _ => None,
        })
        .await;
    let answer = mallory.local.answer(&offer);
    line.link
        .send_text(&Dialect::Late.negotiate("answer", &answer, &Default::default()))
        .await;
    let sent = |media: &&RemoteMedia| media.media_kind().is_some() && media.sends();
    let (media_ssrc, sender_ssrc) = (offer.media.iter().find(sent).unwrap().ssrcs[0], 1);
    let requests = "weir_shard_keyframe_requests_sent_total{shard=\"0\"}";
    let before = healthy.site.metrics().await;
    for round in 0..1000u16 {
        let pli = PictureLossIndication {
            sender_ssrc,
            media_ssrc,
        };
        let nack = TransportLayerNack {
            sender_ssrc,
            media_ssrc,
            nacks: vec![NackPair::new(round); 50],
        };
        line.link.send_rtcp(&[Box::new(pli), Box::new(nack)]).await;
    }
    let received = "weir_shard_keyframe_requests_received_total{shard=\"0\"}";
    let target = before.get(received) + 500.0;
    healthy.site.until_metric(received, target).await;
    let sent = healthy.site.metrics().await.get(requests) - before.get(requests);
    assert!(sent < 50.0, "{sent} keyframe requests for a flood of them");
}
