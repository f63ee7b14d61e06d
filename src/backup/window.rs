//! The lock window: flush, lock every member, do the one thing that must be done, unlock every member.
//!
//! Where that one thing is one snapshot of everything, it may do without the lock ([`Locking::Unlocked`]); flush, guard and timer stay:
//! the origin could be left standing still.
//!
//! The window is closed in every outcome before this returns. Its record is made only when it was
//! valid: every lock was ours alone, every unlock left nothing behind, the guard never had to act.

mod error;
mod locks;
mod watch;

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::backup::boundary::Step;
use crate::backup::guard::{Guard, GuardError, GuardPlan};
use crate::backup::journal::Entry;
use crate::backup::release::{Tools, planned_snapshots};
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::backup::timeline::Timeline;
use crate::blocking::off_thread;
use crate::clock::monotonic_us;
use crate::error::Explain;
use crate::host::{self, Systemd};
use crate::ids::{MemberAddr, OpTime, RunId};
use crate::manifest::WindowRecord;
use crate::mongo::{Mongod, ServerProcess};
use crate::test_switch::{self, Rope};
pub use error::WindowError;

/// The timer fires this long after the guard's deadline, so that it acts only where the guard did not.
const TIMER_AFTER_GUARD: Duration = Duration::from_secs(1);
/// Longest time a flush outside the lock may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(300);

/// What is held, for how long, and by what means.
#[derive(Debug)]
pub struct Terms<'a> {
    /// The members, connected, each with the server process that was examined.
    pub members: &'a [(Mongod, ServerProcess)],
    /// Whether they are locked.
    pub locking: Locking,
    /// Longest time the members may be held.
    pub limit: Duration,
    /// The provider's name, for the record.
    pub provider: &'a str,
    /// Whether the members are looked at while they are held: in a window of minutes nobody wants to learn at its end
    /// that the lock was lost at its beginning. In one of a second it would only be in the way.
    pub watched: bool,
    /// How to give back.
    pub tools: &'a Tools,
}

/// Whether members are locked while the picture is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Locking {
    /// They are.
    Locked,
    /// They are not: one snapshot holds everything there is as it was at one moment, and mongod recovers from it as from a power cut.
    Unlocked,
}

impl<'a> Terms<'a> {
    /// The members that are locked.
    fn to_lock(&self) -> &'a [(Mongod, ServerProcess)] {
        match self.locking {
            Locking::Locked => self.members,
            Locking::Unlocked => &[],
        }
    }
}

/// A valid window that is over, and what was brought out of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Closed<T> {
    /// For the manifest.
    pub record: WindowRecord,
    /// Top of each member's oplog, read under its lock; without the lock what was durable before the work began.
    pub optimes: BTreeMap<MemberAddr, OpTime>,
    /// Each locked member's lock, from command sent to unlock reply, in microseconds.
    pub locked_us: BTreeMap<MemberAddr, u64>,
    /// What the work brought.
    pub value: T,
}

impl<T> Closed<T> {
    /// The window without its value, and the value.
    pub fn split(self) -> (Closed<()>, T) {
        let Self {
            record,
            optimes,
            locked_us,
            value,
        } = self;
        (
            Closed {
                record,
                optimes,
                locked_us,
                value: (),
            },
            value,
        )
    }
}

/// Why the work in the window failed.
pub type WorkError = Box<dyn Explain + Send + Sync>;

/// Holds the members of `terms` while `work` runs.
///
/// `work` gets the timeline for its steps and a token that is cancelled when the window has broken;
/// it is always waited for, so that nothing it started goes on unseen.
///
/// # Errors
/// [`WindowError`]; only [`WindowError::StillLocked`] leaves anything behind, and the journal knows it.
pub async fn around<T, W>(
    run: &mut Run,
    terms: &Terms<'_>,
    cancel: &CancellationToken,
    work: impl FnOnce(Timeline, CancellationToken) -> W,
) -> Result<Closed<T>, WindowError>
where
    W: Future<Output = Result<T, WorkError>>,
{
    let timeline = Timeline::default();
    let comment = format!("freezeframe-{}", run.id());
    // The timer first: what is given back in reverse order must not lose it before the locks.
    let timer = plan_timer(run, terms)?;
    let locks = run.plan(planned_locks(terms, &comment))?;
    let mut guard = match Guard::start(guard_plan(run, terms, &comment), terms.tools).await {
        Ok(guard) => guard,
        Err(error) => {
            // Nothing was locked: a lock found there later would be somebody else's. Nor was the timer armed.
            run.settled(&locks)?;
            run.settled(&timer)?;
            return Err(error.into());
        }
    };
    let outcome = match make_ready(run.id(), terms, &timeline, &mut guard, cancel).await {
        Ok(()) => held(terms, &timeline, &comment, &mut guard, cancel, work).await,
        Err(error) => Err(error),
    };
    guard.dismiss().await;
    // What may still be locked stays in the journal and keeps its timer: it is tried again when the run ends.
    if !matches!(outcome, Err(WindowError::StillLocked { .. })) {
        run.settled(&locks)?;
        disarm_timer(run, &timer, terms).await?;
    }
    outcome
}

