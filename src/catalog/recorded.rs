//! Backups of either kind: archives in the store, or snapshots of volumes that the store only tells of.

use std::fmt::Write as _;

use serde::Serialize;
use serde::de::IgnoredAny;

use super::render::{columns, heading, window};
use super::summary::SetSummary;
use super::write::sealed;
use super::{CatalogError, belongs, decode, put_manifest, read_bytes, read_intent};
use crate::human;
use crate::ids::{BackupId, RunId};
use crate::manifest::snapshots::{CopyOutcome, SnapshotManifest, SnapshotSet};
use crate::manifest::{FORMAT_SNAPSHOTS, MANIFEST, Manifest};
use crate::retention_lock::RetentionLock;
use crate::store::{Store, StoreError};

/// A backup, as its manifest tells of it. Its JSON form is the manifest's.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Recorded {
    /// One archive a member, in the store.
    Archives(Manifest),
    /// Snapshots of volumes.
    Snapshots(SnapshotManifest),
}

impl Recorded {
    /// Its name.
    pub fn id(&self) -> BackupId {
        match self {
            Self::Archives(manifest) => manifest.id,
            Self::Snapshots(manifest) => manifest.id,
        }
    }

    /// The run that made it.
    pub fn run(&self) -> RunId {
        match self {
            Self::Archives(manifest) => manifest.run,
            Self::Snapshots(manifest) => manifest.run,
        }
    }

    /// It as a backup of archives.
    ///
    /// # Errors
    /// [`CatalogError::InSnapshots`] where it is none.
    pub fn archives(self) -> Result<Manifest, CatalogError> {
        match self {
            Self::Archives(manifest) => Ok(manifest),
            Self::Snapshots(manifest) => Err(CatalogError::InSnapshots {
                id: manifest.id,
                place: manifest.snapshots.place.to_string(),
            }),
        }
    }
}

/// What tells the two manifests apart.
#[derive(serde::Deserialize)]
struct Sort {
    format: u64,
    snapshots: Option<IgnoredAny>,
}

/// The manifest of `id`, checked in itself; what it names may still be missing.
///
/// # Errors
/// [`CatalogError`].
pub async fn read_recorded(store: &dyn Store, id: BackupId) -> Result<Recorded, CatalogError> {
    let bytes = match read_bytes(store, id, MANIFEST).await {
        Err(CatalogError::Store(StoreError::NotFound { .. })) => {
            return Err(match store.list(&format!("{id}/")).await?.is_empty() {
                true => CatalogError::NoSuchSet {
                    store: store.url(),
                    id,
                },
                false => CatalogError::Unfinished { id },
            });
        }
        read => read?,
    };
    // What is no JSON at all is told better by who wants archives.
    let in_snapshots = serde_json::from_slice(&bytes).is_ok_and(|sort: Sort| {
        sort.format >= u64::from(FORMAT_SNAPSHOTS) && sort.snapshots.is_some()
    });
    let inconsistent = |source| CatalogError::Inconsistent { id, source };
    if in_snapshots {
        let manifest: SnapshotManifest = decode(id, MANIFEST, &bytes)?;
        belongs(id, MANIFEST, manifest.id)?;
        manifest.check().map_err(inconsistent)?;
        return Ok(Recorded::Snapshots(manifest));
    }
    let manifest: Manifest = decode(id, MANIFEST, &bytes)?;
    belongs(id, MANIFEST, manifest.id)?;
    manifest.check().map_err(inconsistent)?;
    Ok(Recorded::Archives(manifest))
}

/// Writes the manifest of a set of snapshots, and so makes it a backup: not before each of them is complete.
///
/// # Errors
/// As those of [`super::write_manifest`].
pub async fn write_snapshots(
    store: &dyn Store,
    manifest: &SnapshotManifest,
) -> Result<(), CatalogError> {
    let id = manifest.id;
    let inconsistent = |source| CatalogError::Inconsistent { id, source };
    manifest.check().map_err(inconsistent)?;
    let intent = read_intent(store, id).await?;
    manifest.check_against(&intent).map_err(inconsistent)?;
    put_manifest(store, id, &sealed(id, MANIFEST, manifest)?).await
}

/// Everything an operator asks about one set of snapshots.
pub fn render(set: &SetSummary, manifest: &SnapshotManifest) -> String {
    let snapshots = &manifest.snapshots;
    let mut text = heading(set, manifest.format, &manifest.tool);
    for (name, value) in [
        ("host", manifest.host.clone()),
        ("run", manifest.run.to_string()),
        ("finished", manifest.finished.to_string()),
        ("kind", "EBS snapshots; nothing is archived".to_owned()),
        ("place", snapshots.place.to_string()),
        ("instance", snapshots.instance.to_string()),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12}{value}");
    }
    for member in &manifest.members {
        let _ = write!(
            text,
            "\n{} from {}\n  mongod      {}, feature compatibility {}\n  optime      {}{}\n  data        {}\n",
            member.shard,
            member.address,
            member.server_version,
            member.feature_compatibility,
            member.optime,
            if member.locked { "" } else { " or later" },
            human::size(member.data_size),
        );
        for place in &member.places {
            let on = snapshots.filesystems.get(place.filesystem);
            let on = on.map_or_else(String::new, |one| one.mount_point.display().to_string());
            let _ = writeln!(
                text,
                "  {:<12}{} in the file system of {on}",
                place.at,
                place.inside.display()
            );
        }
    }
    for filesystem in &snapshots.filesystems {
        let _ = write!(text, "\n{}\n", filesystem.stack);
    }
    text.push_str("\nsnapshots\n");
    let rows: Vec<[String; 4]> = snapshots
        .volumes
        .iter()
        .map(|one| {
            [
                format!("  {}", one.snapshot),
                one.volume.id.to_string(),
                one.volume.attached_as.clone(),
                human::size(one.volume.bytes),
            ]
        })
        .collect();
    text.push_str(&columns(&rows));
    text.push_str(&protection(snapshots));
    text.push_str(&window(&manifest.window));
    text
}

