//! Ending one: by hand, or because its time is over.

use jiff::Timestamp;

use super::{Kept, KeptError};
use crate::backup::run::Run;
use crate::backup::{BackupError, Environment, conclude};

/// What the run journal says it does.
const REMOVE: &str = "snapshot remove";

/// Removes a kept snapshot: what of it could not be removed is in the journal, and `recover` tries it again.
///
/// # Errors
/// [`KeptError::RollingBack`] where it is being put back; [`BackupError::StillHeld`]; [`BackupError::NotBegun`] while another run is at work, which may be reading it.
pub async fn remove(env: &Environment, kept: &Kept) -> Result<(), BackupError> {
    let state_dir = &env.config.host.state_dir;
    if kept.rolling_back {
        return Err(KeptError::RollingBack { name: kept.name() }.into());
    }
    let mut run = Run::begin_alone(state_dir, REMOVE).map_err(BackupError::NotBegun)?;
    let planned = run.plan(kept.resources(state_dir));
    conclude(run, planned.map(drop).map_err(BackupError::from), env).await
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
