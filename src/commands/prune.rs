//! `prune`: what goes and what stays, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use super::{Context, Failure, print};
use crate::backup::Environment;
use crate::backup::preflight::Finding;
use crate::backup::preflight::examine::deployment;
use crate::catalog;
use crate::catalog::render::{age, columns, size};
use crate::cli::PruneArgs;
use crate::error::{Exit, Explain};
use crate::human;
use crate::ids::{BackupId, DeploymentId, RunId, ShardName};
use crate::prune::{Order, Outcome, RemoveError, look, prune};
use crate::retention::{Decided, DropReason, KeepReason, Plan, Rules, Verdict};

pub async fn run(context: Context, arguments: PruneArgs) -> Result<Exit, Failure> {
    let json = context.json;
    let store = context.store()?;
    let env = context.environment(store);
    let ours = match arguments.deployment {
        Some(id) => id,
        None => ours(&env).await?,
    };
    let rules = env.config.retention_rules();
    let order = Order {
        store: &env.store,
        ours: &ours,
        rules: &rules,
        state_dir: &env.config.host.state_dir,
        cancel: &env.cancel,
    };
    let now = Timestamp::now();
    let planned = look(&order, now).await?;
    let nothing_goes = planned.dropped().next().is_none();
    if !arguments.yes || nothing_goes {
        let report = Report::new(&env, &ours, &rules, &planned, &BTreeMap::new());
        print(json, &report, || {
            let then = match nothing_goes {
                true => "",
                false => "nothing was done; add --yes to do it\n",
            };
            report.render(&planned, now) + then
        })?;
        return Ok(match nothing_goes {
            true => Exit::Done,
            false => Exit::Refused,
        });
    }
    let pruned = prune(&order, &env.tools, now).await;
    if let Some(plan) = &pruned.plan {
        let report = Report::new(&env, &ours, &rules, plan, &pruned.outcomes);
        print(json, &report, || report.render(plan, now))?;
    }
    Ok(pruned.exit()?)
}

/// Nobody knows whose backups these are.
#[derive(Debug, Error)]
#[error("cannot tell whose backups to prune: no member of this host says{}", sentences(.findings))]
struct Whose {
    findings: Vec<Finding>,
    in_store: BTreeSet<DeploymentId>,
}

fn sentences(findings: &[Finding]) -> String {
    let line = |finding: &Finding| format!("\n  {}", finding.sentence());
    findings.iter().map(line).collect()
}

impl Explain for Whose {
    fn hint(&self) -> Option<String> {
        let known: Vec<_> = self.in_store.iter().map(ToString::to_string).collect();
        Some(match known.is_empty() {
            true => "the store holds no backup either".into(),
            false => format!(
                "start the member, or name the deployment with --deployment ID; the store holds backups of {}",
                known.join(", ")
            ),
        })
    }

    fn exit(&self) -> Exit {
        Exit::Refused
    }
}

async fn ours(env: &Environment) -> Result<DeploymentId, Failure> {
    match deployment(env, RunId::random()).await {
        Ok(id) => Ok(id),
        Err(findings) => {
            let sets = catalog::list(env.store.as_ref()).await?;
            let in_store = sets.into_iter().filter_map(|set| set.deployment).collect();
            Err(Whose { findings, in_store }.into())
        }
    }
}

/// What `prune --json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    store: String,
    deployment: &'a DeploymentId,
    rules: &'a Rules,
    backups: Vec<Line<'a>>,
    /// Bytes of all that goes, or has gone.
    frees: u64,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    id: BackupId,
    deployment: Option<&'a DeploymentId>,
    shards: &'a BTreeSet<ShardName>,
    size: u64,
    /// EBS snapshots that go with it, apart from copies.
    snapshots: u64,
    action: Action,
    keep: Vec<KeepReason>,
    drop: Option<DropReason>,
    outcome: Option<&'static str>,
    problem: Option<String>,
    hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Keep,
    Drop,
}

