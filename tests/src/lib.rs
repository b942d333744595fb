//! Tests across crates.

use std::path::{Path, PathBuf};

/// The folder of the workspace.
///
/// # Panics
/// If the tests lie nowhere.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lie in the workspace")
        .to_owned()
}
