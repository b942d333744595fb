//! Which rooms are known to an application service, and what is told about them.
//!
//! Pure. The homeserver pushes every event of its users' rooms; what was there before has to be read. A room becomes known
//! by the first event of a call in it: most rooms never have one, and cost nothing.
//!
//! **Law: what is pushed while a room's state is read is told after it.** The state is as of some moment of the reading, and what
//! was pushed before the reading began is in it; so what is told last is what the homeserver knew last.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use crate::Incoming;

/// Rooms that are known or read. What is behind it (`weir::authorise`) takes no more; each costs about the size of its member list.
const ROOMS_MAX: usize = 50_000;

/// Events that wait for the state of their room. A reading takes well under a second; with more than these it begins again.
const WAITING_MAX: usize = 1_000;

/// In whose names one room is read before it is given up: a reader may have left meanwhile.
const READERS_MAX: u32 = 3;

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// Tell this.
    Tell(Incoming),
    /// Read the state of a room in the name of a user who is in it, and hand it to [`Rooms::handle_read`].
    Read {
        /// The room.
        room_id: String,
        /// The user.
        reader: String,
    },
}

/// The rooms.
pub(super) struct Rooms {
    own_user_id: String,
    rooms: BTreeMap<String, Room>,
    /// How many of them are being read.
    reading: usize,
    /// Whether [`Rooms::readers`] may say something else than when it was kept.
    is_changed: bool,
    output: VecDeque<Output>,
}

enum Room {
    /// The state is being read. What is pushed waits.
    Reading {
        reader: String,
        readers: u32,
        waiting: Vec<Incoming>,
        /// More was pushed than could wait: the state has to be read once more.
        overflowed: bool,
    },
    /// What is pushed is told.
    Known {
        /// Who of the own homeserver is joined. Without anyone the homeserver pushes nothing more.
        local: BTreeSet<String>,
    },
}

impl Rooms {
    /// Knows no room. All users of `own_user_id`'s homeserver can be readers.
    pub(super) fn new(own_user_id: &str) -> Self {
        Self {
            own_user_id: own_user_id.to_owned(),
            rooms: BTreeMap::new(),
            reading: 0,
            is_changed: false,
            output: VecDeque::new(),
        }
    }

    /// A room that was known before a restart, with who could read it.
    pub(super) fn restore(&mut self, room_id: &str, reader: &str) {
        self.read(room_id, reader, Vec::new());
    }

    /// Something was pushed. What is neither a call's nor a member's is passed over.
    pub(super) fn handle_event(&mut self, event: Incoming) {
        let Some(room_id) = room_of(&event) else {
            return;
        };
        match self.rooms.get_mut(room_id) {
            Some(Room::Known { .. }) => self.tell(event),
            Some(Room::Reading {
                waiting,
                overflowed,
                ..
            }) => {
                if waiting.len() < WAITING_MAX {
                    waiting.push(event);
                } else {
                    *overflowed = true;
                }
            }
            None => {
                if let Some(reader) = self.reader_of(&event) {
                    let (room_id, reader) = (room_id.to_owned(), reader.to_owned());
                    self.read(&room_id, &reader, vec![event]);
                }
            }
        }
    }

    /// A room's state was read; `None` if the homeserver refused.
    pub(super) fn handle_read(&mut self, room_id: &str, state: Option<Vec<Incoming>>) {
        let Some(room) = self.rooms.remove(room_id) else {
            return;
        };
        let Room::Reading {
            reader,
            readers,
            waiting,
            overflowed,
        } = room
        else {
            self.rooms.insert(room_id.to_owned(), room);
            return;
        };
        self.reading -= 1;
        self.is_changed = true;
        let Some(state) = state else {
            let other = waiting
                .iter()
                .filter_map(|event| self.reader_of(event))
                .find(|other| *other != reader)
                .map(str::to_owned);
            return self.read_again(room_id, other, readers, waiting);
        };
        let local = self.joined_locals(&state);
        if overflowed {
            return self.read_again(room_id, local.into_iter().next(), readers, Vec::new());
        }
        // Who has left is given the state as it was then.
        if !local.contains(&reader) {
            return self.read_again(room_id, local.into_iter().next(), readers, waiting);
        }
        self.rooms.insert(room_id.to_owned(), Room::Known { local });
        for event in state.into_iter().chain(waiting) {
            self.tell(event);
        }
    }

