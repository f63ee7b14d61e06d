//! What the one call asks for, and whether what came is that.

use std::collections::{BTreeMap, BTreeSet};

use super::ids::{InstanceId, SnapshotId, VolumeId};
use super::{EbsError, Instance, RUN_TAG, Snapshot, State, TAG, Volume};
use crate::ids::{BackupId, DeploymentId, RunId, ShardName};

/// Data volumes that one call can leave out (EC2 API reference, `InstanceSpecification`).
pub const MOST_EXCLUDED: usize = 40;
/// A tag's value has at most so many characters (EC2 user guide, "Tag restrictions").
const LONGEST_VALUE: usize = 256;
/// Tag with the deployment's id.
pub const DEPLOYMENT_TAG: &str = "freezeframe-deployment";
/// Tag with the replica sets whose members are in it.
const MEMBERS_TAG: &str = "freezeframe-members";
/// Tag that consoles show.
const NAME_TAG: &str = "Name";

/// What one `CreateSnapshots` is to picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Of which instance.
    pub instance: InstanceId,
    /// The volumes that the backup needs.
    pub wanted: BTreeSet<VolumeId>,
    /// Whether the boot volume is left out.
    pub exclude_boot: bool,
    /// The other volumes that are left out.
    pub exclude: Vec<VolumeId>,
    /// Tags for every snapshot.
    pub tags: BTreeMap<String, String>,
}

/// Leaves out everything attached to `instance` that is not `wanted`.
pub fn order(
    instance: &Instance,
    attached: &[Volume],
    wanted: BTreeSet<VolumeId>,
    tags: BTreeMap<String, String>,
) -> Order {
    let is_boot = |volume: &Volume| Some(&volume.attached_as) == instance.root_device.as_ref();
    let boots_from_wanted = attached
        .iter()
        .any(|volume| is_boot(volume) && wanted.contains(&volume.id));
    // EC2 refuses the boot volume among the data volumes.
    let exclude = attached
        .iter()
        .filter(|volume| !is_boot(volume) && !wanted.contains(&volume.id))
        .map(|volume| volume.id.clone())
        .collect();
    Order {
        instance: instance.id.clone(),
        wanted,
        exclude_boot: !boots_from_wanted,
        exclude,
        tags,
    }
}

/// The tags of a set: which backup, which run, of what.
pub fn tags<'a>(
    set: BackupId,
    run: RunId,
    deployment: &DeploymentId,
    members: impl Iterator<Item = &'a ShardName>,
) -> BTreeMap<String, String> {
    let members: Vec<_> = members.map(ShardName::as_str).collect();
    let members = members.join(" ");
    [
        (TAG, set.to_string()),
        (RUN_TAG, run.to_string()),
        (DEPLOYMENT_TAG, deployment.to_string()),
        (MEMBERS_TAG, members.clone()),
        (NAME_TAG, format!("{set} {members}")),
    ]
    .map(|(key, value)| (key.to_owned(), tag_value(&value)))
    .into()
}

/// `text` as a tag's value: cut to what EC2 takes.
pub fn tag_value(text: &str) -> String {
    text.chars().take(LONGEST_VALUE).collect()
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The snapshot of each wanted volume.
    pub set: BTreeMap<VolumeId, Snapshot>,
    /// Snapshots that nobody asked for, as of a volume that was attached meanwhile.
    pub surplus: Vec<SnapshotId>,
}

/// Whether `made` is what `order` asked for.
///
/// # Errors
/// [`EbsError::Partial`] where a wanted volume has no snapshot: all of `made` is to go.
pub fn compare(order: &Order, made: Vec<Snapshot>) -> Result<Answer, EbsError> {
    let mut set = BTreeMap::new();
    let mut surplus = Vec::new();
    for snapshot in made {
        if !order.wanted.contains(&snapshot.volume) || set.contains_key(&snapshot.volume) {
            surplus.push(snapshot.id);
        } else {
            set.insert(snapshot.volume.clone(), snapshot);
        }
    }
    let missing: Vec<_> = order
        .wanted
        .iter()
        .filter(|volume| !set.contains_key(*volume))
        .cloned()
        .collect();
    match missing.is_empty() {
        true => Ok(Answer { set, surplus }),
        false => Err(EbsError::Partial { volumes: missing }),
    }
}

