//! The shipped policy names what the store needs, and nothing else.

use std::collections::BTreeSet;

use crate::fault_proxy::{Fault, FaultProxy, Request};
use crate::faults::everything;
use crate::hosts::{Host, replica_set};
use crate::servers::{BUCKET, Moto, S3sFs};

/// The permission that S3 asks for an operation, by its documentation.
fn permission(operation: &str) -> &'static str {
    match operation {
        "ListObjectsV2" => "s3:ListBucket",
        "ListMultipartUploads" => "s3:ListBucketMultipartUploads",
        "PutObject" | "CreateMultipartUpload" | "UploadPart" | "CompleteMultipartUpload" => {
            "s3:PutObject"
        }
        "GetObject" | "HeadObject" => "s3:GetObject",
        "AbortMultipartUpload" => "s3:AbortMultipartUpload",
        "DeleteObject" => "s3:DeleteObject",
        other => panic!("{other} is not in the policy"),
    }
}

fn shipped() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/s3-policy.json");
    let text = std::fs::read_to_string(path).unwrap();
    let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let actions = statements
        .iter()
        .flat_map(|statement| statement["Action"].as_array().unwrap());
    actions
        .map(|action| action.as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_policy_is_what_is_used() {
    let server = S3sFs::start().await;
    let proxy = FaultProxy::start(server.address(), |_| Fault::None).await;
    let store = server.store("policy", &server.settings_by(&proxy.endpoint()));
    store.probe().await.unwrap();
    // Not even the probe deletes: a bucket that lets nothing be deleted is a good store.
    let deletes = |request: &Request| request.operation() == "DeleteObject";
    assert!(!proxy.seen().iter().any(deletes));
    everything(&store, 9 << 20).await.unwrap();
    let used: BTreeSet<String> = proxy
        .seen()
        .iter()
        .map(|request| permission(request.operation()).to_owned())
        .collect();
    assert_eq!(used, shipped());
    // The path-style requests say which bucket and key: nothing beside the prefix is touched.
    for request in proxy.seen() {
        let inside = request.path.starts_with("/backups/policy/")
            || request.query.contains("prefix=policy%2F");
        assert!(inside, "{request:?}");
    }
}

/// The actions that the append-only policy allows, with the condition on each.
fn append_only() -> Vec<(String, Option<String>)> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/packaging/s3-append-only-policy.json"
    );
    let policy: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let statements = policy["Statement"].as_array().unwrap();
    let allowed = statements.iter().flat_map(|statement| {
        let condition = statement.get("Condition").map(ToString::to_string);
        let actions = statement["Action"].as_array().unwrap().iter();
        actions.map(move |action| (action.as_str().unwrap().to_owned(), condition.clone()))
    });
    allowed.collect()
}

/// Whether the append-only policy lets `request` through, by AWS' documentation of its condition keys: parts and the beginning of an upload are no
/// creation of an object, and all that is has to be conditional.
fn may_only_append(request: &Request) -> bool {
    let wanted = permission(request.operation());
    let conditional = request.header("if-none-match").is_some();
    let creates = matches!(request.operation(), "PutObject" | "CompleteMultipartUpload");
    append_only().into_iter().any(|(action, condition)| {
        action == wanted
            && match condition.as_deref() {
                None => true,
                Some(r#"{"Null":{"s3:if-none-match":"false"}}"#) => conditional,
                Some(r#"{"Bool":{"s3:ObjectCreationOperation":"false"}}"#) => !creates,
                Some(other) => panic!("{other} is not known here"),
            }
    })
}

pub fn by_append_only_policy(request: &Request) -> Fault {
    match may_only_append(request) {
        true => Fault::None,
        false => Fault::Answer(403, "AccessDenied"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_may_only_append_makes_backups_and_takes_none_away() {
    let set = replica_set().await;
    let moto = Moto::start().await;
    let proxy = FaultProxy::start(moto.address(), by_append_only_policy).await;
    let url = format!("s3://{BUCKET}/appended");
    let host = Host::new(&url, &moto.settings_by(&proxy.endpoint()), &set);
    host.run("check").with(0);
    for _ in 0..2 {
        host.run("backup").with(0);
        host.run("verify latest").with(0);
    }
    let settings = moto.settings_by(&proxy.endpoint());
    let rules = "[retention]\nkeep_last = 1\nkeep_within = \"1ms\"\n";
    host.configure(&url, &settings, &set, rules);
    // The mark of the reader stays, and keeps the older one for a day.
    host.run("prune --yes").with(0).saying("being read");
    let sets = host.run("list --json").with(0);
    assert_eq!(sets.stdout.matches("\"complete\"").count(), 2);
    let refused = proxy
        .seen()
        .into_iter()
        .filter(|request| request.operation() != "DeleteObject" && !may_only_append(request));
    let refused: Vec<_> = refused
        .map(|request| format!("{} {}", request.operation(), request.path))
        .collect();
    assert_eq!(refused, [] as [String; 0]);
}
