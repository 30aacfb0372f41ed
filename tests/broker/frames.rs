//! Hostile and unusual bytes on a socket. After each the broker still serves.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use corelane::base::{ProducerEpoch, ProducerId, Sequence};
use corelane::protocol::header::parse_response_header;
use corelane::protocol::messages::{self, *};
use corelane::protocol::produce::ProduceResponse;
use corelane::protocol::{ApiKey, ErrorCode};
use corelane::record::{BatchBuilder, Codec};

use crate::support::Broker;
use crate::support::client::{Client, PRODUCE, batch, fetch_request, named, produce_request, text};
use crate::support::wire::Wire;

/// A broker with the topic `t`, and proof that it serves.
struct Scene {
    broker: Broker,
    served: i64,
}

impl Scene {
    fn new() -> Scene {
        let broker = Broker::start();
        broker.client().create("t", 2, &[]);
        Scene { broker, served: 0 }
    }

    fn wire(&self) -> Wire {
        Wire::connect(self.broker.address())
    }

    /// A new connection produces to partition 0 and gets the offset that nobody else has taken.
    fn check_serves(&mut self, after: &str) {
        let answer = self
            .broker
            .client()
            .produce("t", 0, batch(&[b"still here"]));
        assert_eq!(answer.error, ErrorCode::None, "after {after}");
        assert_eq!(answer.base_offset.0, self.served, "after {after}");
        self.served += 1;
    }

    /// Sends bytes; the broker must close without an answer, and serve on.
    fn check_closes(&mut self, what: &str, bytes: &[u8]) {
        let mut wire = self.wire();
        let _ = wire.try_send(bytes);
        wire.expect_close(what);
        self.check_serves(what);
    }
}

/// A frame with a request header of version 1.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut frame = ((10 + body.len()) as i32).to_be_bytes().to_vec();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7_i32.to_be_bytes());
    frame.extend((-1_i16).to_be_bytes());
    frame.extend(body);
    frame
}

fn api_versions(number: i32) -> Bytes {
    let request = ApiVersionsRequest::default();
    messages::encode_request(0, number, &text("test"), &request).expect("a request")
}

#[test]
fn frames_of_two_gib_or_less_than_nothing_are_closed_before_a_byte_is_allocated() {
    let mut scene = Scene::new();
    let before = scene.broker.resident_kib();
    for size in [i32::MAX, -1, i32::MIN, 104_857_601] {
        scene.check_closes(&format!("a frame of {size}"), &size.to_be_bytes());
    }
    // A size that is allowed, of which nothing comes, costs nothing either.
    let mut idle: Vec<Wire> = (0..20).map(|_| scene.wire()).collect();
    idle.iter_mut()
        .for_each(|wire| wire.send(&104_857_600_i32.to_be_bytes()));
    scene.check_serves("20 announcements of 100 MiB");
    let grown = scene.broker.resident_kib().saturating_sub(before);
    println!("resident memory grew by {grown} KiB");
    assert!(grown < 256 << 10, "{grown} KiB");
}

#[test]
fn a_request_byte_by_byte_is_answered_like_a_whole_one() {
    let mut scene = Scene::new();
    let request = produce_request(named("t"), 1, Some(batch(&[b"slow"]).into()), -1);
    let mut wire = scene.wire();
    for byte in request.frame(PRODUCE, 5, &text("test")) {
        wire.send(&[byte]);
    }
    let body = wire.receive();
    let (number, body) = parse_response_header(&body, ApiKey::Produce, PRODUCE).expect("a header");
    let response = ProduceResponse::decode(&body, PRODUCE).expect("a response");
    assert_eq!(number, 5);
    assert_eq!(response.topics[0].partitions[0].error, ErrorCode::None);
    scene.check_serves("a slow request");
}

#[test]
fn half_a_frame_and_then_silence_holds_nobody_up() {
    let mut scene = Scene::new();
    let whole = api_versions(1);
    let mut halves: Vec<Wire> = (0..50).map(|_| scene.wire()).collect();
    for wire in &mut halves {
        wire.send(&whole[..whole.len() / 2]);
    }
    scene.check_serves("50 halves");
    for wire in &mut halves {
        wire.send(&whole[whole.len() / 2..]);
    }
    for wire in &mut halves {
        assert_eq!(wire.receive()[..4], 1_i32.to_be_bytes());
    }
    scene.check_serves("50 second halves");
}

