//! The run journal: what a run is about to acquire, on disk before it is acquired.
//!
//! One file a run, `<state_dir>/runs/<run>.journal`, one JSON record a line. The run that owns it
//! holds a flock on it for as long as it lives, so that anybody can tell a running owner from a
//! dead one. `recover` reads what is outstanding and gives it back.

mod contents;
mod error;
pub mod survey;

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::backup::boundary::Boundary;
use crate::backup::resource::{Kind, Resource};
use crate::ids::RunId;
pub(crate) use contents::parse;
use contents::{Contents, read, salvage};
pub use error::JournalError;

/// What the journal of a run says it does that copies backups to another store.
pub const COPY: &str = "copy";

/// What the name of a journal ends with.
const JOURNAL: &str = "journal";
/// And that of one which does not say yet whose it is.
const UNBORN: &str = "unborn";

/// How often a journal is found locked before its owner is taken to live, and the pause between two looks: far longer than a
/// glance of `survey` lasts.
const MOST_GLANCES: u32 = 5;
/// More is not read of a journal that is damaged.
const MAX_SALVAGED: u64 = 16 << 20;
const GLANCE: Duration = Duration::from_millis(20);

/// Who a journal belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The run.
    pub run: RunId,
    /// What it does: "backup", "verify".
    pub verb: String,
    /// Its process id, for messages; whether it lives is told by the flock.
    pub pid: u32,
    /// The kernel's boot id: mounts and server processes of another boot are gone.
    pub boot: String,
    /// When it began.
    pub started: Timestamp,
}

/// A resource's number inside its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Entry(u32);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Record {
    Begin { owner: Owner },
    Plan { entry: Entry, resource: Resource },
    Released { entry: Entry },
}

/// The journal of a run, held by its owner.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: Flock<File>,
    owner: Owner,
    outstanding: Vec<(Entry, Resource)>,
    next: u32,
}

impl Journal {
    /// Where the journals of `state_dir` lie.
    pub fn folder(state_dir: &Path) -> PathBuf {
        state_dir.join("runs")
    }

    /// The path of one run's journal.
    pub fn path_of(state_dir: &Path, run: RunId) -> PathBuf {
        Self::folder(state_dir).join(format!("{run}.{JOURNAL}"))
    }

