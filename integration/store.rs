//! The suite that every store passes.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use freezeframe::store::fault::FaultStore;
use freezeframe::store::memory::MemoryStore;
use freezeframe::store::{SharedStore, conformance, open};

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_conforms() {
    let home = tempfile::tempdir().unwrap();
    let made = std::sync::atomic::AtomicU32::new(0);
    let fresh = || {
        let number = made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = home.path().join(number.to_string());
        std::fs::create_dir(&root).unwrap();
        open(
            &format!("file://{}", root.display()),
            &Default::default(),
            &Default::default(),
        )
        .unwrap()
    };
    conformance::run(fresh).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    let fresh = || -> SharedStore { Arc::new(MemoryStore::new()) };
    conformance::run(fresh).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_store_without_faults_conforms() {
    let fresh = || -> SharedStore { Arc::new(FaultStore::new(Arc::new(MemoryStore::new()))) };
    conformance::run(fresh).await.unwrap();
}
