//! The checks before anything is held: each gives findings, and one refusal stops the backup.

pub mod acts;
pub mod clones;
pub mod cluster;
pub mod discovery;
pub mod examine;
pub mod fit;
pub mod hold;
pub mod member;
pub mod storage;
pub mod subvolumes;

pub use examine::{Examination, PreflightError, examine};

use std::collections::BTreeSet;

use serde::Serialize;

use crate::backup::journal::survey::Seen;
use crate::ids::RunId;

/// Whose else what is found on the host may be.
#[derive(Debug, Clone, Default)]
pub struct Others {
    /// The other runs of ours that live.
    pub at_work: Vec<Seen>,
    /// Runs whose snapshots are kept.
    pub kept: BTreeSet<RunId>,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Fit.
    Ok,
    /// The backup can be made; somebody should look at this.
    Warning,
    /// No backup until this is changed.
    Refused,
}

/// One line of `freezeframe check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a member, a volume, the store.
    pub subject: String,
    /// Stable name of the check, for scripts.
    pub check: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    pub todo: Option<String>,
    /// Whether it is a refusal that passes by itself.
    #[serde(skip)]
    pub passes: bool,
}

impl Finding {
    /// A check that found nothing wrong.
    pub fn ok(subject: impl Into<String>, check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            check,
            verdict: Verdict::Ok,
            detail: detail.into(),
            todo: None,
            passes: false,
        }
    }

    /// Something to look at.
    pub fn warning(
        subject: impl Into<String>,
        check: &'static str,
        detail: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Warning,
            todo: Some(todo.into()),
            ..Self::ok(subject, check, detail)
        }
    }

    /// A reason not to begin.
    pub fn refused(
        subject: impl Into<String>,
        check: &'static str,
        detail: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            verdict: Verdict::Refused,
            todo: Some(todo.into()),
            ..Self::ok(subject, check, detail)
        }
    }

    /// The same, which passes by itself.
    pub fn passing(self) -> Self {
        Self {
            passes: true,
            ..self
        }
    }

    /// What was found, where the subject is named already.
    pub fn predicate(&self) -> &str {
        let rest = self.detail.strip_prefix(&self.subject);
        rest.map_or(self.detail.as_str(), |rest| {
            rest.trim_start_matches([':', ' '])
        })
    }

    /// Subject, what was found and what to do about it, as one sentence.
    /// What has lines of its own, such as a drawing, stands below it.
    pub fn sentence(&self) -> String {
        let (first, rest) = match self.detail.split_once('\n') {
            Some((first, rest)) => (first, Some(rest)),
            None => (self.detail.as_str(), None),
        };
        let mut sentence = if self.detail.contains(&self.subject) {
            first.to_owned()
        } else {
            format!("{}: {first}", self.subject)
        };
        if let Some(todo) = &self.todo {
            sentence.push_str("; ");
            sentence.push_str(todo);
        }
        if let Some(rest) = rest {
            sentence.push('\n');
            sentence.push_str(rest);
        }
        sentence
    }
}

/// The worst verdict of all: what the check as a whole says.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings
        .iter()
        .map(|finding| finding.verdict)
        .max()
        .unwrap_or(Verdict::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawing_stands_below_the_advice() {
        let drawn = Finding::refused(
            "/data",
            "volume",
            "/data cannot be snapshotted: md\n/data  xfs\n└─ md0",
            "move it",
        );
        assert_eq!(
            drawn.sentence(),
            "/data cannot be snapshotted: md; move it\n/data  xfs\n└─ md0"
        );
        let plain = Finding::refused("host", "members", "none", "name one");
        assert_eq!(plain.sentence(), "host: none; name one");
    }
}
