//! A store in S3 or in a server that speaks like it.
//!
//! Nothing is overwritten and nothing needs deletion to succeed: objects are created under a condition
//! (`If-None-Match: *`), and where a server ignores that, a look beforehand stands in for it. Every object carries
//! a random write id in its metadata, so that a write whose answer was lost is told from somebody else's.

mod client;
mod limit;
pub mod parts;
mod retry;
mod spool;
mod writer;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest, Md5};
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{ObjectInfo, ObjectWriter, ReadAhead, Store, StoreError, key};
use crate::config::s3::{Checksums, Encryption, S3Config};
use limit::Limit;
use retry::{Failure, Kind, Patience};
use writer::S3Writer;

/// Metadata that names the write which made an object.
const WRITE_ID: &str = "freezeframe-write";
/// Unit in which memory for parts is shared out.
const MEMORY_UNIT: u64 = 1 << 10;
/// Parts that are sent at the same time; more connections gain nothing and annoy servers.
const CONNECTIONS: usize = 8;
/// Parts in files at the same time: one being filled, one on its way.
const SPOOLED: usize = 2;
/// Between key and upload id in the name of an unfinished write.
const UPLOAD: &str = "?uploadId=";

/// A bucket, or what lies below a prefix in it.
#[derive(Debug, Clone)]
pub struct S3Store {
    shared: Arc<Shared>,
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
    /// Calls end with [`StoreError::Interrupted`] when `cancel` is cancelled.
    pub fn new(
        bucket: &str,
        prefix: &str,
        settings: &S3Config,
        spool_dir: PathBuf,
        cancel: CancellationToken,
    ) -> Self {
        let prefix = prefix.trim_matches('/');
        let url = match prefix {
            "" => format!("s3://{bucket}"),
            prefix => format!("s3://{bucket}/{prefix}"),
        };
        let units = usize::try_from(settings.memory.0 / MEMORY_UNIT).unwrap_or(usize::MAX);
        Self {
            shared: Arc::new(Shared {
                bucket: bucket.to_owned(),
                prefix: match prefix {
                    "" => String::new(),
                    prefix => format!("{prefix}/"),
                },
                url,
                spool_dir,
                patience: Patience {
                    retry_for: settings.retry_for.0,
                    attempt: settings.timeout.0,
                    cancel,
                },
                client: OnceCell::new(),
                up: Limit::new(settings.upload_limit.map(|limit| limit.0)),
                down: Limit::new(settings.download_limit.map(|limit| limit.0)),
                memory: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
                spooled: Arc::new(Semaphore::new(SPOOLED)),
                connections: Arc::new(Semaphore::new(CONNECTIONS)),
                settings: settings.clone(),
            }),
        }
    }
}

