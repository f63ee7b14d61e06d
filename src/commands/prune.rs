//! `prune`: what goes and what stays, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio::time::Instant;

use super::{Context, Failure, print};
use crate::backup::Environment;
use crate::backup::preflight::Finding;
use crate::backup::preflight::examine::deployment;
use crate::backup::release::Tools;
use crate::catalog;
use crate::catalog::render::{age, columns, size};
use crate::cli::PruneArgs;
use crate::config::StoreUrl;
use crate::error::{Exit, Explain};
use crate::human;
use crate::ids::{BackupId, DeploymentId, RunId, ShardName};
use crate::prune::{Order, Outcome, RemoveError, look, prune};
use crate::retention::{Decided, DropReason, KeepReason, Plan, Rules, Verdict};
use crate::store::SharedStore;

pub async fn run(context: Context, arguments: PruneArgs) -> Result<Exit, Failure> {
    let json = context.json;
    let places = Place::all(&context, arguments.store.as_ref())?;
    let first = context.store_or_closed(&context.config.store.url);
    let env = context.environment(first);
    let ours = match arguments.deployment {
        Some(id) => id,
        None => ours(&env).await?,
    };
    let now = Timestamp::now();
    let mut done = Vec::new();
    for place in &places {
        if env.cancel.is_cancelled() {
            break;
        }
        let order = Order {
            store: &place.store,
            ours: &ours,
            rules: &place.rules,
            copies: &place.copies,
            state_dir: &env.config.host.state_dir,
            cancel: &env.cancel,
        };
        let until = Instant::now() + arguments.wait.map_or(Duration::ZERO, |wait| wait.0);
        done.push(once_free(&order, &env, arguments.yes, until).await);
    }
    let stores = places.iter().zip(&done);
    let printed = Printed {
        stores: stores
            .map(|(place, done)| Report::new(place, &ours, done))
            .collect(),
    };
    print(json, &printed, || {
        let texts = printed.stores.iter().map(|report| report.render(now));
        texts.collect::<Vec<_>>().join("\n")
    })?;
    let mut exit = match done.len() < places.len() {
        true => Exit::Interrupted,
        false => Exit::Done,
    };
    for done in done {
        let this = done.ended?;
        if exit == Exit::Done {
            exit = this;
        }
    }
    Ok(exit)
}

/// Between two looks at a store where another is at work.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// How long a store that backups are copied to is tried.
const PATIENCE: Duration = Duration::from_secs(60);

/// A store that is pruned.
struct Place {
    store: SharedStore,
    rules: Rules,
    copies: Vec<(SharedStore, Rules)>,
}

impl Place {
    /// The configured ones, or the one that was asked for.
    fn all(context: &Context, asked: Option<&StoreUrl>) -> Result<Vec<Self>, NotConfigured> {
        let config = &context.config;
        // Backups wait for a prune, which must not wait for a store that does not answer.
        let settings = context.stores.clone().impatient(PATIENCE);
        let copies: Vec<(SharedStore, Rules)> = config
            .copy
            .iter()
            .map(|copy| (context.store_of_copies(copy, &settings), copy.rules()))
            .collect();
        let urls = config.copy.iter().map(|copy| &copy.url);
        let of_copies = copies.iter().map(|(store, rules)| Self {
            store: store.clone(),
            rules: rules.clone(),
            copies: Vec::new(),
        });
        let first = Self {
            store: context.store_or_closed(&config.store.url),
            rules: config.retention_rules(),
            copies: copies.clone(),
        };
        let all = std::iter::once(&config.store.url)
            .chain(urls)
            .zip(std::iter::once(first).chain(of_copies));
        let wanted: Vec<Self> = all
            .filter(|(url, _)| asked.is_none_or(|asked| asked == *url))
            .map(|(_, place)| place)
            .collect();
        match (wanted.is_empty(), asked) {
            (true, Some(asked)) => Err(NotConfigured(asked.clone())),
            _ => Ok(wanted),
        }
    }
}

/// Nobody knows what is to stay there.
#[derive(Debug, Error)]
#[error("{0} is no store of the configuration, and nobody knows what is to stay there")]
struct NotConfigured(StoreUrl);

