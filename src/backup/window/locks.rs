//! Taking every lock at once, giving every lock back at once, and judging what came of it.

use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{Terms, WindowError};
use crate::backup::boundary::{Boundary, Step};
use crate::backup::guard::give_back::give_back;
use crate::backup::guard::{Expectation, GivenBack, Guard, GuardError, Unlocked};
use crate::backup::timeline::Timeline;
use crate::clock::monotonic_us;
use crate::ids::MemberAddr;
use crate::mongo::MongoError;
use crate::test_switch::{self, Rope};

/// How long the guard's report of a commanded release is waited for before we unlock by ourselves.
const RELEASE_PATIENCE: Duration = Duration::from_secs(20);

/// One member's lock: when the command was sent, and what came back.
#[derive(Debug)]
pub struct Locked {
    /// The member.
    pub member: MemberAddr,
    /// Microseconds of the monotonic clock.
    pub sent_us: i64,
    /// Its lock count after ours.
    pub reply: Result<i64, MongoError>,
}

/// Sends every member its lock command at once and waits for all the answers, or until `stop` is cancelled: then
/// nobody knows what became of those not answered.
pub async fn lock_all(
    terms: &Terms<'_>,
    timeline: &Timeline,
    comment: &str,
    stop: &CancellationToken,
) -> Vec<Locked> {
    let locking = terms.to_lock().iter().map(|(mongod, _)| async {
        let running = timeline.begin(Step::Lock, mongod.addr().to_string());
        let sent_us = running.start_us;
        let mongod_in_time = mongod.with_timeout(terms.limit);
        let reply = tokio::select! {
            biased;
            () = std::future::ready(()), if test_switch::is_off(Rope::Lock) => Ok(1),
            reply = mongod_in_time.lock(comment) => reply.map(|count| count.0),
            () = stop.cancelled() => Err(MongoError::LockOutcomeUnknown {
                addr: mongod.addr().clone(),
                detail: "it was not waited for any longer".into(),
            }),
        };
        running.end();
        Locked {
            member: mongod.addr().clone(),
            sent_us,
            reply,
        }
    });
    join_all(locking).await
}

/// Whether every lock was taken and is the only one.
///
/// # Errors
/// The first member's that is not so. Tell it only after everything was given back.
pub fn all_ours(locked: &[Locked]) -> Result<(), WindowError> {
    for lock in locked {
        match &lock.reply {
            Ok(1) => {}
            Ok(count) => {
                return Err(WindowError::ForeignLock {
                    member: lock.member.clone(),
                    count: *count,
                });
            }
            Err(MongoError::LockOutcomeUnknown { addr, detail }) => {
                return Err(WindowError::LockUnanswered {
                    member: addr.clone(),
                    detail: detail.clone(),
                });
            }
            Err(error) => return Err(error.clone().into()),
        }
    }
    Ok(())
}

/// What to expect of each member whose lock command was sent. A command that was refused holds nothing.
pub fn expectations(locked: &[Locked]) -> Vec<(MemberAddr, Expectation)> {
    let expectation = |lock: &Locked| match &lock.reply {
        Ok(_) => Some((lock.member.clone(), Expectation::Held)),
        Err(MongoError::LockOutcomeUnknown { .. }) => {
            Some((lock.member.clone(), Expectation::Unsure))
        }
        Err(_) => None,
    };
    locked.iter().filter_map(expectation).collect()
}

/// Unlocks through the guard, or alone where the guard is gone, and judges what came of it.
///
/// # Errors
/// [`WindowError::StillLocked`] before any other; else whatever made the window invalid.
pub async fn close(
    terms: &Terms<'_>,
    timeline: &Timeline,
    comment: &str,
    guard: &mut Guard,
    locked: &[Locked],
) -> Result<Vec<Unlocked>, WindowError> {
    let expected = expectations(locked);
    Boundary::Begun(Step::Unlock).reach();
    let released = guard.release(expected.clone(), RELEASE_PATIENCE).await;
    Boundary::Ended(Step::Unlock).reach();
    match released {
        Ok(unlocked) => {
            note(timeline, &unlocked);
            judge(&expected, unlocked)
        }
        Err(broken) => {
            close_alone(terms, timeline, comment, &broken, locked).await?;
            Err(broken.into())
        }
    }
}

