//! How clients learn of this focus: the entry for a homeserver's well-known document (MSC3898 "Discovering foci").
//!
//! `{"org.matrix.msc3898.foci": [{"user_id", "device_id", "blip_url"?}]}`

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use serde_json::json;

use crate::conference::ParticipantId;

/// The document that is served, once the focus has logged in and knows who it is. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct WellKnown(Arc<OnceLock<String>>);

impl WellKnown {
    /// Says who the focus is, and where clients find its blip port. Said once; a second time changes nothing.
    pub fn set(&self, focus: &ParticipantId, blip: Option<SocketAddr>) {
        let mut entry = json!({"user_id": focus.user_id, "device_id": focus.device_id});
        if let Some(blip) = blip {
            // A page that came by https may ask nothing else; that nobody speaks TLS there does not matter.
            entry["blip_url"] = format!("https://{blip}/").into();
        }
        let document = json!({"org.matrix.msc3898.foci": [entry]});
        self.0.get_or_init(|| document.to_string());
    }

    /// The document; `None` before the login.
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_focus_and_its_blip_port() {
        let focus = ParticipantId::new("@focus:x", "WEIR");
        let well_known = WellKnown::default();
        assert_eq!(well_known.get(), None);
        let served = well_known.clone();
        well_known.set(
            &focus,
            Some("[2001:db8::1]:7881".parse().expect("an address")),
        );
        let document: serde_json::Value =
            serde_json::from_str(served.get().expect("a document")).expect("JSON");
        let entry = json!({"user_id": "@focus:x", "device_id": "WEIR", "blip_url": "https://[2001:db8::1]:7881/"});
        assert_eq!(document, json!({"org.matrix.msc3898.foci": [entry]}));

        let without = WellKnown::default();
        without.set(&focus, None);
        assert!(!without.get().expect("a document").contains("blip"));
    }
}
