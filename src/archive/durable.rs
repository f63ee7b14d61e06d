//! Files made durable beside the writing: waiting for a disk takes no processor, and a restore of many files waits often.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::ArchiveError;

/// File systems commit what several ask for at once together.
const THREADS: usize = 4;
/// Files that wait for it, each with an open descriptor.
const WAITING: usize = 16;
/// So many bytes of a file are written before the disk is to begin with them.
const AHEAD: u64 = 32 << 20;

type Syncing = JoinHandle<Result<(), ArchiveError>>;

/// Threads that make files durable, and the files that wait for them.
pub(super) struct Durable {
    give: Option<SyncSender<(File, PathBuf)>>,
    threads: Vec<Syncing>,
    /// Bytes of the file in the making that no thread was told of.
    written: u64,
}

impl Durable {
    pub(super) fn new() -> Self {
        let (give, take) = sync_channel(WAITING);
        let take = Arc::new(Mutex::new(take));
        let threads = (0..THREADS)
            .map(|_| {
                let take = Arc::clone(&take);
                std::thread::spawn(move || sync_all(&take))
            })
            .collect();
        Self {
            give: Some(give),
            threads,
            written: 0,
        }
    }

    /// `count` more bytes of `file` were written, which is called `path`. The disk begins with them when they are many, and what is
    /// written faster than it can take waits here.
    pub(super) fn wrote(
        &mut self,
        file: &File,
        path: &Path,
        count: usize,
    ) -> Result<(), ArchiveError> {
        self.written += count as u64;
        if self.written < AHEAD {
            return Ok(());
        }
        self.written = 0;
        let same = file.try_clone().map_err(|source| failed(path, source))?;
        self.give(same, path.to_path_buf())
    }

    /// `file`, which is called `path`, is complete.
    pub(super) fn complete(&mut self, file: File, path: PathBuf) -> Result<(), ArchiveError> {
        self.written = 0;
        self.give(file, path)
    }

    fn give(&mut self, file: File, path: PathBuf) -> Result<(), ArchiveError> {
        // Threads end early only when something failed.
        let lost = self.threads.iter().any(JoinHandle::is_finished);
        let given = self.give.as_ref().map(|give| give.send((file, path)));
        match given {
            Some(Ok(())) if !lost => Ok(()),
            _ => self.end().and(Err(ArchiveError::WorkerLost)),
        }
    }

    /// Waits until everything is durable.
    pub(super) fn finish(mut self) -> Result<(), ArchiveError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), ArchiveError> {
        self.give = None;
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            result = result.and(thread.join().unwrap_or(Err(ArchiveError::WorkerLost)));
        }
        result
    }
}

impl Drop for Durable {
    /// Nothing goes on behind the back of whoever failed. That the disk fails too is no news to them.
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn sync_all(take: &Mutex<Receiver<(File, PathBuf)>>) -> Result<(), ArchiveError> {
    loop {
        let next = match take.lock() {
            Ok(take) => take.recv(),
            Err(_) => return Err(ArchiveError::WorkerLost),
        };
        let Ok((file, path)) = next else {
            return Ok(());
        };
        file.sync_all().map_err(|source| failed(&path, source))?;
    }
}

fn failed(path: &Path, source: std::io::Error) -> ArchiveError {
    ArchiveError::Target {
        action: "sync",
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that cannot be made durable.
    fn null() -> (File, PathBuf) {
        let path = PathBuf::from("/dev/null");
        (File::open(&path).unwrap(), path)
    }

    fn names_it(result: Result<(), ArchiveError>) -> bool {
        matches!(result, Err(ArchiveError::Target { action: "sync", path, .. }) if path == Path::new("/dev/null"))
    }

    #[test]
    fn a_disk_that_fails_is_told_at_the_latest_at_the_end() {
        let mut durable = Durable::new();
        let (file, path) = null();
        let _ = durable.complete(file, path);
        let mut ended = Ok(());
        for _ in 0..3 {
            let file = tempfile::tempfile().unwrap();
            ended = ended.and(durable.complete(file, "temporary".into()));
        }
        assert!(names_it(ended.and(durable.finish())));
    }

    #[test]
    fn when_every_disk_fails_writing_ends() {
        let mut durable = Durable::new();
        let ended = loop {
            let (file, path) = null();
            match durable.complete(file, path) {
                Ok(()) => {}
                failed => break failed,
            }
        };
        assert!(names_it(ended));
    }

    #[test]
    fn what_goes_on_for_long_is_begun_before_its_end() {
        let mut durable = Durable::new();
        let (file, path) = null();
        durable.wrote(&file, &path, AHEAD as usize - 1).unwrap();
        let _ = durable.wrote(&file, &path, 1);
        assert!(names_it(durable.finish()));
    }
}
