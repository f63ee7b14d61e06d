//! A store in S3 or in a server that speaks like it.
//!
//! Nothing is overwritten and nothing needs deletion to succeed: objects are created under a condition
//! (`If-None-Match: *`), and where a server ignores that, a look beforehand stands in for it. Every object carries
//! a random write id in its metadata, so that a write whose answer was lost is told from somebody else's.

mod calls;
mod client;
mod limit;
pub mod parts;
mod retry;
mod spool;
mod writer;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use jiff::Timestamp;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Ending, ObjectInfo, ObjectWriter, ReadAhead, SharedStore, Spool, Store, StoreError, key, probe,
};
use crate::config::s3::S3Config;
use crate::manifest::MANIFEST;
use crate::retention_lock::RetentionLock;
use limit::Limit;
use parts::PartSizes;
use retry::{Call, Failure, Kind, Patience};
use writer::S3Writer;

/// Metadata that names the write which made an object.
const WRITE_ID: &str = "freezeframe-write";
/// Unit in which memory for parts is shared out.
const MEMORY_UNIT: u64 = 1 << 10;
/// Parts that are sent at the same time; more connections gain nothing and annoy servers.
const CONNECTIONS: usize = 8;
/// Parts in files at the same time: one being filled, one on its way.
const SPOOLED: u32 = 2;
/// Between key and upload id in the name of an unfinished write.
const UPLOAD: &str = "?uploadId=";

/// A bucket, or what lies below a prefix in it.
#[derive(Debug, Clone)]
pub struct S3Store {
    shared: Arc<Shared>,
    /// Cancelled when the objects that are written by way of this handle are not wanted any more.
    unwanted: Option<CancellationToken>,
}

#[derive(Debug)]
struct Shared {
    bucket: String,
    /// Empty, or ends in a slash.
    prefix: String,
    url: String,
    settings: S3Config,
    spool_dir: PathBuf,
    patience: Patience,
    client: OnceCell<Client>,
    /// Uploads that were begun and have not ended.
    open: Mutex<BTreeMap<String, String>>,
    up: Limit,
    down: Limit,
    memory: Arc<Semaphore>,
    spooled: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

/// What the server tells of an object.
#[derive(Debug)]
struct Head {
    size: u64,
    etag: Option<String>,
    write_id: Option<String>,
}

/// What a write promises of the object it made.
#[derive(Debug)]
struct Promise {
    write_id: String,
    size: u64,
    /// The ETag, where the server makes it by MD5 as S3 does without KMS.
    etag: Option<String>,
}

impl S3Store {
    /// The store `bucket/prefix`. Nothing is asked of the server yet.
    ///
    /// Calls end with [`StoreError::Interrupted`] as `ending` says.
    pub fn new(
        bucket: &str,
        prefix: &str,
        settings: &S3Config,
        spool_dir: PathBuf,
        ending: impl Into<Ending>,
    ) -> Self {
        let prefix = prefix.trim_matches('/');
        let url = match prefix {
            "" => format!("s3://{bucket}"),
            prefix => format!("s3://{bucket}/{prefix}"),
        };
        let units = usize::try_from(settings.memory.0 / MEMORY_UNIT).unwrap_or(usize::MAX);
        Self {
            unwanted: None,
            shared: Arc::new(Shared {
                bucket: bucket.to_owned(),
                prefix: match prefix {
                    "" => String::new(),
                    prefix => format!("{prefix}/"),
                },
                url,
                spool_dir,
                patience: Patience::new(settings.retry_for.0, settings.timeout.0, ending.into()),
                client: OnceCell::new(),
                open: Mutex::default(),
                up: Limit::new(settings.upload_limit.map(|limit| limit.0)),
                down: Limit::new(settings.download_limit.map(|limit| limit.0)),
                memory: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
                spooled: Arc::new(Semaphore::new(SPOOLED as usize)),
                connections: Arc::new(Semaphore::new(CONNECTIONS)),
                settings: settings.clone(),
            }),
        }
    }
}

impl S3Store {
    /// The patience with the object that is being written.
    fn patience(&self) -> Patience {
        self.shared.patience.while_wanted(self.unwanted.clone())
    }

