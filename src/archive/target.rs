//! Writing entries below a directory, and never outside it.
//!
//! Every name is created new, relative to the open directory that this program itself made for it a moment ago, and
//! without following links: there is no path for the kernel to resolve, so none that could lead elsewhere.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use xattr::FileExt as _;

use super::durable::Durable;
use super::tar::Entry;
use super::verify::Sink;
use super::{ArchiveError, Owners};
use crate::restore::target::INCOMPLETE;

/// A directory that is being filled.
pub(super) struct Target {
    root: PathBuf,
    root_dir: File,
    owners: Owners,
    /// The directories from the root down to the one that is being filled.
    open: Vec<(Entry, File)>,
    /// The file that is being written, and its path for errors.
    file: Option<(File, PathBuf)>,
    durable: Durable,
}

impl Target {
    /// `root` must be an empty directory.
    pub(super) fn new(root: &Path, owners: Owners) -> Result<Self, ArchiveError> {
        let failed = |action| {
            move |source| ArchiveError::Target {
                action,
                path: root.to_path_buf(),
                source,
            }
        };
        let root_dir = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY)
            .open(root)
            .map_err(failed("open"))?;
        for found in std::fs::read_dir(root).map_err(failed("list"))? {
            let name = found.map_err(failed("list"))?.file_name();
            // The caller's mark of an unfinished restore, and what a fresh file system holds.
            if name != INCOMPLETE && name != "lost+found" {
                return Err(ArchiveError::NotEmpty {
                    path: root.to_path_buf(),
                });
            }
        }
        Ok(Self {
            root: root.to_path_buf(),
            root_dir,
            owners,
            open: Vec::new(),
            file: None,
            durable: Durable::new(),
        })
    }

    /// Settles what is still open and makes everything durable.
    pub(super) fn finish(mut self) -> Result<(), ArchiveError> {
        self.close_to(None)?;
        self.durable.complete(self.root_dir, self.root)?;
        self.durable.finish()
    }

    fn failed(
        &self,
        action: &'static str,
        entry: &Entry,
        source: impl Into<std::io::Error>,
    ) -> ArchiveError {
        ArchiveError::Target {
            action,
            path: self.root.join(entry.path.to_path()),
            source: source.into(),
        }
    }

    /// Closes directories until the one with the path `parent` is the last.
    fn close_to(&mut self, parent: Option<&[u8]>) -> Result<(), ArchiveError> {
        while let Some((entry, directory)) = self
            .open
            .pop_if(|(entry, _)| Some(entry.path.as_bytes()) != parent)
        {
            self.settle(&entry, directory)?;
        }
        Ok(())
    }

    /// The directory that `entry` is to be made in.
    fn parent(&mut self, entry: &Entry) -> Result<&File, ArchiveError> {
        let parent = entry.path.split().0;
        self.close_to(parent)?;
        match (self.open.last(), parent) {
            (Some((_, directory)), Some(_)) => Ok(directory),
            (None, None) => Ok(&self.root_dir),
            // The verifier's order rules it out.
            _ => Err(ArchiveError::UnsafePath {
                path: entry.path.to_table(),
                reason: "whose directory did not come before it",
            }),
        }
    }

    fn create(&mut self, entry: &Entry, flags: OFlag) -> Result<File, ArchiveError> {
        let name = OsStr::from_bytes(entry.path.split().1).to_owned();
        let parent = self.parent(entry)?;
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = openat(
            parent.as_fd(),
            name.as_os_str(),
            flags,
            Mode::S_IRUSR | Mode::S_IWUSR,
        );
        opened
            .map(File::from)
            .map_err(|errno| self.failed("create", entry, errno))
    }

    /// Owner first, since changing it clears bits of the mode; times last, since everything else changes them.
    fn settle(&mut self, entry: &Entry, file: File) -> Result<(), ArchiveError> {
        if self.owners == Owners::Restore {
            fchown(&file, Some(entry.uid), Some(entry.gid))
                .map_err(|e| self.failed("set the owner of", entry, e))?;
        }
        file.set_permissions(Permissions::from_mode(entry.mode))
            .map_err(|e| self.failed("set the mode of", entry, e))?;
        for (name, value) in &entry.xattrs {
            file.set_xattr(OsStr::from_bytes(name), value)
                .map_err(|e| self.failed("set an attribute of", entry, e))?;
        }
        let mtime = TimeSpec::new(entry.mtime, entry.mtime_ns.into());
        futimens(file.as_fd(), &TimeSpec::UTIME_OMIT, &mtime)
            .map_err(|e| self.failed("set the time of", entry, e))?;
        let path = self.root.join(entry.path.to_path());
        self.durable.complete(file, path)
    }
}

impl Sink for Target {
    fn directory(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let name = OsStr::from_bytes(entry.path.split().1).to_owned();
        let parent = self.parent(entry)?;
        let made = mkdirat(parent.as_fd(), name.as_os_str(), Mode::S_IRWXU);
        made.map_err(|errno| self.failed("create", entry, errno))?;
        let directory = self.create(entry, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        self.open.push((entry.clone(), directory));
        Ok(())
    }

    fn file(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let file = self.create(entry, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        // Its final size at once: what is not written stays a hole.
        file.set_len(entry.size)
            .map_err(|e| self.failed("set the size of", entry, e))?;
        self.file = Some((file, self.root.join(entry.path.to_path())));
        Ok(())
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ArchiveError> {
        let Some((file, path)) = &self.file else {
            return Err(ArchiveError::WorkerLost);
        };
        file.write_all_at(bytes, offset)
            .map_err(|source| ArchiveError::Target {
                action: "write",
                path: path.clone(),
                source,
            })?;
        self.durable.wrote(file, path, bytes.len())
    }

    fn file_end(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        match self.file.take() {
            Some((file, _)) => self.settle(entry, file),
            None => Err(ArchiveError::WorkerLost),
        }
    }
}
