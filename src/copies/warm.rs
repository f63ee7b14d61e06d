//! Reading volumes through, so that every block of them has come out of S3 before anybody waits for it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc::O_DIRECT;
use tokio_util::sync::CancellationToken;

use crate::ebs::disks::node;
use crate::progress::Meter;

/// Bytes of one read. EBS fetches blocks of 512 KiB.
const PIECE: usize = 1 << 20;
/// Reads of one volume at a time: each waits for S3, so many together are what makes it fast.
const LANES: usize = 8;
/// Memory that a read past the page cache goes to begins at a multiple of this.
const ALIGN: usize = 4096;

/// Reads `disks` (kernel names, with their sizes) from end to end, all at the same time, past the page cache. `meter` counts the bytes.
///
/// # Errors
/// The first that could not be read, and why; [`io::ErrorKind::Interrupted`] when `cancel` is cancelled.
pub fn read_all(
    disks: &[(String, u64)],
    meter: &Meter,
    cancel: &CancellationToken,
) -> Result<(), (PathBuf, io::Error)> {
    let paths: Vec<_> = disks
        .iter()
        .map(|(name, bytes)| (node(name), *bytes))
        .collect();
    read_paths(&paths, meter, cancel)
}

fn read_paths(
    paths: &[(PathBuf, u64)],
    meter: &Meter,
    cancel: &CancellationToken,
) -> Result<(), (PathBuf, io::Error)> {
    let failed = CancellationToken::new();
    let next: Vec<AtomicU64> = paths.iter().map(|_| AtomicU64::new(0)).collect();
    std::thread::scope(|scope| {
        let mut lanes = Vec::new();
        for ((path, bytes), next) in paths.iter().zip(&next) {
            for _ in 0..LANES {
                let failed = &failed;
                let stop = move || cancel.is_cancelled() || failed.is_cancelled();
                lanes.push(scope.spawn(move || {
                    let read = lane(path, *bytes, next, meter, &stop);
                    if read.is_err() {
                        failed.cancel();
                    }
                    read.map_err(|error| (path.clone(), error))
                }));
            }
        }
        let mut outcome = Ok(());
        for lane in lanes {
            match lane.join() {
                Ok(read) => outcome = outcome.and(read),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        match (outcome, cancel.is_cancelled(), paths.first()) {
            (Ok(()), true, Some((path, _))) => {
                Err((path.clone(), io::ErrorKind::Interrupted.into()))
            }
            (outcome, ..) => outcome,
        }
    })
}

/// Takes one piece after the other, until there are none.
fn lane(
    path: &Path,
    bytes: u64,
    next: &AtomicU64,
    meter: &Meter,
    stop: &dyn Fn() -> bool,
) -> io::Result<()> {
    let device = OpenOptions::new()
        .read(true)
        .custom_flags(O_DIRECT)
        .open(path)?;
    let mut memory = vec![0u8; PIECE + ALIGN];
    let begin = memory.as_ptr().align_offset(ALIGN);
    let buffer = memory
        .get_mut(begin..begin.saturating_add(PIECE))
        .ok_or(io::ErrorKind::OutOfMemory)?;
    while !stop() {
        let at = next.fetch_add(PIECE as u64, Ordering::Relaxed);
        if at >= bytes {
            return Ok(());
        }
        let mut done = 0;
        let wanted = usize::try_from(bytes - at).map_or(PIECE, |left| left.min(PIECE));
        while done < wanted {
            let rest = buffer.get_mut(done..).unwrap_or_default();
            match device.read_at(rest, at.saturating_add(done as u64)) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        meter.advance(wanted as u64);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_read_and_what_cannot_be_read_ends_it() {
        // Of this directory: memory file systems have no reads past the cache.
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = dir.path().join("volume");
        let length = 5 * PIECE as u64 + 4096;
        std::fs::write(&path, vec![7u8; length as usize]).unwrap();
        let (meter, cancel) = (Meter::expecting(0), CancellationToken::new());
        let both = [(path.clone(), length), (path.clone(), length)];
        match read_paths(&both, &meter, &cancel) {
            Err((_, error)) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
                eprintln!("skipped: no O_DIRECT here");
                return;
            }
            read => read.unwrap(),
        }
        assert_eq!(meter.done(), 2 * length);

        // One that is shorter than EC2 says.
        let longer = [(path.clone(), length + PIECE as u64)];
        let (found, error) = read_paths(&longer, &meter, &cancel).unwrap_err();
        assert_eq!((found, error.kind()), (path, io::ErrorKind::UnexpectedEof));
        let none = [(dir.path().join("none"), length)];
        assert!(read_paths(&none, &meter, &cancel).is_err());
        cancel.cancel();
        let (_, error) = read_paths(&both, &meter, &cancel).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }
}
