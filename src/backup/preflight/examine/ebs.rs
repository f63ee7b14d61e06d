//! Which EBS volumes the members lie on, and whether EC2 would let us snapshot them.

mod rest;
mod tagged;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::super::Finding;
use super::super::storage::{OwnPath, Place};
use super::Aim;
use crate::backup::Environment;
use crate::backup::volumes::{PlannedFilesystem, PlannedSet};
use crate::blocking::off_thread;
use crate::catalog;
use crate::copies::probe;
use crate::ebs::devices::{Disk, disks, volume_of};
use crate::ebs::order::{self, MOST_EXCLUDED};
use crate::ebs::patience::Patience;
use crate::ebs::{EbsError, Instance, RUN_TAG, Rehearsal, SharedEc2, TAG, Volume};
use crate::error::Explain;
use crate::ids::{BackupId, DeploymentId, RunId};
use crate::manifest::snapshots::FilesystemRecord;
use crate::volume::{DataLayout, DevNumber, Filesystem, HostView};
use rest::{look_abroad, look_at_rest};
use tagged::look_at_tagged;

/// The subject of what concerns no volume.
const EBS: &str = "ebs";

/// The snapshots that will be taken of the volumes under `layouts`, and what there is to say of them.
pub(super) async fn look_at_ebs(
    env: &Environment,
    run: RunId,
    aim: Aim,
    layouts: &[DataLayout],
    own: &[OwnPath],
    deployment: Option<&DeploymentId>,
    host: &HostView,
) -> (Option<PlannedSet>, Vec<Finding>) {
    if aim != Aim::Backup {
        let todo = "set provider = \"auto\" in [window]";
        let detail = "EBS snapshots are backups; none are kept without one";
        return (None, vec![Finding::refused(EBS, "provider", detail, todo)]);
    }
    let mut findings = Vec::new();
    let filesystems = each_once(layouts);
    let (sys, wanted) = (host.sys.clone(), filesystems.clone());
    let exec = env.tools.exec.clone();
    let looking = move || {
        let below = |one: &Filesystem| {
            let subject = one.mount_point.display().to_string();
            // Without it a file system that shares its volumes cannot be told from the others there.
            let content = probe::content(exec.as_ref(), &one.device.name);
            let uuid = content.unwrap_or_else(|error| {
                tracing::warn!(%error, %subject, "the UUID of the file system is not recorded");
                None
            });
            (subject, disks(&sys, one), uuid.and_then(|one| one.uuid))
        };
        wanted.values().map(below).collect::<Vec<_>>()
    };
    let mut found: Vec<(BTreeSet<Disk>, Option<String>)> = Vec::new();
    for (subject, disks, uuid) in off_thread(looking).await {
        match disks {
            Ok(disks) => found.push((disks, uuid)),
            Err(error) => findings.push(refused(subject, "volume", &error)),
        }
    }
    let (ec2, instance, attached) = match ask(env, run).await {
        Ok(asked) => asked,
        Err(error) => {
            findings.push(refused(EBS.into(), "ec2", &error));
            return (None, findings);
        }
    };
    findings.push(Finding::ok(
        instance.id.to_string(),
        "ec2",
        format!(
            "this instance, in {}, with {} volumes",
            ec2.place(),
            attached.len()
        ),
    ));
    let mut planned = Vec::new();
    for ((device, filesystem), (disks, uuid)) in filesystems.iter().zip(&found) {
        match volumes(filesystem, disks, &attached) {
            Ok((record, line)) => {
                findings.push(line);
                let record = FilesystemRecord {
                    uuid: uuid.clone(),
                    ..record
                };
                planned.push(PlannedFilesystem {
                    device: *device,
                    record,
                });
            }
            Err(lines) => findings.extend(lines),
        }
    }
    findings.extend(store_among(own, &filesystems));
    let patience = Patience::new(env.config.ebs.retry_for.0, env.cancel.clone());
    // A store that cannot be listed is a finding of its own, and then nobody knows what is left over.
    let sets = catalog::list(env.store.as_ref()).await;
    let complete = planned.len() == filesystems.len();
    let set = PlannedSet {
        ec2,
        instance,
        attached,
        filesystems: planned,
    };
    if complete && !set.filesystems.is_empty() {
        findings.push(rehearse(&set, run, &patience).await);
    }
    let (abroad, line) = look_abroad(env, &set.ec2.place(), run, &patience).await;
    findings.extend(line);
    if let Ok(sets) = sets {
        let lines = look_at_rest(env, &set, abroad.as_ref(), run, &sets, &patience).await;
        findings.extend(lines);
        if let Some(deployment) = deployment {
            let all = std::iter::once(&set.ec2).chain(&abroad);
            findings.extend(look_at_tagged(env, all, &sets, deployment, &patience).await);
        }
    }
    (complete.then_some(set), findings)
}

