//! A process of this machine as `/proc` shows it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Clock ticks per second of `/proc/PID/stat`. It is `USER_HZ`, which is 100 on every architecture that Linux still supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU of each thread so far, and what else the process has.
#[derive(Debug, Clone)]
pub struct Reading {
    /// When.
    pub at: Instant,
    /// By thread id: name and seconds of CPU.
    threads: BTreeMap<u32, (String, f64)>,
    /// Seconds of CPU of all threads, those that have ended included, in hundredths.
    whole: f64,
    /// Resident memory in KiB.
    pub rss_kib: u64,
    /// Open files.
    pub files: u64,
}

/// A process to read; its threads may come and go.
#[derive(Debug, Clone)]
pub struct Process {
    folder: PathBuf,
}

/// CPU between two readings, in cores: 1.0 is one core busy all the time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cpu {
    /// Of all threads.
    pub total: f64,
    /// By the threads' names, numbers at the end left out where they only count workers.
    pub by_name: BTreeMap<String, f64>,
    /// The busiest thread.
    pub busiest: f64,
}

impl Process {
    /// The process of that id.
    pub fn new(pid: u32) -> Process {
        Process {
            folder: PathBuf::from(format!("/proc/{pid}")),
        }
    }

    /// This process.
    pub fn own() -> Process {
        Process::new(std::process::id())
    }

    /// How it is now; `None` when it has ended.
    pub fn read(&self) -> Option<Reading> {
        let text = |name: &str| std::fs::read_to_string(self.folder.join(name)).ok();
        let rss_kib = kib(&text("status")?, "VmRSS:")?;
        let files = std::fs::read_dir(self.folder.join("fd")).ok()?.count() as u64;
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(self.folder.join("task")).ok()?.flatten() {
            // A thread may end between the listing and the reading.
            let text = |name: &str| std::fs::read_to_string(entry.path().join(name)).ok();
            if let Some((id, name, ticks)) = text("stat").and_then(|stat| parse_stat(&stat)) {
                // The scheduler counts in nanoseconds, where it counts.
                let exact = text("schedstat").and_then(|stat| parse_schedstat(&stat));
                threads.insert(id, (name, exact.unwrap_or(ticks)));
            }
        }
        Some(Reading {
            at: Instant::now(),
            threads,
            whole: parse_stat(&text("stat")?)?.2,
            rss_kib,
            files,
        })
    }
}

impl Reading {
    /// CPU time since an earlier reading: exact for threads that are still there; what ended meanwhile counts as far as it shows
    /// in hundredths of seconds.
    pub fn cpu_time_since(&self, earlier: &Reading) -> Duration {
        let threads = self.threads.iter().map(|(id, (_, now))| {
            let then = earlier.threads.get(id).map_or(0.0, |(_, then)| *then);
            (now - then).max(0.0)
        });
        // User and system time are cut to whole ticks, each.
        let whole = self.whole - earlier.whole - 2.0 / TICKS_PER_SECOND;
        Duration::from_secs_f64(threads.sum::<f64>().max(whole))
    }

    /// What was used since an earlier reading. A thread that has ended meanwhile is left out, and one that began counts from
    /// its beginning.
    pub fn cpu_since(&self, earlier: &Reading) -> Cpu {
        let seconds = self
            .at
            .saturating_duration_since(earlier.at)
            .as_secs_f64()
            .max(1e-3);
        let mut cpu = Cpu::default();
        for (id, (name, now)) in &self.threads {
            let then = earlier.threads.get(id).map_or(0.0, |(_, then)| *then);
            let used = (now - then).max(0.0) / seconds;
            cpu.total += used;
            cpu.busiest = cpu.busiest.max(used);
            *cpu.by_name.entry(group(name)).or_default() += used;
        }
        cpu
    }
}

/// Shards are told apart, workers of a pool are not.
fn group(name: &str) -> String {
    match name.starts_with("weir-shard") {
        true => name.to_owned(),
        false => name
            .trim_end_matches(|last: char| last.is_ascii_digit() || last == '-')
            .to_owned(),
    }
}

/// Thread id, name and seconds of CPU of a `stat` file (proc_pid_stat(5)). The name may hold anything, parentheses included.
fn parse_stat(stat: &str) -> Option<(u32, String, f64)> {
    let (id, rest) = stat.split_once(" (")?;
    let (name, rest) = rest.rsplit_once(") ")?;
    // After the name: state is field 3; utime and stime are fields 14 and 15.
    let mut fields = rest.split(' ').skip(14 - 3);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((
        id.parse().ok()?,
        name.to_owned(),
        (user + system) / TICKS_PER_SECOND,
    ))
}

/// Seconds that a thread ran: the first number of `schedstat`, in nanoseconds (Documentation/scheduler/sched-stats.rst).
fn parse_schedstat(stat: &str) -> Option<f64> {
    let ns: u64 = stat.split(' ').next()?.parse().ok()?;
    Some(ns as f64 / 1e9)
}

/// A line such as `VmRSS:     1234 kB`.
pub(crate) fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_read() {
        let stat = "77 (a (b) c) S 1 77 77 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 100 1 2 3";
        assert_eq!(parse_stat(stat), Some((77, "a (b) c".into(), 3.0)));
        assert_eq!(parse_stat("77 (x) S 1"), None);
    }

    #[test]
    fn cpu_is_of_the_time_between() {
        let start = Instant::now();
        let reading = |seconds, threads: &[(u32, &str, f64)]| Reading {
            at: start + std::time::Duration::from_secs(seconds),
            threads: threads
                .iter()
                .map(|(id, name, cpu)| (*id, ((*name).into(), *cpu)))
                .collect(),
            whole: 0.0,
            rss_kib: 0,
            files: 0,
        };
        let then = reading(0, &[(1, "weir-shard-0", 5.0), (2, "tokio-rt-1", 1.0)]);
        let now = reading(
            2,
            &[
                (1, "weir-shard-0", 6.5),
                (3, "tokio-rt-2", 0.5),
                (2, "tokio-rt-1", 1.5),
            ],
        );
        let cpu = now.cpu_since(&then);
        assert_eq!((cpu.total, cpu.busiest), (1.25, 0.75));
        let names = [
            ("tokio-rt".to_owned(), 0.5),
            ("weir-shard-0".to_owned(), 0.75),
        ];
        assert_eq!(cpu.by_name, BTreeMap::from(names));
    }

    #[test]
    fn cpu_time_has_threads_that_ended_as_far_as_it_can() {
        let reading = |threads: &[(u32, f64)], whole| Reading {
            at: Instant::now(),
            threads: threads
                .iter()
                .map(|(id, cpu)| (*id, (String::new(), *cpu)))
                .collect(),
            whole,
            rss_kib: 0,
            files: 0,
        };
        let then = reading(&[(1, 1.0), (2, 5.0)], 6.0);
        let lived = reading(&[(1, 1.125), (2, 5.25), (3, 0.125)], 6.48);
        assert_eq!(lived.cpu_time_since(&then), Duration::from_millis(500));
        let ended = reading(&[(1, 1.125)], 8.02);
        assert_eq!(ended.cpu_time_since(&then), Duration::from_secs(2));
        assert_eq!(parse_schedstat("1500000000 77 3\n"), Some(1.5));
    }

    #[test]
    fn this_process_can_be_read() {
        let reading = Process::own().read().expect("this process runs");
        assert!(reading.rss_kib > 100 && reading.files > 2 && !reading.threads.is_empty());
        assert!(Process::new(u32::MAX).read().is_none());
    }
}
