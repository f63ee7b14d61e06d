use std::sync::Arc;

use super::sample::{self, id, manifest};
use super::verification::{Outcome, Verification, VerificationKind};
use super::*;
use crate::manifest::FILES;
use crate::store::SharedStore;
use crate::store::fault::{Call, Fault, FaultStore};
use crate::store::memory::MemoryStore;
use summary::Verdict;

async fn sample() -> (MemoryStore, SharedStore) {
    let memory = MemoryStore::new();
    let store: SharedStore = Arc::new(memory.clone());
    sample::write(&store).await;
    (memory, store)
}

fn record(at: &str, kind: VerificationKind, outcome: Outcome) -> Verification {
    Verification {
        format: 1,
        id: id(),
        kind,
        outcome,
        at: at.parse().unwrap(),
        tool: "0.1.0".into(),
        host: "h".into(),
        bytes: 1,
        seconds: 1,
        findings: vec![],
        details: serde_json::Value::Null,
    }
}

/// Reseals a changed manifest, so that only the change can be what is found.
fn resealed(change: impl FnOnce(&mut Manifest)) -> Vec<u8> {
    let mut changed = manifest();
    change(&mut changed);
    seal::seal(&changed).unwrap()
}

#[tokio::test]
async fn what_was_written_is_loaded() {
    let (_, store) = sample().await;
    assert_eq!(load(store.as_ref(), id()).await.unwrap(), manifest());
    assert_eq!(
        read_intent(store.as_ref(), id()).await.unwrap(),
        sample::intent()
    );
}

#[tokio::test]
async fn a_set_appears_with_its_manifest_and_not_before() {
    let store: SharedStore = Arc::new(MemoryStore::new());
    assert!(list(store.as_ref()).await.unwrap().is_empty());
    let error = load(store.as_ref(), id()).await.unwrap_err();
    assert!(matches!(error, CatalogError::NoSuchSet { .. }), "{error}");
    assert_eq!(error.exit(), Exit::Store);
    sample::begin(store.as_ref()).await;
    let sets = list(store.as_ref()).await.unwrap();
    assert_eq!((sets.len(), sets[0].state), (1, SetState::Unfinished));
    assert_eq!(sets[0].members.len(), 2);
    let error = load(store.as_ref(), id()).await.unwrap_err();
    assert!(matches!(error, CatalogError::Unfinished { .. }), "{error}");
    assert!(latest(store.as_ref()).await.is_err());
    write_manifest(store.as_ref(), &manifest()).await.unwrap();
    let sets = list(store.as_ref()).await.unwrap();
    assert_eq!((sets.len(), sets[0].state), (1, SetState::Complete));
    assert_eq!(latest(store.as_ref()).await.unwrap(), id());
}

#[tokio::test]
async fn no_manifest_without_every_byte_behind_it() {
    for object in ["rs0.tar.xz", "rs1.tar.xz", FILES, INTENT] {
        let memory = MemoryStore::new();
        sample::begin(&memory).await;
        memory.delete(&key(id(), object)).await.unwrap();
        let error = write_manifest(&memory, &manifest()).await.unwrap_err();
        assert!(
            matches!(&error, CatalogError::MissingObject { object: missing, .. } if missing == object),
            "{object}: {error}"
        );
        assert!(memory.get(&key(id(), MANIFEST)).is_none());
    }
    for object in ["rs0.tar.xz", FILES] {
        let memory = MemoryStore::new();
        sample::begin(&memory).await;
        let mut short = memory.get(&key(id(), object)).unwrap();
        short.pop();
        memory.replace(&key(id(), object), short);
        let error = write_manifest(&memory, &manifest()).await.unwrap_err();
        assert!(
            matches!(error, CatalogError::WrongSize { .. }),
            "{object}: {error}"
        );
        assert!(memory.get(&key(id(), MANIFEST)).is_none());
    }
}

