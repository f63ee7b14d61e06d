//! The lease: two hosts must not write backups of one deployment at the same time.
//!
//! It needs nothing of a store but that an object is created once: `lease-<deployment>/<number>.json`. The highest number
//! counts. Who finds it ended (released, or past its time) creates the next one; of two who try, one succeeds. Nothing is
//! overwritten, and where nothing may be deleted a marker beside it says that it is released.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::{Exit, Explain};
use crate::host;
use crate::ids::{DeploymentId, RunId};
use crate::store::{Store, StoreError};

/// The least time after which a lease that nobody released counts no more: longer than backups take, and far longer
/// than clocks differ.
const LEAST_TIME: Duration = Duration::from_secs(24 * 3600);
/// A lease document is small; anything larger is none.
const LARGEST: u64 = 64 << 10;

/// What a lease says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    run: RunId,
    host: String,
    taken: Timestamp,
    ends: Timestamp,
}

/// Who has a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The host.
    pub host: String,
    /// The run.
    pub run: RunId,
    /// When it began.
    pub since: Timestamp,
    /// When the lease counts no more.
    pub ends: Timestamp,
    /// The object that says so.
    pub key: String,
}

impl Holder {
    fn of(lease: Lease, key: String) -> Self {
        Self {
            host: lease.host,
            run: lease.run,
            since: lease.taken,
            ends: lease.ends,
            key,
        }
    }

    /// What somebody can do who wants it, too.
    pub fn todo(&self) -> String {
        let Self { host, key, .. } = self;
        format!(
            "wait until it has ended; if it died, run `freezeframe recover` on {host}; if that host is gone for good, \
             delete {key} from the store"
        )
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            host,
            run,
            since,
            ends,
            ..
        } = self;
        write!(
            f,
            "{host} is writing a backup of this deployment (run {run}, since {since:.0}, lease until {ends:.0})"
        )
    }
}

/// Why there is no lease.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// Another host is at work.
    #[error("{store}: {holder}")]
    Held {
        /// The store.
        store: String,
        /// Who is.
        holder: Holder,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Explain for LeaseError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Held { holder, .. } => Some(holder.todo()),
            Self::Store(error) => error.hint(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Held { .. } => Exit::Refused,
            Self::Store(error) => error.exit(),
        }
    }
}

fn folder(deployment: &DeploymentId) -> String {
    format!("lease-{deployment}/")
}

/// Numbers are padded, so that listings are in their order.
fn key(deployment: &DeploymentId, number: u64) -> String {
    format!("{}{number:08}.json", folder(deployment))
}

/// The marker that a lease is released.
fn released(lease: &str) -> String {
    format!("{lease}.released")
}

/// The numbers of the leases among `keys`.
fn numbers(deployment: &DeploymentId, keys: &[String]) -> Vec<u64> {
    let folder = folder(deployment);
    let number = |key: &String| {
        key.strip_prefix(&folder)?
            .strip_suffix(".json")?
            .parse()
            .ok()
    };
    keys.iter().filter_map(number).collect()
}

/// Who has the lease on `deployment`, if anybody has.
///
/// # Errors
/// [`StoreError`].
pub async fn holder(
    store: &dyn Store,
    deployment: &DeploymentId,
) -> Result<Option<Holder>, StoreError> {
    let keys = keys(store, deployment).await?;
    let Some(last) = numbers(deployment, &keys).into_iter().max() else {
        return Ok(None);
    };
    let last = key(deployment, last);
    if keys.contains(&released(&last)) {
        return Ok(None);
    }
    let lease = read(store, &last).await?;
    Ok(lease
        .filter(|lease| lease.ends > Timestamp::now())
        .map(|lease| Holder::of(lease, last)))
}

