//! One run, from the options to the report and its files.

use std::path::Path;
use std::sync::Arc;

use weir_client::Clips;

use crate::cli::{Options, layers_sent};
use crate::engine::{self, Media};
use crate::fault::Fault;
use crate::machine;
use crate::network::Network;
use crate::program;
use crate::report::assemble::{self, Known};
use crate::report::{Conditions, RunReport, html};
use crate::site::Site;

/// The focus that is started here keeps its default; others are assumed to.
fn voices_all_up_to() -> usize {
    weir::config::Audio::default().all_up_to
}

/// Performs what the options say; `command` is the command line as it may be shown. `stop` ends it early.
///
/// # Errors
/// What kept it from beginning.
pub async fn run(
    options: &Options,
    command: String,
    progress: Arc<dyn Fn(&str) + Send + Sync>,
    stop: impl Future<Output = ()>,
) -> Result<RunReport, Fault> {
    let plan = options.settings.plan();
    let embedded = options.site.remote.is_none();
    machine::check_files(&plan, embedded)?;
    machine::check_memory(&plan)?;
    for path in [&options.json, &options.html].into_iter().flatten() {
        program::check_writable(path).map_err(|error| file(path, &error))?;
    }
    tokio::pin!(stop);
    let tell = |step: &str| progress(step);
    let mut site = tokio::select! {
        site = Site::open(&options.site, &plan, &tell) => site?,
        () = &mut stop => return Err(Fault::Usage("interrupted before anybody had joined".into())),
    };
    let network = options
        .network
        .as_ref()
        .map(|(_, schedule)| Network::new(schedule.clone(), options.settings.seed));
    let media = Media {
        camera: options.camera,
        decode: engine::decode(plan.full()),
        feedback: options.feedback,
        dialect: options.settings.dialect,
        encryption: options.encryption,
        detour: network.as_ref().map(Network::detour),
        seed: options.settings.seed,
        voices_all_up_to: voices_all_up_to(),
    };
    let conditions = Conditions {
        started_unix_s: 0,
        command,
        settings: options.settings.clone(),
        layers: layers_sent(&options.camera, &Clips::committed()),
        publishers: plan.publishers(),
        full: plan.full(),
        network: options.network.as_ref().map(|(text, _)| text.clone()),
        focus: site.describe(),
        shards: options.site.shards,
        machine: machine::describe(),
        measured_s: 0.0,
    };
    let told = Arc::clone(&progress);
    let outcome = engine::run(
        &plan,
        &site,
        media,
        &options.criteria,
        move |line| told(line),
        stop,
    )
    .await;
    progress("stopping");
    let network = match network {
        Some(network) => Some(network.stop().await),
        None => None,
    };
    let known = Known {
        conditions,
        network,
        is_here: site.is_here(),
        focus_ended: site.focus_ended(),
    };
    site.close().await;
    Ok(assemble::report(&plan, &options.criteria, outcome, known))
}

/// Writes the files that were asked for.
///
/// # Errors
/// [`Fault::File`].
pub fn write(options: &Options, report: &RunReport) -> Result<(), Fault> {
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(report).map_err(|error| file(path, &error))?;
        std::fs::write(path, text + "\n").map_err(|error| file(path, &error))?;
    }
    if let Some(path) = &options.html {
        let page = html::page(report).map_err(|error| file(path, &error))?;
        std::fs::write(path, page).map_err(|error| file(path, &error))?;
    }
    Ok(())
}

fn file(path: &Path, cause: &dyn std::fmt::Display) -> Fault {
    Fault::File {
        path: path.display().to_string(),
        cause: cause.to_string(),
    }
}
