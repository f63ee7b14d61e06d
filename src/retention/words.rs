//! The decision as a person reads it.

use super::{Condition, Decided, DropReason, KeepReason, Rules, SETTLED, Span, Verdict};
use crate::human;

impl Rules {
    /// What they keep, in one line.
    pub fn sentence(&self) -> String {
        let mut parts = vec![
            format!("the newest {}", self.keep_last),
            format!(
                "what is within {} of the newest",
                human::duration(self.keep_within.0)
            ),
        ];
        parts.extend(Span::all().filter_map(|span| match span.wanted(self) {
            0 => None,
            1 => Some(format!("the newest of 1 {}", span.name())),
            wanted => Some(format!("the newest of each of {wanted} {}s", span.name())),
        }));
        parts.join(", ")
    }
}

impl Span {
    fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }
}

impl KeepReason {
    /// It in words.
    pub fn words(self, rules: &Rules) -> String {
        match self {
            Self::OtherDeployment => "another deployment's".into(),
            Self::NotUnderstood => "not understood".into(),
            Self::FromTheFuture => "FROM THE FUTURE: a clock is, or was, wrong".into(),
            Self::Held => "held".into(),
            Self::BeingRead => "being read".into(),
            Self::Locked => "locked".into(),
            Self::AwaitsCopy => "not copied yet".into(),
            Self::MayBeMade => format!(
                "being made, or begun less than {} h ago",
                SETTLED.as_hours()
            ),
            Self::NewestGood => "newest good one".into(),
            Self::NewestVerified => "newest verified one".into(),
            Self::KeepLast => format!("one of the newest {}", rules.keep_last),
            Self::KeepWithin => {
                format!(
                    "within {} of the newest",
                    human::duration(rules.keep_within.0)
                )
            }
            Self::Hourly => "newest of its hour".into(),
            Self::Daily => "newest of its day".into(),
            Self::Weekly => "newest of its week".into(),
            Self::Monthly => "newest of its month".into(),
            Self::Yearly => "newest of its year".into(),
            Self::NothingNewer => "no newer good one".into(),
        }
    }
}

impl DropReason {
    /// It in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Outlived => "no rule keeps it",
            Self::Damaged => "damaged, and a newer one is good",
            Self::NeverFinished => "never finished, and a newer one is good",
        }
    }
}

impl Decided {
    /// Every reason in words.
    pub fn words(&self, rules: &Rules) -> String {
        let reasons = match &self.verdict {
            Verdict::Drop(reason) => return reason.words().to_owned(),
            Verdict::Keep(reasons) => reasons.iter().map(|reason| reason.words(rules)),
        };
        // What stays though it is no good backup must not look like one.
        let worth = match self.backup.condition {
            Condition::Damaged => Some("DAMAGED".to_owned()),
            Condition::Unfinished { .. } => Some("unfinished".to_owned()),
            Condition::Good { .. } | Condition::NotUnderstood => None,
        };
        worth
            .into_iter()
            .chain(reasons)
            .collect::<Vec<_>>()
            .join(", ")
    }
}