/// Takes the lease on `deployment` for `run`, whose backup is expected to take `expected`.
///
/// # Errors
/// [`LeaseError::Held`] while another run has it.
pub async fn take(
    store: &dyn Store,
    deployment: &DeploymentId,
    run: RunId,
    expected: Duration,
) -> Result<(), LeaseError> {
    // The number first: what is taken between both looks keeps us from creating the next one.
    let last = highest(store, deployment).await?;
    if let Some(holder) = holder(store, deployment).await? {
        return Err(held(store, holder));
    }
    let taken = Timestamp::now();
    let time = LEAST_TIME.max(expected.saturating_mul(4));
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    let lease = Lease {
        run,
        host: host::name(),
        taken,
        ends: taken.saturating_add(time).unwrap_or(Timestamp::MAX),
    };
    let number = last.unwrap_or(0).saturating_add(1);
    let ours = key(deployment, number);
    let document = serde_json::to_vec(&lease).unwrap_or_default();
    match store.put(&ours, &document).await {
        Ok(_) => {}
        Err(error @ StoreError::Exists { .. }) => {
            // Between our look and our try.
            return Err(match read(store, &ours).await? {
                Some(lease) => held(store, Holder::of(lease, ours)),
                None => error.into(),
            });
        }
        Err(error) => return Err(error.into()),
    }
    if !store.creates_once(&ours, &document).await? {
        tracing::warn!(
            store = store.url(),
            "the server ignores If-None-Match: it cannot keep two hosts from writing one deployment at the same time; see to that \
             yourself"
        );
        // Of two who wrote over each other the last one has it.
        if let Some(lease) = read(store, &ours).await?
            && lease.run != run
        {
            return Err(held(store, Holder::of(lease, ours)));
        }
    }
    // Somebody who cleaned up meanwhile may have let us take a number that others are past.
    match highest(store, deployment).await? {
        Some(highest) if highest > number => {
            let highest = key(deployment, highest);
            give_back(store, deployment, run).await?;
            match read(store, &highest).await? {
                Some(lease) => Err(held(store, Holder::of(lease, highest))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Gives back every lease of `run`; well done also where there is none.
///
/// # Errors
/// [`StoreError`].
pub async fn give_back(
    store: &dyn Store,
    deployment: &DeploymentId,
    run: RunId,
) -> Result<(), StoreError> {
    let keys = keys(store, deployment).await?;
    let mut leases = numbers(deployment, &keys);
    leases.sort_unstable();
    for number in leases {
        let lease = key(deployment, number);
        if read(store, &lease)
            .await?
            .is_none_or(|lease| lease.run != run)
        {
            continue;
        }
        if !keys.contains(&released(&lease)) {
            store.put(&released(&lease), b"").await?;
        }
        // The marker says enough where nothing may be deleted.
        let removed = match store.delete(&lease).await {
            Ok(()) => store.delete(&released(&lease)).await,
            kept => kept,
        };
        if let Err(error) = removed {
            tracing::debug!(%error, "a released lease stays");
        }
    }
    Ok(())
}

fn held(store: &dyn Store, holder: Holder) -> LeaseError {
    LeaseError::Held {
        store: store.url(),
        holder,
    }
}

async fn highest(store: &dyn Store, deployment: &DeploymentId) -> Result<Option<u64>, StoreError> {
    let keys = keys(store, deployment).await?;
    Ok(numbers(deployment, &keys).into_iter().max())
}

async fn keys(store: &dyn Store, deployment: &DeploymentId) -> Result<Vec<String>, StoreError> {
    let listed = store.list(&folder(deployment)).await?;
    Ok(listed.into_iter().map(|object| object.key).collect())
}

/// The lease under `key`; none where it is gone, or nobody can tell what it says.
async fn read(store: &dyn Store, key: &str) -> Result<Option<Lease>, StoreError> {
    let reading = async {
        let size = store.size(key).await?;
        store.read(key, 0..size.min(LARGEST)).await
    };
    match reading.await {
        Ok(document) => Ok(serde_json::from_slice(&document).ok()),
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::sync::Arc;

    use super::*;
    use crate::store::fault::{Call, FaultStore};
    use crate::store::memory::MemoryStore;

    const HOUR: Duration = Duration::from_secs(3600);

    fn deployment() -> DeploymentId {
        "0123456789abcdef01234567".parse().unwrap()
    }

    fn run(number: u8) -> RunId {
        format!("0000000{number}").parse().unwrap()
    }

    async fn try_take(store: &dyn Store, number: u8) -> Result<(), LeaseError> {
        take(store, &deployment(), run(number), HOUR).await
    }

    #[tokio::test]
    async fn one_run_has_it_until_it_gives_it_back() {
        let store = MemoryStore::new();
        try_take(&store, 1).await.unwrap();
        let error = try_take(&store, 2).await.unwrap_err();
        let holder = holder(&store, &deployment()).await.unwrap().unwrap();
        assert!(error.to_string().contains(&holder.to_string()), "{error}");
        assert_eq!((holder.run, holder.host), (run(1), host::name()));
        assert!(holder.ends.duration_since(holder.since) >= SignedDuration::from_hours(24));
        assert_eq!(error.exit(), Exit::Refused);
        assert!(
            error
                .hint()
                .unwrap()
                .contains("lease-0123456789abcdef01234567/00000001.json")
        );
        // Another deployment is another matter, and another's lease is not given back.
        let other = "89abcdef0123456701234567".parse().unwrap();
        take(&store, &other, run(2), HOUR).await.unwrap();
        give_back(&store, &deployment(), run(2)).await.unwrap();
        assert!(try_take(&store, 2).await.is_err());
        give_back(&store, &deployment(), run(1)).await.unwrap();
        try_take(&store, 2).await.unwrap();
        give_back(&store, &deployment(), run(2)).await.unwrap();
        assert!(store.list(&folder(&deployment())).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn where_nothing_may_be_deleted_a_marker_does() {
        let store = FaultStore::new(Arc::new(MemoryStore::new()));
        for number in 1..=5 {
            try_take(&store, number).await.unwrap();
            assert!(try_take(&store, 9).await.is_err());
            store.fail(Call::Delete, 1, ErrorKind::PermissionDenied);
            give_back(&store, &deployment(), run(number)).await.unwrap();
        }
        assert_eq!(store.list(&folder(&deployment())).await.unwrap().len(), 10);
    }

    #[tokio::test]
    async fn one_past_its_time_counts_no_more() {
        let store = MemoryStore::new();
        let old = Lease {
            run: run(1),
            host: "gone".into(),
            taken: "2026-01-01T00:00:00Z".parse().unwrap(),
            ends: "2026-01-02T00:00:00Z".parse().unwrap(),
        };
        let document = serde_json::to_vec(&old).unwrap();
        store.put(&key(&deployment(), 7), &document).await.unwrap();
        assert_eq!(holder(&store, &deployment()).await.unwrap(), None);
        try_take(&store, 2).await.unwrap();
        assert!(store.size(&key(&deployment(), 8)).await.is_ok());
    }

    #[tokio::test]
    async fn of_many_that_try_at_once_one_has_it() {
        for _ in 0..50 {
            let store: crate::store::SharedStore = Arc::new(MemoryStore::new());
            let trying = (1..=8).map(|number| {
                let store = store.clone();
                tokio::spawn(async move { try_take(store.as_ref(), number).await.is_ok() })
            });
            let taken = futures_util::future::join_all(trying).await;
            assert_eq!(
                taken
                    .into_iter()
                    .filter(|taken| *taken.as_ref().unwrap())
                    .count(),
                1
            );
        }
    }
}
