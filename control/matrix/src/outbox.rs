//! Sending to-device messages: in order per recipient, over outages.
//!
//! Each recipient device that something waits for has a queue and a task that empties it; both end with the queue. A
//! plain message keeps its transaction id over all attempts, so the homeserver takes it once. An encrypted one is
//! encrypted anew at each attempt (the SDK gives no other way), so it may arrive twice if an answer was lost; calls
//! tolerate that.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use matrix_sdk::{
    Client, HttpError,
    config::RequestConfig,
    ruma::{
        OwnedDeviceId, OwnedTransactionId, OwnedUserId, TransactionId,
        api::client::to_device::send_event_to_device::v3::Request,
        events::{AnyToDeviceEventContent, ToDeviceEventType},
        serde::Raw,
        to_device::DeviceIdOrAllDevices,
    },
};
use serde_json::Value;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::{Protection, SendError, backoff::Backoff, server::describe};

/// Messages that may wait for one device: a call setup has about ten, and a client that is gone is noticed by its pings
/// long before.
const QUEUE_PER_DEVICE_MAX: usize = 256;
/// Devices that messages may wait for.
const QUEUES_MAX: usize = 16_384;
/// How long a message may wait: a caller gives up after a minute, and a hangup still helps after two.
const WAIT_MAX: Duration = Duration::from_secs(120);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

type Recipient = (OwnedUserId, OwnedDeviceId);

pub(crate) struct Message {
    pub(crate) event_type: String,
    pub(crate) content: Raw<AnyToDeviceEventContent>,
    pub(crate) protection: Protection,
}

struct Job {
    message: Message,
    transaction: OwnedTransactionId,
    deadline: Instant,
    done: oneshot::Sender<Result<(), SendError>>,
}

/// Where messages wait to be sent. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbox {
    client: Client,
    queues: Arc<Mutex<HashMap<Recipient, VecDeque<Job>>>>,
    stop: watch::Receiver<bool>,
}

impl Outbox {
    pub(crate) fn new(client: Client, stop: watch::Receiver<bool>) -> Self {
        Self {
            client,
            queues: Arc::default(),
            stop,
        }
    }