fn each_once(layouts: &[DataLayout]) -> BTreeMap<DevNumber, Filesystem> {
    let all = layouts.iter().flat_map(|layout| &layout.filesystems);
    let mut once = BTreeMap::new();
    for filesystem in all {
        once.entry(filesystem.device.number)
            .or_insert_with(|| filesystem.clone());
    }
    once
}

async fn ask(
    env: &Environment,
    run: RunId,
) -> Result<(SharedEc2, Instance, Vec<Volume>), EbsError> {
    let access = &env.tools.ebs;
    let id = access.instance().await?;
    let ec2 = access.open().await?;
    let patience = Patience::new(access.settings().retry_for.0, env.cancel.clone());
    let instance = patience.call(|| ec2.instance(&id)).await?;
    let attached = patience.call(|| ec2.attached(&id)).await?;
    // Whether we may, which nobody wants to learn when the snapshots are made: a new run has none.
    patience.call(|| ec2.made_by(run)).await?;
    Ok((ec2, instance, attached))
}

/// The volumes of one file system; else every disk that is none.
fn volumes(
    filesystem: &Filesystem,
    disks: &BTreeSet<Disk>,
    attached: &[Volume],
) -> Result<(FilesystemRecord, Finding), Vec<Finding>> {
    let subject = filesystem.mount_point.display().to_string();
    let mut volumes = BTreeSet::new();
    let mut lines = Vec::new();
    for disk in disks {
        match volume_of(disk, attached) {
            Ok(volume) => drop(volumes.insert(volume)),
            Err(error) => lines.push(refused(subject.clone(), "volume", &error)),
        }
    }
    if !lines.is_empty() {
        return Err(lines);
    }
    let names: Vec<_> = volumes.iter().map(ToString::to_string).collect();
    let detail = format!("{} on {}", filesystem.kind, names.join(", "));
    let record = FilesystemRecord {
        mount_point: filesystem.mount_point.clone(),
        kind: filesystem.kind.clone(),
        uuid: None,
        stack: filesystem.draw(),
        volumes,
    };
    Ok((record, Finding::ok(subject, "volume", detail)))
}

/// A manifest that lies on the volumes themselves goes with them.
fn store_among(own: &[OwnPath], filesystems: &BTreeMap<DevNumber, Filesystem>) -> Vec<Finding> {
    let on_them = |own: &&OwnPath| {
        own.place == Place::Store && filesystems.contains_key(&own.filesystem.device.number)
    };
    let warn = |own: &OwnPath| {
        Finding::warning(
            own.path.display().to_string(),
            "own_paths",
            "the store lies on a volume that is backed up, and with it what tells of its snapshots",
            "use a store elsewhere, such as a bucket",
        )
    };
    own.iter().filter(on_them).map(warn).collect()
}

/// Whether EC2 would do it.
async fn rehearse(set: &PlannedSet, run: RunId, patience: &Patience) -> Finding {
    // What the set will be called is not known yet; EC2's policies may look at which tags there are.
    let id = BackupId::at(Timestamp::now());
    let tags = [(TAG, id.to_string()), (RUN_TAG, run.to_string())];
    let tags = tags.map(|(key, value)| (key.to_owned(), value)).into();
    let order = order::order(&set.instance, &set.attached, set.wanted(), tags);
    let subject = set.instance.id.to_string();
    if order.exclude.len() > MOST_EXCLUDED {
        return Finding::refused(
            subject,
            "limits",
            format!(
                "{} volumes are to be left out, one call can leave out {MOST_EXCLUDED}",
                order.exclude.len()
            ),
            "detach volumes that nobody needs",
        );
    }
    let rehearsal = Rehearsal::Create(&order);
    match patience.call(|| set.ec2.may(&rehearsal)).await {
        Ok(()) => Finding::ok(
            subject,
            "permission",
            format!(
                "one call would snapshot {} of {} volumes (DryRun)",
                order.wanted.len(),
                set.attached.len()
            ),
        ),
        Err(error) => refused(subject, "permission", &EbsError::from(error)),
    }
}

