//! The calls to the server, each tried again as [`super::retry`] says, and what their failures mean to users of a store.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{ObjectLockMode, ServerSideEncryption, StorageClass};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use md5::{Digest, Md5};

use super::retry::{self, Call, Failure, Kind, Patience};
use super::{Head, Promise, Shared, WRITE_ID, bare_etag, client};
use crate::aws::percent;
use crate::config::s3::{Checksums, Encryption};
use crate::manifest::is_part;
use crate::retention_lock::LockMode;
use crate::store::error::CREDENTIALS;
use crate::store::{ObjectInfo, StoreError, Stored};

/// How long credentials are tried to be had: what withholds them is as likely to be lasting as not.
const CONNECTING: Duration = Duration::from_secs(60);
/// The most room that is made for an answer before any of it is there: a server may promise anything.
const MOST_AHEAD: u64 = 16 << 20;

impl Shared {
    pub(super) async fn client(&self) -> Result<&Client, StoreError> {
        let connecting = || async {
            let patience = self.patience.at_most(CONNECTING);
            let connect = || client::connect(&self.settings);
            let connected = patience.call(Call::LOOK, connect).await;
            connected.map_err(|failure| match failure.kind {
                Kind::Refused => StoreError::NoAccess {
                    store: self.url.clone(),
                    reason: failure.detail,
                },
                _ => self.error("get", CREDENTIALS, failure),
            })
        };
        self.client.get_or_try_init(connecting).await
    }

    pub(super) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The failure of a call, as whoever uses a store sees it.
    pub(super) fn error(&self, action: &'static str, key: &str, failure: Failure) -> StoreError {
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
            Kind::Untrusted => StoreError::Untrusted { store, detail },
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

    pub(super) async fn head(&self, key: &str) -> Result<Head, StoreError> {
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
            .call(Call::LOOK, asking)
            .await
            .map_err(|failure| self.error("look at", key, failure))
    }

    /// Whether the object under `key` was made by the write `promise`, whatever the answer to it was.
    pub(super) async fn is_ours(&self, key: &str, promise: &Promise) -> Result<bool, StoreError> {
        match self.head(key).await {
            Ok(head) => Ok(head.write_id.as_ref() == Some(&promise.write_id)),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn refuse_taken(&self, key: &str) -> Result<(), StoreError> {
        match self.head(key).await {
            Ok(_) => Err(StoreError::Exists {
                store: self.url.clone(),
                key: key.to_owned(),
            }),
            Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks at what a write has made: that it is there, ours, and what was sent as far as the server tells.
    pub(super) async fn keep_promise(
        &self,
        key: &str,
        promise: &Promise,
    ) -> Result<Stored, StoreError> {
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
            (sent, stored) => Ok(Stored {
                object: ObjectInfo {
                    key: key.to_owned(),
                    size: promise.size,
                },
                proven: sent.is_some() && stored.is_some(),
            }),
        }
    }

    pub(super) async fn put_object(
        &self,
        client: &Client,
        key: &str,
        content: &[u8],
        promise: &Promise,
        conditional: bool,
    ) -> Result<Option<String>, Failure> {
        let digest = Md5::digest(content);
        let size = content.len() as u64;
        let sending = || async {
            let settings = &self.settings;
            let (lock, until) = self.object_lock(key);
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
                .set_object_lock_mode(lock)
                .set_object_lock_retain_until_date(until)
                .body(ByteStream::from(content.to_vec()))
                .send()
                .await?;
            Ok(reply.e_tag().map(bare_etag))
        };
        let call = Call::CHANGE.moving(size, &self.up);
        self.patience.call(call, sending).await
    }

    pub(super) fn content_md5(&self, digest: &[u8]) -> Option<String> {
        (self.settings.checksums == Checksums::Md5).then(|| BASE64_STANDARD.encode(digest))
    }

    pub(super) fn storage_class(&self) -> Option<StorageClass> {
        let class = self.settings.storage_class.as_deref()?;
        Some(StorageClass::from(class))
    }

    /// The lock for what is written to `key` now, and until when: of parts of backups alone, since marks and leases come and go.
    pub(super) fn object_lock(&self, key: &str) -> (Option<ObjectLockMode>, Option<DateTime>) {
        let name = key.rsplit_once('/').map_or("", |(_, name)| name);
        match self.settings.lock {
            Some(lock) if is_part(name) => {
                let mode = match lock.mode {
                    LockMode::Governance => ObjectLockMode::Governance,
                    LockMode::Compliance => ObjectLockMode::Compliance,
                };
                let until = Timestamp::now().saturating_add(lock.length());
                let until = until.unwrap_or(Timestamp::MAX).as_second();
                (Some(mode), Some(DateTime::from_secs(until)))
            }
            _ => (None, None),
        }
    }

    pub(super) fn encryption(&self) -> Option<ServerSideEncryption> {
        Some(match self.settings.encryption? {
            Encryption::Aes256 => ServerSideEncryption::Aes256,
            Encryption::Kms => ServerSideEncryption::AwsKms,
        })
    }

    /// The tags as the header wants them, which is as a query string.
    pub(super) fn tagging(&self) -> Option<String> {
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

    /// Ends an upload, also when we were asked to end. Not where the store was given up on a moment ago: whoever aborts holds
    /// other things meanwhile, and `recover` does it.
    pub(super) async fn abort(&self, key: &str, upload_id: &str) -> Result<(), StoreError> {
        const ACTION: &str = "abort the upload of";
        if self.patience.is_gone() {
            let failure = Failure::new(Kind::Transient, "the store is gone");
            return Err(self.error(ACTION, key, failure));
        }
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
        match self
            .patience
            .for_cleaning_up()
            .call(Call::CHANGE, aborting)
            .await
        {
            Err(failure) if !matches!(failure.kind, Kind::NoSuchUpload | Kind::NotFound) => {
                Err(self.error(ACTION, key, failure))
            }
            _ => {
                self.open().remove(upload_id);
                Ok(())
            }
        }
    }

    /// The uploads that were begun here and have not ended: their keys, by their ids.
    pub(super) fn open(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // Every change is one map operation: a panic elsewhere leaves nothing half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys and upload ids of the uploads under way whose key begins with `prefix`.
    pub(super) async fn uploads(
        &self,
        prefix: &str,
        patience: &Patience,
    ) -> Result<Vec<(String, String)>, StoreError> {
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
            let page = match patience.call(Call::LOOK, listing).await {
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
    pub(super) async fn read_some(
        &self,
        key: &str,
        range: &Range<u64>,
    ) -> Result<Vec<u8>, StoreError> {
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
            let mut content =
                Vec::with_capacity(usize::try_from(wanted.min(MOST_AHEAD)).unwrap_or_default());
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
        let call = Call::LOOK.moving(wanted, &self.down);
        match self.patience.call(call, reading).await {
            Ok((content, None)) => Ok(content),
            Ok((_, Some(size))) => Err(self.truncated(key, size, range.end)),
            Err(failure) if failure.kind == Kind::OutOfRange => {
                Err(self.truncated(key, self.head(key).await?.size, range.end))
            }
            Err(failure) => Err(self.error("read", key, failure)),
        }
    }

    pub(super) fn truncated(&self, key: &str, size: u64, wanted: u64) -> StoreError {
        StoreError::Truncated {
            store: self.url.clone(),
            key: key.to_owned(),
            size,
            wanted,
        }
    }
}

/// First byte and whole size in `bytes 0-99/1234`.
fn parse_content_range(text: &str) -> Option<(u64, u64)> {
    let (span, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = span.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()?))
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
