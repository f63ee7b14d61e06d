//! Putting snapshots back: writable copies of them take the places of their subvolumes, by name, in one exchange.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{Btrfs, PATIENCE, SUBVOLUME_ROOT, SubvolumeSnapshot};
use crate::exec::Command;
use crate::snapshot::SnapshotError;
use crate::volume::SUBVOLUME_PREFIX;

/// A subvolume that changes places with a copy of its snapshot, and the snapshots of subvolumes in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree<'a> {
    root: &'a SubvolumeSnapshot,
    /// Outer ones before what lies in them.
    nested: Vec<&'a SubvolumeSnapshot>,
}

/// The outermost subvolumes of `snapshots`, each with those in it.
fn trees(snapshots: &[SubvolumeSnapshot]) -> Vec<Tree<'_>> {
    let mut by_depth: Vec<_> = snapshots.iter().collect();
    by_depth.sort_by_key(|snapshot| snapshot.subvolume.components().count());
    let mut trees: Vec<Tree<'_>> = Vec::new();
    for snapshot in by_depth {
        let around = trees
            .iter_mut()
            .find(|tree| snapshot.subvolume.starts_with(&tree.root.subvolume));
        match around {
            Some(tree) => tree.nested.push(snapshot),
            None => trees.push(Tree {
                root: snapshot,
                nested: Vec::new(),
            }),
        }
    }
    trees
}

/// Where the state before the exchange goes: beside the subvolume.
pub fn before(snapshot: &SubvolumeSnapshot) -> PathBuf {
    let mut name = snapshot.subvolume.clone().into_os_string();
    name.push(format!(".before-rollback-{}", snapshot.run));
    name.into()
}

/// The subvolumes that change places, of all that have a snapshot: the others lie in these.
pub fn outermost(snapshots: &[SubvolumeSnapshot]) -> Vec<&SubvolumeSnapshot> {
    trees(snapshots).into_iter().map(|tree| tree.root).collect()
}

/// Whether some of them have changed places already.
pub fn is_begun(snapshots: &[SubvolumeSnapshot]) -> bool {
    let is_aside = |tree: &Tree<'_>| is_subvolume(&before(tree.root).join(&tree.root.name));
    trees(snapshots).iter().any(is_aside)
}

fn is_subvolume(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.ino() == SUBVOLUME_ROOT)
}

/// Of `listed`, which `btrfs subvolume list -o` says of the subvolume of `snapshot`, what neither is ours nor has a snapshot among `all`.
fn without_snapshot(
    listed: &str,
    snapshot: &SubvolumeSnapshot,
    all: &[SubvolumeSnapshot],
) -> Vec<PathBuf> {
    let paths = listed.lines().filter_map(|line| line.split_once(" path "));
    let paths = paths.map(|(_, path)| Path::new(path));
    let inside = |other: &SubvolumeSnapshot| {
        let inside = other.subvolume.strip_prefix(&snapshot.subvolume).ok()?;
        (inside != Path::new("")).then(|| inside.to_owned())
    };
    let inside: Vec<_> = all.iter().filter_map(inside).collect();
    let is_ours = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(SUBVOLUME_PREFIX)
    };
    paths
        .filter(|path| !is_ours(path) && !inside.iter().any(|inside| path.ends_with(inside)))
        .map(Path::to_owned)
        .collect()
}

