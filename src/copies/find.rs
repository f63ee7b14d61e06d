//! Which file system of the copies is which of the manifest.

use std::collections::BTreeSet;

use super::CopyError;
use crate::ebs::ids::VolumeId;
use crate::manifest::snapshots::FilesystemRecord;

/// File systems that are mounted by this program; of others the manifest does not tell enough.
const MOUNTED: [&str; 4] = ["xfs", "ext4", "ext3", "ext2"];

/// A file system on the copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The kernel's name of the device it is on.
    pub device: String,
    /// "xfs", "ext4", ...
    pub kind: String,
    /// Its UUID.
    pub uuid: Option<String>,
    /// The volumes whose copies it lies on.
    pub volumes: BTreeSet<VolumeId>,
    /// Whether another device of the host holds the same.
    pub twin: bool,
}

/// Sees to it that this program can mount `wanted`.
///
/// # Errors
/// [`CopyError::OtherKind`].
pub fn refuse_other_kinds(wanted: &FilesystemRecord) -> Result<(), CopyError> {
    match MOUNTED.contains(&wanted.kind.as_str()) {
        true => Ok(()),
        false => Err(CopyError::OtherKind {
            mount_point: wanted.mount_point.clone(),
            kind: wanted.kind.clone(),
        }),
    }
}

/// The one that `wanted` tells of.
///
/// # Errors
/// [`CopyError::NoFilesystem`], [`CopyError::Ambiguous`].
pub fn find<'a>(
    wanted: &FilesystemRecord,
    candidates: &'a [Candidate],
) -> Result<&'a Candidate, CopyError> {
    let fits = |one: &&Candidate| {
        let lies = match &wanted.uuid {
            // An array without its failed member lies on less than it did.
            Some(uuid) => one.uuid.as_ref() == Some(uuid) && one.volumes.is_subset(&wanted.volumes),
            None => one.volumes == wanted.volumes,
        };
        lies && one.kind == wanted.kind
    };
    let found: Vec<_> = candidates.iter().filter(fits).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(CopyError::NoFilesystem {
            mount_point: wanted.mount_point.clone(),
            kind: wanted.kind.clone(),
            found: candidates
                .iter()
                .map(|one| format!("{} on {}", one.kind, one.device))
                .collect(),
        }),
        several => Err(CopyError::Ambiguous {
            mount_point: wanted.mount_point.clone(),
            devices: several.iter().map(|one| one.device.clone()).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes(numbers: &[u32]) -> BTreeSet<VolumeId> {
        let id = |n: &u32| format!("vol-{n:08x}").parse().unwrap();
        numbers.iter().map(id).collect()
    }

    fn candidate(device: &str, kind: &str, uuid: &str, on: &[u32]) -> Candidate {
        Candidate {
            device: device.into(),
            kind: kind.into(),
            uuid: Some(uuid.into()),
            volumes: volumes(on),
            twin: false,
        }
    }

    fn wanted(kind: &str, uuid: Option<&str>, on: &[u32]) -> FilesystemRecord {
        FilesystemRecord {
            mount_point: "/data".into(),
            kind: kind.into(),
            uuid: uuid.map(str::to_owned),
            stack: String::new(),
            volumes: volumes(on),
        }
    }

    #[test]
    fn a_file_system_is_found_by_what_it_lies_on_and_by_its_uuid() {
        let all = [
            candidate("dm-0", "ext4", "a", &[1, 2]),
            candidate("dm-1", "ext4", "b", &[1, 2]),
            candidate("dm-2", "xfs", "c", &[1, 2]),
            candidate("ubdc", "xfs", "d", &[3]),
        ];
        let device = |wanted: &FilesystemRecord| find(wanted, &all).map(|one| one.device.as_str());
        assert_eq!(device(&wanted("ext4", Some("b"), &[1, 2])).unwrap(), "dm-1");
        assert_eq!(device(&wanted("xfs", None, &[1, 2])).unwrap(), "dm-2");
        // One member of a mirror had failed.
        assert_eq!(device(&wanted("xfs", Some("d"), &[3, 4])).unwrap(), "ubdc");
        assert!(matches!(
            device(&wanted("ext4", None, &[1, 2])),
            Err(CopyError::Ambiguous { .. })
        ));
        for lacks in [
            wanted("ext4", Some("z"), &[1, 2]),
            wanted("xfs", None, &[3, 4]),
            wanted("xfs", Some("a"), &[1, 2]),
            wanted("xfs", Some("d"), &[1]),
        ] {
            assert!(matches!(
                device(&lacks),
                Err(CopyError::NoFilesystem { .. })
            ));
        }
        assert!(refuse_other_kinds(&wanted("xfs", None, &[1])).is_ok());
        assert!(refuse_other_kinds(&wanted("btrfs", None, &[1])).is_err());
    }
}
