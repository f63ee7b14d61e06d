//! Where the members' data lies, how it will be read, and what that takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::storage::{self, OwnPath, Place};
use super::super::subvolumes;
use super::super::{Finding, Others, acts, clones, hold};
use super::data::{data_size, locate_data, look_at_files};
use super::ebs::look_at_ebs;
use super::members::Member;
use super::pace::Pace;
use super::room::{look_at_room, look_at_spool};
use super::{Aim, Examination};
use crate::backup::Environment;
use crate::backup::contents::{Subject, View};
use crate::backup::plan::{PicturePlan, Plan, PlannedMember, PlannedPicture, locking};
use crate::backup::window::Locking;
use crate::blocking::off_thread;
use crate::config::{LockChoice, LvmWindow, ProviderChoice};
use crate::error::Explain;
use crate::human;
use crate::ids::RunId;
use crate::manifest::Deployment;
use crate::mongo::HostProcess;
use crate::snapshot::btrfs::Btrfs;
use crate::snapshot::lvm::Lvm;
use crate::snapshot::lvm::array;
use crate::snapshot::lvm::plan::{Sizing, expected_duration, plan};
use crate::snapshot::reflink::Reflink;
use crate::snapshot::{btrfs, rate, reflink};
use crate::volume::sysfs::SYS;
use crate::volume::{DataLayout, DevNumber, Filesystem, HostView};

/// How long the write rate of the origins is watched.
const RATE_SAMPLE: Duration = Duration::from_secs(2);

pub(super) async fn look_at_volumes(
    env: &Environment,
    run: RunId,
    aim: Aim,
    others: &Others,
    members: Vec<Member>,
    deployment: Option<Deployment>,
    mut findings: Vec<Finding>,
) -> Examination {
    let host = HostView::real();
    let hold = env.config.window.provider == ProviderChoice::Hold;
    let ebs = env.config.window.provider == ProviderChoice::Ebs;
    let mut planned_members = Vec::new();
    let pace = Pace::learn(env, aim).await;
    // Holes take no time.
    let mut work_bytes = 0u64;
    // How long all of it took before; none as soon as one member was never archived.
    let mut known = Some(Duration::ZERO);
    for Member { mongod, facts, .. } in members {
        let Some(shard) = facts.hello.set.clone() else {
            continue;
        };
        let name = format!("{shard} at {}", mongod.addr());
        let layout = match locate_data(&facts, &host) {
            Ok(layout) => layout,
            Err(finding) => {
                findings.push(Finding {
                    subject: name,
                    ..finding
                });
                continue;
            }
        };
        // Where its data is on this host, so is the process that has it open. Without it the end of mongod is seen a little later.
        let (pid, db_path) = (facts.pid, layout.db_path.clone());
        let process = off_thread(move || HostProcess::of_mongod(pid, &db_path)).await;
        let process = process.unwrap_or_else(|error| {
            tracing::warn!(%error, subject = %name, "its process is not watched");
            None
        });
        findings.extend(look_at_files(&name, process.as_ref()).await);
        let mut subject = Subject::new(shard, mongod.addr().clone(), &facts, layout);
        let source = subject.source(&View::Live, env.config.archive.diagnostic_data);
        match off_thread(move || data_size(source)).await {
            Ok(estimate) => {
                let work = estimate.data_size.min(estimate.allocated);
                work_bytes = work_bytes.saturating_add(work);
                let one = pace.known(&subject.shard, &subject.address, estimate.data_size);
                known = known.zip(one).map(|(sum, one)| sum.saturating_add(one));
                subject.data_size = estimate.data_size;
                planned_members.push(PlannedMember {
                    mongod: mongod.on_this_host(process),
                    facts,
                    subject,
                });
            }
            Err(error) => {
                let todo = error.hint().unwrap_or_else(|| "see the message".into());
                findings.push(Finding::refused(name, "data", error.to_string(), todo));
            }
        }
    }
    let data_bytes = planned_members
        .iter()
        .map(|member| member.subject.data_size)
        .sum();
    let expected = expected_duration(work_bytes, pace.to_expect());
    let largest = planned_members
        .iter()
        .map(|member| member.subject.data_size)
        .max();
    // Of snapshots only the manifest goes to the store.
    if aim == Aim::Backup && !ebs {
        findings.extend(look_at_spool(env, largest.unwrap_or(0)));
        let members = planned_members.iter();
        let shards = members.map(|member| member.subject.shard.clone()).collect();
        findings.extend(look_at_room(env, pace.stored(&shards), data_bytes));
    }
    let own = own_paths(env, &host, &mut findings);
    let layouts: Vec<DataLayout> = planned_members
        .iter()
        .map(|member| member.subject.layout.clone())
        .collect();
    findings.extend(storage::inside_data(
        &layouts.iter().collect::<Vec<_>>(),
        &own,
    ));
    let (live_for, window) = match aim {
        Aim::Backup => (expected, env.config.lvm.window),
        // What LVM knows nothing of is gone with a reboot, cannot be merged, and must not be touched by its commands for as long as it is kept.
        Aim::Keep(length) => (length, LvmWindow::Lvm),
    };
    let (picture, snapshot_bytes) = if hold {
        let limit = env.config.max_window();
        findings.extend(hold::judge(expected, known, limit));
        (Some(PicturePlan::Hold), 0)
    } else if ebs {
        let of = deployment.as_ref().map(|one| &one.id);
        let (planned, lines) = look_at_ebs(env, run, aim, &layouts, &own, of, &host).await;
        findings.extend(lines);
        let planned = planned.map(|planned| PicturePlan::Volumes(Box::new(planned)));
        (planned, 0)
    } else {
        let (planned, lines) =
            look_at_pictures(env, run, others, layouts.clone(), live_for, own, window).await;
        findings.extend(lines);
        if let Aim::Keep(_) = aim {
            findings.extend(planned.iter().flatten().filter_map(acts::judge_kept));
        }
        let bytes = planned
            .iter()
            .flatten()
            .flat_map(PlannedPicture::volumes)
            .map(|one| one.snapshot.space.from_group())
            .sum();
        (planned.map(PicturePlan::Snapshots), bytes)
    };
    let plan = match (picture, deployment) {
        (Some(picture), Some(deployment)) if !planned_members.is_empty() => {
            let locking = locking(env.config.window.lock, &picture);
            findings.extend(lock_finding(env.config.window.lock, locking));
            Some(Plan {
                deployment,
                members: planned_members,
                picture,
                locking,
                expected,
            })
        }
        _ => None,
    };
    Examination {
        findings,
        data_bytes,
        expected_seconds: expected.as_secs(),
        snapshot_bytes,
        layouts,
        plan,
    }
}

