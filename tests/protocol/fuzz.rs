//! Hostile bytes: no panic, and no more memory than the limit for a body of that size.

use bytes::Bytes;
use corelane::base::Prng;
use corelane::protocol::api::{ApiVersions, decodable_max, is_flexible};
use corelane::protocol::fetch::{FetchRequest, FetchResponse};
use corelane::protocol::produce::{ProduceRequest, ProduceResponse};
use corelane::protocol::reader::memory_limit;
use corelane::protocol::{ApiKey, Malformed, RequestHeader, shapes::shapes};

use crate::apis;
use crate::memory;
use crate::sample;

/// Beside a body's elements: the error with its text, and a backtrace where one is asked for.
const ERROR_BYTES: usize = 64 << 10;

fn inputs() -> u64 {
    let inputs = std::env::var("CORELANE_FUZZ_INPUTS").ok();
    inputs.map_or(60, |text| {
        text.parse().expect("CORELANE_FUZZ_INPUTS is a number")
    })
}

/// A hostile body: noise, or a good one that was damaged.
fn hostile(random: &mut Prng, shape: &str, version: i16, flexible: bool) -> Bytes {
    if random.one_in(4) {
        return Bytes::from(sample::noise(random));
    }
    let mut body = sample::body(random, shape, version, flexible);
    sample::damage(random, &mut body);
    Bytes::from(body)
}

/// Runs `decode` on `body` and holds its memory against the limit.
fn check<T>(what: &str, body: &Bytes, decode: impl FnOnce() -> T) {
    let (_, peak) = memory::peak(decode);
    let limit = memory_limit(body.len()) + ERROR_BYTES;
    assert!(
        peak <= limit,
        "{what}: {peak} bytes of memory for {} of {body:?}",
        body.len()
    );
}

#[test]
fn no_body_makes_a_decoder_panic_or_take_more_than_its_memory() {
    for api in apis::all() {
        for version in ApiVersions::of(api.key).min..=decodable_max(api.key) {
            let mut random = Prng::new(((api.key.code() as u64) << 16) | version as u64);
            let flexible = is_flexible(api.key, version);
            for _ in 0..inputs() {
                for codec in [api.request, api.response] {
                    let body = hostile(&mut random, codec.shape, version, flexible);
                    let what = format!("{} version {version}", api.key);
                    check(&what, &body, || (codec.decode)(body.clone(), version));
                }
            }
        }
    }
}

/// Good bodies, but of nothing but the smallest elements: they are decoded within the limit or
/// refused for it, never decoded beyond it.
#[test]
fn bodies_of_many_small_elements_stay_within_the_memory_limit() {
    let mut refused = 0;
    for api in apis::all() {
        let version = decodable_max(api.key);
        let flexible = is_flexible(api.key, version);
        for (codec, depth, unknown) in [api.request, api.response]
            .into_iter()
            .flat_map(|codec| (1..=3).map(move |depth| (codec, depth)))
            .flat_map(|(codec, depth)| [(codec, depth, false), (codec, depth, true)])
        {
            let body = Bytes::from(sample::dense(
                codec.shape,
                version,
                flexible,
                depth,
                unknown,
            ));
            let (result, peak) = memory::peak(|| (codec.decode)(body.clone(), version));
            let what = format!("{} version {version} depth {depth} {unknown}", api.key);
            let limit = memory_limit(body.len()) + ERROR_BYTES;
            assert!(
                peak <= limit,
                "{what}: {peak} bytes of memory for {}",
                body.len()
            );
            match result {
                Ok(()) => {}
                Err(Malformed::TooManyElements { .. }) => refused += 1,
                Err(other) => panic!("{what}: {other}"),
            }
        }
    }
    assert!(refused > 0, "nothing was large enough");
}

#[test]
fn no_body_makes_our_own_codecs_panic_or_take_more_than_their_memory() {
    for (key, versions) in [(ApiKey::Produce, 3..=13), (ApiKey::Fetch, 4..=18)] {
        let shapes = shapes(key.code()).unwrap();
        for version in versions {
            let mut random = Prng::new(version as u64);
            let flexible = is_flexible(key, version);
            for _ in 0..inputs() * 10 {
                let what = format!("{key} version {version}");
                let body = hostile(&mut random, shapes.request, version, flexible);
                check(&what, &body, || match key {
                    ApiKey::Produce => ProduceRequest::decode(&body, version).map(drop),
                    _ => FetchRequest::decode(&body, version).map(drop),
                });
                let body = hostile(&mut random, shapes.response, version, flexible);
                check(&what, &body, || match key {
                    ApiKey::Produce => ProduceResponse::decode(&body, version).map(drop),
                    _ => FetchResponse::decode(&body, version).map(drop),
                });
            }
        }
    }
}

/// The other way round they differ: a tag that a version does not have yet is skipped by ours.
#[test]
fn our_own_codecs_refuse_no_body_that_the_crate_accepts() {
    for api in apis::all().iter().take(2) {
        for version in ApiVersions::of(api.key).min..=decodable_max(api.key) {
            let mut random = Prng::new(1000 + version as u64);
            let flexible = is_flexible(api.key, version);
            for _ in 0..inputs() * 5 {
                let body = hostile(&mut random, api.request.shape, version, flexible);
                let ours = match api.key {
                    ApiKey::Produce => ProduceRequest::decode(&body, version).map(drop),
                    _ => FetchRequest::decode(&body, version).map(drop),
                };
                let theirs = (api.request.decode)(body.clone(), version);
                let what = format!("{} version {version}: {ours:?} for {body:?}", api.key);
                assert!(ours.is_ok() || theirs.is_err(), "{what}");
            }
        }
    }
}

#[test]
fn no_frame_makes_the_header_panic() {
    let mut random = Prng::new(3);
    for _ in 0..inputs() * 100 {
        let mut frame = vec![
            0,
            random.below(93) as u8,
            0,
            random.below(20) as u8,
            0,
            0,
            0,
            1,
            0,
            2,
        ];
        frame.extend(sample::noise(&mut random));
        if random.one_in(2) {
            sample::damage(&mut random, &mut frame);
        }
        let frame = Bytes::from(frame);
        check("a header", &frame, || RequestHeader::parse(&frame));
    }
}
