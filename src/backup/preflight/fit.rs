//! Waiting for what passes by itself: after its host's start a member is not SECONDARY at once, and a night behind.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::examine::{Aim, Examination, PreflightError, examine, members_alone};
use super::{Finding, Verdict};
use crate::backup::Environment;
use crate::ids::RunId;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Looks at everything a backup needs, again and again while all that stands in the way passes by itself, for as long as `patience`.
///
/// # Errors
/// As [`examine`].
pub async fn once_fit(
    env: &Environment,
    run: RunId,
    patience: Duration,
) -> Result<Examination, PreflightError> {
    let began = Instant::now();
    let mut told = BTreeSet::new();
    loop {
        let examined = examine(env, run, Aim::Backup).await?;
        let waits = passing(&examined.findings);
        if waits.is_empty() || began.elapsed() >= patience {
            return Ok(examined);
        }
        for finding in waits {
            // How far it is behind changes with every look.
            if told.insert((finding.subject.clone(), finding.check)) {
                env.progress
                    .say(&format!("waiting for what passes: {}", finding.sentence()));
            }
        }
        // The members alone: whoever looks at a store writes to it.
        let fit = async {
            while began.elapsed() < patience {
                tokio::time::sleep(LOOK_AGAIN).await;
                if passing(&members_alone(env, run).await).is_empty() {
                    break;
                }
            }
        };
        tokio::select! {
            biased;
            () = env.cancel.cancelled() => return Err(PreflightError::Interrupted),
            () = fit => {}
        }
    }
}

/// What refuses, if all of that passes by itself.
fn passing(findings: &[Finding]) -> Vec<&Finding> {
    let refused = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Refused);
    let refused: Vec<_> = refused.collect();
    match refused.iter().all(|finding| finding.passes) {
        true => refused,
        false => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_as_a_whole_is_waited_for() {
        let behind = || Finding::refused("rs0", "lag", "is behind", "wait").passing();
        let full = || Finding::refused("store", "store", "is full", "make room");
        let odd = || Finding::warning("host", "clock", "is off", "see to it");
        let count = |findings: &[Finding]| passing(findings).len();
        assert_eq!(count(&[odd(), behind()]), 1);
        assert_eq!(count(&[behind(), full()]), 0);
        assert_eq!(count(&[odd()]), 0);
    }
}
