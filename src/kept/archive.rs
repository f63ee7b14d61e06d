//! A backup of what was kept.

use std::time::Duration;

use super::Kept;
use super::condition::look;
use crate::backup::archive::archive_pictures;
use crate::backup::picture::Pictures;
use crate::backup::run::Run;
use crate::backup::set::{begin, publish};
use crate::backup::{BackupError, Environment, in_run};
use crate::blocking::off_thread;
use crate::manifest::Manifest;

/// Makes a backup of the kept snapshot that `which` names, which stays. No database is asked anything.
///
/// # Errors
/// [`BackupError`]; there is no backup then.
pub async fn archive(env: &Environment, which: &str) -> Result<Manifest, BackupError> {
    in_run(env, async |run| make(run, env, which).await).await
}

async fn make(run: &mut Run, env: &Environment, which: &str) -> Result<Manifest, BackupError> {
    let kept = Kept::find(&env.config.host.state_dir, which)?;
    let (exec, looked_at) = (env.tools.exec.clone(), kept.clone());
    let condition = off_thread(move || look(&exec, &looked_at)).await;
    condition.usable(&kept)?;
    env.progress.say(&format!(
        "the data is that of {:.0}, and so is the backup's name: `latest` may be another",
        kept.taken
    ));
    let expected = Duration::from_secs(kept.expected_seconds);
    let (uploading, upload) = begin(run, &kept.contents, expected, Some(kept.taken), env).await?;
    let mut pictures = Pictures::kept(run, &kept.pictures, env)?;
    pictures.watch()?;
    let upload = archive_pictures(run, &kept.contents, &mut pictures, upload, env).await?;
    publish(run, &kept.contents, &kept.window, (&uploading, upload), env).await
}
