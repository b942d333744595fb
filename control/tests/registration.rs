//! The command `weir appservice-registration`, as an operator runs it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A folder with a configuration, gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(section: &str) -> Self {
        let name = format!("weir-registration-{:016x}", rand::random::<u64>());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        let store = folder.join("store");
        let text = format!(
            "[matrix]\nhomeserver = \"http://localhost:8008\"\nuser = \"@focus:example.org\"\nstore = {store:?}\n{section}\n"
        );
        fs::write(folder.join("weir.toml"), text).unwrap();
        Self(folder)
    }

    fn config(&self) -> PathBuf {
        self.0.join("weir.toml")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn print(config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["appservice-registration", "--config"])
        .arg(config)
        .output()
        .unwrap()
}

#[test]
fn registration_is_printed_alone_and_stays_the_same() {
    let folder = Folder::new("[appservice]");
    let first = print(&folder.config());
    assert!(first.status.success(), "{first:?}");
    let text = String::from_utf8(first.stdout.clone()).unwrap();
    assert!(
        text.contains("sender_localpart: \"focus-appservice\"\n"),
        "{text}"
    );
    assert!(text.contains("url: \"http://127.0.0.1:7881\"\n"), "{text}");
    let kept = fs::read_to_string(folder.0.join("store/appservice.json")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    for name in ["as_token", "hs_token"] {
        let line = format!("{name}: {}\n", kept[name]);
        assert!(text.contains(&line), "{name}");
    }
    // Nothing of it is logged.
    assert_eq!(String::from_utf8_lossy(&first.stderr), "");
    assert_eq!(print(&folder.config()).stdout, first.stdout);
}

#[test]
fn without_the_section_nothing_is_printed_and_nothing_made() {
    let folder = Folder::new("password = \"x\"");
    let output = print(&folder.config());
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no section [appservice]"), "{said}");
    assert!(output.stdout.is_empty());
    assert!(!folder.0.join("store").exists());
}
