//! Putting one back: the volumes hold again what they held when it was taken.
//!
//! That cannot be undone, so it only goes forward: before anything changes, what is mounted where is written beside the record, and a
//! rollback that was cut off is gone on with by asking for it again. Its snapshots are used up by it, and its record goes with them.

mod plan;
mod storage;

pub use plan::{Plan, plan};

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::condition::look;
use super::{Kept, KeptError};
use crate::backup::run::Run;
use crate::backup::{BackupError, Environment, conclude};
use crate::blocking::off_thread;
use crate::progress::Progress;
use plan::is_stopped;
use storage::Storage;

/// What the run journal says it does.
const ROLLBACK: &str = "rollback";
/// Between two looks at volumes that are merged.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Does what `plan` says, and waits until it is done.
///
/// # Errors
/// [`BackupError`]. Where nothing was merged yet everything is mounted again; else asking again goes on with it.
pub async fn roll_back(env: &Environment, plan: &Plan) -> Result<(), BackupError> {
    let state_dir = &env.config.host.state_dir;
    let mut run = Run::begin_alone(state_dir, ROLLBACK).map_err(BackupError::NotBegun)?;
    let done = forward(&mut run, env, plan).await;
    conclude(run, done, env).await
}

async fn forward(run: &mut Run, env: &Environment, plan: &Plan) -> Result<(), BackupError> {
    let state_dir = env.config.host.state_dir.clone();
    let storage = Storage::new(env.tools.exec.clone());
    let (planned, worker) = (plan.clone(), storage.clone());
    let exec = env.tools.exec.clone();
    let merging = move || {
        let lost = match planned.under_way && !worker.is_begun(&planned)? {
            // It may have overflowed since it was cut off.
            true => {
                let kept = Kept {
                    rolling_back: false,
                    ..planned.kept.clone()
                };
                look(&exec, &kept).is_lost()
            }
            false => None,
        };
        let begun = match lost {
            Some(reason) => Err(KeptError::Lost {
                name: planned.kept.name(),
                reason,
            }),
            None => planned
                .write(&state_dir)
                .and_then(|()| worker.unmount(&planned))
                .and_then(|()| worker.merge(&planned)),
        };
        if let Err(error) = begun {
            // Where nothing was merged all is mounted again; what has to be is known until it is.
            if !worker.is_begun(&planned)? {
                worker.mount(&planned)?;
                planned.forget(&state_dir)?;
            }
            return Err(error);
        }
        worker.mount(&planned)?;
        is_stopped(&planned.kept)?;
        worker.exchange(&planned)
    };
    off_thread(merging).await?;
    env.progress
        .say("everything is as it was when the snapshot was taken");
    merged(&storage, plan, env.progress.as_ref(), &env.cancel).await?;
    // It goes with the run.
    run.plan_one(plan.kept.record(&env.config.host.state_dir))?;
    Ok(())
}

/// Waits until nothing is left of the snapshots. The volumes can be used meanwhile: the kernel reads what is not merged yet from the snapshot.
async fn merged(
    storage: &Storage,
    plan: &Plan,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<(), KeptError> {
    let mut told = Vec::new();
    loop {
        let (storage, planned) = (storage.clone(), plan.clone());
        let left = off_thread(move || storage.left(&planned)).await?;
        if left.is_empty() {
            return Ok(());
        }
        if left != told {
            progress.say(&format!("still merging: {}", left.join(", ")));
            told = left;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = cancel.cancelled() => return Err(KeptError::StillMerging { name: plan.kept.name() }),
        }
    }
}
