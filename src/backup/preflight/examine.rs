//! Looks at everything a backup will need, and makes the plan of it where nothing stands in the way.

mod data;
mod ebs;
mod members;
mod pace;
mod room;
mod volumes;

use std::collections::BTreeSet;
use std::time::Duration;

use nix::unistd::AccessFlags;
use serde::Serialize;
use thiserror::Error;

use super::{Finding, Others, Verdict, worst};
use crate::backup::journal::survey::{Seen, survey};
use crate::backup::journal::{COPY, Journal, JournalError};
use crate::backup::lease::{self, Scope, Work};
use crate::backup::plan::{PicturePlan, Plan};
use crate::backup::resource::Resource;
use crate::backup::{BACKUP, Environment};
use crate::blocking::off_thread;
use crate::error::{Exit, Explain};
use crate::human;
use crate::ids::{DeploymentId, RunId};
use crate::kept::condition::{Condition, State, look};
use crate::kept::{Kept, KeptError};
use crate::volume::DataLayout;
use members::{identify, look_at_members};
use volumes::look_at_volumes;

/// The check of the store, by which its refusal is known.
pub const STORE: &str = "store";

/// Why there is no plan.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// At least one check refuses the backup.
    #[error("{}", list(findings))]
    Refused {
        /// All findings.
        findings: Vec<Finding>,
    },
    /// We were asked to end.
    #[error("interrupted: no backup was begun")]
    Interrupted,
}

fn list(findings: &[Finding]) -> String {
    let refused: Vec<_> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Refused)
        .collect();
    let line = |finding: &&Finding| format!("\n  {}", finding.sentence().replace('\n', "\n    "));
    format!(
        "no backup can be made, and nothing was touched:{}",
        refused.iter().map(line).collect::<String>()
    )
}

impl Explain for PreflightError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Refused { .. } => {
                Some("`freezeframe check` shows everything that was looked at".into())
            }
            Self::Interrupted => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Refused { .. } => Exit::Refused,
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

/// Everything that was found. Its serialized form is what `check --json` prints.
#[derive(Debug, Serialize)]
pub struct Examination {
    /// Every line.
    pub findings: Vec<Finding>,
    /// Bytes that will be read.
    pub data_bytes: u64,
    /// How long all archives together will take, in seconds.
    pub expected_seconds: u64,
    /// Copy-on-write space that the snapshots will take.
    pub snapshot_bytes: u64,
    /// Where the members' data lies.
    pub layouts: Vec<DataLayout>,
    #[serde(skip)]
    plan: Option<Plan>,
}

impl Examination {
    /// Whether the backup is going to be snapshots of whole volumes, for whose completion EC2 takes its time.
    pub fn is_of_volumes(&self) -> bool {
        let picture = self.plan.as_ref().map(|plan| &plan.picture);
        matches!(picture, Some(PicturePlan::Volumes(_)))
    }

    /// What a backup goes past and somebody should hear of: leftovers of dead runs that keep no backup from being made, kept snapshots
    /// that overflow, a store without room.
    pub fn left_lying(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| {
            matches!(finding.check, "leftovers" | "kept" | "room")
                && finding.verdict == Verdict::Warning
        })
    }

    /// The plan, if nothing refuses it.
    ///
    /// # Errors
    /// [`PreflightError::Refused`] with all findings.
    pub fn into_plan(self) -> Result<Plan, PreflightError> {
        match self.plan {
            Some(plan) if worst(&self.findings) < Verdict::Refused => Ok(plan),
            _ => Err(PreflightError::Refused {
                findings: self.findings,
            }),
        }
    }
}

/// What the examination is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aim {
    /// Snapshots that are archived and go.
    Backup,
    /// Snapshots that stay for so long. No store is needed.
    Keep(Duration),
}

