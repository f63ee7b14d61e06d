//! Streamed writing: the bytes move on a thread that may block, the caller only waits.

use std::io;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::LocalStore;
use super::durable::Partial;
use crate::store::{ObjectInfo, ObjectWriter, StoreError, Stored};

/// Chunks that wait for the disk; with the caller's chunk size this bounds memory.
const WAITING_CHUNKS: usize = 4;

/// What the caller may ask of the thread. A channel that ends without `Finish` means: give up.
enum Order {
    Append(Vec<u8>),
    Finish,
}

/// An object on its way into the folder.
pub(super) struct LocalWriter {
    store: LocalStore,
    key: String,
    orders: mpsc::Sender<Order>,
    thread: Option<JoinHandle<Result<Option<ObjectInfo>, StoreError>>>,
}

impl LocalWriter {
    pub(super) fn start(store: LocalStore, key: &str, partial: Partial) -> Self {
        let (orders, inbox) = mpsc::channel(WAITING_CHUNKS);
        let (name, folder) = (key.to_owned(), store.clone());
        let thread = tokio::task::spawn_blocking(move || carry_out(&folder, &name, partial, inbox));
        Self {
            store,
            key: key.to_owned(),
            orders,
            thread: Some(thread),
        }
    }

    /// Why the thread ended before it was told to.
    async fn failure(&mut self) -> StoreError {
        // A handle gives its result once; the caller may write again after a failure.
        let ended = match self.thread.take() {
            Some(thread) => match thread.await {
                Ok(Err(error)) => return error,
                Ok(Ok(_)) => io::Error::other("the writing thread ended early"),
                Err(error) => io::Error::other(error),
            },
            None => io::Error::other("an earlier write failed"),
        };
        self.store.error("write", &self.key, ended)
    }
}

fn carry_out(
    store: &LocalStore,
    key: &str,
    mut partial: Partial,
    mut inbox: mpsc::Receiver<Order>,
) -> Result<Option<ObjectInfo>, StoreError> {
    while let Some(order) = inbox.blocking_recv() {
        match order {
            Order::Append(chunk) => partial
                .append(&chunk)
                .map_err(|error| store.error("write", key, error))?,
            Order::Finish => return store.publish(partial, key).map(Some),
        }
    }
    partial
        .discard()
        .map_err(|error| store.error("delete", key, error))?;
    Ok(None)
}

#[async_trait]
impl ObjectWriter for LocalWriter {
    async fn write(&mut self, chunk: Vec<u8>) -> Result<(), StoreError> {
        match self.orders.send(Order::Append(chunk)).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Objects in a folder share nothing that one could keep from another.
    async fn seal(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<Stored, StoreError> {
        if self.orders.send(Order::Finish).await.is_err() {
            return Err(self.failure().await);
        }
        match self.thread.take() {
            Some(thread) => match thread.await {
                // That the system took every byte does not tell what the disk gives back.
                Ok(Ok(Some(object))) => Ok(Stored {
                    object,
                    proven: false,
                }),
                Ok(Err(error)) => Err(error),
                Ok(Ok(None)) => Err(self.failure().await),
                Err(error) => Err(self
                    .store
                    .error("finish", &self.key, io::Error::other(error))),
            },
            None => Err(self.failure().await),
        }
    }

    async fn abort(self: Box<Self>) -> Result<(), StoreError> {
        let Self {
            store,
            key,
            orders,
            thread,
        } = *self;
        drop(orders);
        let Some(thread) = thread else { return Ok(()) };
        match thread.await {
            // A write that failed was told to the writer, and took its partial file with it.
            Ok(Err(StoreError::Io {
                action: "write", ..
            })) => Ok(()),
            Ok(ended) => ended.map(drop),
            Err(error) => Err(store.error("delete", &key, io::Error::other(error))),
        }
    }
}
