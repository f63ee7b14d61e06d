//! Copying one backup: every object read once, its hash compared on the way, proven in the other store, the manifest last.

use std::io::{self, Read, Write};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{COPY, CopyError, Order};
use crate::backup::boundary::{self, Step};
use crate::backup::lease::{self, Scope, Work};
use crate::backup::read_back::ReadBack;
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::backup::set::plan_lease;
use crate::backup::upload::UploadError;
use crate::blocking::off_thread;
use crate::catalog;
use crate::catalog::copied::{Documents, Place};
use crate::host;
use crate::ids::{BackupId, Hash};
use crate::manifest::Manifest;
use crate::progress::Meter;
use crate::reading::{Reading, while_marked};
use crate::store::object::StoredObject;
use crate::store::sink::BlockingSink;
use crate::store::{SharedStore, StoreError, Stored};
use crate::verify::VerifyReport;

/// What is found of an object that is damaged.
const OTHER_HASH: &str = "its bytes have another hash than the manifest says";
/// Bytes moved at once.
const CHUNK: usize = 1 << 20;
/// Bytes a second that a copy is expected to make at the least.
const SLOWEST: u64 = 8 << 20;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is there now.
    Copied,
    /// Its manifest was there before; whether the rest is, is not looked at.
    WasThere,
}

/// Copies the backup `id`.
///
/// # Errors
/// [`CopyError`]; there is no copy then, and nothing is held, unless it is [`CopyError::StillHeld`].
pub async fn copy_one(order: &Order<'_>, id: BackupId) -> Result<Placed, CopyError> {
    let reading = Reading {
        store: order.from,
        id,
        verb: COPY,
        state_dir: order.state_dir,
        tools: order.tools,
    };
    while_marked(reading, async {
        let copied = journaled(order, id).await;
        if let Some(object) = copied.as_ref().err().and_then(CopyError::damaged) {
            // As `verify` would: it is no good backup for retention and `status` from now on.
            let report = VerifyReport::of_damage(id, object, OTHER_HASH);
            let record = report.record(Timestamp::now(), &host::name());
            catalog::keep_verification(order.from.as_ref(), &record).await;
        }
        copied
    })
    .await?
}

async fn journaled(order: &Order<'_>, id: BackupId) -> Result<Placed, CopyError> {
    let mut run = Run::begin(order.state_dir, COPY)?;
    let copied = under_lease(&mut run, order, id).await;
    let left = run.finish(order.tools).await;
    if copied.is_err()
        && let Err(error) = order.to.give_up_open().await
    {
        tracing::warn!(%error, "an unfinished upload may stay in the store; a lifecycle rule for incomplete uploads ends it");
    }
    let left = match (left, copied) {
        (Ok(left), copied) => (left.into_iter().next(), copied),
        (Err(journal), Ok(_)) => return Err(journal.into()),
        (Err(journal), Err(error)) => {
            tracing::error!(%journal, "the run journal stays");
            return Err(error);
        }
    };
    match left {
        (None, copied) => copied,
        (Some(left), copied) => Err(CopyError::StillHeld {
            error: left.error,
            besides: copied.err().map(Box::new),
        }),
    }
}

async fn under_lease(run: &mut Run, order: &Order<'_>, id: BackupId) -> Result<Placed, CopyError> {
    let documents = Documents::read(order.from.as_ref(), id).await?;
    let manifest = &documents.manifest;
    // What is half written when we are killed can be told from what other hosts write there.
    let to = order
        .to
        .of_run(run.id())
        .unwrap_or_else(|| order.to.clone());
    let bytes: u64 = manifest.objects().map(|(_, size)| size).sum();
    for scope in scopes(manifest) {
        plan_lease(run, &scope, to.as_ref())?;
        let (work, expected) = ((run.id(), Work::Copy), Duration::from_secs(bytes / SLOWEST));
        lease::take_after_prune(to.as_ref(), &scope, work, expected, order.cancel).await?;
    }
    let place = documents.place(to.as_ref()).await?;
    match place {
        Place::Whole => return Ok(Placed::WasThere),
        Place::Others => {
            let store = to.url();
            return Err(CopyError::NameTaken { store, id });
        }
        Place::Begun | Place::Free => {}
    }
    // By our own run, which the intent does not name: whole objects stay when it is given back, for the next copy to go on with, and whatever another host wrote.
    let copying = run.plan_one(Resource::Upload {
        store: to.url(),
        server: to.server(),
        set: id,
        run: run.id(),
    })?;
    documents.begin(to.as_ref(), place).await?;
    for (object, size, hash) in manifest.hashed_objects() {
        for scope in scopes(manifest) {
            lease::still_ours(order.to.as_ref(), &scope, run.id()).await?;
        }
        if place == Place::Begun && is_there(order, &to, id, (object, size, hash)).await? {
            continue;
        }
        let stored = copy_object(order, &to, id, (object, hash)).await?;
        read_back(order)
            .prove(&to, id, object, hash, stored.proven)
            .await?;
    }
    for scope in scopes(manifest) {
        lease::still_ours(order.to.as_ref(), &scope, run.id()).await?;
    }
    boundary::within(Step::Manifest, documents.publish(to.as_ref())).await?;
    if let Err(error) = run.settled(&copying) {
        tracing::warn!(%error, "the journal does not know yet that the copy is complete");
    }
    Ok(Placed::Copied)
}

