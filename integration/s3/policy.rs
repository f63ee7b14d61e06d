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
            let asked = resource(request);
            let meant = words(&statement["Resource"]).iter().any(|one| {
                one.strip_suffix('*')
                    .map_or(*one == asked, |all| asked.starts_with(all))
            });
            if !named || !meant || !applies(statement.get("Condition"), request) {
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

/// What a path-style request is about, with the names that stand in the policies for bucket and prefix.
fn resource(request: &Request) -> String {
    let path = request.path.trim_start_matches('/');
    match path.split_once('/') {
        Some((_, key)) if !key.is_empty() => {
            let below = key.split_once('/').map_or("", |(_, below)| below);
            format!("arn:aws:s3:::BUCKET/PREFIX/{below}")
        }
        _ => "arn:aws:s3:::BUCKET".to_owned(),
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

/// Whether AWS would let the role do it: of the bucket's account where one of its policies says so, of another where both do.
fn permits(host: &Policy, bucket: &Policy, same_account: bool, request: &Request) -> bool {
    let say = [host.says(request), bucket.says(request)];
    let yes = say.iter().filter(|one| **one == Says::Yes).count();
    !say.contains(&Says::No) && yes >= if same_account { 1 } else { 2 }
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

/// With a bucket that has a policy as one of another account.
fn by_policies(host: &str, bucket: Option<&str>, request: &Request) -> Fault {
    let same_account = bucket.is_none();
    let bucket = bucket.map_or(Policy(Vec::new()), Policy::shipped);
    match permits(&Policy::shipped(host), &bucket, same_account, request) {
        true => Fault::None,
        false => Fault::Answer(403, "AccessDenied"),
    }
}

/// Neither by its own policy nor, whatever that allows, by the bucket's.
#[test]
fn nothing_is_written_over_or_taken_away_by_who_may_only_append() {
    let all = Policy(vec![
        json!({"Effect": "Allow", "Action": "s3:*", "Resource": "*"}),
    ]);
    let none = Policy(Vec::new());
    let own = Policy::shipped("s3-append-only-policy.json");
    let of_bucket = Policy::shipped("s3-append-only-bucket-policy.json");
    let new = ("if-none-match", "*");
    for (host, bucket) in [(&own, &none), (&all, &of_bucket)] {
        let may = |method: &str, target: &str, headers: &[(&str, &str)]| {
            permits(host, bucket, true, &Request::of(method, target, headers))
        };
        assert!(may("PUT", "/b/p/key", &[new]));
        assert!(!may("PUT", "/b/p/key", &[]));
        assert!(may("POST", "/b/p/key?uploads", &[]));
        assert!(may("PUT", "/b/p/key?partNumber=1&uploadId=u", &[]));
        assert!(may("POST", "/b/p/key?uploadId=u", &[new]));
        assert!(!may("POST", "/b/p/key?uploadId=u", &[]));
        assert!(may("DELETE", "/b/p/key?uploadId=u", &[]));
        assert!(!may("DELETE", "/b/p/key", &[]));
        assert!(may("GET", "/b/p/key", &[]));
    }
    let roles = of_bucket.0.iter().skip(1);
    let role = json!({"AWS": "arn:aws:iam::ACCOUNT:role/ROLE"});
    assert!(roles.clone().count() > 3);
    assert!(roles.into_iter().all(|one| one["Principal"] == role));
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
