//! Archives of every format version ever written stay readable. The fixtures are never made again.

use std::fs;
use std::path::Path;

use freezeframe::archive::*;
use freezeframe::manifest::{ArchiveRecord, FORMAT_VERSION, FileEntry};
use freezeframe::progress::Meter;
use tokio_util::sync::CancellationToken;

use super::support::threads;

#[test]
fn every_format_version_has_a_fixture_that_is_read() {
    for version in 1..=FORMAT_VERSION {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("integration/fixtures/format-{version}/archive"));
        let read = |name: &str| {
            fs::read_to_string(folder.join(name))
                .unwrap_or_else(|e| panic!("{version}/{name}: {e}"))
        };
        let record: ArchiveRecord = serde_json::from_str(&read("record.json")).unwrap();
        let table = read("files.jsonl");
        let lines = || {
            table
                .lines()
                .map(|line| Ok(serde_json::from_str::<FileEntry>(line).unwrap()))
        };
        let archive = FileArchive::open(&folder.join("rs0.tar.xz")).unwrap();
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
        assert_eq!(
            fs::read(target.path().join("WiredTiger")).unwrap(),
            b"WiredTiger\nWiredTiger 10.0.2: (November 30, 2021)\n"
        );
        assert_eq!(
            fs::read(target.path().join("journal/WiredTigerPreplog.0000000001")).unwrap(),
            vec![0; 1 << 20]
        );
    }
}
