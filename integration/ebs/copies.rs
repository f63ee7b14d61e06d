//! Volumes made of a set's snapshots, attached and given back, against moto. What lies on them is the laboratory's business: moto has no disks.

use std::collections::BTreeSet;
use std::time::Duration;

use freezeframe::backup::journal::Journal;
use freezeframe::backup::release::release;
use freezeframe::backup::resource::Resource;
use freezeframe::backup::run::Run;
use freezeframe::copies::plan::{Plan, plan};
use freezeframe::ebs::attach::{self, Attachments};
use freezeframe::ebs::ids::VolumeId;
use freezeframe::ebs::made::{self, MadeVolumes, SNAPSHOT_TAG};
use freezeframe::ebs::names::Wish;
use freezeframe::ebs::{RUN_TAG, Volume};
use freezeframe::error::{Exit, Explain};
use freezeframe::ids::RunId;
use freezeframe::manifest::snapshots::SnapshotManifest;
use freezeframe::recover::recover;
use freezeframe::restore::set::{Order, restore_set};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::backup::Scene;
use crate::http::Reply;
use crate::moto::REGION;

/// Volumes that some run of ours made, by their own account.
async fn volumes(scene: &Scene) -> Vec<aws_sdk_ec2::types::Volume> {
    let ours = aws_sdk_ec2::types::Filter::builder()
        .name("tag-key")
        .values(RUN_TAG)
        .build();
    let found = scene.moto.client.describe_volumes().filters(ours);
    found.send().await.unwrap().volumes().to_vec()
}

pub async fn planned(scene: &Scene, manifest: &SnapshotManifest, run: RunId) -> Plan {
    let all: BTreeSet<VolumeId> = manifest
        .snapshots
        .volumes
        .iter()
        .map(|one| one.volume.id.clone())
        .collect();
    plan(manifest, &all, &Wish::default(), run, &scene.env)
        .await
        .unwrap()
}

/// Makes and attaches what `plan` says, in the journal as the program does it.
pub async fn bring_up(scene: &Scene, run: &mut Run, plan: &Plan) -> Vec<Volume> {
    let ec2 = plan.ec2.as_ref();
    run.plan_one(Resource::EbsVolumes(record(plan, run.id(), Vec::new())))
        .unwrap();
    let mut all = Vec::new();
    for one in &plan.orders {
        let made = made::make(ec2, &one.order, run.id(), &plan.patience())
            .await
            .unwrap();
        all.push(Volume {
            id: made.id,
            attached_as: one.name.clone(),
            bytes: one.order.shape.bytes,
            volume_type: None,
            iops: None,
            throughput: None,
            encrypted: false,
        });
    }
    let ids: Vec<_> = all.iter().map(|one| one.id.clone()).collect();
    let cancel = &scene.env.cancel;
    made::await_available(ec2, &ids, &plan.patience(), cancel)
        .await
        .unwrap();
    let attachments = Attachments {
        place: ec2.place(),
        instance: plan.instance.clone(),
        volumes: all.clone(),
    };
    run.plan_one(Resource::EbsAttachments(attachments.clone()))
        .unwrap();
    for one in &all {
        attach::attach(ec2, &plan.instance, one, &plan.patience())
            .await
            .unwrap();
    }
    attach::await_attached(ec2, &attachments, &plan.patience(), cancel)
        .await
        .unwrap();
    all
}

