//! How the last backup of this host ended: one small file in the state directory. A run that is killed cannot write it, and leaves its journal instead.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Exit, Explain};
use crate::hooks::HookError;
use crate::ids::BackupId;
use crate::whole;

/// The file's name.
const FILE: &str = "last-backup.json";
/// A longer one is none of ours.
const LONGEST: u64 = 64 << 10;
/// Characters of what went wrong that are kept: who wants to know all of it has the log.
const TOLD: usize = 2000;

fn told(text: &str) -> String {
    text.chars().take(TOLD).collect()
}

/// How a backup ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// The exit code it ended with.
    pub exit: i32,
    /// The backup that it made.
    pub backup: Option<BackupId>,
    /// Why it failed.
    pub error: Option<String>,
    /// What of the protection of the last set of snapshots is not as it was to be: locks, copies, shares.
    #[serde(default)]
    pub unprotected: Option<String>,
    /// The stores of `[[copy]]` that it could not be copied to, and why.
    #[serde(default)]
    pub not_copied: BTreeMap<String, String>,
    /// What became of the hook `after`, where it failed.
    #[serde(default)]
    pub hook_failed: Option<String>,
}

impl LastRun {
    /// How a run of `began` ended: with a backup, or with an error.
    pub fn new(
        began: Timestamp,
        ended: Timestamp,
        made: Result<BackupId, &(dyn Explain + Send + Sync)>,
    ) -> Self {
        Self {
            began,
            ended,
            exit: made.map_or_else(Explain::exit, |_| Exit::Done) as i32,
            backup: made.ok(),
            error: made.err().map(|error| told(&error.to_string())),
            unprotected: None,
            not_copied: BTreeMap::new(),
            hook_failed: None,
        }
    }

    /// The same, which made the set of snapshots `set`, of whose protection `amiss` is not as it was to be.
    pub fn with_amiss(mut self, set: BackupId, amiss: &[String]) -> Self {
        self.unprotected =
            (!amiss.is_empty()).then(|| told(&format!("{set}: {}", amiss.join("; "))));
        self
    }

    /// The same, which made no set of snapshots: what was said of the last one still holds.
    pub fn after(mut self, before: Option<Self>) -> Self {
        self.unprotected = before.and_then(|before| before.unprotected);
        self
    }

    /// The same, which could not be copied to some stores: each with the reason.
    pub fn with_not_copied(mut self, stores: &[(String, String)]) -> Self {
        let stores = stores.iter();
        self.not_copied = stores.map(|(url, why)| (url.clone(), told(why))).collect();
        self
    }

    /// The same, after which the hook `after` failed.
    pub fn with_failed_hook(mut self, error: &HookError) -> Self {
        self.hook_failed = Some(told(&error.to_string()));
        self
    }

    /// Whether a backup was made, and nothing was left.
    pub fn succeeded(&self) -> bool {
        self.exit == Exit::Done as i32
    }

    fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(FILE)
    }

    /// Writes it down.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        whole::replace(&Self::path(state_dir), &serde_json::to_vec(self)?, 0o600)
    }

    /// The last that was written down; none where none was.
    ///
    /// # Errors
    /// Why what is there cannot be read.
    pub fn read(state_dir: &Path) -> Result<Option<Self>, String> {
        let path = Self::path(state_dir);
        let unreadable = |reason: String| Err(format!("{}: {reason}", path.display()));
        let bytes = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return unreadable(error.to_string()),
            Ok(found) if !found.is_file() || found.len() > LONGEST => {
                return unreadable("it is none of ours".into());
            }
            Ok(_) => std::fs::read(&path),
        };
        match bytes
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
        {
            Ok(read) => Ok(Some(read)),
            Err(reason) => unreadable(reason),
        }
    }
}
