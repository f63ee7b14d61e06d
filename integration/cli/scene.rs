//! A store, a configuration and a state directory of its own for each test, and the transcript of what was run there.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use freezeframe::catalog;
use freezeframe::manifest::{Intent, Manifest};
use freezeframe::store::Store;
use freezeframe::store::local::LocalStore;
use regex::Regex;
use serde_json::Value;
use tempfile::TempDir;

/// The frozen set that stores of these tests hold.
pub const SET: &str = "mongo_backup-20260131_020000";

pub struct Scene {
    dir: TempDir,
}

impl Scene {
    /// An empty store, and `more` in the configuration.
    pub fn new(more: &str) -> Self {
        let scene = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(scene.path("store")).unwrap();
        scene.configure(more);
        scene
    }

    /// A store that holds the frozen set.
    pub fn with_set() -> Self {
        Self::with_set_of(1)
    }

    /// The same, of another format.
    pub fn with_set_of(format: u32) -> Self {
        let scene = Self::new("");
        let from = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("integration/fixtures/format-{format}"))
            .join(SET);
        std::fs::create_dir(scene.object("")).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = scene.object(entry.file_name().to_str().unwrap());
            std::fs::copy(entry.path(), to).unwrap();
        }
        scene
    }

    /// Adds the frozen set once more, as if it had been begun at the moment in `name`.
    pub fn add_set(&self, name: &str) {
        let folder = LocalStore::open(&self.path("store")).unwrap();
        let (frozen, id) = (SET.parse().unwrap(), name.parse().unwrap());
        let adding = async {
            let intent = catalog::read_intent(&folder, frozen).await.unwrap();
            let manifest = catalog::load(&folder, frozen).await.unwrap();
            let intent = Intent { id, ..intent };
            catalog::write_intent(&folder, &intent).await.unwrap();
            for (object, _) in manifest.objects() {
                let bytes = std::fs::read(self.object(object)).unwrap();
                folder.put(&catalog::key(id, object), &bytes).await.unwrap();
            }
            let manifest = Manifest {
                id,
                ..manifest.clone()
            };
            catalog::write_manifest(&folder, &manifest).await.unwrap();
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(adding);
    }

    /// Writes the configuration anew.
    pub fn configure(&self, more: &str) {
        let dir = self.dir.path().display();
        let text = format!(
            "[store]\nurl = \"file://{dir}/store\"\n[host]\nstate_dir = \"{dir}/state\"\nruntime_dir = \"{dir}/run\"\n{more}"
        );
        std::fs::write(self.path("freezeframe.toml"), text).unwrap();
    }

    /// A path in the scene's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The path of an object of the frozen set.
    pub fn object(&self, name: &str) -> PathBuf {
        self.path("store").join(SET).join(name)
    }

    /// Changes the object `name` of the frozen set.
    pub fn damage(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = std::fs::read(self.object(name)).unwrap();
        change(&mut bytes);
        std::fs::write(self.object(name), bytes).unwrap();
    }

    /// Names below the scene's directory `name`; none where it is not there.
    pub fn names(&self, name: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(name)) else {
            return Vec::new();
        };
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    /// `DIR` in `line` is the scene's directory, as in what is shown.
    fn command(&self, line: &str) -> Command {
        let line = line.replace("DIR/", &format!("{}/", self.dir.path().display()));
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("freezeframe"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe"));
        command
            .args(words)
            .current_dir(self.dir.path())
            .env("FREEZEFRAME_CONFIG", self.path("freezeframe.toml"))
            .env_remove("RUST_LOG")
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts `line` and does not wait for it.
    pub fn start(&self, line: &str) -> Child {
        self.command(line).spawn().unwrap()
    }

    /// Starts `line` and waits until it says `word`; gives what shows it once it has ended.
    pub fn start_until(&self, line: &str, word: &str) -> impl FnOnce() -> String {
        let mut child = self.start(line);
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        while !text.contains(word) {
            assert!(said.read_line(&mut text).unwrap() > 0, "{line}: {text}");
        }
        let begin = self.redact(&format!("$ {line}\n"));
        let shown = |output: &Output| self.shown(output);
        move || {
            said.read_to_string(&mut text).unwrap();
            let output = child.wait_with_output().unwrap();
            begin
                + &shown(&Output {
                    stderr: text.into_bytes(),
                    ..output
                })
        }
    }

    /// Runs `line` and shows what a person would see.
    pub fn run(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        self.redact(&format!("$ {line}\n")) + &self.shown(&output)
    }

    /// Runs `script` in the scene's directory; `freezeframe` in it is the program. Gives what a person would see.
    pub fn shell(&self, script: &str) -> String {
        let program = Path::new(env!("CARGO_BIN_EXE_freezeframe"));
        let before = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{before}", program.parent().unwrap().display());
        let output = Command::new("bash")
            .args(["-c", &format!("set -o pipefail; {script}")])
            .current_dir(self.dir.path())
            .env("PATH", path)
            .env("FREEZEFRAME_CONFIG", "there-is-none")
            .output()
            .unwrap();
        self.redact(&format!("$ {script}\n")) + &self.shown(&output)
    }

    /// Runs `line` as a user who owns nothing, where we may become one. The program is read from where that user may.
    pub fn run_as_nobody(&self, line: &str) -> String {
        use std::os::unix::process::CommandExt;
        const NOBODY: u32 = 65534;
        let mut command = self.command(line);
        if nix::unistd::geteuid().is_root() {
            let program = self.path("freezeframe");
            if !program.exists() {
                std::fs::copy(env!("CARGO_BIN_EXE_freezeframe"), &program).unwrap();
            }
            let mut by_nobody = Command::new(program);
            by_nobody.args(command.get_args()).current_dir("/");
            for (name, value) in command.get_envs() {
                match value {
                    Some(value) => by_nobody.env(name, value),
                    None => by_nobody.env_remove(name),
                };
            }
            by_nobody.uid(NOBODY).gid(NOBODY);
            command = by_nobody;
        }
        let output = command.stdin(Stdio::null()).output().unwrap();
        self.redact(&format!("$ {line}\n")) + &self.shown(&output)
    }

    /// Runs each line of `script`, one after the other.
    pub fn transcript(&self, script: &str) -> String {
        let lines = script.lines().map(str::trim);
        lines
            .filter(|line| !line.is_empty())
            .map(|line| self.run(line))
            .collect()
    }

    /// Standard output, standard error and how it ended, without what differs from run to run.
    pub fn shown(&self, output: &Output) -> String {
        let stdout = String::from_utf8(output.stdout.clone()).unwrap();
        let stderr = String::from_utf8(output.stderr.clone()).unwrap();
        let code = output.status.code();
        let code = code.map_or_else(|| output.status.to_string(), |code| code.to_string());
        self.redact(&format!("{stdout}{stderr}=> {code}\n"))
    }

    /// Runs `line`, which must end with `exit`, and parses the JSON it prints.
    pub fn json(&self, line: &str, exit: i32) -> Value {
        let output = self.command(line).output().unwrap();
        let shown = self.shown(&output);
        assert_eq!(output.status.code(), Some(exit), "{line}: {shown}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {shown}"))
    }

    fn redact(&self, text: &str) -> String {
        let mut text = text.replace(self.dir.path().to_str().unwrap(), "DIR");
        for (pattern, with) in [
            (r"127\.0\.0\.1:\d{4,}", "127.0.0.1:PORT"),
            (r"20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "TIME"),
            (r"\brun [0-9a-f]{8}\b", "run RUN"),
            (r"held since \S+ by [^\s:]+", "held since TIME by HOST"),
            (
                r"\b(backup|verify)\s+[0-9a-f]{8}\s+\(pid\s+\d+,\s+since\s[^)]*\)",
                "$1 RUN (pid PID, since DATE)",
            ),
            (r"AGE +SIZE", "AGE  SIZE"),
            (
                r"\d+(\.\d+)? [KMGTP]iB free\b(, for (more than )?\d+ more backups)?",
                "ROOM free",
            ),
            (r"\d+ d  +", "AGE  "),
            (r"in \d+(\.\d+)? m?s\b", "in SECONDS"),
            (r"BLAKE3 [0-9a-f]{64}", "BLAKE3 HASH"),
            (r"in \d+ B, (portable|fast|small)", "in SIZE, $1"),
            // Other tests' servers, and whether the host has systemd, are none of the test's business.
            (
                r"(?s)warning  other_mongod .*?-> [^\n]*(\n {20,}[^\n]*)*",
                "OTHER",
            ),
        ] {
            text = Regex::new(pattern)
                .unwrap()
                .replace_all(&text, with)
                .into_owned();
        }
        text
    }
}

/// The keys of a JSON object, sorted.
pub fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}
