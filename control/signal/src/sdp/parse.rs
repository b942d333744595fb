//! From text to [`Description`]: the lines by crate `sdp`, the values of the attributes here.
//!
//! An attribute whose value makes no sense is as good as absent; only what breaks the structure is an error. Unknown attributes are
//! skipped.

use std::io::Cursor;

use ::sdp::SessionDescription;
use ::sdp::description::common::Attribute;
use ::sdp::description::media::MediaDescription;

use super::{
    Candidate, CodecDescription, Description, Direction, ExtMap, Fingerprint, IceCredentials, Msid,
    Rid, SdpError, Section, SectionKind, SendOrReceive, Setup, SimulcastLayer, SsrcGroup,
};
use crate::limits::{
    CANDIDATES_MAX, CODECS_MAX, EXTENSIONS_MAX, FMTP_BYTES_MAX, RIDS_MAX, SDP_BYTES_MAX,
    SECTIONS_MAX, SSRCS_MAX,
};

/// Reads a session description.
pub(super) fn description(text: &str) -> Result<Description, SdpError> {
    if text.len() > SDP_BYTES_MAX {
        return Err(SdpError::TooLong);
    }
    // Lines end with CR LF or LF. Other control characters have no business here, and what is repeated in an answer must not end a line.
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let line_end = c == '\n' || (c == '\r' && rest.peek().is_none_or(|next| *next == '\n'));
        if c.is_control() && !line_end && c != '\t' {
            return Err(SdpError::Syntax);
        }
    }
    let raw = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
        .map_err(|_| SdpError::Syntax)?;
    if raw.media_descriptions.len() > SECTIONS_MAX {
        return Err(SdpError::TooManySections);
    }
    let session = Transport::read(&raw.attributes);
    let bundle = raw
        .attributes
        .iter()
        .filter(|attribute| attribute.key == "group")
        .find_map(|attribute| {
            let mut words = value(attribute).split_ascii_whitespace();
            (words.next() == Some("BUNDLE")).then(|| {
                words
                    .filter(|mid| is_token(mid))
                    .take(SECTIONS_MAX)
                    .map(str::to_owned)
                    .collect()
            })
        });
    Ok(Description {
        session_id: raw.origin.session_id,
        session_version: raw.origin.session_version,
        bundle: bundle.unwrap_or_default(),
        ice_lite: has(&raw.attributes, "ice-lite"),
        extmap_allow_mixed: has(&raw.attributes, "extmap-allow-mixed"),
        sections: raw
            .media_descriptions
            .iter()
            .map(|media| section(media, &session))
            .collect(),
    })
}

/// Whether `text` can be written as one word of a line: stream and track ids, mids, rids.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The attributes that a section may inherit from the session.
#[derive(Default)]
struct Transport {
    ufrag: Option<String>,
    pwd: Option<String>,
    fingerprints: Vec<Fingerprint>,
    setup: Option<Setup>,
}

impl Transport {
    fn read(attributes: &[Attribute]) -> Transport {
        let mut transport = Transport::default();
        for attribute in attributes {
            let value = value(attribute);
            match attribute.key.as_str() {
                // RFC 8839 §5.4: at least 4 and 22 characters, at most 256.
                "ice-ufrag"
                    if (4..=256).contains(&value.len())
                        && value.bytes().all(|byte| byte.is_ascii_graphic()) =>
                {
                    transport.ufrag = Some(value.to_owned());
                }
                "ice-pwd"
                    if (22..=256).contains(&value.len())
                        && value.bytes().all(|byte| byte.is_ascii_graphic()) =>
                {
                    transport.pwd = Some(value.to_owned());
                }
                "fingerprint" if transport.fingerprints.len() < 8 => {
                    transport.fingerprints.extend(fingerprint(value))
                }
                "setup" => transport.setup = setup(value),
                _ => {}
            }
        }
        transport
    }
}

