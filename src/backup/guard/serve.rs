//! The guard process itself: connected, its memory locked, writing no file, waiting.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use nix::sys::mman::{MlockAllFlags, mlockall};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::give_back::{GivenBack, give_back};
use super::{Cause, Expectation, FromGuard, GuardPlan, ToGuard, Unlocked, write_line};
use crate::backup::release::Tools;
use crate::blocking::off_thread;
use crate::clock::monotonic_us;
use crate::ids::MemberAddr;
use crate::mongo::{self, Access, Mongod, ServerProcess};
use crate::snapshot::LvmSnapshot;
use crate::snapshot::lvm::Lvm;
use crate::snapshot::lvm::prepared::is_prepared;
use crate::snapshot::lvm::undo::MOMENT;
use crate::test_switch::{self, Rope};

/// Pause before the next look at volumes that stand still, while a member does not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// So many looks. By then the timer has long been at it.
const LOOKS: u32 = 60;

/// One member, connected.
struct Post {
    member: MemberAddr,
    process: ServerProcess,
    mongod: Mongod,
}

/// Guards one window, told what to do on standard input. Returns when every lock is settled.
///
/// # Errors
/// When it is told something it does not understand before the window; a lock is never left for an error.
pub async fn serve(tools: &Tools) -> std::io::Result<()> {
    // A terminal's Ctrl-C and hang-up are for the run; SIGTERM makes us unlock and end.
    let mut asked_to_end = signal(SignalKind::terminate())?;
    let _interrupts = signal(SignalKind::interrupt())?;
    let _hangups = signal(SignalKind::hangup())?;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    let plan = match next_order(&mut orders).await {
        Some(ToGuard::Plan(plan)) => plan,
        _ => return Ok(()),
    };
    let posts = match man_the_posts(&plan, &tools.access, tools.timeout).await {
        Ok(posts) => posts,
        Err(reason) => return answer(&FromGuard::CannotGuard { reason }).await,
    };
    // A page of ours must not have to be read from the very disk that stands still. Without the
    // privilege (a user's own test) the guard still works.
    let _ = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE);
    answer(&FromGuard::Ready).await?;
    if !matches!(next_order(&mut orders).await, Some(ToGuard::Arm)) {
        return Ok(());
    }
    let deadline = Instant::now() + plan.limit;
    // If nobody hears this, the pipe is closed and the wait below says so.
    let _ = answer(&FromGuard::Armed).await;
    match wait(&mut orders, deadline, &mut asked_to_end).await {
        Wake::Release(expected) => {
            let members = unlock_all(&posts, &plan.comment, &expected).await;
            let _ = answer(&FromGuard::Released { members }).await;
        }
        // A test looks what would become of the lock without us.
        Wake::Alone(_) if test_switch::is_off(Rope::Guard) => {}
        Wake::Alone(cause) => {
            let lvm = Lvm::new(tools.exec.clone());
            fire(&posts, &plan, &lvm, cause, &mut orders).await;
        }
    }
    Ok(())
}

async fn man_the_posts(
    plan: &GuardPlan,
    access: &Access,
    timeout: Duration,
) -> Result<Vec<Post>, String> {
    let app_name = format!("freezeframe-guard-{}", plan.run);
    let connecting = plan.members.iter().map(|(member, process)| {
        let app_name = &app_name;
        async move {
            let mongod = mongo::connect(member, access, app_name, timeout)
                .await
                .map_err(|error| error.to_string())?;
            let found = mongod
                .process_id()
                .await
                .map_err(|error| error.to_string())?;
            if found != *process {
                return Err(format!(
                    "{member} is another server process than the one examined"
                ));
            }
            let host = plan.hosts.iter().find(|(of, _)| of == member);
            Ok(Post {
                member: member.clone(),
                process: *process,
                mongod: mongod.on_this_host(host.map(|(_, host)| *host)),
            })
        }
    });
    join_all(connecting).await.into_iter().collect()
}

enum Wake {
    Release(BTreeMap<MemberAddr, Expectation>),
    Alone(Cause),
}

async fn wait(
    orders: &mut Lines<BufReader<Stdin>>,
    deadline: Instant,
    asked_to_end: &mut Signal,
) -> Wake {
    tokio::select! {
        order = next_order(orders) => match order {
            Some(ToGuard::Release { members }) => Wake::Release(members.into_iter().collect()),
            _ => Wake::Alone(Cause::RunEnded),
        },
        () = tokio::time::sleep_until(deadline) => Wake::Alone(Cause::Deadline),
        _ = asked_to_end.recv() => Wake::Alone(Cause::Terminated),
    }
}

