//! Files that are either there, whole and on disk, or not there.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::ids::RunId;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

/// After how many bytes what was written goes to disk. It bounds dirty pages, so that the last fsync
/// is short and a full disk is noticed early.
const SYNC_EVERY: u64 = 64 << 20;

/// How often a folder that somebody removes while it is empty is made again.
const FOLDER_ATTEMPTS: u32 = 16;

/// A file being written. Dropped before [`Partial::publish`], it is removed.
#[derive(Debug)]
pub(super) struct Partial {
    file: File,
    path: PathBuf,
    place: PathBuf,
    written: u64,
    synced: u64,
    remove_on_drop: bool,
}

impl Partial {
    /// A new, empty file beside `place`, whose folders below `root` are made where they lack. Its name begins as `run` does, if one
    /// writes it.
    pub(super) fn create(root: &Path, place: &Path, run: Option<RunId>) -> io::Result<Self> {
        let (folder, name) = split(place)?;
        let random = format!("{:016x}", uuid::Uuid::new_v4().as_u64_pair().0);
        let random = match run {
            Some(run) => format!("{run}{}", random.get(8..).unwrap_or_default()),
            None => random,
        };
        let mut partial_name = std::ffi::OsString::from(".");
        partial_name.push(name);
        partial_name.push(format!(".{random}.partial"));
        let path = folder.join(partial_name);
        let mut attempt = 0;
        loop {
            make_folders(root, folder)?;
            let opened = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path);
            match opened {
                Ok(file) => {
                    return Ok(Self {
                        file,
                        path,
                        place: place.to_owned(),
                        written: 0,
                        synced: 0,
                        remove_on_drop: true,
                    });
                }
                // A deletion of the folder's last object removed the folder in between.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && attempt < FOLDER_ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Appends `bytes`.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written.saturating_sub(self.synced) >= SYNC_EVERY {
            self.file.sync_data()?;
            self.forget_pages();
        }
        Ok(())
    }

    /// Bytes appended so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Gives the file its name, which must be free, and makes both durable.
    pub(super) fn publish(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.forget_pages();
        rename_new(&self.path, &self.place)?;
        self.remove_on_drop = false;
        sync_folder(split(&self.place)?.0)
    }

    /// Removes the file.
    pub(super) fn discard(mut self) -> io::Result<()> {
        self.remove_on_drop = false;
        remove_if_there(&self.path)
    }

    /// Backups are written once and not read soon; the page cache belongs to the mongod beside us.
    fn forget_pages(&mut self) {
        let from = i64::try_from(self.synced).unwrap_or(i64::MAX);
        self.synced = self.written;
        // Advice: a file system may decline it, and nothing depends on it.
        let _ = posix_fadvise(&self.file, from, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.remove_on_drop
            && let Err(error) = remove_if_there(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a partial file");
        }
    }
}

/// Removes the file at `place` and the folders below `root` that it leaves empty.
pub(super) fn remove(root: &Path, place: &Path) -> io::Result<()> {
    remove_if_there(place)?;
    let mut folder = split(place)?.0;
    while folder != root && folder.starts_with(root) {
        let synced = match sync_folder(folder) {
            // Who removed it synced its parent.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced,
        };
        match std::fs::remove_dir(folder) {
            Ok(()) => {}
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => {}
                io::ErrorKind::DirectoryNotEmpty
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::ResourceBusy => {
                    return synced;
                }
                io::ErrorKind::NotADirectory => return Ok(()),
                _ => return Err(error),
            },
        }
        folder = split(folder)?.0;
    }
    sync_folder(folder)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error)
            if !matches!(
                error.kind(),
                io::ErrorKind::NotFound
                    | io::ErrorKind::NotADirectory
                    | io::ErrorKind::IsADirectory
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Makes `folder` and what it lacks between it and `root`, each durable in its parent.
fn make_folders(root: &Path, folder: &Path) -> io::Result<()> {
    let mut missing = Vec::new();
    let mut at = folder;
    while at != root {
        match std::fs::metadata(at) {
            Ok(found) if found.is_dir() => break,
            Ok(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(at),
            Err(error) => return Err(error),
        }
        at = split(at)?.0;
    }
    for folder in missing.into_iter().rev() {
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => {}
            // Another writer made it, or removed its parent: opening the file will tell.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) => {}
            Err(error) => return Err(error),
        }
        // Also where another writer made it: it may not have synced it yet, and we rely on it.
        match sync_folder(split(folder)?.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn split(path: &Path) -> io::Result<(&Path, &std::ffi::OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(io::Error::from(io::ErrorKind::InvalidInput)),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Ok(opened) => opened.sync_all(),
        Err(error) => Err(error),
    }
}

/// Renames `from` to `to`, or fails with `AlreadyExists`.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        // The file system (NFS for one) or the kernel does not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => link_new(from, to),
        Err(error) => Err(error.into()),
    }
}

/// The same by a hard link, which never replaces either.
pub(super) fn link_new(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::hard_link(from, to) {
        Ok(()) => {}
        // Over NFS a repeated request reports the success of the first one as a failure.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && same_file(from, to)? => {}
        Err(error) => return Err(error),
    }
    std::fs::remove_file(from)
}

fn same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (
        std::fs::symlink_metadata(one)?,
        std::fs::symlink_metadata(other)?,
    );
    Ok(one.dev() == other.dev() && one.ino() == other.ino())
}
