//! DescribeAcls (key 29), versions 1 to 3; 2 is flexible, 3 knows users as resources.
//!
//! There is no authoriser: the answer is `SECURITY_DISABLED` [54], as Kafka's without one. Tools and
//! MirrorMaker know it and go on. Truth: apache/kafka `AclApis.handleDescribeAcls`.

use crate::net::Started;
use crate::protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use crate::protocol::{ApiKey, ApiVersions, ErrorCode};

use super::Api;
use super::connection::Connection;
use super::incoming::{Incoming, Refused, text};
use super::service::Service;

/// What is served.
pub(crate) const VERSIONS: ApiVersions = ApiVersions::of(ApiKey::DescribeAcls);

/// This API.
pub(crate) const API: Api = Api {
    versions: VERSIONS,
    start,
};

/// What is said wherever ACLs are asked for.
pub(crate) const NO_AUTHORIZER: &str = "No Authorizer is configured.";

fn start(
    _service: &Service,
    _connection: &mut Connection,
    incoming: Incoming,
) -> Result<Started, Refused> {
    let _: DescribeAclsRequest = incoming.decode()?;
    incoming.now(&reply())
}

fn reply() -> DescribeAclsResponse {
    DescribeAclsResponse::default()
        .with_error_code(ErrorCode::SecurityDisabled.code())
        .with_error_message(Some(text(NO_AUTHORIZER)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::encodes_in_every_version;

    #[test]
    fn acls_are_not_there_without_an_authorizer() {
        assert_eq!(reply().error_code, 54);
        encodes_in_every_version(VERSIONS, &reply());
    }
}
