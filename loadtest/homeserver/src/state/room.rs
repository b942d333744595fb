//! Rooms: state, timeline, membership.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use super::{Position, State, random_id};
use crate::{
    error::MatrixError,
    limits::{EVENT_BYTES_MAX, ROOMS_MAX, STATE_PER_ROOM_MAX, TIMELINE_PER_ROOM_MAX},
};

/// An event of a room.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) position: Position,
    pub(crate) id: String,
    pub(crate) event_type: String,
    pub(crate) state_key: Option<String>,
    pub(crate) sender: String,
    pub(crate) content: Value,
    sent_ms: u64,
}

impl Event {
    /// The event as in a sync (no room id).
    pub(crate) fn json(&self) -> Value {
        let mut json = json!({
            "type": self.event_type,
            "event_id": self.id,
            "sender": self.sender,
            "origin_server_ts": self.sent_ms,
            "content": self.content,
            "unsigned": {},
        });
        if let Some(state_key) = &self.state_key {
            json["state_key"] = json!(state_key);
        }
        json
    }

    /// The event as outside a sync.
    pub(crate) fn json_with_room(&self, room_id: &str) -> Value {
        let mut json = self.json();
        json["room_id"] = json!(room_id);
        json
    }

    /// The event as shown to someone who is invited.
    pub(crate) fn stripped(&self) -> Value {
        json!({
            "type": self.event_type,
            "state_key": self.state_key,
            "sender": self.sender,
            "content": self.content,
        })
    }
}

/// A room.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// By (type, state key).
    pub(crate) state: BTreeMap<(String, String), Arc<Event>>,
    /// The latest events, oldest first.
    pub(crate) timeline: VecDeque<Arc<Event>>,
    /// When each joined user joined (a change of the display name does not count).
    joined_at: BTreeMap<String, Position>,
}

impl Room {
    pub(crate) fn state_event(&self, event_type: &str, state_key: &str) -> Option<&Arc<Event>> {
        self.state
            .get(&(event_type.to_owned(), state_key.to_owned()))
    }

    pub(crate) fn membership(&self, user: &str) -> Option<&str> {
        self.state_event("m.room.member", user)?.content["membership"].as_str()
    }

    pub(crate) fn is_joined(&self, user: &str) -> bool {
        self.joined_at.contains_key(user)
    }

    /// When the user joined, if it is joined.
    pub(crate) fn joined_at(&self, user: &str) -> Option<Position> {
        self.joined_at.get(user).copied()
    }

    pub(crate) fn joined(&self) -> impl Iterator<Item = &str> {
        self.joined_at.keys().map(String::as_str)
    }

    /// Users who joined after that position.
    pub(crate) fn joined_since(&self, since: Position) -> impl Iterator<Item = &str> {
        let later = self.joined_at.iter().filter(move |(_, at)| **at > since);
        later.map(|(user, _)| user.as_str())
    }

    /// Events after that position, the newest first, and whether some of them may have been forgotten.
    pub(crate) fn since(
        &self,
        position: Position,
    ) -> (impl Iterator<Item = &Arc<Event>> + Clone, bool) {
        let oldest = self.timeline.front().map(|oldest| oldest.position);
        let full = self.timeline.len() >= TIMELINE_PER_ROOM_MAX;
        let forgotten = full && oldest.is_some_and(|oldest| oldest > position + 1);
        let newer = self.timeline.iter().rev();
        (
            newer.take_while(move |event| event.position > position),
            forgotten,
        )
    }

    /// Whether an event is the current state under its key.
    pub(crate) fn is_current(&self, event: &Event) -> bool {
        let Some(state_key) = &event.state_key else {
            return false;
        };
        self.state_event(&event.event_type, state_key)
            .is_some_and(|current| current.position == event.position)
    }

    fn is_public(&self) -> bool {
        self.state_event("m.room.join_rules", "")
            .is_some_and(|rules| rules.content["join_rule"] == "public")
    }

    fn add(&mut self, event: Arc<Event>) {
        if let Some(state_key) = &event.state_key {
            if event.event_type == "m.room.member" {
                if event.content["membership"] == "join" {
                    self.joined_at
                        .entry(state_key.clone())
                        .or_insert(event.position);
                } else {
                    self.joined_at.remove(state_key);
                }
            }
            self.state.insert(
                (event.event_type.clone(), state_key.clone()),
                Arc::clone(&event),
            );
        }
        if self.timeline.len() >= TIMELINE_PER_ROOM_MAX {
            self.timeline.pop_front();
        }
        self.timeline.push_back(event);
    }
}

impl State {
    /// The room, if the user is joined to it.
    pub(crate) fn room_of(&self, room_id: &str, user: &str) -> Result<&Room, MatrixError> {
        match self.rooms.get(room_id) {
            Some(room) if room.is_joined(user) => Ok(room),
            _ => Err(MatrixError::forbidden(format!(
                "{user} is not in room {room_id}"
            ))),
        }
    }

