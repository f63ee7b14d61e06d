//! The checks before anything is held: each gives findings, and one refusal stops the backup.

pub mod cluster;
pub mod examine;
pub mod member;
pub mod storage;

pub use examine::{Examination, PreflightError, examine};

use serde::Serialize;

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

    /// What was found, where the subject is named already.
    pub fn predicate(&self) -> &str {
        let rest = self.detail.strip_prefix(&self.subject);
        rest.map_or(self.detail.as_str(), |rest| {
            rest.trim_start_matches([':', ' '])
        })
    }

    /// Subject, what was found and what to do about it, as one sentence.
    pub fn sentence(&self) -> String {
        let mut sentence = if self.detail.contains(&self.subject) {
            self.detail.clone()
        } else {
            format!("{}: {}", self.subject, self.detail)
        };
        if let Some(todo) = &self.todo {
            sentence.push_str("; ");
            sentence.push_str(todo);
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
