//! Setting what is safe, and taking it back.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::super::Failed;
use super::setting::{Found, State};

/// Values before, by file.
type Before = BTreeMap<String, String>;

/// Sets what is bad and safe to set. The values before are on disk before anything is changed.
pub(super) fn apply(found: &[Found], undo_file: &Path) -> Result<(), Failed> {
    let mut before = read(undo_file)?;
    let wanted = found
        .iter()
        .filter(|one| one.is_safe && one.state == State::Bad);
    let writes: Vec<_> = wanted.flat_map(|one| &one.writes).collect();
    if writes.is_empty() {
        println!("nothing to apply");
        return Ok(());
    }
    for (path, _) in &writes {
        let text = fs::read_to_string(path).unwrap_or_default();
        let chosen = text
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'));
        let value = chosen.map_or(text.trim(), |(chosen, _)| chosen);
        // What an earlier --apply found is what --undo goes back to.
        let path = path.display().to_string();
        before.entry(path).or_insert_with(|| value.to_owned());
    }
    if let Some(parent) = undo_file.parent() {
        let _ = fs::create_dir_all(parent);
    }
    let text = serde_json::to_string_pretty(&before).map_err(Failed::operation)?;
    fs::write(undo_file, text).map_err(|error| refused(undo_file, &error))?;
    let mut failed = 0;
    for (path, value) in writes {
        match fs::write(path, value) {
            Ok(()) => println!("{} = {value}", path.display()),
            Err(error) => {
                failed += 1;
                eprintln!("corelane: {}", refused(path, &error));
            }
        }
    }
    match failed {
        0 => Ok(()),
        _ => Err(Failed::Quietly),
    }
}

/// Writes back what was there before.
pub(super) fn undo(undo_file: &Path) -> Result<(), Failed> {
    let before = read(undo_file)?;
    if before.is_empty() {
        println!("nothing to undo");
        return Ok(());
    }
    for (path, value) in &before {
        fs::write(path, value).map_err(|error| refused(Path::new(path), &error))?;
        println!("{path} = {value}");
    }
    fs::remove_file(undo_file).map_err(|error| refused(undo_file, &error))
}

fn read(undo_file: &Path) -> Result<Before, Failed> {
    match fs::read_to_string(undo_file) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| Failed::operation(format!("{}: {error}", undo_file.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Before::new()),
        Err(error) => Err(refused(undo_file, &error)),
    }
}

fn refused(path: &Path, error: &std::io::Error) -> Failed {
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; this needs root",
        _ => "",
    };
    Failed::operation(format!("{}: {error}{hint}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_applied_can_be_taken_back_even_after_a_second_time() {
        let root = tempfile::tempdir().expect("a directory");
        let (file, undo_file) = (
            root.path().join("swappiness"),
            root.path().join("undo.json"),
        );
        fs::write(&file, "60\n").expect("a file");
        let found = |value: &str| Found {
            name: "memory.swappiness".to_owned(),
            state: State::Bad,
            value: "60".to_owned(),
            wanted: "1".to_owned(),
            costs: "latency".to_owned(),
            why: String::new(),
            measured: None,
            mend: String::new(),
            is_safe: true,
            writes: vec![(file.clone(), value.to_owned())],
        };
        apply(&[found("1")], &undo_file).expect("applied");
        assert_eq!(fs::read_to_string(&file).expect("a value"), "1");
        apply(&[found("0")], &undo_file).expect("applied");
        undo(&undo_file).expect("undone");
        assert_eq!(fs::read_to_string(&file).expect("a value"), "60");
        assert!(!undo_file.exists());
        undo(&undo_file).expect("nothing to undo");
    }
}
