//! Giving one lock back, whatever became of it. Guard, run and `recover` all use this one way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Expectation;
use crate::mongo::{Mongod, ServerProcess, UnlockOutcome};

/// Pause between looks at a lock that may still land, and the first pause after an error.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Longest pause after an error.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Looks in a row that must find neither our lock nor a command of ours waiting for one. A command
/// written to a socket just before its client died is on the server within this time.
const QUIET_LOOKS: u32 = 10;

/// What became of one lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum GivenBack {
    /// Our unlock took one lock away; `remaining` are somebody else's.
    Unlocked {
        /// Locks left on the server.
        remaining: i64,
    },
    /// There was no lock, and none of ours is on its way.
    NotLocked,
    /// The server process has ended or is another one: the lock ended with the old one.
    Restarted,
}

/// Gives back the one lock `comment` may hold on `mongod`, as long as it is still server process `process`.
///
/// Tries until the server has given an answer that settles it; a caller that cannot wait puts a timeout around it.
/// `failed` is told of every failed try.
pub async fn give_back(
    mongod: &Mongod,
    process: &ServerProcess,
    comment: &str,
    expectation: Expectation,
    mut failed: impl FnMut(&crate::mongo::MongoError),
) -> GivenBack {
    let mut quiet = 0;
    let mut pause = LOOK_AGAIN;
    let mut expectation = expectation;
    loop {
        match attempt(mongod, process, comment, expectation).await {
            Ok(Attempt::Settled(outcome)) => return outcome,
            Ok(Attempt::Quiet) => {
                quiet += 1;
                if quiet >= QUIET_LOOKS {
                    return GivenBack::NotLocked;
                }
                pause = LOOK_AGAIN;
            }
            Ok(Attempt::OnItsWay) => {
                quiet = 0;
                pause = LOOK_AGAIN;
            }
            Err(_) if mongod.has_ended() => return GivenBack::Restarted,
            Err(error) => {
                failed(&error);
                // The unlock may have been done and only its reply lost: from here on an
                // unlocked server is an answer, too.
                expectation = Expectation::Unsure;
                quiet = 0;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

enum Attempt {
    Settled(GivenBack),
    /// No lock, and nothing of ours is waiting for one.
    Quiet,
    /// A lock command of ours is still waiting.
    OnItsWay,
}

async fn attempt(
    mongod: &Mongod,
    process: &ServerProcess,
    comment: &str,
    expectation: Expectation,
) -> Result<Attempt, crate::mongo::MongoError> {
    // With the lock known to be held the unlock goes first: nothing stands between the order and the command.
    if expectation == Expectation::Unsure && mongod.process_id().await? != *process {
        return Ok(Attempt::Settled(GivenBack::Restarted));
    }
    let outcome = match mongod.unlock().await {
        // The privilege was taken away meanwhile: that nothing is locked can still be seen.
        Err(denied) if denied.is_denied() => {
            let state = mongod.lock_state(comment).await?;
            return match state.locked || state.pending_ours {
                true => Err(denied),
                false => Ok(Attempt::Quiet),
            };
        }
        outcome => outcome?,
    };
    match outcome {
        UnlockOutcome::Unlocked { remaining } => Ok(Attempt::Settled(GivenBack::Unlocked {
            remaining: remaining.0,
        })),
        UnlockOutcome::NotLocked if mongod.process_id().await? != *process => {
            Ok(Attempt::Settled(GivenBack::Restarted))
        }
        UnlockOutcome::NotLocked if expectation == Expectation::Held => {
            Ok(Attempt::Settled(GivenBack::NotLocked))
        }
        UnlockOutcome::NotLocked => {
            let state = mongod.lock_state(comment).await?;
            Ok(if state.pending_ours || state.locked {
                Attempt::OnItsWay
            } else {
                Attempt::Quiet
            })
        }
    }
}
