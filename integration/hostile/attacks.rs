//! Attacks by name. Those on paths, links and devices are in `src/archive/tests.rs`.

use std::fmt::Write as _;

use freezeframe::backup::journal::{Journal, JournalError};
use freezeframe::catalog::verification::Verification;
use freezeframe::catalog::{self, CatalogError};
use freezeframe::error::{Exit, Explain};
use freezeframe::hostile::{forge, reseal};
use freezeframe::ids::ShardName;
use freezeframe::manifest::seal::{self, SealError};
use freezeframe::mongo::process::data_directory;
use freezeframe::restore::target::refuse_running;
use freezeframe::store::memory::MemoryStore;

use super::bounds::{Case, alone, bounded};
use super::sets::{Ended, Parts, runtime, suffer};

fn case(origin: &str) -> Case {
    Case {
        target: "attack",
        origin: origin.to_owned(),
        input: Vec::new(),
    }
}

fn rs0() -> ShardName {
    "rs0".parse().unwrap()
}

/// A tar header as `tar` writes it, with its checksum.
fn header(name: &str, typeflag: u8, size: u64, prefix: &str) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[100..108].copy_from_slice(b"0000600\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = typeflag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[345..345 + prefix.len()].copy_from_slice(prefix.as_bytes());
    forge::mend_checksums(block)
}

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    format!("{length} {key}={value}\n")
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A pax header with `records` and after it an empty file `name`.
fn with_pax(name: &str, records: &str) -> Vec<u8> {
    let mut stream = header(name, b'x', records.len() as u64, "PaxHeaders");
    stream.extend(padded(records.as_bytes().to_vec()));
    stream.extend(header(name, b'0', 0, ""));
    stream
}

fn ended(mut stream: Vec<u8>) -> Vec<u8> {
    stream.resize((stream.len() + 1024).next_multiple_of(10_240), 0);
    stream
}

/// What verifying and restoring a set with this stream comes to, within `memory`.
fn with_stream(origin: &str, memory: usize, stream: &[u8], data_size: Option<u64>) -> Ended {
    let mut parts = Parts::sound();
    let mut forged = forge::forge(stream, &rs0()).unwrap();
    if let Some(data_size) = data_size {
        forged.expected.data_size = data_size;
    }
    parts.take(forged);
    let runtime = runtime();
    bounded(&case(origin), memory, || {
        runtime.block_on(suffer(&parts.objects()))
    })
}

/// A sparse file that is one hole.
fn hole(size: u64) -> Vec<u8> {
    let mut records = record("GNU.sparse.major", "1");
    records += &record("GNU.sparse.minor", "0");
    records += &record("GNU.sparse.name", "hole");
    records += &record("GNU.sparse.realsize", &size.to_string());
    let map = padded(format!("1\n{size}\n0\n").into_bytes());
    let mut stream = header("hole", b'x', records.len() as u64, "PaxHeaders");
    stream.extend(padded(records.into_bytes()));
    stream.extend(header("hole", b'0', map.len() as u64, "GNUSparseFile.0"));
    stream.extend(map);
    ended(stream)
}

fn with_attribute(name: &str) -> Vec<u8> {
    ended(with_pax("a", &record(&format!("SCHILY.xattr.{name}"), "x")))
}

