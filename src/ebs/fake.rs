//! EC2 in memory, which can be told to be late, to lose answers and to refuse.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::copied::CopyOrder;
use super::ids::{AccountId, InstanceId, SnapshotId, VolumeId};
use super::made::{Attachment, MadeVolume, SNAPSHOT_TAG, VolumeOrder, VolumeState};
use super::order::Order;
use super::{
    Call, CallFailed, Ec2, Instance, Kind, Place, RUN_TAG, Rehearsal, Snapshot, State, Volume,
};
use crate::ids::RunId;
use crate::retention_lock::RetentionLock;

/// A fake EC2 of one instance.
#[derive(Debug)]
pub struct FakeEc2 {
    /// Attached volumes.
    pub volumes: Vec<Volume>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    calls: Vec<Call>,
    made: BTreeMap<SnapshotId, (Instant, Snapshot)>,
    /// How long what was made is not shown.
    shown_after: Duration,
    /// How long snapshots are pending.
    pending_for: Duration,
    /// What the answer to `create` is, though it does what it is asked.
    create_fails: Option<CallFailed>,
    /// Whether `create` does anything.
    create_refused: bool,
    delete_denied: bool,
    /// Volumes that were made, each with its token.
    copies: BTreeMap<VolumeId, (Instant, String, MadeVolume)>,
    /// How many of the next answers of a call are lost, though it does what it is asked.
    lost: Option<(Call, usize)>,
    /// How long volumes are in the state before: creating, attaching, detaching.
    volumes_take: Duration,
    attachable_after: Duration,
    /// When looks are not answered.
    silent: Option<(Instant, Duration)>,
    /// How many copies may be pending at a time; none: any number.
    copies_at_once: Option<usize>,
    locked: BTreeSet<SnapshotId>,
}

