//! Every format version ever written stays readable, and what cannot be read says why.
//!
//! `fixtures/format-N` is a store with one set, written once by the version that introduced format N
//! (`cargo test --lib freeze_the_current_format -- --ignored`) and never changed; its folder `archive` is an
//! archive with holes and long names, which the archive tests read; archives have not changed since format 1. `fixtures/invalid` holds manifests that
//! must be refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use freezeframe::catalog::{self, Recorded};
use freezeframe::error::{Exit, Explain};
use freezeframe::ids::{BackupId, Hash};
use freezeframe::manifest::table::{TableCheck, TableReader};
use freezeframe::manifest::{EntryKind, FORMAT_VERSION, Manifest, seal};
use freezeframe::progress::Silent;
use freezeframe::restore::fetch::Fetch;
use freezeframe::store::{SharedStore, open};
use freezeframe::verify::verify;
use tokio_util::sync::CancellationToken;

const ID: &str = "mongo_backup-20260131_020000";
/// The formats of sets that hold archives; what came after them holds snapshots.
const OF_ARCHIVES: [u32; 2] = [1, 2];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fixtures")
}

fn fixture(version: u32) -> SharedStore {
    let root = fixtures().join(format!("format-{version}"));
    open(root.to_str().unwrap(), &Default::default(), &Default::default()).unwrap_or_else(|error| {
        panic!("format {version} has no frozen fixture, and so may become unreadable unnoticed: {error}")
    })
}

fn id() -> BackupId {
    ID.parse().unwrap()
}

#[tokio::test]
async fn every_format_ever_written_is_read() {
    for version in OF_ARCHIVES {
        let store = fixture(version);
        let manifest = catalog::read_manifest(store.as_ref(), id()).await.unwrap();
        assert_eq!(manifest.format, version);
        assert_eq!(manifest.run.to_string(), "0badcafe");
        assert_eq!(
            manifest.deployment.id.to_string(),
            "65b9a1f0c3d2e4f5a6b7c8d9"
        );
        let held = if version == 1 { 184_100 } else { 0 };
        assert_eq!(manifest.window.held_us, held);
        assert_eq!(manifest.members.len(), 2);
        let member = &manifest.members[1];
        assert_eq!(member.locked, version == 1);
        assert_eq!(member.shard.as_str(), "rs1");
        assert_eq!(member.optime.to_string(), "(1769824801, 7) t=3");
        assert_eq!(member.archive.object, "rs1.tar.xz");
        let intent = catalog::read_intent(store.as_ref(), id()).await.unwrap();
        manifest.check_against(&intent).unwrap();

        let key = catalog::key(id(), &manifest.files.object);
        let table = store.read(&key, 0..manifest.files.size).await.unwrap();
        assert_eq!(Hash::from(blake3::hash(&table)), manifest.files.hash);
        let mut check = TableCheck::new(&manifest);
        let entries: Vec<_> = TableReader::new(table.as_slice())
            .unwrap()
            .map(Result::unwrap)
            .collect();
        entries
            .iter()
            .try_for_each(|entry| check.entry(entry))
            .unwrap();
        check.end().unwrap();
        let last = entries.last().unwrap();
        assert_eq!(
            (last.path.as_str(), last.kind),
            ("sizeStorer.wt", EntryKind::File)
        );
        assert_eq!(
            (last.mtime, last.mtime_ns, last.mode),
            (1_769_824_800, 123_456_789, 0o600)
        );

        let listed = store.list(ID).await.unwrap();
        let records = catalog::verification::read_verifications(store.as_ref(), id(), &listed)
            .await
            .unwrap();
        assert_eq!(records.len(), 1);
        assert!(records[0].is_ok());
    }
}

