//! `backup`.

use std::time::Duration;

use jiff::Timestamp;

use super::copy::{NotCopied, Wanted, copy_to_all};
use super::metrics::write_textfile;
use super::{Context, Failure, print};
use crate::backup::backup;
use crate::backup::from_volumes::archive_from;
use crate::blocking::off_thread;
use crate::catalog::Recorded;
use crate::cli::BackupArgs;
use crate::config::Config;
use crate::copy::Whose;
use crate::error::Exit;
use crate::hooks;
use crate::human;
use crate::kept::remove::remove_overdue;
use crate::manifest::snapshots::{CopyOutcome, SnapshotManifest};
use crate::manifest::{Manifest, WindowRecord};
use crate::service::under_watch;
use crate::watch::last_run::LastRun;

pub async fn run(context: Context, arguments: BackupArgs) -> Result<Exit, Failure> {
    let (config, exec) = (&context.config, &context.tools.exec);
    let copies = !arguments.no_copy;
    under_watch(async {
        let began = Timestamp::now();
        let made = make(&context, arguments).await;
        write_down(&made, began, config).await;
        // It may take far longer than the backup, and whoever watches is not to wait for it.
        figures(config).await;
        let made = match made {
            Ok(made) => made,
            Err(failure) => {
                hooks::failed(failure.as_ref(), &config.hooks, exec).await;
                return Err(failure);
            }
        };
        let printed = print(context.json, &made, || match &made {
            Recorded::Archives(manifest) => render(manifest),
            Recorded::Snapshots(manifest) => render_snapshots(manifest),
        });
        if let Some(failure) = copy(&context, &made, copies).await {
            hooks::failed(&failure, &config.hooks, exec).await;
            return Err(failure.into());
        }
        printed?;
        hooks::after(&made, &config.hooks, exec).await?;
        Ok(Exit::Done)
    })
    .await
}

/// Copies what the stores of `[[copy]]` lack of these replica sets' backups. The backup itself is made, whatever becomes of that.
async fn copy(context: &Context, made: &Recorded, wanted: bool) -> Option<NotCopied> {
    let Recorded::Archives(manifest) = made else {
        return None;
    };
    if context.config.copy.is_empty() || !wanted {
        return None;
    }
    let shards = manifest.members.iter().map(|one| one.shard.clone());
    let whose = Whose::Series(manifest.deployment.id.clone(), shards.collect());
    let from = context.store_or_closed(&context.config.store.url);
    let (targets, wanted) = (&context.config.copy, Wanted::Made(manifest.id, whose));
    let reports = copy_to_all(context, &from, targets, &wanted).await;
    figures(&context.config).await;
    NotCopied::of(manifest.id, &context.config.store.url, &reports)
}

async fn make(context: &Context, arguments: BackupArgs) -> Result<Recorded, Failure> {
    let store = context.store()?;
    let env = context.environment(store);
    Ok(match &arguments.from {
        Some(which) => Recorded::Archives(archive_from(&env, which).await?),
        None => {
            remove_overdue(&env, Timestamp::now()).await;
            backup(&env).await?
        }
    })
}

/// Writes down how the run ended. Where that fails the backup does not.
async fn write_down(made: &Result<Recorded, Failure>, began: Timestamp, config: &Config) {
    let ended = made.as_ref().map(Recorded::id).map_err(AsRef::as_ref);
    let last = LastRun::new(began, Timestamp::now(), ended);
    let state_dir = config.host.state_dir.clone();
    if let Err(error) = off_thread(move || last.write(&state_dir)).await {
        // Where there is no such directory the backup has failed for that.
        match made {
            Ok(_) => {
                tracing::warn!(%error, "cannot write down in the state directory how the backup ended")
            }
            Err(_) => tracing::debug!(%error, "cannot write down how the backup ended"),
        }
    }
}

/// Writes the figures for Prometheus where they are wanted.
async fn figures(config: &Config) {
    if let Some(file) = &config.metrics.textfile
        && let Err(error) = write_textfile(config, file.clone()).await
    {
        tracing::warn!("{error}");
    }
}

fn render(manifest: &Manifest) -> String {
    let (mut data, mut stored) = (0u64, 0u64);
    for member in &manifest.members {
        data = data.saturating_add(member.archive.data_size);
        stored = stored.saturating_add(member.archive.size);
    }
    format!(
        "{}  {} archived to {} in {}, {}\n",
        manifest.id,
        human::size(data),
        human::size(stored),
        took(manifest.started, manifest.finished),
        held(&manifest.window),
    )
}

fn render_snapshots(manifest: &SnapshotManifest) -> String {
    let set = &manifest.snapshots;
    let copies = match set.copies.as_ref() {
        None => String::new(),
        Some(copies) => match copies.outcome {
            CopyOutcome::Made(_) => format!(", copied to {}", copies.place.region),
            CopyOutcome::Missing(_) => format!(", NOT COPIED to {}", copies.place.region),
        },
    };
    format!(
        "{}  {} EBS snapshots of {} complete in {}, {}{copies}\n",
        manifest.id,
        set.volumes.len(),
        human::size(set.volumes.iter().map(|one| one.volume.bytes).sum()),
        took(manifest.started, manifest.finished),
        held(&manifest.window),
    )
}

fn took(started: Timestamp, finished: Timestamp) -> String {
    let took = finished.duration_since(started);
    human::duration(Duration::from_millis(
        took.as_millis().try_into().unwrap_or_default(),
    ))
}

fn held(window: &WindowRecord) -> String {
    match window.held_us {
        0 => "database not locked".to_owned(),
        us => format!(
            "database held {}",
            human::duration(Duration::from_micros(us))
        ),
    }
}
