//! Whether the archive of the provider "hold", during which the members stand still, will be made within the limit.

use std::time::Duration;

use super::Finding;
use crate::human;

/// How much longer than expected an archive may take before the limit that we advise ends it, in percent.
const HEADROOM_PERCENT: u32 = 50;

/// Judges the limit. `guessed` is what a cautious guess says, `known` what earlier backups of the same members, by the same settings, show: only
/// what is known refuses a backup.
pub fn judge(guessed: Duration, known: Option<Duration>, limit: Duration) -> Vec<Finding> {
    let expected = known.unwrap_or(guessed);
    let mut findings = vec![Finding::warning(
        "hold",
        "hold",
        format!(
            "the database is held while the archive is made, about {}, at most {}",
            human::duration(expected),
            human::duration(limit)
        ),
        "move the data to LVM volumes for a window of a second",
    )];
    if expected <= limit {
        return findings;
    }
    let todo = format!(
        "set max_hold = \"{}\" or more in [window], as far inside the oplog window as it goes",
        humantime::format_duration(advised(expected))
    );
    let (expected, limit) = (human::duration(expected), human::duration(limit));
    findings.push(match known {
        Some(_) => Finding::refused(
            "hold",
            "max_hold",
            format!("the archive takes {expected}, as earlier backups of the same members with these settings show, and max_hold is {limit}"),
            todo,
        ),
        None => Finding::warning(
            "hold",
            "max_hold",
            format!("the archive may take {expected} (a guess until a first backup with these settings has shown it), and max_hold is {limit}"),
            todo,
        ),
    });
    findings
}

/// A limit in whole seconds with headroom.
fn advised(expected: Duration) -> Duration {
    let with_headroom = expected.saturating_add(expected.saturating_mul(HEADROOM_PERCENT) / 100);
    Duration::from_secs(with_headroom.as_secs().saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::super::{Verdict, worst};
    use super::*;

    #[test]
    fn only_what_is_known_to_take_too_long_is_refused() {
        let seconds = Duration::from_secs;
        let cases = [
            (60, None, 90, Verdict::Warning, None),
            (100, None, 90, Verdict::Warning, Some("2m 31s")),
            (100, Some(60), 90, Verdict::Warning, None),
            (60, Some(100), 90, Verdict::Refused, Some("2m 31s")),
        ];
        for (guessed, known, limit, worst_of_all, advised) in cases {
            let findings = judge(seconds(guessed), known.map(seconds), seconds(limit));
            assert_eq!(worst(&findings), worst_of_all, "{findings:?}");
            let told = findings.iter().find(|finding| finding.check == "max_hold");
            let todo = told.and_then(|finding| finding.todo.clone());
            assert_eq!(todo.is_some(), advised.is_some(), "{findings:?}");
            if let (Some(todo), Some(advised)) = (todo, advised) {
                assert!(
                    todo.contains(&format!("max_hold = \"{advised}\"")),
                    "{todo}"
                );
            }
        }
    }
}
