//! Giving back what dead runs left behind, by what their journals say and nothing else.

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;
use thiserror::Error;

use futures_util::future::join_all;

use crate::backup::journal::{Journal, JournalError, Owner, boot_id};
use crate::backup::release::{ReleaseError, Tools, release, resume_origins};
use crate::backup::resource::Resource;
use crate::backup::run::{Run, Unreleased};
use crate::error::{Exit, Explain};
use crate::ids::RunId;

/// What became of one dead run's leftovers.
#[derive(Debug, Serialize)]
pub struct Recovered {
    /// The run.
    pub run: RunId,
    /// What it was doing.
    pub verb: String,
    /// When it began.
    pub started: Timestamp,
    /// What was given back, or was gone already, in that order.
    pub released: Vec<String>,
    /// What could not be given back, and why.
    pub failed: Vec<Failure>,
}

/// One resource that could not be given back.
#[derive(Debug, Serialize)]
pub struct Failure {
    /// What.
    pub resource: String,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// What and why, and what to do.
    pub fn sentence(&self) -> String {
        let hint = self.hint.as_ref();
        let hint = hint.map_or_else(String::new, |hint| format!(": {hint}"));
        format!("{} is not given back: {}{hint}", self.resource, self.reason)
    }
}

/// Why recovery did not begin or did not end well.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// A journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A lock could not be given back.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

impl Explain for RecoverError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Journal(error) => error.hint(),
            Self::Release(error) => error.hint(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            // A run that left something: what, nobody knows any more.
            Self::Journal(JournalError::Io { .. } | JournalError::Damaged { .. }) => {
                Exit::StillHeld
            }
            Self::Journal(error) => error.exit(),
            Self::Release(error) => error.exit(),
        }
    }
}

