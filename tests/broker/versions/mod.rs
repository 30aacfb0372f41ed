//! Every API in every version that the broker advertises, against another implementation of the
//! protocol: a request built with `kafka-protocol` gets a reply that `kafka-protocol` decodes to its
//! last byte and encodes to the same bytes again. The requests are about things that are there, so
//! that the fields that matter are filled; what is not answered by an error is checked as well.

mod admin;
mod groups;
mod records;
mod topics;

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Request, StrBytes};

use crate::support::Broker;
use crate::support::wire::Wire;

/// A connection, and what was asked over it so far.
struct Sweep {
    wire: Wire,
    correlation_id: i32,
    /// Lowest and highest version by key, as advertised.
    advertised: BTreeMap<i16, (i16, i16)>,
    asked: BTreeSet<(i16, i16)>,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

impl Sweep {
    fn new(broker: &Broker) -> Sweep {
        let mut sweep = Sweep {
            wire: Wire::connect(broker.address()),
            correlation_id: 0,
            advertised: BTreeMap::new(),
            asked: BTreeSet::new(),
        };
        for version in 0..=4 {
            let mut request = ApiVersionsRequest::default();
            if version >= 3 {
                request.client_software_name = text("sweep");
                request.client_software_version = text("1.0");
            }
            let response = sweep.ask(version, &request);
            assert_eq!(response.error_code, 0);
            assert_eq!(!response.supported_features.is_empty(), version >= 3);
            let rows = response.api_keys.iter();
            let rows = rows.map(|row| (row.api_key, (row.min_version, row.max_version)));
            sweep.advertised = rows.collect();
        }
        sweep
    }

    /// The versions of an API that are advertised.
    fn versions<T: Request>(&self) -> std::ops::RangeInclusive<i16> {
        let (min, max) = self.advertised[&T::KEY];
        min..=max
    }

    /// Sends the request that `make` builds for each advertised version.
    fn each<T: Request>(&mut self, make: impl Fn(i16) -> T, check: impl Fn(i16, T::Response)) {
        for version in self.versions::<T>() {
            let response = self.ask(version, &make(version));
            check(version, response);
        }
    }

    /// Sends a request and takes its reply to pieces.
    fn ask<T: Request>(&mut self, version: i16, request: &T) -> T::Response {
        self.correlation_id += 1;
        self.asked.insert((T::KEY, version));
        let key = ApiKey::try_from(T::KEY).expect("a known key");
        let what = format!("{key:?} {version}");
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let header = RequestHeader::default()
            .with_request_api_key(T::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(text("sweep")));
        let header_version = key.request_header_version(version);
        header.encode(&mut frame, header_version).expect("a header");
        let encoded = request.encode(&mut frame, version);
        encoded.unwrap_or_else(|why| panic!("{what}: {why}"));
        let size = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&size.to_be_bytes());
        self.wire.send(&frame);

        let reply = self.wire.try_receive();
        let mut reply: Bytes = reply.unwrap_or_else(|| panic!("{what}: closed"));
        let header = ResponseHeader::decode(&mut reply, key.response_header_version(version));
        let header = header.unwrap_or_else(|why| panic!("{what}: {why}"));
        assert_eq!(header.correlation_id, self.correlation_id, "{what}");
        let body = reply.clone();
        let response = T::Response::decode(&mut reply, version);
        let response = response.unwrap_or_else(|why| panic!("{what}: {why}: {body:?}"));
        assert!(reply.is_empty(), "{what}: bytes are left: {body:?}");
        let mut again = BytesMut::new();
        let encoded = response.encode(&mut again, version);
        encoded.unwrap_or_else(|why| panic!("{what}: {why}: {body:?}"));
        assert_eq!(again.freeze(), body, "{what}");
        response
    }
}

#[test]
fn every_reply_in_every_version_is_what_another_implementation_would_write() {
    let broker = Broker::start_with(&[("group.initial.rebalance.delay.ms", "0")]);
    let mut sweep = Sweep::new(&broker);
    let id = topics::sweep(&mut sweep);
    records::sweep(&mut sweep, id);
    groups::sweep(&mut sweep, id);
    admin::sweep(&mut sweep);
    topics::sweep_deletions(&mut sweep);

    let advertised = sweep.advertised.iter();
    let all = advertised.flat_map(|(key, (min, max))| (*min..=*max).map(|at| (*key, at)));
    // Kafka advertises Produce 0 to 2 and does not serve them (KAFKA-18659).
    let all: BTreeSet<_> = all.filter(|(key, at)| *key != 0 || *at > 2).collect();
    let missing: Vec<_> = all.difference(&sweep.asked).collect();
    assert!(missing.is_empty(), "not asked: {missing:?}");
}
