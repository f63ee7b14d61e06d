//! Where the file systems of a set are mounted: below one directory, at the paths they had.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;

use super::SetError;
use super::links::inside;
use crate::backup::resource::Resource;
use crate::backup::run::Run;
use crate::blocking::off_thread;
use crate::copies::find::{Candidate, find};
use crate::ebs::disks::node;
use crate::manifest::snapshots::{FilesystemRecord, SnapshotMember};
use crate::restore::RestoreError;
use crate::restore::target::check_empty;
use crate::snapshot::mount;

/// A file system of a copy, mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mounted {
    /// Where.
    pub point: PathBuf,
    /// The device.
    pub device: PathBuf,
    /// Its type.
    pub kind: String,
    /// Its UUID, where another device of this host has the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<String>,
}

/// Those that were mounted, by their index in the manifest.
pub type Mounts = BTreeMap<usize, Mounted>;

/// The file systems of the manifest that `members` need, by index: that comes first which another may be mounted in.
pub fn needed<'a>(
    filesystems: &'a [FilesystemRecord],
    members: &[&SnapshotMember],
) -> Vec<(usize, &'a FilesystemRecord)> {
    let places = members.iter().flat_map(|member| &member.places);
    let mut wanted: Vec<usize> = places.map(|place| place.filesystem).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut needed: Vec<_> = wanted
        .into_iter()
        .filter_map(|index| Some((index, filesystems.get(index)?)))
        .collect();
    needed.sort_by(|(_, a), (_, b)| a.mount_point.cmp(&b.mount_point));
    needed
}

/// `path`, which was absolute, below `to`. The manifest may have been written by anybody: `..` leads nowhere.
pub fn below(to: &Path, path: &Path) -> PathBuf {
    let kept = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        _ => None,
    });
    kept.fold(to.to_owned(), |path, name| path.join(name))
}

/// Mounts each of `needed`, found among `candidates`, below `to`.
///
/// # Errors
/// [`SetError`]; what was mounted is in the journal.
pub async fn mount_all(
    run: &mut Run,
    to: &Path,
    needed: &[(usize, &FilesystemRecord)],
    candidates: &[Candidate],
) -> Result<Mounts, SetError> {
    let mut mounts = Mounts::new();
    for (index, record) in needed {
        let found = find(record, candidates)?;
        let mounted = Mounted {
            point: below(to, &record.mount_point),
            device: node(&found.device),
            kind: found.kind.clone(),
            twin: found.uuid.clone().filter(|_| found.twin),
        };
        make_directories(run, to, &mounted.point)?;
        // A copy may hold a link where something was mounted.
        let root = fs::canonicalize(to).map_err(RestoreError::io("look up", to))?;
        let real = inside(&root, &mounted.point)?;
        run.plan_one(Resource::Mount {
            point: real.clone(),
        })?;
        let (device, kind) = (mounted.device.clone(), mounted.kind.clone());
        off_thread(move || mount::mount_writable(&device, &kind, &real))
            .await
            .map_err(crate::copies::CopyError::from)?;
        mounts.insert(*index, mounted);
    }
    Ok(mounts)
}

/// A directory that no other restore gets as long as this lives, or this process.
pub type Claim = Flock<File>;

/// Makes `to` where it is not there, and has it for us alone: another restore may begin at the same moment, and find it empty as well.
///
/// # Errors
/// [`SetError::Claimed`]; [`RestoreError`] where it holds anything by now.
pub fn claim(run: &mut Run, to: &Path) -> Result<Claim, SetError> {
    let claimed = || SetError::Claimed {
        path: to.to_owned(),
    };
    if !to.exists() {
        let made = run.plan_one(Resource::Directory {
            path: to.to_owned(),
        })?;
        match DirBuilder::new().mode(0o755).create(to) {
            Ok(()) => {}
            // Somebody was faster, and it is theirs.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => run.settled(&made)?,
            Err(error) => return Err(RestoreError::io("create", to)(error).into()),
        }
    }
    let dir = File::open(to).map_err(RestoreError::io("open", to))?;
    let claim = match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
        Ok(claim) => claim,
        Err((_, Errno::EWOULDBLOCK)) => return Err(claimed()),
        Err((_, errno)) => return Err(RestoreError::io("lock", to)(errno.into()).into()),
    };
    // It may have been removed, and made anew by another, before we had it.
    let ours = claim.metadata().map_err(RestoreError::io("read", to))?;
    match fs::metadata(to) {
        Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => {}
        _ => return Err(claimed()),
    }
    check_empty(to)?;
    Ok(claim)
}

/// Makes `point`, and those above it from `to` on, as far as they are not there.
fn make_directories(run: &mut Run, to: &Path, point: &Path) -> Result<(), SetError> {
    let from_to = point.ancestors().take_while(|path| path.starts_with(to));
    let mut missing: Vec<_> = from_to.filter(|path| !path.exists()).collect();
    missing.reverse();
    for path in missing {
        run.plan_one(Resource::Directory {
            path: path.to_owned(),
        })?;
        // mongod's user has to come through; what is below has the rights that it had.
        DirBuilder::new()
            .mode(0o755)
            .create(path)
            .map_err(RestoreError::io("create", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::snapshots::sample::snapshots;

    #[test]
    fn a_place_is_had_by_one_restore_and_by_the_next_when_that_is_over() {
        let home = tempfile::tempdir().unwrap();
        let (to, state) = (home.path().join("to"), home.path().join("state"));
        let mut one = Run::begin(&state, "restore").unwrap();
        let mut other = Run::begin(&state, "restore").unwrap();
        let claimed = claim(&mut one, &to).unwrap();
        assert_eq!(one.outstanding().len(), 1);
        let refused = claim(&mut other, &to).unwrap_err();
        assert!(matches!(refused, SetError::Claimed { .. }), "{refused}");
        drop(claimed);
        let claimed = claim(&mut other, &to).unwrap();
        drop(claimed);
        fs::write(to.join("something"), "").unwrap();
        let refused = claim(&mut one, &to).unwrap_err();
        assert!(matches!(refused, SetError::Restore(_)), "{refused}");
    }

    #[test]
    fn what_is_mounted_is_what_the_members_need_and_outer_ones_first() {
        let mut set = snapshots();
        let mut inner = set.snapshots.filesystems[1].clone();
        inner.mount_point = "/data/inner".into();
        set.snapshots.filesystems.insert(0, inner);
        for member in &mut set.members {
            for (n, place) in member.places.iter_mut().enumerate() {
                place.filesystem = 1 - n;
            }
        }
        set.members[0].places.truncate(1);
        let all: Vec<_> = set.members.iter().collect();
        let indexes = |members: &[&SnapshotMember]| {
            let needed = needed(&set.snapshots.filesystems, members);
            needed.iter().map(|(index, _)| *index).collect::<Vec<_>>()
        };
        assert_eq!(indexes(&all), [1, 0]);
        assert_eq!(indexes(&all[..1]), [1]);
    }

    #[test]
    fn a_path_stays_below() {
        let at = |path: &str| below(Path::new("/to"), Path::new(path));
        assert_eq!(at("/data/db"), Path::new("/to/data/db"));
        assert_eq!(at("/"), Path::new("/to"));
        assert_eq!(at("/data/../../etc"), Path::new("/to/data/etc"));
        assert_eq!(at("relative"), Path::new("/to/relative"));
    }
}
