//! The disks by which the kernel shows attached volumes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::devices::{self, Disk};
use super::ids::VolumeId;
use super::{Call, CallFailed, EbsError, Kind, Volume};
use crate::blocking::off_thread;
use crate::volume::sysfs;

/// How long an attached volume may take to be a disk. NVMe and Xen show it within seconds.
const SHOWN_WITHIN: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Those of `volumes` that the kernel shows, each with its disk. Disks that are none of them are passed over.
///
/// # Errors
/// What reading `sys` brings.
pub fn shown(sys: &Path, volumes: &[Volume]) -> io::Result<BTreeMap<VolumeId, Disk>> {
    let mut found = BTreeMap::new();
    for device in sysfs::entries(&sys.join("block"))? {
        let name = device.file_name().map(|name| name.to_string_lossy());
        let Some(name) = name else {
            continue;
        };
        let disk = devices::disk(sys, &name)?;
        // A volume of another size is one whose name fits by chance, or that is not all there yet.
        if let Some(disk) = disk
            && let Ok(id) = devices::volume_of(&disk, volumes)
            && volumes
                .iter()
                .any(|one| one.id == id && one.bytes == disk.bytes)
        {
            found.insert(id, disk);
        }
    }
    Ok(found)
}

/// Waits until the kernel shows all of `volumes`, which are attached.
///
/// # Errors
/// [`EbsError::NoDisk`]; [`Kind::Interrupted`] when `cancel` is cancelled.
pub async fn await_all(
    sys: &Path,
    volumes: &[Volume],
    cancel: &CancellationToken,
) -> Result<BTreeMap<VolumeId, Disk>, EbsError> {
    let began = Instant::now();
    loop {
        let (at, wanted) = (sys.to_owned(), volumes.to_vec());
        let found = match off_thread(move || shown(&at, &wanted)).await {
            Ok(found) => found,
            // One that vanishes while it is looked at.
            Err(error) => {
                tracing::debug!(%error, "cannot look at the disks now");
                BTreeMap::new()
            }
        };
        if found.len() == volumes.len() {
            return Ok(found);
        }
        if began.elapsed() >= SHOWN_WITHIN {
            let missing = volumes.iter().map(|one| one.id.clone());
            return Err(EbsError::NoDisk {
                volumes: missing.filter(|id| !found.contains_key(id)).collect(),
                waited: began.elapsed(),
            });
        }
        tokio::select! {
            biased;
            () = cancel.cancelled() => {
                return Err(CallFailed::new(Call::AttachVolume, Kind::Interrupted, "we were asked to end").into());
            }
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

/// The device node of a disk, which the kernel itself makes.
pub fn node(name: &str) -> PathBuf {
    sysfs::node(Path::new("/dev"), name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::fake::FakeHost;

    fn volume(n: u32, name: &str, sectors: u64) -> Volume {
        Volume {
            id: format!("vol-{n:08x}").parse().unwrap(),
            attached_as: name.into(),
            bytes: sectors * 512,
            volume_type: None,
            iops: None,
            throughput: None,
            encrypted: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_is_found_by_serial_or_by_its_xen_name_and_only_with_its_size() {
        let host = FakeHost::default();
        host.disk("nvme1n1", 259, 1, 2048);
        let serial = host.sys().join("block/nvme1n1/serial");
        std::fs::write(serial, "vol00000001   \n").unwrap();
        host.disk("xvdg", 202, 1, 4096);
        host.disk("sda", 8, 0, 2048);
        let wanted = [volume(1, "/dev/sdf", 2048), volume(2, "/dev/sdg", 4096)];
        let found = shown(&host.sys(), &wanted).unwrap();
        let names: Vec<_> = found.values().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["nvme1n1", "xvdg"]);
        let all = await_all(&host.sys(), &wanted, &CancellationToken::new()).await;
        assert_eq!(all.unwrap(), found);
        let other = [volume(1, "/dev/sdf", 2048), volume(2, "/dev/sdg", 8192)];
        let error = await_all(&host.sys(), &other, &CancellationToken::new()).await;
        let error = error.unwrap_err();
        assert!(
            matches!(&error, EbsError::NoDisk { volumes, .. } if *volumes == [other[1].id.clone()]),
            "{error}"
        );
        let cancelled = CancellationToken::new();
        cancelled.cancel();
        assert!(await_all(&host.sys(), &other, &cancelled).await.is_err());
    }
}
