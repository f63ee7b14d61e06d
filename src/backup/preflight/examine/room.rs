//! Whether what is made finds room: on its way to the store, and in it.

use super::super::{Finding, storage};
use crate::backup::Environment;
use crate::host;

/// Members are archived one after the other, so the largest tells.
pub(super) fn look_at_spool(env: &Environment, largest: u64) -> Option<Finding> {
    let spool = env.store.spool(largest)?;
    Some(match host::free_space(&spool.folder) {
        Ok(free) => storage::judge_spool(&spool, free),
        Err(error) => Finding::warning(
            spool.folder.display().to_string(),
            "spool",
            format!("cannot tell its free space: {error}"),
            "see that [host] state_dir can be used",
        ),
    })
}

/// A bucket has room for everything.
pub(super) fn look_at_room(env: &Environment, before: Option<u64>, data: u64) -> Option<Finding> {
    let folder = env.store.local_path()?;
    Some(match host::free_space(folder) {
        Ok(free) => storage::judge_room(folder, free, before, data),
        Err(error) => Finding::warning(
            folder.display().to_string(),
            "room",
            format!("cannot tell its free space: {error}"),
            "see that the folder of [store] can be used",
        ),
    })
}
