//! What the kernel says of an md array. Format: `Documentation/admin-guide/md.rst`, "MD devices in sysfs".

use std::fs;
use std::io;
use std::path::Path;
use std::str::FromStr;

use crate::volume::DevNumber;
use crate::volume::sysfs::{attribute, entries, invalid};

/// Sectors in the kibibytes that sysfs counts the members' sizes in.
const SECTORS_IN_KIB: u64 = 2;

/// An md array as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrayFacts {
    /// Kernel name, such as `md0`.
    pub name: String,
    /// "raid0", "raid1", ...
    pub level: String,
    /// Its size in sectors.
    pub sectors: u64,
    /// Places for members.
    pub slots: u32,
    /// Sectors in a chunk; 0 for levels without.
    pub chunk: u64,
    /// The level's own number for how data is laid out; -1 where it says nothing.
    pub layout: i32,
    /// Who keeps the superblocks, and in which version: "1.2", "0.90", "external:...".
    pub metadata: String,
    /// "clean", "active", ...
    pub state: String,
    /// "idle", "resync", ...; none for levels without redundancy.
    pub action: Option<String>,
    /// Up to where the members are known to agree: "none" says that there is no such limit.
    pub resync_start: Option<String>,
    /// Up to where a change of shape has come: "none" says that there is none.
    pub reshape_position: Option<String>,
    /// Members that are missing.
    pub degraded: u32,
    /// The members there are, spares and failed ones too.
    pub members: Vec<MemberFacts>,
}

/// A device of an array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberFacts {
    /// Its number.
    pub device: DevNumber,
    /// Its place, from 0; none for a spare.
    pub slot: Option<u32>,
    /// "in_sync", "faulty", "write_mostly", ...
    pub states: Vec<String>,
    /// Sectors before the data.
    pub offset: u64,
    /// Sectors of data.
    pub sectors: u64,
    /// Whether blocks of it are known to be bad: what belongs there is on other members only.
    pub bad_blocks: bool,
}

impl MemberFacts {
    /// Whether it has the state `name`.
    pub fn is(&self, name: &str) -> bool {
        self.states.iter().any(|state| state == name)
    }

    /// Whether everything that was written to the array is on it.
    pub fn has_everything(&self) -> bool {
        let late = ["faulty", "write_mostly", "replacement", "spare"];
        self.is("in_sync") && !late.iter().any(|state| self.is(state)) && !self.bad_blocks
    }
}

/// Reads what the kernel says of the array `device`.
///
/// # Errors
/// Whatever reading `sys` brings; `InvalidData` for what is no array, or of an unknown form.
pub fn read(sys: &Path, device: DevNumber) -> io::Result<ArrayFacts> {
    let home = fs::canonicalize(sys.join(format!("dev/block/{device}")))?;
    let md = home.join("md");
    let mut members = Vec::new();
    for entry in entries(&md)? {
        let name = entry.file_name().map(|name| name.to_string_lossy());
        if name.is_some_and(|name| name.starts_with("dev-")) {
            members.push(member(&entry)?);
        }
    }
    members.sort_by_key(|member| (member.slot, member.device));
    Ok(ArrayFacts {
        name: home
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        level: text(&md, "level")?,
        sectors: number(&home, "size")?,
        slots: number(&md, "raid_disks")?,
        chunk: number::<u64>(&md, "chunk_size")? / 512,
        layout: number(&md, "layout")?,
        metadata: text(&md, "metadata_version")?,
        state: text(&md, "array_state")?,
        action: attribute(&md, "sync_action")?,
        resync_start: attribute(&md, "resync_start")?,
        reshape_position: attribute(&md, "reshape_position")?,
        degraded: match attribute(&md, "degraded")? {
            Some(count) => count
                .parse()
                .map_err(|_| invalid(&md, "no number in `degraded`"))?,
            None => 0,
        },
        members,
    })
}

fn member(home: &Path) -> io::Result<MemberFacts> {
    let slot = text(home, "slot")?;
    let any =
        |name| Ok::<_, io::Error>(attribute(home, name)?.is_some_and(|text| !text.is_empty()));
    Ok(MemberFacts {
        device: text(&home.join("block"), "dev")?
            .parse()
            .map_err(|_| invalid(home, "no device number in `block/dev`"))?,
        slot: slot.parse().ok(),
        states: text(home, "state")?
            .split(',')
            .map(|state| state.trim().to_owned())
            .collect(),
        offset: number(home, "offset")?,
        sectors: number::<u64>(home, "size")?.saturating_mul(SECTORS_IN_KIB),
        bad_blocks: any("bad_blocks")? || any("unacknowledged_bad_blocks")?,
    })
}

fn text(home: &Path, name: &str) -> io::Result<String> {
    attribute(home, name)?.ok_or_else(|| invalid(home, &format!("no `{name}`")))
}

/// The first word: of a shape that is being changed the old one follows.
fn number<T: FromStr>(home: &Path, name: &str) -> io::Result<T> {
    let text = text(home, name)?;
    let first = text.split_ascii_whitespace().next();
    first
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| invalid(home, &format!("no number in `{name}`")))
}
