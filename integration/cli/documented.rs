//! Every command that README.md and doc/operations.md show is run: here, with a real replica set, or by the test that is named beside it. One that neither
//! shows any more, or that is new in them, fails this test.

use std::collections::BTreeSet;
use std::path::Path;

use regex::Regex;

use crate::members::{HIDDEN, backing_up, replica_set};
use crate::scene::Scene;

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
        "freezeframe copy 20260131_020000 --to file:///mnt/disk",
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

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_is_run() {
    let documented: BTreeSet<String> = ["README.md", "doc/operations.md"]
        .into_iter()
        .flat_map(|document| shown(&read(document)))
        .collect();
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
}
