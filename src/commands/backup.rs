//! `backup`.

use std::time::Duration;

use jiff::Timestamp;

use super::{Context, Failure, print};
use crate::backup::backup;
use crate::cli::BackupArgs;
use crate::error::Exit;
use crate::human;
use crate::kept::archive::archive;
use crate::kept::remove::remove_overdue;
use crate::manifest::Manifest;
use crate::service::under_watch;

pub async fn run(context: Context, arguments: BackupArgs) -> Result<Exit, Failure> {
    under_watch(watched(context, arguments)).await
}

async fn watched(context: Context, arguments: BackupArgs) -> Result<Exit, Failure> {
    let (json, store) = (context.json, context.store()?);
    let env = context.environment(store);
    let manifest = match &arguments.from {
        Some(which) => archive(&env, which).await?,
        None => {
            remove_overdue(&env, Timestamp::now()).await;
            backup(&env).await?
        }
    };
    print(json, &manifest, || render(&manifest))?;
    Ok(Exit::Done)
}

fn render(manifest: &Manifest) -> String {
    let (mut data, mut stored) = (0u64, 0u64);
    for member in &manifest.members {
        data = data.saturating_add(member.archive.data_size);
        stored = stored.saturating_add(member.archive.size);
    }
    let took = manifest.finished.duration_since(manifest.started);
    let took = Duration::from_millis(took.as_millis().try_into().unwrap_or_default());
    format!(
        "{}  {} archived to {} in {}, {}\n",
        manifest.id,
        human::size(data),
        human::size(stored),
        human::duration(took),
        match manifest.window.held_us {
            0 => "database not locked".to_owned(),
            us => format!(
                "database held {}",
                human::duration(Duration::from_micros(us))
            ),
        },
    )
}
