//! A folder as a store.
//!
//! An object is written to `.<name>.<random>.partial` beside its place (the random digits begin with the
//! id of the run that writes it, so that giving back knows it), fsynced, and renamed without
//! replacing; then the folder is fsynced. Files have mode 0600, folders 0700. Names that begin with a
//! dot, symbolic links and special files are never objects.

mod durable;
mod walk;
mod writer;

use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use super::{ObjectInfo, ObjectWriter, SharedStore, Store, StoreError, key};
use crate::blocking::off_thread;
use crate::ids::RunId;
use durable::Partial;

/// A store in a folder of this host.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: PathBuf,
    url: String,
    /// Who writes by way of this handle, where that is told.
    run: Option<RunId>,
}

impl LocalStore {
    /// The store in the existing folder `root`, an absolute path.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let url = format!("file://{}", root.display());
        let invalid = |reason: String| StoreError::InvalidUrl {
            url: url.clone(),
            reason,
        };
        if !root.is_absolute() {
            return Err(invalid("the path is not absolute".into()));
        }
        match std::fs::metadata(root) {
            Ok(found) if found.is_dir() => Ok(Self {
                root: root.to_owned(),
                url,
                run: None,
            }),
            Ok(_) => Err(invalid("it is not a folder".into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::NoFolder { url })
            }
            Err(error) => Err(invalid(error.to_string())),
        }
    }

    fn place(&self, key: &str) -> Result<PathBuf, StoreError> {
        key::check(key)?;
        Ok(self.root.join(key))
    }

    fn error(&self, action: &'static str, key: &str, source: io::Error) -> StoreError {
        StoreError::Io {
            action,
            store: self.url.clone(),
            key: key.to_owned(),
            source,
        }
    }

    fn not_found(&self, key: &str) -> StoreError {
        StoreError::NotFound {
            store: self.url.clone(),
            key: key.to_owned(),
        }
    }

    fn exists(&self, key: &str) -> StoreError {
        StoreError::Exists {
            store: self.url.clone(),
            key: key.to_owned(),
        }
    }

    /// Runs `work` where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        off_thread(move || work(&store)).await
    }

    /// A partial file for `key`; fails early where the key is taken, so that nobody writes for hours in vain.
    fn begin(&self, key: &str) -> Result<Partial, StoreError> {
        let place = self.place(key)?;
        match std::fs::symlink_metadata(&place) {
            Ok(_) => return Err(self.exists(key)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(self.error("create", key, error)),
        }
        Partial::create(&self.root, &place, self.run)
            .map_err(|error| self.error("create", key, error))
    }

    /// Makes `partial` the object `key`.
    fn publish(&self, partial: Partial, key: &str) -> Result<ObjectInfo, StoreError> {
        let size = partial.written();
        partial.publish().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => self.exists(key),
            _ => self.error("finish", key, error),
        })?;
        Ok(ObjectInfo {
            key: key.to_owned(),
            size,
        })
    }

    /// The open object and its size.
    fn open_object(&self, key: &str) -> Result<(std::fs::File, u64), StoreError> {
        let place = self.place(key)?;
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => self.not_found(key),
            _ => self.error("read", key, error),
        };
        let found = std::fs::symlink_metadata(&place).map_err(failed)?;
        if !found.is_file() {
            return Err(self.not_found(key));
        }
        let file = std::fs::File::open(&place).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok((file, size))
    }

    fn read_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let (file, size) = self.open_object(key)?;
        let truncated = |size| StoreError::Truncated {
            store: self.url.clone(),
            key: key.to_owned(),
            size,
            wanted: range.end,
        };
        // Before anything is allocated: the range may come from a damaged manifest.
        if range.end > size {
            return Err(truncated(size));
        }
        let failed = |error: io::Error| self.error("read", key, error);
        let length = usize::try_from(range.end.saturating_sub(range.start))
            .map_err(|error| failed(io::Error::new(io::ErrorKind::OutOfMemory, error)))?;
        let mut content = Vec::new();
        content
            .try_reserve_exact(length)
            .map_err(|error| failed(io::Error::new(io::ErrorKind::OutOfMemory, error)))?;
        content.resize(length, 0);
        match file.read_exact_at(&mut content, range.start) {
            Ok(()) => Ok(content),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(truncated(file.metadata().map_err(failed)?.len()))
            }
            Err(error) => Err(failed(error)),
        }
    }
}

