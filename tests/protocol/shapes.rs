//! The version table and the shapes against the crate's ranges and decoders.

use bytes::Bytes;
use corelane::base::Prng;
use corelane::protocol::api::{ApiKey, ApiVersions, decodable_max, is_flexible};
use corelane::protocol::walk::walk;

use crate::apis;
use crate::sample;

#[test]
fn every_key_has_a_decoder_and_every_advertised_version_is_in_its_range() {
    let keys: Vec<ApiKey> = apis::all().iter().map(|api| api.key).collect();
    assert_eq!(keys, ApiKey::ALL);
    for api in apis::all() {
        let row = ApiVersions::of(api.key);
        let (min, max) = api.crate_range;
        assert_eq!(row.min, min, "{}", api.key);
        assert!(row.max <= decodable_max(api.key), "{}", api.key);
        // The crate overstates OffsetCommit, OffsetFetch and InitProducerId: their requests do not
        // decode in the last version that it names.
        assert!(decodable_max(api.key) <= max, "{}", api.key);
        assert!(
            row.advertised_min <= row.min && row.min <= row.max,
            "{}",
            api.key
        );
    }
}

#[test]
fn versions_outside_of_the_range_are_refused() {
    for api in apis::all() {
        for version in [
            -1,
            ApiVersions::of(api.key).min - 1,
            decodable_max(api.key) + 1,
            99,
        ] {
            assert!(
                (api.request.decode)(Bytes::new(), version).is_err(),
                "{} {version}",
                api.key
            );
        }
    }
}

/// A shape that differs from its decoder in one field, in one version, would let a body through
/// that was not walked, or refuse a good one.
#[test]
fn every_shape_is_its_decoders_in_every_version() {
    let mut random = Prng::new(1);
    for api in apis::all() {
        for version in ApiVersions::of(api.key).min..=decodable_max(api.key) {
            let flexible = is_flexible(api.key, version);
            for codec in [api.request, api.response] {
                for _ in 0..20 {
                    let what = format!("{} version {version}: {}", api.key, codec.shape);
                    let body = sample::body(&mut random, codec.shape, version, flexible);
                    let body = Bytes::from(body);
                    assert_eq!(
                        walk(&body, codec.shape, version, flexible),
                        Ok(body.len()),
                        "{what}"
                    );
                    let (left, written) = (codec.again)(body.clone(), version)
                        .unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(left, 0, "{what}");
                    assert_eq!(written, body, "{what}");
                    assert_eq!((codec.decode)(body, version), Ok(()), "{what}");
                }
            }
        }
    }
}
