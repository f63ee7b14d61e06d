//! Copies, shares and locks of a set. moto copies and shares; it knows no locks, so those are answered by a script, which is no proof of how AWS locks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_ec2::types::SnapshotAttributeName;
use freezeframe::backup::BACKUP;
use freezeframe::backup::journal::Journal;
use freezeframe::backup::plan::PicturePlan;
use freezeframe::backup::run::Run;
use freezeframe::backup::volumes::backup;
use freezeframe::catalog::{self, Recorded};
use freezeframe::ebs::made::SNAPSHOT_TAG;
use freezeframe::ebs::patience::Patience;
use freezeframe::manifest::snapshots::{CopyOutcome, SnapshotManifest};
use freezeframe::recover::recover;
use freezeframe::verify::snapshots::unprotected;
use jiff::{Timestamp, ToSpan};
use tokio_util::sync::CancellationToken;

use crate::backup::Scene;
use crate::copies;
use crate::http::{Reply, Request};
use crate::moto::{ABROAD, Moto, REGION, run_instance};
use crate::support::mongod::until;

const ACCOUNT: &str = "210987654321";

/// Has `scene` copy, share and lock.
pub fn guard(scene: &mut Scene) {
    let endpoint = scene.moto.proxy.url();
    scene.configure(|ebs| {
        ebs.copy_to = Some(ABROAD.parse().unwrap());
        ebs.copy_endpoint = Some(endpoint.parse().unwrap());
        ebs.share_with = vec![ACCOUNT.parse().unwrap()];
        ebs.lock = serde_json::from_str(r#"{"mode":"governance","days":7}"#).unwrap();
    });
}

/// Locks as EC2 keeps them.
#[derive(Default, Clone)]
pub struct Locks(Arc<Mutex<BTreeSet<String>>>);

impl Locks {
    pub fn held(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().clone()
    }

    /// Ends those of a set, as time does.
    pub fn release(&self, manifest: &SnapshotManifest) {
        let mut held = self.0.lock().unwrap();
        for id in manifest
            .snapshots
            .located()
            .iter()
            .flat_map(|one| one.ids())
        {
            held.remove(id.as_str());
        }
    }

    /// What EC2 answers to `request`, where it is about locks.
    fn reply(&self, request: &Request) -> Option<Reply> {
        let body = match request.action().as_str() {
            "LockSnapshot" if request.is_dry_run() => {
                return Some(Reply::error(412, "DryRunOperation"));
            }
            "LockSnapshot" => {
                assert_eq!(request.parameter("LockMode").as_deref(), Some("governance"));
                assert_eq!(request.parameter("LockDuration").as_deref(), Some("7"));
                assert_eq!(request.parameter("CoolOffPeriod"), None);
                let id = request.parameter("SnapshotId").unwrap();
                let new = self.0.lock().unwrap().insert(id.clone());
                assert!(new, "{id} is locked twice, and so for longer");
                format!(
                    "<LockSnapshotResponse><snapshotId>{id}</snapshotId><lockState>governance</lockState></LockSnapshotResponse>"
                )
            }
            "UnlockSnapshot" => {
                let id = request.parameter("SnapshotId").unwrap();
                self.0.lock().unwrap().remove(&id);
                format!(
                    "<UnlockSnapshotResponse><snapshotId>{id}</snapshotId></UnlockSnapshotResponse>"
                )
            }
            "DescribeLockedSnapshots" => {
                let asked = (1..).map_while(|n| request.parameter(&format!("SnapshotId.{n}")));
                let held = self.held();
                // One whose lock has ended is told of for a while.
                let item = |id: String| {
                    let state = if held.contains(&id) {
                        "governance"
                    } else {
                        "expired"
                    };
                    format!(
                        "<item><snapshotId>{id}</snapshotId><lockState>{state}</lockState></item>"
                    )
                };
                let items: String = asked.map(item).collect();
                format!(
                    "<DescribeLockedSnapshotsResponse><snapshotSet>{items}</snapshotSet></DescribeLockedSnapshotsResponse>"
                )
            }
            _ => return None,
        };
        Some(Reply::Answer(200, body, &[("content-type", "text/xml")]))
    }

    /// Answers for them from now on; the rest is moto's.
    pub fn answer_in(&self, moto: &Moto) {
        self.answer_besides(moto, |_| None);
    }

    /// The same, where `script` has nothing to say.
    pub fn answer_besides(
        &self,
        moto: &Moto,
        script: impl Fn(&Request) -> Option<Reply> + Send + Sync + 'static,
    ) {
        let locks = self.clone();
        moto.proxy.now(move |request| {
            let scripted = script(request).or_else(|| locks.reply(request));
            scripted.unwrap_or(Reply::Pass)
        });
    }
}

fn patience() -> Patience {
    Patience::new(Duration::from_secs(5), CancellationToken::new())
}

async fn lacking(scene: &Scene, manifest: &SnapshotManifest) -> Vec<String> {
    lacking_at(scene, manifest, Timestamp::now()).await
}

async fn lacking_at(scene: &Scene, manifest: &SnapshotManifest, now: Timestamp) -> Vec<String> {
    let found = unprotected(manifest, &scene.env.tools.ebs, &patience(), now).await;
    found.iter().map(ToString::to_string).collect()
}

fn manifest_of(scene: &Scene) -> Option<PathBuf> {
    let sets = std::fs::read_dir(scene.set.dir().join("store")).unwrap();
    let mut files = sets.map(|set| set.unwrap().path().join("manifest.json"));
    files.find(|file| file.exists())
}

pub fn ids(snapshots: &[aws_sdk_ec2::types::Snapshot]) -> BTreeSet<String> {
    let ids = snapshots
        .iter()
        .map(|one| one.snapshot_id().unwrap().to_owned());
    ids.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_is_copied_and_shared_before_its_manifest_and_locked_after_it() {
    let mut scene = Scene::new(2, 2).await;
    guard(&mut scene);
    scene.configure(|ebs| ebs.copy_kms_key = Some("alias/backup".into()));
    let locks = Locks::default();
    let store = scene.set.dir().join("store");
    locks.answer_besides(&scene.moto, move |request| {
        if request.action() == "LockSnapshot" {
            // What is locked cannot be given back: it has to be a backup.
            let mut sets = std::fs::read_dir(&store).unwrap();
            assert!(sets.any(|set| set.unwrap().path().join("manifest.json").exists()));
        }
        None
    });
    let manifest = scene.backup().await.unwrap();
    let taken = ids(&scene.moto.snapshots().await);
    let copies = scene.moto.copies().await;
    assert_eq!((taken.len(), copies.len()), (2, 2));
    let Some(CopyOutcome::Made(made)) = manifest.snapshots.copies.as_ref().map(|one| &one.outcome)
    else {
        panic!("{manifest:?}")
    };
    for copy in &copies {
        let tag = |key: &str| {
            let tag = copy.tags().iter().find(|tag| tag.key() == Some(key));
            tag.and_then(|tag| tag.value()).unwrap().to_owned()
        };
        assert_eq!(tag("freezeframe"), manifest.id.to_string());
        assert_eq!(tag("freezeframe-run"), manifest.run.to_string());
        assert!(!tag("freezeframe-place").is_empty());
        let of = tag(SNAPSHOT_TAG).parse().unwrap();
        assert_eq!(made[&of].as_str(), copy.snapshot_id().unwrap());
        assert_eq!(copy.encrypted(), Some(true));
    }
    assert_eq!(
        made.keys()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>(),
        taken
    );

    // The region that copies asks in our name, by a request that we signed for the other one.
    let seen = scene.moto.proxy.seen();
    let asked: Vec<_> = seen
        .iter()
        .filter(|one| one.action() == "CopySnapshot")
        .collect();
    assert_eq!(asked.len(), 2);
    for request in asked {
        assert!(request.is_for(ABROAD), "{:?}", request.headers);
        assert_eq!(request.parameter("SourceRegion").as_deref(), Some(REGION));
        assert_eq!(
            request.parameter("KmsKeyId").as_deref(),
            Some("alias/backup")
        );
        assert_eq!(request.parameter("Encrypted").as_deref(), Some("true"));
        let of = request.parameter("SourceSnapshotId").unwrap();
        let signed = request.parameter("PresignedUrl").unwrap();
        assert!(
            signed.starts_with(&format!(
                "https://ec2.{REGION}.amazonaws.com/?Action=CopySnapshot&"
            )),
            "{signed}"
        );
        for part in [
            format!("DestinationRegion={ABROAD}"),
            format!("SourceRegion={REGION}"),
            format!("SourceSnapshotId={of}"),
            "X-Amz-Signature=".into(),
            "X-Amz-Algorithm=AWS4-HMAC-SHA256".into(),
            format!("{REGION}%252Fec2%252Faws4_request"),
        ] {
            assert!(signed.contains(&part), "no {part:?} in {signed}");
        }
    }

    for (client, all) in [
        (&scene.moto.client, &taken),
        (&scene.moto.abroad, &ids(&copies)),
    ] {
        for id in all {
            let attribute = client
                .describe_snapshot_attribute()
                .snapshot_id(id)
                .attribute(SnapshotAttributeName::CreateVolumePermission)
                .send()
                .await
                .unwrap();
            let with: Vec<_> = attribute
                .create_volume_permissions()
                .iter()
                .filter_map(|one| one.user_id())
                .collect();
            assert_eq!(with, [ACCOUNT], "{id}");
        }
    }
    let all: BTreeSet<_> = taken.union(&ids(&copies)).cloned().collect();
    assert_eq!(locks.held(), all);
    assert_eq!(lacking(&scene, &manifest).await, Vec::<String>::new());

    let store = scene.store().as_ref();
    let recorded = catalog::read_recorded(store, manifest.id).await.unwrap();
    assert_eq!(recorded, Recorded::Snapshots(manifest.clone()));
    let sets = catalog::list(store).await.unwrap();
    assert_eq!(sets[0].copied_to.as_deref(), Some(ABROAD));

    // What goes afterwards is told; a lock only as long as it was to be.
    let gone = ids(&copies).into_iter().next().unwrap();
    let deleting = scene.moto.abroad.delete_snapshot().snapshot_id(&gone);
    deleting.send().await.unwrap();
    let open = taken.iter().next().unwrap();
    locks.0.lock().unwrap().remove(open);
    let told = lacking(&scene, &manifest).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().any(|one| one.contains(&gone)), "{told:?}");
    assert!(
        told.iter()
            .any(|one| one.contains(open) && one.contains("not locked")),
        "{told:?}"
    );
    let later = manifest.finished.checked_add((8 * 24).hours()).unwrap();
    assert_eq!(lacking_at(&scene, &manifest, later).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_copies_are_they_become_volumes() {
    let mut scene = Scene::new(2, 2).await;
    guard(&mut scene);
    Locks::default().answer_in(&scene.moto);
    let manifest = scene.backup().await.unwrap();
    let instance = run_instance(&scene.moto.abroad).await;
    scene.configure(|ebs| {
        ebs.region = Some(ABROAD.parse().unwrap());
        ebs.instance = Some(instance.parse().unwrap());
    });
    let run = "0badcafe".parse().unwrap();
    let plan = copies::planned(&scene, &manifest, run).await;
    let ordered: BTreeSet<_> = plan
        .orders
        .iter()
        .map(|one| one.order.snapshot.to_string())
        .collect();
    assert_eq!(ordered, ids(&scene.moto.copies().await));
    assert!(
        plan.orders
            .iter()
            .all(|one| one.order.zone.starts_with(ABROAD))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_spoils_all_copies_and_not_the_backup() {
    let mut scene = Scene::new(2, 2).await;
    guard(&mut scene);
    let locks = Locks::default();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    locks.answer_besides(&scene.moto, move |request| {
        let second = request.action() == "CopySnapshot"
            && asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 1;
        second.then(|| Reply::error(400, "InvalidParameterValue"))
    });
    let manifest = scene.backup().await.unwrap();
    let copies = manifest.snapshots.copies.as_ref().unwrap();
    assert_eq!(copies.place.region, ABROAD);
    let CopyOutcome::Missing(reason) = &copies.outcome else {
        panic!("{copies:?}")
    };
    assert!(reason.contains("InvalidParameterValue"), "{reason}");
    assert!(scene.moto.copies().await.is_empty(), "one copy stays");
    assert_eq!(locks.held(), ids(&scene.moto.snapshots().await));
    let told = lacking(&scene, &manifest).await;
    assert!(
        told.len() == 1 && told[0].contains("there are none"),
        "{told:?}"
    );
    let sets = catalog::list(scene.store().as_ref()).await.unwrap();
    assert_eq!(sets[0].copied_to, None);
    let shown = catalog::render_snapshots(&sets[0], &manifest);
    assert!(shown.contains(&format!("NO COPIES in {ABROAD}")), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_locked_is_told_with_the_backup() {
    let mut scene = Scene::new(2, 2).await;
    guard(&mut scene);
    Locks::default().answer_besides(&scene.moto, |request| {
        (request.action() == "LockSnapshot").then(|| Reply::error(403, "UnauthorizedOperation"))
    });
    let plan = scene.plan().await;
    let made = scene.made_by(&plan).await.unwrap();
    let [here, abroad] = made.amiss.as_slice() else {
        panic!("{:?}", made.amiss)
    };
    assert!(here.contains("not all snapshots are locked"), "{here}");
    assert!(abroad.contains(ABROAD), "{abroad}");
    let Recorded::Snapshots(manifest) = &made.recorded else {
        panic!("archives")
    };
    // Nobody has seen them locked.
    let sets = catalog::list(scene.store().as_ref()).await.unwrap();
    let shown = catalog::render_snapshots(&sets[0], manifest);
    assert!(shown.contains("asked for"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_while_copies_are_made_the_backup_is_made_without_them() {
    let mut scene = Scene::new(2, 2).await;
    guard(&mut scene);
    let locks = Locks::default();
    let cancel = scene.env.cancel.clone();
    locks.answer_besides(&scene.moto, move |request| {
        // The copies are asked for, and never seen to be complete.
        let looks = request.action() == "DescribeSnapshots" && request.is_for(ABROAD);
        if looks {
            cancel.cancel();
        }
        None
    });
    let manifest = scene.backup().await.unwrap();
    assert!(scene.env.cancel.is_cancelled());
    let copies = manifest.snapshots.copies.as_ref().unwrap();
    assert!(
        matches!(copies.outcome, CopyOutcome::Missing(_)),
        "{copies:?}"
    );
    assert!(scene.moto.copies().await.is_empty(), "a copy stays");
    assert!(manifest_of(&scene).is_some());
    assert_eq!(manifest.snapshots.shared.as_ref().unwrap().failed, None);
    assert_eq!(locks.held(), ids(&scene.moto.snapshots().await));
    assert!(Journal::all(&scene.state()).unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_lost_makes_no_second_copy() {
    let mut scene = Scene::new(2, 2).await;
    guard(&mut scene);
    let lost = std::sync::atomic::AtomicUsize::new(0);
    Locks::default().answer_besides(&scene.moto, move |request| {
        let first = request.action() == "CopySnapshot"
            && lost.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
        first.then_some(Reply::Lose)
    });
    let manifest = scene.backup().await.unwrap();
    assert_eq!(scene.moto.proxy.count("CopySnapshot"), 2);
    let copied = manifest.snapshots.copied().unwrap();
    let copied: BTreeSet<_> = copied.ids().iter().map(ToString::to_string).collect();
    assert_eq!(copied, ids(&scene.moto.copies().await));
}

/// Where it stands still: a copy is asked for, and not answered; all are, and pending; the backup is there, and not locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_died_leaves_no_copy_that_is_no_backup_and_locks_what_is_one() {
    let mut scene = Scene::new(2, 2).await;
    guard(&mut scene);
    for (action, copies, is_backup) in [
        ("CopySnapshot", 1, false),
        ("DescribeSnapshots", 2, false),
        ("LockSnapshot", 2, true),
    ] {
        let locks = Locks::default();
        let stands = move |request: &Request| {
            let there =
                request.action() == action && (action == "LockSnapshot" || request.is_for(ABROAD));
            there.then_some(match action {
                "LockSnapshot" => Reply::Silence,
                _ => Reply::Swallow,
            })
        };
        locks.answer_besides(&scene.moto, stands);
        let plan = scene.plan().await;
        let PicturePlan::Volumes(planned) = &plan.picture else {
            panic!()
        };
        let mut run = Run::begin(&scene.state(), BACKUP).unwrap();
        {
            let before = scene.moto.proxy.count(action);
            let arrived = until("the request has come", async || {
                let seen = scene.moto.proxy.seen();
                let there = seen[..].iter().filter(|one| stands(one).is_some()).count();
                there > 0
                    && scene.moto.proxy.count(action) > before
                    && scene.moto.copies().await.len() == copies
            });
            tokio::select! {
                made = backup(&mut run, &plan, planned, &scene.env) => panic!("{action}: {made:?}"),
                () = arrived => {}
            }
        }
        drop(run);
        drop(plan);
        locks.answer_in(&scene.moto);
        assert_eq!(manifest_of(&scene).is_some(), is_backup, "{action}");
        until("the guard has unlocked", async || !scene.is_locked().await).await;
        let recovered = recover(&scene.state(), None, &scene.env.tools).await;
        let recovered = recovered.unwrap();
        let failed: Vec<_> = recovered.iter().flat_map(|run| &run.failed).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(
            recovered[0]
                .released
                .iter()
                .any(|one| one.contains("copies in")),
            "{recovered:?}"
        );
        assert!(Journal::all(&scene.state()).unwrap().is_empty());
        let taken = ids(&scene.moto.snapshots().await);
        let copied = ids(&scene.moto.copies().await);
        let there = if is_backup { 2 } else { 0 };
        assert_eq!((taken.len(), copied.len()), (there, there), "{action}");
        let all: BTreeSet<_> = taken.union(&copied).cloned().collect();
        assert_eq!(locks.held(), all, "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_share_or_lock_has_a_backup_that_says_so() {
    let mut scene = Scene::new(1, 1).await;
    guard(&mut scene);
    scene.configure(|ebs| {
        ebs.copy_to = None;
        ebs.copy_endpoint = None;
    });
    let locks = Locks::default();
    locks.answer_besides(&scene.moto, |request| match request.action().as_str() {
        "ModifySnapshotAttribute" => Some(Reply::error(400, "OperationNotPermitted")),
        "LockSnapshot" => Some(Reply::error(403, "UnauthorizedOperation")),
        _ => None,
    });
    let manifest = scene.backup().await.unwrap();
    let shared = manifest.snapshots.shared.as_ref().unwrap();
    assert!(
        shared
            .failed
            .as_ref()
            .unwrap()
            .contains("OperationNotPermitted"),
        "{shared:?}"
    );
    let told = lacking(&scene, &manifest).await;
    let only = manifest.snapshots.volumes[0].snapshot.to_string();
    assert!(
        told.iter()
            .any(|one| one.contains("not every snapshot is shared")),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|one| one.contains(&only) && one.contains("not locked")),
        "{told:?}"
    );
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(manifest.snapshots.copies.is_none());
}
