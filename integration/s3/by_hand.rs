//! What the documents tell to do by hand in a bucket, done by AWS' own program.

use serde_json::Value;

use crate::hosts::{Host, replica_set};
use crate::servers::Moto;
use crate::support::by_hand::{aws, documented};

// As the documents have them.
const BUCKET: &str = "example-backups";
const URL: &str = "s3://example-backups/db3";
const ID: &str = "20260131_020000";

fn listed(host: &Host) -> Vec<(String, String)> {
    let sets: Value = serde_json::from_str(&host.run("list --json").with(0).stdout).unwrap();
    let field = |set: &Value, name: &str| set[name].as_str().unwrap().to_owned();
    let sets = sets.as_array().unwrap().iter();
    sets.map(|set| (field(set, "id"), field(set, "state")))
        .collect()
}

/// Runs the block that begins with `first` for the backup `id`.
fn by_hand(moto: &Moto, first: &str, id: &str) {
    let script = documented(first);
    assert!(script.contains(ID), "{script}");
    aws(&script.replace(ID, id), moto.address(), "us-east-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_deleted_by_hand_and_brought_back_where_it_was_locked() {
    let set = replica_set().await;
    let moto = Moto::start().await;
    let versions = ("x-amz-bucket-object-lock-enabled", "true");
    let made = moto
        .ask("PUT", &format!("/{BUCKET}"), &[versions], "")
        .await;
    assert!(made.starts_with("HTTP/1.1 200"), "{made}");
    let host = Host::new(URL, &moto.settings(), &set);
    host.run("backup").with(0);
    // Its reader's mark is hidden afterwards, and is to stay so.
    host.run("verify latest").with(0);
    host.run("backup").with(0);
    let both = listed(&host);
    let id = both[0].0.trim_start_matches("mongo_backup-");

    by_hand(&moto, "aws s3 rm s3://", id);
    assert_eq!(listed(&host), both[1..]);
    by_hand(&moto, "set=", id);
    assert_eq!(listed(&host), both);

    // A prune that knows of no lock; and a hold that was released before. The newest verified one stays, so let that be the other.
    host.run("verify latest").with(0);
    host.run(&format!("hold {id} --note why")).with(0);
    host.run(&format!("hold {id} --release")).with(0);
    let rules = "[retention]\nkeep_last = 1\nkeep_within = \"1ms\"\n";
    let lock = "lock = { mode = \"governance\", days = 1 }\n";
    host.configure(URL, &moto.settings(), &set, &format!("{lock}{rules}"));
    host.run("prune --yes").with(0).saying("locked");
    assert_eq!(listed(&host), both, "what is locked stays");
    host.configure(URL, &moto.settings(), &set, rules);
    host.run("prune --yes").with(0);
    assert_eq!(listed(&host), both[1..]);
    by_hand(&moto, "set=", id);
    assert_eq!(listed(&host), both);
    // Nothing is hidden any more.
    by_hand(&moto, "set=", id);
    host.run(&format!("verify {id}"))
        .with(0)
        .saying("every hash is right");
    let sets: Value = serde_json::from_str(&host.run("list --json").with(0).stdout).unwrap();
    assert_eq!(sets[0]["readers"], Value::Array(Vec::new()));
    assert_eq!(sets[0]["hold"], Value::Null);
}