/// Copies, shares and lock of a set, as far as it was to have any.
fn protection(set: &SnapshotSet) -> String {
    let mut text = String::new();
    if let Some(copies) = &set.copies {
        // Writing to a String cannot fail.
        let _ = match &copies.outcome {
            CopyOutcome::Made(_) => writeln!(text, "\ncopies in {}", copies.place),
            CopyOutcome::Missing(reason) => {
                writeln!(text, "\nNO COPIES in {}: {reason}", copies.place)
            }
        };
    }
    if let Some(copied) = set.copied() {
        let pairs = set.volumes.iter().zip(&copied.volumes);
        let rows: Vec<_> = pairs
            .map(|(one, copy)| {
                [
                    format!("  {}", copy.snapshot),
                    format!("of {}", one.snapshot),
                ]
            })
            .collect();
        text.push_str(&columns(&rows));
    }
    if let Some(shared) = &set.shared {
        let with: Vec<_> = shared.with.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "\nshared with {}", with.join(", "));
        if let Some(reason) = &shared.failed {
            let _ = writeln!(text, "  NOT ALL OF THEM: {reason}");
        }
    }
    if let Some(lock) = set.lock {
        let _ = writeln!(
            text,
            "\na lock is asked for when it is complete, {}: `freezeframe verify` asks EC2 whether they are locked",
            RetentionLock::from(lock),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::summary::SetState;
    use super::super::{list, read_manifest, sample, write_intent};
    use super::*;
    use crate::error::{Exit, Explain};
    use crate::manifest::snapshots::sample::{protected, snapshots};
    use crate::store::SharedStore;
    use crate::store::memory::MemoryStore;

    async fn stored() -> SharedStore {
        let store: SharedStore = Arc::new(MemoryStore::new());
        let intent = crate::manifest::Intent {
            format: FORMAT_SNAPSHOTS,
            ..sample::intent()
        };
        write_intent(store.as_ref(), &intent).await.unwrap();
        write_snapshots(store.as_ref(), &snapshots()).await.unwrap();
        store
    }

    #[tokio::test]
    async fn a_set_of_snapshots_is_a_backup_that_is_listed_and_shown_as_what_it_is() {
        let store = stored().await;
        let read = read_recorded(store.as_ref(), sample::id()).await.unwrap();
        assert_eq!(read, Recorded::Snapshots(snapshots()));
        let sets = list(store.as_ref()).await.unwrap();
        let [set] = sets.as_slice() else { panic!() };
        assert_eq!((set.state, set.snapshots), (SetState::Complete, 3));
        assert_eq!(set.provider.as_deref(), Some("ebs"));
        assert_eq!(set.members.len(), 2);
        let table = super::super::render::table(&sets, set.started);
        assert!(table.contains("3 snapshots"), "{table}");
        let shown = render(set, &snapshots());
        for told in [
            "snap-00000000000000003",
            "nothing is archived",
            "journal1 in the file system of /journal",
            "eu-central-1",
        ] {
            assert!(shown.contains(told), "no {told:?} in\n{shown}");
        }
    }

    #[test]
    fn copies_shares_and_locks_are_shown_and_loudly_where_they_lack() {
        let set = protected().snapshots;
        let shown = protection(&set);
        for told in [
            "copies in eu-west-1",
            "snap-c0000000000000003  of snap-00000000000000003",
            "shared with 123456789012",
            "governance, 30 days",
        ] {
            assert!(shown.contains(told), "no {told:?} in\n{shown}");
        }
        let mut lacking = set.clone();
        lacking.copies.as_mut().unwrap().outcome = CopyOutcome::Missing("denied".into());
        lacking.shared.as_mut().unwrap().failed = Some("default key".into());
        let shown = protection(&lacking);
        for told in [
            "NO COPIES in eu-west-1: denied",
            "NOT ALL OF THEM: default key",
        ] {
            assert!(shown.contains(told), "no {told:?} in\n{shown}");
        }
        assert_eq!(protection(&snapshots().snapshots), "");
    }

    #[tokio::test]
    async fn who_wants_archives_hears_that_there_are_none() {
        let store = stored().await;
        let error = read_manifest(store.as_ref(), sample::id())
            .await
            .unwrap_err();
        assert!(matches!(error, CatalogError::InSnapshots { .. }), "{error}");
        assert_eq!(error.exit(), Exit::Refused);
        assert!(error.hint().unwrap().contains("freezeframe restore"));
    }
}