/// What became of the wish to do without the lock.
fn lock_finding(choice: LockChoice, locking: Locking) -> Option<Finding> {
    let detail = match (choice, locking) {
        (LockChoice::Always, _) => return None,
        (LockChoice::Auto, Locking::Unlocked) => {
            "none is needed: one snapshot holds data and journal, and the restore recovers from it as from a power cut"
        }
        (LockChoice::Auto, Locking::Locked) => {
            "is taken: more than one snapshot is needed, and only the lock makes them of one moment"
        }
    };
    Some(Finding::ok("lock", "lock", detail))
}

fn own_paths(env: &Environment, host: &HostView, findings: &mut Vec<Finding>) -> Vec<OwnPath> {
    let mut paths: Vec<(Place, PathBuf)> = vec![
        (Place::State, env.config.host.state_dir.clone()),
        (Place::Runtime, env.config.host.runtime_dir.clone()),
        (Place::Program, env.tools.program.clone()),
        (Place::Root, "/".into()),
    ];
    paths.extend(
        env.store
            .local_path()
            .map(|path| (Place::Store, path.to_owned())),
    );
    if Path::new("/var/log").exists() {
        paths.push((Place::Log, "/var/log".into()));
    }
    let mut own = Vec::new();
    for (place, path) in paths {
        match OwnPath::locate(place, path, host) {
            Ok(located) => own.push(located),
            Err(error) => findings.push(Finding::warning(
                place.to_string(),
                "own_paths",
                error.to_string(),
                "see that it does not lie on a volume that is snapshotted",
            )),
        }
    }
    own
}

/// Who takes the picture of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taker {
    Lvm,
    Btrfs,
    Reflink,
}

