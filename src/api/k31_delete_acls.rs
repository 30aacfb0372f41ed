//! DeleteAcls (key 31), versions 1 to 3; 2 is flexible, 3 knows users as resources.
//!
//! There is no authoriser: each filter is answered with `SECURITY_DISABLED` [54]. Truth:
//! apache/kafka `AclApis.handleDeleteAcls`.

use crate::net::Started;
use crate::protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use crate::protocol::messages::{DeleteAclsRequest, DeleteAclsResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::Api;
use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::k29_describe_acls::NO_AUTHORIZER;
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DeleteAcls);

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
    let request: DeleteAclsRequest = incoming.decode()?;
    incoming.now(&reply(request.filters.len()))
}

fn reply(filters: usize) -> DeleteAclsResponse {
    let refused = DeleteAclsFilterResult::default()
        .with_error_code(ErrorCode::SecurityDisabled.code())
        .with_error_message(Some(text(NO_AUTHORIZER)));
    DeleteAclsResponse::default().with_filter_results(vec![refused; filters])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in_every_version;

    #[test]
    fn each_filter_is_refused() {
        let response = reply(2);
        let codes: Vec<i16> = response
            .filter_results
            .iter()
            .map(|result| result.error_code)
            .collect();
        assert_eq!(codes, [54, 54]);
        encodes_in_every_version(VERSIONS, &response);
    }
}
