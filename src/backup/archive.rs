//! Archiving every member: from mounted snapshots, or from the live directories while the window is open.

use tokio_util::sync::CancellationToken;

use super::contents::{Contents, Subject, View};
use super::picture::Pictures;
use super::run::Run;
use super::upload::{Job, Upload};
use super::{BackupError, Environment, window};
use crate::human;
use crate::progress::Meter;

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
pub(crate) async fn archive_live(
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

pub(crate) async fn archive_member(
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
