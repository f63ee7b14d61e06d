//! Being asked to end, and giving back, while the store is slow, gone, or does not let us.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use freezeframe::backup::lease::{self, Scope};
use freezeframe::backup::release::{ReleaseError, release};
use freezeframe::backup::resource::Resource;
use freezeframe::catalog;
use freezeframe::config::Period;
use freezeframe::config::s3::S3Config;
use freezeframe::error::{Exit, Explain};
use freezeframe::ids::BackupId;
use freezeframe::store::{SharedStore, StoreError, StoreSettings};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

use crate::fault_proxy::{Fault, FaultProxy, Request};
use crate::hosts::{Host, replica_set};
use crate::schedules::{Making, data, documents, id, tools, tools_with};
use crate::servers::{BUCKET, S3sFs};
use crate::support::mongod::until;

/// Far longer than anything here takes, and far shorter than what would be waited for otherwise.
const SOON: Duration = Duration::from_secs(60);

/// A store behind a proxy that does `fault` to every `operation`, and `hears` of each.
async fn broken(
    server: &S3sFs,
    operation: &'static str,
    fault: Fault,
    hears: impl Fn() + Send + Sync + 'static,
) -> (FaultProxy, S3Config) {
    let plan = move |request: &Request| match request.operation() == operation {
        true => {
            hears();
            fault.clone()
        }
        false => Fault::None,
    };
    let proxy = FaultProxy::start(server.address(), plan).await;
    let settings = S3Config {
        retry_for: Period(Duration::from_secs(900)),
        timeout: Period(Duration::from_secs(600)),
        ..server.settings_by(&proxy.endpoint())
    };
    (proxy, settings)
}

