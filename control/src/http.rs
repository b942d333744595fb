//! The focus's HTTP side: health, metrics, its entry for well-known documents and, where configured, the page.
//!
//! Not a place for calls: nothing here can change a conference. Every path is read-only and unauthenticated, so the
//! listener belongs on an address that only the operator's proxy and Prometheus reach; the page holds no secret.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use include_dir::{Dir, include_dir};

use crate::{discovery::WellKnown, listening::Listening};

/// The page, as it was when the binary was built.
static PAGE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/web");

/// The page loads nothing from elsewhere and runs no inline script; it talks to a homeserver of the user's choice.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; connect-src *; media-src 'self' blob:; \
     img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// What `/health/ready` answers, set by the focus.
///
/// Live means that the process answers; ready means that an invite sent now would be answered: the shards run and the
/// homeserver was reached by the last sync.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says whether an invite sent now would be answered.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }

    /// Whether an invite sent now would be answered.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Puts together what a scrape gets.
pub trait Metrics: FnOnce() -> String + Clone + Send + Sync + 'static {}

impl<F: FnOnce() -> String + Clone + Send + Sync + 'static> Metrics for F {}

/// Listens on `address` (port 0: any) and serves the focus's own paths.
///
/// # Errors
/// The error of binding, with nothing started.
pub async fn start(
    address: SocketAddr,
    serves_page: bool,
    readiness: Readiness,
    well_known: WellKnown,
    metrics: impl Metrics,
) -> std::io::Result<Listening> {
    let router = router(serves_page, readiness, well_known, metrics);
    serve(address, router).await
}

/// The same for other paths.
pub(crate) async fn serve(address: SocketAddr, router: Router) -> std::io::Result<Listening> {
    Listening::start(address, |listener| async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the HTTP listener ended");
        }
    })
    .await
}

fn router(
    serves_page: bool,
    readiness: Readiness,
    well_known: WellKnown,
    metrics: impl Metrics,
) -> Router {
    let router = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready).with_state(readiness))
        .route(
            "/.well-known/matrix/client",
            get(entry).with_state(well_known),
        )
        .route("/metrics", get(move || render(metrics)));
    if serves_page {
        router
            .route("/", get(|| async { page_file("index.html") }))
            .route(
                "/{*path}",
                get(|Path(path): Path<String>| async move { page_file(&path) }),
            )
    } else {
        router
    }
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    if readiness.get() {
        (StatusCode::OK, "ready\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: the homeserver cannot be reached\n",
        )
    }
}

/// The entry for well-known documents. Pages of other origins read them (Client-Server API "Well-known URI").
async fn entry(State(well_known): State<WellKnown>) -> Response {
    match well_known.get() {
        Some(document) => {
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            ];
            (headers, document.to_owned()).into_response()
        }
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not logged in to the homeserver yet\n",
        )
            .into_response(),
    }
}

/// Puts the text together on a thread that may block: it reads files, and waits for another scrape to be done.
async fn render(metrics: impl Metrics) -> Response {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    match tokio::task::spawn_blocking(metrics).await {
        Ok(text) => ([(header::CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be put together");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// One file of the page. The path is a key into what was embedded, so there is nothing to traverse.
fn page_file(path: &str) -> Response {
    let Some(file) = PAGE.get_file(path) else {
        return (StatusCode::NOT_FOUND, "no such file\n").into_response();
    };
    let mut response = file.contents().into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(content_type(path)),
    );
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_SECURITY_POLICY),
    );
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    // The page and the binary change together; a cached module of an older build would not fit.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
