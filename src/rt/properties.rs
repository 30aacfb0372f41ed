//! Small text files of `key=value` lines in a data directory, read and written before the shards
//! start: what the directory is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::metadata::sync_directory;

/// Reads the file, in the form of Java's properties; none if there is no such file. Lines that
/// begin with `#` and lines without `=` are passed over.
pub fn read_properties(path: &Path) -> io::Result<Option<BTreeMap<String, String>>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    let owned = pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()));
    Ok(Some(owned.collect()))
}

/// Writes the file as a whole, durably: afterwards the old or the new one is there.
pub fn write_properties(path: &Path, properties: &BTreeMap<String, String>) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    for (key, value) in properties {
        writeln!(file, "{key}={value}")?;
    }
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_directory(path.parent().unwrap_or(Path::new("/")))
}

/// The names in a directory.
pub fn list_names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}
