//! Who is at work on this host and who died at it, read from the journals. Takes nothing over, changes nothing.

use std::fs::File;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::contents::read;
use super::{Journal, JournalError, Owner};
use crate::backup::resource::Resource;
use crate::mongo::ServerProcess;

/// A run that has a journal.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The run, its process and what it does.
    pub owner: Owner,
    /// What its journal says is outstanding.
    pub outstanding: Vec<Resource>,
    /// Whether its process lives: then all of that is its own business.
    pub alive: bool,
}

impl Seen {
    /// Whether its journal names a lock on `process`.
    pub fn holds(&self, process: ServerProcess) -> bool {
        self.outstanding.iter().any(
            |resource| matches!(resource, Resource::Lock { process: locked, .. } if *locked == process),
        )
    }
}

impl Owner {
    /// How to name a run that lives: "the running backup 1a2b3c4d (pid 4711, since 2026-01-31T02:00:00Z)".
    pub fn at_work(&self) -> String {
        format!(
            "the running {} {} (pid {}, since {:.0})",
            self.verb, self.run, self.pid, self.started
        )
    }
}

/// Every run of `state_dir`, one journal after the other; a journal that cannot be read hides no other.
///
/// # Errors
/// [`JournalError::Io`] when the journals cannot be listed.
pub fn survey(state_dir: &Path) -> Result<Vec<Result<Seen, JournalError>>, JournalError> {
    let looked = Journal::all(state_dir)?.into_iter().map(|path| look(&path));
    Ok(looked
        .filter(|seen| match seen {
            // It ended well, and took its journal along, since they were listed.
            Err(JournalError::Io { source, .. }) => source.kind() != std::io::ErrorKind::NotFound,
            _ => true,
        })
        .collect())
}

fn look(path: &Path) -> Result<Seen, JournalError> {
    let file = File::open(path).map_err(|source| JournalError::Io {
        action: "open",
        path: path.to_owned(),
        source,
    })?;
    let contents = read(&file, path)?;
    let alive = matches!(
        Flock::lock(file, FlockArg::LockSharedNonblock),
        Err((_, Errno::EWOULDBLOCK))
    );
    let outstanding = contents.outstanding.into_iter();
    Ok(Seen {
        owner: contents.owner,
        outstanding: outstanding.map(|(_, resource)| resource).collect(),
        alive,
    })
}
