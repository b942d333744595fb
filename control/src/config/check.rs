//! Values that parse and still cannot be used.

use std::{collections::BTreeSet, fmt};

use super::{Appservice, Audio, Blip, Config, Http, Limits, Matrix, Media, PolicyName, Secret};

/// One value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Such as `media.listen`.
    pub key: &'static str,
    /// As configured; empty for secrets.
    pub value: String,
    /// What would be right.
    pub expected: String,
}

impl Mistake {
    fn new(key: &'static str, value: impl fmt::Debug, expected: impl Into<String>) -> Self {
        Self {
            key,
            value: format!("{value:?}"),
            expected: expected.into(),
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.value.is_empty() {
            write!(f, "{}: {}", self.key, self.expected)
        } else {
            write!(f, "{} = {}: {}", self.key, self.value, self.expected)
        }
    }
}

/// All mistakes, a line each.
pub(super) fn list(mistakes: &[Mistake]) -> String {
    let lines: Vec<String> = mistakes.iter().map(Mistake::to_string).collect();
    lines.join("\n")
}

/// Everything that is wrong.
pub(super) fn check(config: &Config) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    check_matrix(&config.matrix, &mut mistakes);
    match &config.appservice {
        Some(appservice) => check_appservice(&config.matrix, appservice, &mut mistakes),
        None => check_login(&config.matrix, &mut mistakes),
    }
    check_media(&config.media, &mut mistakes);
    check_audio(&config.audio, &mut mistakes);
    check_authorisation(config, &mut mistakes);
    check_http(&config.http, &mut mistakes);
    check_blip(&config.blip, &mut mistakes);
    check_limits(&config.limits, &mut mistakes);
    mistakes
}

fn check_matrix(matrix: &Matrix, mistakes: &mut Vec<Mistake>) {
    if !matrix.homeserver.starts_with("https://") && !matrix.homeserver.starts_with("http://") {
        let expected = "must be a URL such as \"https://matrix.example.org\"";
        mistakes.push(Mistake::new(
            "matrix.homeserver",
            &matrix.homeserver,
            expected,
        ));
    }
    if matrix.user.is_empty() || (matrix.user.starts_with('@') && !matrix.user.contains(':')) {
        let expected =
            "must be a user id such as \"@focus:example.org\" or its localpart \"focus\"";
        mistakes.push(Mistake::new("matrix.user", &matrix.user, expected));
    }
}

fn check_login(matrix: &Matrix, mistakes: &mut Vec<Mistake>) {
    if matrix.password.is_some() == matrix.access_token.is_some() {
        mistakes.push(Mistake {
            key: "matrix.password",
            value: String::new(),
            expected: "give either matrix.password or matrix.access_token".to_owned(),
        });
    }
}

/// What a token must have at least, so that it is not guessed.
const TOKEN_BYTES_MIN: usize = 16;

fn check_appservice(matrix: &Matrix, appservice: &Appservice, mistakes: &mut Vec<Mistake>) {
    let mut secret = |key: &'static str, expected: &str| {
        mistakes.push(Mistake {
            key,
            value: String::new(),
            expected: expected.to_owned(),
        });
    };
    if matrix.password.is_some() || matrix.access_token.is_some() {
        let expected = "must not be given with [appservice], nor matrix.access_token: the application service's token is the login";
        secret("matrix.password", expected);
    }
    let tokens = [&appservice.as_token, &appservice.hs_token];
    let is_token = |token: &Secret| {
        let token = token.expose();
        token.len() >= TOKEN_BYTES_MIN && token.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if appservice.as_token.is_some() != appservice.hs_token.is_some() {
        let expected = "give appservice.as_token and appservice.hs_token, or neither for random ones in matrix.store";
        secret("appservice.as_token", expected);
    } else if !tokens.into_iter().flatten().all(is_token) {
        let expected = "must, like appservice.hs_token, have at least 16 printable ASCII characters and no blanks";
        secret("appservice.as_token", expected);
    } else if appservice.as_token.is_some() && appservice.as_token == appservice.hs_token {
        let expected = "must be another than appservice.hs_token";
        secret("appservice.as_token", expected);
    }
    if !matrix.user.starts_with('@') {
        let expected = "must be a full user id such as \"@focus:example.org\" with [appservice]";
        mistakes.push(Mistake::new("matrix.user", &matrix.user, expected));
    }
    let url = appservice.url();
    if !url.starts_with("https://") && !url.starts_with("http://") {
        let expected = "must be a URL under which the homeserver reaches appservice.listen, such as \"http://127.0.0.1:7881\"";
        mistakes.push(Mistake::new("appservice.url", url, expected));
    } else if appservice.url.is_none() && appservice.listen.ip().is_unspecified() {
        let expected =
            "needs an appservice.url beside it: the homeserver cannot send to this address";
        mistakes.push(Mistake::new(
            "appservice.listen",
            appservice.listen,
            expected,
        ));
    }
    // Synapse keeps state by this name and a separator.
    if appservice.id.is_empty() || appservice.id.contains('|') {
        let expected =
            "must be a name without \"|\", another for each application service of the homeserver";
        mistakes.push(Mistake::new("appservice.id", &appservice.id, expected));
    }
}

