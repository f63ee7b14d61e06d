//! What lies in the folder: whole objects, and partial files.

use std::io;
use std::path::Path;

use crate::ids::RunId;
use crate::store::{ObjectInfo, key};

/// A key, and what went wrong there.
type Failed = (String, io::Error);

/// Whole objects whose key begins with `prefix`, in key order.
pub(super) fn objects(root: &Path, prefix: &str) -> Result<Vec<ObjectInfo>, Failed> {
    let mut closed = Vec::new();
    let found = objects_that_open(root, prefix, &mut closed)?;
    match closed.into_iter().next() {
        None => Ok(found),
        Some(failed) => Err(failed),
    }
}

/// As [`objects`], but what may not be opened goes to `closed` and hides nothing else.
pub(super) fn objects_that_open(
    root: &Path,
    prefix: &str,
    closed: &mut Vec<Failed>,
) -> Result<Vec<ObjectInfo>, Failed> {
    let mut found = Vec::new();
    let mut seen = |folder: &str, name: &str, size| {
        let key = join(folder, name);
        if key.starts_with(prefix) && key::check(&key).is_ok() {
            found.push(ObjectInfo { key, size });
        }
    };
    let mut failed = |(folder, error): Failed| {
        let denied = error.kind() == io::ErrorKind::PermissionDenied && !folder.is_empty();
        if !denied {
            return Err((folder, error));
        }
        closed.push((folder, error));
        Ok(())
    };
    visit(root, prefix, &mut seen, &mut failed)?;
    found.sort();
    Ok(found)
}

/// Partial files of objects whose key begins with `prefix`, in order.
pub(super) fn partials(root: &Path, prefix: &str) -> Result<Vec<String>, Failed> {
    let mut found = Vec::new();
    visit(
        root,
        prefix,
        &mut |folder, name, _| {
            let id = join(folder, name);
            if key_of_partial(&id).is_some_and(|key| key.starts_with(prefix)) {
                found.push(id);
            }
        },
        &mut Err,
    )?;
    found.sort();
    Ok(found)
}

/// The key that the partial file `id` is to become, if it is the name of one.
pub(super) fn key_of_partial(id: &str) -> Option<String> {
    partial(id).map(|(key, _)| key)
}

/// Whether `run` wrote the partial file `id`.
pub(super) fn is_partial_of(id: &str, run: RunId) -> bool {
    partial(id).is_some_and(|(_, random)| random.starts_with(&run.to_string()))
}

/// What a partial file is to become, and the digits that tell it from others.
fn partial(id: &str) -> Option<(String, &str)> {
    let (folder, name) = id.rsplit_once('/').unwrap_or(("", id));
    let stem = name.strip_prefix('.')?.strip_suffix(".partial")?;
    let (name, random) = stem.rsplit_once('.')?;
    let well_formed = random.len() == 16
        && random
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let key = join(folder, name);
    (well_formed && !id.starts_with('/') && key::check(&key).is_ok()).then_some((key, random))
}

fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// Calls `seen` with folder, name and size of every regular file under the folders that may hold keys
/// beginning with `prefix`. Others are not even opened: `lost+found` need not be readable.
/// A folder that cannot be read is `failed`, which ends the walk or lets it go on with the next.
fn visit(
    root: &Path,
    prefix: &str,
    seen: &mut dyn FnMut(&str, &str, u64),
    failed: &mut dyn FnMut(Failed) -> Result<(), Failed>,
) -> Result<(), Failed> {
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let mut inner = Vec::new();
        match visit_one(root, prefix, &folder, seen, &mut inner) {
            Ok(()) => folders.extend(inner),
            // Its last object was deleted since its parent was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => {}
            Err(error) => {
                folders.extend(inner);
                failed((folder, error))?;
            }
        }
    }
    Ok(())
}

/// The files of one folder are `seen`; the folders in it that may hold keys beginning with `prefix` go to `inner`.
fn visit_one(
    root: &Path,
    prefix: &str,
    folder: &str,
    seen: &mut dyn FnMut(&str, &str, u64),
    inner: &mut Vec<String>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            let below = join(folder, name);
            let as_prefix = format!("{below}/");
            let may_match = as_prefix.starts_with(prefix) || prefix.starts_with(&as_prefix);
            if key::is_plain(name) && may_match {
                inner.push(below);
            }
        } else if kind.is_file() {
            match entry.metadata() {
                Ok(found) => seen(folder, name, found.len()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