/// Everything that can be done before the lock: flush, so that the lock has little left to write; then the
/// ropes, whose time begins to run (the guard's first: the timer must not act before it); last, whether the
/// members are still the server processes that guard and journal know.
async fn make_ready(
    run: RunId,
    terms: &Terms<'_>,
    timeline: &Timeline,
    guard: &mut Guard,
    cancel: &CancellationToken,
) -> Result<(), WindowError> {
    tokio::select! {
        flushed = flush(terms, timeline) => flushed?,
        () = cancel.cancelled() => return Err(WindowError::Interrupted),
    }
    guard.arm().await?;
    arm_timer(run, terms).await?;
    same_processes(terms).await?;
    if cancel.is_cancelled() {
        return Err(WindowError::Interrupted);
    }
    Ok(())
}

/// Fails where a member was restarted since it was examined: its lock would be on a process that nobody guards.
async fn same_processes(terms: &Terms<'_>) -> Result<(), WindowError> {
    let asking = terms.members.iter().map(|(mongod, process)| async {
        match mongod.process_id().await? == *process {
            true => Ok(()),
            false => Err(WindowError::LostLock {
                member: mongod.addr().clone(),
                found: "mongod was restarted",
            }),
        }
    });
    try_join_all(asking).await.map(drop)
}

fn planned_locks(terms: &Terms<'_>, comment: &str) -> Vec<Resource> {
    let lock = |(mongod, process): &(Mongod, ServerProcess)| Resource::Lock {
        member: mongod.addr().clone(),
        process: *process,
        comment: comment.to_owned(),
        host: mongod.host_process(),
    };
    terms.to_lock().iter().map(lock).collect()
}

fn guard_plan(run: &Run, terms: &Terms<'_>, comment: &str) -> GuardPlan {
    GuardPlan {
        run: run.id(),
        members: terms
            .to_lock()
            .iter()
            .map(|(mongod, process)| (mongod.addr().clone(), *process))
            .collect(),
        hosts: terms
            .to_lock()
            .iter()
            .filter_map(|(mongod, _)| Some((mongod.addr().clone(), mongod.host_process()?)))
            .collect(),
        snapshots: planned_snapshots(&run.outstanding()).cloned().collect(),
        comment: comment.to_owned(),
        limit: terms.limit,
    }
}

/// The system manager that keeps the timer, where there is one and no test has switched it off.
fn timekeeper(terms: &Terms<'_>) -> Option<Systemd> {
    terms
        .tools
        .systemd
        .filter(|_| !test_switch::is_off(Rope::Timer))
}

fn plan_timer(run: &mut Run, terms: &Terms<'_>) -> Result<Vec<Entry>, WindowError> {
    if timekeeper(terms).is_none() {
        return Ok(Vec::new());
    }
    let unit = host::recovery_unit(run.id());
    Ok(run.plan_one(Resource::Timer { unit })?)
}

async fn arm_timer(run: RunId, terms: &Terms<'_>) -> Result<(), WindowError> {
    let Some(systemd) = timekeeper(terms) else {
        return Ok(());
    };
    let unit = host::recovery_unit(run);
    let (tools, run) = (terms.tools.clone(), run.to_string());
    let after = terms.limit + TIMER_AFTER_GUARD;
    let arming = move || {
        let arguments = [
            "--config".into(),
            tools.config.into(),
            "recover".into(),
            "--overdue".into(),
            run.into(),
        ];
        systemd.arm(
            tools.exec.as_ref(),
            &unit,
            after,
            &tools.program,
            &arguments,
        )
    };
    off_thread(arming).await.map_err(WindowError::Timer)
}

async fn disarm_timer(
    run: &mut Run,
    timer: &[Entry],
    terms: &Terms<'_>,
) -> Result<(), WindowError> {
    for unreleased in run.release(timer, terms.tools).await? {
        tracing::warn!(resource = %unreleased.resource, error = %unreleased.error, "the recovery timer stays");
    }
    Ok(())
}

async fn flush(terms: &Terms<'_>, timeline: &Timeline) -> Result<(), WindowError> {
    let flushing = terms.members.iter().map(|(mongod, _)| async {
        timeline
            .time(
                Step::Flush,
                mongod.addr().to_string(),
                mongod.with_timeout(FLUSH_PATIENCE).flush(),
            )
            .await
    });
    try_join_all(flushing).await.map(drop).map_err(Into::into)
}

