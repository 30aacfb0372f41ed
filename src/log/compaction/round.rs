//! A round: first goes over what is dirty and notes each key's last offset, then over everything up to
//! there and writes what stays (`copying`).

use std::sync::Arc;

use crate::base::{BLOCK, Buf, DiskFault, DiskOp, DiskOutput, FaultKind, FilePath, Now, Offset};
use crate::record::{self, BatchError, BatchHeader, ControlKind, read_records};

use super::super::face::{Event, Fault};
use super::super::segment::Segment;
use super::super::{Log, Stage};
use super::filter::{Rules, UNPACKED_BYTES_MAX};
use super::keys::{ENTRY_BYTES, KeyMap};
use super::output::Output;
use super::transactions::Transactions;
use super::{Abandoned, AbortedTransaction, Assignment, Compacted, Progress, Step};

/// Bytes that one read takes, unless a batch is larger.
const READ_BYTES: usize = 128 << 10;
/// What one slice may cost; see [`cost_of`].
const SLICE_COST_MAX: usize = 128 << 10;

/// A segment as it was when the round began.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub base: Offset,
    pub end: Offset,
    pub size: u64,
    file: FilePath,
}

impl Source {
    fn of(segment: &Segment) -> Source {
        Source {
            base: segment.base,
            end: segment.end,
            size: segment.size,
            file: segment.file.clone(),
        }
    }
}

/// How far a round has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Keys are gathered.
    Mapping,
    /// Batches are copied.
    Copying,
    /// The last blocks of a group's file are written.
    Finishing,
    /// It goes to stable storage.
    Syncing,
    /// It gets its exact length.
    Trimming,
    /// The directory is told first that there may be gaps.
    Noting,
    /// It gets the name that makes it count.
    Renaming,
    /// It takes its place in the log.
    Replacing,
    /// All is written; the checkpoint has to count it.
    Settling,
    /// The note says so.
    Ending,
}

/// A place in a source, and the bytes around it.
#[derive(Debug, Default)]
pub(super) struct Reader {
    position: u64,
    window_at: u64,
    window: Option<Arc<Buf>>,
    /// The last read that was asked for.
    asked: Option<(u64, usize)>,
}

/// What lies at the reader's place.
enum Found {
    /// A batch, at these bytes of the window.
    Batch(BatchHeader, Arc<Buf>, std::ops::Range<usize>),
    /// The end of the source.
    End,
    /// This has to be read first.
    Need(u64, usize),
    /// Something else than what was acknowledged.
    Damaged,
}

impl Reader {
    fn look(&self, source: &Source) -> Found {
        if self.position >= source.size {
            return Found::End;
        }
        let Some(window) = &self.window else {
            return self.need(source, READ_BYTES);
        };
        let from = (self.position - self.window_at) as usize;
        let rest = window.get(from..).unwrap_or(&[]);
        match record::verify(rest) {
            Ok(header) if self.position + header.size() as u64 <= source.size => {
                let range = from..from + header.size();
                Found::Batch(header, window.clone(), range)
            }
            Err(BatchError::Incomplete { need, .. })
                if need > rest.len() && self.position + need as u64 <= source.size =>
            {
                self.need(source, need.max(READ_BYTES))
            }
            Ok(_) | Err(_) => Found::Damaged,
        }
    }

    fn need(&self, source: &Source, bytes: usize) -> Found {
        let at = self.position - self.position % BLOCK as u64;
        let to = (self.position + bytes as u64).min(source.size);
        let len = ((to - at) as usize).next_multiple_of(BLOCK);
        // The same bytes were read already, and were too few.
        if self.window.is_some() && self.asked == Some((at, len)) {
            return Found::Damaged;
        }
        Found::Need(at, len)
    }

    fn rewind(&mut self) {
        *self = Reader::default();
    }
}

/// What a batch costs, in bytes of a plain one: each record is hashed and looked up, and packed
/// ones have to be unpacked.
fn cost_of(header: &BatchHeader) -> usize {
    let packed = header.attributes & 7 != 0;
    let bytes = if packed {
        header.size() * 4
    } else {
        header.size()
    };
    bytes + 64 * header.record_count.max(0) as usize
}

/// A round in progress.
#[derive(Debug)]
pub(super) struct Round {
    pub number: u32,
    pub sources: Vec<Source>,
    pub phase: Phase,
    /// Which source is looked at.
    pub at: usize,
    pub reader: Reader,
    /// A disk operation is in flight.
    waiting: bool,
    /// How the last one failed.
    failed: Option<Abandoned>,
    pub rules: Rules,
    first_dirty: Offset,
    pub transactions: Transactions,
    aborted: Vec<AbortedTransaction>,
    pub output: Option<Output>,
    /// The file of the output as it is called now.
    pub output_file: Option<FilePath>,
    pub stats: Compacted,
    begun: Now,
    /// Bytes that were given to the disk in this slice.
    pub moved: u64,
}