#[tokio::test]
async fn every_format_ever_written_is_verified_and_unpacked() {
    for version in OF_ARCHIVES {
        let store = fixture(version);
        let cancel = CancellationToken::new();
        let threads = NonZeroUsize::MIN;
        let report = verify(&store, id(), threads, &Silent, &cancel)
            .await
            .unwrap();
        assert_eq!(report.findings, [], "format {version}");
        assert_eq!((report.archives, report.entries), (2, 6));

        let manifest = catalog::load(store.as_ref(), id()).await.unwrap();
        let fetch = Fetch {
            store: &store,
            manifest: &manifest,
            threads,
            progress: &Silent,
            cancel: &cancel,
        };
        for member in &manifest.members {
            let target = tempfile::tempdir().unwrap();
            let unpacked = fetch.archive(member, target.path(), &[]).await.unwrap();
            assert_eq!((unpacked.files, unpacked.data_size), (3, 4196));
            for (path, size) in [
                ("journal/WiredTigerLog.0000000001", 100),
                ("sizeStorer.wt", 4096),
            ] {
                let own_name = format!("{}/{path}\n", member.shard);
                let written: Vec<u8> = own_name.bytes().cycle().take(size).collect();
                let file = target.path().join(path);
                assert!(std::fs::read(&file).unwrap() == written, "{own_name}");
                let metadata = std::fs::metadata(&file).unwrap();
                assert_eq!(metadata.mode() & 0o7777, 0o600);
                assert_eq!(
                    (metadata.mtime(), metadata.mtime_nsec()),
                    (1_769_824_800, 123_456_789)
                );
            }
        }
    }
}

#[tokio::test]
async fn a_set_of_snapshots_is_read() {
    let store = fixture(3);
    let recorded = catalog::read_recorded(store.as_ref(), id()).await.unwrap();
    let Recorded::Snapshots(manifest) = recorded else {
        panic!("{recorded:?}")
    };
    let snapshots = &manifest.snapshots;
    assert_eq!(manifest.format, 3);
    assert_eq!(snapshots.place.region, "eu-central-1");
    assert_eq!(snapshots.volumes.len(), 3);
    let one = &snapshots.volumes[2];
    assert_eq!(one.snapshot.as_str(), "snap-00000000000000003");
    assert_eq!((one.volume.bytes, one.volume.encrypted), (100 << 30, true));
    let places = &manifest.members[1].places;
    assert_eq!(places[1].inside, Path::new("journal1"));
    assert_eq!(snapshots.filesystems[places[1].filesystem].kind, "ext4");
    let intent = catalog::read_intent(store.as_ref(), id()).await.unwrap();
    manifest.check_against(&intent).unwrap();
}

/// A field renamed, retyped or added without a default shows here.
#[tokio::test]
async fn the_current_format_is_written_as_it_was_frozen() {
    for version in 1..=FORMAT_VERSION {
        let store = fixture(version);
        let manifest = catalog::read_recorded(store.as_ref(), id()).await.unwrap();
        let manifest = match manifest {
            Recorded::Archives(manifest) => seal::seal(&manifest),
            Recorded::Snapshots(manifest) => seal::seal(&manifest),
        };
        let intent = catalog::read_intent(store.as_ref(), id()).await.unwrap();
        for (object, written) in [
            ("manifest.json", manifest.unwrap()),
            ("intent.json", seal::seal(&intent).unwrap()),
        ] {
            let key = catalog::key(id(), object);
            let size = store.size(&key).await.unwrap();
            let frozen = store.read(&key, 0..size).await.unwrap();
            assert_eq!(
                String::from_utf8(written).unwrap(),
                String::from_utf8(frozen).unwrap(),
                "{object}"
            );
        }
    }
}

#[test]
fn invalid_manifests_say_what_is_wrong() {
    let expected = [
        ("cut-short.json", "line 9, column", Exit::Damaged),
        (
            "edited.json",
            "it was changed after it was written",
            Exit::Damaged,
        ),
        (
            "empty.json",
            "line 1, column 0: EOF while parsing",
            Exit::Damaged,
        ),
        (
            "format-0.json",
            "its format version 0 was never in use",
            Exit::Damaged,
        ),
        (
            "format-7.json",
            "made by a newer freezeframe (format 7; this one reads up to 3)",
            Exit::Refused,
        ),
        ("malformed.json", "line 4, column", Exit::Damaged),
        ("missing-member.json", "missing field `id`", Exit::Damaged),
        ("no-object.json", "line 1, column", Exit::Damaged),
        (
            "unsealed.json",
            "it does not end with its seal",
            Exit::Damaged,
        ),
        ("wrong-type.json", "line 3, column", Exit::Damaged),
    ];
    let mut names: Vec<String> = std::fs::read_dir(fixtures().join("invalid"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        expected.map(|(name, ..)| name),
        "each fixture has its line here"
    );
    for (name, message, exit) in expected {
        let bytes = std::fs::read(fixtures().join("invalid").join(name)).unwrap();
        let error = seal::open::<Manifest>(&bytes).unwrap_err();
        assert!(error.to_string().contains(message), "{name}: {error}");
        assert_eq!(error.exit(), exit, "{name}");
        assert!(error.hint().is_some(), "{name}");
    }
}