/// By `choice`, and else by what the file system is; none where the provider named takes no pictures of it.
fn taker(choice: ProviderChoice, filesystem: &Filesystem) -> Option<Taker> {
    let by_itself = if btrfs::is_ours(filesystem) {
        Taker::Btrfs
    } else if reflink::is_ours(filesystem) {
        Taker::Reflink
    } else {
        Taker::Lvm
    };
    match choice {
        ProviderChoice::Auto | ProviderChoice::Hold | ProviderChoice::Ebs => Some(by_itself),
        ProviderChoice::Reflink => reflink::is_fit(filesystem).then_some(Taker::Reflink),
        ProviderChoice::Btrfs => (by_itself == Taker::Btrfs).then_some(Taker::Btrfs),
        // What LVM says of what lies on no volume is worth hearing.
        ProviderChoice::Lvm => (by_itself != Taker::Btrfs).then_some(Taker::Lvm),
    }
}

/// `layouts` with those file systems only that `taker` takes pictures of.
fn of_taker(layouts: &[DataLayout], choice: ProviderChoice, of: Taker) -> Vec<DataLayout> {
    let only = |layout: &DataLayout| DataLayout {
        filesystems: layout
            .filesystems
            .iter()
            .filter(|filesystem| taker(choice, filesystem) == Some(of))
            .cloned()
            .collect(),
        ..layout.clone()
    };
    layouts.iter().map(only).collect()
}

/// How each file system's picture will be taken.
async fn look_at_pictures(
    env: &Environment,
    run: RunId,
    others: &Others,
    layouts: Vec<DataLayout>,
    expected: Duration,
    own: Vec<OwnPath>,
    window: LvmWindow,
) -> (Option<Vec<PlannedPicture>>, Vec<Finding>) {
    let choice = env.config.window.provider;
    let mut findings = not_chosen(choice, &layouts);
    let on_btrfs = of_taker(&layouts, choice, Taker::Btrfs);
    let refs: Vec<&DataLayout> = on_btrfs.iter().collect();
    findings.extend(subvolumes::judge(&refs, &own, others));
    let subvolumes = btrfs::plan(&refs, run).ok();
    if subvolumes.iter().any(|planned| !planned.is_empty()) {
        let btrfs = Btrfs::new(env.tools.exec.clone());
        if let Err(error) = off_thread(move || btrfs.is_installed()).await {
            let todo = error
                .hint()
                .unwrap_or_else(|| "install btrfs-progs and run as root".into());
            findings.push(Finding::refused("btrfs", "btrfs", error.to_string(), todo));
        }
    }
    let (clones, lines) = look_at_clones(env, run, others, &layouts, &own).await;
    findings.extend(lines);
    let on_lvm = of_taker(&layouts, choice, Taker::Lvm);
    let volumes = if on_lvm.iter().all(|layout| layout.filesystems.is_empty())
        && !layouts.is_empty()
    {
        Some(Vec::new())
    } else {
        let (planned, lines) = look_at_lvm(env, run, others, on_lvm, expected, own, window).await;
        findings.extend(lines);
        planned
    };
    let planned = subvolumes.zip(volumes).zip(clones);
    let planned = planned.map(|((subvolumes, volumes), clones)| {
        let subvolumes = subvolumes.into_iter().map(PlannedPicture::Subvolume);
        let clones = clones.into_iter().map(PlannedPicture::Clones);
        volumes
            .into_iter()
            .chain(subvolumes)
            .chain(clones)
            .collect::<Vec<_>>()
    });
    let pictures = planned.iter().flatten();
    findings.extend(pictures.filter_map(|picture| acts::judge(window, picture)));
    (planned, findings)
}

async fn look_at_clones(
    env: &Environment,
    run: RunId,
    others: &Others,
    layouts: &[DataLayout],
    own: &[OwnPath],
) -> (Option<Vec<reflink::Planned>>, Vec<Finding>) {
    let choice = env.config.window.provider;
    let wanted = move |filesystem: &Filesystem| taker(choice, filesystem) == Some(Taker::Reflink);
    let all = layouts.iter().flat_map(|layout| &layout.filesystems);
    let filesystems: Vec<_> = all
        .filter(|filesystem| wanted(filesystem))
        .cloned()
        .collect();
    let refs: Vec<&DataLayout> = layouts.iter().collect();
    let planned = reflink::plan(&refs, wanted, run);
    let (own, others) = (own.to_vec(), others.clone());
    let reflink = Reflink::new(env.tools.exec.clone());
    let judging = move || clones::judge(&filesystems, &reflink, &own, &others);
    (planned.ok(), off_thread(judging).await)
}

