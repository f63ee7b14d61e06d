//! Unlocking by hand: what is locked, whose lock it is, and taking it off.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde::Serialize;
use thiserror::Error;

use crate::backup::journal::Owner;
use crate::backup::journal::survey::{self, Seen};
use crate::backup::release::Tools;
use crate::config::Config;
use crate::error::{Exit, Explain};
use crate::ids::{MemberAddr, RunId};
use crate::mongo::process::SearchFailed;
use crate::mongo::topology::discover;
use crate::mongo::{self, MongoError, UnlockOutcome};
use crate::recover::{self, Failure, RecoverError};

/// How unlocking introduces itself to mongod.
const APP_NAME: &str = "freezeframe-unlock";
/// More locks than anybody nests; the end of a loop that a server which never says "not locked" would make endless.
const MOST_LOCKS: u32 = 1000;

/// A member and whether it is locked.
#[derive(Debug, Serialize)]
pub struct LockedMember {
    /// The member.
    pub member: MemberAddr,
    /// Whether it is fsyncLocked.
    pub locked: bool,
    /// The run whose journal names a lock on it.
    pub run: Option<RunId>,
    /// That run, where it lives: then the lock is its own business.
    pub at_work: Option<Owner>,
    /// Why it could not be asked; nobody knows then whether it is locked.
    pub error: Option<String>,
}

/// What came of unlocking a member.
#[derive(Debug, Serialize)]
pub struct Unlocking {
    /// The member.
    pub member: MemberAddr,
    /// Locks taken off here; those given back by recovery of their run are not counted.
    pub taken_off: u32,
    /// Whether it is locked all the same.
    pub still_locked: bool,
    /// The living run whose lock was left alone.
    pub at_work: Option<Owner>,
    /// The dead run whose lock it may still be.
    pub run: Option<RunId>,
    /// Why it could not be unlocked, or not be asked whether it is.
    pub error: Option<String>,
}

/// What came of unlocking.
#[derive(Debug)]
pub struct TakenOff {
    /// Of each member.
    pub members: Vec<Unlocking>,
    /// What else the dead runs left, and could not be given back either.
    pub left: Vec<Failure>,
}

/// Why unlocking could not be done.
#[derive(Debug, Error)]
pub enum UnlockError {
    /// The run that holds the lock could not be recovered.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The host's processes cannot be searched.
    #[error(transparent)]
    Search(#[from] SearchFailed),
    /// There is nobody to unlock.
    #[error("no mongod was named, configured or found on this host")]
    NoMember,
}

impl Explain for UnlockError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Recover(error) => error.hint(),
            Self::Search(error) => error.hint(),
            Self::NoMember => Some("name one with --member HOST:PORT".into()),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::NoMember => Exit::Usage,
            _ => Exit::StillHeld,
        }
    }
}

/// The lock state of `named` members, else of the configured ones, else of all found on this host.
///
/// # Errors
/// [`UnlockError`] when there is nobody to ask. A member that does not answer is told of and hides no other.
pub async fn survey(
    config: &Config,
    tools: &Tools,
    named: &[MemberAddr],
) -> Result<Vec<LockedMember>, UnlockError> {
    let members = if !named.is_empty() {
        named.to_vec()
    } else if !config.mongodb.members.is_empty() {
        config.mongodb.members.clone()
    } else {
        let found = discover(
            &tools.access,
            APP_NAME,
            &config.mongodb.exclude,
            tools.timeout,
        )
        .await?;
        let mongods = found.mongods.into_iter();
        mongods.filter_map(|found| found.addr).collect()
    };
    if members.is_empty() {
        return Err(UnlockError::NoMember);
    }
    let runs = runs_with_journals(config);
    let asking = members.into_iter().map(|member| async {
        let answer = async {
            let mongod = mongo::connect(&member, &tools.access, APP_NAME, tools.timeout).await?;
            let state = mongod.lock_state("").await?;
            Ok((state.locked, mongod.process_id().await?))
        };
        let answer: Result<_, MongoError> = answer.await;
        let (locked, holder, error) = match answer {
            // By its process and not by its address: one server has many names. A living run before a dead one, whose lock
            // may have gone long ago.
            Ok((true, process)) => {
                let holders = runs.iter().filter(|run| run.holds(process));
                (true, holders.max_by_key(|run| run.alive), None)
            }
            Ok((false, _)) => (false, None, None),
            Err(error) => (false, None, Some(error.to_string())),
        };
        LockedMember {
            run: holder.map(|holder| holder.owner.run),
            at_work: holder
                .filter(|holder| holder.alive)
                .map(|holder| holder.owner.clone()),
            member,
            locked,
            error,
        }
    });
    Ok(join_all(asking).await)
}

