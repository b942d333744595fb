//! Accounts, devices and access tokens.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Caller, Device, State, User, random_id};
use crate::{
    error::MatrixError,
    limits::{ACCOUNT_DATA_PER_USER_MAX, DEVICES_PER_USER_MAX, USERS_MAX},
};

/// What a login or registration says about the device to use.
#[derive(Debug, Default)]
pub(crate) struct NewDevice {
    pub(crate) device_id: Option<String>,
    pub(crate) display_name: Option<String>,
}

impl State {
    /// The full user id for a localpart or user id of this server.
    pub(crate) fn full_user_id(&self, user: &str) -> String {
        if user.starts_with('@') {
            user.to_owned()
        } else {
            format!("@{user}:{}", self.server_name)
        }
    }

    pub(crate) fn register(
        &mut self,
        localpart: &str,
        password: &str,
    ) -> Result<String, MatrixError> {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._=-/+".contains(c);
        if localpart.is_empty() || localpart.len() > 200 || !localpart.chars().all(valid) {
            let error = "a user name has 1 to 200 of a-z 0-9 . _ = - / +";
            return Err(MatrixError::new(
                StatusCode::BAD_REQUEST,
                "M_INVALID_USERNAME",
                error,
            ));
        }
        let user_id = self.full_user_id(localpart);
        if self.users.contains_key(&user_id) {
            return Err(MatrixError::new(
                StatusCode::BAD_REQUEST,
                "M_USER_IN_USE",
                "the user name is taken",
            ));
        }
        if self.users.len() >= USERS_MAX {
            return Err(MatrixError::full("users"));
        }
        let user = User {
            password: password.to_owned(),
            display_name: Some(localpart.to_owned()),
            ..User::default()
        };
        self.users.insert(user_id.clone(), user);
        Ok(user_id)
    }

    pub(crate) fn check_password(&self, user: &str, password: &str) -> Result<String, MatrixError> {
        let user_id = self.full_user_id(user);
        match self.users.get(&user_id) {
            Some(user) if user.password == password => Ok(user_id),
            _ => Err(MatrixError::forbidden("Invalid username or password")),
        }
    }

    /// Makes the device if there is none of that id, and gives it a new access token; its old one ends.
    pub(crate) fn log_in(
        &mut self,
        user_id: &str,
        new: NewDevice,
    ) -> Result<(Caller, String), MatrixError> {
        let device_id = new
            .device_id
            .filter(|id| !id.is_empty())
            .unwrap_or_else(|| random_id(10));
        let user = self
            .users
            .get_mut(user_id)
            .ok_or_else(|| MatrixError::not_found("no such user"))?;
        if !user.devices.contains_key(&device_id) && user.devices.len() >= DEVICES_PER_USER_MAX {
            return Err(MatrixError::full("devices of this user"));
        }
        let device = user.devices.entry(device_id.clone()).or_default();
        if new.display_name.is_some() {
            device.display_name = new.display_name;
        }
        let token = format!("weir_{}", random_id(32));
        self.tokens
            .remove(&std::mem::replace(&mut device.token, token.clone()));
        let caller = Caller {
            user: user_id.to_owned(),
            device: device_id,
        };
        self.tokens.insert(token.clone(), caller.clone());
        Ok((caller, token))
    }

    /// Forgets a device, its keys and its token.
    pub(crate) fn remove_device(&mut self, caller: &Caller) {
        let Some(user) = self.users.get_mut(&caller.user) else {
            return;
        };
        let Some(device) = user.devices.remove(&caller.device) else {
            return;
        };
        self.tokens.remove(&device.token);
        device.wake.notify_waiters();
        self.devices_changed(&caller.user);
    }

    pub(crate) fn device_mut(&mut self, caller: &Caller) -> Result<&mut Device, MatrixError> {
        let device = self
            .users
            .get_mut(&caller.user)
            .and_then(|user| user.devices.get_mut(&caller.device));
        device.ok_or_else(|| MatrixError::not_found("no such device"))
    }

    /// Delivers a to-device message to a device, or with `*` to all of a user's. To nobody, it is dropped.
    pub(crate) fn deliver_to_device(&mut self, user: &str, device: &str, message: &Value) {
        let position = self.advance();
        let Some(user) = self.users.get_mut(user) else {
            return;
        };
        let recipients = user
            .devices
            .iter_mut()
            .filter(|(id, _)| device == "*" || device == id.as_str());
        for (_, recipient) in recipients {
            recipient.deliver(message.clone(), position);
        }
    }

    /// A user's device as `/devices` shows it.
    pub(crate) fn device_json(&self, user: &str, device: &str) -> Option<Value> {
        let found = self.users.get(user)?.devices.get(device)?;
        Some(json!({ "device_id": device, "display_name": found.display_name, "user_id": user }))
    }

    /// Sets account data; an empty room is the global one.
    pub(crate) fn set_account_data(
        &mut self,
        user_id: &str,
        room: &str,
        data_type: &str,
        content: Value,
    ) -> Result<(), MatrixError> {
        let position = self.advance();
        let user = self
            .users
            .get_mut(user_id)
            .ok_or_else(|| MatrixError::not_found("no such user"))?;
        let key = (room.to_owned(), data_type.to_owned());
        if !user.account_data.contains_key(&key)
            && user.account_data.len() >= ACCOUNT_DATA_PER_USER_MAX
        {
            return Err(MatrixError::full("account data"));
        }
        user.account_data.insert(key, (position, content));
        self.wake(user_id);
        Ok(())
    }

    /// Changes a profile field, and the memberships that show it.
    pub(crate) fn set_profile(
        &mut self,
        user_id: &str,
        field: &str,
        value: Option<String>,
    ) -> Result<(), MatrixError> {
        let user = self
            .users
            .get_mut(user_id)
            .ok_or_else(|| MatrixError::not_found("no such user"))?;
        match field {
            "displayname" => user.display_name = value,
            "avatar_url" => user.avatar_url = value,
            _ => {
                return Err(MatrixError::invalid(
                    "only displayname and avatar_url can be set",
                ));
            }
        }
        let rooms: Vec<String> = user.rooms.iter().cloned().collect();
        for room in rooms {
            if self
                .rooms
                .get(&room)
                .is_some_and(|room| room.is_joined(user_id))
            {
                let content = self.member_content(user_id, "join");
                self.append(&room, user_id, "m.room.member", Some(user_id), content)?;
            }
        }
        Ok(())
    }
}
