//! Whether the homeserver reaches the focus: it is asked to try.
//!
//! A homeserver that has found an application service away tries again with growing pauses (Synapse up to every 8 minutes);
//! an answered ping makes it push at once what has waited.

use std::{sync::Arc, time::Duration};

use weir_matrix::AppserviceLink;

use super::counters::{AppserviceCounters, PingResult};

/// How often while all is well. A request that is lost delays what is pushed by as much at most.
const INTERVAL: Duration = Duration::from_secs(30);

/// How often while it is not.
const RETRY: Duration = Duration::from_secs(5);

/// Pings for ever; says in the log what has changed.
pub(crate) async fn run(link: AppserviceLink, counters: Arc<AppserviceCounters>) {
    let mut reached: Option<bool> = None;
    loop {
        let result = match link.ping().await {
            Ok(took) => {
                if reached.replace(true) != Some(true) {
                    tracing::info!(?took, "the homeserver reaches the application service");
                }
                PingResult::Reached
            }
            Err(error) => {
                if reached.replace(false) != Some(false) {
                    tracing::error!(
                        %error,
                        "the homeserver cannot reach the application service: is appservice.url right as seen from there?"
                    );
                }
                PingResult::Failed
            }
        };
        counters.pings[result as usize].add(1);
        let pause = match result {
            PingResult::Reached => INTERVAL,
            PingResult::Failed => RETRY,
        };
        tokio::time::sleep(pause).await;
    }
}
