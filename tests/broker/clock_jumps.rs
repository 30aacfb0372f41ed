//! The wall clock jumps by an hour, both ways, under a running broker: timeouts, sessions, waits and
//! everything that expires go on as if nothing had happened.
//!
//! The broker is a real process; a small library before its C library tells it another time of day.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use corelane::base::{ProducerEpoch, ProducerId, Sequence};
use corelane::protocol::messages::join_group_request::JoinGroupRequestProtocol;
use corelane::protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use corelane::protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use corelane::protocol::messages::*;
use corelane::record::{BatchBuilder, Codec};

use crate::support::client::{Client, FETCH, batch, fetch_request, named, text};
use crate::support::{Broker, directory, setting, until};

/// `clock_gettime` that adds what the first eight bytes of a file say, in seconds, to the time of day.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static volatile long long *shift;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int file = open(getenv("CORELANE_TEST_SHIFT"), O_RDONLY);
    if (file >= 0)
        shift = mmap(NULL, 8, PROT_READ, MAP_SHARED, file, 0);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = real(clock, time);
    if (clock == CLOCK_REALTIME && shift && shift != MAP_FAILED)
        time->tv_sec += *shift;
    return result;
}
"#;

fn shim(place: &Path) -> PathBuf {
    let (source, library) = (place.join("shim.c"), place.join("shim.so"));
    fs::write(&source, SHIM).expect("written");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(compiled.expect("a C compiler").success());
    library
}

fn jump_to(shift: &Path, seconds: i64) {
    use std::os::unix::fs::FileExt;
    // In place: the broker has the file mapped.
    let file = fs::File::options().write(true).open(shift).expect("there");
    file.write_all_at(&seconds.to_ne_bytes(), 0)
        .expect("written");
}

/// One record of an idempotent producer, stamped with this process's own time.
fn numbered(producer: (i64, i16), sequence: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None).producer(
        ProducerId(producer.0),
        ProducerEpoch(producer.1),
        Sequence(sequence),
    );
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("after 1970").as_millis() as i64;
    builder.append(now, None, Some(b"x"), &[]);
    builder.finish()
}

struct Member {
    id: String,
    generation: i32,
}

fn join(client: &mut Client) -> Member {
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        // Longer than a busy machine may hold things up, and far shorter than the jumps.
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let joined = client.call(3, &request);
    assert_eq!(joined.error_code, 0);
    let member = Member {
        id: joined.member_id.to_string(),
        generation: joined.generation_id,
    };
    let sync = SyncGroupRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id(member.generation)
        .with_member_id(text(&member.id));
    assert_eq!(client.call(3, &sync).error_code, 0);
    member
}

fn beat(client: &mut Client, member: &Member) -> i16 {
    let request = HeartbeatRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id(member.generation)
        .with_member_id(text(&member.id));
    client.call(3, &request).error_code
}

fn commit(client: &mut Client, member: &Member, offset: i64) -> i16 {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("t")))
        .with_partitions(vec![partition]);
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_member_id(text(&member.id))
        .with_generation_id_or_member_epoch(member.generation)
        .with_topics(vec![topic]);
    client.call(8, &request).topics[0].partitions[0].error_code
}

fn committed(client: &mut Client) -> i64 {
    let topic = OffsetFetchRequestTopics::default()
        .with_name(TopicName(text("t")))
        .with_partition_indexes(vec![0]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(Some(vec![topic]));
    let request = OffsetFetchRequest::default().with_groups(vec![group]);
    client.call(8, &request).groups[0].topics[0].partitions[0].committed_offset
}

#[test]
fn a_clock_that_jumps_by_an_hour_both_ways_ends_no_session_and_expires_nothing() {
    let rounds = setting("CORELANE_JUMPS", 4);
    let place = directory();
    let (library, shift) = (shim(place.path()), place.path().join("shift"));
    fs::write(&shift, 0_i64.to_ne_bytes()).expect("written");
    let environment = [
        ("LD_PRELOAD", library.display().to_string()),
        ("CORELANE_TEST_SHIFT", shift.display().to_string()),
    ];
    let often = [
        ("group.initial.rebalance.delay.ms", "0"),
        ("log.retention.check.interval.ms", "50"),
        ("producer.id.expiration.check.interval.ms", "50"),
        ("offsets.retention.check.interval.ms", "50"),
        ("log.cleaner.backoff.ms", "50"),
        // More than the jump: what expires before is early.
        ("producer.id.expiration.ms", "7800000"),
        ("offsets.retention.minutes", "130"),
    ];
    let broker = Broker::start_beside(&environment, &often);
    let mut client = broker.client();
    // A record's own time may lie an hour before or after the broker's.
    let configs = [
        ("retention.ms", "7800000"),
        ("message.timestamp.after.max.ms", "7800000"),
    ];
    client.create("t", 1, &configs);
    let request = FindCoordinatorRequest::default().with_key(text("g"));
    until("a coordinator", || client.call(3, &request).error_code == 0);
    let producer = client.producer_id();
    let member = join(&mut client);
    let mut next = 0;
    let mut longest = (Duration::MAX, Duration::ZERO);
    for round in 0..rounds {
        for shifted in [3600, 0, -3600, 0] {
            // A wait for records is under way when the clock jumps.
            let mut waiting = broker.client();
            let waited = thread::spawn(move || {
                let mut request = fetch_request(named("t"), 0, next, 1 << 20);
                request.max_wait_ms = 600;
                request.min_bytes = 1 << 20;
                let began = Instant::now();
                let response = waiting.fetch_with(FETCH, &request);
                assert_eq!(response.topics[0].partitions[0].error.code(), 0);
                began.elapsed()
            });
            thread::park_timeout(Duration::from_millis(100));
            jump_to(&shift, shifted);
            for _ in 0..6 {
                assert_eq!(beat(&mut client, &member), 0, "round {round}, {shifted} s");
                thread::park_timeout(Duration::from_millis(100));
            }
            let waited = waited.join().expect("the wait");
            longest = (longest.0.min(waited), longest.1.max(waited));
            // The producer is known, the member's generation holds, nothing is gone.
            let answer = client.produce("t", 0, numbered(producer, next as i32));
            assert_eq!((answer.error.code(), answer.base_offset.0), (0, next));
            if next > 0 {
                // The one before, once more: a producer that was forgotten could not know it.
                let again = client.produce("t", 0, numbered(producer, next as i32 - 1));
                assert_eq!((again.error.code(), again.base_offset.0), (0, next - 1));
            }
            next += 1;
            assert_eq!(commit(&mut client, &member, next), 0);
            assert_eq!(committed(&mut client), next);
            assert_eq!(client.read_all("t", 0).len() as i64, next);
        }
    }
    println!(
        "{} jumps of an hour: no session ended, 0 of {next} records expired early; waits of 600 ms took {:?} to {:?}",
        rounds * 4,
        longest.0,
        longest.1
    );
    assert!(longest.0 >= Duration::from_millis(550), "{longest:?}");
    assert!(longest.1 < Duration::from_secs(5), "{longest:?}");
    // It is the broker's clock that jumped: a topic with the broker's times shows it.
    client.create("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]);
    jump_to(&shift, 3600);
    let mut times = Vec::new();
    for shifted in [3600, -3600] {
        jump_to(&shift, shifted);
        client.produce("stamped", 0, batch(&[b"x"]));
        times.extend(
            client
                .read_all("stamped", 0)
                .last()
                .map(|record| record.timestamp),
        );
    }
    assert!(times[0] - times[1] > 7_000_000, "{times:?}");
}
