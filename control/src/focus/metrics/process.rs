//! What the kernel says of this process (proc(5)), under the names that all Prometheus clients give it.

use std::fs;

use weir_shard::{labelled, metrics};

use super::text::Text;

/// Ticks of a second in `/proc`, the same on every Linux that Weir runs on.
const TICKS_PER_SECOND: u64 = 100;

labelled! {
    /// What a processor's time is used for.
    enum Mode {
        /// Weir's own code.
        User => "user";
        /// The kernel, for Weir: sends and receives, mostly.
        System => "system";
    }
}

metrics! {
    /// Of the process as a whole.
    struct ProcessNumbers {
        /// Total user and system CPU time spent in seconds.
        cpu: counter / 100.0 = "process_cpu_seconds_total",
            "More load. weir_thread_cpu_seconds_total says whose.";
        /// Resident memory size in bytes.
        resident: gauge = "process_resident_memory_bytes",
            "More participants, up to what the pools of the shards hold. If it grows for hours at the same load: report it.";
        /// Virtual memory size in bytes.
        virtual_memory: gauge = "process_virtual_memory_bytes",
            "Says little.";
        /// Number of open file descriptors.
        open_fds: gauge = "process_open_fds",
            "Connections to the homeserver and of scrapes. If it grows without end: report it.";
        /// Maximum number of open file descriptors.
        max_fds: gauge = "process_max_fds",
            "Set by whoever starts Weir.";
        /// Number of OS threads in the process.
        threads: gauge = "process_threads",
            "Says little.";
        /// Start time of the process since unix epoch in seconds.
        start_time: gauge / 100.0 = "process_start_time_seconds",
            "The process was started anew: if nobody did, it crashed.";
    }
}

metrics! {
    /// Of one thread, or of all but the shards' threads together.
    struct ThreadNumbers {
        /// CPU time by thread, `shard-0` and so on or `control` for all the others together, and by what it was used for.
        cpu: counter[Mode; "mode"] / 100.0 = "weir_thread_cpu_seconds_total",
            "A shard that uses a whole second of each second is full: add shards. `system` is the kernel's part, the sends.";
    }
}

/// Reads what is exported.
pub(super) struct Process {
    numbers: ProcessNumbers,
    shards: Vec<ShardThread>,
    control: ThreadNumbers,
}

struct ShardThread {
    thread_id: i32,
    /// The value of its label.
    name: String,
    numbers: ThreadNumbers,
}

impl Process {
    /// For the threads with these ids, in the order of the shards.
    pub(super) fn new(shard_threads: &[i32]) -> Self {
        let shard = |(index, thread_id): (usize, &i32)| ShardThread {
            thread_id: *thread_id,
            name: format!("shard-{index}"),
            numbers: ThreadNumbers::default(),
        };
        let process = Self {
            numbers: ProcessNumbers::default(),
            shards: shard_threads.iter().enumerate().map(shard).collect(),
            control: ThreadNumbers::default(),
        };
        let booted = read("/proc/stat").and_then(|text| {
            let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
            line.trim().parse::<u64>().ok()
        });
        let started = read("/proc/self/stat").and_then(|text| field(&text, 22));
        if let (Some(booted), Some(started)) = (booted, started) {
            process
                .numbers
                .start_time
                .set(booted * TICKS_PER_SECOND + started);
        }
        process
    }

    /// Reads everything anew and hands it over. What cannot be read keeps its value.
    pub(super) fn export(&self, text: &mut Text) {
        self.read_times();
        self.read_sizes();
        self.numbers.export(text);
        for shard in &self.shards {
            text.label("thread", &shard.name);
            shard.numbers.export(text);
        }
        text.label("thread", "control");
        self.control.export(text);
        text.unlabel();
    }

    /// Control is what is left of the process when the shards are taken away, threads that have ended included. The kernel
    /// splits each thread's time anew at every reading, so that what is left is kept from falling.
    fn read_times(&self) {
        let Some(all) = read("/proc/self/stat").as_deref().and_then(times) else {
            return;
        };
        let mut left = all;
        for shard in &self.shards {
            let path = format!("/proc/self/task/{}/stat", shard.thread_id);
            if let Some(times) = read(&path).as_deref().and_then(times) {
                set_times(&shard.numbers, times);
            }
            for mode in Mode::ALL {
                let counted = shard.numbers.cpu[mode as usize].get();
                left[mode as usize] = left[mode as usize].saturating_sub(counted);
            }
        }
        set_times(&self.control, left);
        let all = all[0] + all[1];
        self.numbers.cpu.set(all.max(self.numbers.cpu.get()));
    }

    fn read_sizes(&self) {
        if let Some(status) = read("/proc/self/status") {
            for (key, number, bytes) in [
                ("VmRSS:", &self.numbers.resident, 1024),
                ("VmSize:", &self.numbers.virtual_memory, 1024),
                ("Threads:", &self.numbers.threads, 1),
            ] {
                let line = status.lines().find_map(|line| line.strip_prefix(key));
                let value =
                    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
                if let Some(value) = value {
                    number.set(value * bytes);
                }
            }
        }
        if let Some(limits) = read("/proc/self/limits") {
            let line = limits
                .lines()
                .find_map(|line| line.strip_prefix("Max open files"));
            let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            self.numbers.max_fds.set(soft.unwrap_or(u64::MAX));
        }
        if let Ok(folder) = fs::read_dir("/proc/self/fd") {
            // The folder itself is open meanwhile.
            let open = folder.count().saturating_sub(1);
            self.numbers.open_fds.set(open as u64);
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// User and system time in ticks, out of a `stat` file.
fn times(stat: &str) -> Option<[u64; 2]> {
    Some([field(stat, 14)?, field(stat, 15)?])
}

/// A field of a `stat` file, as proc(5) counts them. The second is a name in brackets, which may hold anything.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(number - 3)?.parse().ok()
}

fn set_times(of: &ThreadNumbers, times: [u64; 2]) {
    for (counter, now) in of.cpu.iter().zip(times) {
        counter.set(now.max(counter.get()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 99 0 0 0 321 45 0 0 20 0 9 0 8888 1 2";
        assert_eq!(times(stat), Some([321, 45]));
        assert_eq!(field(stat, 22), Some(8888));
        assert_eq!(field("nonsense", 14), None);
    }

    #[test]
    fn says_what_the_kernel_says_of_this_process() {
        let process = Process::new(&[]);
        process.export(&mut Text::default());
        let numbers = &process.numbers;
        assert!(
            numbers.resident.get() > 1_000_000,
            "a test binary has more than a megabyte"
        );
        assert!(numbers.virtual_memory.get() >= numbers.resident.get());
        assert!((3..numbers.max_fds.get()).contains(&numbers.open_fds.get()));
        assert!(numbers.threads.get() >= 1);
        let year_2020 = 1_577_836_800 * TICKS_PER_SECOND;
        assert!(numbers.start_time.get() > year_2020);
        let control: u64 = process.control.cpu.iter().map(|of| of.get()).sum();
        assert_eq!(control, numbers.cpu.get(), "there are no shards");
    }
}
