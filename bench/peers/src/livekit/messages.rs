//! The part of LiveKit's signalling protocol (`livekit_rtc.proto`) that a call needs. Fields and messages that are not here are
//! skipped when they come.

use prost::{Message, Oneof};

/// What a client says.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SignalRequest {
    #[prost(oneof = "Request", tags = "1, 2, 3, 4, 8, 16")]
    pub(crate) message: Option<Request>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Request {
    #[prost(message, tag = "1")]
    Offer(SessionDescription),
    #[prost(message, tag = "2")]
    Answer(SessionDescription),
    #[prost(message, tag = "3")]
    Trickle(Trickle),
    #[prost(message, tag = "4")]
    AddTrack(AddTrack),
    #[prost(message, tag = "8")]
    Leave(Leave),
    #[prost(message, tag = "16")]
    Ping(Ping),
}

/// What the server says.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct SignalResponse {
    #[prost(oneof = "Response", tags = "1, 2, 3, 4, 6, 8")]
    pub(crate) message: Option<Response>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Response {
    #[prost(message, tag = "1")]
    Join(Join),
    #[prost(message, tag = "2")]
    Answer(SessionDescription),
    #[prost(message, tag = "3")]
    Offer(SessionDescription),
    #[prost(message, tag = "4")]
    Trickle(Trickle),
    #[prost(message, tag = "6")]
    TrackPublished(TrackPublished),
    #[prost(message, tag = "8")]
    Leave(Leave),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SessionDescription {
    #[prost(string, tag = "1")]
    pub(crate) kind: String,
    #[prost(string, tag = "2")]
    pub(crate) sdp: String,
    #[prost(uint32, tag = "3")]
    pub(crate) id: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Trickle {
    /// JSON: an `RTCIceCandidateInit`.
    #[prost(string, tag = "1")]
    pub(crate) candidate_init: String,
    /// 0 is the transport that the client publishes on, 1 the one that it subscribes on.
    #[prost(int32, tag = "2")]
    pub(crate) target: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AddTrack {
    /// The track's id in the client's description.
    #[prost(string, tag = "1")]
    pub(crate) cid: String,
    /// 0 is audio, 1 video.
    #[prost(int32, tag = "3")]
    pub(crate) kind: i32,
    #[prost(uint32, tag = "4")]
    pub(crate) width: u32,
    #[prost(uint32, tag = "5")]
    pub(crate) height: u32,
    /// 1 is a camera, 2 a microphone.
    #[prost(int32, tag = "8")]
    pub(crate) source: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TrackPublished {
    #[prost(string, tag = "1")]
    pub(crate) cid: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Join {
    #[prost(string, tag = "4")]
    pub(crate) server_version: String,
    /// Seconds.
    #[prost(int32, tag = "11")]
    pub(crate) ping_interval: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Leave {
    #[prost(int32, tag = "2")]
    pub(crate) reason: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Ping {
    /// Milliseconds since 1970.
    #[prost(int64, tag = "1")]
    pub(crate) timestamp: i64,
}

impl From<Request> for SignalRequest {
    fn from(request: Request) -> SignalRequest {
        SignalRequest {
            message: Some(request),
        }
    }
}

/// The candidate in a `Trickle`; `None` if there is none, or only the end of them.
pub(crate) fn candidate_of(trickle: &Trickle) -> Option<String> {
    let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init).ok()?;
    let candidate = init["candidate"].as_str()?;
    (!candidate.is_empty()).then(|| candidate.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_written_as_the_protocol_says() {
        let answer = SessionDescription {
            kind: "answer".into(),
            sdp: "v=0".into(),
            id: 3,
        };
        let bytes = SignalRequest::from(Request::Answer(answer)).encode_to_vec();
        assert_eq!(bytes, b"\x12\x0f\x0a\x06answer\x12\x03v=0\x18\x03");
    }

    #[test]
    fn a_join_is_read_and_what_is_unknown_skipped() {
        // Field 1 with a room (its name in 2), field 4, field 11, and a field 250 from the future.
        let bytes = b"\x0a\x15\x0a\x03\x12\x01r\x22\x061.9.11\x58\x0a\xd2\x0f\x03abc";
        let response = SignalResponse::decode(&bytes[..]).expect("a response");
        let join = Join {
            server_version: "1.9.11".into(),
            ping_interval: 10,
        };
        assert_eq!(response.message, Some(Response::Join(join)));
        // Field 10 of a response: nothing that is needed here.
        let response = SignalResponse::decode(&b"\x52\x02\x08\x01"[..]).expect("a response");
        assert_eq!(response.message, None);
    }

    #[test]
    fn noise_is_an_error_and_no_panic() {
        for bytes in [
            &b"\x0a\xff"[..],
            b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
            b"\x00",
        ] {
            assert!(SignalResponse::decode(bytes).is_err(), "{bytes:02x?}");
        }
    }

    #[test]
    fn candidates_are_taken_out_of_their_json() {
        let trickle = |init: &str| Trickle {
            candidate_init: init.into(),
            target: 1,
        };
        let init = r#"{"candidate":"candidate:1 1 udp 2 10.0.0.1 7 typ host","sdpMid":"0","sdpMLineIndex":0}"#;
        assert_eq!(
            candidate_of(&trickle(init)).as_deref(),
            Some("candidate:1 1 udp 2 10.0.0.1 7 typ host")
        );
        for none in [
            r#"{"candidate":""}"#,
            "{}",
            "[",
            "null",
            r#"{"candidate":7}"#,
        ] {
            assert_eq!(candidate_of(&trickle(none)), None, "{none}");
        }
    }
}
