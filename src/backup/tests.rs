use jiff::SignedDuration;

use super::*;
use crate::catalog::sample;
use crate::ids::BackupId;
use crate::store::fault::{Fault, FaultStore};
use crate::store::memory::MemoryStore;

#[tokio::test]
async fn hosts_that_begin_in_one_second_make_different_sets() {
    let state = tempfile::tempdir().unwrap();
    let mut run = Run::begin(state.path(), "backup").unwrap();
    let store = FaultStore::new(Arc::new(MemoryStore::new()));
    let intent = |started| Intent {
        started,
        id: BackupId::at(started),
        ..sample::intent()
    };
    // Another host began in this second, and one in the next, while ours was looking.
    let now = Timestamp::now();
    let theirs: Vec<_> = (0..3)
        .map(|second| intent(now + SignedDuration::from_secs(second)))
        .collect();
    for other in &theirs {
        crate::catalog::write_intent(&store, other).await.unwrap();
    }
    store.add(Fault::Unlisted {
        ending: "intent.json".into(),
    });
    let shared: SharedStore = Arc::new(store);
    let (entries, _upload) = begin_set(&mut run, &shared, intent).await.unwrap();
    assert_eq!(run.outstanding().len(), entries.len());
    let begun = run.outstanding();
    let [Resource::Upload { set, .. }] = begun.as_slice() else {
        panic!("{begun:?}");
    };
    assert!(theirs.iter().all(|other| other.id != *set), "{set}");
}
