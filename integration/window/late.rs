//! Lock commands that wait on the server, and land when nobody waits for them any more.

use mongodb::options::{Acknowledgment, WriteConcern};

use super::*;

/// A primary with an open transaction, behind which a lock command waits.
struct Blocked {
    scene: Scene,
    admin: mongodb::Client,
    session: mongodb::ClientSession,
}

impl Blocked {
    async fn new() -> Self {
        let set = ReplicaSet::start(Options {
            members: vec![Member::primary()],
            ..Options::default()
        })
        .await;
        let scene = Scene::with(set, 0);
        let admin = scene.set.admin(0).await;
        let collection = admin
            .database("test")
            .collection::<mongodb::bson::Document>("c");
        collection.insert_one(doc! { "_id": 0 }).await.unwrap();
        let mut session = admin.start_session().await.unwrap();
        // A majority commit would wait for the lock that it lets in.
        let once = WriteConcern::builder().w(Acknowledgment::Nodes(1)).build();
        session
            .start_transaction()
            .write_concern(once)
            .await
            .unwrap();
        collection
            .insert_one(doc! { "_id": 1 })
            .session(&mut session)
            .await
            .unwrap();
        Self {
            scene,
            admin,
            session,
        }
    }

    async fn a_lock_waits(admin: &mongodb::Client) {
        until("a lock waits", async || {
            let reply = admin
                .database("admin")
                .run_command(doc! { "currentOp": 1, "$all": true })
                .await
                .unwrap();
            format!("{reply:?}").contains("\"lock\": Boolean(true)")
        })
        .await;
    }

    async fn writes_go_on(&self) {
        assert!(!self.scene.locked().await);
        let collection = self.admin.database("test").collection("c");
        collection.insert_one(doc! { "_id": 2 }).await.unwrap();
    }
}

#[tokio::test]
async fn a_lock_that_lands_after_we_gave_up_is_given_back() {
    let mut blocked = Blocked::new().await;
    let Blocked {
        scene,
        admin,
        session,
    } = &mut blocked;
    let limit = Duration::from_millis(800);
    let cancel = CancellationToken::new();
    let window = scene.around::<(), _>(limit, &cancel, async |_| Ok(()));
    let release = async {
        Blocked::a_lock_waits(admin).await;
        // Long past the limit: the lock command waits on the server, our side has given it up.
        tokio::time::sleep(limit * 2).await;
        session.commit_transaction().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(window, release);
    assert!(outcome.is_err());
    blocked.writes_go_on().await;
}

#[tokio::test]
async fn a_lock_that_waits_is_given_up_when_we_are_asked_to_end() {
    let mut blocked = Blocked::new().await;
    let Blocked {
        scene,
        admin,
        session,
    } = &mut blocked;
    // Far longer than anybody waits here: only the interruption can end the wait.
    let limit = Duration::from_secs(600);
    let cancel = CancellationToken::new();
    let window = scene.around::<(), _>(limit, &cancel, async |_| Ok(()));
    let interrupt = async {
        Blocked::a_lock_waits(admin).await;
        cancel.cancel();
        session.commit_transaction().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(window, interrupt);
    assert!(
        matches!(outcome, Err(WindowError::Interrupted)),
        "{outcome:?}"
    );
    blocked.writes_go_on().await;
}
