//! What clients were promised and what they have seen: the truth that the broker is held against.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{Offset, ProducerId, TopicId, TopicPartition};

use super::compacted::Compacted;

/// The number of a record, unique in its run: what its value says.
pub(super) type RecordNumber = u64;

/// One record that is known to be committed: it was acknowledged, or a consumer has read it.
#[derive(Clone, Copy, Debug)]
struct Committed {
    record: RecordNumber,
    /// From a read; none as long as it was only acknowledged.
    timestamp: Option<i64>,
}

/// What is known of one partition.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// `flush.messages` is large: a power cut may take the end.
    pub(super) relaxed: bool,
    committed: BTreeMap<i64, Committed>,
    places: BTreeMap<RecordNumber, i64>,
    /// The largest log start that a DeleteRecords was answered with, and that was asked for.
    start_promised: i64,
    start_asked: i64,
    /// The largest log start that retention has moved it to.
    start_retained: i64,
    /// There was a power cut since it was last open.
    power_cut: bool,
    /// What the log said was on stable storage.
    durable_claimed: i64,
    /// The end of what was acknowledged while `flush.messages` was surely 1.
    strict_end: i64,
    /// How often a power cut took acknowledged records.
    pub(super) losses: u32,
}

impl History {
    /// The end of what is known to be committed.
    pub(super) fn end(&self) -> Offset {
        Offset(
            self.committed
                .last_key_value()
                .map_or(0, |(offset, _)| offset + 1),
        )
    }

    /// Takes the fact that `record` is committed at `offset`. It may be there twice if its producer
    /// may have been `forgotten` before it tried again.
    fn learn(&mut self, offset: i64, record: RecordNumber, forgotten: bool) -> Result<(), String> {
        let fact = Committed {
            record,
            timestamp: None,
        };
        let known = *self.committed.entry(offset).or_insert(fact);
        if known.record != record {
            let other = known.record;
            return Err(format!(
                "offset {offset} holds record {record}, but held {other}"
            ));
        }
        match *self.places.entry(record).or_insert(offset) {
            place if place == offset || forgotten => Ok(()),
            place => Err(format!(
                "record {record} is at offset {offset} and at {place}"
            )),
        }
    }

    /// The partition was opened after a crash; says how many committed records are gone for good
    /// reason, or what is missing without one.
    fn opened(&mut self, start: Offset, end: Offset) -> Result<u64, String> {
        if start.0 < self.start_promised || start.0 > self.start_asked.max(self.start_retained) {
            let (promised, asked) = (self.start_promised, self.start_asked);
            let retained = self.start_retained;
            return Err(format!(
                "the log starts at {start}: promised {promised}, asked {asked}, retained {retained}"
            ));
        }
        let power_cut = std::mem::take(&mut self.power_cut);
        let known = self.end();
        if end >= known {
            return Ok(0);
        }
        if !(self.relaxed && power_cut) {
            return Err(format!(
                "the log ends at {end}, but offset {known} was reached"
            ));
        }
        if end.0 < self.durable_claimed.max(self.strict_end) {
            let claimed = self.durable_claimed.max(self.strict_end);
            return Err(format!(
                "the log ends at {end}, but was durable up to {claimed}"
            ));
        }
        let lost = self.committed.split_off(&end.0);
        for fact in lost.values() {
            self.places.remove(&fact.record);
        }
        self.losses += 1;
        Ok(lost.len() as u64)
    }

    /// A look-up by time gave `found` (none: no such record); it was sent when everything below
    /// `known` was committed.
    pub(super) fn check_timestamp(
        &self,
        wanted: i64,
        known: Offset,
        found: Option<Offset>,
    ) -> Result<(), String> {
        let start = self.start_asked.max(self.start_retained);
        let reads = self.committed.range(start.min(known.0)..known.0);
        let fits = |fact: &Committed| fact.timestamp.is_some_and(|at| at >= wanted);
        let first = reads
            .filter(|(_, fact)| fits(fact))
            .map(|(offset, _)| *offset)
            .next();
        match (first, found) {
            (Some(first), None) => Err(format!("no record at {wanted}, but offset {first} is")),
            (Some(first), Some(found)) if found.0 > first => Err(format!(
                "offset {found} is the first at {wanted}, but {first} is earlier"
            )),
            _ => Ok(()),
        }
    }
}

/// What is known of the whole cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    histories: BTreeMap<TopicPartition, History>,
    /// For which partition each record was made, and when (wall clock, milliseconds).
    sent: BTreeMap<RecordNumber, (TopicPartition, i64)>,
    /// The wall clock in milliseconds.
    pub(super) now_ms: i64,
    /// How long a silent producer must be remembered, in milliseconds.
    pub(super) producer_expiration_ms: i64,
    /// Topics whose `flush.messages` was changed: how often, and whether it is surely 1 now.
    flushes: BTreeMap<TopicId, (u64, bool)>,
    next_record: RecordNumber,
    producer_ids: BTreeSet<ProducerId>,
    /// Records of compacted topics.
    pub(super) compacted: Compacted,
    /// Topics whose creation was answered, and how many partitions they have at least.
    exist: BTreeMap<TopicId, usize>,
    /// Topics whose deletion was asked for.
    doomed: BTreeSet<TopicId>,
    /// Topics whose deletion was answered.
    gone: BTreeSet<TopicId>,
    pub(super) acked_records: u64,
    pub(super) read_records: u64,
    pub(super) lost_records: u64,
    pub(super) retained: u64,
    pub(super) config_changes: u64,
}

