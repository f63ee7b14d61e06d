use std::io::{self, Read, Write};
use std::sync::Arc;

use super::fault::{Call, Fault, FaultStore};
use super::memory::MemoryStore;
use super::object::StoredObject;
use super::sink::BlockingSink;
use super::*;
use crate::error::{Exit, Explain};

#[test]
fn addresses_are_opened_or_refused_with_a_reason() {
    for (url, shown) in [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/pre/fix/", "s3://bucket/pre/fix"),
    ] {
        let store = open(url, &StoreSettings::default(), &CancellationToken::new()).unwrap();
        assert_eq!(store.url(), shown);
    }
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_str().unwrap();
    std::fs::write(home.path().join("file"), "x").unwrap();
    for good in [path.to_owned(), format!("file://{path}")] {
        let store = open(&good, &StoreSettings::default(), &CancellationToken::new()).unwrap();
        assert_eq!(store.local_path(), Some(home.path()));
        assert_eq!(store.url(), format!("file://{path}"));
    }
    for (bad, reason) in [
        ("s3://".to_owned(), "s3://bucket"),
        ("s3://bucket/../prefix".to_owned(), "plain relative path"),
        ("file://host/path".to_owned(), "three slashes"),
        ("file:///a%20b".to_owned(), "bare path"),
        ("relative/path".to_owned(), "neither"),
        ("".to_owned(), "neither"),
        ("ftp://h/p".to_owned(), "only file://"),
        (format!("{path}/missing"), "no such folder"),
        (format!("file://{path}/file"), "not a folder"),
    ] {
        let error = open(&bad, &StoreSettings::default(), &CancellationToken::new()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        let is_away = matches!(error, StoreError::NoFolder { .. });
        let exit = if is_away { Exit::Store } else { Exit::Usage };
        assert_eq!(error.exit(), exit);
        assert!(error.hint().is_some());
    }
}

#[test]
fn an_address_in_a_message_carries_no_secret() {
    let error = open(
        "s3://key:secret@bucket/prefix?secret=1",
        &StoreSettings::default(),
        &CancellationToken::new(),
    )
    .unwrap_err();
    assert!(!error.to_string().contains("secret"), "{error}");
    assert!(error.to_string().contains("s3://bucket/prefix"), "{error}");
}

#[test]
fn a_full_store_says_what_to_do() {
    for code in [libc::ENOSPC, libc::EDQUOT] {
        let error = StoreError::Io {
            action: "write",
            store: "file:///b".into(),
            key: "k".into(),
            source: io::Error::from_raw_os_error(code),
        };
        assert!(error.hint().unwrap().contains("free space"), "{error}");
        assert_eq!(error.exit(), Exit::Store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_writes_and_reads_through_std_io() {
    let store: SharedStore = Arc::new(MemoryStore::new());
    let content: Vec<u8> = (0..3_500_001u32).map(|i| (i % 251) as u8).collect();
    let writer = store.create("object", None).await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let bytes = content.clone();
    let thread = std::thread::spawn(move || {
        let mut sink = BlockingSink::new(writer, runtime);
        for piece in bytes.chunks(99_999) {
            sink.write_all(piece).unwrap();
        }
        sink.finish().unwrap()
    });
    let info = tokio::task::spawn_blocking(|| thread.join().unwrap())
        .await
        .unwrap();
    assert_eq!(info.object.size, content.len() as u64);

    let object = StoredObject::open(&store, "object").await.unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        object.reader().read_to_end(&mut all).unwrap();
        assert_eq!(object.read(5..9).unwrap(), all[5..9]);
        all
    })
    .await
    .unwrap();
    assert!(read == content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_error_comes_out_of_std_io_as_it_went_in() {
    let faulty = FaultStore::new(Arc::new(MemoryStore::new()));
    faulty.fail(Call::Write, 2, io::ErrorKind::StorageFull);
    let writer = faulty.create("object", None).await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let error = tokio::task::spawn_blocking(move || {
        let mut sink = BlockingSink::new(writer, runtime);
        sink.write_all(&vec![0; 10 << 20]).unwrap_err()
    })
    .await
    .unwrap();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    let error = StoreError::from_io(error).unwrap();
    assert!(error.hint().unwrap().contains("free space"));
    assert!(faulty.all_failed());
    assert!(faulty.list("").await.unwrap().is_empty());
    assert!(faulty.unfinished("").await.unwrap().is_empty());
}

#[tokio::test]
async fn planned_faults_happen_once_in_their_turn() {
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    store.fail(Call::Put, 2, io::ErrorKind::TimedOut);
    store.put("a", b"0123").await.unwrap();
    assert!(store.put("b", b"x").await.is_err());
    store.put("b", b"x").await.unwrap();

    store.add(Fault::Flip {
        key: "a".into(),
        offset: 2,
        mask: 0xff,
    });
    assert_eq!(store.read("a", 0..2).await.unwrap(), b"01");
    assert_eq!(store.read("a", 2..4).await.unwrap(), [b'2' ^ 0xff, b'3']);
    store.add(Fault::Cut {
        key: "a".into(),
        size: 3,
    });
    assert_eq!(store.size("a").await.unwrap(), 3);
    assert!(store.read("a", 0..4).await.is_err());
    assert_eq!(store.list("a").await.unwrap()[0].size, 3);
}
