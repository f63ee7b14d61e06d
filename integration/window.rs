//! The lock window against real mongods: whatever happens in it, it ends unlocked, and only a clean one counts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "window/faults.rs"]
mod faults;
#[path = "window/late.rs"]
mod late;
mod support;
#[path = "window/watched.rs"]
mod watched;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use freezeframe::backup::guard::{Cause, GuardError};
use freezeframe::backup::journal::Journal;
use freezeframe::backup::release::Tools;
use freezeframe::backup::resource::Resource;
use freezeframe::backup::run::Run;
use freezeframe::backup::window::{Closed, Locking, Terms, WindowError, WorkError, around};
use freezeframe::error::{Exit, Explain};
use freezeframe::exec::SystemExec;
use freezeframe::mongo::{
    Access, HostProcess, LockCount, Mongod, ServerProcess, UnlockOutcome, connect,
};
use freezeframe::recover::recover;
use mongodb::bson::doc;
use support::mongod::{Member, Options, ReplicaSet, until};
use tokio_util::sync::CancellationToken;

/// A replica set, our connection to its hidden member, and a state directory.
struct Scene {
    set: ReplicaSet,
    tools: Tools,
    state: PathBuf,
    member: usize,
    watched: bool,
    locking: Locking,
}

const HIDDEN: usize = 1;

impl Scene {
    async fn new() -> Self {
        let members = vec![Member::primary(), Member::hidden()];
        let set = ReplicaSet::start(Options {
            members,
            ..Options::default()
        })
        .await;
        Self::with(set, HIDDEN)
    }

    fn with(set: ReplicaSet, member: usize) -> Self {
        let config = set.dir().join("freezeframe.toml");
        std::fs::write(&config, "[store]\nurl = \"file:///nowhere\"\n").unwrap();
        let tools = Tools {
            exec: Arc::new(SystemExec),
            access: set.access(),
            timeout: Duration::from_secs(10),
            stores: Default::default(),
            ebs: Default::default(),
            systemd: None,
            program: env!("CARGO_BIN_EXE_freezeframe").into(),
            config,
        };
        let state = set.dir().join("state");
        Self {
            set,
            tools,
            state,
            member,
            watched: false,
            locking: Locking::Locked,
        }
    }

    async fn mongod(&self) -> Mongod {
        connect(
            self.set.addr(self.member),
            &Access::default(),
            "test",
            Duration::from_secs(10),
        )
        .await
        .unwrap()
    }

    fn guards(&self) -> Vec<i32> {
        guards_of(&self.tools.config)
    }

    async fn locked(&self) -> bool {
        self.mongod().await.lock_state("").await.unwrap().locked
    }

    /// Opens a window of at most `limit` around `work` and closes the run as a backup would.
    async fn around<T, W>(
        &self,
        limit: Duration,
        cancel: &CancellationToken,
        work: impl FnOnce(CancellationToken) -> W,
    ) -> Result<Closed<T>, WindowError>
    where
        W: Future<Output = Result<T, WorkError>>,
    {
        let mongod = self.mongod().await;
        let process = mongod.process_id().await.unwrap();
        let members = [(mongod, process)];
        let terms = Terms {
            members: &members,
            locking: self.locking,
            limit,
            provider: "test",
            watched: self.watched,
            tools: &self.tools,
        };
        let mut run = Run::begin(&self.state, "test").unwrap();
        let outcome = around(&mut run, &terms, cancel, |_, broken| work(broken)).await;
        let unreleased = run.finish(&self.tools).await.unwrap();
        assert!(unreleased.is_empty(), "{unreleased:?}");
        assert_eq!(
            Journal::all(&self.state).unwrap(),
            Vec::<PathBuf>::new(),
            "the journal stays"
        );
        assert!(self.guards().is_empty(), "a guard is left");
        outcome
    }
}

const LONG: Duration = Duration::from_secs(60);

