//! A backup, from the first look to the manifest.
//!
//! Each step is a module of its name: [`preflight`], [`window`], [`picture`], [`upload`]. What is acquired on the way is
//! in the run's [`journal`] before it is acquired, and [`release`] gives it back in every outcome.

pub mod boundary;
pub mod contents;
pub mod error;
pub mod from_volumes;
pub mod guard;
pub mod journal;
pub mod lease;
pub mod picture;
pub mod plan;
pub mod preflight;
pub mod read_back;
pub mod release;
pub mod resource;
pub mod run;
mod safekeeping;
pub mod timeline;
pub mod upload;
pub mod volumes;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::catalog::Recorded;
use crate::config::Config;
use crate::hooks;
use crate::human;
use crate::ids::BackupId;
use crate::manifest::{Intent, Manifest};
use crate::progress::{Meter, Progress};
use crate::store::{SharedStore, Store};
use contents::{Contents, Subject, View};
pub use error::BackupError;
use journal::{Entry, JournalError};
use lease::{Scope, Work};
use picture::Pictures;
use plan::{PicturePlan, Plan, PlannedPicture};
use preflight::examine::Aim;
use read_back::ReadBack;
use release::Tools;
use resource::Resource;
use run::Run;
use upload::{Job, Upload, UploadError};
use window::{Closed, Locking, Terms};

/// What a backup's run journal says it does.
pub const BACKUP: &str = "backup";

/// What a backup works with.
pub struct Environment {
    /// The configuration.
    pub config: Config,
    /// Where the backup goes.
    pub store: SharedStore,
    /// How commands are run, mongod reached and things given back.
    pub tools: Tools,
    /// Who is told how far it is.
    pub progress: Arc<dyn Progress>,
    /// Cancelled when the backup should end.
    pub cancel: CancellationToken,
}

/// Backs up every member that the configuration names, or the host holds.
///
/// # Errors
/// [`BackupError`]; there is no backup then, and nothing is held, unless it is [`BackupError::StillHeld`].
pub async fn backup(env: &Environment) -> Result<Recorded, BackupError> {
    in_run(env, async |run| make(run, env).await).await
}

/// Does `work` in a run of its own, between the hooks `before` and `finally`, and gives back whatever it still holds.
pub(crate) async fn in_run<T>(
    env: &Environment,
    work: impl AsyncFnOnce(&mut Run) -> Result<T, BackupError>,
) -> Result<T, BackupError> {
    let begun = Run::begin_alone(&env.config.host.state_dir, BACKUP);
    let mut run = begun.map_err(BackupError::NotBegun)?;
    let made = match hooks::before(&mut run, env).await {
        Ok(()) => work(&mut run).await,
        Err(error) => Err(error),
    };
    conclude(run, made, env).await
}

/// Gives back whatever the run still holds, and settles what came of it.
pub(crate) async fn conclude<T>(
    run: Run,
    made: Result<T, BackupError>,
    env: &Environment,
) -> Result<T, BackupError> {
    let finished = run.finish(&env.tools).await;
    // After all else: a store that does not answer must not keep snapshots waiting.
    if made.is_err()
        && let Err(error) = env.store.give_up_open().await
    {
        tracing::warn!(%error, "an unfinished upload may stay in the store; a lifecycle rule for incomplete uploads ends it");
    }
    match (made, finished) {
        (Ok(made), Ok(unreleased)) if unreleased.is_empty() => Ok(made),
        (made, Ok(unreleased)) => Err(BackupError::settle(made, unreleased)),
        (made, Err(source)) => Err(BackupError::JournalStays {
            made: made.err().map(Box::new),
            source,
        }),
    }
}

async fn make(run: &mut Run, env: &Environment) -> Result<Recorded, BackupError> {
    let examined = preflight::examine(env, run.id(), Aim::Backup).await?;
    for finding in examined.left_lying() {
        tracing::warn!("{}", finding.sentence());
    }
    let plan = examined.into_plan()?;
    let contents = plan.contents();
    tracing::debug!(
        "nothing stands in the way: {} by provider {}, about {}",
        contents.names(),
        plan.picture.provider(),
        human::duration(plan.expected)
    );
    match &plan.picture {
        PicturePlan::Volumes(planned) => {
            let made = volumes::backup(run, &plan, planned, env).await?;
            Ok(Recorded::Snapshots(made))
        }
        PicturePlan::Snapshots(planned) => {
            let made = archive_all(run, &plan, Some(planned), env).await?;
            Ok(Recorded::Archives(made))
        }
        PicturePlan::Hold => {
            let made = archive_all(run, &plan, None, env).await?;
            Ok(Recorded::Archives(made))
        }
    }
}