impl Btrfs {
    /// Subvolumes that lie in those of `snapshots` and have no snapshot among them: they would be carried aside, whoever uses them. By their paths in the
    /// file system.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`].
    pub fn strangers(
        &self,
        snapshots: &[SubvolumeSnapshot],
    ) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut strangers = Vec::new();
        for snapshot in snapshots {
            let arguments = [
                "subvolume".as_ref(),
                "list".as_ref(),
                "-o".as_ref(),
                snapshot.subvolume.as_os_str(),
            ];
            let listed = self.exec.run(&Command::new("btrfs", arguments))?;
            strangers.extend(without_snapshot(&listed, snapshot, snapshots));
        }
        Ok(strangers)
    }

    /// Puts all of `snapshots` back; what was there before lies at [`before`] then. Well done also where it is done already, or was cut off.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`], [`SnapshotError::Exchange`].
    pub fn put_back(&self, snapshots: &[SubvolumeSnapshot]) -> Result<(), SnapshotError> {
        trees(snapshots)
            .iter()
            .try_for_each(|tree| self.put_back_tree(tree))
    }

    fn put_back_tree(&self, tree: &Tree<'_>) -> Result<(), SnapshotError> {
        let place = &tree.root.subvolume;
        let aside = before(tree.root);
        // The snapshot lies in the subvolume that it is of, and goes with it.
        if is_subvolume(&aside.join(&tree.root.name)) {
            return Ok(());
        }
        self.copy(&tree.root.path(), &aside)?;
        for nested in &tree.nested {
            let inside = nested
                .subvolume
                .strip_prefix(place)
                .unwrap_or(&nested.subvolume);
            self.copy(&nested.path(), &aside.join(inside))?;
        }
        let exchanged = renameat_with(CWD, place, CWD, &aside, RenameFlags::EXCHANGE)
            .map_err(io::Error::from)
            .and_then(|()| {
                let parent = place.parent().unwrap_or(place);
                // Committed before anybody believes it.
                Ok(nix::unistd::syncfs(fs::File::open(parent)?)?)
            });
        exchanged.map_err(|source| SnapshotError::Exchange {
            one: place.clone(),
            other: aside,
            source,
        })
    }

    /// Removes the copies of `snapshots` that were made and have not changed places, the inner ones first.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`].
    pub fn discard_copies(&self, snapshots: &[SubvolumeSnapshot]) -> Result<(), SnapshotError> {
        for tree in trees(snapshots) {
            let aside = before(tree.root);
            if !is_subvolume(&aside) || is_subvolume(&aside.join(&tree.root.name)) {
                continue;
            }
            let nested = tree.nested.iter().rev().filter_map(|nested| {
                let inside = nested.subvolume.strip_prefix(&tree.root.subvolume).ok()?;
                Some(aside.join(inside))
            });
            for copy in nested
                .chain([aside.clone()])
                .filter(|copy| is_subvolume(copy))
            {
                let arguments = ["subvolume".as_ref(), "delete".as_ref(), copy.as_os_str()];
                self.exec
                    .run(&Command::new("btrfs", arguments).timeout(PATIENCE).bound())?;
            }
        }
        Ok(())
    }

    /// A writable copy of the snapshot `from` at `to`, in place of the empty directory that the copy around it shows there.
    fn copy(&self, from: &Path, to: &Path) -> Result<(), SnapshotError> {
        if is_subvolume(to) {
            return Ok(());
        }
        match fs::remove_dir(to) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(SnapshotError::Directory {
                    action: "replace",
                    path: to.to_owned(),
                    source,
                });
            }
            _ => {}
        }
        let arguments = [
            "subvolume".as_ref(),
            "snapshot".as_ref(),
            from.as_os_str(),
            to.as_os_str(),
        ];
        self.exec
            .run(&Command::new("btrfs", arguments).timeout(PATIENCE).bound())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(subvolume: &str, n: u32) -> SubvolumeSnapshot {
        SubvolumeSnapshot {
            subvolume: subvolume.into(),
            name: format!(".freezeframe-snapshot-0badcafe-{n}"),
            run: "0badcafe".parse().unwrap(),
            of: None,
        }
    }

    #[test]
    fn what_would_be_carried_aside_is_found() {
        let all = [snapshot("/data/db", 1), snapshot("/data/db/journal", 2)];
        let listed = "ID 258 gen 9 top level 257 path top/db/journal\n\
                      ID 259 gen 9 top level 257 path top/db/.freezeframe-snapshot-0badcafe-1\n\
                      ID 260 gen 9 top level 257 path top/db/a path of theirs\n";
        let found = without_snapshot(listed, &all[0], &all);
        assert_eq!(found, [Path::new("top/db/a path of theirs")]);
        assert!(without_snapshot("", &all[1], &all).is_empty());
    }

    #[test]
    fn what_lies_in_a_subvolume_goes_back_with_it() {
        let all = [
            snapshot("/data/db/journal", 1),
            snapshot("/data/other", 2),
            snapshot("/data/db", 3),
        ];
        let found = trees(&all);
        let roots: Vec<_> = found.iter().map(|tree| &tree.root.subvolume).collect();
        assert_eq!(roots, [Path::new("/data/other"), Path::new("/data/db")]);
        assert_eq!(found[1].nested, [&all[0]]);
        assert_eq!(
            before(&all[2]),
            Path::new("/data/db.before-rollback-0badcafe")
        );
    }
}
