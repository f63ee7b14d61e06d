//! A backup, from the first look to the manifest.
//!
//! Each step is a module of its name: [`preflight`], `set`, [`picture`], [`window`], `archive`, [`upload`]. What is acquired on the way is
//! in the run's [`journal`] before it is acquired, and [`release`] gives it back in every outcome.

pub(crate) mod archive;
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
pub(crate) mod set;
pub mod timeline;
pub mod upload;
pub mod volumes;
pub mod window;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::catalog::Recorded;
use crate::config::Config;
use crate::hooks;
use crate::human;
use crate::manifest::Manifest;
use crate::progress::Progress;
use crate::snapshot::lvm::Purpose;
use crate::store::SharedStore;
use archive::{archive_live, archive_pictures};
pub use error::BackupError;
use picture::Pictures;
use plan::{PicturePlan, Plan, PlannedPicture};
use preflight::fit::once_fit;
use release::Tools;
use run::Run;
use set::{begin, publish};
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

/// A backup that was made.
#[derive(Debug)]
pub struct Made {
    /// What its manifest says.
    pub recorded: Recorded,
    /// What of its protection is not as it was to be, such as locks on snapshots. It is a backup all the same.
    pub amiss: Vec<String>,
}

impl From<Recorded> for Made {
    fn from(recorded: Recorded) -> Self {
        let amiss = Vec::new();
        Self { recorded, amiss }
    }
}

/// Backs up every member that the configuration names, or the host holds, once all are fit; `patience` is for those that will be.
///
/// # Errors
/// [`BackupError`]; there is no backup then, and nothing is held, unless it is [`BackupError::StillHeld`].
pub async fn backup(env: &Environment, patience: Duration) -> Result<Made, BackupError> {
    in_run(env, async |run| make(run, env, patience).await).await
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

async fn make(run: &mut Run, env: &Environment, patience: Duration) -> Result<Made, BackupError> {
    let examined = once_fit(env, run.id(), patience).await?;
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
        PicturePlan::Volumes(planned) => volumes::backup(run, &plan, planned, env).await,
        PicturePlan::Snapshots(planned) => {
            let made = archive_all(run, &plan, Some(planned), env).await?;
            Ok(Recorded::Archives(made).into())
        }
        PicturePlan::Hold => {
            let made = archive_all(run, &plan, None, env).await?;
            Ok(Recorded::Archives(made).into())
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
            let mut pictures = Pictures::plan(run, planned, Purpose::ToRead, env)?;
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
