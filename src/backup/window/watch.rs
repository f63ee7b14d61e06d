//! Looking at the members while they are held, so that a long window does not go on in vain.

use std::time::Duration;

use futures_util::future::{pending, select_all};

use super::{Terms, WindowError};
use crate::mongo::{MongoError, Mongod, ServerProcess};

/// Pause between two looks at a member.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Resolves only when a member has lost its lock, and never where the window is not to be watched.
///
/// A member that does not answer in time may be busy and is not taken for lost: how long it may be held is the guard's business.
pub async fn lost(terms: &Terms<'_>) -> WindowError {
    if !terms.watched || terms.to_lock().is_empty() {
        return pending().await;
    }
    let watching = terms
        .to_lock()
        .iter()
        .map(|(mongod, process)| Box::pin(watch(mongod, *process)));
    select_all(watching).await.0
}

async fn watch(mongod: &Mongod, process: ServerProcess) -> WindowError {
    // `currentOp` is good for watching only where it shows the lock at all.
    let mut shown = false;
    let mut unreachable = 0;
    loop {
        if mongod.has_ended() {
            return lost_lock(mongod, "mongod has ended");
        }
        match look(mongod).await {
            Ok((found, _)) if found != process => {
                return lost_lock(mongod, "mongod was restarted");
            }
            Ok((_, true)) => {
                shown = true;
                unreachable = 0;
            }
            Ok((_, false)) if shown => return lost_lock(mongod, "somebody else unlocked it"),
            Ok((_, false)) => unreachable = 0,
            // Once may be a connection that broke; the next look makes a new one.
            Err(MongoError::Unreachable { .. }) if unreachable == 0 => unreachable = 1,
            Err(error @ MongoError::Unreachable { .. }) => return error.into(),
            Err(error) => tracing::debug!(%error, "cannot see whether it is still locked"),
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Which server process answers, and whether it is locked.
async fn look(mongod: &Mongod) -> Result<(ServerProcess, bool), MongoError> {
    let process = mongod.process_id().await?;
    Ok((process, mongod.lock_state("").await?.locked))
}

fn lost_lock(mongod: &Mongod, found: &'static str) -> WindowError {
    WindowError::LostLock {
        member: mongod.addr().clone(),
        found,
    }
}
