//! Finding the files, and reading what they hold.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::base::Offset;
use crate::log::{
    self, CHECKPOINT_NAME, CheckpointReport, IndexReport, Report, inspect_checkpoint, inspect_index,
};
use crate::record::{Batch, BatchError, Scratch};
use crate::shard::JOURNAL_PREFIX;

/// The most bytes that one batch may unpack to.
pub(super) const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// The journals of the data directory that `path` is, or lies in.
pub(super) fn journals(path: &Path) -> Vec<PathBuf> {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut found = Vec::new();
    // A data directory, a partition's directory in it, or a file in that.
    for directory in whole.ancestors().take(3) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let journals = entries.filter(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with(JOURNAL_PREFIX)
        });
        found.extend(journals.map(|entry| entry.path()));
    }
    found.sort();
    found
}

/// One partition's directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    /// Its name.
    pub name: String,
    /// Its segment files by base offset.
    pub segments: BTreeMap<Offset, PathBuf>,
    /// Its checkpoint file: none if there is none, else what it says if it is whole.
    pub checkpoint: Option<Option<CheckpointReport>>,
}

impl Directory {
    /// The partitions at or right below `path`, in order of name. The error is one line.
    pub(super) fn find(path: &Path) -> Result<Vec<Directory>, String> {
        let refused = |error: std::io::Error| format!("{}: {error}", path.display());
        if fs::metadata(path).map_err(refused)?.is_file() {
            let base = base_of(path).ok_or_else(|| {
                format!("{} is no segment file (<20 digits>.log)", path.display())
            })?;
            let name = path.parent().map_or(String::new(), name_of);
            let segments = BTreeMap::from([(base, path.to_owned())]);
            return Ok(vec![Directory {
                name,
                segments,
                checkpoint: None,
            }]);
        }
        let mut found: Vec<_> = Directory::read(path)?.into_iter().collect();
        if found.is_empty() {
            for entry in fs::read_dir(path).map_err(refused)? {
                let inner = entry.map_err(refused)?.path();
                if inner.is_dir() {
                    found.extend(Directory::read(&inner)?);
                }
            }
        }
        if found.is_empty() {
            return Err(format!(
                "{} holds no partition: no .log file is there",
                path.display()
            ));
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// The partition in `path`; none if no file is one of a partition's.
    pub(super) fn read(path: &Path) -> Result<Option<Directory>, String> {
        let refused = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut directory = Directory {
            name: name_of(path),
            ..Directory::default()
        };
        for entry in fs::read_dir(path).map_err(refused)? {
            let file = entry.map_err(refused)?.path();
            if let Some(base) = base_of(&file) {
                directory.segments.insert(base, file);
            } else if file.file_name().is_some_and(|name| name == CHECKPOINT_NAME) {
                let contents = fs::read(&file).map_err(refused)?;
                directory.checkpoint = Some(inspect_checkpoint(&contents));
            }
        }
        let empty = directory.segments.is_empty() && directory.checkpoint.is_none();
        Ok((!empty).then_some(directory))
    }
}

fn name_of(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The offset in the name of a segment file.
pub(in crate::cli) fn base_of(path: &Path) -> Option<Offset> {
    let name = path.file_name()?.to_str()?.strip_suffix(".log")?;
    let digits = name.len() == 20 && name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|_| digits).map(Offset)
}

/// Something wrong, and where.
#[derive(Debug)]
pub(super) struct Problem {
    /// In bytes from the beginning of the file.
    pub position: u64,
    /// In words.
    pub what: String,
}

/// One segment file.
#[derive(Debug)]
pub(super) struct Segment {
    /// The file.
    pub path: PathBuf,
    /// The offset in its name.
    pub base: Offset,
    /// Its size in bytes.
    pub size: u64,
    /// What is in it.
    pub report: Report,
    /// Its index file, if there is one.
    pub index: Option<IndexReport>,
    /// The offset after its last record; none if it is empty.
    pub end: Option<Offset>,
    /// All that is wrong, in order of position.
    pub problems: Vec<Problem>,
}

impl Segment {
    /// Looks at a segment. `before`: the end of the one before it. `thorough`: reads each record.
    pub(super) fn read(
        bytes: &[u8],
        path: &Path,
        base: Offset,
        before: Option<Offset>,
        thorough: bool,
    ) -> Segment {
        let report = log::inspect(bytes, base);
        let size = bytes.len() as u64;
        let index = fs::read(path.with_extension("index")).ok();
        let index = index.map(|contents| inspect_index(&contents, base, size, &report));
        let mut problems = Vec::new();
        if let Some(end) = before.filter(|end| *end > base) {
            let what = format!("begins at offset {base}, but the segment before it ends at {end}");
            problems.push(Problem { position: 0, what });
        }
        let mut scratch = Scratch::default();
        for batch in &report.batches {
            let position = batch.position;
            let told = batch.problems.iter();
            problems.extend(told.map(|problem| Problem {
                position,
                what: problem_text(problem),
            }));
            let from = position as usize;
            let whole = &bytes[from..from + batch.size];
            let unread = thorough && batch.problems.is_empty();
            if let Some(error) = unread
                .then(|| read_all(whole, &mut scratch).err())
                .flatten()
            {
                let what = error.to_string();
                problems.push(Problem { position, what });
            }
        }
        if report.trailing_bytes > 0 {
            let what = format!(
                "{} bytes behind the last whole batch: a torn write, or damage",
                report.trailing_bytes
            );
            let position = report.end;
            problems.push(Problem { position, what });
        }
        let last = report.batches.last();
        Segment {
            path: path.to_owned(),
            base,
            size,
            end: last.map(|batch| batch.header.last_offset().plus(1)),
            report,
            index,
            problems,
        }
    }
}

fn problem_text(problem: &log::Problem) -> String {
    match problem {
        log::Problem::Batch(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn read_all(batch: &[u8], scratch: &mut Scratch) -> Result<(), BatchError> {
    for record in Batch::parse(batch)?.records(scratch, UNPACKED_BYTES_MAX)? {
        record?;
    }
    Ok(())
}