/// Unlocks without having been told, and stays until the run can lock no more.
async fn fire(
    posts: &[Post],
    plan: &GuardPlan,
    lvm: &Lvm,
    cause: Cause,
    orders: &mut Lines<BufReader<Stdin>>,
) {
    let comment = plan.comment.as_str();
    let everything = posts
        .iter()
        .map(|post| (post.member.clone(), Expectation::Unsure))
        .collect();
    // Past the deadline a volume that stands still is stuck, whether or not a member waits for it. Before, whatever suspended it may be at work yet;
    // but a member that was not locked waits for nothing that would tell.
    let stuck = async {
        // Nobody but us resumes what the run has suspended by itself.
        resume_prepared(lvm, &plan.snapshots).await;
        if cause == Cause::Deadline || posts.is_empty() {
            resume_stuck(lvm, &plan.snapshots).await;
        }
    };
    let unlocking = async {
        let mut unlocking = pin!(unlock_all(posts, comment, &everything));
        tokio::select! {
            biased;
            members = &mut unlocking => members,
            () = keep_resuming(lvm, &plan.snapshots) => unlocking.await,
        }
    };
    let (members, ()) = tokio::join!(unlocking, stuck);
    // A member that was not locked may be locked yet by a run that was stopped before it sent
    // its command and goes on afterwards. The run unlocks that one itself, unless it dies first.
    let open: BTreeMap<_, _> = members
        .iter()
        .filter(|unlocked| unlocked.outcome == GivenBack::NotLocked)
        .map(|unlocked| (unlocked.member.clone(), Expectation::Unsure))
        .collect();
    let _ = answer(&FromGuard::Fired { cause, members }).await;
    if cause == Cause::RunEnded || open.is_empty() {
        return;
    }
    while next_order(orders).await.is_some() {}
    unlock_all(posts, comment, &open).await;
}

/// For members that do not answer: looks again and again whether a volume stands still, which may be why.
async fn keep_resuming(lvm: &Lvm, snapshots: &[LvmSnapshot]) {
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK_AGAIN).await;
        resume_stuck(lvm, snapshots).await;
    }
}

/// Has the origins of prepared snapshots go on: at once, and once more when a command that was suspending them at that moment, and was killed with the run, is
/// gone for certain.
async fn resume_prepared(lvm: &Lvm, snapshots: &[LvmSnapshot]) {
    let prepared: Vec<_> = snapshots
        .iter()
        .filter(|one| is_prepared(one))
        .cloned()
        .collect();
    if prepared.is_empty() {
        return;
    }
    let lvm = lvm.clone();
    off_thread(move || {
        lvm.withdraw(prepared.iter());
        std::thread::sleep(MOMENT);
        lvm.withdraw(prepared.iter());
    })
    .await;
}

async fn resume_stuck(lvm: &Lvm, snapshots: &[LvmSnapshot]) {
    for snapshot in snapshots {
        let (lvm, snapshot) = (lvm.clone(), snapshot.clone());
        let origin = snapshot.origin.clone();
        if let Err(error) = off_thread(move || lvm.resume_stuck(&snapshot)).await {
            tracing::warn!(%origin, %error, "cannot see to it that the origin goes on");
        }
    }
}

/// Gives back every lock in `expected`, all at once.
async fn unlock_all(
    posts: &[Post],
    comment: &str,
    expected: &BTreeMap<MemberAddr, Expectation>,
) -> Vec<Unlocked> {
    let unlocking = posts.iter().filter_map(|post| {
        let expectation = *expected.get(&post.member)?;
        Some(async move {
            let sent_us = monotonic_us();
            let outcome =
                give_back(&post.mongod, &post.process, comment, expectation, |_| {}).await;
            Unlocked {
                member: post.member.clone(),
                sent_us,
                done_us: monotonic_us(),
                outcome,
            }
        })
    });
    join_all(unlocking).await
}

/// The next order; none when the pipe is closed or holds something else.
async fn next_order(orders: &mut Lines<BufReader<Stdin>>) -> Option<ToGuard> {
    let line = orders.next_line().await.ok().flatten()?;
    serde_json::from_str(&line).ok()
}

async fn answer(message: &FromGuard) -> std::io::Result<()> {
    write_line(&mut tokio::io::stdout(), message).await
}