    /// Makes the directory of journals where it is not there yet.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn prepare(state_dir: &Path) -> Result<(), JournalError> {
        let folder = Self::folder(state_dir);
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder);
        made.map_err(|source| JournalError::Io {
            action: "create the directory of",
            path: folder,
            source,
        })
    }

    /// Begins the journal of a new run and takes its flock.
    ///
    /// # Errors
    /// [`JournalError::Io`] when the state directory cannot be written.
    pub fn begin(state_dir: &Path, run: RunId, verb: &str) -> Result<Self, JournalError> {
        Self::prepare(state_dir)?;
        let folder = Self::folder(state_dir);
        let fail = |action, path: &Path, source| JournalError::Io {
            action,
            path: path.to_owned(),
            source,
        };
        let path = Self::path_of(state_dir, run);
        // It gets its name when it says whose it is and its lock is held: until then others would take it for a dead run's.
        let unborn = path.with_extension(UNBORN);
        let file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&unborn)
            .map_err(|source| fail("create", &unborn, source))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| fail("lock", &unborn, errno.into()))?;
        let owner = Owner {
            run,
            verb: verb.to_owned(),
            pid: std::process::id(),
            boot: boot_id(),
            started: Timestamp::now(),
        };
        let mut journal = Self {
            path: unborn.clone(),
            file,
            owner,
            outstanding: Vec::new(),
            next: 0,
        };
        let owner = journal.owner.clone();
        let begun = journal.append(&[Record::Begin { owner }]).and_then(|()| {
            // A link, and not a new name: it must not take the place of a dead run's journal.
            std::fs::hard_link(&unborn, &path).map_err(|source| fail("name", &path, source))?;
            journal.path = path;
            Self::discard(&unborn)?;
            // The file's name must survive a power cut as its content does.
            File::open(&folder)
                .and_then(|dir| dir.sync_all())
                .map_err(|source| fail("sync", &folder, source))
        });
        match begun {
            Ok(()) => Ok(journal),
            Err(error) => {
                if let Err(left) = journal.close() {
                    tracing::warn!(error = %left, "a journal without content stays; `freezeframe recover` removes it");
                }
                Err(error)
            }
        }
    }

    /// Removes a journal into which nothing was written.
    ///
    /// # Errors
    /// [`JournalError::Io`] when the file cannot be removed.
    pub fn discard(path: &Path) -> Result<(), JournalError> {
        std::fs::remove_file(path).map_err(|source| JournalError::Io {
            action: "remove",
            path: path.to_owned(),
            source,
        })
    }

    /// Removes what runs left that died before their journal had its name. They held nothing.
    ///
    /// # Errors
    /// [`JournalError::Io`] when the directory cannot be read.
    pub fn sweep_unborn(state_dir: &Path) -> Result<(), JournalError> {
        for path in Self::files(state_dir, UNBORN)? {
            let Ok(file) = File::open(&path) else {
                continue;
            };
            // One that is being made is locked, or its run finds out and says so.
            if Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
                && let Err(error) = Self::discard(&path)
            {
                tracing::warn!(%error, "it stays, and does no harm");
            }
        }
        Ok(())
    }

    /// Takes over the journal of a run whose owner is dead.
    ///
    /// # Errors
    /// [`JournalError::Alive`] when it is not dead, [`JournalError::Damaged`] when a whole line is no record.
    pub fn take_over(path: &Path) -> Result<Self, JournalError> {
        let fail = |action, source| JournalError::Io {
            action,
            path: path.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(path)
            .map_err(|source| fail("open", source))?;
        let file = match lock_past_glances(file) {
            Ok(file) => file,
            Err((file, Errno::EWOULDBLOCK)) => {
                return Err(match read(&file, path) {
                    Ok(Contents { owner, .. }) => JournalError::Alive {
                        run: owner.run,
                        pid: owner.pid,
                    },
                    Err(error) => error,
                });
            }
            Err((_, errno)) => return Err(fail("lock", errno.into())),
        };
        let contents = read(&file, path)?;
        let journal = Self {
            path: path.to_owned(),
            file,
            owner: contents.owner,
            outstanding: contents.outstanding,
            next: contents.next,
        };
        journal
            .file
            .set_len(contents.whole)
            .map_err(|source| fail("repair", source))?;
        Ok(journal)
    }

    /// What can still be read of the journal of a dead run that cannot be taken over: it is damaged, or on a disk that is read-only.
    /// Nothing where its owner lives, or not even that is known.
    pub fn salvage(path: &Path) -> Vec<Resource> {
        let read = || {
            // No write is wanted: a lock on a file needs none.
            let file = lock_past_glances(File::open(path).ok()?).ok()?;
            let mut bytes = Vec::new();
            (&*file).take(MAX_SALVAGED).read_to_end(&mut bytes).ok()?;
            Some(salvage(&bytes))
        };
        read().unwrap_or_default()
    }

    /// What `path` says is outstanding, and who owns it, whether or not the owner lives.
    ///
    /// # Errors
    /// As [`Journal::take_over`], but never [`JournalError::Alive`].
    pub fn peek(path: &Path) -> Result<(Owner, Vec<Resource>), JournalError> {
        let file = File::open(path).map_err(|source| JournalError::Io {
            action: "open",
            path: path.to_owned(),
            source,
        })?;
        let contents = read(&file, path)?;
        Ok((
            contents.owner,
            contents
                .outstanding
                .into_iter()
                .map(|(_, resource)| resource)
                .collect(),
        ))
    }

    /// The journals in `state_dir`, oldest name first; none where the directory does not exist.
    ///
    /// # Errors
    /// [`JournalError::Io`] when the directory cannot be read.
    pub fn all(state_dir: &Path) -> Result<Vec<PathBuf>, JournalError> {
        Self::files(state_dir, JOURNAL)
    }

    fn files(state_dir: &Path, wanted: &str) -> Result<Vec<PathBuf>, JournalError> {
        let folder = Self::folder(state_dir);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(JournalError::Io {
                    action: "list the directory of",
                    path: folder,
                    source,
                });
            }
        };
        let mut paths = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| JournalError::Io {
                action: "list",
                path: folder.clone(),
                source,
            })?;
            if entry
                .path()
                .extension()
                .is_some_and(|extension| extension == wanted)
            {
                paths.push(entry.path());
            }
        }
        paths.sort();
        Ok(paths)
    }

    /// Who owns (or owned) it.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Writes down resources that are about to be acquired: one append, one sync for all.
    ///
    /// # Errors
    /// [`JournalError::Io`]: then nothing may be acquired.
    pub fn plan(&mut self, resources: Vec<Resource>) -> Result<Vec<Entry>, JournalError> {
        let mut planned = Vec::with_capacity(resources.len());
        for resource in resources {
            planned.push((Entry(self.next), resource));
            self.next = self.next.saturating_add(1);
        }
        let records: Vec<_> = planned
            .iter()
            .map(|(entry, resource)| Record::Plan {
                entry: *entry,
                resource: resource.clone(),
            })
            .collect();
        self.append(&records)?;
        let entries = planned.iter().map(|(entry, _)| *entry).collect();
        let kinds: Vec<_> = planned
            .iter()
            .map(|(_, resource)| resource.into())
            .collect();
        self.outstanding.extend(planned);
        for kind in kinds {
            Boundary::Planned(kind).reach();
        }
        Ok(entries)
    }

    /// Writes down that resources were given back.
    ///
    /// # Errors
    /// [`JournalError::Io`]; the resources are gone all the same, and giving them back again is harmless.
    pub fn released(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        let (gone, outstanding): (Vec<_>, Vec<_>) = std::mem::take(&mut self.outstanding)
            .into_iter()
            .partition(|(entry, _)| entries.contains(entry));
        self.outstanding = outstanding;
        let kinds: Vec<Kind> = gone.iter().map(|(_, resource)| resource.into()).collect();
        for kind in &kinds {
            Boundary::GivenBack(*kind).reach();
        }
        self.append(
            &entries
                .iter()
                .map(|entry| Record::Released { entry: *entry })
                .collect::<Vec<_>>(),
        )?;
        for kind in kinds {
            Boundary::Released(kind).reach();
        }
        Ok(())
    }

    /// What is outstanding, in order of acquisition.
    pub fn outstanding(&self) -> &[(Entry, Resource)] {
        &self.outstanding
    }

    /// Removes the journal if nothing is outstanding; otherwise leaves it for `recover`.
    ///
    /// # Errors
    /// [`JournalError::Io`] when the file cannot be removed.
    pub fn close(self) -> Result<(), JournalError> {
        if !self.outstanding.is_empty() {
            return Ok(());
        }
        Self::discard(&self.path)
    }

    fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        let mut lines = Vec::new();
        for record in records {
            serde_json::to_writer(&mut lines, record).map_err(|error| JournalError::Io {
                action: "write",
                path: self.path.clone(),
                source: error.into(),
            })?;
            lines.push(b'\n');
        }
        self.write_synced(&lines)
    }

    fn write_synced(&mut self, bytes: &[u8]) -> Result<(), JournalError> {
        let whole = self.file.metadata().map(|found| found.len());
        let written = self
            .file
            .write_all(bytes)
            .and_then(|()| self.file.sync_data());
        if let (Err(_), Ok(whole)) = (&written, whole) {
            // Half a line under the next one would make the journal a damaged one.
            if let Err(error) = self.file.set_len(whole) {
                tracing::warn!(journal = %self.path.display(), %error, "cannot take back half a record");
            }
        }
        written.map_err(|source| JournalError::Io {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }
}

/// Locks `file`, unless its owner lives. Who only looks whether he does (`survey`) holds it for a moment, too, and must
/// not be taken for the owner.
fn lock_past_glances(mut file: File) -> Result<Flock<File>, (File, Errno)> {
    let mut glances = 0;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Err((again, Errno::EWOULDBLOCK)) if glances < MOST_GLANCES => file = again,
            locked => return locked,
        }
        glances += 1;
        std::thread::sleep(GLANCE);
    }
}

/// The kernel's boot id; empty where `/proc` does not tell.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

#[cfg(test)]
mod tests;
