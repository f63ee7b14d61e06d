//! What is on a device, by its own superblock, and what udev knows of the host's other devices.

use std::collections::BTreeSet;

use super::CopyError;
use crate::ebs::disks::node;
use crate::exec::{Command, Exec, ExecError};

/// What `blkid(8)` calls a member of an md array.
pub const RAID_MEMBER: &str = "linux_raid_member";
/// And a physical volume of LVM.
pub const PHYSICAL_VOLUME: &str = "LVM2_member";

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Content {
    /// "ext4", "xfs", [`RAID_MEMBER`], [`PHYSICAL_VOLUME`], ...
    pub kind: String,
    /// The file system's UUID; of a member that of the array.
    pub uuid: Option<String>,
}

/// Reads the superblock of `device`, past every cache; none where there is nothing that is known.
///
/// # Errors
/// [`CopyError::Exec`].
pub fn content(exec: &dyn Exec, device: &str) -> Result<Option<Content>, CopyError> {
    let command = Command::new(
        "blkid",
        [
            "-p".into(),
            "-o".into(),
            "export".into(),
            node(device).into_os_string(),
        ],
    );
    match exec.run(&command) {
        Ok(text) => Ok(parse(&text)),
        // blkid(8): 2 where nothing is found.
        Err(ExecError::Failed { status, .. }) if status.ends_with(": 2") => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn parse(text: &str) -> Option<Content> {
    let value = |key: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.to_owned())
    };
    Some(Content {
        kind: value("TYPE")?,
        uuid: value("UUID"),
    })
}

/// What is on the devices of a host, by udev.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known(BTreeSet<(String, Content)>);

impl Known {
    /// Asks udev; `ours` are left out.
    ///
    /// # Errors
    /// [`CopyError::Exec`].
    pub fn ask(exec: &dyn Exec, ours: &BTreeSet<String>) -> Result<Self, CopyError> {
        let text = exec.run(&Command::new("udevadm", ["info", "--export-db"]))?;
        Ok(Self::parse(&text, ours))
    }

    /// Records are parted by empty lines; in each `N:` is the device's name, and `E:` a property (`udevadm(8)`).
    fn parse(text: &str, ours: &BTreeSet<String>) -> Self {
        let mut known = BTreeSet::new();
        for record in text.split("\n\n") {
            let named = |key: &str| record.lines().find_map(|line| line.strip_prefix(key));
            let Some(name) = named("N: ") else {
                continue;
            };
            let Some(kind) = named("E: ID_FS_TYPE=") else {
                continue;
            };
            if !ours.contains(name) {
                let content = Content {
                    kind: kind.to_owned(),
                    uuid: named("E: ID_FS_UUID=").map(str::to_owned),
                };
                known.insert((name.to_owned(), content));
            }
        }
        Self(known)
    }

    /// Whether another device holds the same as `content`.
    pub fn has_twin(&self, content: &Content) -> bool {
        content.uuid.is_some() && self.0.iter().any(|(_, other)| other == content)
    }

    /// Devices that hold something of this kind.
    pub fn with(&self, kind: &str) -> Vec<String> {
        let of_kind = self.0.iter().filter(|(_, content)| content.kind == kind);
        of_kind.map(|(name, _)| name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_tells_type_and_uuid() {
        let text = "DEVNAME=/dev/ubdb\nUUID=6cd3-1\nUUID_SUB=9\nLABEL=uml:0\nTYPE=linux_raid_member\nUSAGE=raid\n";
        let content = parse(text).unwrap();
        assert_eq!(content.kind, RAID_MEMBER);
        assert_eq!(content.uuid.as_deref(), Some("6cd3-1"));
        assert_eq!(parse("DEVNAME=/dev/sda\nPTTYPE=gpt\n"), None);
    }

    #[test]
    fn a_twin_is_another_device_with_the_same_on_it() {
        let text = "P: /devices/a\nN: nvme1n1\nE: ID_FS_UUID=6cd3-1\nE: ID_FS_TYPE=linux_raid_member\n\nP: /devices/b\nN: md0\nE: ID_FS_UUID=77\nE: ID_FS_TYPE=xfs\n";
        let content = |kind: &str, uuid: &str| Content {
            kind: kind.into(),
            uuid: Some(uuid.into()),
        };
        let known = Known::parse(text, &BTreeSet::new());
        assert!(known.has_twin(&content(RAID_MEMBER, "6cd3-1")));
        assert!(known.has_twin(&content("xfs", "77")));
        assert!(!known.has_twin(&content("ext4", "77")));
        assert_eq!(known.with(RAID_MEMBER), ["nvme1n1"]);
        let known = Known::parse(text, &["md0".to_owned()].into());
        assert!(!known.has_twin(&content("xfs", "77")));
    }
}
