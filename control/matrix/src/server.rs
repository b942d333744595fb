//! The homeserver before there is a session, and beside it: plain requests.
//!
//! Not the SDK's, because a client of the SDK can be given a session only once, and here a stored token may turn out to be void;
//! and because an application service speaks with a token that is no session's.

use std::time::Duration;

use matrix_sdk::reqwest;
use serde_json::{Value, json};

use crate::{Appservice, Config, ConnectError, session::Session, short::Short};

/// How long one request may take (a sync: beyond its long poll).
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The homeserver, asked by plain requests. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Server {
    url: String,
    http: reqwest::Client,
}

impl Server {
    pub(crate) fn new(config: &Config) -> Result<Self, ConnectError> {
        let url = config.homeserver_url.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build();
        let http = http.map_err(|error| ConnectError::BadUrl {
            url: url.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self { url, http })
    }

    /// Whose the token is.
    pub(crate) async fn session_of(&self, access_token: &str) -> Result<Session, ConnectError> {
        let request = self.get("v3/account/whoami");
        let (status, answer) = self.send(request.bearer_auth(access_token)).await?;
        match (status, answer["errcode"].as_str()) {
            (200, _) => {}
            (401 | 403, _) | (_, Some("M_UNKNOWN_TOKEN")) => {
                return Err(ConnectError::BadToken {
                    url: self.url.clone(),
                    reason: said(&answer),
                });
            }
            _ => return Err(self.refused(status, &answer)),
        }
        let Some(device_id) = answer["device_id"].as_str() else {
            return Err(ConnectError::BadToken {
                url: self.url.clone(),
                reason: "it belongs to no device".to_owned(),
            });
        };
        Ok(Session {
            user_id: answer["user_id"].as_str().unwrap_or_default().to_owned(),
            device_id: device_id.to_owned(),
            access_token: access_token.to_owned(),
        })
    }

    /// Logs the device in by password.
    pub(crate) async fn log_in(
        &self,
        config: &Config,
        password: &str,
        device_id: &str,
    ) -> Result<Session, ConnectError> {
        let mut body = login(config, "m.login.password", device_id);
        body["password"] = password.into();
        let (status, answer) = self.post("login", None, &body).await?;
        match (status, answer["errcode"].as_str()) {
            (200, _) => Ok(logged_in(&answer)),
            (_, Some("M_FORBIDDEN")) => Err(ConnectError::BadPassword {
                url: self.url.clone(),
                user: config.user_id.clone(),
                reason: said(&answer),
            }),
            _ => Err(self.refused(status, &answer)),
        }
    }

    /// Logs the device in as a user of the application service, and makes that user if the homeserver has none yet.
    pub(crate) async fn log_in_appservice(
        &self,
        config: &Config,
        appservice: &Appservice,
        device_id: &str,
    ) -> Result<Session, ConnectError> {
        let token = appservice.token.expose();
        let user = config.user_id.trim_start_matches('@');
        let register = json!({
            "type": "m.login.application_service",
            "username": user.split(':').next(),
            "inhibit_login": true,
        });
        let (status, answer) = self.post("register", Some(token), &register).await?;
        if status != 200 && answer["errcode"] != "M_USER_IN_USE" {
            return Err(self.refused_appservice(status, &answer));
        }
        let body = login(config, "m.login.application_service", device_id);
        let (status, answer) = self.post("login", Some(token), &body).await?;
        if status == 200 {
            Ok(logged_in(&answer))
        } else {
            Err(self.refused_appservice(status, &answer))
        }
    }

    fn refused_appservice(&self, status: u16, answer: &Value) -> ConnectError {
        if matches!(status, 401 | 403) || answer["errcode"] == "M_EXCLUSIVE" {
            ConnectError::BadAppservice {
                url: self.url.clone(),
                reason: said(answer),
            }
        } else {
            self.refused(status, answer)
        }
    }

    /// Whether the homeserver knows keys of the device.
    pub(crate) async fn has_device_keys(&self, session: &Session) -> Result<bool, ConnectError> {
        let body = json!({ "device_keys": { &session.user_id: [&session.device_id] } });
        let (status, answer) = self
            .post("keys/query", Some(&session.access_token), &body)
            .await?;
        if status != 200 {
            return Err(self.refused(status, &answer));
        }
        Ok(answer["device_keys"][&session.user_id][&session.device_id].is_object())
    }

    /// A `GET` below `/_matrix/client/`, to be sent by the caller.
    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("{}/_matrix/client/{path}", self.url))
    }

    async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<(u16, Value), ConnectError> {
        let answer = self.post_to(&format!("v3/{path}"), token, body).await?;
        self.well(answer)
    }

    /// A `POST` below `/_matrix/client/`; gives status and JSON, whatever they are.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] without an answer, and with one that is not a homeserver's.
    pub(crate) async fn post_to(
        &self,
        path: &str,
        token: Option<&str>,
        body: &Value,
    ) -> Result<(u16, Value), ConnectError> {
        let request = self
            .http
            .post(format!("{}/_matrix/client/{path}", self.url));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        self.exchange(with_json(request, body)).await
    }

    /// Sends; gives status and JSON.
    async fn send(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value), ConnectError> {
        self.well(self.exchange(request).await?)
    }

    /// The answer of a homeserver that is well: one that is not may answer differently later.
    fn well(&self, (status, json): (u16, Value)) -> Result<(u16, Value), ConnectError> {
        if status >= 500 {
            return Err(ConnectError::Unreachable {
                url: self.url.clone(),
                reason: format!("status {status}: {}", said(&json)),
            });
        }
        Ok((status, json))
    }

    /// Sends; gives status and JSON. An answer that is not JSON is not a homeserver's.
    async fn exchange(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(u16, Value), ConnectError> {
        let unreachable = |reason: String| ConnectError::Unreachable {
            url: self.url.clone(),
            reason,
        };
        let answer = request
            .send()
            .await
            .map_err(|error| unreachable(describe(&error)))?;
        let status = answer.status().as_u16();
        let bytes = answer
            .bytes()
            .await
            .map_err(|error| unreachable(describe(&error)))?;
        let json = serde_json::from_slice(&bytes);
        let json = json.map_err(|_| {
            unreachable(format!(
                "status {status} and no JSON: is this a homeserver's URL?"
            ))
        })?;
        Ok((status, json))
    }

    fn refused(&self, status: u16, answer: &Value) -> ConnectError {
        ConnectError::Refused {
            url: self.url.clone(),
            reason: format!("status {status}: {}", said(answer)),
        }
    }
}

/// The body of a login, without what proves it.
fn login(config: &Config, how: &str, device_id: &str) -> Value {
    json!({
        "type": how,
        "identifier": { "type": "m.id.user", "user": config.user_id },
        "device_id": device_id,
        "initial_device_display_name": config.display_name,
    })
}

fn logged_in(answer: &Value) -> Session {
    let member = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    let session = Session {
        user_id: member("user_id"),
        device_id: member("device_id"),
        access_token: member("access_token"),
    };
    tracing::info!(user = %Short(&session.user_id), device = %Short(&session.device_id), "logged in");
    session
}

fn with_json(request: reqwest::RequestBuilder, body: &Value) -> reqwest::RequestBuilder {
    request
        .header("Content-Type", "application/json")
        .body(body.to_string())
}

/// What an error answer says, without what it echoes.
pub(crate) fn said(answer: &Value) -> String {
    let errcode = answer["errcode"].as_str().unwrap_or("no error code");
    match answer["error"].as_str() {
        Some(error) => format!("{errcode} ({error})"),
        None => errcode.to_owned(),
    }
}

/// An error with its causes: reqwest's own text names the URL, and only a cause says "connection refused".
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
