//! Hosts that back up one replica set into one store: each is the whole program with a state directory of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use freezeframe::config::s3::S3Config;
use tempfile::TempDir;

use crate::support::mongod::{Member, Options, ReplicaSet};

const HIDDEN: usize = 1;

pub async fn replica_set() -> ReplicaSet {
    let members = vec![Member::primary(), Member::hidden()];
    ReplicaSet::start(Options {
        members,
        ..Options::default()
    })
    .await
}

pub struct Host {
    dir: TempDir,
}

/// What came of a command.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Asserts how it ended.
    #[track_caller]
    pub fn with(self, code: i32) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "{stdout}{stderr}");
        self
    }

    /// Asserts that it said `what`, to standard output or error.
    #[track_caller]
    pub fn saying(self, what: &str) -> Self {
        let said = format!("{}{}", self.stdout, self.stderr);
        // Long lines are broken between words.
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(what), "{what:?} is not in: {said}");
        self
    }
}

impl Host {
    /// A host that reaches the store `url` as `settings` say and backs up the hidden member of `set`.
    pub fn new(url: &str, settings: &S3Config, set: &ReplicaSet) -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        host.configure(url, settings, set, "");
        host
    }

    /// Writes the configuration anew, with `more` in `[s3]`.
    pub fn configure(&self, url: &str, settings: &S3Config, set: &ReplicaSet, more: &str) {
        let dir = self.dir.path().display();
        let endpoint = settings.endpoint.as_ref().unwrap();
        let credentials = settings.credentials_file.as_ref().unwrap().display();
        let text = format!(
            "[store]\nurl = \"{url}\"\n\
             [s3]\nendpoint = \"{endpoint}\"\npath_style = true\ncredentials_file = \"{credentials}\"\nretry_for = \"20s\"\n{more}\
             [host]\nstate_dir = \"{dir}/state\"\nruntime_dir = \"{dir}/run\"\n\
             [mongodb]\nmembers = [\"{}\"]\nmin_oplog_window = \"1ms\"\n\
             [window]\nprovider = \"hold\"\nmax_hold = \"5m\"\n[archive]\nlevel = 0\nthreads = 1\n",
            set.addr(HIDDEN)
        );
        std::fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("freezeframe.toml")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe"));
        command
            .args(line.split(' '))
            .current_dir(self.dir.path())
            .env("FREEZEFRAME_CONFIG", self.config())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env_remove("RUST_LOG")
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts `freezeframe LINE` and does not wait for it.
    pub fn start(&self, line: &str) -> Child {
        self.command(line).spawn().unwrap()
    }

    /// Runs `freezeframe LINE` to its end.
    pub fn run(&self, line: &str) -> Ended {
        self.run_with(line, &[])
    }

    /// The same with more in its environment.
    pub fn run_with(&self, line: &str, environment: &[(&str, &str)]) -> Ended {
        let mut command = self.command(line);
        let output = command.envs(environment.iter().copied()).output().unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
