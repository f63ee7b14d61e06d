//! Keeps living snapshots from filling up: polls their space, extends what fills, and ends the backup as soon
//! as one has overflowed, or a thin pool is so full that soon mongod could not write. Checked once more by [`Watch::finish`] when the archive is complete.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::plan::{POOL_GIVE_UP, Planned, most_usable};
use super::status::{CowStatus, PoolStatus};
use super::{Lvm, LvmSnapshot, SnapshotError};
use crate::host;
use crate::human;
use crate::snapshot::{Origin, Space, btrfs};

/// How often the space is looked at.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// An extension was seen to take eleven seconds on a loaded host; it must be asked for that much earlier.
const EXTENSION_TAKES: Duration = Duration::from_secs(12);
/// A snapshot this full, in per cent, is extended.
const EXTEND_AT: u64 = 70;

/// A snapshot's space at one moment, in bytes and bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Used.
    pub used: u64,
    /// There are.
    pub total: u64,
    /// Growth of what is used since the last reading.
    pub rate: u64,
}

/// What an extension is bound by, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Asked for at least.
    pub growth: u64,
    /// A snapshot of that size cannot overflow.
    pub ceiling: u64,
    /// One extent.
    pub extent: u64,
}

/// What to do about one snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing now.
    Wait,
    /// Give it that many more bytes.
    Extend(u64),
    /// It needs more and the group has none.
    NoRoom,
}

/// How many bytes a snapshot should be given; none while it is neither fuller than 70 % nor going to be full
/// within `horizon`.
pub fn wanted(now: Reading, limits: Limits, horizon: Duration) -> Option<u64> {
    let room_above = limits.ceiling.saturating_sub(now.total);
    if room_above == 0 {
        return None;
    }
    let coming = now.rate.saturating_mul(horizon.as_secs().saturating_add(1));
    let full_soon = now.used.saturating_add(coming) >= now.total;
    let fills = now.used >= now.total / 100 * EXTEND_AT;
    let extent = limits.extent.max(1);
    let bytes = limits
        .growth
        .max(coming.saturating_mul(2))
        .min(room_above)
        .max(extent);
    (full_soon || fills).then(|| bytes / extent * extent)
}

/// What to do about one snapshot of a group that has `free` bytes.
pub fn next_step(now: Reading, limits: Limits, free: u64, horizon: Duration) -> Step {
    let extent = limits.extent.max(1);
    match wanted(now, limits, horizon) {
        None => Step::Wait,
        Some(_) if free < extent => Step::NoRoom,
        // Less than wanted still gains time.
        Some(bytes) => Step::Extend(bytes.min(free / extent * extent)),
    }
}

/// How a snapshot fared until its archive was complete.
#[derive(Debug, Clone, PartialEq)]
pub struct FillRecord {
    /// `vg/lv`.
    pub name: String,
    /// Share of its space used at the end, 0 to 1.
    pub used: f64,
    /// Bytes of copy-on-write space of its own at the end.
    pub cow_bytes: u64,
    /// How often it was extended.
    pub extensions: u32,
    /// It needed more space at some time and the group had none.
    pub starved: bool,
}

/// Watches snapshots from its start until it is dropped.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    lvm: Lvm,
    state: Mutex<State>,
    wake: Condvar,
    interval: Duration,
    overflowed: CancellationToken,
}

#[derive(Debug, Default)]
struct State {
    watched: Vec<Watched>,
    /// btrfs subvolumes that have a snapshot.
    subvolumes: Vec<PathBuf>,
    first_failure: Option<Failure>,
    stop: bool,
}

#[derive(Debug)]
struct Watched {
    planned: Planned,
    record: FillRecord,
    last: Option<(Instant, u64)>,
    failure: Option<Failure>,
}

/// A failure that can be told more than once.
#[derive(Debug, Clone)]
enum Failure {
    Overflowed(String),
    PoolFull(String),
    FilesystemFull(PathBuf),
    Gone(String),
    Reloaded(Origin),
}

