//! What is archived: a data directory with others grafted into it, less what a restored mongod must not find.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::ArchiveError;
use super::path::ArchivePath;
use crate::volume::SUBVOLUME_PREFIX;

/// A member's data directory, as it is seen on mounted snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceTree {
    /// dbPath.
    pub root: PathBuf,
    /// Directories that lie elsewhere; grafts may lie in grafts.
    pub grafts: Vec<SourceGraft>,
    /// Files and directories to leave out, relative to dbPath: logs that mongod was told to write there.
    pub exclude: Vec<PathBuf>,
    /// Whether `diagnostic.data` is archived.
    pub include_diagnostics: bool,
    /// Whether a server may write into the files while they are read, as mongod does into its own under
    /// fsyncLock. Then a file is archived at the size it had when it was opened: the lock's backup
    /// cursor keeps everything that the checkpoint refers to in place, and recovery ignores what comes
    /// after the last whole record of a journal file. Otherwise any change is an error.
    pub live: bool,
}

/// A directory that mongod sees below dbPath by a symbolic link or a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceGraft {
    /// Its place, relative to dbPath.
    pub at: PathBuf,
    /// The directory itself. Whatever is at its place in the tree is replaced by it.
    pub path: PathBuf,
}

/// What a tree holds, by a walk that reads no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Estimate {
    /// Sum of the files' sizes in bytes, holes included: what a pack's meter counts to.
    pub data_size: u64,
    /// Bytes allocated to them on the volume.
    pub allocated: u64,
    /// Number of entries, directories included.
    pub files: u64,
}

/// Walks `source` and sums up what [`super::pack`] would read.
pub fn estimate(source: &SourceTree) -> Result<Estimate, ArchiveError> {
    let mut sum = Estimate::default();
    source.walk(&CancellationToken::new(), &mut |found| {
        sum.files += 1;
        if found.metadata.is_file() {
            sum.data_size += found.metadata.size();
            sum.allocated += found.metadata.blocks() * 512;
        }
        Ok(())
    })?;
    Ok(sum)
}

/// A file or directory of the tree.
pub(super) struct Found {
    pub path: ArchivePath,
    pub real: PathBuf,
    pub metadata: Metadata,
}

type Visit<'a> = dyn FnMut(Found) -> Result<(), ArchiveError> + 'a;

/// Never archived from dbPath itself; the reasons are in `doc/format.md`.
const LEFT_OUT: [&str; 3] = ["mongod.lock", "WiredTiger.lock", "_tmp"];
const DIAGNOSTICS: &str = "diagnostic.data";
/// Made by mkfs at the root of a file system.
const LOST_AND_FOUND: &str = "lost+found";

impl SourceTree {
    /// Visits every directory before what is in it, each directory's names in the order of their bytes.
    pub(super) fn walk(
        &self,
        cancel: &CancellationToken,
        visit: &mut Visit<'_>,
    ) -> Result<(), ArchiveError> {
        let grafts: BTreeMap<&Path, &Path> = self
            .grafts
            .iter()
            .map(|graft| (graft.at.as_path(), graft.path.as_path()))
            .collect();
        let mut walk = Walk {
            tree: self,
            unplaced: grafts.clone(),
            grafts,
            cancel,
            visit,
        };
        walk.directory(Path::new(""), &self.root)?;
        match walk.unplaced.first_key_value() {
            Some((at, _)) => Err(ArchiveError::GraftUnplaced {
                at: at.to_path_buf(),
            }),
            None => Ok(()),
        }
    }

    fn leaves_out(&self, relative: &Path, mount_root: bool) -> bool {
        if self.exclude.iter().any(|excluded| excluded == relative) {
            return true;
        }
        if mount_root
            && relative.file_name().is_some_and(|name| {
                name == LOST_AND_FOUND || name.as_bytes().starts_with(SUBVOLUME_PREFIX.as_bytes())
            })
        {
            return true;
        }
        LEFT_OUT.iter().any(|name| relative == Path::new(name))
            || (!self.include_diagnostics && relative == Path::new(DIAGNOSTICS))
    }
}

struct Walk<'a, 'v> {
    tree: &'a SourceTree,
    grafts: BTreeMap<&'a Path, &'a Path>,
    unplaced: BTreeMap<&'a Path, &'a Path>,
    cancel: &'a CancellationToken,
    visit: &'a mut Visit<'v>,
}

impl Walk<'_, '_> {
    /// Everything below `real`, which has the path `relative` in the archive.
    fn directory(&mut self, relative: &Path, real: &Path) -> Result<(), ArchiveError> {
        let mount_root = relative == Path::new("") || self.grafts.contains_key(relative);
        for name in self.names(relative, real)? {
            if self.cancel.is_cancelled() {
                return Err(ArchiveError::Cancelled);
            }
            let relative = relative.join(&name);
            let graft = self.grafts.get(relative.as_path()).copied();
            self.unplaced.remove(relative.as_path());
            if self.tree.leaves_out(&relative, mount_root) {
                continue;
            }
            let real = graft.map_or_else(|| real.join(&name), Path::to_path_buf);
            let metadata = inspect("look at", &real, fs::symlink_metadata(&real))?;
            if metadata.is_symlink() {
                return Err(ArchiveError::Symlink { path: real });
            }
            if graft.is_some() && !metadata.is_dir() {
                return Err(ArchiveError::Inspect {
                    action: "graft",
                    path: real,
                    source: std::io::ErrorKind::NotADirectory.into(),
                });
            }
            // Sockets, pipes and devices are made anew by whoever needs them.
            if !metadata.is_dir() && !metadata.is_file() {
                continue;
            }
            let path = ArchivePath::new(relative.as_os_str().as_bytes()).map_err(|error| {
                ArchiveError::Unstorable {
                    path: real.clone(),
                    reason: error.to_string(),
                }
            })?;
            let is_dir = metadata.is_dir();
            (self.visit)(Found {
                path,
                real: real.clone(),
                metadata,
            })?;
            if is_dir {
                self.directory(&relative, &real)?;
            }
        }
        Ok(())
    }

    /// Names in one directory, those of grafts included, sorted. Only one directory's names on each level are in memory.
    fn names(&self, relative: &Path, real: &Path) -> Result<Vec<OsString>, ArchiveError> {
        let mut names = Vec::new();
        for entry in inspect("list", real, fs::read_dir(real))? {
            names.push(inspect("list", real, entry)?.file_name().into_vec());
        }
        for at in self.grafts.keys() {
            if at.parent() == Some(relative) {
                names.extend(at.file_name().map(|name| name.as_bytes().to_vec()));
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names.into_iter().map(OsString::from_vec).collect())
    }
}

/// Tells what was done to which path where the system refused.
pub(super) fn inspect<T>(
    action: &'static str,
    path: &Path,
    result: std::io::Result<T>,
) -> Result<T, ArchiveError> {
    result.map_err(|source| ArchiveError::Inspect {
        action,
        path: path.to_path_buf(),
        source,
    })
}
