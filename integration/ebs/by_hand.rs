//! What the documents tell to do by hand in EC2, done by AWS' own program.

use crate::backup::Scene;
use crate::moto::REGION;
use crate::safekeeping::{Locks, guard, ids};
use crate::support::by_hand::{aws, documented};

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_found_and_unlocked_by_hand() {
    let mut scene = Scene::new(2, 2).await;
    guard(&mut scene);
    let locks = Locks::default();
    locks.answer_in(&scene.moto);
    let old = scene.backup().await.unwrap();
    scene.backup().await.unwrap();
    let server = scene.moto.proxy.address();
    let id = old.id.to_string();
    let id = id.trim_start_matches("mongo_backup-");
    let find = documented("aws ec2 describe-snapshots").replace("20260131_020000", id);
    let found = aws(&find, server, REGION);
    let mut found: Vec<_> = found.split_whitespace().collect();
    found.sort_unstable();
    let taken = old.snapshots.taken().ids();
    let mut ours: Vec<_> = taken.iter().map(|id| id.as_str()).collect();
    ours.sort_unstable();
    assert_eq!(found, ours);

    let all = ids(&scene.moto.snapshots().await).len();
    assert_eq!(all, 4);
    let unlock = documented("aws ec2 unlock-snapshot").replace("SNAPSHOT", found[0]);
    assert!(locks.held().contains(found[0]));
    aws(&unlock, server, REGION);
    assert!(!locks.held().contains(found[0]));
}
