//! Flush, lock and unlock.
//!
//! The lock belongs to the server, not to us: it outlives the connection, nests, and a command
//! whose answer we did not wait for still lands. So the reply's `lockCount` is what counts.

use mongodb::bson::{Document, doc};
use serde::{Deserialize, Serialize};

use super::{MongoError, Mongod};

/// How many fsync locks are held on a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LockCount(pub i64);

/// What an unlock did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnlockOutcome {
    /// One lock was taken off.
    Unlocked {
        /// Locks still held.
        remaining: LockCount,
    },
    /// There was none.
    NotLocked,
}

/// What `currentOp` says about the lock; good for watching, not for deciding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockState {
    /// The `fsyncLock` flag. It shows already while a lock still waits to be taken (seen on 6.0.5).
    pub locked: bool,
    /// A lock command with our comment is still waiting on the server.
    pub pending_ours: bool,
}

/// The codes of an unlock without a lock: newer servers say IllegalOperation; 6.0 gives none,
/// and has no other refusal without a code.
const NOT_LOCKED: [i32; 2] = [20, 0];

impl Mongod {
    /// Writes everything dirty to disk (`fsync` without lock), so that the lock after it is short.
    ///
    /// # Errors
    /// [`MongoError`]; after a timeout the server goes on flushing.
    pub async fn flush(&self) -> Result<(), MongoError> {
        self.run("fsync", doc! { "fsync": 1 }).await.map(drop)
    }

    /// Takes one fsync lock. `comment` shows in `currentOp` and makes [`Mongod::lock_state`] know it again.
    ///
    /// # Errors
    /// [`MongoError::LockOutcomeUnknown`] when no answer came: the lock may be held or land later.
    /// Any other error means that this call holds nothing.
    pub async fn lock(&self, comment: &str) -> Result<LockCount, MongoError> {
        let command = doc! { "fsync": 1, "lock": true, "comment": comment };
        let reply = self
            .run("fsync", command)
            .await
            .map_err(|error| match error {
                error @ (MongoError::TimedOut { .. }
                | MongoError::Unreachable { .. }
                | MongoError::Reply { .. }) => MongoError::LockOutcomeUnknown {
                    addr: self.addr().clone(),
                    detail: error.to_string(),
                },
                other => other,
            })?;
        lock_count(&reply).ok_or_else(|| MongoError::LockOutcomeUnknown {
            addr: self.addr().clone(),
            detail: "the reply has no lockCount".into(),
        })
    }

    /// Takes one fsync lock off.
    ///
    /// # Errors
    /// [`MongoError::UnlockOutcomeUnknown`] when no answer came.
    pub async fn unlock(&self) -> Result<UnlockOutcome, MongoError> {
        match self.run("fsyncUnlock", doc! { "fsyncUnlock": 1 }).await {
            Ok(reply) => lock_count(&reply)
                .map(|remaining| UnlockOutcome::Unlocked { remaining })
                .ok_or_else(|| MongoError::UnlockOutcomeUnknown {
                    addr: self.addr().clone(),
                    detail: "the reply has no lockCount".into(),
                }),
            Err(MongoError::Command { code, .. }) if NOT_LOCKED.contains(&code) => {
                Ok(UnlockOutcome::NotLocked)
            }
            Err(
                error @ (MongoError::TimedOut { .. }
                | MongoError::Unreachable { .. }
                | MongoError::Reply { .. }),
            ) => Err(MongoError::UnlockOutcomeUnknown {
                addr: self.addr().clone(),
                detail: error.to_string(),
            }),
            Err(other) => Err(other),
        }
    }

    /// What `currentOp` says about the lock, and about a lock command of ours with `comment`.
    ///
    /// # Errors
    /// [`MongoError`] when it cannot be asked.
    pub async fn lock_state(&self, comment: &str) -> Result<LockState, MongoError> {
        let filter = doc! { "currentOp": 1, "$all": true, "command.comment": comment };
        let reply = self.run("currentOp", filter).await?;
        let waiting = reply
            .get_array("inprog")
            .map_err(|error| self.odd_reply("currentOp", error.to_string()))?;
        Ok(LockState {
            locked: reply.get_bool("fsyncLock").unwrap_or(false),
            pending_ours: waiting.iter().any(|operation| {
                operation
                    .as_document()
                    .and_then(|operation| operation.get_document("command").ok())
                    .is_some_and(|command| command.contains_key("fsync"))
            }),
        })
    }
}

fn lock_count(reply: &Document) -> Option<LockCount> {
    super::facts::integer(reply, "lockCount").map(LockCount)
}
