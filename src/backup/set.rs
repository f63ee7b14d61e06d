//! The backup's set in the store: leases and a name before anything is written, the manifest when all of it is proven.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::contents::Contents;
use super::journal::{Entry, JournalError};
use super::lease::{self, Scope, Work};
use super::read_back::ReadBack;
use super::resource::Resource;
use super::run::Run;
use super::upload::{self, Upload, UploadError};
use super::window::Closed;
use super::{BackupError, Environment};
use crate::ids::BackupId;
use crate::manifest::{Intent, Manifest};
use crate::store::{SharedStore, Store};

/// Takes the leases and begins the set, which is named by the moment `of` which its data is; by now without it.
pub(crate) async fn begin(
    run: &mut Run,
    contents: &Contents,
    expected: Duration,
    of: Option<Timestamp>,
    env: &Environment,
) -> Result<(Vec<Entry>, Upload), BackupError> {
    // What is half written when we are killed can be told from what other hosts write there.
    let store = env.store.of_run(run.id());
    let store = store.unwrap_or_else(|| env.store.clone());
    take_leases(run, contents, expected, store.as_ref(), &env.cancel).await?;
    tracing::debug!("took the lease on {}", contents.deployment.id);
    let id = run.id();
    begin_set(run, &store, of, |set| contents.intent(id, set)).await
}

/// Proves what was uploaded and makes the set a backup.
pub(crate) async fn publish(
    run: &mut Run,
    contents: &Contents,
    closed: &Closed<()>,
    (uploading, upload): (&[Entry], Upload),
    env: &Environment,
) -> Result<Manifest, BackupError> {
    let read_back = ReadBack {
        wanted: env.config.store.read_back,
        progress: env.progress.as_ref(),
        cancel: &env.cancel,
    };
    let proven = upload.prove(&read_back).await?;
    for scope in contents.scopes() {
        lease::still_ours(env.store.as_ref(), &scope, run.id()).await?;
    }
    let manifest = proven
        .publish(|intent, archives, files| contents.manifest(intent, closed, archives, files))
        .await?;
    tracing::debug!("wrote the manifest of {}", manifest.id);
    // The backup is made. A journal that cannot say so is told of when the run ends.
    if let Err(error) = run.settled(uploading) {
        tracing::warn!(%error, "the journal does not know yet that the backup is complete");
    }
    Ok(manifest)
}

/// Takes the lease on each replica set of `contents`.
///
/// # Errors
/// [`BackupError`]: of the journal, or of the lease.
pub(crate) async fn take_leases(
    run: &mut Run,
    contents: &Contents,
    expected: Duration,
    store: &dyn Store,
    cancel: &CancellationToken,
) -> Result<(), BackupError> {
    for scope in contents.scopes() {
        plan_lease(run, &scope, store)?;
        lease::take_after_prune(store, &scope, (run.id(), Work::Backup), expected, cancel).await?;
    }
    Ok(())
}

/// Writes down that the lease on `scope` is going to be taken.
///
/// # Errors
/// [`JournalError`].
pub(crate) fn plan_lease(
    run: &mut Run,
    scope: &Scope,
    store: &dyn Store,
) -> Result<(), JournalError> {
    run.plan_one(Resource::Lease {
        store: store.url(),
        server: store.server(),
        scope: scope.clone(),
        run: run.id(),
    })?;
    Ok(())
}

/// Begins the set of the first second that no other host begins one in: those that back up other shards may begin at
/// the same time.
async fn begin_set(
    run: &mut Run,
    store: &SharedStore,
    mut of: Option<Timestamp>,
    intent: impl Fn(BackupId) -> Intent,
) -> Result<(Vec<Entry>, Upload), BackupError> {
    loop {
        let intent = intent(upload::free_name(store.as_ref(), of).await?);
        let uploading = run.plan_one(Resource::Upload {
            store: store.url(),
            server: store.server(),
            set: intent.id,
            run: run.id(),
        })?;
        match Upload::begin(store.clone(), intent).await {
            Err(UploadError::SetTaken { id }) => {
                tracing::debug!(%id, "another host has begun it");
                of = of.map(upload::next_second);
                run.settled(&uploading)?;
            }
            begun => return Ok((uploading, begun?)),
        }
    }
}

#[cfg(test)]
mod tests;
