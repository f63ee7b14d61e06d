//! Pruning sets of snapshots: moto has the snapshots and copies, a folder the manifests. moto knows no locks: those are a script's.

use std::time::Duration;

use freezeframe::catalog;
use freezeframe::config::Period;
use freezeframe::error::{Exit, Explain};
use freezeframe::manifest::snapshots::SnapshotManifest;
use freezeframe::prune::{Order, Outcome, Pruned, RemoveError, prune};
use freezeframe::recover::recover;
use freezeframe::retention::{KeepReason, Rules, Verdict};
use jiff::{Timestamp, ToSpan};

use crate::backup::Scene;
use crate::http::Reply;
use crate::safekeeping::{Locks, guard, ids};
use crate::support::mongod::until;

/// Keeps the newest backup alone.
async fn pruned(scene: &Scene, manifest: &SnapshotManifest) -> Pruned {
    pruned_at(scene, manifest, Timestamp::now()).await
}

async fn pruned_at(scene: &Scene, manifest: &SnapshotManifest, now: Timestamp) -> Pruned {
    let rules = Rules {
        keep_last: 1,
        keep_within: Period(Duration::ZERO),
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
    };
    let order = Order {
        store: scene.store(),
        ours: &manifest.deployment.id,
        rules: &rules,
        copies: &[],
        state_dir: &scene.state(),
        cancel: &scene.env.cancel,
    };
    prune(&order, &scene.env.tools, now).await
}