/// Looks at members, volumes, store and host for the run `run`. Takes nothing, changes nothing.
///
/// # Errors
/// Only [`PreflightError::Interrupted`]; whatever else goes wrong is a finding.
pub async fn examine(
    env: &Environment,
    run: RunId,
    aim: Aim,
) -> Result<Examination, PreflightError> {
    let mut findings = Vec::new();
    let mut others = Others {
        at_work: look_at_runs(env, run, &mut findings),
        kept: BTreeSet::new(),
    };
    look_at_kept(env, &mut others, &mut findings).await;
    look_at_state_dir(env, &mut findings);
    look_at_host(env, &mut findings);
    if aim == Aim::Backup {
        look_at_hooks(env, &mut findings);
    }
    // It ends by itself when asked to, and takes along what it tried the store with.
    let store_works = aim == Aim::Backup && look_at_store(env, &mut findings).await;
    let looking = async {
        let members = look_at_members(env, run, &others.at_work, &mut findings).await;
        let deployment = identify(&members, &mut findings);
        if let (true, Some(deployment)) = (store_works, &deployment) {
            let shards = members
                .iter()
                .filter_map(|member| member.facts.hello.set.clone());
            for shard in shards.collect::<BTreeSet<_>>() {
                let scope = Scope {
                    deployment: deployment.id.clone(),
                    shard,
                };
                look_at_lease(env, &scope, &mut findings).await;
            }
        }
        look_at_volumes(env, run, aim, &others, members, deployment, findings).await
    };
    tokio::select! {
        biased;
        () = env.cancel.cancelled() => Err(PreflightError::Interrupted),
        examined = looking => Ok(examined),
    }
}

/// What there is to say of the members of this host.
pub(super) async fn members_alone(env: &Environment, run: RunId) -> Vec<Finding> {
    let mut findings = Vec::new();
    look_at_members(env, run, &[], &mut findings).await;
    findings
}

/// The deployment that the members of this host belong to, fit for a backup or not.
///
/// # Errors
/// What keeps it from being known.
pub async fn deployment(env: &Environment, run: RunId) -> Result<DeploymentId, Vec<Finding>> {
    let mut findings = Vec::new();
    let members = look_at_members(env, run, &[], &mut findings).await;
    match identify(&members, &mut findings) {
        Some(deployment) => Ok(deployment.id),
        None => {
            findings.retain(|finding| finding.verdict == Verdict::Refused);
            Err(findings)
        }
    }
}

/// What other runs of this host hold, and what dead ones left. Gives those that live.
fn look_at_runs(env: &Environment, run: RunId, findings: &mut Vec<Finding>) -> Vec<Seen> {
    let state = env.config.host.state_dir.display().to_string();
    let unreadable = |error: JournalError| {
        let todo = error.hint().unwrap_or_default();
        Finding::refused(&state, "leftovers", error.to_string(), todo)
    };
    let seen = match survey(&env.config.host.state_dir) {
        Ok(seen) => seen,
        Err(error) => {
            findings.push(unreadable(error));
            return Vec::new();
        }
    };
    let mut at_work = Vec::new();
    let mut clean = true;
    for seen in seen {
        match seen {
            Ok(seen) if seen.owner.run == run => {}
            Ok(seen) if seen.alive => at_work.push(seen),
            // A run that died with nothing in hand left nothing but its journal.
            Ok(seen) if seen.outstanding.is_empty() => {}
            Ok(seen) => {
                clean = false;
                findings.push(left_behind(&state, &env.store.url(), &seen));
            }
            Err(error) => {
                clean = false;
                findings.push(unreadable(error));
            }
        }
    }
    if clean {
        findings.push(Finding::ok(
            &state,
            "leftovers",
            "no dead run left anything",
        ));
    }
    let backups = at_work.iter().filter(|seen| seen.owner.verb == BACKUP);
    findings.extend(backups.map(|seen| {
        let detail = format!("{} is at work", seen.owner.at_work());
        Finding::refused(&state, "running", detail, "wait until it has ended")
    }));
    at_work
}

