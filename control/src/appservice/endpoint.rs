//! Where the homeserver pushes to: `PUT /_matrix/app/v1/transactions/{txnId}` and `POST /_matrix/app/v1/ping`.
//!
//! **Nothing of a request is read before its token was right.** Transactions are taken one after the other, in the order in which they
//! come; one that was taken before is answered and changes nothing.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest as _, Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{post, put},
};
use serde_json::{Value, json};
use tokio::time::timeout;
use weir_matrix::{AppserviceLink, Transaction};

use super::counters::{AppserviceCounters, TransactionResult};
use crate::{config::Secret, focus::unix_now};

/// Bytes of a transaction: Synapse pushes up to 100 events of up to 64 KiB, and whatever extensions add.
const BODY_BYTES_MAX: usize = 16 << 20;

/// How long a body may take to arrive. Homeservers are near.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Ids of transactions that are remembered. A homeserver repeats only the last one.
const REMEMBERED_MAX: usize = 64;

/// Characters of a transaction's id. Synapse counts.
const ID_BYTES_MAX: usize = 255;

/// What takes transactions.
pub(crate) trait TakesTransactions: Send + Sync + 'static {
    /// Takes one; `false` if the homeserver has to push it again.
    fn take(&self, transaction: Transaction) -> impl Future<Output = bool> + Send;
}

impl TakesTransactions for AppserviceLink {
    async fn take(&self, transaction: Transaction) -> bool {
        self.handle_transaction(transaction).await.is_ok()
    }
}

/// What the homeserver talks to.
pub(crate) struct Endpoint<T> {
    hs_token: Secret,
    taker: T,
    counters: Arc<AppserviceCounters>,
    /// Held while a count is written, because each counter has one writer.
    counting: Mutex<()>,
    /// The last transactions that were taken; held while one is.
    taken: tokio::sync::Mutex<VecDeque<String>>,
}

impl<T: TakesTransactions> Endpoint<T> {
    pub(crate) fn new(hs_token: Secret, taker: T, counters: Arc<AppserviceCounters>) -> Self {
        Self {
            hs_token,
            taker,
            counters,
            counting: Mutex::default(),
            taken: tokio::sync::Mutex::default(),
        }
    }

    /// Everything of the Application Service API that this focus answers. Users and aliases that the homeserver asks for do not
    /// exist here.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/_matrix/app/v1/transactions/{id}", put(transaction::<T>))
            .route("/_matrix/app/v1/ping", post(ping::<T>))
            .fallback(async || error(StatusCode::NOT_FOUND, "M_UNRECOGNIZED", "not known here"))
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(Arc::new(self))
    }

    /// Whether a request is the homeserver's; how long the comparison takes says nothing about the token.
    fn is_authorised(&self, headers: &HeaderMap) -> bool {
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        shown.is_some_and(|shown| {
            verify_slices_are_equal(shown, self.hs_token.expose().as_bytes()).is_ok()
        })
    }

    async fn take(&self, id: String, request: Request) -> TransactionResult {
        if !self.is_authorised(request.headers()) {
            return TransactionResult::Unauthorised;
        }
        if id.len() > ID_BYTES_MAX {
            return TransactionResult::Malformed;
        }
        let mut taken = self.taken.lock().await;
        if taken.contains(&id) {
            return TransactionResult::Duplicate;
        }
        let body = match timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await {
            Ok(Ok(body)) => body,
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                return TransactionResult::TooLong;
            }
            Ok(Err(_)) | Err(_) => return TransactionResult::Incomplete,
        };
        let transaction = match Transaction::parse(&body) {
            Ok(transaction) => transaction,
            Err(error) => {
                tracing::error!(%error, "the homeserver pushed what is no transaction");
                return TransactionResult::Malformed;
            }
        };
        let (seen, state) = (transaction.seen(), transaction.len());
        let newest_ms = transaction.newest_ms();
        if !self.taker.take(transaction).await {
            return TransactionResult::NotTaken;
        }
        taken.push_back(id);
        if taken.len() > REMEMBERED_MAX {
            taken.pop_front();
        }
        self.count_events(seen, state, newest_ms);
        TransactionResult::Accepted
    }

    fn count_events(&self, seen: usize, state: usize, newest_ms: Option<u64>) {
        let _turn = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        self.counters.events.add(seen as u64);
        self.counters.state_events.add(state as u64);
        if let Some(newest_ms) = newest_ms {
            let lag = unix_now().saturating_sub(Duration::from_millis(newest_ms));
            self.counters.lag.record(lag.as_micros() as u64);
        }
    }

    fn count(&self, result: TransactionResult) {
        let _turn = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        self.counters.transactions[result as usize].add(1);
    }
}

async fn transaction<T: TakesTransactions>(
    State(endpoint): State<Arc<Endpoint<T>>>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let result = endpoint.take(id, request).await;
    endpoint.count(result);
    match result {
        TransactionResult::Accepted | TransactionResult::Duplicate => nothing(),
        TransactionResult::Unauthorised => unauthorised(),
        TransactionResult::TooLong => error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "M_TOO_LARGE",
            "longer than 16 MiB",
        ),
        TransactionResult::Incomplete => error(
            StatusCode::REQUEST_TIMEOUT,
            "M_UNKNOWN",
            "the body did not arrive",
        ),
        TransactionResult::Malformed => {
            error(StatusCode::BAD_REQUEST, "M_BAD_JSON", "no transaction")
        }
        TransactionResult::NotTaken => error(
            StatusCode::SERVICE_UNAVAILABLE,
            "M_UNKNOWN",
            "the focus is being stopped",
        ),
    }
}

async fn ping<T: TakesTransactions>(
    State(endpoint): State<Arc<Endpoint<T>>>,
    headers: HeaderMap,
) -> Response {
    if endpoint.is_authorised(&headers) {
        nothing()
    } else {
        unauthorised()
    }
}

fn nothing() -> Response {
    Json(json!({})).into_response()
}

/// The same without a token and with a wrong one.
fn unauthorised() -> Response {
    error(
        StatusCode::FORBIDDEN,
        "M_FORBIDDEN",
        "not the homeserver's token",
    )
}

fn error(status: StatusCode, errcode: &str, text: &str) -> Response {
    let body: Value = json!({ "errcode": errcode, "error": text });
    (status, Json(body)).into_response()
}

#[cfg(test)]
mod tests;
