//! Buckets in which nothing can be overwritten or deleted: object lock, and a policy without deletion.

use std::collections::BTreeMap;

use regex::Regex;

use crate::fault_proxy::{Fault, FaultProxy, Request};
use crate::hosts::{Host, replica_set};
use crate::servers::Moto;

const LOCKED: &str = "locked";

/// How often each key was written, and how often it was hidden by a delete marker.
async fn versions(moto: &Moto) -> BTreeMap<String, (u32, u32)> {
    let listed = moto
        .ask("GET", &format!("/{LOCKED}?versions"), &[], "")
        .await;
    let entry = Regex::new(r"(?s)<(Version|DeleteMarker)>.*?<Key>([^<]*)</Key>").unwrap();
    let mut found = BTreeMap::<String, (u32, u32)>::new();
    for entry in entry.captures_iter(&listed) {
        let (written, hidden) = found.entry(entry[2].to_owned()).or_default();
        match &entry[1] {
            "Version" => *written += 1,
            _ => *hidden += 1,
        }
    }
    found
}

fn list(host: &Host) -> Vec<String> {
    let sets = host.run("list --json").with(0);
    let sets: serde_json::Value = serde_json::from_str(&sets.stdout).unwrap();
    let states = sets.as_array().unwrap().iter();
    states
        .map(|set| set["state"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_with_object_lock_is_a_good_store() {
    let set = replica_set().await;
    let moto = Moto::start().await;
    let header = ("x-amz-bucket-object-lock-enabled", "true");
    let made = moto.ask("PUT", &format!("/{LOCKED}"), &[header], "").await;
    assert!(made.starts_with("HTTP/1.1 200"), "{made}");
    let retention = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\
                     <Mode>COMPLIANCE</Mode><Days>30</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    let kept = moto
        .ask("PUT", &format!("/{LOCKED}?object-lock"), &[], retention)
        .await;
    assert!(kept.starts_with("HTTP/1.1 200"), "{kept}");

    let proxy = FaultProxy::start(moto.address(), |_| Fault::None).await;
    let settings = moto.settings_by(&proxy.endpoint());
    let host = Host::new(&format!("s3://{LOCKED}/kept"), &settings, &set);
    let works = |host: &Host| {
        host.run("check").with(0);
        host.run("backup").with(0);
        host.run("verify latest")
            .with(0)
            .saying("every hash is right");
    };
    works(&host);
    // The lease of the first was given back, and is taken once more.
    works(&host);
    host.run("restore latest --to restored").with(0);
    assert!(host.path("restored/WiredTiger.wt").exists());
    assert_eq!(list(&host), ["complete", "complete"]);

    // Nor is anything missed where not even a delete marker may be made.
    let denied = |request: &Request| match request.operation() {
        "DeleteObject" => Fault::Answer(403, "AccessDenied"),
        _ => Fault::None,
    };
    proxy.set_plan(denied);
    works(&host);
    works(&host);
    let table = |request: &Request| request.path.ends_with("/files.jsonl.zst");
    proxy.set_plan(move |request| match table(request) {
        true => Fault::Answer(403, "AccessDenied"),
        false => denied(request),
    });
    host.run("backup").with(5);
    proxy.set_plan(denied);
    works(&host);
    assert_eq!(
        list(&host),
        [
            "complete",
            "complete",
            "complete",
            "complete",
            "unfinished",
            "complete"
        ]
    );

    let versions = versions(&moto).await;
    // A reader's mark goes when it has been read.
    let passing = |key: &str| key.starts_with("kept/lease-") || key.contains("/reading-");
    let (leases, objects): (Vec<_>, Vec<_>) = versions.iter().partition(|(key, _)| passing(key));
    assert!(objects.len() > 20 && !leases.is_empty(), "{versions:?}");
    for (key, (written, hidden)) in objects {
        assert_eq!((*written, *hidden), (1, 0), "{key}");
    }
    // A lease's key is free again once it is hidden: never was a visible one written over.
    for (key, (written, hidden)) in leases {
        assert!(*written <= hidden + 1, "{key}: {written} {hidden}");
    }
}

/// The lock that a request wants for what it writes, in hours from now. (moto passes over it, and can only be asked whether it was wanted.)
fn wanted_lock(request: &Request) -> Option<(String, i64)> {
    let mode = request.header("x-amz-object-lock-mode")?;
    let until = request.header("x-amz-object-lock-retain-until-date")?;
    let until: jiff::Timestamp = until.parse().unwrap();
    let hours = until.duration_since(jiff::Timestamp::now()).as_hours();
    Some((mode.to_owned(), hours))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_object_of_a_backup_gets_the_lock_that_is_configured_and_no_mark_does() {
    let set = replica_set().await;
    let moto = Moto::start().await;
    let header = ("x-amz-bucket-object-lock-enabled", "true");
    let made = moto.ask("PUT", &format!("/{LOCKED}"), &[header], "").await;
    assert!(made.starts_with("HTTP/1.1 200"), "{made}");
    let proxy = FaultProxy::start(moto.address(), |_| Fault::None).await;
    let settings = moto.settings_by(&proxy.endpoint());
    let url = format!("s3://{LOCKED}/kept");
    let host = Host::new(&url, &settings, &set);
    let lock = "lock = { mode = \"compliance\", days = 30 }\n";
    host.configure(&url, &settings, &set, lock);
    host.run("check").with(0);
    host.run("backup").with(0);
    host.run("hold latest --note why").with(0);
    host.run("verify latest").with(0);
    let (mut parts, mut marks, mut probes) = (0, 0, 0);
    for request in proxy.seen() {
        if !["PutObject", "CreateMultipartUpload"].contains(&request.operation()) {
            continue;
        }
        let name = request.path.rsplit_once('/').unwrap().1;
        if request.path.contains("freezeframe-probe-") {
            assert!(wanted_lock(&request).is_some(), "{request:?}");
            probes += 1;
            continue;
        }
        let is_part = name.ends_with(".tar.xz")
            || ["intent.json", "manifest.json", "files.jsonl.zst"].contains(&name);
        match wanted_lock(&request) {
            Some((mode, hours)) => {
                assert!(is_part, "{request:?}");
                assert_eq!(mode, "COMPLIANCE");
                assert!((30 * 24 - 2..=30 * 24).contains(&hours), "{hours} h");
                parts += 1;
            }
            None => {
                assert!(!is_part, "{request:?}");
                marks += 1;
            }
        }
    }
    assert_eq!(parts, 4);
    assert!(marks > 2, "{marks}");
    // `check` and the backup's own look: what a bucket does not take is told before anything is held.
    assert_eq!(probes, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_takes_no_lock_is_told_by_check_and_before_a_backup() {
    let set = replica_set().await;
    let moto = Moto::start().await;
    moto.ask("PUT", "/open", &[], "").await;
    // As AWS answers for a bucket without object lock.
    let proxy = FaultProxy::start(moto.address(), |request| match wanted_lock(request) {
        Some(_) => Fault::Answer(400, "InvalidRequest"),
        None => Fault::None,
    })
    .await;
    let settings = moto.settings_by(&proxy.endpoint());
    let host = Host::new("s3://open/kept", &settings, &set);
    let lock = "lock = { mode = \"governance\", days = 7 }\n";
    host.configure("s3://open/kept", &settings, &set, lock);
    for (verb, code) in [("check", 5), ("backup", 3)] {
        host.run(verb)
            .with(code)
            .saying("object lock")
            .saying("s3:PutObjectRetention");
    }
    let locked = proxy
        .seen()
        .iter()
        .filter(|one| one.operation() == "PutObject")
        .count();
    assert_eq!(locked, 0, "nothing was begun");
    host.configure("s3://open/kept", &settings, &set, "");
    host.run("check").with(0);
}