#[tokio::test]
async fn a_manifest_that_comes_back_as_another_goes_and_is_no_backup() {
    for may_be_removed in [true, false] {
        let memory = MemoryStore::new();
        sample::begin(&memory).await;
        let faulty = FaultStore::new(Arc::new(memory.clone()));
        faulty.add(Fault::Flip {
            key: key(id(), MANIFEST),
            offset: 100,
            mask: 1,
        });
        if !may_be_removed {
            faulty.fail(Call::Delete, 1, std::io::ErrorKind::PermissionDenied);
        }
        let error = write_manifest(&faulty, &manifest()).await.unwrap_err();
        assert!(
            matches!(error, CatalogError::OtherManifest { .. }),
            "{error}"
        );
        assert_eq!(error.exit(), Exit::Store);
        assert!(error.to_string().contains("no backup was recorded"));
        let hint = error.hint().unwrap();
        let is_there = memory.get(&key(id(), MANIFEST)).is_some();
        assert_eq!(is_there, !may_be_removed);
        assert_eq!(error.to_string().contains("cannot be removed"), is_there);
        assert_eq!(hint.contains(MANIFEST), is_there, "{hint}");
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_read_back_may_be_there_and_one_that_was_refused_is_not() {
    let memory = MemoryStore::new();
    sample::begin(&memory).await;
    let faulty = FaultStore::new(Arc::new(memory.clone()));
    faulty.fail(Call::Put, 1, std::io::ErrorKind::StorageFull);
    let error = write_manifest(&faulty, &manifest()).await.unwrap_err();
    assert!(matches!(error, CatalogError::Store(_)), "{error}");
    // The intent is read before it.
    for call in [Call::Size, Call::Read] {
        let memory = memory.deep_clone();
        let faulty = FaultStore::new(Arc::new(memory.clone()));
        faulty.fail(call, 2, std::io::ErrorKind::TimedOut);
        let error = write_manifest(&faulty, &manifest()).await.unwrap_err();
        assert!(faulty.all_failed());
        assert!(error.to_string().contains("may be complete"), "{error}");
        assert_eq!(error.exit(), Exit::Store);
        assert!(error.hint().unwrap().contains("`freezeframe list`"));
        assert_eq!(load(&memory, id()).await.unwrap(), manifest());
    }
}

#[tokio::test]
async fn fewer_archives_than_members_is_no_backup() {
    let memory = MemoryStore::new();
    sample::begin(&memory).await;
    let mut fewer = manifest();
    fewer.members.pop();
    fewer.files = sample::table(&["rs0"]).1;
    let error = write_manifest(&memory, &fewer).await.unwrap_err();
    assert!(
        error.to_string().contains("set out to back up rs0, rs1"),
        "{error}"
    );

    let mut other = manifest();
    other.run = "00000001".parse().unwrap();
    let error = write_manifest(&memory, &other).await.unwrap_err();
    assert!(error.to_string().contains("run 0badcafe"), "{error}");
    assert!(memory.get(&key(id(), MANIFEST)).is_none());
}

#[tokio::test]
async fn nothing_is_written_twice() {
    let (_, store) = sample().await;
    let again = write_intent(store.as_ref(), &sample::intent())
        .await
        .unwrap_err();
    assert!(
        matches!(again, CatalogError::Store(StoreError::Exists { .. })),
        "{again}"
    );
    let again = write_manifest(store.as_ref(), &manifest())
        .await
        .unwrap_err();
    assert!(
        matches!(again, CatalogError::Store(StoreError::Exists { .. })),
        "{again}"
    );
}

#[tokio::test]
async fn a_changed_byte_of_the_manifest_is_found_on_loading() {
    let (memory, store) = sample().await;
    let key = key(id(), MANIFEST);
    let whole = memory.get(&key).unwrap();
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x01;
        memory.replace(&key, changed);
        let error = load(store.as_ref(), id()).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Damaged, "byte {at}: {error}");
    }
    for length in 0..whole.len() {
        memory.replace(&key, whole[..length].to_vec());
        let error = load(store.as_ref(), id()).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Damaged, "{length} bytes: {error}");
    }
}

#[tokio::test]
async fn a_well_sealed_manifest_that_breaks_a_rule_is_refused() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 9] = [
        ("lists no member", |m| m.members.clear()),
        ("rs0 twice", |m| m.members[1] = m.members[0].clone()),
        ("cannot be the name", |m| {
            m.members[0].archive.object = "../rs0.tar.xz".into()
        }),
        ("cannot be the name", |m| {
            m.members[0].archive.object = "rs1.tar.xz".into()
        }),
        ("cannot be the name", |m| {
            m.members[0].archive.object = String::new()
        }),
        ("cannot be the name", |m| m.files.object = MANIFEST.into()),
        ("cannot be the name", |m| m.files.object = "a/b".into()),
        ("its archives hold", |m| m.members[0].archive.files += 1),
        ("is that of", |m| m.id = "20260201_020000".parse().unwrap()),
    ];
    for (message, change) in changes {
        let (memory, store) = sample().await;
        memory.replace(&key(id(), MANIFEST), resealed(change));
        let error = load(store.as_ref(), id()).await.unwrap_err();
        assert!(error.to_string().contains(message), "{message}: {error}");
        assert_eq!(error.exit(), Exit::Damaged, "{message}");
    }
}

