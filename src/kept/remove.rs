//! Ending one: by hand, or because its time is over.

use jiff::Timestamp;

use super::condition::{State, look};
use super::{Kept, KeptError};
use crate::backup::plan::PlannedPicture;
use crate::backup::run::Run;
use crate::backup::{BackupError, Environment, conclude};
use crate::blocking::off_thread;

/// What the run journal says it does.
const REMOVE: &str = "snapshot remove";

/// Removes a kept snapshot, its record last. One that will not go is kept still.
///
/// # Errors
/// [`KeptError::RollingBack`], [`KeptError::Unknown`] and [`KeptError::Stays`]; [`BackupError::NotBegun`] while another run is at work, which
/// may be reading it.
pub async fn remove(env: &Environment, kept: &Kept) -> Result<(), BackupError> {
    let state_dir = &env.config.host.state_dir;
    let mut run = Run::begin_alone(state_dir, REMOVE).map_err(BackupError::NotBegun)?;
    let removed = forget(&mut run, env, kept).await;
    conclude(run, removed, env).await
}

async fn forget(run: &mut Run, env: &Environment, kept: &Kept) -> Result<(), BackupError> {
    let (exec, looked_at) = (env.tools.exec.clone(), kept.clone());
    let condition = off_thread(move || look(&exec, &looked_at)).await;
    // What is lost goes; what nobody can look at may be good.
    if condition.state != State::Lost {
        condition.usable(kept)?;
    }
    let pictures = kept.pictures.iter().flat_map(PlannedPicture::resources);
    let entries = run.plan(pictures.collect())?;
    if let Some(left) = run.release(&entries, &env.tools).await?.into_iter().next() {
        // Not this run's to give back any more: it would keep every backup from being made.
        run.settled(&entries)?;
        return Err(KeptError::Stays {
            name: kept.name(),
            reason: left.error.to_string(),
        }
        .into());
    }
    // It goes with the run.
    run.plan_one(kept.record(&env.config.host.state_dir))?;
    Ok(())
}

/// Removes those whose time is over, and says so. One that will not go is told of, and keeps nobody from anything.
pub async fn remove_overdue(env: &Environment, now: Timestamp) {
    let all = match Kept::all(&env.config.host.state_dir) {
        Ok(all) => all,
        Err(error) => {
            tracing::warn!(%error, "cannot look for kept snapshots whose time is over");
            return;
        }
    };
    let overdue = all.into_iter().flatten();
    for kept in overdue.filter(|kept| kept.keep_until <= now && !kept.rolling_back) {
        match remove(env, &kept).await {
            Ok(()) => tracing::info!(
                "removed the snapshot {}: it was to be kept until {}",
                kept.name(),
                kept.keep_until
            ),
            Err(error) => {
                tracing::warn!(%error, "the snapshot {} is overdue and stays", kept.name());
            }
        }
    }
}
