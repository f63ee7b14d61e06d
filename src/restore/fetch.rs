//! Getting archives out of the store: the file table first, then each archive with every hash checked against it.

use std::num::NonZeroUsize;
use std::path::Path;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::prove::Unpack;
use crate::archive::{self, ArchiveError, Owners, UnpackOptions, UnpackSummary};
use crate::blocking::off_thread;
use crate::catalog;
use crate::error::Explain;
use crate::ids::ShardName;
use crate::manifest::table::TableReader;
use crate::manifest::{FileEntry, Manifest, MemberRecord};
use crate::progress::{Meter, Progress};
use crate::store::object::StoredObject;
use crate::store::{SharedStore, StoreError};
use crate::verify::{VerifyError, check_table};

/// A backup to unpack from.
pub struct Fetch<'a> {
    /// The store.
    pub store: &'a SharedStore,
    /// The backup's manifest.
    pub manifest: &'a Manifest,
    /// Decompression threads.
    pub threads: NonZeroUsize,
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
    /// Cancelled when it should end.
    pub cancel: &'a CancellationToken,
}

impl Fetch<'_> {
    /// Reads the whole file table and compares it with the manifest. Archives are checked against the table.
    ///
    /// # Errors
    /// [`VerifyError`]; damage names the table.
    pub async fn check_table(&self) -> Result<(), VerifyError> {
        check_table(self.store, self.manifest, self.progress, self.cancel).await
    }

    /// Bytes that [`Fetch::archive`] writes.
    ///
    /// # Errors
    /// [`ArchiveError`] where the table cannot be read.
    pub async fn size(&self, member: &MemberRecord, only: &[String]) -> Result<u64, ArchiveError> {
        if only.is_empty() {
            return Ok(member.archive.data_size);
        }
        let table = self.table().await?;
        let (shard, only) = (member.shard.clone(), only.to_owned());
        let adding = move || archive::chosen_size(&mut entries(&table, shard)?, &only);
        off_thread(adding).await
    }

    async fn table(&self) -> Result<StoredObject, StoreError> {
        StoredObject::open(self.store, &self.key(&self.manifest.files.object)).await
    }

    /// Unpacks the archive of `member` into the directory `into`: all of it, or `only` these paths and the directories above them.
    ///
    /// # Errors
    /// [`ArchiveError`]; what was written until then stays.
    pub async fn archive(
        &self,
        member: &MemberRecord,
        into: &Path,
        only: &[String],
    ) -> Result<UnpackSummary, ArchiveError> {
        let object = StoredObject::open(self.store, &self.key(&member.archive.object)).await?;
        let table = self.table().await?;
        let expected = (&member.archive).into();
        let shard = member.shard.clone();
        let meter = Meter::expecting(self.size(member, only).await?);
        let options = UnpackOptions {
            threads: self.threads,
            owners: owners(),
            only: only.to_owned(),
        };
        let (into, counted, cancel) = (into.to_owned(), meter.clone(), self.cancel.clone());
        let phase = format!("unpack {}", member.shard);
        self.progress.begin(&phase, &meter);
        let unpacking = move || {
            let mut entries = entries(&table, shard)?;
            archive::unpack(
                &object,
                &expected,
                &mut entries,
                &into,
                &options,
                &counted,
                &cancel,
            )
        };
        let unpacked = off_thread(unpacking).await;
        self.progress.end(&phase);
        unpacked
    }

    fn key(&self, object: &str) -> String {
        catalog::key(self.manifest.id, object)
    }
}

/// Only root may give files away.
pub(crate) fn owners() -> Owners {
    if nix::unistd::geteuid().is_root() {
        Owners::Restore
    } else {
        Owners::Caller
    }
}

/// The table's lines of one archive.
///
/// # Errors
/// [`ArchiveError::Table`] when the table cannot be opened.
pub fn entries(
    table: &StoredObject,
    shard: ShardName,
) -> Result<impl Iterator<Item = Result<FileEntry, ArchiveError>>, ArchiveError> {
    let lines = TableReader::new(table.reader())?;
    Ok(lines
        .map(|line| line.map_err(ArchiveError::from))
        .filter(move |line| line.as_ref().map_or(true, |entry| entry.shard == shard)))
}

#[async_trait]
impl Unpack for Fetch<'_> {
    async fn unpack(
        &self,
        member: &MemberRecord,
        into: &Path,
    ) -> Result<(), Box<dyn Explain + Send + Sync>> {
        self.archive(member, into, &[]).await?;
        Ok(())
    }
}

impl archive::ArchiveRead for StoredObject {
    fn size(&self) -> u64 {
        Self::size(self)
    }

    fn read_at(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.read(range)
    }
}
