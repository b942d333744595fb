//! The file by which a homeserver knows the focus (Application Service API, "Registration").

use serde_json::json;

use super::Tokens;
use crate::config::{Appservice, Config};

/// The registration as YAML, with its tokens in it.
///
/// The focus's own user is its alone. All other users of the homeserver are in the namespace, not exclusively: so the homeserver
/// pushes what happens in their rooms, and lets the focus read the state of those in their names.
///
/// Deviation: the sender that every registration has is another user, which does nothing. Synapse lets all users of an
/// application service sync but this one.
pub fn registration(config: &Config, appservice: &Appservice, tokens: &Tokens) -> String {
    let user_id = config.matrix.user.as_str();
    let (localpart, server_name) = user_id
        .trim_start_matches('@')
        .split_once(':')
        .unwrap_or((user_id, ""));
    // A JSON string is a YAML string.
    let quoted = |text: &str| json!(text).to_string();
    format!(
        "# What the homeserver has to know of this focus. It holds secrets: keep it from everybody else.\n\
         id: {id}\n\
         url: {url}\n\
         as_token: {as_token}\n\
         hs_token: {hs_token}\n\
         # A name that the standard asks for; the focus is another user, because Synapse lets this one not sync.\n\
         sender_localpart: {sender}\n\
         # A start must not wait for the logins of others.\n\
         rate_limited: false\n\
         namespaces:\n\
         \x20 users:\n\
         \x20   # The focus itself.\n\
         \x20   - exclusive: true\n\
         \x20     regex: {own}\n\
         \x20   # Everybody else here: the homeserver pushes what happens in their rooms, and the focus reads the state of rooms\n\
         \x20   # with calls in their names.\n\
         \x20   - exclusive: false\n\
         \x20     regex: {everybody}\n\
         \x20 aliases: []\n\
         \x20 rooms: []\n",
        id = quoted(&appservice.id),
        url = quoted(&appservice.url()),
        as_token = quoted(tokens.as_token.expose()),
        hs_token = quoted(tokens.hs_token.expose()),
        sender = quoted(&format!("{localpart}-appservice")),
        own = quoted(&format!(
            "@{}:{}$",
            escaped(localpart),
            escaped(server_name)
        )),
        everybody = quoted(&format!("@.*:{}$", escaped(server_name))),
    )
}

/// For a regular expression: every character but letters and digits means itself behind a backslash.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if !character.is_alphanumeric() && character != '_' {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Secret;

    /// A configuration with this store, and its section of the application service.
    pub(in crate::appservice) fn config_in(store: &Path, more: &str) -> (Config, Appservice) {
        let text = format!(
            "[matrix]\nhomeserver = \"http://localhost:8008\"\nuser = \"@focus-1:matrix.example.org:8448\"\n\
             store = {store:?}\n[appservice]\nlisten = \"127.0.0.1:7881\"\n{more}\n"
        );
        let config = Config::parse(&text, std::iter::empty()).expect("a configuration");
        let appservice = config.appservice.clone().expect("the section");
        (config, appservice)
    }

    #[test]
    fn registration_is_what_synapse_reads() {
        let (config, appservice) = config_in(Path::new("/var/lib/weir"), "");
        let tokens = Tokens {
            as_token: Secret::new("A"),
            hs_token: Secret::new("H\"\\"),
        };
        let expected = r#"# What the homeserver has to know of this focus. It holds secrets: keep it from everybody else.
id: "weir"
url: "http://127.0.0.1:7881"
as_token: "A"
hs_token: "H\"\\"
# A name that the standard asks for; the focus is another user, because Synapse lets this one not sync.
sender_localpart: "focus-1-appservice"
# A start must not wait for the logins of others.
rate_limited: false
namespaces:
  users:
    # The focus itself.
    - exclusive: true
      regex: "@focus\\-1:matrix\\.example\\.org\\:8448$"
    # Everybody else here: the homeserver pushes what happens in their rooms, and the focus reads the state of rooms
    # with calls in their names.
    - exclusive: false
      regex: "@.*:matrix\\.example\\.org\\:8448$"
  aliases: []
  rooms: []
"#;
        assert_eq!(registration(&config, &appservice, &tokens), expected);
    }
}
