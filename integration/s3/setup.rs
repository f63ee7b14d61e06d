//! `setup` with a bucket.

use crate::hosts::{Host, replica_set};
use crate::servers::{BUCKET, Moto};

#[tokio::test(flavor = "multi_thread")]
async fn setup_takes_a_bucket_and_ends_with_a_green_check() {
    let set = replica_set().await;
    let moto = Moto::start().await;
    let host = Host::new("/nonexistent", &moto.settings(), &set);
    let url = format!("s3://{BUCKET}/anew");
    host.run(&format!("setup --store {url} --yes"))
        .with(0)
        .saying("READY: a backup can be made");
    let text = std::fs::read_to_string(host.path("freezeframe.toml")).unwrap();
    assert!(text.contains(&format!("url = \"{url}\"")), "{text}");
    host.run("backup").with(0);
    host.run("verify latest").with(0);
}
