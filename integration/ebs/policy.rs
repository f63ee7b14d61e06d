//! The shipped policy names what a backup, a restore and their giving back call, and nothing else.

use std::collections::BTreeSet;

use freezeframe::backup::run::Run;
use freezeframe::ebs::Call;
use strum::IntoEnumIterator;

use crate::backup::Scene;
use crate::copies;
use crate::safekeeping::{self, Locks};

fn shipped() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/ebs-policy.json");
    let policy: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    statements
        .iter()
        .flat_map(|statement| statement["Action"].as_array().unwrap())
        .map(|action| action.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_policy_is_what_is_used() {
    let known: BTreeSet<_> = Call::iter().map(Call::permission).collect();
    assert_eq!(known, shipped());
    // One volume more than is wanted, so that something is deleted.
    let mut scene = Scene::new(3, 2).await;
    safekeeping::guard(&mut scene);
    let locks = Locks::default();
    locks.answer_in(&scene.moto);
    let manifest = scene.backup().await.unwrap();
    let mut run = Run::begin(&scene.state(), "restore").unwrap();
    let plan = copies::planned(&scene, &manifest, run.id()).await;
    copies::bring_up(&scene, &mut run, &plan).await;
    assert!(run.finish(&scene.env.tools).await.unwrap().is_empty());
    let used: BTreeSet<_> = scene
        .moto
        .proxy
        .seen()
        .iter()
        .map(|request| format!("ec2:{}", request.action()))
        .collect();
    assert_eq!(used, shipped());
}

/// Whatever makes or removes something is bound to the instance, or to what bears our tag.
#[test]
fn nothing_is_changed_that_is_not_ours() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/ebs-policy.json");
    let policy: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for statement in policy["Statement"].as_array().unwrap() {
        let actions = statement["Action"].as_array().unwrap();
        let looks = actions
            .iter()
            .all(|action| action.as_str().unwrap().starts_with("ec2:Describe"));
        // What a lock forbids nobody of ours may undo.
        assert!(!actions.iter().any(|one| one == "ec2:UnlockSnapshot"));
        let bound = statement["Resource"].to_string().contains("INSTANCE")
            || statement["Condition"].is_object();
        assert!(
            looks || (bound && statement["Resource"] != "*"),
            "{statement}"
        );
    }
}
