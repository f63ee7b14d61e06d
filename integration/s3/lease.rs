//! The lease against real servers, and between hosts.

use std::io::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freezeframe::backup::lease::{self, LeaseError, Scope};
use freezeframe::ids::RunId;
use freezeframe::store::{SharedStore, StoreError};
use regex::Regex;

use crate::fault_proxy::{Fault, FaultProxy, Request};
use crate::hosts::{Host, replica_set};
use crate::servers::{BUCKET, Moto, S3sFs};
use crate::support::mongod::until;

const HOUR: Duration = Duration::from_secs(3600);
const WARNING: &str = "the server ignores If-None-Match";

fn scope() -> Scope {
    Scope {
        deployment: "0123456789abcdef01234567".parse().unwrap(),
        shard: "rs0".parse().unwrap(),
    }
}

fn run(number: u32) -> RunId {
    format!("{number:08x}").parse().unwrap()
}

async fn take(store: &SharedStore, number: u32) -> Result<(), LeaseError> {
    lease::take(store.as_ref(), &scope(), run(number), HOUR).await
}

/// What is logged on this thread, from now until the guard is dropped.
fn logged() -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
    #[derive(Clone)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines(Arc::default());
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    (lines.0, tracing::subscriber::set_default(subscriber))
}

/// Whether taking the lease on `store` warns; and that what is there is not written over.
async fn warns(store: &SharedStore) -> bool {
    let (lines, listening) = logged();
    take(store, 1).await.unwrap();
    drop(listening);
    let held = take(store, 2).await.unwrap_err();
    assert!(
        matches!(&held, LeaseError::Held { holder, .. } if holder.run == run(1)),
        "{held}"
    );

    store.put("set/taken", b"first").await.unwrap();
    let again = store.put("set/taken", b"second").await.unwrap_err();
    assert!(matches!(again, StoreError::Exists { .. }), "{again}");
    let streamed = store.create("set/taken", None).await.err().unwrap();
    assert!(matches!(streamed, StoreError::Exists { .. }), "{streamed}");
    // Taken only after the stream began.
    let mut late = store.create("set/late", None).await.unwrap();
    late.write(vec![1; 1000]).await.unwrap();
    store.put("set/late", b"first").await.unwrap();
    let late = late.finish().await.unwrap_err();
    assert!(matches!(late, StoreError::Exists { .. }), "{late}");
    for key in ["set/taken", "set/late"] {
        assert_eq!(store.read(key, 0..5).await.unwrap(), b"first");
    }
    let lines = lines.lock().unwrap();
    String::from_utf8_lossy(&lines).contains(WARNING)
}

