//! A backup by snapshots of volumes: a real replica set is locked, moto makes the snapshots, a folder holds the manifest.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freezeframe::backup::contents::Subject;
use freezeframe::backup::plan::{PicturePlan, Plan, PlannedMember};
use freezeframe::backup::preflight::Verdict;
use freezeframe::backup::preflight::examine::{Aim, examine};
use freezeframe::backup::release::Tools;
use freezeframe::backup::run::Run;
use freezeframe::backup::volumes::{PlannedFilesystem, PlannedSet, backup};
use freezeframe::backup::window::Locking;
use freezeframe::backup::{BACKUP, BackupError, Environment, Made};
use freezeframe::catalog::{self, Recorded};
use freezeframe::config::ebs::EbsConfig;
use freezeframe::config::{Config, ProviderChoice};
use freezeframe::ebs::patience::Patience;
use freezeframe::exec::SystemExec;
use freezeframe::ids::{MemberAddr, RunId};
use freezeframe::manifest::Deployment;
use freezeframe::manifest::snapshots::{FilesystemRecord, SnapshotManifest};
use freezeframe::mongo::{Access, Mongod, connect};
use freezeframe::progress::Silent;
use freezeframe::store::{self, SharedStore};
use freezeframe::verify::snapshots::verify_snapshots;
use freezeframe::volume::{HostView, resolve};
use tokio_util::sync::CancellationToken;

use crate::http::{Reply, Request};
use crate::moto::Moto;
use crate::support::mongod::{Member, Options, ReplicaSet};

const HIDDEN: usize = 1;

/// A replica set whose hidden member is said to lie on some of moto's volumes.
pub struct Scene {
    pub moto: Moto,
    pub set: ReplicaSet,
    pub env: Environment,
    wanted: usize,
}

impl Scene {
    /// On the first `wanted` of `count` data volumes.
    pub async fn new(count: usize, wanted: usize) -> Self {
        let moto = Moto::with_volumes(count).await;
        let set = ReplicaSet::start(Options {
            members: vec![Member::primary(), Member::hidden()],
            ..Options::default()
        })
        .await;
        let path = set.dir().join("freezeframe.toml");
        let dir = |name: &str| {
            let dir = set.dir().join(name);
            std::fs::create_dir_all(&dir).unwrap();
            dir
        };
        let url = format!("file://{}", dir("store").display());
        let text = format!(
            "[store]\nurl = \"{url}\"\n[host]\nstate_dir = \"{}\"\nruntime_dir = \"{}\"\n",
            dir("state").display(),
            dir("run").display(),
        );
        std::fs::write(&path, &text).unwrap();
        let mut config = Config::parse(&text, &path).unwrap();
        config.ebs = moto.settings();
        let tools = Tools {
            exec: Arc::new(SystemExec),
            access: Access::default(),
            timeout: Duration::from_secs(10),
            systemd: None,
            stores: Default::default(),
            // moto shows everything at once.
            ebs: moto.access().quiet_after(Duration::from_secs(2)),
            program: env!("CARGO_BIN_EXE_freezeframe").into(),
            config: path,
        };
        let store = store::open(&url, &Default::default(), &Default::default()).unwrap();
        let env = Environment {
            config,
            store,
            tools,
            progress: Arc::new(Silent),
            cancel: CancellationToken::new(),
        };
        Self {
            moto,
            set,
            env,
            wanted,
        }
    }

    /// With other settings of `[ebs]`.
    pub fn configure(&mut self, change: impl FnOnce(&mut EbsConfig)) {
        change(&mut self.env.config.ebs);
        let access = freezeframe::ebs::connect::Access::new(self.env.config.ebs.clone());
        self.env.tools.ebs = access.quiet_after(Duration::from_secs(2));
    }

    pub fn store(&self) -> &SharedStore {
        &self.env.store
    }

    pub fn state(&self) -> PathBuf {
        self.env.config.host.state_dir.clone()
    }

    pub fn member(&self) -> &MemberAddr {
        self.set.addr(HIDDEN)
    }

    async fn mongod(&self) -> Mongod {
        let time = Duration::from_secs(10);
        connect(self.member(), &Access::default(), "test", time)
            .await
            .unwrap()
    }

    pub async fn is_locked(&self) -> bool {
        self.mongod().await.lock_state("").await.unwrap().locked
    }