fn read_back<'a>(order: &Order<'a>) -> ReadBack<'a> {
    ReadBack {
        wanted: order.read_back,
        progress: order.progress,
        cancel: order.cancel,
    }
}

/// Whether a copy that was cut off has left this object, whole. One that is not what it should be goes.
async fn is_there(
    order: &Order<'_>,
    to: &SharedStore,
    id: BackupId,
    (object, size, hash): (&str, u64, Hash),
) -> Result<bool, CopyError> {
    let key = catalog::key(id, object);
    let proven = match to.size(&key).await {
        Err(StoreError::NotFound { .. }) => return Ok(false),
        Err(error) => return Err(error.into()),
        Ok(found) if found != size => None,
        Ok(_) => match read_back(order).prove(to, id, object, hash, false).await {
            Err(UploadError::OtherBytes { .. }) => None,
            proven => Some(proven?),
        },
    };
    if proven.is_none() {
        match to.delete(&key).await {
            Err(error) if error.is_denial() => {
                let store = to.url();
                return Err(CopyError::NotGood { store, id });
            }
            deleted => deleted?,
        }
    }
    Ok(proven.is_some())
}

fn scopes(manifest: &Manifest) -> impl Iterator<Item = Scope> {
    manifest.members.iter().map(|member| Scope {
        deployment: manifest.deployment.id.clone(),
        shard: member.shard.clone(),
    })
}

/// Sends `object` on its way, hashed as it is read. One that turns out to be another is given up.
async fn copy_object(
    order: &Order<'_>,
    to: &SharedStore,
    id: BackupId,
    (object, hash): (&str, Hash),
) -> Result<Stored, CopyError> {
    let key = catalog::key(id, object);
    let source = StoredObject::open(order.from, &key).await;
    let source = source.map_err(CopyError::Source)?;
    let meter = Meter::expecting(source.size());
    let writer = to.create(&key, Some(source.size())).await?;
    let sink = BlockingSink::new(writer, Handle::current());
    let phase = format!("copy {object}");
    order.progress.begin(&phase, &meter);
    let (moving, cancel) = (meter.clone(), order.cancel.clone());
    let moved = off_thread(move || move_bytes(&source, sink, hash, &moving, &cancel)).await;
    order.progress.end(&phase);
    match moved {
        Ok(stored) => Ok(stored),
        Err(Moved::Store(error)) => Err(error.into()),
        Err(Moved::Source(error)) => Err(CopyError::Source(error)),
        Err(Moved::Thread(source)) => Err(StoreError::Io {
            action: "copy",
            store: order.from.url(),
            key,
            source,
        }
        .into()),
        Err(Moved::Interrupted) => {
            let store = to.url();
            Err(StoreError::Interrupted { store }.into())
        }
        Err(Moved::OtherHash) => Err(CopyError::Damaged {
            store: order.from.url(),
            id,
            object: object.to_owned(),
        }),
    }
}

/// Why an object did not get there.
enum Moved {
    Store(StoreError),
    /// The store that is read.
    Source(StoreError),
    /// No store's: one of our own threads.
    Thread(io::Error),
    Interrupted,
    OtherHash,
}

impl From<StoreError> for Moved {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn move_bytes(
    source: &StoredObject,
    mut sink: BlockingSink,
    hash: Hash,
    meter: &Meter,
    cancel: &CancellationToken,
) -> Result<Stored, Moved> {
    match pump(source, &mut sink, meter, cancel) {
        Ok(found) if found == hash => Ok(sink.finish()?),
        ended => {
            if let Err(error) = sink.abort() {
                tracing::warn!(key = source.key(), %error, "an unfinished object stays in the store");
            }
            Err(ended.err().unwrap_or(Moved::OtherHash))
        }
    }
}

fn pump(
    source: &StoredObject,
    sink: &mut BlockingSink,
    meter: &Meter,
    cancel: &CancellationToken,
) -> Result<Hash, Moved> {
    let (mut reader, mut hasher) = (source.reader(), blake3::Hasher::new());
    let mut buffer = vec![0; CHUNK];
    let failed = |error, by: fn(StoreError) -> Moved| {
        StoreError::from_io(error).map_or_else(Moved::Thread, by)
    };
    loop {
        if cancel.is_cancelled() {
            return Err(Moved::Interrupted);
        }
        let read = reader
            .read(&mut buffer)
            .map_err(|error| failed(error, Moved::Source))?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(Hash::from(hasher.finalize()));
        };
        hasher.update(bytes);
        sink.write_all(bytes)
            .map_err(|error| failed(error, Moved::Store))?;
        meter.advance(read as u64);
    }
}
