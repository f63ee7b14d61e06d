//! Stores as giving back opens them: each once, without much patience, and only where it is still on the same server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{SharedStore, Store, StoreError, StoreSettings};
use crate::ids::RunId;

/// How long a store is tried that does not answer. What it holds is in the journal, and can be given back later; who waits
/// meanwhile cannot.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens stores to give back what is in them. Clones share what is open.
#[derive(Debug, Clone)]
pub struct Stores {
    settings: StoreSettings,
    open: Arc<Mutex<BTreeMap<String, SharedStore>>>,
}

impl Default for Stores {
    fn default() -> Self {
        Self::new(StoreSettings::default())
    }
}

impl Stores {
    /// Stores by these settings. Their calls go on when everything else is asked to end, until [`StoreSettings::hurry`].
    pub fn new(settings: StoreSettings) -> Self {
        Self {
            settings: settings.impatient(PATIENCE),
            open: Arc::default(),
        }
    }

    /// The store at `url`, which was on `server` when it was written to.
    ///
    /// # Errors
    /// [`StoreError::OtherServer`] where the settings lead to another one: what is not there would be taken for gone.
    pub fn open(&self, url: &str, server: Option<&str>) -> Result<SharedStore, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let store = match open.get(url) {
            Some(store) => store.clone(),
            None => {
                let store = super::open(url, &self.settings, &self.settings.hurry)?;
                open.insert(url.to_owned(), store.clone());
                store
            }
        };
        match (server, store.server()) {
            (Some(written), Some(found)) if written != found => Err(StoreError::OtherServer {
                store: store.url(),
                written: written.to_owned(),
                found,
            }),
            _ => Ok(store),
        }
    }
}

/// Removes what `run` left half written below `prefix`, and nothing of others, who may be at work there.
///
/// # Errors
/// [`StoreError`]; where nothing may be removed it stays, does no harm, and is no error.
pub async fn discard_of_run(store: &dyn Store, prefix: &str, run: RunId) -> Result<(), StoreError> {
    for id in store.unfinished_of(prefix, run).await? {
        match store.discard_unfinished(&id).await {
            Err(error) if error.is_denial() => {
                tracing::warn!(%id, %error, "an unfinished write stays");
            }
            discarded => discarded?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::s3::S3Config;

    #[test]
    fn a_bucket_on_another_server_is_another_bucket() {
        let on = |endpoint: &str| {
            Stores::new(StoreSettings {
                s3: S3Config {
                    endpoint: Some(endpoint.parse().unwrap()),
                    ..S3Config::default()
                },
                ..StoreSettings::default()
            })
        };
        let open = |stores: &Stores, server: &str| stores.open("s3://bucket/x", Some(server));
        let (here, there) = (on("https://here:9000"), on("https://there:9000"));
        let store = open(&here, "https://here:9000").unwrap();
        assert_eq!(store.server().as_deref(), Some("https://here:9000"));
        let error = open(&there, "https://here:9000").unwrap_err();
        assert!(matches!(error, StoreError::OtherServer { .. }), "{error}");
        assert!(error.to_string().contains("https://here:9000"), "{error}");
        // Folders are where they say, and the journals of earlier versions do not say.
        let folder = tempfile::tempdir().unwrap();
        here.open(folder.path().to_str().unwrap(), None).unwrap();
        there.open("s3://bucket/x", None).unwrap();
    }

    #[test]
    fn giving_back_has_little_patience_and_one_connection() {
        let stores = Stores::new(StoreSettings::default());
        assert_eq!(stores.settings.s3.retry_for.0, PATIENCE);
        let (one, other) = (
            stores.open("s3://bucket/x", None).unwrap(),
            stores.clone().open("s3://bucket/x", None).unwrap(),
        );
        assert!(Arc::ptr_eq(&one, &other));
    }
}
