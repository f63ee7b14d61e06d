//! Reading a backup that must not be pruned meanwhile: a mark in the set says that somebody is at it.
//!
//! A mark ends by itself, so a reader that nobody recovers keeps nothing for ever; one that goes on makes the next in time. Where the store cannot be
//! written, with credentials that may only read, the work goes on without one, and that is said.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::backup::release::Tools;
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::catalog::reader::{Reader, readers};
use crate::catalog::{CatalogError, key};
use crate::host;
use crate::ids::{BackupId, RunId};
use crate::manifest::MANIFEST;
use crate::store::{SharedStore, Store, StoreError};

/// How long a mark counts: far longer than clocks differ.
const COUNTS: SignedDuration = SignedDuration::from_hours(24);
/// How often a new one is made.
const RENEWED: Duration = Duration::from_secs(6 * 3600);
/// When it is tried again where that failed.
const TRIED_AGAIN: Duration = Duration::from_secs(10 * 60);

/// What is read, and by whom.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// The store.
    pub store: &'a SharedStore,
    /// The backup.
    pub id: BackupId,
    /// What is done with it, such as "restore"; for people.
    pub verb: &'static str,
    /// Where the run journals of this host are.
    pub state_dir: &'a Path,
    /// How a mark is given back.
    pub tools: &'a Tools,
}

/// What a mark says to people; what counts is its name.
#[derive(Debug, Serialize)]
struct Said<'a> {
    host: String,
    verb: &'a str,
    since: Timestamp,
}

/// Does `work` while a mark keeps the backup from being pruned.
///
/// # Errors
/// [`CatalogError::NoSuchSet`] where it was pruned before the mark was made; then `work` is not begun.
pub async fn while_marked<T>(
    reading: Reading<'_>,
    work: impl Future<Output = T>,
) -> Result<T, CatalogError> {
    // Who cannot write a journal may read all the same: its mark ends by itself.
    let mut run = match Run::begin(reading.state_dir, reading.verb) {
        Ok(run) => Some(run),
        Err(error) => {
            tracing::debug!(%error, "a mark that stays would be known to nobody");
            None
        }
    };
    let id = run.as_ref().map_or_else(RunId::random, Run::id);
    let planned = run.as_mut().map(|run| {
        run.plan_one(Resource::Reading {
            store: reading.store.url(),
            server: reading.store.server(),
            set: reading.id,
            run: id,
        })
    });
    if let Some(Err(error)) = planned {
        tracing::debug!(%error, "a mark that stays would be known to nobody");
    }
    let marked = reading.mark(id).await;
    if let Err(error) = &marked {
        tracing::warn!(%error, "nothing keeps the backup from being pruned while it is read");
    }
    let done = match reading.is_there().await {
        true => Ok(reading.renewing(id, work, next(&marked)).await),
        false => Err(CatalogError::NoSuchSet {
            store: reading.store.url(),
            id: reading.id,
        }),
    };
    let left = match run {
        Some(run) => run.finish(reading.tools).await.map_or_else(
            |error| Some(error.to_string()),
            |left| left.first().map(|left| left.error.to_string()),
        ),
        None => {
            let given_back = give_back(reading.store.as_ref(), reading.id, id).await;
            given_back.err().map(|error| error.to_string())
        }
    };
    if let Some(error) = left {
        tracing::warn!(%error, "the mark that keeps the backup from being pruned stays until it ends by itself, after a day");
    }
    done
}

impl Reading<'_> {
    async fn mark(&self, run: RunId) -> Result<(), StoreError> {
        let now = Timestamp::now();
        let until = now.saturating_add(COUNTS).unwrap_or(Timestamp::MAX);
        let said = Said {
            host: host::name(),
            verb: self.verb,
            since: now,
        };
        // It says all that counts by being there.
        let said = serde_json::to_vec(&said).unwrap_or_default();
        let mark = key(self.id, &Reader::new(run, until).object());
        let store = self.store.of_run(run);
        let store = store.as_ref().unwrap_or(self.store);
        store.put(&mark, &said).await.map(drop)
    }

    /// Whether the backup was not pruned before the mark was made. Whatever else is wrong the work finds out.
    async fn is_there(&self) -> bool {
        let size = self.store.size(&key(self.id, MANIFEST)).await;
        !matches!(size, Err(StoreError::NotFound { .. }))
    }

    /// Does `work`, and beside it, so that it waits for nothing, makes the next mark after `pause`.
    async fn renewing<T>(&self, run: RunId, work: impl Future<Output = T>, pause: Duration) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.mark_again(run, pause) => match never {},
        }
    }

    async fn mark_again(&self, run: RunId, mut pause: Duration) -> Infallible {
        loop {
            tokio::time::sleep(pause).await;
            let marked = self.mark(run).await;
            if let Err(error) = &marked {
                tracing::warn!(%error, "nothing new keeps the backup from being pruned while it is read");
            }
            pause = next(&marked);
        }
    }
}