/// Unlocks what a guard that acted by itself, or is gone, has not unlocked.
///
/// # Errors
/// As [`close`].
pub async fn close_alone(
    terms: &Terms<'_>,
    timeline: &Timeline,
    comment: &str,
    broken: &GuardError,
    locked: &[Locked],
) -> Result<Vec<Unlocked>, WindowError> {
    // What the guard found unlocked may have been locked by a command of ours that landed since.
    let done: Vec<Unlocked> = match broken {
        GuardError::Fired { members, .. } => members
            .iter()
            .filter(|one| one.outcome != GivenBack::NotLocked)
            .cloned()
            .collect(),
        _ => Vec::new(),
    };
    let expected = expectations(locked);
    let open: Vec<_> = expected
        .iter()
        .filter(|(member, _)| !done.iter().any(|one| one.member == *member))
        .cloned()
        .collect();
    let mut unlocked = unlock_alone(terms, comment, &open).await;
    unlocked.extend(done);
    note(timeline, &unlocked);
    judge(&expected, unlocked)
}

fn note(timeline: &Timeline, unlocked: &[Unlocked]) {
    for one in unlocked {
        timeline.note(
            Step::Unlock,
            one.member.to_string(),
            one.sent_us,
            one.done_us,
        );
    }
}

fn judge(
    expected: &[(MemberAddr, Expectation)],
    unlocked: Vec<Unlocked>,
) -> Result<Vec<Unlocked>, WindowError> {
    let missing = |member: &&MemberAddr| !unlocked.iter().any(|one| one.member == **member);
    let still: Vec<_> = expected
        .iter()
        .map(|(member, _)| member)
        .filter(missing)
        .cloned()
        .collect();
    if !still.is_empty() {
        return Err(WindowError::StillLocked { members: still });
    }
    for one in &unlocked {
        let member = one.member.clone();
        match one.outcome {
            GivenBack::Unlocked { remaining: 0 } => {}
            GivenBack::Unlocked { remaining } => {
                return Err(WindowError::ForeignLock {
                    member,
                    count: remaining,
                });
            }
            GivenBack::NotLocked if test_switch::is_off(Rope::Lock) => {}
            GivenBack::NotLocked => {
                return Err(WindowError::LostLock {
                    member,
                    found: "somebody else unlocked it",
                });
            }
            GivenBack::Restarted => {
                return Err(WindowError::LostLock {
                    member,
                    found: "mongod was restarted",
                });
            }
        }
    }
    Ok(unlocked)
}

/// Unlocks without the guard. Members missing from the answer could not be unlocked in time.
async fn unlock_alone(
    terms: &Terms<'_>,
    comment: &str,
    expected: &[(MemberAddr, Expectation)],
) -> Vec<Unlocked> {
    let unlocking = terms.to_lock().iter().filter_map(|(mongod, process)| {
        let (_, expectation) = expected
            .iter()
            .find(|(member, _)| member == mongod.addr())?;
        Some(async move {
            let sent_us = monotonic_us();
            let giving = give_back(mongod, process, comment, *expectation, |error| {
                tracing::warn!(member = %mongod.addr(), %error, "unlocking failed, trying again");
            });
            let outcome = tokio::time::timeout(RELEASE_PATIENCE, giving).await.ok()?;
            Some(Unlocked {
                member: mongod.addr().clone(),
                sent_us,
                done_us: monotonic_us(),
                outcome,
            })
        })
    });
    join_all(unlocking).await.into_iter().flatten().collect()
}
