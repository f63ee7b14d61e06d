//! A backup set on its way into the store: intent first, an archive for each member, the table, the manifest last.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::archive::{self, ArchiveError, Method, PackOptions, SourceTree};
use crate::backup::boundary::{self, Boundary, Step};
use crate::backup::read_back::ReadBack;
use crate::blocking::{making_way, off_thread};
use crate::catalog::{self, CatalogError, OTHER_BYTES};
use crate::error::{Exit, Explain};
use crate::ids::{BackupId, MemberAddr, ShardName};
use crate::manifest::table::TableWriter;
use crate::manifest::{ArchiveRecord, FILES, FileTableRecord, Intent, MadeWith, Manifest, Proof};
use crate::progress::Meter;
use crate::store::sink::{BlockingSink, SealedSink};
use crate::store::{SharedStore, Store, StoreError};

/// Why a set could not be written. Nothing half-written is visible.
#[derive(Debug, Error)]
pub enum UploadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document of the set could not be written, or would not be true.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A member could not be archived.
    #[error("cannot archive {shard}: {source}")]
    Archive {
        /// The member's replica set.
        shard: ShardName,
        /// What happened.
        source: ArchiveError,
    },
    /// The store took an object and gives back another.
    #[error("{store} does not hold {object} as it was sent: {problem}")]
    OtherBytes {
        /// The store's address.
        store: String,
        /// The object's name in the set.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another host began a set of this name.
    #[error("another host has begun {id}")]
    SetTaken {
        /// The set.
        id: BackupId,
    },
    /// The file table could not be written.
    #[error("cannot write the file table: {0}")]
    Table(std::io::Error),
}

impl Explain for UploadError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.hint(),
            // There is no backup yet that could be damaged.
            Self::Catalog(error) if error.exit() == Exit::Damaged => Some(OTHER_BYTES.into()),
            Self::Catalog(error) => error.hint(),
            Self::Archive { source, .. } => source.hint(),
            Self::OtherBytes { .. } => Some(OTHER_BYTES.into()),
            Self::SetTaken { .. } | Self::Table(_) => None,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Store(error) => error.exit(),
            Self::Archive { source, .. } => source.exit(),
            Self::Catalog(error) => match error.exit() {
                Exit::Damaged => Exit::Store,
                exit => exit,
            },
            Self::OtherBytes { .. } => Exit::Store,
            Self::SetTaken { .. } | Self::Table(_) => Exit::BackupFailed,
        }
    }
}

/// A set being written.
pub struct Upload {
    store: SharedStore,
    intent: Intent,
    table: TableWriter<BlockingSink>,
    packed: Vec<Packed>,
    archives: Vec<(MemberAddr, ArchiveRecord)>,
}

/// An archive whose last byte was handed to the store, which has not made an object of it yet.
struct Packed {
    address: MemberAddr,
    object: SealedSink,
    record: ArchiveRecord,
}

/// A name that no set in `store` has: that of the first free second from `of` on, the moment that the data is of; without it that of now, waited for where
/// it is taken: two short backups in a row may begin in the same second.
///
/// # Errors
/// [`UploadError`] when the store cannot be listed.
pub async fn free_name(
    store: &dyn Store,
    mut of: Option<Timestamp>,
) -> Result<BackupId, UploadError> {
    loop {
        let second = of.unwrap_or_else(Timestamp::now);
        let id = BackupId::at(second);
        if store.list(&format!("{id}/")).await?.is_empty() {
            return Ok(id);
        }
        match &mut of {
            Some(of) => *of = next_second(*of),
            None => {
                let left = 1_000_000_000 - second.subsec_nanosecond().clamp(0, 999_999_999);
                tokio::time::sleep(Duration::from_nanos(left.unsigned_abs().into())).await;
            }
        }
    }
}

/// The same again at the end of all time.
pub fn next_second(of: Timestamp) -> Timestamp {
    of.checked_add(SignedDuration::from_secs(1)).unwrap_or(of)
}

/// One member's data, ready to be archived.
#[derive(Debug)]
pub struct Job {
    /// The member.
    pub address: MemberAddr,
    /// Its replica set.
    pub shard: ShardName,
    /// Where its files can be read.
    pub source: SourceTree,
    /// Bytes expected in the store, for stores that size parts.
    pub expected: u64,
    /// The settings that decide how long it takes, for the manifest.
    pub made_with: MadeWith,
}

impl Upload {
    /// Begins the set of `intent`.
    ///
    /// # Errors
    /// [`UploadError`] when the store cannot be written; [`UploadError::SetTaken`] when the set exists.
    pub async fn begin(store: SharedStore, intent: Intent) -> Result<Self, UploadError> {
        match catalog::write_intent(store.as_ref(), &intent).await {
            Err(CatalogError::Store(StoreError::Exists { .. })) => {
                return Err(UploadError::SetTaken { id: intent.id });
            }
            written => written?,
        };
        let writer = store.create(&catalog::key(intent.id, FILES), None).await?;
        let sink = BlockingSink::new(writer, Handle::current());
        let table = TableWriter::new(sink).map_err(table_failed)?;
        Ok(Self {
            store,
            intent,
            table,
            packed: Vec::new(),
            archives: Vec::new(),
        })
    }

