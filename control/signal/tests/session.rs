//! One peer connection as the focus sees it, against what Chromium says.

mod common;

use common::*;
use weir_signal::sdp::{
    Codec, CodecMapping, Direction, IceCredentials, MediaKind, SdpError, SectionKind,
};

#[test]
fn checklist_04_an_answer_takes_everything_in_one_bundle() {
    let answer = session()
        .handle_offer(FIRST_OFFER)
        .expect("a usable offer")
        .answer;
    for line in ["a=group:BUNDLE 0 1 2", "a=ice-lite", "a=setup:passive"] {
        assert!(has_line(&answer, line), "{line} not in\n{answer}");
    }
    let (audio, video, data) = (
        section_of(&answer, "0"),
        section_of(&answer, "1"),
        section_of(&answer, "2"),
    );
    for section in [&audio, &video] {
        for line in ["a=recvonly", "a=rtcp-mux", "a=rtcp-rsize"] {
            assert!(has_line(section, line), "{line} not in\n{section}");
        }
    }
    assert!(
        audio.starts_with("m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\n"),
        "{audio}"
    );
    assert!(has_line(&audio, "a=rtpmap:111 opus/48000/2"));
    assert!(
        video.starts_with("m=video 9 UDP/TLS/RTP/SAVPF 96 97 "),
        "{video}"
    );
    let kept = [
        "a=rtpmap:96 VP8/90000",
        "a=rtcp-fb:96 transport-cc",
        "a=rtcp-fb:96 ccm fir",
        "a=rtcp-fb:96 nack",
        "a=rtcp-fb:96 nack pli",
        "a=rtpmap:97 rtx/90000",
        "a=fmtp:97 apt=96",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        "a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    ];
    for line in kept {
        assert!(has_line(&video, line), "{line} not in\n{video}");
    }
    assert!(!answer.contains("goog-remb"));
    assert!(data.starts_with("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    assert!(has_line(&data, "a=sctp-port:5000") && has_line(&data, "a=max-message-size:262144"));
}

#[test]
fn checklist_05_the_answer_alone_has_all_candidates() {
    let answer = session()
        .handle_offer(FIRST_OFFER)
        .expect("a usable offer")
        .answer;
    let first = section_of(&answer, "0");
    assert!(has_line(
        &first,
        "a=candidate:1 1 udp 2130706431 192.0.2.1 10000 typ host"
    ));
    assert!(has_line(
        &first,
        "a=candidate:2 1 udp 2130706175 2001:db8::1 10000 typ host"
    ));
    assert!(has_line(&first, "a=end-of-candidates"));
    // The offer itself had none, which is all right for an ICE-lite end.
    let mut session = session();
    session.handle_offer(FIRST_OFFER).expect("a usable offer");
    assert!(
        session
            .remote()
            .expect("a remote end")
            .candidates
            .is_empty()
    );
}

#[test]
fn reads_what_chromium_publishes() {
    let mut session = session();
    session.handle_offer(FIRST_OFFER).expect("a usable offer");
    let published = session.published();
    assert_eq!(
        published
            .iter()
            .map(|track| (track.mid.as_str(), track.kind))
            .collect::<Vec<_>>(),
        [("0", MediaKind::Audio), ("1", MediaKind::Video)]
    );
    assert!(published[0].rids.is_empty() && published[0].active);
    assert_eq!(
        published[0].codecs[0],
        CodecMapping {
            payload_type: 111,
            codec: Codec::Opus,
            clock_rate: 48000,
            rtx_payload_type: None
        }
    );
    assert_eq!(published[0].extensions.audio_level, Some(1));
    let camera = &published[1];
    assert_eq!(
        camera
            .rids
            .iter()
            .map(|rid| rid.id.as_str())
            .collect::<Vec<_>>(),
        ["f", "h", "q"]
    );
    assert!(camera.ssrcs.is_empty());
    assert_eq!(
        camera.codecs[0],
        CodecMapping {
            payload_type: 96,
            codec: Codec::Vp8,
            clock_rate: 90000,
            rtx_payload_type: Some(97)
        }
    );
    let ids = camera.extensions;
    assert_eq!(
        (ids.mid, ids.rid, ids.repaired_rid, ids.transport_cc),
        (Some(4), Some(10), Some(11), Some(3))
    );
    assert_eq!(camera.stream_id, published[0].stream_id);
    assert_ne!(camera.track_id, published[0].track_id);
}

#[test]
fn checklist_08_every_description_asks_for_all_layers() {
    let (mut session, mut browser) = joined();
    let asked = [
        "a=rid:f recv",
        "a=rid:h recv",
        "a=rid:q recv",
        "a=simulcast:recv f;h;q",
    ];
    let answer = session
        .handle_offer(&browser.offer())
        .expect("a usable offer")
        .answer;
    assert!(
        asked
            .iter()
            .all(|line| has_line(&section_of(&answer, "1"), line))
    );
    for key in 1..=3 {
        assert!(session.send_track(video(key)));
        let camera = section_of(&negotiate(&mut session, &mut browser), "1");
        assert!(asked.iter().all(|line| has_line(&camera, line)), "{camera}");
        assert_eq!(direction_of(&camera), "recvonly");
    }
    // Layers that the browser has paused are asked for again.
    browser.sections[1] =
        browser.sections[1].replace("a=simulcast:send f;h;q", "a=simulcast:send f;~h;~q");
    let answer = session
        .handle_offer(&browser.offer())
        .expect("a usable offer")
        .answer;
    assert!(
        asked
            .iter()
            .all(|line| has_line(&section_of(&answer, "1"), line))
    );
    assert_eq!(
        session.published()[1]
            .rids
            .iter()
            .map(|rid| rid.paused)
            .collect::<Vec<_>>(),
        [false, true, true]
    );
}

#[test]
fn checklist_16_a_track_is_offered_under_its_names_on_a_section_of_its_own() {
    let (mut session, mut browser) = joined();
    assert!(session.send_track(audio(1)) && session.send_track(video(2)));
    let offer = negotiate(&mut session, &mut browser);
    assert_eq!(read(&offer).sections.len(), 5);
    assert!(has_line(&offer, "a=setup:actpass") && has_line(&offer, "a=group:BUNDLE 0 1 2 w0 w1"));
    let section = section_of(&offer, "w1");
    let expected = [
        "a=sendonly",
        "a=msid:stream-2 track-2",
        "a=ssrc-group:FID 20 21",
        "a=ssrc:20 cname:someone",
        "a=ssrc:20 msid:stream-2 track-2",
        "a=ssrc:21 cname:someone",
        "a=rtpmap:96 VP8/90000",
        "a=fmtp:97 apt=96",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
    ];
    for line in expected {
        assert!(has_line(&section, line), "{line} not in\n{section}");
    }
    assert!(!section.contains("rtp-stream-id"), "{section}");
    let sending = session.sending();
    assert_eq!(
        sending
            .iter()
            .map(|sent| (sent.key, sent.mid.as_str()))
            .collect::<Vec<_>>(),
        [(1, "w0"), (2, "w1")]
    );
    assert_eq!(
        sending[1].codecs[0],
        CodecMapping {
            payload_type: 96,
            codec: Codec::Vp8,
            clock_rate: 90000,
            rtx_payload_type: Some(97)
        }
    );
    assert_eq!(
        (sending[1].extensions.mid, sending[1].extensions.rid),
        (Some(4), None)
    );
}

#[test]
fn checklist_18_the_same_wish_again_is_no_negotiation() {
    let (mut session, mut browser) = joined();
    session.send_track(video(1));
    negotiate(&mut session, &mut browser);
    session.send_track(video(1));
    assert!(!session.needs_offer());
}

#[test]
fn checklist_20_a_track_comes_back_on_its_own_section() {
    let (mut session, mut browser) = joined();
    session.send_track(video(1));
    negotiate(&mut session, &mut browser);
    session.stop_track(1);
    assert!(session.sending().is_empty());
    let offer = negotiate(&mut session, &mut browser);
    assert_eq!(direction_of(&section_of(&offer, "w0")), "inactive");
    session.send_track(video(2));
    session.send_track(video(1));
    let offer = negotiate(&mut session, &mut browser);
    let again = section_of(&offer, "w0");
    assert_eq!(direction_of(&again), "sendonly");
    assert!(has_line(&again, "a=msid:stream-1 track-1"));
    assert!(has_line(
        &section_of(&offer, "w1"),
        "a=msid:stream-2 track-2"
    ));
    assert_eq!(session.sending().len(), 2);
}

#[test]
fn checklist_21_a_section_gets_another_track_only_after_its_own_is_gone_and_silent() {
    let (mut session, mut browser) = joined();
    session.send_track(video(1));
    negotiate(&mut session, &mut browser);
    // Stopped but still advertised: a new track gets a new section.
    session.stop_track(1);
    session.send_track(video(2));
    let offer = negotiate(&mut session, &mut browser);
    assert_eq!(direction_of(&section_of(&offer, "w0")), "inactive");
    assert!(has_line(
        &section_of(&offer, "w1"),
        "a=msid:stream-2 track-2"
    ));
    // Gone, and known to be silent: its section is free.
    session.forget_track(1);
    assert!(!session.needs_offer());
    session.send_track(video(3));
    let offer = negotiate(&mut session, &mut browser);
    assert!(has_line(
        &section_of(&offer, "w0"),
        "a=msid:stream-3 track-3"
    ));
    // Gone while it flows: first silence, then another track.
    session.forget_track(2);
    session.send_track(video(4));
    let offer = negotiate(&mut session, &mut browser);
    assert_eq!(direction_of(&section_of(&offer, "w1")), "inactive");
    assert!(has_line(
        &section_of(&offer, "w2"),
        "a=msid:stream-4 track-4"
    ));
    session.send_track(video(5));
    let offer = negotiate(&mut session, &mut browser);
    assert!(has_line(
        &section_of(&offer, "w1"),
        "a=msid:stream-5 track-5"
    ));
    assert_eq!(read(&offer).sections.len(), 6);
}

#[test]
fn checklist_26_a_track_keeps_its_first_stream_id_through_two_offers() {
    let (mut session, mut browser) = joined();
    let first = session.published();
    let (stream_id, camera) = (first[1].stream_id.clone(), browser.sections[1].clone());
    browser.sections[1] = camera.replace(&format!("a=msid:{stream_id} "), "a=msid:another-stream ");
    session
        .handle_offer(&browser.offer())
        .expect("a usable offer");
    let changed = &session.published()[1];
    assert_eq!(
        (
            changed.stream_id.as_str(),
            changed.current_stream_id.as_str()
        ),
        (stream_id.as_str(), "another-stream")
    );
    assert_eq!(changed.track_id, first[1].track_id);
    browser.sections[1] = camera;
    session
        .handle_offer(&browser.offer())
        .expect("a usable offer");
    assert_eq!(session.published(), first);
}

#[test]
fn checklist_27_a_screen_share_is_a_new_section_each_time() {
    let mut session = session();
    let mut browser = Browser::new(FIRST_OFFER);
    session
        .handle_offer(&browser.offer())
        .expect("a usable offer");
    let screen = split(SCREEN_SHARE_ON)
        .1
        .into_iter()
        .find(|section| section.starts_with("m=video") && has_line(section, "a=sendonly"))
        .expect("a screen");
    let mid = mid_of(&screen);
    for round in 0..3_usize {
        let own = screen.replace(
            &format!("a=mid:{mid}\r\n"),
            &format!("a=mid:{}\r\n", 10 + round),
        );
        let own: String = own
            .lines()
            .map(|line| {
                if line.starts_with("a=msid:") {
                    format!("a=msid:screen-{round} shot-{round}\r\n")
                } else {
                    format!("{line}\r\n")
                }
            })
            .collect();
        browser.sections.push(own);
        let answer = session
            .handle_offer(&browser.offer())
            .expect("a usable offer")
            .answer;
        let section = section_of(&answer, &(10 + round).to_string());
        assert_eq!(direction_of(&section), "recvonly");
        assert!(has_line(&section, "a=simulcast:recv f;h;q"), "{section}");
        let published = session.published();
        let shared = published.last().expect("a track");
        assert_eq!(
            (
                shared.stream_id.as_str(),
                shared.track_id.as_str(),
                shared.active
            ),
            (&*format!("screen-{round}"), &*format!("shot-{round}"), true)
        );
        let last = browser.sections.len() - 1;
        browser.sections[last] = with_direction(&browser.sections[last], "inactive");
    }
    assert_eq!(browser.sections.len(), 6);
}

#[test]
fn checklist_28_an_inactive_section_is_unpublished() {
    let (mut session, mut browser) = joined();
    browser.sections[1] = with_direction(&browser.sections[1], "inactive");
    let answer = session
        .handle_offer(&browser.offer())
        .expect("a usable offer")
        .answer;
    assert_eq!(direction_of(&section_of(&answer, "1")), "inactive");
    assert!(!section_of(&answer, "1").contains("a=simulcast"));
    assert_eq!(
        session
            .published()
            .iter()
            .map(|track| track.active)
            .collect::<Vec<_>>(),
        [true, false]
    );
    // So is one that the browser has stopped altogether.
    browser.sections[0] = browser.sections[0].replacen("m=audio 9 ", "m=audio 0 ", 1);
    let answer = session
        .handle_offer(&browser.offer())
        .expect("a usable offer")
        .answer;
    assert!(section_of(&answer, "0").starts_with("m=audio 0 "));
    assert!(has_line(&answer, "a=group:BUNDLE 1 2"), "{answer}");
    assert!(session.published().iter().all(|track| !track.active));
}

#[test]
fn checklist_29_the_participant_may_publish_on_a_section_of_the_focus() {
    let mut session = session();
    let mut browser = Browser::new(AUDIO_ONLY);
    session
        .handle_offer(&browser.offer())
        .expect("a usable offer");
    session.send_track(video(1));
    negotiate(&mut session, &mut browser);
    let index = browser.sections.len() - 1;
    let camera = with_direction(&browser.sections[index], "sendrecv")
        + "a=msid:late camera\r\na=ssrc-group:FID 77 78\r\na=ssrc:77 cname:me\r\na=ssrc:78 cname:me\r\n";
    browser.sections[index] = camera;
    let answer = session
        .handle_offer(&browser.offer())
        .expect("a usable offer")
        .answer;
    let section = section_of(&answer, "w0");
    assert_eq!(direction_of(&section), "sendrecv");
    assert!(has_line(&section, "a=msid:stream-1 track-1"));
    let published = session.published();
    let camera = published.last().expect("a track");
    assert_eq!(
        (camera.mid.as_str(), camera.track_id.as_str(), camera.active),
        ("w0", "camera", true)
    );
    assert!(camera.rids.is_empty());
    assert_eq!(
        (camera.ssrcs.as_slice(), camera.rtx_ssrcs.as_slice()),
        (&[77][..], &[78][..])
    );
    assert_eq!(session.sending().len(), 1);
    // The focus stops: the participant's camera stays.
    session.stop_track(1);
    let offer = session.create_offer().expect("an offer");
    assert_eq!(direction_of(&section_of(&offer, "w0")), "recvonly");
}

#[test]
fn checklist_30_wishes_wait_while_an_offer_is_outstanding() {
    let (mut session, mut browser) = joined();
    session.send_track(video(1));
    let offer = session.create_offer().expect("an offer");
    session.send_track(video(2));
    session.send_track(audio(3));
    session.stop_track(1);
    assert!(!session.needs_offer() && session.offer_outstanding());
    assert_eq!(session.create_offer(), None);
    session
        .handle_answer(&browser.answer(&offer))
        .expect("a usable answer");
    let offer = negotiate(&mut session, &mut browser);
    assert_eq!(read(&offer).sections.len(), 6);
    assert_eq!(direction_of(&section_of(&offer, "w0")), "inactive");
    assert!(!session.needs_offer());
}

#[test]
fn checklist_31_an_offer_that_crosses_an_own_one_wins() {
    let (mut session, mut browser) = joined();
    session.send_track(video(1));
    let lost = session.create_offer().expect("an offer");
    let answer_to_lost = Browser::new(FIRST_OFFER).answer(&lost);
    // The browser has dropped it and wants a section of its own in the same place.
    let screen = browser.sections[1].replace("a=mid:1\r\n", "a=mid:3\r\n");
    browser.sections.push(screen);
    let offered = session
        .handle_offer(&browser.offer())
        .expect("a usable offer");
    assert!(offered.rolled_back);
    assert_eq!(read(&offered.answer).sections.len(), 4);
    assert_eq!(
        session.handle_answer(&answer_to_lost),
        Err(SdpError::NoOffer)
    );
    let offer = negotiate(&mut session, &mut browser);
    assert_eq!(read(&offer).sections.len(), 5);
    assert_eq!(session.sending().len(), 1);
}

#[test]
fn checklist_31_an_offer_that_is_never_answered_can_be_made_again() {
    let (mut session, mut browser) = joined();
    session.send_track(video(1));
    session.create_offer().expect("an offer");
    session.rollback();
    assert!(session.needs_offer());
    negotiate(&mut session, &mut browser);
    assert_eq!(session.sending().len(), 1);
}

#[test]
fn checklist_32_numbers_and_mids_stay() {
    let (mut session, mut browser) = joined();
    session.send_track(video(1));
    let first = section_of(&negotiate(&mut session, &mut browser), "w0");
    for key in 2..5 {
        session.send_track(video(key));
        assert_eq!(
            section_of(&negotiate(&mut session, &mut browser), "w0"),
            first
        );
    }
    let answer = session
        .handle_offer(&browser.offer())
        .expect("a usable offer")
        .answer;
    assert_eq!(section_of(&answer, "w0"), first);
}

#[test]
fn checklist_32_a_repeated_parameter_is_said_once() {
    let repeated = FIRST_OFFER.replace("useinbandfec=1", "useinbandfec=1;usedtx=1;usedtx=1");
    let answer = session()
        .handle_offer(&repeated)
        .expect("a usable offer")
        .answer;
    assert!(
        has_line(&answer, "a=fmtp:111 minptime=10;useinbandfec=1;usedtx=1"),
        "{answer}"
    );
}

#[test]
fn checklist_32_a_description_of_100_kb_is_taken() {
    let (mut session, mut browser) = joined();
    for key in 1..=100 {
        session.send_track(if key % 2 == 0 { video(key) } else { audio(key) });
    }
    let offer = negotiate(&mut session, &mut browser);
    assert!(
        offer.len() > 100_000 && offer.len() < 256 * 1024,
        "{}",
        offer.len()
    );
    assert_eq!(session.sending().len(), 100);
}

#[test]
fn checklist_33_answers_keep_own_sections() {
    let (mut session, mut browser) = joined();
    session.send_track(audio(1));
    session.send_track(video(2));
    negotiate(&mut session, &mut browser);
    let answer = session
        .handle_offer(&browser.offer())
        .expect("a usable offer")
        .answer;
    for (mid, msid) in [
        ("w0", "a=msid:stream-1 track-1"),
        ("w1", "a=msid:stream-2 track-2"),
    ] {
        let section = section_of(&answer, mid);
        assert_eq!(direction_of(&section), "sendonly");
        assert!(has_line(&section, msid), "{section}");
    }
    assert_eq!(session.sending().len(), 2);
    assert!(!session.needs_offer());
}

#[test]
fn checklist_34_an_ice_restart_is_answered_with_new_credentials() {
    let (mut session, mut browser) = joined();
    let before = session.remote().expect("a remote end").ice.clone();
    assert!(!session.restarts_ice(&browser.offer()));
    for section in &mut browser.sections {
        *section = section
            .replace(&before.ufrag, "nEwU")
            .replace(&before.pwd, "aNewPasswordOfTheBrowser");
    }
    let offer = browser.offer();
    assert!(session.restarts_ice(&offer));
    session.set_local_ice(IceCredentials {
        ufrag: "newf".to_owned(),
        pwd: "newfocuspasswordnewfoc".to_owned(),
    });
    let offered = session.handle_offer(&offer).expect("a usable offer");
    assert!(offered.ice_restarted);
    assert!(
        has_line(&offered.answer, "a=ice-ufrag:newf")
            && has_line(&offered.answer, "a=ice-pwd:newfocuspasswordnewfoc")
    );
    assert_eq!(session.remote().expect("a remote end").ice.ufrag, "nEwU");
    assert!(!session.restarts_ice(&offer));
}

#[test]
fn what_the_focus_does_not_speak_is_rejected_outside_the_bundle() {
    let mut browser = Browser::new(FIRST_OFFER);
    browser.sections.push(
        "m=text 9 UDP/TLS/RTP/SAVPF 98\r\nc=IN IP4 0.0.0.0\r\na=mid:t\r\na=rtcp-mux\r\n".to_owned(),
    );
    browser.sections[0] = browser.sections[0].replace("opus/48000/2", "lyra/48000/2");
    let answer = session()
        .handle_offer(&browser.offer())
        .expect("a usable offer")
        .answer;
    assert!(has_line(&answer, "a=group:BUNDLE 1 2"), "{answer}");
    assert!(section_of(&answer, "0").starts_with("m=audio 0 UDP/TLS/RTP/SAVPF 111\r\n"));
    assert!(section_of(&answer, "t").starts_with("m=text 0 UDP/TLS/RTP/SAVPF 98\r\n"));
    // The candidates are then in the first section that is left.
    assert!(has_line(&section_of(&answer, "1"), "a=end-of-candidates"));
}

#[test]
fn a_rejected_section_of_the_focus_is_not_offered_for_ever() {
    let (mut session, mut browser) = joined();
    session.send_track(video(1));
    let offer = session.create_offer().expect("an offer");
    let answer = browser.answer(&offer);
    let refused = section_of(&answer, "w0").replacen("m=video 9 ", "m=video 0 ", 1);
    session
        .handle_answer(&answer.replace(&section_of(&answer, "w0"), &refused))
        .expect("a usable answer");
    assert!(session.sending().is_empty() && !session.needs_offer());
    session.send_track(video(1));
    assert!(session.needs_offer());
}

#[test]
fn a_participant_without_video_gets_some_under_the_usual_numbers() {
    let mut session = session();
    let mut browser = Browser::new(AUDIO_ONLY);
    session
        .handle_offer(&browser.offer())
        .expect("a usable offer");
    session.send_track(video(1));
    let offer = negotiate(&mut session, &mut browser);
    let section = section_of(&offer, "w0");
    assert!(
        section.starts_with("m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"),
        "{section}"
    );
    assert!(has_line(
        &section,
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid"
    ));
    assert_eq!(session.sending()[0].codecs[0].rtx_payload_type, Some(97));
}

#[test]
fn refuses_what_cannot_be_one_transport_and_stays_as_it_was() {
    let (mut session, browser) = joined();
    let offer = browser.offer();
    let fingerprint = read(&offer).sections[0].fingerprints[0]
        .bytes
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":");
    let other = fingerprint
        .replace(':', "")
        .chars()
        .rev()
        .collect::<Vec<_>>()
        .chunks(2)
        .map(|pair| pair.iter().collect::<String>())
        .collect::<Vec<_>>()
        .join(":");
    assert_eq!(
        session.handle_offer(&offer.replace(&fingerprint, &other)),
        Err(SdpError::FingerprintChanged)
    );
    assert_eq!(
        session.handle_offer(&offer.replace("a=mid:1\r\n", "a=mid:0\r\n")),
        Err(SdpError::Mid)
    );
    assert_eq!(
        session.handle_offer(&offer.replace("a=mid:1\r\n", "a=mid:9\r\n")),
        Err(SdpError::Sections)
    );
    assert_eq!(
        session.handle_offer(&split(&offer).0),
        Err(SdpError::Sections)
    );
    assert_eq!(
        session.handle_offer(&offer.replace("a=setup:actpass", "a=setup:passive")),
        Err(SdpError::Setup)
    );
    assert_eq!(session.handle_offer(""), Err(SdpError::Syntax));
    assert_eq!(
        session.handle_offer(&"a".repeat(262_145)),
        Err(SdpError::TooLong)
    );
    assert_eq!(
        common::session().handle_offer(&offer.replace("a=ice-pwd:", "a=ice-pwd:x\r\na=x:")),
        Err(SdpError::Ice)
    );
    assert!(session.handle_offer(&offer).is_ok());
    assert_eq!(session.published().len(), 2);
}

#[test]
fn ids_that_would_break_a_line_are_not_written() {
    let (mut session, _) = joined();
    for id in ["a b", "a\r\na=ice-ufrag:evil", "", "ü"] {
        assert!(
            !session.send_track(weir_signal::sdp::SendTrack {
                track_id: id.to_owned(),
                ..video(1)
            }),
            "{id:?}"
        );
    }
    assert!(!session.needs_offer());
}

#[test]
fn the_model_reads_both_sides() {
    let (mut session, mut browser) = joined();
    session.send_track(video(1));
    let offer = read(&negotiate(&mut session, &mut browser));
    assert!(offer.ice_lite && offer.bundle == ["0", "1", "2", "w0"]);
    assert_eq!(offer.ice().map(|ice| ice.ufrag.as_str()), Some("fufr"));
    let section = offer.by_mid("w0").expect("the section");
    assert_eq!(
        (section.kind, section.direction, section.ssrcs.as_slice()),
        (SectionKind::Video, Direction::SendOnly, &[10, 11][..])
    );
    assert_eq!(section.ssrc_groups[0].semantics, "FID");
    assert_eq!(section.fingerprints[0].bytes, [0xAB; 32]);
    assert_eq!(
        section
            .msid
            .as_ref()
            .and_then(|msid| msid.track_id.as_deref()),
        Some("track-1")
    );
    assert_eq!(offer.sections[0].candidates.len(), 2);
    assert_eq!(offer.sections[2].sctp_port, Some(5000));
    assert_eq!(offer.sections[1].simulcast_recv.len(), 3);
}

#[test]
fn what_is_repeated_in_own_offers_is_short() {
    let mut session = session();
    let offer = FIRST_OFFER.replace(
        "useinbandfec=1",
        &format!("useinbandfec=1;x={}", "y".repeat(100_000)),
    );
    session.handle_offer(&offer).expect("a usable offer");
    session.send_track(audio(1));
    let offer = session.create_offer().expect("an offer");
    assert!(offer.len() < 10_000, "{}", offer.len());
}