/// How far a set is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// All of it is there.
    Completed,
    /// Some of it is on its way; bytes done of all, by what EC2 says of each.
    Pending {
        /// Bytes there.
        done: u64,
        /// Bytes in all.
        of: u64,
    },
    /// EC2 does not show some: not yet, or not any more.
    Unseen(Vec<SnapshotId>),
}

/// A snapshot that is to become complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// The snapshot.
    pub id: SnapshotId,
    /// The volume that it pictures.
    pub of: VolumeId,
    /// Whether it is a copy of one in another region: EC2 says of those that they are of some volume that there is not.
    pub is_copy: bool,
}

impl Awaited {
    /// The snapshots of a set.
    pub fn all(set: &BTreeMap<VolumeId, Snapshot>) -> Vec<Self> {
        let one = |(of, snapshot): (&VolumeId, &Snapshot)| Self {
            id: snapshot.id.clone(),
            of: of.clone(),
            is_copy: false,
        };
        set.iter().map(one).collect()
    }
}

/// What `seen` tells of the snapshots of `set`.
///
/// # Errors
/// [`EbsError::Failed`] for the first that will never be complete.
pub fn condition(set: &[Awaited], seen: &[Snapshot]) -> Result<Condition, EbsError> {
    let mut unseen = Vec::new();
    let (mut done, mut of) = (0u64, 0u64);
    let mut pending = false;
    for wanted in set {
        let Some(now) = seen.iter().find(|one| one.id == wanted.id) else {
            unseen.push(wanted.id.clone());
            continue;
        };
        let of_another = !wanted.is_copy && now.volume != wanted.of;
        if now.state == State::Error || of_another {
            return Err(EbsError::Failed {
                snapshot: now.id.clone(),
                volume: wanted.of.clone(),
                reason: now.reason.clone(),
            });
        }
        let share = match now.state {
            State::Completed => 100,
            _ => u64::from(now.percent.min(100)),
        };
        pending |= now.state != State::Completed;
        of = of.saturating_add(now.bytes);
        done = done.saturating_add((now.bytes / 100).saturating_mul(share));
    }
    Ok(match (unseen.is_empty(), pending) {
        (false, _) => Condition::Unseen(unseen),
        (true, true) => Condition::Pending { done, of },
        (true, false) => Condition::Completed,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn volume(n: usize, attached_as: &str) -> Volume {
        Volume {
            id: volume_id(n),
            attached_as: attached_as.into(),
            bytes: 1 << 30,
            volume_type: None,
            iops: None,
            throughput: None,
            encrypted: false,
        }
    }

    fn volume_id(n: usize) -> VolumeId {
        format!("vol-{n:08x}").parse().unwrap()
    }

    fn snapshot(n: usize, volume: usize, state: State, percent: u8) -> Snapshot {
        Snapshot {
            id: format!("snap-{n:08x}").parse().unwrap(),
            volume: volume_id(volume),
            bytes: 1 << 30,
            state,
            reason: None,
            percent,
            tags: BTreeMap::new(),
        }
    }

    fn instance(root: Option<&str>) -> Instance {
        Instance {
            id: "i-0123456789abcdef0".parse().unwrap(),
            root_device: root.map(Into::into),
            zone: None,
        }
    }

    #[test]
    fn the_boot_volume_is_never_among_the_data_volumes() {
        let attached = [
            volume(0, "/dev/xvda"),
            volume(1, "/dev/sdf"),
            volume(2, "/dev/sdg"),
        ];
        let ordered = |wanted: &[usize], root| {
            let wanted = wanted.iter().copied().map(volume_id).collect();
            let order = order(&instance(root), &attached, wanted, BTreeMap::new());
            (order.exclude_boot, order.exclude)
        };
        let root = Some("/dev/xvda");
        assert_eq!(ordered(&[1], root), (true, vec![volume_id(2)]));
        assert_eq!(
            ordered(&[0], root),
            (false, vec![volume_id(1), volume_id(2)])
        );
        assert_eq!(ordered(&[0, 1, 2], root), (false, vec![]));
        assert_eq!(
            ordered(&[1], None),
            (true, vec![volume_id(0), volume_id(2)])
        );
    }

    #[test]
    fn a_set_without_all_that_is_wanted_is_none() {
        let wanted = [1, 2].map(volume_id).into();
        let order = order(&instance(None), &[], wanted, BTreeMap::new());
        let made = |volumes: &[usize]| {
            let made = volumes.iter().enumerate();
            made.map(|(n, volume)| snapshot(n, *volume, State::Pending, 0))
                .collect()
        };
        let whole = compare(&order, made(&[2, 1])).unwrap();
        assert_eq!((whole.set.len(), whole.surplus.len()), (2, 0));
        let more = compare(&order, made(&[2, 3, 1, 1])).unwrap();
        assert_eq!((more.set.len(), more.surplus.len()), (2, 2));
        let error = compare(&order, made(&[2, 3])).unwrap_err();
        assert!(matches!(error, EbsError::Partial { volumes } if volumes == [volume_id(1)]));
    }

    #[test]
    fn a_set_is_complete_when_all_of_it_is() {
        let set: BTreeMap<_, _> = [1, 2]
            .map(|n| (volume_id(n), snapshot(n, n, State::Pending, 0)))
            .into();
        let set = Awaited::all(&set);
        let now = |one: State, percent, other: State| {
            condition(
                &set,
                &[snapshot(1, 1, one, percent), snapshot(2, 2, other, 0)],
            )
        };
        assert_eq!(
            now(State::Completed, 100, State::Completed).unwrap(),
            Condition::Completed
        );
        let half = now(State::Pending, 50, State::Completed).unwrap();
        let Condition::Pending { done, of } = half else {
            panic!("{half:?}")
        };
        assert_eq!((done * 100).div_ceil(of), 75);
        assert!(matches!(
            now(State::Other, 0, State::Completed).unwrap(),
            Condition::Pending { .. }
        ));
        assert!(matches!(
            now(State::Error, 0, State::Completed),
            Err(EbsError::Failed { .. })
        ));
        assert!(matches!(
            condition(&set, &[snapshot(1, 1, State::Completed, 100)]).unwrap(),
            Condition::Unseen(unseen) if unseen.len() == 1
        ));
        // Of a copy EC2 names another volume, and of a snapshot none but its own.
        let other = [
            snapshot(1, 9, State::Completed, 100),
            snapshot(2, 2, State::Completed, 100),
        ];
        assert!(matches!(
            condition(&set, &other),
            Err(EbsError::Failed { .. })
        ));
        let copies: Vec<_> = set
            .iter()
            .map(|one| Awaited {
                is_copy: true,
                ..one.clone()
            })
            .collect();
        assert_eq!(condition(&copies, &other).unwrap(), Condition::Completed);
    }

    proptest! {
        /// Every attached volume is wanted, left out by name, or the boot volume.
        #[test]
        fn nothing_attached_is_forgotten(names in proptest::collection::btree_set("/dev/sd[a-h]", 0..8), wanted in proptest::collection::btree_set(0usize..8, 0..8), root in proptest::option::of("/dev/sd[a-h]")) {
            let attached: Vec<_> = names.iter().enumerate().map(|(n, name)| volume(n, name)).collect();
            let wanted: BTreeSet<_> = wanted.into_iter().map(volume_id).collect();
            let order = order(&instance(root.as_deref()), &attached, wanted.clone(), BTreeMap::new());
            for one in &attached {
                let boot = Some(one.attached_as.as_str()) == root.as_deref();
                let taken = if boot { !order.exclude_boot } else { !order.exclude.contains(&one.id) };
                prop_assert_eq!(taken, wanted.contains(&one.id));
                prop_assert!(!(boot && order.exclude.contains(&one.id)));
            }
        }

        #[test]
        fn tags_are_short_enough(shards in proptest::collection::vec("\\PC{1,60}", 1..20)) {
            let shards: Vec<ShardName> = shards.iter().filter_map(|shard| shard.parse().ok()).collect();
            let deployment = "65b9a1f0c3d2e4f5a6b7c8d9".parse().unwrap();
            let tags = tags("20260131_020000".parse().unwrap(), "0badcafe".parse().unwrap(), &deployment, shards.iter());
            prop_assert!(tags.values().all(|value| value.chars().count() <= LONGEST_VALUE));
            prop_assert_eq!(tags.get(RUN_TAG).map(String::as_str), Some("0badcafe"));
        }
    }
}
