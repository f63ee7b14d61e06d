//! Every reader of bytes that this process did not write, as a function of bytes alone.
//!
//! The program does not use this module. `integration/hostile.rs` runs each target over a kept corpus and mutations of it,
//! `fuzz/` puts the same functions under libFuzzer. That a target returns, without a panic, in time and with little memory,
//! is what is tested; what it returns tells a test whether the input got past the first check. Which reader is covered by which target: `doc/reliability.md`.

mod documents;
mod host;
mod server;

use std::num::NonZeroUsize;
use std::path::Path;

use tokio_util::sync::CancellationToken;

pub use crate::archive::forge;
use crate::archive::forge::Forged;
use crate::archive::shred::{Rebuild, Shredder};
use crate::archive::unsnap::{self, FileKind, Forward, Inverse, Span};
use crate::archive::{self, ArchivePath};
use crate::config::{Config, Period, Size, SnapshotSize, StoreUrl};
use crate::ids::{BackupId, DeploymentId, Hash, MemberAddr, RunId, ShardName};
use crate::progress::Meter;
use crate::restore::ServerVersion;
pub use documents::{reseal, table_of};

/// A reader under test. Returns how much of the input it understood: documents, lines, values, whatever it reads.
pub type Target = fn(&[u8]) -> usize;

/// Every target by its name, which is also that of its corpus and of its fuzz target.
pub const TARGETS: [(&str, Target); 20] = [
    ("archive", archive),
    ("config", config),
    ("frames", archive),
    ("guard", host::guard),
    ("intent", documents::intent),
    ("journal", host::journal),
    ("lease", documents::lease),
    ("listing", documents::listing),
    ("lvm", host::lvm),
    ("manifest", documents::manifest),
    ("mountinfo", host::mountinfo),
    ("names", names),
    ("proc", host::proc),
    ("server", server::server),
    ("server_log", server::server_log),
    ("shred", shred),
    ("table", documents::table),
    ("tar", tar),
    ("unsnap", unsnap),
    ("verification", documents::verification),
];

/// The target of that name.
pub fn target(name: &str) -> Option<Target> {
    let found = TARGETS.iter().find(|(known, _)| *known == name);
    found.map(|(_, target)| *target)
}

/// An archive object, of xz (`archive`) or of zstd frames (`frames`): as it is and with the container's checksums mended; manifest and table in accord with it as far as
/// that goes.
fn archive(data: &[u8]) -> usize {
    let Some(shard) = shard() else {
        return 0;
    };
    let mended = forge::mend_container(data.to_vec());
    let blocks = |object| {
        let forged = forge::accept(object, &shard);
        check(&forged);
        forge::blocks(&forged)
    };
    blocks(data.to_vec()) + blocks(mended)
}

/// A tar stream in a sound container: as it is, and with the checksums of its headers mended.
fn tar(data: &[u8]) -> usize {
    let mended = forge::mend_checksums(data.to_vec());
    let forged = |stream: &[u8]| forge::forge(stream, &shard()?).ok();
    [data, &mended]
        .into_iter()
        .filter_map(forged)
        .filter(check)
        .count()
}

/// A transformed block, with the size of the plain one in its first four bytes; and the same bytes as a plain block, half of it a data
/// file and half of it a log.
fn unsnap(data: &[u8]) -> usize {
    const LARGEST: usize = 1 << 20;
    let Some((size, content)) = data.split_first_chunk() else {
        return 0;
    };
    let size = (u32::from_le_bytes(*size) as usize).min(LARGEST);
    let mut plain = Vec::new();
    let restored = Inverse::default().restore(content, size, &mut plain);
    let half = data.len() / 2 / 512 * 512;
    let span = |start, length, kind| Span {
        start,
        length,
        file_offset: 0,
        kind,
    };
    let spans = [
        span(0, half, FileKind::Data),
        span(half, data.len() - half, FileKind::Journal),
    ];
    let limit = data.len() + LARGEST;
    let taken = unsnap::cut(data, &spans, limit);
    let mut proven = 0;
    Forward::with_zlib().transform(data, &spans, limit, &mut plain, &mut |_, found| {
        proven += found.total().units as usize;
    });
    usize::from(restored.is_ok()) + usize::from(taken < data.len()) + proven
}

/// A shredded payload; and the same bytes as a payload, the second half of it said to be cells.
fn shred(data: &[u8]) -> usize {
    const LARGEST: usize = 1 << 20;
    let mut out = Vec::new();
    let rebuilt = Rebuild::default().rebuild(data, LARGEST).is_ok();
    let leaf = data.len() / 2..data.len();
    let shredded = Shredder::default().shred(data, std::slice::from_ref(&leaf), &mut out);
    usize::from(rebuilt) + usize::from(shredded)
}

fn check(forged: &Forged) -> bool {
    let mut lines = forged.entries.iter().cloned().map(Ok);
    let checked = archive::check(
        &forged.object,
        &forged.expected,
        &mut lines,
        NonZeroUsize::MIN,
        &Meter::default(),
        &CancellationToken::new(),
    );
    checked.is_ok()
}

fn shard() -> Option<ShardName> {
    "rs0".parse().ok()
}

/// The configuration file.
fn config(data: &[u8]) -> usize {
    let text = String::from_utf8_lossy(data);
    let Ok(config) = Config::parse(&text, Path::new("freezeframe.toml")) else {
        return 0;
    };
    let _ = config.to_toml();
    let _ = std::time::Instant::now() + config.max_window();
    1
}

/// Everything small that is parsed from text: ids, addresses, sizes, paths of the table. One a line.
fn names(data: &[u8]) -> usize {
    let text = String::from_utf8_lossy(data);
    let read = |line: &str| {
        let _ = crate::shown::without_controls(line);
        let id = line
            .parse::<BackupId>()
            .map(|id| (id.started(), id.to_string()));
        [
            id.is_ok(),
            line.parse::<ShardName>()
                .map(|shard| shard.file_stem())
                .is_ok(),
            line.parse::<RunId>().is_ok(),
            line.parse::<MemberAddr>().is_ok(),
            line.parse::<DeploymentId>().is_ok(),
            line.parse::<Hash>().is_ok(),
            line.parse::<Period>()
                .map(|period| period.to_string())
                .is_ok(),
            line.parse::<Size>().map(|size| size.to_string()).is_ok(),
            line.parse::<SnapshotSize>()
                .map(|size| size.to_string())
                .is_ok(),
            line.parse::<StoreUrl>().is_ok(),
            line.parse::<ServerVersion>().is_ok(),
            ArchivePath::from_table(line).is_ok(),
        ]
    };
    let whole = ArchivePath::new(data).is_ok();
    let lines = text.lines().flat_map(read).filter(|read| *read).count();
    lines + usize::from(whole)
}
