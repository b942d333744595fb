//! From the state of a session to text.
//!
//! What is the same for all sections (ICE, fingerprint, DTLS role) stands once at session level: a description with 100 sections
//! must fit into one data channel message.

use std::fmt::Write as _;

use super::line::{Line, Purpose};
use super::{Candidate, Fingerprint, IceCredentials, SendTrack, Sends};

/// DTLS role that a description states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// In offers (RFC 8842 §5.2), also when the association exists.
    ActPass,
    /// In answers to a participant, whose server the focus is.
    Passive,
    /// In answers to a focus that this one has called.
    Active,
}

/// What stands at session level.
pub(super) struct Head<'a> {
    pub(super) session_id: u64,
    pub(super) session_version: u64,
    pub(super) ice: &'a IceCredentials,
    pub(super) fingerprint: &'a Fingerprint,
    pub(super) role: Role,
    pub(super) ice_lite: bool,
    pub(super) extmap_allow_mixed: bool,
    pub(super) candidates: &'a [Candidate],
}

/// One section and the track that the focus sends in it, if any.
pub(super) struct Body<'a> {
    pub(super) line: &'a Line,
    pub(super) sent: Option<&'a SendTrack>,
}

/// The whole description.
pub(super) fn description(head: &Head<'_>, bodies: &[Body<'_>]) -> String {
    let mut out = Text(String::with_capacity(512 + 1536 * bodies.len()));
    out.line(format_args!("v=0"));
    out.line(format_args!(
        "o=- {} {} IN IP4 127.0.0.1",
        head.session_id, head.session_version
    ));
    out.line(format_args!("s=-"));
    out.line(format_args!("t=0 0"));
    let bundle: Vec<&str> = bodies
        .iter()
        .filter(|body| !body.line.rejected)
        .map(|body| body.line.mid.as_str())
        .collect();
    if !bundle.is_empty() {
        out.line(format_args!("a=group:BUNDLE {}", bundle.join(" ")));
    }
    if head.extmap_allow_mixed {
        out.line(format_args!("a=extmap-allow-mixed"));
    }
    out.line(format_args!("a=msid-semantic: WMS *"));
    if head.ice_lite {
        out.line(format_args!("a=ice-lite"));
    }
    out.line(format_args!("a=ice-ufrag:{}", head.ice.ufrag));
    out.line(format_args!("a=ice-pwd:{}", head.ice.pwd));
    out.line(format_args!(
        "a=fingerprint:{} {}",
        head.fingerprint.algorithm,
        hex(&head.fingerprint.bytes)
    ));
    out.line(format_args!(
        "a=setup:{}",
        match head.role {
            Role::ActPass => "actpass",
            Role::Passive => "passive",
            Role::Active => "active",
        }
    ));
    // Candidates belong to the bundle, which is described by its first section.
    let mut candidates = Some(head.candidates);
    for body in bodies {
        section(
            &mut out,
            body,
            if body.line.rejected {
                None
            } else {
                candidates.take()
            },
        );
    }
    out.0
}

fn section(out: &mut Text, body: &Body<'_>, candidates: Option<&[Candidate]>) {
    let line = body.line;
    if line.rejected {
        out.line(format_args!(
            "m={} 0 {} {}",
            line.media, line.protocol, line.first_format
        ));
        out.line(format_args!("c=IN IP4 0.0.0.0"));
        out.line(format_args!("a=mid:{}", line.mid));
        if line.purpose != Purpose::DataChannel {
            out.line(format_args!("a=inactive"));
        }
        return;
    }
    let formats = match line.purpose {
        Purpose::Media(_) => {
            let numbers = line.codecs.iter().flat_map(|codec| {
                [
                    Some(codec.mapping.payload_type),
                    codec.mapping.rtx_payload_type,
                ]
            });
            numbers
                .flatten()
                .map(|number| number.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        }
        Purpose::DataChannel | Purpose::Foreign => "webrtc-datachannel".to_owned(),
    };
    out.line(format_args!(
        "m={} 9 {} {formats}",
        line.media, line.protocol
    ));
    out.line(format_args!("c=IN IP4 0.0.0.0"));
    for candidate in candidates.into_iter().flatten() {
        out.line(format_args!("a={}", candidate.to_line()));
    }
    if candidates.is_some() {
        out.line(format_args!("a=end-of-candidates"));
    }
    out.line(format_args!("a=mid:{}", line.mid));
    if let Purpose::Media(_) = line.purpose {
        media(out, body);
    } else {
        out.line(format_args!("a=sctp-port:5000"));
        out.line(format_args!(
            "a=max-message-size:{}",
            crate::limits::CHANNEL_MESSAGE_BYTES_MAX
        ));
    }
}

fn media(out: &mut Text, body: &Body<'_>) {
    let line = body.line;
    out.line(format_args!(
        "a={}",
        line.direction(Sends(body.sent.is_some())).as_str()
    ));
    for extmap in &line.extmaps {
        out.line(format_args!("a=extmap:{} {}", extmap.id, extmap.uri));
    }
    out.line(format_args!("a=rtcp-mux"));
    out.line(format_args!("a=rtcp-rsize"));
    for codec in &line.codecs {
        let number = codec.mapping.payload_type;
        out.line(format_args!("a=rtpmap:{number} {}", codec.rtpmap));
        for feedback in &codec.rtcp_fb {
            out.line(format_args!("a=rtcp-fb:{number} {feedback}"));
        }
        if !codec.fmtp.is_empty() {
            out.line(format_args!("a=fmtp:{number} {}", codec.fmtp));
        }
        if let Some(rtx) = codec.mapping.rtx_payload_type {
            out.line(format_args!(
                "a=rtpmap:{rtx} rtx/{}",
                codec.mapping.clock_rate
            ));
            out.line(format_args!("a=fmtp:{rtx} apt={number}"));
        }
    }
    // In every description, also own offers: Chromium pauses layers that are not asked for again. Paused ones are asked for, too.
    if line.remote.sends && !line.remote.rids.is_empty() {
        for rid in &line.remote.rids {
            out.line(format_args!("a=rid:{} recv", rid.id));
        }
        let rids: Vec<&str> = line.remote.rids.iter().map(|rid| rid.id.as_str()).collect();
        out.line(format_args!("a=simulcast:recv {}", rids.join(";")));
    }
    if let Some(track) = body.sent {
        sources(out, line, track);
    }
}

fn sources(out: &mut Text, line: &Line, track: &SendTrack) {
    let (stream_id, track_id) = (&track.stream_id, &track.track_id);
    out.line(format_args!("a=msid:{stream_id} {track_id}"));
    let rtx_ssrc = track.rtx_ssrc.filter(|_| {
        line.codecs
            .iter()
            .any(|codec| codec.mapping.rtx_payload_type.is_some())
    });
    if let Some(rtx_ssrc) = rtx_ssrc {
        out.line(format_args!("a=ssrc-group:FID {} {rtx_ssrc}", track.ssrc));
    }
    for ssrc in [Some(track.ssrc), rtx_ssrc].into_iter().flatten() {
        out.line(format_args!("a=ssrc:{ssrc} cname:{}", track.cname));
        out.line(format_args!("a=ssrc:{ssrc} msid:{stream_id} {track_id}"));
    }
}

/// `AB:CD:…`
fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":")
}

struct Text(String);

impl Text {
    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(arguments);
        self.0.push_str("\r\n");
    }
}