fn record(plan: &Plan, run: RunId, volumes: Vec<VolumeId>) -> MadeVolumes {
    MadeVolumes {
        place: plan.ec2.place(),
        run,
        planned: Timestamp::now(),
        volumes,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_made_of_the_snapshots_attached_by_free_names_and_given_back() {
    let scene = Scene::new(3, 2).await;
    let manifest = scene.backup().await.unwrap();
    let mut run = Run::begin(&scene.state(), "restore").unwrap();
    let plan = planned(&scene, &manifest, run.id()).await;
    let made = bring_up(&scene, &mut run, &plan).await;
    let there = volumes(&scene).await;
    assert_eq!(there.len(), 2);
    for (volume, record) in made.iter().zip(&manifest.snapshots.volumes) {
        let one = there
            .iter()
            .find(|one| one.volume_id() == Some(volume.id.as_str()))
            .unwrap();
        assert_eq!(one.snapshot_id(), Some(record.snapshot.as_str()));
        assert_eq!(one.availability_zone(), Some(&*format!("{REGION}a")));
        assert_eq!(one.size(), Some(10));
        let tag = one
            .tags()
            .iter()
            .find(|tag| tag.key() == Some(SNAPSHOT_TAG));
        assert_eq!(tag.unwrap().value(), Some(record.snapshot.as_str()));
        let attachment = &one.attachments()[0];
        assert_eq!(attachment.instance_id(), Some(scene.moto.instance.as_str()));
        // The originals have sdf to sdh.
        assert!(!["/dev/sdf", "/dev/sdg", "/dev/sdh"].contains(&attachment.device().unwrap()));
    }
    let sent = scene.moto.proxy.seen();
    let created = sent.iter().find(|one| one.action() == "CreateVolume");
    let token = created.unwrap().parameter("ClientToken").unwrap();
    assert!(token.contains(&run.id().to_string()), "{token}");

    // The volumes do not go before they are detached.
    let ids = made.iter().map(|one| one.id.clone()).collect();
    let held = Resource::EbsVolumes(record(&plan, run.id(), ids));
    let error = release(&held, &scene.env.tools).await.unwrap_err();
    assert_eq!(error.exit(), Exit::StillHeld);
    assert_eq!(volumes(&scene).await.len(), 2);
    let unreleased = run.finish(&scene.env.tools).await.unwrap();
    assert!(unreleased.is_empty(), "{unreleased:?}");
    assert!(volumes(&scene).await.is_empty());
    // The originals, the set and the instance are as they were.
    let ec2 = plan.ec2.as_ref();
    assert_eq!(ec2.attached(&scene.moto.instance).await.unwrap().len(), 4);
    assert_eq!(scene.moto.snapshots().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_leaves_one_volume_and_a_dead_run_none() {
    let scene = Scene::new(2, 2).await;
    let manifest = scene.backup().await.unwrap();
    for action in ["CreateVolume", "AttachVolume"] {
        for reply in [
            Reply::Lose,
            Reply::Change(|_| "<garbage".into()),
            Reply::error(503, "RequestLimitExceeded"),
        ] {
            let mut run = Run::begin(&scene.state(), "restore").unwrap();
            let plan = planned(&scene, &manifest, run.id()).await;
            scene.moto.first(2, action, reply);
            bring_up(&scene, &mut run, &plan).await;
            assert_eq!(volumes(&scene).await.len(), 2);
            // As if it were killed.
            drop(run);
            let recovered = recover(&scene.state(), None, &scene.env.tools)
                .await
                .unwrap();
            assert!(recovered[0].failed.is_empty(), "{recovered:?}");
            assert!(volumes(&scene).await.is_empty(), "{action}");
            assert!(Journal::all(&scene.state()).unwrap().is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_died_before_any_answer_leaves_no_volume() {
    let scene = Scene::new(2, 2).await;
    let manifest = scene.backup().await.unwrap();
    let mut run = Run::begin(&scene.state(), "restore").unwrap();
    let plan = planned(&scene, &manifest, run.id()).await;
    run.plan_one(Resource::EbsVolumes(record(&plan, run.id(), Vec::new())))
        .unwrap();
    let ec2 = plan.ec2.as_ref();
    ec2.create_volume(&plan.orders[0].order).await.unwrap();
    drop(run);
    assert_eq!(volumes(&scene).await.len(), 1);
    let recovered = recover(&scene.state(), None, &scene.env.tools)
        .await
        .unwrap();
    assert!(recovered[0].failed.is_empty(), "{recovered:?}");
    assert!(volumes(&scene).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_detached_or_deleted_stays_in_the_journal() {
    let scene = Scene::new(1, 1).await;
    let manifest = scene.backup().await.unwrap();
    for action in ["DetachVolume", "DeleteVolume"] {
        let mut run = Run::begin(&scene.state(), "restore").unwrap();
        let plan = planned(&scene, &manifest, run.id()).await;
        bring_up(&scene, &mut run, &plan).await;
        scene
            .moto
            .first(9, action, Reply::error(403, "UnauthorizedOperation"));
        let unreleased = run.finish(&scene.env.tools).await.unwrap();
        let hints: Vec<_> = unreleased
            .iter()
            .filter_map(|left| left.error.hint())
            .collect();
        assert!(hints.iter().any(|hint| hint.contains(action)), "{hints:?}");
        assert_eq!(volumes(&scene).await.len(), 1);
        scene.moto.proxy.now(|_| Reply::Pass);
        let recovered = recover(&scene.state(), None, &scene.env.tools)
            .await
            .unwrap();
        assert!(recovered[0].failed.is_empty(), "{recovered:?}");
        assert!(volumes(&scene).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_ec2_refuses_leaves_nothing_and_says_why() {
    let mut scene = Scene::new(2, 2).await;
    let manifest = scene.backup().await.unwrap();
    let to = scene.set.dir().join("restored");
    let wish = Wish::default();
    let order = Order {
        to: &to,
        shard: None,
        member: None,
        replset: None,
        mongod: None,
        wish: &wish,
        warm: false,
    };
    // The second volume is beyond the quota.
    let made = std::sync::atomic::AtomicUsize::new(0);
    scene.moto.proxy.now(move |request| {
        let second = request.action() == "CreateVolume"
            && made.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1;
        match second {
            true => Reply::error(400, "VolumeLimitExceeded"),
            false => Reply::Pass,
        }
    });
    let kind = manifest.snapshots.filesystems[0].kind.clone();
    let mut fit = manifest.clone();
    for filesystem in &mut fit.snapshots.filesystems {
        filesystem.kind = "ext4".into();
    }
    let error = restore_set(&fit, &order, &scene.env).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Restore, "{error}");
    assert!(error.hint().unwrap().contains("Service Quotas"), "{error}");
    assert!(volumes(&scene).await.is_empty());
    assert!(Journal::all(&scene.state()).unwrap().is_empty());
    scene.moto.proxy.now(|_| Reply::Pass);

    // What can be refused is, before anything is made.
    let before = scene.moto.proxy.count("CreateVolume");
    let refused = async |manifest: &SnapshotManifest, order: &Order<'_>, scene: &Scene| {
        let error = restore_set(manifest, order, &scene.env).await.unwrap_err();
        assert_eq!(scene.moto.proxy.count("CreateVolume"), before, "{error}");
        assert!(Journal::all(&scene.state()).unwrap().is_empty());
        error
    };
    let mut other = fit.clone();
    for filesystem in &mut other.snapshots.filesystems {
        filesystem.kind = "btrfs".into();
    }
    let error = refused(&other, &order, &scene).await;
    assert_eq!(error.exit(), Exit::Refused, "{kind}: {error}");
    let mut elsewhere = fit.clone();
    elsewhere.snapshots.place.region = "us-west-2".into();
    let error = refused(&elsewhere, &order, &scene).await;
    assert!(error.hint().unwrap().contains("us-west-2"), "{error}");
    let small = Wish {
        gib: Some(1),
        ..Wish::default()
    };
    let order_small = Order {
        wish: &small,
        ..order
    };
    let error = refused(&fit, &order_small, &scene).await;
    assert!(error.to_string().contains("10 GiB"), "{error}");
    std::fs::create_dir(&to).unwrap();
    std::fs::write(to.join("something"), "").unwrap();
    let order = Order {
        wish: &wish,
        ..order_small
    };
    let error = refused(&fit, &order, &scene).await;
    assert!(error.to_string().contains("not empty"), "{error}");
    std::fs::remove_dir_all(&to).unwrap();
    let gone = &fit.snapshots.volumes[1].snapshot;
    let deleting = scene.moto.client.delete_snapshot();
    deleting.snapshot_id(gone.as_str()).send().await.unwrap();
    let error = refused(&fit, &order, &scene).await;
    assert_eq!(error.exit(), Exit::Damaged, "{error}");
    scene.env.cancel = CancellationToken::new();
    scene.env.cancel.cancel();
    let began = std::time::Instant::now();
    let error = refused(&fit, &order, &scene).await;
    assert_eq!(error.exit(), Exit::Interrupted, "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}