fn section(media: &MediaDescription, session: &Transport) -> Section {
    let attributes = &media.attributes;
    let own = Transport::read(attributes);
    let word = media.media_name.media.as_str();
    let protocol = media.media_name.protos.join("/");
    let kind = match word {
        "audio" => SectionKind::Audio,
        "video" => SectionKind::Video,
        "application" if protocol.ends_with("DTLS/SCTP") => SectionKind::Application,
        _ => SectionKind::Other,
    };
    let ice = match (
        own.ufrag.or_else(|| session.ufrag.clone()),
        own.pwd.or_else(|| session.pwd.clone()),
    ) {
        (Some(ufrag), Some(pwd)) => Some(IceCredentials { ufrag, pwd }),
        _ => None,
    };
    let number = |key| first(attributes, key).and_then(|value| value.trim().parse::<u64>().ok());
    let (simulcast_send, simulcast_recv) =
        simulcast(first(attributes, "simulcast").unwrap_or_default());
    Section {
        kind,
        media: word.to_owned(),
        port: u16::try_from(media.media_name.port.value).unwrap_or(0),
        protocol,
        formats: media
            .media_name
            .formats
            .iter()
            .take(CODECS_MAX)
            .cloned()
            .collect(),
        mid: first(attributes, "mid")
            .filter(|mid| is_token(mid))
            .map(str::to_owned),
        direction: direction(attributes),
        msid: msid(attributes),
        rids: all(attributes, "rid")
            .filter_map(rid)
            .take(RIDS_MAX)
            .collect(),
        simulcast_send,
        simulcast_recv,
        codecs: codecs(&media.media_name.formats, attributes),
        extmaps: all(attributes, "extmap")
            .filter_map(extmap)
            .take(EXTENSIONS_MAX)
            .collect(),
        ssrcs: ssrcs(attributes),
        ssrc_groups: all(attributes, "ssrc-group")
            .filter_map(ssrc_group)
            .take(SSRCS_MAX)
            .collect(),
        ice,
        fingerprints: if own.fingerprints.is_empty() {
            session.fingerprints.clone()
        } else {
            own.fingerprints
        },
        setup: own.setup.or(session.setup),
        sctp_port: number("sctp-port").and_then(|port| u16::try_from(port).ok()),
        max_message_size: number("max-message-size"),
        candidates: all(attributes, "candidate")
            .filter_map(Candidate::parse)
            .take(CANDIDATES_MAX)
            .collect(),
        end_of_candidates: has(attributes, "end-of-candidates"),
        rtcp_mux: has(attributes, "rtcp-mux"),
        bundle_only: has(attributes, "bundle-only"),
    }
}

fn value(attribute: &Attribute) -> &str {
    attribute.value.as_deref().unwrap_or_default()
}

fn all<'a>(attributes: &'a [Attribute], key: &'a str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |attribute| attribute.key == key)
        .map(value)
}

fn first<'a>(attributes: &'a [Attribute], key: &'a str) -> Option<&'a str> {
    all(attributes, key).next()
}

fn has(attributes: &[Attribute], key: &str) -> bool {
    attributes.iter().any(|attribute| attribute.key == key)
}

fn direction(attributes: &[Attribute]) -> Direction {
    let all = [
        Direction::SendRecv,
        Direction::SendOnly,
        Direction::RecvOnly,
        Direction::Inactive,
    ];
    let found = attributes.iter().find_map(|attribute| {
        all.into_iter()
            .find(|direction| direction.as_str() == attribute.key)
    });
    found.unwrap_or_default()
}

fn setup(value: &str) -> Option<Setup> {
    match value {
        "actpass" => Some(Setup::ActPass),
        "active" => Some(Setup::Active),
        "passive" => Some(Setup::Passive),
        "holdconn" => Some(Setup::HoldConn),
        _ => None,
    }
}

/// `sha-256 AB:CD:…`
fn fingerprint(value: &str) -> Option<Fingerprint> {
    let (algorithm, hash) = value.trim().split_once(' ')?;
    let pairs = hash.trim().split(':').take(65);
    let bytes = pairs.map(|pair| {
        (pair.len() == 2)
            .then(|| u8::from_str_radix(pair, 16).ok())
            .flatten()
    });
    let bytes: Vec<u8> = bytes.collect::<Option<_>>()?;
    (bytes.len() <= 64).then(|| Fingerprint {
        algorithm: algorithm.to_ascii_lowercase(),
        bytes,
    })
}

/// `<stream> [<track>]`, or `<ssrc> msid:<stream> <track>` of older authors.
fn msid(attributes: &[Attribute]) -> Option<Msid> {
    let modern = first(attributes, "msid");
    let text = modern.or_else(|| {
        all(attributes, "ssrc").find_map(|value| value.split_once(" msid:").map(|(_, msid)| msid))
    })?;
    let mut words = text.split_ascii_whitespace().filter(|word| is_token(word));
    Some(Msid {
        stream_id: words.next()?.to_owned(),
        track_id: words.next().map(str::to_owned),
    })
}

/// `<id> send|recv [restrictions]`
fn rid(value: &str) -> Option<Rid> {
    let mut words = value.split_ascii_whitespace();
    let id = words.next().filter(|id| is_token(id))?.to_owned();
    let direction = match words.next()? {
        "send" => SendOrReceive::Send,
        "recv" => SendOrReceive::Receive,
        _ => return None,
    };
    Some(Rid { id, direction })
}