async fn held<T, W>(
    terms: &Terms<'_>,
    timeline: &Timeline,
    comment: &str,
    guard: &mut Guard,
    cancel: &CancellationToken,
    work: impl FnOnce(Timeline, CancellationToken) -> W,
) -> Result<Closed<T>, WindowError>
where
    W: Future<Output = Result<T, WorkError>>,
{
    let durable = match terms.locking {
        Locking::Locked => BTreeMap::new(),
        Locking::Unlocked => read_optimes(terms, timeline).await?,
    };
    let start_us = monotonic_us();
    let (locked, broken) = lock_all(terms, timeline, comment, guard, cancel).await;
    if let Some(broken) = broken {
        let closed = locks::close_alone(terms, timeline, comment, &broken, &locked).await;
        return Err(still_locked(closed).unwrap_or(broken.into()));
    }
    if let Err(error) = locks::all_ours(&locked) {
        let closed = locks::close(terms, timeline, comment, guard, &locked).await;
        let error = match error {
            WindowError::LockUnanswered { .. } if cancel.is_cancelled() => WindowError::Interrupted,
            error => error,
        };
        return Err(still_locked(closed).unwrap_or(error));
    }
    let inner = cancel.child_token();
    let mut work = pin!(async {
        tokio::join!(work(timeline.clone(), inner.clone()), async {
            match terms.locking {
                Locking::Locked => read_optimes(terms, timeline).await,
                Locking::Unlocked => Ok(durable),
            }
        })
    });
    let brought = tokio::select! {
        // A window that broke at the very end is broken.
        biased;
        broken = guard.broken() => Err(WindowError::Guard(broken)),
        () = cancel.cancelled() => Err(WindowError::Interrupted),
        lost = watch::lost(terms) => Err(lost),
        brought = &mut work => Ok(brought),
    };
    let unlocked = match &brought {
        Err(WindowError::Guard(broken)) => {
            locks::close_alone(terms, timeline, comment, broken, &locked).await
        }
        _ => locks::close(terms, timeline, comment, guard, &locked).await,
    };
    let (value, optimes) = match brought {
        Ok((value, optimes)) => (value.map_err(WindowError::Work), optimes),
        Err(error) => {
            // The members are free again; what the work began must still come to its end, so that
            // giving back finds everything there is.
            inner.cancel();
            let _ = work.await;
            return Err(still_locked(unlocked).unwrap_or(error));
        }
    };
    let unlocked = match (value.as_ref().err(), unlocked) {
        (Some(_), Err(error @ WindowError::StillLocked { .. })) | (None, Err(error)) => {
            return Err(error);
        }
        // Files that vanish or change are what a lost lock looks like from the inside.
        (Some(work), Err(error @ WindowError::LostLock { .. })) => {
            tracing::debug!(%work, "what was done in the window failed with its lock");
            return Err(error);
        }
        (_, unlocked) => unlocked.unwrap_or_default(),
    };
    let (value, optimes) = (value?, optimes?);
    let end_us = unlocked
        .iter()
        .map(|one| one.done_us)
        .max()
        .unwrap_or(start_us);
    let locked_us = locked
        .iter()
        .filter_map(|lock| {
            let done = unlocked.iter().find(|one| one.member == lock.member)?;
            Some((lock.member.clone(), done.done_us.abs_diff(lock.sent_us)))
        })
        .collect();
    let record = WindowRecord {
        provider: terms.provider.to_owned(),
        held_us: end_us.abs_diff(start_us),
        steps: timeline.records(start_us),
    };
    Ok(Closed {
        record,
        optimes,
        locked_us,
        value,
    })
}

/// Locks every member, but waits for no answer any longer once the guard has acted or we are asked to end.
async fn lock_all(
    terms: &Terms<'_>,
    timeline: &Timeline,
    comment: &str,
    guard: &mut Guard,
    cancel: &CancellationToken,
) -> (Vec<locks::Locked>, Option<GuardError>) {
    let stop = cancel.child_token();
    let mut locking = pin!(locks::lock_all(terms, timeline, comment, &stop));
    let broken = tokio::select! {
        biased;
        broken = guard.broken() => broken,
        locked = &mut locking => return (locked, None),
    };
    stop.cancel();
    (locking.await, Some(broken))
}

/// The one failure that must be told before any other.
fn still_locked<T>(unlocked: Result<T, WindowError>) -> Option<WindowError> {
    unlocked
        .err()
        .filter(|error| matches!(error, WindowError::StillLocked { .. }))
}

/// Where the data of each member ends: the top of its oplog under the lock; without it what is durable already.
async fn read_optimes(
    terms: &Terms<'_>,
    timeline: &Timeline,
) -> Result<BTreeMap<MemberAddr, OpTime>, WindowError> {
    let reading = terms.members.iter().map(|(mongod, _)| async {
        let asking = async {
            match terms.locking {
                Locking::Locked => mongod.oplog_top().await,
                Locking::Unlocked => mongod.durable_optime().await,
            }
        };
        let subject = mongod.addr().to_string();
        let found = timeline.time(Step::Optime, subject, asking).await?;
        Ok::<_, WindowError>((mongod.addr().clone(), found))
    });
    Ok(try_join_all(reading).await?.into_iter().collect())
}