/// Makes a backup of archives: of pictures, or of the live directories while the window is open.
async fn archive_all(
    run: &mut Run,
    plan: &Plan,
    pictures: Option<&Vec<PlannedPicture>>,
    env: &Environment,
) -> Result<Manifest, BackupError> {
    let contents = plan.contents();
    let (uploading, upload) = begin(run, &contents, plan.expected, None, env).await?;
    let (closed, upload) = match pictures {
        Some(planned) => {
            let mut pictures = Pictures::plan(run, planned, env)?;
            pictures.prepare(&env.cancel).await?;
            let (closed, ()) = hold_still(run, plan, env, |timeline, broken| {
                pictures.take(timeline, broken)
            })
            .await?
            .split();
            pictures.watch()?;
            let upload = archive_pictures(run, &contents, &mut pictures, upload, env).await?;
            (closed, upload)
        }
        None => hold_still(run, plan, env, |_, broken| {
            archive_live(&contents, upload, env, broken)
        })
        .await?
        .split(),
    };
    publish(run, &contents, &closed, (&uploading, upload), env).await
}

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

/// Opens the window over the plan's members for `work`.
pub(crate) async fn hold_still<T, W>(
    run: &mut Run,
    plan: &Plan,
    env: &Environment,
    work: impl FnOnce(timeline::Timeline, CancellationToken) -> W,
) -> Result<Closed<T>, BackupError>
where
    W: Future<Output = Result<T, window::WorkError>>,
{
    let members: Vec<_> = plan
        .members
        .iter()
        .map(|member| (member.mongod.clone(), member.facts.process))
        .collect();
    let provider = plan.picture.provider();
    let terms = Terms {
        members: &members,
        limit: env.config.max_window(),
        locking: plan.locking,
        provider: &provider,
        watched: matches!(plan.picture, PicturePlan::Hold),
        tools: &env.tools,
    };
    let closed = window::around(run, &terms, &env.cancel, work).await?;
    preflight::cluster::stood_still(plan, run.id(), &env.tools.access, env.tools.timeout)
        .await
        .map_err(|detail| BackupError::ChunksMoved { detail })?;
    for step in &closed.record.steps {
        let length = human::duration(Duration::from_micros(step.length_us));
        tracing::debug!("{} {}: {length}", step.step, step.subject);
    }
    let held = Duration::from_micros(closed.record.held_us);
    env.progress.say(&match plan.locking {
        Locking::Locked => format!("the database was held for {}", human::duration(held)),
        Locking::Unlocked => {
            "the database was not locked: one snapshot holds everything".to_owned()
        }
    });
    Ok(closed)
}

/// Archives each member from its mounted snapshots, which go as soon as nobody needs them any more: the store may have much to do
/// with the archives yet, and nobody waits for that with a snapshot in hand.
pub(crate) async fn archive_pictures(
    run: &mut Run,
    contents: &Contents,
    pictures: &mut Pictures,
    mut upload: Upload,
    env: &Environment,
) -> Result<Upload, BackupError> {
    for (index, member) in contents.members.iter().enumerate() {
        let archived = match pictures.view(run, member.devices(), env).await {
            Ok(view) => archive_member(member, &view, upload, env, pictures.overflowed()).await,
            Err(error) => Err(error.into()),
        };
        upload = match archived {
            Ok(upload) => upload,
            // That a snapshot overflowed tells more than that it cannot be read, or that the archive was cancelled.
            Err(error) => return Err(pictures.failure().await.map_or(error, BackupError::from)),
        };
        let later = contents.members.get(index + 1..).unwrap_or_default();
        let needed = later.iter().flat_map(Subject::devices).collect();
        pictures.keep_only(&needed, run, &env.tools).await?;
    }
    Ok(upload)
}

/// Archives each member from its live directories, while the window is open.
async fn archive_live(
    contents: &Contents,
    mut upload: Upload,
    env: &Environment,
    broken: CancellationToken,
) -> Result<Upload, window::WorkError> {
    for member in &contents.members {
        upload = archive_member(member, &View::Live, upload, env, broken.clone()).await?;
    }
    Ok(upload)
}

async fn archive_member(
    member: &Subject,
    view: &View,
    upload: Upload,
    env: &Environment,
    cancel: CancellationToken,
) -> Result<Upload, BackupError> {
    let settings = &env.config.archive;
    let address = &member.address;
    let source = member
        .source(view, settings.diagnostic_data)
        .ok_or_else(|| BackupError::NoPicture {
            member: address.clone(),
        })?;
    let job = Job {
        address: address.clone(),
        shard: member.shard.clone(),
        source,
        expected: member.data_size,
        made_with: env.config.made_with(),
    };
    let phase = format!("archive {}", member.shard);
    let meter = Meter::expecting(member.data_size);
    tracing::debug!(
        "archiving {} ({})",
        member.shard,
        human::size(member.data_size)
    );
    env.progress.begin(&phase, &meter);
    let archived = upload
        .archive(
            job,
            settings.method(),
            settings.thread_count(),
            meter,
            cancel,
        )
        .await;
    env.progress.end(&phase);
    Ok(archived?)
}

#[cfg(test)]
mod tests;
