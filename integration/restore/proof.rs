//! Proofs of good, damaged and cancelled copies.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use freezeframe::error::{Exit, Explain};
use freezeframe::manifest::{Manifest, MemberRecord};
use freezeframe::progress::Silent;
use freezeframe::restore::RestoreError;
use freezeframe::restore::prove::{Proof, Proving, Unpack, prove};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::binary;
use crate::support::locked_copy::{LockedCopy, copy_tree};
use crate::support::mongod::until;

/// In place of an archive: the directory itself, damaged on the way if asked.
struct Directory {
    from: PathBuf,
    damage: Option<String>,
}

#[async_trait]
impl Unpack for Directory {
    async fn unpack(
        &self,
        _member: &MemberRecord,
        into: &Path,
    ) -> Result<(), Box<dyn Explain + Send + Sync>> {
        copy_tree(&self.from, into);
        if let Some(file) = &self.damage {
            flip_bytes(&into.join(file));
        }
        Ok(())
    }
}

/// Flips one byte in each 4 KiB block of the middle third: pages of data, not the file's descriptor or root.
fn flip_bytes(path: &Path) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let blocks = file.metadata().unwrap().len() / 4096;
    assert!(
        blocks > 12,
        "{} is too small to be damaged well",
        path.display()
    );
    for block in blocks / 3..blocks * 2 / 3 {
        let (mut byte, at) = ([0], block * 4096 + 2000);
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }
}

async fn prove_it(manifest: &Manifest, source: &Directory) -> Proof {
    let scratch = TempDir::new().unwrap();
    let proving = Proving {
        manifest,
        source,
        scratch: scratch.path(),
        binary: &binary().await,
    };
    let proof = prove(proving, &Silent, &CancellationToken::new())
        .await
        .unwrap();
    assert_eq!(
        fs::read_dir(scratch.path()).unwrap().count(),
        0,
        "scratch is left behind"
    );
    proof
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_copy_is_proven_at_the_optime() {
    let locked = LockedCopy::get().await;
    let source = Directory {
        from: locked.db_path.clone(),
        damage: None,
    };
    let proof = prove_it(&locked.manifest, &source).await;
    proof.verdict().unwrap();
    let shard = &proof.shards[0];
    assert_eq!(shard.optime, Some(locked.record.optime));
    let app = shard.databases.iter().find(|db| db.name == "app").unwrap();
    let expected: usize = locked.expected.values().map(Vec::len).sum();
    assert_eq!(
        app.documents as usize, expected,
        "the oplog is not replayed to the optime"
    );
    assert_eq!(app.collections as usize, locked.expected.len());
    assert!(app.hash.is_some());
    assert!(shard.databases.iter().any(|db| db.name == "local"));
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_inside_a_collection_is_found_and_the_rest_is_still_validated() {
    let locked = LockedCopy::get().await;
    let source = Directory {
        from: locked.db_path.clone(),
        damage: Some(locked.cold_file.clone()),
    };
    let proof = prove_it(&locked.manifest, &source).await;
    let error = proof.verdict().unwrap_err();
    assert_eq!(error.exit(), Exit::Damaged);
    let shard = &proof.shards[0];
    let failed: Vec<_> = shard
        .failures
        .iter()
        .filter_map(|f| f.namespace.as_deref())
        .collect();
    assert!(failed.contains(&"app.cold"), "{:?}", shard.failures);
    let app = shard.databases.iter().find(|db| db.name == "app").unwrap();
    assert_eq!(
        app.collections as usize,
        locked.expected.len(),
        "stopped at the first failure"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_proof_leaves_nothing() {
    let locked = LockedCopy::get().await;
    let scratch = TempDir::new().unwrap();
    let source = Directory {
        from: locked.db_path.clone(),
        damage: None,
    };
    let proving = Proving {
        manifest: &locked.manifest,
        source: &source,
        scratch: scratch.path(),
        binary: &binary().await,
    };
    let cancel = CancellationToken::new();
    let cancelled = async {
        until("mongod is started on the copy", async || {
            // Beside the copy lies a folder for the log.
            fs::read_dir(scratch.path()).unwrap().any(|entry| {
                fs::metadata(entry.unwrap().path().join("mongod.lock"))
                    .is_ok_and(|lock| lock.len() > 0)
            })
        })
        .await;
        cancel.cancel();
    };
    let (outcome, ()) = tokio::join!(prove(proving, &Silent, &cancel), cancelled);
    assert!(matches!(outcome, Err(RestoreError::Cancelled)));
    assert_eq!(
        fs::read_dir(scratch.path()).unwrap().count(),
        0,
        "scratch is left behind"
    );
}
