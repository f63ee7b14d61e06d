//! The files that setup makes: whole or not at all, and readable by those alone whom they concern.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::SetupError;
use crate::whole;

/// What follows a file's name in that of what was there before.
const KEPT: &str = ".before-setup";

fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> SetupError + 'a {
    move |source| SetupError::File {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The text of `path`; none where there is no such file.
///
/// # Errors
/// [`SetupError::File`].
pub(super) fn read(path: &Path) -> Result<Option<String>, SetupError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// Makes the folder of a store, for root alone.
///
/// # Errors
/// [`SetupError::File`].
pub(super) fn make_folder(path: &Path) -> Result<(), SetupError> {
    // Of what lies above it others may have use: RHEL has no /var/backups.
    if let Some(above) = path.parent() {
        fs::create_dir_all(above).map_err(failed("make", above))?;
    }
    let made = DirBuilder::new().mode(0o700).create(path);
    made.map_err(failed("make", path))
}

/// Under which name what `path` is now is kept: the first that is free, or has the same content.
pub(super) fn kept_as(path: &Path) -> PathBuf {
    let named = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(KEPT);
        if number > 1 {
            name.push(format!(".{number}"));
        }
        PathBuf::from(name)
    };
    let content = fs::read(path).ok();
    let mut number = 1;
    loop {
        let kept = named(number);
        // Whatever else keeps it from being looked at keeps it from being written, and is told then.
        if fs::symlink_metadata(&kept).is_err() {
            return kept;
        }
        match fs::read(&kept) {
            Ok(there) if Some(&there) == content.as_ref() => return kept,
            // One that nobody can read is not written over.
            _ => number += 1,
        }
    }
}

/// Keeps a copy of `path` beside it.
///
/// # Errors
/// [`SetupError::File`].
pub(super) fn keep_what_was(path: &Path) -> Result<(), SetupError> {
    let kept = kept_as(path);
    fs::copy(path, &kept)
        .map(drop)
        .map_err(failed("write", &kept))
}

/// Writes `path`, or what it leads to, anew, durable, with the rights and owner of what is there, else with `mode`.
///
/// # Errors
/// [`SetupError::File`].
pub(super) fn write_private(path: &Path, text: &str, mode: u32) -> Result<(), SetupError> {
    let led_to = fs::canonicalize(path);
    let path = led_to.as_deref().unwrap_or(path);
    let fail = failed("write", path);
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(&fail)?;
    let there = match fs::metadata(path) {
        Ok(there) => Some(there),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(fail(error)),
    };
    let grant = |file: &fs::File| {
        if let Some(there) = &there {
            fchown(file, Some(there.uid()), Some(there.gid()))?;
        }
        // A password that everybody may read would be refused.
        let kept = there.as_ref();
        let mode = kept.map_or(mode, |there| there.mode() & 0o770 & (mode | 0o040));
        file.set_permissions(Permissions::from_mode(mode))
    };
    whole::replace_as(path, text.as_bytes(), grant).map_err(&fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_is_kept_with_its_rights() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("etc/freezeframe.toml");
        write_private(&path, "one", 0o640).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        keep_what_was(&path).unwrap();
        write_private(&path, "two", 0o640).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let kept = home.path().join("etc/freezeframe.toml.before-setup");
        assert_eq!(read(&kept).unwrap().as_deref(), Some("one"));
        // What somebody wrote since then is kept as well, and nothing twice.
        keep_what_was(&path).unwrap();
        keep_what_was(&path).unwrap();
        let second = home.path().join("etc/freezeframe.toml.before-setup.2");
        assert_eq!(kept_as(&path), second);
        assert_eq!(read(&second).unwrap().as_deref(), Some("two"));
        assert_eq!(read(&kept).unwrap().as_deref(), Some("one"));
        let secret = home.path().join("password");
        fs::write(&secret, "x").unwrap();
        fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
        write_private(&secret, "y", 0o600).unwrap();
        assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o007, 0);
        assert_eq!(read(&home.path().join("nowhere")).unwrap(), None);
    }
}
