//! A store that could not be opened, for those who look at everything else all the same: it says why in every call.

use std::ops::Range;

use async_trait::async_trait;

use crate::ids::RunId;

use super::{ObjectInfo, ObjectWriter, Store, StoreError};

/// A store whose address leads nowhere.
#[derive(Debug)]
pub struct ClosedStore {
    url: String,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    NoFolder,
    Other(String),
}

impl ClosedStore {
    /// The store at `url`, which could not be opened for `error`.
    pub fn new(url: &str, error: &StoreError) -> Self {
        Self {
            url: super::without_secrets(url),
            reason: match error {
                StoreError::NoFolder { .. } => Reason::NoFolder,
                StoreError::InvalidUrl { reason, .. } => Reason::Other(reason.clone()),
                other => Reason::Other(other.to_string()),
            },
        }
    }

    fn error(&self) -> StoreError {
        let url = self.url.clone();
        match &self.reason {
            Reason::NoFolder => StoreError::NoFolder { url },
            Reason::Other(reason) => StoreError::InvalidUrl {
                url,
                reason: reason.clone(),
            },
        }
    }
}

#[async_trait]
impl Store for ClosedStore {
    fn url(&self) -> String {
        self.url.clone()
    }

    async fn list(&self, _prefix: &str) -> Result<Vec<ObjectInfo>, StoreError> {
        Err(self.error())
    }

    async fn put(&self, _key: &str, _content: &[u8]) -> Result<ObjectInfo, StoreError> {
        Err(self.error())
    }

    async fn create(
        &self,
        _key: &str,
        _expected: Option<u64>,
    ) -> Result<Box<dyn ObjectWriter>, StoreError> {
        Err(self.error())
    }

    async fn size(&self, _key: &str) -> Result<u64, StoreError> {
        Err(self.error())
    }

    async fn read(&self, _key: &str, _range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        Err(self.error())
    }

    async fn delete(&self, _key: &str) -> Result<(), StoreError> {
        Err(self.error())
    }

    async fn probe(&self) -> Result<(), StoreError> {
        Err(self.error())
    }

    async fn unfinished(&self, _prefix: &str) -> Result<Vec<String>, StoreError> {
        Err(self.error())
    }

    async fn unfinished_of(&self, _prefix: &str, _run: RunId) -> Result<Vec<String>, StoreError> {
        Err(self.error())
    }

    async fn discard_unfinished(&self, _id: &str) -> Result<(), StoreError> {
        Err(self.error())
    }
}
