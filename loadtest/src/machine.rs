//! Whether this machine can carry a run: open files, memory, ports. Looked at before anything starts.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::fault::Fault;
use crate::plan::{Depth, Plan};
use crate::report::Machine;
use crate::sample::process::kib;

/// Files of one participant: a UDP socket, the relay's for it where the network is made bad, two connections to the homeserver, and an
/// event or two of its runtime.
const FILES_PER_PARTICIPANT: u64 = 5;
/// And the other ends of its connections, where the homeserver is in this process.
const FILES_AT_HOMESERVER: u64 = 2;
/// Logs, pipes, rings, the library's own.
const FILES_BESIDES: u64 = 150;

/// KiB of a participant that looks at everything: its buffers, its decoder, what it remembers of each stream.
const KIB_FULL: u64 = 6 * 1024;
/// KiB of one that counts.
const KIB_LIGHT: u64 = 768;
/// KiB of the focus, the homeserver and this program without anybody in a call.
const KIB_BESIDES: u64 = 200 * 1024;

/// Raises the limit of open files as far as it is allowed, and says if that is not enough.
///
/// # Errors
/// [`Fault::TooFewFiles`].
pub fn check_files(plan: &Plan, with_homeserver: bool) -> Result<(), Fault> {
    let needed = files_needed(plan, with_homeserver);
    // Without an answer there is nothing to hold the plan against.
    let unlimited = (u64::MAX, u64::MAX);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or(unlimited);
    if hard < needed {
        return Err(Fault::TooFewFiles {
            needed,
            limit: hard,
        });
    }
    let raised = soft == hard || setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    if !raised && soft < needed {
        return Err(Fault::TooFewFiles {
            needed,
            limit: soft,
        });
    }
    Ok(())
}

fn files_needed(plan: &Plan, with_homeserver: bool) -> u64 {
    let each = FILES_PER_PARTICIPANT
        + if with_homeserver {
            FILES_AT_HOMESERVER
        } else {
            0
        };
    plan.people.len() as u64 * each + FILES_BESIDES
}

/// Says if memory will not do.
///
/// # Errors
/// [`Fault::TooLittleMemory`].
pub fn check_memory(plan: &Plan) -> Result<(), Fault> {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available_kib = kib(&text, "MemAvailable:").unwrap_or(u64::MAX);
    let needed_kib = memory_needed_kib(plan);
    if available_kib < needed_kib {
        return Err(Fault::TooLittleMemory {
            needed_mib: needed_kib / 1024,
            available_mib: available_kib / 1024,
        });
    }
    Ok(())
}

fn memory_needed_kib(plan: &Plan) -> u64 {
    let each = |person: &crate::plan::Person| match person.checks {
        Depth::Full => KIB_FULL,
        Depth::Light => KIB_LIGHT,
    };
    KIB_BESIDES + plan.people.iter().map(each).sum::<u64>()
}

/// A port that is asked for and has to be free, before somebody else finds out.
///
/// # Errors
/// [`Fault::PortInUse`].
pub fn check_port(
    what: &'static str,
    flag: &'static str,
    port: u16,
    protocol: Protocol,
) -> Result<(), Fault> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let free = match protocol {
        Protocol::Tcp => TcpListener::bind(address).map(drop),
        Protocol::Udp => UdpSocket::bind(address).map(drop),
    };
    match free {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(Fault::PortInUse {
            what,
            address,
            flag,
        }),
        // Whatever else is wrong with it, who needs it will say.
        _ => Ok(()),
    }
}

/// What a port is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP.
    Tcp,
    /// Media.
    Udp,
}

/// A TCP port that nobody uses at the moment.
///
/// # Errors
/// When the system has none left.
pub fn free_port() -> std::io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?.port())
}

/// What this machine is, for the report.
pub fn describe() -> Machine {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    Machine {
        cpu: model.map_or_else(|| "unknown CPU".into(), |(_, model)| model.to_owned()),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_mib: kib(&meminfo, "MemTotal:").unwrap_or(0) / 1024,
        kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
            .map_or_else(|_| "unknown".into(), |release| release.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::{Scenario, Settings};

    use super::*;

    fn lecture(participants: usize) -> Plan {
        let settings = Settings {
            participants,
            ..Scenario::Lecture.defaults()
        };
        settings.plan()
    }

    #[test]
    fn what_is_needed_grows_with_the_participants() {
        assert_eq!(files_needed(&lecture(499), true), 500 * 7 + 150);
        assert_eq!(files_needed(&lecture(499), false), 500 * 5 + 150);
        assert!(memory_needed_kib(&lecture(500)) > memory_needed_kib(&lecture(10)));
    }

    #[test]
    fn more_than_any_machine_has_is_refused() {
        let plan = lecture(1_000_000);
        let fault = check_memory(&plan).expect_err("too much");
        assert!(
            fault.to_string().starts_with("too little memory"),
            "{fault}"
        );
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let taken = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let port = taken.local_addr().expect("an address").port();
        let fault = check_port("media", "--media-port", port, Protocol::Udp).expect_err("taken");
        assert_eq!(
            fault.to_string(),
            format!(
                "port in use: 127.0.0.1:{port} (media); stop what listens there or choose another with --media-port"
            )
        );
        let free = free_port().expect("a port");
        assert_eq!(
            check_port("http", "--http-port", free, Protocol::Tcp),
            Ok(())
        );
    }

    #[test]
    fn this_machine_can_be_described() {
        let machine = describe();
        assert!(machine.cores > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty());
    }
}
