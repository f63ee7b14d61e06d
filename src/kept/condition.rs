//! How a kept snapshot fares: whether it is good, and how long it will be.

use jiff::Timestamp;
use serde::Serialize;

use super::{Kept, KeptError};
use crate::backup::plan::PlannedPicture;
use crate::exec::SharedExec;
use crate::host;
use crate::human;
use crate::snapshot::btrfs::Btrfs;
use crate::snapshot::lvm::Lvm;
use crate::snapshot::reflink::Reflink;
use crate::snapshot::{LvmSnapshot, SnapshotError};

/// A share of its space from which on a snapshot is warned of.
const FULL_SOON: f64 = 0.7;
/// From so many seconds of life on its growth tells how it goes on.
const TELLING: f64 = 600.0;

/// Whether a kept snapshot can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is good.
    Good,
    /// It is good, and will not be until its time is over.
    FullSoon,
    /// It overflowed, or some of it is gone.
    Lost,
    /// It is being put back, or that was cut off and has to be gone on with.
    RollingBack,
    /// Nobody can tell.
    Unknown,
}

/// How it fares.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Condition {
    /// In a word.
    pub state: State,
    /// Share of its space used, 0 to 1, of the fullest of its pictures; of a btrfs snapshot, and a thin one, of what it lies in.
    pub fill: Option<f64>,
    /// What is wrong with it.
    pub reason: Option<String>,
}

impl Condition {
    /// Why it is of no use, if it is of none.
    pub fn is_lost(&self) -> Option<String> {
        match self.state {
            State::Lost => Some(self.reason.clone().unwrap_or_default()),
            State::Good | State::FullSoon | State::RollingBack | State::Unknown => None,
        }
    }

    /// Whether it can be used.
    ///
    /// # Errors
    /// [`KeptError::Lost`], [`KeptError::RollingBack`] and [`KeptError::Unknown`].
    pub fn usable(self, kept: &Kept) -> Result<(), KeptError> {
        let (name, reason) = (kept.name(), self.reason.unwrap_or_default());
        match self.state {
            State::Good | State::FullSoon => Ok(()),
            State::Lost => Err(KeptError::Lost { name, reason }),
            State::RollingBack => Err(KeptError::RollingBack { name }),
            State::Unknown => Err(KeptError::Unknown { name, reason }),
        }
    }
}

/// Looks at every picture of `kept`.
pub fn look(exec: &SharedExec, kept: &Kept) -> Condition {
    if kept.rolling_back {
        return Condition {
            state: State::RollingBack,
            fill: None,
            reason: Some(format!(
                "it is being put back, or that was cut off: `freezeframe rollback {} --yes` goes on with it",
                kept.label
            )),
        };
    }
    let mut fullest = 0.0_f64;
    for picture in &kept.pictures {
        match fill(exec, picture) {
            Ok(fill) => fullest = fullest.max(fill),
            Err((state, reason)) => {
                return Condition {
                    state,
                    fill: None,
                    reason: Some(reason),
                };
            }
        }
    }
    judge(fullest, kept, Timestamp::now())
}

fn fill(exec: &SharedExec, picture: &PlannedPicture) -> Result<f64, (State, String)> {
    let bad = |error: SnapshotError| {
        let state = match error {
            SnapshotError::Overflowed { .. } | SnapshotError::Gone { .. } => State::Lost,
            _ => State::Unknown,
        };
        (state, error.to_string())
    };
    match picture {
        PlannedPicture::Lvm(planned) => {
            return fill_of(&Lvm::new(exec.clone()), &planned.snapshot);
        }
        // Refused before one is kept.
        PlannedPicture::Array(planned) => {
            let array = &planned.assembly.array;
            return Err((
                State::Unknown,
                format!("it is of {array}, and pictures of md arrays are not kept"),
            ));
        }
        PlannedPicture::Subvolume(planned) => {
            Btrfs::new(exec.clone())
                .look(&planned.snapshot)
                .map_err(bad)?;
        }
        PlannedPicture::Clones(planned) => {
            Reflink::new(exec.clone())
                .look(&planned.clones)
                .map_err(bad)?;
        }
    }
    let Some(point) = picture.lives_in() else {
        return Ok(0.0);
    };
    let space = host::space(point).map_err(|error| (State::Unknown, error.to_string()))?;
    Ok(1.0 - space.free as f64 / space.total.max(1) as f64)
}

/// Only what LVM knows to be gone, or to have overflowed, is lost: a group may be absent, or not active yet.
fn fill_of(lvm: &Lvm, snapshot: &LvmSnapshot) -> Result<f64, (State, String)> {
    let error = match lvm.fill(snapshot) {
        Ok(fill) => return Ok(fill),
        Err(error) => error,
    };
    let state = match (&error, lvm.is_removed(snapshot)) {
        (SnapshotError::Overflowed { .. }, _) | (SnapshotError::Gone { .. }, Ok(true)) => {
            State::Lost
        }
        // What lies in the pool is in need, not lost.
        (SnapshotError::PoolFull { .. }, _) => State::FullSoon,
        _ => State::Unknown,
    };
    Err((state, error.to_string()))
}

/// A good one's state: whether what filled it until `now` would overflow it before its time is over.
fn judge(fill: f64, kept: &Kept, now: Timestamp) -> Condition {
    let seconds = |from: Timestamp, to: Timestamp| to.duration_since(from).as_secs_f64();
    let age = seconds(kept.taken, now);
    let life = seconds(kept.taken, kept.keep_until);
    // What fills a pool or a file system has not begun with the picture.
    let grows = kept.pictures.iter().all(|picture| {
        let mut volumes = picture.volumes().iter();
        volumes.any(|planned| planned.snapshot.space.from_group() > 0)
    });
    let in_the_end = match grows && age > TELLING {
        true => fill / age * life,
        false => fill,
    };
    let reason = if fill >= FULL_SOON {
        Some(format!("{} of its space is used", human::percent(fill)))
    } else if in_the_end >= 1.0 {
        Some(format!(
            "{} of its space is used after {}, which will not last until {:.0}",
            human::percent(fill),
            human::duration(std::time::Duration::from_secs_f64(age.max(0.0))),
            kept.keep_until
        ))
    } else {
        None
    };
    Condition {
        state: match reason {
            Some(_) => State::FullSoon,
            None => State::Good,
        },
        fill: Some(fill),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::kept;
    use super::*;

    #[test]
    fn what_fills_too_fast_is_warned_of_before_it_is_full() {
        let kept = kept("before-upgrade");
        let after = |minutes: i64| kept.taken + jiff::SignedDuration::from_mins(minutes);
        // It is to be kept for a day.
        assert_eq!(judge(0.01, &kept, after(60)).state, State::Good);
        assert_eq!(judge(0.05, &kept, after(60)).state, State::FullSoon);
        assert_eq!(judge(0.71, &kept, after(23 * 60)).state, State::FullSoon);
        assert_eq!(judge(0.69, &kept, after(23 * 60)).state, State::Good);
        // The first minutes tell nothing.
        assert_eq!(judge(0.05, &kept, after(2)).state, State::Good);
    }
}