/// What the corpus keeps of these: name, stream, and what the manifest says of its size.
pub fn streams() -> [(&'static str, Vec<u8>, Option<u64>); 2] {
    [
        ("hole-of-2-to-the-62", hole(1 << 62), Some(1 << 20)),
        ("capability", with_attribute("security.capability"), None),
    ]
}

/// A hole costs nothing to store and everything to hash: 2^62 zeros would take centuries.
#[test]
fn a_file_of_holes_ends_at_what_the_manifest_says() {
    let _alone = alone();
    let of = |size, said| with_stream("hole", 32 << 20, &hole(size), Some(said));
    assert_eq!(of(1 << 20, 1 << 20), Ended::Restored);
    assert_eq!(of(1 << 62, 1 << 20), Ended::Refused);
    assert_eq!(of(1 << 20, 1 << 21), Ended::Refused);
}

#[test]
fn only_a_users_attributes_are_set() {
    let _alone = alone();
    let named = |name: &str| with_stream(name, 32 << 20, &with_attribute(name), None);
    assert_eq!(named("user.note"), Ended::Restored);
    for name in [
        "security.capability",
        "security.selinux",
        "trusted.overlay.opaque",
        "system.posix_acl_access",
        "user",
        "",
    ] {
        assert_eq!(named(name), Ended::Refused, "{name}");
    }
}

/// A megabyte of attributes for each of many entries: each name compared with all before it would be a billion comparisons.
#[test]
fn many_attributes_take_no_more_than_their_number() {
    let _alone = alone();
    let mut records = String::new();
    for number in 0.. {
        let record = record(&format!("SCHILY.xattr.user.{number}"), "");
        if records.len() + record.len() > 1 << 20 {
            break;
        }
        records += &record;
    }
    let mut stream = Vec::new();
    for entry in 0..12 {
        stream.extend(with_pax(&format!("{entry:02}"), &records));
    }
    with_stream("attributes", 128 << 20, &ended(stream), None);
}

/// A block of zeros is a seven-thousandth of what it unpacks to. What is in memory is what the threads hold.
#[test]
fn a_bomb_takes_the_threads_blocks_and_no_more() {
    let _alone = alone();
    // A file of zeros, one block after the other, by liblzma itself.
    let (block, blocks) = (16u64 << 20, 24);
    let length = block * blocks;
    let mut stream = header("zeros", b'0', length, "");
    let mut encoder = xz2::stream::MtStreamBuilder::new()
        .threads(1)
        .block_size(block)
        .preset(0)
        .check(xz2::stream::Check::Crc64)
        .encoder()
        .unwrap();
    let mut object = Vec::new();
    let mut feed = |mut bytes: &[u8], action, object: &mut Vec<u8>| {
        loop {
            object.reserve(1 << 16);
            let before = encoder.total_in();
            let status = encoder.process_vec(bytes, object, action).unwrap();
            bytes = &bytes[(encoder.total_in() - before) as usize..];
            let done = match action {
                xz2::stream::Action::Run => bytes.is_empty(),
                _ => matches!(status, xz2::stream::Status::StreamEnd),
            };
            if done {
                break;
            }
        }
    };
    stream.resize(1 << 20, 0);
    feed(&stream, xz2::stream::Action::Run, &mut object);
    let zeros = vec![0; 1 << 20];
    for _ in 1..length >> 20 {
        feed(&zeros, xz2::stream::Action::Run, &mut object);
    }
    feed(&[], xz2::stream::Action::Finish, &mut object);
    assert!(object.len() < 1 << 20);
    let mut parts = Parts::sound();
    parts.take(forge::accept(object, &rs0()));
    assert!(parts.archive.expected.blocks >= blocks);
    let runtime = runtime();
    // Two threads with three blocks each; a growing buffer may be half as large again.
    let held = 2 * 3 * block * 3 / 2;
    bounded(&case("bomb"), held as usize, || {
        runtime.block_on(suffer(&parts.objects()))
    });
}

/// An index of two bytes a block would take eight times its size in memory, and more for the blocks' places.
#[test]
fn an_index_has_no_more_blocks_than_there_is_room_for() {
    let _alone = alone();
    let blocks: u32 = 8 << 20;
    let mut index = vec![0u8];
    let mut count = blocks;
    while count >= 0x80 {
        index.push((count & 0x7F) as u8 | 0x80);
        count >>= 7;
    }
    index.push(count as u8);
    // 17 bytes, the smallest block; one byte of content.
    index.extend([17u8, 1].repeat(blocks as usize));
    index.resize(index.len().next_multiple_of(4), 0);
    let checksum = crc32fast::hash(&index);
    index.extend(checksum.to_le_bytes());
    let mut footer = ((index.len() as u32 / 4) - 1).to_le_bytes().to_vec();
    footer.extend([0, 4]);
    let mut object = vec![
        0xFD, b'7', b'z', b'X', b'Z', 0, 0, 4, 0xE6, 0xD6, 0xB4, 0x46,
    ];
    object.extend(&index);
    object.extend(crc32fast::hash(&footer).to_le_bytes());
    object.extend(&footer);
    object.extend(b"YZ");
    let mut parts = Parts::sound();
    let size = object.len();
    parts.take(forge::accept(object, &rs0()));
    parts.archive.expected.blocks = blocks.into();
    parts.archive.expected.tar_size = u64::from(blocks) - 1;
    let runtime = runtime();
    let objects = parts.objects();
    let ended = bounded(&case("index"), 6 * size, || {
        runtime.block_on(suffer(&objects))
    });
    assert_eq!(ended, Ended::Refused);
}

#[test]
fn a_document_of_nothing_but_values_is_refused_unread() {
    let _alone = alone();
    // In a place whose content is kept as it is.
    let place =
        "integration/fixtures/format-1/mongo_backup-20260131_020000/verified-20260201_000000.json";
    let record =
        std::fs::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(place)).unwrap();
    let mut record: Verification = seal::open(&record).unwrap();
    record.details = "DETAILS".into();
    let record = String::from_utf8(seal::seal(&record).unwrap()).unwrap();
    let values = format!("[{}0]", "0,".repeat(4 << 20));
    let document = reseal(record.replace("\"DETAILS\"", &values).as_bytes());
    let error = bounded(&case("values"), 1 << 20, || {
        seal::open::<Verification>(&document).unwrap_err()
    });
    assert_eq!(error, SealError::TooMuch);
    assert_eq!(error.exit(), Exit::Damaged);
    // As `list` meets it: the document itself, and its copy out of the store.
    let store = MemoryStore::new();
    let id = "mongo_backup-20260131_020000".parse().unwrap();
    let length = document.len();
    store.replace(&catalog::key(id, "manifest.json"), document);
    let read = bounded(&case("list"), 2 * length, || {
        runtime().block_on(catalog::read_manifest(&store, id))
    });
    assert!(matches!(read, Err(CatalogError::Document { .. })));
}

