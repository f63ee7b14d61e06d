//! What a journal says, read from its bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::{Entry, JournalError, Owner, Record};
use crate::backup::resource::Resource;

/// A journal longer than this is none of ours.
const MAX_JOURNAL: u64 = 16 << 20;

/// All that a journal says.
pub(crate) struct Contents {
    pub(super) owner: Owner,
    pub(crate) outstanding: Vec<(Entry, Resource)>,
    pub(super) next: u32,
    /// Length of the whole records; what follows was torn by a power cut.
    pub(super) whole: u64,
}

/// Reads the records of `file`. A last line without its end, or with a hole, was torn by a power cut: the resource
/// it would have named was never acquired, because acquiring waits for the sync.
pub(super) fn read(mut file: &File, path: &Path) -> Result<Contents, JournalError> {
    let fail = |source| JournalError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    file.take(MAX_JOURNAL.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(fail)?;
    // Its end tells of things as its beginning does: half a journal must not pass for a whole one.
    if bytes.len() as u64 > MAX_JOURNAL {
        return Err(JournalError::Damaged {
            path: path.to_owned(),
            line: bytes.iter().filter(|byte| **byte == b'\n').count() + 1,
            reason: format!("it is longer than any ({MAX_JOURNAL} bytes)"),
        });
    }
    parse(&bytes).map_err(|(line, reason)| JournalError::Damaged {
        path: path.to_owned(),
        line,
        reason,
    })
}

/// The records in `bytes`, or the 1-based line that is none and why.
pub(crate) fn parse(bytes: &[u8]) -> Result<Contents, (usize, String)> {
    let mut owner = None;
    let mut outstanding: BTreeMap<Entry, Resource> = BTreeMap::new();
    let mut next = 0u32;
    let mut whole = 0u64;
    let mut lines = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .peekable();
    while let Some((index, line)) = lines.next() {
        if !line.ends_with(b"\n") {
            break;
        }
        match serde_json::from_slice(line) {
            Ok(Record::Begin { owner: begun }) => owner = Some(begun),
            Ok(Record::Plan { entry, resource }) => {
                // Numbers rise, so that each names one resource; of two under one number one would be forgotten.
                if entry.0 < next || entry.0 == u32::MAX {
                    return Err((index + 1, "its entry's number was in use before".into()));
                }
                next = entry.0.saturating_add(1);
                outstanding.insert(entry, resource);
            }
            Ok(Record::Released { entry }) => {
                outstanding.remove(&entry);
            }
            // What a power cut tore has no end, or a hole; any other line was written whole, and must be a record.
            Err(_) if lines.peek().is_none() && line.contains(&0) => break,
            Err(error) => return Err((index + 1, error.to_string())),
        }
        whole += line.len() as u64;
    }
    let owner = owner.ok_or_else(|| (1, "no owner is named".to_owned()))?;
    Ok(Contents {
        owner,
        outstanding: outstanding.into_iter().collect(),
        next,
        whole,
    })
}

/// What the records that can be read say is outstanding, for a journal that cannot be read as a whole.
pub(super) fn salvage(bytes: &[u8]) -> Vec<Resource> {
    let mut outstanding = BTreeMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        match serde_json::from_slice(line) {
            Ok(Record::Plan { entry, resource }) => {
                outstanding.insert(entry, resource);
            }
            Ok(Record::Released { entry }) => {
                outstanding.remove(&entry);
            }
            Ok(Record::Begin { .. }) | Err(_) => {}
        }
    }
    outstanding.into_values().collect()
}
