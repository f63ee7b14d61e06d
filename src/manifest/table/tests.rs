use super::*;
use crate::catalog::sample;
use proptest::prelude::*;

fn read(bytes: &[u8]) -> Result<Vec<FileEntry>, TableError> {
    TableReader::new(bytes)?.collect()
}

fn compressed(text: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(text, LEVEL).unwrap()
}

#[test]
fn what_was_written_is_read_back_and_counted() {
    let (bytes, record) = sample::table(&["rs0", "rs1"]);
    let entries = read(&bytes).unwrap();
    assert_eq!(
        entries,
        [sample::entries("rs0"), sample::entries("rs1")].concat()
    );
    assert_eq!(record.entries, entries.len() as u64);
    assert_eq!(record.size, bytes.len() as u64);
    assert_eq!(record.hash, Hash::from(blake3::hash(&bytes)));
    assert_eq!(read(&sample::table(&[]).0).unwrap(), []);
}

#[test]
fn every_truncation_is_found() {
    let (bytes, record) = sample::table(&["rs0"]);
    for length in 0..bytes.len() {
        let found = read(&bytes[..length]);
        // An empty object decompresses to nothing; the count tells.
        let complete = found.is_ok_and(|entries| entries.len() as u64 == record.entries);
        assert!(!complete, "{length} bytes");
    }
}

#[test]
fn bad_lines_are_named() {
    let good = serde_json::to_string(&sample::entries("rs0")[0]).unwrap();
    for (text, line, reason) in [
        (format!("{good}\noops\n"), "line 2", "expected"),
        (format!("{good}\n\n"), "line 2", "EOF"),
        (format!("{good}\n{good}"), "line 2", "does not end"),
        (format!("{}\n", "x".repeat(100_000)), "line 1", "too long"),
    ] {
        let error = read(&compressed(text.as_bytes())).unwrap_err();
        assert!(error.to_string().contains(line), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(error.exit(), Exit::Damaged);
    }
}

#[test]
fn a_reader_does_not_allocate_what_a_crafted_window_asks_for() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(b"{}\n").unwrap();
    let error = read(&encoder.finish().unwrap()).unwrap_err();
    assert!(matches!(error, TableError::Read(_)), "{error}");
}

#[test]
fn entries_are_checked_against_the_manifest() {
    let manifest = sample::manifest();
    let all = || [sample::entries("rs0"), sample::entries("rs1")].concat();
    let check = |entries: Vec<FileEntry>| {
        let mut check = TableCheck::new(&manifest);
        entries.iter().try_for_each(|entry| check.entry(entry))?;
        check.end()
    };
    check(all()).unwrap();
    // Archives are made side by side: their entries may be mixed.
    let mut mixed = all();
    mixed.swap(2, 3);
    check(mixed).unwrap();

    type Change = fn(&mut Vec<FileEntry>);
    let changes: [(&str, Change); 12] = [
        ("2 entries of rs1", |e| drop(e.pop())),
        ("overlaps", |e| e.push(e[2].clone())),
        ("overlaps", |e| e.swap(0, 1)),
        ("not in the manifest", |e| e[0].shard = sample::shard("rs9")),
        ("no path inside", |e| e[1].path = "/etc/passwd".into()),
        ("no path inside", |e| e[1].path = "a/../../b".into()),
        ("no path inside", |e| e[1].path = "a//b".into()),
        ("no path inside", |e| e[1].path = String::new()),
        ("a file has a hash", |e| e[1].hash = None),
        ("a file has a hash", |e| e[0].size = 1),
        ("overlaps", |e| e[2].tar_length = u64::MAX),
        ("overlaps", |e| e[2].tar_offset = 1 << 40),
    ];
    for (message, change) in changes {
        let mut entries = all();
        change(&mut entries);
        let error = check(entries).unwrap_err();
        assert!(error.to_string().contains(message), "{message}: {error}");
    }
}

#[test]
fn a_store_error_stays_one() {
    let failing = StoreError::Io {
        action: "read",
        store: "s".into(),
        key: "k".into(),
        source: io::Error::from(io::ErrorKind::TimedOut),
    };
    struct Failing(Option<io::Error>);
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            self.0.take().map_or(Ok(0), Err)
        }
    }
    let reader = TableReader::new(Failing(Some(failing.into_io()))).unwrap();
    let error = reader.collect::<Result<Vec<_>, _>>().unwrap_err();
    assert_eq!(error.exit(), Exit::Store, "{error}");
}

proptest! {
    #[test]
    fn entries_round_trip(path in "[^\\x00]{1,300}", size: u64, mtime: i64, mtime_ns in 0u32..1_000_000_000) {
        let entry = FileEntry { path, size, mtime, mtime_ns, ..sample::entries("rs0")[1].clone() };
        let mut writer = TableWriter::new(Vec::new()).unwrap();
        writer.add(&entry).unwrap();
        let (bytes, _) = writer.finish().unwrap();
        prop_assert_eq!(read(&bytes).unwrap(), [entry]);
    }

    #[test]
    fn garbage_is_an_error_and_no_panic(bytes: Vec<u8>, text: Vec<u8>) {
        let _ = read(&bytes);
        let _ = read(&compressed(&text));
    }
}