#[test]
fn pipelined_requests_are_answered_in_order_whatever_they_wait_for() {
    let scene = Scene::new();
    let mut wire = scene.wire();
    let mut bytes = Vec::new();
    for number in (0..60).step_by(3) {
        let partition = number % 2;
        let produce = produce_request(named("t"), partition, Some(batch(&[b"x"]).into()), -1);
        bytes.extend(produce.frame(PRODUCE, number, &text("test")));
        bytes.extend(api_versions(number + 1));
        let mut fetch = fetch_request(named("t"), 1 - partition, 0, 1 << 20);
        (fetch.max_wait_ms, fetch.min_bytes) = (5, 1 << 20);
        bytes.extend(fetch.frame(12, number + 2, &text("test")));
    }
    wire.send(&bytes);
    for number in 0..60_i32 {
        assert_eq!(wire.receive()[..4], number.to_be_bytes(), "out of order");
    }
}

#[test]
fn a_burst_is_answered_in_order_and_whole_while_the_connection_moves_to_its_partition() {
    let scene = Scene::new();
    for partition in 0..2 {
        let mut wire = scene.wire();
        let mut bytes = Vec::new();
        for number in 0..300 {
            let records = Some(batch(&[&[7; 300]]).into());
            let request = produce_request(named("t"), partition, records, -1);
            bytes.extend(request.frame(PRODUCE, number, &text("test")));
        }
        wire.send(&bytes);
        // What was asked before the client stopped sending is answered.
        wire.finish();
        for number in 0..300_i32 {
            let frame = wire.receive();
            let (answered, body) =
                parse_response_header(&frame, ApiKey::Produce, PRODUCE).expect("a header");
            let response = ProduceResponse::decode(&body, PRODUCE).expect("a response");
            let answer = &response.topics[0].partitions[0];
            assert_eq!(answered, number);
            assert_eq!(
                (answer.error, answer.base_offset.0),
                (ErrorCode::None, number.into())
            );
        }
        wire.expect_close("a client that has finished");
    }
}

#[test]
fn clients_that_ask_and_never_read_cost_bounded_memory_and_hold_nobody_up() {
    let mut scene = Scene::new();
    let mut client = scene.broker.client();
    for _ in 0..4 {
        assert_eq!(
            client.produce("t", 1, batch(&[&vec![7; 900 << 10]])).error,
            ErrorCode::None
        );
    }
    let before = scene.broker.resident_kib();
    let mut deaf: Vec<Wire> = (0..20).map(|_| scene.wire()).collect();
    for wire in &mut deaf {
        let request = fetch_request(named("t"), 1, 0, i32::MAX).frame(12, 1, &text("test"));
        wire.send(&request.repeat(200));
    }
    scene.check_serves("the deaf");
    // 20 x 200 x 3.6 MiB were asked for.
    let grown = scene.broker.resident_kib().saturating_sub(before);
    println!("resident memory grew by {grown} KiB");
    assert!(grown < 256 << 10, "{grown} KiB");
    drop(deaf);
    scene.check_serves("the deaf have gone");
}

#[test]
fn unknown_keys_and_versions_are_closed_but_for_api_versions() {
    let mut scene = Scene::new();
    for key in [-1, 4, 93, 1000, i16::MAX] {
        scene.check_closes(&format!("key {key}"), &frame(key, 0, &[0; 20]));
    }
    for (key, version) in [(0, 2), (0, 99), (1, 3), (3, -1), (3, 99), (19, 1), (22, 99)] {
        scene.check_closes(
            &format!("key {key} version {version}"),
            &frame(key, version, &[0; 40]),
        );
    }
    let mut wire = scene.wire();
    wire.send(&frame(18, 99, &[0; 5]));
    let (number, body) =
        parse_response_header(&wire.receive(), ApiKey::ApiVersions, 0).expect("a header");
    let response = messages::decode_response::<ApiVersionsRequest>(body, 0).expect("version 0");
    assert_eq!((number, response.error_code), (7, 35));
    let own = response
        .api_keys
        .iter()
        .find(|api| api.api_key == 18)
        .expect("ApiVersions");
    assert!(own.max_version >= 3);
    // The client tries again on the same connection.
    wire.send(&api_versions(8));
    assert_eq!(wire.receive()[..4], 8_i32.to_be_bytes());
    scene.check_serves("unknown versions");
}