/// Whether just the snapshots and copies of `sets` are there, and just their objects.
async fn there_are(scene: &Scene, sets: &[&SnapshotManifest]) -> bool {
    let of = |copied: bool| {
        let located = sets.iter().flat_map(|one| one.snapshots.located());
        let here = located.filter(move |one| one.copied == copied);
        here.flat_map(|one| one.ids())
            .map(|id| id.to_string())
            .collect()
    };
    let stored = scene.stored().await;
    ids(&scene.moto.snapshots().await) == of(false)
        && ids(&scene.moto.copies().await) == of(true)
        && sets
            .iter()
            .all(|one| stored.contains(&format!("{}/manifest.json", one.id)))
        && stored
            .iter()
            .all(|key| sets.iter().any(|one| key.starts_with(&one.id.to_string())))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_goes_with_its_snapshots_and_copies_when_its_lock_has_ended() {
    let mut scene = Scene::new(2, 2).await;
    guard(&mut scene);
    let locks = Locks::default();
    locks.answer_in(&scene.moto);
    let old = scene.backup().await.unwrap();
    let new = scene.backup().await.unwrap();
    assert!(there_are(&scene, &[&old, &new]).await);

    let made = pruned(&scene, &new).await;
    let plan = &made.plan.as_ref().unwrap().0;
    assert_eq!(plan[0].verdict, Verdict::Keep([KeepReason::Locked].into()));
    assert_eq!(made.exit().unwrap(), Exit::Done);
    // By the manifest they are not locked any more; EC2 knows better.
    let later = Timestamp::now() + (8 * 24).hours();
    let made = pruned_at(&scene, &new, later).await;
    let Outcome::Failed(RemoveError::Locked { count: 2, .. }) = &made.outcomes[&old.id] else {
        panic!("{made:?}")
    };
    assert_eq!(made.exit().unwrap(), Exit::Store);
    assert!(there_are(&scene, &[&old, &new]).await);

    locks.release(&old);
    let made = pruned_at(&scene, &new, later).await;
    assert!(
        matches!(made.outcomes[&old.id], Outcome::Removed),
        "{made:?}"
    );
    assert!(there_are(&scene, &[&new]).await);
    assert!(locks.held().len() == 4, "what stays is locked as before");
    assert_eq!(
        std::fs::read_dir(scene.state().join("runs"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_manifest_calls_its_own_is_not_deleted() {
    let scene = Scene::new(2, 2).await;
    Locks::default().answer_in(&scene.moto);
    let old = scene.backup().await.unwrap();
    let new = scene.backup().await.unwrap();
    // Whoever may write into the store can change a manifest; its seal is no signature.
    let mut forged = old.clone();
    forged.snapshots.volumes[0].snapshot = new.snapshots.volumes[0].snapshot.clone();
    let store = scene.store();
    let key = format!("{}/manifest.json", old.id);
    store.delete(&key).await.unwrap();
    catalog::write_snapshots(store.as_ref(), &forged)
        .await
        .unwrap();
    let before = ids(&scene.moto.snapshots().await);
    let made = pruned(&scene, &new).await;
    let Outcome::Failed(RemoveError::NotOfTheSet { snapshot, .. }) = &made.outcomes[&old.id] else {
        panic!("{made:?}")
    };
    assert_eq!(*snapshot, new.snapshots.volumes[0].snapshot);
    assert_eq!(ids(&scene.moto.snapshots().await), before);
    assert!(scene.stored().await.contains(&key));
}

/// The manifest of `old` is gone and its snapshots are there; `recover` deletes them, and nothing of `new`.
async fn recovers(scene: &Scene, locks: &Locks, old: &SnapshotManifest, new: &SnapshotManifest) {
    assert_eq!(ids(&scene.moto.snapshots().await).len(), 4);
    let stored = scene.stored().await;
    assert!(
        !stored.contains(&format!("{}/manifest.json", old.id)),
        "{stored:?}"
    );
    locks.answer_in(&scene.moto);
    let recovered = recover(&scene.state(), None, &scene.env.tools)
        .await
        .unwrap();
    assert!(
        recovered.iter().all(|one| one.failed.is_empty()),
        "{recovered:?}"
    );
    assert!(there_are(scene, &[new]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ec2_did_not_delete_is_in_the_journal_and_goes_with_recover() {
    let scene = Scene::new(2, 2).await;
    let locks = Locks::default();
    locks.answer_in(&scene.moto);
    let old = scene.backup().await.unwrap();
    let new = scene.backup().await.unwrap();
    locks.answer_besides(&scene.moto, |request| {
        let deletes = request.action() == "DeleteSnapshot";
        deletes.then(|| Reply::error(403, "UnauthorizedOperation"))
    });
    let made = pruned(&scene, &new).await;
    assert!(
        matches!(
            made.outcomes[&old.id],
            Outcome::Failed(RemoveError::Left(_))
        ),
        "{made:?}"
    );
    let error = made.exit().unwrap_err();
    assert_eq!(error.exit(), Exit::StillHeld, "{error}");
    recovers(&scene, &locks, &old, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_when_the_manifest_is_gone_recover_deletes_the_rest() {
    let scene = Scene::new(2, 2).await;
    let locks = Locks::default();
    locks.answer_in(&scene.moto);
    let old = scene.backup().await.unwrap();
    let new = scene.backup().await.unwrap();
    locks.answer_besides(&scene.moto, |request| {
        (request.action() == "DeleteSnapshot").then_some(Reply::Silence)
    });
    tokio::select! {
        made = pruned(&scene, &new) => panic!("{made:?}"),
        () = until("a snapshot is to be deleted", async || scene.moto.proxy.count("DeleteSnapshot") > 0) => {}
    }
    recovers(&scene, &locks, &old, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_ec2_cannot_be_asked_nothing_is_done() {
    let scene = Scene::new(1, 1).await;
    let locks = Locks::default();
    locks.answer_in(&scene.moto);
    let old = scene.backup().await.unwrap();
    let new = scene.backup().await.unwrap();
    locks.answer_besides(&scene.moto, |request| {
        let looks = request.action() == "DescribeLockedSnapshots";
        looks.then(|| Reply::error(403, "UnauthorizedOperation"))
    });
    let made = pruned(&scene, &new).await;
    assert!(
        matches!(made.outcomes[&old.id], Outcome::Failed(RemoveError::Ebs(_))),
        "{made:?}"
    );
    assert!(there_are(&scene, &[&old, &new]).await);
}