/// What is kept on this host, which is no leftover, and may be full soon.
async fn look_at_kept(env: &Environment, others: &mut Others, findings: &mut Vec<Finding>) {
    let state = env.config.host.state_dir.display().to_string();
    let unreadable = |error: KeptError| {
        let todo = error.hint().unwrap_or_default();
        Finding::warning(&state, "kept", error.to_string(), todo)
    };
    let all = match Kept::all(&env.config.host.state_dir) {
        Ok(all) => all,
        Err(error) => return findings.push(unreadable(error)),
    };
    for kept in all {
        let kept = match kept {
            Ok(kept) => kept,
            Err(error) => {
                // Nobody knows what it is worth, but whose it is.
                others.kept.extend(error.run());
                findings.push(unreadable(error));
                continue;
            }
        };
        others.kept.insert(kept.run);
        let (exec, looked_at) = (env.tools.exec.clone(), kept.clone());
        let condition = off_thread(move || look(&exec, &looked_at)).await;
        findings.push(kept_finding(&kept, condition));
    }
}

fn kept_finding(kept: &Kept, condition: Condition) -> Finding {
    let subject = format!("snapshot {}", kept.label);
    let remove = format!("freezeframe snapshot remove {} --yes", kept.label);
    let reason = condition.reason.unwrap_or_default();
    match condition.state {
        State::Good => {
            let fill = human::percent(condition.fill.unwrap_or_default());
            let detail = format!(
                "kept until {:.0}, {fill} of its space used",
                kept.keep_until
            );
            Finding::ok(subject, "kept", detail)
        }
        State::FullSoon => {
            let todo = format!(
                "archive it (`freezeframe backup --from {}`) or remove it (`{remove}`) before it overflows",
                kept.label
            );
            Finding::warning(subject, "kept", reason, todo)
        }
        State::RollingBack => {
            let todo = format!("run `freezeframe rollback {} --yes`", kept.label);
            Finding::refused(
                subject,
                "kept",
                "is being put back, or that was cut off",
                todo,
            )
        }
        State::Unknown => {
            let todo =
                "see that its volumes are there and active; it may be good, so do not remove it";
            Finding::warning(subject, "kept", reason, todo)
        }
        State::Lost => Finding::warning(subject, "kept", reason, format!("remove it: `{remove}`")),
    }
}

/// A dead run's leftovers. Those of one that read or pruned a backup, or copied one to another store than the `first`, keep no other from being made.
fn left_behind(state: &str, first: &str, seen: &Seen) -> Finding {
    let outstanding = &seen.outstanding;
    let resources: Vec<_> = outstanding.iter().map(ToString::to_string).collect();
    let detail = format!(
        "run {} died and left: {}",
        seen.owner.run,
        resources.join(", ")
    );
    let in_nobodys_way = |resource: &Resource| match resource {
        Resource::Scratch { .. } | Resource::Reading { .. } | Resource::Hook { .. } => true,
        Resource::EbsSnapshots(made) | Resource::EbsCopies(made) => made.pruned,
        _ => false,
    };
    // What a dead copy holds in the store that it went to is given back before the next one.
    let elsewhere = |resource: &Resource| match resource {
        Resource::Lease { store, .. } | Resource::Upload { store, .. } => store != first,
        other => in_nobodys_way(other),
    };
    let copied_away = seen.owner.verb == COPY && outstanding.iter().all(elsewhere);
    match copied_away || outstanding.iter().all(in_nobodys_way) {
        true => Finding::warning(
            state,
            "leftovers",
            detail,
            "run `freezeframe recover` to have the space back, run the hook `finally` that failed, delete snapshots of what was pruned, and let backups be pruned that nobody reads any more; no backup waits for it",
        ),
        false => Finding::refused(state, "leftovers", detail, "run `freezeframe recover`"),
    }
}

