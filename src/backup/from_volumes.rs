//! A backup of archives made of a set of EBS snapshots: volumes made of them, mounted read-only, archived, and all of it given back.
//!
//! No database is asked anything: what the set's manifest says of members and window is true of the archives as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backup::archive::archive_member;
use crate::backup::contents::{Contents, Subject, View};
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::backup::set::{begin, publish};
use crate::backup::upload::{Upload, UploadError};
use crate::backup::window::{Closed, Locking};
use crate::backup::{BackupError, Environment, in_run};
use crate::blocking::off_thread;
use crate::catalog::{self, CatalogError, Recorded};
use crate::copies::find::{find, refuse_other_kinds};
use crate::copies::plan::plan;
use crate::copies::{self, CopyError};
use crate::ebs::disks::node;
use crate::ebs::names::Wish;
use crate::ids::BackupId;
use crate::kept::{self, Kept, KeptError};
use crate::manifest::Manifest;
use crate::manifest::snapshots::{SnapshotManifest, SnapshotMember};
use crate::reading::{Reading, while_marked};
use crate::restore::set::mounts::{below, needed};
use crate::snapshot::mount;
use crate::volume::{DataLayout, DevNumber, Filesystem, Graft, HostView, sysfs};

/// What can be read of volumes in a second while their blocks come out of S3, for the lease alone.
const RATE: u64 = 20 << 20;

