//! The comparison as a page.
use super::results::Results;
pub(super) fn page(_results: &Results) -> Result<String, String> {
    Ok(String::new())
}
