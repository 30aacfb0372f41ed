//! The house rules, held against the code: the table in `src/lib.rs` is the law.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One row of the map.
struct Room {
    floor: u32,
    may_import: BTreeSet<String>,
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Reads the table from the module docs of `src/lib.rs`.
fn map() -> BTreeMap<String, Room> {
    let text = fs::read_to_string(source().join("lib.rs")).expect("src/lib.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    rows.filter_map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let floor = cells[0].parse().ok()?;
        let may_import = cells[2].split_whitespace().map(str::to_owned).collect();
        Some((cells[1].to_owned(), Room { floor, may_import }))
    })
    .collect()
}

/// Every Rust file below `directory`.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The room a file of `src/` belongs to; none for `lib.rs` and `main.rs`.
fn room_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix(source()).expect("a file in src");
    let first = inside.components().next()?.as_os_str().to_str()?;
    (!first.ends_with(".rs")).then(|| first.to_owned())
}

/// The code of a file without comments, so that prose may name anything.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a readable file");
    text.lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The rooms that a file names: `crate::room`, and `crate::{room, other::{..}}`.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = code[at + "crate::".len()..].trim_start();
        let Some(list) = rest.strip_prefix('{') else {
            named.insert(word(rest));
            continue;
        };
        let (mut depth, mut start_of_item) = (1, true);
        for (index, character) in list.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => start_of_item = true,
                _ if depth == 1 && start_of_item && !character.is_whitespace() => {
                    named.insert(word(&list[index..]));
                    start_of_item = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    named
}

fn word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn every_import_goes_to_a_room_that_the_map_allows() {
    let map = map();
    let mut wrong = Vec::new();
    for file in files(&source()) {
        let Some(room) = room_of(&file) else { continue };
        let Some(row) = map.get(&room) else {
            wrong.push(format!("{}: room {room} is not on the map", file.display()));
            continue;
        };
        for other in rooms_named(&code(&file)) {
            if map.contains_key(&other) && other != room && !row.may_import.contains(&other) {
                wrong.push(format!("{}: {room} may not import {other}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_only_points_downwards_and_names_rooms_that_exist() {
    let map = map();
    assert!(map.len() > 2, "the table in src/lib.rs was not found");
    for (name, room) in &map {
        assert!(
            source().join(name).join("mod.rs").exists(),
            "{name} has no src/{name}/mod.rs"
        );
        for other in &room.may_import {
            let below = map
                .get(other)
                .unwrap_or_else(|| panic!("{name} names {other}: no row"));
            assert!(
                below.floor < room.floor,
                "{name} may not look up to {other}"
            );
        }
    }
}

/// Below the water-line: no waiting, no machine, no shared memory, no random order.
#[test]
fn the_rooms_below_rt_are_dry() {
    const FORBIDDEN: [&str; 14] = [
        "async ",
        ".await",
        "std::fs",
        "std::net",
        "std::thread",
        "std::os",
        "SystemTime",
        "Instant",
        "collections::HashMap",
        "collections::HashSet",
        "Mutex",
        "RwLock",
        "libc::",
        "tokio",
    ];
    let map = map();
    let water_line = map.get("rt").map_or(5, |room| room.floor);
    for file in files(&source()) {
        let Some(row) = room_of(&file).and_then(|room| map.get(&room)) else {
            continue;
        };
        if row.floor >= water_line {
            continue;
        }
        let code = code(&file);
        for word in FORBIDDEN {
            assert!(!code.contains(word), "{} names {word}", file.display());
        }
    }
}

#[test]
fn unsafe_stays_on_its_islands() {
    for file in files(&source()) {
        let inside = file
            .strip_prefix(source())
            .expect("a file in src")
            .to_owned();
        if inside == Path::new("base/buf.rs") || inside.starts_with("rt") {
            continue;
        }
        let code = code(&file);
        assert!(
            !code.contains("unsafe {"),
            "{} has an unsafe block",
            file.display()
        );
        assert!(
            !code.contains("unsafe impl"),
            "{} has an unsafe impl",
            file.display()
        );
    }
}

#[test]
fn only_rt_names_the_machine_and_one_file_names_kafka_protocol() {
    let mut wrong = Vec::new();
    for file in files(&source()) {
        let inside = file
            .strip_prefix(source())
            .expect("a file in src")
            .to_owned();
        let code = code(&file);
        let machine = ["glommio::", "io_uring::"]
            .iter()
            .any(|name| code.contains(name));
        if machine && !inside.starts_with("rt") {
            wrong.push(format!("{} names the machine", inside.display()));
        }
        if code.contains("kafka_protocol::") && inside != Path::new("protocol/messages.rs") {
            wrong.push(format!("{} names kafka_protocol", inside.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