/// Releases looked for in a list of plans from its start would be ten billion steps.
#[test]
fn a_long_journal_is_read_in_its_length_and_a_longer_one_is_refused() {
    let _alone = alone();
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join("runs")).unwrap();
    let path = state.path().join("runs/00000001.journal");
    let mut text = "{\"record\":\"begin\",\"owner\":{\"run\":\"00000001\",\"verb\":\"backup\",\"pid\":1,\"boot\":\"\",\"started\":\"2026-01-31T02:00:00Z\"}}\n".to_owned();
    let plan = |text: &mut String, entry: u32| {
        let resource = "{\"kind\":\"directory\",\"path\":\"/run/x\"}";
        writeln!(
            text,
            "{{\"record\":\"plan\",\"entry\":{entry},\"resource\":{resource}}}"
        )
        .unwrap();
    };
    for entry in 0..90_000 {
        plan(&mut text, entry);
    }
    for _ in 0..2 {
        for entry in (1..90_000).rev() {
            writeln!(text, "{{\"record\":\"released\",\"entry\":{entry}}}").unwrap();
        }
    }
    assert!(text.len() < 16 << 20);
    std::fs::write(&path, &text).unwrap();
    let (_, outstanding) = bounded(&case("journal"), 256 << 20, || {
        Journal::peek(&path).unwrap()
    });
    assert_eq!(outstanding.len(), 1);

    // One number twice: giving one back would forget the other.
    let begin = text.lines().next().unwrap();
    let mut twice = format!("{begin}\n");
    plan(&mut twice, 3);
    plan(&mut twice, 3);
    plan(&mut twice, 4);
    std::fs::write(&path, &twice).unwrap();
    assert!(matches!(
        Journal::peek(&path),
        Err(JournalError::Damaged { line: 3, .. })
    ));

    // What lies behind the limit must not be forgotten.
    while text.len() <= 16 << 20 {
        text.push_str("{\"record\":\"released\",\"entry\":0}\n");
    }
    plan(&mut text, 90_000);
    std::fs::write(&path, &text).unwrap();
    assert!(matches!(
        Journal::take_over(&path),
        Err(JournalError::Damaged { .. })
    ));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), text.len() as u64);
}

/// dbPath belongs to mongod's user, who is not root and may put anything where we look.
#[test]
fn a_lock_file_that_is_a_pipe_or_endless_holds_nobody_up() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("mongod.lock");
    nix::unistd::mkfifo(&lock, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let pid = std::process::id();
    bounded(&case("pipe"), 1 << 20, || {
        data_directory(pid, folder.path()).unwrap_err();
        refuse_running(folder.path()).unwrap();
    });
    std::fs::remove_file(&lock).unwrap();
    std::fs::File::create(&lock)
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    bounded(&case("endless"), 1 << 20, || {
        data_directory(pid, folder.path()).unwrap_err();
    });
    std::fs::write(&lock, format!("{pid}\n")).unwrap();
    data_directory(pid, folder.path()).unwrap();
}
