//! What lies in the folder: whole objects, and partial files.

use std::io;
use std::path::Path;

use crate::store::{ObjectInfo, key};

/// A key, and what went wrong there.
type Failed = (String, io::Error);

/// Whole objects whose key begins with `prefix`, in key order.
pub(super) fn objects(root: &Path, prefix: &str) -> Result<Vec<ObjectInfo>, Failed> {
    let mut found = Vec::new();
    visit(root, prefix, &mut |folder, name, size| {
        let key = join(folder, name);
        if key.starts_with(prefix) && key::check(&key).is_ok() {
            found.push(ObjectInfo { key, size });
        }
    })?;
    found.sort();
    Ok(found)
}

/// Partial files of objects whose key begins with `prefix`, in order.
pub(super) fn partials(root: &Path, prefix: &str) -> Result<Vec<String>, Failed> {
    let mut found = Vec::new();
    visit(root, prefix, &mut |folder, name, _| {
        let id = join(folder, name);
        if key_of_partial(&id).is_some_and(|key| key.starts_with(prefix)) {
            found.push(id);
        }
    })?;
    found.sort();
    Ok(found)
}

/// The key that the partial file `id` is to become, if it is the name of one.
pub(super) fn key_of_partial(id: &str) -> Option<String> {
    let (folder, name) = id.rsplit_once('/').unwrap_or(("", id));
    let stem = name.strip_prefix('.')?.strip_suffix(".partial")?;
    let (name, random) = stem.rsplit_once('.')?;
    let well_formed = random.len() == 16
        && random
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let key = join(folder, name);
    (well_formed && !id.starts_with('/') && key::check(&key).is_ok()).then_some(key)
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
fn visit(root: &Path, prefix: &str, seen: &mut dyn FnMut(&str, &str, u64)) -> Result<(), Failed> {
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let failed = |error| (folder.clone(), error);
        let entries = match std::fs::read_dir(root.join(&folder)) {
            Ok(entries) => entries,
            // Its last object was deleted since its parent was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.is_empty() => continue,
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                let inner = join(&folder, name);
                let as_prefix = format!("{inner}/");
                let may_match = as_prefix.starts_with(prefix) || prefix.starts_with(&as_prefix);
                if key::is_plain(name) && may_match {
                    folders.push(inner);
                }
            } else if kind.is_file() {
                match entry.metadata() {
                    Ok(found) => seen(&folder, name, found.len()),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(error)),
                }
            }
        }
    }
    Ok(())
}
