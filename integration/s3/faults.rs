//! Each call that the store makes fails once in each way, and the store gets over it; then the ways it must not get over.

use std::time::{Duration, Instant};

use freezeframe::config::Period;
use freezeframe::config::s3::S3Config;
use freezeframe::error::{Exit, Explain};
use freezeframe::store::{SharedStore, StoreError};

use crate::fault_proxy::{Fault, FaultProxy};
use crate::servers::S3sFs;

/// More than two parts of the least size.
pub const LARGE: usize = 18 << 20;

pub fn content(length: usize) -> Vec<u8> {
    let mut content = vec![0; length];
    fastrand::Rng::with_seed(1).fill(&mut content);
    content
}

/// Everything a store does, once.
pub async fn everything(store: &SharedStore, size: usize) -> Result<(), StoreError> {
    let large = content(size);
    store.put("set/small", b"small").await?;
    let mut writer = store.create("set/large", Some(size as u64)).await?;
    for chunk in large.chunks(1 << 20) {
        writer.write(chunk.to_vec()).await?;
    }
    writer.finish().await?;
    let mut given_up = store.create("set/given-up", None).await?;
    given_up.write(vec![1; 9 << 20]).await?;
    given_up.abort().await?;
    assert!(store.unfinished("set/").await?.is_empty());
    let listed = store.list("set/").await?;
    let sizes: Vec<_> = listed.iter().map(|object| object.size).collect();
    assert_eq!(sizes, [size as u64, 5]);
    let read = store.read("set/large", 0..size as u64).await?;
    assert!(read == large, "other bytes were read");
    store.delete("set/small").await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_fails_once_in_every_way() {
    let server = S3sFs::start().await;
    let operations = [
        "PutObject",
        "HeadObject",
        "CreateMultipartUpload",
        "UploadPart",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
        "ListMultipartUploads",
        "ListObjectsV2",
        "GetObject",
        "DeleteObject",
    ];
    let faults = [
        Fault::CutRequest(10),
        Fault::CutResponse(0),
        Fault::CutResponse(100),
        Fault::TruncateResponse(100),
        Fault::LoseReply,
        Fault::Answer(500, "InternalError"),
        Fault::Answer(503, "SlowDown"),
        Fault::FlipRequest(3),
        Fault::Hang,
    ];
    for operation in operations {
        for fault in &faults {
            let broken = fault.clone();
            let plan = move |request: &crate::fault_proxy::Request| match request.operation()
                == operation
                && request.attempt_of == 0
            {
                true => broken.clone(),
                false => Fault::None,
            };
            // A request for a list that arrives changed is another request, and its answer is believed.
            let body = matches!(operation, "PutObject" | "UploadPart");
            if matches!(fault, Fault::FlipRequest(_)) && !body {
                continue;
            }
            let proxy = FaultProxy::start(server.address(), plan).await;
            let settings = S3Config {
                timeout: Period(Duration::from_secs(3)),
                ..server.settings_by(&proxy.endpoint())
            };
            let store = server.store(&format!("{operation}/{fault:?}"), &settings);
            // How long an answer is waited for grows with what was sent.
            let size = if *fault == Fault::Hang {
                100_000
            } else {
                LARGE
            };
            let done = everything(&store, size).await;
            assert!(done.is_ok(), "{operation} {fault:?}: {done:?}");
            let hit = |request: &crate::fault_proxy::Request| request.fault == *fault;
            assert!(
                proxy.seen().iter().any(hit),
                "{operation} {fault:?}: no hit"
            );
            assert!(server.open_uploads().is_empty(), "{operation} {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_for_a_while_is_waited_for_and_one_gone_for_good_is_not() {
    let server = S3sFs::start().await;
    let proxy = FaultProxy::start(server.address(), |_| Fault::None).await;
    let store = server.store("gone", &server.settings_by(&proxy.endpoint()));
    proxy.gone(true);
    let (written, ()) = tokio::join!(store.put("a", b"x"), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.gone(false);
    });
    written.unwrap();

    let settings = S3Config {
        retry_for: Period(Duration::from_secs(3)),
        ..server.settings_by(&proxy.endpoint())
    };
    let store = server.store("gone", &settings);
    proxy.gone(true);
    let began = Instant::now();
    let error = store.put("b", b"x").await.unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert_eq!(error.exit(), Exit::Store);
    assert!(error.hint().is_some_and(|hint| hint.contains("retry_for")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_told_at_once_and_without_the_key() {
    let server = S3sFs::start().await;
    let mut settings = server.settings();
    let wrong = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        wrong.path(),
        "[default]\naws_access_key_id = AKIDTEST\naws_secret_access_key = not-the-secret\n",
    )
    .unwrap();
    settings.credentials_file = Some(wrong.path().to_owned());
    let error = server
        .store("x", &settings)
        .put("a", b"x")
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
    assert!(!format!("{error:?}").contains("not-the-secret"));

    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(wrong.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = server
        .store("x", &settings)
        .put("a", b"x")
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::NoAccess { .. }), "{error}");
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_part_waits_in_a_file_and_nothing_of_it_is_left() {
    let server = S3sFs::start().await;
    let settings = S3Config {
        max_parts: 2,
        memory: "16MiB".parse().unwrap(),
        ..server.settings()
    };
    let store = server.store("spooled", &settings);
    let large = content(LARGE);
    let mut writer = store.create("large", Some(LARGE as u64)).await.unwrap();
    for chunk in large.chunks(3 << 20) {
        writer.write(chunk.to_vec()).await.unwrap();
    }
    writer.finish().await.unwrap();
    assert!(store.read("large", 0..LARGE as u64).await.unwrap() == large);
    assert_eq!(
        server.spooled(),
        Some(0),
        "the spool was not used, or not emptied"
    );
}
