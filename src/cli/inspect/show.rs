//! What a person, or a program, sees of the files.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::files::{Directory, Segment, UNPACKED_BYTES_MAX};
use crate::cli::format::{self, Item};
use crate::cli::table;
use crate::log::{IndexReport, Inspected};
use crate::record::{Batch, Scratch, TimestampType};
use crate::shard::JournalReport;

/// What to show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub batches: bool,
    pub records: bool,
    pub json: bool,
}

/// Shows what a journal holds of which files.
pub(super) fn journal(
    path: &Path,
    report: &Result<JournalReport, usize>,
    shown: Shown,
    out: &mut impl Write,
) -> io::Result<()> {
    if shown.json || shown.records {
        return Ok(());
    }
    let path = path.display();
    let report = match report {
        Ok(report) => report,
        Err(at) => return writeln!(out, "{path}: damaged at byte {at}"),
    };
    let files = report.files.len();
    writeln!(out, "{path}: {} frames, {files} files", report.frames)?;
    for (file, held) in &report.files {
        writeln!(
            out,
            "  {file}: {} images, bytes {} to {}",
            held.images, held.from, held.to
        )?;
    }
    Ok(())
}

/// Shows a partition's name and checkpoint.
pub(super) fn directory(
    directory: &Directory,
    shown: Shown,
    out: &mut impl Write,
) -> io::Result<()> {
    if shown.json || shown.records {
        return Ok(());
    }
    writeln!(out, "{}", directory.name)?;
    match &directory.checkpoint {
        None => Ok(()),
        Some(None) => writeln!(
            out,
            "  checkpoint: damaged; the next start scans everything"
        ),
        Some(Some(checkpoint)) => {
            let closed = if checkpoint.clean {
                "closed cleanly"
            } else {
                "not closed"
            };
            writeln!(
                out,
                "  checkpoint: {closed}, offsets {} to {}, vouches for {} bytes of segment {} and \
                 {} segments before it",
                checkpoint.start,
                checkpoint.end,
                checkpoint.position,
                checkpoint.active,
                checkpoint.sealed
            )?;
            let epochs = checkpoint.epochs.iter();
            let epochs = epochs.map(|(epoch, start)| format!("{epoch} from {start}"));
            let epochs: Vec<_> = epochs.collect();
            if epochs.is_empty() {
                return Ok(());
            }
            writeln!(out, "  leader epochs: {}", epochs.join(", "))
        }
    }
}

