//! The architecture as tests: which crate may depend on which, and what the pure core may not touch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use weir_tests::root;

/// Every crate of the workspace and the crates of the workspace that it may use. Arrows point down only; dev-dependencies
/// are excepted, because a test may look at both ends of anything.
const ARROWS: &[(&str, &[&str])] = &[
    ("weir-wire", &[]),
    ("weir-srtp", &["weir-wire"]),
    ("weir-shard", &["weir-srtp", "weir-wire"]),
    ("weir-uring", &["weir-shard"]),
    ("weir-transport", &["weir-wire"]),
    ("weir-signal", &[]),
    ("weir-matrix", &[]),
    (
        "weir",
        &[
            "weir-matrix",
            "weir-shard",
            "weir-signal",
            "weir-transport",
            "weir-uring",
        ],
    ),
    // On purpose without `wire` and `srtp`: it is the independent side.
    ("weir-client", &["weir-signal", "weir-sframe"]),
    ("weir-sframe", &[]),
    ("weir-homeserver", &[]),
    // A network knows nothing of what passes through it.
    ("weir-relay", &[]),
    (
        "weir-loadtest",
        &["weir", "weir-client", "weir-homeserver", "weir-relay"],
    ),
];

/// Crates that only test or measure and may look at everything.
const OBSERVERS: &[&str] = &["weir-tests", "weir-bench", "weir-peers"];

/// Crates that are pure: they read no clock and make no random numbers.
const PURE: &[&str] = &[
    "dataplane/wire",
    "dataplane/srtp",
    "dataplane/shard",
    "loadtest/sframe",
];

/// What reads a clock or makes randomness.
const IMPURE: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    // Called or imported; `rand::rngs` holds generators that are handed in.
    "rand::rng(",
    "rand::rng;",
    "rand::random",
    "thread_rng",
    "getrandom",
    "RandomState::new",
    "DefaultHasher",
];

/// Crate to the workspace crates that it uses, dev-dependencies left out.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("metadata is JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &serde_json::Value| value["name"].as_str().expect("a name").to_owned();
    let ours: BTreeSet<String> = packages.iter().map(name).collect();
    let used = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().expect("dependencies");
        let used = dependencies
            .iter()
            .filter(|dependency| dependency["kind"] != "dev");
        used.map(name).filter(|used| ours.contains(used)).collect()
    };
    packages
        .iter()
        .map(|package| (name(package), used(package)))
        .collect()
}

#[test]
fn arrows_between_crates_point_down() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (package, used) in dependencies() {
        if OBSERVERS.contains(&package.as_str()) {
            continue;
        }
        let Some(allowed) = allowed.get(package.as_str()) else {
            wrong.push(format!("{package} is not in the table of arrows"));
            continue;
        };
        for used in used.iter().filter(|used| !allowed.contains(&used.as_str())) {
            wrong.push(format!("{package} → {used}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "arrows that do not exist in the architecture: {wrong:#?}"
    );
}

#[test]
fn media_encryption_and_load_are_never_linked_into_the_focus() {
    let dependencies = dependencies();
    let mut reached = BTreeSet::from(["weir".to_owned()]);
    let mut next = vec!["weir".to_owned()];
    while let Some(package) = next.pop() {
        for used in dependencies.get(&package).into_iter().flatten() {
            if reached.insert(used.clone()) {
                next.push(used.clone());
            }
        }
    }
    for forbidden in [
        "weir-client",
        "weir-sframe",
        "weir-homeserver",
        "weir-loadtest",
        "weir-relay",
    ] {
        assert!(!reached.contains(forbidden), "weir links {forbidden}");
    }
}

/// Rust files below a directory, sorted.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).expect("a source directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Whether a file below `src` holds nothing but unit tests.
fn is_test(file: &Path) -> bool {
    let inside = file.strip_prefix(root()).expect("a file of the workspace");
    inside
        .components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

/// Lines of a file that are code: without comments, and up to the tests that end it.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| line.trim() != "mod tests {");
    let code = |line| str::split(line, "//").next().unwrap_or("");
    lines.enumerate().map(move |(n, line)| (n + 1, code(line)))
}

#[test]
fn the_core_reads_no_clock_and_makes_no_random_numbers() {
    let mut found = Vec::new();
    for package in PURE {
        let files = sources(&root().join(package).join("src"));
        for file in files.into_iter().filter(|file| !is_test(file)) {
            let text = std::fs::read_to_string(&file).expect("a source file");
            for (line, code) in code_lines(&text) {
                for impure in IMPURE.iter().filter(|impure| code.contains(**impure)) {
                    found.push(format!("{}:{line}: {impure}", file.display()));
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "the core must be told the time and its seed: {found:#?}"
    );
}

/// A socket option that no safe crate has.
const ONE_SYSTEM_CALL: &str = "loadtest/client/src/net/meminfo.rs";

#[test]
fn unsafe_code_is_only_in_the_ring_runtime_and_in_kernels() {
    let mut found = Vec::new();
    for package in [
        "control",
        "dataplane/wire",
        "dataplane/srtp",
        "dataplane/shard",
        "loadtest",
    ] {
        for file in sources(&root().join(package)) {
            // SIMD kernels say so in their names; a test may count allocations.
            let excepted = |part: std::path::Component| {
                part.as_os_str() == "kernel" || part.as_os_str() == "tests"
            };
            let inside = file.strip_prefix(root()).expect("a file of the workspace");
            if inside == Path::new(ONE_SYSTEM_CALL) || inside.components().any(excepted) {
                continue;
            }
            let text = std::fs::read_to_string(&file).expect("a source file");
            let allows = text
                .lines()
                .position(|line| line.contains("allow(unsafe_code"));
            found.extend(allows.map(|line| format!("{}:{}", file.display(), line + 1)));
        }
    }
    assert!(
        found.is_empty(),
        "unsafe code outside dataplane/uring: {found:#?}"
    );
}
