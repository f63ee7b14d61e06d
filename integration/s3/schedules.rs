//! Backups while the store fails at random: no manifest without every byte behind it, and no upload left.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use freezeframe::archive::{Level, Method, SourceTree};
use freezeframe::backup::read_back::ReadBack;
use freezeframe::backup::release::{Tools, release};
use freezeframe::backup::resource::Resource;
use freezeframe::backup::upload::{Job, Upload, UploadError};
use freezeframe::catalog;
use freezeframe::config::Period;
use freezeframe::config::s3::S3Config;
use freezeframe::exec::SystemExec;
use freezeframe::ids::BackupId;
use freezeframe::manifest::{ArchiveRecord, Intent, MadeWith, Manifest};
use freezeframe::mongo::Access;
use freezeframe::progress::{Meter, Progress, Silent};
use freezeframe::store::releasing::Stores;
use freezeframe::store::{SharedStore, StoreSettings};
use freezeframe::verify::verify;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::fault_proxy::{Fault, FaultProxy};
use crate::servers::{BUCKET, S3sFs};

/// Schedules that run side by side: they mostly wait.
const AT_ONCE: usize = 12;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// The documents of the frozen set, as those of another.
pub fn documents(id: BackupId) -> (Intent, Manifest) {
    let set = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("integration/fixtures/format-1/mongo_backup-20260131_020000");
    let read = |name: &str| std::fs::read(set.join(name)).unwrap();
    let mut intent: Intent = serde_json::from_slice(&read("intent.json")).unwrap();
    let mut manifest: Manifest = serde_json::from_slice(&read("manifest.json")).unwrap();
    (intent.id, intent.started) = (id, id.started());
    (manifest.id, manifest.started) = (id, id.started());
    (intent, manifest)
}

/// The set that these backups make.
pub fn id() -> BackupId {
    BackupId::at(jiff::Timestamp::from_second(1_800_000_000).unwrap())
}

/// Two files of bytes that `seed` decides.
pub fn data(seed: u64) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(seed);
    for (name, size) in [("small", 1000), ("larger", 300_000)] {
        let mut bytes = vec![0; size];
        random.fill(&mut bytes);
        std::fs::write(data.path().join(name), bytes).unwrap();
    }
    data
}

/// A small backup, made as `backup` makes one from its pictures.
pub struct Making<'a> {
    pub data: &'a Path,
    pub read_back: bool,
    /// At least the two of the frozen set.
    pub members: u16,
    /// Cancelled when the pictures are worth nothing any more.
    pub overflowed: CancellationToken,
    /// What happens when the archives are packed and the store has not made objects of them.
    pub when_packed: &'a (dyn Fn() + Sync),
    /// What happens when the archives are in the store and the manifest is not: each time one is about to be read back.
    pub before_completion: &'a (dyn Fn() + Sync),
}

impl<'a> Making<'a> {
    pub fn of(data: &'a Path) -> Self {
        Self {
            data,
            read_back: true,
            members: 2,
            overflowed: CancellationToken::new(),
            when_packed: &|| {},
            before_completion: &|| {},
        }
    }

    pub async fn back_up(&self, store: SharedStore, id: BackupId) -> Result<Manifest, UploadError> {
        let (mut intent, mut manifest) = documents(id);
        for number in 2..self.members {
            let mut more = (intent.members[1].clone(), manifest.members[1].clone());
            more.1.shard = format!("rs{number}").parse().unwrap();
            more.1.address = format!("db{number}.example.net:27018").parse().unwrap();
            (more.0.shard, more.0.address) = (more.1.shard.clone(), more.1.address.clone());
            intent.members.push(more.0);
            manifest.members.push(more.1);
        }
        let mut upload = Upload::begin(store, intent).await?;
        for member in &manifest.members {
            let job = Job {
                address: member.address.clone(),
                shard: member.shard.clone(),
                source: SourceTree {
                    root: self.data.to_owned(),
                    grafts: Vec::new(),
                    exclude: Vec::new(),
                    include_diagnostics: false,
                    live: false,
                },
                expected: 1 << 20,
                made_with: MadeWith::default(),
            };
            let method = Method::Portable(Level::new(0).unwrap());
            let (meter, cancel) = (Meter::expecting(1), self.overflowed.clone());
            upload = upload
                .archive(job, method, NonZeroUsize::MIN, meter, cancel)
                .await?;
        }
        (self.when_packed)();
        let read_back = ReadBack {
            wanted: self.read_back,
            progress: &Completing(self.before_completion),
            cancel: &CancellationToken::new(),
        };
        let describe = |_: &_, archives: &[(_, ArchiveRecord)], files| {
            let mut manifest = manifest.clone();
            for (member, (_, archive)) in manifest.members.iter_mut().zip(archives) {
                member.archive = archive.clone();
            }
            Manifest { files, ..manifest }
        };
        upload.prove(&read_back).await?.publish(describe).await
    }
}

/// Tells when something is read back.
struct Completing<'a>(&'a (dyn Fn() + Sync));

impl Progress for Completing<'_> {
    fn begin(&self, _phase: &str, _meter: &Meter) {
        (self.0)();
    }

    fn end(&self, _phase: &str) {}

    fn say(&self, _line: &str) {}
}

