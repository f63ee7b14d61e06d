//! EC2 in memory, which can be told to be late, to lose answers and to refuse.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::ids::{InstanceId, SnapshotId};
use super::order::Order;
use super::{Call, CallFailed, Ec2, Instance, Kind, Place, Snapshot, State, Volume};
use crate::ids::RunId;

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
    /// When looks are not answered.
    silent: Option<(Instant, Duration)>,
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

    async fn may_create(&self, _: &Order) -> Result<(), CallFailed> {
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
}
