//! The way back: a target directory, a private mongod, settled data, proof.
//!
//! [`target::Target`] is the directory that receives an archive; it carries a marker until
//! everything is done. [`settle::settle`] turns a copied data directory into a replica set of
//! one member; [`prove::prove`] validates every collection of a copy nobody keeps. Both
//! work through [`server::PrivateMongod`]. What MongoDB does with such a copy, and how that was
//! seen, is told in `doc/mongodb.md`.

mod binary;
mod error;
pub mod fetch;
pub(crate) mod log;
pub mod owner;
pub mod prove;
pub mod server;
pub mod set;
pub mod settle;
pub mod target;

pub use binary::{MongodBinary, ServerVersion};
pub use error::RestoreError;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::archive::{ArchiveError, Profile};
use crate::ids::{BackupId, MemberAddr, OpTime, ShardName};
use crate::manifest::{Manifest, MemberRecord, MemberState};

/// What is to be restored, and how.
#[derive(Debug)]
pub struct Order<'a> {
    /// The directory to restore to.
    pub to: &'a Path,
    /// The replica set; none where the backup holds one only.
    pub shard: Option<&'a ShardName>,
    /// Only these files, or directories with what is in them; empty: everything. Such a part is no data directory: it cannot be settled.
    pub only: &'a [String],
    /// Settle for this member.
    pub member: Option<&'a MemberAddr>,
    /// The replica set's new name.
    pub replset: Option<&'a ShardName>,
    /// The mongod that settles.
    pub mongod: Option<&'a Path>,
}

/// What was restored. Its serialized form is what `restore --json` prints.
#[derive(Debug, Serialize)]
pub struct Restored {
    /// The backup.
    pub id: BackupId,
    /// The replica set.
    pub shard: ShardName,
    /// The directory.
    pub to: PathBuf,
    /// The moment that the data is of.
    pub optime: OpTime,
    /// Whether that is known exactly: not before settling, of a member that was not locked. Then it is that moment or a later one.
    pub optime_exact: bool,
    /// Files and directories written.
    pub files: u64,
    /// Sum of the files' sizes in bytes, holes included.
    pub data_bytes: u64,
    /// Seconds from the first look to the last sync.
    pub seconds: f64,
    /// What settling did; none without `--member`.
    pub settled: Option<settle::SettleReport>,
    /// How mongod is started on it: every argument but the program's name. Empty where only some files were restored.
    pub start: Vec<String>,
}

/// Restores one member of a backup: checks, unpacks, and settles where a member is named.
///
/// # Errors
/// [`RestoreError`]; once begun, the target stays marked as incomplete.
pub async fn restore(
    fetch: &fetch::Fetch<'_>,
    order: &Order<'_>,
) -> Result<Restored, RestoreError> {
    let begun = Instant::now();
    let record = choose(fetch.manifest, order.shard)?;
    // Everything that can refuse does so before the first byte is written.
    Profile::known(&record.archive.profile).map_err(unpacking(record))?;
    let binary = match order.member {
        Some(_) => {
            settle::refuse_role(&record.state())?;
            let binary = MongodBinary::find(order.mongod).await?;
            binary.fit_for(&record.server_version)?;
            Some(binary)
        }
        None => None,
    };
    fetch.check_table().await?;
    let needed = fetch
        .size(record, order.only)
        .await
        .map_err(unpacking(record))?;
    let target = target::Target::prepare(order.to, needed)?;
    let filling = async {
        let unpacked = fetch
            .archive(record, target.path(), order.only)
            .await
            .map_err(unpacking(record))?;
        let settled = match (order.member, &binary) {
            (Some(member), Some(binary)) => {
                let settling = settle::Settling {
                    db_path: target.path(),
                    record: record.state(),
                    member,
                    replset: order.replset,
                    binary,
                };
                Some(settle::settle(settling, fetch.cancel).await?)
            }
            _ => None,
        };
        Ok((unpacked, settled))
    };
    let (unpacked, settled) = filling.await.map_err(|error| match error {
        RestoreError::Cancelled => RestoreError::Interrupted {
            path: order.to.to_owned(),
        },
        error => error,
    })?;
    target.finish()?;
    Ok(Restored {
        id: fetch.manifest.id,
        shard: record.shard.clone(),
        to: order.to.to_owned(),
        optime: settled
            .as_ref()
            .map_or(record.optime, |settled| settled.optime),
        optime_exact: record.locked || settled.is_some(),
        files: unpacked.files,
        data_bytes: unpacked.data_size,
        seconds: begun.elapsed().as_secs_f64(),
        start: match order.only {
            [] => {
                let settled = order.member.map(|member| (member, order.replset));
                start_arguments(order.to, settled, &record.state())
            }
            _ => Vec::new(),
        },
        settled,
    })
}

