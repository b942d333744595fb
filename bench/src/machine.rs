//! What the machine tells about threads, sockets and itself.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;

/// The thread that asks.
const SELF: Pid = Pid::from_raw(0);

/// CPU time of one thread, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// All of it.
    pub total_ns: u64,
    /// Outside of the kernel, sampled by its clock ticks, so it needs a second or more.
    pub user_ticks: u64,
    /// In the kernel, by the same clock.
    pub system_ticks: u64,
}

impl CpuTime {
    /// Reads it for a thread of this process.
    ///
    /// # Errors
    /// The thread has ended, or the kernel does not count.
    pub fn of(thread_id: i32) -> Result<Self> {
        let task = format!("/proc/self/task/{thread_id}");
        let missing = || format!("{task}: the thread has ended, or the kernel keeps no schedstat");
        let schedstat = fs::read_to_string(format!("{task}/schedstat")).with_context(missing)?;
        let stat = fs::read_to_string(format!("{task}/stat")).with_context(missing)?;
        // proc_pid_stat(5): the name in brackets may hold anything; utime and stime are fields 14 and 15.
        let fields = stat.rsplit(')').next().unwrap_or("");
        let tick = |at: usize| {
            let field = fields.split_whitespace().nth(at - 3);
            field.and_then(|field| field.parse().ok()).unwrap_or(0)
        };
        let total = schedstat.split(' ').next().and_then(|ns| ns.parse().ok());
        Ok(Self {
            total_ns: total.context("schedstat does not begin with a number")?,
            user_ticks: tick(14),
            system_ticks: tick(15),
        })
    }

    /// What came in since an earlier reading.
    pub fn since(self, before: Self) -> Self {
        Self {
            total_ns: self.total_ns - before.total_ns,
            user_ticks: self.user_ticks - before.user_ticks,
            system_ticks: self.system_ticks - before.system_ticks,
        }
    }

    /// The part of it that was spent in the kernel, 0 to 1.
    pub fn system_part(self) -> f64 {
        self.system_ticks as f64 / (self.user_ticks + self.system_ticks).max(1) as f64
    }
}

/// The core that is measured, and those for everything else. With one core they are the same.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// Its number.
    pub measured: usize,
    others: CpuSet,
}

impl Cores {
    /// Takes `wanted`, or the last core that this process may use.
    ///
    /// # Errors
    /// This process may not use it.
    pub fn choose(wanted: Option<usize>) -> Result<Self> {
        let allowed = sched_getaffinity(SELF)?;
        let cores: Vec<usize> = (0..CpuSet::count())
            .filter(|core| allowed.is_set(*core).unwrap_or(false))
            .collect();
        let last = *cores.last().context("this process may use no core")?;
        let measured = wanted.unwrap_or(last);
        anyhow::ensure!(
            cores.contains(&measured),
            "--core {measured}: this process may use only {cores:?}"
        );
        let mut others = CpuSet::new();
        for core in cores.iter().filter(|core| **core != measured) {
            others.set(*core)?;
        }
        if cores.len() == 1 {
            others.set(measured)?;
        }
        Ok(Self { measured, others })
    }

    /// Keeps the calling thread, and those that it starts, off the measured core.
    ///
    /// # Errors
    /// What the system says.
    pub fn leave_measured(&self) -> Result<()> {
        Ok(sched_setaffinity(SELF, &self.others)?)
    }

    /// Puts the calling thread, and what it starts, on the measured core.
    ///
    /// # Errors
    /// What the system says.
    pub fn enter_measured(&self) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(self.measured)?;
        Ok(sched_setaffinity(SELF, &set)?)
    }
}

/// Lets this process open `count` files more than it may by default.
///
/// # Errors
/// The limit cannot be raised.
pub fn allow_files(count: usize) -> Result<()> {
    let wanted = count as u64 + 256;
    let (current, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if current >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, most.max(wanted)).with_context(|| {
        format!(
            "{wanted} open files are needed, and the limit cannot be raised: ulimit -n {wanted}"
        )
    })
}

/// Datagrams that each UDP socket of the calling thread's namespace dropped, by port.
///
/// # Errors
/// There is no such table.
pub fn drops_by_port() -> Result<HashMap<u16, u64>> {
    let table = fs::read_to_string("/proc/thread-self/net/udp").context("/proc/net/udp")?;
    let row = |line: &str| {
        let mut fields = line.split_whitespace();
        let port = u16::from_str_radix(fields.nth(1)?.rsplit(':').next()?, 16).ok()?;
        Some((port, fields.next_back()?.parse().ok()?))
    };
    Ok(table.lines().skip(1).filter_map(row).collect())
}

/// The processor's name and the kernel's release, for reports.
pub fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        Some(line.split(':').nth(1)?.trim().to_owned())
    };
    let processor = field("model name").unwrap_or_else(|| "unknown processor".to_owned());
    let (family, model) = (field("cpu family"), field("model\t"));
    let flags = field("flags").unwrap_or_default();
    let has = |flag: &str| flags.split(' ').any(|of| of == flag);
    let vector = ["vaes", "vpclmulqdq", "avx512f"].map(|flag| (flag, has(flag)));
    let vector: Vec<&str> = vector.iter().filter(|of| of.1).map(|of| of.0).collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{processor} (family {}, model {}; {}), {cores} cores, Linux {}",
        family.unwrap_or_default(),
        model.unwrap_or_default(),
        vector.join(", "),
        kernel.trim()
    )
}
