//! The way back of a set of EBS snapshots: copies of the volumes, mounted, settled, and the user's from then on.
//!
//! The design, with what ends each failure, is `doc/ebs.md`, "Restore of a set".

mod error;
pub mod links;
pub mod mounts;
mod put_away;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::settle::{self, SettleReport, Settling};
use super::{MongodBinary, RestoreError, owner, start_arguments, target};
use crate::backup::Environment;
use crate::backup::boundary::{Step, within};
use crate::backup::run::{Run, Unreleased};
use crate::blocking::off_thread;
use crate::copies::plan::plan;
use crate::copies::{self, Copied, Copies, find, interrupted, quiet, warm};
use crate::ebs::ids::VolumeId;
use crate::ebs::names::Wish;
use crate::ids::{BackupId, MemberAddr, OpTime, RunId, ShardName};
use crate::manifest::snapshots::{SnapshotManifest, SnapshotMember};
use crate::progress::Meter;
use crate::volume::HostView;
pub use error::SetError;
use links::{Placed, lead};
use mounts::{Claim, Mounted, Mounts, mount_all, needed};
use put_away::{aws_options, put_away};

/// What the run journal says it does.
pub const RESTORE: &str = "restore";

/// What is to be restored of a set, and how.
#[derive(Debug)]
pub struct Order<'a> {
    /// The directory below which everything is mounted.
    pub to: &'a Path,
    /// The replica set; none takes all that there are.
    pub shard: Option<&'a ShardName>,
    /// Settle for this member.
    pub member: Option<&'a MemberAddr>,
    /// The replica set's new name.
    pub replset: Option<&'a ShardName>,
    /// The mongod that settles.
    pub mongod: Option<&'a Path>,
    /// What the volumes are to be like.
    pub wish: &'a Wish,
    /// Whether they are read through.
    pub warm: bool,
}

/// What was restored of a set. Its serialized form is what `restore --json` prints.
#[derive(Debug, Serialize)]
pub struct RestoredSet {
    /// The backup.
    pub id: BackupId,
    /// The run, which the volumes are tagged with.
    pub run: RunId,
    /// The directory.
    pub to: PathBuf,
    /// Each member.
    pub members: Vec<RestoredMember>,
    /// The volumes that were made.
    pub volumes: Vec<Copied>,
    /// What is mounted where.
    pub mounts: Vec<Mounted>,
    /// Whether every block was read, so that none comes out of S3 any more.
    pub warm: bool,
    /// udev's rule, where it stays: the host has another file system of the same UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udev_rule: Option<PathBuf>,
    /// The commands that put all of it away again, once mongod has ended.
    pub put_away: Vec<String>,
    /// How long each step took, in seconds.
    pub steps: Vec<TimedStep>,
    /// Seconds in all.
    pub seconds: f64,
}

/// How long a step of the restore took.
#[derive(Debug, Clone, Serialize)]
pub struct TimedStep {
    /// Which: "create", "attach", "assemble", "mount", "warm", "settle".
    pub step: &'static str,
    /// Its length.
    pub seconds: f64,
}

/// A member on the copies.
#[derive(Debug, Serialize)]
pub struct RestoredMember {
    /// The replica set.
    pub shard: ShardName,
    /// Its dbPath.
    pub db_path: PathBuf,
    /// The moment that the data is of.
    pub optime: OpTime,
    /// Whether that is known exactly, as with [`super::Restored::optime_exact`].
    pub optime_exact: bool,
    /// Symlinks of dbPath that were led to the copy.
    pub links: Vec<PathBuf>,
    /// What settling did; none without `--member`.
    pub settled: Option<SettleReport>,
    /// How mongod is started on it: every argument but the program's name.
    pub start: Vec<String>,
}

/// Restores a set: on success everything that was made is the user's, in every failure it is given back.
///
/// # Errors
/// [`SetError`]; nothing is held then, unless it is [`SetError::StillHeld`].
pub async fn restore_set(
    manifest: &SnapshotManifest,
    order: &Order<'_>,
    env: &Environment,
) -> Result<RestoredSet, SetError> {
    let mut run = Run::begin(&env.config.host.state_dir, RESTORE)?;
    // Nobody else's before all that is given back is gone from it.
    let mut claim = None;
    let made = make(&mut run, &mut claim, manifest, order, env).await;
    let finished = run.finish(&env.tools).await;
    drop(claim);
    match (made, finished) {
        (Ok(made), Ok(unreleased)) if unreleased.is_empty() => Ok(made),
        (made, Ok(unreleased)) => Err(settle_outcome(made, unreleased)),
        (made, Err(source)) => Err(SetError::JournalStays {
            made: made.err().map(Box::new),
            source,
        }),
    }
}

fn settle_outcome<T>(made: Result<T, SetError>, unreleased: Vec<Unreleased>) -> SetError {
    match made {
        Err(error) if unreleased.is_empty() => error,
        made => SetError::StillHeld {
            made: made.err().map(Box::new),
            unreleased,
        },
    }
}

