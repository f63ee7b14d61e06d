//! Reading an archive back: all of it to check it, all of it into a directory, or only some paths.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::container::Layout;
use super::decode::with_blocks;
use super::file_index::FileIndex;
use super::read::ArchiveRead;
use super::tar::{Reader, Source};
use super::target::Target;
use super::verify::{Nowhere, Verifier};
use super::{
    ArchiveError, Entries, ExpectedArchive, Owners, Profile, UnpackOptions, UnpackSummary, xz,
};
use crate::ids::Hash;
use crate::manifest::{EntryKind, FileEntry};
use crate::progress::Meter;

/// Re-reads everything: the object's hash, every block, every file's hash, and that archive and table agree exactly.
pub fn check(
    archive: &dyn ArchiveRead,
    expected: &ExpectedArchive,
    entries: &mut Entries<'_>,
    threads: NonZeroUsize,
    meter: &Meter,
    cancel: &CancellationToken,
) -> Result<UnpackSummary, ArchiveError> {
    let mut nowhere = Nowhere;
    let mut verifier = Verifier::new(&mut nowhere, Some(expected.data_size), meter, cancel);
    promised(archive, expected, entries, threads, &mut verifier)?;
    Ok(verifier.summary)
}

/// Writes the archive into `target`, which must be an empty directory, and checks while writing what [`check`] checks.
///
/// With [`UnpackOptions::only`] just those paths and the directories above them, from just the blocks they lie in.
/// After an error the target holds what was written until then.
pub fn unpack(
    archive: &dyn ArchiveRead,
    expected: &ExpectedArchive,
    entries: &mut Entries<'_>,
    target: &Path,
    options: &UnpackOptions,
    meter: &Meter,
    cancel: &CancellationToken,
) -> Result<UnpackSummary, ArchiveError> {
    let mut target = Target::new(target, options.owners)?;
    let mut verifier = Verifier::new(&mut target, Some(expected.data_size), meter, cancel);
    if options.only.is_empty() {
        promised(archive, expected, entries, options.threads, &mut verifier)?;
    } else {
        let layout = Layout::read(archive, expected)?;
        for run in runs(select(entries, &options.only)?, layout.tar_size)? {
            some(archive, &layout, &run, options.threads, &mut verifier)?;
        }
    }
    let summary = verifier.summary;
    target.finish()?;
    Ok(summary)
}

/// What an archive says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Described {
    /// Its profile.
    pub profile: Profile,
    /// Size of the tar stream in bytes.
    pub tar_size: u64,
    /// Number of compressed blocks.
    pub blocks: u64,
}

/// Reads what `archive` says of itself, whatever its name.
pub fn describe(archive: &dyn ArchiveRead) -> Result<Described, ArchiveError> {
    let layout = Layout::open(archive)?;
    Ok(Described {
        profile: layout.profile,
        tar_size: layout.tar_size,
        blocks: layout.block_count(),
    })
}

/// Writes an archive of which there is neither manifest nor table into `target`, which must be an empty directory.
///
/// The container's checksums, the order and the paths of the entries are checked as ever; that the files are those
/// that were packed nobody can say.
pub fn unpack_alone(
    archive: &dyn ArchiveRead,
    target: &Path,
    threads: NonZeroUsize,
    owners: Owners,
    meter: &Meter,
    cancel: &CancellationToken,
) -> Result<UnpackSummary, ArchiveError> {
    let layout = Layout::open(archive)?;
    let mut target = Target::new(target, owners)?;
    let mut verifier = Verifier::new(&mut target, None, meter, cancel);
    everything(archive, &layout, None, threads, None, &mut verifier)?;
    let summary = verifier.summary;
    target.finish()?;
    Ok(summary)
}

/// Everything, held against manifest and table.
fn promised(
    archive: &dyn ArchiveRead,
    expected: &ExpectedArchive,
    entries: &mut Entries<'_>,
    threads: NonZeroUsize,
    verifier: &mut Verifier<'_>,
) -> Result<(), ArchiveError> {
    let layout = Layout::read(archive, expected)?;
    let mut object = blake3::Hasher::new();
    object.update(&layout.head);
    let hasher = Some(&mut object);
    everything(archive, &layout, Some(entries), threads, hasher, verifier)?;
    object.update(&layout.tail);
    let found = Hash::from(object.finalize());
    if found != expected.hash {
        return Err(ArchiveError::Hash {
            expected: expected.hash,
            found,
        });
    }
    verifier.end()
}