#[test]
fn what_is_advertised_is_served_and_nothing_else() {
    let scene = Scene::new();
    let response = scene.broker.client().call(
        3,
        &ApiVersionsRequest::default()
            .with_client_software_name(text("test"))
            .with_client_software_version(text("1")),
    );
    assert_eq!(response.error_code, 0);
    assert!(response.api_keys.len() > 10);
    for key in 0..100_i16 {
        let served = response.api_keys.iter().find(|api| api.api_key == key);
        let beyond = served.map_or(0, |api| api.max_version + 1);
        if key == 18 {
            continue;
        }
        let mut wire = scene.wire();
        let _ = wire.try_send(&frame(key, beyond, &[0; 64]));
        wire.expect_close(&format!("key {key} version {beyond}"));
    }
}

#[test]
fn garbage_after_a_good_request_closes_after_its_answer() {
    let mut scene = Scene::new();
    let mut wire = scene.wire();
    let mut bytes = api_versions(1).to_vec();
    bytes.extend([0xff; 64]);
    wire.send(&bytes);
    assert_eq!(wire.receive()[..4], 1_i32.to_be_bytes());
    wire.expect_close("garbage");
    scene.check_serves("garbage");
}

#[test]
fn a_client_that_leaves_without_reading_its_answers_harms_nobody() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        let mut wire = scene.wire();
        for number in 0..20 {
            let request = produce_request(named("t"), 1, Some(batch(&[&[7; 1000]]).into()), -1);
            wire.send(&request.frame(PRODUCE, number, &text("test")));
        }
        drop(wire);
    }
    scene.check_serves("20 who left");
}

#[test]
fn counts_beyond_the_frame_are_refused_before_memory_is_taken() {
    let mut scene = Scene::new();
    let before = scene.broker.resident_kib();
    let huge = i32::MAX.to_be_bytes();
    let cases: [(&str, i16, i16, Vec<u8>); 4] = [
        (
            "topics of Produce",
            0,
            3,
            [&[0xff, 0xff, 0, 1, 0, 0, 0, 1][..], &huge].concat(),
        ),
        (
            "topics of Fetch",
            1,
            4,
            [&[0xff; 4][..], &[0; 8], &huge, &[0], &huge].concat(),
        ),
        ("topics of Metadata", 3, 1, huge.to_vec()),
        ("topics of CreateTopics", 19, 2, huge.to_vec()),
    ];
    for (what, key, version, body) in &cases {
        scene.check_closes(what, &frame(*key, *version, body));
    }
    let grown = scene.broker.resident_kib().saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
}

fn bomb() -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::Gzip).level(9);
    for _ in 0..200 {
        builder.append(1, None, Some(&vec![0; 1 << 20]), &[]);
    }
    builder.finish()
}

/// Sends records as they are and gives the code of the answer.
fn answer(client: &mut Client, records: Option<Bytes>) -> ErrorCode {
    let request = produce_request(named("t"), 1, records, -1);
    client.produce_with(PRODUCE, &request).topics[0].partitions[0].error
}

#[test]
fn bad_batches_are_refused_with_their_code_and_the_connection_lives_on() {
    let mut scene = Scene::new();
    let mut client = scene.broker.client();
    let good = batch(&[b"one", b"two"]);
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        Some(Bytes::from(bytes))
    };
    let last = good.len() - 1;
    let cases = [
        ("a bad CRC", changed(last, 0x55), ErrorCode::CorruptMessage),
        (
            "a bad stored CRC",
            changed(17, good[17] ^ 1),
            ErrorCode::CorruptMessage,
        ),
        (
            "a cut batch",
            Some(Bytes::from(good[..last].to_vec())),
            ErrorCode::InvalidRecord,
        ),
        ("nothing", Some(Bytes::new()), ErrorCode::InvalidRecord),
        ("null", None, ErrorCode::InvalidRecord),
        (
            "two batches",
            Some([good.clone(), good.clone()].concat().into()),
            ErrorCode::InvalidRecord,
        ),
    ];
    for (what, records, code) in cases {
        assert_eq!(answer(&mut client, records), code, "{what}");
    }
    assert_eq!(answer(&mut client, Some(good.into())), ErrorCode::None);
    assert_eq!(
        client.read_all("t", 1).len(),
        2,
        "only the good batch is there"
    );
    scene.check_serves("bad batches");
}

