//! `backup`.

use std::time::Duration;

use jiff::Timestamp;

use super::copy::{NotCopied, Wanted, copy_to_all};
use super::metrics::write_textfile;
use super::{Context, Failure, print};
use crate::backup::from_volumes::archive_from;
use crate::backup::{Made, backup};
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
    let anew = arguments.from.is_none();
    under_watch(async {
        let began = Timestamp::now();
        let made = make(&context, arguments).await;
        let ended = made.as_ref().map_err(AsRef::as_ref);
        let last = LastRun::new(
            began,
            Timestamp::now(),
            ended.map(|made| made.recorded.id()),
        );
        let last = match &made {
            Ok(Made {
                recorded: Recorded::Snapshots(set),
                amiss,
            }) => last.with_amiss(set.id, amiss),
            // Where backups are archives now, sets of snapshots are history.
            Ok(Made {
                recorded: Recorded::Archives(_),
                ..
            }) if anew => last,
            // Who cannot read it is told by `status`.
            _ => last.after(LastRun::read(&config.host.state_dir).ok().flatten()),
        };
        // An old picture that is of no use says nothing of the backups of every night.
        if anew || made.is_ok() {
            write_down(&last, config).await;
        }
        // It may take far longer than the backup, and whoever watches is not to wait for it.
        figures(config).await;
        let made = match made {
            Ok(made) => made,
            Err(failure) => {
                hooks::failed(failure.as_ref(), None, &config.hooks, exec).await;
                return Err(failure);
            }
        };
        let Made { recorded, amiss } = made;
        let printed = print(context.json, &recorded, || match &recorded {
            Recorded::Archives(manifest) => render(manifest),
            Recorded::Snapshots(manifest) => render_snapshots(manifest, &amiss),
        });
        if let Some(failure) = copy(&context, &recorded, copies).await {
            write_down(&last.with_not_copied(failure.troubles()), config).await;
            figures(config).await;
            hooks::failed(&failure, Some(&recorded), &config.hooks, exec).await;
            return Err(failure.into());
        }
        if !config.copy.is_empty() {
            figures(config).await;
        }
        printed?;
        if let Err(error) = hooks::after(&recorded, &config.hooks, exec, &context.cancel).await {
            write_down(&last.with_failed_hook(&error), config).await;
            figures(config).await;
            return Err(error.into());
        }
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
    NotCopied::of(manifest.id, &context.config.store.url, &reports)
}

async fn make(context: &Context, arguments: BackupArgs) -> Result<Made, Failure> {
    let store = context.store()?;
    let env = context.environment(store);
    Ok(match &arguments.from {
        Some(which) => Recorded::Archives(archive_from(&env, which).await?).into(),
        None => {
            remove_overdue(&env, Timestamp::now()).await;
            backup(&env, arguments.wait.map_or(Duration::ZERO, |wait| wait.0)).await?
        }
    })
}

/// Writes down how the run ended. Where that fails the backup does not.
async fn write_down(last: &LastRun, config: &Config) {
    let (last, state_dir) = (last.clone(), config.host.state_dir.clone());
    let made = last.backup.is_some();
    if let Err(error) = off_thread(move || last.write(&state_dir)).await {
        // Where there is no such directory the backup has failed for that.
        match made {
            true => {
                tracing::warn!(%error, "cannot write down in the state directory how the backup ended")
            }
            false => tracing::debug!(%error, "cannot write down how the backup ended"),
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

fn render_snapshots(manifest: &SnapshotManifest, amiss: &[String]) -> String {
    let set = &manifest.snapshots;
    let copies = match set.copies.as_ref() {
        None => String::new(),
        Some(copies) => match copies.outcome {
            CopyOutcome::Made(_) => format!(", copied to {}", copies.place.region),
            CopyOutcome::Missing(_) => format!(", NOT COPIED to {}", copies.place.region),
        },
    };
    let amiss: String = amiss
        .iter()
        .map(|what| format!("  UNPROTECTED  {what}\n"))
        .collect();
    format!(
        "{}  {} EBS snapshots of {} complete in {}, {}{copies}\n{amiss}",
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
