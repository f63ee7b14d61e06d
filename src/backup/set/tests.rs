use std::sync::Arc;

use jiff::SignedDuration;

use super::*;
use crate::catalog::sample;
use crate::store::fault::{Fault, FaultStore};
use crate::store::memory::MemoryStore;

#[tokio::test]
async fn hosts_that_begin_in_one_second_make_different_sets() {
    let state = tempfile::tempdir().unwrap();
    let mut run = Run::begin(state.path(), "backup").unwrap();
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    let intent = |id| Intent {
        id,
        ..sample::intent()
    };
    // Another host began in this second, and one in the next, while ours was looking.
    let now = Timestamp::now();
    let theirs: Vec<_> = (0..3)
        .map(|second| intent(BackupId::at(now + SignedDuration::from_secs(second))))
        .collect();
    for other in &theirs {
        crate::catalog::write_intent(&store, other).await.unwrap();
    }
    store.add(Fault::Unlisted {
        ending: "intent.json".into(),
    });
    let shared: SharedStore = Arc::new(store);
    let (entries, _upload) = begin_set(&mut run, &shared, None, intent).await.unwrap();
    assert_eq!(run.outstanding().len(), entries.len());
    let begun = run.outstanding();
    let [Resource::Upload { set, .. }] = begun.as_slice() else {
        panic!("{begun:?}");
    };
    assert!(theirs.iter().all(|other| other.id != *set), "{set}");
}

#[tokio::test]
async fn a_backup_of_older_data_is_named_by_its_moment() {
    let state = tempfile::tempdir().unwrap();
    let mut run = Run::begin(state.path(), "backup").unwrap();
    let taken: Timestamp = "2026-01-31T02:00:00Z".parse().unwrap();
    let intent = |id| Intent {
        id,
        ..sample::intent()
    };
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    // It was archived before, and once more where the listing does not show it yet.
    let second = |seconds| BackupId::at(taken + SignedDuration::from_secs(seconds));
    for other in [second(0), second(1)] {
        crate::catalog::write_intent(&store, &intent(other))
            .await
            .unwrap();
    }
    store.add(Fault::Unlisted {
        ending: "020001/intent.json".into(),
    });
    let shared: SharedStore = Arc::new(store);
    begin_set(&mut run, &shared, Some(taken), intent)
        .await
        .unwrap();
    let begun = run.outstanding();
    assert!(
        matches!(begun.as_slice(), [Resource::Upload { set, .. }] if *set == second(2)),
        "{begun:?}"
    );
}
