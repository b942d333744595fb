//! What the focus tells about media: who speaks, which layers are needed, what a participant gets. Extensions of this project; who
//! does not know them ignores them.

use serde_json::{Value, json};

use super::read::{size, track_name};
use super::write::track_name_value;
use super::{Size, TrackName};
use crate::metadata::truncated;

/// One voice that is heard now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// Whose it is.
    pub user_id: String,
    /// On which device.
    pub device_id: String,
    /// Its track.
    pub name: TrackName,
    /// In -dBov as in RFC 6464: 0 is loudest, 127 silence.
    pub level: u8,
}

/// The layers of one track that anybody needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayersInUse {
    /// The track.
    pub name: TrackName,
    /// Its section in the publisher's descriptions.
    pub mid: String,
    /// What is not named here may be paused.
    pub rids: Vec<String>,
}

/// What a participant can be sent, and what has changed of what it gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Bits a second that the way to the participant carries; `None` before anything is known.
    pub estimate_bps: Option<u64>,
    /// What has been given out of it.
    pub allocated_bps: u64,
    /// What everything that was asked for would take.
    pub wanted_bps: u64,
    /// The tracks whose state has changed.
    pub tracks: Vec<TrackStatus>,
}

/// What a participant gets of one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackStatus {
    /// The track.
    pub name: TrackName,
    /// The simulcast layer, where there are several and one is sent.
    pub rid: Option<String>,
    /// Of the pictures that are sent, where known.
    pub size: Option<Size>,
    /// The highest temporal layer that is sent; `None` is all.
    pub temporal: Option<u8>,
    /// Why it is not more; `flowing` if it is all that was asked for.
    pub reason: String,
}

fn number(value: &Value, key: &str) -> Option<u64> {
    value.get(key).and_then(Value::as_u64)
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).and_then(Value::as_str).map(truncated)
}

pub(super) fn speaker(entry: &Value) -> Option<Speaker> {
    Some(Speaker {
        user_id: text(entry, "user_id")?,
        device_id: text(entry, "device_id")?,
        name: track_name(entry)?,
        level: u8::try_from(number(entry, "level")?).ok()?,
    })
}

pub(super) fn speaker_value(speaker: &Speaker) -> Value {
    let mut value = track_name_value(&speaker.name);
    value["user_id"] = json!(speaker.user_id);
    value["device_id"] = json!(speaker.device_id);
    value["level"] = json!(speaker.level);
    value
}

pub(super) fn layers_in_use(entry: &Value) -> Option<LayersInUse> {
    let rids = entry.get("rids")?.as_array()?;
    Some(LayersInUse {
        name: track_name(entry)?,
        mid: text(entry, "mid")?,
        rids: rids
            .iter()
            .filter_map(Value::as_str)
            .map(truncated)
            .collect(),
    })
}

pub(super) fn layers_in_use_value(of: &LayersInUse) -> Value {
    let mut value = track_name_value(&of.name);
    value["mid"] = json!(of.mid);
    value["rids"] = json!(of.rids);
    value
}

pub(super) fn status(content: &Value, tracks: Vec<&Value>) -> Status {
    Status {
        estimate_bps: number(content, "estimate_bps"),
        allocated_bps: number(content, "allocated_bps").unwrap_or_default(),
        wanted_bps: number(content, "wanted_bps").unwrap_or_default(),
        tracks: tracks.into_iter().filter_map(track_status).collect(),
    }
}

fn track_status(entry: &Value) -> Option<TrackStatus> {
    Some(TrackStatus {
        name: track_name(entry)?,
        rid: text(entry, "rid"),
        size: size(entry),
        temporal: number(entry, "temporal").and_then(|of| u8::try_from(of).ok()),
        reason: text(entry, "reason")?,
    })
}

pub(super) fn status_value(status: &Status) -> Value {
    let mut value = json!({
        "allocated_bps": status.allocated_bps,
        "wanted_bps": status.wanted_bps,
        "tracks": status.tracks.iter().map(track_status_value).collect::<Vec<_>>(),
    });
    if let Some(estimate) = status.estimate_bps {
        value["estimate_bps"] = json!(estimate);
    }
    value
}

fn track_status_value(of: &TrackStatus) -> Value {
    let mut value = track_name_value(&of.name);
    value["reason"] = json!(of.reason);
    if let Some(rid) = &of.rid {
        value["rid"] = json!(rid);
    }
    if let Some(size) = of.size {
        value["width"] = json!(size.width);
        value["height"] = json!(size.height);
    }
    if let Some(temporal) = of.temporal {
        value["temporal"] = json!(temporal);
    }
    value
}