    /// A look for the sake of that object.
    async fn look<T>(
        &self,
        looking: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let patience = self.patience();
        tokio::select! {
            biased;
            () = patience.ended() => Err(StoreError::Interrupted { store: self.url() }),
            looked = looking => looked,
        }
    }
}

#[async_trait]
impl Store for S3Store {
    fn url(&self) -> String {
        self.shared.url.clone()
    }

    fn server(&self) -> Option<String> {
        Some(client::server(&self.shared.settings))
    }

    fn object_lock(&self) -> Option<RetentionLock> {
        self.shared.settings.lock
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        key::check_prefix(prefix)?;
        let shared = &self.shared;
        let client = shared.client().await?;
        let mut objects = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let listing = || async {
                let page = client
                    .list_objects_v2()
                    .bucket(&shared.bucket)
                    .prefix(shared.full(prefix))
                    .set_continuation_token(token.clone())
                    .send()
                    .await?;
                Ok(page)
            };
            let page = shared
                .patience
                .call(Call::LOOK, listing)
                .await
                .map_err(|failure| shared.error("list", prefix, failure))?;
            for object in page.contents() {
                let Some(key) = object
                    .key()
                    .and_then(|key| key.strip_prefix(&shared.prefix))
                else {
                    continue;
                };
                // What others keep here under names of other kinds is none of ours.
                if key::check(key).is_ok() {
                    let size = object.size().and_then(|size| u64::try_from(size).ok());
                    objects.push(ObjectInfo {
                        key: key.to_owned(),
                        size: size.unwrap_or(0),
                    });
                }
            }
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                objects.sort();
                return Ok(objects);
            }
        }
    }

    async fn put(&self, key: &str, content: &[u8]) -> Result<ObjectInfo, StoreError> {
        key::check(key)?;
        let shared = &self.shared;
        shared.refuse_taken(key).await?;
        let mut promise = Promise {
            write_id: new_write_id(),
            size: content.len() as u64,
            etag: None,
        };
        let client = shared.client().await?;
        let mut sent = shared
            .put_object(client, key, content, &promise, true)
            .await;
        if matches!(&sent, Err(failure) if failure.kind == Kind::NotImplemented) {
            sent = shared
                .put_object(client, key, content, &promise, false)
                .await;
        }
        match sent {
            Ok(etag) => promise.etag = etag,
            // The answer to an earlier try may have been lost.
            Err(failure)
                if failure.kind == Kind::Taken && shared.is_ours(key, &promise).await? => {}
            Err(failure) => return Err(shared.error("write", key, failure)),
        }
        Ok(shared.keep_promise(key, &promise).await?.object)
    }

    async fn create(
        &self,
        key: &str,
        expected: Option<u64>,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        key::check(key)?;
        self.look(self.shared.refuse_taken(key)).await?;
        Ok(Box::new(
            S3Writer::begin(self.clone(), key, expected).await?,
        ))
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        key::check(key)?;
        Ok(self.shared.head(key).await?.size)
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        key::check(key)?;
        if range.is_empty() {
            let size = self.shared.head(key).await?.size;
            return match range.end <= size {
                true => Ok(Vec::new()),
                false => Err(self.shared.truncated(key, size, range.end)),
            };
        }
        let mut content = self.shared.read_some(key, &range).await?;
        while (content.len() as u64) < range.end.saturating_sub(range.start) {
            let rest = range.start.saturating_add(content.len() as u64)..range.end;
            content.append(&mut self.shared.read_some(key, &rest).await?);
        }
        Ok(content)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        key::check(key)?;
        let shared = &self.shared;
        let client = shared.client().await?;
        let deleting = || async {
            client
                .delete_object()
                .bucket(&shared.bucket)
                .key(shared.full(key))
                .send()
                .await?;
            Ok(())
        };
        match shared.patience.call(Call::CHANGE, deleting).await {
            Err(failure) if failure.kind != Kind::NotFound => {
                Err(shared.error("delete", key, failure))
            }
            _ => Ok(()),
        }
    }

    /// Lists, asks for an object that is not there, and begins an upload and gives it up: a bucket that lets nothing be deleted is
    /// a good store. By the name of a part of a backup, so that an object lock that the bucket does not take is told here.
    async fn probe(&self) -> Result<(), StoreError> {
        probe::sweep(self, Timestamp::now()).await?;
        let key = format!("{}/{MANIFEST}", probe::name(Timestamp::now()));
        match self.read(&key, 0..1).await {
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error),
            Ok(_) => {
                let odd = Failure::new(Kind::Refused, "the server gives what it does not hold");
                return Err(self.shared.error("read", &key, odd));
            }
        }
        let begun = self.create(&key, None).await;
        let writer = begun.map_err(|error| self.shared.blame_lock(error))?;
        writer.abort().await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        key::check_prefix(prefix)?;
        let shared = &self.shared;
        let uploads = shared.uploads(prefix, &shared.patience).await?;
        Ok(uploads
            .into_iter()
            .map(|(key, id)| format!("{key}{UPLOAD}{id}"))
            .collect())
    }

    async fn discard_unfinished(&self, id: &str) -> Result<(), StoreError> {
        let (key, upload) = id.rsplit_once(UPLOAD).ok_or_else(|| key::invalid(id))?;
        key::check(key)?;
        self.shared.abort(key, upload).await
    }

    fn while_wanted(&self, unwanted: &CancellationToken) -> Option<SharedStore> {
        Some(Arc::new(Self {
            shared: self.shared.clone(),
            unwanted: Some(unwanted.clone()),
        }))
    }

    async fn give_up_open(&self) -> Result<(), StoreError> {
        let open = self.shared.open().clone();
        let mut ended = Ok(());
        for (upload, key) in open {
            ended = ended.and(self.shared.abort(&key, &upload).await);
        }
        ended
    }

    async fn creates_once(&self, key: &str, content: &[u8]) -> Result<bool, StoreError> {
        key::check(key)?;
        let promise = Promise {
            write_id: new_write_id(),
            size: content.len() as u64,
            etag: None,
        };
        // Where it is not refused it has changed nothing: the content is the same.
        let client = self.shared.client().await?;
        let sent = self
            .shared
            .put_object(client, key, content, &promise, true)
            .await;
        match sent {
            Ok(_) => Ok(false),
            Err(failure) if failure.kind == Kind::Taken => Ok(true),
            Err(failure) if failure.kind == Kind::NotImplemented => Ok(false),
            Err(failure) => Err(self.shared.error("write", key, failure)),
        }
    }

    fn spool(&self, expected: u64) -> Option<Spool> {
        let shared = &self.shared;
        let part = PartSizes::new(Some(expected), shared.settings.max_parts).size(1)?;
        (!shared.fits_into_memory(part)).then(|| Spool {
            folder: shared.spool_dir.clone(),
            bytes: part.saturating_mul(SPOOLED.into()),
        })
    }

    fn read_ahead(&self) -> ReadAhead {
        ReadAhead {
            chunk: 4 << 20,
            at_once: CONNECTIONS,
        }
    }
}

impl Shared {
    /// What a server refuses to begin with an object lock it most likely refuses for that.
    fn blame_lock(&self, error: StoreError) -> StoreError {
        let refused = matches!(
            error,
            StoreError::Refused { .. } | StoreError::Denied { .. }
        );
        if self.settings.lock.is_some() && refused {
            let (store, detail) = (self.url.clone(), error.to_string());
            return StoreError::LockRefused { store, detail };
        }
        error
    }

    /// Whether a part of this size waits in memory, and not in a file: two must fit.
    fn fits_into_memory(&self, part: u64) -> bool {
        part <= self.settings.memory.0 / 2
    }
}

fn new_write_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// An ETag without its quotes.
fn bare_etag(etag: &str) -> String {
    etag.trim_matches('"').to_ascii_lowercase()
}
