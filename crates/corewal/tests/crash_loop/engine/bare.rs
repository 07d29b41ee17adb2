use super::Outcome;
use super::check::Session;
pub(crate) fn run(_: &Session<'_>) -> Outcome {
    Ok(())
}
