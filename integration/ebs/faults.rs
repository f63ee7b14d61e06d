//! What goes wrong, and what must be left of it: no lock, no snapshot that costs money, no set; and never a backup deleted.

use std::time::{Duration, Instant};

use freezeframe::backup::BACKUP;
use freezeframe::backup::journal::Journal;
use freezeframe::backup::plan::PicturePlan;
use freezeframe::backup::release::release;
use freezeframe::backup::resource::Resource;
use freezeframe::backup::run::Run;
use freezeframe::backup::volumes::backup;
use freezeframe::config::Period;
use freezeframe::ebs::set::MadeSet;
use freezeframe::error::{Exit, Explain};
use freezeframe::recover::recover;
use jiff::Timestamp;

use crate::backup::Scene;
use crate::http::{Reply, Request};
use crate::support::mongod::until;

async fn nothing_is_left(scene: &Scene) {
    assert!(!scene.is_locked().await, "locked");
    assert!(scene.moto.snapshots().await.is_empty(), "snapshots stay");
    assert_eq!(scene.stored().await, Vec::<String>::new());
    assert!(
        Journal::all(&scene.state()).unwrap().is_empty(),
        "a journal stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_the_window_at_once_and_is_not_tried_again() {
    let scene = Scene::new(2, 2).await;
    for (status, code) in [
        (503, "RequestLimitExceeded"),
        (400, "SnapshotCreationPerVolumeRateExceeded"),
        (403, "UnauthorizedOperation"),
    ] {
        let before = scene.moto.proxy.count("CreateSnapshots");
        scene
            .moto
            .first(9, "CreateSnapshots", Reply::error(status, code));
        let error = scene.backup().await.unwrap_err();
        assert_eq!(error.exit(), Exit::BackupFailed);
        assert!(error.to_string().contains(code), "{error}");
        assert!(error.hint().is_some(), "{error}");
        assert_eq!(scene.moto.proxy.count("CreateSnapshots"), before + 1);
        nothing_is_left(&scene).await;
    }
    // Nothing was made, so nothing is looked for.
    assert_eq!(scene.moto.proxy.count("DescribeSnapshots"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_fails_the_backup_and_the_set_is_found_and_deleted() {
    let scene = Scene::new(4, 4).await;
    for reply in [Reply::Lose, Reply::Change(|_| "<garbage".into())] {
        let before = scene.moto.proxy.count("CreateSnapshots");
        scene.moto.first(9, "CreateSnapshots", reply);
        let error = scene.backup().await.unwrap_err();
        assert_eq!(error.exit(), Exit::BackupFailed, "{error}");
        assert_eq!(scene.moto.proxy.count("CreateSnapshots"), before + 1);
        nothing_is_left(&scene).await;
    }
    // Deleted one by one: they were there.
    assert_eq!(scene.moto.proxy.count("DeleteSnapshot"), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_after_the_deadline_leaves_neither_lock_nor_snapshots() {
    let mut scene = Scene::new(2, 2).await;
    // What comes late is looked for far longer than it is late on a busy machine.
    scene.env.tools.ebs = scene.moto.access().quiet_after(Duration::from_secs(20));
    scene.env.config.window.max_lock = Period(Duration::from_secs(2));
    scene
        .moto
        .first(1, "CreateSnapshots", Reply::Late(Duration::from_secs(4)));
    let began = Instant::now();
    let error = scene.backup().await.unwrap_err();
    assert_eq!(error.exit(), Exit::BackupFailed, "{error}");
    assert!(began.elapsed() < Duration::from_secs(60));
    // What we gave up on arrives at EC2 all the same; here after giving back began.
    nothing_is_left(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_detached_meanwhile_spoils_the_set_and_all_of_it_goes() {
    let scene = Scene::new(3, 3).await;
    let plan = scene.plan().await;
    let detaching = scene.moto.client.detach_volume();
    detaching
        .instance_id(scene.moto.instance.as_str())
        .volume_id(scene.moto.volumes[1].as_str())
        .device("/dev/sdg")
        .send()
        .await
        .unwrap();
    let error = scene.backup_by(&plan).await.unwrap_err();
    assert!(
        error.to_string().contains(scene.moto.volumes[1].as_str()),
        "{error}"
    );
    assert_eq!(scene.moto.proxy.count("DeleteSnapshot"), 2);
    nothing_is_left(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_and_throttled_snapshots_are_waited_for_and_failed_ones_are_not_a_backup() {
    let scene = Scene::new(2, 2).await;
    let pending = |body: String| {
        body.replace("<status>completed</status>", "<status>pending</status>")
            .replace("<progress>100%</progress>", "<progress>42%</progress>")
    };
    let step = std::sync::atomic::AtomicUsize::new(0);
    scene.moto.proxy.now(move |request: &Request| {
        if request.action() != "DescribeSnapshots" {
            return Reply::Pass;
        }
        match step.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => Reply::Change(pending),
            1 => Reply::error(503, "RequestLimitExceeded"),
            // Not shown yet.
            2 => Reply::Change(|_| {
                "<DescribeSnapshotsResponse><snapshotSet/></DescribeSnapshotsResponse>".into()
            }),
            3 => Reply::Change(pending),
            _ => Reply::Pass,
        }
    });
    let manifest = scene.backup().await.unwrap();
    assert!(scene.moto.proxy.count("DescribeSnapshots") >= 5);
    let waited = manifest
        .finished
        .duration_since(manifest.started)
        .as_secs_f64();
    let held = Duration::from_micros(manifest.window.held_us).as_secs_f64();
    assert!(waited > 4.0 && held < 2.0, "held {held} s of {waited} s");
    for snapshot in &manifest.snapshots.volumes {
        let deleting = scene.moto.client.delete_snapshot();
        let id = snapshot.snapshot.as_str();
        deleting.snapshot_id(id).send().await.unwrap();
    }
    scene
        .store()
        .delete(&format!("{}/manifest.json", manifest.id))
        .await
        .unwrap();
    scene
        .store()
        .delete(&format!("{}/intent.json", manifest.id))
        .await
        .unwrap();

    scene.moto.first(
        1,
        "DescribeSnapshots",
        Reply::Change(|body| body.replace("<status>completed</status>", "<status>error</status>")),
    );
    let error = scene.backup().await.unwrap_err();
    assert!(error.to_string().contains("failed"), "{error}");
    nothing_is_left(&scene).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_died_leaves_nothing_after_recover_wherever_it_was() {
    let scene = Scene::new(2, 2).await;
    // Where it stands still: sent and not answered; answered and pending.
    for action in ["CreateSnapshots", "DescribeSnapshots"] {
        scene.moto.first(9, action, Reply::Swallow);
        let plan = scene.plan().await;
        let PicturePlan::Volumes(planned) = &plan.picture else {
            panic!()
        };
        let mut run = Run::begin(&scene.state(), BACKUP).unwrap();
        {
            let before = scene.moto.proxy.count(action);
            let arrived = until("the request has come", async || {
                scene.moto.proxy.count(action) > before && scene.moto.snapshots().await.len() == 2
            });
            tokio::select! {
                made = backup(&mut run, &plan, planned, &scene.env) => panic!("{made:?}"),
                () = arrived => {}
            }
        }
        // Nothing of it goes on; its journal stays, and the guard sees that its pipe is closed.
        drop(run);
        drop(plan);
        scene.moto.proxy.now(|_| Reply::Pass);
        assert_eq!(scene.moto.snapshots().await.len(), 2);
        until("the guard has unlocked", async || !scene.is_locked().await).await;
        let recovered = recover(&scene.state(), None, &scene.env.tools)
            .await
            .unwrap();
        let failed: Vec<_> = recovered.iter().flat_map(|run| &run.failed).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(
            recovered[0]
                .released
                .iter()
                .any(|one| one.contains("EBS snapshots")),
            "{recovered:?}"
        );
        nothing_is_left(&scene).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_never_given_back_nor_what_may_be_one() {
    let scene = Scene::new(2, 2).await;
    let manifest = scene.backup().await.unwrap();
    let made = MadeSet {
        place: manifest.snapshots.place.clone(),
        instance: scene.moto.instance.clone(),
        run: manifest.run,
        set: manifest.id,
        store: scene.store().url(),
        server: None,
        planned: Timestamp::now(),
        pruned: false,
        snapshots: Vec::new(),
    };
    // Killed between the manifest and the journal.
    let resource = Resource::EbsSnapshots(made.clone());
    release(&resource, &scene.env.tools).await.unwrap();
    assert_eq!(scene.moto.snapshots().await.len(), 2);

    // The store cannot tell.
    let manifest_file = scene
        .set
        .dir()
        .join("store")
        .join(manifest.id.to_string())
        .join("manifest.json");
    let whole = std::fs::read(&manifest_file).unwrap();
    std::fs::write(&manifest_file, &whole[..whole.len() / 2]).unwrap();
    assert!(release(&resource, &scene.env.tools).await.is_err());
    let gone = MadeSet {
        store: "file:///nonexistent/store".into(),
        ..made.clone()
    };
    assert!(
        release(&Resource::EbsSnapshots(gone), &scene.env.tools)
            .await
            .is_err()
    );
    assert_eq!(scene.moto.snapshots().await.len(), 2);

    // Somewhere else than where we would look.
    std::fs::remove_file(&manifest_file).unwrap();
    let elsewhere = MadeSet {
        place: freezeframe::ebs::Place {
            endpoint: None,
            ..made.place.clone()
        },
        ..made.clone()
    };
    let error = release(&Resource::EbsSnapshots(elsewhere), &scene.env.tools).await;
    assert_eq!(error.unwrap_err().exit(), Exit::StillHeld);

    // What may not be deleted stays in the journal.
    scene.moto.first(
        9,
        "DeleteSnapshot",
        Reply::error(403, "UnauthorizedOperation"),
    );
    let error = release(&resource, &scene.env.tools).await.unwrap_err();
    assert!(error.hint().unwrap().contains("ec2:DeleteSnapshot"));
    assert_eq!(scene.moto.snapshots().await.len(), 2);

    // And a run without a manifest never became a backup.
    scene.moto.proxy.now(|_| Reply::Pass);
    release(&resource, &scene.env.tools).await.unwrap();
    assert!(scene.moto.snapshots().await.is_empty());
}