/// The members that are meant. One is settled, so `--member` wants to know which.
fn choose<'a>(
    manifest: &'a SnapshotManifest,
    order: &Order<'_>,
) -> Result<Vec<&'a SnapshotMember>, RestoreError> {
    let members = &manifest.members;
    let there_are = || members.iter().map(|one| one.shard.to_string()).collect();
    match (order.shard, order.member, members.as_slice()) {
        (Some(shard), _, all) => {
            let found = all.iter().find(|one| one.shard == *shard);
            let found = found.ok_or_else(|| RestoreError::NoSuchShard {
                shard: shard.clone(),
                there_are: there_are(),
            })?;
            Ok(vec![found])
        }
        (None, Some(_), [_, _, ..]) => Err(RestoreError::WhichShard {
            there_are: there_are(),
        }),
        (None, _, all) => Ok(all.iter().collect()),
    }
}

async fn make(
    run: &mut Run,
    claim: &mut Option<Claim>,
    manifest: &SnapshotManifest,
    order: &Order<'_>,
    env: &Environment,
) -> Result<RestoredSet, SetError> {
    let begun = Instant::now();
    // Everything that can refuse does so before the first volume is made.
    let members = choose(manifest, order)?;
    let binary = match (order.member, members.as_slice()) {
        (Some(_), [member, ..]) => {
            settle::refuse_role(&member.state())?;
            let binary = MongodBinary::find(order.mongod).await?;
            binary.fit_for(&member.server_version)?;
            Some(binary)
        }
        _ => None,
    };
    let wanted = needed(&manifest.snapshots.filesystems, &members);
    for (_, filesystem) in &wanted {
        find::refuse_other_kinds(filesystem)?;
    }
    target::check_empty(order.to)?;
    let volumes: BTreeSet<VolumeId> = wanted
        .iter()
        .flat_map(|(_, filesystem)| filesystem.volumes.clone())
        .collect();
    let plan = plan(manifest, &volumes, order.wish, run.id(), env).await?;

    *claim = Some(mounts::claim(run, order.to)?);
    let copies = copies::bring_up(run, &plan, env).await?;
    let mut steps: Vec<TimedStep> = copies
        .took
        .iter()
        .map(|(step, seconds)| TimedStep {
            step,
            seconds: *seconds,
        })
        .collect();
    let mut since = Instant::now();
    let mut timed = |step| {
        let seconds = std::mem::replace(&mut since, Instant::now()).elapsed();
        steps.push(TimedStep {
            step,
            seconds: seconds.as_secs_f64(),
        });
    };
    let mounts = mount_all(run, order.to, &wanted, &copies.filesystems).await?;
    let mut restored = Vec::new();
    for member in &members {
        restored.push(place(member, order, &mounts).await?);
    }
    interrupted(env)?;
    timed("mount");
    if order.warm {
        warm_up(&copies, env).await?;
        timed("warm");
    }
    if let (Some(address), Some(binary), [member, ..], [placed, ..]) = (
        order.member,
        &binary,
        members.as_slice(),
        restored.as_mut_slice(),
    ) {
        let places = places(member, &mounts);
        let settling = Settling {
            db_path: &placed.db_path,
            record: member.state(),
            member: address,
            replset: order.replset,
            binary,
        };
        let report = settle_places(settling, &places, &env.cancel);
        let report = within(Step::Settle, report).await?;
        placed.optime = report.optime;
        placed.optime_exact = true;
        placed.settled = Some(report);
        timed("settle");
    }
    interrupted(env)?;
    let udev_rule = give_to_udev(run, &copies, &mounts, env).await?;
    let aws = aws_options(&plan.ec2.place(), env.config.ebs.profile.as_deref());
    let both = (copies.volumes.as_slice(), &mounts);
    let (sys, rule) = (HostView::real().sys, udev_rule.as_deref());
    // Advice that cannot be had spoils no restore.
    let put_away = put_away(&sys, order.to, both, &aws, rule).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot tell how it is put away again");
        Vec::new()
    });
    // From here on it is the user's, all of it or nothing.
    run.settle_where(|_| true)?;
    Ok(RestoredSet {
        id: manifest.id,
        run: run.id(),
        to: order.to.to_owned(),
        members: restored,
        volumes: copies.volumes,
        mounts: mounts.into_values().collect(),
        warm: order.warm,
        udev_rule,
        put_away,
        steps,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

/// Every directory of `member` on the copies, dbPath first.
fn places(member: &SnapshotMember, mounts: &Mounts) -> Vec<Placed> {
    let placed = |place: &crate::manifest::snapshots::PlaceRecord| {
        let mounted = mounts.get(&place.filesystem)?;
        Some(Placed {
            at: PathBuf::from(&place.at),
            path: mounts::below(&mounted.point, &place.inside),
        })
    };
    member.places.iter().filter_map(placed).collect()
}

/// Sees to it that dbPath of `member` on the copies leads nowhere else.
async fn place(
    member: &SnapshotMember,
    order: &Order<'_>,
    mounts: &Mounts,
) -> Result<RestoredMember, SetError> {
    let places = places(member, mounts);
    let mut places = places.into_iter();
    let home = places.next().map(|home| home.path).unwrap_or_default();
    let grafts: Vec<_> = places.collect();
    let (to, at) = (order.to.to_owned(), home.clone());
    let leading = off_thread(move || {
        let root = std::fs::canonicalize(&to).map_err(RestoreError::io("look up", to))?;
        Ok::<_, SetError>(lead(&root, &links::inside(&root, &at)?, &grafts)?)
    });
    let links = within(Step::Links, leading).await?;
    let settled = order.member.map(|member| (member, order.replset));
    Ok(RestoredMember {
        shard: member.shard.clone(),
        start: start_arguments(&home, settled, &member.state()),
        db_path: home,
        optime: member.optime,
        optime_exact: member.locked,
        links,
        settled: None,
    })
}

/// Settles a member whose directories lie in several places: what mongod made in any of them goes to the owner of the data.
async fn settle_places(
    settling: Settling<'_>,
    places: &[Placed],
    cancel: &CancellationToken,
) -> Result<SettleReport, RestoreError> {
    let owner = owner::Owner::of_data(settling.db_path)?;
    let report = settle::settle(settling, cancel).await?;
    for place in places {
        owner::give(&place.path, owner)?;
    }
    Ok(report)
}

async fn warm_up(copies: &Copies, env: &Environment) -> Result<(), SetError> {
    let disks: Vec<_> = copies
        .volumes
        .iter()
        .map(|one| (one.disk.clone(), one.volume.bytes))
        .collect();
    let meter = Meter::expecting(disks.iter().map(|(_, bytes)| bytes).sum());
    let phase = "read volumes through";
    env.progress.begin(phase, &meter);
    let (counted, cancel) = (meter.clone(), env.cancel.clone());
    let reading = off_thread(move || warm::read_all(&disks, &counted, &cancel));
    let read = within(Step::Warm, reading).await;
    env.progress.end(phase);
    read.map_err(|(path, source)| SetError::Warm { path, source })
}

/// Has udev look at the copies as at any other disk, unless that would give them names that others have. Tells where the rule lies that stays.
async fn give_to_udev(
    run: &mut Run,
    copies: &Copies,
    mounts: &Mounts,
    env: &Environment,
) -> Result<Option<PathBuf>, SetError> {
    // Also of those that are not mounted: a logical volume beside ours.
    let twin = copies.filesystems.iter().any(|one| one.twin)
        || mounts.values().any(|one| one.twin.is_some());
    if twin {
        return Ok(Some(copies.rule_path.clone()));
    }
    let (exec, path) = (env.tools.exec.clone(), copies.rule_path.clone());
    let disks = copies.volumes.iter().map(|one| one.disk.clone()).collect();
    let looking = move || {
        quiet::remove(exec.as_ref(), &path)?;
        quiet::look_again(exec.as_ref(), &HostView::real().sys, &disks)
    };
    off_thread(looking).await?;
    run.settled(&copies.rule)?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::snapshots::sample::snapshots;

    fn order<'a>(
        wish: &'a Wish,
        shard: Option<&'a ShardName>,
        member: Option<&'a MemberAddr>,
    ) -> Order<'a> {
        Order {
            to: Path::new("/to"),
            shard,
            member,
            replset: None,
            mongod: None,
            wish,
            warm: false,
        }
    }

    #[test]
    fn all_members_come_up_and_one_is_settled() {
        let set = snapshots();
        let wish = Wish::default();
        let (rs1, other) = ("rs1".parse().unwrap(), "rs9".parse().unwrap());
        let member = "127.0.0.1:27100".parse().unwrap();
        let chosen =
            |shard, member| choose(&set, &order(&wish, shard, member)).map(|chosen| chosen.len());
        assert_eq!(chosen(None, None).unwrap(), 2);
        assert_eq!(chosen(Some(&rs1), Some(&member)).unwrap(), 1);
        assert!(matches!(
            chosen(None, Some(&member)),
            Err(RestoreError::WhichShard { .. })
        ));
        assert!(matches!(
            chosen(Some(&other), None),
            Err(RestoreError::NoSuchShard { .. })
        ));
    }

    #[test]
    fn the_places_of_a_member_lie_on_its_mounts() {
        let set = snapshots();
        let mounted = |point: &str| Mounted {
            point: point.into(),
            device: "/dev/md90".into(),
            kind: "xfs".into(),
            twin: None,
        };
        let mounts = [(0, mounted("/to/data")), (1, mounted("/to/journal"))].into();
        let placed = places(&set.members[1], &mounts);
        let paths: Vec<_> = placed.iter().map(|one| one.path.as_path()).collect();
        assert_eq!(
            paths,
            [Path::new("/to/data/db1"), Path::new("/to/journal/journal1")]
        );
    }
}
