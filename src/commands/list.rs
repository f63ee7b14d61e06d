//! `list`: what the store holds; of this host only which sets are being made now.

use std::path::Path;

use jiff::Timestamp;

use super::{Context, Failure, print};
use crate::backup::journal::survey::survey;
use crate::backup::resource::Resource;
use crate::catalog::summary::{SetState, SetSummary};
use crate::catalog::{self, render};
use crate::error::Exit;

pub async fn list(context: Context) -> Result<Exit, Failure> {
    let mut sets = catalog::list(context.store()?.as_ref()).await?;
    tell_apart(&mut sets, &context.config.host.state_dir);
    print(context.json, &sets, || {
        render::table(&sets, Timestamp::now())
    })?;
    let unreadable = sets.iter().any(|set| set.state == SetState::Unreadable);
    Ok(if unreadable { Exit::Store } else { Exit::Done })
}

/// Notes which sets are being made by a run of this host. Who may not read the journals is told nothing of it.
fn tell_apart(sets: &mut [SetSummary], state_dir: &Path) {
    let runs = survey(state_dir).unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot tell which sets are being made now");
        Vec::new()
    });
    for seen in runs.into_iter().flatten().filter(|seen| seen.alive) {
        let made = seen
            .outstanding
            .iter()
            .filter_map(|resource| match resource {
                Resource::Upload { set, .. } => Some(*set),
                _ => None,
            });
        for id in made {
            let unfinished =
                |set: &&mut SetSummary| set.id == id && set.state == SetState::Unfinished;
            for set in sets.iter_mut().filter(unfinished) {
                set.at_work = Some(seen.owner.clone());
            }
        }
    }
}
