//! What `check` asks EC2 besides the call under the lock: what comes after the snapshots, and what is left over.

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use freezeframe::backup::preflight::Verdict;
use freezeframe::backup::preflight::examine::{Aim, examine};
use freezeframe::config::ProviderChoice;
use freezeframe::ids::RunId;

use crate::backup::Scene;
use crate::http::Reply;
use crate::moto::{ABROAD, REGION};
use crate::safekeeping::{Locks, guard, ids};

/// No disk of a host that tests run on is a volume of moto's, so there is a refusal besides.
#[tokio::test(flavor = "multi_thread")]
async fn the_check_rehearses_what_comes_after_the_snapshots_and_finds_what_is_left_over() {
    let mut scene = Scene::new(1, 1).await;
    guard(&mut scene);
    scene.env.config.window.provider = ProviderChoice::Ebs;
    scene.env.config.mongodb.members = vec![scene.member().clone()];
    let locks = Locks::default();
    locks.answer_in(&scene.moto);
    let examined = async |scene: &Scene, check: &str| -> Vec<(Verdict, String)> {
        let examined = examine(&scene.env, RunId::random(), Aim::Backup)
            .await
            .unwrap();
        let found = examined.findings.into_iter();
        let found = found.filter(|one| one.check == check);
        found.map(|one| (one.verdict, one.sentence())).collect()
    };
    let told = examined(&scene, "permission").await;
    assert!(
        told.iter()
            .any(|(verdict, told)| *verdict == Verdict::Ok
                && told.contains("after the first backup")),
        "{told:?}"
    );
    scene.backup().await.unwrap();
    let before = (locks.held(), ids(&scene.moto.copies().await));
    let told = examined(&scene, "permission").await;
    let all = "CreateVolume, CopySnapshot, ModifySnapshotAttribute, LockSnapshot would be allowed";
    assert!(told.iter().any(|(_, told)| told.contains(all)), "{told:?}");
    assert!(
        told.iter().all(|(verdict, _)| *verdict == Verdict::Ok),
        "{told:?}"
    );
    assert_eq!(
        (locks.held(), ids(&scene.moto.copies().await)),
        before,
        "it was done"
    );
    for action in [
        "CreateVolume",
        "CopySnapshot",
        "ModifySnapshotAttribute",
        "LockSnapshot",
    ] {
        locks.answer_besides(&scene.moto, move |request| {
            (request.action() == action).then(|| Reply::error(403, "UnauthorizedOperation"))
        });
        let told = examined(&scene, "permission").await;
        let denied: Vec<_> = told
            .iter()
            .filter(|(verdict, _)| *verdict == Verdict::Warning)
            .collect();
        assert_eq!(denied.len(), 1, "{told:?}");
        assert!(denied[0].1.contains(&format!("ec2:{action}")), "{told:?}");
    }
    locks.answer_besides(&scene.moto, |request| {
        let there = request.action() == "DescribeSnapshots" && request.is_for(ABROAD);
        there.then(|| Reply::error(403, "UnauthorizedOperation"))
    });
    let told = examined(&scene, "copies").await;
    assert!(told.len() == 1 && told[0].0 == Verdict::Warning, "{told:?}");
    locks.answer_in(&scene.moto);

    // Where the snapshots are is no place for copies.
    scene.configure(|ebs| ebs.copy_to = Some(REGION.parse().unwrap()));
    let told = examined(&scene, "copies").await;
    assert!(told.len() == 1 && told[0].0 == Verdict::Refused, "{told:?}");
    scene.configure(|ebs| ebs.copy_to = Some(ABROAD.parse().unwrap()));

    // Nothing is left over but what is of no set.
    assert!(
        examined(&scene, "leftovers")
            .await
            .iter()
            .all(|(verdict, _)| *verdict == Verdict::Ok)
    );
    let deployment = scene.deployment().await;
    let mut left = Vec::new();
    for (client, volume) in [
        (&scene.moto.client, scene.moto.volumes[0].to_string()),
        (&scene.moto.abroad, volume_in(&scene.moto.abroad).await),
    ] {
        for deployment in [deployment.as_str(), "65b9a1f0c3d2e4f5a6b7c8ff"] {
            let tags = [
                ("freezeframe", "mongo_backup-20200101_000000"),
                ("freezeframe-run", "00000001"),
                ("freezeframe-deployment", deployment),
            ];
            let tags = tags
                .iter()
                .fold(TagSpecification::builder(), |tags, (key, value)| {
                    tags.tags(Tag::builder().key(*key).value(*value).build())
                });
            let made = client
                .create_snapshot()
                .volume_id(&volume)
                .tag_specifications(tags.resource_type(ResourceType::Snapshot).build())
                .send()
                .await
                .unwrap();
            left.push(made.snapshot_id().unwrap().to_owned());
        }
    }
    let told = examined(&scene, "leftovers").await;
    for (number, id) in left.iter().enumerate() {
        let named = told.iter().any(|(verdict, told)| {
            *verdict == Verdict::Warning
                && told.contains(id.as_str())
                && told.contains("delete-snapshot")
        });
        // Every other one is of somebody else's deployment.
        assert_eq!(named, number % 2 == 0, "{id}: {told:?}");
    }
}

async fn volume_in(client: &aws_sdk_ec2::Client) -> String {
    let making = client
        .create_volume()
        .availability_zone(format!("{ABROAD}a"))
        .size(1);
    making.send().await.unwrap().volume_id().unwrap().to_owned()
}