/// The set of snapshots that `which` names in the store; none where it names none.
///
/// # Errors
/// [`CatalogError`] where there is such a set and it cannot be read.
async fn find_set(
    env: &Environment,
    which: &str,
) -> Result<Option<SnapshotManifest>, CatalogError> {
    let Ok(id) = which.parse::<BackupId>() else {
        return Ok(None);
    };
    match catalog::read_recorded(env.store.as_ref(), id).await {
        Ok(Recorded::Snapshots(manifest)) => Ok(Some(manifest)),
        Ok(Recorded::Archives(_)) | Err(CatalogError::NoSuchSet { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a backup of archives of what `which` names: a snapshot that is kept on this host, or a set of EBS snapshots in the store. It stays.
///
/// # Errors
/// As [`archive_set`].
pub async fn archive_from(env: &Environment, which: &str) -> Result<Manifest, BackupError> {
    match Kept::find(&env.config.host.state_dir, which) {
        Err(KeptError::NoSuch { .. }) => {}
        _ => return kept::archive::archive(env, which).await,
    }
    match find_set(env, which).await.map_err(UploadError::from)? {
        Some(set) => archive_set(env, &set).await,
        // Which tells what there is.
        None => kept::archive::archive(env, which).await,
    }
}

/// Makes a backup of archives of `set`, which stays.
///
/// # Errors
/// [`BackupError`]; there is no backup then, and nothing is held, unless it is [`BackupError::StillHeld`].
pub async fn archive_set(
    env: &Environment,
    set: &SnapshotManifest,
) -> Result<Manifest, BackupError> {
    let reading = Reading {
        store: &env.store,
        id: set.id,
        verb: "archive",
        state_dir: &env.config.host.state_dir,
        tools: &env.tools,
    };
    in_run(env, async |run| {
        let made = while_marked(reading, make(run, env, set)).await;
        made.unwrap_or_else(|gone| Err(UploadError::from(gone).into()))
    })
    .await
}

async fn make(
    run: &mut Run,
    env: &Environment,
    set: &SnapshotManifest,
) -> Result<Manifest, BackupError> {
    let members: Vec<&SnapshotMember> = set.members.iter().collect();
    let wanted = needed(&set.snapshots.filesystems, &members);
    for (_, filesystem) in &wanted {
        refuse_other_kinds(filesystem)?;
    }
    let volumes: BTreeSet<_> = wanted
        .iter()
        .flat_map(|(_, filesystem)| filesystem.volumes.clone())
        .collect();
    let ordered = plan(set, &volumes, &Wish::default(), run.id(), env).await?;
    env.progress.say(&format!(
        "the data is that of {:.0}, and so is the backup's name: `latest` may be another",
        set.id.started()
    ));
    let copies = copies::bring_up(run, &ordered, env).await?;
    let mut mounts = Mounts::new();
    let folder = mount::run_dir(&env.config.host.runtime_dir, run.id());
    run.plan_one(Resource::Directory {
        path: folder.clone(),
    })?;
    for (index, record) in &wanted {
        let found = find(record, &copies.filesystems)?;
        let point = folder.join(index.to_string());
        run.plan(vec![
            Resource::Directory {
                path: point.clone(),
            },
            Resource::Mount {
                point: point.clone(),
            },
        ])?;
        let (device, kind, at) = (node(&found.device), found.kind.clone(), point.clone());
        let mounting = move || {
            mount::make_dir(&at)?;
            mount::mount(&device, &kind, &at)
        };
        off_thread(mounting).await.map_err(CopyError::from)?;
        let (sys, at) = (HostView::real().sys, point.clone());
        let layer = off_thread(move || {
            let number = DevNumber::from(std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(
                &at,
            )?));
            sysfs::layers(&sys, number)
        });
        let device = layer.await.map_err(|source| CopyError::Io {
            action: "look at what is mounted at",
            path: point.clone(),
            source,
        })?;
        let device = device.ok_or_else(|| CopyError::NoFilesystem {
            mount_point: record.mount_point.clone(),
            kind: record.kind.clone(),
            found: Vec::new(),
        })?;
        let filesystem = Filesystem {
            mount_point: record.mount_point.clone(),
            root: "/".into(),
            kind: record.kind.clone(),
            device,
            external: Vec::new(),
        };
        mounts.insert(*index, (filesystem, point));
    }
    let contents = contents(set, &mounts)?;
    let sizes = set.members.iter().map(|member| member.data_size);
    let data = sizes.fold(0, u64::saturating_add);
    let expected = Duration::from_secs((data / RATE).saturating_add(60));
    let of = Some(set.id.started());
    let (uploading, mut upload) = begin(run, &contents, expected, of, env).await?;
    let view = View::Mounted(
        mounts
            .values()
            .map(|(filesystem, point)| (filesystem.device.number, point.clone()))
            .collect(),
    );
    for member in &contents.members {
        upload = archive_one(member, &view, upload, env).await?;
    }
    // The store may have much to do with the archives yet, and nobody pays for volumes meanwhile. What will not go is told of when the run ends.
    let ours = |resource: &Resource| {
        matches!(
            resource,
            Resource::Mount { .. }
                | Resource::Directory { .. }
                | Resource::Stack(_)
                | Resource::EbsAttachments(_)
                | Resource::UdevRule { .. }
                | Resource::EbsVolumes(_)
        )
    };
    for left in run.release_where(ours, &env.tools).await? {
        tracing::warn!(resource = %left.resource, error = %left.error, "not given back yet");
    }
    publish(run, &contents, &window(set), (&uploading, upload), env).await
}

async fn archive_one(
    member: &Subject,
    view: &View,
    upload: Upload,
    env: &Environment,
) -> Result<Upload, BackupError> {
    archive_member(member, view, upload, env, env.cancel.clone()).await
}

/// File systems of the set by their index, each as it was mounted, on the device of its copy, and where that is mounted.
type Mounts = BTreeMap<usize, (Filesystem, PathBuf)>;

/// What the set is of.
///
/// # Errors
/// [`BackupError::NoPicture`] where a member has a place on no mount.
fn contents(set: &SnapshotManifest, mounts: &Mounts) -> Result<Contents, BackupError> {
    let all_locked = set.members.iter().all(|member| member.locked);
    let of = |member: &SnapshotMember| {
        subject(member, mounts).ok_or_else(|| BackupError::NoPicture {
            member: member.address.clone(),
        })
    };
    Ok(Contents {
        deployment: set.deployment.clone(),
        locking: match all_locked {
            true => Locking::Locked,
            false => Locking::Unlocked,
        },
        in_snapshots: false,
        members: set.members.iter().map(of).collect::<Result<_, _>>()?,
    })
}

fn subject(member: &SnapshotMember, mounts: &Mounts) -> Option<Subject> {
    let indexes: Vec<usize> = mounts.keys().copied().collect();
    let position = |index: usize| indexes.iter().position(|one| *one == index);
    let at = |index: usize, inside: &Path| -> Option<PathBuf> {
        let (filesystem, _) = mounts.get(&index)?;
        Some(below(&filesystem.mount_point, inside))
    };
    let mut places = member.places.iter();
    let home = places.next()?;
    let grafts = places.map(|place| {
        Some(Graft {
            at: PathBuf::from(&place.at),
            path: at(place.filesystem, &place.inside)?,
            filesystem: position(place.filesystem)?,
        })
    });
    Some(Subject {
        shard: member.shard.clone(),
        address: member.address.clone(),
        role: member.role,
        server_version: member.server_version.clone(),
        feature_compatibility: member.feature_compatibility.clone(),
        replica_set_config: Some(member.replica_set_config.clone()),
        storage: member.layout.clone(),
        log_path: None,
        layout: DataLayout {
            db_path: at(home.filesystem, &home.inside)?,
            filesystem: position(home.filesystem)?,
            grafts: grafts.collect::<Option<_>>()?,
            filesystems: mounts.values().map(|(one, _)| one.clone()).collect(),
        },
        data_size: member.data_size,
    })
}

/// The window of the set, which is that of the archives.
fn window(set: &SnapshotManifest) -> Closed<()> {
    let address = |member: &SnapshotMember| member.address.clone();
    Closed {
        record: set.window.clone(),
        optimes: set
            .members
            .iter()
            .map(|member| (address(member), member.optime))
            .collect(),
        locked_us: set
            .members
            .iter()
            .filter(|member| member.locked)
            .map(|member| (address(member), member.locked_us))
            .collect(),
        value: (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::snapshots::sample::snapshots;
    use crate::volume::{Layer, LayerKind};

    fn mounts(set: &SnapshotManifest) -> Mounts {
        let mounted = |(index, record): (usize, &crate::manifest::snapshots::FilesystemRecord)| {
            let device = Layer {
                name: format!("md{}", 90 + index),
                number: DevNumber {
                    major: 9,
                    minor: 90 + index as u32,
                },
                size: 1 << 30,
                kind: LayerKind::Disk,
                below: Vec::new(),
            };
            let filesystem = Filesystem {
                mount_point: record.mount_point.clone(),
                root: "/".into(),
                kind: record.kind.clone(),
                device,
                external: Vec::new(),
            };
            (
                index,
                (filesystem, PathBuf::from(format!("/run/x/{index}"))),
            )
        };
        let all = set.snapshots.filesystems.iter().enumerate();
        all.map(mounted).collect()
    }

    #[test]
    fn files_are_read_from_the_mounts_of_the_copies_and_the_records_are_the_sets() {
        let set = snapshots();
        let mounts = mounts(&set);
        let contents = contents(&set, &mounts).unwrap();
        assert_eq!(contents.members.len(), 2);
        let view = View::Mounted(
            mounts
                .values()
                .map(|(filesystem, point)| (filesystem.device.number, point.clone()))
                .collect(),
        );
        let source = contents.members[1].source(&view, false).unwrap();
        assert_eq!(source.root, Path::new("/run/x/0/db1"));
        assert_eq!(source.grafts[0].at, Path::new("journal"));
        assert_eq!(source.grafts[0].path, Path::new("/run/x/1/journal1"));
        assert!(!source.live);
        let window = window(&set);
        assert_eq!(
            window.optimes[&set.members[0].address],
            set.members[0].optime
        );
        assert_eq!(window.record, set.window);
        let mut lacking = mounts;
        lacking.remove(&1);
        assert!(self::contents(&set, &lacking).is_err());
    }

    #[test]
    fn members_that_were_not_locked_are_archived_as_such() {
        let mut set = snapshots();
        set.members[1].locked = false;
        let contents = contents(&set, &mounts(&set)).unwrap();
        assert_eq!(contents.locking, Locking::Unlocked);
        assert_eq!(window(&set).locked_us.len(), 1);
    }
}