fn check_media(media: &Media, mistakes: &mut Vec<Mistake>) {
    let v4 = media
        .listen
        .iter()
        .filter(|address| address.is_ipv4())
        .count();
    if media.listen.is_empty() || v4 > 1 || media.listen.len() - v4 > 1 {
        let expected = "must be one IPv4 address, one IPv6 address, or one of each";
        mistakes.push(Mistake::new("media.listen", &media.listen, expected));
    }
    let shards = media.shard_count();
    for address in &media.listen {
        let family_advertised = media
            .advertise
            .iter()
            .any(|ip| ip.is_ipv4() == address.is_ipv4());
        if address.ip().is_unspecified() && !family_advertised && !media.advertise.is_empty() {
            let expected =
                format!("must have an address of the same family as {address} in media.listen");
            mistakes.push(Mistake::new("media.advertise", &media.advertise, expected));
        }
        if address.port() != 0 && usize::from(address.port()) + shards > 65_536 {
            let expected = format!("must leave room for the ports of {shards} shards");
            mistakes.push(Mistake::new("media.listen", address, expected));
        }
    }
    for ip in &media.advertise {
        if ip.is_unspecified()
            || !media
                .listen
                .iter()
                .any(|address| address.is_ipv4() == ip.is_ipv4())
        {
            let expected = "must be an address that clients can reach, of a family in media.listen";
            mistakes.push(Mistake::new("media.advertise", ip, expected));
        }
    }
    if media
        .shards
        .is_some_and(|shards| shards == 0 || shards > SHARDS_MAX)
    {
        let expected =
            format!("must be from 1 to {SHARDS_MAX}; leave it out for one for each core but one");
        mistakes.push(Mistake::new(
            "media.shards",
            media.shards.unwrap_or_default(),
            expected,
        ));
    }
    let distinct: BTreeSet<&usize> = media.cores.iter().collect();
    if !media.cores.is_empty() && (media.cores.len() != shards || distinct.len() != shards) {
        let expected = format!("must name a different core for each of the {shards} shards");
        mistakes.push(Mistake::new("media.cores", &media.cores, expected));
    }
    if media.calling_ports > CALLING_PORTS_MAX {
        let expected = format!(
            "must be at most {CALLING_PORTS_MAX}; 0 calls other foci only from the ports in media.listen"
        );
        mistakes.push(Mistake::new(
            "media.calling_ports",
            media.calling_ports,
            expected,
        ));
    }
}

/// More shards than any machine that this is for has cores.
const SHARDS_MAX: usize = 256;

/// A shard numbers its sockets with a byte.
const CALLING_PORTS_MAX: usize = u8::MAX as usize;

fn check_authorisation(config: &Config, mistakes: &mut Vec<Mistake>) {
    let authorisation = &config.authorisation;
    match authorisation.policy {
        PolicyName::Homeservers if authorisation.homeservers.is_empty() => {
            let expected =
                "must list server names such as \"example.org\" when policy = \"homeservers\"";
            mistakes.push(Mistake::new(
                "authorisation.homeservers",
                &authorisation.homeservers,
                expected,
            ));
        }
        PolicyName::Open if !authorisation.i_know => {
            let expected = "lets everybody use this focus; if that is what you want, set authorisation.i_know = true";
            mistakes.push(Mistake::new("authorisation.policy", "open", expected));
        }
        _ => {}
    }
}

fn check_http(http: &Http, mistakes: &mut Vec<Mistake>) {
    if http.conferences && !http.listen.ip().is_loopback() {
        let expected = "says who talks with whom to everybody who asks: only with http.listen on a loopback address";
        mistakes.push(Mistake::new("http.conferences", http.conferences, expected));
    }
}

fn check_blip(blip: &Blip, mistakes: &mut Vec<Mistake>) {
    let rate = blip.connections_per_second;
    if !(1.0..=BLIPS_PER_SECOND_MAX).contains(&rate) {
        let expected = format!("must be from 1 to {BLIPS_PER_SECOND_MAX}");
        mistakes.push(Mistake::new("blip.connections_per_second", rate, expected));
    }
}

/// More connections than one thread refuses in a second.
const BLIPS_PER_SECOND_MAX: f64 = 100_000.0;

fn check_audio(audio: &Audio, mistakes: &mut Vec<Mistake>) {
    if audio.loudest == 0 {
        let expected = "must be at least 1: somebody has to be heard";
        mistakes.push(Mistake::new("audio.loudest", audio.loudest, expected));
    }
}

fn check_limits(limits: &Limits, mistakes: &mut Vec<Mistake>) {
    let counts = [
        ("limits.conferences_max", limits.conferences_max),
        (
            "limits.participants_per_conference_max",
            limits.participants_per_conference_max,
        ),
        (
            "limits.participants_per_user_max",
            limits.participants_per_user_max,
        ),
        (
            "limits.tracks_per_participant_max",
            limits.tracks_per_participant_max,
        ),
        (
            "limits.subscriptions_per_participant_max",
            limits.subscriptions_per_participant_max,
        ),
    ];
    if limits.slot_seconds == 0 {
        let expected = "must be at least 1; limits.slots_max = 0 refuses slots";
        mistakes.push(Mistake::new("limits.slot_seconds", 0, expected));
    }
    for (key, value) in counts {
        if value == 0 {
            mistakes.push(Mistake::new(key, value, "must be at least 1"));
        }
    }
    let rates = [
        (
            "limits.invites_per_user_per_second",
            limits.invites_per_user_per_second,
        ),
        (
            "limits.invites_per_homeserver_per_second",
            limits.invites_per_homeserver_per_second,
        ),
    ];
    for (key, value) in rates {
        if !(value.is_finite() && value > 0.0) {
            mistakes.push(Mistake::new(key, value, "must be greater than 0"));
        }
    }
}
