//! Backups in a folder, copied to a bucket: what is there afterwards, when the bucket cannot be reached meanwhile, and when the copying program is killed.

use std::collections::BTreeMap;

use freezeframe::store::Store;
use freezeframe::store::local::LocalStore;

use crate::fault_proxy::{Fault, FaultProxy, Request};
use crate::hosts::{Host, replica_set};
use crate::policy::by_append_only_policy;
use crate::servers::{BUCKET, Moto};

/// States of the sets in the store, first or named, by their names.
fn states(host: &Host, store: &str) -> BTreeMap<String, String> {
    let listed = host.run(format!("list --json {store}").trim()).with(0);
    let sets: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let sets = sets.as_array().unwrap().iter();
    sets.map(|set| (text(&set["id"]), text(&set["state"])))
        .collect()
}

fn names(states: &BTreeMap<String, String>) -> Vec<&str> {
    assert!(
        states.values().all(|state| state == "complete"),
        "{states:?}"
    );
    states.keys().map(String::as_str).collect()
}

/// What makes up backups, with its bytes; marks and leases are each store's own.
async fn content(store: &dyn Store, id: &str) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for info in store.list(&format!("{id}/")).await.unwrap() {
        let bytes = store.read(&info.key, 0..info.size).await.unwrap();
        all.insert(info.key, bytes);
    }
    all
}

fn deny(_: &Request) -> Fault {
    Fault::Answer(403, "AccessDenied")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bucket_lacks_stays_in_the_folder_and_is_copied_when_it_can_be() {
    let set = replica_set().await;
    let moto = Moto::start().await;
    let proxy = FaultProxy::start(moto.address(), deny).await;
    let settings = moto.settings_by(&proxy.endpoint());
    let bucket = format!("s3://{BUCKET}/copied");
    let there = format!("--store {bucket}");
    let host = Host::new("file:///nowhere", &settings, &set);
    std::fs::create_dir(host.path("store")).unwrap();
    let url = format!("file://{}", host.path("store").display());
    let rules = "[retention]\nkeep_last = 1\nkeep_within = \"1ms\"\n";
    let copy = format!(
        "[[copy]]\nurl = \"{bucket}\"\n[copy.retention]\nkeep_last = 2\nkeep_within = \"1ms\"\n"
    );
    host.configure(&url, &settings, &set, &format!("{copy}{rules}"));

    // The bucket takes nothing: there is a backup, and nobody takes it for copied.
    host.run("backup")
        .with(5)
        .saying("is made and whole in file://")
        .saying("but it is not copied: to s3://")
        .saying("`freezeframe copy`");
    host.run("check").with(0).saying("warning copy");
    host.run("status")
        .with(9)
        .saying("the last backup ended well")
        .saying("does not tell what it holds");
    host.run("prune").with(5).saying("NOT DONE");
    assert_eq!(names(&states(&host, "")).len(), 1);

    proxy.set_plan(|_| Fault::None);
    host.run("backup").with(0);
    let here = states(&host, "");
    assert_eq!(names(&here).len(), 2);
    assert_eq!(states(&host, &there), here);
    let folder = LocalStore::open(&host.path("store")).unwrap();
    let in_bucket = moto.store("copied", &settings);
    for id in names(&here) {
        let ours = content(&folder, id).await;
        assert_eq!(content(in_bucket.as_ref(), id).await, ours);
        assert_eq!(ours.len(), 4, "{:?}", ours.keys());
    }
    host.run("status")
        .with(0)
        .saying("has every backup that it is to have");

    // Two more that the bucket lacks: the rules of the folder would keep the newer one alone.
    proxy.set_plan(deny);
    host.run("backup").with(5);
    host.run("backup").with(5);
    proxy.set_plan(|_| Fault::None);
    host.run("prune --yes")
        .with(0)
        .saying("not copied yet")
        .saying("removed 2 of 4");
    let left = states(&host, "");
    assert_eq!(names(&left).len(), 2);
    host.run("copy").with(0);
    assert_eq!(names(&states(&host, &there)).len(), 4);
    host.run("copy").with(0).saying("nothing lacks");
    host.run("prune --yes").with(0);
    assert_eq!(names(&states(&host, "")), [*names(&left).last().unwrap()]);
    assert_eq!(states(&host, &there), left);

    // The copy is a backup like any other.
    let newest = *names(&left).last().unwrap();
    std::fs::remove_dir_all(host.path("store").join(newest)).unwrap();
    host.run(&format!("verify latest {there}")).with(0);
    host.run(&format!("restore latest {there} --to whole"))
        .with(0);
    // And can be brought home.
    host.run(&format!("copy latest {there} --to {url}")).with(0);
    let archive = format!("{newest}/rs0.tar.xz");
    assert_eq!(
        content(&folder, newest).await[&archive],
        content(in_bucket.as_ref(), newest).await[&archive]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_leaves_no_backup_and_the_next_goes_on_with_it() {
    killed_copies(|_| Fault::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_it_is_where_a_host_may_only_append() {
    killed_copies(by_append_only_policy).await;
}

async fn killed_copies(policy: fn(&Request) -> Fault) {
    let set = replica_set().await;
    let moto = Moto::start().await;
    let proxy = FaultProxy::start(moto.address(), policy).await;
    let settings = moto.settings_by(&proxy.endpoint());
    let bucket = format!("s3://{BUCKET}/killed");
    let there = format!("--store {bucket}");
    let host = Host::new("file:///nowhere", &settings, &set);
    std::fs::create_dir(host.path("store")).unwrap();
    let url = format!("file://{}", host.path("store").display());
    host.configure(&url, &settings, &set, "");
    host.run("backup").with(0);
    host.configure(
        &url,
        &settings,
        &set,
        &format!("[[copy]]\nurl = \"{bucket}\"\n"),
    );
    for at in [
        "lease.planned 1",
        "upload.planned 1",
        "manifest.begun 1",
        "manifest.ended 1",
    ] {
        let killed = host.run_with(
            "copy",
            &[(
                "FREEZEFRAME_SWITCH_FAULT",
                &format!("{at} kill -KILL $FREEZEFRAME_RUN_PID"),
            )],
        );
        assert_eq!(
            killed.code, None,
            "{at}: {}{}",
            killed.stdout, killed.stderr
        );
        let left = states(&host, &there);
        match at {
            "manifest.ended 1" => assert_eq!(names(&left).len(), 1),
            _ => assert!(
                left.values().all(|state| state == "unfinished"),
                "{at}: {left:?}"
            ),
        }
        host.run("recover").with(0);
        // What is there of it whole stays, to be gone on with.
        assert_eq!(states(&host, &there), left, "{at}");
    }
    host.run("copy").with(0).saying("nothing lacks");
    host.run(&format!("verify latest {there}")).with(0);
}
