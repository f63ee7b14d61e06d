//! Archives of every format version ever written stay readable. The fixtures are never made again.

use std::fs;
use std::path::{Path, PathBuf};

use freezeframe::archive::*;
use freezeframe::manifest::{ArchiveRecord, FileEntry};
use freezeframe::progress::Meter;
use tokio_util::sync::CancellationToken;

use super::support::{threads, tree, try_pack};

/// The profiles' folders in `integration/fixtures/format-N`.
/// Those of `fast` and `small` once for each version of the container.
const FOLDERS: [(&str, Profile); 5] = [
    ("archive", Profile::Portable),
    ("fast", Profile::Fast),
    ("small", Profile::Small),
    ("fast-2", Profile::Fast),
    ("small-2", Profile::Small),
];

/// Archives have not changed since the first format of the set.
fn fixture(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("integration/fixtures/format-1")
        .join(folder)
}

/// Pages and log records as mongod wrote them.
fn real(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fixtures/unsnap");
    fs::read(folder.join(name)).unwrap()
}

const PAGES: &str = "collection-1.wt";
const INDEX: &str = "index-2.wt";
const RECORDS: &str = "journal/WiredTigerLog.0000000002";

#[test]
fn there_is_a_fixture_of_every_profile_that_is_read() {
    for (folder, profile) in FOLDERS {
        let folder = fixture(folder);
        let read = |name: &str| {
            fs::read_to_string(folder.join(name))
                .unwrap_or_else(|e| panic!("{}/{name}: {e}", folder.display()))
        };
        let record: ArchiveRecord = serde_json::from_str(&read("record.json")).unwrap();
        assert_eq!(record.profile, profile.name());
        let table = read("files.jsonl");
        let lines = || {
            table
                .lines()
                .map(|line| Ok(serde_json::from_str::<FileEntry>(line).unwrap()))
        };
        let archive = FileArchive::open(&folder.join(&record.object)).unwrap();
        let expected = ExpectedArchive::from(&record);
        let (meter, cancel) = (Meter::default(), CancellationToken::new());
        let checked = check(
            &archive,
            &expected,
            &mut lines(),
            threads(2),
            &meter,
            &cancel,
        )
        .unwrap();
        assert_eq!(
            (checked.files, checked.data_size),
            (record.files, record.data_size)
        );

        let target = tempfile::tempdir().unwrap();
        let options = UnpackOptions {
            threads: threads(1),
            owners: Owners::Caller,
            only: Vec::new(),
        };
        unpack(
            &archive,
            &expected,
            &mut lines(),
            target.path(),
            &options,
            &meter,
            &cancel,
        )
        .unwrap();
        let unpacked = |name: &str| fs::read(target.path().join(name)).unwrap();
        assert_eq!(
            unpacked("WiredTiger"),
            b"WiredTiger\nWiredTiger 10.0.2: (November 30, 2021)\n"
        );
        assert_eq!(
            unpacked("journal/WiredTigerPreplog.0000000001"),
            vec![0; 1 << 20]
        );
        if profile != Profile::Portable {
            assert_eq!(unpacked(PAGES), real("pages.bin"));
            assert_eq!(unpacked(RECORDS), real("records.bin"));
        }
        if folder.ends_with("-2") {
            assert_eq!(unpacked(INDEX), real("index.bin"));
        }
    }
}

/// How the fixtures of `fast` and `small` were made: of that of `portable`, with real pages and records. Makes only what is not there.
#[test]
#[ignore = "fixtures are made once"]
fn make_the_fixtures_that_are_missing() {
    let portable = fixture("archive");
    let tree_of_it = tempfile::tempdir().unwrap();
    unpack_alone(
        &FileArchive::open(&portable.join("rs0.tar.xz")).unwrap(),
        tree_of_it.path(),
        threads(1),
        Owners::Caller,
        &Meter::default(),
        &CancellationToken::new(),
    )
    .unwrap();
    fs::write(tree_of_it.path().join(PAGES), real("pages.bin")).unwrap();
    fs::write(tree_of_it.path().join(RECORDS), real("records.bin")).unwrap();
    fs::write(tree_of_it.path().join(INDEX), real("index.bin")).unwrap();
    for (folder, method) in [("fast-2", Method::Fast), ("small-2", Method::Small)] {
        let folder = fixture(folder);
        if folder.exists() {
            continue;
        }
        let packed = try_pack(&tree(tree_of_it.path()), method).unwrap();
        assert!(packed.summary.unsnapped.proven > 0);
        fs::create_dir(&folder).unwrap();
        let record = packed.summary.record(&"rs0".parse().unwrap());
        fs::write(folder.join(&record.object), &packed.object).unwrap();
        fs::write(
            folder.join("record.json"),
            serde_json::to_string(&record).unwrap() + "\n",
        )
        .unwrap();
        let lines = packed.entries.iter();
        let lines = lines.map(|entry| serde_json::to_string(entry).unwrap() + "\n");
        fs::write(folder.join("files.jsonl"), lines.collect::<String>()).unwrap();
    }
}
