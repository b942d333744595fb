//! The parts of a sync filter that matter to calls: which rooms, which types, and how long a timeline.

use serde_json::Value;

use crate::limits::{TIMELINE_PER_SYNC_DEFAULT, TIMELINE_PER_SYNC_MAX};

/// What a sync shall contain of a room.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    rooms: Types,
    state: Types,
    timeline: Types,
    timeline_limit: Option<usize>,
}

/// Event types, or rooms, that pass: `None` lets all pass; a pattern may end in `*`.
#[derive(Clone, Debug, Default)]
struct Types {
    only: Option<Vec<String>>,
    not: Vec<String>,
}

impl Filter {
    /// Reads a filter as a client uploads or inlines it; what it does not understand it lets pass.
    pub(crate) fn parse(filter: &Value) -> Self {
        let room = &filter["room"];
        let limit = room["timeline"]["limit"]
            .as_u64()
            .and_then(|limit| usize::try_from(limit).ok());
        Self {
            rooms: Types {
                only: strings(&room["rooms"]),
                not: strings(&room["not_rooms"]).unwrap_or_default(),
            },
            state: Types::parse(&room["state"]),
            timeline: Types::parse(&room["timeline"]),
            timeline_limit: limit,
        }
    }

    pub(crate) fn passes_room(&self, room_id: &str) -> bool {
        self.rooms.pass(room_id)
    }

    /// Whether a sync with this filter may have anything to say about such an event of that room.
    pub(crate) fn passes_event(&self, room_id: &str, event_type: &str) -> bool {
        self.passes_room(room_id)
            && (self.passes_timeline(event_type) || self.passes_state(event_type))
    }

    pub(crate) fn passes_state(&self, event_type: &str) -> bool {
        self.state.pass(event_type)
    }

    pub(crate) fn passes_timeline(&self, event_type: &str) -> bool {
        self.timeline.pass(event_type)
    }

    pub(crate) fn timeline_limit(&self) -> usize {
        self.timeline_limit
            .unwrap_or(TIMELINE_PER_SYNC_DEFAULT)
            .min(TIMELINE_PER_SYNC_MAX)
    }
}

impl Types {
    fn parse(part: &Value) -> Self {
        Self {
            only: strings(&part["types"]),
            not: strings(&part["not_types"]).unwrap_or_default(),
        }
    }

    fn pass(&self, event_type: &str) -> bool {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => event_type.starts_with(prefix),
            None => pattern == event_type,
        };
        self.only
            .as_ref()
            .is_none_or(|only| only.iter().any(matches))
            && !self.not.iter().any(matches)
    }
}

/// A list of strings; `None` if it is none.
fn strings(list: &Value) -> Option<Vec<String>> {
    let strings = list.as_array()?.iter();
    Some(
        strings
            .filter_map(|pattern| pattern.as_str().map(str::to_owned))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn types_and_not_types_with_wildcards() {
        let filter = Filter::parse(&json!({ "room": {
            "state": { "types": ["m.call*", "m.room.member"], "not_types": ["m.call.secret"] },
            "timeline": { "limit": 3, "not_types": ["*"] },
        }}));
        assert!(filter.passes_state("m.call.member"));
        assert!(filter.passes_state("m.room.member"));
        assert!(!filter.passes_state("m.call.secret"));
        assert!(!filter.passes_state("m.room.name"));
        assert!(!filter.passes_timeline("m.room.message"));
        assert_eq!(filter.timeline_limit(), 3);
    }

    #[test]
    fn rooms_and_not_rooms() {
        let filter = Filter::parse(&json!({ "room": { "rooms": [] } }));
        assert!(!filter.passes_room("!a:x") && !filter.passes_event("!a:x", "m.call"));
        let filter = Filter::parse(
            &json!({ "room": { "not_rooms": ["!a:x"], "timeline": { "types": ["m.call"] }, "state": { "types": [] } } }),
        );
        assert!(!filter.passes_room("!a:x") && filter.passes_room("!b:x"));
        assert!(filter.passes_event("!b:x", "m.call"));
        assert!(!filter.passes_event("!b:x", "m.room.member"));
    }

    #[test]
    fn no_filter_lets_everything_pass_within_the_limit() {
        let filter = Filter::parse(&json!({ "room": { "timeline": { "limit": 100_000 } } }));
        assert!(filter.passes_state("x") && filter.passes_timeline("y"));
        assert_eq!(filter.timeline_limit(), 100);
        assert_eq!(Filter::default().timeline_limit(), 20);
    }
}
