//! Looks at everything a backup will need, and makes the plan of it where nothing stands in the way.

mod members;
mod volumes;

use std::collections::BTreeSet;

use serde::Serialize;
use thiserror::Error;

use super::{Finding, Verdict, worst};
use crate::backup::Environment;
use crate::backup::lease::{self, Scope};
use crate::backup::plan::Plan;
use crate::error::{Exit, Explain};
use crate::ids::RunId;
use crate::recover::leftovers;
use crate::volume::DataLayout;
use members::{identify, look_at_members};
use volumes::look_at_volumes;

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
    #[error("interrupted: nothing was touched")]
    Interrupted,
}

fn list(findings: &[Finding]) -> String {
    let refused: Vec<_> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Refused)
        .collect();
    let line = |finding: &&Finding| format!("\n  {}", finding.sentence());
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

/// Looks at members, volumes, store and host for the run `run`. Takes nothing, changes nothing.
///
/// # Errors
/// Only [`PreflightError::Interrupted`]; whatever else goes wrong is a finding.
pub async fn examine(env: &Environment, run: RunId) -> Result<Examination, PreflightError> {
    let mut findings = Vec::new();
    look_at_host(env, &mut findings);
    // It ends by itself when asked to, and takes along what it tried the store with.
    let store_works = look_at_store(env, &mut findings).await;
    let looking = async {
        let members = look_at_members(env, run, &mut findings).await;
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
        look_at_volumes(env, run, members, deployment, findings).await
    };
    tokio::select! {
        biased;
        () = env.cancel.cancelled() => Err(PreflightError::Interrupted),
        examined = looking => Ok(examined),
    }
}

fn look_at_host(env: &Environment, findings: &mut Vec<Finding>) {
    let state = env.config.host.state_dir.display().to_string();
    match leftovers(&env.config.host.state_dir) {
        Ok(left) if left.is_empty() => {
            findings.push(Finding::ok(state, "leftovers", "no dead run left anything"))
        }
        Ok(left) => findings.extend(left.into_iter().map(|left| {
            let detail = format!(
                "run {} died and left: {}",
                left.run,
                left.resources.join(", ")
            );
            Finding::refused(&state, "leftovers", detail, "run `freezeframe recover`")
        })),
        Err(error) => {
            let todo = error.hint().unwrap_or_default();
            findings.push(Finding::refused(
                state,
                "leftovers",
                error.to_string(),
                todo,
            ));
        }
    }
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

/// Whether the store can be used.
async fn look_at_store(env: &Environment, findings: &mut Vec<Finding>) -> bool {
    let url = env.store.url();
    let probed = env.store.probe().await;
    let works = probed.is_ok();
    findings.push(match probed {
        Ok(()) => Finding::ok(url, "store", "can be written and read"),
        Err(error) => {
            let todo = error.hint().unwrap_or_else(|| "see [store] url".into());
            Finding::refused(url, "store", error.to_string(), todo)
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
        Ok(Some(holder)) => Finding::refused(url, "lease", holder.to_string(), holder.todo()),
        Err(error) => {
            let todo = error.hint().unwrap_or_else(|| "see [store] url".into());
            Finding::refused(url, "lease", error.to_string(), todo)
        }
    });
}
