//! Credentials that nobody wrote down: the role of an instance, and a web identity.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::fault_proxy::{Fault, FaultProxy};
use crate::s3s_fs_server::{ACCESS_KEY, SECRET_KEY};
use crate::servers::{BUCKET, Moto, S3sFs};

const SESSION: &str = "a-token-that-only-this-instance-has";

/// An instance's metadata service, version 2: without a token that was asked for it tells nothing.
///
/// A fake, as there is none to be had outside an instance; it does what Amazon documents for IMDSv2.
struct Metadata {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Metadata {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = asked.clone();
        let serving = tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = client.read_u8().await else {
                        break;
                    };
                    head.push(byte);
                }
                let head = String::from_utf8(head).unwrap();
                let (status, body) = answer(&head);
                let length = body.len();
                let reply = format!(
                    "HTTP/1.1 {status} X\r\nx-aws-ec2-metadata-token-ttl-seconds: 21600\r\nContent-Length: {length}\r\n\
                     Connection: close\r\n\r\n{body}"
                );
                let line = head.lines().next().unwrap_or_default();
                noted.lock().unwrap().push(format!("{line} {status}"));
                let _ = client.write_all(reply.as_bytes()).await;
            }
        });
        Self {
            port,
            asked,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(head: &str) -> (u16, String) {
    const TOKEN: &str = "token-of-the-metadata";
    let has = |name: &str, value: Option<&str>| {
        head.lines().any(|line| match line.split_once(": ") {
            Some((found, content)) => {
                found.eq_ignore_ascii_case(name) && value.is_none_or(|value| content == value)
            }
            None => false,
        })
    };
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap_or_default());
    if method == "PUT" && path == "/latest/api/token" {
        return match has("x-aws-ec2-metadata-token-ttl-seconds", None) {
            true => (200, TOKEN.into()),
            false => (400, String::new()),
        };
    }
    if !has("x-aws-ec2-metadata-token", Some(TOKEN)) {
        return (401, String::new());
    }
    match path.trim_end_matches('/') {
        "/latest/meta-data/iam/security-credentials" => (200, "backup-role".into()),
        "/latest/meta-data/iam/security-credentials/backup-role" => {
            let expires = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(6);
            let document = serde_json::json!({
                "Code": "Success",
                "Type": "AWS-HMAC",
                "LastUpdated": "2026-01-01T00:00:00Z",
                "AccessKeyId": ACCESS_KEY,
                "SecretAccessKey": SECRET_KEY,
                "Token": SESSION,
                "Expiration": format!("{expires:.0}"),
            });
            (200, document.to_string())
        }
        _ => (404, String::new()),
    }
}

/// `freezeframe list` with nothing in its environment but `variables`; its code and all it said.
fn list(home: &Path, endpoint: &str, variables: &[(&str, String)]) -> (Option<i32>, String) {
    let config = home.join("freezeframe.toml");
    let text = format!(
        "[store]\nurl = \"s3://{BUCKET}/roles\"\n[s3]\nendpoint = \"{endpoint}\"\npath_style = true\nretry_for = \"5s\"\n\
         [host]\nstate_dir = \"{}\"\n",
        home.join("state").display()
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_freezeframe"))
        .args(["-vv", "list", "--config"])
        .arg(config)
        .env_clear()
        .env("HOME", home)
        .envs(variables.iter().cloned())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_of_an_instance_is_enough() {
    let server = S3sFs::start().await;
    let proxy = FaultProxy::start(server.address(), |_| Fault::None).await;
    let metadata = Metadata::start().await;
    let home = tempfile::tempdir().unwrap();
    let endpoint = format!("http://127.0.0.1:{}", metadata.port);
    let there = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)];
    let (code, said) = list(home.path(), &proxy.endpoint(), &there);
    assert_eq!(code, Some(0), "{said}");
    // The server checks the signature; the token is what tells temporary credentials.
    let with_token = |request: &crate::fault_proxy::Request| {
        request.header("x-amz-security-token") == Some(SESSION)
    };
    assert!(!proxy.seen().is_empty() && proxy.seen().iter().all(with_token));
    let asked = metadata.asked();
    assert!(asked[0].starts_with("PUT /latest/api/token "), "{asked:?}");
    assert!(asked.iter().all(|line| !line.ends_with("401")), "{asked:?}");
    for secret in [SESSION, SECRET_KEY] {
        assert!(!said.contains(secret), "{said}");
    }

    let nowhere = [("AWS_EC2_METADATA_DISABLED", "true".to_owned())];
    let (code, said) = list(home.path(), &proxy.endpoint(), &nowhere);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("no AWS credentials"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_identity_is_enough() {
    let moto = Moto::start().await;
    let proxy = FaultProxy::start(moto.address(), |_| Fault::None).await;
    let home = tempfile::tempdir().unwrap();
    let token = home.path().join("token");
    std::fs::write(&token, "a-web-identity").unwrap();
    let variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
        (
            "AWS_ROLE_ARN",
            "arn:aws:iam::123456789012:role/backup".to_owned(),
        ),
        ("AWS_ENDPOINT_URL_STS", format!("http://{}", moto.address())),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ];
    let (code, said) = list(home.path(), &proxy.endpoint(), &variables);
    assert_eq!(code, Some(0), "{said}");
    let temporary = |request: &crate::fault_proxy::Request| {
        let by = request.header("authorization").unwrap_or_default();
        by.contains("Credential=ASIA") && request.header("x-amz-security-token").is_some()
    };
    assert!(!proxy.seen().is_empty() && proxy.seen().iter().all(temporary));
    assert!(!said.contains("a-web-identity"), "{said}");
}
