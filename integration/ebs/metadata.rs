//! Who this host is, by a metadata service that answers, refuses, or keeps silent.

use std::net::TcpListener;

use freezeframe::config::ebs::EbsConfig;
use freezeframe::ebs::EbsError;
use freezeframe::ebs::connect::Access;
use freezeframe::ebs::metadata::MetadataError;
use freezeframe::error::{Exit, Explain};

use crate::http::{Reply, Request, Server};
use crate::moto::has_credentials;

const INSTANCE: &str = "i-0123456789abcdef0";

fn by(address: &str) -> Access {
    has_credentials();
    Access::new(EbsConfig {
        metadata: Some(address.parse().unwrap()),
        ..EbsConfig::default()
    })
}

/// As the real one: a token by PUT, and nothing without it.
fn instance(request: &Request) -> Reply {
    match (request.method.as_str(), request.path.as_str()) {
        ("PUT", "/latest/api/token") => Reply::Answer(
            200,
            "the-token".into(),
            &[("x-aws-ec2-metadata-token-ttl-seconds", "21600")],
        ),
        ("GET", path) => {
            let token = request.headers.get("x-aws-ec2-metadata-token");
            match (token.map(String::as_str), path) {
                (Some("the-token"), "/latest/meta-data/instance-id") => Reply::text(INSTANCE),
                (Some("the-token"), "/latest/meta-data/placement/region") => {
                    Reply::text("eu-central-1")
                }
                (Some("the-token"), _) => Reply::Answer(404, String::new(), &[]),
                _ => Reply::Answer(401, String::new(), &[]),
            }
        }
        _ => Reply::Answer(405, String::new(), &[]),
    }
}

async fn fails(access: &Access) -> MetadataError {
    match access.instance().await.unwrap_err() {
        EbsError::Metadata(error) => {
            assert_eq!(error.exit(), Exit::Refused);
            error
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_instance_is_asked_for_with_a_token() {
    let service = Server::start(None, instance).await;
    let access = by(&service.url());
    assert_eq!(access.instance().await.unwrap().as_str(), INSTANCE);
    let place = access.open().await.unwrap().place();
    assert_eq!(place.region, "eu-central-1");
    let seen = service.seen();
    let put = seen.iter().find(|request| request.method == "PUT").unwrap();
    assert!(
        put.headers
            .contains_key("x-aws-ec2-metadata-token-ttl-seconds")
    );
    assert!(seen.iter().all(|request| request.method == "PUT"
        || request.headers.contains_key("x-aws-ec2-metadata-token")));
    // What the settings say is not asked for.
    let told = Access::new(EbsConfig {
        instance: Some("i-00000000".parse().unwrap()),
        region: Some("us-west-2".parse().unwrap()),
        metadata: Some(service.url().parse().unwrap()),
        ..EbsConfig::default()
    });
    let before = service.seen().len();
    assert_eq!(told.instance().await.unwrap().as_str(), "i-00000000");
    assert_eq!(told.open().await.unwrap().place().region, "us-west-2");
    assert_eq!(service.seen().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_off_refuses_or_is_silent_is_told_of_in_words() {
    // Nothing listens.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let error = fails(&by(&address)).await;
    assert!(matches!(error, MetadataError::Silent { .. }), "{error}");

    // A container one hop too far: the request arrives, the answer does not.
    let service = Server::start(None, |_| Reply::Silence).await;
    let error = fails(&by(&service.url())).await;
    assert!(matches!(error, MetadataError::Silent { .. }), "{error}");
    let hint = error.hint().unwrap();
    assert!(
        hint.contains("hop") && hint.contains("[ebs] instance"),
        "{hint}"
    );

    let service = Server::start(None, |_| Reply::Answer(403, String::new(), &[])).await;
    let error = fails(&by(&service.url())).await;
    assert!(matches!(error, MetadataError::NoToken { .. }), "{error}");

    // Something else answers at this address.
    let service = Server::start(None, |request| match request.method.as_str() {
        "PUT" => instance(request),
        _ => Reply::text("<html>welcome</html>"),
    })
    .await;
    let error = fails(&by(&service.url())).await;
    assert!(matches!(error, MetadataError::NoAnswer { .. }), "{error}");
    assert!(error.to_string().contains("which instance"), "{error}");
}