    /// Archives one member into the set, unless `cancel` says that the source is worth nothing any more. When this returns the
    /// source is not needed, and `cancel` is not heard: what the store has yet to do, [`Upload::prove`] waits for, so that
    /// nobody holds the source for it.
    ///
    /// # Errors
    /// [`UploadError`]; the set can then never be completed.
    pub async fn archive(
        mut self,
        job: Job,
        method: Method,
        threads: NonZeroUsize,
        meter: Meter,
        cancel: CancellationToken,
    ) -> Result<Self, UploadError> {
        let object = format!("{}{}", job.shard.file_stem(), method.profile().extension());
        let key = catalog::key(self.intent.id, &object);
        // Nobody waits for a store that hangs once the picture has overflowed, or the window has broken. But what becomes of the
        // picture when it has been read is no matter of the archive's.
        let unwanted = CancellationToken::new();
        let store = self.store.while_wanted(&unwanted);
        let store = store.unwrap_or_else(|| self.store.clone());
        let runtime = Handle::current();
        let (broken, expected) = (cancel.clone(), job.expected);
        let place = key.clone();
        let packing = move |writer| {
            Boundary::Begun(Step::Archive).reach();
            let begun = Instant::now();
            let mut sink = BlockingSink::new(writer, runtime);
            let options = PackOptions { method, threads };
            let table = &mut self.table;
            let mut on_entry = |entry: crate::manifest::FileEntry| {
                table.add(&entry).map_err(|source| ArchiveError::Sink {
                    what: "file table",
                    source,
                })
            };
            let mut pack = || {
                archive::pack(
                    &job.source,
                    &job.shard,
                    &options,
                    &mut sink,
                    &mut on_entry,
                    &meter,
                    &cancel,
                )
            };
            // A mongod that is held still waits for it; one that goes on comes first.
            let packed = match job.source.live {
                true => pack(),
                false => making_way(pack),
            };
            Boundary::Ended(Step::Archive).reach();
            match packed {
                Ok(summary) => {
                    // The members to come need the room that it keeps.
                    let object = sink.seal()?;
                    let pack_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    let record = ArchiveRecord {
                        pack_us,
                        made_with: Some(job.made_with),
                        ..summary.record(&job.shard)
                    };
                    self.packed.push(Packed {
                        address: job.address,
                        object,
                        record,
                    });
                    Ok(self)
                }
                Err(error) => {
                    if let Err(left) = sink.abort() {
                        tracing::warn!(%key, error = %left, "an unfinished object stays in the store");
                    }
                    Err(explain(job.shard, error))
                }
            }
        };
        let archiving = async {
            let writer = store.create(&place, Some(expected)).await?;
            off_thread(move || packing(writer)).await
        };
        let telling = async {
            broken.cancelled().await;
            unwanted.cancel();
            std::future::pending().await
        };
        tokio::select! {
            biased;
            archived = archiving => archived,
            never = telling => never,
        }
    }

    /// Has the store make objects of the archives that were packed. Not before all are: a picture is held, or the database
    /// is, as long as any is being packed.
    ///
    /// # Errors
    /// [`UploadError`]; the set can then never be completed.
    async fn finish_archives(mut self) -> Result<Self, UploadError> {
        let finishing = move || {
            for packed in self.packed.drain(..) {
                let stored = packed.object.finish()?;
                let record = ArchiveRecord {
                    proof: stored.proven.then_some(Proof::ServerHash),
                    ..packed.record
                };
                self.archives.push((packed.address, record));
            }
            Ok(self)
        };
        off_thread(finishing).await
    }

    /// Ends archives and file table, and has everything read back that the store has not proven.
    ///
    /// # Errors
    /// [`UploadError`]: then there is no backup.
    pub async fn prove(self, read_back: &ReadBack<'_>) -> Result<Proven, UploadError> {
        let Self {
            store,
            intent,
            table,
            mut archives,
            packed: _,
        } = self.finish_archives().await?;
        let ending = move || {
            let (sink, summary) = table.finish().map_err(table_failed)?;
            let stored = sink.finish()?;
            Ok::<_, UploadError>((summary, stored.proven))
        };
        let (summary, table_is_proven) = off_thread(ending).await?;
        for (_, archive) in &mut archives {
            let proven = archive.proof.is_some();
            let proof = read_back
                .prove(&store, intent.id, &archive.object, archive.hash, proven)
                .await?;
            archive.proof = Some(proof);
        }
        let proof = read_back
            .prove(&store, intent.id, FILES, summary.hash, table_is_proven)
            .await?;
        let record = FileTableRecord {
            object: FILES.to_owned(),
            size: summary.size,
            hash: summary.hash,
            entries: summary.entries,
            proof: Some(proof),
        };
        Ok(Proven {
            store,
            intent,
            archives,
            table: record,
        })
    }
}

/// A set that is in the store whole, and is no backup yet.
pub struct Proven {
    store: SharedStore,
    intent: Intent,
    archives: Vec<(MemberAddr, ArchiveRecord)>,
    table: FileTableRecord,
}

