//! Commands of other programs that doc/operations.md shows in lines of their own, run as they stand there.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

/// The lines of doc/operations.md from the one that begins with `first` to the end of its block.
pub fn documented(first: &str) -> String {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/doc/operations.md");
    let document = std::fs::read_to_string(document).unwrap();
    let lines = document.lines();
    let from = lines.skip_while(|line| !line.trim_start().starts_with(first));
    let block: Vec<_> = from.take_while(|line| line.starts_with("    ")).collect();
    assert!(!block.is_empty(), "no line of its own begins with {first}");
    block.join("\n")
}

/// What `script` prints, run by bash with AWS' own program, which takes `server` for AWS.
pub fn aws(script: &str, server: SocketAddr, region: &str) -> String {
    let moto = std::env::var_os("FREEZEFRAME_TEST_MOTO").unwrap();
    let programs = Path::new(&moto).parent().unwrap();
    let mut path = OsString::from(programs);
    path.push(":/usr/bin:/bin");
    let ended = Command::new("bash")
        .args(["-euo", "pipefail", "-c", script])
        .env("PATH", path)
        .env("AWS_ENDPOINT_URL", format!("http://{server}"))
        .envs([
            ("AWS_DEFAULT_REGION", region),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_PAGER", ""),
        ])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{script}\n{said}");
    String::from_utf8(ended.stdout).unwrap()
}
