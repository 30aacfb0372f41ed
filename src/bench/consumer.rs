//! One connection that reads: what to ask for next, and what came.
//!
//! The next records are asked for before those that came are checked, as Kafka's own consumer and
//! librdkafka do: else the broker would be measured with pauses of the client's making.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::content::{self, Following};
use super::plan::{ConsumerPlan, Role};
use super::producer::Out;
use super::shared::{Progress, Window};
use super::tally::{Flow, Tally};
use crate::base::{Offset, PartitionIndex};
use crate::protocol::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use crate::protocol::header::parse_response_header;
use crate::protocol::messages::StrBytes;
use crate::protocol::{ApiKey, ErrorCode, TopicRef};
use crate::record::{Batch, BatchError, Batches, Codec, Scratch};

/// Fetch sessions exist from this version on (KIP-227).
const SESSIONS_FROM: i16 = 7;
/// The most bytes that one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 1 << 30;

/// A partition that is read.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: Offset,
    next: Offset,
    /// Where a reader that catches up is done.
    until: Offset,
    /// True if the session does not know `next` yet.
    is_news: bool,
}

/// The records of a batch whose fillers are checked, beside the checksum of the batch. That one is the
/// producer's own where the broker keeps batches as they are; to go over all bytes twice was a third
/// of what reading cost this client, and at several GB a second it is the client that is measured.
#[derive(Clone, Copy, Debug)]
enum FillersLookedAt {
    /// A broker may have packed the batch anew.
    All,
    /// One, another in each batch.
    One(usize),
}

impl FillersLookedAt {
    fn of(batch: &Batch) -> FillersLookedAt {
        let header = &batch.header;
        let (base, count) = (header.base_offset.0, i64::from(header.record_count).max(1));
        match header.codec() {
            Ok(Codec::None) => FillersLookedAt::One((base / count % count) as usize),
            _ => FillersLookedAt::All,
        }
    }

    fn has(self, index: usize) -> bool {
        match self {
            FillersLookedAt::All => true,
            FillersLookedAt::One(one) => one == index,
        }
    }
}

/// A connection that reads.
#[derive(Debug)]
pub(super) struct Consumer {
    plan: ConsumerPlan,
    topic: StrBytes,
    client_id: StrBytes,
    run: u32,
    places: BTreeMap<PartitionIndex, Place>,
    /// Session id and the epoch of the next request; epoch 0 begins one, -1 is none.
    session: (i32, i32),
    is_waiting: bool,
    correlation_id: i32,
    following: Following,
    scratch: Scratch,
    is_done: bool,
}

impl Consumer {
    pub(super) fn new(plan: ConsumerPlan, topic: &StrBytes, run: u32) -> Consumer {
        let places = plan.positions.iter().map(|(partition, start, until)| {
            let place = Place {
                start: *start,
                next: *start,
                until: *until,
                is_news: true,
            };
            (*partition, place)
        });
        let places: BTreeMap<_, _> = places.collect();
        // A session saves naming all partitions each time; for one or two there is nothing to save.
        let sessions = places.len() > 2 && plan.version >= SESSIONS_FROM;
        Consumer {
            session: (0, if sessions { 0 } else { -1 }),
            places,
            topic: topic.clone(),
            client_id: StrBytes::from_static_str("corelane-bench"),
            run,
            is_waiting: false,
            correlation_id: 0,
            following: Following::default(),
            scratch: Scratch::default(),
            is_done: false,
            plan,
        }
    }