impl Proven {
    /// Makes it a backup: writes the manifest that `describe` makes of the records.
    ///
    /// # Errors
    /// [`UploadError`]: then there is no backup.
    pub async fn publish(
        self,
        describe: impl FnOnce(&Intent, &[(MemberAddr, ArchiveRecord)], FileTableRecord) -> Manifest,
    ) -> Result<Manifest, UploadError> {
        let Self {
            store,
            intent,
            archives,
            table,
        } = self;
        let manifest = describe(&intent, &archives, table);
        let writing = catalog::write_manifest(store.as_ref(), &manifest);
        boundary::within(Step::Manifest, writing).await?;
        Ok(manifest)
    }
}

/// A store that failed under the archive is the store's failure, not the archive's.
fn explain(shard: ShardName, error: ArchiveError) -> UploadError {
    match error {
        ArchiveError::Sink { what, source } => match StoreError::from_io(source) {
            Ok(store) => UploadError::Store(store),
            Err(source) => UploadError::Archive {
                shard,
                source: ArchiveError::Sink { what, source },
            },
        },
        source => UploadError::Archive { shard, source },
    }
}

/// The same for the file table.
fn table_failed(error: std::io::Error) -> UploadError {
    match StoreError::from_io(error) {
        Ok(store) => UploadError::Store(store),
        Err(error) => UploadError::Table(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::sample;
    use crate::manifest::MANIFEST;
    use crate::progress::Silent;
    use crate::store::fault::{Call, Fault, FaultStore};
    use crate::store::memory::MemoryStore;

    /// A set whose members' archives are packed; their data is gone.
    async fn packed(store: &SharedStore) -> Upload {
        let data = tempfile::tempdir().unwrap();
        std::fs::write(data.path().join("file"), [7; 1000]).unwrap();
        let mut upload = Upload::begin(store.clone(), sample::intent())
            .await
            .unwrap();
        for shard in sample::SHARDS {
            let member = sample::member(shard);
            let job = Job {
                address: member.address,
                shard: member.shard,
                source: SourceTree {
                    root: data.path().to_owned(),
                    grafts: Vec::new(),
                    exclude: Vec::new(),
                    include_diagnostics: false,
                    live: false,
                },
                expected: 1000,
                made_with: MadeWith::default(),
            };
            let (meter, cancel) = (Meter::expecting(1), CancellationToken::new());
            let (method, threads) = (Method::default(), NonZeroUsize::MIN);
            let archiving = upload.archive(job, method, threads, meter, cancel);
            upload = archiving.await.unwrap();
        }
        upload
    }

    async fn proven(upload: Upload) -> Proven {
        let read_back = ReadBack {
            wanted: true,
            progress: &Silent,
            cancel: &CancellationToken::new(),
        };
        upload.prove(&read_back).await.unwrap()
    }

    async fn publish(proven: Proven) -> Result<Manifest, UploadError> {
        let describe = |_: &Intent, archives: &[(MemberAddr, ArchiveRecord)], files| {
            let mut manifest = sample::manifest();
            for (member, (_, archive)) in manifest.members.iter_mut().zip(archives) {
                member.archive = archive.clone();
            }
            Manifest { files, ..manifest }
        };
        proven.publish(describe).await
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_store_finishes_archives_only_when_nobody_holds_a_source_for_them() {
        let store: SharedStore = Arc::new(MemoryStore::new());
        let upload = packed(&store).await;
        let objects = async || store.list("").await.unwrap().len();
        let before = objects().await;
        proven(upload).await;
        // And the file table.
        assert_eq!(objects().await, before + sample::SHARDS.len() + 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_the_manifest_names_is_looked_for_once() {
        let faulty = FaultStore::new(Arc::new(MemoryStore::new()));
        let store: SharedStore = Arc::new(faulty.clone());
        let proven = proven(packed(&store).await).await;
        faulty.fail(Call::List, 2, std::io::ErrorKind::TimedOut);
        publish(proven).await.unwrap();
        assert!(!faulty.all_failed());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_there_as_it_was_sent_is_the_stores_failure_and_no_damaged_backup() {
        let faults = [
            ("rs0.tar.xz", "has 1 bytes", 1),
            (MANIFEST, "does not hold the manifest", 10),
        ];
        for (object, told, size) in faults {
            let faulty = FaultStore::new(Arc::new(MemoryStore::new()));
            let store: SharedStore = Arc::new(faulty.clone());
            let proven = proven(packed(&store).await).await;
            faulty.add(Fault::Cut {
                key: catalog::key(sample::id(), object),
                size,
            });
            let error = publish(proven).await.unwrap_err();
            assert!(error.to_string().contains(told), "{error}");
            assert_eq!(error.exit(), Exit::Store, "{error}");
            let hint = error.hint().unwrap();
            assert!(hint.contains("make the backup again"), "{hint}");
            let listed = store.list("").await.unwrap();
            assert!(!listed.iter().any(|info| info.key.ends_with(MANIFEST)));
        }
    }
}
