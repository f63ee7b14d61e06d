//! A snapshot's file system, mounted read-only in a directory of ours for as long as it is read.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, umount2};

use super::SnapshotError;
use crate::ids::RunId;
use crate::volume::DevNumber;

/// How long a busy mount is tried: something that looks at new mounts, such as an indexer, lets go soon.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(100);

/// The directory that holds a run's mount points.
pub fn run_dir(runtime_dir: &Path, run: RunId) -> PathBuf {
    runtime_dir.join(run.to_string())
}

/// Makes a directory, and those above it, that only root can enter. Well done where it is there already.
///
/// # Errors
/// [`SnapshotError::Directory`].
pub fn make_dir(path: &Path) -> Result<(), SnapshotError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| SnapshotError::Directory {
            action: "make",
            path: path.to_owned(),
            source,
        })
}

/// Mounts the file system of type `kind` on the block device `device` at `point`, read-only, and makes sure
/// that it is what the mount point shows.
///
/// The snapshot itself is writable: both file systems replay their log into it, so nothing of the origin changes.
///
/// # Errors
/// [`SnapshotError::Mount`] and [`SnapshotError::WrongDevice`]; nothing stays mounted.
pub fn mount(device: &Path, kind: &str, point: &Path) -> Result<(), SnapshotError> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount_with(device, kind, point, flags)
}

/// As [`mount`], writable: of a copy that is somebody's own.
///
/// # Errors
/// As [`mount`].
pub fn mount_writable(device: &Path, kind: &str, point: &Path) -> Result<(), SnapshotError> {
    mount_with(device, kind, point, MsFlags::MS_NODEV | MsFlags::MS_NOSUID)
}

fn mount_with(
    device: &Path,
    kind: &str,
    point: &Path,
    flags: MsFlags,
) -> Result<(), SnapshotError> {
    let failed = |source: io::Error| SnapshotError::Mount {
        device: device.to_owned(),
        point: point.to_owned(),
        source,
    };
    let expected = DevNumber::from(fs::metadata(device).map_err(failed)?.rdev());
    nix::mount::mount(Some(device), point, Some(kind), flags, options(kind))
        .map_err(|errno| failed(errno.into()))?;
    let found = match fs::metadata(point) {
        Ok(found) => DevNumber::from(found.dev()),
        Err(error) => {
            unmount(point)?;
            return Err(failed(error));
        }
    };
    if found == expected {
        return Ok(());
    }
    unmount(point)?;
    Err(SnapshotError::WrongDevice {
        point: point.to_owned(),
        found,
        expected,
    })
}

/// XFS refuses a second file system with the UUID of a mounted one, as a snapshot beside its origin is. ext4 may have it in its superblock that an error ends the
/// host (`tune2fs -e panic`), and reading a snapshot that has overflowed is one.
fn options(kind: &str) -> Option<&'static str> {
    match kind {
        "xfs" => Some("nouuid"),
        "ext4" => Some("errors=continue"),
        _ => None,
    }
}

/// Unmounts whatever is mounted at `point`, all of it. Well done where nothing is mounted or nothing is there.
/// Never lazily: a mount that lives on unseen would hold the snapshot.
///
/// # Errors
/// [`SnapshotError::Unmount`] when it is still busy after ten seconds, or at once for any other reason.
pub fn unmount(point: &Path) -> Result<(), SnapshotError> {
    unmount_within(point, PATIENCE)
}

fn unmount_within(point: &Path, patience: Duration) -> Result<(), SnapshotError> {
    let started = Instant::now();
    loop {
        match umount2(point, MntFlags::UMOUNT_NOFOLLOW) {
            // Once more: one mount may have hidden another.
            Ok(()) => {}
            // EINVAL: not a mount point.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if started.elapsed() < patience => std::thread::sleep(RETRY),
            Err(errno) => {
                return Err(SnapshotError::Unmount {
                    point: point.to_owned(),
                    tried: Duration::from_secs(started.elapsed().as_secs()),
                    source: errno.into(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::HostView;

    /// Runs `test` in a thread with mounts of its own, if this user may have that; says so if not.
    fn with_own_mounts(test: impl FnOnce(&Path) + Send) {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                let ready =
                    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).and_then(|()| {
                        nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
                    });
                match ready {
                    Ok(()) => test(dir),
                    Err(errno) => eprintln!("skipped: no mount namespace here: {errno}"),
                }
            });
            thread.join().unwrap();
        });
    }

    fn tmpfs(point: &Path) {
        make_dir(point).unwrap();
        nix::mount::mount(
            Some("none"),
            point,
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
    }

    /// The mounts of this thread; `/proc/self` would show those of the process.
    fn is_mounted(point: &Path) -> bool {
        let view = HostView {
            mountinfo: "/proc/thread-self/mountinfo".into(),
            ..HostView::real()
        };
        view.mounts()
            .unwrap()
            .is_mount_point(&point.canonicalize().unwrap())
    }

    #[test]
    fn unmounting_is_idempotent_and_takes_all_of_it() {
        with_own_mounts(|dir| {
            let point = dir.join("1");
            unmount(&point).unwrap();
            tmpfs(&point);
            tmpfs(&point);
            assert!(is_mounted(&point));
            unmount(&point).unwrap();
            assert!(!is_mounted(&point));
            unmount(&point).unwrap();
            fs::remove_dir(&point).unwrap();
            unmount(&point).unwrap();
        });
    }

    #[test]
    fn a_busy_mount_is_an_error_and_stays() {
        with_own_mounts(|dir| {
            let point = dir.join("busy");
            tmpfs(&point);
            let held = fs::File::create(point.join("f")).unwrap();
            let error = unmount_within(&point, Duration::ZERO).unwrap_err();
            assert!(matches!(&error, SnapshotError::Unmount { .. }), "{error}");
            assert!(is_mounted(&point));
            drop(held);
            unmount(&point).unwrap();
        });
    }

    #[test]
    fn a_device_that_is_none_is_not_mounted() {
        with_own_mounts(|dir| {
            let point = dir.join("p");
            make_dir(&point).unwrap();
            assert!(matches!(
                mount(&dir.join("missing"), "xfs", &point),
                Err(SnapshotError::Mount { .. })
            ));
            // tmpfs takes any source: what is mounted then is not the device asked for.
            let error = mount(Path::new("/dev/null"), "tmpfs", &point).unwrap_err();
            assert!(
                matches!(error, SnapshotError::WrongDevice { .. }),
                "{error}"
            );
            assert!(!is_mounted(&point));
        });
    }

    #[test]
    fn directories_are_made_for_root_alone() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        make_dir(&inner).unwrap();
        make_dir(&inner).unwrap();
        assert_eq!(fs::metadata(&inner).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn each_file_system_has_what_it_needs() {
        assert_eq!(options("xfs"), Some("nouuid"));
        assert_eq!(options("ext4"), Some("errors=continue"));
        assert_eq!(options("btrfs"), None);
    }
}