#[tokio::test]
async fn missing_and_resized_objects_make_a_set_damaged() {
    for object in ["rs0.tar.xz", "rs1.tar.xz", FILES] {
        let (memory, store) = sample().await;
        memory.delete(&key(id(), object)).await.unwrap();
        let error = load(store.as_ref(), id()).await.unwrap_err();
        assert_eq!(error.exit(), Exit::Damaged, "{error}");
        let sets = list(store.as_ref()).await.unwrap();
        assert_eq!(sets[0].state, SetState::Damaged);
        assert!(sets[0].reason.as_ref().unwrap().contains(object));
        assert!(latest(store.as_ref()).await.is_err());

        let (memory, store) = sample().await;
        let mut longer = memory.get(&key(id(), object)).unwrap();
        longer.push(0);
        memory.replace(&key(id(), object), longer);
        let error = load(store.as_ref(), id()).await.unwrap_err();
        assert!(matches!(error, CatalogError::WrongSize { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_later_format_is_refused_with_the_way_out() {
    let (memory, store) = sample().await;
    memory.replace(&key(id(), MANIFEST), resealed(|m| m.format = 7));
    let error = load(store.as_ref(), id()).await.unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("newer freezeframe (format 7; this one reads up to 3)"),
        "{message}"
    );
    assert_eq!(error.exit(), Exit::Refused);
    assert!(error.hint().unwrap().contains("upgrade"));
    assert_eq!(
        list(store.as_ref()).await.unwrap()[0].state,
        SetState::Future
    );
}

#[tokio::test]
async fn members_added_within_a_format_are_passed_over() {
    let (memory, store) = sample().await;
    let mut value = serde_json::to_value(manifest()).unwrap();
    value["later"] = serde_json::json!({"a": 1});
    value["members"][0]["archive"]["later"] = 5.into();
    memory.replace(&key(id(), MANIFEST), seal::seal(&value).unwrap());
    assert_eq!(load(store.as_ref(), id()).await.unwrap(), manifest());
}

#[tokio::test]
async fn garbage_as_large_as_a_disk_is_not_read() {
    let (memory, store) = sample().await;
    memory.replace(&key(id(), MANIFEST), vec![b' '; DOCUMENT_MAX as usize + 1]);
    let error = load(store.as_ref(), id()).await.unwrap_err();
    assert!(matches!(error, CatalogError::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn one_bad_set_never_hides_the_others() {
    let (memory, store) = sample().await;
    let whole = memory.get(&key(id(), MANIFEST)).unwrap();
    let bad = |stamp: &str, object: &str| format!("mongo_backup-{stamp}/{object}");
    memory.replace(
        &bad("20260101_000000", MANIFEST),
        b"{\n\"format\": 1\n".to_vec(),
    );
    memory.replace(
        &bad("20260102_000000", MANIFEST),
        b"{\"format\": 9}".to_vec(),
    );
    memory.replace(&bad("20260103_000000", "rs0.tar.xz"), b"x".to_vec());
    memory.replace(&bad("20260104_000000", MANIFEST), whole);
    memory.replace(&bad("20260105_000000", INTENT), b"garbage".to_vec());
    memory.replace(&bad("20260106_000000", INTENT), b"{\"format\": 9}".to_vec());
    memory.replace("mongo_backup-old/manifest.json", b"not ours".to_vec());
    memory.replace(
        "mongo_backup-20260107_000000",
        b"a file, not a set".to_vec(),
    );
    let sets = list(store.as_ref()).await.unwrap();
    let states: Vec<SetState> = sets.iter().map(|set| set.state).collect();
    use SetState::*;
    assert_eq!(
        states,
        [Damaged, Future, Damaged, Damaged, Damaged, Future, Complete]
    );
    let reason = |at: usize| sets[at].reason.clone().unwrap();
    assert!(reason(0).contains("line 3"), "{}", reason(0));
    assert!(reason(1).contains("format 9"), "{}", reason(1));
    assert!(
        reason(2).contains("neither manifest nor intent"),
        "{}",
        reason(2)
    );
    assert!(
        reason(3).contains("is that of mongo_backup-20260131_020000"),
        "{}",
        reason(3)
    );
    assert_eq!(latest(store.as_ref()).await.unwrap(), id());
}

#[tokio::test]
async fn a_failing_store_is_never_a_damaged_or_missing_backup() {
    let (_, store) = sample().await;
    for call in [Call::List, Call::Read, Call::Size] {
        for nth in 1..4 {
            let faulty = FaultStore::new(store.clone());
            faulty.fail(call, nth, std::io::ErrorKind::TimedOut);
            let listed = list(&faulty).await;
            if faulty.all_failed() {
                assert!(listed.is_err(), "{call:?} {nth}: {listed:?}");
            }
            let faulty = FaultStore::new(store.clone());
            faulty.fail(call, nth, std::io::ErrorKind::TimedOut);
            let loaded = load(&faulty, id()).await;
            if faulty.all_failed() {
                assert!(
                    matches!(loaded, Err(CatalogError::Store(_))),
                    "{call:?} {nth}: {loaded:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn names_of_backups_are_resolved() {
    let (_, store) = sample().await;
    for text in [
        "latest",
        sample::ID,
        "20260131_020000",
        "2026-01-31T02:00:00Z",
        // As `show` prints when it began, and in another zone.
        "2026-01-31T02:00:00.25Z",
        "2026-01-31T03:00:00+01:00",
    ] {
        assert_eq!(resolve(store.as_ref(), text).await.unwrap(), id());
    }
    let error = resolve(store.as_ref(), "newest").await.unwrap_err();
    assert_eq!(error.exit(), Exit::Usage);
}

#[tokio::test]
async fn sets_of_another_deployment_are_left_out() {
    let (_, store) = sample().await;
    let sets = list(store.as_ref()).await.unwrap();
    let own = manifest().deployment.id;
    let other = "0123456789abcdef01234567".parse().unwrap();
    assert_eq!(summary::of_deployment(sets.clone(), &own).len(), 1);
    assert!(summary::of_deployment(sets, &other).is_empty());
}

#[tokio::test]
async fn verifications_add_up() {
    use VerificationKind::*;
    let (memory, store) = sample().await;
    let state = async || list(store.as_ref()).await.unwrap().remove(0).verification;
    assert_eq!(state().await.verdict, Verdict::Unverified);
    let steps = [
        (
            "2026-02-01T00:00:00Z",
            Hashes,
            Outcome::Passed,
            Verdict::Verified,
        ),
        (
            "2026-02-02T00:00:00Z",
            Proven,
            Outcome::Passed,
            Verdict::Proven,
        ),
        (
            "2026-02-03T00:00:00Z",
            Hashes,
            Outcome::Passed,
            Verdict::Proven,
        ),
        (
            "2026-02-04T00:00:00Z",
            Hashes,
            Outcome::Damaged,
            Verdict::Damaged,
        ),
        (
            "2026-02-04T01:00:00Z",
            Hashes,
            Outcome::Passed,
            Verdict::Proven,
        ),
        (
            "2026-02-04T02:00:00Z",
            Proven,
            Outcome::Damaged,
            Verdict::Damaged,
        ),
        // Whoever keeps it shows that it is there; then something is missing.
        (
            "2026-02-04T02:10:00Z",
            Shown,
            Outcome::Damaged,
            Verdict::Damaged,
        ),
        // The bytes are as they were written: that does not take the failed proof back.
        (
            "2026-02-04T03:00:00Z",
            Hashes,
            Outcome::Passed,
            Verdict::Damaged,
        ),
    ];
    for (at, kind, outcome, verdict) in steps {
        write_verification(store.as_ref(), &record(at, kind, outcome))
            .await
            .unwrap();
        let found = state().await;
        assert_eq!(
            (found.verdict, found.last),
            (verdict, Some(at.parse().unwrap()))
        );
    }
    assert_eq!(
        state().await.proven,
        Some("2026-02-02T00:00:00Z".parse().unwrap())
    );
    memory.replace(
        &key(id(), "verified-20260205_000000.json"),
        b"garbage".to_vec(),
    );
    assert_eq!(state().await.unreadable, 1);
    assert!(
        memory
            .get(&key(id(), "verified-20260201_000000.json"))
            .is_some()
    );
}

#[tokio::test]
async fn what_was_missing_and_is_shown_again_is_not_damaged_and_not_verified() {
    let (_, store) = sample().await;
    for (at, outcome, verdict) in [
        ("2026-02-01T00:00:00Z", Outcome::Passed, Verdict::Unverified),
        ("2026-02-02T00:00:00Z", Outcome::Damaged, Verdict::Damaged),
        ("2026-02-03T00:00:00Z", Outcome::Passed, Verdict::Unverified),
    ] {
        let record = record(at, VerificationKind::Shown, outcome);
        write_verification(store.as_ref(), &record).await.unwrap();
        let set = list(store.as_ref()).await.unwrap().remove(0);
        assert_eq!(set.verification.verdict, verdict);
        assert_eq!(
            set.state == SetState::Damaged,
            verdict == Verdict::Damaged,
            "{set:?}"
        );
    }
}

#[tokio::test]
async fn two_verifications_of_one_second_keep_both_records() {
    let (_, store) = sample().await;
    let record = record(
        "2026-02-01T00:00:00Z",
        VerificationKind::Hashes,
        Outcome::Passed,
    );
    write_verification(store.as_ref(), &record).await.unwrap();
    write_verification(store.as_ref(), &record).await.unwrap();
    let found = store.list(&key(id(), "verified-")).await.unwrap();
    assert_eq!(found.len(), 2);
    // The second's name is late, and not what it says: nothing was verified in the future.
    let records = verification::read_verifications(store.as_ref(), id(), &found).await;
    for read in records.unwrap() {
        assert_eq!(read.unwrap().at, record.at);
    }
}

#[tokio::test]
async fn a_verification_counts_after_one_that_a_clock_ahead_has_named() {
    let (_, store) = sample().await;
    let hashes = |at, outcome| record(at, VerificationKind::Hashes, outcome);
    for one in [
        hashes("2099-01-01T00:00:00Z", Outcome::Passed),
        hashes("2026-02-01T00:00:00Z", Outcome::Damaged),
    ] {
        write_verification(store.as_ref(), &one).await.unwrap();
    }
    let found = list(store.as_ref()).await.unwrap();
    assert_eq!(found[0].verification.verdict, Verdict::Damaged);
}

#[test]
fn what_is_of_a_moment_to_come_is_last() {
    let set = |name: &str| {
        let id: BackupId = name.parse().unwrap();
        SetSummary {
            id,
            started: id.started(),
            ..sample::summary()
        }
    };
    let sets = [
        set("mongo_backup-20260101_020000"),
        set("mongo_backup-20260102_020000"),
        set("mongo_backup-20270101_020000"),
        set("mongo_backup-20280101_020000"),
    ];
    let ordered = |now: &str| -> Vec<_> {
        let now = now.parse().unwrap();
        let sorted = newest_first(sets.iter(), now);
        sorted
            .map(|set| sets.iter().position(|one| one.id == set.id).unwrap())
            .collect()
    };
    assert_eq!(ordered("2026-01-02T01:59:30Z"), [1, 0, 3, 2]);
    assert_eq!(ordered("2026-01-01T12:00:00Z"), [0, 3, 2, 1]);
    assert_eq!(ordered("2029-01-01T00:00:00Z"), [3, 2, 1, 0]);
}

proptest::proptest! {
    /// Garbage under any document's name is an error, and `list` shows the set all the same.
    #[test]
    fn garbage_in_the_store_is_told_and_no_panic(bytes: Vec<u8>, text in "[\\[\\]{}:,\"a-z0-9 \n]{0,200}", at: proptest::sample::Index) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (memory, store) = sample().await;
            let sound = memory.get(&key(id(), MANIFEST)).unwrap();
            let torn = [&sound[..at.index(sound.len())], bytes.as_slice()].concat();
            for garbage in [bytes.clone(), text.clone().into_bytes(), torn] {
                for document in [MANIFEST, INTENT] {
                    let whole = memory.get(&key(id(), document)).unwrap();
                    memory.replace(&key(id(), document), garbage.clone());
                    if document == MANIFEST {
                        assert!(load(store.as_ref(), id()).await.is_err());
                    }
                    assert_eq!(list(store.as_ref()).await.unwrap().len(), 1);
                    memory.replace(&key(id(), document), whole);
                }
            }
        });
    }
}

/// How the fixture of a new format version is frozen; an existing one is never touched.
#[tokio::test]
#[ignore = "writes integration/fixtures/format-N for a new FORMAT_VERSION"]
async fn freeze_the_current_format() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("integration/fixtures")
        .join(format!("format-{}", crate::manifest::FORMAT_VERSION));
    std::fs::create_dir_all(&root).unwrap();
    assert!(!root.join(sample::ID).exists(), "it is frozen already");
    let folder: SharedStore = Arc::new(crate::store::local::LocalStore::open(&root).unwrap());
    let intent = Intent {
        format: crate::manifest::FORMAT_SNAPSHOTS,
        ..sample::intent()
    };
    write_intent(folder.as_ref(), &intent).await.unwrap();
    let manifest = crate::manifest::snapshots::sample::snapshots();
    write_snapshots(folder.as_ref(), &manifest).await.unwrap();
}