    /// What is to be done next.
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// How many rooms are known, and how many are still being read.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.rooms.len() - self.reading, self.reading)
    }

    /// Whether [`Rooms::readers`] may have changed since [`Rooms::handle_kept`].
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// What [`Rooms::readers`] gives now is kept.
    pub(super) fn handle_kept(&mut self) {
        self.is_changed = false;
    }

    /// Every room with somebody who can read it, for [`Rooms::restore`]. Preferably the focus: it stays.
    pub(super) fn readers(&self) -> BTreeMap<String, String> {
        let reader = |room: &Room| match room {
            Room::Reading { reader, .. } => Some(reader.clone()),
            Room::Known { local } => local.get(&self.own_user_id).or(local.first()).cloned(),
        };
        self.rooms
            .iter()
            .filter_map(|(room_id, room)| Some((room_id.clone(), reader(room)?)))
            .collect()
    }

    fn read(&mut self, room_id: &str, reader: &str, waiting: Vec<Incoming>) {
        if self.rooms.len() < ROOMS_MAX {
            self.begin(room_id, reader.to_owned(), 1, waiting);
        }
    }

    /// Reads once more in the name of somebody else, if there is somebody; else the room is not known until its next call.
    fn read_again(
        &mut self,
        room_id: &str,
        reader: Option<String>,
        readers: u32,
        waiting: Vec<Incoming>,
    ) {
        if let Some(reader) = reader
            && readers < READERS_MAX
        {
            self.begin(room_id, reader, readers + 1, waiting);
        }
    }

    fn begin(&mut self, room_id: &str, reader: String, readers: u32, waiting: Vec<Incoming>) {
        self.output.push_back(Output::Read {
            room_id: room_id.to_owned(),
            reader: reader.clone(),
        });
        let room = Room::Reading {
            reader,
            readers,
            waiting,
            overflowed: false,
        };
        self.rooms.insert(room_id.to_owned(), room);
        self.reading += 1;
        self.is_changed = true;
    }

    /// Tells what was pushed about a known room, unless it says nothing to others.
    fn tell(&mut self, event: Incoming) {
        let own_user_id = self.own_user_id.as_str();
        let Some(Room::Known { local }) = room_of(&event).and_then(|id| self.rooms.get_mut(id))
        else {
            return;
        };
        if let Incoming::Membership {
            user_id,
            joined,
            room_id,
        } = &event
            && is_local(own_user_id, user_id)
        {
            let room_id = room_id.clone();
            let is_changed = if *joined {
                local.insert(user_id.clone())
            } else {
                local.remove(user_id)
            };
            self.is_changed |= is_changed;
            let is_own = user_id == own_user_id;
            let has_left = is_changed && !joined;
            if has_left && (is_own || local.is_empty()) {
                return self.forget(room_id);
            }
            // The focus need not be in a room: that it was invited, say, is no departure.
            if is_own && !joined {
                return;
            }
        }
        self.output.push_back(Output::Tell(event));
    }

    /// The focus was sent away, or nobody of the own homeserver is left: as if it had left.
    fn forget(&mut self, room_id: String) {
        self.rooms.remove(&room_id);
        self.output.push_back(Output::Tell(Incoming::Membership {
            room_id,
            user_id: self.own_user_id.clone(),
            joined: false,
        }));
    }

    /// Who can read a room that this event makes known.
    fn reader_of<'a>(&self, event: &'a Incoming) -> Option<&'a str> {
        let own = self.own_user_id.as_str();
        match event {
            Incoming::CallState {
                sender, content, ..
            } => (is_local(own, sender) && says_of_a_call(content)).then_some(sender),
            // It was invited to a room that may have calls.
            Incoming::Membership {
                user_id,
                joined: true,
                ..
            } => (user_id == own).then_some(user_id),
            _ => None,
        }
    }

    fn joined_locals(&self, state: &[Incoming]) -> BTreeSet<String> {
        let joined = state.iter().filter_map(|event| match event {
            Incoming::Membership {
                user_id,
                joined: true,
                ..
            } if is_local(&self.own_user_id, user_id) => Some(user_id.clone()),
            _ => None,
        });
        joined.collect()
    }
}

fn room_of(event: &Incoming) -> Option<&str> {
    match event {
        Incoming::CallState { room_id, .. } | Incoming::Membership { room_id, .. } => Some(room_id),
        _ => None,
    }
}

/// Whether a user is of the same homeserver.
fn is_local(own_user_id: &str, user_id: &str) -> bool {
    server_name(own_user_id) == server_name(user_id)
}

fn server_name(user_id: &str) -> Option<&str> {
    user_id.split_once(':').map(|(_, server_name)| server_name)
}

/// Whether a call goes on: not for a call that is over, nor for members who list none.
fn says_of_a_call(content: &Value) -> bool {
    let Some(members) = content.as_object() else {
        return false;
    };
    let lists_none = members
        .get("m.calls")
        .is_some_and(|calls| calls.as_array().is_none_or(Vec::is_empty));
    !members.is_empty() && !members.contains_key("m.terminated") && !lists_none
}

#[cfg(test)]
mod tests;
