//! Servers that fail, hang or change their role in the window. The failures of single commands are mongod's own fail points.

use super::*;
use nix::sys::signal::Signal;

/// A set whose hidden member does with the next command of the name what `how` says.
async fn failing(command: &str, how: mongodb::bson::Document) -> Scene {
    let set = ReplicaSet::start(Options {
        members: vec![Member::primary(), Member::hidden()],
        args: vec!["--setParameter".into(), "enableTestCommands=1".into()],
        ..Options::default()
    })
    .await;
    let mut data = doc! { "failCommands": [command] };
    data.extend(how);
    let admin = set.admin(HIDDEN).await.database("admin");
    let fail = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data };
    admin.run_command(fail).await.unwrap();
    Scene::with(set, HIDDEN)
}

/// What becomes of a window in which nothing else happens. Whatever it is, the member is unlocked.
async fn outcome(scene: &Scene) -> Result<Closed<()>, WindowError> {
    let outcome = scene
        .around(LONG, &CancellationToken::new(), async |_| Ok(()))
        .await;
    assert!(!scene.locked().await, "{outcome:?}");
    outcome
}

/// How often fail points struck.
async fn struck(scene: &Scene) -> i64 {
    let admin = scene.set.admin(HIDDEN).await.database("admin");
    let off = doc! { "configureFailPoint": "failCommand", "mode": "off" };
    let reply = admin.run_command(off).await.unwrap();
    reply
        .get_i32("count")
        .map(i64::from)
        .or_else(|_| reply.get_i64("count"))
        .unwrap()
}

const BUSY: i32 = 46;

#[tokio::test]
async fn an_unlock_that_fails_once_is_tried_again() {
    let scene = failing("fsyncUnlock", doc! { "errorCode": BUSY }).await;
    outcome(&scene).await.unwrap();
    assert_eq!(struck(&scene).await, 1);
}

#[tokio::test]
async fn a_connection_that_is_lost_at_the_unlock_is_made_again() {
    let scene = failing("fsyncUnlock", doc! { "closeConnection": true }).await;
    let outcome = outcome(&scene).await;
    assert_eq!(struck(&scene).await, 1);
    outcome.unwrap();
}

#[tokio::test]
async fn a_lock_that_is_refused_ends_the_window() {
    let scene = failing("fsync", doc! { "errorCode": BUSY }).await;
    outcome(&scene).await.unwrap_err();
    assert_eq!(struck(&scene).await, 1);
}

#[tokio::test]
async fn a_connection_that_is_lost_at_the_lock_ends_the_window_unlocked() {
    let scene = failing("fsync", doc! { "closeConnection": true }).await;
    outcome(&scene).await.unwrap_err();
    assert_eq!(struck(&scene).await, 1);
}

#[tokio::test]
async fn a_server_that_hangs_past_the_deadline_is_unlocked_when_it_goes_on() {
    let scene = Scene::new().await;
    let limit = Duration::from_secs(3);
    let pid = i32::try_from(scene.set.members[HIDDEN].pid()).unwrap();
    let outcome = scene
        .around::<(), _>(limit, &CancellationToken::new(), async |_| {
            stop(pid);
            tokio::spawn(async move {
                // Past every deadline, the guard's and the run's.
                tokio::time::sleep(limit * 2).await;
                kill(pid, Signal::SIGCONT);
            });
            Ok(())
        })
        .await;
    assert!(outcome.is_err(), "{outcome:?}");
    assert!(!scene.locked().await, "{outcome:?}");
}

#[tokio::test]
async fn an_election_in_the_window_is_none_of_its_business() {
    let set = ReplicaSet::start(Options {
        members: vec![Member::primary(), Member::electable(), Member::hidden()],
        ..Options::default()
    })
    .await;
    let (secondary, hidden) = (1, 2);
    let scene = Scene::with(set, hidden);
    let next = scene.set.admin(secondary).await.database("admin");
    scene
        .around(LONG, &CancellationToken::new(), async |_| {
            until("the secondary is primary", async || {
                // The old primary steps down when it hears of the election. Refused while the secondary is behind.
                let _ = next.run_command(doc! { "replSetStepUp": 1 }).await;
                let hello = next.run_command(doc! { "hello": 1 }).await.unwrap();
                hello.get_bool("isWritablePrimary").unwrap_or(false)
            })
            .await;
            Ok(())
        })
        .await
        .unwrap();
    assert!(!scene.locked().await);
    // What is written to whoever is primary by now arrives.
    let note = doc! { "appendOplogNote": 1, "data": { "after": "the election" } };
    until("a primary takes a note", async || {
        for member in [0, secondary] {
            let admin = scene.set.admin(member).await.database("admin");
            if admin.run_command(note.clone()).await.is_ok() {
                return true;
            }
        }
        false
    })
    .await;
    let top = |member: usize| {
        let scene = &scene;
        async move {
            let oplog = scene.set.admin(member).await.database("local");
            let entries = oplog.collection::<mongodb::bson::Document>("oplog.rs");
            let newest = entries.find_one(doc! {}).sort(doc! { "$natural": -1 });
            newest.await.unwrap().unwrap().get_timestamp("ts").unwrap()
        }
    };
    let wanted = top(secondary).await;
    until("it arrives", async || top(hidden).await >= wanted).await;
}