/// Whether a run could keep its journal. Nothing is written to find out.
fn look_at_state_dir(env: &Environment, findings: &mut Vec<Finding>) {
    let folder = Journal::folder(&env.config.host.state_dir);
    let subject = env.config.host.state_dir.display().to_string();
    // What is not there is made, with everything above it.
    let there = folder
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok());
    let usable = there.map_or(Ok(()), |there| match there.metadata() {
        Ok(found) if found.is_dir() => {
            nix::unistd::access(there, AccessFlags::W_OK | AccessFlags::X_OK)
                .map_err(std::io::Error::from)
        }
        Ok(_) => Err(std::io::ErrorKind::NotADirectory.into()),
        Err(error) => Err(error),
    });
    findings.push(match usable {
        Ok(()) => Finding::ok(subject, "state_dir", "can be written"),
        Err(source) => {
            let error = JournalError::Io {
                action: "create",
                path: folder.clone(),
                source,
            };
            let todo = error.hint().unwrap_or_default();
            Finding::refused(subject, "state_dir", error.to_string(), todo)
        }
    });
}

fn look_at_host(env: &Environment, findings: &mut Vec<Finding>) {
    findings.push(match env.tools.systemd {
        Some(_) if env.config.password_is_private_to_us() => Finding::warning(
            "systemd",
            "recovery_timer",
            "the recovery timer cannot read a password that only this process has",
            "put the password into [mongodb] password_file",
        ),
        Some(_) => Finding::ok("systemd", "recovery_timer", "the recovery timer can be armed"),
        None => Finding::warning(
            "systemd",
            "recovery_timer",
            "no system manager, or not root: if freezeframe and its guard are both killed in the window, the lock stays",
            "run as root on a host with systemd; else run `freezeframe recover` after such a death",
        ),
    });
}

/// Whether the hooks are there. What they do is not tried.
fn look_at_hooks(env: &Environment, findings: &mut Vec<Finding>) {
    for (name, hook) in env.config.hooks.all() {
        let program = hook.command.first().map_or("", String::as_str);
        let subject = format!("hook {name}");
        let found = nix::unistd::access(program, AccessFlags::X_OK);
        findings.push(match found {
            Ok(()) => Finding::ok(subject, "hook", format!("{program} can be run")),
            Err(errno) => Finding::refused(
                subject,
                "hook",
                format!("{program} cannot be run: {}", errno.desc()),
                format!("see [hooks] {name}"),
            ),
        });
    }
}

/// Whether the store can be used.
async fn look_at_store(env: &Environment, findings: &mut Vec<Finding>) -> bool {
    let url = env.store.url();
    let probed = env.store.probe().await;
    let works = probed.is_ok();
    findings.push(match probed {
        Ok(()) => Finding::ok(url, STORE, "can be written and read"),
        Err(error) => {
            let todo = error.hint().unwrap_or_else(|| "see [store] url".into());
            Finding::refused(url, STORE, error.to_string(), todo)
        }
    });
    works
}

/// Only a look: the lease is taken when the backup begins.
async fn look_at_lease(env: &Environment, scope: &Scope, findings: &mut Vec<Finding>) {
    let url = env.store.url();
    findings.push(match lease::holder(env.store.as_ref(), scope).await {
        Ok(None) => {
            let detail = format!("nobody is writing a backup of {}", scope.shard);
            Finding::ok(url, "lease", detail)
        }
        Ok(Some(holder)) if holder.work == Work::Prune => {
            let todo = format!("a backup waits until it has ended; {}", holder.if_it_died());
            Finding::warning(url, "lease", holder.to_string(), todo)
        }
        Ok(Some(holder)) => Finding::refused(url, "lease", holder.to_string(), holder.todo()),
        Err(error) => {
            let todo = error.hint().unwrap_or_else(|| "see [store] url".into());
            Finding::refused(url, "lease", error.to_string(), todo)
        }
    });
}
