//! What a sync answers.

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use serde_json::{Map, Value, json};

use super::{Caller, Event, Filter, Position, Room, State, User};
use crate::{error::MatrixError, limits::TO_DEVICE_PER_SYNC_MAX};

/// Up to where a client has everything: `s<stream>_<to-device>`.
///
/// To-device messages have their own position, since a sync carries at most a hundred of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SyncToken {
    stream: Position,
    to_device: Position,
}

impl SyncToken {
    /// The position in the stream of everything but to-device messages.
    pub(crate) fn stream(self) -> Position {
        self.stream
    }
}

impl fmt::Display for SyncToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}_{}", self.stream, self.to_device)
    }
}

impl FromStr for SyncToken {
    type Err = MatrixError;

    fn from_str(token: &str) -> Result<Self, MatrixError> {
        let numbers = token
            .strip_prefix('s')
            .and_then(|numbers| numbers.split_once('_'));
        let parsed = numbers
            .and_then(|(stream, to_device)| Some((stream.parse().ok()?, to_device.parse().ok()?)));
        let (stream, to_device) =
            parsed.ok_or_else(|| MatrixError::invalid(format!("not a sync token: {token}")))?;
        Ok(Self { stream, to_device })
    }
}

/// A sync's answer, and whether it is worth to end a wait for.
#[derive(Debug)]
pub(crate) struct Synced {
    pub(crate) body: Value,
    pub(crate) has_news: bool,
}

impl State {
    /// What is new to the device since the token; everything if there is none. Forgets what the token acknowledges.
    pub(crate) fn sync(
        &mut self,
        caller: &Caller,
        since: Option<SyncToken>,
        filter: &Filter,
        full_state: bool,
    ) -> Result<Synced, MatrixError> {
        let now = self.stream;
        if since.is_some_and(|since| since.stream > now || since.to_device > now) {
            return Err(MatrixError::invalid("a sync token from the future"));
        }
        let from = since.unwrap_or_default();
        let device = self.device_mut(caller)?;
        device.acknowledge(from.to_device);
        let (to_device, last) = device.undelivered(TO_DEVICE_PER_SYNC_MAX);
        let one_time_keys = device.one_time_key_count("signed_curve25519");
        let unused = device.fallback_keys.iter().filter(|(_, key)| !key.used);
        let unused: Vec<String> = unused.map(|(algorithm, _)| algorithm.clone()).collect();

        let token = SyncToken {
            stream: now,
            to_device: last.unwrap_or(from.to_device),
        };
        let rooms = self.sync_rooms(caller, since.map(|since| since.stream), filter, full_state);
        let user = self.users.get(&caller.user);
        let account_data = user
            .map(|user| account_data(user, "", from.stream))
            .unwrap_or_default();
        let changed = match since {
            Some(since) => self.device_list_changes(&caller.user, since.stream),
            None => BTreeSet::new(),
        };
        let has_news = !to_device.is_empty()
            || !rooms.is_empty()
            || !account_data.is_empty()
            || !changed.is_empty();
        let body = json!({
            "next_batch": token.to_string(),
            "rooms": rooms,
            "to_device": { "events": to_device },
            "presence": { "events": [] },
            "account_data": { "events": account_data },
            "device_lists": { "changed": changed, "left": [] },
            "device_one_time_keys_count": { "signed_curve25519": one_time_keys },
            "device_unused_fallback_key_types": unused,
            "org.matrix.msc2732.device_unused_fallback_key_types": unused,
        });
        Ok(Synced { body, has_news })
    }

    fn sync_rooms(
        &self,
        caller: &Caller,
        since: Option<Position>,
        filter: &Filter,
        full_state: bool,
    ) -> Map<String, Value> {
        let from = since.unwrap_or(0);
        let mut sections = Map::new();
        let Some(user) = self.users.get(&caller.user) else {
            return sections;
        };
        for room_id in user.rooms.iter().filter(|room| filter.passes_room(room)) {
            let Some(room) = self.rooms.get(room_id) else {
                continue;
            };
            let Some(member) = room.state_event("m.room.member", &caller.user) else {
                continue;
            };
            let section = match member.content["membership"].as_str() {
                Some("join") => {
                    let joined =
                        joined_room(room, user, room_id, &caller.user, since, filter, full_state);
                    joined.map(|joined| ("join", joined))
                }
                Some("invite") if member.position > from => {
                    Some(("invite", invited_room(room, &caller.user)))
                }
                Some("leave" | "ban") if since.is_some() && member.position > from => {
                    Some(("leave", changes(room, from, member.position, filter, false)))
                }
                _ => None,
            };
            if let Some((section, content)) = section {
                sections.entry(section).or_insert_with(|| json!({}))[room_id] = content;
            }
        }
        sections
    }
}