/// Gives back what dead runs left: all of them, or only `wanted`.
///
/// # Errors
/// [`JournalError`], after all other runs were recovered; [`JournalError::Alive`] only where `wanted` is alive. What could not be given back
/// is no error here but [`Recovered::failed`].
pub async fn recover(
    state_dir: &Path,
    wanted: Option<RunId>,
    tools: &Tools,
) -> Result<Vec<Recovered>, RecoverError> {
    let paths = match wanted {
        Some(run) => vec![Journal::path_of(state_dir, run)],
        None => {
            Journal::sweep_unborn(state_dir)?;
            Journal::all(state_dir)?
        }
    };
    let mut dead = Vec::new();
    // One journal that cannot be read must not keep what the others tell of from being given back.
    let mut broken = None;
    for path in paths {
        let journal = match Journal::take_over(&path) {
            Ok(journal) => journal,
            Err(JournalError::Alive { run, .. }) if wanted.is_none() => {
                tracing::info!(%run, "still at work; its own business");
                continue;
            }
            Err(JournalError::Busy) if wanted.is_none() => continue,
            Err(JournalError::Io { source, .. })
                if wanted.is_some() && source.kind() == std::io::ErrorKind::NotFound =>
            {
                // It ended well and took its journal along.
                continue;
            }
            Err(error) => {
                // Whatever it is: members do not stay locked for it.
                unlock_salvaged(&Journal::salvage(&path), tools).await;
                broken = broken.or(Some(error));
                continue;
            }
        };
        match Dead::of(journal) {
            Ok(run) => dead.push(run),
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    // Whatever else is slow or fails, members do not wait for it. What fails here is tried once more below, and told.
    let unlocking = dead.iter_mut().map(|dead| dead.run.unlock(tools));
    for error in join_all(unlocking)
        .await
        .into_iter()
        .filter_map(Result::err)
    {
        broken = broken.or(Some(error));
    }
    let mut recovered = Vec::new();
    for dead in dead {
        match dead.give_back_all(tools).await {
            Ok(run) => recovered.push(run),
            Err(error) => broken = broken.or(Some(error)),
        }
    }
    let Some(error) = broken else {
        return Ok(recovered);
    };
    for run in &recovered {
        let (released, failed) = (run.released.join(", "), run.failed.len());
        tracing::info!(run = %run.run, failed, "recovered; given back: {released}");
        for failure in &run.failed {
            tracing::error!(
                resource = failure.resource,
                "still held: {}",
                failure.reason
            );
        }
    }
    Err(error.into())
}

/// Gives back the locks among `outstanding`, of a dead run whose journal cannot be taken over.
async fn unlock_salvaged(outstanding: &[Resource], tools: &Tools) {
    for (lock, unlocked) in unlock_all(outstanding, tools).await {
        match unlocked {
            Ok(()) => tracing::warn!("given back, though its journal cannot be used: {lock}"),
            Err(error) => tracing::error!(%error, "still held: {lock}"),
        }
    }
}

/// Gives back the locks among `outstanding` at the same time, and has suspended origins go on, without which a member cannot unlock.
async fn unlock_all<'a>(
    outstanding: &'a [Resource],
    tools: &Tools,
) -> Vec<(&'a Resource, Result<(), ReleaseError>)> {
    let locks = outstanding
        .iter()
        .filter(|resource| matches!(resource, Resource::Lock { .. }));
    let unlocking = locks.map(|lock| async move { (lock, release(lock, tools).await) });
    tokio::join!(join_all(unlocking), resume_origins(outstanding, tools)).0
}

/// A dead run whose journal is ours now.
struct Dead {
    owner: Owner,
    run: Run,
    /// What it left, last acquired first.
    left: Vec<String>,
}

impl Dead {
    fn of(journal: Journal) -> Result<Self, JournalError> {
        let owner = journal.owner().clone();
        let mut run = Run::of_dead(journal);
        let outstanding = run.outstanding();
        let left = outstanding.iter().rev().map(ToString::to_string);
        let left = left.collect();
        // Members run on this host: their processes, and with them our locks, ended with the boot they were of.
        if owner.boot != boot_id() {
            run.settle_where(|resource| matches!(resource, Resource::Lock { .. }))?;
        }
        Ok(Self { owner, run, left })
    }

    async fn give_back_all(self, tools: &Tools) -> Result<Recovered, JournalError> {
        let Self {
            owner,
            run,
            left: mut released,
        } = self;
        let failed = failures(run.finish(tools).await?);
        released.retain(|resource| !failed.iter().any(|failure| failure.resource == *resource));
        Ok(Recovered {
            run: owner.run,
            verb: owner.verb,
            started: owner.started,
            released,
            failed,
        })
    }
}

fn failures(unreleased: Vec<Unreleased>) -> Vec<Failure> {
    let failures = unreleased.into_iter().map(|left| Failure {
        resource: left.resource.to_string(),
        reason: left.error.to_string(),
        hint: left.error.hint(),
    });
    failures.collect()
}

/// Gives back the locks of dead run `wanted`, and nothing else of it. Tells which could not be given back.
///
/// # Errors
/// As [`recover`].
pub async fn unlock(
    state_dir: &Path,
    wanted: RunId,
    tools: &Tools,
) -> Result<Vec<Failure>, RecoverError> {
    let path = Journal::path_of(state_dir, wanted);
    let journal = match Journal::take_over(&path) {
        Err(JournalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        Err(error @ (JournalError::Io { .. } | JournalError::Damaged { .. })) => {
            tracing::warn!(%error, "its locks are given back all the same");
            let outstanding = Journal::salvage(&path);
            let unlocked = unlock_all(&outstanding, tools).await.into_iter();
            let failed = unlocked.filter_map(|(lock, unlocked)| {
                Some(Unreleased {
                    resource: lock.clone(),
                    error: unlocked.err()?,
                })
            });
            return Ok(failures(failed.collect()));
        }
        taken => taken?,
    };
    Ok(failures(Dead::of(journal)?.run.unlock(tools).await?))
}

/// What the timer does: the window of `run` should be over. Where the run is dead everything is given back;
/// where it lives (stopped, stuck) only its locks are, because the rest is still its own. The same where its journal
/// can be read and not written: an unlocked member matters more than a journal that says so.
///
/// # Errors
/// [`RecoverError`]; a lock that cannot be given back is an error here.
pub async fn overdue(
    state_dir: &Path,
    run: RunId,
    tools: &Tools,
) -> Result<Vec<Recovered>, RecoverError> {
    let unwritable = match recover(state_dir, Some(run), tools).await {
        Err(RecoverError::Journal(JournalError::Alive { .. })) => None,
        Err(RecoverError::Journal(error @ JournalError::Io { .. })) => Some(error),
        other => return other,
    };
    let (_, outstanding) = Journal::peek(&Journal::path_of(state_dir, run))?;
    for (_, unlocked) in unlock_all(&outstanding, tools).await {
        unlocked?;
    }
    unwritable.map_or(Ok(Vec::new()), |error| Err(error.into()))
}