impl Shared {
    async fn client(&self) -> Result<&Client, StoreError> {
        let connecting = || async {
            client::connect(&self.settings)
                .await
                .map_err(|reason| StoreError::NoAccess {
                    store: self.url.clone(),
                    reason,
                })
        };
        self.client.get_or_try_init(connecting).await
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The failure of a call, as whoever uses a store sees it.
    fn error(&self, action: &'static str, key: &str, failure: Failure) -> StoreError {
        let (store, key) = (self.url.clone(), key.to_owned());
        let Failure {
            kind,
            detail,
            tried_for,
        } = failure;
        match kind {
            Kind::NotFound => StoreError::NotFound { store, key },
            Kind::Taken => StoreError::Exists { store, key },
            Kind::Interrupted => StoreError::Interrupted { store },
            Kind::Denied => StoreError::Denied {
                action,
                store,
                key,
                detail,
            },
            Kind::Transient => StoreError::Unavailable {
                action,
                store,
                key,
                detail,
                tried_for,
            },
            Kind::NoSuchUpload | Kind::OutOfRange | Kind::NotImplemented | Kind::Refused => {
                StoreError::Refused {
                    action,
                    store,
                    key,
                    detail,
                }
            }
        }
    }

    async fn head(&self, key: &str) -> Result<Head, StoreError> {
        let client = self.client().await?;
        let asking = || async {
            let reply = client
                .head_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .send()
                .await?;
            Ok(Head {
                size: reply
                    .content_length()
                    .and_then(|size| u64::try_from(size).ok())
                    .unwrap_or(0),
                etag: reply.e_tag().map(bare_etag),
                write_id: reply
                    .metadata()
                    .and_then(|metadata| metadata.get(WRITE_ID).cloned()),
            })
        };
        self.patience
            .call(0, asking)
            .await
            .map_err(|failure| self.error("look at", key, failure))
    }

    /// Whether the object under `key` was made by the write `promise`, whatever the answer to it was.
    async fn is_ours(&self, key: &str, promise: &Promise) -> Result<bool, StoreError> {
        match self.head(key).await {
            Ok(head) => Ok(head.write_id.as_ref() == Some(&promise.write_id)),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn refuse_taken(&self, key: &str) -> Result<(), StoreError> {
        match self.head(key).await {
            Ok(_) => Err(StoreError::Exists {
                store: self.url.clone(),
                key: key.to_owned(),
            }),
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks at what a write has made: that it is there, ours, and what was sent.
    async fn keep_promise(&self, key: &str, promise: &Promise) -> Result<ObjectInfo, StoreError> {
        let head = self.head(key).await?;
        let broken = |detail: String| StoreError::Refused {
            action: "trust",
            store: self.url.clone(),
            key: key.to_owned(),
            detail,
        };
        if head
            .write_id
            .as_ref()
            .is_some_and(|id| *id != promise.write_id)
        {
            return Err(StoreError::Exists {
                store: self.url.clone(),
                key: key.to_owned(),
            });
        }
        if head.size != promise.size {
            return Err(broken(format!(
                "{} bytes were sent and {} are stored",
                promise.size, head.size
            )));
        }
        match (&promise.etag, &head.etag) {
            (Some(sent), Some(stored)) if sent != stored => Err(broken(format!(
                "its hash is {stored}, and what was sent has {sent}"
            ))),
            _ => Ok(ObjectInfo {
                key: key.to_owned(),
                size: promise.size,
            }),
        }
    }

    async fn put_object(
        &self,
        key: &str,
        content: &[u8],
        promise: &Promise,
        conditional: bool,
    ) -> Result<Option<String>, Failure> {
        let client = self
            .client()
            .await
            .map_err(|error| Failure::new(Kind::Refused, error.to_string()))?;
        let digest = Md5::digest(content);
        let size = content.len() as u64;
        let sending = || async {
            self.up.pass(size).await;
            let settings = &self.settings;
            let reply = client
                .put_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .metadata(WRITE_ID, &promise.write_id)
                .set_if_none_match(conditional.then(|| "*".to_owned()))
                .set_content_md5(self.content_md5(&digest))
                .set_storage_class(self.storage_class())
                .set_server_side_encryption(self.encryption())
                .set_ssekms_key_id(settings.kms_key.clone())
                .set_tagging(self.tagging())
                .body(ByteStream::from(content.to_vec()))
                .send()
                .await?;
            Ok(reply.e_tag().map(bare_etag))
        };
        self.patience.call(size, sending).await
    }

    fn content_md5(&self, digest: &[u8]) -> Option<String> {
        (self.settings.checksums == Checksums::Md5).then(|| BASE64_STANDARD.encode(digest))
    }

    fn storage_class(&self) -> Option<StorageClass> {
        let class = self.settings.storage_class.as_deref()?;
        Some(StorageClass::from(class))
    }

    fn encryption(&self) -> Option<ServerSideEncryption> {
        Some(match self.settings.encryption? {
            Encryption::Aes256 => ServerSideEncryption::Aes256,
            Encryption::Kms => ServerSideEncryption::AwsKms,
        })
    }

    /// The tags as the header wants them, which is as a query string.
    fn tagging(&self) -> Option<String> {
        if self.settings.tags.is_empty() {
            return None;
        }
        let pairs = self
            .settings
            .tags
            .iter()
            .map(|(name, value)| format!("{}={}", percent(name), percent(value)));
        Some(pairs.collect::<Vec<_>>().join("&"))
    }

    async fn abort(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        let client = self.client().await?;
        let aborting = || async {
            client
                .abort_multipart_upload()
                .bucket(&self.bucket)
                .key(self.full(key))
                .upload_id(upload_id)
                .send()
                .await?;
            Ok(())
        };
        match self.patience.call(0, aborting).await {
            Err(failure) if !matches!(failure.kind, Kind::NoSuchUpload | Kind::NotFound) => {
                Err(self.error("abort the upload of", key, failure))
            }
            _ => Ok(()),
        }
    }

    /// Keys and upload ids of the uploads under way whose key begins with `prefix`.
    async fn uploads(&self, prefix: &str) -> Result<Vec<(String, String)>, StoreError> {
        let client = self.client().await?;
        let mut found = Vec::new();
        let (mut key_marker, mut id_marker) = (None, None);
        loop {
            let listing = || async {
                let page = client
                    .list_multipart_uploads()
                    .bucket(&self.bucket)
                    .prefix(self.full(prefix))
                    .set_key_marker(key_marker.clone())
                    .set_upload_id_marker(id_marker.clone())
                    .send()
                    .await?;
                Ok(page)
            };
            let page = match self.patience.call(0, listing).await {
                Ok(page) => page,
                // Then the server keeps no uploads that anybody could see, either.
                Err(failure) if failure.kind == Kind::NotImplemented => return Ok(found),
                Err(failure) => return Err(self.error("list the uploads of", prefix, failure)),
            };
            for upload in page.uploads() {
                let key = upload.key().and_then(|key| key.strip_prefix(&self.prefix));
                if let (Some(key), Some(id)) = (key, upload.upload_id()) {
                    found.push((key.to_owned(), id.to_owned()));
                }
            }
            let next = (
                page.next_key_marker().map(str::to_owned),
                page.next_upload_id_marker().map(str::to_owned),
            );
            if page.is_truncated() != Some(true) || next.0.is_none() {
                return Ok(found);
            }
            (key_marker, id_marker) = next;
        }
    }

    /// At least the first bytes of `range`, as many as came before the answer ended.
    async fn read_some(&self, key: &str, range: &Range<u64>) -> Result<Vec<u8>, StoreError> {
        let client = self.client().await?;
        let wanted = range.end.saturating_sub(range.start);
        // No object is that large, and some servers count in signed numbers.
        let last = range.end.saturating_sub(1).min(i64::MAX.unsigned_abs());
        let reading = || async {
            let mut reply = client
                .get_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .range(format!("bytes={}-{last}", range.start))
                .send()
                .await?;
            let span = reply.content_range().map(str::to_owned);
            let (start, size) = span
                .as_deref()
                .and_then(parse_content_range)
                .ok_or_else(|| {
                    Failure::new(
                        Kind::Refused,
                        "the server does not answer with the range asked for",
                    )
                })?;
            if start != range.start {
                return Err(Failure::new(Kind::Refused, "the server sent another range"));
            }
            if size < range.end {
                return Ok((Vec::new(), Some(size)));
            }
            let mut content = Vec::new();
            while (content.len() as u64) < wanted {
                match reply.body.try_next().await {
                    Ok(Some(bytes)) => content.extend_from_slice(&bytes),
                    Ok(None) => break,
                    Err(error) if content.is_empty() => {
                        return Err(Failure::new(Kind::Transient, retry::chain(&error)));
                    }
                    // What came is kept; the rest is asked for anew.
                    Err(_) => break,
                }
            }
            if content.is_empty() {
                return Err(Failure::new(
                    Kind::Transient,
                    "the answer ended before its first byte",
                ));
            }
            content.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
            Ok((content, None))
        };
        match self.patience.call(wanted, reading).await {
            Ok((content, None)) => {
                self.down.pass(content.len() as u64).await;
                Ok(content)
            }
            Ok((_, Some(size))) => Err(self.truncated(key, size, range.end)),
            Err(failure) if failure.kind == Kind::OutOfRange => {
                Err(self.truncated(key, self.head(key).await?.size, range.end))
            }
            Err(failure) => Err(self.error("read", key, failure)),
        }
    }

    fn truncated(&self, key: &str, size: u64, wanted: u64) -> StoreError {
        StoreError::Truncated {
            store: self.url.clone(),
            key: key.to_owned(),
            size,
            wanted,
        }
    }
}

#[async_trait]
impl Store for S3Store {
    fn url(&self) -> String {
        self.shared.url.clone()
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
                .call(0, listing)
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
        let mut sent = shared.put_object(key, content, &promise, true).await;
        if matches!(&sent, Err(failure) if failure.kind == Kind::NotImplemented) {
            sent = shared.put_object(key, content, &promise, false).await;
        }
        match sent {
            Ok(etag) => promise.etag = etag,
            // The answer to an earlier try may have been lost.
            Err(failure)
                if failure.kind == Kind::Taken && shared.is_ours(key, &promise).await? => {}
            Err(failure) => return Err(shared.error("write", key, failure)),
        }
        shared.keep_promise(key, &promise).await
    }

    async fn create(
        &self,
        key: &str,
        expected: Option<u64>,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        key::check(key)?;
        self.shared.refuse_taken(key).await?;
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
        match shared.patience.call(0, deleting).await {
            Err(failure) if failure.kind != Kind::NotFound => {
                Err(shared.error("delete", key, failure))
            }
            _ => Ok(()),
        }
    }

    /// Lists, and begins an upload and gives it up: a bucket that lets nothing be deleted is a good store.
    async fn probe(&self) -> Result<(), StoreError> {
        let key = format!("freezeframe-probe-{}", new_write_id());
        self.list(&key).await?;
        let writer = self.create(&key, None).await?;
        writer.abort().await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        key::check_prefix(prefix)?;
        let uploads = self.shared.uploads(prefix).await?;
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

    async fn creates_once(&self, key: &str, content: &[u8]) -> Result<bool, StoreError> {
        key::check(key)?;
        let promise = Promise {
            write_id: new_write_id(),
            size: content.len() as u64,
            etag: None,
        };
        // Where it is not refused it has changed nothing: the content is the same.
        match self.shared.put_object(key, content, &promise, true).await {
            Ok(_) => Ok(false),
            Err(failure) if failure.kind == Kind::Taken => Ok(true),
            Err(failure) if failure.kind == Kind::NotImplemented => Ok(false),
            Err(failure) => Err(self.shared.error("write", key, failure)),
        }
    }

    fn read_ahead(&self) -> ReadAhead {
        ReadAhead {
            chunk: 8 << 20,
            at_once: 4,
        }
    }
}

fn new_write_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// An ETag without its quotes.
fn bare_etag(etag: &str) -> String {
    etag.trim_matches('"').to_ascii_lowercase()
}

/// First byte and whole size in `bytes 0-99/1234`.
fn parse_content_range(text: &str) -> Option<(u64, u64)> {
    let (span, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = span.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()?))
}

/// Everything but letters, digits, `-`, `_`, `.` and `~` as `%XX`.
fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_tags_are_read_and_written() {
        assert_eq!(parse_content_range("bytes 5-9/12"), Some((5, 12)));
        for odd in ["", "bytes */12", "bytes 5-9", "5-9/12", "bytes 5-9/*"] {
            assert_eq!(parse_content_range(odd), None, "{odd}");
        }
        assert_eq!(percent("a b=ü&~"), "a%20b%3D%C3%BC%26~");
    }
}
