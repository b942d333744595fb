//! The focus's HTTP side: health, metrics, its entry for well-known documents and, where configured, the page, and who is connected
//! where.
//!
//! Not a place for calls: nothing here can change a conference. Every path is read-only and unauthenticated, so the
//! listener belongs on an address that only the operator's proxy and Prometheus reach; the page holds no secret.

mod conferences;

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
use tokio::sync::watch;

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

/// What is served for people, each only where it is wanted.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// Whether the page is served.
    pub page: bool,
    /// What `/conferences` says, which is for this machine alone: `address` should be a loopback address. `None` has no such path.
    pub conferences: Option<watch::Receiver<String>>,
}

/// Listens on `address` (port 0: any) and serves the focus's own paths.
///
/// # Errors
/// The error of binding, with nothing started.
pub async fn start(
    address: SocketAddr,
    pages: Pages,
    readiness: Readiness,
    well_known: WellKnown,
    metrics: impl Metrics,
) -> std::io::Result<Listening> {
    let own = router(readiness, well_known, metrics);
    serve(address, own.merge(pages.router())).await
}

/// Listens on `address` (port 0: any) and serves what is for people alone, for programs that run several foci.
///
/// # Errors
/// The error of binding, with nothing started.
pub async fn start_pages(address: SocketAddr, pages: Pages) -> std::io::Result<Listening> {
    serve(address, pages.router()).await
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

impl Pages {
    fn router(self) -> Router {
        let mut router = Router::new();
        if let Some(document) = self.conferences {
            let conferences = get(conferences::serve).with_state(document);
            router = router.route("/conferences", conferences);
        }
        if self.page {
            router = router
                .route("/", get(|| async { page_file("index.html") }))
                .route(
                    "/{*path}",
                    get(|Path(path): Path<String>| async move { page_file(&path) }),
                );
        }
        router
    }
}

fn router(readiness: Readiness, well_known: WellKnown, metrics: impl Metrics) -> Router {
    Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready).with_state(readiness))
        .route(
            "/.well-known/matrix/client",
            get(entry).with_state(well_known),
        )
        .route("/metrics", get(move || render(metrics)))
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
