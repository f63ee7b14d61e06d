//! Packs a directory as a backup would: `pack [--level N] [--threads N] DIRECTORY ARCHIVE [TABLE]`.
//!
//! For `scripts/bench pack` and for making test fixtures.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::num::NonZeroUsize;

use freezeframe::archive::{ArchiveError, Level, Method, PackOptions, SourceTree, pack};
use freezeframe::progress::Meter;
use tokio_util::sync::CancellationToken;

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = PackOptions {
        method: Method::default(),
        threads: std::thread::available_parallelism()?,
    };
    let mut places = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or("a value is missing");
        match argument.as_str() {
            "--level" => {
                let level = Level::new(value()?.parse()?).ok_or("level 0 to 9")?;
                options.method = Method::Portable(level);
            }
            "--threads" => options.threads = value()?.parse::<NonZeroUsize>()?,
            _ => places.push(argument),
        }
    }
    let [directory, archive, table @ ..] = places.as_slice() else {
        return Err("usage: pack [--level N] [--threads N] DIRECTORY ARCHIVE [TABLE]".into());
    };
    let source = SourceTree {
        root: directory.into(),
        grafts: Vec::new(),
        exclude: Vec::new(),
        include_diagnostics: true,
        live: false,
    };
    let mut table = table
        .first()
        .map(File::create)
        .transpose()?
        .map(BufWriter::new);
    let mut on_entry = |entry| match &mut table {
        Some(table) => serde_json::to_writer(&mut *table, &entry)
            .map_err(std::io::Error::from)
            .and_then(|()| table.write_all(b"\n"))
            .map_err(|source| ArchiveError::Sink {
                what: "file table",
                source,
            }),
        None => Ok(()),
    };
    let mut sink = File::create(archive)?;
    let shard = "rs0".parse()?;
    let summary = pack(
        &source,
        &shard,
        &options,
        &mut sink,
        &mut on_entry,
        &Meter::default(),
        &CancellationToken::new(),
    )?;
    println!("{}", serde_json::to_string(&summary.record(&shard))?);
    Ok(())
}