/// `send f;~h;q recv a,b;c` in either order: the lists of what is sent and received.
fn simulcast(value: &str) -> (Vec<SimulcastLayer>, Vec<SimulcastLayer>) {
    let (mut send, mut recv) = (Vec::new(), Vec::new());
    let mut words = value.split_ascii_whitespace();
    while let (Some(direction), Some(list)) = (words.next(), words.next()) {
        let layers = list.split(';').filter_map(|alternatives| {
            let layer = alternatives.split(',').next()?;
            let (rid, paused) = layer
                .strip_prefix('~')
                .map_or((layer, false), |rid| (rid, true));
            is_token(rid).then(|| SimulcastLayer {
                rid: rid.to_owned(),
                paused,
            })
        });
        match direction {
            "send" if send.is_empty() => send = layers.take(RIDS_MAX).collect(),
            "recv" if recv.is_empty() => recv = layers.take(RIDS_MAX).collect(),
            _ => {}
        }
    }
    (send, recv)
}

/// The payload types of the m-line that have an `a=rtpmap`.
fn codecs(formats: &[String], attributes: &[Attribute]) -> Vec<CodecDescription> {
    let mut codecs: Vec<CodecDescription> = Vec::new();
    for format in formats.iter().take(CODECS_MAX) {
        let Some(payload_type) = format
            .parse()
            .ok()
            .filter(|payload_type| *payload_type < 128)
        else {
            continue;
        };
        let described = all(attributes, "rtpmap")
            .take(CODECS_MAX)
            .find_map(|value| {
                let (number, map) = value.split_once(' ')?;
                (number == format)
                    .then(|| rtpmap(payload_type, map))
                    .flatten()
            });
        if let Some(codec) = described
            && codecs
                .iter()
                .all(|known| known.payload_type != payload_type)
        {
            codecs.push(codec);
        }
    }
    for value in all(attributes, "fmtp").take(CODECS_MAX) {
        let Some((number, parameters)) = value
            .split_once(' ')
            .filter(|(_, parameters)| parameters.len() <= FMTP_BYTES_MAX)
        else {
            continue;
        };
        if let Some(codec) = codecs
            .iter_mut()
            .find(|codec| number.parse() == Ok(codec.payload_type))
        {
            codec.fmtp = without_repetition(parameters);
        }
    }
    for value in all(attributes, "rtcp-fb").take(16 * CODECS_MAX) {
        let Some((number, feedback)) = value.split_once(' ') else {
            continue;
        };
        for codec in codecs
            .iter_mut()
            .filter(|codec| number == "*" || number.parse() == Ok(codec.payload_type))
        {
            if codec.rtcp_fb.len() < 16 {
                codec.rtcp_fb.push(feedback.trim().to_owned());
            }
        }
    }
    codecs
}

/// `VP8/90000`, `opus/48000/2`
fn rtpmap(payload_type: u8, map: &str) -> Option<CodecDescription> {
    let mut parts = map.trim().split('/');
    let name = parts.next().filter(|name| is_token(name))?.to_owned();
    let clock_rate = parts.next()?.parse().ok()?;
    let channels = parts
        .next()
        .and_then(|channels| channels.parse().ok())
        .unwrap_or(1);
    Some(CodecDescription {
        payload_type,
        name,
        clock_rate,
        channels,
        fmtp: String::new(),
        rtcp_fb: Vec::new(),
    })
}

/// The parameters, each once: the reference client appends `usedtx=1` every time it touches a description.
fn without_repetition(parameters: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for parameter in parameters
        .split(';')
        .map(str::trim)
        .filter(|parameter| !parameter.is_empty())
    {
        if kept.len() < 32 && !kept.contains(&parameter) {
            kept.push(parameter);
        }
    }
    kept.join(";")
}

/// `<id>[/<direction>] <uri>`
fn extmap(value: &str) -> Option<ExtMap> {
    let mut words = value.split_ascii_whitespace();
    let id = words
        .next()?
        .split('/')
        .next()?
        .parse()
        .ok()
        .filter(|id| *id != 0)?;
    Some(ExtMap {
        id,
        uri: words.next()?.to_owned(),
    })
}

fn ssrcs(attributes: &[Attribute]) -> Vec<u32> {
    let mut ssrcs = Vec::new();
    for value in all(attributes, "ssrc") {
        if let Some(Ok(ssrc)) = value.split_ascii_whitespace().next().map(str::parse)
            && ssrcs.len() < SSRCS_MAX
            && !ssrcs.contains(&ssrc)
        {
            ssrcs.push(ssrc);
        }
    }
    ssrcs
}

/// `FID 1 2`
fn ssrc_group(value: &str) -> Option<SsrcGroup> {
    let mut words = value.split_ascii_whitespace();
    let semantics = words.next()?.to_owned();
    let ssrcs: Vec<u32> = words
        .take(SSRCS_MAX)
        .map(|ssrc| ssrc.parse().ok())
        .collect::<Option<_>>()?;
    Some(SsrcGroup { semantics, ssrcs })
}