/// When the next mark is made. Who may not write is not going to be allowed to.
fn next(marked: &Result<(), StoreError>) -> Duration {
    match marked {
        Err(error) if !error.is_denial() => TRIED_AGAIN,
        _ => RENEWED,
    }
}

/// Removes the marks of `run` on the backup `id`; well done also where there are none. One that may not be removed ends by itself.
///
/// # Errors
/// [`StoreError`].
pub async fn give_back(store: &dyn Store, id: BackupId, run: RunId) -> Result<(), StoreError> {
    let listed = store.list(&key(id, "")).await?;
    let ours = readers(id, &listed)
        .into_iter()
        .filter(|mark| mark.run == run);
    for mark in ours {
        match store.delete(&key(id, &mark.object())).await {
            Err(error) if error.is_denial() => {
                tracing::debug!(%error, "a reader's mark stays until it ends");
            }
            deleted => deleted?,
        }
    }
    crate::store::releasing::discard_of_run(store, &key(id, ""), run).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{list, sample};
    use crate::retention::Backup;
    use crate::store::fault::{Call, FaultStore};
    use std::io::ErrorKind;
    use std::sync::Arc;

    struct Place {
        home: tempfile::TempDir,
        store: SharedStore,
        tools: Tools,
    }

    impl Place {
        async fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let folder = home.path().join("store");
            std::fs::create_dir(&folder).unwrap();
            let url = folder.to_str().unwrap();
            let store = crate::store::open(url, &Default::default(), &Default::default()).unwrap();
            sample::write(&store).await;
            Self {
                home,
                store,
                tools: Tools::for_tests(),
            }
        }

        fn reading<'a>(&'a self, state_dir: &'a Path) -> Reading<'a> {
            Reading {
                store: &self.store,
                id: sample::id(),
                verb: "restore",
                state_dir,
                tools: &self.tools,
            }
        }

        async fn is_read(&self) -> bool {
            let sets = list(self.store.as_ref()).await.unwrap();
            Backup::of(&sets[0], Timestamp::now()).read
        }
    }

    #[tokio::test]
    async fn a_backup_is_marked_while_it_is_read_and_not_afterwards() {
        let place = Place::new().await;
        let state = place.home.path().join("state");
        // Where no journal can be written it is the same.
        let nowhere = place
            .home
            .path()
            .join("store")
            .join(sample::ID)
            .join("rs0.tar.xz");
        for state in [&state, &nowhere] {
            assert!(!place.is_read().await);
            let seen = while_marked(place.reading(state), place.is_read()).await;
            assert!(seen.unwrap(), "{state:?}");
            assert!(!place.is_read().await);
            let objects = place.store.list("").await.unwrap();
            assert!(!objects.iter().any(|one| one.key.contains("reading-")));
        }
        assert_eq!(std::fs::read_dir(state.join("runs")).unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_mark_that_failed_is_made_later_and_the_work_waits_for_none() {
        let place = Place::new().await;
        let state = place.home.path().join("state");
        let faulty = FaultStore::new(place.store.clone());
        faulty.fail(Call::Put, 1, ErrorKind::TimedOut);
        let store: SharedStore = Arc::new(faulty);
        let reading = Reading {
            store: &store,
            ..place.reading(&state)
        };
        let seen = while_marked(reading, async {
            let before = place.is_read().await;
            tokio::time::sleep(2 * TRIED_AGAIN).await;
            (before, place.is_read().await)
        });
        assert_eq!(seen.await.unwrap(), (false, true));
        assert!(!place.is_read().await);
    }

    #[tokio::test]
    async fn what_a_killed_reader_leaves_is_recovered() {
        let place = Place::new().await;
        let state = place.home.path().join("state");
        let dying = async {
            let never = while_marked(place.reading(&state), std::future::pending::<()>());
            tokio::select! {
                biased;
                _ = never => {}
                () = async {
                    while !place.is_read().await {
                        tokio::task::yield_now().await;
                    }
                } => {}
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(60), dying).await;
        seen.unwrap();
        assert!(place.is_read().await);
        let recovered = crate::recover::recover(&state, None, &place.tools)
            .await
            .unwrap();
        assert_eq!(recovered.len(), 1);
        assert!(recovered[0].failed.is_empty(), "{recovered:?}");
        assert!(!place.is_read().await);
    }

    #[tokio::test]
    async fn what_was_pruned_before_the_mark_is_not_read() {
        let place = Place::new().await;
        let state = place.home.path().join("state");
        let manifest = key(sample::id(), MANIFEST);
        place.store.delete(&manifest).await.unwrap();
        let read = while_marked(place.reading(&state), async {
            panic!("it is read");
        })
        .await;
        assert!(matches!(read, Err(CatalogError::NoSuchSet { .. })));
        let objects = place.store.list("").await.unwrap();
        assert!(!objects.iter().any(|one| one.key.contains("reading-")));
    }
}
