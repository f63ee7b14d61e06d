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

#[path = "s3/fault_proxy.rs"]
mod fault_proxy;
#[path = "s3/faults.rs"]
mod faults;
#[path = "s3/policy.rs"]
mod policy;
#[path = "s3/s3s_fs_server.rs"]
mod s3s_fs_server;
#[path = "s3/schedules.rs"]
mod schedules;
#[path = "s3/secrets.rs"]
mod secrets;
#[path = "s3/servers.rs"]
mod servers;
mod support;

use freezeframe::store::conformance;
use servers::{Moto, S3sFs};

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
async fn moto_conforms() {
    let server = Moto::start().await;
    conformance::run(|| server.fresh()).await.unwrap();
}
