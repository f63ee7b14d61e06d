//! A small backup set for tests, made by the real writers.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::summary::{MemberSummary, SetState, SetSummary, Verdict, VerificationState};
use super::{key, write_intent, write_manifest};
use crate::archive::{Level, Method, PackOptions, PackSummary, SourceTree, pack};
use crate::ids::{BackupId, DeploymentId, OpTime, ShardName};
use crate::manifest::table::TableWriter;
use crate::manifest::*;
use crate::progress::Meter;
use crate::store::{SharedStore, Store};

pub(crate) const ID: &str = "mongo_backup-20260131_020000";

pub(crate) fn id() -> BackupId {
    ID.parse().unwrap()
}

pub(crate) fn shard(name: &str) -> ShardName {
    name.parse().unwrap()
}

/// The replica sets of the sample.
pub(crate) const SHARDS: [&str; 2] = ["rs0", "rs1"];

/// A data directory of three entries, packed: small enough that a test can damage every byte of it.
struct Packed {
    object: Vec<u8>,
    entries: Vec<FileEntry>,
    summary: PackSummary,
}

/// Packed once: a set's archives, its table and its manifest must tell of the same bytes.
fn packed(name: &str) -> &'static Packed {
    static PACKED: [LazyLock<Packed>; 2] = [
        LazyLock::new(|| pack_tree(SHARDS[0])),
        LazyLock::new(|| pack_tree(SHARDS[1])),
    ];
    let at = SHARDS.iter().position(|shard| *shard == name).unwrap();
    &PACKED[at]
}

