//! A server as a child process, so that its CPU and memory are its own: a folder with its configuration and its log, and where it
//! runs. What is special about the focus is in [`focus`].

pub mod focus;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::Instant;

/// A server is ready within a second; a cold machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How often it is asked.
const ASKED_EVERY: Duration = Duration::from_millis(20);
/// A focus hangs up everybody first.
const STOPS_WITHIN: Duration = Duration::from_secs(15);
/// What a child says goes there, in its folder.
const LOG: &str = "server.log";
/// So much of the end of a log is looked at for a child's last words.
const LAST_BYTES: usize = 16 * 1024;

/// A child did not start: its last words, or what kept it from being started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotStarted(String);

impl From<std::io::Error> for NotStarted {
    fn from(error: std::io::Error) -> NotStarted {
        NotStarted(error.to_string())
    }
}

/// Where a child runs: starts the command on whatever core and in whatever network it is to be.
#[derive(Clone)]
pub struct Place(Arc<SpawnFn>);

type SpawnFn = dyn Fn(&mut Command) -> std::io::Result<Child> + Send + Sync;

impl Place {
    /// `spawn` is called with the complete command, within a runtime.
    pub fn new(
        spawn: impl Fn(&mut Command) -> std::io::Result<Child> + Send + Sync + 'static,
    ) -> Place {
        Place(Arc::new(spawn))
    }
}

impl Default for Place {
    /// Where this process is.
    fn default() -> Place {
        Place::new(Command::spawn)
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Place")
    }
}

/// A folder for temporary files that goes when its owner goes, and that nobody else can read.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes an empty one.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> std::io::Result<Folder> {
        use std::os::unix::fs::DirBuilderExt as _;
        let name = format!(
            "weir-load-{}-{}",
            std::process::id(),
            weir_client::random_id(6)
        );
        let folder = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Folder(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it; gives its path.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, name: &str, text: &str) -> std::io::Result<PathBuf> {
        self.create(name)?.write_all(text.as_bytes())?;
        Ok(self.0.join(name))
    }

    fn create(&self, name: &str) -> std::io::Result<std::fs::File> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).mode(0o600);
        options.open(self.0.join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It lies in the folder for temporary files: if it cannot be removed, the system will.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server. It is killed if it is dropped without [`stop`](Self::stop).
#[derive(Debug)]
pub struct ServerChild {
    child: Child,
    folder: Folder,
}

impl ServerChild {
    /// Starts the command, which has its binary, arguments and environment; what it says goes into a file of the folder.
    ///
    /// # Errors
    /// It cannot be executed.
    pub fn start(
        folder: Folder,
        mut command: Command,
        place: &Place,
    ) -> Result<ServerChild, NotStarted> {
        let log = folder.create(LOG)?;
        command
            // Ends when this program does, in whatever way: see `program::be_the_focus`.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // An interrupt of the terminal is for this program, which stops the child in order.
            .process_group(0)
            .kill_on_drop(true)
            .env("NO_COLOR", "1");
        let binary = command.as_std().get_program().to_owned();
        let child = (place.0)(&mut command).map_err(|error| {
            let binary = Path::new(&binary).display();
            NotStarted(format!("{binary}: {error}"))
        })?;
        Ok(ServerChild { child, folder })
    }

    /// Asks until `ready` says yes.
    ///
    /// # Errors
    /// Its last words, if it ends before, or is not ready in time.
    pub async fn wait_until_ready<R: Future<Output = bool>>(
        &mut self,
        ready: impl Fn() -> R,
    ) -> Result<(), NotStarted> {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if let Some(words) = self.ended() {
                return Err(NotStarted(words));
            }
            if ready().await {
                return Ok(());
            }
            tokio::time::sleep(ASKED_EVERY).await;
        }
        Err(NotStarted(format!(
            "not ready within {} s: {}",
            READY_WITHIN.as_secs(),
            self.last_words()
        )))
    }

    /// Its process; `None` once it has ended.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Its last words if it has ended, which it never should by itself.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{status}: {}", self.last_words()))
    }

    /// Asks it to stop, and waits.
    pub async fn stop(mut self) {
        if let Some(id) = self.child.id() {
            let pid = nix::unistd::Pid::from_raw(id.cast_signed());
            // It may just have ended.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        // Waiting would end it, and a focus then no longer hang up.
        let _stdin = self.child.stdin.take();
        if tokio::time::timeout(STOPS_WITHIN, self.child.wait())
            .await
            .is_err()
        {
            let _ = self.child.kill().await;
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read(self.folder.0.join(LOG)).unwrap_or_default();
        let end = &log[log.len().saturating_sub(LAST_BYTES)..];
        let text = String::from_utf8_lossy(end);
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.unwrap_or("it said nothing").trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_child_that_ends_before_it_is_ready_is_quoted() {
        let folder = Folder::new().expect("a folder");
        let script = shell("echo one; echo two >&2; echo; exit 3");
        let mut child = ServerChild::start(folder, script, &Place::default()).expect("sh starts");
        let error = child.wait_until_ready(|| async { false }).await;
        let words = error.expect_err("it ends").to_string();
        assert_eq!(words, "exit status: 3: two");
    }

    #[tokio::test]
    async fn a_child_is_asked_to_stop_and_its_folder_goes() {
        let folder = Folder::new().expect("a folder");
        let path = folder.path().to_owned();
        let told = path.with_extension("told");
        let script = format!(
            "trap 'touch {}; exit' TERM; touch ready; while :; do sleep 0.01; done",
            told.display()
        );
        let mut command = shell(&script);
        command.current_dir(&path);
        let mut child = ServerChild::start(folder, command, &Place::default()).expect("sh starts");
        let ready = || async { path.join("ready").exists() };
        child.wait_until_ready(ready).await.expect("ready");
        assert!(child.id().is_some() && child.ended().is_none());
        child.stop().await;
        assert!(std::fs::remove_file(&told).is_ok(), "it was not told");
        assert!(!path.exists(), "{} is still there", path.display());
    }

    #[tokio::test]
    async fn a_place_has_its_say_in_how_a_child_starts() {
        let folder = Folder::new().expect("a folder");
        let nowhere = Place::new(|_| Err(std::io::Error::other("no such place")));
        let error = ServerChild::start(folder, shell("exit"), &nowhere).expect_err("nowhere");
        assert_eq!(error.to_string(), "sh: no such place");
    }
}
