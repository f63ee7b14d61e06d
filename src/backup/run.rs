//! A run that acquires things: written down first, given back in reverse, in every outcome.

use std::fs::{File, OpenOptions};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::backup::journal::{Entry, Journal, JournalError};
use crate::backup::release::{ReleaseError, Tools, release, resume_origins};
use crate::backup::resource::Resource;
use crate::ids::RunId;

/// A run and what it holds.
#[derive(Debug)]
pub struct Run {
    id: RunId,
    journal: Journal,
    /// Held by a run that bears no other beside it.
    _alone: Option<Flock<File>>,
}

fn is_lock(resource: &Resource) -> bool {
    matches!(resource, Resource::Lock { .. })
}

fn is_timer(resource: &Resource) -> bool {
    matches!(resource, Resource::Timer { .. })
}

/// Something that could not be given back; it is still in the journal.
#[derive(Debug)]
pub struct Unreleased {
    /// What.
    pub resource: Resource,
    /// Why.
    pub error: ReleaseError,
}

impl Run {
    /// Begins a run that does `verb`.
    ///
    /// # Errors
    /// [`JournalError`] when the state directory cannot be written.
    pub fn begin(state_dir: &Path, verb: &str) -> Result<Self, JournalError> {
        let id = RunId::random();
        Ok(Self {
            id,
            journal: Journal::begin(state_dir, id, verb)?,
            _alone: None,
        })
    }

    /// As [`Run::begin`], but only where no other such run is at work: two backups on one host would lock
    /// and snapshot the same members.
    ///
    /// # Errors
    /// [`JournalError::Busy`] where there is one.
    pub fn begin_alone(state_dir: &Path, verb: &str) -> Result<Self, JournalError> {
        // Before there is a journal: of two that begin together, the one that may go on must not meet the other's.
        Journal::prepare(state_dir)?;
        let path = state_dir.join("alone.lock");
        let fail = |source| JournalError::Io {
            action: "open the lock beside",
            path: path.clone(),
            source,
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(fail)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(alone) => Ok(Self {
                _alone: Some(alone),
                ..Self::begin(state_dir, verb)?
            }),
            Err((_, Errno::EWOULDBLOCK)) => Err(JournalError::Busy),
            Err((_, errno)) => Err(fail(errno.into())),
        }
    }

    /// Goes on where a dead run left off, only to give back.
    pub fn of_dead(journal: Journal) -> Self {
        Self {
            id: journal.owner().run,
            journal,
            _alone: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> RunId {
        self.id
    }

    /// Writes down what is about to be acquired. Only with the entries in hand may it be acquired.
    ///
    /// # Errors
    /// [`JournalError`]: then it must not be acquired.
    pub fn plan(&mut self, resources: Vec<Resource>) -> Result<Vec<Entry>, JournalError> {
        self.journal.plan(resources)
    }

    /// As [`Run::plan`], for one resource.
    ///
    /// # Errors
    /// As [`Run::plan`].
    pub fn plan_one(&mut self, resource: Resource) -> Result<Vec<Entry>, JournalError> {
        self.plan(vec![resource])
    }

    /// Writes down that `entries` were given back by somebody who knows, such as the guard.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn settled(&mut self, entries: &[Entry]) -> Result<(), JournalError> {
        self.journal.released(entries)
    }

    /// Writes down that whatever `wanted` says is gone by itself.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn settle_where(&mut self, wanted: impl Fn(&Resource) -> bool) -> Result<(), JournalError> {
        let outstanding = self.journal.outstanding().iter();
        let gone: Vec<_> = outstanding
            .filter(|(_, resource)| wanted(resource))
            .map(|(entry, _)| *entry)
            .collect();
        self.settled(&gone)
    }

    /// What is not given back yet, in order of acquisition.
    pub fn outstanding(&self) -> Vec<Resource> {
        self.journal
            .outstanding()
            .iter()
            .map(|(_, resource)| resource.clone())
            .collect()
    }

    /// Gives `entries` back now, last acquired first. Stops at nothing; what fails stays in the journal, and with a lock that
    /// stays its timer.
    ///
    /// # Errors
    /// [`JournalError`] when the journal could not be written; all was tried all the same.
    pub async fn release(
        &mut self,
        entries: &[Entry],
        tools: &Tools,
    ) -> Result<Vec<Unreleased>, JournalError> {
        let mut failed = Vec::new();
        let mut written = Ok(());
        let planned = self.outstanding();
        let wanted = self
            .journal
            .outstanding()
            .iter()
            .rev()
            .filter(|(entry, _)| entries.contains(entry));
        let wanted: Vec<_> = wanted.cloned().collect();
        // Locks were taken together and go together: one member that hangs must not keep the others locked.
        for group in wanted.chunk_by(|(_, one), (_, other)| is_lock(one) && is_lock(other)) {
            // The recovery timer tries what is still locked again; it goes when nothing is.
            let timer = group.iter().any(|(_, resource)| is_timer(resource));
            if timer && self.outstanding().iter().any(is_lock) {
                let kept = group.iter().map(|(_, resource)| Unreleased {
                    resource: resource.clone(),
                    error: ReleaseError::Armed,
                });
                failed.extend(kept);
                continue;
            }
            let releasing = group.iter().map(|(_, resource)| release(resource, tools));
            let releasing = futures_util::future::join_all(releasing);
            let outcomes = if group.iter().any(|(_, resource)| is_lock(resource)) {
                tokio::join!(releasing, resume_origins(&planned, tools)).0
            } else {
                releasing.await
            };
            for ((entry, resource), outcome) in group.iter().zip(outcomes) {
                match outcome {
                    Ok(()) => written = written.and(self.journal.released(&[*entry])),
                    Err(error) => failed.push(Unreleased {
                        resource: resource.clone(),
                        error,
                    }),
                }
            }
        }
        if written.is_err() {
            // The error of the journal is what the caller hears.
            for left in &failed {
                tracing::error!(resource = %left.resource, error = %left.error, "not given back");
            }
        }
        written.map(|()| failed)
    }