    /// Asks for more, if nothing is asked for.
    pub(super) fn pump(&mut self, out: &mut impl Out) -> Result<(), String> {
        // Behind the end, in a session too, the broker would have it wait for records to come.
        if self.is_waiting || self.is_done || self.is_at_end() {
            return Ok(());
        }
        let in_session = self.session.1 > 0;
        let bytes_max = self.plan.partition_bytes_max;
        let mut partitions = Vec::new();
        for (index, place) in &mut self.places {
            let is_over = self.plan.role != Role::Tail && place.next >= place.until;
            if (in_session && !place.is_news) || (is_over && !in_session) {
                continue;
            }
            place.is_news = false;
            partitions.push(FetchPartition::new(*index, place.next, bytes_max));
        }
        if partitions.is_empty() && !in_session {
            return Ok(());
        }
        let topics = match partitions.is_empty() {
            true => Vec::new(),
            false => vec![FetchTopic {
                topic: TopicRef::Name(self.topic.clone()),
                partitions,
            }],
        };
        let request = FetchRequest {
            max_wait_ms: i32::try_from(self.plan.wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.plan.bytes_min,
            max_bytes: self.plan.answer_bytes_max,
            session_id: self.session.0,
            session_epoch: self.session.1,
            topics,
            ..FetchRequest::default()
        };
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = request.frame(self.plan.version, self.correlation_id, &self.client_id);
        self.is_waiting = true;
        out.send(&frame, &[])
    }

    /// True if it reads what was there already, and has read it all.
    fn is_at_end(&self) -> bool {
        let mut places = self.places.values();
        self.plan.role != Role::Tail && places.all(|place| place.next >= place.until)
    }

    /// True if nothing is asked for any more: [`Consumer::settle`] says what then.
    pub(super) fn is_through(&self) -> bool {
        !self.is_waiting && !self.is_done && self.is_at_end()
    }

    /// Takes an answer that came at `now`, and asks for more.
    pub(super) fn reply(
        &mut self,
        now: u64,
        frame: &Bytes,
        tally: &mut Tally,
        out: &mut impl Out,
    ) -> Result<(), String> {
        let version = self.plan.version;
        let (id, body) = parse_response_header(frame, ApiKey::Fetch, version)
            .map_err(|malformed| malformed.to_string())?;
        let response =
            FetchResponse::decode(&body, version).map_err(|malformed| malformed.to_string())?;
        if id != self.correlation_id {
            return Err(format!("answer {id} instead of {}", self.correlation_id));
        }
        self.is_waiting = false;
        if !response.error.is_none() {
            tally.error(format!("fetch: {}", response.error));
            let lost = matches!(
                response.error,
                ErrorCode::FetchSessionIdNotFound | ErrorCode::InvalidFetchSessionEpoch
            );
            if !lost {
                return Err(format!("fetch: {}", response.error));
            }
            self.session = (0, 0);
            return Ok(());
        }
        self.session = match self.session.1 {
            -1 => (0, -1),
            // The broker has no room for a session: all partitions are named each time.
            _ if response.session_id == 0 => (0, -1),
            epoch => (response.session_id, epoch.checked_add(1).unwrap_or(1)),
        };
        let mut came = Vec::new();
        for part in response.topics.iter().flat_map(|topic| &topic.partitions) {
            if !part.error.is_none() {
                tally.error(format!("fetch: {}", part.error));
                if !part.error.is_retriable() {
                    return Err(format!("fetch of partition {}: {}", part.index, part.error));
                }
                continue;
            }
            for bytes in &part.records {
                came.push((part.index, self.pass(part.index, bytes)?, bytes));
            }
        }
        self.pump(out)?;
        let mut first = true;
        for (partition, from, bytes) in came {
            self.take(
                now,
                partition,
                from,
                bytes,
                std::mem::take(&mut first),
                tally,
            );
        }
        Ok(())
    }

    /// Goes on behind the whole batches in `bytes`; returns the offset that was to come next.
    fn pass(&mut self, partition: PartitionIndex, bytes: &[u8]) -> Result<Offset, String> {
        let Some(place) = self.places.get_mut(&partition) else {
            return Err(format!("partition {partition} was not asked for"));
        };
        let from = place.next;
        for batch in Batches::new(bytes) {
            match batch {
                Ok(batch) => place.next = place.next.max(batch.header.last_offset().plus(1)),
                // The broker cut the last one: it comes whole with the next answer.
                Err(BatchError::Incomplete { .. }) => break,
                Err(error) => return Err(format!("partition {partition}: {error}")),
            }
        }
        place.is_news |= place.next != from;
        Ok(from)
    }

    /// Looks at what came; the first record that is new has the offset `from`.
    fn take(
        &mut self,
        now: u64,
        partition: PartitionIndex,
        from: Offset,
        bytes: &[u8],
        is_first: bool,
        tally: &mut Tally,
    ) {
        let mut flow = Flow {
            requests: u64::from(is_first),
            ..Flow::default()
        };
        let mut next = from;
        for batch in Batches::new(bytes).map_while(Result::ok) {
            flow.records += self.take_batch(now, partition, next, &batch, tally);
            flow.bytes += batch.header.size() as u64;
            next = next.max(batch.header.last_offset().plus(1));
        }
        match self.plan.role {
            Role::Tail => tally.read(now, flow),
            Role::CatchUp | Role::Repeat => tally.catch_up(now, flow),
        }
    }

    /// Looks at every record of a batch; returns how many were new.
    fn take_batch(
        &mut self,
        now: u64,
        partition: PartitionIndex,
        next: Offset,
        batch: &Batch,
        tally: &mut Tally,
    ) -> u64 {
        if batch.verify().is_err() {
            tally.damaged += batch.header.record_count.max(0) as u64;
            return 0;
        }
        if batch.header.is_control() {
            return 0;
        }
        let looked_at = FillersLookedAt::of(batch);
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut new = 0;
        match batch.records(&mut scratch, UNPACKED_BYTES_MAX) {
            Err(_) => tally.damaged += batch.header.record_count.max(0) as u64,
            Ok(records) => {
                for (index, record) in records.enumerate() {
                    let Ok(record) = record else {
                        tally.damaged += 1;
                        break;
                    };
                    if record.offset < next {
                        continue;
                    }
                    new += 1;
                    let Some(stamp) = record
                        .value
                        .and_then(|value| content::read(value, looked_at.has(index)))
                    else {
                        tally.damaged += 1;
                        continue;
                    };
                    let from_first = self.plan.from_first;
                    self.following.see(partition, &stamp, from_first);
                    if self.plan.role == Role::Tail && stamp.run == self.run {
                        tally.arrive(now, stamp.intended);
                    }
                }
            }
        }
        self.scratch = scratch;
        new
    }

    /// True once everything is read that this reader is there for; one that repeats begins again.
    pub(super) fn settle(
        &mut self,
        now: u64,
        window: &Window,
        progress: &Progress,
        tally: &mut Tally,
    ) -> bool {
        if self.is_done {
            return true;
        }
        let over = now >= window.until();
        let mut places = self.places.iter();
        let is_done = match self.plan.role {
            Role::Tail => {
                let producers = progress
                    .producers
                    .load(std::sync::atomic::Ordering::Relaxed);
                let all_read = places.all(|(index, place)| place.next >= progress.end(*index));
                over && producers == 0 && all_read
            }
            Role::CatchUp => self.is_at_end(),
            Role::Repeat if over => true,
            Role::Repeat => {
                if self.is_through() {
                    self.rewind();
                }
                false
            }
        };
        if is_done {
            self.leave(progress, tally);
        }
        is_done
    }

    fn rewind(&mut self) {
        self.following.rewind();
        for place in self.places.values_mut() {
            place.next = place.start;
            place.is_news = true;
        }
    }

    /// Ends, done or not; what the reader found out is counted.
    pub(super) fn leave(&mut self, progress: &Progress, tally: &mut Tally) {
        if std::mem::replace(&mut self.is_done, true) {
            return;
        }
        tally.missing += self.following.missing;
        tally.repeated += self.following.repeated;
        if self.plan.role == Role::CatchUp {
            let readers = &progress.catching_up;
            readers.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::fetches::{FETCH, reply_frame};
    use super::*;
    use crate::protocol::fetch::{FetchedPartition, FetchedTopic};
    use crate::record::BatchBuilder;

    const RECORDS: i64 = 10;

    #[derive(Default)]
    struct Asked(usize);

    impl Out for Asked {
        fn send(&mut self, _: &[u8], _: &[u8]) -> Result<(), String> {
            self.0 += 1;
            Ok(())
        }
    }

    fn reader(role: Role, partitions: i32) -> Consumer {
        let topic = StrBytes::from_static_str("read");
        let position = |index| (PartitionIndex(index), Offset(0), Offset(RECORDS));
        let plan = ConsumerPlan {
            address: String::new(),
            version: FETCH,
            positions: (0..partitions).map(position).collect(),
            role,
            partition_bytes_max: 1 << 20,
            answer_bytes_max: 1 << 20,
            bytes_min: 1,
            wait: Duration::from_millis(500),
            from_first: true,
        };
        Consumer::new(plan, &topic, 1)
    }

    /// An answer with all records of these partitions, as in a session if there are several.
    fn answer(partitions: i32, correlation_id: i32) -> Bytes {
        let mut batch = BatchBuilder::new(Codec::None);
        for _ in 0..RECORDS {
            batch.append(0, None, Some(b"no stamp"), &[]);
        }
        let batch = Bytes::from(batch.finish());
        let partition = |index| FetchedPartition {
            records_length: batch.len(),
            records: vec![batch.clone()],
            ..FetchedPartition::refused(PartitionIndex(index), ErrorCode::None)
        };
        let response = FetchResponse {
            session_id: if partitions > 1 { 7 } else { 0 },
            topics: vec![FetchedTopic {
                topic: TopicRef::Name(StrBytes::from_static_str("read")),
                partitions: (0..partitions).map(partition).collect(),
            }],
            ..FetchResponse::<Bytes>::default()
        };
        Bytes::from(reply_frame(response, correlation_id)).slice(4..)
    }

    #[test]
    fn who_has_read_everything_asks_for_nothing_until_it_begins_again() {
        for partitions in [1, 3] {
            let window = Window::new(0, 0, u64::MAX, false);
            let mut tally = Tally::new(window.clone(), mpsc::channel().0);
            let progress = Progress::new(partitions as usize, 0, 1);
            let (mut reader, mut asked) = (reader(Role::Repeat, partitions), Asked(0));
            for pass in 1..=3 {
                assert!(!reader.is_through(), "pass {pass} of {partitions}");
                reader.pump(&mut asked).expect("asks");
                assert_eq!(asked.0, pass, "{partitions} partitions");
                assert!(!reader.is_through(), "it waits");
                let frame = answer(partitions, pass as i32);
                let taken = reader.reply(1, &frame, &mut tally, &mut asked);
                taken.expect("an answer");
                assert_eq!(asked.0, pass, "a fetch behind the end would have to wait");
                assert!(reader.is_through(), "pass {pass} of {partitions}");
                assert!(!reader.settle(1, &window, &progress, &mut tally));
            }
            let records = 3 * partitions as u64 * RECORDS as u64;
            assert_eq!(tally.caught_up.records, records);
            assert_eq!(tally.damaged, records, "they have no stamps");
        }
    }

    #[test]
    fn who_reads_once_is_done_with_the_last_record() {
        let window = Window::new(0, 0, u64::MAX, true);
        let mut tally = Tally::new(window.clone(), mpsc::channel().0);
        let progress = Progress::new(1, 0, 1);
        let (mut reader, mut asked) = (reader(Role::CatchUp, 1), Asked(0));
        reader.pump(&mut asked).expect("asks");
        assert!(!reader.settle(1, &window, &progress, &mut tally));
        let taken = reader.reply(2, &answer(1, 1), &mut tally, &mut asked);
        taken.expect("an answer");
        assert!(reader.is_through());
        assert!(reader.settle(2, &window, &progress, &mut tally));
        assert!(!reader.is_through(), "it is done");
    }

    #[test]
    fn who_reads_the_tail_asks_on_at_the_end() {
        let window = Window::new(0, 0, u64::MAX, false);
        let mut tally = Tally::new(window, mpsc::channel().0);
        let (mut reader, mut asked) = (reader(Role::Tail, 1), Asked(0));
        reader.pump(&mut asked).expect("asks");
        let taken = reader.reply(1, &answer(1, 1), &mut tally, &mut asked);
        taken.expect("an answer");
        assert_eq!(asked.0, 2);
        assert!(!reader.is_through());
    }
}