/// The `join` entry of a room, if there is something to say.
fn joined_room(
    room: &Room,
    user: &User,
    room_id: &str,
    user_id: &str,
    since: Option<Position>,
    filter: &Filter,
    full_state: bool,
) -> Option<Value> {
    let newest = room.timeline.back().map_or(0, |event| event.position);
    let new_to_user =
        since.is_none_or(|since| room.joined_at(user_id).is_some_and(|joined| joined > since));
    let from = if new_to_user { 0 } else { since.unwrap_or(0) };
    let account_data = account_data(user, room_id, since.unwrap_or(0));
    if !full_state && !new_to_user && newest <= from && account_data.is_empty() {
        return None;
    }
    let mut content = changes(room, from, Position::MAX, filter, full_state);
    let is_empty = |part: &Value| part["events"].as_array().is_none_or(Vec::is_empty);
    let nothing_passed = is_empty(&content["timeline"]) && is_empty(&content["state"]);
    if nothing_passed && account_data.is_empty() && !full_state && !new_to_user {
        return None;
    }
    content["account_data"] = json!({ "events": account_data });
    content["ephemeral"] = json!({ "events": [] });
    content["unread_notifications"] = json!({ "highlight_count": 0, "notification_count": 0 });
    content["summary"] = json!({
        "m.joined_member_count": room.joined().count(),
        "m.invited_member_count": room.state.values().filter(|e| e.event_type == "m.room.member" && e.content["membership"] == "invite").count(),
    });
    Some(content)
}

/// Timeline and state of a room in `from < position <= upto`; with `full_state` all of the state.
///
/// The timeline has the latest events; state that changed before the first of them goes into the state section, so that
/// state and then timeline give the current state whatever the limit.
fn changes(
    room: &Room,
    from: Position,
    upto: Position,
    filter: &Filter,
    full_state: bool,
) -> Value {
    let (newer, forgotten) = room.since(from);
    let newer = newer.filter(|event| event.position <= upto);
    let matching = newer
        .clone()
        .filter(|event| filter.passes_timeline(&event.event_type))
        .take(filter.timeline_limit() + 1);
    let mut timeline: Vec<_> = matching.collect();
    let limited = timeline.len() > filter.timeline_limit() || (from > 0 && forgotten);
    timeline.truncate(filter.timeline_limit());
    timeline.reverse();
    let first = timeline
        .first()
        .map_or(upto.saturating_add(1), |event| event.position);
    let in_timeline =
        |position: Position| position >= first && timeline.iter().any(|e| e.position == position);
    let passes = |event: &&Arc<Event>| filter.passes_state(&event.event_type);
    let changed = |event: &&Arc<Event>| {
        event.position > from && event.position <= upto && !in_timeline(event.position)
    };
    let state: Vec<Value> = if full_state || forgotten || from == 0 {
        let all = room.state.values().filter(passes);
        all.filter(|event| full_state || changed(event))
            .map(|event| event.json())
            .collect()
    } else {
        // Without a look at all that has not changed, which in a room of many is much.
        let current = newer.filter(|event| room.is_current(event));
        let mut changes: Vec<_> = current.filter(passes).filter(changed).collect();
        changes.reverse();
        changes.into_iter().map(|event| event.json()).collect()
    };
    let events: Vec<Value> = timeline.iter().map(|event| event.json()).collect();
    json!({
        "timeline": { "events": events, "limited": limited, "prev_batch": format!("t{first}") },
        "state": { "events": state },
    })
}

fn invited_room(room: &Room, user_id: &str) -> Value {
    let shown = [
        "m.room.create",
        "m.room.name",
        "m.room.join_rules",
        "m.room.canonical_alias",
        "m.room.encryption",
    ];
    let mut events: Vec<Value> = shown
        .iter()
        .filter_map(|shown| room.state_event(shown, ""))
        .map(|event| event.stripped())
        .collect();
    if let Some(invitation) = room.state_event("m.room.member", user_id) {
        events.extend(
            room.state_event("m.room.member", &invitation.sender)
                .map(|inviter| inviter.stripped()),
        );
        events.push(invitation.stripped());
    }
    json!({ "invite_state": { "events": events } })
}

fn account_data(user: &User, room: &str, since: Position) -> Vec<Value> {
    let of_room = user
        .account_data
        .iter()
        .filter(|((of, _), (position, _))| of == room && *position > since);
    of_room
        .map(|((_, data_type), (_, content))| json!({ "type": data_type, "content": content }))
        .collect()
}
