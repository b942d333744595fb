//! What Janus says over its WebSocket, as far as it is looked at: JSON objects, each with the transaction that it answers.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use weir_client::sdp::Remote;

/// A message of the server, sorted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// A request was taken; what comes of it comes later.
    Taken,
    /// The answer to a request.
    Answer {
        /// The request's.
        transaction: String,
        /// The whole message.
        message: Value,
    },
    /// Something that nobody asked for.
    Notice,
}

/// Sorts a message.
pub(crate) fn parse(bytes: &[u8]) -> Result<Said> {
    let message: Value = serde_json::from_slice(bytes).context("Janus did not say JSON")?;
    let kind = message["janus"].as_str();
    let kind = kind.context("a message without a kind")?;
    if kind == "ack" {
        return Ok(Said::Taken);
    }
    Ok(match message["transaction"].as_str() {
        Some(transaction) => Said::Answer {
            transaction: transaction.to_owned(),
            message,
        },
        None => Said::Notice,
    })
}

/// The answer if it is none that says no.
pub(crate) fn granted(message: Value) -> Result<Value> {
    // The core and the plugin have a place of their own each.
    if message["janus"] == "error" {
        bail!("Janus refuses: {}", reason(&message["error"]["reason"]));
    }
    let data = &message["plugindata"]["data"];
    if !data["error"].is_null() {
        bail!("Janus's videoroom refuses: {}", reason(&data["error"]));
    }
    Ok(message)
}

fn reason(of: &Value) -> &str {
    of.as_str().unwrap_or("without a reason")
}

/// The id of what was made: a session or a handle.
pub(crate) fn id(answer: &Value) -> Result<u64> {
    answer["data"]["id"].as_u64().context("no id in the answer")
}

/// The number of the publisher that has joined.
pub(crate) fn feed(answer: &Value) -> Result<u64> {
    let id = answer["plugindata"]["data"]["id"].as_u64();
    id.context("no id of the publisher in the answer")
}

/// The description that came with an answer.
pub(crate) fn description(answer: &Value) -> Result<Remote> {
    let sdp = answer["jsep"]["sdp"].as_str();
    let sdp = sdp.context("no description in the answer")?;
    Remote::parse(sdp).context("a description that cannot be read")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_told_from_what_nobody_asked_for() {
        let taken = br#"{"janus":"ack","session_id":1,"transaction":"t"}"#;
        assert_eq!(parse(taken).expect("JSON"), Said::Taken);
        let notice = br#"{"janus":"webrtcup","session_id":1,"sender":2}"#;
        assert_eq!(parse(notice).expect("JSON"), Said::Notice);
        let success = br#"{"janus":"success","transaction":"t","data":{"id":77}}"#;
        let Said::Answer {
            transaction,
            message,
        } = parse(success).expect("JSON")
        else {
            panic!("not an answer");
        };
        assert_eq!(
            (transaction.as_str(), id(&message).expect("an id")),
            ("t", 77)
        );
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let deep = "[".repeat(100_000);
        for text in ["", "nonsense", "[]", "{}", r#"{"janus":7}"#, &deep] {
            assert!(parse(text.as_bytes()).is_err());
        }
    }

    #[test]
    fn a_refusal_says_why() {
        let core = json!({"janus": "error", "error": {"code": 458, "reason": "No such session"}});
        let error = granted(core).expect_err("refused").to_string();
        assert_eq!(error, "Janus refuses: No such session");
        let plugin = json!({"janus": "event", "plugindata": {"data": {"error_code": 426, "error": "No such room"}}});
        let error = granted(plugin).expect_err("refused").to_string();
        assert_eq!(error, "Janus's videoroom refuses: No such room");
    }

    /// As Janus 1.1.2 sends it, shortened.
    #[test]
    fn a_publisher_and_a_description_are_read() {
        let joined = json!({"janus": "event", "sender": 5, "transaction": "t", "plugindata": {
            "plugin": "janus.plugin.videoroom",
            "data": {"videoroom": "joined", "room": 1, "id": 6_149_018_245_u64, "publishers": []}}});
        assert_eq!(feed(&joined).expect("a feed"), 6_149_018_245);
        assert!(description(&joined).is_err());
        let attached = json!({"janus": "event", "plugindata": {"data": {"videoroom": "attached"}},
            "jsep": {"type": "offer", "sdp": "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=ice-ufrag:u\r\na=ice-pwd:p\r\n"}});
        let offer = description(&attached).expect("a description");
        assert_eq!((offer.ufrag.as_str(), offer.media.len()), ("u", 1));
    }
}
