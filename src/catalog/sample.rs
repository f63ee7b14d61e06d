//! A small backup set for tests, made by the real writers; its archives are bytes that only hash right.

use serde_json::json;

use super::{key, write_intent, write_manifest};
use crate::ids::{BackupId, Hash, OpTime, ShardName};
use crate::manifest::table::TableWriter;
use crate::manifest::*;
use crate::store::{SharedStore, Store};

pub(crate) const ID: &str = "mongo_backup-20260131_020000";

pub(crate) fn id() -> BackupId {
    ID.parse().unwrap()
}

pub(crate) fn shard(name: &str) -> ShardName {
    name.parse().unwrap()
}

/// The archive of `name`: bytes of its own.
pub(crate) fn archive(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(3000).collect()
}

pub(crate) fn entries(name: &str) -> Vec<FileEntry> {
    let entry = |path: &str, kind, size, tar_offset, tar_length| FileEntry {
        shard: shard(name),
        path: path.into(),
        kind,
        size,
        mode: 0o600,
        uid: 999,
        gid: 999,
        mtime: 1_769_824_800,
        mtime_ns: 123_456_789,
        hash: (kind == EntryKind::File).then(|| Hash::from(blake3::hash(path.as_bytes()))),
        tar_offset,
        tar_length,
    };
    vec![
        entry("journal", EntryKind::Directory, 0, 0, 512),
        entry(
            "journal/WiredTigerLog.0000000001",
            EntryKind::File,
            100,
            512,
            1024,
        ),
        entry("collection-0-1.wt", EntryKind::File, 4096, 1536, 4608),
    ]
}

pub(crate) fn intent() -> Intent {
    Intent {
        format: FORMAT_VERSION,
        id: id(),
        run: "0badcafe".parse().unwrap(),
        tool: "0.1.0".into(),
        host: "db3.example.net".into(),
        started: "2026-01-31T02:00:00.25Z".parse().unwrap(),
        deployment: Deployment {
            id: "65b9a1f0c3d2e4f5a6b7c8d9".parse().unwrap(),
            sharded: true,
        },
        members: ["rs0", "rs1"]
            .map(|name| IntentMember {
                shard: shard(name),
                address: "db3.example.net:27018".parse().unwrap(),
            })
            .into(),
    }
}

pub(crate) fn member(name: &str) -> MemberRecord {
    let archive = archive(name);
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
            object: format!("{name}.tar.xz"),
            profile: "portable".into(),
            size: archive.len() as u64,
            tar_size: 10_240,
            data_size: 4196,
            hash: blake3::hash(&archive).into(),
            blocks: 1,
            files: 3,
            pack_us: 2_500_000,
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
        files: table(&["rs0", "rs1"]).1,
    }
}

/// Everything but the manifest.
pub(crate) async fn begin(store: &dyn Store) {
    write_intent(store, &intent()).await.unwrap();
    for name in ["rs0", "rs1"] {
        let object = format!("{name}.tar.xz");
        store
            .put(&key(id(), &object), &archive(name))
            .await
            .unwrap();
    }
    let (bytes, _) = table(&["rs0", "rs1"]);
    store.put(&key(id(), FILES), &bytes).await.unwrap();
}

/// A whole set in `store`.
pub(crate) async fn write(store: &SharedStore) -> Manifest {
    begin(store.as_ref()).await;
    let manifest = manifest();
    write_manifest(store.as_ref(), &manifest).await.unwrap();
    manifest
}