    /// Takes a message; its place in the recipient's order is fixed when this returns.
    pub(crate) fn push(
        &self,
        recipient: Recipient,
        message: Message,
    ) -> oneshot::Receiver<Result<(), SendError>> {
        let (done, result) = oneshot::channel();
        let transaction = TransactionId::new();
        let job = Job {
            message,
            transaction,
            deadline: Instant::now() + WAIT_MAX,
            done,
        };
        if *self.stop.borrow() {
            job.finish(Err(SendError::ShutDown));
            return result;
        }
        let mut queues = self.lock();
        let queues_len = queues.len();
        match queues.get_mut(&recipient) {
            Some(queue) if queue.len() >= QUEUE_PER_DEVICE_MAX => job.finish(Err(SendError::Full)),
            Some(queue) => queue.push_back(job),
            None if queues_len >= QUEUES_MAX => job.finish(Err(SendError::Full)),
            None => {
                queues.insert(recipient.clone(), VecDeque::from([job]));
                tokio::spawn(self.clone().empty(recipient));
            }
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Recipient, VecDeque<Job>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits for one recipient, until nothing does.
    async fn empty(self, recipient: Recipient) {
        let mut stop = self.stop.clone();
        loop {
            let job = {
                let mut queues = self.lock();
                let job = queues.get_mut(&recipient).and_then(VecDeque::pop_front);
                let Some(job) = job else {
                    queues.remove(&recipient);
                    return;
                };
                job
            };
            let result = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Err(SendError::ShutDown),
                result = self.deliver(&recipient, &job) => result,
            };
            job.finish(result);
        }
    }

    async fn deliver(&self, recipient: &Recipient, job: &Job) -> Result<(), SendError> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            let attempt = async {
                match job.message.protection {
                    Protection::Plain => self.send_plain(recipient, job).await,
                    Protection::Olm => self.send_olm(recipient, job).await,
                }
            };
            let error = match timeout_at(job.deadline, attempt).await {
                Ok(Err(Failure::Transient(error))) => error,
                Ok(Err(Failure::Final(error))) => return Err(error),
                Ok(Ok(())) => return Ok(()),
                Err(_) => "no answer".to_owned(),
            };
            let wait = backoff.next(rand::random());
            if Instant::now() + wait >= job.deadline {
                return Err(SendError::Unreachable(error));
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn send_plain(&self, (user_id, device_id): &Recipient, job: &Job) -> Result<(), Failure> {
        let device = DeviceIdOrAllDevices::DeviceId(device_id.clone());
        let messages = BTreeMap::from([(
            user_id.clone(),
            BTreeMap::from([(device, job.message.content.clone())]),
        )]);
        let event_type = ToDeviceEventType::from(job.message.event_type.as_str());
        let request = Request::new_raw(event_type, job.transaction.clone(), messages);
        let config = RequestConfig::new()
            .disable_retry()
            .timeout(ATTEMPT_TIMEOUT);
        self.client
            .send(request)
            .with_request_config(config)
            .await
            .map_err(Failure::from)?;
        Ok(())
    }

    async fn send_olm(&self, (user_id, device_id): &Recipient, job: &Job) -> Result<(), Failure> {
        let encryption = self.client.encryption();
        let find = || async {
            encryption
                .get_device(user_id, device_id)
                .await
                .map_err(Failure::from_display)
        };
        let device = match find().await? {
            Some(device) => device,
            None => {
                encryption
                    .request_user_identity(user_id)
                    .await
                    .map_err(Failure::from)?;
                find().await?.ok_or(Failure::Final(SendError::NoKeys))?
            }
        };
        let message = &job.message;
        let failed = encryption
            .encrypt_and_send_raw_to_device(
                vec![&device],
                &message.event_type,
                message.content.clone(),
                // The default is "all devices, verified or not"; the SDK does not export the type to say so.
                Default::default(),
            )
            .await
            .map_err(Failure::from)?;
        if failed.is_empty() {
            return Ok(());
        }
        // The SDK does not say why. If the homeserver answers, it was not the homeserver.
        self.client.whoami().await.map_err(Failure::from)?;
        Err(Failure::Final(SendError::NoKeys))
    }
}

impl Job {
    fn finish(self, result: Result<(), SendError>) {
        // Nobody waits for the result if the caller dropped its future.
        let _ = self.done.send(result);
    }
}

/// Why an attempt failed: whether another may succeed.
enum Failure {
    Transient(String),
    Final(SendError),
}

impl Failure {
    fn from_display(error: impl std::fmt::Display) -> Self {
        Self::Final(SendError::Refused(error.to_string()))
    }
}

impl From<HttpError> for Failure {
    fn from(error: HttpError) -> Self {
        match &error {
            HttpError::Reqwest(_) => Self::Transient(describe(&error)),
            HttpError::Api(_) => {
                let status = error
                    .as_client_api_error()
                    .map(|error| error.status_code.as_u16());
                match status {
                    // 429 asks for patience; 5xx is the homeserver's or its proxy's trouble, with or without JSON.
                    Some(429 | 500..) | None => Self::Transient(describe(&error)),
                    Some(_) => Self::Final(SendError::Refused(describe(&error))),
                }
            }
            _ => Self::Final(SendError::Refused(describe(&error))),
        }
    }
}

impl From<matrix_sdk::Error> for Failure {
    fn from(error: matrix_sdk::Error) -> Self {
        match error {
            matrix_sdk::Error::Http(error) => Self::from(*error),
            other => Self::from_display(other),
        }
    }
}

/// What went wrong with a request that is not repeated.
pub(crate) fn send_error(error: matrix_sdk::Error) -> SendError {
    match Failure::from(error) {
        Failure::Transient(error) => SendError::Unreachable(error),
        Failure::Final(error) => error,
    }
}

/// Content to send: any JSON object.
pub(crate) fn raw_content(content: &Value) -> Result<Raw<AnyToDeviceEventContent>, SendError> {
    if !content.is_object() {
        return Err(SendError::Invalid {
            what: "content (an object)",
            value: content.to_string(),
        });
    }
    Raw::new(content)
        .map(Raw::cast_unchecked)
        .map_err(|error| SendError::Invalid {
            what: "content",
            value: error.to_string(),
        })
}