impl Model {
    /// The partition's history.
    pub(super) fn history(&mut self, id: TopicPartition) -> &mut History {
        self.histories.entry(id).or_default()
    }

    /// How often a power cut took acknowledged records of a partition.
    pub(super) fn losses(&self, id: TopicPartition) -> u32 {
        self.histories.get(&id).map_or(0, |history| history.losses)
    }

    /// Numbers for `count` new records of a partition.
    pub(super) fn new_records(&mut self, id: TopicPartition, count: u64) -> RecordNumber {
        let first = self.next_record;
        self.next_record += count;
        for record in first..first + count {
            self.sent.insert(record, (id, self.now_ms));
        }
        first
    }

    /// True if the producer of this record may have been forgotten since: it was silent at most
    /// since it made the record.
    pub(super) fn may_be_forgotten(&self, record: RecordNumber) -> bool {
        let made = self.sent.get(&record).map_or(self.now_ms, |(_, at)| *at);
        self.now_ms - made >= self.producer_expiration_ms
    }

    /// A batch was acknowledged. `strict`: what [`Model::strict`] said when it was sent.
    pub(super) fn acked(
        &mut self,
        id: TopicPartition,
        base: Offset,
        (first, count): (RecordNumber, u64),
        strict: Option<u64>,
    ) -> Result<(), String> {
        self.acked_records += count;
        let forgotten = self.may_be_forgotten(first);
        let surely = strict.is_some() && strict == self.strict(id.topic);
        let history = self.histories.entry(id).or_default();
        for index in 0..count {
            let learnt = history.learn(base.0 + index as i64, first + index, forgotten);
            learnt.map_err(|why| format!("acknowledged in {id:?}: {why}"))?;
        }
        if surely {
            history.strict_end = history.strict_end.max(base.0 + count as i64);
        }
        Ok(())
    }

    /// A change of `flush.messages` is on its way; gives its number.
    pub(super) fn flush_asked(&mut self, topic: TopicId) -> u64 {
        let flush = self.flushes.entry(topic).or_default();
        *flush = (flush.0 + 1, false);
        flush.0
    }

    /// The change with this number is in force.
    pub(super) fn flush_changed(&mut self, topic: TopicId, number: u64, strict: bool) {
        if let Some(flush) = self
            .flushes
            .get_mut(&topic)
            .filter(|flush| flush.0 == number)
        {
            flush.1 = strict;
        }
    }

    /// A number as long as what is sent to a topic of changing `flush.messages` and acknowledged
    /// under the same number is acknowledged on stable storage.
    pub(super) fn strict(&self, topic: TopicId) -> Option<u64> {
        let (number, strict) = self.flushes.get(&topic)?;
        strict.then_some(*number)
    }

    /// A running log's start moved: DeleteRecords asked for it, or all that went had expired, or
    /// the log is still as large as `retention_bytes` wants it to be.
    pub(super) fn start_moved(
        &mut self,
        id: TopicPartition,
        (from, to): (Offset, Offset),
        (retention_ms, retention_bytes): (i64, i64),
        size_bytes: u64,
    ) -> Result<(), String> {
        let history = self.histories.entry(id).or_default();
        if to.0 <= history.start_asked {
            return Ok(());
        }
        self.retained += 1;
        history.start_retained = history.start_retained.max(to.0);
        let from = from.0.max(history.start_asked).min(to.0);
        let gone = history.committed.range(from..to.0);
        let made =
            gone.filter_map(|(offset, fact)| Some((*offset, self.sent.get(&fact.record)?.1)));
        let kept = |(_, at): &(i64, i64)| retention_ms < 0 || self.now_ms - at <= retention_ms;
        let too_early = made.rev().find(kept);
        let too_large = retention_bytes >= 0 && size_bytes >= retention_bytes as u64;
        // Of a compacted log, what is young may have been gone before.
        let too_large = too_large || self.compacted.retention(id).is_some();
        match too_early.filter(|_| !too_large) {
            None => Ok(()),
            Some((offset, at)) => Err(format!(
                "{id:?}: offset {offset}, made {} ms ago, went when {size_bytes} bytes were left; \
                 retention is {retention_ms} ms and {retention_bytes} bytes",
                self.now_ms - at
            )),
        }
    }

    /// When the newest known record of a partition was made; none without one.
    pub(super) fn newest_made(&self, id: TopicPartition) -> Option<i64> {
        let committed = &self.histories.get(&id)?.committed;
        let newest = committed
            .values()
            .filter_map(|fact| self.sent.get(&fact.record));
        newest.map(|(_, at)| *at).max()
    }

