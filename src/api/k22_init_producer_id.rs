//! InitProducerId (key 22), versions 0 to 5.
//!
//! | version | what it added |
//! |---|---|
//! | 2 | flexible |
//! | 3 | the id and epoch that the producer has (KIP-360) |
//! | 4 | `PRODUCER_FENCED` may be answered |
//! | 5 | `TRANSACTION_ABORTABLE` may be answered |
//!
//! Without a transactional id every request gets a new id with epoch 0, also when it names the id it
//! has, as Kafka does (apache/kafka `TransactionCoordinator.handleInitProducerId`): an idempotent
//! producer bumps its epoch by itself, and a new id can never meet state of an old one. Ids are
//! unique for ever: they come from blocks that the metadata log hands out.
//!
//! Transactions are not served. A transactional id is refused with `UNSUPPORTED_VERSION` [35], which
//! clients report and do not try again; "not authorised" would send people after their ACLs.

use crate::net::{Outcome, Started};
use crate::protocol::messages::{self, InitProducerIdRequest, InitProducerIdResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};
use crate::shard::{Reply, Request};

use super::Api;
use super::connection::Connection;
use super::incoming::{Incoming, Refused};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::InitProducerId);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

fn start(
    service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: InitProducerIdRequest = incoming.decode()?;
    if let Some(error) = refusal(&request) {
        return incoming.now(&reply(Err(error)));
    }
    let host = service.host();
    let call = host.call(host.core(), Request::ProducerId);
    Ok(Started::Later(Box::pin(async move {
        let Ok(answer) = call.await else {
            return Outcome::Close;
        };
        match answer.reply {
            Reply::ProducerId(given) => incoming.reply(&reply(given)),
            other => panic!("a request for a producer id was answered with {other:?}"),
        }
    })))
}

fn refusal(request: &InitProducerIdRequest) -> Option<ErrorCode> {
    match &request.transactional_id {
        Some(id) if id.is_empty() => return Some(ErrorCode::InvalidRequest),
        Some(_) => return Some(ErrorCode::UnsupportedVersion),
        None => {}
    }
    // Both or neither: apache/kafka `KafkaApis.handleInitProducerIdRequest`.
    let half = (request.producer_id.0 == -1) != (request.producer_epoch == -1);
    half.then_some(ErrorCode::InvalidRequest)
}

fn reply(given: Result<crate::base::ProducerId, ErrorCode>) -> InitProducerIdResponse {
    let response = InitProducerIdResponse::default();
    match given {
        Ok(id) => response
            .with_producer_id(messages::ProducerId(id.0))
            .with_producer_epoch(0),
        Err(error) => response
            .with_error_code(error.code())
            .with_producer_id(messages::ProducerId(-1))
            .with_producer_epoch(-1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in_every_version;
    use crate::base::ProducerId;
    use crate::protocol::messages::{StrBytes, TransactionalId};

    fn request(id: i64, epoch: i16) -> InitProducerIdRequest {
        let id = messages::ProducerId(id);
        InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id(id)
            .with_producer_epoch(epoch)
    }

    #[test]
    fn transactional_producers_are_refused() {
        let name = TransactionalId(StrBytes::from_static_str("t"));
        let request = request(-1, -1).with_transactional_id(Some(name));
        assert_eq!(refusal(&request), Some(ErrorCode::UnsupportedVersion));
        let empty = request.with_transactional_id(Some(TransactionalId::default()));
        assert_eq!(refusal(&empty), Some(ErrorCode::InvalidRequest));
    }

    #[test]
    fn an_id_without_an_epoch_is_an_invalid_request() {
        assert_eq!(refusal(&request(-1, -1)), None);
        assert_eq!(refusal(&request(7, 3)), None);
        assert_eq!(refusal(&request(7, -1)), Some(ErrorCode::InvalidRequest));
        assert_eq!(refusal(&request(-1, 3)), Some(ErrorCode::InvalidRequest));
    }

    #[test]
    fn a_new_id_begins_with_epoch_0() {
        let given = reply(Ok(ProducerId(1000)));
        assert_eq!(
            (given.producer_id.0, given.producer_epoch, given.error_code),
            (1000, 0, 0)
        );
        let busy = reply(Err(ErrorCode::CoordinatorLoadInProgress));
        assert_eq!(
            (busy.producer_id.0, busy.producer_epoch, busy.error_code),
            (-1, -1, 14)
        );
        encodes_in_every_version(VERSIONS, &given);
    }
}