    /// Gives back now whatever `wanted` says, as [`Run::release`] does.
    ///
    /// # Errors
    /// As [`Run::release`].
    pub async fn release_where(
        &mut self,
        wanted: impl Fn(&Resource) -> bool,
        tools: &Tools,
    ) -> Result<Vec<Unreleased>, JournalError> {
        let outstanding = self.journal.outstanding().iter();
        let entries: Vec<_> = outstanding
            .filter(|(_, resource)| wanted(resource))
            .map(|(entry, _)| *entry)
            .collect();
        self.release(&entries, tools).await
    }

    /// Gives back the locks, and nothing else yet.
    ///
    /// # Errors
    /// As [`Run::release`].
    pub async fn unlock(&mut self, tools: &Tools) -> Result<Vec<Unreleased>, JournalError> {
        self.release_where(is_lock, tools).await
    }

    /// Where all that is `left` are directories that somebody has put something into, or in the place of, they are theirs, and no backup waits for them. As long as
    /// anything else is left it may be ours that they hold.
    fn leave_to_others(&mut self, left: Vec<Unreleased>) -> Result<Vec<Unreleased>, JournalError> {
        let all_theirs = left.iter().all(|one| {
            matches!(one.resource, Resource::Directory { .. }) && one.error.is_somebody_elses()
        });
        if !all_theirs {
            return Ok(left);
        }
        for one in &left {
            tracing::warn!(
                "{} stays, there is something else now: {}",
                one.resource,
                one.error
            );
        }
        self.settle_where(|resource| left.iter().any(|one| one.resource == *resource))?;
        Ok(Vec::new())
    }

    /// Gives back everything that is left and ends the run. The journal goes when nothing is left.
    ///
    /// # Errors
    /// [`JournalError`] when the journal stays and does not say what is left.
    pub async fn finish(mut self, tools: &Tools) -> Result<Vec<Unreleased>, JournalError> {
        let released = self.release_where(|_| true, tools).await;
        let released = released.and_then(|left| self.leave_to_others(left));
        let nothing_left = self.journal.outstanding().is_empty();
        self.journal.close()?;
        match released {
            Err(error) if nothing_left => {
                tracing::warn!(%error, "everything was given back, though it could not be written down");
                Ok(Vec::new())
            }
            released => released,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mongo::ServerProcess;

    // The clock jumps from one try to the next.
    #[tokio::test(start_paused = true)]
    async fn a_lock_that_stays_keeps_its_timer_and_nothing_else() {
        let state = tempfile::tempdir().unwrap();
        let mut run = Run::begin(state.path(), "test").unwrap();
        let path = Journal::path_of(state.path(), run.id());
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let member = closed.local_addr().unwrap().to_string();
        drop(closed);
        let directory = Resource::Directory {
            path: state.path().join("made"),
        };
        let timer = Resource::Timer {
            unit: "freezeframe-recover-test".into(),
        };
        let lock = Resource::Lock {
            member: member.parse().unwrap(),
            process: ServerProcess::from_bytes([1; 12]),
            comment: "test".into(),
            host: None,
        };
        run.plan(vec![directory, timer.clone(), lock.clone()])
            .unwrap();
        let unreleased = run.finish(&Tools::for_tests()).await.unwrap();
        let unreleased: Vec<_> = unreleased.into_iter().map(|left| left.resource).collect();
        assert_eq!(unreleased, [lock.clone(), timer.clone()]);
        let (_, outstanding) = Journal::peek(&path).unwrap();
        assert_eq!(outstanding, [timer, lock]);
    }

    #[tokio::test]
    async fn a_directory_that_somebody_uses_by_now_is_theirs_if_nothing_of_ours_is_left() {
        let home = tempfile::tempdir().unwrap();
        let state = home.path().join("state");
        let (outer, inner) = (home.path().join("made"), home.path().join("made/inner"));
        let finish = async |others: Vec<Resource>| {
            let mut run = Run::begin(&state, "test").unwrap();
            let directories =
                [&outer, &inner].map(|path| Resource::Directory { path: path.clone() });
            run.plan([others, directories.to_vec()].concat()).unwrap();
            run.finish(&Tools::for_tests()).await.unwrap().len()
        };
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(inner.join("note"), "somebody's").unwrap();
        assert_eq!(finish(vec![]).await, 0);
        assert!(inner.join("note").exists());
        // What is there may be ours: something else could not be given back either.
        let stays = Resource::Directory {
            path: "/proc".into(),
        };
        assert_eq!(finish(vec![stays]).await, 3);
        std::fs::remove_dir_all(&outer).unwrap();
        std::os::unix::fs::symlink("nowhere", &outer).unwrap();
        assert_eq!(finish(vec![]).await, 0);
        assert!(outer.is_symlink());
        std::fs::remove_file(&outer).unwrap();
        std::fs::create_dir_all(&inner).unwrap();
        assert_eq!(finish(vec![]).await, 0);
        assert!(!outer.exists());
    }

    #[tokio::test]
    async fn a_timer_without_a_lock_goes() {
        let state = tempfile::tempdir().unwrap();
        let mut run = Run::begin(state.path(), "test").unwrap();
        let path = Journal::path_of(state.path(), run.id());
        let unit = "freezeframe-recover-test".into();
        run.plan_one(Resource::Timer { unit }).unwrap();
        assert!(run.finish(&Tools::for_tests()).await.unwrap().is_empty());
        assert!(!path.exists());
    }
}
