//! Kept snapshots: pictures taken by hand before risky maintenance, which stay on the host until somebody removes them or their time is over.
//!
//! [`take`](take::take) takes one in the same window as a backup. Its record, beside the run journals, is all there is of it besides the
//! snapshots themselves; a picture without a record is a leftover of a dead run, and `recover` removes it. [`archive`](archive::archive) makes a
//! backup of one, [`rollback`] puts it back, [`remove`](remove::remove) ends it.

pub mod archive;
pub mod condition;
mod error;
pub mod remove;
pub mod rollback;
pub mod take;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backup::contents::Contents;
use crate::backup::journal::survey::survey;
use crate::backup::plan::PlannedPicture;
use crate::backup::resource::Resource;
use crate::backup::window::Closed;
use crate::ids::{Label, RunId};
use crate::manifest::{FORMAT_FIRST, seal};
pub use error::KeptError;

const RECORD: &str = "record.json";
/// Beside the record of one that is being put back.
const UNDER_WAY: &str = "rollback.json";
/// A record is some kilobytes; what is longer is none.
const LONGEST: u64 = 16 << 20;

/// A kept snapshot. Its serialized form, sealed, is its record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Format of the record.
    pub format: u32,
    /// The run that took it, by which it is named.
    pub run: RunId,
    /// What it was taken for, which names it as well.
    pub label: Label,
    /// Version of freezeframe.
    pub tool: String,
    /// When it was taken.
    pub taken: Timestamp,
    /// Until when it is kept.
    pub keep_until: Timestamp,
    /// What it is of.
    pub contents: Contents,
    /// How the members were held, and where their data ends.
    pub window: Closed<()>,
    /// The pictures, one for each file system.
    pub pictures: Vec<PlannedPicture>,
    /// How long archiving it will take, in seconds.
    pub expected_seconds: u64,
    /// Whether it is being put back, or that was cut off. No part of the record.
    #[serde(skip)]
    pub rolling_back: bool,
}

impl Kept {
    fn new(run: RunId, label: Label, keep: Duration, of: Taken) -> Self {
        Self {
            format: FORMAT_FIRST,
            run,
            label,
            tool: env!("CARGO_PKG_VERSION").to_owned(),
            taken: of.taken,
            keep_until: of.taken.checked_add(keep).unwrap_or(Timestamp::MAX),
            contents: of.contents,
            window: of.window,
            pictures: of.pictures,
            expected_seconds: of.expected.as_secs(),
            rolling_back: false,
        }
    }

    /// Where the records of `state_dir` lie, each in a directory of its own.
    fn folder(state_dir: &Path) -> PathBuf {
        state_dir.join("kept")
    }

    /// The directory of its record.
    fn place(state_dir: &Path, run: RunId) -> PathBuf {
        Self::folder(state_dir).join(run.to_string())
    }

    /// All of a host, oldest first; one that cannot be read hides no other.
    ///
    /// # Errors
    /// [`KeptError::Io`] when they cannot be listed.
    pub fn all(state_dir: &Path) -> Result<Vec<Result<Self, KeptError>>, KeptError> {
        let folder = Self::folder(state_dir);
        let failed = |source| KeptError::Io {
            action: "list",
            path: folder.clone(),
            source,
        };
        let entries = match fs::read_dir(&folder) {
            // A state directory that is none is told of by whoever needs it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Vec::new());
            }
            listed => listed.map_err(failed)?,
        };
        let claimed = claimed(state_dir);
        let mut all = Vec::new();
        for entry in entries {
            let place = entry.map_err(failed)?.path();
            // A run holds it, or died with it: `recover` gives it back.
            if claimed.contains(&place) {
                continue;
            }
            let path = place.join(RECORD);
            match Self::read(&path) {
                // Not kept yet, or no more.
                Err(KeptError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                read => all.push(read),
            }
        }
        all.sort_by_key(|kept| kept.as_ref().map(|kept| kept.taken).ok());
        Ok(all)
    }

    fn read(path: &Path) -> Result<Self, KeptError> {
        let failed = |source| KeptError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        };
        if fs::metadata(path).map_err(failed)?.len() > LONGEST {
            return Err(failed(io::ErrorKind::FileTooLarge.into()));
        }
        let bytes = fs::read(path).map_err(failed)?;
        let kept: Self = seal::open(&bytes).map_err(|source| KeptError::Damaged {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            rolling_back: path.with_file_name(UNDER_WAY).exists(),
            ..kept
        })
    }

    /// The one that `which` names: a label, a run, or "latest".
    ///
    /// # Errors
    /// [`KeptError::NoSuch`] tells which there are.
    pub fn find(state_dir: &Path, which: &str) -> Result<Self, KeptError> {
        let mut all = Vec::new();
        let mut broken = None;
        for kept in Self::all(state_dir)? {
            match kept {
                Ok(kept) => all.push(kept),
                Err(error) => broken = Some(error),
            }
        }
        let names = all.iter().map(|kept| kept.label.to_string()).collect();
        let is_it = |kept: &Self| kept.label.as_str() == which || kept.run.to_string() == which;
        let found = match which {
            "latest" => all.pop(),
            _ => all.into_iter().find(is_it),
        };
        // The one that cannot be read may be the one that is meant.
        found.ok_or_else(|| {
            broken.unwrap_or(KeptError::NoSuch {
                which: which.to_owned(),
                there_are: names,
            })
        })
    }

    /// Writes the record, durably, into its directory, which is made.
    fn write(&self, state_dir: &Path) -> Result<(), KeptError> {
        let place = Self::place(state_dir, self.run);
        let path = place.join(RECORD);
        let write = || {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&place)?;
            let mut file = File::create_new(&path)?;
            file.write_all(&seal::seal(self)?)?;
            file.sync_all()?;
            for folder in [&place, &Self::folder(state_dir)] {
                File::open(folder)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|source| KeptError::Io {
            action: "write",
            path: path.clone(),
            source,
        })
    }

    /// Its record as something that a run acquires.
    fn record(&self, state_dir: &Path) -> Resource {
        Resource::Scratch {
            path: Self::place(state_dir, self.run),
        }
    }

    /// Bytes of copy-on-write space that its classic snapshots take from their groups.
    pub fn space(&self) -> u64 {
        let own = self.pictures.iter().flat_map(PlannedPicture::volumes);
        own.map(|planned| planned.snapshot.space.from_group()).sum()
    }

    /// How to name it: "before-upgrade (1a2b3c4d)".
    pub fn name(&self) -> String {
        format!("{} ({})", self.label, self.run)
    }
}

/// Directories of records that a run's journal says are to be given back.
fn claimed(state_dir: &Path) -> Vec<PathBuf> {
    let runs = survey(state_dir).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot tell which kept snapshots a dead run left half made");
        Vec::new()
    });
    let outstanding = runs.into_iter().flatten().flat_map(|seen| seen.outstanding);
    let place = |resource| match resource {
        Resource::Scratch { path } => Some(path),
        _ => None,
    };
    outstanding.filter_map(place).collect()
}

/// What was taken in a window.
struct Taken {
    taken: Timestamp,
    contents: Contents,
    window: Closed<()>,
    pictures: Vec<PlannedPicture>,
    expected: Duration,
}

#[cfg(test)]
mod tests;
