//! Small file systems of a test's own, on loop devices: full ones, and ones whose device fails.
//!
//! Not here: a device whose backing file finds no space in the middle of a write. Linux's loop
//! driver tells such a short write as complete (seen with 6.18), so that nothing above it can know.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An ext4 file system in a file, mounted. Dropping it unmounts it and gives the device back.
pub struct Volume {
    directory: tempfile::TempDir,
    device: Option<String>,
    mounted: Vec<PathBuf>,
}

impl Volume {
    /// A file system of so many MiB, mounted; none, with a line that says so, where this machine
    /// lets nobody have loop devices.
    pub fn new(mebibytes: u64) -> Option<Volume> {
        let mut volume = Volume {
            directory: super::directory(),
            device: None,
            mounted: Vec::new(),
        };
        match volume.make(mebibytes) {
            Ok(()) => Some(volume),
            Err(why) => {
                println!("SKIPPED: no loop device can be mounted here: {why}");
                None
            }
        }
    }

    fn make(&mut self, mebibytes: u64) -> Result<(), String> {
        let image = self.image();
        let file = std::fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(mebibytes << 20)
            .map_err(|error| error.to_string())?;
        let image = image.display().to_string();
        self.device = Some(run("losetup", &["-f", "--show", &image])?);
        let device = self.device.clone().unwrap_or_default();
        run("mkfs.ext4", &["-q", "-m", "0", "-E", "nodiscard", &device])?;
        let place = self.directory.path().join("mounted");
        std::fs::create_dir(&place).map_err(|error| error.to_string())?;
        self.mount_at(&place)
    }

    /// Mounts it at another place as well.
    pub fn mount_at(&mut self, place: &Path) -> Result<(), String> {
        let device = self.device.clone().unwrap_or_default();
        run("mount", &[&device, &place.display().to_string()])?;
        self.mounted.push(place.to_owned());
        Ok(())
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("mounted")
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let place = self.path().display().to_string();
        let text = run("stat", &["-f", "-c", "%a %S", &place]).expect("a mounted volume");
        let mut numbers = text.split(' ').map(|number| number.parse::<u64>());
        let mut next = || numbers.next().and_then(Result::ok).expect("a number");
        next() * next()
    }

    /// Takes all space but `left` bytes; freed with [`Volume::release`].
    pub fn fill(&self, left: u64) {
        let taken = self.free().saturating_sub(left).to_string();
        let file = self.path().join("filler").display().to_string();
        run("fallocate", &["-l", &taken, &file]).expect("a filler");
    }

    /// Takes the very last byte.
    pub fn fill_up(&self) {
        use std::io::Write;
        let file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.path().join("filler"));
        let mut file = file.expect("a filler");
        let mut size = 1 << 20;
        let zeros = vec![1; size];
        while size > 0 {
            if file.write_all(&zeros[..size]).is_err() || file.sync_data().is_err() {
                size /= 2;
            }
        }
    }

    /// Shrinks the device under the file system: whatever lies behind fails with EIO from now on,
    /// reads and writes alike.
    pub fn fail_behind(&self, mebibytes: u64) {
        let image = std::fs::File::options().write(true).open(self.image());
        let image = image.expect("the image");
        image.set_len(mebibytes << 20).expect("cut");
        let device = self.device.as_deref().unwrap_or_default();
        run("losetup", &["-c", device]).expect("a smaller device");
    }

    /// Gives back what [`Volume::fill`] took.
    pub fn release(&self) {
        std::fs::remove_file(self.path().join("filler")).expect("a filler");
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        for place in self.mounted.iter().rev() {
            // Lazily: whoever still holds a file of it must not keep the test's directory alive.
            let _ = run("umount", &["-l", &place.display().to_string()]);
        }
        if let Some(device) = &self.device {
            let _ = run("losetup", &["-d", device]);
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{program}: {}", text(&output.stderr))),
    }
}
