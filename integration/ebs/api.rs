//! Each call against moto, as the program sends it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use freezeframe::ebs::order::{Order, compare, order, tags};
use freezeframe::ebs::{Call, Kind, RUN_TAG, Rehearsal, SharedEc2, State};
use freezeframe::error::Explain;
use freezeframe::ids::RunId;

use crate::http::{Reply, Request};
use crate::moto::{Moto, REGION};

const RUN: &str = "0badcafe";

pub fn run() -> RunId {
    RUN.parse().unwrap()
}

/// An order of the first `wanted` data volumes.
pub async fn ordered(moto: &Moto, ec2: &SharedEc2, wanted: usize) -> Order {
    let instance = ec2.instance(&moto.instance).await.unwrap();
    let attached = ec2.attached(&moto.instance).await.unwrap();
    let deployment = "65b9a1f0c3d2e4f5a6b7c8d9".parse().unwrap();
    let shard = "rs0".parse().unwrap();
    let set = "20260131_020000".parse().unwrap();
    let tags = tags(set, run(), &deployment, [&shard].into_iter());
    let wanted = moto.volumes[..wanted].iter().cloned().collect();
    order(&instance, &attached, wanted, tags)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_instance_and_its_volumes_are_what_ec2_says() {
    let moto = Moto::with_volumes(3).await;
    let ec2 = moto.access().open().await.unwrap();
    assert_eq!(ec2.place().region, REGION);
    let instance = ec2.instance(&moto.instance).await.unwrap();
    let attached = ec2.attached(&moto.instance).await.unwrap();
    let names: BTreeMap<_, _> = attached
        .iter()
        .map(|one| (one.attached_as.as_str(), one))
        .collect();
    assert_eq!(names.len(), 4);
    let root = names[instance.root_device.as_deref().unwrap()];
    assert!(!moto.volumes.contains(&root.id));
    assert_eq!(names["/dev/sdf"].id, moto.volumes[0]);
    assert_eq!(names["/dev/sdf"].bytes, 10 << 30);
    assert!(instance.zone.unwrap().starts_with(REGION));
    let nobody = "i-0000000000000000f".parse().unwrap();
    let error = ec2.instance(&nobody).await.unwrap_err();
    assert_eq!(
        (error.call, error.kind),
        (Call::DescribeInstances, Kind::NotFound)
    );
    assert!(ec2.attached(&nobody).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_makes_a_tagged_set_that_is_found_again_and_deleted() {
    let moto = Moto::with_volumes(3).await;
    let ec2 = moto.access().open().await.unwrap();
    let order = ordered(&moto, &ec2, 2).await;
    ec2.may(&Rehearsal::Create(&order)).await.unwrap();
    assert!(
        moto.snapshots().await.is_empty(),
        "a rehearsal makes nothing"
    );
    let made = ec2.create(&order).await.unwrap();
    let sent = moto.proxy.seen().into_iter().next_back().unwrap();
    for (parameter, value) in [
        ("InstanceSpecification.InstanceId", moto.instance.as_str()),
        ("InstanceSpecification.ExcludeBootVolume", "true"),
        (
            "InstanceSpecification.ExcludeDataVolumeId.1",
            moto.volumes[2].as_str(),
        ),
        ("TagSpecification.1.ResourceType", "snapshot"),
    ] {
        assert_eq!(
            sent.parameter(parameter).as_deref(),
            Some(value),
            "{}",
            sent.body
        );
    }
    // moto passes over what is excluded.
    let answer = compare(&order, made).unwrap();
    assert_eq!((answer.set.len(), answer.surplus.len()), (2, 1));
    let found = ec2.made_by(run()).await.unwrap();
    assert_eq!(found.len(), 3);
    assert!(
        found
            .iter()
            .all(|one| one.state == State::Completed && one.percent == 100)
    );
    assert!(
        ec2.made_by("00000001".parse().unwrap())
            .await
            .unwrap()
            .is_empty()
    );

    let ids: Vec<_> = answer.set.values().map(|one| one.id.clone()).collect();
    let unknown = "snap-0000000000000000f".parse().unwrap();
    let asked = [ids.clone(), vec![unknown]].concat();
    assert_eq!(ec2.snapshots(&asked).await.unwrap().len(), 2);
    ec2.tag(&ids[0], "freezeframe-place", "/data  xfs")
        .await
        .unwrap();
    let shown = ec2.snapshots(&ids[..1]).await.unwrap();
    assert_eq!(shown[0].tags["freezeframe-place"], "/data  xfs");
    assert_eq!(shown[0].tags[RUN_TAG], RUN);
    assert!(ec2.delete(&ids[0]).await.unwrap());
    assert!(!ec2.delete(&ids[0]).await.unwrap());
    let left: BTreeSet<_> = ec2
        .made_by(run())
        .await
        .unwrap()
        .into_iter()
        .map(|one| one.id)
        .collect();
    assert_eq!(left.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ec2_refuses_is_told_apart_and_says_what_to_do() {
    let moto = Moto::with_volumes(1).await;
    let ec2 = moto.access().open().await.unwrap();
    let order = ordered(&moto, &ec2, 1).await;
    for (status, code, kind, told) in [
        (
            403,
            "UnauthorizedOperation",
            Kind::Denied,
            "ec2:CreateSnapshots",
        ),
        (
            503,
            "RequestLimitExceeded",
            Kind::Throttled,
            "asks EC2 very often",
        ),
        (
            400,
            "SnapshotCreationPerVolumeRateExceeded",
            Kind::Limit,
            "15 seconds",
        ),
        (400, "ConcurrentSnapshotLimitExceeded", Kind::Limit, "quota"),
        (500, "InternalError", Kind::Unanswered, "can be reached"),
    ] {
        moto.proxy
            .now(move |request: &Request| match request.action().as_str() {
                "CreateSnapshots" => Reply::error(status, code),
                _ => Reply::Pass,
            });
        for error in [
            ec2.may(&Rehearsal::Create(&order)).await.unwrap_err(),
            ec2.create(&order).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.to_string().contains(code), "{error}");
            let hint = error.hint().unwrap();
            assert!(hint.contains(told), "{hint}");
        }
    }
    moto.proxy.now(|_| Reply::Silence);
    let began = std::time::Instant::now();
    let error = ec2.create(&order).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unanswered);
    assert!(began.elapsed() < Duration::from_secs(10));
    assert!(moto.snapshots().await.is_empty());
}
