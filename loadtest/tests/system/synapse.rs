//! A real Synapse of a test's own, started by `tests/synapse.py`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A homeserver that ends with this value.
pub(crate) struct Synapse {
    process: Child,
    pub(crate) url: String,
}

/// The folder of the installation, if there is one: `tests/with_synapse.py` says where.
pub(crate) fn installation() -> Option<PathBuf> {
    let folder = std::env::var_os("WEIR_TEST_SYNAPSE").filter(|folder| !folder.is_empty());
    if folder.is_none() {
        // Written past the test harness, which would hide it.
        let skipped = b"SKIPPED: needs Synapse; run it by tests/with_synapse.py\n";
        std::io::stderr().write_all(skipped).unwrap();
    }
    folder.map(PathBuf::from)
}

impl Synapse {
    /// Starts an empty one that has loaded a registration, and waits until it answers.
    pub(crate) fn start(installation: &Path, port: u16, registration: &Path) -> Synapse {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/synapse.py");
        let mut process = Command::new("python3")
            .arg(script)
            .arg("--dir")
            .arg(installation)
            .args(["--port", &port.to_string()])
            .arg("--appservice")
            .arg(registration)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        let output = process.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut url).unwrap();
        let url = url.trim().to_owned();
        let synapse = Synapse { process, url };
        assert!(
            synapse.url.starts_with("http://"),
            "Synapse has not started; what it said is above"
        );
        synapse
    }
}

impl Drop for Synapse {
    fn drop(&mut self) {
        // The script ends Synapse when it is told to end.
        let pid = Pid::from_raw(self.process.id() as i32);
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

/// A TCP port of the loopback interface that nobody uses now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
