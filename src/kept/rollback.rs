//! Putting one back: the volumes hold again what they held when it was taken.
//!
//! That cannot be undone, so it only goes forward: before anything changes, what is mounted where is written beside the record, and a
//! rollback that was cut off is gone on with by asking for it again. Its snapshots are used up by it, and its record goes with them.

mod mounts;
mod plan;
mod storage;

pub use plan::{Plan, can_be, plan};

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::condition::look;
use super::{Kept, KeptError};
use crate::backup::run::Run;
use crate::backup::{BackupError, Environment, conclude};
use crate::blocking::off_thread;
use crate::exec::SharedExec;
use crate::progress::Progress;
use plan::{is_stopped, is_unused};
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
    let (mut planned, worker) = (plan.clone(), storage.clone());
    let exec = env.tools.exec.clone();
    let merging = move || {
        let done = is_whole(&planned, &worker, &exec, &state_dir)
            .and_then(|()| planned.write(&state_dir))
            .and_then(|()| worker.unmount(&planned))
            .and_then(|()| worker.merge(&mut planned, &state_dir))
            .and_then(|()| worker.mount(&planned))
            .and_then(|()| is_stopped(&planned.kept))
            .and_then(|()| is_unused(&planned.kept, &planned.subvolumes))
            .and_then(|()| worker.exchange(&planned))
            .and_then(|()| planned.settle(&state_dir));
        // Where nothing was merged or exchanged all is as it was; what has to be mounted is known until it is.
        if done.is_err() && !worker.is_begun(&planned)? {
            worker.discard_copies(&planned)?;
            worker.mount(&planned)?;
            planned.forget(&state_dir)?;
        }
        done
    };
    if !plan.settled {
        off_thread(merging).await?;
    }
    env.progress
        .say("everything is as it was when the snapshot was taken");
    merged(&storage, plan, env.progress.as_ref(), &env.cancel).await?;
    // It goes with the run.
    run.plan_one(plan.kept.record(&env.config.host.state_dir))?;
    Ok(())
}

/// Whether one that was cut off can be gone on with: its snapshots may have overflowed since, or been removed.
fn is_whole(
    plan: &Plan,
    worker: &Storage,
    exec: &SharedExec,
    state_dir: &Path,
) -> Result<(), KeptError> {
    if !plan.under_way {
        return Ok(());
    }
    let name = plan.kept.name();
    if worker.is_begun(plan)? {
        return match worker.lost(plan)? {
            Some((origin, how)) => Err(KeptError::Torn {
                name,
                origin,
                how,
                record: Kept::place(state_dir, plan.kept.run),
            }),
            None => Ok(()),
        };
    }
    let kept = Kept {
        rolling_back: false,
        ..plan.kept.clone()
    };
    match look(exec, &kept).is_lost() {
        Some(reason) => Err(KeptError::Lost { name, reason }),
        None => Ok(()),
    }
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