/// Why a slice stops.
pub(super) enum Stop {
    /// An operation is in flight, or the slice has cost enough.
    For(Progress),
    /// The round is over for good.
    GiveUp(Abandoned),
    /// A segment is not what was acknowledged.
    Damaged { file: FilePath, position: u64 },
}

impl Round {
    /// Memory that its keys take, in bytes.
    pub(super) fn key_bytes(&self) -> usize {
        self.rules.keys.bytes()
    }

    /// The file that is to go when the round is given up.
    pub(super) fn unfinished(self) -> Option<FilePath> {
        self.output_file
    }

    /// True when a source that is still needed is not in the log any more. Segments go from the
    /// beginning: the first one tells.
    fn has_lost(&self, log: &Log) -> bool {
        let first = match self.phase {
            Phase::Mapping => 0,
            _ => self.output.as_ref().map_or(self.at, |output| output.first),
        };
        self.sources.get(first).is_some_and(|source| {
            let found = log.segments.get(log.segment_index(source.base));
            found.is_none_or(|segment| segment.file != source.file)
        })
    }
}

impl Log {
    /// Begins a round. False when there is nothing to do, or another one is not over.
    pub fn begin_compaction(&mut self, now: Now, assignment: Assignment) -> bool {
        let Some(dirtiness) = self.dirtiness(now, assignment.stable) else {
            return false;
        };
        if dirtiness.dirty_bytes == 0 {
            return false;
        }
        let upto = dirtiness.upto;
        let full = self.segments.iter().filter(|segment| segment.end <= upto);
        let sources: Vec<Source> = full.map(Source::of).collect();
        // Every offset is one record at most: no more slots are ever needed.
        let records = (upto.0 - dirtiness.first_dirty.0).max(1) as f64;
        let wanted = (records / assignment.load_factor.clamp(0.1, 1.0)) as usize + 2;
        let slots = wanted.min(assignment.key_bytes_max / ENTRY_BYTES);
        let keys = KeyMap::new(slots, assignment.load_factor, assignment.secret);
        self.compaction.rounds = self.compaction.rounds.wrapping_add(1);
        let stats = Compacted {
            from: dirtiness.first_dirty,
            ..Compacted::default()
        };
        self.compaction.round = Some(Box::new(Round {
            number: self.compaction.rounds,
            sources,
            phase: Phase::Mapping,
            at: 0,
            reader: Reader::default(),
            waiting: false,
            failed: None,
            rules: Rules {
                keys,
                mapped_to: dirtiness.first_dirty,
                now_ms: now.wall.0,
                delete_retention_ms: self.options.delete_retention_ms,
                producers: assignment.producers,
            },
            first_dirty: dirtiness.first_dirty,
            transactions: Transactions::new(assignment.aborted.clone()),
            aborted: assignment.aborted,
            output: None,
            output_file: None,
            stats,
            begun: now,
            moved: 0,
        }));
        true
    }