    /// Adds an event that was found to be allowed, and wakes who shall hear of it.
    pub(super) fn append(
        &mut self,
        room_id: &str,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Result<String, MatrixError> {
        if content.to_string().len() > EVENT_BYTES_MAX {
            return Err(MatrixError::too_large("an event has at most 65536 bytes"));
        }
        let position = self.advance();
        let room = self
            .rooms
            .get_mut(room_id)
            .ok_or_else(|| MatrixError::not_found("no such room"))?;
        if state_key.is_some() && room.state.len() >= STATE_PER_ROOM_MAX {
            return Err(MatrixError::full("state events in this room"));
        }
        let event = Arc::new(Event {
            position,
            id: format!("${}", random_id(43)),
            event_type: event_type.to_owned(),
            state_key: state_key.map(str::to_owned),
            sender: sender.to_owned(),
            content,
            sent_ms: now_ms(),
        });
        room.add(Arc::clone(&event));
        if let Some(member) = state_key.filter(|_| event_type == "m.room.member") {
            if let Some(user) = self.users.get_mut(member) {
                user.rooms.insert(room_id.to_owned());
            }
            // An invitation is told whatever types are asked for.
            self.wake(member);
        }
        for member in self.rooms.get(room_id).into_iter().flat_map(Room::joined) {
            self.wake_for(member, room_id, event_type);
        }
        Ok(event.id.clone())
    }

    /// Sends a message event or sets state, as a member.
    pub(crate) fn send_event(
        &mut self,
        room_id: &str,
        sender: &str,
        event_type: &str,
        state_key: Option<&str>,
        content: Value,
    ) -> Result<String, MatrixError> {
        self.room_of(room_id, sender)?;
        if !content.is_object() {
            return Err(MatrixError::bad_json("content is not an object"));
        }
        if let Some(state_key) = state_key {
            // Authorisation rule of all room versions: state under a user id is that user's.
            if state_key.starts_with('@') && state_key != sender {
                return Err(MatrixError::forbidden(
                    "state with another user's id as its key",
                ));
            }
            if event_type == "m.room.member" && content["membership"] != "join" {
                return Err(MatrixError::forbidden("use leave, kick, ban or invite"));
            }
        }
        self.append(room_id, sender, event_type, state_key, content)
    }

    pub(super) fn member_content(&self, user: &str, membership: &str) -> Value {
        let mut content = json!({ "membership": membership });
        if let Some(user) = self.users.get(user) {
            content["displayname"] = json!(user.display_name);
            if let Some(avatar) = &user.avatar_url {
                content["avatar_url"] = json!(avatar);
            }
        }
        content
    }

    /// Joins: public rooms, invitations, and rooms the user is in.
    pub(crate) fn join(&mut self, room_id: &str, user: &str) -> Result<(), MatrixError> {
        let room = self
            .rooms
            .get(room_id)
            .ok_or_else(|| MatrixError::not_found(format!("no room {room_id}")))?;
        match room.membership(user) {
            Some("join") => return Ok(()),
            Some("ban") => return Err(MatrixError::forbidden("banned from the room")),
            Some("invite") => {}
            _ if room.is_public() => {}
            _ => return Err(MatrixError::forbidden("not invited to the room")),
        }
        let content = self.member_content(user, "join");
        self.append(room_id, user, "m.room.member", Some(user), content)?;
        Ok(())
    }

    pub(crate) fn invite(
        &mut self,
        room_id: &str,
        sender: &str,
        user: &str,
    ) -> Result<(), MatrixError> {
        let room = self.room_of(room_id, sender)?;
        match room.membership(user) {
            Some("join" | "ban") => {
                return Err(MatrixError::forbidden("the user is joined or banned"));
            }
            Some("invite") => return Ok(()),
            _ => {}
        }
        if !self.users.contains_key(user) {
            return Err(MatrixError::not_found(format!("no user {user}")));
        }
        let content = self.member_content(user, "invite");
        self.append(room_id, sender, "m.room.member", Some(user), content)?;
        Ok(())
    }

    /// Leaves a room or declines an invitation.
    pub(crate) fn leave(&mut self, room_id: &str, user: &str) -> Result<(), MatrixError> {
        let room = self
            .rooms
            .get(room_id)
            .ok_or_else(|| MatrixError::not_found("no such room"))?;
        match room.membership(user) {
            Some("join" | "invite" | "knock") => {}
            Some("leave") => return Ok(()),
            _ => return Err(MatrixError::forbidden("not in the room")),
        }
        self.append(
            room_id,
            user,
            "m.room.member",
            Some(user),
            json!({ "membership": "leave" }),
        )?;
        Ok(())
    }

    /// Removes (`leave`) or bans (`ban`) another user. Any member may: there are no power levels.
    pub(crate) fn remove(
        &mut self,
        room_id: &str,
        sender: &str,
        user: &str,
        membership: &str,
    ) -> Result<(), MatrixError> {
        let room = self.room_of(room_id, sender)?;
        if membership == "leave"
            && !matches!(room.membership(user), Some("join" | "invite" | "ban"))
        {
            return Err(MatrixError::forbidden("the user is not in the room"));
        }
        self.append(
            room_id,
            sender,
            "m.room.member",
            Some(user),
            json!({ "membership": membership }),
        )?;
        Ok(())
    }

    /// Makes an empty room of this creator.
    pub(crate) fn create_room(
        &mut self,
        creator: &str,
        creation_content: &Value,
    ) -> Result<String, MatrixError> {
        if self.rooms.len() >= ROOMS_MAX {
            return Err(MatrixError::full("rooms"));
        }
        let room_id = format!("!{}:{}", random_id(18), self.server_name);
        self.rooms.insert(room_id.clone(), Room::default());
        let mut content = json!({});
        for (key, value) in creation_content.as_object().into_iter().flatten() {
            content[key] = value.clone();
        }
        content["creator"] = json!(creator);
        content["room_version"] = json!("10");
        self.append(&room_id, creator, "m.room.create", Some(""), content)?;
        let member = self.member_content(creator, "join");
        self.append(&room_id, creator, "m.room.member", Some(creator), member)?;
        Ok(room_id)
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
