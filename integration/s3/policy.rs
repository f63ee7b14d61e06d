//! The shipped policies, of the host and of the bucket, name what the store needs, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

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

/// A policy that ships.
struct Policy(Vec<Value>);

/// What a policy has to say about a request.
#[derive(PartialEq)]
enum Says {
    Yes,
    No,
    Nothing,
}

impl Policy {
    fn shipped(name: &str) -> Self {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
        let text = std::fs::read_to_string(packaging.join(name)).unwrap();
        let mut policy: Value = serde_json::from_str(&text).unwrap();
        Self(serde_json::from_value(policy["Statement"].take()).unwrap())
    }

    /// The actions that it allows.
    fn allowed(&self) -> BTreeSet<String> {
        let allowing = self.0.iter().filter(|one| one["Effect"] == "Allow");
        let actions = allowing.flat_map(|statement| words(&statement["Action"]));
        actions.map(str::to_owned).collect()
    }

    fn says(&self, request: &Request) -> Says {
        let action = permission(request.operation());
        let mut says = Says::Nothing;
        for statement in &self.0 {
            let named = match statement.get("NotAction") {
                Some(others) => !words(others).contains(&action),
                None => words(&statement["Action"])
                    .iter()
                    .any(|one| [action, "s3:*"].contains(one)),
            };
            if !named || !applies(statement.get("Condition"), request) {
                continue;
            }
            match statement["Effect"].as_str() {
                Some("Deny") => return Says::No,
                Some("Allow") => says = Says::Yes,
                other => panic!("{other:?} is no effect"),
            }
        }
        says
    }
}

/// A word, or several.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(words) => words.iter().map(|word| word.as_str().unwrap()).collect(),
        word => vec![word.as_str().unwrap()],
    }
}

/// Whether a statement's condition holds, by AWS' documentation of its keys: parts and the beginning of an upload are no creation of an object. Every
/// request is taken for one by TLS.
fn applies(condition: Option<&Value>, request: &Request) -> bool {
    let Some(condition) = condition else {
        return true;
    };
    let conditional = request.header("if-none-match").is_some();
    let creates = matches!(request.operation(), "PutObject" | "CompleteMultipartUpload");
    condition.as_object().unwrap().iter().all(|(test, key)| {
        let (actual, wanted) = match (test.as_str(), key) {
            ("Null", key) => (!conditional, &key["s3:if-none-match"]),
            ("Bool", key) if key.get("aws:SecureTransport").is_some() => {
                (true, &key["aws:SecureTransport"])
            }
            ("Bool", key) => (creates, &key["s3:ObjectCreationOperation"]),
            other => panic!("{other:?} is not known here"),
        };
        *wanted == json!(actual.to_string())
    })
}

/// Whether AWS would let a host of the bucket's account do it.
fn permits(host: &Policy, bucket: &Policy, request: &Request) -> bool {
    let say = [host.says(request), bucket.says(request)];
    !say.contains(&Says::No) && say.contains(&Says::Yes)
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
    assert_eq!(used, Policy::shipped("s3-policy.json").allowed());
    // The path-style requests say which bucket and key: nothing beside the prefix is touched.
    for request in proxy.seen() {
        let inside = request.path.starts_with("/backups/policy/")
            || request.query.contains("prefix=policy%2F");
        assert!(inside, "{request:?}");
    }
}

/// The bucket's own says the same of the host's role, and something of everybody.
#[test]
fn the_bucket_can_say_it_as_well() {
    let host = Policy::shipped("s3-policy.json").0;
    let mut bucket = Policy::shipped("s3-bucket-policy.json").0;
    assert_eq!(bucket.remove(0)["Principal"], "*");
    for statement in &mut bucket {
        let principal = statement.as_object_mut().unwrap().remove("Principal");
        let role = json!({"AWS": "arn:aws:iam::ACCOUNT:role/ROLE"});
        assert_eq!(principal, Some(role));
    }
    assert_eq!(bucket, host);
}

pub fn by_append_only_policy(request: &Request) -> Fault {
    by_policies("s3-append-only-policy.json", None, request)
}

fn by_policies(host: &str, bucket: Option<&str>, request: &Request) -> Fault {
    let bucket = bucket.map_or(Policy(Vec::new()), Policy::shipped);
    match permits(&Policy::shipped(host), &bucket, request) {
        true => Fault::None,
        false => Fault::Answer(403, "AccessDenied"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_may_only_append_makes_backups_and_takes_none_away() {
    let set = replica_set().await;
    // By its own policy; and by the bucket's, whatever its own allows.
    for policies in [
        ("s3-append-only-policy.json", None),
        ("s3-policy.json", Some("s3-append-only-bucket-policy.json")),
    ] {
        let moto = Moto::start().await;
        let by = move |request: &Request| by_policies(policies.0, policies.1, request);
        let proxy = FaultProxy::start(moto.address(), by).await;
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
            .filter(|request| by(request) != Fault::None);
        let (deletes, others): (Vec<_>, Vec<_>) =
            refused.partition(|request| request.operation() == "DeleteObject");
        assert!(!deletes.is_empty());
        let others: Vec<_> = others
            .iter()
            .map(|request| format!("{} {}", request.operation(), request.path))
            .collect();
        assert_eq!(others, [] as [String; 0]);
    }
}
