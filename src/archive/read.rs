//! Where an archive object is read from.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::ArchiveError;
use crate::store::StoreError;

/// An archive object that can be read at any place, by several threads at once.
pub trait ArchiveRead: Send + Sync {
    /// Its size in bytes.
    fn size(&self) -> u64;
    /// Exactly the bytes of `range`.
    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError>;
}

/// An archive in a file.
#[derive(Debug)]
pub struct FileArchive {
    path: PathBuf,
    file: File,
    size: u64,
}

impl FileArchive {
    /// Opens `path`.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let opened = File::open(path).and_then(|file| Self::of(file, path));
        opened.map_err(|source| ArchiveError::Read {
            path: path.to_path_buf(),
            offset: 0,
            source,
        })
    }

    /// An open file; messages call it `path`.
    pub fn of(file: File, path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            size: file.metadata()?.len(),
            file,
        })
    }
}

impl ArchiveRead for FileArchive {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let key = || {
            self.path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        };
        let store = || {
            let folder = self.path.parent().unwrap_or(Path::new("."));
            folder.display().to_string()
        };
        if range.end > self.size {
            return Err(StoreError::Truncated {
                store: store(),
                key: key(),
                size: self.size,
                wanted: range.end,
            });
        }
        let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        match self.file.read_exact_at(&mut bytes, range.start) {
            Ok(()) => Ok(bytes),
            Err(source) => Err(StoreError::Io {
                action: "read",
                store: store(),
                key: key(),
                source,
            }),
        }
    }
}

/// The bytes of `range`, and no others.
pub(super) fn fetch(archive: &dyn ArchiveRead, range: Range<u64>) -> Result<Vec<u8>, ArchiveError> {
    let (start, length) = (range.start, range.end.saturating_sub(range.start));
    let bytes = archive.read_at(range)?;
    if bytes.len() as u64 != length {
        return Err(ArchiveError::Container {
            offset: start,
            what: format!("{} bytes came where {length} were asked for", bytes.len()),
        });
    }
    Ok(bytes)
}
