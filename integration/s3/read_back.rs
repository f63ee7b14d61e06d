//! What a store gives back is compared with what was sent, where nothing else tells that it is the same.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use freezeframe::backup::upload::UploadError;
use freezeframe::error::{Exit, Explain};
use freezeframe::ids::BackupId;
use freezeframe::manifest::{MANIFEST, Manifest, Proof};
use freezeframe::store::{self, SharedStore};

use crate::fault_proxy::{Fault, FaultProxy};
use crate::schedules::{Making, data, id};
use crate::servers::S3sFs;

/// Archives first, then the file table.
fn proofs(manifest: &Manifest) -> Vec<Proof> {
    let archives = manifest.members.iter().map(|member| member.archive.proof);
    archives
        .chain([manifest.files.proof])
        .map(Option::unwrap)
        .collect()
}

fn all_are(manifest: &Manifest, proof: Proof) -> bool {
    proofs(manifest).iter().all(|found| *found == proof)
}

async fn back_up(
    store: &SharedStore,
    data: &Path,
    read_back: bool,
) -> Result<Manifest, UploadError> {
    let making = Making {
        read_back,
        ..Making::of(data)
    };
    making.back_up(store.clone(), id()).await
}

fn refused(made: Result<Manifest, UploadError>) {
    let error = made.unwrap_err();
    let told = matches!(&error, UploadError::OtherBytes { object, .. } if object == "rs0.tar.xz");
    assert!(told, "{error}");
    assert_eq!(error.exit(), Exit::Store);
    assert!(error.hint().is_some());
}

async fn has_manifest(store: &SharedStore, id: BackupId) -> bool {
    store.size(&format!("{id}/{MANIFEST}")).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_the_server_changed_is_found_whatever_its_etag_says() {
    let server = S3sFs::start().await;
    let proxy = FaultProxy::start(server.address(), |_| Fault::None).await;
    let settings = server.settings_by(&proxy.endpoint());
    let data = data(7);
    let was_read = |proxy: &FaultProxy, prefix: &str| {
        proxy.seen().iter().any(|request| {
            request.operation() == "GetObject"
                && request.path.contains(prefix)
                && request.path.ends_with(".tar.xz")
        })
    };

    // ETags that are MD5s prove what was received, and nobody pays for reading it.
    let made = back_up(&server.store("md5", &settings), data.path(), true).await;
    assert!(all_are(&made.unwrap(), Proof::ServerHash));
    assert!(!was_read(&proxy, "/md5/"));

    server.misbehaves().opaque_etags.store(true, Relaxed);
    let made = back_up(&server.store("opaque", &settings), data.path(), true).await;
    assert!(all_are(&made.unwrap(), Proof::ReadBack));
    assert!(was_read(&proxy, "/opaque/"));

    server.misbehaves().changes_a_byte.store(true, Relaxed);
    let store = server.store("changed", &settings);
    refused(back_up(&store, data.path(), true).await);
    assert!(!has_manifest(&store, id()).await);

    // Who does not want to pay is told in the manifest what he has.
    let made = back_up(&server.store("believed", &settings), data.path(), false).await;
    assert!(all_are(&made.unwrap(), Proof::Size));
    assert!(!was_read(&proxy, "/believed/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_the_disk_changed_is_found_in_a_folder() {
    let home = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let root: PathBuf = home.path().join(name);
        std::fs::create_dir(&root).unwrap();
        let url = format!("file://{}", root.display());
        let store = store::open(&url, &Default::default(), &Default::default()).unwrap();
        (root, store)
    };
    let data = data(7);
    let (_, good) = open("good");
    let made = back_up(&good, data.path(), true).await;
    assert!(all_are(&made.unwrap(), Proof::ReadBack));

    let (root, bad) = open("bad");
    let rot = |object: &str| {
        let place = root.join(id().to_string()).join(object);
        let mut bytes = std::fs::read(&place).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(place, bytes).unwrap();
    };
    let making = Making {
        before_completion: &|| rot("rs0.tar.xz"),
        ..Making::of(data.path())
    };
    refused(making.back_up(bad.clone(), id()).await);
    assert!(!has_manifest(&bad, id()).await);
}
