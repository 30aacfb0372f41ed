//! The process as the kernel sees it: the texts of `/proc` in, numbers out. Opens no file.

/// Facts of the machine that do not change and that the texts of `/proc` are counted in.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Clock ticks a second (`sysconf(_SC_CLK_TCK)`).
    pub ticks_per_second: u64,
    /// Bytes of a page (`sysconf(_SC_PAGESIZE)`).
    pub page_bytes: u64,
    /// When the machine was started, in seconds since the Unix epoch (`btime` of `/proc/stat`).
    pub boot_time_seconds: u64,
}

/// The process as the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Process {
    /// CPU time used in user and kernel mode by all threads, in seconds.
    pub cpu_seconds: f64,
    /// Physical memory in bytes.
    pub resident_memory_bytes: u64,
    /// Address space in bytes.
    pub virtual_memory_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// When it was started, in seconds since the Unix epoch.
    pub start_time_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Descriptors it may have open; none if there is no limit.
    pub max_fds: Option<u64>,
}

impl Process {
    /// Reads the texts of `/proc/self/stat` and `/proc/self/limits` (proc(5)); `open_fds` is the
    /// count of entries in `/proc/self/fd`. None if the first text is not what proc(5) says.
    pub fn parse(machine: Machine, stat: &str, limits: &str, open_fds: u64) -> Option<Process> {
        // The second field is the name in parentheses and may hold spaces and parentheses itself;
        // the third field is the first one after the last parenthesis.
        let (_, after_name) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = |number| Some(field(number)? as f64 / machine.ticks_per_second as f64);
        Some(Process {
            cpu_seconds: ticks(14)? + ticks(15)?,
            threads: field(20)?,
            start_time_seconds: machine.boot_time_seconds as f64 + ticks(22)?,
            virtual_memory_bytes: field(23)?,
            resident_memory_bytes: field(24)?.saturating_mul(machine.page_bytes),
            open_fds,
            max_fds: soft_limit(limits, "Max open files"),
        })
    }
}

/// The soft limit in the row of `/proc/self/limits` that begins with `name`.
fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let row = limits.lines().find_map(|line| line.strip_prefix(name))?;
    row.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        ticks_per_second: 100,
        page_bytes: 4096,
        boot_time_seconds: 1_000,
    };
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit  Units\n\
                          Max open files            1024                 4096        files\n";

    #[test]
    fn stat_is_read_even_if_the_name_holds_spaces_and_parentheses() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 7 0 250 8192 3 184";
        let process = Process::parse(MACHINE, stat, LIMITS, 12).expect("a process");
        let expected = Process {
            cpu_seconds: 2.0,
            resident_memory_bytes: 12_288,
            virtual_memory_bytes: 8_192,
            threads: 7,
            start_time_seconds: 1_002.5,
            open_fds: 12,
            max_fds: Some(1_024),
        };
        assert_eq!(process, expected);
    }

    #[test]
    fn texts_that_are_cut_or_empty_are_none() {
        assert_eq!(Process::parse(MACHINE, "", LIMITS, 0), None);
        assert_eq!(Process::parse(MACHINE, "42 (name) S 1 42", LIMITS, 0), None);
        assert_eq!(
            soft_limit("Max open files unlimited unlimited files", "Max open files"),
            None
        );
    }
}
