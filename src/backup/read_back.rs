//! Reading back what a store says it holds, where its word does not tell which bytes they are.

use tokio_util::sync::CancellationToken;

use crate::backup::upload::UploadError;
use crate::ids::{BackupId, Hash};
use crate::manifest::Proof;
use crate::progress::Progress;
use crate::store::{SharedStore, StoreError};
use crate::verify::{VerifyError, check_object};

/// Whether and how objects are read back.
pub struct ReadBack<'a> {
    /// Whether what the store cannot prove is read back at all.
    pub wanted: bool,
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
    /// Cancelled when the backup should end.
    pub cancel: &'a CancellationToken,
}

impl ReadBack<'_> {
    /// Sees to it that `store` holds `object` of the set `id` with this hash, and says how that is known. `proven`: by
    /// what the store said when the object was finished.
    ///
    /// # Errors
    /// [`UploadError::OtherBytes`] where it holds something else.
    pub async fn prove(
        &self,
        store: &SharedStore,
        id: BackupId,
        object: &str,
        hash: Hash,
        proven: bool,
    ) -> Result<Proof, UploadError> {
        if proven {
            return Ok(Proof::ServerHash);
        }
        if !self.wanted {
            return Ok(Proof::Size);
        }
        let phase = format!("read back {object}");
        let checked = check_object(store, id, object, hash, &phase, self.progress, self.cancel);
        match checked.await {
            Ok(()) => Ok(Proof::ReadBack),
            Err(VerifyError::Damaged { findings, .. }) => Err(UploadError::OtherBytes {
                store: store.url(),
                object: object.to_owned(),
                problem: findings
                    .into_iter()
                    .map(|finding| finding.problem)
                    .collect::<Vec<_>>()
                    .join("; "),
            }),
            Err(VerifyError::Cancelled { .. }) => {
                let store = store.url();
                Err(StoreError::Interrupted { store }.into())
            }
            Err(VerifyError::Store(error)) => Err(error.into()),
            Err(VerifyError::Catalog(error)) => Err(error.into()),
        }
    }
}