    /// One slice of the round in progress. Gives how it ended, and how many bytes it gave to the disk.
    pub fn compact(
        &mut self,
        now: Now,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> (Progress, u64) {
        let Some(mut round) = self.compaction.round.take() else {
            return (Progress::Idle, 0);
        };
        if round.waiting {
            self.compaction.round = Some(round);
            return (Progress::Waiting, 0);
        }
        let serving = self.stage == Stage::Ready && self.fault.is_none() && self.options.compact;
        let lost = !serving || round.has_lost(self);
        let stop = match round.failed {
            Some(why) => Stop::GiveUp(why),
            None if lost => Stop::GiveUp(Abandoned::Changed),
            None => self.slice(now, &mut round, out, events),
        };
        let moved = std::mem::take(&mut round.moved);
        let progress = match stop {
            Stop::For(progress @ Progress::Done(_)) => return (progress, moved),
            Stop::For(progress) => {
                self.compaction.round = Some(round);
                return (progress, moved);
            }
            Stop::GiveUp(why) => Progress::GivenUp(why),
            Stop::Damaged { file, position } => {
                self.fence(Fault::Corrupt { file, position }, events);
                Progress::GivenUp(Abandoned::Changed)
            }
        };
        self.compaction.unreadable |= progress == Progress::GivenUp(Abandoned::Unreadable);
        self.compaction.leftover = round.unfinished();
        self.go_on_compacting(now, out);
        (progress, moved)
    }

    fn slice(
        &mut self,
        now: Now,
        round: &mut Round,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) -> Stop {
        let mut cost = 0;
        loop {
            let went = match round.phase {
                Phase::Mapping => self.map(round, &mut cost, out),
                Phase::Copying => self.copy(round, &mut cost, out),
                Phase::Finishing
                | Phase::Syncing
                | Phase::Trimming
                | Phase::Noting
                | Phase::Renaming
                | Phase::Replacing => self.put_in_place(round, out, events),
                Phase::Settling | Phase::Ending => self.end_round(now, round, out),
            };
            if let Err(stop) = went {
                return stop;
            }
            if cost >= SLICE_COST_MAX {
                return Stop::For(Progress::More);
            }
        }
    }

    /// Notes the keys of one batch, or goes on to the next source.
    fn map(
        &mut self,
        round: &mut Round,
        cost: &mut usize,
        out: &mut Vec<DiskOp>,
    ) -> Result<(), Stop> {
        let Some(source) = round.sources.get(round.at) else {
            round.start_copying();
            return Ok(());
        };
        if source.end <= round.first_dirty {
            round.at += 1;
            return Ok(());
        }
        let end = source.end;
        let Some((header, window, range)) = self.next_batch(round, out)? else {
            round.rules.mapped_to = end;
            round.at += 1;
            round.reader.rewind();
            return Ok(());
        };
        *cost += cost_of(&header);
        round.stats.mapped_bytes += header.size() as u64;
        round.reader.position += header.size() as u64;
        let batch = &window[range];
        if header.is_control() {
            let kind = self.marker(&header, batch)?;
            round.transactions.pass_marker(&header, kind);
        } else if !round.transactions.pass_data(&header)
            && header.last_offset() >= round.first_dirty
            && !self.note_keys(round, &header, batch)?
        {
            round.start_copying();
            return Ok(());
        }
        round.rules.mapped_to = round.rules.mapped_to.max(header.last_offset().plus(1));
        Ok(())
    }

    /// False when the table is full: what was noted up to there is good.
    fn note_keys(
        &mut self,
        round: &mut Round,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<bool, Stop> {
        let unreadable = |_| Stop::GiveUp(Abandoned::Unreadable);
        let records = read_records(batch, header, &mut self.scratch, UNPACKED_BYTES_MAX)
            .map_err(unreadable)?;
        for record in records {
            let record = record.map_err(unreadable)?;
            let Some(key) = record.key.filter(|_| record.offset >= round.first_dirty) else {
                continue;
            };
            if !round.rules.keys.put(key, record.offset) {
                return Ok(false);
            }
            round.rules.mapped_to = record.offset.plus(1);
        }
        Ok(true)
    }

    /// The batch at the reader's place; none at the end of the source.
    #[allow(clippy::type_complexity)]
    pub(super) fn next_batch(
        &mut self,
        round: &mut Round,
        out: &mut Vec<DiskOp>,
    ) -> Result<Option<(BatchHeader, Arc<Buf>, std::ops::Range<usize>)>, Stop> {
        let source = &round.sources[round.at];
        match round.reader.look(source) {
            Found::Batch(header, window, range) => Ok(Some((header, window, range))),
            Found::End => Ok(None),
            Found::Need(at, len) => {
                round.reader.asked = Some((at, len));
                round.reader.window_at = at;
                let file = source.file.clone();
                let step = Step::Read {
                    round: round.number,
                };
                let id = self.start_step(step);
                out.push(DiskOp::Read { id, file, at, len });
                Err(round.wait(len))
            }
            Found::Damaged => Err(Stop::Damaged {
                file: source.file.clone(),
                position: round.reader.position,
            }),
        }
    }

    /// What a control batch says; none for an empty one.
    pub(super) fn marker(
        &mut self,
        header: &BatchHeader,
        batch: &[u8],
    ) -> Result<Option<ControlKind>, Stop> {
        let unreadable = |_| Stop::GiveUp(Abandoned::Unreadable);
        let mut records = read_records(batch, header, &mut self.scratch, UNPACKED_BYTES_MAX)
            .map_err(unreadable)?;
        let Some(record) = records.next() else {
            return Ok(None);
        };
        let kind = ControlKind::decode_key(record.map_err(unreadable)?.key);
        Ok(Some(kind.unwrap_or(ControlKind::Unknown(-1))))
    }

    /// All groups are swapped in: the note follows when the checkpoint counts them.
    fn end_round(
        &mut self,
        now: Now,
        round: &mut Round,
        out: &mut Vec<DiskOp>,
    ) -> Result<(), Stop> {
        if round.phase == Phase::Ending {
            round.stats.to = round.rules.mapped_to;
            round.stats.keys_percent = round.rules.keys.percent_full();
            round.stats.took = now.mono.since(round.begun.mono);
            let stats = Box::new(std::mem::take(&mut round.stats));
            return Err(Stop::For(Progress::Done(stats)));
        }
        if self.compaction.kept < self.compaction.replaced {
            return Err(Stop::For(Progress::Blocked));
        }
        round.phase = Phase::Ending;
        self.write_note(Some(round.rules.mapped_to), out);
        Err(round.wait(0))
    }

    /// A disk operation of the compaction is done.
    pub(in crate::log) fn compaction_done(
        &mut self,
        now: Now,
        step: Step,
        output: DiskOutput,
        out: &mut Vec<DiskOp>,
        events: &mut Vec<Event>,
    ) {
        self.compaction.in_flight -= 1;
        match step {
            Step::Read { round } => {
                let DiskOutput::Data(data) = output else {
                    return self.go_on_with(round, events);
                };
                if let Some(current) = self.round(round) {
                    current.reader.window = Some(data);
                }
                self.go_on_with(round, events);
            }
            Step::Work { round } => self.go_on_with(round, events),
            Step::Leftover => {}
            Step::Retired { swap, file } => self.swap_retired(now, swap, file),
            Step::Named { swap } => self.swap_named(swap, out, events),
            Step::Noted { cleaned_to } => {
                self.compaction.noted = true;
                self.compaction.cleaned_to = cleaned_to;
                let number = self.compaction.rounds;
                self.go_on_with(number, events);
            }
        }
    }

    fn round(&mut self, number: u32) -> Option<&mut Round> {
        let round = self.compaction.round.as_deref_mut();
        round.filter(|round| round.number == number)
    }

    fn go_on_with(&mut self, number: u32, events: &mut Vec<Event>) {
        if let Some(round) = self.round(number) {
            round.waiting = false;
            events.push(Event::CompactionDue);
        }
    }

    /// A disk operation of the compaction failed. What concerns a new file only ends the round; a
    /// segment that cannot be read, and a name that may or may not have changed, fence the log.
    pub(in crate::log) fn compaction_failed(
        &mut self,
        step: Step,
        fault: DiskFault,
        events: &mut Vec<Event>,
    ) {
        self.compaction.in_flight -= 1;
        let why = match fault.kind {
            FaultKind::NoSpace => Abandoned::NoSpace,
            FaultKind::NotFound | FaultKind::TooLarge | FaultKind::Io(_) => Abandoned::DiskFault,
        };
        match step {
            Step::Read { round } => {
                let Some(round) = self.round(round) else {
                    return;
                };
                round.waiting = false;
                // One that was deleted meanwhile is not missed.
                round.failed = Some(Abandoned::Changed);
                let lost = fault.kind == FaultKind::NotFound;
                if !lost {
                    self.fence(Fault::Disk(fault), events);
                }
                events.push(Event::CompactionDue);
            }
            Step::Work { round: number } => {
                let unsure = fault.op == "rename";
                if let Some(round) = self.round(number) {
                    round.waiting = false;
                    round.failed = Some(why);
                    events.push(Event::CompactionDue);
                }
                if unsure {
                    self.fence(Fault::Disk(fault), events);
                }
            }
            Step::Noted { .. } => {
                let number = self.compaction.rounds;
                if let Some(round) = self.round(number) {
                    round.waiting = false;
                    round.failed = Some(why);
                    events.push(Event::CompactionDue);
                }
            }
            Step::Retired { .. } | Step::Named { .. } => self.fence(Fault::Disk(fault), events),
            Step::Leftover => {}
        }
    }
}

impl Round {
    fn start_copying(&mut self) {
        self.phase = Phase::Copying;
        self.at = 0;
        self.reader.rewind();
        self.transactions = Transactions::new(self.aborted.clone());
        let mapped_to = self.rules.mapped_to;
        self.sources.retain(|source| source.base < mapped_to);
        self.stats.segments_before = self.sources.len() as u64;
    }

    /// An operation over so many bytes is in flight now.
    pub(super) fn wait(&mut self, bytes: usize) -> Stop {
        self.waiting = true;
        self.moved += bytes as u64;
        Stop::For(Progress::Waiting)
    }
}

impl Reader {
    /// Goes on behind a batch.
    pub(super) fn pass(&mut self, header: &BatchHeader) {
        self.position += header.size() as u64;
    }

    /// True when a batch that ends at `bytes` more is the last one of the source.
    pub(super) fn ends_with(&self, header: &BatchHeader, source: &Source) -> bool {
        self.position + header.size() as u64 >= source.size
    }

    /// To the beginning of the next source.
    pub(super) fn next_source(&mut self) {
        self.rewind();
    }
}
