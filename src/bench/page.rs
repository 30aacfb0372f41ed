//! Pages.
use super::Outcome;
/// x
pub fn of_run(_outcome: &Outcome) -> Result<String, String> {
    Ok(String::new())
}
