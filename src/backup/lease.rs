//! The lease: two hosts must not write backups of one replica set at the same time.
//!
//! It needs nothing of a store but that an object is created once: `lease-<deployment>/<replica set>/<number>.json`. The
//! highest number counts. Who finds it ended (released by the marker beside it, or past its time) creates the next one; of two
//! who try, one succeeds. Nothing is overwritten, and nothing has to be deleted.
//!
//! Numbers only grow: the highest one is never removed, so whoever took his number from an old listing, and got a number
//! that was in use before, finds a higher one when he looks again, and does not have the lease.

mod error;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::host;
use crate::ids::{DeploymentId, RunId, ShardName};
use crate::store::releasing::discard_of_run;
use crate::store::{Store, StoreError};
pub use error::LeaseError;

/// With what the names of all leases begin.
pub const PREFIX: &str = "lease-";

/// The least time after which a lease that nobody released counts no more: longer than backups take, and far longer
/// than clocks differ.
const LEAST_TIME: Duration = Duration::from_secs(24 * 3600);
/// The same of a lease under which a backup is copied.
const LEAST_TIME_OF_COPIES: Duration = Duration::from_secs(3600);
/// How long a backup waits for a prune, which ends soon; one whose host died counts for an hour.
const PRUNE_IS_WAITED_FOR: Duration = Duration::from_secs(20 * 60);
/// How often it looks whether the prune has ended.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A lease document is small; anything larger is none.
const LARGEST: u64 = 64 << 10;
/// The version of the document that is written, and the highest that is read.
const FORMAT: u32 = 1;
/// How often the lease is tried for where others are faster every time, though nobody has it.
const TRIES: u32 = 20;
/// What follows a lease's key in that of its marker.
const RELEASED: &str = ".released";

/// What a lease is on: one replica set of one deployment. Hosts may back different shards of a cluster up to one store at
/// the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The replica set.
    pub shard: ShardName,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {}", self.shard, self.deployment)
    }
}

impl Scope {
    fn folder(&self) -> String {
        format!("{PREFIX}{}/{}/", self.deployment, self.shard.file_stem())
    }

    /// Numbers are padded, so that listings are in their order.
    fn key(&self, number: u64) -> String {
        format!("{}{number:08}.json", self.folder())
    }

    /// The number that `key` belongs to, be it a lease or its marker.
    fn number(&self, key: &str) -> Option<u64> {
        let name = key.strip_prefix(&self.folder())?;
        let digits = name
            .strip_suffix(RELEASED)
            .unwrap_or(name)
            .strip_suffix(".json")?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain)
    }
}

/// What a lease is taken for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// To write a backup.
    #[default]
    Backup,
    /// To prune backups.
    Prune,
    /// To copy backups there from another store.
    Copy,
    /// What a newer program does with it.
    #[serde(other)]
    Other,
}

impl Work {
    fn is_backup(&self) -> bool {
        *self == Self::Backup
    }
}

/// What a lease says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    format: u32,
    run: RunId,
    host: String,
    taken: Timestamp,
    ends: Timestamp,
    #[serde(default, skip_serializing_if = "Work::is_backup")]
    work: Work,
}

/// Who has a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The host.
    pub host: String,
    /// The run.
    pub run: RunId,
    /// What it is on.
    pub shard: ShardName,
    /// What it is for.
    pub work: Work,
    /// When it began.
    pub since: Timestamp,
    /// When the lease counts no more.
    pub ends: Timestamp,
    /// The object that says so.
    pub key: String,
}

impl Holder {
    /// What somebody can do who wants it, too.
    pub fn todo(&self) -> String {
        format!("wait until it has ended; {}", self.if_it_died())
    }

    /// What somebody can do who knows that it is not at work any more.
    pub fn if_it_died(&self) -> String {
        let Self { host, key, .. } = self;
        format!(
            "if it died, run `freezeframe recover` on {host}; if that finds nothing, or the host is gone for good, \
             delete {key} from the store, or put an empty object {key}{RELEASED} beside it"
        )
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            host,
            run,
            shard,
            since,
            ends,
            work,
            ..
        } = self;
        let does = match work {
            Work::Backup => "is writing a backup of",
            Work::Prune => "is pruning backups of",
            Work::Copy => "is copying backups of",
            Work::Other => "is at work on the backups of",
        };
        write!(
            f,
            "{host} {does} {shard} (run {run}, since {since:.0}, lease until {ends:.0})"
        )
    }
}