impl<'a> Line<'a> {
    fn new(decided: &'a Decided, outcome: Option<&Outcome>) -> Self {
        let backup = &decided.backup;
        let (action, keep, drop) = match &decided.verdict {
            Verdict::Keep(reasons) => (Action::Keep, reasons.iter().copied().collect(), None),
            Verdict::Drop(reason) => (Action::Drop, Vec::new(), Some(*reason)),
        };
        let failed = match outcome {
            Some(Outcome::Failed(error)) => Some(error),
            _ => None,
        };
        Self {
            id: backup.id,
            deployment: backup.deployment.as_ref(),
            shards: &backup.shards,
            size: backup.bytes,
            snapshots: backup.snapshots,
            action,
            keep,
            drop,
            outcome: outcome.map(|outcome| match outcome {
                Outcome::Removed => "removed",
                Outcome::Spared => "spared",
                Outcome::Failed(_) => "failed",
                Outcome::Later => "later",
            }),
            problem: failed.map(ToString::to_string),
            hint: failed.and_then(RemoveError::hint),
        }
    }

    /// What is or was done, in a word.
    fn word(&self) -> &'static str {
        match (self.action, self.outcome) {
            (Action::Keep, _) => "keep",
            (Action::Drop, None) => "DROP",
            (Action::Drop, Some(outcome)) => outcome,
        }
    }
}

impl<'a> Report<'a> {
    fn new(
        env: &Environment,
        ours: &'a DeploymentId,
        rules: &'a Rules,
        plan: &'a Plan,
        outcomes: &BTreeMap<BackupId, Outcome>,
    ) -> Self {
        let lines = plan.0.iter();
        let backups: Vec<_> = lines
            .map(|decided| Line::new(decided, outcomes.get(&decided.backup.id)))
            .collect();
        // Of a plan that is not carried out yet all that would go.
        let goes = |line: &&Line| match line.outcome {
            None => line.action == Action::Drop,
            outcome => outcome == Some("removed"),
        };
        let sizes = backups.iter().filter(goes).map(|line| line.size);
        Self {
            store: env.store.url(),
            deployment: ours,
            rules,
            frees: sizes.fold(0, u64::saturating_add),
            backups,
        }
    }

    fn render(&self, plan: &Plan, now: Timestamp) -> String {
        let mut text = format!(
            "{}, deployment {}\nstays: {} (days and weeks of UTC)\n\n",
            self.store,
            self.deployment,
            self.rules.sentence()
        );
        let header = ["BACKUP", "AGE", "SIZE", "", "WHY"].map(str::to_owned);
        let rows = self.backups.iter().zip(&plan.0).map(|(line, decided)| {
            [
                line.id.to_string(),
                age(now.duration_since(line.id.started())),
                size(line.size, line.snapshots),
                line.word().to_owned(),
                decided.words(self.rules),
            ]
        });
        let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
        text.push_str(&columns(&rows));
        for line in &self.backups {
            if let Some(problem) = &line.problem {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "{}: {problem}", line.id);
                let _ = line
                    .hint
                    .iter()
                    .try_for_each(|hint| writeln!(text, "  hint: {hint}"));
            }
        }
        let count = |wanted: &dyn Fn(&Line<'_>) -> bool| {
            let found = self.backups.iter().filter(|line| wanted(line));
            (found.count(), self.backups.len(), human::size(self.frees))
        };
        let done = self.backups.iter().any(|line| line.outcome.is_some());
        let _ = if done {
            let (gone, of, freed) = count(&|line| line.outcome == Some("removed"));
            writeln!(text, "\nremoved {gone} of {of}, {freed} freed")
        } else {
            match count(&|line| line.action == Action::Drop) {
                (0, ..) => writeln!(text, "\nnothing is to be removed"),
                (to_go, of, freed) => {
                    writeln!(text, "\n{to_go} of {of} to go, {freed} freed by that")
                }
            }
        };
        text
    }
}
