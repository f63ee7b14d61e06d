//! Pictures of file systems on md arrays over logical volumes.
//!
//! The members, one of each mirror, are snapshotted as [`super::prepared`] does it: all stand still together, by device-mapper alone. No LVM command may run
//! while they do: it would read the array, and hang. From their pictures the array's data is put together by [`assembly`].

pub mod assembly;
pub mod facts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use self::assembly::Assembly;
use super::facts::LvmFacts;
use super::plan::{Planned, can_be_prepared, fit_group, fit_volume};
use super::prepared::{Names, device};
use super::{Lvm, command, control};
use crate::ids::RunId;
use crate::snapshot::SnapshotError;
use crate::volume::{DataLayout, DevNumber, Filesystem, Layer, LayerKind};

/// A picture of an array to be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedArray {
    /// Device number of the array: the [`Filesystem::device`] of every mount it is a picture of.
    pub device: DevNumber,
    /// Type of the file system in it.
    pub kind: String,
    /// How it is put together.
    pub assembly: Assembly,
    /// The snapshots of its members, in the order of the assembly.
    pub members: Vec<Planned>,
    /// What shows it.
    pub picture: ArrayPicture,
}

/// A device of ours that shows the data of an array as its members' pictures have it; this is what the run journal records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArrayPicture {
    /// Its device-mapper name: `freezeframe-<run>-<array>`.
    pub array_device: String,
    /// The run that owns it.
    pub run: RunId,
}

/// The arrays that some file systems lie on.
pub type Arrays = BTreeMap<DevNumber, Array>;

/// What is known of an array.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Kernel name.
    pub name: String,
    /// Members that are missing.
    pub degraded: u32,
    /// How it is put together, or why that cannot be done.
    pub assembly: Result<Assembly, String>,
}

/// Looks at the arrays that file systems of `layouts` lie on directly.
pub fn survey(sys: &Path, layouts: &[&DataLayout], lvm: &LvmFacts) -> Arrays {
    let on_arrays = layouts
        .iter()
        .flat_map(|layout| &layout.filesystems)
        .filter(|filesystem| is_array(filesystem));
    let look = |filesystem: &Filesystem| {
        let number = filesystem.device.number;
        let usable = |device| {
            let mut below = filesystem.device.below.iter();
            below.any(|layer| layer.number == device && is_usable(layer, lvm))
        };
        let facts = facts::read(sys, number)
            .map_err(|error| format!("an md array that cannot be looked at: {error}"));
        let array = Array {
            name: filesystem.device.name.clone(),
            degraded: facts.as_ref().map_or(0, |facts| facts.degraded),
            assembly: facts
                .and_then(|facts| Assembly::of(&facts, usable))
                .map_err(|reason| format!("it lies on {reason}")),
        };
        (number, array)
    };
    on_arrays.map(look).collect()
}

fn is_array(filesystem: &Filesystem) -> bool {
    matches!(filesystem.device.kind, LayerKind::Md { .. })
}

fn is_usable(layer: &Layer, lvm: &LvmFacts) -> bool {
    match &layer.kind {
        LayerKind::LogicalVolume { vg, lv } => {
            let group = lvm.group(vg);
            let volume = lvm.volume(vg, lv);
            volume.is_some_and(|volume| can_be_prepared(volume) && fit_volume(volume).is_ok())
                && group.is_some_and(|group| fit_group(group).is_ok())
        }
        _ => false,
    }
}

/// The members of `arrays` whose pictures are needed.
pub fn members(arrays: &Arrays) -> BTreeSet<DevNumber> {
    let assemblies = arrays.values().filter_map(|one| one.assembly.as_ref().ok());
    assemblies
        .flat_map(|one| &one.members)
        .map(|member| member.device)
        .collect()
}

fn assembly_of<'a>(arrays: &'a Arrays, filesystem: &Filesystem) -> Option<&'a Assembly> {
    let array = arrays.get(&filesystem.device.number)?;
    array.assembly.as_ref().ok()
}

