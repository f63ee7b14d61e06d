//! What freezeframe asks of mongod, on real ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(missing_docs)]

#[path = "mongod/archive.rs"]
mod archive;
#[path = "mongod/preflight.rs"]
mod preflight;
#[path = "mongod/role.rs"]
mod role;
mod support;

use std::time::Duration;

use freezeframe::mongo::{
    Access, LockCount, Mechanism, MongoError, Mongod, Secret, UnlockOutcome, connect,
};
use mongodb::bson::{Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use support::mongod::{Member, Options, ReplicaSet, until};

const TIMEOUT: Duration = Duration::from_secs(20);

async fn open(set: &ReplicaSet, i: usize, access: &Access) -> Mongod {
    connect(set.addr(i), access, "freezeframe-test", TIMEOUT)
        .await
        .unwrap()
}

#[tokio::test]
async fn the_shipped_role_is_enough_and_reaches_no_user_data() {
    let set = ReplicaSet::start(Options {
        auth: true,
        tls: true,
        ..Options::default()
    })
    .await;
    let scram = set.minimum_access().await;
    let x509 = set.x509_access().await;
    let data = set
        .admin(0)
        .await
        .database("shop")
        .collection::<Document>("orders");
    data.insert_one(doc! { "_id": 1 }).await.unwrap();

    for access in [
        &scram,
        &x509,
        &Access {
            mechanism: None,
            ..scram.clone()
        },
    ] {
        let hidden = open(&set, 2, access).await;
        let facts = hidden.facts().await.unwrap();
        assert_eq!(facts.feature_compatibility, "6.0");
        assert_eq!(facts.process, hidden.process_id().await.unwrap());
        assert_eq!(facts.pid, set.members[2].pid());
        assert_eq!(facts.options.db_path, set.members[2].db_path);
        assert!(facts.hello.hidden && facts.hello.secondary, "{facts:?}");
        hidden.flush().await.unwrap();
        assert_eq!(hidden.lock("test").await.unwrap(), LockCount(1));
        let top = hidden.oplog_top().await.unwrap();
        assert!(top >= facts.oplog.unwrap().last);
        assert!(hidden.facts().await.unwrap().fsync_locked);
        assert!(hidden.lock_state("test").await.unwrap().locked);
        let remaining = LockCount(0);
        assert_eq!(
            hidden.unlock().await.unwrap(),
            UnlockOutcome::Unlocked { remaining }
        );
    }

    let password = scram.password.clone().unwrap();
    let user = set
        .client(0, Some(("freezeframe", password.reveal())))
        .await;
    let data = user.database("shop").collection::<Document>("orders");
    let denied = |error: mongodb::error::Error| {
        assert!(error.to_string().contains("not authorized"), "{error}")
    };
    denied(data.find_one(doc! {}).await.unwrap_err());
    denied(data.insert_one(doc! { "_id": 2 }).await.unwrap_err());
    denied(
        user.database("admin")
            .collection::<Document>("system.users")
            .find_one(doc! {})
            .await
            .unwrap_err(),
    );

    let wrong = Access {
        password: Some(Secret::new("wrong")),
        ..scram.clone()
    };
    let refused = connect(set.addr(2), &wrong, "freezeframe-test", TIMEOUT)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, MongoError::Authentication { .. }),
        "{refused:?}"
    );
    let plain = Access {
        tls: None,
        ..scram.clone()
    };
    let short = Duration::from_secs(3);
    let refused = connect(set.addr(2), &plain, "freezeframe-test", short)
        .await
        .unwrap_err();
    assert!(
        matches!(
            refused,
            MongoError::Unreachable { .. } | MongoError::TimedOut { .. }
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_missing_privilege_is_named() {
    let members = vec![Member::primary()];
    let set = ReplicaSet::start(Options {
        auth: true,
        members,
        ..Options::default()
    })
    .await;
    let admin = set.admin(0).await.database("admin");
    admin
        .run_command(doc! { "createUser": "poor", "pwd": "x", "roles": ["read"] })
        .await
        .unwrap();
    let access = Access {
        username: Some("poor".into()),
        password: Some(Secret::new("x")),
        mechanism: Some(Mechanism::ScramSha1),
        ..set.access()
    };
    let error = open(&set, 0, &access).await.lock("test").await.unwrap_err();
    match error {
        MongoError::Unauthorized {
            command, privilege, ..
        } => {
            assert_eq!(
                (command, privilege),
                ("fsync", "action fsync on the cluster")
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn locks_nest_and_unlocking_the_unlocked_says_so() {
    let set = ReplicaSet::start(Options::default()).await;
    let hidden = open(&set, 2, &set.access()).await;
    let other = open(&set, 2, &set.access()).await;
    assert_eq!(hidden.unlock().await.unwrap(), UnlockOutcome::NotLocked);
    assert_eq!(hidden.lock("one").await.unwrap(), LockCount(1));
    assert_eq!(other.lock("two").await.unwrap(), LockCount(2));
    // A lock belongs to the server: another connection, opened under the lock, takes it off.
    drop(hidden);
    let third = open(&set, 2, &set.access()).await;
    for left in [1, 0] {
        let remaining = LockCount(left);
        assert_eq!(
            third.unlock().await.unwrap(),
            UnlockOutcome::Unlocked { remaining }
        );
    }
    assert_eq!(third.unlock().await.unwrap(), UnlockOutcome::NotLocked);
}

#[tokio::test]
async fn a_lock_that_timed_out_is_seen_waiting_and_then_held() {
    let members = vec![Member::primary()];
    let set = ReplicaSet::start(Options {
        members,
        ..Options::default()
    })
    .await;
    let client = set.admin(0).await;
    let data = client.database("shop").collection::<Document>("orders");
    data.insert_one(doc! { "_id": 0 }).await.unwrap();
    let mut session = client.start_session().await.unwrap();
    // A majority commit on a primary cannot finish under the lock that it lets in.
    let once = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
    session
        .start_transaction()
        .write_concern(once)
        .await
        .unwrap();
    data.insert_one(doc! { "_id": 1 })
        .session(&mut session)
        .await
        .unwrap();

    let primary = open(&set, 0, &set.access()).await;
    let hasty = primary.with_timeout(Duration::from_secs(1));
    let error = hasty.lock("freezeframe run 1").await.unwrap_err();
    assert!(
        matches!(error, MongoError::LockOutcomeUnknown { .. }),
        "{error:?}"
    );
    assert!(
        primary
            .lock_state("freezeframe run 1")
            .await
            .unwrap()
            .pending_ours
    );
    assert!(
        !primary
            .lock_state("another run")
            .await
            .unwrap()
            .pending_ours
    );

    session.commit_transaction().await.unwrap();
    until("the lock has landed", async || {
        let state = primary.lock_state("freezeframe run 1").await.unwrap();
        state.locked && !state.pending_ours
    })
    .await;
    let remaining = LockCount(0);
    assert_eq!(
        primary.unlock().await.unwrap(),
        UnlockOutcome::Unlocked { remaining }
    );
}

#[tokio::test]
async fn another_start_is_another_process_and_nobody_there_is_said_at_once() {
    let members = vec![Member::primary()];
    let mut set = ReplicaSet::start(Options {
        members,
        ..Options::default()
    })
    .await;
    let before = open(&set, 0, &set.access())
        .await
        .process_id()
        .await
        .unwrap();
    let again: freezeframe::mongo::ServerProcess = before.to_string().parse().unwrap();
    assert_eq!(before, again);
    set.members[0].kill();
    let error = connect(set.addr(0), &set.access(), "freezeframe-test", TIMEOUT)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    set.members[0].restart();
    let after = open(&set, 0, &set.access())
        .await
        .process_id()
        .await
        .unwrap();
    assert_ne!(before, after);
}
