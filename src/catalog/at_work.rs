//! Which sets are being made by a run of this host.

use std::path::Path;

use super::summary::{SetState, SetSummary};
use crate::backup::journal::survey::{Seen, survey};
use crate::backup::resource::Resource;

/// Notes which of `sets` are being made by a run of this host. Who may not read the journals is told nothing of it.
pub fn note_at_work(sets: &mut [SetSummary], state_dir: &Path) {
    let runs = survey(state_dir).unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot tell which sets are being made now");
        Vec::new()
    });
    let runs: Vec<_> = runs.into_iter().flatten().collect();
    note(sets, &runs);
}

/// The same, where the runs are known already.
pub fn note(sets: &mut [SetSummary], runs: &[Seen]) {
    for seen in runs.iter().filter(|seen| seen.alive) {
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