    /// Checkpoints came to harm: what only they knew may be forgotten.
    pub(super) fn derived_damaged(&mut self) {
        for history in self.histories.values_mut() {
            history.start_promised = 0;
        }
    }

    /// A consumer has read a record.
    pub(super) fn read(
        &mut self,
        id: TopicPartition,
        offset: Offset,
        record: RecordNumber,
        timestamp: i64,
    ) -> Result<(), String> {
        self.read_records += 1;
        let of = self.sent.get(&record).map(|(of, _)| *of);
        if of != Some(id) {
            return Err(format!(
                "{id:?} shows record {record} at {offset}, which is of {of:?}"
            ));
        }
        let forgotten = self.may_be_forgotten(record);
        let history = self.histories.entry(id).or_default();
        history
            .learn(offset.0, record, forgotten)
            .map_err(|why| format!("read from {id:?}: {why}"))?;
        if let Some(fact) = history.committed.get_mut(&offset.0) {
            fact.timestamp = Some(timestamp);
        }
        self.compacted.read(id, offset);
        Ok(())
    }

    /// What is known to be committed in a part of a partition: offsets and records.
    pub(super) fn committed(
        &self,
        id: TopicPartition,
        from: Offset,
        to: Offset,
    ) -> Vec<(i64, RecordNumber)> {
        let history = self.histories.get(&id).into_iter();
        let range = from.0..to.0.max(from.0);
        let facts = history.flat_map(|history| history.committed.range(range.clone()));
        facts.map(|(offset, fact)| (*offset, fact.record)).collect()
    }

    /// A producer id was given.
    pub(super) fn producer_id(&mut self, id: ProducerId) -> Result<(), String> {
        match self.producer_ids.insert(id) {
            true => Ok(()),
            false => Err(format!("producer id {id} was given twice")),
        }
    }

    /// A DeleteRecords is on its way.
    pub(super) fn start_asked(&mut self, id: TopicPartition, to: Offset) {
        let history = self.history(id);
        history.start_asked = history.start_asked.max(to.0);
    }

    /// A DeleteRecords was answered.
    pub(super) fn start_promised(&mut self, id: TopicPartition, start: Offset) {
        let history = self.history(id);
        history.start_promised = history.start_promised.max(start.0);
    }

    /// A log that was fenced is open again: what a DeleteRecords was answered with still holds.
    pub(super) fn check_start_promised(
        &mut self,
        id: TopicPartition,
        start: Offset,
    ) -> Result<(), String> {
        match self.history(id).start_promised {
            promised if start.0 >= promised => Ok(()),
            promised => Err(format!(
                "{id:?} starts at {start}, but {promised} was promised"
            )),
        }
    }

    /// The power goes: relaxed topics may lose what they never claimed to be durable.
    pub(super) fn power_cut(&mut self) {
        for history in self.histories.values_mut() {
            history.power_cut = true;
        }
    }

    /// What a log says is on stable storage, just before a crash.
    pub(super) fn durable_claimed(&mut self, id: TopicPartition, to: Offset) {
        let history = self.history(id);
        history.durable_claimed = history.durable_claimed.max(to.0);
    }

    /// A partition is open.
    pub(super) fn opened(
        &mut self,
        id: TopicPartition,
        relaxed: bool,
        (start, end): (Offset, Offset),
    ) -> Result<(), String> {
        let history = self.histories.entry(id).or_default();
        history.relaxed = relaxed || self.flushes.contains_key(&id.topic);
        let lost = history
            .opened(start, end)
            .map_err(|why| format!("{id:?} opened: {why}"))?;
        self.lost_records += lost;
        Ok(())
    }

    /// A topic was created or grown.
    pub(super) fn exists(&mut self, topic: TopicId, partitions: usize) {
        if !self.doomed.contains(&topic) {
            let least = self.exist.entry(topic).or_default();
            *least = partitions.max(*least);
        }
    }

    /// A deletion is on its way: the topic may be there or not.
    pub(super) fn may_go(&mut self, topic: TopicId) {
        self.exist.remove(&topic);
        self.doomed.insert(topic);
    }

    /// A topic was deleted.
    pub(super) fn gone(&mut self, topic: TopicId) {
        self.gone.insert(topic);
    }

    /// Holds an image against what was promised: partitions by topic.
    pub(super) fn check_topics(&self, found: &BTreeMap<TopicId, usize>) -> Result<(), String> {
        for (topic, least) in &self.exist {
            match found.get(topic) {
                None => return Err(format!("topic {topic} was created and is not there")),
                Some(count) if count < least => {
                    return Err(format!("topic {topic} has {count} partitions, not {least}"));
                }
                Some(_) => {}
            }
        }
        match self.gone.iter().find(|topic| found.contains_key(topic)) {
            Some(topic) => Err(format!("topic {topic} was deleted and is there")),
            None => Ok(()),
        }
    }
}
