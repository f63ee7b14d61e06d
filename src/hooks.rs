//! Commands of the operator's around a backup: what they are told, how they are run, and what their failure means.
//!
//! `finally` is in the run's journal before `before` is run, like everything that must be undone: [`crate::backup::release`] runs it, in every outcome,
//! and `recover` after a death.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::backup::{BackupError, Environment};
use crate::blocking::off_thread;
use crate::catalog::Recorded;
use crate::config::{Hook, HooksConfig};
use crate::error::{Exit, Explain};
use crate::exec::{Command, ExecError, SharedExec};
use crate::host;
use crate::ids::RunId;

/// Lines of what a hook prints that are told.
const LINES_TOLD: usize = 20;

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, strum::Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Moment {
    /// Before anything else.
    Before,
    /// When a backup was made.
    After,
    /// When there is none, or something is left, or it could not be copied.
    Failed,
    /// When all is given back.
    Finally,
}

/// What a hook reads as JSON from its standard input. Stays stable.
#[derive(Debug, Serialize)]
pub struct Told<'a> {
    /// Which hook it is.
    pub hook: Moment,
    /// When it was begun.
    pub at: Timestamp,
    /// This host.
    pub host: String,
    /// The run, where one was begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// To `after`, and to `failed` where it is made and not copied: the backup, as `backup --json` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<&'a Recorded>,
    /// To `failed`: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Reason>,
}

/// Why there is no backup, or no copy of it.
#[derive(Debug, Serialize)]
pub struct Reason {
    /// What happened.
    pub error: String,
    /// What to do next.
    pub hint: Option<String>,
    /// What the program ends with.
    pub exit_code: i32,
}

impl<'a> Told<'a> {
    fn new(hook: Moment) -> Self {
        Self {
            hook,
            at: Timestamp::now(),
            host: host::name(),
            run: None,
            backup: None,
            failure: None,
        }
    }
}

/// A hook failed.
#[derive(Debug, Error)]
#[error("the hook `{moment}` failed: {source}")]
pub struct HookError {
    /// Which.
    pub moment: Moment,
    /// How.
    pub source: ExecError,
}

impl HookError {
    fn is_interrupted(&self) -> bool {
        self.source.exit() == Exit::Interrupted
    }
}

impl Explain for HookError {
    fn hint(&self) -> Option<String> {
        Some(match self.moment {
            Moment::Before if self.is_interrupted() => return None,
            Moment::Before => {
                "nothing was touched; see what the command says, and run the backup again".into()
            }
            Moment::After => "the backup is complete; what the hook was to do is not done".into(),
            Moment::Failed | Moment::Finally => "see what the command says".into(),
        })
    }

    fn exit(&self) -> Exit {
        if self.is_interrupted() {
            return Exit::Interrupted;
        }
        match self.moment {
            Moment::Before => Exit::BackupFailed,
            Moment::After | Moment::Failed | Moment::Finally => Exit::Failed,
        }
    }
}

/// Writes down what undoes the hook `before`, and runs that, as long as the run is not to end.
///
/// # Errors
/// [`BackupError::Hook`] where it fails; [`BackupError::Journal`].
pub async fn before(run: &mut Run, env: &Environment) -> Result<(), BackupError> {
    let hooks = &env.config.hooks;
    if let Some(hook) = &hooks.finally {
        run.plan_one(Resource::Hook {
            hook: hook.clone(),
            run: run.id(),
        })?;
    }
    let Some(hook) = &hooks.before else {
        return Ok(());
    };
    let told = Told {
        run: Some(run.id()),
        ..Told::new(Moment::Before)
    };
    Ok(call(hook, told, &env.tools.exec, Some(&env.cancel)).await?)
}

/// Tells the hook `after` of a backup, until `cancel` is cancelled.
///
/// # Errors
/// [`HookError`]; the backup is made all the same.
pub async fn after(
    made: &Recorded,
    hooks: &HooksConfig,
    exec: &SharedExec,
    cancel: &CancellationToken,
) -> Result<(), HookError> {
    let Some(hook) = &hooks.after else {
        return Ok(());
    };
    let told = Told {
        run: Some(made.run()),
        backup: Some(made),
        ..Told::new(Moment::After)
    };
    call(hook, told, exec, Some(cancel)).await
}

/// Tells the hook `failed` why there is no backup, or no copy of the one that was `made`. That it fails as well is only told.
pub async fn failed(
    why: &dyn Explain,
    made: Option<&Recorded>,
    hooks: &HooksConfig,
    exec: &SharedExec,
) {
    let Some(hook) = &hooks.failed else {
        return;
    };
    let told = Told {
        run: made.map(Recorded::run),
        backup: made,
        failure: Some(Reason {
            error: why.to_string(),
            hint: why.hint(),
            exit_code: why.exit() as i32,
        }),
        ..Told::new(Moment::Failed)
    };
    if let Err(error) = call(hook, told, exec, None).await {
        tracing::warn!("{error}");
    }
}

/// Runs the hook `finally` of `run`, which is over.
///
/// # Errors
/// [`ExecError`].
pub async fn finally(hook: &Hook, run: RunId, exec: &SharedExec) -> Result<(), ExecError> {
    let told = Told {
        run: Some(run),
        ..Told::new(Moment::Finally)
    };
    let undone = call(hook, told, exec, None).await;
    undone.map_err(|failed| failed.source)
}

/// What tells of an end or undoes has no `cancel`: it is run in every outcome.
async fn call(
    hook: &Hook,
    told: Told<'_>,
    exec: &SharedExec,
    cancel: Option<&CancellationToken>,
) -> Result<(), HookError> {
    let moment = told.hook;
    // All of it is made of strings, numbers and maps with strings for keys.
    let stdin = serde_json::to_vec(&told).unwrap_or_default();
    let command = command(hook, stdin).until(cancel);
    tracing::debug!("running the hook `{moment}`: {command}");
    let exec = exec.clone();
    let said = off_thread(move || exec.run(&command)).await;
    let said = said.map_err(|source| HookError { moment, source })?;
    for line in said.lines().take(LINES_TOLD) {
        tracing::info!("hook `{moment}`: {line}");
    }
    Ok(())
}

fn command(hook: &Hook, stdin: Vec<u8>) -> Command {
    let (program, arguments) = hook.command.split_first().unzip();
    let program = program.cloned().unwrap_or_default();
    let limit: Duration = hook.timeout.0;
    Command::new(program, arguments.into_iter().flatten())
        .reads(stdin)
        .timeout(limit)
        // What undoes `before` must not come before it has ended.
        .bound()
        .buried()
}

#[cfg(test)]
mod tests;
