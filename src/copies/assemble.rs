//! From the disks of copies to their file systems: what lies on them is brought up layer by layer, by its own superblocks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::find::Candidate;
use super::probe::{self, Content, Known, PHYSICAL_VOLUME, RAID_MEMBER};
use super::quiet::Quiet;
use super::{CopyError, lvm, md, stack};
use crate::ebs::devices::Disk;
use crate::ebs::ids::VolumeId;
use crate::exec::SharedExec;
use crate::ids::RunId;
use crate::volume::Layer;

/// Layers on layers that nobody has; it ends a search that would go round.
const MOST_ROUNDS: usize = 8;

/// What assembles.
pub(super) struct Assembler {
    pub exec: SharedExec,
    /// Normally `/sys`.
    pub sys: PathBuf,
    pub run: RunId,
    /// The disk of the copy of each volume that was pictured.
    pub disks: BTreeMap<VolumeId, Disk>,
    /// udev's rule, which has to know of what comes.
    pub quiet: Quiet,
}

impl Assembler {
    /// Brings up arrays, then groups, until nothing new appears. Gives the file systems that are there then.
    ///
    /// # Errors
    /// [`CopyError`]; what was brought up stays up.
    pub fn assemble(&mut self) -> Result<Vec<Candidate>, CopyError> {
        let ours: BTreeSet<String> = self.disks.values().map(|disk| disk.name.clone()).collect();
        let mut contents: BTreeMap<String, Option<Content>> = BTreeMap::new();
        // Physical volumes whose groups are not up yet.
        let mut physical: Vec<String> = Vec::new();
        for _ in 0..MOST_ROUNDS {
            let layers = stack::above(&self.sys, &ours).map_err(CopyError::read(&self.sys))?;
            let all: BTreeSet<String> = layers.iter().map(|layer| layer.name.clone()).collect();
            let mut new = Vec::new();
            for layer in stack::tops(&layers) {
                if !contents.contains_key(&layer.name) {
                    let content = probe::content(self.exec.as_ref(), &layer.name)?;
                    contents.insert(layer.name.clone(), content);
                    new.push(layer.name);
                }
            }
            let of_kind = |kind: &str| {
                let is = |name: &&String| {
                    let content = contents.get(*name).and_then(Option::as_ref);
                    content.is_some_and(|content| content.kind == kind)
                };
                new.iter().filter(is).cloned().collect::<Vec<_>>()
            };
            let members = of_kind(RAID_MEMBER);
            physical.extend(of_kind(PHYSICAL_VOLUME));
            // A group may lie on arrays that are not up yet.
            if !members.is_empty() {
                self.arrays(&members, &contents, &all)?;
            } else if !physical.is_empty() {
                self.groups(&std::mem::take(&mut physical), &all)?;
            } else {
                return self.candidates(&layers, &contents, &all);
            }
        }
        let layers = stack::above(&self.sys, &ours).map_err(CopyError::read(&self.sys))?;
        self.candidates(&layers, &contents, &ours)
    }

    /// Assembles every array that `members` are of.
    fn arrays(
        &mut self,
        members: &[String],
        contents: &BTreeMap<String, Option<Content>>,
        ours: &BTreeSet<String>,
    ) -> Result<(), CopyError> {
        let exec = self.exec.clone();
        let known = Known::ask(exec.as_ref(), ours)?;
        let mut arrays: BTreeMap<String, (Vec<String>, bool)> = BTreeMap::new();
        for device in members {
            let member = md::examine(exec.as_ref(), device)?;
            let content = contents.get(device).and_then(Option::as_ref);
            let twin = content.is_some_and(|content| known.has_twin(content));
            let (devices, has_twin) = arrays.entry(member.uuid).or_default();
            devices.push(device.clone());
            *has_twin |= twin;
        }
        for (uuid, (devices, twin)) in arrays {
            let new = twin.then(md::new_uuid);
            // Before it is there: udev looks at an array at once.
            self.quiet.add_array(new.as_ref().unwrap_or(&uuid));
            self.quiet.write(exec.as_ref())?;
            let name = md::free_name(&self.sys).ok_or_else(|| CopyError::Array {
                members: devices.clone(),
                reason: "every number is taken".into(),
            })?;
            tracing::debug!(%name, members = devices.join(" "), "assembling an array");
            md::assemble(exec.as_ref(), &name, &devices, new.as_deref())?;
        }
        Ok(())
    }

    /// Activates every group on `devices`.
    fn groups(&mut self, devices: &[String], ours: &BTreeSet<String>) -> Result<(), CopyError> {
        let exec = self.exec.clone();
        let known = Known::ask(exec.as_ref(), ours)?;
        let others = lvm::other_groups(exec.as_ref(), &known.with(PHYSICAL_VOLUME))?;
        for group in lvm::groups_on(exec.as_ref(), devices)? {
            let Some(name) = lvm::new_name(&group, &others, self.run)? else {
                self.activate(devices, &group)?;
                continue;
            };
            let on_it = lvm::volumes_of(exec.as_ref(), devices, &group.name)?;
            lvm::import(exec.as_ref(), &on_it, &name)?;
            let all = lvm::groups_on(exec.as_ref(), devices)?;
            let renamed = all.iter().find(|one| one.name == name);
            let renamed = renamed.ok_or_else(|| CopyError::PartialGroup {
                group: group.name.clone(),
                missing: group.missing,
            })?;
            self.activate(devices, renamed)?;
        }
        Ok(())
    }

    fn activate(&mut self, devices: &[String], group: &lvm::Group) -> Result<(), CopyError> {
        self.quiet.add_group(&group.uuid);
        self.quiet.write(self.exec.as_ref())?;
        tracing::debug!(group = group.name, "activating a group");
        lvm::activate(self.exec.as_ref(), devices, group)
    }

    fn candidates(
        &self,
        layers: &[Layer],
        contents: &BTreeMap<String, Option<Content>>,
        ours: &BTreeSet<String>,
    ) -> Result<Vec<Candidate>, CopyError> {
        let known = Known::ask(self.exec.as_ref(), ours)?;
        let candidate = |layer: Layer| {
            let content = contents.get(&layer.name)?.as_ref()?;
            let under = stack::disks_under(&layer);
            let volumes = self
                .disks
                .iter()
                .filter(|(_, disk)| under.contains(disk.name.as_str()))
                .map(|(volume, _)| volume.clone())
                .collect();
            Some(Candidate {
                twin: known.has_twin(content),
                kind: content.kind.clone(),
                uuid: content.uuid.clone(),
                volumes,
                device: layer.name,
            })
        };
        Ok(stack::tops(layers)
            .into_iter()
            .filter_map(candidate)
            .collect())
    }
}