    /// What it is by its own account.
    pub async fn deployment(&self) -> String {
        let facts = self.mongod().await.facts().await.unwrap();
        facts.replica_set.unwrap().id.unwrap().to_string()
    }

    /// What the preflight would find on a host with these volumes.
    pub async fn plan(&self) -> Plan {
        let mongod = self.mongod().await;
        let facts = mongod.facts().await.unwrap();
        let shard = facts.hello.set.clone().unwrap();
        let layout = resolve(&self.set.members[HIDDEN].db_path, &HostView::real()).unwrap();
        let home = layout.home().unwrap();
        let access = &self.env.tools.ebs;
        let id = access.instance().await.unwrap();
        let ec2 = access.open().await.unwrap();
        let filesystem = PlannedFilesystem {
            device: home.device.number,
            record: FilesystemRecord {
                mount_point: home.mount_point.clone(),
                kind: home.kind.clone(),
                uuid: None,
                stack: home.draw(),
                volumes: self.moto.volumes[..self.wanted].iter().cloned().collect(),
            },
        };
        let picture = PlannedSet {
            instance: ec2.instance(&id).await.unwrap(),
            attached: ec2.attached(&id).await.unwrap(),
            ec2,
            filesystems: vec![filesystem],
        };
        let subject = Subject::new(shard, mongod.addr().clone(), &facts, layout);
        Plan {
            deployment: Deployment {
                id: "65b9a1f0c3d2e4f5a6b7c8d9".parse().unwrap(),
                sharded: false,
            },
            members: vec![PlannedMember {
                mongod,
                facts,
                subject,
            }],
            picture: PicturePlan::Volumes(Box::new(picture)),
            locking: Locking::Locked,
            expected: Duration::from_secs(60),
        }
    }

    /// A whole run; nothing may be left of it, whatever came of it.
    pub async fn backup(&self) -> Result<SnapshotManifest, BackupError> {
        let plan = self.plan().await;
        self.backup_by(&plan).await
    }

    pub async fn backup_by(&self, plan: &Plan) -> Result<SnapshotManifest, BackupError> {
        let made = self.made_by(plan).await?;
        match made.recorded {
            Recorded::Snapshots(manifest) => Ok(manifest),
            Recorded::Archives(_) => panic!("archives"),
        }
    }

    pub async fn made_by(&self, plan: &Plan) -> Result<Made, BackupError> {
        let PicturePlan::Volumes(planned) = &plan.picture else {
            panic!()
        };
        let mut run = Run::begin(&self.state(), BACKUP).unwrap();
        let made = backup(&mut run, plan, planned, &self.env).await;
        let unreleased = run.finish(&self.env.tools).await.unwrap();
        assert!(unreleased.is_empty(), "{unreleased:?}");
        assert!(!self.is_locked().await);
        made
    }

