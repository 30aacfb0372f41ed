//! `--repair --output DIR`: a copy of a data directory, or of one partition, with what can be saved.
//!
//! The damaged files are only read. Files that are sound are copied as they are; derived files
//! (indexes) are left out of a partition that was damaged, the broker makes them again.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::files::Directory;
use crate::base::{LeaderEpoch, Offset};
use crate::cli::Failed;
use crate::log::{CHECKPOINT_NAME, Lost, Repaired, repair, repaired_checkpoint};

/// What is left alone: what belongs to a running broker, and what is removed at its next start.
fn is_passing(name: &str) -> bool {
    name == ".lock" || name == "lost+found" || name.ends_with(".deleted") || name.ends_with(".tmp")
}

/// Copies `from` to `to`, which must be missing or empty, and says what could not be saved.
pub(super) fn run(from: &Path, to: &Path) -> Result<(), Failed> {
    if !from.is_dir() {
        let why = "a data directory or a partition's directory is wanted";
        return Err(Failed::usage(format!("{}: {why}", from.display())));
    }
    let refused = |error: io::Error| Failed::usage(format!("{}: {error}", to.display()));
    fs::create_dir_all(to).map_err(refused)?;
    let inside = to.canonicalize().map_err(refused)?;
    let outside = from.canonicalize().map_err(refused)?;
    if inside.starts_with(&outside) {
        let why = "lies in the damaged directory, which is never written to";
        return Err(Failed::usage(format!("{} {why}", to.display())));
    }
    if fs::read_dir(to).map_err(refused)?.next().is_some() {
        return Err(Failed::usage(format!("{} is not empty", to.display())));
    }
    let mut out = io::stdout().lock();
    let told = copy(from, to, &mut out).map_err(Failed::operation)?;
    let line = match told {
        0 => "nothing was damaged: the copy is equal".to_owned(),
        _ => format!("{told} stretches could not be saved; the original is as it was"),
    };
    writeln!(out, "{line}").map_err(Failed::output)
}

/// Copies a directory; how many stretches were lost.
fn copy(from: &Path, to: &Path, out: &mut impl Write) -> Result<usize, String> {
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    if let Some(directory) = Directory::read(from)?
        && !directory.segments.is_empty()
    {
        return copy_partition(from, to, &directory, out);
    }
    let mut lost = 0;
    for entry in fs::read_dir(from).map_err(|error| failed(from, error))? {
        let entry = entry.map_err(|error| failed(from, error))?;
        let (path, name) = (entry.path(), entry.file_name());
        if is_passing(&name.to_string_lossy()) {
            continue;
        }
        let target = to.join(&name);
        if path.is_dir() {
            fs::create_dir(&target).map_err(|error| failed(&target, error))?;
            lost += copy(&path, &target, out)?;
        } else {
            fs::copy(&path, &target).map_err(|error| failed(&path, error))?;
        }
    }
    Ok(lost)
}

fn copy_partition(
    from: &Path,
    to: &Path,
    directory: &Directory,
    out: &mut impl Write,
) -> Result<usize, String> {
    let failed = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let mut lost = 0;
    let mut before: Option<(std::path::PathBuf, Repaired)> = None;
    for (base, path) in &directory.segments {
        let bytes = fs::read(path).map_err(|error| failed(path, error))?;
        let mut repaired = repair(&bytes, *base, before.as_ref().and_then(|one| one.1.epoch));
        for one in &repaired.lost {
            writeln!(out, "{}: {}", path.display(), told(one))
                .map_err(|error| error.to_string())?;
        }
        lost += repaired.lost.len();
        if let Some((target, mut before)) = before.take() {
            // A segment follows where the one before it ends, or it is damage again.
            lost += before.follow(*base, path, out)?;
            write(&target, &before.bytes)?;
        }
        if repaired.epoch.is_none() {
            repaired.epoch = Some(LeaderEpoch(0));
        }
        let target = to.join(path.file_name().unwrap_or_default());
        before = Some((target, repaired));
    }
    if let Some((target, repaired)) = before {
        write(&target, &repaired.bytes)?;
    }
    let first = directory.segments.keys().next().copied();
    for entry in fs::read_dir(from).map_err(|error| failed(from, error))? {
        let path = entry.map_err(|error| failed(from, error))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let derived = name.ends_with(".index") && lost > 0;
        let segment = directory.segments.values().any(|segment| *segment == path);
        if path.is_dir() || segment || derived || is_passing(&name) {
            continue;
        }
        let contents = fs::read(&path).map_err(|error| failed(&path, error))?;
        let kept = match name == CHECKPOINT_NAME {
            true => repaired_checkpoint(&contents, first.unwrap_or(Offset(0))),
            false => Some(contents.into()),
        };
        match kept {
            Some(contents) => write(&to.join(&name), &contents)?,
            None => writeln!(
                out,
                "{}: damaged; records that were deleted from the front may be back",
                path.display()
            )
            .map_err(|error| error.to_string())?,
        }
    }
    fs::File::open(to)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed(to, error))?;
    Ok(lost)
}

impl Repaired {
    /// Reaches to the next segment; 1 if that took offsets without records.
    fn follow(&mut self, next: Offset, path: &Path, out: &mut impl Write) -> Result<usize, String> {
        if self.end >= next {
            return Ok(0);
        }
        let (from, to) = (self.end, next.0 - 1);
        self.keep_offsets(next);
        writeln!(
            out,
            "{}: the records of offsets {from} to {to} before it are lost",
            path.display()
        )
        .map_err(|error| error.to_string())?;
        Ok(1)
    }
}

fn told(lost: &Lost) -> String {
    let bytes = lost.bytes.end - lost.bytes.start;
    let at = lost.bytes.start;
    match lost.offsets.is_empty() {
        true => format!("{bytes} bytes at {at}, behind the last whole batch, are dropped"),
        false => format!(
            "{bytes} bytes at {at} are lost: the records of offsets {} to {}",
            lost.offsets.start,
            lost.offsets.end - 1
        ),
    }
}

fn write(path: &Path, contents: &[u8]) -> Result<(), String> {
    let written = fs::File::create_new(path).and_then(|mut file| {
        file.write_all(contents)?;
        file.sync_all()
    });
    written.map_err(|error| format!("{}: {error}", path.display()))
}
