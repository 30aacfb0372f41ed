//! CreateAcls (key 30), versions 1 to 3; 2 is flexible, 3 knows users as resources.
//!
//! There is no authoriser: each creation is answered with `SECURITY_DISABLED` [54]; success without
//! storing anything would be a lie. Truth: apache/kafka `AclApis.handleCreateAcls`.

use crate::net::Started;
use crate::protocol::messages::create_acls_response::AclCreationResult;
use crate::protocol::messages::{CreateAclsRequest, CreateAclsResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::Api;
use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::k29_describe_acls::NO_AUTHORIZER;
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::CreateAcls);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

fn start(
    _service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let request: CreateAclsRequest = incoming.decode()?;
    incoming.now(&reply(request.creations.len()))
}

fn reply(creations: usize) -> CreateAclsResponse {
    let refused = AclCreationResult::default()
        .with_error_code(ErrorCode::SecurityDisabled.code())
        .with_error_message(Some(text(NO_AUTHORIZER)));
    CreateAclsResponse::default().with_results(vec![refused; creations])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in_every_version;

    #[test]
    fn each_creation_is_refused() {
        let codes: Vec<i16> = reply(2)
            .results
            .iter()
            .map(|result| result.error_code)
            .collect();
        assert_eq!(codes, [54, 54]);
        encodes_in_every_version(VERSIONS, &reply(2));
    }
}