/// The guards that were started with `config`.
fn guards_of(config: &Path) -> Vec<i32> {
    let arguments = format!("--config\0{}\0guard\0", config.display());
    let is_guard = |entry: &std::fs::DirEntry| {
        std::fs::read_to_string(entry.path().join("cmdline"))
            .is_ok_and(|line| line.ends_with(&arguments))
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter(is_guard)
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn kill(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
}

/// Stops every thread of the process; returns when none runs any more. One that still did could answer what comes next.
fn stop(pid: i32) {
    kill(pid, nix::sys::signal::Signal::SIGSTOP);
    let runs = |thread: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap_or_default();
        // The name before the state may hold anything.
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with('T'))
    };
    while std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .any(runs)
    {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn a_clean_window_holds_the_member_and_lets_it_go() {
    let scene = Scene::new().await;
    let closed = scene
        .around(LONG, &CancellationToken::new(), async |_| {
            assert!(scene.locked().await);
            assert_eq!(scene.guards().len(), 1);
            Ok(scene.mongod().await.oplog_top().await.unwrap())
        })
        .await
        .unwrap();
    assert!(!scene.locked().await);
    assert_eq!(
        closed.optimes.values().copied().collect::<Vec<_>>(),
        [closed.value]
    );
    assert!(closed.record.held_us > 0);
    let steps: Vec<_> = closed
        .record
        .steps
        .iter()
        .map(|step| step.step.as_str())
        .collect();
    assert_eq!(steps, ["flush", "lock", "optime", "unlock"]);
    assert!(
        closed
            .locked_us
            .values()
            .all(|us| *us <= closed.record.held_us)
    );
}

#[tokio::test]
async fn a_window_without_the_lock_leaves_the_member_alone_and_tells_what_was_durable() {
    let mut scene = Scene::new().await;
    scene.locking = Locking::Unlocked;
    let before = scene.mongod().await.durable_optime().await.unwrap();
    let closed = scene
        .around(LONG, &CancellationToken::new(), async |_| {
            assert!(!scene.locked().await);
            assert_eq!(
                scene.guards().len(),
                1,
                "the origin may be left standing still"
            );
            Ok(scene.mongod().await.durable_optime().await.unwrap())
        })
        .await
        .unwrap();
    let optimes: Vec<_> = closed.optimes.values().copied().collect();
    assert!(
        matches!(optimes[..], [optime] if before <= optime && optime <= closed.value),
        "{before} {optimes:?} {}",
        closed.value
    );
    assert_eq!((closed.record.held_us, closed.locked_us.len()), (0, 0));
    let steps: Vec<_> = closed
        .record
        .steps
        .iter()
        .map(|step| step.step.as_str())
        .collect();
    assert_eq!(steps, ["flush", "optime"]);
}

#[tokio::test]
async fn a_killed_guard_voids_the_window_and_leaves_nothing_locked() {
    let scene = Scene::new().await;
    let outcome = scene
        .around::<(), _>(LONG, &CancellationToken::new(), async |broken| {
            kill(scene.guards()[0], nix::sys::signal::Signal::SIGKILL);
            broken.cancelled().await;
            assert!(
                !scene.locked().await,
                "the run must not wait for its work before it unlocks"
            );
            Ok(())
        })
        .await;
    assert!(
        matches!(outcome, Err(WindowError::Guard(GuardError::Gone { .. }))),
        "{outcome:?}"
    );
    assert!(!scene.locked().await);
}

#[tokio::test]
async fn a_guard_asked_to_end_unlocks_first() {
    let scene = Scene::new().await;
    let outcome = scene
        .around::<(), _>(LONG, &CancellationToken::new(), async |broken| {
            kill(scene.guards()[0], nix::sys::signal::Signal::SIGTERM);
            broken.cancelled().await;
            Ok(())
        })
        .await;
    let fired = matches!(
        &outcome,
        Err(WindowError::Guard(GuardError::Fired {
            cause: Cause::Terminated,
            ..
        }))
    );
    assert!(fired, "{outcome:?}");
    assert!(!scene.locked().await);
}

#[tokio::test]
async fn a_window_that_lasts_too_long_is_ended_by_the_guard() {
    let scene = Scene::new().await;
    let outcome = scene
        .around::<(), _>(
            Duration::from_millis(700),
            &CancellationToken::new(),
            async |broken| {
                broken.cancelled().await;
                assert!(!scene.locked().await);
                Ok(())
            },
        )
        .await;
    let fired = matches!(
        &outcome,
        Err(WindowError::Guard(GuardError::Fired {
            cause: Cause::Deadline,
            ..
        }))
    );
    assert!(fired, "{outcome:?}");
    assert!(!scene.locked().await);
}

#[tokio::test]
async fn an_interrupted_window_unlocks_before_its_work_has_ended() {
    let scene = Scene::new().await;
    let cancel = CancellationToken::new();
    let outcome = scene
        .around::<(), _>(LONG, &cancel, async |broken| {
            cancel.cancel();
            broken.cancelled().await;
            until("the member is unlocked", async || !scene.locked().await).await;
            Ok(())
        })
        .await;
    assert!(
        matches!(outcome, Err(WindowError::Interrupted)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn work_that_fails_leaves_nothing_locked() {
    let scene = Scene::new().await;
    let outcome = scene
        .around::<(), _>(LONG, &CancellationToken::new(), async |_| {
            Err(WindowError::Interrupted.into())
        })
        .await;
    assert!(matches!(outcome, Err(WindowError::Work(_))), "{outcome:?}");
    assert!(!scene.locked().await);
}

#[tokio::test]
async fn a_foreign_lock_voids_the_window_and_stays() {
    let scene = Scene::new().await;
    let foreign = scene.mongod().await;
    let outcome = scene
        .around::<(), _>(LONG, &CancellationToken::new(), async |_| {
            assert_eq!(foreign.lock("somebody else").await.unwrap(), LockCount(2));
            Ok(())
        })
        .await;
    assert!(
        matches!(outcome, Err(WindowError::ForeignLock { count: 1, .. })),
        "{outcome:?}"
    );
    assert!(scene.locked().await);
    // And one that is there before ours.
    let outcome = scene
        .around::<(), _>(LONG, &CancellationToken::new(), async |_| Ok(()))
        .await;
    assert!(
        matches!(outcome, Err(WindowError::ForeignLock { count: 2, .. })),
        "{outcome:?}"
    );
    assert_eq!(
        foreign.unlock().await.unwrap(),
        UnlockOutcome::Unlocked {
            remaining: LockCount(0)
        }
    );
}

#[tokio::test]
async fn a_foreign_unlock_voids_the_window() {
    let scene = Scene::new().await;
    let outcome = scene
        .around::<(), _>(LONG, &CancellationToken::new(), async |_| {
            scene.mongod().await.unlock().await.unwrap();
            Ok(())
        })
        .await;
    assert!(
        matches!(outcome, Err(WindowError::LostLock { .. })),
        "{outcome:?}"
    );

    // What failed because of it is not what is told.
    let outcome = scene
        .around::<(), _>(LONG, &CancellationToken::new(), async |_| {
            scene.mongod().await.unlock().await.unwrap();
            Err(WindowError::Interrupted.into())
        })
        .await;
    assert!(
        matches!(outcome, Err(WindowError::LostLock { .. })),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_restarted_mongod_voids_the_window() {
    let scene = Scene::new().await;
    let mut scene = scene;
    // The window borrows the scene's connection only; the server is ours to restart.
    let mut hidden = scene.set.members.remove(HIDDEN);
    let addr = hidden.addr.clone();
    let mongod = connect(&addr, &Access::default(), "test", Duration::from_secs(10))
        .await
        .unwrap();
    let members = [(mongod.clone(), mongod.process_id().await.unwrap())];
    let terms = Terms {
        members: &members,
        locking: Locking::Locked,
        limit: LONG,
        provider: "test",
        watched: false,
        tools: &scene.tools,
    };
    let mut run = Run::begin(&scene.state, "test").unwrap();
    let outcome: Result<Closed<()>, _> =
        around(&mut run, &terms, &CancellationToken::new(), async |_, _| {
            hidden.kill();
            hidden.restart();
            Ok(())
        })
        .await;
    assert!(
        matches!(
            outcome,
            Err(WindowError::LostLock {
                found: "mongod was restarted",
                ..
            })
        ),
        "{outcome:?}"
    );
    assert!(run.finish(&scene.tools).await.unwrap().is_empty());
    assert!(!mongod.lock_state("").await.unwrap().locked);
}

#[tokio::test]
async fn recover_takes_back_a_dead_runs_lock_and_no_other() {
    let scene = Scene::new().await;
    let mongod = scene.mongod().await;
    let process = mongod.process_id().await.unwrap();
    let plan = |process: ServerProcess| {
        let mut run = Run::begin(&scene.state, "backup").unwrap();
        let lock = Resource::Lock {
            member: mongod.addr().clone(),
            process,
            comment: "freezeframe-test".into(),
            host: None,
        };
        run.plan_one(lock).unwrap();
        run
    };
    mongod.lock("freezeframe-test").await.unwrap();

    let alive = plan(process);
    assert!(
        recover(&scene.state, None, &scene.tools)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(scene.locked().await, "a living run's lock is its own");
    drop(alive);
    let recovered = recover(&scene.state, None, &scene.tools).await.unwrap();
    assert_eq!(recovered.len(), 1);
    assert!(recovered[0].failed.is_empty(), "{recovered:?}");
    assert!(!scene.locked().await);

    // A lock on what was another server process is not ours.
    mongod.lock("somebody else").await.unwrap();
    drop(plan(ServerProcess::from_bytes([7; 12])));
    recover(&scene.state, None, &scene.tools).await.unwrap();
    assert!(scene.locked().await);
    mongod.unlock().await.unwrap();
    assert!(
        recover(&scene.state, None, &scene.tools)
            .await
            .unwrap()
            .is_empty(),
        "a second time finds nothing"
    );
}

#[tokio::test]
async fn recover_unlocks_whatever_has_happened_to_the_journal() {
    let scene = Scene::new().await;
    let mongod = scene.mongod().await;
    mongod.lock("freezeframe-test").await.unwrap();
    let mut run = Run::begin(&scene.state, "backup").unwrap();
    let lock = Resource::Lock {
        member: mongod.addr().clone(),
        process: mongod.process_id().await.unwrap(),
        comment: "freezeframe-test".into(),
        host: None,
    };
    run.plan_one(lock).unwrap();
    let journal = Journal::path_of(&scene.state, run.id());
    drop(run);
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[3] = b'~';
    std::fs::write(&journal, &bytes).unwrap();
    let error = recover(&scene.state, None, &scene.tools).await.unwrap_err();
    assert_eq!(
        error.exit(),
        Exit::StillHeld,
        "what else it held nobody knows: {error}"
    );
    assert!(!scene.locked().await);
    assert!(journal.exists(), "it is for the operator to look at");
}
