//! `show`: one backup, or the files in it.

use std::fmt::Write;

use jiff::Timestamp;

use super::{Context, Failure, print};
use crate::archive::ArchiveError;
use crate::blocking::off_thread;
use crate::catalog::{self, Recorded, render};
use crate::cli::ShowArgs;
use crate::error::Exit;
use crate::manifest::table::TableReader;
use crate::manifest::{EntryKind, FileEntry, Manifest};
use crate::store::SharedStore;
use crate::store::object::StoredObject;
use crate::verify::check_table;

pub async fn run(context: Context, arguments: ShowArgs) -> Result<Exit, Failure> {
    let store = context.store_of(&arguments.which.place)?;
    let id = catalog::resolve(store.as_ref(), &arguments.which.id).await?;
    if let Recorded::Snapshots(manifest) = catalog::read_recorded(store.as_ref(), id).await?
        && !arguments.files
    {
        let sets = catalog::list(store.as_ref()).await?;
        let summary = sets.iter().find(|set| set.id == id);
        print(context.json, &manifest, || {
            summary.map_or_else(String::new, |set| catalog::render_snapshots(set, &manifest))
        })?;
        return Ok(Exit::Done);
    }
    let manifest = catalog::load(store.as_ref(), id).await?;
    if arguments.files {
        check_table(&store, &manifest, &context.terminal, &context.cancel).await?;
        let mut files = files(&store, &manifest).await?;
        if let Some(shard) = &arguments.shard {
            files.retain(|file| file.shard == *shard);
        }
        print(context.json, &files, || render_files(&files))?;
        return Ok(Exit::Done);
    }
    let sets = catalog::list(store.as_ref()).await?;
    let summary = sets.iter().find(|set| set.id == id);
    print(context.json, &manifest, || {
        summary.map_or_else(String::new, |set| render::set(set, &manifest))
    })?;
    Ok(Exit::Done)
}

async fn files(store: &SharedStore, manifest: &Manifest) -> Result<Vec<FileEntry>, ArchiveError> {
    let key = catalog::key(manifest.id, &manifest.files.object);
    let table = StoredObject::open(store, &key).await?;
    let reading = move || {
        let lines = TableReader::new(table.reader())?;
        lines.map(|line| line.map_err(ArchiveError::from)).collect()
    };
    off_thread(reading).await
}

/// A line a file: size in bytes, when it was last changed, replica set, path.
fn render_files(files: &[FileEntry]) -> String {
    let mut text = String::new();
    for file in files {
        let changed = Timestamp::new(file.mtime, 0).unwrap_or_default();
        let end = match file.kind {
            EntryKind::Directory => "/",
            EntryKind::File => "",
        };
        let _ = writeln!(
            text,
            "{:>15}  {changed}  {}  {}{end}",
            file.size, file.shard, file.path
        );
    }
    text
}