#[test]
fn a_decompression_bomb_is_refused_and_memory_stays_bounded() {
    let mut scene = Scene::new();
    let bomb = bomb();
    println!("{} bytes of a bomb of 200 MiB", bomb.len());
    let mut client = scene.broker.client();
    let mut after = |bombs: usize| {
        for _ in 0..bombs {
            let code = answer(&mut client, Some(bomb.clone().into()));
            assert_ne!(code, ErrorCode::None);
        }
        scene.broker.resident_kib()
    };
    let (before, few, more) = (after(0), after(2), after(8));
    println!("resident memory: {before} KiB, after 2 bombs {few}, after 10 {more}");
    assert!(few < before + (512 << 10), "{before} {few}");
    assert!(more < few + (64 << 10), "{few} {more}: it adds up");
    scene.check_serves("bombs");
}

#[test]
fn acks_decide_about_the_answer() {
    let mut scene = Scene::new();
    let mut client = scene.broker.client();
    let request = |acks| produce_request(named("t"), 1, Some(batch(&[b"x"]).into()), acks);
    // Nothing is answered to acks=0: the next answer is that to the next request.
    client.send_produce(PRODUCE, &request(0)).expect("sent");
    let one = client.produce_with(PRODUCE, &request(1));
    assert_eq!(one.topics[0].partitions[0].base_offset.0, 1);
    for acks in [7, -2, i16::MAX] {
        let refused = client.produce_with(PRODUCE, &request(acks));
        let partition = &refused.topics[0].partitions[0];
        assert_eq!(
            partition.error,
            ErrorCode::InvalidRequiredAcks,
            "acks={acks}"
        );
        assert_eq!(partition.base_offset.0, -1);
    }
    assert_eq!(client.read_all("t", 1).len(), 2);
    // With acks=0 an error closes the connection: the client has no other way to learn of it.
    let unknown = produce_request(named("nowhere"), 0, Some(batch(&[b"x"]).into()), 0);
    client.send_produce(PRODUCE, &unknown).expect("sent");
    client.wire.expect_close("an error at acks=0");
    scene.check_serves("acks");
}

#[test]
fn batches_up_to_the_limit_pass_and_larger_ones_are_refused() {
    let mut scene = Scene::new();
    let mut client = scene.broker.client();
    let large = vec![7; 900 << 10];
    let answer = client.produce("t", 1, batch(&[&large]));
    assert_eq!(answer.error, ErrorCode::None);
    let refused = client.produce("t", 1, batch(&[&vec![7; 1_048_588]]));
    assert_eq!(refused.error, ErrorCode::MessageTooLarge);
    assert_eq!(
        client.read_all("t", 1)[0].value.as_deref(),
        Some(&large[..])
    );
    scene.check_serves("large batches");
}

#[test]
fn unknown_topics_and_partitions_and_foreign_producers_get_their_codes() {
    let mut scene = Scene::new();
    let mut client = scene.broker.client();
    for (topic, partition) in [
        ("nowhere", 0),
        ("t", 2),
        ("t", -1),
        ("t", i32::MAX),
        ("", 0),
    ] {
        let answer = client.produce(topic, partition, batch(&[b"x"]));
        assert_eq!(
            answer.error,
            ErrorCode::UnknownTopicOrPartition,
            "{topic:?}-{partition}"
        );
    }
    let by_id = produce_request(
        corelane::protocol::TopicRef::Id(corelane::base::TopicId([9; 16])),
        0,
        Some(batch(&[b"x"]).into()),
        -1,
    );
    let answer = client.produce_with(13, &by_id);
    assert_eq!(
        answer.topics[0].partitions[0].error,
        ErrorCode::UnknownTopicId
    );
    // Control batches are the broker's own.
    let mut control = BatchBuilder::new(Codec::None).control(true).producer(
        ProducerId(1),
        ProducerEpoch(0),
        Sequence(-1),
    );
    control.append(1, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[]);
    let answer = client.produce("t", 1, control.finish());
    assert_ne!(answer.error, ErrorCode::None);
    assert!(client.read_all("t", 1).is_empty());
    scene.check_serves("unknown topics");
}

#[test]
fn every_api_survives_empty_and_random_bodies_in_every_version() {
    let mut scene = Scene::new();
    let mut random = corelane::base::Prng::new(13);
    for key in 0..76_i16 {
        for version in 0..20_i16 {
            let mut body = vec![0; random.below(200) as usize];
            if random.one_in(2) {
                random.fill(&mut body);
            }
            let mut wire = scene.wire();
            let _ = wire.try_send(&frame(key, version, &body));
            wire.finish();
            while wire.try_receive().is_some() {}
        }
    }
    let _ = std::io::stdout().flush();
    scene.check_serves("random bodies");
    let mut wire = scene.wire();
    wire.send(&api_versions(3));
    assert!(!wire.is_silent(Duration::from_secs(10)));
}