/// What goes wrong with a request, most of the time nothing.
fn draw(random: &mut fastrand::Rng, share: f64) -> Fault {
    if random.f64() >= share {
        return Fault::None;
    }
    let byte = random.u64(0..2000);
    match random.u8(0..12) {
        0 => Fault::CutRequest(byte),
        1 => Fault::CutResponse(byte),
        2 => Fault::TruncateResponse(byte),
        3 | 4 => Fault::LoseReply,
        5 => Fault::Answer(500, "InternalError"),
        6 => Fault::Answer(503, "SlowDown"),
        7 => Fault::Answer(503, "ServiceUnavailable"),
        8 => Fault::FlipRequest(byte),
        9 => Fault::Delay(Duration::from_millis(random.u64(0..500))),
        10 => Fault::Throttle(1 << 20),
        _ => Fault::Hang,
    }
}

/// How one schedule ended.
#[derive(Debug, PartialEq)]
enum Ended {
    Good,
    Failed,
}

async fn one_schedule(server: &S3sFs, seed: u64, data: &Path) -> Ended {
    let mut random = fastrand::Rng::with_seed(seed);
    let share = [0.0, 0.05, 0.1, 0.2, 0.4][random.usize(0..5)];
    // A third of the servers goes away at some request, and half of those do not come back.
    let gone_at = (random.u8(0..3) == 0).then(|| random.u64(0..25));
    let comes_back = random.bool();
    let drawing = std::sync::Mutex::new(random);
    let (gone, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let plan = move |request: &crate::fault_proxy::Request| {
        if gone_at == Some(request.number) {
            let _ = gone.send(());
        }
        draw(&mut drawing.lock().unwrap(), share)
    };
    let proxy = Arc::new(FaultProxy::start(server.address(), plan).await);
    let leaving = proxy.clone();
    let leaves = tokio::spawn(async move {
        if hears.recv().await.is_none() {
            return;
        }
        let away = leaving.clone();
        tokio::task::spawn_blocking(move || away.gone(true))
            .await
            .unwrap();
        if comes_back {
            tokio::time::sleep(Duration::from_millis(700)).await;
            tokio::task::spawn_blocking(move || leaving.gone(false))
                .await
                .unwrap();
        }
    });
    let settings = S3Config {
        retry_for: Period(Duration::from_secs(8)),
        timeout: Period(Duration::from_secs(1)),
        ..server.settings_by(&proxy.endpoint())
    };
    let prefix = format!("schedule/{seed}");
    let id = id();
    let made = Making::of(data)
        .back_up(server.store(&prefix, &settings), id)
        .await;
    leaves.abort();

    // What a run does when it has failed, and `recover` when the network is back.
    let direct = server.store(&prefix, &server.settings());
    let run = documents(id).0.run;
    if let Err(error) = &made {
        assert!(!error.to_string().is_empty());
        let resource = Resource::Upload {
            store: format!("s3://{BUCKET}/{prefix}"),
            server: direct.server(),
            set: id,
            run,
        };
        release(&resource, &tools(server)).await.unwrap();
    }
    let sets = catalog::list(direct.as_ref()).await.unwrap();
    let complete = sets
        .iter()
        .any(|set| set.state == catalog::SetState::Complete);
    if complete {
        // Also one whose maker never heard that it was done: it must be good all the same.
        let cancel = CancellationToken::new();
        let report = verify(&direct, id, NonZeroUsize::MIN, &Silent, &cancel)
            .await
            .unwrap();
        assert!(
            report.findings.is_empty(),
            "seed {seed}: {:?}",
            report.findings
        );
    } else {
        assert!(sets.is_empty(), "seed {seed}: {sets:?}");
    }
    assert!(
        made.is_err() || complete,
        "seed {seed}: called good and is not there"
    );
    let left = direct.unfinished("").await.unwrap();
    assert!(left.is_empty(), "seed {seed}: {left:?}");
    match made {
        Ok(_) => Ended::Good,
        Err(_) => Ended::Failed,
    }
}

pub fn tools(server: &S3sFs) -> Tools {
    tools_with(StoreSettings {
        s3: server.settings(),
        spool_dir: std::env::temp_dir(),
        ..StoreSettings::default()
    })
}

/// What giving back needs, with stores reached by `stores`.
pub fn tools_with(stores: StoreSettings) -> Tools {
    Tools {
        exec: Arc::new(SystemExec),
        access: Access::default(),
        timeout: Duration::from_secs(10),
        systemd: None,
        stores: Stores::new(stores),
        ebs: Default::default(),
        program: "/nonexistent".into(),
        config: "/nonexistent".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_make_no_false_backup_and_leave_no_upload() {
    let seed = from_environment("FREEZEFRAME_TEST_SEED", fastrand::u64(..1 << 32));
    let count = from_environment("FREEZEFRAME_TEST_SCHEDULES", 500);
    println!("FREEZEFRAME_TEST_SEED={seed} FREEZEFRAME_TEST_SCHEDULES={count}");
    let data = data(seed);
    let server = Arc::new(S3sFs::start().await);
    let (good, failed) = (AtomicU32::new(0), AtomicU32::new(0));
    let data = data.path();
    let running = (0..count).map(|number| {
        let (server, good, failed) = (server.clone(), &good, &failed);
        async move {
            match one_schedule(&server, seed.wrapping_add(number), data).await {
                Ended::Good => good.fetch_add(1, Ordering::Relaxed),
                Ended::Failed => failed.fetch_add(1, Ordering::Relaxed),
            };
        }
    });
    use futures_util::StreamExt;
    futures_util::stream::iter(running)
        .for_each_concurrent(AT_ONCE, |schedule| schedule)
        .await;
    assert!(server.open_uploads().is_empty());
    let (good, failed) = (good.into_inner(), failed.into_inner());
    println!("{good} good, {failed} failed cleanly, 0 false backups, 0 uploads left");
    // Neither of both alone would show anything.
    assert!(count < 20 || (good > 0 && failed > 0));
}
