//! Access tokens: JSON Web Tokens (RFC 7519) signed with HMAC SHA-256.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// What its owner may do in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    Publish,
    Subscribe,
}

/// A token for one participant of one room; `expires` is in seconds since 1970.
pub(crate) fn token(
    key: &str,
    secret: &str,
    room: &str,
    identity: &str,
    grant: Grant,
    expires: u64,
) -> String {
    let claims = json!({
        "iss": key,
        "sub": identity,
        "exp": expires,
        "video": {
            "roomJoin": true,
            "room": room,
            "canPublish": grant == Grant::Publish,
            "canPublishData": false,
            "canSubscribe": grant == Grant::Subscribe,
        },
    });
    sign(secret, &claims)
}

fn sign(secret: &str, claims: &Value) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with another implementation (Python's hmac module).
    #[test]
    fn is_signed_as_others_sign() {
        let claims = json!({"iss": "key", "sub": "somebody"});
        assert_eq!(
            sign("a secret of thirty-two characters", &claims),
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJrZXkiLCJzdWIiOiJzb21lYm9keSJ9.OZahAbYSXLhq1YcW3HsFTbwS3OMOByHrztxnkjaxu_k"
        );
    }

    #[test]
    fn says_who_may_do_what() {
        let token = token(
            "key",
            "secret",
            "room",
            "ann",
            Grant::Publish,
            1_900_000_000,
        );
        let claims = token.split('.').nth(1).expect("claims");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64");
        let claims: Value = serde_json::from_slice(&claims).expect("JSON");
        assert_eq!(
            (&claims["iss"], &claims["sub"]),
            (&json!("key"), &json!("ann"))
        );
        assert_eq!(claims["exp"], 1_900_000_000_u64);
        assert_eq!(claims["video"]["room"], "room");
        assert_eq!(claims["video"]["canPublish"], true);
        assert_eq!(claims["video"]["canSubscribe"], false);
    }
}