/// Refuses file systems that the provider named in the configuration takes no pictures of.
fn not_chosen(choice: ProviderChoice, layouts: &[DataLayout]) -> Vec<Finding> {
    let filesystems = layouts.iter().flat_map(|layout| &layout.filesystems);
    let others = filesystems.filter(|filesystem| taker(choice, filesystem).is_none());
    let refuse = |filesystem: &Filesystem| {
        Finding::refused(
            filesystem.mount_point.display().to_string(),
            "provider",
            format!(
                "it is {}, and the provider named takes no pictures of that",
                filesystem.kind
            ),
            "set provider = \"auto\" in [window]",
        )
    };
    others.map(refuse).collect()
}

async fn look_at_lvm(
    env: &Environment,
    run: RunId,
    others: &Others,
    layouts: Vec<DataLayout>,
    expected: Duration,
    own: Vec<OwnPath>,
    window: LvmWindow,
) -> (Option<Vec<PlannedPicture>>, Vec<Finding>) {
    let (exec, lvm) = (env.tools.exec.clone(), &env.config.lvm);
    let (setting, floor) = (lvm.snapshot_size, lvm.snapshot_floor.0);
    let others = others.clone();
    let looking = move || {
        let mut facts = match Lvm::new(exec).survey() {
            Ok(facts) => facts,
            Err(error) => {
                let todo = error.hint().unwrap_or_else(|| {
                    "install lvm2 and run as root, or set provider = \"hold\" in [window]".into()
                });
                return (
                    None,
                    vec![Finding::refused("lvm", "lvm", error.to_string(), todo)],
                );
            }
        };
        let whole: Vec<&DataLayout> = layouts.iter().collect();
        facts.arrays = array::survey(Path::new(SYS), &whole, &facts);
        let members = layouts
            .iter()
            .map(|layout| array::expand(layout, &facts.arrays));
        let members: Vec<_> = members.collect();
        let layouts: Vec<&DataLayout> = members.iter().collect();
        let (rates, slow) = write_rates(&layouts);
        let sizing = Sizing {
            rates,
            expected,
            setting,
            floor,
            window,
            together: array::members(&facts.arrays),
        };
        let planned = plan(&facts, &layouts, run, &sizing);
        let mut findings = storage::judge(&layouts, &facts, planned.as_deref(), &own, &others);
        findings.extend(slow);
        let Ok(planned) = planned else {
            return (None, findings);
        };
        match array::gather(planned, &whole, &facts.arrays, run) {
            Ok((volumes, arrays)) => {
                let volumes = volumes.into_iter().map(PlannedPicture::Lvm);
                let arrays = arrays.into_iter().map(PlannedPicture::Array);
                (Some(volumes.chain(arrays).collect()), findings)
            }
            Err(error) => {
                findings.push(storage::refused("lvm".into(), "array", &error));
                (None, findings)
            }
        }
    };
    off_thread(looking).await
}

/// What is written to each origin now. Unknown is a warning: the floor still holds.
fn write_rates(layouts: &[&DataLayout]) -> (BTreeMap<DevNumber, u64>, Option<Finding>) {
    let mut devices: Vec<_> = layouts
        .iter()
        .flat_map(|layout| &layout.filesystems)
        .filter(|filesystem| !btrfs::is_ours(filesystem))
        .map(|filesystem| filesystem.device.number)
        .collect();
    devices.sort_unstable();
    devices.dedup();
    match rate::measure(Path::new(SYS), &devices, RATE_SAMPLE) {
        Ok(rates) => {
            let total = human::size(rates.values().sum());
            let seen = (!rates.is_empty())
                .then(|| Finding::ok("lvm", "write_rate", format!("{total}/s are written now")));
            (rates, seen)
        }
        Err(error) => {
            let todo = "set [lvm] snapshot_size by hand if the members write much";
            (
                BTreeMap::new(),
                Some(Finding::warning(
                    "lvm",
                    "write_rate",
                    error.to_string(),
                    todo,
                )),
            )
        }
    }
}
