//! Whether a server sees the files that we see.
//!
//! One with mounts of its own (a container, `BindPaths=` of its unit) may have its journal or its databases on volumes of which this host's mount table tells
//! nothing, and what lies at the same path here would be archived in their place. So is a directory that was mounted over after the server had opened it.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the name of a file ends with that the server has removed and still has open: proc_pid_fd(5).
const DELETED: &str = " (deleted)";
/// A file that is renamed under a look is not where it was; one that is another in so many looks is.
const LOOKS: u32 = 5;
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A data file of the process `pid` that is another one here, or none.
///
/// # Errors
/// Where another user's process keeps its files to itself.
pub fn another_here(pid: u32) -> io::Result<Option<PathBuf>> {
    let mut others = look(pid)?;
    for _ in 1..LOOKS {
        if others.is_empty() {
            break;
        }
        std::thread::sleep(PAUSE);
        let now = look(pid)?;
        others.retain(|one| now.contains(one));
    }
    Ok(others.into_iter().next())
}

/// Whether the process `pid` has `file` open.
pub fn has_open(pid: u32, file: &Metadata) -> bool {
    let files = open_files(pid).unwrap_or_default();
    let mut opened = files
        .iter()
        .filter_map(|(_, handle)| fs::metadata(handle).ok());
    opened.any(|opened| is_same(&opened, file))
}

/// A process that has a file open on the file system, or subvolume, of `path`, and that file.
///
/// # Errors
/// Where processes cannot be listed, or `path` be looked at.
pub fn user_of(path: &Path) -> io::Result<Option<(u32, PathBuf)>> {
    let device = fs::metadata(path)?.dev();
    let processes = fs::read_dir("/proc")?.flatten();
    let mut pids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    Ok(pids.find_map(|pid: u32| {
        let mut files = open_files(pid).unwrap_or_default().into_iter();
        let of_it = |handle: &Path| fs::metadata(handle).is_ok_and(|opened| opened.dev() == device);
        let (file, _) = files.find(|(_, handle)| of_it(handle))?;
        Some((pid, file))
    }))
}

fn look(pid: u32) -> io::Result<BTreeSet<PathBuf>> {
    let files = open_files(pid)?;
    let data = files.into_iter().filter(|(path, _)| is_data(path));
    let elsewhere = data.filter(|(path, handle)| match fs::metadata(handle) {
        Ok(opened) => fs::metadata(path).map_or(true, |here| !is_same(&opened, &here)),
        // Closed meanwhile.
        Err(_) => false,
    });
    Ok(elsewhere.map(|(path, _)| path).collect())
}

/// The paths by which a process has files open, each with that by which they can be looked at whatever is at that path here.
fn open_files(pid: u32) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let handles = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let handles = handles.filter_map(|handle| Some(handle.ok()?.path()));
    Ok(handles
        .filter_map(|handle| Some((fs::read_link(&handle).ok()?, handle)))
        .collect())
}

/// Whether it is a file of WiredTiger that is still there: collections, indexes, the journal and its own.
fn is_data(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    path.is_absolute()
        && !name.ends_with(DELETED)
        && (name.ends_with(".wt") || name.starts_with("WiredTiger"))
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_replaced_is_another() {
        let home = tempfile::tempdir().unwrap();
        let (data, log) = (home.path().join("a.wt"), home.path().join("a.log"));
        let opened = [&data, &log].map(|path| fs::File::create(path).unwrap());
        let myself = std::process::id();
        assert_eq!(another_here(myself).unwrap(), None);
        assert!(has_open(myself, &fs::metadata(&data).unwrap()));
        // As a mount over it does.
        let moved = home.path().join("b.wt");
        fs::rename(&data, &moved).unwrap();
        assert_eq!(
            another_here(myself).unwrap(),
            None,
            "it is known by its new name"
        );
        drop(opened);
        assert!(!has_open(myself, &fs::metadata(&moved).unwrap()));
    }

    #[test]
    fn only_data_that_is_there_is_looked_at() {
        for (path, expected) in [
            ("/data/db/collection-1.wt", true),
            ("/data/db/journal/WiredTigerLog.0000000001", true),
            ("/data/db/collection-1.wt (deleted)", false),
            ("/var/log/mongod.log", false),
            ("socket:[1]", false),
        ] {
            assert_eq!(is_data(Path::new(path)), expected, "{path}");
        }
    }
}
