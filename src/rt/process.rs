//! This process as `/proc` shows it, and the machine's constants that are needed to read it.

use std::fs;

/// The texts of `/proc/self` that say what the process costs.
#[derive(Clone, Debug)]
pub struct ProcessTexts {
    /// `/proc/self/stat`.
    pub stat: String,
    /// `/proc/self/limits`.
    pub limits: String,
    /// How many descriptors are open.
    pub open_descriptors: u64,
}

/// Reads them; none where there is no `/proc`.
pub fn process_texts() -> Option<ProcessTexts> {
    Some(ProcessTexts {
        stat: fs::read_to_string("/proc/self/stat").ok()?,
        limits: fs::read_to_string("/proc/self/limits").ok()?,
        open_descriptors: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
    })
}

/// Clock ticks a second, bytes a page, and the time of the machine's start in seconds since the
/// Unix epoch.
pub fn machine_constants() -> (u64, u64, u64) {
    // SAFETY: takes a number, has no other effect.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    // SAFETY: as above.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let boot = text
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok());
    (ticks.max(1) as u64, page.max(1) as u64, boot.unwrap_or(0))
}
