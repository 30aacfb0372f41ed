//! Recovery of garbled files: no panic, nothing served that was not written, and no complaint when
//! only derived files are garbled.
//!
//! `CORELANE_FUZZ_RECOVERY` says how many inputs (default 3,000), `CORELANE_FUZZ_SEED` where the
//! seeds begin.

use std::collections::BTreeMap;

use super::disk::File;
use super::*;
use crate::base::Prng;

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Logs as they are found: closed cleanly, killed, killed with a checkpoint; with what they hold.
fn originals() -> Vec<(World, Vec<(Offset, Vec<u8>)>)> {
    let make = |life: u64| {
        let options = Options {
            segment_bytes: 3000,
            index_interval_bytes: 300,
            ..Options::default()
        };
        let mut world = World::new(life, options);
        for n in 0..12 {
            world.append_all(&batch(1 + n % 3, 40 + 30 * n as usize, n, n as u64));
            if life == 2 && n == 9 {
                let producers = Bytes::from_static(b"producers");
                world.log.checkpoint(producers, &mut world.out);
                world.run();
            }
        }
        if life == 0 {
            world.close();
        }
        let mut bytes: Vec<(Offset, Vec<u8>)> = world.read_all(Offset(0), 1 << 20);
        for (_, batch) in &mut bytes {
            forget_epoch(batch);
        }
        (world, bytes)
    };
    (0..3).map(make).collect()
}

/// The leader epoch lies outside of the CRC, and one that grew at the very end cannot be noticed.
fn forget_epoch(batch: &mut [u8]) {
    batch[12..16].fill(0);
}

/// One to four of: bits flipped, bytes drawn, zeroed, swapped, cut, grown, repeated, removed.
fn garble(files: &mut BTreeMap<FilePath, File>, names: &[FilePath], prng: &mut Prng) {
    for _ in 0..1 + prng.below(4) {
        let name = &names[prng.below(names.len() as u64) as usize];
        if prng.one_in(12) {
            files.remove(name);
            continue;
        }
        let Some(file) = files.get_mut(name) else {
            continue;
        };
        let bytes = &mut file.now;
        let size = bytes.len() as u64;
        if size == 0 {
            continue;
        }
        // Most of a file that is not closed is preallocated: its beginning is what matters.
        let near = if prng.one_in(4) { size } else { size.min(4096) };
        let at = prng.below(near) as usize;
        let len = 1 + prng.below(64.min(size - at as u64)) as usize;
        match prng.below(8) {
            0 => bytes[at] ^= 1 << prng.below(8),
            1 => prng.fill(&mut bytes[at..at + len]),
            2 => bytes[at..at + len].fill(0),
            3 => bytes[at] = bytes[at].wrapping_add(1),
            4 => {
                let other = prng.below(size - len as u64 + 1) as usize;
                let copy = bytes[other..other + len].to_vec();
                bytes[at..at + len].copy_from_slice(&copy);
            }
            5 => bytes.truncate(at),
            6 => {
                let grown = bytes.len() + prng.below(5000) as usize;
                bytes.resize(grown, prng.below(2) as u8 * 0xa5);
            }
            _ => {
                let block = at / 512 * 512;
                let end = (block + 512).min(bytes.len());
                bytes[block..end].fill(0);
            }
        }
    }
}

/// What became of the inputs.
#[derive(Debug, Default)]
struct Tally {
    inputs: u64,
    fenced: u64,
    shorter: u64,
}

/// What the log vouches for: what it brought into memory and held against CRC and chain. Ranges of
/// files that go out as they are were verified when they were written, and by who reads them.
fn read_verified(world: &mut World, from: Offset) -> Option<Vec<u8>> {
    for _ in 0..100 {
        match world.log.read_memory(from, Offset(i64::MAX), 1 << 20) {
            Read::Slices(slices) => return Some(world.bytes_of(&slices)),
            Read::Fill(range) => {
                world.log.fill(range, &mut world.out);
                world.run();
            }
            Read::Nothing | Read::BelowStart | Read::AboveEnd | Read::Fenced => return None,
        }
    }
    panic!("a read that never ends at {from}");
}

fn check(
    (original, written): &(World, Vec<(Offset, Vec<u8>)>),
    seed: u64,
    tally: &mut Tally,
) -> Result<(), String> {
    let mut prng = Prng::new(seed);
    let mut world = World::new(seed, original.options.clone());
    world.disk.files = original.disk.files.clone();
    world.disk.directories = original.disk.directories.clone();
    let derived_only = prng.one_in(3);
    let is_derived =
        |file: &FilePath| file.name().ends_with(".index") || file.name() == "checkpoint";
    let names = world.disk.files.keys().cloned();
    let names: Vec<FilePath> = names
        .filter(|file| !file.name().ends_with("metadata"))
        .filter(|file| !derived_only || is_derived(file))
        .collect();
    garble(&mut world.disk.files, &names, &mut prng);
    world.reopen();
    let start = world.log.start_offset();
    let mut served = Vec::new();
    let mut from = start;
    while let Some(bytes) = read_verified(&mut world, from) {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = verify(rest).map_err(|error| format!("served: {error}"))?;
            let mut batch = rest[..header.size()].to_vec();
            forget_epoch(&mut batch);
            served.push((header.base_offset, batch));
            from = header.last_offset().plus(1);
            rest = &rest[header.size()..];
        }
    }
    if let Some((offset, _)) = served.iter().find(|batch| !written.contains(batch)) {
        return Err(format!("what is served at {offset} was never written"));
    }
    let fenced = world.log.fault().is_some();
    tally.inputs += 1;
    tally.fenced += u64::from(fenced);
    tally.shorter += u64::from(!fenced && served.len() < written.len());
    if derived_only && (fenced || served != *written) {
        let fault = world.log.fault();
        return Err(format!(
            "only derived files are garbled: {fault:?}, {} of {} batches",
            served.len(),
            written.len()
        ));
    }
    if !fenced {
        world.append_all(&batch(1, 10, 0, 0));
    }
    Ok(())
}

#[test]
fn garbled_files_never_panic_and_only_what_was_written_is_served() {
    let originals = originals();
    let first = setting("CORELANE_FUZZ_SEED", 0);
    let mut tally = Tally::default();
    for seed in first..first + setting("CORELANE_FUZZ_RECOVERY", 3000) {
        let original = &originals[(seed % 3) as usize];
        if let Err(why) = check(original, seed, &mut tally) {
            panic!("CORELANE_FUZZ_SEED={seed} CORELANE_FUZZ_RECOVERY=1: {why}");
        }
    }
    println!("{tally:?}");
}
