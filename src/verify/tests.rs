use std::io;
use std::sync::Arc;

use super::*;
use crate::catalog::sample::{self, id};
use crate::catalog::{key, list, write_verification};
use crate::manifest::{FILES, INTENT, Manifest, seal};
use crate::progress::{Meter, Silent};
use crate::store::Store;
use crate::store::fault::{Call, FaultStore};
use crate::store::memory::MemoryStore;

async fn sample() -> MemoryStore {
    let memory = MemoryStore::new();
    let store: SharedStore = Arc::new(memory.clone());
    sample::write(&store).await;
    memory
}

async fn check(store: impl Store + 'static) -> Result<VerifyReport, VerifyError> {
    let store: SharedStore = Arc::new(store);
    let threads = NonZeroUsize::new(2).unwrap();
    verify(&store, id(), threads, &Silent, &CancellationToken::new()).await
}

/// The set is damaged, and exactly these objects are named.
async fn assert_damaged(memory: &MemoryStore, objects: &[&str], what: &str) {
    let report = check(memory.clone()).await.unwrap();
    let named: Vec<&str> = report
        .findings
        .iter()
        .map(|found| found.object.as_str())
        .collect();
    assert_eq!(named, objects, "{what}: {:?}", report.findings);
    let error = report.into_result().unwrap_err();
    assert_eq!(error.exit(), Exit::Damaged);
    assert!(error.hint().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_set_passes_and_everything_was_read() {
    let memory = sample().await;
    let manifest = sample::manifest();
    let report = check(memory.clone()).await.unwrap().into_result().unwrap();
    let total: u64 = manifest.objects().map(|(_, size)| size).sum();
    assert_eq!(
        (report.archives, report.entries, report.bytes),
        (2, 6, total)
    );
    assert!(report.strays.is_empty());

    let record = report.record("2026-02-01T00:00:00Z".parse().unwrap(), "h");
    write_verification(&memory, &record).await.unwrap();
    let sets = list(&memory).await.unwrap();
    assert_eq!(
        sets[0].verification.verdict,
        crate::catalog::summary::Verdict::Verified
    );
    let again = check(memory).await.unwrap();
    assert!(again.strays.is_empty(), "a verification record is no stray");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_anywhere_is_found_and_named() {
    let memory = sample().await;
    for object in [MANIFEST, INTENT, FILES, "rs0.tar.xz", "rs1.tar.xz"] {
        let key = key(id(), object);
        let whole = memory.get(&key).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            memory.replace(&key, changed);
            assert_damaged(&memory, &[object], &format!("{object}, byte {at}")).await;
        }
        memory.replace(&key, whole);
    }
    assert!(check(memory).await.unwrap().findings.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_longer_and_missing_objects_are_found_and_named() {
    let memory = sample().await;
    for object in [INTENT, FILES, "rs0.tar.xz", "rs1.tar.xz"] {
        let key = key(id(), object);
        let whole = memory.get(&key).unwrap();
        let longer = [whole.as_slice(), &[0]].concat();
        for changed in [&[], &whole[..1], &whole[..whole.len() - 1], &longer] {
            memory.replace(&key, changed.to_vec());
            assert_damaged(
                &memory,
                &[object],
                &format!("{object}, {} bytes", changed.len()),
            )
            .await;
        }
        memory.delete(&key).await.unwrap();
        assert_damaged(&memory, &[object], &format!("{object} missing")).await;
        memory.replace(&key, whole);
    }
    memory.delete(&key(id(), FILES)).await.unwrap();
    memory.delete(&key(id(), "rs1.tar.xz")).await.unwrap();
    assert_damaged(&memory, &[FILES, "rs1.tar.xz"], "two at once").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_in_each_others_place_are_found() {
    let memory = sample().await;
    let [one, two] = ["rs0.tar.xz", "rs1.tar.xz"].map(|object| key(id(), object));
    let (first, second) = (memory.get(&one).unwrap(), memory.get(&two).unwrap());
    assert_eq!(first.len(), second.len(), "sizes alone must not tell");
    memory.replace(&one, second.clone());
    assert_damaged(&memory, &["rs0.tar.xz"], "one twice").await;
    memory.replace(&two, first);
    assert_damaged(&memory, &["rs0.tar.xz", "rs1.tar.xz"], "swapped").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sets_manifest_and_a_later_format() {
    let memory = sample().await;
    let place = key(id(), MANIFEST);
    let resealed = |change: fn(&mut Manifest)| {
        let mut changed = sample::manifest();
        change(&mut changed);
        seal::seal(&changed).unwrap()
    };
    memory.replace(
        &place,
        resealed(|m| m.id = "20250101_000000".parse().unwrap()),
    );
    assert_damaged(&memory, &[MANIFEST], "another set's").await;
    memory.replace(&place, resealed(|m| m.run = "00000001".parse().unwrap()));
    assert_damaged(&memory, &[INTENT], "another run's").await;
    // A table that hashes right and still is not what the manifest counts.
    memory.replace(
        &place,
        resealed(|m| {
            m.members[0].archive.files -= 1;
            m.members[1].archive.files += 1;
        }),
    );
    assert_damaged(&memory, &[FILES], "counts").await;
    memory.replace(&place, resealed(|m| m.format = 7));
    let error = check(memory.clone()).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    assert!(error.to_string().contains("format 7"), "{error}");
    memory.delete(&place).await.unwrap();
    assert_eq!(check(memory).await.unwrap_err().exit(), Exit::Store);
}

#[tokio::test(flavor = "multi_thread")]
async fn strays_are_told_and_do_no_harm() {
    let memory = sample().await;
    memory.replace(&key(id(), "notes.txt"), b"x".to_vec());
    let report = check(memory).await.unwrap();
    assert_eq!(report.strays, ["notes.txt"]);
    assert!(report.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_gives_no_verdict() {
    let memory = sample().await;
    for call in [Call::List, Call::Size, Call::Read] {
        for nth in 1.. {
            let faulty = FaultStore::new(Arc::new(memory.clone()));
            faulty.fail(call, nth, io::ErrorKind::TimedOut);
            let outcome = check(faulty.clone()).await;
            if !faulty.all_failed() {
                assert!(nth > 1, "{call:?} was never made");
                break;
            }
            assert_eq!(outcome.unwrap_err().exit(), Exit::Store, "{call:?} {nth}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_gives_no_verdict() {
    let store: SharedStore = Arc::new(sample().await);
    struct CancelAt(&'static str, CancellationToken);
    impl Progress for CancelAt {
        fn begin(&self, phase: &str, meter: &Meter) {
            assert!(meter.expected() > 0);
            if phase == self.0 {
                self.1.cancel();
            }
        }
        fn end(&self, _: &str) {}
        fn say(&self, _: &str) {}
    }
    for phase in ["verify file table", "verify rs0", "verify rs1"] {
        let cancel = CancellationToken::new();
        let progress = CancelAt(phase, cancel.clone());
        let threads = NonZeroUsize::MIN;
        let error = verify(&store, id(), threads, &progress, &cancel)
            .await
            .unwrap_err();
        assert_eq!(error.exit(), Exit::Interrupted, "{phase}: {error}");
    }
}