fn pack_tree(name: &str) -> Packed {
    let root = tempfile::tempdir().unwrap();
    let place = |path: &str| root.path().join(path);
    fs::create_dir(place("journal")).unwrap();
    for (path, size) in FILES_OF_TREE {
        fs::write(place(path), content(name, path, size)).unwrap();
    }
    for (path, mode) in [
        (FILES_OF_TREE[0].0, 0o600),
        (FILES_OF_TREE[1].0, 0o600),
        ("journal", 0o700),
    ] {
        let path = place(path);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let modified = SystemTime::UNIX_EPOCH + Duration::new(1_769_824_800, 123_456_789);
        fs::File::open(&path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
    }
    let source = SourceTree {
        root: root.path().into(),
        grafts: vec![],
        exclude: vec![],
        include_diagnostics: false,
        live: false,
    };
    let options = PackOptions {
        method: Method::Portable(Level::new(0).unwrap()),
        threads: NonZeroUsize::MIN,
    };
    let (mut object, mut entries) = (Vec::new(), Vec::new());
    let summary = pack(
        &source,
        &shard(name),
        &options,
        &mut object,
        &mut |entry| {
            entries.push(entry);
            Ok(())
        },
        &Meter::default(),
        &CancellationToken::new(),
    );
    Packed {
        summary: summary.unwrap(),
        object,
        entries,
    }
}

/// Files of each tree with their sizes in bytes.
const FILES_OF_TREE: [(&str, usize); 2] = [
    ("journal/WiredTigerLog.0000000001", 100),
    ("sizeStorer.wt", 4096),
];

/// What the file `path` of `name` holds: its own name again and again.
fn content(name: &str, path: &str, size: usize) -> Vec<u8> {
    format!("{name}/{path}\n")
        .bytes()
        .cycle()
        .take(size)
        .collect()
}

/// The archive of `name`.
pub(crate) fn archive(name: &str) -> Vec<u8> {
    packed(name).object.clone()
}

/// The file table's lines of `name`: a directory and two files.
pub(crate) fn entries(name: &str) -> Vec<FileEntry> {
    packed(name).entries.clone()
}

pub(crate) fn intent() -> Intent {
    Intent {
        format: FORMAT_FIRST,
        id: id(),
        run: "0badcafe".parse().unwrap(),
        tool: "0.1.0".into(),
        host: "db3.example.net".into(),
        started: "2026-01-31T02:00:00.25Z".parse().unwrap(),
        deployment: Deployment {
            id: "65b9a1f0c3d2e4f5a6b7c8d9".parse().unwrap(),
            sharded: true,
        },
        members: SHARDS
            .map(|name| IntentMember {
                shard: shard(name),
                address: "db3.example.net:27018".parse().unwrap(),
            })
            .into(),
    }
}

pub(crate) fn member(name: &str) -> MemberRecord {
    MemberRecord {
        shard: shard(name),
        address: "db3.example.net:27018".parse().unwrap(),
        role: Role::Shard,
        server_version: "6.0.5".into(),
        feature_compatibility: "6.0".into(),
        optime: OpTime {
            seconds: 1_769_824_801,
            increment: 7,
            term: 3,
        },
        locked: true,
        locked_us: 181_250,
        replica_set_config: json!({"_id": name, "version": 4, "members": [{"_id": 0, "host": "a:1"}]}),
        layout: StorageLayout {
            db_path: "/var/lib/mongodb".into(),
            directory_per_db: false,
            directory_for_indexes: false,
            grafts: vec!["journal".into()],
        },
        storage: vec!["xfs on /dev/vg0/mongo (linear)".into()],
        archive: ArchiveRecord {
            pack_us: 2_500_000,
            ..packed(name).summary.record(&shard(name))
        },
    }
}

pub(crate) fn table(names: &[&str]) -> (Vec<u8>, FileTableRecord) {
    let mut writer = TableWriter::new(Vec::new()).unwrap();
    for entry in names.iter().flat_map(|name| entries(name)) {
        writer.add(&entry).unwrap();
    }
    let (bytes, summary) = writer.finish().unwrap();
    let record = FileTableRecord {
        object: FILES.into(),
        size: summary.size,
        hash: summary.hash,
        entries: summary.entries,
        proof: None,
    };
    (bytes, record)
}

pub(crate) fn manifest() -> Manifest {
    let intent = intent();
    let step = |step: &str, subject: &str, start_us, length_us| StepRecord {
        step: step.into(),
        subject: subject.into(),
        start_us,
        length_us,
    };
    Manifest {
        format: intent.format,
        id: intent.id,
        run: intent.run,
        tool: intent.tool,
        host: intent.host,
        started: intent.started,
        finished: "2026-01-31T02:11:40Z".parse().unwrap(),
        deployment: intent.deployment,
        window: WindowRecord {
            provider: "lvm".into(),
            held_us: 184_100,
            steps: vec![
                step("flush", "db3.example.net:27018", -812_000, 790_500),
                step("lock", "db3.example.net:27018", 0, 20_000),
                step("snapshot", "vg0/mongo", 20_100, 120_000),
                step("unlock", "db3.example.net:27018", 150_000, 34_100),
            ],
        },
        members: vec![member("rs0"), member("rs1")],
        files: table(&SHARDS).1,
    }
}

/// Everything but the manifest.
pub(crate) async fn begin(store: &dyn Store) {
    begin_as(store, &intent()).await;
}

async fn begin_as(store: &dyn Store, intent: &Intent) {
    write_intent(store, intent).await.unwrap();
    for name in SHARDS {
        let object = format!("{name}.tar.xz");
        store
            .put(&key(id(), &object), &archive(name))
            .await
            .unwrap();
    }
    let (bytes, _) = table(&SHARDS);
    store.put(&key(id(), FILES), &bytes).await.unwrap();
}

/// A whole set in `store`.
pub(crate) async fn write(store: &SharedStore) -> Manifest {
    begin(store.as_ref()).await;
    let manifest = manifest();
    write_manifest(store.as_ref(), &manifest).await.unwrap();
    manifest
}

/// A line of `list` about the sample.
pub(crate) fn summary() -> SetSummary {
    let manifest = manifest();
    SetSummary {
        id: manifest.id,
        state: SetState::Complete,
        reason: None,
        started: manifest.id.started(),
        finished: Some(manifest.finished),
        took_us: Some(700_000_000),
        host: Some(manifest.host),
        run: Some(manifest.run),
        snapshots: 0,
        copied_to: None,
        locked_until: None,
        size: 6 << 20,
        data_size: Some(8 << 20),
        deployment: Some(manifest.deployment.id.clone()),
        members: ["rs0", "rs1"]
            .map(|name| MemberSummary {
                shard: shard(name),
                address: "db3.example.net:27018".parse().unwrap(),
            })
            .into(),
        provider: Some("lvm".into()),
        held_us: Some(184_100),
        verification: VerificationState {
            verdict: Verdict::Verified,
            last: None,
            proven: None,
            unreadable: 0,
        },
        at_work: None,
        hold: None,
        readers: Vec::new(),
    }
}

/// A set of these replica sets of the deployment `of`; without its manifest unless it is `finished`.
pub(crate) async fn write_as(
    store: &dyn Store,
    id: BackupId,
    of: &DeploymentId,
    names: &[&str],
    finished: bool,
) {
    let deployment = Deployment {
        id: of.clone(),
        sharded: true,
    };
    let manifest = manifest();
    let members: Vec<_> = names.iter().copied().map(member).collect();
    let planned = members.iter().map(|member| IntentMember {
        shard: member.shard.clone(),
        address: member.address.clone(),
    });
    let intent = Intent {
        id,
        deployment: deployment.clone(),
        members: planned.collect(),
        ..intent()
    };
    write_intent(store, &intent).await.unwrap();
    for name in names {
        let object = format!("{name}.tar.xz");
        store.put(&key(id, &object), &archive(name)).await.unwrap();
    }
    let (bytes, files) = table(names);
    store.put(&key(id, FILES), &bytes).await.unwrap();
    if finished {
        let manifest = Manifest {
            id,
            deployment,
            members,
            files,
            ..manifest
        };
        write_manifest(store, &manifest).await.unwrap();
    }
}