    /// Objects of sets in the store.
    pub async fn stored(&self) -> Vec<String> {
        let listed = self.store().list("mongo_backup-").await.unwrap();
        listed.into_iter().map(|info| info.key).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_one_call_under_the_lock_and_is_listed_shown_and_verified() {
    let scene = Scene::new(8, 8).await;
    let manifest = scene.backup().await.unwrap();
    assert_eq!(manifest.snapshots.volumes.len(), 8);
    assert!(manifest.members[0].locked && manifest.members[0].locked_us > 0);

    // Between the lock and the unlock EC2 got that one request, and nothing else.
    let step = |name: &str| {
        let mut steps = manifest.window.steps.iter();
        steps.find(|step| step.step == name).unwrap()
    };
    let taken = step("snapshot");
    assert_eq!(taken.subject, scene.moto.instance.to_string());
    let seen = scene.moto.proxy.seen();
    let made = |request: &&Request| request.action() == "CreateSnapshots" && !request.is_dry_run();
    let creating: Vec<_> = seen.iter().filter(made).collect();
    let [call] = creating.as_slice() else {
        panic!("{} calls", creating.len())
    };
    let before = Duration::from_micros(taken.start_us.unsigned_abs());
    let (locked, unlocked) = (
        call.at - before,
        call.at - before + Duration::from_micros(manifest.window.held_us),
    );
    let inside = seen
        .iter()
        .filter(|one| locked < one.at && one.at < unlocked);
    assert_eq!(inside.count(), 1);
    println!(
        "held {} us, of these {} us in the call",
        manifest.window.held_us, taken.length_us
    );

    let tags = scene.moto.snapshots().await;
    assert_eq!(tags.len(), 8);
    for snapshot in &tags {
        let tag = |key: &str| {
            let mut tags = snapshot.tags().iter();
            let tag = tags.find(|tag| tag.key() == Some(key));
            tag.and_then(|tag| tag.value())
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(tag("freezeframe"), manifest.id.to_string());
        assert_eq!(tag("freezeframe-run"), manifest.run.to_string());
        assert_eq!(tag("freezeframe-members"), "rs0");
        assert!(!tag("freezeframe-place").is_empty());
    }

    let store = scene.store().as_ref();
    let recorded = catalog::read_recorded(store, manifest.id).await.unwrap();
    assert_eq!(recorded, Recorded::Snapshots(manifest.clone()));
    let sets = catalog::list(store).await.unwrap();
    let shown = catalog::render_snapshots(&sets[0], &manifest);
    assert!(shown.contains(scene.moto.volumes[7].as_str()), "{shown}");

    let ec2 = scene.env.tools.ebs.open_at(&manifest.snapshots.place).await;
    let ec2 = ec2.unwrap();
    let patience = Patience::new(Duration::from_secs(5), CancellationToken::new());
    let taken = manifest.snapshots.taken();
    let verified = verify_snapshots(manifest.id, &taken, ec2.as_ref(), &patience)
        .await
        .unwrap();
    assert_eq!(
        (verified.findings.len(), verified.snapshots, verified.bytes),
        (0, 8, 0)
    );
    ec2.delete(&manifest.snapshots.volumes[3].snapshot)
        .await
        .unwrap();
    let verified = verify_snapshots(manifest.id, &taken, ec2.as_ref(), &patience)
        .await
        .unwrap();
    assert_eq!(verified.findings.len(), 1);
    assert!(verified.into_result().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_nobody_asked_for_goes_and_the_others_stay() {
    let scene = Scene::new(3, 2).await;
    let manifest = scene.backup().await.unwrap();
    assert_eq!(manifest.snapshots.volumes.len(), 2);
    assert_eq!(scene.moto.snapshots().await.len(), 2);
    assert_eq!(scene.moto.proxy.count("DeleteSnapshot"), 1);
}

/// No disk of a host that tests run on is a volume of moto's.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_asks_ec2_and_refuses_disks_that_are_no_volumes() {
    let mut scene = Scene::new(1, 1).await;
    scene.env.config.window.provider = ProviderChoice::Ebs;
    scene.env.config.mongodb.members = vec![scene.member().clone()];
    let examine = async |aim| examine(&scene.env, RunId::random(), aim).await.unwrap();
    let examined = examine(Aim::Backup).await;
    let line = |check: &str| {
        let mut findings = examined.findings.iter();
        findings.find(|one| one.check == check).unwrap()
    };
    assert_eq!(line("ec2").verdict, Verdict::Ok);
    assert!(
        line("ec2").detail.contains("2 volumes"),
        "{:?}",
        line("ec2")
    );
    assert_eq!(line("volume").verdict, Verdict::Refused);
    assert!(examined.into_plan().is_err());
    let kept = examine(Aim::Keep(Duration::from_secs(60))).await;
    assert!(
        kept.findings
            .iter()
            .any(|one| one.detail.contains("are backups"))
    );
    assert!(scene.moto.snapshots().await.is_empty());

    scene
        .moto
        .proxy
        .now(|_| Reply::error(403, "UnauthorizedOperation"));
    let denied = examine(Aim::Backup).await;
    let todo = denied
        .findings
        .iter()
        .find(|one| one.check == "ec2")
        .unwrap();
    assert!(
        todo.sentence().contains("ec2:DescribeInstances"),
        "{todo:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_backups_are_two_sets() {
    let scene = Scene::new(1, 1).await;
    let one = scene.backup().await.unwrap();
    let other = scene.backup().await.unwrap();
    assert_ne!(one.id, other.id);
    assert_eq!(scene.moto.snapshots().await.len(), 2);
    let latest = catalog::latest(scene.store().as_ref()).await.unwrap();
    assert_eq!(latest, other.id);
}
