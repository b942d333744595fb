//! Two foci that call each other, in words: both ends are sessions of this crate.

mod common;

use common::*;
use weir_signal::sdp::{
    Codec, Description, Fingerprint, IceCredentials, LocalParameters, SdpError, Session,
};

fn end(name: &str) -> LocalParameters {
    LocalParameters {
        session_id: 7,
        ice: IceCredentials {
            ufrag: name.to_owned(),
            pwd: format!("{name}-password-of-24-chars"),
        },
        fingerprint: Fingerprint {
            algorithm: "sha-256".to_owned(),
            bytes: vec![0xAB; 32],
        },
        addresses: vec!["192.0.2.1:10000".parse().expect("an address")],
    }
}

/// The calling and the called side, after the call.
fn trunk() -> (Session, Session) {
    let mut calling = Session::calling(end("calling"));
    let mut called = Session::called_by_focus(end("called"));
    let offer = calling.create_offer().expect("the first offer");
    let answer = called.handle_offer(&offer).expect("a usable offer").answer;
    calling.handle_answer(&answer).expect("a usable answer");
    (calling, called)
}

/// An offer of one side is answered by the other.
fn negotiate(from: &mut Session, to: &mut Session) {
    assert!(from.needs_offer());
    let offer = from.create_offer().expect("an offer");
    let answer = to.handle_offer(&offer).expect("a usable offer").answer;
    from.handle_answer(&answer).expect("a usable answer");
}

#[test]
fn the_first_offer_has_a_data_channel_and_the_answer_tells_who_the_other_is() {
    let mut calling = Session::calling(end("calling"));
    let mut called = Session::called_by_focus(end("called"));
    assert!(!calling.needs_offer(), "wishes are for later offers");
    let offer = calling.create_offer().expect("the first offer");
    let description = Description::parse(&offer).expect("SDP");
    assert_eq!(description.sections.len(), 1);
    assert!(!description.ice_lite, "it makes the checks");
    assert!(has_line(&offer, "a=setup:actpass"));
    let answer = called.handle_offer(&offer).expect("a usable offer").answer;
    assert!(has_line(&answer, "a=setup:passive") && has_line(&answer, "a=ice-lite"));
    calling.handle_answer(&answer).expect("a usable answer");
    let remote = calling.remote().expect("the other end");
    assert_eq!(remote.ice.ufrag, "called");
    assert_eq!(remote.candidates.len(), 1);
    assert_eq!(called.remote().expect("the caller").ice.ufrag, "calling");
}

#[test]
fn an_answer_that_does_not_take_the_passive_part_is_refused_and_changes_nothing() {
    let mut calling = Session::calling(end("calling"));
    let offer = calling.create_offer().expect("the first offer");
    let mut called = Session::called_by_focus(end("called"));
    let answer = called.handle_offer(&offer).expect("a usable offer").answer;
    for setup in ["active", "actpass", "holdconn"] {
        let wrong = answer.replace("a=setup:passive", &format!("a=setup:{setup}"));
        assert_eq!(calling.handle_answer(&wrong), Err(SdpError::Setup));
        assert!(calling.remote().is_none() && calling.offer_outstanding());
    }
    calling.handle_answer(&answer).expect("a usable answer");
}

#[test]
fn both_sides_send_tracks_with_all_codecs_and_their_own_sources() {
    let (mut calling, mut called) = trunk();
    for (sends, takes, first_key) in [(true, false, 1), (false, true, 11)] {
        let (from, to) = if sends {
            (&mut calling, &mut called)
        } else {
            assert!(takes);
            (&mut called, &mut calling)
        };
        assert!(from.send_track(video(first_key)) && from.send_track(audio(first_key + 1)));
        negotiate(from, to);
        assert_eq!(from.sending().len(), 2);
        let published = to.published();
        let picture = published
            .iter()
            .find(|track| track.track_id == format!("track-{first_key}"))
            .expect("the picture");
        assert!(picture.active && picture.rids.is_empty());
        assert_eq!(picture.stream_id, format!("stream-{first_key}"));
        assert_eq!(picture.ssrcs, [10 * first_key]);
        assert_eq!(picture.rtx_ssrcs, [10 * first_key + 1]);
        let codecs: Vec<Codec> = picture.codecs.iter().map(|codec| codec.codec).collect();
        assert_eq!(codecs, [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1]);
        assert!(
            picture
                .codecs
                .iter()
                .all(|codec| codec.rtx_payload_type.is_some())
        );
        assert!(picture.extensions.transport_cc.is_some() && picture.extensions.mid.is_some());
        let sent = from.sending();
        let own = sent.iter().find(|of| of.key == first_key).expect("sent");
        assert_eq!((&own.mid, &own.codecs), (&picture.mid, &picture.codecs));
        assert_eq!(own.extensions, picture.extensions);
    }
    assert_eq!(calling.published().len(), 2, "its own are not among them");
}

#[test]
fn a_stopped_track_is_inactive_and_its_section_serves_another() {
    let (mut calling, mut called) = trunk();
    assert!(called.send_track(video(1)));
    negotiate(&mut called, &mut calling);
    called.forget_track(1);
    negotiate(&mut called, &mut calling);
    assert!(calling.published().iter().all(|track| !track.active));
    assert!(called.send_track(video(2)));
    negotiate(&mut called, &mut calling);
    let published = calling.published();
    assert_eq!(published.len(), 1);
    assert_eq!(
        (published[0].track_id.as_str(), published[0].active),
        ("track-2", true)
    );
    assert_eq!(published[0].ssrcs, [20]);
}

#[test]
fn of_two_offers_that_cross_the_calling_sides_wins() {
    let (mut calling, mut called) = trunk();
    assert!(calling.is_impolite() && !called.is_impolite());
    assert!(calling.send_track(video(1)) && called.send_track(video(2)));
    let wins = calling.create_offer().expect("an offer");
    let _dropped = called.create_offer().expect("an offer");
    let offered = called.handle_offer(&wins).expect("a usable offer");
    assert!(offered.rolled_back);
    calling
        .handle_answer(&offered.answer)
        .expect("a usable answer");
    negotiate(&mut called, &mut calling);
    let sent = |session: &Session| session.published()[0].track_id.clone();
    assert_eq!(
        (sent(&called), sent(&calling)),
        ("track-1".into(), "track-2".into())
    );
    let mids: Vec<String> = [&calling, &called]
        .map(|session| session.published()[0].mid.clone())
        .into();
    assert_ne!(mids[0], mids[1], "each side names its own sections");
}
