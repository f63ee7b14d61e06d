//! The way through one set: its listing, intent, file table, and every archive.

use std::num::NonZeroUsize;

use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::objects::{self, Watch};
use super::{VerifyError, VerifyReport};
use crate::blocking::off_thread;
use crate::catalog::hold::HOLD;
use crate::catalog::reader::Reader;
use crate::catalog::{self, CatalogError};
use crate::error::{Exit, Explain};
use crate::ids::BackupId;
use crate::manifest::check::VERIFIED_PREFIX;
use crate::manifest::{INTENT, MANIFEST, Manifest, MemberRecord};
use crate::progress::{Meter, Progress};
use crate::store::object::StoredObject;
use crate::store::{ObjectInfo, SharedStore, StoreError};

pub(super) struct Walk<'a> {
    pub store: &'a SharedStore,
    pub manifest: &'a Manifest,
    pub threads: NonZeroUsize,
    pub progress: &'a dyn Progress,
    pub cancel: &'a CancellationToken,
}

/// What is wrong with one object, if anything.
type Problem = Option<String>;

impl Walk<'_> {
    pub(super) async fn run(&self, report: &mut VerifyReport) -> Result<(), VerifyError> {
        let listed = self.store.list(&format!("{}/", self.manifest.id)).await?;
        report.strays = strays(self.manifest, &listed);
        if let Some(problem) = self.intent().await? {
            report.find(INTENT, problem);
        }
        let unreadable = |object: &str, size: u64| {
            catalog::object_problem(self.manifest.id, object, size, &listed)
                .map(|problem| problem.to_string())
        };

        let files = &self.manifest.files;
        let mut table_is_sound = false;
        match unreadable(&files.object, files.size) {
            Some(problem) => report.find(&files.object, problem),
            None => {
                let (entries, problem) = self.table().await?;
                report.entries = entries;
                report.bytes = report.bytes.saturating_add(files.size);
                table_is_sound = problem.is_none();
                if let Some(problem) = problem {
                    report.find(&files.object, problem);
                }
            }
        }
        let checks = self.manifest.members.iter().map(|member| {
            let seen = unreadable(&member.archive.object, member.archive.size);
            async move {
                match seen {
                    Some(problem) => Ok((member, false, Some(problem))),
                    None => Ok((member, true, self.archive(member, table_is_sound).await?)),
                }
            }
        });
        let checked: Vec<Result<(&MemberRecord, bool, Problem), VerifyError>> =
            // One after the other: each uses every thread.
            stream::iter(checks).buffered(1).collect().await;
        for outcome in checked {
            let (member, was_read, problem) = outcome?;
            if was_read {
                report.archives = report.archives.saturating_add(1);
                report.bytes = report.bytes.saturating_add(member.archive.size);
            }
            if let Some(problem) = problem {
                report.find(&member.archive.object, problem);
            }
        }
        Ok(())
    }

    /// Nothing needs the intent once there is a manifest; but where it rots, so may the rest.
    async fn intent(&self) -> Result<Problem, VerifyError> {
        match catalog::read_intent(self.store.as_ref(), self.manifest.id).await {
            Ok(intent) => Ok(self
                .manifest
                .check_against(&intent)
                .err()
                .map(|error| error.to_string())),
            Err(CatalogError::Store(StoreError::NotFound { .. })) => Ok(Some("missing".into())),
            Err(CatalogError::Store(error)) => Err(error.into()),
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    /// Number of lines in the table, and what is wrong with it.
    pub(super) async fn table(&self) -> Result<(u64, Problem), VerifyError> {
        let record = &self.manifest.files;
        let (object, watch) = self.open(&record.object, record.size).await?;
        let manifest = self.manifest.clone();
        let counted = self
            .watched("verify file table", watch, move |watch| {
                objects::table(&object, &manifest, watch)
            })
            .await?;
        Ok(match counted {
            Ok(entries) => (entries, None),
            Err(problem) => (0, Some(problem)),
        })
    }

    async fn archive(
        &self,
        member: &MemberRecord,
        table_is_sound: bool,
    ) -> Result<Problem, VerifyError> {
        let record = member.archive.clone();
        // Against a sound table everything is checked; without one, that the bytes are those written.
        let expected = if table_is_sound {
            record.data_size
        } else {
            record.size
        };
        let (object, watch) = self.open(&record.object, expected).await?;
        let key = catalog::key(self.manifest.id, &self.manifest.files.object);
        let table = match table_is_sound {
            true => Some(StoredObject::open(self.store, &key).await?),
            false => None,
        };
        let (shard, threads) = (member.shard.clone(), self.threads);
        let phase = format!("verify {}", member.shard);
        let checked = self
            .watched(&phase, watch, move |watch| match table {
                Some(table) => objects::archive(&object, &record, &table, shard, threads, watch),
                None => objects::bytes(&object, record.hash, watch),
            })
            .await?;
        Ok(checked.err())
    }

    async fn open(&self, object: &str, size: u64) -> Result<(StoredObject, Watch), VerifyError> {
        let key = catalog::key(self.manifest.id, object);
        let watch = Watch {
            meter: Meter::expecting(size),
            cancel: self.cancel.clone(),
        };
        Ok((StoredObject::open(self.store, &key).await?, watch))
    }

    /// Runs `check` on a thread while progress shows it. Damage is the inner error, as text for the report.
    async fn watched<T: Send + 'static>(
        &self,
        phase: &str,
        watch: Watch,
        check: impl FnOnce(&Watch) -> Result<T, objects::CheckError> + Send + 'static,
    ) -> Result<Result<T, String>, VerifyError> {
        watched(self.manifest.id, phase, self.progress, watch, check).await
    }
}

/// Runs `check` of something in the set `id` on a thread while `progress` shows it. Damage is the inner error, as text.
pub(super) async fn watched<T: Send + 'static>(
    id: BackupId,
    phase: &str,
    progress: &dyn Progress,
    watch: Watch,
    check: impl FnOnce(&Watch) -> Result<T, objects::CheckError> + Send + 'static,
) -> Result<Result<T, String>, VerifyError> {
    progress.begin(phase, &watch.meter);
    let checked = off_thread(move || check(&watch)).await;
    progress.end(phase);
    match checked {
        Ok(value) => Ok(Ok(value)),
        Err(objects::CheckError::Cancelled) => Err(VerifyError::Cancelled { id }),
        Err(objects::CheckError::Store(error)) if error.exit() != Exit::Damaged => {
            Err(error.into())
        }
        Err(damage) => Ok(Err(damage.to_string())),
    }
}

/// Objects of the set that nothing accounts for.
fn strays(manifest: &Manifest, listed: &[ObjectInfo]) -> Vec<String> {
    let folder = format!("{}/", manifest.id);
    let known = |name: &str| {
        name == MANIFEST
            || name == INTENT
            || name.starts_with(VERIFIED_PREFIX)
            || name == HOLD
            || Reader::of(name).is_some()
            || manifest.objects().any(|(object, _)| object == name)
    };
    listed
        .iter()
        .filter_map(|info| info.key.strip_prefix(&folder))
        .filter(|name| !known(name))
        .map(str::to_owned)
        .collect()
}