// On one thread, where what is logged can be heard.
#[tokio::test]
async fn a_server_without_conditions_is_warned_of_and_overwrites_nothing() {
    let server = S3sFs::start().await;
    let moto = Moto::start().await;
    let dropping = |_: &Request| Fault::DropHeader("if-none-match");
    let dropped = FaultProxy::start(moto.address(), dropping).await;
    let by_proxy = moto.settings_by(&dropped.endpoint());

    assert!(!warns(&server.store("with", &server.settings())).await);
    assert!(!warns(&moto.store("with", &moto.settings())).await);
    assert!(warns(&moto.store("without", &by_proxy)).await);
    server.misbehaves().ignores_conditions.store(true, Relaxed);
    assert!(warns(&server.store("without", &server.settings())).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_hosts_that_try_at_once_one_has_it() {
    let server = S3sFs::start().await;
    for round in 0..10 {
        let store = server.store(&format!("race/{round}"), &server.settings());
        let trying = (1..=8).map(|number| {
            let store = store.clone();
            tokio::spawn(async move { take(&store, number).await })
        });
        let mut taken = 0;
        for outcome in futures_util::future::join_all(trying).await {
            match outcome.unwrap() {
                Ok(()) => taken += 1,
                Err(LeaseError::Held { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(taken, 1, "round {round}");
    }
}

fn writes_intent(request: &Request) -> bool {
    request.operation() == "PutObject" && request.path.ends_with("/intent.json")
}

async fn leases(store: &SharedStore) -> Vec<String> {
    let listed = store.list("lease-").await.unwrap();
    listed.into_iter().map(|object| object.key).collect()
}

/// Starts a backup on `host` and kills it, as a power cut would, when it has the lease and has locked nothing yet.
/// Meanwhile `other` looks, and is told who has it.
async fn killed_with_the_lease(
    host: &Host,
    proxy: &FaultProxy,
    other: &Host,
    store: &SharedStore,
) -> String {
    proxy.set_plan(|request| match writes_intent(request) {
        true => Fault::Hang,
        false => Fault::None,
    });
    let before = proxy.seen().len();
    let mut backup = host.start("backup");
    until("the first host has the lease and goes on", async || {
        let ended = backup.try_wait().unwrap();
        assert!(ended.is_none(), "it ended before: {ended:?}");
        proxy.seen()[before..].iter().any(writes_intent)
    })
    .await;

    let key = leases(store).await.pop().unwrap();
    let size = store.size(&key).await.unwrap();
    let document = store.read(&key, 0..size).await.unwrap();
    let document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    let text = |name: &str| document[name].as_str().unwrap();
    let whole = |name: &str| {
        let time: jiff::Timestamp = text(name).parse().unwrap();
        format!("{time:.0}")
    };
    let told = format!(
        "{} is writing a backup of rs0 (run {}, since {}, lease until {})",
        text("host"),
        text("run"),
        whole("taken"),
        whole("ends")
    );
    let refused = |ended: crate::hosts::Ended| ended.with(3).saying(&told).saying(&key);
    refused(other.run("backup"));
    refused(other.run("check"));
    let check = other.run("check --json").with(3);
    let check: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    let findings = check["findings"].as_array().unwrap();
    let refusals: Vec<_> = findings
        .iter()
        .filter(|finding| finding["verdict"] == "refused")
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    assert_eq!(refusals, ["lease"]);

    backup.kill().unwrap();
    backup.wait().unwrap();
    proxy.set_plan(|_| Fault::None);
    // Nobody can tell a dead host from a silent one.
    let refused = refused(other.run("backup"));
    Regex::new(r"delete (lease-[0-9a-f]{24}/rs0/\d{8}\.json) from the store")
        .unwrap()
        .captures(&refused.stderr)
        .unwrap()[1]
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_do_not_write_one_deployment_at_once() {
    let set = replica_set().await;
    let server = S3sFs::start().await;
    let proxy = FaultProxy::start(server.address(), |_| Fault::None).await;
    let url = format!("s3://{BUCKET}/shared");
    let store = server.store("shared", &server.settings());
    let first = Host::new(&url, &server.settings_by(&proxy.endpoint()), &set);
    let second = Host::new(&url, &server.settings(), &set);
    second
        .run("check")
        .with(0)
        .saying("nobody is writing a backup of rs0");

    // It died, and says so when it is asked.
    killed_with_the_lease(&first, &proxy, &second, &store).await;
    let free = "nobody is writing a backup of rs0";
    first.run("recover").with(0).saying("lease");
    second.run("check").with(0).saying(free);
    second.run("backup").with(0);
    second.run("check").with(0).saying(free);

    // It is gone for good, with its state, and an operator does what the message says.
    let key = killed_with_the_lease(&first, &proxy, &second, &store).await;
    std::fs::remove_dir_all(first.path("state")).unwrap();
    store.delete(&key).await.unwrap();
    second.run("backup").with(0);

    // It is gone for good, and a day has passed.
    let key = killed_with_the_lease(&first, &proxy, &second, &store).await;
    std::fs::remove_dir_all(first.path("state")).unwrap();
    let size = store.size(&key).await.unwrap();
    let document = store.read(&key, 0..size).await.unwrap();
    let mut document: serde_json::Value = serde_json::from_slice(&document).unwrap();
    document["taken"] = "2026-01-01T00:00:00Z".into();
    document["ends"] = "2026-01-02T00:00:00Z".into();
    store.delete(&key).await.unwrap();
    let document = serde_json::to_vec(&document).unwrap();
    store.put(&key, &document).await.unwrap();
    let made = second.run("backup").with(0);
    assert!(!made.stderr.contains(WARNING), "{}", made.stderr);

    // Both are well again. On a server that cannot tell them apart both are warned.
    server.misbehaves().ignores_conditions.store(true, Relaxed);
    first.run("backup").with(0).saying(WARNING);
    second.run("backup").with(0).saying(WARNING);
    let sets = second.run("list --json").with(0);
    let sets: serde_json::Value = serde_json::from_str(&sets.stdout).unwrap();
    let complete = sets
        .as_array()
        .unwrap()
        .iter()
        .filter(|set| set["state"] == "complete");
    assert_eq!(complete.count(), 5, "{sets}");

    // Where large parts have to wait, `check` tells how much room they take.
    let (settings, more) = (server.settings(), "max_parts = 2\nmemory = \"16MiB\"\n");
    second.configure(&url, &settings, &set, more);
    second
        .run("check")
        .with(0)
        .saying("parts on their way to the store take");
}