fn refused(subject: String, check: &'static str, error: &dyn Explain) -> Finding {
    let todo = error.hint().unwrap_or_else(|| "see the message".into());
    Finding::refused(subject, check, error.to_string(), todo)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::backup::preflight::Verdict;
    use crate::ebs::Kind;
    use crate::ebs::fake::FakeEc2;
    use crate::volume::fake::FakeHost;
    use crate::volume::resolve;

    #[tokio::test]
    async fn the_rehearsal_says_what_permission_lacks() {
        let set = |ec2: FakeEc2, count: usize| PlannedSet {
            instance: Instance {
                id: "i-0123456789abcdef0".parse().unwrap(),
                root_device: None,
                zone: None,
            },
            attached: ec2.volumes.clone(),
            filesystems: vec![PlannedFilesystem {
                device: DevNumber { major: 9, minor: 0 },
                record: FilesystemRecord {
                    mount_point: "/data".into(),
                    kind: "xfs".into(),
                    uuid: None,
                    stack: String::new(),
                    volumes: ec2.volumes[..count]
                        .iter()
                        .map(|one| one.id.clone())
                        .collect(),
                },
            }],
            ec2: Arc::new(ec2),
        };
        let run = RunId::random();
        let patience = Patience::new(Duration::ZERO, CancellationToken::new());
        let fine = rehearse(&set(FakeEc2::with_volumes(3), 2), run, &patience).await;
        assert_eq!(fine.verdict, Verdict::Ok);
        assert!(fine.detail.contains("2 of 3 volumes"), "{fine:?}");
        let ec2 = FakeEc2::with_volumes(1);
        ec2.refuses(Kind::Denied);
        let denied = rehearse(&set(ec2, 1), run, &patience).await;
        assert_eq!(denied.verdict, Verdict::Refused);
        assert!(denied.todo.unwrap().contains("ec2:CreateSnapshots"));
        let many = rehearse(&set(FakeEc2::with_volumes(42), 1), run, &patience).await;
        assert_eq!((many.verdict, many.check), (Verdict::Refused, "limits"));
    }

    #[test]
    fn every_volume_under_an_array_is_taken_and_one_unknown_refuses_all() {
        let host = FakeHost::default();
        let ec2 = FakeEc2::with_volumes(2);
        for (n, name) in ["nvme1n1", "nvme2n1", "sdz"].into_iter().enumerate() {
            host.disk(name, 259, n as u32, 1 << 21);
            let device = host.sys().join("block").join(name);
            std::fs::write(device.join("serial"), format!("vol{:08x}\n", n + 1)).unwrap();
        }
        host.md("md0", 9, 0, "raid0", &["nvme1n1", "nvme2n1"]);
        host.md("md1", 9, 1, "raid0", &["nvme1n1", "sdz"]);
        for (minor, name, whole) in [(0, "data", true), (1, "other", false)] {
            let dir = host.dir(name);
            host.mount_device(DevNumber { major: 9, minor }, "/", &dir, "xfs");
            let layout = resolve(&dir, &host.view()).unwrap();
            let once = each_once(&[layout.clone(), layout]);
            assert_eq!(once.len(), 1);
            let filesystem = once.values().next().unwrap();
            let disks = disks(&host.sys(), filesystem).unwrap();
            let found = volumes(filesystem, &disks, &ec2.volumes);
            match found {
                Ok((record, _)) => assert!(whole && record.volumes.len() == 2),
                Err(lines) => {
                    assert!(!whole && lines.len() == 1, "{lines:?}");
                    assert!(lines[0].detail.contains("vol-00000003"), "{lines:?}");
                }
            }
        }
    }
}
