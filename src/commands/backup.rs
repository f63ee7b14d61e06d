//! `backup`.

use std::time::Duration;

use jiff::Timestamp;

use super::{Context, Failure, print};
use crate::backup::backup;
use crate::backup::from_volumes::archive_from;
use crate::catalog::Recorded;
use crate::cli::BackupArgs;
use crate::error::Exit;
use crate::hooks;
use crate::human;
use crate::kept::remove::remove_overdue;
use crate::manifest::snapshots::{CopyOutcome, SnapshotManifest};
use crate::manifest::{Manifest, WindowRecord};
use crate::service::under_watch;

pub async fn run(context: Context, arguments: BackupArgs) -> Result<Exit, Failure> {
    under_watch(watched(context, arguments)).await
}

async fn watched(context: Context, arguments: BackupArgs) -> Result<Exit, Failure> {
    let (json, store) = (context.json, context.store()?);
    let env = context.environment(store);
    let made = match &arguments.from {
        Some(which) => archive_from(&env, which).await.map(Recorded::Archives),
        None => {
            remove_overdue(&env, Timestamp::now()).await;
            backup(&env).await
        }
    };
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            hooks::failed(&error, &env).await;
            return Err(error.into());
        }
    };
    print(json, &made, || match &made {
        Recorded::Archives(manifest) => render(manifest),
        Recorded::Snapshots(manifest) => render_snapshots(manifest),
    })?;
    hooks::after(&made, &env).await?;
    Ok(Exit::Done)
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