fn unpacking(record: &MemberRecord) -> impl FnOnce(ArchiveError) -> RestoreError {
    |error| match error {
        ArchiveError::Cancelled => RestoreError::Cancelled,
        error => RestoreError::Unpack {
            shard: record.shard.clone(),
            cause: error.into(),
        },
    }
}

/// How mongod is started on what was restored to `db_path`. Data that is not settled still names the old set's members, so it is started alone.
fn start_arguments(
    db_path: &Path,
    settled: Option<(&MemberAddr, Option<&ShardName>)>,
    record: &MemberState<'_>,
) -> Vec<String> {
    let mut arguments = vec!["--dbpath".to_owned(), db_path.display().to_string()];
    match settled {
        Some((member, replset)) => {
            let replset = replset.unwrap_or(record.shard);
            arguments.extend(["--port".into(), member.port.to_string()]);
            arguments.extend(["--replSet".into(), replset.to_string()]);
        }
        None => arguments.extend([
            "--setParameter".into(),
            "recoverFromOplogAsStandalone=true".into(),
        ]),
    }
    arguments.extend(server::layout_arguments(record.layout));
    arguments
}

/// The member that is meant.
fn choose<'a>(
    manifest: &'a Manifest,
    shard: Option<&ShardName>,
) -> Result<&'a MemberRecord, RestoreError> {
    let names = || {
        manifest
            .members
            .iter()
            .map(|member| member.shard.to_string())
            .collect()
    };
    match (shard, manifest.members.as_slice()) {
        (Some(shard), members) => members
            .iter()
            .find(|member| member.shard == *shard)
            .ok_or_else(|| RestoreError::NoSuchShard {
                shard: shard.clone(),
                there_are: names(),
            }),
        (None, [only]) => Ok(only),
        (None, _) => Err(RestoreError::WhichShard { there_are: names() }),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::catalog;
    use crate::error::{Exit, Explain};
    use crate::progress::{Meter, Progress};
    use crate::store::SharedStore;
    use crate::store::local::LocalStore;

    /// Asks the restore to end when it begins to unpack.
    struct Interrupting(CancellationToken);

    impl Progress for Interrupting {
        fn begin(&self, phase: &str, _meter: &Meter) {
            if phase.starts_with("unpack") {
                self.0.cancel();
            }
        }
        fn end(&self, _phase: &str) {}
        fn say(&self, _line: &str) {}
    }

    #[tokio::test]
    async fn an_interrupted_restore_says_what_to_do_with_what_it_left() {
        let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/fixtures/format-1");
        let store: SharedStore = Arc::new(LocalStore::open(&frozen).unwrap());
        let id = "20260131_020000".parse().unwrap();
        let manifest = catalog::load(store.as_ref(), id).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (to, cancel) = (dir.path().join("restored"), CancellationToken::new());
        let shard = "rs1".parse().unwrap();
        let fetch = fetch::Fetch {
            store: &store,
            manifest: &manifest,
            threads: NonZeroUsize::MIN,
            progress: &Interrupting(cancel.clone()),
            cancel: &cancel,
        };
        let order = Order {
            to: &to,
            shard: Some(&shard),
            only: &[],
            member: None,
            replset: None,
            mongod: None,
        };
        let error = restore(&fetch, &order).await.unwrap_err();
        let hint = error.hint().unwrap();
        assert!(
            hint.contains(&format!("remove {} and restore again", to.display())),
            "{hint}"
        );
        assert_eq!(error.exit(), Exit::Interrupted);
        assert!(to.join(target::INCOMPLETE).exists());
    }
}
