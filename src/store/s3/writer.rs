//! An object on its way to S3: a multipart upload whose parts are sent side by side.

use aws_sdk_s3::Client;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use md5::{Digest, Md5};
use tokio::task::JoinSet;

use super::parts::PartSizes;
use super::retry::{Call, Failure, Kind};
use super::spool::{Part, SealedPart};
use super::{MEMORY_UNIT, Promise, S3Store, bare_etag, new_write_id};
use crate::store::{ObjectWriter, Store, StoreError, Stored};

/// An upload under way.
pub(super) struct S3Writer {
    store: S3Store,
    key: String,
    upload_id: String,
    /// The answer to an earlier try to begin may have been lost, and its upload be open.
    begun_twice: bool,
    promise: Promise,
    sizes: PartSizes,
    filling: Option<Part>,
    /// Parts begun, the one being filled included.
    number: u64,
    sending: JoinSet<Result<SentPart, StoreError>>,
    sent: Vec<SentPart>,
}

/// A part the server has.
#[derive(Debug)]
struct SentPart {
    number: u64,
    digest: [u8; 16],
    etag: String,
}

impl S3Writer {
    pub(super) async fn begin(
        store: S3Store,
        key: &str,
        expected: Option<u64>,
    ) -> Result<Self, StoreError> {
        let shared = store.shared.clone();
        let client = shared.client().await?;
        let write_id = new_write_id();
        let mut tries = 0u32;
        let beginning = || {
            tries += 1;
            async {
                let (lock, until) = shared.object_lock(key);
                let reply = client
                    .create_multipart_upload()
                    .bucket(&shared.bucket)
                    .key(shared.full(key))
                    .metadata(super::WRITE_ID, &write_id)
                    .set_storage_class(shared.storage_class())
                    .set_server_side_encryption(shared.encryption())
                    .set_ssekms_key_id(shared.settings.kms_key.clone())
                    .set_tagging(shared.tagging())
                    .set_object_lock_mode(lock)
                    .set_object_lock_retain_until_date(until)
                    .send()
                    .await?;
                reply
                    .upload_id()
                    .map(str::to_owned)
                    .ok_or_else(|| Failure::new(Kind::Refused, "the server gave the upload no id"))
            }
        };
        let begun = store.patience().call(Call::CHANGE, beginning).await;
        let upload_id =
            begun.map_err(|failure| shared.error("begin the upload of", key, failure))?;
        shared.open().insert(upload_id.clone(), key.to_owned());
        Ok(Self {
            sizes: PartSizes::new(expected, shared.settings.max_parts),
            store,
            key: key.to_owned(),
            upload_id,
            begun_twice: tries > 1,
            promise: Promise {
                write_id,
                size: 0,
                etag: None,
            },
            filling: None,
            number: 0,
            sending: JoinSet::new(),
            sent: Vec::new(),
        })
    }

    fn refused(&self, detail: impl Into<String>) -> StoreError {
        let failure = Failure::new(Kind::Refused, detail);
        self.store.shared.error("write", &self.key, failure)
    }

    /// A part to be filled: waits until memory, or a place in the spool, is free.
    async fn next_part(&mut self) -> Result<(Part, u64), StoreError> {
        if let Some(part) = self.filling.take() {
            let size = self.sizes.size(self.number).unwrap_or(0);
            return Ok((part, size));
        }
        let number = self.number.saturating_add(1);
        let Some(size) = self.sizes.size(number) else {
            return Err(self.refused(
                "it has grown far beyond what was expected and does not fit into [s3] max_parts",
            ));
        };
        let shared = self.store.shared.clone();
        let part = if shared.fits_into_memory(size) {
            let units = u32::try_from(size / MEMORY_UNIT).unwrap_or(u32::MAX);
            let share = self
                .wait_for(shared.memory.clone().acquire_many_owned(units))
                .await?;
            Part::in_memory(size, share)
        } else {
            let share = self
                .wait_for(shared.spooled.clone().acquire_owned())
                .await?;
            Part::in_file(&shared.spool_dir, share)
                .await
                .map_err(|error| self.refused(spool_failed(&shared.spool_dir, &error)))?
        };
        self.number = number;
        Ok((part, size))
    }

