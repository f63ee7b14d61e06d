//! Windows that last: a lost lock ends them at once, not at their end.

use super::*;

/// A window whose work ends only when the window is broken: what ends it is seen while it is open.
async fn broken_by<W: Future<Output = ()>>(scene: &Scene, what: W) -> WindowError {
    let outcome = scene
        .around::<(), _>(LONG, &CancellationToken::new(), async |broken| {
            what.await;
            broken.cancelled().await;
            Ok(())
        })
        .await;
    outcome.unwrap_err()
}

#[tokio::test]
async fn a_foreign_unlock_ends_a_watched_window_at_once() {
    let mut scene = Scene::new().await;
    scene.watched = true;
    let error = broken_by(&scene, async {
        // Until the watch has seen the lock, nobody can tell that it is gone.
        let mongod = scene.mongod().await;
        until("the watch has looked", async || looks(&scene).await >= 2).await;
        mongod.unlock().await.unwrap();
    })
    .await;
    assert!(
        matches!(
            error,
            WindowError::LostLock {
                found: "somebody else unlocked it",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(!scene.locked().await);
}

/// How often `currentOp` was asked of the member since it started, but by this question.
async fn looks(scene: &Scene) -> i64 {
    let admin = scene.set.admin(HIDDEN).await.database("admin");
    let status = admin.run_command(doc! { "serverStatus": 1 }).await.unwrap();
    let commands = status
        .get_document("metrics")
        .unwrap()
        .get_document("commands")
        .unwrap();
    let counts = commands.get_document("currentOp").unwrap();
    counts.get_i64("total").unwrap()
}

#[tokio::test]
async fn a_killed_mongod_ends_a_watched_window_at_once_and_is_known_to_hold_nothing() {
    let mut scene = Scene::new().await;
    scene.watched = true;
    let hidden = scene.set.members[HIDDEN].pid();
    let mongod = scene.mongod().await.on_this_host(HostProcess::of(hidden));
    let members = [(mongod.clone(), mongod.process_id().await.unwrap())];
    let terms = Terms {
        members: &members,
        locking: Locking::Locked,
        limit: LONG,
        provider: "test",
        watched: true,
        tools: &scene.tools,
    };
    let mut run = Run::begin(&scene.state, "test").unwrap();
    let outcome: Result<Closed<()>, _> = around(
        &mut run,
        &terms,
        &CancellationToken::new(),
        async |_, broken| {
            kill(hidden as i32, nix::sys::signal::Signal::SIGKILL);
            broken.cancelled().await;
            Ok(())
        },
    )
    .await;
    assert!(
        matches!(
            outcome,
            Err(WindowError::LostLock {
                found: "mongod has ended",
                ..
            })
        ),
        "{outcome:?}"
    );
    // Nobody is left to unlock, and nobody waits for it.
    assert!(run.finish(&scene.tools).await.unwrap().is_empty());
    assert_eq!(Journal::all(&scene.state).unwrap(), Vec::<PathBuf>::new());
    assert!(guards_of(&scene.tools.config).is_empty());
}

#[tokio::test]
async fn recover_waits_for_no_mongod_that_has_ended() {
    let mut scene = Scene::new().await;
    let mongod = scene.mongod().await;
    let lock = Resource::Lock {
        member: mongod.addr().clone(),
        process: mongod.process_id().await.unwrap(),
        comment: "freezeframe-test".into(),
        host: HostProcess::of(scene.set.members[HIDDEN].pid()),
    };
    let mut run = Run::begin(&scene.state, "backup").unwrap();
    run.plan_one(lock).unwrap();
    drop(run);
    scene.set.members[HIDDEN].kill();
    let recovered = recover(&scene.state, None, &scene.tools).await.unwrap();
    assert!(recovered[0].failed.is_empty(), "{recovered:?}");
}
