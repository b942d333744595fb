//! The load tester as its users start it: each scenario for real, small and short, and every error by its line and exit code.
//! Needs io_uring, like the focus.

mod dialects;
mod encryption;
mod errors;
mod leaving;
mod people;
mod report;
mod scenarios;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Several loads at once would disturb each other on a small machine.
fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let name = format!(
            "weir-load-test-{}-{}",
            std::process::id(),
            weir_client::random_id(6)
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).expect("a folder");
        Scratch(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It lies in the folder for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-loadtest"));
    command.args(arguments);
    command
}

/// What came of a run.
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
    json: Value,
    html: String,
}

/// Performs a scenario with JSON and HTML.
fn run(arguments: &[&str]) -> Ran {
    let scratch = Scratch::new();
    let (json, html) = (scratch.file("report.json"), scratch.file("report.html"));
    let mut all = vec!["run"];
    all.extend(arguments);
    all.extend(["--json", &json, "--html", &html]);
    let Output {
        status,
        stdout,
        stderr,
    } = command(&all).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    Ran {
        code: status.code().unwrap_or(-1),
        stdout: text(stdout),
        stderr: text(stderr),
        json: serde_json::from_str(&read(&json)).unwrap_or_default(),
        html: read(&html),
    }
}

impl Ran {
    /// Fails with everything that was said unless the run passed.
    fn passed(self) -> Ran {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.json["passed"], true, "{}", self.stdout);
        self
    }

    fn number(&self, pointer: &str) -> f64 {
        let value = self.json.pointer(pointer).and_then(Value::as_f64);
        value.unwrap_or_else(|| panic!("no number at {pointer}: {:#}", self.json))
    }

    fn streams(&self, kind: &str) -> Vec<&Value> {
        let streams = self.json["streams"].as_array().expect("streams");
        streams
            .iter()
            .filter(|stream| stream["kind"] == kind)
            .collect()
    }
}
