//! Asking the store and this host.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::last_run::LastRun;
use super::{Leftover, makes_a_backup};
use crate::backup::journal::survey::{Seen, survey};
use crate::backup::journal::{Owner, boot_id};
use crate::backup::resource::Resource;
use crate::catalog::at_work::{note, note_at_work};
use crate::catalog::{self, SetSummary};
use crate::config::{Config, StoreUrl};
use crate::error::Explain;
use crate::host;
use crate::retention::Rules;
use crate::store::{self, StoreError, StoreSettings};

/// Who asks how things stand does not want to wait until a store comes back.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// What was heard of the store.
#[derive(Debug, Clone)]
pub struct StoreSeen {
    /// Its address.
    pub url: String,
    /// What it told when it last answered.
    pub told: Option<Told>,
    /// Why it did not answer this time.
    pub failed: Option<Unreached>,
}

/// A store that backups are copied to.
#[derive(Debug, Clone)]
pub struct CopySeen {
    /// What was heard of it.
    pub store: StoreSeen,
    /// What is to stay there.
    pub rules: Rules,
}

/// What a store told.
#[derive(Debug, Clone)]
pub struct Told {
    /// When it was asked.
    pub asked: Timestamp,
    /// Its sets, oldest first.
    pub sets: Vec<SetSummary>,
    /// Bytes that it has room for; none of a bucket.
    pub free: Option<u64>,
}

/// Why a store does not tell what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// What it said, or did not.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Unreached {
    /// Nobody got so far as to ask.
    fn unasked(error: &dyn std::error::Error) -> Self {
        Self {
            error: format!("the store cannot be asked: {error}"),
            hint: None,
        }
    }

    /// It has not answered for `waited`.
    pub fn silent(url: &str, waited: Duration) -> Self {
        Self {
            error: format!("{url} has not answered for {} s", waited.as_secs()),
            hint: None,
        }
    }
}

impl From<StoreError> for Unreached {
    fn from(error: StoreError) -> Self {
        Self {
            hint: error.hint(),
            error: error.to_string(),
        }
    }
}

/// The store as it is asked here.
#[derive(Debug, Clone)]
pub struct Question {
    url: String,
    settings: StoreSettings,
    state_dir: PathBuf,
}

impl Question {
    /// For the store at `url`, by the settings that the configuration has for it.
    pub fn new(config: &Config, url: &StoreUrl) -> Self {
        Self {
            url: url.to_string(),
            settings: config.store_settings().impatient(RETRY_FOR),
            state_dir: config.host.state_dir.clone(),
        }
    }

    /// What the store holds, asked on a thread of its own: a folder on a server that is gone hangs whoever looks into it, and the end of the program must not
    /// wait for that.
    ///
    /// # Errors
    /// [`Unreached`].
    pub async fn ask(self) -> Result<Told, Unreached> {
        let (answer, answered) = oneshot::channel();
        let asking = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let told = match &runtime {
                Ok(runtime) => runtime.block_on(self.list()),
                Err(error) => Err(Unreached::unasked(error)),
            };
            // Nobody listens any more where it took too long.
            let _ = answer.send(told);
        };
        let started = std::thread::Builder::new().spawn(asking);
        started.map_err(|error| Unreached::unasked(&error))?;
        answered
            .await
            .unwrap_or_else(|error| Err(Unreached::unasked(&error)))
    }

    async fn list(self) -> Result<Told, Unreached> {
        let asked = Timestamp::now();
        let store = store::open(&self.url, &self.settings, &CancellationToken::new())?;
        // A run may end or begin while the store is listed: its set was being made then, and did not fail.
        let before = HostSeen::look(&self.state_dir).runs;
        let mut sets = catalog::list(store.as_ref()).await?;
        note(&mut sets, &before);
        note_at_work(&mut sets, &self.state_dir);
        let free = store
            .local_path()
            .and_then(|folder| host::free_space(folder).ok());
        Ok(Told { asked, sets, free })
    }

    /// The same for somebody who does not wait longer than `limit`.
    pub async fn ask_within(self, limit: Duration) -> StoreSeen {
        let url = self.url.clone();
        let answer = tokio::time::timeout(limit, self.ask())
            .await
            .unwrap_or_else(|_| Err(Unreached::silent(&url, limit)));
        let (told, failed) = match answer {
            Ok(told) => (Some(told), None),
            Err(failed) => (None, Some(failed)),
        };
        StoreSeen { url, told, failed }
    }
}

/// What was seen of this host.
#[derive(Debug, Clone, Default)]
pub struct HostSeen {
    /// Runs that have a journal.
    pub runs: Vec<Seen>,
    /// Why others cannot be seen.
    pub unreadable: Vec<String>,
    /// How the last backup ended.
    pub last_run: Option<LastRun>,
    /// Which boot of this host it is.
    pub boot: String,
}

impl HostSeen {
    /// Reads what the state directory holds. Takes nothing over, changes nothing.
    pub fn look(state_dir: &Path) -> Self {
        let (mut runs, mut unreadable) = (Vec::new(), Vec::new());
        match survey(state_dir) {
            Ok(all) => {
                for seen in all {
                    match seen {
                        Ok(seen) => runs.push(seen),
                        Err(error) => unreadable.push(error.to_string()),
                    }
                }
            }
            Err(error) => unreadable.push(error.to_string()),
        }
        let last_run = LastRun::read(state_dir).unwrap_or_else(|reason| {
            unreadable.push(reason);
            None
        });
        Self {
            runs,
            unreadable,
            last_run,
            boot: boot_id(),
        }
    }

    /// The backup that is being made.
    pub(super) fn running(&self) -> Option<&Owner> {
        let mut alive = self.runs.iter().filter(|seen| seen.alive);
        alive
            .find(|seen| makes_a_backup(&seen.owner))
            .map(|seen| &seen.owner)
    }

    /// What dead runs left.
    pub(super) fn leftovers(&self) -> Vec<Leftover> {
        let dead = self.runs.iter().filter(|seen| !seen.alive);
        dead.map(|seen| Leftover {
            run: seen.owner.run,
            verb: seen.owner.verb.clone(),
            started: seen.owner.started,
            resources: seen.outstanding.iter().map(ToString::to_string).collect(),
            locks: self.locks(seen),
        })
        .collect()
    }

    /// Locks that may still be held: those of another boot ended with the server processes that had them.
    fn locks(&self, seen: &Seen) -> u64 {
        if seen.owner.boot != self.boot {
            return 0;
        }
        let is_lock = |resource: &&Resource| matches!(resource, Resource::Lock { .. });
        seen.outstanding.iter().filter(is_lock).count() as u64
    }
}
