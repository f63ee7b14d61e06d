//! The whole program with secrets in its environment: none comes out of it anywhere.

use std::path::Path;
use std::process::Command;

use crate::s3s_fs_server::{ACCESS_KEY, SECRET_KEY};
use crate::servers::{BUCKET, S3sFs};

const TOKEN: &str = "session-token-that-nobody-may-see";

/// Everything in the files below `folder`.
fn contents(folder: &Path, all: &mut Vec<u8>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => contents(&path, all),
            false => all.extend(std::fs::read(path).unwrap()),
        }
    }
}

fn holds(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_comes_out_of_the_program() {
    let server = S3sFs::start().await;
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("freezeframe.toml");
    let text = format!(
        "[store]\nurl = \"s3://{BUCKET}/secrets\"\n[s3]\nendpoint = \"http://{}\"\npath_style = true\nretry_for = \"1s\"\n\
         proxy = \"http://proxy-user:proxy-password@127.0.0.1:1\"\n[host]\nstate_dir = \"{}\"\n",
        server.address(),
        home.path().join("state").display()
    );
    // Without the proxy the server is reached, with it nobody is: both ways of ending must be silent.
    let direct: String = text
        .lines()
        .filter(|line| !line.starts_with("proxy"))
        .map(|line| format!("{line}\n"))
        .collect();
    let mut said = Vec::new();
    for (text, token) in [(&direct, None), (&direct, Some(TOKEN)), (&text, None)] {
        std::fs::write(&config, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&config, mode).unwrap();
        for line in [
            "config",
            "check",
            "backup",
            "list",
            "verify latest",
            "show 20260131_020000",
            "recover",
        ] {
            let words = line.split(' ').collect::<Vec<_>>();
            let config = config.clone();
            let run = tokio::task::spawn_blocking({
                let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
                move || {
                    let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe"));
                    command
                        .args(["--json", "-vv", "--config"])
                        .arg(config)
                        .args(words)
                        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
                        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
                        .env("AWS_EC2_METADATA_DISABLED", "true");
                    if let Some(token) = token {
                        command.env("AWS_SESSION_TOKEN", token);
                    }
                    command.output().unwrap()
                }
            });
            let output = run.await.unwrap();
            assert!(output.status.code().is_some(), "{line} was killed");
            said.extend(output.stdout);
            said.extend(output.stderr);
        }
    }
    contents(&home.path().join("state"), &mut said);
    assert!(
        holds(&said, "s3://backups/secrets"),
        "nothing was said at all"
    );
    for secret in [SECRET_KEY, TOKEN, "proxy-password"] {
        let at = String::from_utf8_lossy(&said).into_owned();
        let line = at.lines().find(|line| line.contains(secret));
        assert!(!holds(&said, secret), "{secret} in {line:?}");
    }
}

#[test]
fn a_configuration_with_a_password_must_not_be_readable_by_all() {
    use std::os::unix::fs::PermissionsExt;
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        config.path(),
        "[store]\nurl = \"s3://b/p\"\n[s3]\nproxy = \"http://u:hunter2@proxy:3128\"\n",
    )
    .unwrap();
    let load = |mode| {
        std::fs::set_permissions(config.path(), PermissionsExt::from_mode(mode)).unwrap();
        freezeframe::config::Config::load(config.path())
    };
    assert!(load(0o640).is_ok());
    let error = load(0o644).unwrap_err().to_string();
    assert!(
        error.contains("read by every user") && !error.contains("hunter2"),
        "{error}"
    );
}