/// A store whose `operation` is slow, and which is asked to end while that is under way.
async fn interrupted(
    server: &S3sFs,
    prefix: &str,
    operation: &'static str,
) -> (FaultProxy, SharedStore) {
    let cancel = CancellationToken::new();
    let ends = cancel.clone();
    let slow = Fault::Delay(Duration::from_secs(1));
    let (proxy, settings) = broken(server, operation, slow, move || ends.cancel()).await;
    let store = server.store_until(prefix, &settings, &cancel);
    (proxy, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_when_we_are_asked_to_end_does_not_land_later() {
    let server = S3sFs::start().await;
    // The lease: who gives it back must see it.
    let (_proxy, store) = interrupted(&server, "lease", "PutObject").await;
    let scope = Scope {
        deployment: "0123456789abcdef01234567".parse().unwrap(),
        shard: "rs0".parse().unwrap(),
    };
    let run = "0000000a".parse().unwrap();
    let taken = lease::take(store.as_ref(), &scope, run, Duration::ZERO).await;
    assert!(taken.is_err());
    let direct = server.store("lease", &server.settings());
    let listed = direct.list("").await.unwrap();
    assert_eq!(listed.len(), 1, "it had not landed when the call ended");
    lease::give_back(direct.as_ref(), &scope, run)
        .await
        .unwrap();
    let next = "0000000b".parse().unwrap();
    lease::take(direct.as_ref(), &scope, next, Duration::ZERO)
        .await
        .unwrap();

    // An upload, and the probe's.
    let (_proxy, store) = interrupted(&server, "upload", "CreateMultipartUpload").await;
    let writer = store.create("object", None).await.unwrap();
    assert_eq!(server.open_uploads().len(), 1);
    writer.abort().await.unwrap();
    assert!(server.open_uploads().is_empty());
    let (_proxy, store) = interrupted(&server, "probe", "CreateMultipartUpload").await;
    store.probe().await.unwrap();
    assert!(server.open_uploads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_end_when_we_are_asked_to_end() {
    let server = S3sFs::start().await;
    let cancel = CancellationToken::new();
    let store = server.store_until("cancelled", &server.settings(), &cancel);
    let mut aborted = store.create("aborted", None).await.unwrap();
    let mut dropped = store.create("dropped", None).await.unwrap();
    aborted.write(vec![1; 9 << 20]).await.unwrap();
    dropped.write(vec![1; 9 << 20]).await.unwrap();
    cancel.cancel();
    assert!(matches!(
        store.list("").await,
        Err(StoreError::Interrupted { .. })
    ));
    aborted.abort().await.unwrap();
    drop(dropped);
    assert_eq!(server.open_uploads().len(), 1);
    store.give_up_open().await.unwrap();
    assert!(server.open_uploads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_wanted_any_more_is_not_waited_for() {
    let server = S3sFs::start().await;
    for (operation, fault) in [
        ("UploadPart", Fault::Hang),
        ("UploadPart", Fault::Answer(503, "SlowDown")),
        (
            "CompleteMultipartUpload",
            Fault::Answer(500, "InternalError"),
        ),
    ] {
        let unwanted = CancellationToken::new();
        let overflows = unwanted.clone();
        let (_proxy, settings) = broken(&server, operation, fault.clone(), move || {
            overflows.cancel()
        })
        .await;
        let store = server.store("unwanted", &settings);
        let store = store.while_wanted(&unwanted).unwrap();
        let writing = async {
            let mut writer = store.create("object", None).await?;
            writer.write(vec![1; 9 << 20]).await?;
            writer.finish().await
        };
        let written = tokio::time::timeout(SOON, writing).await;
        let error = written.expect("it is waited for").unwrap_err();
        assert!(
            matches!(error, StoreError::Interrupted { .. }),
            "{operation} {fault:?}: {error}"
        );
        assert!(server.open_uploads().is_empty(), "{operation} {fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_given_up_on_is_not_asked_to_clean_up() {
    let server = S3sFs::start().await;
    let fault = Fault::Answer(503, "SlowDown");
    let (proxy, settings) = broken(&server, "UploadPart", fault, || {}).await;
    let settings = S3Config {
        retry_for: Period(Duration::from_secs(2)),
        ..settings
    };
    let store = server.store("gone", &settings);
    let mut writer = store.create("object", None).await.unwrap();
    writer.write(vec![1; 9 << 20]).await.unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(store.give_up_open().await.is_err());
    let aborts = |request: &Request| request.operation() == "AbortMultipartUpload";
    assert!(!proxy.seen().iter().any(aborts));
    // When it is back it is cleaned up.
    store.list("").await.unwrap();
    store.give_up_open().await.unwrap();
    assert!(server.open_uploads().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_while_the_manifest_is_sent_is_told_that_there_may_be_a_backup() {
    let server = S3sFs::start().await;
    let cancel = CancellationToken::new();
    let ends = cancel.clone();
    let plan = move |request: &Request| {
        if request.operation() == "PutObject" && request.path.ends_with("/manifest.json") {
            ends.cancel();
            return Fault::Delay(Duration::from_secs(1));
        }
        Fault::None
    };
    let proxy = FaultProxy::start(server.address(), plan).await;
    let store = server.store_until("sent", &server.settings_by(&proxy.endpoint()), &cancel);
    let data = data(1);
    let made = Making::of(data.path()).back_up(store, id()).await;
    let error = made.unwrap_err();
    assert!(error.to_string().contains("may be complete"), "{error}");
    assert_eq!(error.exit(), Exit::Interrupted);
    assert!(error.hint().unwrap().contains("`freezeframe list`"));
    // And so it is: giving back leaves it.
    let tools = tools(&server);
    release(&upload("sent", id()), &tools).await.unwrap();
    let store = server.store("sent", &server.settings());
    let sets = catalog::list(store.as_ref()).await.unwrap();
    assert!(matches!(sets.as_slice(), [set] if set.state == catalog::SetState::Complete));
}

fn upload(prefix: &str, set: BackupId) -> Resource {
    Resource::Upload {
        store: format!("s3://{BUCKET}/{prefix}"),
        server: None,
        set,
        run: documents(set).0.run,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_lets_nothing_be_deleted_is_given_back_all_the_same() {
    let server = S3sFs::start().await;
    let denied = Fault::Answer(403, "AccessDenied");
    let (_proxy, settings) = broken(&server, "DeleteObject", denied, || {}).await;
    let store = server.store("kept", &settings);
    let set = BackupId::at(jiff::Timestamp::from_second(1_800_000_000).unwrap());
    catalog::write_intent(store.as_ref(), &documents(set).0)
        .await
        .unwrap();
    let _open = store.create(&catalog::key(set, "rs0.tar.xz"), None).await;
    assert_eq!(server.open_uploads().len(), 1);
    let tools = tools_with(StoreSettings {
        s3: settings,
        ..StoreSettings::default()
    });
    release(&upload("kept", set), &tools).await.unwrap();
    assert!(server.open_uploads().is_empty());
    let sets = catalog::list(store.as_ref()).await.unwrap();
    assert!(matches!(sets.as_slice(), [set] if set.state == catalog::SetState::Unfinished));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_a_hurry_does_not_wait_for_a_store_that_hangs() {
    let server = S3sFs::start().await;
    let settings = StoreSettings::default();
    let hurry = settings.hurry.clone();
    let (_proxy, s3) = broken(&server, "HeadObject", Fault::Hang, move || hurry.cancel()).await;
    let tools = tools_with(StoreSettings { s3, ..settings });
    let set = BackupId::at(jiff::Timestamp::from_second(1_800_000_000).unwrap());
    let resource = upload("hung", set);
    let released = tokio::time::timeout(SOON / 2, release(&resource, &tools)).await;
    let error = released.expect("it is waited for").unwrap_err();
    assert!(
        matches!(
            &error,
            ReleaseError::Catalog(catalog::CatalogError::Store(StoreError::Interrupted { .. }))
        ),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_leaves_what_hangs_to_recover() {
    let set = replica_set().await;
    let server = S3sFs::start().await;
    let proxy = FaultProxy::start(server.address(), |_| Fault::None).await;
    let url = format!("s3://{BUCKET}/signals");
    let host = Host::new(&url, &server.settings_by(&proxy.endpoint()), &set);
    // The store hangs from the moment at which the lease is taken and the intent is written.
    let hangs = std::sync::atomic::AtomicBool::new(false);
    proxy.set_plan(move |request| {
        if request.operation() == "PutObject" && request.path.ends_with("/intent.json") {
            hangs.store(true, Ordering::SeqCst);
        }
        match hangs.load(Ordering::SeqCst) {
            true => Fault::Hang,
            false => Fault::None,
        }
    });
    let backup = host.start("backup");
    until("the store hangs", async || {
        let hung = |request: &Request| request.fault == Fault::Hang;
        proxy.seen().iter().any(hung)
    })
    .await;
    // Two of one kind might arrive as one.
    let pid = Pid::from_raw(i32::try_from(backup.id()).unwrap());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        kill(pid, signal).unwrap();
    }
    let ended = tokio::task::spawn_blocking(|| backup.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(8), "{said}");
    // Not that it was tried for as long as may be.
    for expected in [
        "asked again",
        "could not be given back: interrupted while using s3://",
    ] {
        assert!(said.contains(expected), "{said}");
    }
    proxy.set_plan(|_| Fault::None);
    host.run("backup").with(3).saying("freezeframe recover");
    host.run("recover").with(0).saying("lease on rs0");
    host.run("backup").with(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_read_is_found_out_before_it_is_written() {
    let server = S3sFs::start().await;
    let denied = Fault::Answer(403, "AccessDenied");
    let (_proxy, settings) = broken(&server, "GetObject", denied, || {}).await;
    let error = server.store("unread", &settings).probe().await.unwrap_err();
    assert!(
        matches!(error, StoreError::Denied { action: "read", .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_cannot_be_had_at_once_are_asked_for_again() {
    let server = S3sFs::start().await;
    let folder = tempfile::tempdir().unwrap();
    // A process that gives credentials stands for STS and the metadata service, which the SDK treats alike.
    let (marker, script) = (folder.path().join("asked"), folder.path().join("process"));
    let answer = format!(
        r#"{{"Version": 1, "AccessKeyId": "{}", "SecretAccessKey": "{}"}}"#,
        crate::s3s_fs_server::ACCESS_KEY,
        crate::s3s_fs_server::SECRET_KEY,
    );
    let text = format!(
        "#!/bin/sh\n[ -e {marker} ] || {{ touch {marker}; exit 1; }}\necho '{answer}'\n",
        marker = marker.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    let credentials = folder.path().join("credentials");
    let profile = format!("[default]\ncredential_process = {}\n", script.display());
    std::fs::write(&credentials, profile).unwrap();
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o600)).unwrap();
    let settings = S3Config {
        credentials_file: Some(credentials),
        ..server.settings()
    };
    let store = server.store("process", &settings);
    store.put("a", b"x").await.unwrap();
    assert!(marker.exists());
}