#[async_trait]
impl Store for LocalStore {
    fn url(&self) -> String {
        self.url.clone()
    }

    async fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        key::check_prefix(prefix)?;
        let wanted = prefix.to_owned();
        self.blocking(move |store| {
            walk::objects(&store.root, &wanted)
                .map_err(|(key, error)| store.error("list", &key, error))
        })
        .await
    }

    async fn list_what_opens(
        &self,
        prefix: &str,
    ) -> Result<(Vec<ObjectInfo>, Vec<(String, StoreError)>), StoreError> {
        key::check_prefix(prefix)?;
        let wanted = prefix.to_owned();
        self.blocking(move |store| {
            let mut closed = Vec::new();
            let found = walk::objects_that_open(&store.root, &wanted, &mut closed)
                .map_err(|(key, error)| store.error("list", &key, error))?;
            let closed = closed.into_iter().map(|(folder, error)| {
                let top = folder.split('/').next().unwrap_or_default().to_owned();
                (top, store.error("list", &folder, error))
            });
            Ok((found, closed.collect()))
        })
        .await
    }

    async fn put(&self, key: &str, content: &[u8]) -> Result<ObjectInfo, StoreError> {
        let (name, content) = (key.to_owned(), content.to_owned());
        self.blocking(move |store| {
            let mut partial = store.begin(&name)?;
            partial
                .append(&content)
                .map_err(|error| store.error("write", &name, error))?;
            store.publish(partial, &name)
        })
        .await
    }

    async fn create(
        &self,
        key: &str,
        _expected: Option<u64>,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        let name = key.to_owned();
        let partial = self.blocking(move |store| store.begin(&name)).await?;
        Ok(Box::new(writer::LocalWriter::start(
            self.clone(),
            key,
            partial,
        )))
    }

    async fn size(&self, key: &str) -> Result<u64, StoreError> {
        let name = key.to_owned();
        self.blocking(move |store| store.open_object(&name).map(|(_, size)| size))
            .await
    }

    async fn read(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        let name = key.to_owned();
        self.blocking(move |store| store.read_range(&name, range))
            .await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let name = key.to_owned();
        self.blocking(move |store| {
            let place = store.place(&name)?;
            durable::remove(&store.root, &place)
                .map_err(|error| store.error("delete", &name, error))
        })
        .await
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        key::check_prefix(prefix)?;
        let wanted = prefix.to_owned();
        self.blocking(move |store| {
            walk::partials(&store.root, &wanted)
                .map_err(|(key, error)| store.error("list", &key, error))
        })
        .await
    }

    fn of_run(&self, run: RunId) -> Option<SharedStore> {
        Some(Arc::new(Self {
            run: Some(run),
            ..self.clone()
        }))
    }

    async fn unfinished_of(&self, prefix: &str, run: RunId) -> Result<Vec<String>, StoreError> {
        let mut found = self.unfinished(prefix).await?;
        found.retain(|id| walk::is_partial_of(id, run));
        Ok(found)
    }

    async fn discard_unfinished(&self, id: &str) -> Result<(), StoreError> {
        // Only what `unfinished` can have named: nothing else is ever removed.
        if walk::key_of_partial(id).is_none() {
            return Err(key::invalid(id));
        }
        let name = id.to_owned();
        self.blocking(move |store| {
            durable::remove(&store.root, &store.root.join(&name))
                .map_err(|error| store.error("delete", &name, error))
        })
        .await
    }

    fn local_path(&self) -> Option<&Path> {
        Some(&self.root)
    }
}

#[cfg(test)]
mod tests;