impl From<Failure> for SnapshotError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Overflowed(name) => Self::Overflowed { name },
            Failure::PoolFull(pool) => Self::PoolFull { pool },
            Failure::FilesystemFull(point) => Self::FilesystemFull { point },
            Failure::Gone(name) => Self::Gone { name },
            Failure::Reloaded(origin) => Self::Reloaded { origin },
        }
    }
}

impl Watch {
    /// Begins to watch `snapshots`, and the space around snapshots of btrfs `subvolumes`, every `interval`. When one has overflowed or is gone, or
    /// mongod would soon have no room to write, `overflowed` is cancelled.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        lvm: Lvm,
        snapshots: &[Planned],
        subvolumes: Vec<PathBuf>,
        interval: Duration,
        overflowed: CancellationToken,
    ) -> io::Result<Self> {
        let watched = snapshots
            .iter()
            .map(|planned| Watched {
                planned: planned.clone(),
                record: FillRecord {
                    name: planned.snapshot.full_name(),
                    used: 0.0,
                    cow_bytes: planned.snapshot.space.from_group(),
                    extensions: 0,
                    starved: false,
                },
                last: None,
                failure: None,
            })
            .collect();
        let state = Mutex::new(State {
            watched,
            subvolumes,
            ..State::default()
        });
        let shared = Arc::new(Shared {
            lvm,
            state,
            wake: Condvar::new(),
            interval,
            overflowed,
        });
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("snapshot-watch".into())
            .spawn(move || for_thread.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Stops watching `snapshot` and looks at it for the last time: only when this succeeds was everything
    /// that was read from it good.
    ///
    /// # Errors
    /// [`SnapshotError::Overflowed`], [`SnapshotError::PoolFull`], [`SnapshotError::Gone`] (also for one that is not watched),
    /// and what keeps it from being looked at.
    pub fn finish(&self, snapshot: &LvmSnapshot) -> Result<FillRecord, SnapshotError> {
        let gone = || SnapshotError::Gone {
            name: snapshot.full_name(),
        };
        let watched = {
            let mut state = self.shared.lock();
            let is_it = |watched: &Watched| watched.planned.snapshot == *snapshot;
            let index = state.watched.iter().position(is_it).ok_or_else(gone)?;
            state.watched.remove(index)
        };
        if let Some(failure) = watched.failure {
            return Err(failure.into());
        }
        Ok(FillRecord {
            used: self.shared.lvm.fill(snapshot)?,
            ..watched.record
        })
    }

    /// The first failure of any snapshot, which is why the token was cancelled.
    pub fn failure(&self) -> Option<SnapshotError> {
        self.shared.lock().first_failure.clone().map(Into::into)
    }
}

impl Drop for Watch {
    /// Waits for a command that is running, so that none is at work behind the caller's back.
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.notify_all();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the snapshot watch ended by a panic");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.stop {
            for index in 0..state.watched.len() {
                let Some(watched) = state.watched.get_mut(index) else {
                    break;
                };
                if watched.failure.is_some() {
                    continue;
                }
                self.poll(watched);
                if let Some(failure) = watched.failure.clone() {
                    state.first_failure.get_or_insert(failure);
                    self.overflowed.cancel();
                }
            }
            if let Some(point) = state.subvolumes.iter().find(|root| is_nearly_full(root)) {
                let failure = Failure::FilesystemFull(point.clone());
                state.first_failure.get_or_insert(failure);
                self.overflowed.cancel();
            }
            state = self
                .wake
                .wait_timeout(state, self.interval)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn poll(&self, watched: &mut Watched) {
        let snapshot = watched.planned.snapshot.clone();
        let looked = match &snapshot.space {
            Space::Own { cow_bytes } => self.poll_own(watched, &snapshot, *cow_bytes),
            Space::Prepared { prepared_bytes } => self
                .lvm
                .is_in_place(&snapshot)
                .and_then(|()| self.poll_own(watched, &snapshot, *prepared_bytes)),
            Space::Pool { pool } => self.poll_pool(watched, &snapshot.origin.vg, pool),
        };
        let Err(error) = looked else {
            return;
        };
        let name = snapshot.full_name();
        match self.lvm.fill(&snapshot) {
            Err(SnapshotError::Reloaded { origin }) => {
                watched.failure = Some(Failure::Reloaded(origin));
            }
            Err(SnapshotError::Gone { .. }) => watched.failure = Some(Failure::Gone(name)),
            Err(SnapshotError::Overflowed { .. }) => {
                watched.failure = Some(Failure::Overflowed(name));
            }
            // The last check, when the archive is complete, decides.
            _ => tracing::warn!(snapshot = name, %error, "cannot see how full a snapshot is"),
        }
    }

    fn poll_own(
        &self,
        watched: &mut Watched,
        snapshot: &LvmSnapshot,
        planned: u64,
    ) -> Result<(), SnapshotError> {
        match self.lvm.cow_status(snapshot)? {
            CowStatus::Invalid => {
                watched.failure = Some(Failure::Overflowed(snapshot.full_name()));
            }
            CowStatus::Valid { used, total } => {
                let now = Instant::now();
                let rate = watched.last.map_or(0, |(then, before)| {
                    growth(used, before, now.duration_since(then))
                });
                watched.last = Some((now, used));
                watched.record.cow_bytes = total;
                self.keep_from_filling(watched, Reading { used, total, rate }, planned);
            }
        }
        Ok(())
    }

    /// A pool is not extended by us: how it grows is its owner's decision (`thin_pool_autoextend_threshold`).
    fn poll_pool(&self, watched: &mut Watched, vg: &str, pool: &str) -> Result<(), SnapshotError> {
        if endangered(self.lvm.pool_status(vg, pool)?) {
            watched.failure = Some(Failure::PoolFull(format!("{vg}/{pool}")));
        }
        Ok(())
    }

    fn keep_from_filling(&self, watched: &mut Watched, now: Reading, growth: u64) {
        let planned = &watched.planned;
        let limits = Limits {
            growth,
            ceiling: most_usable(planned.origin_size, planned.extent),
            extent: planned.extent,
        };
        let horizon = self.interval + EXTENSION_TAKES;
        if wanted(now, limits, horizon).is_none() {
            return;
        }
        let name = &watched.record.name;
        let step = self
            .lvm
            .free(&planned.snapshot.origin.vg)
            .map(|free| next_step(now, limits, free, horizon));
        let outcome = match step {
            Ok(Step::Wait) => Ok(()),
            Ok(Step::NoRoom) => {
                if !watched.record.starved {
                    let (used, total) = (human::size(now.used), human::size(now.total));
                    tracing::warn!(snapshot = name, %used, %total, "a snapshot fills up and its volume group has no space left");
                }
                watched.record.starved = true;
                Ok(())
            }
            Ok(Step::Extend(by)) => self.lvm.extend(&planned.snapshot, by).map(|()| {
                tracing::info!(snapshot = name, by = %human::size(by), "extended a snapshot that was filling up");
                watched.record.extensions += 1;
                watched.record.cow_bytes = now.total.saturating_add(by);
            }),
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            tracing::warn!(snapshot = name, %error, "cannot extend a snapshot that fills up; it is tried again");
            // A command that died at it has left the origin standing still, and mongod with it. Nobody else looks for that after the window.
            if let Err(error) = self.lvm.resume(&planned.snapshot) {
                tracing::error!(origin = %planned.snapshot.origin, %error, "the origin may stand still");
            }
        }
    }
}

/// Whether the snapshots in a pool must go: when it is full, mongod itself can write no more.
pub fn endangered(pool: PoolStatus) -> bool {
    !pool.healthy || pool.fill() >= POOL_GIVE_UP
}

/// A file system that does not tell is left to whoever reads its snapshot.
fn is_nearly_full(subvolume: &Path) -> bool {
    host::space(subvolume)
        .is_ok_and(|space| btrfs::is_endangered(space.free as f64 / space.total.max(1) as f64))
}

/// Bytes a second; none where less is used than before.
fn growth(used: u64, before: u64, between: Duration) -> u64 {
    let rate =
        u128::from(used.saturating_sub(before)).saturating_mul(1000) / between.as_millis().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