/// Shows a segment.
pub(super) fn segment(
    segment: &Segment,
    bytes: &[u8],
    shown: Shown,
    out: &mut impl Write,
) -> io::Result<()> {
    if shown.json {
        return writeln!(out, "{}", as_json(segment, shown.batches));
    }
    if shown.records {
        records(segment, bytes, out)?;
    } else {
        summary(segment, out)?;
        if shown.batches {
            batches(segment, out)?;
        }
    }
    for problem in &segment.problems {
        let place = format!("{} at {}", segment.path.display(), problem.position);
        let line = format!("  PROBLEM {place}: {}", problem.what);
        if shown.records {
            eprintln!("{line}");
        } else {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn count(segment: &Segment) -> i64 {
    let batches = segment.report.batches.iter();
    batches
        .map(|batch| i64::from(batch.header.record_count.max(0)))
        .sum()
}

fn summary(segment: &Segment, out: &mut impl Write) -> io::Result<()> {
    let file = segment
        .path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let offsets = segment.end.map_or("no records".to_owned(), |end| {
        format!("offsets {} to {}", segment.base, end.0 - 1)
    });
    let index = match &segment.index {
        None => "no index".to_owned(),
        Some(IndexReport::Sound { entries }) => format!("index of {entries} entries"),
        Some(other) => format!("index {}, will be rebuilt", index_word(other)),
    };
    writeln!(
        out,
        "  {file}: {} batches, {} records, {offsets}, {} of {} bytes used, {index}",
        segment.report.batches.len(),
        count(segment),
        segment.report.end,
        segment.size
    )
}

fn index_word(index: &IndexReport) -> &'static str {
    match index {
        IndexReport::Sound { .. } => "sound",
        IndexReport::Damaged => "damaged",
        IndexReport::Stale => "stale",
        IndexReport::Wrong { .. } => "wrong",
    }
}

fn batches(segment: &Segment, out: &mut impl Write) -> io::Result<()> {
    let rows: Vec<_> = segment.report.batches.iter().map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let head = [
        "POSITION",
        "BYTES",
        "FIRST",
        "LAST",
        "RECORDS",
        "EPOCH",
        "CODEC",
        "PRODUCER",
        "SEQUENCE",
        "TIMESTAMP",
        "KIND",
    ];
    let lines = table::lines(&head, &rows);
    lines
        .iter()
        .try_for_each(|line| writeln!(out, "    {line}"))
}

fn row(batch: &Inspected) -> Vec<String> {
    let header = &batch.header;
    let number = |number: i64| {
        if number < 0 {
            "-".to_owned()
        } else {
            number.to_string()
        }
    };
    let producer = match header.has_producer_id() {
        true => format!("{}/{}", header.producer_id, header.producer_epoch),
        false => "-".to_owned(),
    };
    vec![
        batch.position.to_string(),
        batch.size.to_string(),
        header.base_offset.to_string(),
        header.last_offset().to_string(),
        header.record_count.to_string(),
        number(header.leader_epoch.0.into()),
        batch
            .codec
            .map_or("unknown", |codec| codec.name())
            .to_owned(),
        producer,
        number(header.base_sequence.0.into()),
        number(header.max_timestamp),
        kind(batch).to_owned(),
    ]
}

fn kind(batch: &Inspected) -> &'static str {
    match (batch.header.is_control(), batch.header.is_transactional()) {
        (true, _) => "control",
        (false, true) => "transactional",
        (false, false) => "plain",
    }
}

fn records(segment: &Segment, bytes: &[u8], out: &mut impl Write) -> io::Result<()> {
    let mut scratch = Scratch::default();
    let mut lines = Vec::new();
    for inspected in segment
        .report
        .batches
        .iter()
        .filter(|batch| batch.problems.is_empty())
    {
        let from = inspected.position as usize;
        let Ok(batch) = Batch::parse(&bytes[from..from + inspected.size]) else {
            continue;
        };
        let Ok(records) = batch.records(&mut scratch, UNPACKED_BYTES_MAX) else {
            continue;
        };
        for record in records.map_while(Result::ok) {
            let headers = record.headers;
            let item = Item {
                partition: None,
                offset: Some(record.offset.0),
                timestamp: Some(record.timestamp),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: headers
                    .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
                    .collect(),
            };
            format::write_json(&item, &mut lines);
        }
        out.write_all(&lines)?;
        lines.clear();
    }
    Ok(())
}

fn as_json(segment: &Segment, with_batches: bool) -> Value {
    let problems = segment.problems.iter();
    let problems =
        problems.map(|problem| json!({"position": problem.position, "what": problem.what}));
    let mut value = json!({
        "file": segment.path.display().to_string(),
        "base_offset": segment.base.0,
        "end_offset": segment.end.map(|end| end.0),
        "bytes": segment.size,
        "used_bytes": segment.report.end,
        "batches": segment.report.batches.len(),
        "records": count(segment),
        "index": segment.index.as_ref().map(index_word),
        "problems": problems.collect::<Vec<_>>(),
    });
    if with_batches {
        let batches = segment.report.batches.iter().map(batch_json);
        value["batch_list"] = batches.collect();
    }
    value
}

fn batch_json(batch: &Inspected) -> Value {
    let header = &batch.header;
    json!({
        "position": batch.position,
        "bytes": batch.size,
        "base_offset": header.base_offset.0,
        "last_offset": header.last_offset().0,
        "records": header.record_count,
        "leader_epoch": header.leader_epoch.0,
        "codec": batch.codec.map(|codec| codec.name()),
        "producer_id": header.producer_id.0,
        "producer_epoch": header.producer_epoch.0,
        "base_sequence": header.base_sequence.0,
        "base_timestamp": header.base_timestamp,
        "max_timestamp": header.max_timestamp,
        "append_time": header.timestamp_type() == TimestampType::LogAppendTime,
        "kind": kind(batch),
    })
}
