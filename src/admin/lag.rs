//! Lag: what groups have committed, held against where partitions end. Two rounds of questions,
//! since a group's coordinator and its partitions live on different cores.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::group::overview::CommittedRow;
use crate::shard::{Committed, LogEnds};

use super::Groups;
use super::asker::Asker;

/// Where partitions end, by topic and number; those that nobody has are missing.
pub(super) type Ends = BTreeMap<(String, i32), LogEnds>;

/// What is shown of the lag of all groups.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// The lag in records, by group, topic and partition.
    pub(super) rows: Vec<(CommittedRow, u64)>,
    /// Committed offsets whose lag is not shown: beyond the limit, or of partitions that are gone
    /// or whose core did not answer.
    pub(super) left_out: u64,
}

/// Asks for lag, together and not too often.
pub(super) struct LagGatherer {
    committed: Asker<Committed>,
    ends: EndsAsker,
    age_max: Duration,
    last: Mutex<Option<(Instant, Arc<Lag>)>>,
}

/// Asks where partitions end.
pub(super) struct EndsAsker(Asker<Vec<Option<LogEnds>>>);

impl EndsAsker {
    pub(super) fn new(cores: u16, answer_wait_max: Duration) -> EndsAsker {
        EndsAsker(Asker::new(cores, answer_wait_max))
    }

    /// Where these partitions end.
    pub(super) async fn ends(&self, groups: &Groups, partitions: Vec<(String, i32)>) -> Ends {
        if partitions.is_empty() {
            return Ends::new();
        }
        let partitions = Arc::new(partitions);
        let ask = |core, answer| (groups.log_ends)(core, partitions.clone(), answer);
        let answers = self.0.ask(ask).await;
        let mut ends = Ends::new();
        for answer in answers.into_iter().flatten() {
            for (partition, found) in partitions.iter().zip(answer) {
                if let Some(found) = found {
                    ends.insert(partition.clone(), found);
                }
            }
        }
        ends
    }
}

impl LagGatherer {
    /// Waits `answer_wait_max` for each of the two rounds, and shows lag younger than `age_max`
    /// again.
    pub(super) fn new(cores: u16, answer_wait_max: Duration, age_max: Duration) -> LagGatherer {
        LagGatherer {
            committed: Asker::new(cores, answer_wait_max),
            ends: EndsAsker::new(cores, answer_wait_max),
            age_max,
            last: Mutex::new(None),
        }
    }

    /// The lag of all groups, as much as `corelane.metrics.lag.series.max` allows.
    pub(super) async fn gather(&self, groups: &Groups) -> Arc<Lag> {
        let mut last = self.last.lock().await;
        if let Some((at, lag)) = &*last
            && at.elapsed() < self.age_max
        {
            return lag.clone();
        }
        let answers = self.committed.ask(&groups.committed).await;
        let (rows, count) = first_rows(answers.into_iter().flatten());
        let partitions: BTreeSet<_> = rows.iter().map(place).collect();
        let ends = self
            .ends
            .ends(groups, partitions.into_iter().collect())
            .await;
        let lag = Arc::new(held_against(rows, count, &ends));
        *last = Some((Instant::now(), lag.clone()));
        lag
    }
}

fn place(row: &CommittedRow) -> (String, i32) {
    (row.topic.clone(), row.partition)
}

/// The first rows of all cores together, and how many there are in all.
fn first_rows(answers: impl Iterator<Item = Committed>) -> (Vec<CommittedRow>, usize) {
    let (mut rows, mut count, mut limit) = (Vec::new(), 0, 0);
    for answer in answers {
        rows.extend(answer.rows);
        count += answer.count;
        limit = limit.max(answer.limit);
    }
    let key = |row: &CommittedRow| (row.group.clone(), row.topic.clone(), row.partition);
    rows.sort_by_cached_key(key);
    rows.truncate(limit);
    (rows, count)
}

fn held_against(rows: Vec<CommittedRow>, count: usize, ends: &Ends) -> Lag {
    let rows: Vec<_> = rows
        .into_iter()
        .filter_map(|row| {
            let ends = ends.get(&place(&row))?;
            let lag = lag(ends.end.0, row.offset);
            Some((row, lag))
        })
        .collect();
    let left_out = count.saturating_sub(rows.len()) as u64;
    Lag { rows, left_out }
}

/// How many records are left to read; none is less than none: an offset committed beyond the end
/// is no lag.
pub(super) fn lag(end: i64, committed: i64) -> u64 {
    u64::try_from(end.saturating_sub(committed)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Offset;

    fn row(group: &str, partition: i32, offset: i64) -> CommittedRow {
        CommittedRow {
            group: group.to_owned(),
            topic: "t".to_owned(),
            partition,
            offset,
        }
    }

    #[test]
    fn the_first_rows_of_all_cores_are_shown_and_the_others_counted() {
        let core = |rows: Vec<CommittedRow>| Committed {
            count: rows.len() + 1,
            rows,
            limit: 2,
        };
        let cores = [
            core(vec![row("b", 0, 5), row("c", 0, 5)]),
            core(vec![row("a", 1, 90)]),
        ];
        let (rows, count) = first_rows(cores.into_iter());
        let ends = [(("t".to_owned(), 0), 12), (("t".to_owned(), 1), 50)];
        let ends = ends.into_iter().map(|(place, end)| {
            let (start, end) = (Offset(0), Offset(end));
            (place, LogEnds { start, end })
        });
        let lag = held_against(rows, count, &ends.collect());
        let shown: Vec<_> = lag
            .rows
            .iter()
            .map(|(row, lag)| (&*row.group, *lag))
            .collect();
        assert_eq!(shown, [("a", 0), ("b", 7)]);
        assert_eq!(lag.left_out, 3);
    }

    #[test]
    fn a_partition_that_nobody_has_is_left_out() {
        let lag = held_against(vec![row("a", 0, 1)], 1, &Ends::new());
        assert_eq!((lag.rows.len(), lag.left_out), (0, 1));
    }
}
