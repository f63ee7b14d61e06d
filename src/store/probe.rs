//! What `probe` leaves when it is killed: named by the time, so that a later one can remove it.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::{Store, StoreError};

/// What every probe's key begins with.
const PREFIX: &str = "freezeframe-probe-";
/// Names sort as their times do.
const FORMAT: &str = "%Y%m%d%H%M%S";
/// After this time its maker is dead, far beyond what clocks differ.
const OLD: SignedDuration = SignedDuration::from_hours(24);

/// A key that no other probe has.
pub(super) fn name(now: Timestamp) -> String {
    let id = uuid::Uuid::new_v4().simple();
    format!("{PREFIX}{}-{id}", time(now))
}

fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime(FORMAT).to_string()
}

/// Removes what probes left that were killed more than a day before `now`. Another host's may be at work.
pub(super) async fn sweep<S: Store + ?Sized>(store: &S, now: Timestamp) -> Result<(), StoreError> {
    let limit = time(now.saturating_sub(OLD).unwrap_or(Timestamp::MIN));
    let is_old = |name: &str| {
        let rest = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('-'));
        rest.is_some_and(|(time, _)| time.len() == limit.len() && time < limit.as_str())
    };
    let mut left = Vec::new();
    for object in store.list(PREFIX).await? {
        if is_old(&object.key) {
            left.push(store.delete(&object.key).await);
        }
    }
    for unfinished in store.unfinished(PREFIX).await? {
        if is_old(&unfinished) {
            left.push(store.discard_unfinished(&unfinished).await);
        }
    }
    // It costs next to nothing, and is no reason to make no backup.
    for error in left.into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "what a killed check left stays in the store");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn only_old_probes_are_swept() {
        let store = MemoryStore::new();
        let now = Timestamp::now();
        let old = now - SignedDuration::from_hours(25);
        let kept = [
            format!("{}/object", name(now - SignedDuration::from_hours(23))),
            format!("{PREFIX}0-x"),
            format!("{PREFIX}notes"),
            format!("mongo_backup-20260131_020000/{}", name(old)),
        ];
        for key in &kept {
            store.put(key, b"x").await.unwrap();
        }
        store
            .put(&format!("{}/object", name(old)), b"x")
            .await
            .unwrap();
        let _open = store.create(&name(old), None).await.unwrap();
        let _young = store.create(&name(now), None).await.unwrap();
        store.probe().await.unwrap();
        let listed = store.list("").await.unwrap();
        let mut keys: Vec<_> = listed.into_iter().map(|object| object.key).collect();
        keys.sort();
        let mut kept = kept.to_vec();
        kept.sort();
        assert_eq!(keys, kept);
        assert_eq!(store.unfinished("").await.unwrap().len(), 1);
    }
}
