//! How the data of an md array is put together from its members, without md.
//!
//! What of an array is data lies on its members in a way that device-mapper's own targets can follow: striped for raid0 and raid10, linear for raid1. So a
//! picture needs no second array with the identity of the one at work, which `mdadm` refuses to assemble and udev might.

use serde::{Deserialize, Serialize};

use super::facts::{ArrayFacts, MemberFacts};
use crate::volume::DevNumber;

/// An array and the members that together hold all of its data, one of each mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assembly {
    /// Kernel name of the array.
    pub array: String,
    /// Its level.
    pub level: String,
    /// Its size in sectors.
    pub sectors: u64,
    /// Sectors in a chunk, where it is striped.
    pub chunk: u64,
    /// As [`ArrayFacts::layout`].
    pub layout: i32,
    /// Places for members.
    pub slots: u32,
    /// In the order of the stripes.
    pub members: Vec<Member>,
}

/// A member whose picture is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its place in the array, from 0.
    pub slot: u32,
    /// Its device.
    pub device: DevNumber,
    /// Sectors before the data.
    pub offset: u64,
}

impl Assembly {
    /// Chooses from the members those that hold everything together; of a mirror the first that is in sync and `usable`.
    ///
    /// # Errors
    /// Why it cannot be done, to follow "it lies on".
    pub fn of(facts: &ArrayFacts, usable: impl Fn(DevNumber) -> bool) -> Result<Self, String> {
        let named = |reason: String| format!("{} ({}), which {reason}", facts.name, facts.level);
        steady(facts).map_err(named)?;
        let mirrors = mirrors(facts).map_err(named)?;
        let mut members = Vec::new();
        let groups = facts.slots.checked_div(mirrors).unwrap_or(0);
        for group in 0..groups {
            let slots = group * mirrors..(group + 1) * mirrors;
            let mut there = facts
                .members
                .iter()
                .filter(|one| one.slot.is_some_and(|slot| slots.contains(&slot)));
            let fit = |one: &&MemberFacts| one.has_everything() && usable(one.device);
            let Some((member, slot)) = there.find(fit).and_then(|one| Some((one, one.slot?)))
            else {
                let slots: Vec<_> = slots.map(|slot| slot.to_string()).collect();
                return Err(named(format!(
                    "has no member in slot {} that is in sync and itself a linear or striped logical volume that can be snapshotted",
                    slots.join(" or ")
                )));
            };
            members.push((
                Member {
                    slot,
                    device: member.device,
                    offset: member.offset,
                },
                member.sectors,
            ));
        }
        fits(facts, &members).map_err(named)?;
        Ok(Self {
            array: facts.name.clone(),
            level: facts.level.clone(),
            sectors: facts.sectors,
            chunk: facts.chunk,
            layout: facts.layout,
            slots: facts.slots,
            members: members.into_iter().map(|(member, _)| member).collect(),
        })
    }

    /// Whether the members that were chosen still hold everything.
    ///
    /// # Errors
    /// What has changed, to follow the array's name.
    pub fn holds(&self, facts: &ArrayFacts) -> Result<(), String> {
        steady(facts)?;
        let shape = (facts.sectors, facts.chunk, facts.layout, facts.slots);
        if facts.level != self.level || shape != (self.sectors, self.chunk, self.layout, self.slots)
        {
            return Err("has another shape than before".into());
        }
        for member in &self.members {
            let is_it = |one: &&MemberFacts| {
                (one.slot, one.device, one.offset)
                    == (Some(member.slot), member.device, member.offset)
            };
            match facts.members.iter().find(is_it) {
                Some(found) if found.has_everything() => {}
                _ => {
                    return Err(format!(
                        "has lost its member in slot {} ({}), or it is not in sync any more",
                        member.slot, member.device
                    ));
                }
            }
        }
        Ok(())
    }

    /// The table that shows the array's data on `devices`, the members' pictures (`major:minor`) in their order; none where they are not as many.
    pub fn table(&self, devices: &[String]) -> Option<String> {
        if devices.len() != self.members.len() {
            return None;
        }
        let places = devices.iter().zip(&self.members);
        let places: Vec<_> = places
            .map(|(device, member)| format!("{device} {}", member.offset))
            .collect();
        let (sectors, count, places) = (self.sectors, places.len(), places.join(" "));
        Some(match count {
            1 => format!("0 {sectors} linear {places}"),
            _ => format!("0 {sectors} striped {count} {} {places}", self.chunk),
        })
    }
}

/// Fails while members differ from one another, or the array changes its shape.
fn steady(facts: &ArrayFacts) -> Result<(), String> {
    if facts.metadata.starts_with("external") {
        return Err("has metadata that a program of its own keeps".into());
    }
    let at_work = [
        "clean",
        "active",
        "active-idle",
        "write-pending",
        "readonly",
        "read-auto",
    ];
    if !at_work.contains(&facts.state.as_str()) {
        return Err(format!("is in state \"{}\"", facts.state));
    }
    if let Some(action @ ("resync" | "reshape" | "repair")) = facts.action.as_deref() {
        return Err(format!("is at \"{action}\""));
    }
    let open = |limit: &Option<String>| limit.as_deref().is_some_and(|limit| limit != "none");
    if open(&facts.resync_start) {
        return Err("waits for a resync".into());
    }
    if open(&facts.reshape_position) {
        return Err("is being reshaped".into());
    }
    Ok(())
}

/// How many members have the same data.
fn mirrors(facts: &ArrayFacts) -> Result<u32, String> {
    match facts.level.as_str() {
        "raid0" => Ok(1),
        "raid1" => Ok(facts.slots.max(1)),
        "raid10" => {
            // `drivers/md/raid10.c`, `setup_geo`: near copies in the lowest byte, far copies in the next.
            let (near, far) = (facts.layout & 0xff, facts.layout >> 8);
            let near = u32::try_from(near).unwrap_or(0);
            if far != 1 || near < 2 || !facts.slots.is_multiple_of(near) {
                return Err(format!(
                    "has the layout {:#x} over {} members, not \"near\" copies with as many members for each",
                    facts.layout, facts.slots
                ));
            }
            Ok(near)
        }
        _ => Err("is of a level that is not supported: raid0, raid1 and raid10 are".into()),
    }
}

/// Whether the array is what the members, striped, add up to.
fn fits(facts: &ArrayFacts, members: &[(Member, u64)]) -> Result<(), String> {
    let odd = || "has not the size that its members add up to".to_owned();
    let stripes = u64::try_from(members.len()).map_err(|_| odd())?;
    if stripes == 0 || facts.sectors == 0 {
        return Err(odd());
    }
    let each = facts.sectors / stripes;
    if stripes > 1 && (facts.chunk == 0 || !facts.sectors.is_multiple_of(stripes * facts.chunk)) {
        return Err(odd());
    }
    if members.iter().any(|(_, sectors)| *sectors < each) {
        return Err("has members that are not of one size".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
