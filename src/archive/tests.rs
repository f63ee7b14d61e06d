//! Archives that our own packer would never write.

use std::num::NonZeroUsize;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::file_index::FileIndex;
use super::forge::contain;
use super::tar::{self, BLOCK};
use super::*;
use crate::error::{Exit, Explain};
use crate::manifest::EntryKind;
use crate::progress::Meter;

/// One crafted entry: the name as it is in the stream, the tar type, a link's target, content.
struct Crafted {
    name: &'static str,
    typeflag: u8,
    link: &'static str,
    content: &'static [u8],
}

const fn file(name: &'static str) -> Crafted {
    Crafted {
        name,
        typeflag: b'0',
        link: "",
        content: b"owned",
    }
}

const fn typed(name: &'static str, typeflag: u8, link: &'static str) -> Crafted {
    Crafted {
        name,
        typeflag,
        link,
        content: b"",
    }
}

/// A sound container around a sound tar stream of `entries`, and a table that agrees with it.
fn craft(entries: &[Crafted]) -> (Vec<u8>, ExpectedArchive, Vec<FileEntry>) {
    let mut stream = Vec::new();
    let mut table = Vec::new();
    let mut index = FileIndex::new(Vec::new());
    for crafted in entries {
        let offset = stream.len() as u64;
        let mut block = [0u8; BLOCK];
        block[..crafted.name.len()].copy_from_slice(crafted.name.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[108..116].copy_from_slice(b"0000000\0");
        block[116..124].copy_from_slice(b"0000000\0");
        block[124..136].copy_from_slice(format!("{:011o}\0", crafted.content.len()).as_bytes());
        block[136..148].copy_from_slice(b"00000000000\0");
        block[148..156].fill(b' ');
        block[156] = crafted.typeflag;
        block[157..157 + crafted.link.len()].copy_from_slice(crafted.link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        stream.extend_from_slice(&block);
        stream.extend_from_slice(crafted.content);
        stream.resize(stream.len().next_multiple_of(BLOCK), 0);
        let kind = if crafted.typeflag == b'5' {
            EntryKind::Directory
        } else {
            EntryKind::File
        };
        if let Ok(path) = ArchivePath::new(crafted.name.trim_end_matches('/').as_bytes()) {
            index.add(&path, kind, offset);
        }
        table.push(FileEntry {
            shard: "rs0".parse().unwrap(),
            path: crafted.name.trim_end_matches('/').to_owned(),
            kind,
            size: crafted.content.len() as u64,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            mtime_ns: 0,
            hash: (kind == EntryKind::File).then(|| blake3::hash(crafted.content).into()),
            tar_offset: offset,
            tar_length: stream.len() as u64 - offset,
        });
    }
    stream.resize(
        (stream.len() + 2 * BLOCK).next_multiple_of(tar::RECORD as usize),
        0,
    );
    let (object, mut expected) = contain(&stream, &index.finish(stream.len() as u64)).unwrap();
    expected.data_size = table.iter().map(|line| line.size).sum();
    (object, expected, table)
}

fn try_unpack(
    (archive, expected, table): &(Vec<u8>, ExpectedArchive, Vec<FileEntry>),
    target: &Path,
    only: &[&str],
) -> Result<UnpackSummary, ArchiveError> {
    let options = UnpackOptions {
        threads: NonZeroUsize::MIN,
        owners: Owners::Caller,
        only: only.iter().map(|s| (*s).to_owned()).collect(),
    };
    let mut lines = table.iter().cloned().map(Ok);
    unpack(
        archive,
        expected,
        &mut lines,
        target,
        &options,
        &Meter::default(),
        &CancellationToken::new(),
    )
}

fn try_check(
    (archive, expected, table): &(Vec<u8>, ExpectedArchive, Vec<FileEntry>),
) -> Result<UnpackSummary, ArchiveError> {
    let mut lines = table.iter().cloned().map(Ok);
    check(
        archive,
        expected,
        &mut lines,
        NonZeroUsize::MIN,
        &Meter::default(),
        &CancellationToken::new(),
    )
}

#[test]
fn a_crafted_archive_that_is_sound_is_taken() {
    let crafted = craft(&[file("a"), typed("b/", b'5', ""), file("b/c")]);
    let target = tempfile::tempdir().unwrap();
    try_unpack(&crafted, target.path(), &[]).unwrap();
    assert_eq!(std::fs::read(target.path().join("b/c")).unwrap(), b"owned");
    try_check(&crafted).unwrap();
}

#[test]
fn nothing_leaves_the_target() {
    let escapes: [&[Crafted]; 17] = [
        &[file("../escape")],
        &[file("/tmp/freezeframe-escape")],
        &[typed("d/", b'5', ""), file("d/../../escape")],
        &[typed("..", b'5', ""), file("../escape")],
        &[file("./escape")],
        &[typed("a//", b'5', ""), file("a//escape")],
        &[file("")],
        &[file("missing/parent")],
        &[file("a"), file("a/below-a-file")],
        &[typed("link", b'2', ".."), file("link/escape")],
        &[typed("link", b'1', "/etc/passwd")],
        &[typed("device", b'3', "")],
        &[typed("pipe", b'6', "")],
        &[typed("old-sparse", b'S', "")],
        &[typed("long-name", b'L', "")],
        &[file("twice"), file("twice")],
        &[file("b"), file("a")],
    ];
    for entries in escapes {
        let crafted = craft(entries);
        let outer = tempfile::tempdir().unwrap();
        let target = outer.path().join("target");
        std::fs::create_dir(&target).unwrap();
        let names: Vec<_> = entries.iter().map(|e| e.name).collect();
        let error = try_unpack(&crafted, &target, &[]).expect_err(&format!("{names:?}"));
        assert_eq!(error.exit(), Exit::Damaged, "{names:?}: {error}");
        try_check(&crafted).expect_err(&format!("{names:?}"));
        try_unpack(
            &crafted,
            &tempfile::tempdir().unwrap().path().join(""),
            &[names[0]],
        )
        .err();
        assert_eq!(
            std::fs::read_dir(outer.path()).unwrap().count(),
            1,
            "{names:?}"
        );
        assert!(!Path::new("/tmp/freezeframe-escape").exists());
    }
}

#[test]
fn a_file_index_that_lies_is_found() {
    let (_, _, table) = craft(&[file("a")]);
    let mut stream = Vec::new();
    let entry = tar::Entry {
        path: ArchivePath::new(b"a").unwrap(),
        kind: EntryKind::File,
        size: 5,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: 0,
        mtime_ns: 0,
        xattrs: Vec::new(),
        segments: None,
    };
    stream.extend(tar::headers(&entry).unwrap());
    stream.extend(b"owned");
    stream.resize(tar::RECORD as usize, 0);
    for (offset, sound) in [(0, true), (512, false)] {
        let mut index = FileIndex::new(Vec::new());
        index.add(&entry.path, entry.kind, offset);
        let (archive, mut expected) = contain(&stream, &index.finish(tar::RECORD)).unwrap();
        expected.data_size = 5;
        assert_eq!(
            try_check(&(archive, expected, table.clone())).is_ok(),
            sound
        );
    }
}

#[test]
fn a_file_index_of_many_blocks_length_is_one_block() {
    let names: Vec<u8> = (0..60_000u32).flat_map(|i| i.to_le_bytes()).collect();
    let (archive, expected) = contain(&[0; 10_240], &names.repeat(20)).unwrap();
    let layout = container::Layout::read(&archive, &expected).unwrap();
    assert_eq!(layout.blocks.len(), 1);
    assert_eq!(layout.file_index.unwrap().length, 4_800_000);
}

#[test]
fn an_index_that_promises_gigabytes_is_refused_before_they_are_allocated() {
    let (mut object, mut expected) = contain(&[0; 10_240], b"index").unwrap();
    let footer = xz::parse_footer(object.last_chunk().unwrap()).unwrap() as usize;
    let index_at = object.len() - xz::EDGE - footer;
    let mut records =
        xz::parse_index(&object[index_at..index_at + footer], index_at as u64).unwrap();
    for size in [1 << 40, (128 << 20) + 1, u64::MAX / 2] {
        records[0].uncompressed = size;
        object.truncate(index_at);
        let index = xz::index(&records);
        object.extend_from_slice(&index);
        object.extend_from_slice(&xz::footer(index.len()));
        expected.size = object.len() as u64;
        expected.tar_size = size;
        let error = container::Layout::read(&object, &expected).err().unwrap();
        assert!(matches!(error, ArchiveError::Container { .. }), "{error}");
    }
    // Within the bounds, but not true: the decoder says so.
    records[0].uncompressed = 64 << 20;
    object.truncate(index_at);
    let index = xz::index(&records);
    object.extend_from_slice(&index);
    object.extend_from_slice(&xz::footer(index.len()));
    expected.size = object.len() as u64;
    expected.tar_size = 64 << 20;
    let error = try_check(&(object, expected, Vec::new())).unwrap_err();
    assert_eq!(error.exit(), Exit::Damaged);
}

#[test]
fn gnu_tar_understands_numbers_that_octal_cannot_hold() {
    use std::io::Write;
    let entry = tar::Entry {
        path: ArchivePath::new(b"huge").unwrap(),
        kind: EntryKind::File,
        size: 9 << 30,
        mode: 0o644,
        uid: 300_000_000,
        gid: u32::MAX - 1,
        mtime: -1,
        mtime_ns: 0,
        xattrs: Vec::new(),
        segments: None,
    };
    let mut tar = std::process::Command::new("tar")
        .args(["-tv", "--numeric-owner", "--utc"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut input = tar.stdin.take().unwrap();
    input
        .write_all(&super::tar::headers(&entry).unwrap())
        .unwrap();
    drop(input);
    let listed = tar.wait_with_output().unwrap();
    let line = String::from_utf8_lossy(&listed.stdout).into_owned();
    for part in ["300000000/4294967294", "9663676416", "1969-12-31 23:59"] {
        assert!(line.contains(part), "{line}");
    }
}
