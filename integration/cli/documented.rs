//! Every command that README.md and doc/operations.md show is run: here, with a real replica set, or by the test that is named beside it. One that neither
//! shows any more, or that is new in them, fails this test. Other programs' commands are known where they stand in lines of their own.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use mongodb::bson::doc;
use regex::Regex;

use crate::members::{HIDDEN, backing_up, replica_set};
use crate::scene::Scene;
use crate::support::mongod::{free_port, until};

/// Who runs it.
enum By {
    /// This test, which runs this in its place, to end with this code. `ID` is the newest backup, `MEMBER` the hidden member.
    This(&'static str, i32),
    /// The test in this file, in which this stands.
    Other(&'static str, &'static str),
}
use By::{Other, This};

/// What the documents show, in an order in which it can be run.
const COMMANDS: &[(&str, By)] = &[
    (
        "freezeframe setup --help",
        This("freezeframe setup --help", 0),
    ),
    (
        "freezeframe setup",
        Other("integration/cli/around.rs", "freezeframe setup --store"),
    ),
    ("freezeframe check", This("freezeframe check", 0)),
    ("freezeframe backup", This("freezeframe backup", 0)),
    ("freezeframe list", This("freezeframe list", 0)),
    ("freezeframe show", This("freezeframe show ID", 0)),
    (
        "freezeframe show latest --json",
        This("freezeframe show latest --json", 0),
    ),
    (
        "freezeframe show latest --files",
        This("freezeframe show latest --files", 0),
    ),
    ("freezeframe verify", This("freezeframe verify latest", 0)),
    ("freezeframe verify ID", This("freezeframe verify ID", 0)),
    (
        "freezeframe verify latest --deep",
        This("freezeframe verify latest --deep", 0),
    ),
    (
        "freezeframe restore latest --to /srv/mongodb --member db7.example.net:27017",
        This(
            "freezeframe restore latest --to DIR/srv/mongodb --member db7.example.net:27017",
            0,
        ),
    ),
    (
        "freezeframe restore",
        This("freezeframe restore latest --to DIR/restored", 0),
    ),
    (
        "freezeframe restore ID --to DIR",
        This("freezeframe restore ID --to DIR/again", 0),
    ),
    (
        "freezeframe restore latest --to /srv/part --only journal --only sizeStorer.wt",
        This(
            "freezeframe restore latest --to DIR/part --only journal --only sizeStorer.wt",
            0,
        ),
    ),
    ("freezeframe copy", This("freezeframe copy", 0)),
    (
        "freezeframe copy 20260131_020000 --to file:///mnt/disk/freezeframe",
        This("freezeframe copy ID --to file://DIR/disk", 0),
    ),
    (
        "freezeframe list --store s3://example-backups/db3",
        This("freezeframe list --store file://DIR/other", 0),
    ),
    (
        "freezeframe restore latest --store s3://example-backups/db3 --to /srv/mongodb --member db7.example.net:27017",
        This(
            "freezeframe restore latest --store file://DIR/other --to DIR/far --member db7.example.net:27017",
            0,
        ),
    ),
    (
        "freezeframe hold 20260131_020000 --note \"before the upgrade\"",
        This("freezeframe hold ID --note before-the-upgrade", 0),
    ),
    (
        "freezeframe hold 20260131_020000 --release",
        This("freezeframe hold ID --release", 0),
    ),
    ("freezeframe prune", This("freezeframe prune", 0)),
    (
        "freezeframe prune --yes",
        This("freezeframe prune --yes", 0),
    ),
    ("freezeframe recover", This("freezeframe recover", 0)),
    ("freezeframe status", This("freezeframe status", 0)),
    ("freezeframe metrics", This("freezeframe metrics", 0)),
    (
        "freezeframe metrics --textfile",
        This("freezeframe metrics --textfile", 0),
    ),
    (
        "freezeframe metrics --listen [ADDR:]PORT",
        Other("integration/lab/jobs/package", "freezeframe-metrics"),
    ),
    ("freezeframe unlock", This("freezeframe unlock", 0)),
    (
        "freezeframe unlock --member HOST:PORT --force --yes",
        This("freezeframe unlock --member MEMBER --force --yes", 0),
    ),
    (
        "freezeframe snapshot --label before-upgrade",
        Other(
            "integration/lab/jobs/kept",
            "freezeframe snapshot --label before-upgrade",
        ),
    ),
    (
        "freezeframe snapshot list",
        Other("integration/lab/jobs/kept", "freezeframe snapshot list"),
    ),
    (
        "freezeframe snapshot remove before-upgrade --yes",
        Other("integration/lab/jobs/kept", "freezeframe snapshot remove"),
    ),
    (
        "freezeframe rollback before-upgrade",
        Other("integration/lab/jobs/kept", "freezeframe rollback"),
    ),
    (
        "freezeframe backup --from before-upgrade",
        Other("integration/lab/jobs/kept", "freezeframe backup --from"),
    ),
    (
        "freezeframe backup --from ID",
        Other("integration/lab/jobs/ebs", "freezeframe backup --from"),
    ),
    ("freezeframe -q recover", This("freezeframe -q recover", 0)),
    ("freezeframe -q backup", This("freezeframe -q backup", 0)),
    (
        "freezeframe backup --no-copy",
        This("freezeframe backup --no-copy", 0),
    ),
    (
        "freezeframe -q verify latest --deep",
        This("freezeframe -q verify latest --deep", 0),
    ),
    (
        "freezeframe generate man /usr/share/man/man1",
        This("freezeframe generate man DIR/man1", 0),
    ),
];

/// What they show of other programs. What is run here is run by bash, `DIR` being the test's folder and `ID` the newest backup.
const OTHERS: &[(&str, By)] = &[
    (
        "scripts/demo",
        Other("scripts/test", "demo() { scripts/demo; }"),
    ),
    ("scripts/test", Other(".ci/run", "scripts/test")),
    (
        "scripts/package",
        Other("integration/lab/check-package", "scripts/package"),
    ),
    (
        "sudo apt install ./target/packages/freezeframe_*.deb",
        Other("integration/lab/jobs/package", "dpkg -i"),
    ),
    (
        "sudo dnf install ./target/packages/freezeframe-*.rpm",
        Other("integration/lab/jobs/package", "rpm -i"),
    ),
    (
        "cargo build --release",
        Other("scripts/package", "cargo build --release"),
    ),
    (
        "install target/release/freezeframe /usr/bin/",
        This("mkdir DIR/bin; install \"$FREEZEFRAME\" DIR/bin/", 0),
    ),
    (
        "install -D -m 640 packaging/freezeframe.toml /etc/freezeframe/freezeframe.toml",
        This(
            "install -D -m 640 packaging/freezeframe.toml DIR/etc/freezeframe.toml",
            0,
        ),
    ),
    (
        "mkdir -m 700 /var/backups/freezeframe",
        This("mkdir -m 700 DIR/backups", 0),
    ),
    (
        "scripts/lab run --disks 4 --size 2G my-job",
        Other("scripts/test", "scripts/lab run"),
    ),
    (
        "chown -R mongodb: /srv/mongodb",
        This("chown -R \"$(id -un)\": DIR/srv/mongodb", 0),
    ),
    (
        "mongod --dbpath /srv/mongodb --port 27017 --replSet rs0 --bind_ip_all",
        Other("integration/cli/documented.rs", "\"--dbpath\""),
    ),
    (
        "mongod --config /etc/mongod.conf",
        Other("integration/cli/documented.rs", "\"--config\""),
    ),
    (
        "rm /var/backups/freezeframe/mongo_backup-20260131_020000/manifest.json",
        This("rm DIR/store/ID/manifest.json", 0),
    ),
    (
        "rm -r /var/backups/freezeframe/mongo_backup-20260131_020000",
        This("rm -r DIR/store/ID", 0),
    ),
];

/// The commands that a document shows: of indented lines, also after what a crontab begins with, and of what stands in backquotes.
fn shown(document: &str) -> BTreeSet<String> {
    let in_line = Regex::new("`(freezeframe [^`]+)`").unwrap();
    let in_block = Regex::new(r"^ {4,}(?:sudo |[*\d ]+root +)?(freezeframe .+)$").unwrap();
    let mut commands = BTreeSet::new();
    for line in document.lines() {
        match in_block.captures(line) {
            Some(block) => {
                let command = block[1].split("  ").next().unwrap_or_default();
                commands.insert(command.trim().to_owned());
            }
            None => commands.extend(in_line.captures_iter(line).map(|found| found[1].to_owned())),
        }
    }
    // Of the shell.
    commands.retain(|command| !command.contains(" > "));
    commands
}

/// The commands of other programs that a document shows in lines of their own.
fn shown_of_others(document: &str) -> BTreeSet<String> {
    let in_block = Regex::new(r"^ {4,}((?:sudo )?[a-z][a-z./-]*(?: .+)?)$").unwrap();
    let blocks = document.lines().filter_map(|line| in_block.captures(line));
    let mut commands: BTreeSet<String> = blocks
        .filter_map(|block| Some(block[1].split("  ").next()?.trim().to_owned()))
        .collect();
    // Settings; and what `shown` knows.
    let ours = |command: &str| {
        command
            .trim_start_matches("sudo ")
            .starts_with("freezeframe ")
    };
    commands.retain(|command| !command.contains(" = ") && !ours(command));
    commands
}

/// The mongod that a test started; killed when dropped.
struct Mongod(std::process::Child);

impl Mongod {
    /// Waits until the mongod on `port` of a replica set of one can be written to.
    async fn start(port: u16, arguments: &[&str]) -> Self {
        let mongod = std::env::var("FREEZEFRAME_TEST_MONGOD").unwrap();
        let mut command = std::process::Command::new(mongod);
        let child = command.args(arguments).stdout(Stdio::null()).spawn();
        let started = Self(child.unwrap());
        let url = format!("mongodb://127.0.0.1:{port}/?directConnection=true");
        let client = mongodb::Client::with_uri_str(url).await.unwrap();
        let admin = client.database("admin");
        until("the restored mongod can be written to", async || {
            let hello = admin.run_command(doc! { "hello": 1 }).await;
            let hello = hello.unwrap_or_default();
            hello.get_bool("isWritablePrimary").unwrap_or_default()
        })
        .await;
        started
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_is_run() {
    let documents = ["README.md", "doc/operations.md"].map(read);
    let documented: BTreeSet<String> = documents.iter().flat_map(|text| shown(text)).collect();
    let known: BTreeSet<String> = COMMANDS
        .iter()
        .map(|(shown, _)| (*shown).to_owned())
        .collect();
    assert_eq!(documented, known);

    let set = replica_set().await;
    let scene = Scene::new("");
    for folder in ["other", "disk", "srv"] {
        std::fs::create_dir(scene.path(folder)).unwrap();
    }
    let dir = scene.path("");
    let dir = dir.to_str().unwrap().trim_end_matches('/');
    let mongod = std::env::var("FREEZEFRAME_TEST_MONGOD").unwrap();
    scene.configure(&format!(
        "{}[restore]\nmongod = \"{mongod}\"\n[metrics]\ntextfile = \"{dir}/figures.prom\"\n[[copy]]\nurl = \"file://{dir}/other\"\n",
        backing_up(&set, HIDDEN, 0)
    ));
    let member = set.addr(HIDDEN).to_string();
    for (shown, by) in COMMANDS {
        match by {
            Other(file, text) => assert!(read(file).contains(text), "{shown}: not in {file}"),
            This(line, code) => {
                let newest = match line.contains(" ID") {
                    true => {
                        let sets = scene.json("freezeframe list --json", 0);
                        let newest = sets.as_array().unwrap().last().unwrap();
                        newest["id"].as_str().unwrap().to_owned()
                    }
                    false => String::new(),
                };
                let line = line
                    .replace("MEMBER", &member)
                    .replace(" ID", &format!(" {newest}"));
                let told = scene.run(&line);
                assert!(told.ends_with(&format!("=> {code}\n")), "{shown}: {told}");
            }
        }
    }

    let port = free_port();
    scene.run(&format!(
        "freezeframe restore latest --to DIR/started --member 127.0.0.1:{port}"
    ));
    let db_path = format!("{dir}/started");
    let file = format!("{dir}/mongod.conf");
    let settings = format!(
        "storage:\n  dbPath: {db_path}\nnet:\n  bindIp: 127.0.0.1\n  port: {port}\nreplication:\n  replSetName: rs0\n"
    );
    std::fs::write(&file, settings).unwrap();
    drop(Mongod::start(port, &["--config", &file]).await);
    let at = port.to_string();
    let by_options = ["--dbpath", &db_path, "--port", &at];
    let (set_of_one, ours) = (["--replSet", "rs0"], ["--bind_ip", "127.0.0.1"]);
    let arguments = [&by_options[..], &set_of_one, &ours].concat();
    drop(Mongod::start(port, &arguments).await);

    let of_others = documents.iter().flat_map(|text| shown_of_others(text));
    let known = OTHERS.iter().map(|(shown, _)| (*shown).to_owned());
    assert_eq!(
        of_others.collect::<BTreeSet<_>>(),
        known.collect::<BTreeSet<_>>()
    );
    let sets = scene.json("freezeframe list --json", 0);
    let newest = sets.as_array().unwrap().last().unwrap()["id"].clone();
    for (shown, by) in OTHERS {
        match by {
            Other(file, text) => assert!(read(file).contains(text), "{shown}: not in {file}"),
            This(line, code) => {
                let line = line
                    .replace("DIR", dir)
                    .replace("ID", newest.as_str().unwrap());
                let ended = std::process::Command::new("bash")
                    .args(["-c", &line])
                    .env("FREEZEFRAME", env!("CARGO_BIN_EXE_freezeframe"))
                    .current_dir(env!("CARGO_MANIFEST_DIR"))
                    .status();
                assert_eq!(ended.unwrap().code(), Some(*code), "{shown}: {line}");
            }
        }
    }
    let left = scene.json("freezeframe list --json", 0);
    let left = left.as_array().unwrap();
    assert!(left.iter().all(|set| set["id"] != newest), "{left:?}");
}