    /// Waits for a share, or fails as soon as a part on its way has failed.
    async fn wait_for<P>(
        &mut self,
        share: impl Future<Output = Result<P, tokio::sync::AcquireError>>,
    ) -> Result<P, StoreError> {
        let mut share = std::pin::pin!(share);
        let (store, patience) = (self.store.url(), self.store.patience());
        loop {
            tokio::select! {
                biased;
                () = patience.ended() => return Err(StoreError::Interrupted { store }),
                Some(joined) = self.sending.join_next() => self.note(joined)?,
                share = &mut share => return share.map_err(|error| self.refused(error.to_string())),
            }
        }
    }

    fn note(
        &mut self,
        joined: Result<Result<SentPart, StoreError>, tokio::task::JoinError>,
    ) -> Result<(), StoreError> {
        let sent = joined.map_err(|error| self.refused(error.to_string()))??;
        self.sent.push(sent);
        Ok(())
    }

    fn send(&mut self, part: Part) {
        let (store, key) = (self.store.clone(), self.key.clone());
        let (upload_id, number) = (self.upload_id.clone(), self.number);
        let part = part.seal();
        self.promise.size = self.promise.size.saturating_add(part.len);
        self.sending
            .spawn(async move { send_part(&store, &key, &upload_id, number, part).await });
    }

    /// Sends the part that is being filled, however full it is: only an object's last one may be small.
    fn send_last(&mut self) {
        if let Some(part) = self.filling.take() {
            self.send(part);
        }
    }

    async fn all_sent(&mut self) -> Result<(), StoreError> {
        self.send_last();
        while let Some(joined) = self.sending.join_next().await {
            self.note(joined)?;
        }
        self.sent.sort_by_key(|part| part.number);
        Ok(())
    }

    /// Makes the object of its parts, on condition that there is none.
    async fn complete(&self, client: &Client, conditional: bool) -> Result<(), Failure> {
        let shared = &self.store.shared;
        let part = |part: &SentPart| {
            CompletedPart::builder()
                .part_number(i32::try_from(part.number).unwrap_or(i32::MAX))
                .e_tag(&part.etag)
                .build()
        };
        let parts = CompletedMultipartUpload::builder()
            .set_parts(Some(self.sent.iter().map(part).collect()))
            .build();
        let completing = || async {
            client
                .complete_multipart_upload()
                .bucket(&shared.bucket)
                .key(shared.full(&self.key))
                .upload_id(&self.upload_id)
                .multipart_upload(parts.clone())
                .set_if_none_match(conditional.then(|| "*".to_owned()))
                .send()
                .await?;
            Ok(())
        };
        self.store.patience().call(Call::CHANGE, completing).await
    }

    /// The ETag that S3 gives an object of these parts, where it makes it by MD5: the hash of their hashes and their number.
    fn expected_etag(&self) -> Option<String> {
        let by_md5 = |part: &SentPart| bare_etag(&part.etag) == hex(&part.digest);
        if !self.sent.iter().all(by_md5) {
            return None;
        }
        let mut all = Md5::new();
        for part in &self.sent {
            all.update(part.digest);
        }
        Some(format!("{}-{}", hex(&all.finalize()), self.sent.len()))
    }

    async fn finished(&mut self) -> Result<Stored, StoreError> {
        self.all_sent().await?;
        if self.sent.is_empty() {
            // An upload needs a part, and an empty object has none.
            self.give_up().await?;
            return Ok(Stored {
                object: self.store.put(&self.key, &[]).await?,
                proven: true,
            });
        }
        self.promise.etag = self.expected_etag();
        // A server that ignores the condition must not overwrite what came since we began.
        let shared = self.store.shared.clone();
        self.store.look(shared.refuse_taken(&self.key)).await?;
        let client = shared.client().await?;
        let mut done = self.complete(client, true).await;
        if matches!(&done, Err(failure) if failure.kind == Kind::NotImplemented) {
            done = self.complete(client, false).await;
        }
        if let Err(failure) = done {
            // The answer to an earlier try may have been lost.
            let unsure = matches!(
                failure.kind,
                Kind::NoSuchUpload | Kind::Taken | Kind::NotFound | Kind::Transient
            );
            let ours = unsure
                && self
                    .store
                    .look(shared.is_ours(&self.key, &self.promise))
                    .await?;
            if !ours {
                // Who took the key may have had our upload aborted.
                if failure.kind == Kind::NoSuchUpload {
                    self.store.look(shared.refuse_taken(&self.key)).await?;
                }
                return Err(shared.error("finish", &self.key, failure));
            }
        }
        shared.open().remove(&self.upload_id);
        let made = self
            .store
            .look(shared.keep_promise(&self.key, &self.promise))
            .await?;
        if self.begun_twice {
            self.sweep().await?;
        }
        Ok(made)
    }