impl Explain for NotConfigured {
    fn hint(&self) -> Option<String> {
        Some("name the one of [store] or of a [[copy]], as it is written there".into())
    }

    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

/// What was done in one store, or is to be.
struct Pruned {
    plan: Option<Plan>,
    outcomes: BTreeMap<BackupId, Outcome>,
    /// What was to go waits for --yes.
    waits: bool,
    ended: Result<Exit, Failure>,
}

/// As [`in_store`], again and again while another is at work there.
async fn once_free(order: &Order<'_>, env: &Environment, yes: bool, until: Instant) -> Pruned {
    let mut told = false;
    loop {
        let pruned = in_store(order, &env.tools, yes, Timestamp::now()).await;
        let free = !matches!(&pruned.ended, Err(failure) if failure.exit() == Exit::Refused);
        if free || !pruned.outcomes.is_empty() || Instant::now() >= until {
            return pruned;
        }
        if let (false, Err(failure)) = (told, &pruned.ended) {
            env.progress.say(&format!("waiting: {failure}"));
        }
        told = true;
        tokio::select! {
            biased;
            () = env.cancel.cancelled() => return pruned,
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

async fn in_store(order: &Order<'_>, tools: &Tools, yes: bool, now: Timestamp) -> Pruned {
    let planned = match look(order, now).await {
        Ok(planned) => planned,
        Err(error) => {
            return Pruned {
                plan: None,
                outcomes: BTreeMap::new(),
                waits: false,
                ended: Err(error.into()),
            };
        }
    };
    let goes = planned.dropped().next().is_some();
    if !yes || !goes {
        return Pruned {
            plan: Some(planned),
            outcomes: BTreeMap::new(),
            waits: goes,
            ended: Ok(match goes {
                true => Exit::Refused,
                false => Exit::Done,
            }),
        };
    }
    let pruned = prune(order, tools, now).await;
    let exit = pruned.exit_when_through();
    Pruned {
        plan: pruned.plan,
        outcomes: pruned.outcomes,
        waits: false,
        ended: pruned.ended.map(|()| exit).map_err(Failure::from),
    }
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
#[derive(Serialize)]
struct Printed<'a> {
    stores: Vec<Report<'a>>,
}

/// Of one store.
#[derive(Serialize)]
struct Report<'a> {
    store: String,
    deployment: &'a DeploymentId,
    rules: &'a Rules,
    /// What kept it from being done, or ended it.
    error: Option<String>,
    hint: Option<String>,
    backups: Vec<Line<'a>>,
    /// Bytes of all that goes, or has gone.
    frees: u64,
    #[serde(skip)]
    plan: Option<&'a Plan>,
    #[serde(skip)]
    waits: bool,
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
    fn new(place: &'a Place, ours: &'a DeploymentId, done: &'a Pruned) -> Self {
        let lines = done.plan.iter().flat_map(|plan| &plan.0);
        let backups: Vec<_> = lines
            .map(|decided| Line::new(decided, done.outcomes.get(&decided.backup.id)))
            .collect();
        let failed = done.ended.as_ref().err();
        // Of a plan that is not carried out yet all that would go.
        let goes = |line: &&Line| match line.outcome {
            None => line.action == Action::Drop,
            outcome => outcome == Some("removed"),
        };
        let sizes = backups.iter().filter(goes).map(|line| line.size);
        Self {
            store: place.store.url(),
            deployment: ours,
            rules: &place.rules,
            error: failed.map(ToString::to_string),
            hint: failed.and_then(|failed| failed.hint()),
            frees: sizes.fold(0, u64::saturating_add),
            backups,
            plan: done.plan.as_ref(),
            waits: done.waits,
        }
    }

    fn render(&self, now: Timestamp) -> String {
        let mut text = format!(
            "{}, deployment {}\nstays: {} (days and weeks of UTC)\n\n",
            self.store,
            self.deployment,
            self.rules.sentence()
        );
        if let Some(error) = &self.error {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "NOT DONE: {error}");
        }
        let Some(plan) = self.plan else { return text };
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
        if self.waits {
            text.push_str("nothing was done; add --yes to do it\n");
        }
        text
    }
}