/// Every run, living or dead, that has a journal. One that cannot be read must not keep a member locked.
fn runs_with_journals(config: &Config) -> Vec<Seen> {
    let seen = survey::survey(&config.host.state_dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "nobody knows which run took a lock");
        Vec::new()
    });
    seen.into_iter()
        .filter_map(|seen| {
            seen.inspect_err(
                |error| tracing::warn!(%error, "nobody knows which locks its run took; `freezeframe recover` gives back what can be read of it"),
            )
            .ok()
        })
        .collect()
}

/// Unlocks: locks of dead runs as recovery does, those of living runs and of strangers only with `force`. Then recovers what
/// else the dead ones left.
///
/// # Errors
/// [`UnlockError`] when the run that holds a lock cannot be recovered. A member that does not answer is told of and
/// keeps no other locked; so is one that a living run holds.
pub async fn take_off(
    members: &[LockedMember],
    force: bool,
    config: &Config,
    tools: &Tools,
) -> Result<TakenOff, UnlockError> {
    let dead = members.iter().filter(|member| member.at_work.is_none());
    let mut runs: Vec<_> = dead.filter_map(|member| member.run).collect();
    runs.sort_unstable();
    runs.dedup();
    let mut failures = BTreeMap::new();
    for run in &runs {
        match recover::unlock(&config.host.state_dir, *run, tools).await {
            Ok(failed) => {
                failures.insert(*run, failed);
            }
            // Whatever keeps the run from being recovered (its disk is read-only): --force goes past it.
            Err(error) if force => {
                tracing::warn!(%run, %error, "cannot recover the run; unlocking all the same")
            }
            Err(error) => return Err(error.into()),
        }
    }
    let failures = &failures;
    let unlocking = members.iter().map(|member| async {
        let mut taken_off = 0;
        if let (Some(owner), true) = (&member.at_work, force) {
            tracing::warn!(member = %member.member, "breaking into {}, which will fail", owner.at_work());
        }
        let unlocked = async {
            let mongod =
                mongo::connect(&member.member, &tools.access, APP_NAME, tools.timeout).await?;
            while force && taken_off < MOST_LOCKS {
                match mongod.unlock().await? {
                    UnlockOutcome::Unlocked { .. } => taken_off += 1,
                    UnlockOutcome::NotLocked => break,
                }
            }
            Ok::<_, MongoError>(mongod.lock_state("").await?.locked)
        };
        let unlocked = unlocked.await;
        let still_locked = unlocked.as_ref().is_ok_and(|locked| *locked);
        // Why recovery of its run left it locked says more than that it is.
        let failed = member.run.and_then(|run| failures.get(&run)).filter(|_| still_locked);
        let reason = failed.and_then(|failed| failed.first()).map(Failure::sentence);
        Unlocking {
            member: member.member.clone(),
            taken_off,
            still_locked,
            at_work: member.at_work.clone().filter(|_| !force),
            run: failed.and(member.run),
            error: unlocked.err().map(|error| error.to_string()).or(reason),
        }
    });
    let members = join_all(unlocking).await;
    // What else the dead runs left keeps nobody waiting; a store that is down may take its time here.
    let mut left = Vec::new();
    for run in runs {
        match recover::recover(&config.host.state_dir, Some(run), tools).await {
            Ok(recovered) => left.extend(recovered.into_iter().flat_map(|run| run.failed)),
            Err(error) => tracing::warn!(%run, %error, "what else the run left is still there"),
        }
    }
    Ok(TakenOff { members, left })
}
