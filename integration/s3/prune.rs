//! Pruning a bucket: by the rules, for the deployment of the member on this host, around what may not be removed.

use crate::fault_proxy::{Fault, FaultProxy, Request};
use crate::hosts::{Host, replica_set};
use crate::servers::{BUCKET, Moto};

fn list(host: &Host) -> Vec<(String, String)> {
    let sets = host.run("list --json").with(0);
    let sets: serde_json::Value = serde_json::from_str(&sets.stdout).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let sets = sets.as_array().unwrap().iter();
    sets.map(|set| (text(&set["id"]), text(&set["state"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_pruned_around_what_may_not_be_removed() {
    let set = replica_set().await;
    let moto = Moto::start().await;
    let proxy = FaultProxy::start(moto.address(), |_| Fault::None).await;
    let (url, settings) = (
        format!("s3://{BUCKET}/pruned"),
        moto.settings_by(&proxy.endpoint()),
    );
    let host = Host::new(&url, &settings, &set);
    for _ in 0..3 {
        host.run("backup").with(0);
    }
    // Thirty days are kept unless told otherwise.
    host.run("prune")
        .with(0)
        .saying("within 30 d of the newest");
    let rules = "[retention]\nkeep_last = 1\nkeep_within = \"1ms\"\n";
    host.configure(&url, &settings, &set, rules);
    let made = list(&host);
    host.run(&format!("hold {} --note why", made[1].0)).with(0);
    host.run("prune").with(3).saying("1 of 3 to go");
    host.run(&format!("hold {} --release", made[1].0)).with(0);
    host.run("prune").with(3).saying("2 of 3 to go");
    assert_eq!(list(&host), made);

    let first = made[0].0.clone();
    proxy.set_plan(move |request: &Request| {
        // The restore's mark may go: one that may not would keep the backup for a day.
        let kept = request.path.contains(&first) && !request.path.contains("/reading-");
        match kept && request.operation() == "DeleteObject" {
            true => Fault::Answer(403, "AccessDenied"),
            false => Fault::None,
        }
    });
    host.run("prune --yes")
        .with(5)
        .saying("object lock or a policy keeps it")
        .saying("removed 1 of 3");
    assert_eq!(list(&host), [made[0].clone(), made[2].clone()]);
    host.run(&format!("restore {} --to whole", made[0].0))
        .with(0);

    proxy.set_plan(|_| Fault::None);
    host.run("prune --yes").with(0).saying("removed 1 of 2");
    assert_eq!(list(&host), [made[2].clone()]);
    host.run("prune --yes")
        .with(0)
        .saying("nothing is to be removed");
    // The lease is free again.
    host.run("backup").with(0);
    let left = moto.store("pruned", &settings).list("").await.unwrap();
    let of_first = |key: &str| key.contains(&made[0].0) || key.contains(&made[1].0);
    assert!(!left.iter().any(|object| of_first(&object.key)), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_read_restores_without_a_mark() {
    let set = replica_set().await;
    let moto = Moto::start().await;
    let proxy = FaultProxy::start(moto.address(), |_| Fault::None).await;
    let host = Host::new(
        &format!("s3://{BUCKET}/marked"),
        &moto.settings_by(&proxy.endpoint()),
        &set,
    );
    host.run("backup").with(0);
    let marks = || {
        let seen = proxy.seen();
        let of_marks = seen
            .iter()
            .filter(|request| request.path.contains("/reading-"));
        let operations = of_marks.map(|request| request.operation().to_owned());
        operations.collect::<Vec<_>>()
    };
    host.run("restore latest --to restored").with(0);
    let marked = marks();
    let made = marked.iter().filter(|one| *one == "PutObject").count();
    let removed = marked.iter().filter(|one| *one == "DeleteObject").count();
    assert_eq!((made, removed), (1, 1), "{marked:?}");

    proxy.set_plan(|request: &Request| match request.operation() {
        "PutObject" | "DeleteObject" => Fault::Answer(403, "AccessDenied"),
        _ => Fault::None,
    });
    host.run("restore latest --to again")
        .with(0)
        .saying("nothing keeps the backup from being pruned while it is read");
    host.run("verify latest").with(0);
}