/// `layout` with each array replaced by the members whose pictures are needed, as if each bore the file system: what holds for a volume holds for them.
pub fn expand(layout: &DataLayout, arrays: &Arrays) -> DataLayout {
    let members = |filesystem: &Filesystem| -> Vec<Filesystem> {
        let Some(assembly) = assembly_of(arrays, filesystem) else {
            return vec![filesystem.clone()];
        };
        let layer = |member: &assembly::Member| {
            let mut below = filesystem.device.below.iter();
            let device = below.find(|layer| layer.number == member.device)?.clone();
            Some(Filesystem {
                device,
                ..filesystem.clone()
            })
        };
        assembly.members.iter().filter_map(layer).collect()
    };
    DataLayout {
        filesystems: layout.filesystems.iter().flat_map(members).collect(),
        ..layout.clone()
    }
}

/// Puts the planned snapshots of members together to those of their arrays. Gives the others, and the arrays.
///
/// # Errors
/// [`SnapshotError::ArrayChanged`] where one is missing: the plan was made of something else than `arrays`.
pub fn gather(
    mut planned: Vec<Planned>,
    layouts: &[&DataLayout],
    arrays: &Arrays,
    run: RunId,
) -> Result<(Vec<Planned>, Vec<PlannedArray>), SnapshotError> {
    let mut gathered: Vec<PlannedArray> = Vec::new();
    for filesystem in layouts.iter().flat_map(|layout| &layout.filesystems) {
        let number = filesystem.device.number;
        let Some(assembly) = assembly_of(arrays, filesystem) else {
            continue;
        };
        if gathered.iter().any(|one| one.device == number) {
            continue;
        }
        let mut members = Vec::new();
        for member in &assembly.members {
            let place = planned.iter().position(|one| one.device == member.device);
            let place = place.ok_or_else(|| SnapshotError::ArrayChanged {
                array: assembly.array.clone(),
                reason: format!("has no snapshot planned of its member {}", member.device),
            })?;
            members.push(planned.remove(place));
        }
        gathered.push(PlannedArray {
            device: number,
            kind: filesystem.kind.clone(),
            picture: ArrayPicture {
                array_device: format!("freezeframe-{run}-{}", assembly.array),
                run,
            },
            assembly: assembly.clone(),
            members,
        });
    }
    Ok((planned, gathered))
}

impl PlannedArray {
    /// Sees to it that the chosen members have all that was written to the array. In the window, while they stand still: a member that fails later spoils
    /// nothing.
    ///
    /// # Errors
    /// [`SnapshotError::ArrayChanged`].
    pub fn holds(&self, sys: &Path) -> Result<(), SnapshotError> {
        let now =
            facts::read(sys, self.device).map_err(|error| format!("cannot be looked at: {error}"));
        now.and_then(|facts| self.assembly.holds(&facts))
            .map_err(|reason| SnapshotError::ArrayChanged {
                array: self.assembly.array.clone(),
                reason,
            })
    }
}

impl Lvm {
    /// Brings the picture of an array to life, made of those of its members, which were taken. Gives its device node.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`], [`SnapshotError::Device`], [`SnapshotError::NoNode`]; [`Lvm::remove_array`] clears up.
    pub fn show_array(&self, planned: &PlannedArray) -> Result<PathBuf, SnapshotError> {
        let name = &planned.picture.array_device;
        let number = |member: &Planned| self.number(&Names::of(&member.snapshot).picture);
        let devices = planned.members.iter().map(number);
        let devices: Vec<_> = devices.collect::<Result<_, _>>()?;
        let table = planned.assembly.table(&devices);
        let table = table.ok_or_else(|| SnapshotError::ArrayChanged {
            array: planned.assembly.array.clone(),
            reason: "has not as many members as pictures".into(),
        })?;
        self.exec.run(&command::make_device(name))?;
        self.exec.run(&command::load(name, &table))?;
        control::resume_unseen(name).map_err(|source| device(name, source))?;
        self.await_kernel_node(name)
    }

    /// Removes the device, if it is there.
    ///
    /// # Errors
    /// [`SnapshotError::Exec`].
    pub fn remove_array(&self, picture: &ArrayPicture) -> Result<(), SnapshotError> {
        if self.devices()?.has(&picture.array_device) {
            self.exec
                .run(&command::drop_device(&picture.array_device))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