impl FakeEc2 {
    /// With volumes `vol-00000001` and on, each attached by a name of its own.
    pub fn with_volumes(count: u32) -> Self {
        let volume = |n: u32| Volume {
            id: format!("vol-{n:08x}").parse().unwrap(),
            attached_as: format!("/dev/sd{n}"),
            bytes: 1 << 30,
            volume_type: Some("gp3".into()),
            iops: None,
            throughput: None,
            encrypted: false,
        };
        Self {
            volumes: (1..=count).map(volume).collect(),
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    pub fn shows_after(&self, time: Duration) {
        self.inner().shown_after = time;
    }

    pub fn completes_after(&self, time: Duration) {
        self.inner().pending_for = time;
    }

    pub fn loses_answer(&self) {
        self.inner().create_fails = Some(CallFailed::new(
            Call::CreateSnapshots,
            Kind::Unanswered,
            "lost",
        ));
    }

    pub fn refuses(&self, kind: Kind) {
        let mut inner = self.inner();
        inner.create_fails = Some(CallFailed::new(Call::CreateSnapshots, kind, "no"));
        inner.create_refused = true;
    }

    /// Answers no look from `after` on, for `length`.
    pub fn is_silent(&self, after: Duration, length: Duration) {
        self.inner().silent = Some((Instant::now() + after, length));
    }

    pub fn denies_deletion(&self) {
        self.inner().delete_denied = true;
    }

    /// Makes one end in error, or go.
    pub fn change(&self, id: &SnapshotId, state: Option<State>) {
        let mut inner = self.inner();
        match (state, inner.made.get_mut(id)) {
            (Some(state), Some((_, snapshot))) => snapshot.state = state,
            _ => drop(inner.made.remove(id)),
        }
    }

    pub fn calls(&self, of: Call) -> usize {
        self.inner()
            .calls
            .iter()
            .filter(|call| **call == of)
            .count()
    }

    /// Loses the next `count` answers of `call`.
    pub fn loses(&self, call: Call, count: usize) {
        self.inner().lost = Some((call, count));
    }

    /// Refuses a copy as long as so many are pending.
    pub fn bears_copies(&self, at_once: usize) {
        self.inner().copies_at_once = Some(at_once);
    }

    /// How long volumes are creating.
    pub fn volumes_take(&self, time: Duration) {
        self.inner().volumes_take = time;
    }

    /// For how long after its making a volume is refused to be attached, though it is available.
    pub fn attachable_after(&self, time: Duration) {
        self.inner().attachable_after = time;
    }

    /// Volumes that are there, shown or not.
    pub fn copies(&self) -> Vec<MadeVolume> {
        let inner = self.inner();
        inner
            .copies
            .values()
            .map(|(_, _, one)| one.clone())
            .collect()
    }

    fn done<T>(&self, call: Call, value: T) -> Result<T, CallFailed> {
        let mut inner = self.inner();
        inner.calls.push(call);
        match &mut inner.lost {
            Some((lost, count)) if *lost == call && *count > 0 => {
                *count -= 1;
                Err(CallFailed::new(call, Kind::Unanswered, "lost"))
            }
            _ => Ok(value),
        }
    }

    fn shown_volumes(&self, wanted: impl Fn(&MadeVolume) -> bool) -> Vec<MadeVolume> {
        let inner = self.inner();
        let all = inner.copies.values();
        let shown = all.filter(|(made, _, one)| made.elapsed() >= inner.shown_after && wanted(one));
        shown
            .map(|(made, _, one)| MadeVolume {
                state: match (one.state, made.elapsed() >= inner.volumes_take) {
                    (VolumeState::Creating, true) => VolumeState::Available,
                    (state, _) => state,
                },
                ..one.clone()
            })
            .collect()
    }

    /// What is there, shown or not.
    pub fn left(&self) -> usize {
        self.inner().made.len()
    }

    fn shown(&self, wanted: impl Fn(&Snapshot) -> bool) -> Vec<Snapshot> {
        let inner = self.inner();
        let shown = inner
            .made
            .values()
            .filter(|(made, one)| made.elapsed() >= inner.shown_after && wanted(one));
        shown
            .map(|(made, one)| {
                let done = made.elapsed() >= inner.pending_for;
                Snapshot {
                    state: match (one.state, done) {
                        (State::Pending, true) => State::Completed,
                        (state, _) => state,
                    },
                    percent: match done {
                        true => 100,
                        false => 50,
                    },
                    ..one.clone()
                }
            })
            .collect()
    }
}

#[async_trait]
impl Ec2 for FakeEc2 {
    fn place(&self) -> Place {
        Place {
            region: "test-1".into(),
            endpoint: None,
        }
    }

    async fn instance(&self, id: &InstanceId) -> Result<Instance, CallFailed> {
        self.inner().calls.push(Call::DescribeInstances);
        Ok(Instance {
            id: id.clone(),
            root_device: Some("/dev/sda".into()),
            zone: Some("test-1a".into()),
        })
    }

    async fn attached(&self, _: &InstanceId) -> Result<Vec<Volume>, CallFailed> {
        self.inner().calls.push(Call::DescribeVolumes);
        Ok(self.volumes.clone())
    }

    async fn may(&self, _: &Rehearsal<'_>) -> Result<(), CallFailed> {
        match &self.inner().create_fails {
            Some(failed) if failed.kind == Kind::Denied => Err(failed.clone()),
            _ => Ok(()),
        }
    }

    async fn create(&self, order: &Order) -> Result<Vec<Snapshot>, CallFailed> {
        let mut inner = self.inner();
        inner.calls.push(Call::CreateSnapshots);
        let mut answer = Vec::new();
        for volume in &self.volumes {
            if inner.create_refused || order.exclude.contains(&volume.id) {
                continue;
            }
            let id: SnapshotId = format!("snap-{:08x}", inner.made.len() + 1)
                .parse()
                .unwrap();
            let snapshot = Snapshot {
                id: id.clone(),
                volume: volume.id.clone(),
                bytes: volume.bytes,
                state: State::Pending,
                reason: None,
                percent: 0,
                tags: order.tags.clone(),
            };
            answer.push(snapshot.clone());
            inner.made.insert(id, (Instant::now(), snapshot));
        }
        match &inner.create_fails {
            Some(failed) => Err(failed.clone()),
            None => Ok(answer),
        }
    }

    async fn snapshots(&self, ids: &[SnapshotId]) -> Result<Vec<Snapshot>, CallFailed> {
        self.inner().calls.push(Call::DescribeSnapshots);
        if let Some((from, length)) = self.inner().silent
            && (from..from + length).contains(&Instant::now())
        {
            let call = Call::DescribeSnapshots;
            return Err(CallFailed::new(call, Kind::Unanswered, "silent"));
        }
        Ok(self.shown(|one| ids.contains(&one.id)))
    }

    async fn made_by(&self, run: RunId) -> Result<Vec<Snapshot>, CallFailed> {
        self.inner().calls.push(Call::DescribeSnapshots);
        Ok(self.shown(|one| one.is_of(run)))
    }

    async fn tagged(&self) -> Result<Vec<Snapshot>, CallFailed> {
        let shown = self.shown(|one| one.tags.contains_key(RUN_TAG));
        self.done(Call::DescribeSnapshots, shown)
    }

    async fn tag(&self, snapshot: &SnapshotId, key: &str, value: &str) -> Result<(), CallFailed> {
        let mut inner = self.inner();
        inner.calls.push(Call::CreateTags);
        if let Some((_, one)) = inner.made.get_mut(snapshot) {
            one.tags.insert(key.into(), value.into());
        }
        Ok(())
    }

    async fn delete(&self, snapshot: &SnapshotId) -> Result<bool, CallFailed> {
        let mut inner = self.inner();
        inner.calls.push(Call::DeleteSnapshot);
        if inner.delete_denied {
            return Err(CallFailed::new(Call::DeleteSnapshot, Kind::Denied, "no"));
        }
        let hidden = inner.shown_after;
        match inner.made.get(snapshot) {
            Some((made, _)) if made.elapsed() >= hidden => {
                inner.made.remove(snapshot);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn copy(&self, order: &CopyOrder) -> Result<SnapshotId, CallFailed> {
        let call = Call::CopySnapshot;
        let id: SnapshotId = {
            let mut inner = self.inner();
            let took = inner.pending_for;
            let copies = inner
                .made
                .values()
                .filter(|(made, one)| one.tags.contains_key(SNAPSHOT_TAG) && made.elapsed() < took);
            if inner
                .copies_at_once
                .is_some_and(|most| copies.count() >= most)
            {
                return Err(CallFailed::new(call, Kind::Limit, "ResourceLimitExceeded"));
            }
            let id: SnapshotId = format!("snap-c{:07x}", inner.made.len()).parse().unwrap();
            let copy = Snapshot {
                id: id.clone(),
                // As EC2 does it.
                volume: "vol-ffffffff".parse().unwrap(),
                bytes: 1 << 30,
                state: State::Pending,
                reason: None,
                percent: 0,
                tags: order.tags.clone(),
            };
            inner.made.insert(id.clone(), (Instant::now(), copy));
            id
        };
        self.done(call, id)
    }

    async fn share(&self, _: &SnapshotId, _: &[AccountId]) -> Result<(), CallFailed> {
        self.done(Call::ModifySnapshotAttribute, ())
    }

    async fn lock(&self, snapshot: &SnapshotId, _: RetentionLock) -> Result<(), CallFailed> {
        self.inner().locked.insert(snapshot.clone());
        self.done(Call::LockSnapshot, ())
    }

    async fn locked(&self, ids: &[SnapshotId]) -> Result<BTreeSet<SnapshotId>, CallFailed> {
        let locked = self.inner().locked.clone();
        let locked = locked.into_iter().filter(|id| ids.contains(id)).collect();
        self.done(Call::DescribeLockedSnapshots, locked)
    }

    async fn create_volume(&self, order: &VolumeOrder) -> Result<MadeVolume, CallFailed> {
        let made = {
            let mut inner = self.inner();
            let again = inner
                .copies
                .values()
                .find(|(_, token, _)| *token == order.token);
            match again {
                Some((_, _, one)) => one.clone(),
                None => {
                    let id: VolumeId = format!("vol-{:08x}", 0x100 + inner.copies.len())
                        .parse()
                        .unwrap();
                    let one = MadeVolume {
                        id: id.clone(),
                        bytes: order.shape.bytes,
                        state: VolumeState::Creating,
                        attachments: Vec::new(),
                        tags: order.tags.clone(),
                    };
                    let entry = (Instant::now(), order.token.clone(), one.clone());
                    inner.copies.insert(id, entry);
                    one
                }
            }
        };
        self.done(Call::CreateVolume, made)
    }

    async fn volumes(&self, ids: &[VolumeId]) -> Result<Vec<MadeVolume>, CallFailed> {
        let shown = self.shown_volumes(|one| ids.contains(&one.id));
        self.done(Call::DescribeVolumes, shown)
    }

    async fn volumes_of(&self, run: RunId) -> Result<Vec<MadeVolume>, CallFailed> {
        let shown = self.shown_volumes(|one| one.is_of(run));
        self.done(Call::DescribeVolumes, shown)
    }

    async fn tagged_volumes(&self) -> Result<Vec<MadeVolume>, CallFailed> {
        let shown = self.shown_volumes(|one| one.tags.contains_key(RUN_TAG));
        self.done(Call::DescribeVolumes, shown)
    }

    async fn attach(
        &self,
        volume: &VolumeId,
        instance: &InstanceId,
        name: &str,
    ) -> Result<(), CallFailed> {
        let settles = self.inner().attachable_after;
        if let Some((made, _, one)) = self.inner().copies.get_mut(volume) {
            if !one.attachments.is_empty() || made.elapsed() < settles {
                let call = Call::AttachVolume;
                return Err(CallFailed::new(call, Kind::OtherState, "VolumeInUse"));
            }
            one.state = VolumeState::InUse;
            one.attachments.push(Attachment {
                instance: instance.clone(),
                name: name.to_owned(),
                complete: true,
            });
        }
        self.done(Call::AttachVolume, ())
    }

    async fn detach(&self, volume: &VolumeId, _: &InstanceId) -> Result<bool, CallFailed> {
        let mut was = false;
        if let Some((_, _, one)) = self.inner().copies.get_mut(volume) {
            was = !one.attachments.is_empty();
            one.attachments.clear();
            one.state = VolumeState::Available;
        }
        self.done(Call::DetachVolume, was)
    }

    async fn delete_volume(&self, volume: &VolumeId) -> Result<bool, CallFailed> {
        if self.inner().delete_denied {
            return Err(CallFailed::new(Call::DeleteVolume, Kind::Denied, "no"));
        }
        let attached = self
            .inner()
            .copies
            .get(volume)
            .is_some_and(|(_, _, one)| !one.attachments.is_empty());
        if attached {
            let call = Call::DeleteVolume;
            return Err(CallFailed::new(call, Kind::OtherState, "VolumeInUse"));
        }
        let was = self.inner().copies.remove(volume).is_some();
        self.done(Call::DeleteVolume, was)
    }
}
