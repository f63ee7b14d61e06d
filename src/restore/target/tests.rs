use nix::fcntl::{Flock, FlockArg};

use super::*;
use crate::error::{Exit, Explain};
use std::os::unix::fs::{PermissionsExt, symlink};

fn refusal(path: &Path) -> RestoreError {
    let error = Target::prepare(path, 0).unwrap_err();
    assert_eq!(error.exit(), Exit::Restore, "{error}");
    assert!(error.hint().is_some(), "{error}");
    error
}

#[test]
fn is_marked_until_it_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let target = Target::prepare(&path, 1).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o700
    );
    assert!(path.join(INCOMPLETE).exists());
    fs::write(path.join("data"), "x").unwrap();
    target.finish().unwrap();
    assert!(!path.join(INCOMPLETE).exists());
    assert!(
        matches!(refusal(&path), RestoreError::TargetNotEmpty { found, .. } if found == "data")
    );
}

#[test]
fn one_that_was_left_unfinished_is_told_from_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    drop(Target::prepare(&path, 1).unwrap());
    fs::write(path.join("half"), "x").unwrap();
    assert!(matches!(
        refusal(&path),
        RestoreError::TargetUnfinished { .. }
    ));
}

#[test]
fn an_empty_directory_and_a_fresh_file_system_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["empty", "fresh"] {
        fs::create_dir(dir.path().join(name)).unwrap();
    }
    fs::create_dir(dir.path().join("fresh/lost+found")).unwrap();
    symlink("empty", dir.path().join("link")).unwrap();
    Target::prepare(&dir.path().join("fresh"), 1).unwrap();
    Target::prepare(&dir.path().join("link"), 1).unwrap();
    assert!(dir.path().join("empty").join(INCOMPLETE).exists());
}

#[test]
fn refuses_what_cannot_hold_a_restore() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    assert!(matches!(
        refusal(&dir.path().join("file")),
        RestoreError::TargetNotDirectory { .. }
    ));
    assert!(matches!(
        refusal(&dir.path().join("no/db")),
        RestoreError::NoParent { .. }
    ));
    assert!(matches!(
        refusal(dir.path()),
        RestoreError::TargetNotEmpty { .. }
    ));
    let dangling = dir.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    assert!(matches!(
        refusal(&dangling),
        RestoreError::TargetNotDirectory { .. }
    ));
    let path = dir.path().join("db");
    let error = Target::prepare(&path, u64::MAX).unwrap_err();
    assert!(matches!(error, RestoreError::NoSpace { .. }), "{error}");
    assert!(!path.exists(), "created although it does not fit");
}

#[test]
fn refuses_a_directory_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let lock = File::create(dir.path().join("mongod.lock")).unwrap();
    let held = Flock::lock(lock, FlockArg::LockExclusiveNonblock).unwrap();
    assert!(matches!(
        refusal(dir.path()),
        RestoreError::TargetInUse { .. }
    ));
    drop(held);
    refuse_running(dir.path()).unwrap();
}