    /// Ends the upload so that nothing of it is left.
    async fn give_up(&mut self) -> Result<(), StoreError> {
        // A part that arrives after the abort would stay: none may be on its way.
        self.sending.shutdown().await;
        self.filling = None;
        self.store.shared.abort(&self.key, &self.upload_id).await?;
        if self.begun_twice {
            self.sweep().await?;
        }
        Ok(())
    }

    /// Ends uploads whose beginning was not answered: their ids are known to the server alone.
    async fn sweep(&self) -> Result<(), StoreError> {
        let shared = &self.store.shared;
        let patience = shared.patience.for_cleaning_up();
        for (key, id) in shared.uploads(&self.key, &patience).await? {
            if key == self.key {
                shared.abort(&key, &id).await?;
            }
        }
        Ok(())
    }
}

async fn send_part(
    store: &S3Store,
    key: &str,
    upload_id: &str,
    number: u64,
    part: SealedPart,
) -> Result<SentPart, StoreError> {
    let shared = &store.shared;
    let client = shared.client().await?;
    let _connection = shared.connections.acquire().await;
    let sending = || async {
        let body = part
            .body()
            .await
            .map_err(|detail| Failure::new(Kind::Refused, detail))?;
        let reply = client
            .upload_part()
            .bucket(&shared.bucket)
            .key(shared.full(key))
            .upload_id(upload_id)
            .part_number(i32::try_from(number).unwrap_or(i32::MAX))
            .content_length(i64::try_from(part.len).unwrap_or(i64::MAX))
            .set_content_md5(shared.content_md5(&part.digest))
            .body(body)
            .send()
            .await?;
        reply
            .e_tag()
            .map(str::to_owned)
            .ok_or_else(|| Failure::new(Kind::Refused, "the server gave the part no ETag"))
    };
    // A part that lands late lands in an upload that is aborted: it need not be waited for.
    let etag = store
        .patience()
        .call(Call::LOOK.moving(part.len, &shared.up), sending)
        .await
        .map_err(|failure| shared.error("write", key, failure))?;
    Ok(SentPart {
        number,
        digest: part.digest,
        etag,
    })
}

#[async_trait::async_trait]
impl ObjectWriter for S3Writer {
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let (mut part, size) = self.next_part().await?;
            let room = usize::try_from(size.saturating_sub(part.len())).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at(room.min(rest.len()));
            part.append(now).await.map_err(|error| {
                self.refused(spool_failed(&self.store.shared.spool_dir, &error))
            })?;
            rest = later;
            if part.len() >= size {
                self.send(part);
            } else {
                self.filling = Some(part);
            }
        }
        Ok(())
    }

    /// The parts on their way give their share of memory, or their place in the spool, back by themselves.
    async fn seal(&mut self) -> Result<(), StoreError> {
        self.send_last();
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Stored, StoreError> {
        let finished = self.finished().await;
        if finished.is_err()
            && let Err(error) = self.give_up().await
        {
            tracing::warn!(key = self.key, %error, "an upload stays open; `freezeframe recover` ends it");
        }
        finished
    }

    async fn abort(mut self: Box<Self>) -> Result<(), StoreError> {
        self.give_up().await
    }
}

fn spool_failed(folder: &std::path::Path, error: &std::io::Error) -> String {
    format!(
        "a large part cannot be kept in {}: {error}",
        folder.display()
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
