//! What a store holds: documents, table, listing, lease.

use std::future::Future;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::archive::ArchivePath;
use crate::backup::lease::{self, Scope};
use crate::catalog::verification::Verification;
use crate::catalog::{self, Recorded, render};
use crate::ids::{DeploymentId, RunId, ShardName};
use crate::manifest::seal::{self, seal_body};
use crate::manifest::snapshots::SnapshotManifest;
use crate::manifest::table::TableReader;
use crate::manifest::{FILES, INTENT, Intent, MANIFEST, Manifest};
use crate::store::Store;
use crate::store::memory::MemoryStore;

/// `document` without the seal it may have, sealed anew: what somebody does who may write the store.
pub fn reseal(document: &[u8]) -> Vec<u8> {
    const SEAL: usize = 81;
    let body = match document.strip_suffix(b"\"\n}\n") {
        Some(_) => document.len().saturating_sub(SEAL),
        None => document.len(),
    };
    seal_body(document.get(..body).unwrap_or_default().to_vec())
}

/// `lines` as a file table, compressed; empty where zstd fails.
pub fn table_of(lines: &[u8]) -> Vec<u8> {
    zstd::encode_all(lines, 1).unwrap_or_default()
}

/// What `document` is as it is, and with its seal mended.
fn opened<T: DeserializeOwned>(document: &[u8]) -> impl Iterator<Item = T> {
    [document.to_vec(), reseal(document)]
        .into_iter()
        .filter_map(|document| seal::open(&document).ok())
}

pub(super) fn manifest(data: &[u8]) -> usize {
    let mut read = 0;
    for manifest in opened::<Manifest>(data) {
        let _ = manifest.check();
        let _ = catalog::missing_objects(&manifest, &[]);
        let _ = seal::seal(&manifest);
        read += 1;
    }
    let mut of_snapshots = None;
    for manifest in opened::<SnapshotManifest>(data) {
        let _ = manifest.check();
        let _ = seal::seal(&manifest);
        of_snapshots = Some(manifest.id);
        read += 1;
    }
    // As `list`, `show` and `latest` read it.
    let of_archives = opened::<Manifest>(data).last().map(|manifest| manifest.id);
    if let Some(id) = of_archives.or(of_snapshots) {
        let store = MemoryStore::new();
        store.replace(&catalog::key(id, MANIFEST), reseal(data));
        store.replace(&catalog::key(id, FILES), Vec::new());
        look(&store);
    }
    read
}

pub(super) fn intent(data: &[u8]) -> usize {
    let intents: Vec<Intent> = opened(data).collect();
    for intent in &intents {
        let store = MemoryStore::new();
        store.replace(&catalog::key(intent.id, INTENT), reseal(data));
        look(&store);
    }
    intents.len()
}

pub(super) fn verification(data: &[u8]) -> usize {
    let records: Vec<Verification> = opened(data).collect();
    for record in &records {
        let store = MemoryStore::new();
        let object = "verified-20260201_000000.json";
        store.replace(&catalog::key(record.id, object), reseal(data));
        look(&store);
        finish(catalog::write_verification(&MemoryStore::new(), record));
    }
    records.len()
}

/// The table compressed, and taken for its lines.
pub(super) fn table(data: &[u8]) -> usize {
    let lines = |object: Vec<u8>| {
        let reader = TableReader::new(object.as_slice()).into_iter().flatten();
        reader
            .map_while(Result::ok)
            .filter(|entry| ArchivePath::from_table(&entry.path).is_ok())
            .count()
    };
    lines(data.to_vec()) + lines(table_of(data))
}

/// A store that holds objects of these names, one a line.
pub(super) fn listing(data: &[u8]) -> usize {
    let store = MemoryStore::new();
    let mut keys = 0;
    for name in String::from_utf8_lossy(data).lines() {
        store.replace(name, name.as_bytes().to_vec());
        let there = finish(store.size(name)).is_some_and(|size| size.is_ok());
        finish(store.list(name));
        finish(catalog::resolve(&store, name));
        keys += usize::from(there);
    }
    look(&store);
    take_lease(&store);
    keys
}

/// The object that says who holds the lease.
pub(super) fn lease(data: &[u8]) -> usize {
    let store = MemoryStore::new();
    store.replace(
        "lease-0123456789abcdef01234567/rs0/00000001.json",
        data.to_vec(),
    );
    // One that was understood is obeyed.
    usize::from(!take_lease(&store))
}

/// Whether it could be had.
fn take_lease(store: &MemoryStore) -> bool {
    let deployment = "0123456789abcdef01234567".parse::<DeploymentId>();
    let (shard, run) = ("rs0".parse::<ShardName>(), "00000001".parse::<RunId>());
    let (Ok(deployment), Ok(shard), Ok(run)) = (deployment, shard, run) else {
        return false;
    };
    let scope = Scope { deployment, shard };
    let taken = finish(async {
        let taken = lease::take(store, &scope, run, Duration::MAX).await;
        let _ = lease::give_back(store, &scope, run).await;
        taken.map_err(|error| error.to_string())
    });
    matches!(taken, Some(Ok(())))
}

/// Everything that only looks at a store.
fn look(store: &MemoryStore) {
    finish(async {
        let Ok(sets) = catalog::list(store).await else {
            return;
        };
        let _ = render::table(&sets, jiff::Timestamp::UNIX_EPOCH);
        for set in &sets {
            match catalog::read_recorded(store, set.id).await {
                Ok(Recorded::Archives(manifest)) => drop(render::set(set, &manifest)),
                Ok(Recorded::Snapshots(manifest)) => {
                    drop(catalog::render_snapshots(set, &manifest));
                }
                Err(_) => {}
            }
        }
        let _ = catalog::latest(store).await;
    });
}

/// Runs what never waits: everything here is in memory.
fn finish<T>(work: impl Future<Output = T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    Some(runtime.ok()?.block_on(work))
}