/// Who has the lease on `scope`, if anybody has.
///
/// # Errors
/// [`LeaseError::Unreadable`] where somebody has and cannot be told; [`LeaseError::Store`].
pub async fn holder(store: &dyn Store, scope: &Scope) -> Result<Option<Holder>, LeaseError> {
    match numbers(store, scope).await?.pop_last() {
        Some((number, keys)) => holder_of(store, scope, number, &keys).await,
        None => Ok(None),
    }
}

/// Takes the lease on `scope` for `run`, whose backup is expected to take `expected`.
///
/// # Errors
/// [`LeaseError::Held`] while another run has it.
pub async fn take(
    store: &dyn Store,
    scope: &Scope,
    run: RunId,
    expected: Duration,
) -> Result<(), LeaseError> {
    take_for(store, scope, run, expected, Work::Backup).await
}

/// As [`take_for`], but waits for a prune that is at work: a backup that is refused is one that lacks.
///
/// # Errors
/// As [`take`]; [`StoreError::Interrupted`] once `cancel` is cancelled.
pub async fn take_after_prune(
    store: &dyn Store,
    scope: &Scope,
    (run, work): (RunId, Work),
    expected: Duration,
    cancel: &CancellationToken,
) -> Result<(), LeaseError> {
    let began = Instant::now();
    let mut told = false;
    loop {
        match take_for(store, scope, run, expected, work).await {
            Err(LeaseError::Held { holder, .. })
                if holder.work == Work::Prune && began.elapsed() < PRUNE_IS_WAITED_FOR =>
            {
                if !told {
                    tracing::info!("waiting until it has ended: {holder}");
                }
                told = true;
            }
            taken => return taken,
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => return Err(StoreError::Interrupted { store: store.url() }.into()),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// As [`take`], for other work as well.
///
/// # Errors
/// As [`take`].
pub async fn take_for(
    store: &dyn Store,
    scope: &Scope,
    run: RunId,
    expected: Duration,
    work: Work,
) -> Result<(), LeaseError> {
    for _ in 0..TRIES {
        let last = numbers(store, scope).await?.pop_last();
        if let Some((number, keys)) = &last
            && let Some(holder) = holder_of(store, scope, *number, keys).await?
        {
            let store = store.url();
            return Err(LeaseError::Held { store, holder });
        }
        let number = last.map_or(0, |(number, _)| number).saturating_add(1);
        let ours = scope.key(number);
        let document = serde_json::to_vec(&lease(run, expected, work))?;
        match store.put(&ours, &document).await {
            Ok(_) => {}
            // Somebody came between our look and our try: the next look tells who.
            Err(StoreError::Exists { .. }) => continue,
            Err(error) => return Err(error.into()),
        }
        if !store.creates_once(&ours, &document).await? {
            tracing::warn!(
                store = store.url(),
                "the server ignores If-None-Match: it cannot keep two hosts from writing one deployment at the same time; see to that \
                 yourself"
            );
            // Of two who wrote over each other the last one has it.
            if read(store, &ours).await?.run != run {
                continue;
            }
        }
        // Our look may have been so old that others are past this number, or have used it before. Then it counts for
        // nothing, and all begins anew.
        let highest = numbers(store, scope).await?.pop_last();
        if highest.is_some_and(|(highest, keys)| highest == number && !is_released(&keys)) {
            return Ok(());
        }
    }
    Err(LeaseError::Contended {
        store: store.url(),
        scope: scope.clone(),
    })
}

/// Sees to it that `run` still has the lease on `scope`. It may have ended meanwhile, as long as nobody else has taken one.
///
/// # Errors
/// [`LeaseError::Lost`].
pub async fn still_ours(store: &dyn Store, scope: &Scope, run: RunId) -> Result<(), LeaseError> {
    let lost = || LeaseError::Lost {
        store: store.url(),
        scope: scope.clone(),
    };
    let (number, keys) = numbers(store, scope).await?.pop_last().ok_or_else(lost)?;
    if is_released(&keys) {
        return Err(lost());
    }
    match read(store, &scope.key(number)).await {
        Ok(lease) if lease.run == run => Ok(()),
        Ok(_) | Err(LeaseError::Store(StoreError::NotFound { .. })) => Err(lost()),
        Err(error) => Err(error),
    }
}

/// Gives back the lease of `run`, and what it left half written of one; well done also where there is neither.
///
/// # Errors
/// [`StoreError`].
pub async fn give_back(store: &dyn Store, scope: &Scope, run: RunId) -> Result<(), StoreError> {
    let released = mark_released(store, scope, run).await;
    // Others wait for the lease, and nobody for this.
    released.and(discard_of_run(store, &scope.folder(), run).await)
}

async fn mark_released(store: &dyn Store, scope: &Scope, run: RunId) -> Result<(), StoreError> {
    let mut numbers = numbers(store, scope).await?;
    // One that is not the highest counts for nothing any more.
    let Some((number, keys)) = numbers.pop_last() else {
        return Ok(());
    };
    let lease = scope.key(number);
    let ours = match read(store, &lease).await {
        Ok(lease) => lease.run == run,
        Err(LeaseError::Store(StoreError::NotFound { .. })) => false,
        Err(LeaseError::Store(error)) => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "not known to be ours, and left alone");
            false
        }
    };
    if !ours {
        return Ok(());
    }
    if !is_released(&keys) {
        match store.put(&format!("{lease}{RELEASED}"), b"").await {
            // Somebody recovered this run beside us, or for us.
            Ok(_) | Err(StoreError::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    // The one before stays, too: a listing of a folder is not made in one moment, and one that misses what
    // is removed meanwhile must not come out empty.
    numbers.pop_last();
    for old in numbers.into_values().flatten() {
        if let Err(error) = store.delete(&old).await {
            tracing::debug!(%error, "old leases stay, which do no harm");
            break;
        }
    }
    Ok(())
}

fn lease(run: RunId, expected: Duration, work: Work) -> Lease {
    let taken = Timestamp::now();
    let time = match work {
        // Who takes it after that takes nothing from who is still at work: a prune looks before every backup that goes, a copy before every object.
        Work::Prune => expected,
        Work::Copy => expected.max(LEAST_TIME_OF_COPIES),
        Work::Backup | Work::Other => LEAST_TIME.max(expected.saturating_mul(4)),
    };
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    Lease {
        format: FORMAT,
        run,
        host: host::name(),
        taken,
        ends: taken.saturating_add(time).unwrap_or(Timestamp::MAX),
        work,
    }
}

/// Who has the lease `number`, whose objects are `keys`; none where nobody has.
async fn holder_of(
    store: &dyn Store,
    scope: &Scope,
    number: u64,
    keys: &[String],
) -> Result<Option<Holder>, LeaseError> {
    if is_released(keys) {
        return Ok(None);
    }
    let key = scope.key(number);
    match read(store, &key).await {
        Ok(lease) if lease.ends > Timestamp::now() => Ok(Some(Holder {
            host: lease.host,
            run: lease.run,
            shard: scope.shard.clone(),
            work: lease.work,
            since: lease.taken,
            ends: lease.ends,
            key,
        })),
        Ok(_) => Ok(None),
        // An operator removed it, as he was told; or others are far past it, which the look after our try finds.
        Err(LeaseError::Store(StoreError::NotFound { .. })) => Ok(None),
        // One that cannot be read among them: who cannot be told to be gone may be at work.
        Err(error) => Err(error),
    }
}

/// The objects of each number.
async fn numbers(
    store: &dyn Store,
    scope: &Scope,
) -> Result<BTreeMap<u64, Vec<String>>, StoreError> {
    let mut numbers: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for object in store.list(&scope.folder()).await? {
        if let Some(number) = scope.number(&object.key) {
            numbers.entry(number).or_default().push(object.key);
        }
    }
    Ok(numbers)
}

fn is_released(keys: &[String]) -> bool {
    keys.iter().any(|key| key.ends_with(RELEASED))
}

/// The lease under `key`.
async fn read(store: &dyn Store, key: &str) -> Result<Lease, LeaseError> {
    match read_once(store, key).await {
        // Its size and its content may be two objects': a host far behind writes a number anew that others have given back.
        Err(LeaseError::Unreadable { .. } | LeaseError::Store(StoreError::Truncated { .. })) => {
            read_once(store, key).await
        }
        read => read,
    }
}

async fn read_once(store: &dyn Store, key: &str) -> Result<Lease, LeaseError> {
    let unreadable = |reason: String| LeaseError::Unreadable {
        store: store.url(),
        key: key.to_owned(),
        reason,
    };
    let size = store.size(key).await?;
    if size > LARGEST {
        return Err(unreadable(format!("it has {size} bytes")));
    }
    let document = store.read(key, 0..size).await?;
    let value: serde_json::Value =
        serde_json::from_slice(&document).map_err(|error| unreadable(error.to_string()))?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format > u64::from(FORMAT) => Err(unreadable(format!(
            "its format is {format}, and this version knows {FORMAT}"
        ))),
        _ => serde_json::from_value(value).map_err(|error| unreadable(error.to_string())),
    }
}

#[cfg(test)]
mod tests;
