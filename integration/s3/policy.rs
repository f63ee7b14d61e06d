//! The shipped policy names what the store needs, and nothing else.

use std::collections::BTreeSet;

use crate::fault_proxy::{Fault, FaultProxy, Request};
use crate::faults::everything;
use crate::servers::S3sFs;

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
