//! The S3 store against real servers: s3s-fs in this process, moto beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
// The proxy offers more than this suite uses.
#![allow(dead_code)]
#![allow(missing_docs)]

#[path = "s3/by_hand.rs"]
mod by_hand;
#[path = "s3/copying.rs"]
mod copying;
#[path = "s3/credentials.rs"]
mod credentials;
#[path = "s3/ending.rs"]
mod ending;
#[path = "s3/fault_proxy.rs"]
mod fault_proxy;
#[path = "s3/faults.rs"]
mod faults;
#[path = "s3/hosts.rs"]
mod hosts;
#[path = "s3/lease.rs"]
mod lease;
#[path = "s3/network.rs"]
mod network;
#[path = "s3/object_lock.rs"]
mod object_lock;
#[path = "s3/policy.rs"]
mod policy;
#[path = "s3/prune.rs"]
mod prune;
#[path = "s3/read_back.rs"]
mod read_back;
#[path = "s3/s3s_fs_server.rs"]
mod s3s_fs_server;
#[path = "s3/schedules.rs"]
mod schedules;
#[path = "s3/sealed.rs"]
mod sealed;
#[path = "s3/secrets.rs"]
mod secrets;
#[path = "s3/servers.rs"]
mod servers;
#[path = "s3/setup.rs"]
mod setup;
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fault_proxy::{Fault, FaultProxy};
use freezeframe::config::Period;
use freezeframe::config::s3::{Encryption, S3Config};
use freezeframe::ids::RunId;
use freezeframe::store::s3::S3Store;
use freezeframe::store::{SharedStore, conformance};
use servers::{Moto, S3sFs};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn s3s_fs_conforms() {
    let server = S3sFs::start().await;
    // It keeps metadata in files that are named by the whole key, encoded.
    conformance::run_with(|| server.fresh(), 120).await.unwrap();
    // The suite drops one writer without a word, which is what a killed run does.
    let left = server.open_uploads();
    assert!(
        matches!(left.as_slice(), [one] if one.ends_with("set/dropped")),
        "{left:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_get_what_the_settings_say() {
    let server = Moto::start().await;
    let proxy = FaultProxy::start(server.address(), |_| Fault::None).await;
    let settings = S3Config {
        endpoint: Some(proxy.endpoint().parse().unwrap()),
        storage_class: Some("STANDARD_IA".into()),
        encryption: Some(Encryption::Kms),
        kms_key: Some("alias/backups".into()),
        tags: BTreeMap::from([("team".into(), "data bases: all".into())]),
        ..server.settings()
    };
    let store = server.store("dressed", &settings);
    store.put("put", b"x").await.unwrap();
    let mut writer = store.create("streamed", None).await.unwrap();
    writer.write(vec![7; 9 << 20]).await.unwrap();
    writer.finish().await.unwrap();
    for operation in ["PutObject", "CreateMultipartUpload"] {
        let seen = proxy.seen();
        let request = seen
            .iter()
            .find(|request| request.operation() == operation)
            .unwrap();
        for (header, wanted) in [
            ("x-amz-storage-class", "STANDARD_IA"),
            ("x-amz-server-side-encryption", "aws:kms"),
            (
                "x-amz-server-side-encryption-aws-kms-key-id",
                "alias/backups",
            ),
            ("x-amz-tagging", "team=data%20bases%3A%20all"),
        ] {
            assert_eq!(request.header(header), Some(wanted), "{operation}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_slow_down_what_is_sent_and_received() {
    let server = S3sFs::start().await;
    let settings = S3Config {
        upload_limit: Some("4MiB".parse().unwrap()),
        download_limit: Some("4MiB".parse().unwrap()),
        ..server.settings()
    };
    let store = server.store("limited", &settings);
    // The first call of each way passes at once; what follows waits for what it took.
    let began = std::time::Instant::now();
    for name in ["a", "b", "c"] {
        store.put(name, &vec![1; 2 << 20]).await.unwrap();
    }
    let sent = began.elapsed();
    for name in ["a", "b", "c"] {
        store.read(name, 0..2 << 20).await.unwrap();
    }
    let received = began.elapsed() - sent;
    // Not faster than the limit is no matter of how fast this machine is.
    let least = std::time::Duration::from_secs(1);
    assert!(sent >= least && received >= least, "{sent:?} {received:?}");
}

/// `FREEZEFRAME_TEST_S3=bucket FREEZEFRAME_TEST_S3_ENDPOINT=https://... cargo test --test s3 -- --ignored a_server_of_your_own`, with credentials where
/// the program finds them. What it writes stays, below `freezeframe-test/`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "wants a server of your own"]
async fn a_server_of_your_own_conforms() {
    let bucket =
        std::env::var("FREEZEFRAME_TEST_S3").expect("FREEZEFRAME_TEST_S3 must name a bucket");
    let endpoint = std::env::var("FREEZEFRAME_TEST_S3_ENDPOINT").ok();
    let settings = S3Config {
        path_style: endpoint.is_some(),
        endpoint: endpoint.map(|endpoint| endpoint.parse().unwrap()),
        // The suite asks for what some servers answer with an error of theirs, time and again.
        retry_for: Period(Duration::from_secs(20)),
        ..S3Config::default()
    };
    let run = RunId::random();
    let (spool, stores) = (tempfile::tempdir().unwrap(), AtomicU32::new(0));
    let fresh = || -> SharedStore {
        let number = stores.fetch_add(1, Ordering::Relaxed);
        let (spool, cancel) = (spool.path().to_owned(), CancellationToken::new());
        let prefix = format!("freezeframe-test/{run}/{number}");
        Arc::new(S3Store::new(&bucket, &prefix, &settings, spool, cancel))
    };
    conformance::run(fresh).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn moto_conforms() {
    let server = Moto::start().await;
    conformance::run(|| server.fresh()).await.unwrap();
}
