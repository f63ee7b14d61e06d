//! Trees to pack, and packed trees.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use freezeframe::archive::*;
use freezeframe::manifest::FileEntry;
use freezeframe::progress::Meter;
use tokio_util::sync::CancellationToken;

pub fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

pub fn tree(root: &Path) -> SourceTree {
    SourceTree {
        root: root.to_path_buf(),
        grafts: Vec::new(),
        exclude: Vec::new(),
        include_diagnostics: false,
        live: false,
    }
}

/// A packed tree in memory.
#[derive(Clone)]
pub struct Packed {
    pub object: Vec<u8>,
    pub entries: Vec<FileEntry>,
    pub summary: PackSummary,
}

impl Packed {
    pub fn paths(&self) -> Vec<&str> {
        self.entries.iter().map(|e| e.path.as_str()).collect()
    }

    pub fn expected(&self) -> ExpectedArchive {
        ExpectedArchive::from(&self.summary.record(&"rs0".parse().unwrap()))
    }

    pub fn check(&self) -> Result<UnpackSummary, ArchiveError> {
        let mut entries = self.entries.iter().cloned().map(Ok);
        check(
            &Memory(self.object.clone()),
            &self.expected(),
            &mut entries,
            threads(2),
            &Meter::default(),
            &CancellationToken::new(),
        )
    }

    /// Without manifest and table.
    pub fn unpack_alone(&self, target: &Path) -> Result<UnpackSummary, ArchiveError> {
        unpack_alone(
            &Memory(self.object.clone()),
            target,
            threads(2),
            Owners::Restore,
            &Meter::default(),
            &CancellationToken::new(),
        )
    }

    pub fn unpack(&self, target: &Path, only: &[&str]) -> Result<UnpackSummary, ArchiveError> {
        let mut entries = self.entries.iter().cloned().map(Ok);
        let options = UnpackOptions {
            threads: threads(2),
            owners: Owners::Restore,
            only: only.iter().map(|s| (*s).to_owned()).collect(),
        };
        unpack(
            &Memory(self.object.clone()),
            &self.expected(),
            &mut entries,
            target,
            &options,
            &Meter::default(),
            &CancellationToken::new(),
        )
    }
}

/// An object in memory.
pub struct Memory(pub Vec<u8>);

impl ArchiveRead for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(
        &self,
        range: std::ops::Range<u64>,
    ) -> Result<Vec<u8>, freezeframe::store::StoreError> {
        let wanted = range.end;
        self.0
            .get(range.start as usize..range.end as usize)
            .map(<[u8]>::to_vec)
            .ok_or(freezeframe::store::StoreError::Truncated {
                store: "memory".into(),
                key: "archive".into(),
                size: self.0.len() as u64,
                wanted,
            })
    }
}

/// Every profile; `portable` at the level with the smallest blocks.
pub fn methods() -> [Method; 3] {
    [portable(0), Method::Fast, Method::Small]
}

pub fn portable(level: u32) -> Method {
    Method::Portable(Level::new(level).unwrap())
}

pub fn try_pack(source: &SourceTree, method: Method) -> Result<Packed, ArchiveError> {
    let mut object = Vec::new();
    let mut entries = Vec::new();
    let options = PackOptions {
        method,
        threads: threads(2),
    };
    let mut on_entry = |entry| {
        entries.push(entry);
        Ok(())
    };
    let summary = pack(
        source,
        &"rs0".parse().unwrap(),
        &options,
        &mut object,
        &mut on_entry,
        &Meter::default(),
        &CancellationToken::new(),
    )?;
    Ok(Packed {
        object,
        entries,
        summary,
    })
}

pub fn packed(source: &SourceTree) -> Packed {
    try_pack(source, portable(0)).unwrap()
}

/// Bytes that compress about by half, the same for the same seed.
pub fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..length)
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if i / 64 % 2 == 0 { state as u8 } else { b'z' }
        })
        .collect()
}

/// A file of `size` with data only at `data`.
pub fn write_sparse(path: &Path, size: u64, data: &[(u64, Vec<u8>)]) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (at, bytes) in data {
        file.write_all_at(bytes, *at).unwrap();
    }
    file.sync_all().unwrap();
}

/// Everything awkward in a small tree: what a dbPath holds and what it might.
pub fn awkward_tree(root: &Path) {
    let file = |name: &str, content: &[u8]| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(path).unwrap().write_all(content).unwrap();
    };
    file("WiredTiger", b"WiredTiger 10.0.2\n");
    file("collection-0.wt", &bytes(3_000_000, 7));
    file("empty", b"");
    file("block", &bytes(512, 3));
    file("journal/WiredTigerLog.0000000001", &bytes(100_000, 9));
    file(&format!("long/{}", "n".repeat(200)), b"long name");
    file(&format!("{0}/{0}/{0}/deep", "d".repeat(120)), b"long path");
    file("sp ace/tab\tnew\nline", b"odd");
    file("ümlaut/日本", b"unicode");
    file("._apple", b"looks like an AppleDouble file");
    file("percent%41", b"");
    fs::create_dir(root.join("empty-dir")).unwrap();
    write_sparse(
        &root.join("journal/WiredTigerPreplog.0000000001"),
        8 << 20,
        &[],
    );
    let many = (0..300)
        .map(|i| (i * 16384, bytes(4096, i + 1)))
        .collect::<Vec<_>>();
    write_sparse(&root.join("sparse-many.wt"), 300 * 16384, &many);
    write_sparse(
        &root.join("sparse-ümlaut.wt"),
        1 << 20,
        &[(300_000, b"middle".to_vec())],
    );
    write_sparse(
        &root.join("sparse-end.wt"),
        1 << 20,
        &[((1 << 20) - 5, b"final".to_vec())],
    );
    xattr::set(root.join("empty"), "user.odd=%25", b"a\0b\n").unwrap();
    xattr::set(root.join("journal"), "user.note", b"directory").unwrap();
    fs::set_permissions(root.join("block"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("empty-dir"), fs::Permissions::from_mode(0o500)).unwrap();
    let old = std::time::UNIX_EPOCH - std::time::Duration::new(5, 250_000_000);
    File::options()
        .write(true)
        .open(root.join("empty"))
        .unwrap()
        .set_modified(old)
        .unwrap();
}

/// What is compared between two trees.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub is_dir: bool,
    pub content: Option<blake3::Hash>,
    pub size: u64,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: (i64, i64),
    pub xattrs: Vec<(std::ffi::OsString, Vec<u8>)>,
}

pub fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    look_into(root, root, &mut seen);
    seen
}

fn look_into(root: &Path, directory: &Path, seen: &mut BTreeMap<PathBuf, Seen>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let is_dir = metadata.is_dir();
        let mut xattrs: Vec<_> = xattr::list(&path)
            .unwrap()
            .map(|name| {
                let value = xattr::get(&path, &name).unwrap().unwrap();
                (name, value)
            })
            .collect();
        xattrs.sort();
        let found = Seen {
            is_dir,
            content: (!is_dir).then(|| blake3::hash(&fs::read(&path).unwrap())),
            size: if is_dir { 0 } else { metadata.size() },
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            xattrs,
        };
        seen.insert(path.strip_prefix(root).unwrap().to_path_buf(), found);
        if is_dir {
            look_into(root, &path, seen);
        }
    }
}

/// Runs a tool that must be there and must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; scripts/test installs the tools"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

pub fn shell(script: &str, directory: &Path) -> Output {
    run(Command::new("bash")
        .args(["-c", &format!("set -eo pipefail; {script}")])
        .current_dir(directory))
}