/// Every block and every entry. `object` receives the bytes of all blocks.
fn everything(
    archive: &dyn ArchiveRead,
    layout: &Layout,
    mut entries: Option<&mut Entries<'_>>,
    threads: NonZeroUsize,
    mut object: Option<&mut blake3::Hasher>,
    verifier: &mut Verifier<'_>,
) -> Result<(), ArchiveError> {
    let all = 0..layout.blocks.len();
    let cancel = verifier.cancel;
    let wanted = with_blocks(
        archive,
        layout,
        all,
        threads,
        object.as_deref_mut(),
        cancel,
        |blocks| {
            let mut reader = Reader::new(blocks, 0);
            let mut file_index = layout
                .file_index
                .map(|_| FileIndex::new(blake3::Hasher::new()));
            loop {
                let offset = reader.offset();
                let entry = reader.entry(layout.tar_size)?;
                let line = match &mut entries {
                    Some(entries) => entries.next().transpose()?,
                    None => None,
                };
                match (entry, line) {
                    (None, None) => break,
                    (Some(entry), None) if entries.is_some() => {
                        return Err(ArchiveError::Extra {
                            path: entry.path.to_table(),
                        });
                    }
                    (None, Some(line)) => return Err(ArchiveError::Missing { path: line.path }),
                    (Some(entry), line) => {
                        if let Some(file_index) = &mut file_index {
                            file_index.add(&entry.path, entry.kind, offset);
                        }
                        verifier.entry(&mut reader, offset, &entry, line.as_ref())?;
                    }
                }
            }
            let offset = reader.offset();
            if offset != layout.tar_size || !reader.into_source().fill()?.is_empty() {
                return Err(ArchiveError::Tar {
                    offset,
                    what: "the stream goes on behind its trailer".into(),
                });
            }
            Ok(file_index.map(|index| index.finish(layout.tar_size).finalize()))
        },
    )?;

    let Some(block) = layout.file_index else {
        return Ok(());
    };
    let mut found = blake3::Hasher::new();
    let mut raw = |bytes: &[u8]| {
        if let Some(object) = &mut object {
            object.update(bytes);
        }
    };
    xz::stream_block(archive, block, &mut raw, &mut |bytes| {
        found.update(bytes);
        Ok(())
    })?;
    if Some(found.finalize()) != wanted {
        return Err(ArchiveError::Container {
            offset: block.offset,
            what: "the file index is not that of the tar stream".into(),
        });
    }
    Ok(())
}

fn within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Bytes of the files that [`unpack`] writes for `only`.
///
/// # Errors
/// The table's own; [`ArchiveError::NoSuchPath`].
pub fn chosen_size(entries: &mut Entries<'_>, only: &[String]) -> Result<u64, ArchiveError> {
    let sizes = select(entries, only)?.into_iter().map(|line| line.size);
    Ok(sizes.fold(0, u64::saturating_add))
}

/// The table's lines for `only`, and for the directories above and below them, in order.
fn select(entries: &mut Entries<'_>, only: &[String]) -> Result<Vec<FileEntry>, ArchiveError> {
    let mut found = vec![false; only.len()];
    let mut above: Vec<FileEntry> = Vec::new();
    let mut selected = Vec::new();
    for line in entries {
        let line = line?;
        above.retain(|directory| within(&line.path, &directory.path));
        let mut wanted = false;
        for (path, found) in only.iter().zip(&mut found) {
            let path = path.trim_end_matches('/');
            if line.path == path || within(&line.path, path) {
                (*found, wanted) = (true, true);
            }
        }
        if wanted {
            selected.append(&mut above);
            selected.push(line);
        } else if line.kind == EntryKind::Directory {
            above.push(line);
        }
    }
    match only.iter().zip(found).find(|(_, found)| !found) {
        Some((path, _)) => Err(ArchiveError::NoSuchPath { path: path.clone() }),
        None => Ok(selected),
    }
}

/// Lines that follow each other without a gap in the tar stream.
struct Run {
    lines: Vec<FileEntry>,
    range: Range<u64>,
}

fn runs(lines: Vec<FileEntry>, tar_size: u64) -> Result<Vec<Run>, ArchiveError> {
    let mut runs: Vec<Run> = Vec::new();
    for line in lines {
        let floor = runs.last().map_or(0, |run| run.range.end);
        let start = line.tar_offset;
        let end = start
            .checked_add(line.tar_length)
            .filter(|end| *end <= tar_size);
        let Some(end) = end.filter(|end| start >= floor && *end > start) else {
            return Err(ArchiveError::Differs {
                path: line.path,
                what: "place",
                expected: format!("{start} and {} long", line.tar_length),
                found: format!("between {floor} and {tar_size}"),
            });
        };
        match runs.last_mut() {
            Some(run) if run.range.end == start => {
                run.range.end = end;
                run.lines.push(line);
            }
            _ => runs.push(Run {
                lines: vec![line],
                range: start..end,
            }),
        }
    }
    Ok(runs)
}

fn some(
    archive: &dyn ArchiveRead,
    layout: &Layout,
    run: &Run,
    threads: NonZeroUsize,
    verifier: &mut Verifier<'_>,
) -> Result<(), ArchiveError> {
    let numbers = layout.covering(&run.range);
    let begin = layout
        .blocks
        .get(numbers.start)
        .map_or(0, |block| block.plain);
    let cancel = verifier.cancel;
    with_blocks(
        archive,
        layout,
        numbers,
        threads,
        None,
        cancel,
        |mut blocks| {
            let before = run.range.start.saturating_sub(begin);
            blocks.fill()?;
            blocks.consume(usize::try_from(before).unwrap_or(usize::MAX));
            let mut reader = Reader::new(blocks, run.range.start);
            for line in &run.lines {
                let offset = reader.offset();
                match reader.entry(layout.tar_size)? {
                    Some(entry) => verifier.entry(&mut reader, offset, &entry, Some(line))?,
                    None => {
                        return Err(ArchiveError::Missing {
                            path: line.path.clone(),
                        });
                    }
                }
            }
            Ok(())
        },
    )
}
