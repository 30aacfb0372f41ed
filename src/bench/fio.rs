//! `fio` as the measure of a disk: sequential durable O_DIRECT writes on the same file system.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

/// True if there is one to run.
pub fn is_there() -> bool {
    let mut command = Command::new("fio");
    let command = command.arg("--version").stdout(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Blocks of `block_bytes`, `depth` at a time, each written with `RWF_DSYNC`, for `seconds`, on `cpus`
/// (as taskset takes them), to a preallocated file in a folder of its own in `directory`; in MB/s.
/// Errors: fio's own words.
pub fn durable_writes(
    directory: &Path,
    (block_bytes, depth): (u64, u64),
    seconds: u64,
    cpus: &str,
) -> io::Result<f64> {
    let directory = directory.join("fio");
    fs::create_dir_all(&directory)?;
    let mut command = Command::new("taskset");
    command.args(["-c", cpus, "fio", "--name=w", "--ioengine=io_uring"]);
    command.args(["--direct=1", "--sync=dsync", "--rw=write", "--size=4g"]);
    command.args(["--time_based", "--fallocate=posix", "--overwrite=0"]);
    command.arg("--output-format=json");
    command.arg(format!("--bs={block_bytes}"));
    command.arg(format!("--iodepth={depth}"));
    command.arg(format!("--runtime={seconds}"));
    command.arg(format!("--directory={}", directory.display()));
    let output = command.stdin(Stdio::null()).output();
    let _ = fs::remove_dir_all(&directory);
    let output = output?;
    bandwidth(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| {
        let words = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("fio: {}: {}", output.status, words.trim()))
    })
}

/// MB/s in a result; fio may say a few words before it.
fn bandwidth(text: &str) -> Option<f64> {
    let json = &text[text.find('{')?..];
    let result: serde_json::Value = serde_json::from_str(json).ok()?;
    let job = &result["jobs"][0];
    let is_good = job["error"].as_i64() == Some(0);
    let bytes = job["write"]["bw_bytes"].as_f64().filter(|_| is_good)?;
    Some(bytes / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bandwidth_is_found_in_a_result_without_an_error() {
        let good = r#"fio: a note
            {"jobs":[{"error":0,"write":{"bw_bytes":420000000}}]}"#;
        assert_eq!(bandwidth(good), Some(420.0));
        let failed = r#"{"jobs":[{"error":28,"write":{"bw_bytes":420000000}}]}"#;
        assert_eq!(bandwidth(failed), None);
        assert_eq!(bandwidth("fio: no such engine"), None);
    }
}
