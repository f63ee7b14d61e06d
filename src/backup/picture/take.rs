//! What happens to volumes in the window.

use std::cell::RefCell;
use std::path::Path;

use tokio_util::sync::CancellationToken;

use super::PictureError;
use crate::backup::boundary::Step;
use crate::backup::plan::PlannedPicture;
use crate::backup::timeline::Timeline;
use crate::snapshot::SnapshotError;
use crate::snapshot::btrfs::Btrfs;
use crate::snapshot::lvm::array::PlannedArray;
use crate::snapshot::lvm::prepared::Layered;
use crate::snapshot::lvm::{self, Lvm, Purpose};
use crate::snapshot::reflink::Reflink;
use crate::test_switch::{self, Rope};
use crate::volume::sysfs::SYS;

/// Takes all those of `planned` that a command each takes, one after the other: only the lock makes them of one moment.
pub(super) fn by_command(
    (lvm, btrfs, reflink): &(Lvm, Btrfs, Reflink),
    (planned, purpose): (&[PlannedPicture], Purpose),
    timeline: &Timeline,
    broken: &CancellationToken,
) -> Result<(), PictureError> {
    let by_command = |one: &&PlannedPicture| !one.is_prepared();
    for one in planned.iter().filter(by_command) {
        if broken.is_cancelled() {
            return Err(PictureError::Interrupted);
        }
        let running = timeline.begin(Step::Snapshot, one.origin());
        let taken = match one {
            PlannedPicture::Lvm(planned) => take_lvm(lvm, planned, purpose),
            // Always prepared: see `prepared`.
            PlannedPicture::Array(_) => Ok(()),
            PlannedPicture::Subvolume(planned) => btrfs.take(&planned.snapshot),
            PlannedPicture::Clones(planned) => reflink.take(planned),
        };
        running.end();
        taken?;
    }
    Ok(())
}

fn take_lvm(lvm: &Lvm, planned: &lvm::Planned, purpose: Purpose) -> Result<(), SnapshotError> {
    let snapshot = &planned.snapshot;
    lvm.take(snapshot, purpose).inspect_err(|_| {
        // A member cannot unlock while its volume stands still, as an `lvcreate` that died may leave it.
        if let Err(error) = lvm.resume(snapshot) {
            tracing::warn!(origin = %snapshot.origin, %error, "cannot see to it that the origin goes on");
        }
    })
}

/// Takes all prepared snapshots at once: their origins stand still together.
pub(super) fn prepared(
    layered: Layered,
    planned: &[PlannedPicture],
    timeline: &Timeline,
    broken: &CancellationToken,
) -> Result<(), PictureError> {
    let arrays: Vec<_> = planned.iter().filter_map(PlannedPicture::array).collect();
    let parts = match test_switch::is_off(Rope::Together) {
        true => layered.apart(),
        false => vec![layered],
    };
    parts
        .iter()
        .try_for_each(|part| together(part, &arrays, timeline, broken))
}

/// One of the acts that taking prepared snapshots consists of.
type Act<'a> = &'a dyn Fn() -> Result<(), SnapshotError>;

fn together(
    layered: &Layered,
    arrays: &[&PlannedArray],
    timeline: &Timeline,
    broken: &CancellationToken,
) -> Result<(), PictureError> {
    // Held until all is done, or withdrawn.
    let groups = RefCell::new(None);
    let load = || {
        groups.replace(Some(layered.hold_groups()?));
        layered.load()
    };
    let expose = || {
        let sys = Path::new(SYS);
        arrays.iter().try_for_each(|array| array.holds(sys))?;
        layered.expose()
    };
    let acts: [(&str, Act<'_>); 4] = [
        ("load", &load),
        ("suspend", &|| layered.suspend()),
        ("expose", &expose),
        ("resume", &|| layered.go_on()),
    ];
    let all = || {
        for (name, act) in acts {
            let running = timeline.begin(Step::Snapshot, format!("{}: {name}", layered.origins()));
            let done = act();
            running.end();
            done?;
            // The guard may have resumed the origins, and what is done after that is worth nothing.
            if broken.is_cancelled() {
                return Err(PictureError::Interrupted);
            }
        }
        Ok(())
    };
    all().inspect_err(|_| layered.withdraw())
}
